"""Checks this machine and its packages, and whether engine and policy agree; says what to do about what is wrong."""
