"""Gradients of the loss at open gates, text by text and batch by batch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cahp.methods.shared.scored import by_layer
from cahp.methods.shared.texts import drawn, part
from cahp.registry import Evidence
from cahp.values import Floats

#: Texts whose gradients are added to those of a batch, and texts that batches are made of.
BATCH = 32
MOST_BATCHED = 2048


def gate_gradients(evidence: Evidence, *, most: int | None = None) -> NDArray[np.float64]:
    """Signed gradients ``(n, L, H)`` of each text's loss at open gates, of all texts or of ``most`` drawn ones."""
    texts = evidence.texts if most is None else drawn(evidence, most=most)

    def make() -> Floats:
        from cahp.stages.salience import example_gradients

        return example_gradients(evidence.model, texts, progress=part(evidence.progress, 0, 1))

    return evidence.remembered(f"gate gradients of {len(texts)} texts", make)


def sensitivity(evidence: Evidence) -> NDArray[np.float64]:
    """Mean over the texts of ``|dL_x/dg|`` at open gates, divided by each layer's L2 norm; shape ``(L, H)``."""
    return by_layer(np.abs(gate_gradients(evidence)).mean(axis=0))


def batch_gradients(evidence: Evidence) -> NDArray[np.float64]:
    """Gradients ``(batches, L, H)`` of the summed loss of batches of 32 at open gates, of at most 2,048 texts.

    Sums and not means, so that a last batch of few texts does not count for more than it holds.
    """
    gradients = gate_gradients(evidence, most=MOST_BATCHED)
    shuffled = np.random.default_rng(evidence.seed).permutation(len(gradients))
    starts = np.arange(0, len(gradients), BATCH)
    return np.asarray(np.add.reduceat(gradients[shuffled], starts, axis=0))
