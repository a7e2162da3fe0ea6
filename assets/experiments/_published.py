"""The experiments of the paper, with its results, and what it costs to repeat them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cahp import models
from cahp.api.preflight import preflight
from cahp.comparison.plan import Plan
from cahp.data.sources import PRESETS
from cahp.recoveries import RECOVERIES, refit_texts
from cahp.run.measurements import estimate_seconds, operations
from cahp.run.settings import PUBLISHED_LENGTH
from cahp.words import duration, size_of

#: Operations per second of training and inference on one modern GPU (an A100 in TensorFloat-32, half used).
_GPU_SPEED = 6e13
#: Forward passes that a training step costs.
_TRAINING_PASSES = 3
#: The epochs of the paper's fine-tuning.
_EPOCHS = 3
#: Forward passes per calibration text to choose heads: signatures, and gradients through a quarter of the texts.
_CHOOSING_PASSES = 1.5
#: Hidden states of each token that a refit holds at once.
_HIDDEN_STATES = 4


@dataclass(frozen=True)
class Published:
    """An experiment of the paper (arXiv 2606.19150) with its results, known to us from secondary sources.

    ``kept`` heads; accuracies in per cent of the fine-tuned model with all heads (``full``), and pruned
    and fine-tuned again (``pruned``); ``tokens`` of a typical input.
    """

    model: str
    data: str
    kept: int
    full: float
    pruned: float
    pool_size: int
    tokens: int

    @property
    def name(self) -> str:
        """Its name, and that of its folder."""
        return f"{self.model}-{self.data}"

    @property
    def hub(self) -> str:
        """The hub id of its encoder."""
        return f"google-bert/{self.model}"


PUBLISHED = (
    Published("bert-base-cased", "sst5", 26, 53.6, 51.0, 32, 26),
    Published("bert-base-cased", "mnli", 28, 84.2, 81.8, 48, 42),
    Published("bert-large-cased", "sst5", 59, 56.8, 53.3, 32, 26),
    Published("bert-large-cased", "mnli", 57, 86.5, 84.0, 48, 42),
)


@dataclass(frozen=True)
class ExpectedCost:
    """The cost of an experiment: operations, and hours on this machine and on one modern GPU."""

    name: str
    operations: float
    hours_here: float
    hours_gpu: float
    memory_bytes: int


def estimate_costs(plans: Mapping[Published, Plan]) -> list[ExpectedCost]:
    """Estimate the cost of each experiment from its encoder's configuration and its data; no weights are fetched.

    Raises:
        ModelError: If an encoder cannot be looked up.
    """
    encoders = {experiment.hub for experiment in plans}
    cards = {name: models.preview(name) for name in encoders}
    costs = []
    for experiment, plan in plans.items():
        card = cards[experiment.hub]
        sizes = PRESETS[experiment.data].splits
        settings = plan.settings
        texts = sizes["train"]
        if settings.limit is not None:
            texts = min(settings.limit, texts)
        evaluated = sizes["validation"]
        if settings.eval_limit is not None:
            evaluated = min(settings.eval_limit, evaluated)
        if settings.report:
            evaluated += sizes["test"]
        seeds = len(plan.seeds)
        masks = len(plan.methods) * seeds
        by_recovery = {name: row.passes(texts, can_refit=card.no_refit is None) for name, row in RECOVERIES.items()}
        labelled = sum(by_recovery[name] for name in plan.recoveries if RECOVERIES[name].needs_labels)
        passes = (
            _EPOCHS * (_TRAINING_PASSES * texts + sizes["validation"])
            + seeds * _CHOOSING_PASSES * texts
            + masks * sum(by_recovery[name] + evaluated for name in {"none", *plan.recoveries})
            # Besides the masks, the full model is evaluated, and trained too if masks are.
            + seeds * (evaluated + labelled)
        )
        work = passes * experiment.tokens * operations(card)
        seconds = estimate_seconds(card, tokens=1) / operations(card) * work
        # A training holds weights, gradients and two moments of the optimiser; a refit hidden states of its tokens.
        working = 4 * 4 * (card.details or {}).get("parameters", 0)
        if not card.no_refit:
            working = max(working, _HIDDEN_STATES * 4 * card.hidden * experiment.tokens * refit_texts(texts))
        memory = preflight(card)["memory_bytes"] + working
        costs.append(ExpectedCost(experiment.name, work, seconds / 3600, work / _GPU_SPEED / 3600, memory))
    return costs


def announcement(costs: Sequence[ExpectedCost]) -> list[str]:
    """The cost of all experiments, for a person to read before they begin."""
    width = max(len(cost.name) for cost in costs)
    lines = [
        f"  {cost.name:<{width}}  about {duration(3600 * cost.hours_here)} on this machine, "
        f"{duration(3600 * cost.hours_gpu)} on one modern GPU; {size_of(cost.memory_bytes)} of memory"
        for cost in costs
    ]
    here = sum(cost.hours_here for cost in costs)
    gpu = sum(cost.hours_gpu for cost in costs)
    total = f"about {duration(3600 * here)} on this machine, {duration(3600 * gpu)} on one modern GPU"
    counted = "operations counted from the configuration"
    return [
        f"{len(costs)} experiments: {total} ({counted})",
        *lines,
        f"texts are cut at {PUBLISHED_LENGTH} tokens, as published",
    ]
