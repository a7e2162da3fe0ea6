"""Compare abilities item by item: from the values of each item to one word for each ability.

Values of the same items are paired, so that hard items count for no model. The word of a row follows from three
questions. Is the full model above chance (Student's t over items, one-sided, 5 %)? Is the other model worse (flips of
signs, two-sided, 5 %, corrected by Holm over the rows of a receipt)? Is it worse by less than the margin (the lower
one-sided 95 % limit of the mean difference, Student's t)?
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from cahp.features.abilities.record import COMPARED, Ability, AbilityVerdict, Word
from cahp.outcomes import compare_signs, estimate_mean, wilson
from cahp.values import Estimate, Floats, Unit, holm_correction

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
