"""The targets of the attention of heads over many texts.

Each attention weight counts for the first target that fits: the first token, a separator (any other special token), the
token itself, the token before, the token after, punctuation, or any other word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cahp.run import Bench
from cahp.store import key
from cahp.tasks import Texts
from cahp.values import Floats, Progress, report_progress, silent

if TYPE_CHECKING:
    from torch import Tensor

    from cahp.models import Batch, HeadModel, Probe

STAGE = "habits"
#: Number of texts: enough for a mean within a few points.
TEXTS = 300
#: Side length of a mean map.
POOL = 32
#: The targets of attention in words.
KINDS = (
    "the first token",
    "separators",
    "the token itself",
    "the token before",
    "the token after",
    "punctuation",
    "other words",
)


@dataclass(frozen=True, eq=False)
class HeadMaps:
    """What every head attends to over ``texts`` texts: its mean map as a picture, and its mean share on each target.

    ``pictures (N, B, B)`` are bytes: the square root of the attention, which shows weak attention beside strong one, as
    a share of the head's largest value. ``shares (N, K)`` are those on ``KINDS``, averaged over query tokens.
    """

    pictures: NDArray[np.uint8]
    shares: NDArray[np.float32]
    texts: int


def measure_maps(bench: Bench) -> HeadMaps:
    """Measure what all heads of the full model attend to on some evaluation texts."""
    resources = bench.resources

    def compute() -> HeadMaps:
        with resources.timed(STAGE):
            return average_maps(resources.model, bench.evaluation.sample(TEXTS), progress=resources.progress)

    return resources.find_values(STAGE, _key(bench), HeadMaps, compute)


def stored_maps(bench: Bench) -> HeadMaps | None:
    """Return the result of ``measure_maps`` from the store, or None; nothing is measured."""
    return bench.resources.load_cached(
        STAGE, _key(bench), lambda entry: HeadMaps(**entry.arrays, texts=entry.meta["texts"])
    )


def _key(bench: Bench) -> str:
    # A sample of windows would have to be cut for its own digest.
    return key("habits", 3, bench.card.sha256, bench.evaluation.sha256, TEXTS, POOL)


def average_maps(model: HeadModel, texts: Texts, *, pool: int = POOL, progress: Progress = silent) -> HeadMaps:
    """Average what all heads of ``model`` attend to over ``texts``; progress counts texts."""
    import torch

    from cahp.models import punctuation_ids, special_ids
    from cahp.stages.signatures import Collector

    heads = model.layers * model.heads
    shares = np.zeros((heads, len(KINDS)))
    # With a single class, it collects the mean over all texts.
    patterns = Collector(model, classes=1, pool_size=pool)
    one_class = np.zeros(len(texts), dtype=np.int64)
    special = torch.tensor(sorted(special_ids(model.tokenizer)), dtype=torch.int64, device=model.device)
    punctuation = torch.tensor(sorted(punctuation_ids(model.tokenizer)), dtype=torch.int64, device=model.device)
    with torch.inference_mode():
        for batch in report_progress(model.batches(model.tokenize(texts.inputs)), STAGE, progress):
            counted = _assign_targets(batch, special, punctuation)
            whole = patterns.watch(batch, one_class[batch.rows])

            def watch(layer: int, weights: Tensor, counted: Tensor = counted, rows: Probe = whole) -> None:
                rows(layer, weights)
                here = slice(layer * model.heads, (layer + 1) * model.heads)
                by_text = torch.einsum("bhij,bkij->bhk", weights.float(), counted)
                shares[here] += by_text.sum(0).cpu().numpy()

            model.logits(batch, probe=watch)
    means = patterns.result().mean.reshape(heads, pool, pool)
    return HeadMaps(draw_pictures(means), (shares / len(texts)).astype(np.float32), len(texts))


def draw_pictures(patterns: Floats) -> NDArray[np.uint8]:
    """Turn mean maps ``(N, B, B)`` into pictures; see ``HeadMaps``."""
    top = np.maximum(patterns.max(axis=(1, 2), keepdims=True), 1e-12)
    pictures: NDArray[np.uint8] = (255 * np.sqrt(patterns / top)).round().astype(np.uint8)
    return pictures


def _assign_targets(batch: Batch, special: Tensor, punctuation: Tensor) -> Tensor:
    """Assign each attention weight of a batch to one of ``KINDS``, shape ``(b, K, S, S)``.

    The value is 1 / number of query tokens where a weight counts, so that sums are means.
    """
    import torch

    ids = batch.tensors["input_ids"]
    real = batch.tensors["attention_mask"].bool()
    size = ids.shape[1]
    where = torch.arange(size, device=ids.device)
    apart = where[None, :] - where[:, None]
    first = where == real.int().argmax(1, keepdim=True)
    targets = [
        first[:, None],
        torch.isin(ids, special)[:, None],
        *(apart == step for step in (0, -1, 1)),
        torch.isin(ids, punctuation)[:, None],
    ]
    kinds = torch.full((len(ids), size, size), len(targets), device=ids.device)
    # The last is written first, so that the first that fits remains.
    for kind in reversed(range(len(targets))):
        kinds.masked_fill_(targets[kind], kind)
    assigned = torch.nn.functional.one_hot(kinds, len(KINDS)).permute(0, 3, 1, 2)
    pairs = real[:, :, None] & real[:, None, :]
    return assigned * pairs[:, None] / real.sum(1)[:, None, None, None]
