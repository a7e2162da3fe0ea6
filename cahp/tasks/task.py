"""What a task is: the one interface through which everything else learns what a model predicts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from numpy.typing import NDArray

if TYPE_CHECKING:
    from cahp.tasks.answers import Evaluation
    from cahp.tasks.texts import Texts
    from cahp.tasks.window import Window
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
