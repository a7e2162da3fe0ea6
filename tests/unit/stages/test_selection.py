from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.typing import NDArray

from cahp.stages.selection import BudgetRules, Minimum, Ranking, Representative, representatives, select, table, top
from cahp.values import BudgetError, CahpError
from cahp.values.statistics import Clustering


def clusterings(heads: int, seed: int = 0, *, knee: int = 2) -> Clustering:
    """Random clusters of all the heads for every ``k``, each around its medoid."""
    rng = np.random.default_rng(seed)
    ks = np.arange(2, heads)
    labels, medoids = [], []
    for k in ks:
        centres = rng.permutation(heads)[:k]
        assigned = rng.integers(0, k, heads)
        assigned[centres] = np.arange(k)
        labels.append(assigned)
        medoids.append(centres)
    stacked = np.array(labels, dtype=np.int64).reshape(len(ks), heads)
    return Clustering(ks, np.linspace(0, 1, len(ks)), stacked, tuple(medoids), knee, "polynomial-6")


#: Two layers of four heads, clustered by hand for k = 2, 3, 4 alone; layer 1 is heads 4 to 7.
BY_HAND = Clustering(
    ks=np.array([2, 3, 4]),
    mss=np.array([0.2, 0.6, 0.7]),
    labels=np.array([[0, 0, 0, 1, 1, 1, 1, 1], [0, 0, 1, 1, 2, 2, 2, 2], [0, 1, 1, 2, 2, 3, 3, 3]]),
    medoids=(np.array([1, 5]), np.array([1, 2, 7]), np.array([0, 1, 4, 6])),
    knee=2,
    knee_rule="chord",
)
SALIENCE = np.array([[0.9, 0.2, 0.3, 0.8], [0.1, 0.5, 0.4, 0.0]])


@pytest.mark.parametrize(
    ("text", "options", "heads"),
    [
        ("auto", {}, None),
        (" AUTO ", {}, None),
        ("26", {}, 26),
        ("12", {}, 12),
        ("144", {}, 144),
        ("100%", {}, 144),
        ("15%", {}, 22),  # 21.6
        ("0.25", {}, 36),
        ("15 %", {}, 22),
        ("12.5%", {}, 18),
        ("15.625%", {}, 23),  # 22.5: halves round up
        ("10.76388%", {}, 15),  # 15.49999
        ("1", {"minimum": 0}, 1),
        ("36", {"minimum": 3}, 36),
        ("24", {"even": True}, 24),
        ("144", {"even": True}, 144),
        ("15%", {"even": True}, 24),  # 21.6, between 12 and 24
        ("12.5%", {"even": True}, 24),  # 18, halfway between 12 and 24
    ],
)
def test_a_budget_is_auto_a_number_or_a_share(text: str, options: dict[str, Any], heads: int | None) -> None:
    assert BudgetRules(12, 12, **options).parse(text) == heads


UNREADABLE = ("", "many", "-3", "2.5", "1e2", "nan%", "%", "15%%", "0x10", "２６", "9" * 5000)


@pytest.mark.parametrize(
    ("text", "options", "error"),
    [
        *((text, {}, r"write auto, a number of heads \(26\) or a share \(15%\)") for text in UNREADABLE),
        *((text, {}, f"budget {text}.* outside 12 to 144") for text in ("0", "11", "145", "7%", "101%")),
        # These would round to all heads.
        ("100.1%", {}, "at most 100%"),
        ("35", {"minimum": 3}, "outside 36 to 144"),
        # 4 % are 5.76 heads, nearest to none.
        ("4%", {"even": True}, r"^budget 4% \(0 heads\) is outside 12 to 144, which"),
        ("4%", {"even": True, "minimum": 0}, r"^budget 4% \(0 heads\) is outside 12 to 144, which"),
        ("26", {"even": True}, "^26 heads cannot be spread evenly over 12 layers; choose 24 or 36, or"),
        ("143", {"even": True}, "^143 heads cannot be spread evenly over 12 layers; choose 132 or 144, or"),
    ],
)
def test_a_budget_that_cannot_be_read_or_met_is_refused(text: str, options: dict[str, Any], error: str) -> None:
    with pytest.raises(BudgetError, match=error):
        BudgetRules(12, 12, **options).parse(text)


def test_the_first_of_the_most_salient_members_represents_its_cluster() -> None:
    labels, medoids = BY_HAND.at(3)
    assert representatives(labels, medoids, Ranking.of(SALIENCE)).tolist() == [0, 3, 5]
    assert representatives(labels, medoids, Ranking.of(np.ones((2, 4)))).tolist() == [0, 2, 4]
    assert representatives(labels, medoids, Ranking.of(SALIENCE), "medoid").tolist() == [1, 2, 7]
    # Scores that are not numbers are refused.
    broken = SALIENCE.copy()
    broken[1, 2] = np.nan
    for choose in (lambda: top(broken, budget=4), lambda: select(BY_HAND, broken, budget=4)):
        with pytest.raises(CahpError, match="scores of 1 heads are not numbers"):
            choose()


