"""Prediction of the next token at each token of a window of text, by a causal language model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cahp.tasks.answers import Evaluation, TokenEvaluation
from cahp.tasks.task import Task, TaskWords
from cahp.tasks.window import Window, name_units
from cahp.values import Ints

if TYPE_CHECKING:
    from cahp.tasks.texts import Texts


class NextToken(Task):
    """An item is a window of tokens, and a model predicts the token after each of them. No label is read."""

    name = "next token"
    words = TaskWords(
        item="window",
        items="windows",
        measured="windows of tokens",
        answer="next token",
        answers="next words",
        place="token",
        likeness="attend in a similar way",
        own_text="Continue your own text",
        raise_number="raise --tokens or lower --window",
        without_labels="labels are not read",
    )
    predicts_labels = False
    predicts_often = True
    compares_while_reading = True
    items_are_texts = False
    head = "causal"
    ahead = 1
    choosing_passes = 2.5
    revision = 6

    def list_rows(self, texts: Texts) -> list[int]:
        """Return the rows of windows of text, without those of repeated random tokens."""
        return [row for row, window in enumerate(texts.windows) if not window.copying]

    def count_tokens(self, texts: Texts) -> float:
        """Return the number of tokens that are read: the last of a window is only predicted."""
        return float(sum(len(window.inputs) for window in texts.windows))

    def count_passes(self, texts: Texts) -> float:
        """Return the passes of a whole window: those of repeated tokens are shorter."""
        windows = texts.windows
        longest = max(len(windows[row].ids) for row in self.list_rows(texts))
        return sum(len(window.ids) for window in windows) / longest

    def get_text(self, item: str | Window) -> str:
        """Return the text of a window."""
        assert isinstance(item, Window)
        return item.text

    def list_parts(self, texts: Texts) -> list[bytes]:
        """Return the tokens of each window, their documents and sizes: one text may be cut in several ways."""
        parts: list[bytes] = []
        for window in texts.windows:
            parts += window.parts
        return parts

    def group_documents(self, texts: Texts) -> NDArray[np.int64]:
        """Return for each window the document of most of its tokens."""
        documents = [np.bincount(window.units).argmax() for window in texts.windows]
        return np.unique(documents, return_inverse=True)[1].astype(np.int64)

    def name_units(self, texts: Texts) -> str:
        """Return documents, or windows where these are too few."""
        windows = texts.take(texts.text_rows).windows
        documents = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *(window.units for window in windows)]))
        return name_units(len(documents))

    def halve(self, texts: Texts) -> tuple[Ints, Ints]:
        """Return the first and the last windows: those beside each other are often of one document.

        Those of repeated tokens come last.
        """
        first, last = np.split(np.arange(len(texts)), [texts.count // 2])
        return first, last

    def label(self, texts: Texts, predict: Callable[[], Ints]) -> Ints:
        """Return one class for all windows."""
        return np.zeros(len(texts), dtype=np.int64)

    def read_answers(self, scores: NDArray[Any], texts: Texts) -> Evaluation:
        """Read what is kept of the prediction at each token, ``(n, tokens, 3)``."""
        return TokenEvaluation(scores, texts.labels, texts.classes, texts.windows)

    def get_answer_shape(self, texts: Texts) -> tuple[int, ...]:
        """Return the tokens of the longest window, and the numbers that are kept of each."""
        return max(window.scored for window in texts.windows), 3

    def choose_salience(self, wanted: Literal["batch", "example"]) -> Literal["batch", "example"]:
        """Return ``example``: a window has the tokens of a whole batch of texts."""
        return "example"


NEXT_TOKEN = NextToken()
