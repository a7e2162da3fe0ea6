"""Would the same heads be kept again: with another seed, other texts, another knee of the curve?

The published method draws twice by chance (the projection and the sample of texts) and has one dial (the degree of
the polynomial). Each resample repeats the selection with one of them changed and all else as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cahp.figures import LEGEND, CellWords, draw, error_bars, ink, points, share_figure
from cahp.outcomes import measure, wilson
from cahp.run import AFTERWARDS, CHOOSING, IN_DIGESTS, Bench, Settings, key_fields
from cahp.stages import (
    CLUSTERS_REVISION,
    cluster,
    layer_minimum,
    round_evenly,
    select,
    with_degree,
)
from cahp.stages.space import space
from cahp.store import key
from cahp.tasks import Texts
from cahp.values import Bools, Estimate, HeadMask, Ints, KneeNotFoundError, Progress, Selection, SpaceError, silent
from cahp.values.statistics import Clustering, Signatures, expected_overlap, overlaps
from cahp.words import span

Axis = Literal["seed", "sample", "degree"]

STAGE = "resamples"
#: The polynomial's degrees that are compared.
DEGREES = range(2, 9)
#: Equal parts of the calibration texts, from which other samples are put together.
SHARDS = 10

_REVISION = 5
#: Settings that do not change a selection by the published method.
_NOT_SELECTING = (
    *(*IN_DIGESTS, *AFTERWARDS),
    *("method", "budget", "goal", "select_time", "device"),
)
#: Those that do not change the statistics of a part of the texts, which are computed in float32.
_NOT_IN_PARTS = (*_NOT_SELECTING, *CHOOSING, "projection", "precision")
#: What the parts' statistics may take in memory.
_MEMORY = 1 << 30


@dataclass(frozen=True, eq=False)
class Stability:
    """The same selection, resampled ``R`` times.

    ``values (R,)`` are the seeds, sample numbers or degrees; ``knees (R,)`` the suggested number of clusters, 0 where
    the curve had none; ``keep (R, L, H)`` the heads kept, none where the budget was left to a knee that was not found.
    """

    axis: Axis
    values: NDArray[np.int64]
    knees: NDArray[np.int64]
    keep: Bools

    @cached_property
    def masks(self) -> Bools:
        """The masks of the resamples that led to one, ``(R', L, H)``."""
        return np.asarray(self.keep[self.keep.any(axis=(1, 2))])

    @property
    def frequency(self) -> NDArray[np.float64]:
        """Share of the resamples that keep each head, ``(L, H)``."""
        if not len(self.masks):
            return np.zeros(self.keep.shape[1:])
        return np.asarray(self.masks.mean(axis=0))

    @cached_property
    def overlaps(self) -> NDArray[np.float64]:
        """Jaccard index of every pair of resamples: heads that both keep, of those that at least one keeps."""
        return overlaps(self.masks)

    @property
    def overlap(self) -> float:
        """Mean of ``overlaps``; not a number with fewer than two resamples."""
        if not len(self.overlaps):
            return float("nan")
        return float(self.overlaps.mean())

    @property
    def drawn(self) -> bool:
        """Whether chance told the resamples apart; degrees are simply all there are, and leave nothing to infer."""
        return self.axis != "degree"

    @cached_property
    def overlap_ci95(self) -> tuple[float, float] | None:
        """95 % interval of ``overlap``: Student's, with the jackknife's error over resamples, whose pairs share them.

        None where nothing was drawn, or of fewer than three.
        """
        count = len(self.masks)
        if not self.drawn or count < 3:
            return None
        from scipy.stats import t

        pairs = np.array(list(combinations(range(count), 2)))
        without = np.array([self.overlaps[(pairs != left_out).all(axis=1)].mean() for left_out in range(count)])
        error = np.sqrt((count - 1) / count * np.sum((without - without.mean()) ** 2))
        reach = float(t.ppf(0.975, count - 1) * error)
        return max(0.0, self.overlap - reach), min(1.0, self.overlap + reach)

    def share_ci95(self, times: int) -> tuple[float, float] | None:
        """Wilson's 95 % interval of the share of resamples that keep a head which ``times`` of those here did."""
        if not self.drawn:
            return None
        return wilson(times, len(self.masks))

    @cached_property
    def chance(self) -> float:
        """What ``overlap`` would be if every resample drew as many heads at random."""
        return expected_overlap(self.masks.sum(axis=(1, 2)).tolist(), self.keep[0].size)

    @property
    def beyond_chance(self) -> float:
        """``(overlap - chance) / (1 - chance)``: 1 always the same heads, 0 as by chance."""
        if self.chance >= 1:
            return 1.0
        return (self.overlap - self.chance) / (1 - self.chance)


def cached(bench: Bench, *, axis: Axis, resamples: int = 12, budget: int | None = None) -> Stability | None:
    """Return an earlier result of ``stability`` with the same arguments from disk, or None."""
    name = _key(bench, axis, resamples, budget)
    return bench.resources.store.read(name, lambda entry: Stability(axis, **entry.arrays))


def _key(bench: Bench, axis: Axis, resamples: int, budget: int | None) -> str:
    return key(
        "stability",
        *(_REVISION, CLUSTERS_REVISION),
        *(bench.card.sha256, bench.calibration.sha256, key_fields(bench.settings, without=_NOT_SELECTING)),
        *(axis, resamples, budget),
        # Those of a language model are put together from documents.
        bench.calibration.task.name,
    )


def over_degrees(clustering: Clustering, salience: NDArray[np.float64], settings: Settings) -> Stability:
    """Select from one clustering with each of ``DEGREES``; takes no time."""
    evidence = ((with_degree(clustering, degree=degree), salience) for degree in DEGREES)
    return _select_again("degree", DEGREES, evidence, None, settings)


def stability(
    bench: Bench, *, axis: Axis, resamples: int = 12, budget: int | None = None, progress: Progress = silent
) -> Stability:
    """Repeat CAHP's selection ``resamples`` times, changing ``axis`` alone; found on disk if it was done before.

    ``"seed"``: other seeds of the projection and the clustering, the run's own first. ``"sample"``: random halves of
    the calibration texts (of a language model, of their documents), put together from stratified parts whose statistics
    merge exactly; they vary about as much as new samples of the full size (the delete-half jackknife, Shao and Wu
    1989). ``"degree"``: the polynomial's ``DEGREES``, whatever ``resamples`` and ``budget`` are. ``budget`` None leaves
    the number of heads to the knee.

    Raises:
        BudgetError: If the budget is impossible.
        SpaceError: If the texts do not make enough parts.
    """
    if axis == "degree":
        return over_degrees(bench.evidence.clustering, bench.evidence.salience, bench.settings)
    result = cached(bench, axis=axis, resamples=resamples, budget=budget)
    if result is None:
        if axis == "seed":
            values: Sequence[int] = [(bench.settings.seed + place) % 2**32 for place in range(resamples)]
            evidence = _over_seeds(bench, values, progress)
        else:
            values = range(1, resamples + 1)
            evidence = _over_samples(bench, resamples, progress)
        result = _select_again(axis, values, evidence, budget, bench.settings)
        arrays = {"values": result.values, "knees": result.knees, "keep": result.keep}
        bench.resources.store.save(_key(bench, axis, resamples, budget), arrays=arrays)
    return result


def measure_choices(bench: Bench, result: Stability, *, progress: Progress = silent) -> list[dict[str, Estimate]]:
    """Measure the outcomes of each mask in ``result.masks`` on the evaluation texts; each is stored.

    Intervals of all masks come from the same resamples of texts.
    """
    outcomes = []
    for place, keep in enumerate(result.masks):
        progress(STAGE, place, len(result.masks))
        evaluation = bench.measurements.evaluate(bench.evaluation, mask=HeadMask(keep))
        outcomes.append(measure(evaluation, full=bench.full, seed=bench.settings.seed))
    progress(STAGE, len(outcomes), len(outcomes))
    return outcomes


#: Clusters and salience of one resample.
_Evidence = tuple[Clustering, NDArray[np.float64]]


def _select_again(
    axis: Axis, values: Sequence[int], evidence: Iterable[_Evidence], budget: int | None, settings: Settings
) -> Stability:
    knees = []
    keep = []
    for clustering, salience in evidence:
        try:
            chosen = _select(clustering, salience, budget, settings)
        except KneeNotFoundError:
            keep.append(np.zeros(salience.shape, dtype=np.bool_))
        else:
            keep.append(chosen.mask.keep)
        knees.append(clustering.knee)
    return Stability(
        axis, np.array(values[: len(knees)], dtype=np.int64), np.array(knees, dtype=np.int64), np.stack(keep)
    )


def _select(clustering: Clustering, salience: NDArray[np.float64], budget: int | None, settings: Settings) -> Selection:
    """Select heads as a run with these settings does: an even one first asks the curve how many."""
    layers, heads = salience.shape
    floor = settings.floor(layers)
    how = settings.representative
    if budget is None and settings.even:
        suggested = select(clustering, salience, budget=None, min_per_layer=floor, representative=how)
        budget = round_evenly(suggested.mask.count, layers, heads, min_per_layer=floor)
    least = layer_minimum(budget, layers, min_per_layer=floor, even=settings.even)
    return select(clustering, salience, budget=budget, min_per_layer=least, representative=how)


def _cluster_again(
    bench: Bench, signatures: Signatures, seed: int, place: int, resamples: int, progress: Progress
) -> Clustering:
    """Cluster the heads for the resample ``place`` of so many."""

    def report(stage: str, done: int, total: int) -> None:
        progress(STAGE, place + (stage == "clustering" and done == total), resamples)

    placed = space(signatures, projection=bench.settings.projection, seed=seed, progress=report)
    return cluster(placed, seed=seed, degree=bench.settings.poly_degree, progress=report)


def _over_seeds(bench: Bench, seeds: Sequence[int], progress: Progress) -> Iterator[_Evidence]:
    evidence = bench.evidence
    yield evidence.clustering, evidence.salience
    for place, seed in enumerate(seeds[1:], start=1):
        yield _cluster_again(bench, evidence.signatures, seed, place, len(seeds), progress), evidence.salience


def _over_samples(bench: Bench, resamples: int, progress: Progress) -> Iterator[_Evidence]:
    from cahp.stages.salience import salience

    settings = bench.settings
    texts = bench.evidence.texts
    gradients = bench.evidence.gradients
    part_bytes = bench.card.layers * bench.card.heads * len(texts.classes) * settings.pool_size**2 * 16
    count = min(SHARDS, _MEMORY // part_bytes)
    if count < 4:
        raise SpaceError(
            "the statistics of this model's heads do not fit into memory in parts; choose a smaller pool size"
        )
    if len(texts) < 2 * count:
        raise SpaceError(f"{len(texts)} texts are too few for resamples; use at least {2 * count}")
    shard_of = shards_of(texts, count, seed=settings.seed)
    parts = [_shard(bench, shard_of, shard, count, progress) for shard in range(count)]
    halves = list(combinations(range(count), count // 2))
    drawn = np.random.default_rng(settings.seed).permutation(len(halves))[:resamples]
    for place, half in enumerate(drawn):
        members = halves[half]
        merged = reduce(Signatures.merge, (parts[shard] for shard in members))
        # The gradients are those of the first quarter of the texts, in which every part has its share.
        rows = np.isin(shard_of[: len(gradients)], members)
        if not rows.any():
            # No text of this half has a gradient.
            rows[:] = True
        clustering = _cluster_again(bench, merged, settings.seed, place, len(drawn), progress)
        how = texts.task.choose_salience(settings.salience)
        yield clustering, salience(gradients[rows], how=how)


def shards_of(texts: Texts, count: int, *, seed: int) -> NDArray[np.int64]:
    """Which of ``count`` parts each text belongs to, shape ``(M,)``; items of one document are in one part.

    Fewer documents than parts are divided.
    """
    documents = texts.task.group_documents(texts)
    if documents is None or documents.max() + 1 < count:
        return shards(texts.labels, count, seed=seed)
    parts: NDArray[np.int64] = shards(np.zeros(documents.max() + 1, dtype=np.int64), count, seed=seed)[documents]
    return parts


def shards(labels: Ints, count: int, *, seed: int) -> NDArray[np.int64]:
    """Which of ``count`` parts each text belongs to, shape ``(M,)``: every class is dealt out evenly."""
    random = np.random.default_rng(seed)
    part = np.empty(len(labels), dtype=np.int64)
    dealt = 0
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        # Going on where the last class stopped keeps the parts' sizes within one of each other.
        part[rows] = (dealt + np.arange(len(rows))) % count
        dealt += len(rows)
    return part


def _shard(bench: Bench, shard_of: NDArray[np.int64], shard: int, count: int, progress: Progress) -> Signatures:
    """The statistics of one part, from disk if they were gathered before."""
    card = bench.card
    texts = bench.evidence.texts
    settings = key_fields(bench.settings, without=_NOT_IN_PARTS)
    name = key("shard", _REVISION, card.sha256, texts.sha256, settings, count, shard, texts.task.name)
    stored = bench.resources.store.read(
        name, lambda entry: Signatures(**entry.arrays, layers=card.layers, heads=card.heads)
    )
    if stored is not None:
        return stored
    from cahp.stages.signatures import collect

    before = int((shard_of < shard).sum())
    signatures = collect(
        bench.model,
        texts,
        pool_size=bench.settings.pool_size,
        rows=np.flatnonzero(shard_of == shard),
        progress=lambda stage, done, total: progress(stage, before + done, len(texts)),
    )
    arrays = {"counts": signatures.counts, "mean": signatures.mean, "m2": signatures.m2}
    bench.resources.keep(name, arrays)
    return signatures


def frequency_figure(result: Stability, framed: HeadMask | None, *, unit: str = "head", dark: bool) -> Any:
    """Draw the share of choices that keep each head, or other ``unit``: layers by heads, those of a mask framed."""
    n = len(result.masks)
    notes = []
    for times in range(n + 1):
        note = f" ({times} of {n})"
        ends = result.share_ci95(times)
        if ends is not None:
            note += f"<br>95 % interval {span(100 * ends[0], 100 * ends[1], 0)} %"
        notes.append(note)
    frames: list[tuple[int, int]] = []
    if framed is not None and not framed.is_full:
        frames = [divmod(head, framed.heads) for head in framed.flat]
    counts = np.rint(result.frequency * n).astype(int)
    words = CellWords(
        "choices that keep it (%)",
        "kept in %{z:.0f} % of the choices%{customdata}",
        unit,
        [[notes[times] for times in row] for row in counts],
    )
    return share_figure(result.frequency, framed=frames, words=words, width=450, dark=dark)


def knee_figure(result: Stability, column: str, *, unit: str = "head", dark: bool) -> Any:
    """Draw the clusters at the knee and the heads, or other ``unit``, of each choice."""
    colours = ink(dark=dark)
    places = [str(value) for value in result.values]
    mode = "markers"
    if result.axis == "degree":
        mode = "lines+markers"
    traces = []
    for name, values, symbol, colour in (
        (f"{unit}s kept", result.keep.sum(axis=(1, 2)), "square-open", colours.text),
        ("clusters at the knee", result.knees, "circle", colours.accent),
    ):
        # Without a knee, a resample has no point.
        heights = [value or None for value in values.tolist()]
        hover = [f"{place}<br>{name}: {value}" for place, value in zip(places, values, strict=True)]
        line = {"color": colour, "width": 1}
        traces.append(
            points(places, heights, symbol, colour, size=10, outline=1.5, hover=hover, name=name, mode=mode, line=line)
        )
    y = {"title": f"{unit}s", "rangemode": "tozero"}
    # The lines keep their width in the legend.
    legend = {**LEGEND, "itemsizing": "trace"}
    return draw(traces, x={"title": column, "type": "category"}, y=y, height=330, legend=legend)


def divergence_figure(places: Sequence[Any], divergences: Sequence[Estimate], column: str, *, dark: bool) -> Any:
    """Draw the KL divergence of each choice, with its interval."""
    accent = ink(dark=dark).accent
    values = [divergence.value for divergence in divergences]
    names = [str(place) for place in places]
    ends = [(divergence.low, divergence.high) for divergence in divergences]
    bars = error_bars(values, ends, accent, width=4)
    hover = [f"{name}<br>{cost.text} nats ({cost.span})" for name, cost in zip(names, divergences, strict=True)]
    y = {"title": "KL divergence (nats)", "rangemode": "tozero"}
    traces = [points(names, values, "circle", accent, size=10, hover=hover, error_y=bars)]
    return draw(traces, x={"title": column, "type": "category"}, y=y, height=330)
