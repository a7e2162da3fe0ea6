from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("streamlit", reason="the explorer's packages are not installed")

from cahp.studies.stability import Stability
from cahp.ui.stability.findings import verdict


def resampled(*kept: list[int], heads: int = 72) -> Stability:
    """Resamples of a model of one layer that keep the given heads."""
    keep = np.zeros((len(kept), 1, heads), dtype=np.bool_)
    for row, members in zip(keep, kept, strict=True):
        row[0, members] = True
    return Stability("seed", np.arange(len(kept)), np.full(len(kept), 2), keep)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (resampled([0, 1, 2], [0, 1, 2]), "Stable: another seed"),
        (resampled([0, 1, 2, 3], [0, 1, 2, 4]), "Fairly stable: another seed"),
        (resampled([0, 1, 2, 3], [0, 1, 5, 4]), "Shaky: another seed"),
        (resampled([0, 1, 2, 3], [4, 5, 6, 7]), "Hardly better than chance: another seed"),
    ],
)
def test_the_verdict_is_in_plain_words(result: Stability, words: str) -> None:
    assert verdict(result).startswith(words)
