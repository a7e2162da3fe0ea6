"""Would the same heads be kept again: with another seed, or with other texts?

The published method draws twice by chance (the projection and the sample of texts). Each choice repeats the selection
with one of them changed and all else as it was.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from itertools import combinations
from typing import Literal

import numpy as np

from cahp.figures import cell_figure, places
from cahp.run import Bench, MaskSubject, Measure, Recovered
from cahp.show import Blocks, Figure, Line, Text
from cahp.stages import select
from cahp.tasks import Texts
from cahp.values import (
    Bools,
    Clustering,
    Estimate,
    Floats,
    HeadMask,
    Ints,
    KneeNotFoundError,
    Signatures,
    SpaceError,
    expected_overlap,
    overlaps,
)
from cahp.words import span

STAGE = "resamples"
#: Equal parts of the calibration texts, from which other samples are put together.
SHARDS = 10
#: What the parts' statistics may take in memory.
_MEMORY = 1 << 30


@dataclass(frozen=True)
class StabilityOptions:
    """What varies between the choices, their number, and how many heads they keep."""

    vary: Literal["sample", "seed"] = field(
        default="sample",
        metadata={
            "help": "sample: each choice uses a random half of the calibration texts, which vary about as much as new "
            "samples of full size. seed: that of the projection and the clustering."
        },
    )
    choices: int = field(default=12, metadata={"help": "Choices that are compared."})
    keep: int = field(default=0, metadata={"help": "Heads that each choice keeps (0: as the published rule says)."})


@dataclass(frozen=True)
class Stability:
    """The same selection, repeated for each of ``values``: seeds or numbers of samples, as ``vary`` says.

    ``kept`` are the flat indices of the heads of each choice, of ``layers`` and ``heads`` a layer; none where the
    number was left to a knee that the curve does not have. ``knees`` are the numbers of clusters at the knee, or 0.
    """

    vary: str
    layers: int
    heads: int
    values: tuple[int, ...]
    knees: tuple[int, ...]
    kept: tuple[tuple[int, ...], ...]

    @cached_property
    def masks(self) -> Bools:
        """The masks of the choices that led to one ``(R, L, H)``."""
        masks = [HeadMask.of(heads, self.layers, self.heads).keep for heads in self.kept if heads]
        return np.array(masks, dtype=np.bool_).reshape(-1, self.layers, self.heads)

    @property
    def frequency(self) -> Floats:
        """The share of choices that keep each head ``(L, H)``."""
        return np.asarray(self.masks.mean(axis=0))

    @cached_property
    def overlap(self) -> Estimate:
        """The mean Jaccard index of all pairs of choices: heads that both keep, of those that at least one keeps.

        Its interval is Student's, with the jackknife's error over choices, whose pairs share them. Fewer than three
        choices tell nothing: there is none then.
        """
        pairs = overlaps(self.masks)
        count = len(self.masks)
        mean = float(pairs.mean())
        if count < 3:
            return Estimate(mean, None, count, "number")
        from scipy.stats import t

        members = np.array(list(combinations(range(count), 2)))
        without = np.array([pairs[(members != left_out).all(axis=1)].mean() for left_out in range(count)])
        error = np.sqrt((count - 1) / count * np.sum((without - without.mean()) ** 2))
        reach = float(t.ppf(0.975, count - 1) * error)
        return Estimate(mean, (max(0.0, mean - reach), min(1.0, mean + reach)), count, "number")

    @property
    def chance(self) -> float:
        """What ``overlap`` would be if every choice drew as many heads at random."""
        return expected_overlap(self.masks.sum(axis=(1, 2)).tolist(), self.layers * self.heads)


#: Clusters and salience of one choice.
_Evidence = tuple[Clustering, Floats]


def measure_stability(bench: Bench, options: StabilityOptions) -> Stability:
    """Repeat CAHP's selection as a run with these settings does, with one thing changed.

    Other seeds begin with the run's own. Samples are random halves of the calibration texts (of a language model, of
    their documents), put together from stratified parts whose statistics merge exactly; they vary about as much as new
    samples of the full size (the delete-half jackknife, Shao and Wu 1989).

    Raises:
        BudgetError: If the number of heads is impossible.
        SpaceError: If the texts do not make enough parts, or these do not fit into memory.
    """
    settings = bench.settings
    how = settings.representative
    layers = bench.card.layers
    heads = bench.card.heads
    rules = settings.budget_rules(bench.card)
    if options.vary == "seed":
        values = [(settings.seed + place) % 2**32 for place in range(options.choices)]
        evidence = _over_seeds(bench, values)
    else:
        values = list(range(1, options.choices + 1))
        evidence = _over_samples(bench, options.choices)
    knees = []
    kept: list[tuple[int, ...]] = []
    for clustering, salience in evidence:
        budget = options.keep or None
        knees.append(clustering.knee)
        try:
            if budget is None and settings.even:
                # The curve tells how many.
                suggested = select(clustering, salience, budget=None, min_per_layer=rules.minimum, representative=how)
                budget = rules.round_evenly(suggested.mask.count)
            least = rules.layer_minimum(budget)
            chosen = select(clustering, salience, budget=budget, min_per_layer=least, representative=how)
        except KneeNotFoundError:
            kept.append(())
        else:
            kept.append(tuple(chosen.mask.flat))
    # These texts may have fewer different halves.
    return Stability(options.vary, layers, heads, tuple(values[: len(kept)]), tuple(knees), tuple(kept))


def _over_seeds(bench: Bench, seeds: Sequence[int]) -> Iterator[_Evidence]:
    evidence = bench.evidence
    yield evidence.clustering, evidence.salience
    for place, seed in enumerate(seeds[1:], start=1):
        bench.resources.progress(STAGE, place, len(seeds))
        yield evidence.cluster_again(evidence.signatures, seed), evidence.salience


def _over_samples(bench: Bench, choices: int) -> Iterator[_Evidence]:
    settings = bench.settings
    evidence = bench.evidence
    texts = evidence.texts
    seen = len(evidence.gradients)
    part_bytes = bench.card.total * len(texts.classes) * settings.pool_size**2 * 16
    # Fewer parts of a large model fit into memory.
    count = min(SHARDS, _MEMORY // part_bytes)
    if count < 4:
        raise SpaceError(
            "the statistics of this model's heads do not fit into memory in parts; choose a smaller pool size"
        )
    if len(texts) < 2 * count:
        raise SpaceError(f"{len(texts)} texts are too few to draw samples; use at least {2 * count}")
    shard_of = shards_of(texts, count, seed=settings.seed)
    parts = [evidence.collect_part(np.flatnonzero(shard_of == shard)) for shard in range(count)]
    halves = list(combinations(range(count), count // 2))
    drawn = np.random.default_rng(settings.seed).permutation(len(halves))[:choices]
    for place, half in enumerate(drawn):
        bench.resources.progress(STAGE, place, len(drawn))
        members = halves[half]
        merged = reduce(Signatures.merge, (parts[shard] for shard in members))
        # The gradients are those of the first quarter of the texts, in which every part has its share.
        rows = np.isin(shard_of[:seen], members)
        if not rows.any():
            # No text of this half has a gradient.
            rows[:] = True
        clustering = evidence.cluster_again(merged, settings.seed)
        yield clustering, evidence.compute_salience(settings.salience, rows)


def shards_of(texts: Texts, count: int, *, seed: int) -> Ints:
    """Which of ``count`` parts each text belongs to, shape ``(M,)``; items of one document are in one part.

    Fewer documents than parts are divided.
    """
    documents = texts.task.group_documents(texts)
    if documents is None or documents.max() + 1 < count:
        return shards(texts.labels, count, seed=seed)
    return shards(np.zeros(documents.max() + 1, dtype=np.int64), count, seed=seed)[documents]


def shards(labels: Ints, count: int, *, seed: int) -> Ints:
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


class StabilityOfHeads(Measure[Stability]):
    """Whether the same heads are kept again, whatever mask is on the board."""

    name = "stability"
    title = "Is the choice of heads stable?"
    help = (
        "Repeat the choice of heads with other texts or seeds.\n\nThe choice depends on a sample of texts and on a "
        "random projection. One of them changes, and the overlap of the choices is compared with chance."
    )
    example = "cahp stability minilm-bbc --vary seed"
    record = Stability
    options = StabilityOptions
    of_mask = False
    takes = "stability"
    # It has a page of its own.
    tabbed = False

    def tokens(self, bench: Bench, options: StabilityOptions) -> float:
        """Return the tokens of the calibration texts, which samples read once more."""
        return float(bench.calibration.tokens)

    def run(self, bench: Bench, mask: HeadMask, recovered: Recovered | None, options: StabilityOptions) -> Stability:
        """Repeat the choice; see ``measure_stability``."""
        return measure_stability(bench, options)

    def show(self, record: Stability, subject: MaskSubject) -> Blocks:
        """Yield the overlap with its verdict, how often each head is kept, and where the rule stops."""
        unit = subject.unit
        count = len(record.masks)
        if count < 2:
            yield Line("fewer than two choices have a knee in the silhouette curve: give the number of heads to keep")
            return
        overlap = record.overlap
        interval = ""
        if overlap.ci95 is not None:
            interval = f", 95 % interval {span(*overlap.ci95, 2)}"
        yield Line(
            f"{state_verdict(record, unit)}: two choices overlap by {overlap.value:.2f} ({record.chance:.2f} by chance"
            f"{interval}, n = {count} choices)"
        )
        frequency = record.frequency
        always = int((frequency == 1).sum())
        never = int((frequency == 0).sum())
        knees = [knee for knee in record.knees if knee]
        ends = ""
        if knees:
            ends = f", at {min(knees)} to {max(knees)} clusters"
        yield Text(
            f"{always} of {frequency.size} {unit}s are in every choice, {never} in none. The curve has a knee in "
            f"{len(knees)} of {len(record.knees)}{ends}."
        )
        framed = []
        if not subject.mask.is_full:
            framed = [divmod(head, record.heads) for head in subject.mask.flat]
        yield Figure(
            f"How often each {unit} is kept",
            lambda dark: cell_figure(
                100 * frequency,
                framed=framed,
                unit=unit,
                dark=dark,
            ),
            f"Each cell is a {unit}; its number is the share of choices that keep it, in %. Framed: kept by the mask.",
            {**places(*frequency.shape), "share of choices": frequency.ravel().round(4).tolist()},
            "stability",
        )


#: What the overlap means, by its least part of the way from chance (0) to always the same heads (1).
_VERDICTS = (
    (0.8, "stable, another {vary} keeps nearly the same {unit}s"),
    (0.5, "fairly stable, another {vary} keeps most of the same {unit}s"),
    (0.2, "unstable, another {vary} keeps some of the same {unit}s and many others"),
    (-np.inf, "hardly better than random selection, another {vary} keeps mostly other {unit}s"),
)


def state_verdict(record: Stability, unit: str = "head") -> str:
    """Return what the overlap means, between chance and always the same heads."""
    beyond = 1.0
    if record.chance < 1:
        beyond = (record.overlap.value - record.chance) / (1 - record.chance)
    words = next(words for least, words in _VERDICTS if beyond >= least)
    return words.format(vary=record.vary, unit=unit)


STABILITY = StabilityOfHeads()
