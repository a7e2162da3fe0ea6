"""Which texts a method measures on, and how it reports how far it is."""

from __future__ import annotations

import numpy as np

from cahp.registry import Evidence
from cahp.values import Progress, Texts

#: What progress is reported as.
STAGE = "scores"


def drawn(evidence: Evidence, *, most: int) -> Texts:
    """The calibration texts, or ``most`` of them: which ones follows from the seed, their order is the data's."""
    texts = evidence.texts
    if len(texts) <= most:
        return texts
    rows = np.random.default_rng(evidence.seed).permutation(len(texts))[:most]
    return texts.take(np.sort(rows))


def part(progress: Progress, index: int, count: int) -> Progress:
    """Reports the stage of one of ``count`` rounds of equal length as a part of the whole."""

    def report(stage: str, done: int, total: int) -> None:
        progress(STAGE, index * total + done, count * total)

    return report
