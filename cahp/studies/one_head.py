"""One head over the evaluation texts: the cost of removing it alone, and the heads that attend alike."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cahp.outcomes import accuracy_change
from cahp.run.bench import Bench
from cahp.store import key
from cahp.studies.head_habits import mean_over_texts, sample_of
from cahp.values import DataError, Estimate, Evaluation, HeadMask

STAGE = "look-alikes"

#: Texts on which heads are compared; each costs a forward pass and a comparison with every head.
ALIKE_TEXTS = 24


@dataclass(frozen=True, eq=False)
class Removal:
    """Paired evaluations without one head and with all heads."""

    without: Evaluation
    full: Evaluation
    change: Estimate

    @property
    def rise(self) -> NDArray[np.float64]:
        """Increase of each text's loss without the head, in nats ``(n,)``."""
        return self.without.losses - self.full.losses

    @property
    def mean_rise(self) -> Estimate:
        """Mean of ``rise`` over texts."""
        return mean_over_texts(self.rise, "nats")

    @property
    def changed(self) -> int:
        """Number of changed predictions."""
        return int((self.without.predictions != self.full.predictions).sum())

    def strongest(self, count: int) -> list[int]:
        """Return the rows of the texts whose loss rises most without the head, highest first."""
        order = np.argsort(-self.rise, kind="stable")[:count]
        return [int(row) for row in order if self.rise[row] > 0]


def remove_head(bench: Bench, head: int) -> Removal:
    """Evaluate the model without one head (flat index)."""
    others = [other for other in range(bench.card.layers * bench.card.heads) if other != head]
    mask = HeadMask.of(others, bench.card.layers, bench.card.heads)
    full, without = bench.full, bench.measurements.evaluate(bench.evaluation, mask=mask)
    return Removal(without, full, accuracy_change(without, full, bench.settings.seed))


@dataclass(frozen=True, eq=False)
class LookAlikes:
    """Distance of every head's attention from that of one head, ``distances (T, N)`` in 0..1 on each text."""

    head: int
    distances: NDArray[np.float32]

    @property
    def texts(self) -> int:
        """Number of texts."""
        return len(self.distances)

    def nearest(self, count: int) -> list[tuple[int, Estimate]]:
        """Return the heads that attend most alike with their mean distances, nearest first."""
        order = np.argsort(self.distances.mean(axis=0), kind="stable")
        near = [int(other) for other in order if other != self.head][:count]
        return [(other, mean_over_texts(self.distances[:, other].astype(np.float64))) for other in near]


def compare_head(bench: Bench, head: int) -> LookAlikes:
    """Compare the attention of ``head`` (flat index) with that of every head on some evaluation texts.

    Raises:
        DataError: If all of these texts are empty.
    """
    from cahp.stages.similarity import attend, distances_from

    texts, resources = sample_of(bench.evaluation, ALIKE_TEXTS), bench.resources
    name = key("look-alikes", 1, bench.card.sha256, texts.sha256, head)
    found = resources.found(STAGE, name, lambda entry: entry.arrays["distances"])
    if found is None:
        model, rows = resources.model, []
        with resources.timed(STAGE):
            for done, text in enumerate(texts.inputs):
                resources.progress(STAGE, done, len(texts))
                # Data may hold empty texts.
                with suppress(DataError):
                    rows.append(distances_from(attend(model, text).weights, head))
        if not rows:
            raise DataError("the evaluation texts are empty; choose other data")
        found = np.stack(rows).astype(np.float32)
        resources.keep(name, {"distances": found})
    return LookAlikes(head, found)
