"""What heads attend to: roles with evidence, and habits over many texts."""
