"""The protocols by which others compute a perplexity: how a text is cut, and what its mean is taken over."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice, tee
from typing import Any

import numpy as np

from cahp import models
from cahp.data.parts import RunningText
from cahp.features.standard_protocol.documents import Document, describe_form, join_rows, list_documents
from cahp.models.cards import ModelCard
from cahp.outcomes import estimate_mean, estimate_ratio, to_perplexity
from cahp.tasks.answers import TokenEvaluation
from cahp.tasks.texts import Texts
from cahp.values import Estimate


@dataclass(frozen=True)
class Cutting:
    """The windows of a text: ``window`` tokens, ``stride`` tokens apart, of the first ``tokens`` (None: of all)."""

    window: int
    stride: int | None = None
    tokens: int | None = None


class WindowedText(ABC):
    """A text as one protocol cuts it into the windows ``texts``, and the perplexities that it computes of them."""

    texts: Texts

    @property
    def tokens(self) -> int:
        """Number of predicted tokens."""
        return len(self.texts.stream)

    @property
    @abstractmethod
    def documents(self) -> int:
        """Number of documents."""

    @property
    def units(self) -> str:
        """What intervals are drawn over: documents, or windows where there are few documents."""
        return self.texts.units

    @abstractmethod
    def list_sizes(self) -> dict[str, list[int]]:
        """Return the ``words`` and the ``bytes`` of each document; nothing where the protocol counts none."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return what the file says of the text and its parts."""

    @abstractmethod
    def estimate(self, evaluation: TokenEvaluation, seed: int) -> dict[str, Estimate]:
        """Estimate the protocol's own perplexities, from the losses of the windows."""


class RollingText(WindowedText):
    """The rolling log-likelihood of lm-evaluation-harness.

    Documents are read one by one in windows without overlap, the last of which reaches back. The perplexity is that of
    a word, or a byte, of the original text: the loss of all documents divided by their words or bytes.
    """

    def __init__(self, card: ModelCard, text: RunningText, cutting: Cutting) -> None:
        form = describe_form(text)
        read, counted = tee(list_documents(text))
        self.texts = models.cut_rolling(
            card, (document.text for document in read), window=cutting.window, tokens=cutting.tokens
        )
        owners = self.texts.task.group_documents(self.texts)
        assert owners is not None
        self._documents: list[Document] = list(islice(counted, int(owners.max()) + 1))
        self._form = form

    @property
    def documents(self) -> int:
        """Number of documents."""
        return len(self._documents)

    def list_sizes(self) -> dict[str, list[int]]:
        """Return the ``words`` and the ``bytes`` of each document."""
        return {
            "words": [document.words for document in self._documents],
            "bytes": [document.bytes for document in self._documents],
        }

    def describe(self) -> dict[str, Any]:
        """Return what a document is, and the numbers of documents, words and bytes."""
        sizes = {name: sum(of_documents) for name, of_documents in self.list_sizes().items()}
        return {"form": self._form, "documents": self.documents, **sizes}

    def estimate(self, evaluation: TokenEvaluation, seed: int) -> dict[str, Estimate]:
        """Estimate the perplexities of words and bytes, and the bits per byte."""
        tokens = np.bincount(evaluation.documents, minlength=self.documents)
        # Each token has an equal share of the words and bytes of its document.
        shares = {
            name: (np.array(of_documents) / np.maximum(tokens, 1))[evaluation.documents]
            for name, of_documents in self.list_sizes().items()
        }
        bits = evaluation.losses / math.log(2)
        units = evaluation.units
        return {
            "word_perplexity": to_perplexity(estimate_ratio(evaluation.losses, shares["words"], seed, units=units)),
            "byte_perplexity": to_perplexity(estimate_ratio(evaluation.losses, shares["bytes"], seed, units=units)),
            "bits_per_byte": estimate_ratio(bits, shares["bytes"], seed, "bits", units=units),
        }


class StridedText(WindowedText):
    """The perplexity of the guide of transformers.

    All rows are one text, and windows begin a stride apart. The loss of a window counts by the tokens that it adds to
    those before it, less one.
    """

    def __init__(self, card: ModelCard, text: RunningText, cutting: Cutting) -> None:
        self.texts = models.cut_strided(
            card, join_rows(text), window=cutting.window, stride=cutting.stride, tokens=cutting.tokens
        )
        self._form = describe_form(text)
        self._overlaps = cutting.stride is not None and cutting.stride < cutting.window

    @property
    def documents(self) -> int:
        """One: all rows are one text."""
        return 1

    def list_sizes(self) -> dict[str, list[int]]:
        """Return nothing: only tokens are counted."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Return what the rows of the text are."""
        return {"form": self._form, "documents": self.documents}

    def estimate(self, evaluation: TokenEvaluation, seed: int) -> dict[str, Estimate]:
        """Estimate the perplexity of a token."""
        scored = np.bincount(evaluation.places)
        added = scored.copy()
        # A window without a token before those that it adds does not predict the first of them.
        if self._overlaps:
            added[0] += 1
        else:
            added += 1
        weights = ((added - 1) / scored)[evaluation.places]
        loss = estimate_ratio(evaluation.losses * weights, weights, seed, units=evaluation.units)
        return {"perplexity": to_perplexity(loss)}


@dataclass(frozen=True)
class Protocol:
    """A protocol: its ``name`` on the command line and in files, the ``reference`` it equals, and how it cuts."""

    name: str
    reference: str
    cut: type[RollingText] | type[StridedText]


#: All protocols by name.
PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("lm-eval", "the rolling log-likelihood of lm-evaluation-harness", RollingText),
        Protocol("transformers", "the perplexity of the guide of transformers", StridedText),
    )
}


def estimate_all(cut: WindowedText, evaluation: TokenEvaluation, seed: int) -> dict[str, Estimate]:
    """Estimate the loss of a token in nats, and the perplexities of the protocol."""
    loss = estimate_mean(evaluation.losses, seed, units=evaluation.units)
    return {"nll": loss, **cut.estimate(evaluation, seed)}
