"""Which measure predicts what removing a head costs after the refit?

A refit lets the other heads take over what they can, so measures of redundancy should follow the cost after it, not
that of the pruned model. The baseline is the KL divergence after mean ablation of the head, one forward pass per text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cahp.features.premise.redundancy import MEASURES, correlate_ranks, describe_correlation, draw_heads
from cahp.methods.shared.scored import draw_texts
from cahp.run.bench import Bench
from cahp.store import digest_code
from cahp.tasks.texts import Texts
from cahp.values import Floats, HeadMask, OptionError

STAGE = "pairs"
#: The calibration texts, at most, on which mean ablation is measured.
_TEXTS = 128
#: The measures, and the baseline.
PREDICTORS: Mapping[str, str] = {**MEASURES, "mean": "KL divergence after mean ablation"}


def check_refit(bench: Bench) -> None:
    """Check that the model can be refitted without each head.

    Raises:
        OptionError: If it cannot be refitted, or a layer would keep no head.
    """
    if bench.recoveries.no_refit is not None:
        raise OptionError(f"{bench.recoveries.no_refit}; leave out --refit")
    if bench.card.heads < 2:
        raise OptionError("each layer has one head, and none is left without it to refit; leave out --refit")


def measure_refitted(bench: Bench, texts: Texts) -> NDArray[np.float64]:
    """KL divergences ``(N,)`` on ``texts`` without each head, after a refit; each is stored, so this resumes."""
    inputs = bench.recoveries.inputs_sha256
    return _measure_heads(bench, f"after a refit on {inputs} of", texts, _refit_without)


def _refit_without(bench: Bench, texts: Texts, head: int) -> NDArray[np.float64]:
    mask = _remove(bench, head)
    refitted = bench.recoveries.refit(mask, keep=False)
    without = bench.measurements.evaluate(texts, mask=mask, recovered=refitted)
    return np.array([without.divergences(bench.measurements.evaluate(texts)).mean()])


def measure_mean_ablation(bench: Bench) -> NDArray[np.float64]:
    """KL divergences ``(N,)`` on calibration texts with the mean output of each head in its place; stored."""
    texts = draw_texts(bench.evidence, most=_TEXTS)
    return _measure_heads(bench, "with the mean of", texts, _ablate)


def _measure_heads(
    bench: Bench, how: str, texts: Texts, measure: Callable[[Bench, Texts, int], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Measure the divergence ``(N,)`` of each head, which ``how`` names, by the code of recoveries; each is stored."""
    code = digest_code(["cahp.stages.recovery"])
    divergences = np.empty(bench.card.layers * bench.card.heads)
    for head in range(len(divergences)):
        bench.evidence.progress(STAGE, head, len(divergences))
        name = f"KL divergence of {texts.sha256} {how} {head} by {code}"
        divergences[head] = bench.evidence.cached(name, partial(measure, bench, texts, head))[0]
    return divergences


def _ablate(bench: Bench, texts: Texts, head: int) -> NDArray[np.float64]:
    from cahp.stages.recovery import mean_ablate

    ablated = mean_ablate(bench.model, _remove(bench, head), texts.inputs)
    without = bench.measurements.evaluate_model(ablated, texts)
    return np.array([without.divergences(bench.measurements.evaluate(texts)).mean()])


def _remove(bench: Bench, head: int) -> HeadMask:
    return HeadMask.without([head], bench.card.layers, bench.card.heads)


def correlate_predictors(predictors: Mapping[str, Floats], costs: Floats, *, seed: int) -> dict[str, Any]:
    """Rank correlations (Spearman) of ``predictors (N,)`` of heads with their ``costs (N,)`` after the refit.

    Intervals come from a bootstrap over heads. The difference is that of replaceability from mean ablation, paired.
    """
    counts = draw_heads(len(costs), seed=seed)
    drawn = [np.repeat(np.arange(len(costs)), drawn) for drawn in counts]
    result: dict[str, Any] = {name: correlate_ranks(values, costs, drawn) for name, values in predictors.items()}
    result["difference"] = correlate_ranks(predictors["replaceability"], costs, drawn, minus=predictors["mean"])
    return result


def describe_predictors(correlations: Mapping[str, Any]) -> str:
    """Tell how far replaceability and the baseline predict the cost after the refit, with intervals and n."""
    replaceability = correlations["replaceability"]
    best = max(PREDICTORS, key=lambda name: float(correlations[name]["value"]))
    sentence = (
        f"Replaceability predicts the cost of removing a head after the refit with rank correlation "
        f"{describe_correlation(replaceability)}, KL divergence after mean ablation with "
        f"{describe_correlation(correlations['mean'])}: difference {describe_correlation(correlations['difference'])}, "
        f"n = {replaceability['n']:,} heads."
    )
    if best not in ("replaceability", "mean"):
        sentence += f" Most predictive is {PREDICTORS[best]}: {describe_correlation(correlations[best])}."
    return sentence
