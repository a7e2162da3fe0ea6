"""What the tasks say of their items, and that a task of one's own is asked everywhere."""

from __future__ import annotations

import fakes
import numpy as np
import pytest

from cahp.tasks import CLASSIFICATION, NEXT_TOKEN
from cahp.tasks.answers import NO_LABEL, Source, Window
from cahp.tasks.texts import Texts


def window(tokens: int, document: int = 0, *, source: Source = "text") -> Window:
    """A window of so many tokens of a document, of which all but the first are scored."""
    scored = tokens - 1
    return Window("some words", np.arange(tokens), np.full(scored, document), np.ones(scored), source)


def windows(*items: Window) -> Texts:
    return Texts(items, None, np.full(len(items), NO_LABEL, dtype=np.int64), ("all texts",), NEXT_TOKEN)


def test_windows_of_repeated_tokens_are_no_items_of_the_data() -> None:
    texts = windows(window(5), window(5, 1), window(9, source="random"))
    assert texts.text_rows == [0, 1]
    assert (texts.count, texts.measured) == (2, "2 windows of tokens")
    assert (fakes.sentences(3).count, fakes.sentences(3).measured) == (3, "3 texts")


def test_halves_have_no_document_and_the_same_share_of_classes() -> None:
    first, last = NEXT_TOKEN.halve(windows(window(3), window(3, 1), window(3, 2), window(3, 3)))
    assert (first.tolist(), last.tolist()) == ([0, 1], [2, 3])
    labelled = Texts(("a", "b", "c", "d"), None, np.array([0, 0, 1, 1]), ("bad", "good"))
    assert [half.tolist() for half in CLASSIFICATION.halve(labelled)] == [[0, 2], [1, 3]]


def test_intervals_are_over_windows_where_documents_are_few() -> None:
    few = windows(*(window(3, number % 7) for number in range(12)), window(3, 7, source="random"))
    many = windows(*(window(3, number % 8) for number in range(12)))
    scores = np.zeros((13, 2, 3), dtype=np.float32)
    counted = [len(np.unique(texts.task.read_answers(scores[: len(texts)], texts).units)) for texts in (few, many)]
    assert [(few.units, counted[0]), (many.units, counted[1])] == [("windows", 12), ("documents", 8)]
    assert fakes.sentences(3).units == "texts"


def test_labels_that_are_missing_are_predicted_or_all_the_same() -> None:
    predicted = np.array([1, 0])
    assert CLASSIFICATION.label(fakes.sentences(2), lambda: predicted) is predicted
    assert NEXT_TOKEN.label(windows(window(3), window(3)), lambda: pytest.fail("predicted")).tolist() == [0, 0]
