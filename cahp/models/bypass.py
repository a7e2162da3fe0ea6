"""A bypass: what the words tell beside the kept heads of a layer.

A bypass adds linear functions of the words to what the kept heads of a layer write: of the token itself, the one before
it (and after it, in encoders), and running means, see ``cahp.models.compact.mix_words``. With ``X`` the inputs of a
projection and ``Z`` those of the words, ``[W B]`` is solved on ``[X Z]`` by the equations of a refit. The old weights
of ``Z`` are zero, and each of its channels is pulled towards them relative to its own mean square. ``B`` is cut to the
directions in which its output is largest, and then ``W`` is solved again. Prior work: linear maps instead of attention
layers (NBL, arXiv 2505.21077), and Gram matrix and ridge after pruning (GRAIL, 2602.23795; CORP, 2602.05243). Words
beside kept heads, with running means, are ours.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cahp.models.compact import SPANS, Words, mix_words
from cahp.models.head_model import Batch, HeadModel
from cahp.values import DataError, OptionError


class WordChannels:
    """What the words tell beside the heads of a layer, see ``cahp.models.compact.mix_words``.

    Means run over the values of all heads where these are fewer than the hidden states that they are computed from.
    ``width`` is the number of channels, those of its parts together: of ``alone`` tokens, then of means.
    """

    def __init__(self, model: HeadModel, layer: int) -> None:
        self._causal = model.family.causal
        hidden = model.card.hidden
        values = model.head_weights(layer)[-2].flatten(0, 1)
        self._values: Tensor | None = None
        means = hidden
        if values.shape[1] == hidden > len(values):
            self._values = values
            means = len(values)
        self.alone = 3 - self._causal
        self.widths = [hidden] * self.alone + [means] * (len(SPANS) + 1)
        self.width = sum(self.widths)

    def read(self, hidden: Tensor, real: Tensor) -> Tensor:
        """Return the channels ``(b, n, width)`` of what enters the attention, ``hidden (b, n, hidden)``."""
        hidden = hidden * real[..., None]
        spread = hidden
        if self._values is not None:
            spread = hidden @ self._values.T
        parts = [hidden] * self.alone + [spread] * (len(SPANS) + 1)
        mixed, _ = mix_words(parts, Words(real), causal=self._causal)
        return torch.cat(mixed, dim=-1)

    def merge(self, down: Tensor) -> Tensor:
        """Return the weights of a bypass ``(parts, rank, hidden)`` from those of the channels ``(rank, width)``."""
        parts = []
        for part in torch.split(down.float(), self.widths, dim=1):
            if self._values is not None and part.shape[1] == len(self._values):
                part = part @ self._values
            parts.append(part)
        return torch.stack(parts)


def check_bypass(model: HeadModel, rank: int) -> None:
    """Check that a model can have a bypass of this rank.

    Raises:
        OptionError: If it cannot.
    """
    if model.card.word_functions is None:
        raise OptionError(
            f"a bypass needs the sums inside a layer, which are not known of {model.card.id}; use --recover refit"
        )
    if not 1 <= rank <= model.card.hidden:
        raise OptionError(
            f"--bypass-rank {rank} is out of range; it must be in 1..{model.card.hidden}, the hidden size"
        )


def count_unknowns(model: HeadModel) -> int:
    """Count the unknowns of an output of a layer whose heads are all kept."""
    return WordChannels(model, 0).width + model.projection(0).weight.shape[1]


def check_tokens(model: HeadModel, batches: Sequence[Batch]) -> int:
    """Return the number of tokens, if there are at least as many as unknowns of an output.

    Raises:
        DataError: If there are fewer.
    """
    tokens = sum(batch.tokens for batch in batches)
    unknowns = count_unknowns(model)
    if tokens < unknowns:
        raise DataError(
            f"a bypass of {model.card.id} needs at least {unknowns:,} tokens to solve for, and there are {tokens:,}; "
            f"{model.card.words.raise_number}"
        )
    return tokens
