"""Windows of tokens, and the answers of a model: class scores of each text, or what it predicts at each token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cahp.values import Array, Bools, Floats, Floats32, Ints, Names

#: Which windows begin with the model's beginning token.
Beginning = Literal["every", "first"]
_BEGINNINGS: Mapping[Beginning, str] = {"every": "every window", "first": "only the first"}
#: What a window holds: text of the data, or a sequence that is read twice: random tokens, or a passage of the text.
Source = Literal["text", "random", "passage"]
_SOURCES: tuple[Source, ...] = ("text", "random", "passage")
#: The shortest distance between a token and its repetition in a calibration mix.
SHORTEST_REPEAT = 16
#: No sequence that is read twice has more than a quarter of their tokens, so that there are several of each kind.
REPEAT_PARTS = 4
#: The fewest tokens of sequences that are read twice: as many of the shortest.
REPEATS_TOKENS = 2 * REPEAT_PARTS * SHORTEST_REPEAT

#: Documents over which intervals are drawn, at least.
_FEWEST_UNITS = 8

_Ints = NDArray[np.integer[Any]]


def name_units(documents: int) -> Literal["documents", "windows"]:
    """What the tokens of so many documents are grouped by for an interval: windows, where documents are too few."""
    if documents < _FEWEST_UNITS:
        return "windows"
    return "documents"


@dataclass(frozen=True, eq=False)
class Window:
    """A window of consecutive tokens, on which a causal language model is measured, and its ``text``.

    ``ids`` are the tokens, the first of which is only context. The last ``scored`` of them are predicted and measured:
    ``units (scored,)`` are the numbers of the documents that hold them, over which intervals are drawn, and
    ``sizes (scored,)`` their lengths in bytes. The second half of a window whose ``source`` is not text repeats the
    first: only that half is measured.
    """

    text: str
    ids: _Ints
    units: _Ints
    sizes: _Ints
    source: Source = "text"

    def __post_init__(self) -> None:
        for name in ("ids", "units", "sizes"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.int64))

    @property
    def copying(self) -> bool:
        """Whether its second half repeats the first."""
        return self.source != "text"

    @property
    def scored(self) -> int:
        """Number of tokens that are predicted and measured, the last ones."""
        return len(self.units)

    @property
    def inputs(self) -> _Ints:
        """The tokens that a model reads: all but the last, which is only predicted."""
        return self.ids[:-1]

    @property
    def targets(self) -> _Ints:
        """The tokens that are predicted and measured ``(scored,)``."""
        return self.ids[-self.scored :]

    @property
    def parts(self) -> tuple[bytes, ...]:
        """Everything that a measurement on it depends on."""
        return self.ids.tobytes(), self.units.tobytes(), self.sizes.tobytes(), bytes([_SOURCES.index(self.source)])


@dataclass(frozen=True)
class WindowProtocol:
    """How a language model is measured, on which its perplexity depends.

    ``window`` and ``stride`` in tokens, and the number of predicted ``tokens`` of ``documents``. The beginning token
    ``bos`` is the first of the tokens that the model reads of the windows ``begins``: of every window, or of the first
    alone, as files say that do not name it.
    """

    window: int
    stride: int
    bos: str
    tokens: int
    documents: int
    begins: Beginning = "first"

    @property
    def units(self) -> Literal["documents", "windows"]:
        """What intervals are drawn over."""
        return name_units(self.documents)

    def __str__(self) -> str:
        overlap = f"each {self.stride:,} after the last"
        if self.stride == self.window:
            overlap = "without overlap"
        return (
            f"{self.tokens:,} tokens of {self.documents:,} documents in windows of {self.window:,} tokens, {overlap} "
            f"({_BEGINNINGS[self.begins]} begins with {self.bos})"
        )


#: What is kept of a language model's answer at a token: KL divergence from the full model, loss, predicted token.
DIVERGENCE, LOSS, PREDICTION = range(3)
#: The label of every text where there are no labels.
NO_LABEL = -1


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The answers of a model: class scores (logits) ``(n, C)`` and true classes ``(n,)`` of each text.

    Without labels every true class is -1, and ``losses`` and ``correct`` raise ``ValueError``.
    """

    scores: Floats32
    labels: Ints
    classes: Names

    def __post_init__(self) -> None:
        if self.scores.shape != (len(self.labels), len(self.classes)):
            raise ValueError("scores must be of shape (texts, classes)")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def labelled(self) -> bool:
        """Whether the texts have labels."""
        return bool((self.labels != NO_LABEL).any())

    @property
    def has(self) -> frozenset[str]:
        """What outcomes may need: ``classes`` or ``tokens``, ``labels``, and ``losses`` with either of these."""
        if not self.labelled:
            return frozenset(("classes",))
        return frozenset(("classes", "labels", "losses"))

    @property
    def units(self) -> Ints | None:
        """The independent unit that each prediction belongs to (None: each is one)."""
        return None

    def _check_labels(self) -> None:
        if not self.labelled:
            raise ValueError("the texts have no labels")

    @cached_property
    def predictions(self) -> Ints:
        """The predicted class of each text."""
        return np.asarray(self.scores.argmax(axis=1), dtype=np.int64)

    @cached_property
    def log_probabilities(self) -> Floats:
        """The logarithm of the probability of each class, ``(n, C)``."""
        from scipy.special import log_softmax

        return np.asarray(log_softmax(self.scores.astype(np.float64), axis=1))

    @cached_property
    def losses(self) -> Floats:
        """The cross-entropy of each text with its label, in nats."""
        self._check_labels()
        return -self.log_probabilities[np.arange(len(self)), self.labels]

    def divergences(self, full: Evaluation) -> Floats:
        """KL divergence of each text's distribution from that of the ``full`` model, in nats."""
        wanted = full.log_probabilities
        return np.asarray((np.exp(wanted) * (wanted - self.log_probabilities)).sum(axis=1).clip(min=0.0))

    def take(self, rows: Ints) -> Evaluation:
        """Return the answers to the texts in ``rows``."""
        return Evaluation(self.scores[rows], self.labels[rows], self.classes)

    @property
    def columns(self) -> dict[str, Array]:
        """What is known of each prediction, whichever model predicts: the label, if there is one."""
        if not self.labelled:
            return {}
        return {"labels": self.labels.astype(self._class_type)}

    def list_values(self, full: Evaluation) -> dict[str, Array]:
        """Return the arrays ``(n,)`` from which a comparison is computed; ``full`` is the full model's evaluation."""
        values = {"kl": self.divergences(full), "predictions": self.predictions.astype(self._class_type)}
        values["confidence"] = np.exp(self.log_probabilities.max(axis=1))
        if self.labelled:
            values["nll"] = self.losses
        return values

    @property
    def _class_type(self) -> np.dtype[Any]:
        return np.min_scalar_type(len(self.classes) - 1)

    @property
    def correct(self) -> Bools:
        """Whether the prediction of each example is correct."""
        self._check_labels()
        return np.asarray(self.predictions == self.labels)


