"""What methods share: texts, gradients of gates, statistics of attention, and selection by score or in rounds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from cahp.methods.shared.registry import Evidence, Labels
from cahp.models.cards import SelectionCost
from cahp.stages.selection import Minimum, top
from cahp.tasks.texts import Texts
from cahp.values import Fields, Floats, HeadMask, OptionError, Progress, Selection, report_progress

if TYPE_CHECKING:
    from torch import Tensor

#: The stage under which methods report their progress.
STAGE = "scores"
#: Texts that the batches of ``batch_gradients`` are made of, at most.
MOST_BATCHED = 2048

#: A statistic of attention rows: from weights ``(b, H, tokens, tokens)`` and which tokens count ``(b, tokens)`` to a
#: value for each row ``(b, H, tokens)``.
Statistic = Callable[["Tensor", "Tensor"], "Tensor"]


class Suggesting:
    """A method that chooses by the clusters and the salience of complementary pruning, and can do without a budget."""

    needs_budget = False

    def estimate_cost(self, evidence: Evidence, *, budget: int) -> SelectionCost:
        """A forward pass of every text for the signatures, a backward pass of a quarter of them for the salience."""
        from cahp.stages.signatures import examples_used

        texts = evidence.texts
        return SelectionCost(len(texts) + 2 * examples_used(texts), len(texts))


class Budgeted(ABC):
    """A method that needs a budget.

    A choice costs ``passes`` forward passes of each of the calibration texts (a backward pass counts as two), or of
    ``most`` of them; ``labels`` tells how it uses their labels.
    """

    name: str
    needs_budget = True
    tries: Sequence[Fields] = ({},)
    passes: int = 0
    most: int | None = None
    labels: Labels = "none"

    @abstractmethod
    def keep(self, evidence: Evidence, budget: int, min_per_layer: Minimum) -> Selection:
        """Keep exactly ``budget`` heads, which is possible."""

    def count_passes(self, evidence: Evidence, budget: int) -> float:
        """The forward passes of each text that choosing ``budget`` heads takes."""
        return self.passes

    def estimate_cost(self, evidence: Evidence, *, budget: int) -> SelectionCost:
        """The cost of choosing ``budget`` heads when nothing was measured before."""
        texts = min(len(evidence.texts), self.most or len(evidence.texts))
        forwards = self.count_passes(evidence, budget) * texts
        labels = 0
        if forwards and self.labels != "none":
            labels = texts
        return SelectionCost(forwards, labels)

    def choose(self, evidence: Evidence, *, budget: int | None, min_per_layer: Minimum = 1) -> Selection:
        """Keep exactly ``budget`` heads.

        Raises:
            OptionError: Without a budget, or if no layer has ``min_per_layer`` heads.
            BudgetError: If the budget is impossible.
        """
        if budget is None:
            raise OptionError(f"{self.name} cannot suggest how many heads to keep; give a budget")
        # Checked before anything is measured, which can take minutes.
        top(np.zeros((evidence.card.layers, evidence.card.heads)), budget=budget, min_per_layer=min_per_layer)
        return self.keep(evidence, budget, min_per_layer)


class Scored(Budgeted):
    """A method that keeps the heads of highest score."""

    @abstractmethod
    def score(self, evidence: Evidence) -> Floats:
        """The importance of each head, shape ``(L, H)``."""

    def keep(self, evidence: Evidence, budget: int, min_per_layer: Minimum) -> Selection:
        """Keep the heads of highest score."""
        return top(self.score(evidence), budget=budget, min_per_layer=min_per_layer)


class Eliminating(Budgeted):
    """A method that removes a ``share`` of all heads at a time, those of lowest score, and scores the others again."""

    share: float

    @abstractmethod
    def score_under(self, evidence: Evidence, mask: HeadMask, progress: Progress) -> Floats:
        """Scores ``(L, H)`` under a mask; those of removed heads are ignored."""

    def keep(self, evidence: Evidence, budget: int, min_per_layer: Minimum) -> Selection:
        """Keep the heads that are left after the last round."""
        mask = evidence.card.full_mask
        selection = Selection(mask, budget)
        sizes = round_sizes(mask.count, budget, share=self.share)
        for index, left in enumerate(sizes):
            progress = part_progress(evidence.progress, index, len(sizes))
            scores = np.where(selection.mask.keep, self.score_under(evidence, selection.mask, progress), -np.inf)
            selection = top(scores, budget=left, min_per_layer=min_per_layer)
        return selection


def round_sizes(total: int, budget: int, *, share: float) -> list[int]:
    """Heads left after each round that removes ``share`` of ``total``; the last round may remove fewer."""
    size = max(1, round(share * total))
    return [max(total - size * number, budget) for number in range(1, -(-(total - budget) // size) + 1)]


def normalise_layers(scores: Floats) -> Floats:
    """Divide scores ``(L, H)`` by their L2 norm in each layer; a layer of zeros stays as it is."""
    norms = np.linalg.norm(scores, axis=1, keepdims=True)
    return scores / np.where(norms > 0, norms, 1.0)


def draw_texts(evidence: Evidence, *, most: int) -> Texts:
    """The calibration texts, or ``most`` of them drawn by the seed, in the order of the data."""
    texts = evidence.texts
    if len(texts) <= most:
        return texts
    rows = np.random.default_rng(evidence.seed).permutation(len(texts))[:most]
    return texts.take(np.sort(rows))


def part_progress(progress: Progress, index: int = 0, count: int = 1) -> Progress:
    """Report the progress of one of ``count`` rounds of equal length as a part of the whole."""
    return lambda stage, done, total: progress(STAGE, index * total + done, count * total)


def gate_gradients(evidence: Evidence, *, most: int | None = None) -> Floats:
    """Signed gradients ``(n, L, H)`` of each text's loss at open gates, of all texts or of ``most`` drawn ones."""
    texts = evidence.texts
    if most is not None:
        texts = draw_texts(evidence, most=most)

    def make() -> Floats:
        from cahp.stages.signatures import example_gradients

        return example_gradients(evidence.model, texts, progress=part_progress(evidence.progress))

    return evidence.cached(f"gate gradients of {len(texts)} texts", make)


