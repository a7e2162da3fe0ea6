"""The published experiment, repeated: ``cahp reproduce``."""
