"""One text of a person's choice: what the model answers with fewer heads, and which tokens its heads look at.

Nothing here is kept on disk: such a text is its author's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cahp.stages.similarity import tokens_of
from cahp.values import HeadMask, Input, Progress, silent

if TYPE_CHECKING:
    from torch import Tensor

    from cahp.models.head_model import HeadModel

STAGE = "own text"

#: Tokens that all budgets of one text may take together: about half a second on two cores for a small model.
_TOKENS = 10_000
#: Budgets that are tried however long the text is.
_FEWEST = 9


@dataclass(frozen=True, eq=False)
class TextReading:
    """How one model reads one text.

    ``probabilities (C,)`` of the classes; ``tokens (S,)`` as it reads them, ``special (S,)`` those that are no words;
    ``attention (S,)`` is what each token gets, the mean over the heads and over the tokens that look, so that it sums
    to 1. ``cut`` tokens were left out at the end.
    """

    probabilities: NDArray[np.float64]
    tokens: tuple[str, ...]
    special: NDArray[np.bool_]
    attention: NDArray[np.float64]
    cut: int

    def __post_init__(self) -> None:
        size = (len(self.tokens),)
        if not self.special.shape == self.attention.shape == size:
            raise ValueError(f"{size} tokens but attention {self.attention.shape}, special {self.special.shape}")

    @property
    def answer(self) -> int:
        """The class that the model names."""
        return int(self.probabilities.argmax())

    @property
    def on_special(self) -> float:
        """The share of attention that goes to tokens that are no words."""
        return float(self.attention[self.special].sum())


@dataclass(frozen=True, eq=False)
class AnswersOverBudgets:
    """Class probabilities ``(B, C)`` of one text under the masks of ``budgets (B,)``, fewest heads first."""

    budgets: tuple[int, ...]
    probabilities: NDArray[np.float64]

    def steady_down_to(self, answer: int) -> int | None:
        """The fewest heads from which on every budget here names ``answer`` (None: the largest does not)."""
        steady = None
        for budget, row in zip(reversed(self.budgets), self.probabilities[::-1], strict=True):
            if int(row.argmax()) != answer:
                break
            steady = budget
        return steady


def read_text(model: HeadModel, text: Input, mask: HeadMask, *, masked: bool = True) -> TextReading:
    """How ``model`` reads a text or a pair with the heads of ``mask`` alone.

    ``masked`` says that the model has all heads and the others are gated off; else it was cut to the mask before.

    Raises:
        DataError: If there is nothing to read in the text.
    """
    import torch

    from cahp.models.tokenizers import special_ids

    read = tokens_of(model, text)
    looked = torch.zeros(len(read.words), dtype=torch.float64)

    def watch(layer: int, weights: Tensor) -> None:
        maps, kept = weights[0].double().cpu(), mask.by_layer[layer]
        # A cut layer has its kept heads alone.
        looked.add_((maps[kept] if len(maps) == mask.heads else maps).mean(dim=1).sum(dim=0))

    gates = model.gates(mask.keep) if masked and not mask.is_full else None
    with torch.inference_mode():
        scores = model.logits(model.batches([read.entry])[0], gates=gates, probe=watch)
    special = special_ids(model.tokenizer)
    return TextReading(
        scores[0].double().softmax(-1).cpu().numpy(),
        read.words,
        np.array([token in special for token in read.entry["input_ids"]], dtype=np.bool_),
        (looked / looked.sum()).numpy(),
        read.cut,
    )


def over_budgets(
    model: HeadModel, text: Input, masks: Sequence[HeadMask], *, progress: Progress = silent
) -> AnswersOverBudgets:
    """What ``model`` answers under each of ``masks``, or under some of them, spread evenly, where that takes too long.

    Progress counts masks, and may stop the work between batches.

    Raises:
        DataError: If there is nothing to read in the text.
    """
    import torch

    entry = tokens_of(model, text).entry
    most = max(_FEWEST, _TOKENS // len(entry["input_ids"]))
    places = np.unique(np.linspace(0, len(masks) - 1, min(most, len(masks))).round().astype(np.int64))
    chosen = [masks[place] for place in places.tolist()]
    gates = torch.stack([model.gates(mask.keep) for mask in chosen])
    found, done = np.zeros((len(chosen), len(model.card.labels))), 0
    with torch.inference_mode():
        for batch in model.batches([entry] * len(chosen)):
            progress(STAGE, done, len(chosen))
            rows = torch.as_tensor(batch.rows, device=gates.device)
            found[batch.rows] = model.logits(batch, gates=gates[rows]).double().softmax(-1).cpu().numpy()
            done += len(batch)
    progress(STAGE, done, len(chosen))
    return AnswersOverBudgets(tuple(mask.count for mask in chosen), found)
