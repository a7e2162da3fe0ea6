"""What a comparison says: means with intervals, areas, overlaps, cost, and verdicts that passed a test.

All of it is a function of the document and of who answered which text rightly, so it can be asked again without a
model. Cells with an error are left out. Intervals and tests are of one bootstrap that draws seeds and texts, both with
replacement and independently (Owen 2007), the same ones for all methods, so that differences are paired; the masks
that a method of chance draws with one seed are averaged first. ``p`` is twice the smaller share of draws on either
side of no difference, counted so that it is never 0, and corrected by Holm (1979).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cahp.stages.overlap import expected_jaccard, jaccard, overlaps
from cahp.values import Bools, OptionError
from cahp.words import points, signed

Document = Mapping[str, Any]
Right = Mapping[str, NDArray[np.bool_]]

#: What the others are held against, unless it does not take part.
AGAINST = "complementary"
LEVEL = 0.05
DRAWS = 10_000
_BLOCK = 1000
_SEED = 42


def summarise(document: Document, right: Right, *, against: str | None = None) -> dict[str, Any]:
    """The whole summary; ``against`` is the method whose differences to the others are tested.

    Raises:
        OptionError: If it did not take part.
    """
    names = list(document["methods"])
    against = against or (AGAINST if AGAINST in names else names[0])
    if against not in names:
        raise OptionError(f"{against!r} is not in this comparison; choose one of {', '.join(names)}")
    means: list[dict[str, Any]] = []
    areas: list[dict[str, Any]] = []
    verdicts: list[dict[str, Any]] = []
    area_verdicts: list[dict[str, Any]] = []
    for split, rows in right.items():
        sampled = _Sampled(document, rows, split)
        for recovery in document["settings"]["recoveries"]:
            series = sampled.series(recovery)
            draws = sampled.draws(series)
            means += _means(sampled, series, draws, recovery)
            areas += _areas(sampled, series, draws, recovery)
            verdicts += _verdicts(sampled, series, recovery, against)
            area_verdicts += _area_verdicts(sampled, series, recovery, against)
    return {
        "against": against,
        "rule": (
            f"Each method is tested against {against}, at every budget and after every recovery: a paired bootstrap "
            f"over texts and seeds ({DRAWS:,} draws), p corrected by Holm over all tests of one split and "
            f"recovery; above {LEVEL} it is a tie. Over all budgets at once, the areas are tested likewise, corrected "
            "over the methods."
        ),
        "means": means,
        "areas": areas,
        "verdicts": verdicts,
        "area_verdicts": area_verdicts,
        "layers": layers(document),
        "overlap": overlap(document),
        "consensus": consensus(document),
        "cost": cost(document),
    }


# --- accuracy


@dataclass(frozen=True, eq=False)
class _Answered:
    """Share of right answers to each text, ``values (S, n)``, for the seeds at ``places (S,)``."""

    places: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Series(_Answered):
    """The answers of a method at a budget."""

    method: str
    budget: int
    cells: Sequence[Document]

    @property
    def where(self) -> tuple[int, ...]:
        return tuple(self.places.tolist())

    @property
    def accuracy(self) -> float:
        return float(self.values.mean())


_Draws = Mapping[tuple[str, int], NDArray[np.float64]]


class _Sampled:
    """A split's answers, and the draws of seeds and texts that all methods share."""

    def __init__(self, document: Document, rows: NDArray[np.bool_], split: str) -> None:
        self.document, self.rows, self.split = document, rows, split
        self.name = document["data"][split]["split"]
        self.seeds: list[int] = list(document["settings"]["seeds"])
        random = np.random.default_rng(_SEED)
        size, texts = len(self.seeds), rows.shape[1]
        self._seeds = random.multinomial(size, np.full(size, 1 / size), size=DRAWS).astype(np.float64)
        self._random = random.integers(2**32, size=-(-DRAWS // _BLOCK))
        self._texts = texts

    def series(self, recovery: str) -> list[_Series]:
        """All methods and budgets that were measured after ``recovery``, in the document's order."""
        found: dict[tuple[str, int], list[Document]] = {}
        for cell in finished(self.document):
            if recovery in cell["recoveries"]:
                found.setdefault((cell["method"], cell["budget"]["attained"]), []).append(cell)
        return [self._one(method, budget, cells, recovery) for (method, budget), cells in found.items()]

    def _one(self, method: str, budget: int, cells: list[Document], recovery: str) -> _Series:
        places, values = [], []
        for place, seed in enumerate(self.seeds):
            rows = [cell["recoveries"][recovery]["row"] for cell in cells if cell["seed"] == seed]
            if rows:
                places.append(place)
                values.append(self.rows[rows].mean(axis=0))
        return _Series(np.array(places), np.array(values), method, budget, cells)

    def bootstrap(self, places: NDArray[np.int64], stack: NDArray[np.float64]) -> NDArray[np.float64]:
        """Means of ``stack (T, S, n)`` in each of the draws, ``(DRAWS, T)``, for the seeds at ``places``."""
        weights = self._seeds[:, places]
        total = weights.sum(axis=1, keepdims=True)
        # A draw may hold none of the few seeds that a failing method was left with.
        weights = np.where(total > 0, weights / np.maximum(total, 1), 1 / len(places))
        flat = stack.reshape(-1, self._texts).T
        found = np.empty((DRAWS, len(stack)))
        for block, seed in enumerate(self._random):
            part = slice(block * _BLOCK, min((block + 1) * _BLOCK, DRAWS))
            size = part.stop - part.start
            picked = np.random.default_rng(int(seed)).multinomial(
                self._texts, np.full(self._texts, 1 / self._texts), size=size
            )
            by_seed = (picked / self._texts) @ flat
            found[part] = np.einsum("bts,bs->bt", by_seed.reshape(size, len(stack), -1), weights[part])
        return found

    def draws(self, series: Sequence[_Series]) -> dict[tuple[str, int], NDArray[np.float64]]:
        """Accuracies in each of the draws; they are paired, so those of a difference are the difference of them."""
        found: dict[tuple[str, int], NDArray[np.float64]] = {}
        groups: dict[tuple[int, ...], list[_Series]] = {}
        for one in series:
            groups.setdefault(one.where, []).append(one)
        for where, members in groups.items():
            drawn = self.bootstrap(np.array(where), np.array([one.values for one in members]))
            found |= {(one.method, one.budget): drawn[:, place] for place, one in enumerate(members)}
        return found


def finished(document: Document) -> list[Document]:
    """The cells without an error."""
    return [cell for cell in document["cells"] if cell["error"] is None]


def _interval(draws: NDArray[np.float64]) -> list[float]:
    # Sums of many shares miss round numbers by rounding, and 0 from below would be written as minus 0.
    low, high = np.percentile(draws, [2.5, 97.5]).round(12) + 0.0
    return [float(low), float(high)]


def _means(sampled: _Sampled, series: Sequence[_Series], draws: _Draws, recovery: str) -> list[dict[str, Any]]:
    found = []
    for one in series:
        measured = [cell["recoveries"][recovery][sampled.split] for cell in one.cells]
        measured = [each for each in measured if each is not None]
        by_seed = one.values.mean(axis=1)
        found.append(
            {
                "split": sampled.name,
                "recovery": recovery,
                "method": one.method,
                "budget": one.budget,
                "accuracy": one.accuracy,
                "ci95": _interval(draws[one.method, one.budget]),
                "lowest": min(each["accuracy"] for each in measured),
                "highest": max(each["accuracy"] for each in measured),
                # Over seeds; of one seed nothing is known.
                "sd": float(by_seed.std(ddof=1)) if len(by_seed) > 1 else None,
                **{name: _mean(each[name] for each in measured) for name in ("macro_f1", "loss", "agreement")},
                "delta_pp": _mean(each["delta"]["pp"] for each in measured if each["delta"]),
                "n": int(one.values.shape[1]),
                "seeds": len(by_seed),
                "masks": len(one.cells),
            }
        )
    return found


def _mean(values: Iterator[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _areas(sampled: _Sampled, series: Sequence[_Series], draws: _Draws, recovery: str) -> list[dict[str, Any]]:
    """Area under accuracy against the number of heads, divided by its width: the mean accuracy over the budgets.

    Of the methods that were measured at every budget, since areas over different budgets do not compare.
    """
    budgets, shares, whole = _whole(series)
    found = []
    for method, own in whole.items():
        drawn = sum(share * draws[method, budget] for share, budget in zip(shares, budgets, strict=True))
        found.append(
            {
                "split": sampled.name,
                "recovery": recovery,
                "method": method,
                "area": float(_area(shares, own).mean()),
                "ci95": _interval(np.asarray(drawn)),
                "budgets": budgets,
            }
        )
    return found


def _whole(series: Sequence[_Series]) -> tuple[list[int], NDArray[np.float64], dict[str, list[_Series]]]:
    """All budgets, what each counts for in an area, and the methods that were measured at all, with the same seeds."""
    budgets = sorted({one.budget for one in series})
    if len(budgets) < 2:
        return budgets, np.ones(len(budgets)), {}
    found = {}
    for method in dict.fromkeys(one.method for one in series):
        own = sorted((one for one in series if one.method == method), key=lambda one: one.budget)
        if [one.budget for one in own] == budgets and len({one.where for one in own}) == 1:
            found[method] = own
    return budgets, trapezoid(budgets), found


def _area(shares: NDArray[np.float64], own: Sequence[_Series]) -> NDArray[np.float64]:
    """What each text adds to a method's area, ``(S, n)``."""
    return np.asarray(np.tensordot(shares, np.array([one.values for one in own]), axes=1))


def trapezoid(budgets: Sequence[int]) -> NDArray[np.float64]:
    """What each of the ascending budgets counts for in an area under lines between them; the sum is 1."""
    steps = np.diff(np.array(budgets, dtype=np.float64))
    shares = np.zeros(len(budgets))
    shares[:-1] += steps / 2
    shares[1:] += steps / 2
    return np.asarray(shares / steps.sum())


# --- verdicts


#: A method, its budget (None: over all of them), and the answers of the reference and its own.
_Pair = tuple[str, int | None, _Answered, _Answered]


def _verdicts(sampled: _Sampled, series: Sequence[_Series], recovery: str, against: str) -> list[dict[str, Any]]:
    ours = {one.budget: one for one in series if one.method == against}
    pairs: list[_Pair] = [
        (one.method, one.budget, ours[one.budget], one)
        for one in series
        if one.method != against and one.budget in ours
    ]
    return _held(sampled, recovery, against, pairs)


def _area_verdicts(sampled: _Sampled, series: Sequence[_Series], recovery: str, against: str) -> list[dict[str, Any]]:
    """The areas held against one of them: one test for each method, whatever the number of budgets."""
    budgets, shares, whole = _whole(series)
    areas = {method: _Answered(own[0].places, _area(shares, own)) for method, own in whole.items()}
    if against not in areas:
        return []
    pairs: list[_Pair] = [(method, None, areas[against], one) for method, one in areas.items() if method != against]
    return [{**said, "budgets": budgets} for said in _held(sampled, recovery, against, pairs)]


def _held(sampled: _Sampled, recovery: str, against: str, pairs: Sequence[_Pair]) -> list[dict[str, Any]]:
    """What a family of tests says, on the seeds that both of a pair have, corrected for how many they are."""
    changes: dict[int, NDArray[np.float64]] = {}
    groups: dict[tuple[int, ...], list[int]] = {}
    for at, (_, _, mine, one) in enumerate(pairs):
        places, rows, columns = np.intersect1d(mine.places, one.places, return_indices=True)
        if len(places):
            changes[at] = mine.values[rows] - one.values[columns]
            groups.setdefault(tuple(places.tolist()), []).append(at)
    drawn: dict[int, NDArray[np.float64]] = {}
    for where, members in groups.items():
        found = sampled.bootstrap(np.array(where), np.array([changes[at] for at in members]))
        drawn |= zip(members, found.T, strict=True)
    tests = [_Test(*pairs[at][:2], change, drawn[at]) for at, change in changes.items()]
    ps = [two_sided(test.draws) for test in tests]
    return [
        _verdict(sampled.name, recovery, against, test, p, p_holm)
        for test, p, p_holm in zip(tests, ps, holm(ps), strict=True)
    ]


@dataclass(frozen=True, eq=False)
class _Test:
    """A method at a budget (None: over all of them), ``change (S, n)`` in favour of the reference, and its draws."""

    method: str
    budget: int | None
    change: NDArray[np.float64]
    draws: NDArray[np.float64]


def _verdict(split: str, recovery: str, against: str, test: _Test, p: float, p_holm: float) -> dict[str, Any]:
    difference, ends = float(test.change.mean()), _interval(test.draws)
    seeds, n = test.change.shape
    tie = p_holm > LEVEL
    winner = None if tie else (against if difference > 0 else test.method)
    loser = test.method if winner == against else against
    low, high = (signed(end * 100) for end in ends)
    pp = points(difference * 100)
    where = "over all budgets" if test.budget is None else f"{test.budget} heads"
    after = "" if recovery == "none" else f" after {recovery}"
    said = (
        f"{against} and {test.method}: no difference at this n ({pp}"
        if tie
        else f"{winner} is better than {loser} ({pp} for {against}"
    )
    return {
        "split": split,
        "recovery": recovery,
        "budget": test.budget,
        "method": test.method,
        "against": against,
        "pp": difference * 100,
        "ci95": [end * 100 for end in ends],
        "p": p,
        "p_holm": p_holm,
        "tie": tie,
        "better": winner,
        "n": n,
        "seeds": seeds,
        "words": (
            f"{where}{after}: {said}, 95 % interval [{low}, {high}], p = {p_holm:.2g} after Holm, "
            f"n = {n:,}, {seeds} seed{'' if seeds == 1 else 's'})"
        ),
    }


def two_sided(draws: NDArray[np.float64]) -> float:
    """Twice the smaller share of bootstrap draws at or beyond no difference on either side; never 0."""
    # Sums of many shares miss 0 by rounding.
    below = int((draws <= 1e-12).sum())
    above = int((draws >= -1e-12).sum())
    return min(1.0, 2 * (1 + min(below, above)) / (1 + len(draws)))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down correction: the smallest of m times m, the next times m - 1, ..., never falling."""
    corrected, highest = [0.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda place: ps[place])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[place]))
        corrected[place] = highest
    return corrected


# --- heads


def layers(document: Document) -> list[dict[str, Any]]:
    """Heads that each method keeps in each layer, mean over its masks."""
    return [
        {
            "method": method,
            "budget": budget,
            "mean": np.mean([[len(heads) for heads in cell["kept"].values()] for cell in cells], axis=0).tolist(),
        }
        for (method, budget), cells in _by_budget(document).items()
    ]


def overlap(document: Document) -> dict[str, list[dict[str, Any]]]:
    """Jaccard index of kept heads: between methods with the same seed, and of one method between its masks.

    ``chance`` is what random masks of that size would have on average.
    """
    model = document["model"]
    total = model["layers"] * model["heads"]
    groups = _by_budget(document)
    between, within = [], []
    for (method, budget), cells in groups.items():
        masks = [_keep(cell, model) for cell in cells]
        chance = expected_jaccard(budget, budget, total)
        said = {"budget": budget, "chance": chance}
        own = overlaps(masks)
        if len(own):
            within.append({"method": method, **said, "jaccard": float(np.mean(own)), "pairs": len(own)})
        for other in document["methods"]:
            if other <= method or (other, budget) not in groups:
                continue
            found = [
                jaccard(mask, _keep(cell, model))
                for mask, mine in zip(masks, cells, strict=True)
                for cell in groups[other, budget]
                if cell["seed"] == mine["seed"]
            ]
            if found:
                between.append({"methods": [method, other], **said, "jaccard": float(np.mean(found))})
    return {"methods": between, "seeds": within}


def consensus(document: Document) -> list[dict[str, Any]]:
    """Which heads everybody keeps and nobody keeps at each budget, methods of chance aside.

    ``share (L, H)`` is the mean over methods of the share of a method's masks that keep the head.
    """
    model = document["model"]
    found = []
    groups = _by_budget(document)
    for budget in sorted({budget for _, budget in groups}):
        shares = [
            np.mean([_keep(cell, model) for cell in cells], axis=0)
            for (method, own), cells in groups.items()
            if own == budget and document["methods"][method]["draws"] == 1
        ]
        if not shares:
            continue
        share = np.mean(shares, axis=0)
        found.append(
            {
                "budget": budget,
                "methods": len(shares),
                # Shares of whole numbers of masks: their mean is 1 or 0 only if all are.
                "everybody": np.argwhere(np.all(np.array(shares) == 1.0, axis=0)).tolist(),
                "nobody": np.argwhere(np.all(np.array(shares) == 0.0, axis=0)).tolist(),
                "share": share.tolist(),
            }
        )
    return found


def _by_budget(document: Document) -> dict[tuple[str, int], list[Document]]:
    found: dict[tuple[str, int], list[Document]] = {}
    for cell in finished(document):
        found.setdefault((cell["method"], cell["budget"]["attained"]), []).append(cell)
    return found


def _keep(cell: Document, model: Document) -> Bools:
    keep = np.zeros((model["layers"], model["heads"]), dtype=np.bool_)
    for layer, heads in cell["kept"].items():
        keep[int(layer), heads] = True
    return keep


# --- cost


def cost(document: Document) -> list[dict[str, Any]]:
    """What choosing costs: forward passes and labels as if nothing were known, and the seconds that were measured.

    Both are of the costliest budget, the mean over seeds. Evidence that another method of the same comparison had
    already gathered takes no seconds again, so forward passes compare and seconds tell what this comparison took.
    """
    found = []
    for method in document["methods"]:
        cells = [cell for cell in finished(document) if cell["method"] == method]
        if not cells:
            continue
        seeds = sorted({cell["seed"] for cell in cells})
        costliest = [max(_seconds(cell) for cell in cells if cell["seed"] == seed) for seed in seeds]
        prices = [cell["price"] for cell in cells if cell["price"]]
        found.append(
            {
                "method": method,
                "forwards": max((price["forwards"] for price in prices), default=None),
                "labels": max((price["labels"] for price in prices), default=None),
                "score_s": float(np.mean(costliest)),
                "recovery_s": {
                    recovery: _mean(cell["seconds"]["recovery"].get(recovery) for cell in cells)
                    for recovery in document["settings"]["recoveries"]
                    if recovery != "none"
                },
            }
        )
    return found


def _seconds(cell: Document) -> float:
    return float(cell["seconds"]["score"] or 0.0)
