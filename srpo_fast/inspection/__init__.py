"""What is in a data file, for the one who has to trust it: `srpo data check|stats|view|convert`."""