@pytest.mark.parametrize(
    ("budget", "options", "k", "heads", "rescued"),
    [
        # The knee decides. Clusters 012 and 34567 are represented by 0 and 3: layer 1 gets its most salient head back.
        (None, {}, 2, [0, 3, 5], (5,)),
        (None, {"min_per_layer": 0}, 2, [0, 3], ()),
        (None, {"min_per_layer": 3}, 2, [0, 2, 3, 4, 5, 6], (2, 5, 6, 4)),
        # k = 2 needs three heads already, so salience alone decides.
        (2, {}, None, [0, 5], (5,)),
        # k = 2 keeps 0 and 3 and must rescue 5: three heads. k = 3 keeps 0, 3, 5 and fits as well, so it wins.
        (3, {}, 3, [0, 3, 5], ()),
        # k = 4 represents 0, 12, 34, 567 by 0, 2, 3, 5.
        (4, {}, 4, [0, 2, 3, 5], ()),
        (4, {"representative": "medoid"}, 4, [0, 1, 4, 6], ()),
        # k = 3 has two representatives in layer 0, so that of layer 1 is joined by the next salient head there.
        (4, {"min_per_layer": 2}, 3, [0, 3, 5, 6], (6,)),
        # What is left goes to the most salient heads not yet kept.
        (6, {}, 4, [0, 1, 2, 3, 5, 6], ()),
    ],
)
def test_a_budget_takes_the_most_clusters_that_fit_then_rescues_and_fills(
    budget: int | None, options: dict[str, Any], k: int | None, heads: list[int], rescued: tuple[int, ...]
) -> None:
    chosen = select(BY_HAND, SALIENCE, budget=budget, **options)
    assert (chosen.k, chosen.requested, chosen.mask.flat) == (k, budget, heads)
    assert chosen.rescued == rescued


SHAPES = st.tuples(st.integers(1, 5), st.integers(2, 6)).filter(lambda shape: shape[0] * shape[1] > 2)


def saliences(shape: tuple[int, int], seed: int, ties: bool) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 3, shape).astype(np.float64) if ties else rng.random(shape)


def floors(layers: int, heads: int) -> st.SearchStrategy[Minimum]:
    """One minimum for all layers, or one for each."""
    one = st.integers(0, heads)
    return one | st.lists(one, min_size=layers, max_size=layers).map(np.array)


@given(SHAPES, st.integers(0, 1000), st.booleans(), st.sampled_from(["salience", "medoid"]), st.data())
def test_every_budget_is_spent_exactly_with_as_many_clusters_as_fit(
    shape: tuple[int, int], seed: int, ties: bool, representative: Representative, data: st.DataObject
) -> None:
    layers, heads = shape
    floor = data.draw(floors(layers, heads))
    found = clusterings(layers * heads, seed)
    salience = saliences(shape, seed, ties)
    budgets = BudgetRules(layers, heads, floor).possible
    rows = table(found, salience, budgets=budgets, min_per_layer=floor, representative=representative)
    for budget, chosen in zip(budgets, rows, strict=True):
        assert chosen.mask.count == chosen.requested == budget
        assert (chosen.mask.keep.sum(axis=1) >= floor).all()
        fitting = [0]
        for k in range(2, min(budget, layers * heads - 1) + 1):
            stand = representatives(*found.at(k), Ranking.of(salience), representative)
            per_layer = np.bincount(np.array(stand) // heads, minlength=layers)
            if np.maximum(per_layer, floor).sum() <= budget:
                fitting.append(k)
        assert (chosen.k or 0) == max(fitting)
        if chosen.k is not None:
            stand = representatives(*found.at(chosen.k), Ranking.of(salience), representative)
            assert {*stand, *chosen.rescued} <= set(chosen.mask.flat)


@given(SHAPES, st.integers(0, 1000), st.booleans(), st.data())
def test_no_other_mask_scores_higher(shape: tuple[int, int], seed: int, ties: bool, data: st.DataObject) -> None:
    layers, heads = shape
    floor = data.draw(floors(layers, heads))
    budget = data.draw(st.sampled_from(BudgetRules(layers, heads, floor).possible))
    scores = saliences(shape, seed, ties)
    keep = top(scores, budget=budget, min_per_layer=floor).mask.keep
    assert keep.sum() == budget
    assert (keep.sum(axis=1) >= floor).all()
    # No swap of a kept head for a removed one raises the score, unless it empties a layer below its floor.
    spare = keep.sum(axis=1) > floor
    for gone in np.argwhere(keep):
        for come in np.argwhere(~keep):
            if gone[0] == come[0] or spare[gone[0]]:
                assert scores[tuple(come)] <= scores[tuple(gone)]
