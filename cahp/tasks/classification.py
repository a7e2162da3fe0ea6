"""Classification of texts, or of pairs of texts, by a trained head or by the answers to a prompt."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cahp.tasks.answers import Evaluation
from cahp.tasks.task import Task, TaskWords
from cahp.tasks.window import Window
from cahp.values import Ints

if TYPE_CHECKING:
    from cahp.tasks.texts import Texts

#: Tokens of a word of English, and special tokens of a text, on average.
_TOKENS_PER_WORD = 1.3
_SPECIAL_TOKENS = 4


class Classification(Task):
    """An item is a text or a pair of texts, and a model predicts its class."""

    name = "classification"
    words = TaskWords(
        item="text",
        items="texts",
        measured="texts",
        answer="class",
        answers="answers",
        place="text",
        likeness="separate the classes in a similar way",
        own_text="Your own text",
        raise_number="raise --limit",
        without_labels="the model's own predictions serve as classes, and accuracy is not measured",
    )
    predicts_labels = True
    predicts_often = False
    compares_while_reading = False
    items_are_texts = True
    head = "classification"
    ahead = 0
    choosing_passes = 1.3
    revision = 3

    def list_rows(self, texts: Texts) -> list[int]:
        """Return all rows."""
        return list(range(len(texts)))

    def count_tokens(self, texts: Texts) -> float:
        """Estimate the tokens by the words of the texts."""
        words = sum(len(str(text).split()) for text in texts.first)
        return _TOKENS_PER_WORD * words + _SPECIAL_TOKENS * len(texts)

    def count_passes(self, texts: Texts) -> float:
        """Return one pass per text."""
        return float(len(texts))

    def get_text(self, item: str | Window) -> str:
        """Return the text itself."""
        return str(item)

    def list_parts(self, texts: Texts) -> list[bytes]:
        """Return nothing: measurements depend on the texts alone."""
        return []

    def group_documents(self, texts: Texts) -> NDArray[np.int64] | None:
        """Return None: each text is a document."""
        return None

    def name_units(self, texts: Texts) -> str:
        """Return texts: each has one answer."""
        return "texts"

    def halve(self, texts: Texts) -> tuple[Ints, Ints]:
        """Return every other row of each class: every other row of all could separate the classes."""
        by_class = np.argsort(texts.labels, kind="stable")
        return np.sort(by_class[0::2]), np.sort(by_class[1::2])

    def label(self, texts: Texts, predict: Callable[[], Ints]) -> Ints:
        """Return the classes that the full model predicts."""
        return predict()

    def read_answers(self, scores: NDArray[Any], texts: Texts) -> Evaluation:
        """Read class scores ``(n, C)``."""
        return Evaluation(scores, texts.labels, texts.classes)

    def get_answer_shape(self, texts: Texts) -> tuple[int, ...]:
        """Return the number of classes."""
        return (len(texts.classes),)

    def choose_salience(self, wanted: Literal["batch", "example"]) -> Literal["batch", "example"]:
        """Return what is wanted."""
        return wanted


CLASSIFICATION = Classification()
