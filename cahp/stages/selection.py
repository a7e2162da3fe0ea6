"""Select the heads to keep: a budget is met exactly, and no layer has less than its minimum.

The minimum is one number for all layers, or an array ``(L,)`` with that of each.

All rules about budgets are here; methods only cluster or score. Of equal scores the first index wins.

An *even* selection keeps the same number of heads in every layer. Methods need not know: their per-layer minimum is
then an equal share of the budget (``BudgetRules.layer_minimum``), which leaves nothing to distribute between layers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

import numpy as np

from cahp.values import Bools, BudgetError, CahpError, Floats, HeadMask, Ints, KneeNotFoundError, OptionError, Selection
from cahp.values.statistics import Clustering

Representative = Literal["salience", "medoid"]
#: Heads that each layer keeps at least: one number for all layers, or that of each ``(L,)``.
Minimum = int | Ints
#: Layers that ``--min-first-layers`` is about: from the input on, so many.
FIRST_LAYERS = 2


@dataclass(frozen=True, eq=False)
class BudgetRules:
    """The budgets of a model of ``layers`` with ``heads`` each, which all keep at least their ``minimum`` of heads.

    In an ``even`` selection all keep the same number.
    """

    layers: int
    heads: int
    minimum: Minimum = 1
    even: bool = False

    @property
    def possible(self) -> range:
        """All budgets, from the fewest heads, at least one, to all; in an even selection every n-th.

        None is possible if a layer has fewer heads than its minimum. An even selection keeps the largest minimum in
        every layer.
        """
        minimum = np.broadcast_to(self.minimum, self.layers)
        largest = int(minimum.max())
        if largest > self.heads:
            return range(0)
        fewest = int(minimum.sum())
        if self.even:
            fewest = largest * self.layers
        return range(max(self._step, fewest), self.layers * self.heads + 1, self._step)

    @property
    def _step(self) -> int:
        """The number of heads between two possible budgets."""
        if self.even:
            return self.layers
        return 1

    def parse(self, text: str) -> int | None:
        """Read the number of heads to keep, or None for ``"auto"``.

        ``text`` is ``"auto"``, a number of heads (``"26"``) or a share (``"15%"``, ``"12.5 %"``; halves round up). In
        an even selection, a share rounds to a multiple of the number of layers.

        Raises:
            BudgetError: If the text is none of these, or no possible budget.
            OptionError: If a layer cannot keep its minimum.
        """
        self.check_minimum()
        parsed = read_budget(text)
        if parsed is None:
            return None
        amount, is_share = parsed
        budget = int(amount)
        if is_share:
            budget = _round_to_multiple(amount * self.layers * self.heads / 100, self._step)
        self.check(budget, written=text.strip())
        if budget % self._step:
            below = budget - budget % self._step
            raise BudgetError(
                f"{budget} heads cannot be spread evenly over {self.layers} layers; choose {below or self.layers} or "
                f"{below + self.layers}, or leave out --even"
            )
        # With few heads, a little more than 100 % rounds to all.
        if is_share and amount > 100:
            raise BudgetError(f"budget {text.strip()} is more than all heads; write at most 100%")
        return budget

    def check(self, budget: int, *, written: str | None = None) -> None:
        """Check that ``budget`` heads can be kept, ``written`` so by a person.

        Raises:
            BudgetError: If they are fewer or more than are possible.
        """
        fewest = self.possible[0]
        total = self.possible[-1]
        if fewest <= budget <= total:
            return
        shown = str(budget)
        if written is not None and written != shown:
            shown = f"{written} ({budget} heads)"
        raise BudgetError(
            f"budget {shown} is outside {fewest} to {total}, which the model and the fewest heads per layer allow; "
            "choose a budget in between"
        )

    def check_minimum(self) -> None:
        """Check that each layer can keep its minimum.

        Raises:
            OptionError: If one has fewer heads.
        """
        for least in np.atleast_1d(self.minimum).tolist():
            if not 0 <= least <= self.heads:
                raise OptionError(f"the heads to keep in a layer must be 0 to {self.heads}, got {least}")

    def round_evenly(self, count: int) -> int:
        """The budget of an even selection that is nearest to ``count`` heads."""
        return max(_round_to_multiple(count, self.layers), self.possible[0])

    def layer_minimum(self, budget: int | None) -> Minimum:
        """The number of heads that each layer keeps at least: in an even selection its equal share of the budget."""
        if budget is None or not self.even:
            return self.minimum
        return budget // self.layers


def _round_to_multiple(count: Decimal | int, step: int) -> int:
    """Round to the nearest multiple of ``step``; halves round up."""
    return step * int((Decimal(count) / step).to_integral_value(ROUND_HALF_UP))


def middle_budget(budgets: Sequence[int]) -> int:
    """The one of all possible ``budgets`` that is nearest to half of the heads, of two the larger."""
    return nearest_budget(budgets, budgets[-1] / 2)


def nearest_budget(budgets: Sequence[int], count: float) -> int:
    """The one of all possible ``budgets`` that is nearest to ``count`` heads, of two the larger."""
    return min(budgets, key=lambda budget: (abs(budget - count), -budget))


def read_budget(text: str) -> tuple[Decimal, bool] | None:
    """The number in a budget and whether it is a share in per cent, or None for ``"auto"``; 0.25 is 25 %.

    Raises:
        BudgetError: If the text is no budget of any model.
    """
    given = text.strip().lower()
    if given == "auto":
        return None
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(%?)", given)
    if re.fullmatch(r"0?\.[0-9]{1,9}", given):
        return 100 * Decimal(given), True
    if match is None or ("." in match[1] and not match[2]):
        raise BudgetError(f"cannot read budget {text!r}; write auto, a number of heads (26) or a share (15%)")
    return Decimal(match[1]), bool(match[2])


def select(
    clustering: Clustering,
    salience: Floats,
    *,
    budget: int | None,
    min_per_layer: Minimum = 1,
    representative: Representative = "salience",
) -> Selection:
    """Keep one head of each cluster, and at least ``min_per_layer`` heads of each layer.

    ``salience (L, H)``. Without a budget the clustering's knee decides, and heads added by the per-layer minimum come
    on top. A budget is met exactly; see ``table``.

    Raises:
        BudgetError, KneeNotFoundError, OptionError, CahpError: As ``table``.
    """
    (selection,) = table(
        clustering, salience, budgets=[budget], min_per_layer=min_per_layer, representative=representative
    )
    return selection


def table(
    clustering: Clustering,
    salience: Floats,
    *,
    budgets: Iterable[int | None],
    min_per_layer: Minimum = 1,
    representative: Representative = "salience",
) -> list[Selection]:
    """``select`` for many budgets, at little more than the cost of one.

    A budget takes the most clusters, up to the budget itself, whose representatives and heads added by the per-layer
    minimum fit into it; the rest of the budget goes to the most salient other heads. If no number of clusters fits,
    only salience decides, as in ``top``. Selections of different budgets need not be nested.

    Raises:
        BudgetError: If a budget is none of ``BudgetRules.possible``.
        KneeNotFoundError: If there is no budget, and no knee to stand in for it.
        OptionError: If ``min_per_layer`` does not fit a layer.
        CahpError: If a salience is not a number.
    """
    layers, heads = salience.shape
    if clustering.labels.shape[1] != salience.size:
        raise ValueError(f"salience {salience.shape} does not fit {clustering.labels.shape[1]} clustered heads")
    rules = BudgetRules(layers, heads, min_per_layer)
    rules.check_minimum()
    ranking = Ranking.of(salience)
    ks = clustering.ks
    # The representatives for each of ``ks``, and their number with the heads that the per-layer minimum adds.
    kept = np.zeros(clustering.labels.shape, dtype=np.bool_)
    for row, labels, medoids in zip(kept, clustering.labels, clustering.medoids, strict=True):
        row[representatives(labels, medoids, ranking, representative)] = True
    sizes = np.maximum(kept.reshape(-1, layers, heads).sum(axis=2), min_per_layer).sum(axis=1)
    selections = []
    for budget in budgets:
        if budget is None:
            rows = np.flatnonzero(ks == clustering.knee)
            if not len(rows):
                raise KneeNotFoundError(
                    "the silhouette curve has no knee, so it suggests no number of heads; give --budget a number of "
                    "heads or a share such as 30%"
                )
        else:
            rules.check(budget)
            rows = np.flatnonzero((ks <= budget) & (sizes <= budget))
        if len(rows):
            most = int(rows[np.argmax(ks[rows])])
            selections.append(_complete(kept[most], int(ks[most]), ranking, budget, min_per_layer))
        else:
            assert budget is not None
            selections.append(_top(ranking, budget, min_per_layer))
    return selections


def top(scores: Floats, *, budget: int, min_per_layer: Minimum = 1) -> Selection:
    """Keep the ``budget`` heads of highest score, and at least ``min_per_layer`` heads of each layer.

    ``scores (L, H)``. The best heads of each layer, up to the minimum, are kept first; the best of all others take the
    rest of the budget. ``rescued`` are the heads that only the minimum keeps.

    Raises:
        BudgetError: If the budget is none of ``BudgetRules.possible``.
        OptionError: If ``min_per_layer`` is negative or more than a layer has.
        CahpError: If a score is not a number.
    """
    layers, heads = scores.shape
    rules = BudgetRules(layers, heads, min_per_layer)
    rules.check_minimum()
    rules.check(budget)
    return _top(Ranking.of(scores), budget, min_per_layer)


@dataclass(frozen=True, eq=False)
class Ranking:
    """Flat indices of the heads from the highest score to the lowest.

    ``overall (N,)``; ``by_layer (L, H)`` within each layer; ``place (N,)`` of each head in ``overall``.
    """

    overall: Ints
    by_layer: Ints
    place: Ints

    @classmethod
    def of(cls, scores: Floats) -> Ranking:
        """The ranking of ``scores (L, H)``."""
        unknown = int(np.isnan(scores).sum())
        if unknown:
            raise CahpError(f"the scores of {unknown} heads are not numbers; check the model's weights in float32")
        layers, heads = scores.shape
        overall = np.argsort(-scores.ravel(), kind="stable")
        place = np.empty_like(overall)
        place[overall] = np.arange(len(overall))
        by_layer = np.argsort(-scores, axis=1, kind="stable") + heads * np.arange(layers)[:, None]
        return cls(overall, by_layer, place)


def _complete(
    representatives: Bools, k: int | None, ranking: Ranking, budget: int | None, min_per_layer: Minimum
) -> Selection:
    """Keep representatives, what the per-layer minimum adds, and the most salient other heads up to a budget."""
    keep = representatives.copy()
    rescued: list[int] = []
    floor = np.broadcast_to(min_per_layer, len(ranking.by_layer))
    for layer, least in zip(ranking.by_layer, floor.tolist(), strict=True):
        removed = layer[~keep[layer]]
        lacking = max(least - (len(layer) - len(removed)), 0)
        rescued += removed[:lacking].tolist()
    keep[rescued] = True
    if budget is not None:
        removed = ranking.overall[~keep[ranking.overall]]
        keep[removed[: budget - int(keep.sum())]] = True
    return Selection(HeadMask(keep.reshape(ranking.by_layer.shape)), budget, k=k, rescued=tuple(rescued))


def _top(ranking: Ranking, budget: int, min_per_layer: Minimum) -> Selection:
    none = np.zeros(len(ranking.overall), dtype=np.bool_)
    selection = _complete(none, None, ranking, budget, min_per_layer)
    rescued = np.flatnonzero(selection.mask.keep.ravel() & (ranking.place >= budget))
    return replace(selection, rescued=tuple(rescued.tolist()))


def representatives(labels: Ints, medoids: Ints, ranking: Ranking, how: Representative = "salience") -> Ints:
    """The representative of each cluster, as flat indices in the order of the clusters.

    ``labels (N,)`` and ``medoids (k,)`` of one clustering. ``"salience"`` takes the member that ranks highest,
    ``"medoid"`` the medoid. If medoids coincide, a cluster may have no members and, by salience, no representative.
    """
    if how == "medoid":
        return medoids
    none = len(labels)
    best = np.full(len(medoids), none)
    np.minimum.at(best, labels, ranking.place)
    return np.asarray(ranking.overall[best[best < none]])
