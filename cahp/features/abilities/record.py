"""What a receipt of abilities holds, and how each word of it follows from the values of the items.

Values of the same items are paired, so that hard items count for no model. The word of a row follows from three
questions. Is the full model above chance (Student's t over items, one-sided, 5 %)? Is the other model worse (flips of
signs, two-sided, 5 %, corrected by Holm over the rows of a receipt)? Is it worse by less than the margin (the lower
one-sided 95 % limit of the mean difference, Student's t)? Where a row has losses, such as that of a second reading, the
last two are asked of them as well: a model that reads everything worse keeps the difference of two readings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from cahp.outcomes import compare_signs, estimate_mean, wilson
from cahp.values import Estimate, Floats, JsonObject, Names, Unit, holm_correction

#: Bump to invalidate cached receipts, and the cached runs that hold them.
REVISION = 3
#: What became of an ability. The words ``weaker`` and ``lost`` are flags.
Word = Literal["kept", "weaker", "lost", "not significant", "not measurable"]
#: The words of abilities that are significantly worse, beyond the margin.
FLAGS: tuple[Word, ...] = ("lost", "weaker")
#: The models whose abilities are compared with the full model's.
COMPARED = ("pruned", "recovered")
#: What each word means, in a sentence for tables and help, the worst word first.
MEANINGS: Mapping[Word, str] = {
    "lost": "significantly worse, and more than half of the lead over chance is gone",
    "weaker": "significantly worse than the full model",
    "not significant": "neither a difference nor its absence is certain",
    "kept": "not worse by a tenth of the full model's lead over chance (one-sided 95 %)",
    "not measurable": "the full model itself is not significantly above chance, or cannot be asked",
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
        verdict: AbilityVerdict | None = getattr(self, state)
        return verdict

    def word_of(self, state: str) -> Word:
        """Return the word of the ``pruned`` or the ``recovered`` model."""
        verdict = self.get(state)
        if verdict is None:
            return "not measurable"
        return verdict.word


@dataclass(frozen=True)
class AbilitiesRecord:
    """A receipt: the abilities of a pruned model, and of the recovered one if there is one, beside the full model's.

    ``complete`` tells whether all abilities were measured, or those alone that every run measures.
    """

    rows: tuple[Ability, ...]
    complete: bool = False

    @property
    def states(self) -> Names:
        """The models that are compared with the full one."""
        return tuple(state for state in COMPARED if any(row.get(state) is not None for row in self.rows))

    def by_word(self, state: str) -> dict[Word, list[Ability]]:
        """Return the abilities of a model by their word, the worst word first; words that none has are left out."""
        found = {word: [row for row in self.rows if row.word_of(state) == word] for word in MEANINGS}
        return {word: rows for word, rows in found.items() if rows}

    def summarise(self, state: str) -> str:
        """Say in one line what became of the abilities of a model, such as ``1 of 2 lost: repeats text``."""
        by_word = self.by_word(state)
        measured = len(self.rows) - len(by_word.get("not measurable", ()))
        parts = [f"{word} {', '.join(row.label for row in by_word[word])}" for word in FLAGS if word in by_word]
        if parts:
            return f"of {measured} measurable abilities: {'; '.join(parts)}"
        kept = len(by_word.get("kept", ()))
        return f"no ability is significantly worse; {kept} of {measured} measurable ones are kept"

    def of_models(self, *states: str) -> AbilitiesRecord:
        """Return the receipt of these models alone: ``full``, and ``pruned`` or not."""
        rows = []
        for row in self.rows:
            gone: JsonObject = dict.fromkeys(set(COMPARED) - set(states))
            losses = {state: loss for state, loss in row.losses.items() if state in states}
            rows.append(replace(row, **gone, losses=losses))
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
    shares of agreement with the full model, whose own are 1: another model is only worse if it disagrees in
    significantly more than the margin.
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
        return len(self.values.get("full", ()))

    @property
    def lead(self) -> Floats:
        """By how much the full model exceeds chance on each item ``(n,)``."""
        return self.values["full"] - self.chance

    @property
    def unmeasurable(self) -> str:
        """Why nothing can be said of other models (empty: something can)."""
        if self.reason:
            return self.reason
        if self.n < LEAST:
            return f"{self.n} items are too few"
        if not lower_limit(self.lead) > 0:
            return "the full model is not significantly above chance"
        return ""

    def compare(self, state: str) -> float:
        """Return the two-sided probability of as large a difference from the full model, without correction."""
        differences = self.values[state] - self.values["full"]
        if not self.by_definition:
            return compare_signs(differences)
        return compare_disagreement(int((differences < 0).sum()), self.n, MARGIN * float(self.lead.mean()))

    def estimate(self, state: str, seed: int) -> Estimate:
        """Estimate the mean of a model's values."""
        values = self.values[state]
        if self.unit != "share":
            return estimate_mean(values, seed, self.unit)
        return Estimate(float(values.mean()), wilson(round(float(values.sum())), self.n), self.n, self.unit)


def decide(measured: Iterable[ItemValues], seed: int = 42) -> tuple[Ability, ...]:
    """Make the rows of a receipt; ``seed`` draws the bootstrap of intervals.

    The probabilities of a model are corrected for the number of its abilities.
    """
    rows = list(measured)
    with_losses = sum(bool(row.losses) for row in rows)
    verdicts: list[JsonObject] = [{} for _ in rows]
    for state in COMPARED:
        tested = [row for row in rows if not row.unmeasurable and state in row.values]
        corrected = iter(holm_correction([row.compare(state) for row in tested]))
        for own, row in zip(verdicts, rows, strict=True):
            if state not in row.values:
                continue
            shares = row.unit == "share"
            differences = row.values[state] - row.values["full"]
            p = 1.0
            word: Word = "not measurable"
            if row in tested:
                p = next(corrected)
                lead = float(row.lead.mean())
                word = find_word(differences, lead, p, shares=shares)
                if row.losses:
                    falls = row.losses["full"] - row.losses[state]
                    # Corrected by Bonferroni.
                    of_losses = find_word(falls, lead, compare_signs(falls) * with_losses)
                    word = min(word, of_losses, key=list(MEANINGS).index)
            difference = estimate_mean(differences, seed, row.unit)
            if shares:
                difference = estimate_mean(100 * differences, seed, "points")
            own[state] = AbilityVerdict(row.estimate(state, seed), difference, p, word)
    abilities = []
    for row, own in zip(rows, verdicts, strict=True):
        if row.n:
            own["full"] = row.estimate("full", seed)
        own["losses"] = {state: estimate_mean(values, seed) for state, values in row.losses.items()}
        chance = float(np.mean(row.chance))
        ability = Ability(row.name, row.label, row.n, chance, **own, reason=row.unmeasurable, loss_label=row.loss_label)
        abilities.append(ability)
    return tuple(abilities)


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
