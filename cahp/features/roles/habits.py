"""The targets of the attention of heads over many texts.

Each attention weight counts for the first target that fits: the first token, a separator (any other special token), the
token itself, the token before, the token after, punctuation, or any other word.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cahp.run import Bench
from cahp.store import key
from cahp.tasks import Texts
from cahp.values import Estimate, Ints, Progress, Unit, report_progress, silent

if TYPE_CHECKING:
    from torch import Tensor

    from cahp.models import Batch, HeadModel, Probe

STAGE = "habits"
#: What the heads attend to, in the folder of a bundled run.
MAPS_FILE = "maps.npz"

#: Number of texts: enough for an interval of a few points.
TEXTS = 300
#: Side length of a mean map.
POOL = 32
#: The targets of attention.
KINDS = ("first", "separator", "itself", "before", "after", "punctuation", "other")


def mean_over_texts(values: NDArray[np.floating], unit: Unit = "number") -> Estimate:
    """Estimate the mean of one value per text, with Student's interval; one text has none."""
    mean = float(values.mean(dtype=np.float64))
    n = len(values)
    if n < 2:
        return Estimate(mean, None, n, unit)
    from scipy.stats import t

    half = float(t.ppf(0.975, n - 1)) * float(values.std(ddof=1, dtype=np.float64)) / np.sqrt(n)
    low = mean - half
    high = mean + half
    if unit == "share":
        low = max(0.0, low)
        high = min(1.0, high)
    return Estimate(mean, (low, high), n, unit)


@dataclass(frozen=True, eq=False)
class HeadHabits:
    """Attention targets of heads over ``T`` texts.

    ``shares (T, N, K)`` is the share of each head's attention on each of ``KINDS``, averaged over query tokens;
    ``breadth (T, N)`` the number of attended tokens (the exponential of a row's entropy); ``lengths (T,)`` the tokens
    of each text; ``patterns (N, B, B)`` the mean maps, resized to one size.
    """

    shares: NDArray[np.float32]
    breadth: NDArray[np.float32]
    lengths: NDArray[np.int64]
    patterns: NDArray[np.float32]

    @property
    def texts(self) -> int:
        """Number of texts."""
        return len(self.lengths)

    def of(self, head: int) -> dict[str, Estimate]:
        """Return the share of a head's attention (flat index) on each target."""
        return {kind: mean_over_texts(self.shares[:, head, place], "share") for place, kind in enumerate(KINDS)}


@dataclass(frozen=True, eq=False)
class HeadMaps:
    """What every head attends to, in short: its mean map as a picture, and its mean share on each target.

    ``pictures (N, B, B)`` are bytes: the square root of the attention, which shows weak attention beside strong one, as
    a share of the head's largest value. ``shares (N, K)`` are those on ``KINDS``, over ``texts`` texts.
    """

    pictures: NDArray[np.uint8]
    shares: NDArray[np.float32]
    texts: int

    @classmethod
    def of(cls, habits: HeadHabits) -> HeadMaps:
        """Return the short form of ``habits``."""
        top = np.maximum(habits.patterns.max(axis=(1, 2), keepdims=True), 1e-12)
        pictures = (255 * np.sqrt(habits.patterns / top)).round().astype(np.uint8)
        return cls(pictures, habits.shares.mean(axis=0), habits.texts)


def head_habits(bench: Bench) -> HeadHabits:
    """Measure the attention targets of all heads of the full model on some evaluation texts."""
    resources = bench.resources
    habits = kept_habits(bench)
    if habits is None:
        with resources.timed(STAGE):
            habits = look(resources.model, bench.evaluation.sample(TEXTS), progress=resources.progress)
        resources.keep(_key(bench), vars(habits))
    return habits


def kept_habits(bench: Bench) -> HeadHabits | None:
    """Return the result of ``head_habits`` from the store, or None; nothing is measured."""
    return bench.resources.load_cached(STAGE, _key(bench), lambda entry: HeadHabits(**entry.arrays))


