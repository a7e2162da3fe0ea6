"""The abilities of a classifier: which texts each row has, what counts as right there, and what is chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cahp.features.abilities import classifying
from cahp.features.abilities.classifying import (
    _Rows,
    count_words,
    find_negations,
    measure_classifier,
    mistype,
    mistype_text,
    read_neutral,
)
from cahp.features.abilities.record import ItemValues, compare_disagreement, decide, find_word
from cahp.run.bench import Bench
from cahp.tasks.answers import NO_LABEL, Evaluation
from cahp.tasks.texts import Texts
from cahp.values import HeadMask

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = ("bad", "good")


def make_texts(first: list[str], labels: list[int], second: list[str] | None = None) -> Texts:
    pairs = None
    if second is not None:
        pairs = tuple(second)
    return Texts(tuple(first), pairs, np.array(labels, dtype=np.int64), CLASSES)


def answer(texts: Texts, predicted: list[int]) -> Evaluation:
    return Evaluation(np.eye(2, dtype=np.float32)[predicted], texts.labels, CLASSES)


def test_right_is_the_label_and_chance_how_often_the_full_model_predicts_it() -> None:
    texts = make_texts(["a"] * 20, [0] * 12 + [1] * 8)
    # The full model is right everywhere but in the last text, and so predicts the first class in 13 of 20.
    answers = _Rows(texts, {"full": answer(texts, [0] * 12 + [1] * 7 + [0]), "pruned": answer(texts, [0] * 20)})
    row = answers.make("recall_1", "class good", np.flatnonzero(texts.labels == 1))
    assert row.values["full"].tolist() == [1] * 7 + [0]
    assert row.values["pruned"].tolist() == [0] * 8
    assert row.chance == pytest.approx([7 / 20] * 8)
    assert not row.by_definition


def test_without_labels_right_is_what_the_full_model_predicts() -> None:
    texts = make_texts(["a"] * 20, [NO_LABEL] * 20)
    answers = _Rows(texts, {"full": answer(texts, [0] * 15 + [1] * 5), "pruned": answer(texts, [0] * 20)})
    row = answers.make("neutral", "texts of another kind")
    assert row.values["full"].tolist() == [1] * 20
    assert row.values["pruned"].tolist() == [1] * 15 + [0] * 5
    # A model with these frequencies agrees by chance in 0.75 x 0.75 + 0.25 x 0.25 of the texts.
    assert np.mean(row.chance) == pytest.approx(0.625)
    (ability,) = decide([row])
    # A third of the lead is left over: (0.75 - 0.625) / (1 - 0.625).
    assert ability.word_of("pruned") == "lost"


def test_agreement_is_worse_only_beyond_the_margin() -> None:
    # At least 3 of 3 disagree at a rate of 0.1 with a probability of 0.001.
    assert compare_disagreement(3, 3, 0.1) == pytest.approx(0.002)
    assert compare_disagreement(0, 10, 0.1) == 1
    values = {"full": np.ones(100), "pruned": np.repeat([0.0, 1.0], [9, 91])}
    row = ItemValues("neutral", "texts of another kind", values=values, by_definition=True)
    accuracy = replace(row, by_definition=False)
    assert [decide([one])[0].word_of("pruned") for one in (row, accuracy)] == ["not significant", "weaker"]


def test_few_equal_answers_do_not_prove_that_an_ability_is_kept() -> None:
    # With one change each way the limit is -1.86 * 0.5 / 3 = -0.31 of 7 + 2 items, and -1.65 * 0.1 / 14.2 of 200 + 2.
    assert find_word(np.zeros(7), 1.0, 1.0, shares=True) == "not significant"
    assert find_word(np.zeros(200), 1.0, 1.0, shares=True) == "kept"


def test_lengths_are_quartiles_and_equal_texts_stay_together() -> None:
    texts = make_texts(["a " * count for count in (1, 1, 1, 2, 3, 4, 5, 9)], [0] * 8)
    assert count_words(texts).tolist() == [1, 1, 1, 2, 3, 4, 5, 9]
    rows = list(classifying._list_lengths(_Rows(texts, {"full": answer(texts, [0] * 8)}), texts))
    assert [row.label for row in rows] == [
        "1 words",
        "2 words",
        "3 to 4 words",
        "5 to 9 words",
    ]
    assert [row.n for row in rows] == [3, 1, 2, 2]


def test_rare_classes_share_a_row() -> None:
    classes = tuple(f"c{place}" for place in range(12))
    labels = np.repeat(np.arange(12), [3, 1, *[3] * 9, 2])
    texts = Texts(("a",) * len(labels), None, labels.astype(np.int64), classes)
    full = Evaluation(np.eye(12, dtype=np.float32)[labels], texts.labels, classes)
    rows = list(classifying._list_classes(_Rows(texts, {"full": full}), classes))
    assert [row.n for row in rows] == [3] * 10 + [3]
    assert rows[-1].label == "the 2 rarer classes"


@pytest.mark.parametrize(
    ("text", "negates"),
    [
        ("It is not good", True),
        ("I didn\N{RIGHT SINGLE QUOTATION MARK}t", True),
        ("DON'T", True),
        ("Nothing", True),
        ("a notable knot", False),
        ("isnt", False),
    ],
)
def test_negations_are_found_as_words(text: str, negates: bool) -> None:
    assert find_negations(make_texts([text], [0])).tolist() == [0] * negates
    assert find_negations(make_texts(["x"], [0], [text])).tolist() == [0] * negates


def test_one_word_of_eight_is_mistyped_within_its_letters() -> None:
    text = " ".join(["abcdefgh"] * 16)
    typed = mistype_text(text, 1)
    changed = [word for word in typed.split() if word != "abcdefgh"]
    assert len(changed) == 2
    for word in changed:
        swapped = sorted(word) == sorted("abcdefgh")
        left_out = len(word) == 7
        twice = len(word) == 9 and len(set(word)) == 8
        assert word[0] == "a"
        assert swapped or left_out or twice


def test_typing_errors_depend_on_seed_and_text_alone() -> None:
    texts = make_texts(["several words of this text", "another sentence"], [0, 1], ["a", "something else entirely"])
    typed = mistype(texts, 7)
    assert typed.take([1]).inputs == mistype(texts.take([1]), 7).inputs
    assert typed.inputs != mistype(texts, 8).inputs
    assert typed.second is not None
    assert typed.second[0] == "a"
    assert typed.labels.tolist() == [0, 1]


def test_a_receipt_of_the_full_model_under_a_full_mask_flags_nothing(small_bench: Bench) -> None:
    record = measure_classifier(small_bench, HeadMask.full(small_bench.card.layers, small_bench.card.heads), None)
    assert record.complete
    assert not {"lost", "weaker"} & set(record.by_word("pruned"))
    names = [row.name for row in record.rows]
    assert names[:2] == ["recall_0", "recall_1"]
    assert names[-3:] == ["negation", "typing_errors", "neutral"]
    neutral = record.rows[-1]
    assert neutral.n == 60
    assert {row.label for row in record.rows[:2]} == {f"class {name}" for name in small_bench.class_names}


def test_neutral_texts_have_no_labels_and_of_pairs_two_halves(small_bench: Bench) -> None:
    alone = read_neutral(small_bench)
    assert not alone.labelled
    own = small_bench.evaluation
    paired = replace(small_bench, evaluation=replace(own, second=tuple(own.plain_texts)))
    halves = read_neutral(paired)
    assert halves.second is not None
    assert f"{halves.plain_texts[0]} {halves.second[0]}" == alone.plain_texts[0]
