import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cahp.tasks.texts import Texts
from cahp.values import Estimate, HeadMask, MaskError, digest
from cahp.values.statistics import Signatures


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


def test_a_mask_copies_its_array_so_neither_changes_with_the_other() -> None:
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
