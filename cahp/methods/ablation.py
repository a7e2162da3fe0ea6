"""Ablation: the rise of the loss without a head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cahp.methods.shared.registry import Evidence, register
from cahp.methods.shared.scored import STAGE, Eliminating, Scored, draw_texts, part_progress, round_sizes
from cahp.tasks.texts import Texts
from cahp.values import Floats, HeadMask, Ints, JsonObject, Progress

if TYPE_CHECKING:
    from torch import Tensor

    from cahp.models.head_model import Batch, HeadModel

MOST = 256
#: The greedy variant measures in every round.
MOST_GREEDY = 128


@register
class Ablation(Scored):
    """Keep the heads whose removal raises the loss most, each removed alone.

    Score: ``mean_x L_x(g_h = 0) - mean_x L_x``. Source: Michel et al., NeurIPS 2019 (arXiv 1905.10650), who remove one
    head at a time. Cost: a forward pass of at most 256 texts for each of the ``N`` heads, and one with all heads.
    Labels: of those texts. Randomness: the evidence's seed says which texts, if there are more.
    """

    name = "ablation"
    labels = "needed"
    most = MOST

    def score(self, evidence: Evidence) -> Floats:
        """Rise of the mean loss in nats, shape ``(L, H)``."""
        mask = evidence.card.full_mask
        losses = losses_without(evidence, mask, part_progress(evidence.progress), most=MOST)
        return np.asarray(losses[1:].reshape(mask.keep.shape) - losses[0])

    def count_passes(self, evidence: Evidence, budget: int) -> float:
        """One for each head, and one without any gated off."""
        return evidence.card.total + 1


@register
class GreedyAblation(Eliminating):
    """Keep the heads left after rounds that each remove the 5 % of all heads with the least effect on the loss.

    Each round removes every remaining head alone, in addition to those of earlier rounds, and finally the 5 % of all
    heads with the lowest ``mean_x L_x(g_h = 0)``; the last round may remove fewer. Source: backward elimination, with
    ablation as by Michel et al., NeurIPS 2019 (arXiv 1905.10650). Cost: a forward pass of at most 128 texts for each
    remaining head, in each round, and one before each. Labels: of those texts. Randomness: the evidence's seed says
    which texts, if there are more.
    """

    name = "ablation-greedy"
    labels = "needed"
    most = MOST_GREEDY
    expensive = True
    share = 0.05

    def score_under(self, evidence: Evidence, mask: HeadMask, progress: Progress) -> Floats:
        """Mean loss without each head, shape ``(L, H)``."""
        return losses_without(evidence, mask, progress, most=MOST_GREEDY)[1:].reshape(mask.keep.shape)

    def count_passes(self, evidence: Evidence, budget: int) -> float:
        """One for each head left at the start of each round, and one more."""
        total = evidence.card.total
        starts = [total, *round_sizes(total, budget, share=self.share)][:-1]
        return sum(left + 1 for left in starts)


def losses_without(evidence: Evidence, mask: HeadMask, progress: Progress, *, most: int) -> Floats:
    """Mean losses ``(1 + N,)`` under a mask: with its heads, and without each of them (unchanged for dropped heads).

    Cached by mask, so that all budgets share their first rounds.
    """
    texts = draw_texts(evidence, most=most)
    name = f"losses of {len(texts)} texts without a head under {mask.sha256}"
    return evidence.cached(name, lambda: _losses_without(evidence.model, texts, mask, progress))


def _losses_without(model: HeadModel, texts: Texts, mask: HeadMask, progress: Progress) -> Floats:
    import torch

    from cahp.models.reading import losses as losses_of

    labels = torch.as_tensor(texts.labels, device=model.device)
    tails = divide(model)
    kept = np.flatnonzero(mask.keep)
    losses = np.zeros(1 + mask.keep.size)
    done = 0
    # Of all heads, so that every round counts up to the same number.
    total = len(texts) * mask.keep.size
    with torch.inference_mode():
        gates = model.gates(mask.keep)
        for batch in model.batches(model.tokenize(texts.inputs)):
            answers = labels[batch.rows]
            losses[0] += float(losses_of(model, batch, answers, gates=gates).sum())
            for head, rest, call in calls_without(model, tails, batch, gates, kept):
                progress(STAGE, done, total)
                done += len(batch)
                losses[1 + head] += float(losses_of(rest, batch, answers, **call).sum())
    progress(STAGE, total, total)
    losses /= len(texts)
    gone = np.flatnonzero(~mask.keep)
    losses[1 + gone] = losses[0]
    return losses


def divide(model: HeadModel) -> list[HeadModel | None]:
    """The model without the layers before each layer; see ``cahp.models.surgery.tail``."""
    from cahp.models.surgery import tail

    return [tail(model, layer) for layer in range(model.layers)]


def calls_without(
    model: HeadModel,
    tails: Sequence[HeadModel | None],
    batch: Batch,
    gates: Tensor,
    heads: Ints,
    fill: Sequence[Tensor] | None = None,
) -> Iterator[tuple[int, HeadModel, JsonObject]]:
    """Yield for each of ``heads`` (ascending flat indices) the model and the options that run a batch without it.

    The other heads have the ``gates``, and ``fill`` takes the place of removed ones (None: zeros). ``tails`` are those
    of ``divide``. The layers below are the same for all heads of a layer, so they run once.
    """
    state = None
    if tails[0] is not None:
        state = model.enter(batch)
    for head in heads.tolist():
        layer = head // model.heads
        while state is not None and state.layer < layer:
            state = model.step(state, gates=gates, fill=fill)
        without = gates.clone()
        without[layer, head % model.heads] = 0.0
        rest = tails[layer]
        if rest is None or state is None:
            yield head, model, {"gates": without, "fill": fill}
        else:
            yield head, rest, {"gates": without, "fill": fill, "start": state.hidden}
