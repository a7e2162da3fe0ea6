"""What a receipt of abilities holds, and how each word of it follows from the values of the items.

Values of the same items are paired, so that hard items count for no model. The word of a row follows from three
questions. Is the full model above chance (Student's t over items, one-sided, 5 %)? Is the other model worse (flips of
signs, two-sided, 5 %, corrected by Holm over the rows of a receipt)? Is it worse by less than the margin (the lower
one-sided 95 % limit of the mean difference, Student's t)?
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from cahp.outcomes import compare_signs, estimate_mean, wilson
from cahp.values import Estimate, Floats, Unit, holm_correction

#: Bump to invalidate cached results, and the cached runs that hold them.
REVISION = 2
#: What became of an ability. The words ``weaker`` and ``lost`` are flags.
Word = Literal["kept", "weaker", "lost", "not significant", "not measurable"]
#: The words of abilities that are surely worse, beyond the margin.
FLAGS: tuple[Word, ...] = ("lost", "weaker")
#: The models whose abilities are compared with the full model's.
COMPARED = ("pruned", "recovered")
#: What each word means, in a sentence for tables and help.
MEANINGS: Mapping[Word, str] = {
    "kept": "surely worse by less than a tenth of the full model's lead over chance, or better",
    "weaker": "surely worse than the full model",
    "lost": "surely worse, and more than half of the lead over chance is gone",
    "not significant": "neither a difference nor its absence is certain",
    "not measurable": "the full model itself is not surely above chance, or cannot be asked",
}


@dataclass(frozen=True)
class AbilityVerdict:
    """An ability of one pruned or recovered model beside the full model's.

    ``value`` is its own, and ``difference`` that minus the full model's, paired over items: in ``points`` where values
    are shares. Their intervals are not corrected for the number of abilities. ``p`` is: it is that of no difference,
    two-sided, by flips of signs, corrected over the abilities of this model (Holm 1979).
    """

    value: Estimate
    difference: Estimate
    p: float
    word: Word

    @property
    def flagged(self) -> bool:
        """Whether the ability is surely worse than the full model's, beyond the margin."""
        return self.word in FLAGS


@dataclass(frozen=True)
class Ability:
    """One row of a receipt: an ability, measured on ``n`` items; higher values are better.

    A model without the ability has the value ``chance``, in the unit of the values. ``full`` is the value of the full
    model. A row that is not measurable has a ``reason``, and no values where none could be computed. ``pruned`` and
    ``recovered`` are None where there is no such model. ``losses`` holds further means in nats per token by model, such
    as the loss of a second reading (``loss_label`` names them).
    """

    name: str
    label: str
    n: int
    chance: float
    full: Estimate | None = None
    pruned: AbilityVerdict | None = None
    recovered: AbilityVerdict | None = None
    reason: str = ""
    loss_label: str = ""
    losses: Mapping[str, Estimate] = field(default_factory=dict)

    def get(self, state: str) -> AbilityVerdict | None:
        """Return the verdict of the ``pruned`` or the ``recovered`` model (None: not compared)."""
        if state == "recovered":
            return self.recovered
        return self.pruned

    def word_of(self, state: str) -> Word | None:
        """Return the word of the ``pruned`` or the ``recovered`` model (None: there is no such model)."""
        verdict = self.get(state)
        if verdict is not None:
            return verdict.word
        if self.reason and state == "pruned":
            return "not measurable"
        return None


