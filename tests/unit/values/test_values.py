import hashlib
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from cahp.tasks.texts import Texts
from cahp.values import Estimate, HeadMask, MaskError, digest
from cahp.values.head_roles import NO_ROLE, ROLES, HeadRoles, RoleScores, find_targets, score_sequence, summarise
from cahp.values.statistics import Signatures, expected_jaccard, expected_overlap, overlaps


def statistics(values: np.ndarray, labels: np.ndarray, classes: int) -> Signatures:
    """Signatures of ``values (examples, heads, cells)`` by definition."""
    heads, cells = values.shape[1:]
    counts = np.bincount(labels, minlength=classes).astype(np.int64)
    mean, m2 = np.zeros((2, heads, classes, cells))
    for label in range(classes):
        if counts[label]:
            of_class = values[labels == label]
            mean[:, label] = of_class.mean(0)
            m2[:, label] = ((of_class - of_class.mean(0)) ** 2).sum(0)
    return Signatures(counts, mean, m2, heads, 1)


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 2**16))
def test_two_halves_merge_to_the_whole(left: int, right: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    values, labels = random.random((left + right, 2, 4)), random.integers(0, 3, left + right)
    whole = statistics(values, labels, 3)
    merged = statistics(values[:left], labels[:left], 3).merge(statistics(values[left:], labels[left:], 3))
    assert np.array_equal(merged.counts, whole.counts)
    assert np.allclose(merged.mean, whole.mean, atol=1e-12)
    assert np.allclose(merged.m2, whole.m2, atol=1e-12)


def test_variance_divides_by_one_less_and_is_tiny_for_a_single_example() -> None:
    values = np.array([[[1.0]], [[3.0]], [[5.0]]])
    found = statistics(values, np.array([0, 0, 1]), 2)
    assert found.variance[0, 0, 0] == 2.0
    assert found.variance[0, 1, 0] == 1e-6


def test_a_mask_s_digest_is_of_one_byte_a_head_row_by_row() -> None:
    mask = HeadMask(np.array([[True, False], [False, True]]))
    assert mask.sha256 == hashlib.sha256(bytes([1, 0, 0, 1])).hexdigest()
    assert (mask.count, mask.flat, mask.by_layer, mask.empty_layers) == (2, [0, 3], [[0], [1]], ())
    assert mask.counts == (1, 1)
    # A mask copies its array, so neither changes with the other.
    base = np.zeros((4, 2), dtype=np.bool_)
    base[0, 0] = True
    mask = HeadMask(base[:2])
    before = mask.sha256
    base[:] = True
    assert (mask.count, mask.sha256) == (1, before)
    assert HeadMask(mask.keep).sha256 == before


@pytest.mark.parametrize("keep", [np.ones(4, dtype=bool), np.full((2, 2), 0.5), np.ones((0, 2), dtype=bool)])
def test_a_mask_of_another_shape_or_with_other_values_is_refused(keep: np.ndarray) -> None:
    with pytest.raises(MaskError, match="layers, heads"):
        HeadMask(keep)


def test_texts_digest_texts_pairs_labels_and_names() -> None:
    labels = np.array([0, 1], dtype=np.int64)
    base = Texts(("a", "b"), None, labels, ("x", "y"))
    others = [
        Texts(("a", "c"), None, labels, ("x", "y")),
        Texts(("a", "b"), ("a", "b"), labels, ("x", "y")),
        Texts(("a", "b"), None, labels[::-1].copy(), ("x", "y")),
        Texts(("a", "b"), None, labels, ("y", "x")),
    ]
    assert len({base.sha256, *(other.sha256 for other in others)}) == 5
    assert digest("ab", "c") != digest("a", "bc")
    assert others[1].take([1, 0]).inputs == [("b", "b"), ("a", "a")]


def test_a_difference_is_measurable_only_if_the_interval_excludes_it() -> None:
    assert Estimate(0.8, (0.7, 0.9), 40, "ratio").excludes(1)
    assert not Estimate(0.98, (0.9, 1.01), 40, "ratio").excludes(1)
    assert not Estimate(0.9, (0.8, 1.0), 40, "ratio").excludes(1)
    assert not Estimate(-3.0, None, 40, "points").excludes(0)


@pytest.mark.parametrize(
    ("estimate", "text", "interval", "span"),
    [
        (Estimate(0.9488, (0.92, 0.9611), 1200, "share"), "94.9 %", "[92.0, 96.1]", "92.0 to 96.1"),
        (Estimate(-4.1, (-5.6, -2.7), 1200, "points"), "−4.1 points", "[−5.6, −2.7]", "−5.6 to −2.7"),
        (Estimate(0.73, (0.7, 0.755), 1200, "ratio"), "0.73 \u00d7", "[0.70, 0.76]", "0.70 to 0.76"),
        (Estimate(0.1234, None, 1200, "nats"), "0.123", "", ""),
        (Estimate(0.000461, (0.0002, 0.001), 1200, "nats"), "0.00046", "[0.00020, 0.00100]", "0.00020 to 0.00100"),
    ],
)
def test_an_estimate_is_shown_in_its_unit(estimate: Estimate, text: str, interval: str, span: str) -> None:
    assert (estimate.text, estimate.interval, estimate.span) == (text, interval, span)
    assert str(estimate) == " ".join(filter(None, [text, interval])) + ", n = 1,200"


def test_every_pair_of_masks_has_an_overlap() -> None:
    masks = [np.isin(np.arange(6), kept).reshape(2, 3) for kept in ((0, 1), (0, 2), (0, 1))]
    assert overlaps(masks).tolist() == [1 / 3, 1, 1 / 3]
    assert overlaps(np.array(masks)).tolist() == [1 / 3, 1, 1 / 3]
    assert overlaps(masks[:1]).shape == (0,)
    assert overlaps(np.zeros((0, 2, 3), dtype=np.bool_)).shape == (0,)
    # Chance for several masks is the mean over their pairs of sizes.
    # Two of four heads: all shared 1/6, one shared 4/6 (index 1/3), none 1/6; with all four heads, always 2 of 4.
    assert expected_overlap([2, 2], 4) == pytest.approx(1 / 6 + 4 / 6 / 3)
    assert expected_overlap([2, 2, 4], 4) == pytest.approx((1 / 6 + 4 / 6 / 3 + 0.5 + 0.5) / 3)
    assert math.isnan(expected_overlap([2], 4))


@pytest.mark.parametrize(
    ("first", "second", "total"),
    [
        *((1, 1, 4), (2, 3, 5), (4, 4, 6), (0, 2, 4), (5, 5, 5)),
        *((2, 2, 5), (1, 3, 4), (4, 4, 5), (3, 3, 3), (0, 0, 4)),
    ],
)
def test_by_chance_the_index_is_the_mean_over_all_pairs_of_sets(first: int, second: int, total: int) -> None:
    everything = range(total)
    found = [
        len(set(one) & set(other)) / max(1, len(set(one) | set(other)))
        for one in itertools.combinations(everything, first)
        for other in itertools.combinations(everything, second)
    ]
    assert expected_jaccard(first, second, total) == pytest.approx(np.mean(found))
    assert expected_jaccard(second, first, total) == pytest.approx(np.mean(found))


#: A start token, two words, and both again.
IDS, SPECIAL = np.array([2, 7, 8, 7, 8]), np.array([2])


def test_targets_are_places_and_earlier_copies() -> None:
    found = {name: np.argwhere(targets).tolist() for name, targets in find_targets(IDS, SPECIAL).items()}
    # The first two tokens are no queries.
    assert found["first"] == [[2, 0], [3, 0], [4, 0]]
    assert found["previous"] == [[2, 1], [3, 2], [4, 3]]
    assert found["current"] == [[2, 2], [3, 3], [4, 4]]
    assert found["duplicate"] == [[3, 1], [4, 2]]
    # After the earlier 7 stands 8; after the earlier 8 stands 7.
    assert found["induction"] == [[3, 2], [4, 3]]
    # A score is a mean over queries, and chance that of a random visible token.
    maps = np.tril(np.ones((1, 5, 5)))
    maps /= maps.sum(axis=2, keepdims=True)
    maps[0, 4] = [0, 0, 1, 0, 0]
    targets = find_targets(IDS, SPECIAL)
    (scores,) = score_sequence(maps, [targets["duplicate"], targets["previous"]])
    # The query 3 attends to four tokens alike, and 4, which sees five, only to the copy.
    assert scores[0, :2] == pytest.approx([(1 / 4 + 1) / 2, (1 / 4 + 1 / 5) / 2])
    assert scores[1, 0] == pytest.approx((1 / 3 + 1 / 4 + 0) / 3)
    # Only the draw of query 4 varies: the copy is one of five.
    assert scores[:, 2] == pytest.approx([0.16 / 4, 0.16 / 9])


def test_chance_gives_some_head_a_score_above_its_threshold_in_at_most_one_of_twenty_models() -> None:
    random, heads, sequences, queries, models = np.random.default_rng(0), 30, 8, 20, 200
    target = np.ones((queries, 1), dtype=np.bool_) & (np.arange(24) == 0)
    exceeded = 0
    for _ in range(models):
        # Each query attends to one of 24 tokens, whatever it says.
        where = random.integers(24, size=(sequences, heads, queries))
        scores = np.array([score_sequence(np.eye(24)[one], [target], np.ones((queries, 24), bool)) for one in where])
        one = summarise(scores[:, :, 0], queries, heads)
        exceeded += bool((np.array(one.value) > np.array(one.chance)).any())
    assert exceeded <= 0.05 * models * 1.5


def test_an_interval_is_student_s_over_sequences_and_one_sequence_has_none() -> None:
    scores = np.zeros((4, 1, 4))
    scores[:, 0, 0] = [0.2, 0.4, 0.4, 0.6]
    one = summarise(scores, 10, 1)
    half = 3.1824 * np.std([0.2, 0.4, 0.4, 0.6], ddof=1) / 2
    assert one.estimate(0).ci95 == pytest.approx((0.4 - half, 0.4 + half), abs=1e-4)
    assert summarise(scores[:1], 10, 1).estimate(0).ci95 is None


def test_a_group_is_named_by_its_most_telling_role() -> None:
    def scores(*value: float) -> RoleScores:
        return RoleScores(value, None, None, (0.1,) * 6, 1, 5)

    # Three groups of two query heads: an induction head beside a first-token head; two weak heads; a first-token head.
    found = HeadRoles(
        1, 3, 2, {"induction": scores(0, 0.3, 0, 0.19, 0, 0), "first": scores(0.9, 0, 0, 0.39, 0.4, 0)}, {}, (), ()
    )
    assert found.names == ("induction", NO_ROLE, "first")
    assert found.of_units[:2] == [["induction", "first"], []]
    assert found.counts == {"induction": 1, "first": 1, NO_ROLE: 1}
    assert found.to_json()["names"] == [["induction", "none", "first"]]
    assert found.tell(0) == ("induction", "Copies what came next last time", ROLES["induction"].target, 0.3)
    assert found.tell(1) == (NO_ROLE, "Rests on the first token", "the first token", 0.39)
