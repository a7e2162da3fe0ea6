"""The fixtures of tests of commands, and tests of the premise with few draws."""

from __future__ import annotations

import pytest
from command_fixtures import data, folder, model, run, words

__all__ = ["data", "folder", "model", "run", "words"]


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take intervals and p-values from few draws, where what is tested does not depend on their number."""
    from cahp.features.premise import redundancy, strata

    monkeypatch.setattr(strata, "_PERMUTATIONS", 99)
    monkeypatch.setattr(strata, "_RESAMPLES", 50)
    monkeypatch.setattr(redundancy, "_RESAMPLES", 50)
