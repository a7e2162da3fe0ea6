"""What people ask of a model besides choosing heads."""
