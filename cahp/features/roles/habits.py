"""What heads attend to over many texts, as pictures of their mean maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cahp.run import Bench
from cahp.store import Entry, key
from cahp.tasks import Texts
from cahp.values import Floats, Progress, report_progress, silent

if TYPE_CHECKING:
    from cahp.models import HeadModel

STAGE = "habits"
#: Number of texts: enough for a mean within a few points.
TEXTS = 300
#: Side length of a mean map.
POOL = 32


@dataclass(frozen=True, eq=False)
class HeadMaps:
    """What every head attends to over ``texts`` texts: its mean map as a picture.

    ``pictures (N, B, B)`` are bytes: the square root of the attention, which shows weak attention beside strong one, as
    a share of the head's largest value.
    """

    pictures: NDArray[np.uint8]
    texts: int


def measure_maps(bench: Bench) -> HeadMaps:
    """Measure what all heads of the full model attend to on some evaluation texts."""
    resources = bench.resources

    def compute() -> Entry:
        with resources.timed(STAGE):
            maps = average_maps(resources.model, bench.evaluation.sample(TEXTS), progress=resources.progress)
        return Entry({"pictures": maps.pictures}, {"texts": maps.texts})

    return resources.find(STAGE, _key(bench), _read, compute)


def stored_maps(bench: Bench) -> HeadMaps | None:
    """Return the result of ``measure_maps`` from the store, or None; nothing is measured."""
    return bench.resources.load_cached(STAGE, _key(bench), _read)


def _read(entry: Entry) -> HeadMaps:
    return HeadMaps(entry.arrays["pictures"], entry.meta["texts"])


def _key(bench: Bench) -> str:
    # A sample of windows would have to be cut for its own digest.
    return key("habits", 3, bench.card.sha256, bench.evaluation.sha256, TEXTS, POOL)


def average_maps(model: HeadModel, texts: Texts, *, pool: int = POOL, progress: Progress = silent) -> HeadMaps:
    """Average what all heads of ``model`` attend to over ``texts``; progress counts texts."""
    import torch

    from cahp.stages.signatures import Collector

    heads = model.layers * model.heads
    # With a single class, it collects the mean over all texts.
    patterns = Collector(model, classes=1, pool_size=pool)
    one_class = np.zeros(len(texts), dtype=np.int64)
    with torch.inference_mode():
        for batch in report_progress(model.batches(model.tokenize(texts.inputs)), STAGE, progress):
            model.logits(batch, probe=patterns.watch(batch, one_class[batch.rows]))
    return HeadMaps(draw_pictures(patterns.result().mean.reshape(heads, pool, pool)), len(texts))


def draw_pictures(patterns: Floats) -> NDArray[np.uint8]:
    """Turn mean maps ``(N, B, B)`` into pictures; see ``HeadMaps``."""
    top = np.maximum(patterns.max(axis=(1, 2), keepdims=True), 1e-12)
    pictures: NDArray[np.uint8] = (255 * np.sqrt(patterns / top)).round().astype(np.uint8)
    return pictures
