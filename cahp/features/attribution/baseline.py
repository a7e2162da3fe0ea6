"""The baseline of attribution: the mean output of each head over the tokens of calibration texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cahp import models
from cahp.models.cards import ModelCard
from cahp.run.bench import Bench
from cahp.run.settings import Settings
from cahp.store import Entry, key
from cahp.tasks.texts import Item
from cahp.values import Progress, digest, report_progress, silent, spread

if TYPE_CHECKING:
    from torch import Tensor

    from cahp.models.cards import Site
    from cahp.models.head_model import HeadModel

STAGE = "baseline"
#: Bump to invalidate cached results.
_REVISION = 1
#: Calibration texts, or windows, whose tokens are averaged: evenly spread ones.
_TEXTS = 64
#: Settings with which calibration texts are others than those of the bundled baselines.
_OF_TEXTS = (
    *("data", "limit", "sample", "tokens", "window", "stride", "bos", "mix"),
    *("documents", "splits", "text_column", "pair_column", "label_column", "label_map"),
)


@dataclass(frozen=True, eq=False)
class Baseline:
    """The mean context vectors ``means (L, width)`` of each layer's heads, float16, over ``tokens`` of ``texts``.

    ``width`` is the number of heads times the channels of a head, before the output projection; ``data`` names the
    texts.
    """

    means: NDArray[np.float16]
    texts: int
    tokens: int
    data: str

    def __str__(self) -> str:
        return f"mean over {self.tokens:,} tokens of {self.texts} calibration texts of {self.data}"

    @property
    def sha256(self) -> str:
        """The digest of the means."""
        return digest(self.means.tobytes())


def measure_baseline(model: HeadModel, inputs: Sequence[Item], *, data: str, progress: Progress = silent) -> Baseline:
    """Average the output of each head of ``model`` over the tokens of ``inputs``; one forward pass of each."""
    import torch

    totals = np.zeros((model.layers, model.projection(0).weight.shape[1]))
    counts = np.zeros(model.layers, dtype=np.int64)
    for batch in report_progress(model.batches(model.tokenize(inputs)), STAGE, progress):
        real = batch.tensors["attention_mask"].bool()

        def add(site: Site, layer: int, entering: Tensor, real: Tensor = real) -> None:
            if site == "output":
                seen = entering.reshape(*real.shape, -1)[real].cpu().double()
                # A layer that is used in many passes is seen in each of them.
                totals[layer] += seen.sum(0).numpy()
                counts[layer] += len(seen)

        with torch.inference_mode():
            model.logits(batch, tap=add)
    means = (totals / counts[:, None]).astype(np.float16)
    return Baseline(means, len(inputs), int(counts[0]), data)


def find_baseline(bench: Bench) -> Baseline:
    """Return the baseline of a model and its data: the bundled one, the stored one, or measure and store it."""
    if may_use_bundled(bench.settings):
        shipped = read_bundled(bench.card)
        if shipped is not None:
            return shipped
    resources = bench.resources
    entry = key("attribution baseline", _REVISION, bench.card.sha256, bench.calibration.sha256, _TEXTS)
    stored = resources.load_cached(STAGE, entry, lambda of: _of_entry(of, bench.dataset.id))
    if stored is not None:
        return stored
    with resources.timed(STAGE):
        baseline = measure_baseline_of(bench)
    resources.keep(entry, {"means": baseline.means}, {"texts": baseline.texts, "tokens": baseline.tokens})
    return baseline


def measure_baseline_of(bench: Bench) -> Baseline:
    """Measure the baseline of a model on calibration texts of its data."""
    texts = bench.calibration.inputs
    chosen = [texts[row] for row in spread(len(texts), _TEXTS)]
    return measure_baseline(bench.model, chosen, data=bench.dataset.id, progress=bench.resources.progress)


def _of_entry(entry: Entry, data: str) -> Baseline:
    means = entry.arrays["means"].astype(np.float16, copy=False)
    return Baseline(means, int(entry.meta["texts"]), int(entry.meta["tokens"]), data)


# Bundled -----------------------------------------------------------------------------------------------------


def bundled_folder() -> Path:
    """Return the folder of the bundled baselines and checks."""
    return models.assets() / "attribution"


def may_use_bundled(settings: Settings) -> bool:
    """Tell whether the settings ask for the texts of the bundled baselines, as far as these are not drawn at random."""
    usual = Settings()
    return all(getattr(settings, name) == getattr(usual, name) for name in _OF_TEXTS)


def read_bundled(card: ModelCard) -> Baseline | None:
    """Read the bundled baseline of a built-in model on its own data (None: it has none)."""
    return _read_baselines().get(card.identity)


@cache
def _read_baselines() -> dict[str, Baseline]:
    """Read the bundled baselines by the digest of their model."""
    baselines = {}
    for file in sorted(bundled_folder().glob("*.npz")):
        with np.load(file, allow_pickle=False) as arrays:
            baselines[str(arrays["model"])] = Baseline(
                arrays["means"], int(arrays["texts"]), int(arrays["tokens"]), str(arrays["data"])
            )
    return baselines