@dataclass(frozen=True)
class AbilitiesRecord:
    """A receipt: the abilities of a pruned model, and of the recovered one if there is one, beside the full model's.

    ``complete`` tells whether all abilities were measured, or those alone that every run measures.
    """

    rows: tuple[Ability, ...]
    complete: bool = False

    @property
    def states(self) -> tuple[str, ...]:
        """The models that are compared with the full one."""
        return tuple(state for state in COMPARED if self._has(state))

    def _has(self, state: str) -> bool:
        return any(row.get(state) is not None for row in self.rows)

    def flagged(self, state: str) -> tuple[Ability, ...]:
        """Return the abilities that are weaker or lost in the ``pruned`` or the ``recovered`` model."""
        return tuple(row for row in self.rows if row.word_of(state) in FLAGS)

    def count_words(self, state: str) -> dict[Word, int]:
        """Count how many abilities have each word in a model; words that none has are left out."""
        words = [row.word_of(state) for row in self.rows]
        return {word: words.count(word) for word in MEANINGS if word in words}

    def summarise(self, state: str) -> str:
        """Say in one line what became of the abilities of a model, such as ``1 of 2 lost: repeats text``."""
        measured = sum(row.word_of(state) not in (None, "not measurable") for row in self.rows)
        parts = list(self._name_flagged(state))
        if parts:
            return f"of {measured} measurable abilities: {'; '.join(parts)}"
        if not measured:
            return "no ability is measurable"
        kept = self.count_words(state).get("kept", 0)
        return f"no ability is surely worse; {kept} of {measured} measurable ones are surely kept"

    def _name_flagged(self, state: str) -> Iterator[str]:
        for word in FLAGS:
            labels = [row.label for row in self.rows if row.word_of(state) == word]
            if labels:
                yield f"{word} {', '.join(labels)}"

    def of_full_model(self) -> AbilitiesRecord:
        """Return the receipt of the full model alone."""
        rows: list[Ability] = []
        for row in self.rows:
            losses = {state: loss for state, loss in row.losses.items() if state == "full"}
            rows.append(replace(row, pruned=None, recovered=None, losses=losses))
        return replace(self, rows=tuple(rows))

    def as_pruned(self) -> AbilitiesRecord:
        """Return the receipt without the recovered model."""
        rows: list[Ability] = []
        for row in self.rows:
            losses = {state: loss for state, loss in row.losses.items() if state != "recovered"}
            rows.append(replace(row, recovered=None, losses=losses))
        return replace(self, rows=tuple(rows))


#: Level of each one-sided limit, and of the corrected two-sided test.
ALPHA = 0.05
#: A model keeps an ability if it is worse by less than this share of the full model's lead over chance.
MARGIN = 0.1
#: It has lost an ability if more than this share of the lead is gone.
LOST = 0.5
#: With fewer items nothing is said.
LEAST = 8


@dataclass(frozen=True, eq=False)
class ItemValues:
    """The values of one ability on its items ``(n,)`` by model: ``full``, ``pruned`` and, if any, ``recovered``.

    Higher is better; the values of an item belong to each other. ``chance`` is the value without the ability, of all
    items or of each ``(n,)``. Values of the unit ``share`` are 0 or 1. A ``reason`` tells why there are no values.
    ``losses`` are further values by model, in nats, which ``loss_label`` names. With ``by_definition`` the values are
    shares of agreement with the full model, whose own are 1: another model is only worse if it surely disagrees in
    more than the margin.
    """

    name: str
    label: str
    unit: Unit = "share"
    chance: float | Floats = 0.0
    values: Mapping[str, Floats] = field(default_factory=dict)
    reason: str = ""
    loss_label: str = ""
    losses: Mapping[str, Floats] = field(default_factory=dict)
    by_definition: bool = False

    @property
    def n(self) -> int:
        """Number of items."""
        if "full" in self.values:
            return len(self.values["full"])
        return 0


def decide(measured: Iterable[ItemValues], seed: int = 42) -> tuple[Ability, ...]:
    """Make the rows of a receipt; ``seed`` draws the bootstrap of intervals.

    Raises:
        ValueError: If the models have different numbers of items.
    """
    measured = list(measured)
    reasons = [row.reason or _find_reason(row) for row in measured]
    verdicts: dict[str, dict[int, AbilityVerdict]] = {}
    for state in COMPARED:
        rows = {number: row for number, row in enumerate(measured) if state in row.values}
        tested = [number for number in rows if not reasons[number]]
        levels = holm_correction([_test(measured[number], state) for number in tested])
        p = dict(zip(tested, levels, strict=True))
        verdicts[state] = {
            number: _decide_row(row, state, p.get(number, 1.0), seed, measurable=number in p)
            for number, row in rows.items()
        }
    abilities: list[Ability] = []
    for number, row in enumerate(measured):
        full = None
        if row.n:
            full = _estimate(row.values["full"], row.unit, seed)
        abilities.append(
            Ability(
                row.name,
                row.label,
                row.n,
                float(np.mean(row.chance)),
                full,
                verdicts["pruned"].get(number),
                verdicts["recovered"].get(number),
                reasons[number],
                row.loss_label,
                {state: estimate_mean(losses, seed) for state, losses in row.losses.items()},
            )
        )
    return tuple(abilities)


