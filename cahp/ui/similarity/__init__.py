"""What is alike."""
