"""Tasks, the one interface to what a model predicts: the classes of texts, or the next token of windows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from cahp.tasks.answers import Evaluation, TokenEvaluation, Window, name_units
from cahp.values import Ints

if TYPE_CHECKING:
    from cahp.tasks.answers import Evaluation, Window
    from cahp.tasks.texts import Texts
    from cahp.values import Ints


#: The heads that make answers of a network's hidden states.
Head = Literal["classification", "causal", "masked"]


@dataclass(frozen=True)
class TaskWords:
    """How screens, reports and the terminal speak of a task.

    A model reads ``items`` one at a time (``measured`` where they are counted for the first time), and it predicts one
    ``answer`` after the other, in ``place`` after place; all of them are its ``answers``. Heads of a cluster have their
    ``likeness`` in common. ``own_text`` invites a person to try a text, ``raise_number`` is the advice where there are
    too few calibration items, and ``without_labels`` explains what is measured of data without labels.
    """

    item: str
    items: str
    measured: str
    answer: str
    answers: str
    place: str
    likeness: str
    own_text: str
    raise_number: str
    without_labels: str


class Task(ABC):
    """What a model predicts of each item, and what follows from that.

    A task says what an item is and how items are counted, how answers are read from what a model returns, what serves
    as a label, and what it is called. Nothing else asks which kind of model it has.
    """

    #: Its name in files and keys.
    name: ClassVar[str]
    words: ClassVar[TaskWords]
    #: Whether it predicts the labels of the data, so that these are needed for accuracy and for methods that learn.
    predicts_labels: ClassVar[bool]
    #: Whether an item holds many predictions: each then takes as long as a batch of items with one.
    predicts_often: ClassVar[bool]
    #: Whether answers are compared with the full model's while they are read, because they are too large to be kept.
    compares_while_reading: ClassVar[bool]
    #: Whether an item is a whole text of the data, which a person may choose to share in a report.
    items_are_texts: ClassVar[bool]
    #: The head of the networks that it measures, where no prompt asks for another one.
    head: ClassVar[Head]
    #: How far after the place of a prediction the predicted token stands.
    ahead: ClassVar[int]
    #: Passes over the calibration texts that choosing heads takes, about: of salience, partly with gradients, and of
    #: attention maps.
    choosing_passes: ClassVar[float]
    #: The learning rate of a distillation, higher than that of fine-tuning since the teacher's scores carry more
    #: information than labels, and the items of a batch.
    distill_rate: ClassVar[float]
    distill_batch: ClassVar[int]
    #: Bump to invalidate the cached evaluations of the task.
    revision: ClassVar[int]

    def __repr__(self) -> str:
        return self.name

    # Items ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def list_rows(self, texts: Texts) -> list[int]:
        """Return the rows of the data's own items: all but those that the task adds to measure something."""

    @abstractmethod
    def count_tokens(self, texts: Texts) -> float:
        """Return the number of tokens that a model reads, or an estimate where the items are not tokenized yet."""

    @abstractmethod
    def count_passes(self, texts: Texts) -> float:
        """Return the forward passes of one item that the evaluation of ``texts`` takes."""

    @abstractmethod
    def get_text(self, item: str | Window) -> str:
        """Return the text of an item, for people."""

    @abstractmethod
    def list_parts(self, texts: Texts) -> list[bytes]:
        """Return what a digest of ``texts`` needs beside their text: all else that measurements depend on."""

    @abstractmethod
    def group_documents(self, texts: Texts) -> NDArray[Any] | None:
        """Return the document of each item ``(n,)``, numbered from 0 (None: each item is one)."""

    @abstractmethod
    def name_units(self, texts: Texts) -> str:
        """Return what outcomes are means over, with an interval over these, in the plural."""

    @abstractmethod
    def halve(self, texts: Texts) -> tuple[Ints, Ints]:
        """Split the rows of ``texts`` in two halves that have no document, and as few surprises, in common."""

    def describe_count(self, count: int) -> str:
        """Return a number of items in words: ``311 texts``, ``16 windows of tokens``."""
        return f"{count:,} {self.words.measured}"

    # Labels and answers --------------------------------------------------------------------------------------

    @abstractmethod
    def label(self, texts: Texts, predict: Callable[[], Ints]) -> Ints:
        """Return the classes ``(n,)`` that stand for missing labels; ``predict`` returns the full model's classes."""

    @abstractmethod
    def read_answers(self, scores: NDArray[Any], texts: Texts) -> Evaluation:
        """Make the evaluation of ``texts`` of what a model's reader returned for each of them."""

    @abstractmethod
    def get_answer_shape(self, texts: Texts) -> tuple[int, ...]:
        """Return the shape of a model's answer to one of ``texts``."""

    @abstractmethod
    def choose_salience(self, wanted: Literal["batch", "example"]) -> Literal["batch", "example"]:
        """Return over what salience takes means of gradients: the mean over a batch of one item is that of the item."""


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
    distill_rate = 1e-4
    distill_batch = 64
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
    distill_rate = 2e-4
    # A window has a prediction per token, so that few windows are enough for a batch.
    distill_batch = 8
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
