"""Confidence: the largest attention weight of a query."""

import numpy as np

from cahp.methods.shared.registry import Evidence, register
from cahp.methods.shared.scored import Scored, mean_confidences
from cahp.values import DataError, Floats


@register
class Confidence(Scored):
    """Keep the heads that attend most to a single token; needs no labels.

    Score: the mean, over all real query tokens of all texts, of the row's maximum ``max_t a_t``. Source: Voita et al.,
    ACL 2019 (arXiv 1905.09418). Cost: a forward pass of every text. Labels: none. Randomness: none.
    """

    name = "confidence"
    passes = 1

    def score(self, evidence: Evidence) -> Floats:
        """Mean maxima, shape ``(L, H)``."""
        return mean_confidences(evidence, "all")


@register
class ConfidenceInWords(Scored):
    """Keep the heads that attend most to a single word, without special tokens; needs no labels.

    Score: as ``confidence``, but special tokens (such as [CLS] and [SEP]), on which many heads rest, count neither as
    queries nor as keys; rows are not normalised again. Source: Voita et al., ACL 2019 (arXiv 1905.09418), who leave out
    the end of the sentence. Cost: a forward pass of every text. Labels: none. Randomness: none.
    """

    name = "confidence-no-special"
    passes = 1

    def score(self, evidence: Evidence) -> Floats:
        """Mean maxima, shape ``(L, H)``.

        Raises:
            DataError: If no text has anything but special tokens.
        """
        scores = mean_confidences(evidence, "words")
        if np.isnan(scores).any():
            raise DataError(f"no text has words that {evidence.card.id} knows; use the method confidence instead")
        return scores
