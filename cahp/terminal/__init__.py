"""What people read in a terminal, from the command line and from Python: runs as text, and progress."""
