"""Tests of the premise with few draws."""

import _premise_heads
import _premise_power
import _premise_test
import pytest


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take intervals and p-values from few draws, where what is tested does not depend on their number."""
    monkeypatch.setattr(_premise_power, "DRAWS", 3)
    for module in (_premise_heads, _premise_power, _premise_test):
        monkeypatch.setattr(module, "_PERMUTATIONS", 99, raising=False)
        monkeypatch.setattr(module, "_RESAMPLES", 50)
