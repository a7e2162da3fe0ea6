"""Statistics of attention rows, averaged over all texts, without labels."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from cahp import processes as parallel
from cahp.methods.shared.scored import STAGE
from cahp.registry import Evidence
from cahp.values import Floats

if TYPE_CHECKING:
    from torch import Tensor

#: A statistic of attention rows: from weights ``(b, H, tokens, tokens)`` and which tokens count ``(b, tokens)`` to a
#: value for each row ``(b, H, tokens)``.
Statistic = Callable[["Tensor", "Tensor"], "Tensor"]


def average_rows(evidence: Evidence, statistic: Statistic, *, without: Collection[int] = ()) -> NDArray[np.float64]:
    """Mean of a statistic over all attention rows of all texts, shape ``(L, H)``; needs no labels.

    Padding and tokens whose id is in ``without`` do not count, neither as queries nor as keys. All NaN if no token
    counts. Processes that work together share the batches, and each gets the same means as one process alone.
    """
    import torch

    model, progress = evidence.model, evidence.progress
    batches = model.batches(model.tokenize(evidence.texts.inputs))
    # Batch by batch: summed in one order, the mean does not depend on the number of processes.
    sums = np.zeros((len(batches), model.layers, model.heads))
    # For each layer, since some models run a layer many times.
    rows = np.zeros((len(batches), model.layers, 1))
    excluded = torch.tensor(sorted(without), dtype=torch.int64, device=model.device)
    mine = parallel.share(range(len(batches)))
    done, total = 0, sum(len(batches[number]) for number in mine)
    with torch.no_grad():
        for number in mine:
            batch = batches[number]
            progress(STAGE, done, total)
            counted = batch.tensors["attention_mask"].bool() & ~torch.isin(batch.tensors["input_ids"], excluded)

            def probe(layer: int, weights: Tensor, counted: Tensor = counted, number: int = number) -> None:
                values = statistic(weights.float(), counted).masked_fill(~counted[:, None], 0.0)
                sums[number, layer] += values.sum(dim=(0, 2), dtype=torch.float64).cpu().numpy()
                rows[number, layer] += int(counted.sum())

            model.logits(batch, probe=probe)
            done += len(batch)
    progress(STAGE, done, total)
    summed, counts = parallel.total(sums).sum(axis=0), parallel.total(rows).sum(axis=0)
    return np.asarray(summed / np.where(counts > 0, counts, np.nan))


def mean_confidences(evidence: Evidence, counted: Literal["all", "words"]) -> NDArray[np.float64]:
    """Mean of each row's maximum over all tokens, or over those that are not special; shape ``(L, H)``."""

    def make() -> Floats:
        from cahp.models.loading import special_ids

        without: Collection[int] = () if counted == "all" else special_ids(evidence.model.tokenizer)
        return average_rows(evidence, row_maxima, without=without)

    return evidence.remembered(f"confidences over {counted} tokens", make)


def row_maxima(weights: Tensor, counted: Tensor) -> Tensor:
    """The highest weight of each row ``(b, H, tokens)`` on a token that counts."""
    return (weights * counted[:, None, None, :]).amax(dim=-1)
