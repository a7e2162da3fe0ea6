"""The fixtures of tests of commands."""

from command_fixtures import data, folder, model, run, words

__all__ = ["data", "folder", "model", "run", "words"]
