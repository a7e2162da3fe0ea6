"""Tasks, the one interface to what a model predicts: the classes of texts, or the next token of windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from cahp.tasks.answers import Evaluation, TokenEvaluation, name_units
from cahp.values import Array, Ints, Names

if TYPE_CHECKING:
    from cahp.tasks.texts import Texts


#: The heads that make answers of a network's hidden states.
Head = Literal["classification", "causal", "masked"]
#: Tokens of a word of English, and special tokens of a text, on average.
_TOKENS_PER_WORD = 1.3
_SPECIAL_TOKENS = 4


@dataclass(frozen=True)
class TaskWords:
    """How screens, reports and the terminal speak of a task.

    A model reads ``items`` one at a time (``measured`` where they are counted for the first time), and it predicts one
    ``answer`` after the other, in ``place`` after place; all of them are its ``answers``. Heads of a cluster have their
    ``likeness`` in common. ``own_text`` invites a person to try a text, ``raise_number`` is the advice where there are
    too few calibration items, and ``without_labels`` explains what is measured of data without labels. ``headlines``
    say what kept heads do, by the least agreement with the full model's predictions.
    """

    items: str
    measured: str
    answer: str
    answers: str
    place: str
    likeness: str
    own_text: str
    raise_number: str
    without_labels: str
    headlines: tuple[tuple[float, str], ...]


class Task:
    """What a model predicts of each item, and what follows from that: here the class of a text or a pair of texts.

    A task says what an item is and how items are counted, how answers are read from what a model returns, what serves
    as a label, and what it is called. Nothing else asks which kind of model it has.
    """

    #: Its name in files and keys.
    name = "classification"
    words = TaskWords(
        items="texts",
        measured="texts",
        answer="class",
        answers="answers",
        place="text",
        likeness="separate the classes in a similar way",
        own_text="Your own text",
        raise_number="raise --limit",
        without_labels="the model's own predictions serve as classes, and accuracy is not measured",
        headlines=(
            (0.995, "do all the work"),
            (0.95, "do almost all the work"),
            (0.9, "do most of the work"),
            (0.0, "are too few"),
        ),
    )
    #: Whether it predicts the labels of the data, so that these are needed for accuracy and for methods that learn.
    predicts_labels = True
    #: Whether an item holds many predictions: each then takes as long as a batch of items with one. Answers are then
    #: compared with the full model's while they are read, because they are too large to be kept.
    predicts_often = False
    #: Whether an item is a whole text of the data, which a person may choose to share in a report.
    items_are_texts = True
    #: Columns of a table of items that are in no file: a part of a document stays in the session.
    unshared: Names = ()
    #: The settings that size its samples, and the characters of a text that are an example for a person to try.
    sizes: Names = ("limit", "eval_limit", "max_length")
    example_length: int | None = None
    #: The measures that a run takes of every model of this task.
    measures: Names = ()
    #: The head of the networks that it measures, where no prompt asks for another one.
    head: Head = "classification"
    #: How far after the place of a prediction the predicted token stands.
    ahead = 0
    #: Passes over the calibration texts that choosing heads takes, about: of salience, partly with gradients, and of
    #: attention maps.
    choosing_passes = 1.3
    #: Tokens of the calibration and of the evaluation items of the default run, about, and its calibration items.
    default_run = (64_000, 32_000, 2000)
    #: The learning rate of a distillation, higher than that of fine-tuning since the teacher's scores carry more
    #: information than labels, and the items of a batch.
    distill_rate = 1e-4
    distill_batch = 64
    #: Items in a batch of the published salience; one of many predictions has the tokens of a whole batch.
    batch = 32
    #: Items on which a masked model is compared with the cut one, and of a trial of swapped heads at most: those that
    #: are refitted on, and those that are compared.
    compared = 8
    trial = (128, 256)
    #: Items from which functions that stand in for a head are learned at most, and on which each head is removed.
    probed = (2048, 256)
    #: Tokens of a batch whose answers are waited for on a processor (None: the usual number).
    first_tokens: int | None = None
    #: The preset from which a comparison of methods starts, and the items on which it removes heads one by one.
    preset = "quick"
    critical = 1 << 30
    #: Bump to invalidate the cached evaluations of the task.
    revision = 3

    def __repr__(self) -> str:
        return self.name

    # Items ---------------------------------------------------------------------------------------------------

    def list_rows(self, texts: Texts) -> list[int]:
        """Return the rows of the data's own items: all but those that the task adds to measure something."""
        return list(range(len(texts)))

    def count_tokens(self, texts: Texts) -> float:
        """Return the number of tokens that a model reads, or an estimate where the items are not tokenized yet."""
        words = sum(len(str(text).split()) for text in texts.first)
        return _TOKENS_PER_WORD * words + _SPECIAL_TOKENS * len(texts)

    def count_passes(self, texts: Texts) -> float:
        """Return the forward passes of one item that the evaluation of ``texts`` takes."""
        return float(len(texts))

    def count_bytes(self, texts: Texts) -> int:
        """Return the bytes of what a model predicts of ``texts``: a class of each."""
        return 2 * len(texts)

    def group_documents(self, texts: Texts) -> Ints | None:
        """Return the document of each item ``(n,)``, numbered from 0 (None: each item is one)."""
        return None

    def name_units(self, texts: Texts) -> str:
        """Return what outcomes are means over, with an interval over these, in the plural."""
        return "texts"

    def halve(self, texts: Texts) -> tuple[Ints, Ints]:
        """Split the rows of ``texts`` in two halves that have no document, and as few surprises, in common."""
        # Every other row of each class: every other row of all could separate the classes.
        by_class = np.argsort(texts.labels, kind="stable")
        return np.sort(by_class[0::2]), np.sort(by_class[1::2])

    def grow(self, tokens: float) -> float:
        """Return how many times the items that choose the heads recoveries read, from the ratio of their tokens."""
        return 1.0

    # Labels and answers --------------------------------------------------------------------------------------

    def label(self, texts: Texts, predict: Callable[[], Ints]) -> Ints:
        """Return the classes ``(n,)`` that stand for missing labels; ``predict`` returns the full model's classes."""
        return predict()

    def read_answers(self, scores: Array, texts: Texts) -> Evaluation:
        """Make the evaluation of ``texts`` of what a model's reader returned for each of them."""
        return Evaluation(scores, texts.labels, texts.classes)

    def get_answer_shape(self, texts: Texts) -> tuple[int, ...]:
        """Return the shape of a model's answer to one of ``texts``."""
        return (len(texts.classes),)