def _find_reason(row: ItemValues) -> str:
    """Return why a row is not measurable by its values (empty: it is)."""
    if row.n == 1:
        return "1 item is too few"
    if row.n < LEAST:
        return f"{row.n} items are too few"
    lead = row.values["full"] - row.chance
    if not lower_limit(lead) > 0:
        return "the full model is not surely above chance"
    return ""


def _decide_row(row: ItemValues, state: str, p: float, seed: int, *, measurable: bool) -> AbilityVerdict:
    differences = _subtract(row, state)
    word: Word = "not measurable"
    if measurable:
        lead = float(np.mean(row.values["full"] - row.chance))
        word = find_word(differences, lead, p, shares=row.unit == "share")
    unit = row.unit
    if unit == "share":
        unit = "points"
        differences = 100 * differences
    return AbilityVerdict(_estimate(row.values[state], row.unit, seed), estimate_mean(differences, seed, unit), p, word)


def _test(row: ItemValues, state: str) -> float:
    """Return the two-sided probability of as large a difference of a model from the full one, without correction."""
    differences = _subtract(row, state)
    if not row.by_definition:
        return compare_signs(differences)
    margin = MARGIN * float(np.mean(row.values["full"] - row.chance))
    return compare_disagreement(int((differences < 0).sum()), len(differences), margin)


def compare_disagreement(count: int, total: int, margin: float) -> float:
    """Return twice the probability of at least ``count`` disagreements in ``total`` answers at the rate ``margin``."""
    from scipy.stats import binomtest

    return min(1.0, 2 * float(binomtest(count, total, margin, alternative="greater").pvalue))


def find_word(differences: Floats, lead: float, p: float, *, shares: bool = False) -> Word:
    """Return the word for paired ``differences (n,)`` from a full model that has this ``lead`` over chance.

    ``p`` is the corrected probability of as large a mean difference without any. With ``shares`` items are right or
    wrong: few items without a change leave a loss possible, so a change for the better and one for the worse are added
    before the limit is computed, after Agresti and Min (2005).
    """
    limited = differences
    if shares:
        limited = np.append(differences, [-1.0, 1.0])
    if lower_limit(limited) > -MARGIN * lead:
        return "kept"
    mean = float(differences.mean())
    if p > ALPHA or mean >= 0:
        return "not significant"
    if -mean > LOST * lead:
        return "lost"
    return "weaker"


def lower_limit(values: Floats) -> float:
    """Return the lower one-sided 95 % limit of the mean of ``values (n,)``, by Student's t; of one value, none."""
    from scipy.stats import t

    if len(values) < 2:
        return -float("inf")
    spread = float(values.std(ddof=1))
    return float(values.mean() - t.isf(ALPHA, len(values) - 1) * spread / np.sqrt(len(values)))


def _subtract(row: ItemValues, state: str) -> Floats:
    """The paired differences ``(n,)`` of a model from the full one."""
    full = row.values["full"]
    other = row.values[state]
    if full.shape != other.shape:
        raise ValueError(f"{row.name}: {len(other)} items of the {state} model and {len(full)} of the full one")
    return np.asarray(other - full)


def _estimate(values: Floats, unit: Unit, seed: int) -> Estimate:
    """Estimate the mean of an ability's values."""
    if unit != "share":
        return estimate_mean(values, seed, unit)
    right = round(float(values.sum()))
    return Estimate(float(values.mean()), wilson(right, len(values)), len(values), unit)