def _key(bench: Bench) -> str:
    return key("habits", 1, bench.card.sha256, bench.evaluation.sample(TEXTS).sha256, POOL)


def look(model: HeadModel, texts: Texts, *, pool: int = POOL, progress: Progress = silent) -> HeadHabits:
    """Measure the attention targets of all heads of ``model`` on ``texts``; progress counts texts."""
    import torch

    from cahp.models import punctuation_ids, special_ids
    from cahp.stages.signatures import Collector

    heads = model.layers * model.heads
    shares = np.zeros((len(texts), heads, len(KINDS)), dtype=np.float32)
    breadth = np.zeros((len(texts), heads), dtype=np.float32)
    lengths = np.zeros(len(texts), dtype=np.int64)
    # With a single class, it collects the mean over all texts.
    patterns = Collector(model, classes=1, pool_size=pool)
    one_class = np.zeros(len(texts), dtype=np.int64)
    special = torch.tensor(sorted(special_ids(model.tokenizer)), dtype=torch.int64, device=model.device)
    punctuation = torch.tensor(sorted(punctuation_ids(model.tokenizer)), dtype=torch.int64, device=model.device)
    with torch.inference_mode():
        for batch in report_progress(model.batches(model.tokenize(texts.inputs)), STAGE, progress):
            counted = _assign_targets(batch, special, punctuation)
            whole = patterns.watch(batch, one_class[batch.rows])
            lengths[batch.rows] = batch.lengths.cpu().numpy()

            def watch(
                layer: int, weights: Tensor, counted: Tensor = counted, rows: Probe = whole, at: Ints = batch.rows
            ) -> None:
                rows(layer, weights)
                maps = weights.float()
                here = slice(layer * model.heads, (layer + 1) * model.heads)
                shares[at, here] = torch.einsum("bhij,bkij->bhk", maps, counted).cpu().numpy()
                queries = counted.sum(dim=(1, 3))
                attended = torch.special.entr(maps).sum(-1).exp()
                breadth[at, here] = torch.einsum("bhi,bi->bh", attended, queries / queries.sum(1, keepdim=True)).cpu()

            model.logits(batch, probe=watch)
    means = patterns.result().mean.reshape(heads, pool, pool)
    return HeadHabits(shares, breadth, lengths, means.astype(np.float32))


def _assign_targets(batch: Batch, special: Tensor, punctuation: Tensor) -> Tensor:
    """Assign each attention weight of a batch to one of ``KINDS``, shape ``(b, K, S, S)``.

    The value is 1 / number of query tokens where a weight counts, so that sums are means.
    """
    import torch

    ids = batch.tensors["input_ids"]
    real = batch.tensors["attention_mask"].bool()
    size = ids.shape[1]
    where = torch.arange(size, device=ids.device)
    first = torch.nn.functional.one_hot(real.int().argmax(1), size).bool()
    apart = where[None, :] - where[:, None]
    targets = [
        first[:, None].expand(-1, size, -1),
        torch.isin(ids, special)[:, None].expand(-1, size, -1),
        *((apart == step).expand(len(ids), -1, -1) for step in (0, -1, 1)),
        torch.isin(ids, punctuation)[:, None].expand(-1, size, -1),
        torch.ones(len(ids), size, size, dtype=torch.bool, device=ids.device),
    ]
    left = (real[:, :, None] & real[:, None, :]).clone()
    assigned = torch.zeros(len(ids), len(KINDS), size, size, device=ids.device)
    for place, target in enumerate(targets):
        assigned[:, place] = (target & left).float()
        left &= ~target
    return assigned / real.sum(1)[:, None, None, None]


def read_maps(folder: Path) -> HeadMaps | None:
    """Read what the heads of a bundled run attend to from its folder (None: it is not bundled)."""
    file = folder / MAPS_FILE
    if not file.exists():
        return None
    with np.load(file, allow_pickle=False) as arrays:
        return HeadMaps(arrays["pictures"], arrays["shares"].astype(np.float32), int(arrays["texts"]))
