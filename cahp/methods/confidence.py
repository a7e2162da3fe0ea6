"""How decidedly a head looks at one token."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cahp.methods.shared import part, row_means
from cahp.registry import Evidence, Scored, register
from cahp.values import DataError, Floats, Price

if TYPE_CHECKING:
    from torch import Tensor


@register
class Confidence(Scored):
    """Keep the heads that look at one token most decidedly; needs no labels.

    Score: the mean, over all real query tokens of all texts, of the row's maximum ``max_t a_t``. Source: Voita et al.
    2019. Cost: a forward pass of every text. Labels: none. Randomness: none.
    """

    name = "confidence"

    def score(self, evidence: Evidence) -> Floats:
        """Mean maxima, shape ``(L, H)``."""
        return _confidences(evidence, "all")

    def price(self, evidence: Evidence, *, budget: int) -> Price:
        """A forward pass of every text, without labels."""
        return Price(len(evidence.texts), 0)


@register
class ConfidenceInWords(Scored):
    """Keep the heads that look at one word most decidedly, special tokens left out; needs no labels.

    Score: as ``confidence``, but special tokens ([CLS], [SEP] and their like) count neither as queries nor as keys,
    since many heads rest on them; what is left of a row is not scaled up again. Source: Voita et al. 2019, who leave
    out the end of the sentence. Cost: a forward pass of every text. Labels: none. Randomness: none.
    """

    name = "confidence-no-special"

    def score(self, evidence: Evidence) -> Floats:
        """Mean maxima, shape ``(L, H)``.

        Raises:
            DataError: If no text has anything but special tokens.
        """
        scores = _confidences(evidence, "words")
        if np.isnan(scores).any():
            raise DataError(f"no text has words that {evidence.card.id} knows; choose by confidence instead")
        return scores

    def price(self, evidence: Evidence, *, budget: int) -> Price:
        """A forward pass of every text, without labels."""
        return Price(len(evidence.texts), 0)


def special_ids(tokenizer: Any) -> set[int]:
    """Ids of special tokens; that of unknown words is none, unless it has another role too."""
    roles = ("bos", "eos", "sep", "cls", "pad", "mask")
    others = {getattr(tokenizer, f"{role}_token_id", None) for role in roles}
    return set(tokenizer.all_special_ids) - ({tokenizer.unk_token_id} - others)


def _confidences(evidence: Evidence, counted: str) -> NDArray[np.float64]:
    def make() -> Floats:
        without: Collection[int] = () if counted == "all" else special_ids(evidence.model.tokenizer)
        return row_means(evidence, maxima, without=without, progress=part(evidence.progress, 0, 1))

    return evidence.remembered(f"confidences over {counted} tokens", make)


def maxima(weights: Tensor, counted: Tensor) -> Tensor:
    """The highest weight of each row ``(b, H, tokens)`` on a token that counts."""
    return (weights * counted[:, None, None, :]).amax(dim=-1)
