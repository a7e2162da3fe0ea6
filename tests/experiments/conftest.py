"""Tests of the premise with few draws."""

import _premise_heads
import _premise_pairs
import pytest


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take intervals and p-values from few draws, where what is tested does not depend on their number."""
    monkeypatch.setattr(_premise_pairs, "_PERMUTATIONS", 99)
    monkeypatch.setattr(_premise_pairs, "_RESAMPLES", 50)
    monkeypatch.setattr(_premise_heads, "_RESAMPLES", 50)
