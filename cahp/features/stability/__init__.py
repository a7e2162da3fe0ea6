"""Whether other data keep the same heads: the page Stability."""

from __future__ import annotations

from cahp.features.feature import Feature

STABILITY = Feature("stability")
