"""Evaluate a whole text in parts, each of which is kept, so that an interrupted evaluation resumes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from cahp.features.standard_protocol.protocols import WindowedText, estimate_all
from cahp.outcomes import OUTCOMES, Outcomes, estimate_mean
from cahp.run.measurements import Measurements
from cahp.run.recovered import Recovered
from cahp.tasks.answers import TokenEvaluation
from cahp.tasks.texts import Texts
from cahp.values import HeadMask, Progress

#: Tokens of a part, at most: of so many the full model's states are held in memory.
_PART = 16_384
#: The outcomes that compare with the full model.
_COMPARED = ("kl", "agreement")


class PrunedModel(NamedTuple):
    """A pruned model: a mask, and what its recovery changed (None: nothing)."""

    mask: HeadMask
    recovered: Recovered | None = None


def evaluate_whole(
    measurements: Measurements, texts: Texts, pruned_models: Mapping[str, PrunedModel], progress: Progress
) -> dict[str, TokenEvaluation]:
    """Evaluate the full model (``full``) and the ``pruned_models`` on all windows, part after part.

    ``progress`` counts the windows of all models.
    """
    longest = texts.task.get_answer_shape(texts)[0]
    models = ("full", *pruned_models)
    scores = {name: np.zeros((len(texts), longest, 3), dtype=np.float32) for name in models}
    done = 0
    total = len(texts) * len(models)
    for rows in _list_parts(texts):
        part = texts.take(rows)
        for name in models:
            progress("evaluation", done, total)
            if name == "full":
                answers = measurements.evaluate(part)
            else:
                answers = measurements.evaluate(part, **pruned_models[name]._asdict())
            scores[name][rows, longest - answers.scores.shape[1] :] = answers.scores
            done += len(rows)
    progress("evaluation", done, total)
    evaluations: dict[str, TokenEvaluation] = {}
    for name in models:
        evaluation = texts.evaluation_of(scores[name])
        assert isinstance(evaluation, TokenEvaluation)
        evaluations[name] = evaluation
    return evaluations


def _list_parts(texts: Texts) -> list[list[int]]:
    """Return the rows of each part, in their order."""
    size = max(1, _PART // texts.task.get_answer_shape(texts)[0])
    rows = list(range(len(texts)))
    return [rows[first : first + size] for first in range(0, len(rows), size)]


def estimate_outcomes(cut: WindowedText, evaluations: Mapping[str, TokenEvaluation], seed: int) -> dict[str, Outcomes]:
    """Estimate the perplexities of each model, and how far it is from the full one."""
    full = evaluations["full"]
    outcomes: dict[str, Outcomes] = {}
    for name, evaluation in evaluations.items():
        outcomes[name] = {
            **{compared: OUTCOMES[compared].estimate(evaluation, full, seed) for compared in _COMPARED},
            **estimate_all(cut, evaluation, seed),
        }
        if name != "full":
            rise = estimate_mean(evaluation.losses - full.losses, seed, units=full.units)
            outcomes[name] = {**outcomes[name], "nll_rise": rise}
    return outcomes
