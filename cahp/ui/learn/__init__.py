"""The Learn page: six guesses, alone or as a class."""