CLASSIFICATION = Task()


class NextToken(Task):
    """An item is a window of tokens, and a model predicts the token after each of them. No label is read."""

    name = "next token"
    words = TaskWords(
        items="windows",
        measured="windows of tokens",
        answer="next token",
        answers="next words",
        place="token",
        likeness="attend in a similar way",
        own_text="Continue your own text",
        raise_number="raise --tokens or lower --window",
        without_labels="labels are not read",
        # A model often has several next words that are nearly as probable.
        headlines=(
            (0.995, "keep all next words"),
            (0.9, "keep almost all next words"),
            (0.7, "keep most next words"),
            (0.5, "keep more than half of the next words"),
            (0.0, "are too few"),
        ),
    )
    predicts_labels = False
    predicts_often = True
    items_are_texts = False
    unshared = ("text",)
    measures = ("abilities", "continuation")
    sizes = ("tokens", "eval_tokens")
    # A model continues the beginning.
    example_length = 160
    head = "causal"
    ahead = 1
    choosing_passes = 2.5
    default_run = (8192, 4608, 32)
    # A step learns from thousands of tokens, and the refit that it begins with must not be lost.
    distill_rate = 5e-5
    # A window has a prediction per token, so that few windows are enough for a batch.
    distill_batch = 8
    batch = 1
    compared = 1
    trial = (8, 8)
    probed = (64, 4)
    first_tokens = 256
    preset = "language"
    critical = 8
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

    def count_bytes(self, texts: Texts) -> int:
        """Return the bytes of a token of the vocabulary at each token."""
        return 4 * round(self.count_tokens(texts))

    def group_documents(self, texts: Texts) -> Ints:
        """Return for each window the document of most of its tokens."""
        documents = [np.bincount(window.units).argmax() for window in texts.windows]
        return np.unique(documents, return_inverse=True)[1].astype(np.int64)

    def name_units(self, texts: Texts) -> str:
        """Return documents, or windows where these are too few."""
        windows = texts.take(texts.text_rows).windows
        documents = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *(window.units for window in windows)]))
        return name_units(len(documents))

    def halve(self, texts: Texts) -> tuple[Ints, Ints]:
        """Return the first and the last windows: those beside each other are often of one document."""
        # Those of repeated tokens come last.
        first, last = np.split(np.arange(len(texts)), [texts.count // 2])
        return first, last

    def grow(self, tokens: float) -> float:
        """Return the ratio of their tokens: windows are equally long."""
        return tokens

    def label(self, texts: Texts, predict: Callable[[], Ints]) -> Ints:
        """Return one class for all windows."""
        return np.zeros(len(texts), dtype=np.int64)

    def read_answers(self, scores: Array, texts: Texts) -> Evaluation:
        """Read what is kept of the prediction at each token, ``(n, tokens, 3)``."""
        return TokenEvaluation(scores, texts.labels, texts.classes, texts.windows)

    def get_answer_shape(self, texts: Texts) -> tuple[int, ...]:
        """Return the tokens of the longest window, and the numbers that are kept of each."""
        return max(window.scored for window in texts.windows), 3


NEXT_TOKEN = NextToken()
