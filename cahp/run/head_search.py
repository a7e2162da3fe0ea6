"""Improve a choice of heads by swaps that lower the KL divergence after a quick refit, on calibration texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cahp.outcomes import estimate_mean
from cahp.run.bench import Bench
from cahp.run.settings import AFTERWARDS, CHOOSING, IN_DIGESTS, MACHINE, key_fields, parse_duration
from cahp.stages.replacement import Replaceability
from cahp.stages.selection import Minimum, layer_minimum
from cahp.store import key
from cahp.tasks.texts import Texts
from cahp.values import Estimate, Floats, HeadMask, OptionError, Selection

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel

STAGE = "search"
#: Texts for a quick refit, for comparing its result, and for confirming all swaps together; at most a third each.
_REFITTED = 128
_COMPARED = 256
#: Settings that change no trial; its texts, drawn by the seed, and its precision are part of its key.
_NOT_IN_TRIALS = (*IN_DIGESTS, *CHOOSING, *AFTERWARDS, *MACHINE, "pool_size", "projection", "seed")
#: Of windows of a language model, each of which has the tokens of many texts.
_ITEMS = 8


@dataclass(frozen=True)
class Swap:
    """A swap of two heads ``(layer, head)``, and its change of KL divergence (below 0: better)."""

    removed: tuple[int, int]
    restored: tuple[int, int]
    change: Estimate


@dataclass(frozen=True)
class HeadSearch:
    """A search for better heads: its ``seconds``, the number of swaps ``tried``, and the accepted ``swaps``.

    ``change`` is that of the KL divergence by all swaps together, on calibration texts that chose none of them (None:
    no swap was accepted). Unless it is below 0, the heads at the start were ``kept`` instead.
    """

    seconds: float
    tried: int
    swaps: tuple[Swap, ...]
    change: Estimate | None
    kept: bool


def improve_heads(bench: Bench, selection: Selection) -> tuple[Selection, HeadSearch]:
    """Swap kept and removed heads while that lowers the KL divergence, within ``--select-time``.

    Swaps are tried from the one that promises most: to remove the head that others replace best, and to restore the one
    that they replace worst (``Replaceability.losses``). A swap is accepted if the paired interval of its change lies
    below 0. Trials are stored with their seconds, which count: an interrupted search goes on, and a finished one
    is repeated at once. Evaluation texts are never used.

    Raises:
        OptionError: If there are too few calibration texts, or a layer that cannot be cut.
    """
    if not bench.measurements.can_cut(selection.mask):
        raise OptionError(
            f"--select-time refits the pruned model, and {bench.card.id} cannot do without the attention of a layer; "
            "use --min-per-layer 1"
        )
    settings = bench.settings
    resources = bench.resources
    trials = _Trials(bench)
    limit = parse_duration(settings.select_time or "0s", "--select-time")
    start = selection.mask
    mask = start
    replaceability = Replaceability(bench.evidence.moments)
    swaps: list[Swap] = []
    tried = {start.sha256}
    best, spent = trials.divergences(start)
    seconds = spent
    total = int(limit) + 1
    # Every mask keeps as many heads.
    least = layer_minimum(start.count, start.layers, min_per_layer=settings.floor(start.layers), even=settings.even)
    waiting = propose_swaps(replaceability.losses(mask), mask, least)
    # As long as another trial fits into the time that is left.
    while seconds + spent <= limit and (proposal := next(waiting, None)) is not None:
        resources.progress(STAGE, int(seconds), total)
        removed, restored = proposal
        candidate = swap(mask, removed, restored)
        if candidate.sha256 in tried or not bench.measurements.can_cut(candidate):
            continue
        tried.add(candidate.sha256)
        divergences, spent = trials.divergences(candidate)
        seconds += spent
        change = trials.compare(divergences, best)
        if change.ci95 is not None and change.high < 0:
            swaps.append(Swap(divmod(removed, mask.heads), divmod(restored, mask.heads), change))
            mask = candidate
            best = divergences
            waiting = propose_swaps(replaceability.losses(mask), mask, least)
    resources.progress(STAGE, total, total)
    together = None
    if swaps:
        together = trials.confirm(mask, start)
    kept = together is None or not together.value < 0
    if kept:
        mask = start
    chosen = set(mask.flat)
    rescued = tuple(head for head in selection.rescued if head in chosen)
    filled = tuple(head for head in selection.filled if head in chosen)
    improved = replace(selection, mask=mask, rescued=rescued, filled=filled)
    return improved, HeadSearch(round(seconds, 1), len(tried) - 1, tuple(swaps), together, kept)


def swap(mask: HeadMask, removed: int, restored: int) -> HeadMask:
    """The mask without one head and with another, both as flat indices."""
    keep = mask.keep.copy()
    keep.flat[removed] = False
    keep.flat[restored] = True
    return HeadMask(keep)


def propose_swaps(losses: Floats, mask: HeadMask, least: Minimum) -> Iterator[tuple[int, int]]:
    """All swaps ``(removed, restored)``, as flat indices, that leave each layer its ``least`` number of heads.

    The one that promises most is first: by the ``losses (L, H)`` of the head that it removes and of that it restores.
    """
    spare = mask.keep.sum(axis=1) > least
    flat = losses.ravel()
    kept = np.flatnonzero(mask.keep)
    gone = np.flatnonzero(~mask.keep)
    promised = flat[kept][:, None] - flat[gone]
    for place in np.argsort(promised, axis=None, kind="stable"):
        removed = int(kept[place // len(gone)])
        restored = int(gone[place % len(gone)])
        if removed // mask.heads == restored // mask.heads or spare[removed // mask.heads]:
            yield removed, restored


class _Trials:
    """The KL divergence of masks after a quick refit, on calibration texts; each is stored."""

    def __init__(self, bench: Bench) -> None:
        texts = bench.calibration
        refitted = _REFITTED
        compared = _COMPARED
        if texts.task.predicts_often:
            refitted = _ITEMS
            compared = _ITEMS
        rows = np.array(texts.text_rows)
        third = len(rows) // 3
        if third < 2:
            raise OptionError("--select-time needs at least 6 calibration texts; raise --limit (or --tokens)")
        order = np.random.default_rng(bench.settings.seed).permutation(rows)
        # What is read twice is no text, and helps only the refit.
        others = np.setdiff1d(np.arange(len(texts)), rows)[:refitted]
        self._refitted = texts.take(np.sort([*order[: min(refitted, third)], *others]))
        self._compared = texts.take(np.sort(order[third : third + min(compared, third)]))
        self._confirming = texts.take(np.sort(order[2 * third : 2 * third + min(compared, third)]))
        self._bench = bench
        self._seed = bench.settings.seed

    def divergences(self, mask: HeadMask, texts: Texts | None = None) -> tuple[NDArray[np.float64], float]:
        """The divergence of each text, or token, after the refit, and the seconds that this took when it was done."""
        if texts is None:
            texts = self._compared
        resources = self._bench.resources
        settings = key_fields(self._bench.settings, without=_NOT_IN_TRIALS)
        digests = (resources.card.sha256, self._refitted.sha256, texts.sha256, mask.sha256)
        name = key("trial", 2, *digests, resources.precisions.evaluation, settings)
        stored = resources.store.read(name, lambda entry: (entry.arrays["kl"], float(entry.meta["seconds"])))
        if stored is not None:
            return stored
        # Loading the model and running it on the texts happens once, and not in each trial.
        model = self._bench.model
        full = self._bench.measurements.evaluate(texts)
        start = resources.clock()
        divergences = self._bench.measurements.evaluate_model(self._recover(model, mask), texts).divergences(full)
        seconds = resources.clock() - start
        resources.keep(name, {"kl": divergences}, {"seconds": seconds})
        return divergences, seconds

    def _recover(self, model: HeadModel, mask: HeadMask) -> HeadModel:
        from cahp.models.surgery import cut
        from cahp.stages.recovery import solve

        if model.card.no_refit:
            return cut(model, mask)
        return solve(model, mask, self._refitted.inputs)

    def compare(self, after: NDArray[np.float64], before: NDArray[np.float64], texts: Texts | None = None) -> Estimate:
        """The mean change of the divergence, with its paired interval."""
        if texts is None:
            texts = self._compared
        full = self._bench.measurements.evaluate(texts)
        return estimate_mean(after - before, self._seed, units=full.units)

    def confirm(self, mask: HeadMask, start: HeadMask) -> Estimate:
        """The mean change from ``start`` on texts that chose no swap."""
        after, _ = self.divergences(mask, self._confirming)
        before, _ = self.divergences(start, self._confirming)
        return self.compare(after, before, self._confirming)
