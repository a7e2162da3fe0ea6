"""What several methods need: calibration texts, gate gradients, statistics of attention rows, removal in rounds."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cahp.registry import Evidence
from cahp.stages.selection import top
from cahp.values import Floats, HeadMask, OptionError, Progress, Selection, Texts

if TYPE_CHECKING:
    from torch import Tensor

#: What progress is reported as.
STAGE = "scores"
#: What is measured of attention rows: weights ``(b, H, tokens, tokens)`` and which tokens count ``(b, tokens)`` give a
#: value for each row ``(b, H, tokens)``.
Statistic = Callable[["Tensor", "Tensor"], "Tensor"]


def given(budget: int | None, name: str) -> int:
    """The budget that the method ``name`` cannot do without.

    Raises:
        OptionError: If there is none.
    """
    if budget is None:
        raise OptionError(f"{name} cannot suggest how many heads to keep; give a budget")
    return budget


def drawn(evidence: Evidence, *, most: int) -> Texts:
    """The selection texts, or ``most`` of them: which ones follows from the seed, their order is the data's."""
    texts = evidence.texts
    if len(texts) <= most:
        return texts
    rows = np.random.default_rng(evidence.seed).permutation(len(texts))[:most]
    return texts.take(np.sort(rows))


def part(progress: Progress, index: int, count: int) -> Progress:
    """Reports the stage of one of ``count`` rounds of equal length as a part of the whole."""

    def report(stage: str, done: int, total: int) -> None:
        progress(STAGE, index * total + done, count * total)

    return report


def gate_gradients(evidence: Evidence, *, most: int | None = None) -> NDArray[np.float64]:
    """Signed gradients ``(n, L, H)`` of each text's loss at open gates, of all texts or of ``most`` drawn ones."""
    texts = evidence.texts if most is None else drawn(evidence, most=most)

    def make() -> Floats:
        from cahp.stages.salience import example_gradients

        return example_gradients(evidence.model, texts, progress=part(evidence.progress, 0, 1))

    return evidence.remembered(f"gate gradients of {len(texts)} texts", make)


def sensitivity(evidence: Evidence) -> NDArray[np.float64]:
    """Mean over the texts of ``|dL_x/dg|`` at open gates, divided by each layer's L2 norm; shape ``(L, H)``."""
    return by_layer(np.abs(gate_gradients(evidence)).mean(axis=0))


def by_layer(scores: Floats) -> NDArray[np.float64]:
    """Scores ``(L, H)`` divided by their L2 norm in each layer; a layer of zeros stays as it is."""
    norms = np.linalg.norm(scores, axis=1, keepdims=True)
    return np.asarray(scores / np.where(norms > 0, norms, 1.0))


def row_means(
    evidence: Evidence, statistic: Statistic, *, without: Collection[int] = (), progress: Progress
) -> NDArray[np.float64]:
    """Mean of a statistic over all attention rows of all texts, shape ``(L, H)``; needs no labels.

    Padding and tokens whose id is in ``without`` do not count, neither as queries nor as keys. All NaN if no token
    counts.
    """
    import torch

    model = evidence.model
    sums = np.zeros((model.layers, model.heads))
    # Of each layer, since some models run a layer many times.
    rows = np.zeros((model.layers, 1))
    excluded = torch.tensor(sorted(without), dtype=torch.int64, device=model.device)
    done, total = 0, len(evidence.texts)
    with torch.no_grad():
        for batch in model.batches(model.tokenize(evidence.texts.inputs)):
            progress(STAGE, done, total)
            counted = batch.tensors["attention_mask"].bool() & ~torch.isin(batch.tensors["input_ids"], excluded)

            def probe(layer: int, weights: Tensor, counted: Tensor = counted) -> None:
                values = statistic(weights.float(), counted).masked_fill(~counted[:, None], 0.0)
                sums[layer] += values.sum(dim=(0, 2), dtype=torch.float64).cpu().numpy()
                rows[layer] += int(counted.sum())

            model.logits(batch, probe=probe)
            done += len(batch)
    progress(STAGE, done, total)
    return np.asarray(sums / np.where(rows > 0, rows, np.nan))


def rounds(total: int, budget: int, *, share: float) -> list[int]:
    """Heads left after each round that removes ``share`` of ``total``; the last one removes what is left to remove."""
    size = max(1, round(share * total))
    return [max(total - size * number, budget) for number in range(1, -(-(total - budget) // size) + 1)]


def eliminated(
    evidence: Evidence,
    *,
    budget: int,
    min_per_layer: int,
    share: float,
    score: Callable[[HeadMask, Progress], Floats],
) -> Selection:
    """Remove ``share`` of all heads at a time, those of the lowest score, and score what is left again.

    ``score`` gets the mask so far, and gives ``(L, H)``; what it says of removed heads does not matter.

    Raises:
        BudgetError, OptionError: As ``cahp.stages.selection.top``, before anything is measured.
    """
    layers, heads = evidence.card.layers, evidence.card.heads
    selection = top(np.zeros((layers, heads)), budget=budget, min_per_layer=min_per_layer)
    mask = HeadMask.full(layers, heads)
    sizes = rounds(layers * heads, budget, share=share)
    for index, left in enumerate(sizes):
        scores = np.where(mask.keep, score(mask, part(evidence.progress, index, len(sizes))), -np.inf)
        selection = top(scores, budget=left, min_per_layer=min_per_layer)
        mask = selection.mask
    return selection