def mean_sensitivity(evidence: Evidence) -> Floats:
    """Mean over the texts of ``|dL_x/dg|`` at open gates, divided by each layer's L2 norm; shape ``(L, H)``."""
    return normalise_layers(np.abs(gate_gradients(evidence)).mean(axis=0))


def batch_gradients(evidence: Evidence) -> Floats:
    """Gradients ``(batches, L, H)`` of the summed loss of batches of 32 at open gates, of at most 2,048 texts.

    Sums and not means, so that a last batch of few texts does not weigh more than its texts. A window of a language
    model is a batch.
    """

    gradients = gate_gradients(evidence, most=MOST_BATCHED)
    shuffled = np.random.default_rng(evidence.seed).permutation(len(gradients))
    starts = np.arange(0, len(gradients), evidence.texts.task.batch)
    return np.add.reduceat(gradients[shuffled], starts, axis=0)


def average_rows(evidence: Evidence, statistic: Statistic, *, without: Collection[int] = ()) -> Floats:
    """Mean of a statistic over all attention rows of all texts, shape ``(L, H)``; needs no labels.

    Padding and tokens whose id is in ``without`` do not count, neither as queries nor as keys. All NaN if no token
    counts.
    """
    import torch

    model = evidence.model
    batches = model.batches(model.tokenize(evidence.texts.inputs))
    sums = np.zeros((model.layers, model.heads))
    # For each layer, since some models run a layer many times.
    rows = np.zeros((model.layers, 1))
    excluded = torch.tensor(sorted(without), dtype=torch.int64, device=model.device)
    with torch.no_grad():
        for batch in report_progress(batches, STAGE, evidence.progress):
            counted = batch.real & ~torch.isin(batch.tensors["input_ids"], excluded)

            def probe(layer: int, weights: Tensor, counted: Tensor = counted) -> None:
                values = statistic(weights.float(), counted).masked_fill(~counted[:, None], 0.0)
                sums[layer] += values.sum(dim=(0, 2), dtype=torch.float64).cpu().numpy()
                rows[layer] += int(counted.sum())

            model.logits(batch, probe=probe)
    return sums / np.where(rows > 0, rows, np.nan)


def mean_confidences(evidence: Evidence, counted: Literal["all", "words"]) -> Floats:
    """Mean of each row's maximum over all tokens, or over those that are not special; shape ``(L, H)``."""

    def make() -> Floats:
        from cahp.models.loading import special_ids

        without: Collection[int] = ()
        if counted == "words":
            without = special_ids(evidence.model.tokenizer)
        return average_rows(evidence, row_maxima, without=without)

    return evidence.cached(f"confidences over {counted} tokens", make)


def row_maxima(weights: Tensor, counted: Tensor) -> Tensor:
    """The highest weight of each row ``(b, H, tokens)`` on a token that counts."""
    return (weights * counted[:, None, None, :]).amax(dim=-1)
