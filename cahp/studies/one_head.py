"""One head over the evaluation texts: what removing it alone costs, and which heads attend like it."""

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

#: Texts on which heads are held against each other: each costs a pass, and a comparison with every head.
ALIKE_TEXTS = 24


@dataclass(frozen=True, eq=False)
class Removal:
    """What the model answers without one head, and with all: on the same texts, so that they are compared in pairs."""

    without: Evaluation
    full: Evaluation
    change: Estimate

    @property
    def rise(self) -> NDArray[np.float64]:
        """How much the loss of each text rises without the head, in nats ``(n,)``."""
        return self.without.losses - self.full.losses

    @property
    def mean_rise(self) -> Estimate:
        """The mean of ``rise`` over texts with its interval."""
        return mean_over_texts(self.rise, "nats")

    @property
    def changed(self) -> int:
        """Texts that get another answer."""
        return int((self.without.predictions != self.full.predictions).sum())

    def strongest(self, count: int) -> list[int]:
        """Rows of the texts that the head matters most for: their loss rises most without it, highest first."""
        order = np.argsort(-self.rise, kind="stable")[:count]
        return [int(row) for row in order if self.rise[row] > 0]


def removed(bench: Bench, head: int) -> Removal:
    """What the model loses on the evaluation texts without one head (flat index) and nothing else."""
    others = [other for other in range(bench.card.layers * bench.card.heads) if other != head]
    mask = HeadMask.of(others, bench.card.layers, bench.card.heads)
    full, without = bench.full, bench.measurements.evaluate(bench.evaluation, mask=mask)
    return Removal(without, full, accuracy_change(without, full, bench.settings.seed))


@dataclass(frozen=True, eq=False)
class LookAlikes:
    """How far every head attends from one head, ``distances (T, N)`` in 0..1 on each text."""

    head: int
    distances: NDArray[np.float32]

    @property
    def texts(self) -> int:
        """Texts they were compared on."""
        return len(self.distances)

    def nearest(self, count: int) -> list[tuple[int, Estimate]]:
        """The heads most like it, nearest first, and how far each is."""
        order = np.argsort(self.distances.mean(axis=0), kind="stable")
        near = [int(other) for other in order if other != self.head][:count]
        return [(other, mean_over_texts(self.distances[:, other].astype(np.float64))) for other in near]


def look_alikes(bench: Bench, head: int) -> LookAlikes:
    """How far each head attends from ``head`` (flat index) on some evaluation texts; see ``similarity.distances``.

    Raises:
        DataError: If there is nothing to read in any of them.
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
                # Data may hold texts in which there is nothing to read.
                with suppress(DataError):
                    rows.append(distances_from(attend(model, text).weights, head))
        if not rows:
            raise DataError("there is nothing to read in the evaluation texts; choose other data")
        found = np.stack(rows).astype(np.float32)
        resources.keep(name, {"distances": found})
    return LookAlikes(head, found)
