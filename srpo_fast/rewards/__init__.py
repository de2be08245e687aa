"""What a completion earns, and why it is not more."""