@dataclass(frozen=True, eq=False)
class TokenEvaluation(Evaluation):
    """The answers of a language model to ``windows`` of text.

    ``scores (n, tokens, 3)`` hold the KL divergence from the full model, the loss and the prediction at the last tokens
    of each window. ``predictions``, ``losses``, ``divergences`` and ``units`` have an entry for every scored token
    ``(T,)``; sequences made for the loss on repeated tokens do not count among them.
    """

    windows: tuple[Window, ...] = ()

    def __post_init__(self) -> None:
        if self.scores.shape[:1] != (len(self.windows),) or self.scores.shape[2:] != (3,):
            raise ValueError("scores must be of shape (windows, tokens, 3)")

    @property
    def has(self) -> frozenset[str]:
        """Tokens, whose losses need no labels."""
        return frozenset(("tokens", "losses"))

    def _of_tokens(self, part: int, *, copying: bool = False) -> Floats32:
        longest = self.scores.shape[1]
        rows = [
            self.scores[row, longest - window.scored :, part]
            for row, window in enumerate(self.windows)
            if window.copying == copying
        ]
        return np.concatenate([np.zeros(0, dtype=np.float32), *rows])

    def _of_windows(self, part: Callable[[Window], Ints], *, copying: bool = False) -> Ints:
        rows = [part(window) for window in self.windows if window.copying == copying]
        return np.concatenate([np.zeros(0, dtype=np.int64), *rows])

    @cached_property
    def documents(self) -> Ints:
        """The document of each token."""
        return self._of_windows(lambda window: window.units)

    @cached_property
    def places(self) -> Ints:
        """The window of each token."""
        lengths = [window.scored for window in self.windows if not window.copying]
        return np.repeat(np.arange(len(lengths)), lengths)

    @cached_property
    def units(self) -> Ints:
        """The document of each token, or its window where there are too few documents for an interval."""
        return independent_units(self.documents, self.places)

    @cached_property
    def sizes(self) -> Ints:
        """The length of each token in bytes."""
        return self._of_windows(lambda window: window.sizes)

    @cached_property
    def predictions(self) -> Ints:
        """The most probable next token at each token."""
        return self._of_tokens(PREDICTION).astype(np.int64)

    @cached_property
    def losses(self) -> Floats:
        """The loss of each token, in nats: minus the logarithm of its probability."""
        return self._of_tokens(LOSS).astype(np.float64)

    @cached_property
    def copying(self) -> tuple[Floats, Ints]:
        """The losses of repeated random tokens, and the sequence that each belongs to."""
        units = self._of_windows(lambda window: window.units, copying=True)
        return self._of_tokens(LOSS, copying=True).astype(np.float64), units

    def divergences(self, full: Evaluation) -> Floats:
        """KL divergence of each token's distribution from that of the full model, as it was measured."""
        return self._of_tokens(DIVERGENCE).astype(np.float64).clip(min=0.0)

    @property
    def columns(self) -> dict[str, Array]:
        """The document, window and size of each token, and the sequence of each repeated token, if there are any."""
        columns = {"documents": self.documents, "windows": self.places, "sizes": self.sizes}
        if len(self.copying[1]):
            columns["copies"] = self.copying[1]
        return {name: column.astype(np.int32) for name, column in columns.items()}

    def list_values(self, full: Evaluation) -> dict[str, Array]:
        """Return values of each token ``(T,)``, and the losses of repeated tokens, if there are any."""
        values: dict[str, Array] = {"kl": self.divergences(full), "nll": self.losses}
        values["predictions"] = self.predictions.astype(np.int32)
        if len(self.copying[1]):
            values["copying"] = self.copying[0]
        return values

    def take(self, rows: Ints) -> TokenEvaluation:
        """Return the answers to the windows in ``rows``."""
        windows = tuple(self.windows[int(row)] for row in rows)
        return TokenEvaluation(self.scores[rows], self.labels[rows], self.classes, windows)


def independent_units(documents: Ints, windows: Ints) -> Ints:
    """The independent unit of each token, of its document and window: see ``name_units``."""
    units = {"documents": documents, "windows": windows}
    return np.asarray(units[name_units(len(np.unique(documents)))], dtype=np.int64)


def sum_by_unit(table: Array, units: Ints, sizes: Floats) -> tuple[Floats, Floats]:
    """Sums of the columns of ``table (R, n)`` over units, and the ``sizes`` of these, both divided by the mean size.

    The mean of such a row ``(units,)`` is a ratio: the sum of its columns over that of their ``sizes (n,)``.
    """
    _, member = np.unique(units, return_inverse=True)
    whole = np.bincount(member, weights=sizes)
    sums = np.array([np.bincount(member, weights=row.astype(np.float64)) for row in table])
    return sums / whole.mean(), np.asarray(whole / whole.mean())


#: Called with the rows and the answers of the texts so far, while the other texts are evaluated.
PartListener = Callable[[Ints, Evaluation], None]
