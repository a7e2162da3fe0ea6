"""Redundancy of heads in guesses: the page Learn."""

from __future__ import annotations

from cahp.features.feature import Feature

LEARN = Feature("learn")
