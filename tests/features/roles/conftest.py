"""The fixtures of tests of commands."""

from __future__ import annotations

from command_fixtures import data, folder, model, run, words

__all__ = ["data", "folder", "model", "run", "words"]
