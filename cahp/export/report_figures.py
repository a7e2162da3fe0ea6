"""The figures of a report: quality, recoveries, cost, budgets, and what they mean in the world."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from cahp.export.drawings import RightAt, by_budget, intervals, safe, table
from cahp.export.real_world import RealWorld
from cahp.run.document import RunDocument, StateDeltas, StateMetrics
from cahp.run.ladder import RecoveryStep
from cahp.studies.budget_sweep import BudgetTable, Quality
from cahp.words import STEPS, duration, interval, percent, points, times

#: What each recovery has done to a model.
_DONE = {**STEPS, "finetune": "fine-tuned"}
_NAMES = {"full": "all heads", "pruned": "pruned", "recovered": "recovered"}
_AFTER = {"refit": "after a refit", "distill": "after distillation"}


def figures(run: RunDocument) -> Iterator[str]:
    """Quality on every split that was opened, and what it costs."""
    yield from quality("Quality", run.metrics, run.delta)
    if run.report is not None:
        yield from quality(f"Quality on the {run.report.split} split", run.report.metrics, run.report.delta)
    if run.refit is not None:
        taken = "was taken" if run.refit.accepted else "was rejected, so nothing changed"
        yield f"<p class=note>Recovery without training (refit) {taken}: {safe(run.refit.reason)}.</p>"
    yield from _cost(run)


def quality(caption: str, metrics: StateMetrics, delta: StateDeltas) -> Iterator[str]:
    """What the full, the pruned and the recovered model answer: a drawing and a table."""
    of = {_NAMES[state]: one for state, one in metrics.measured.items()}
    changes = [delta.of(state) for state in metrics.measured]
    yield intervals(of)
    rows = [
        ("Right answers", [percent(one.accuracy) for one in of.values()]),
        ("95 % interval", [interval(one.ci95[0] * 100, one.ci95[1] * 100) for one in of.values()]),
        ("Against all heads", ["" if one is None else points(one.pp) for one in changes]),
        ("95 % interval of it", ["" if one is None else interval(*one.ci95) for one in changes]),
        ("Macro-F1", [percent(one.macro_f1) for one in of.values()]),
        ("Same answer as all heads", [_share(one.agreement) for one in of.values()]),
        ("Texts", [f"{one.n:,}" for one in of.values()]),
    ]
    yield table(caption, list(of), rows)


def recovered(run: RunDocument, others: Mapping[str, Quality]) -> dict[str, Quality]:
    """How the same mask answers as pruned, and after each recovery that was measured."""
    found = {}
    if run.metrics.pruned is not None:
        found["as pruned"] = Quality.of(run, "pruned")
    if run.metrics.recovered is not None:
        found[_DONE.get(run.settings.recover, "recovered")] = Quality.of(run, "recovered")
    return found | {name: one for name, one in others.items() if name not in found}


def recoveries(run: RunDocument, compared: Mapping[str, Quality]) -> Iterator[str]:
    """The same heads after each recovery, how much of the loss it regained, and what each step brought."""
    full, found = run.metrics.full.accuracy, compared.values()
    lost = full - compared["as pruned"].accuracy if "as pruned" in compared else 0.0

    def regained(one: Quality) -> str:
        return percent(1 - (full - one.accuracy) / lost, 0) if lost > 0 and one is not compared["as pruned"] else ""

    rows = [
        ("Right answers", [percent(one.accuracy) for one in found]),
        ("95 % interval", [interval(one.ci95[0] * 100, one.ci95[1] * 100) for one in found]),
        ("Against all heads", [points(one.pp) for one in found]),
        ("95 % interval of it", [interval(*one.pp_ci95) for one in found]),
        ("Of the loss regained", [regained(one) for one in found]),
        ("Same answer as all heads", [_share(one.agreement) for one in found]),
    ]
    if len(compared) > 1:
        yield table("The same heads, differently recovered, on the same texts", list(compared), rows)
    if run.steps:
        yield table("What each step brought", [STEPS[one.step] for one in run.steps], _stepwise(run.steps))
    if run.distill is not None:
        said = run.distill
        taken = "was taken" if said.accepted else "was rejected, so nothing changed"
        heeded = (
            f" Before it {percent(said.agreement_before)} of {said.held_out:,} held-out texts were answered as with "
            f"all heads, after it {percent(said.held_out_agreement)}."
        )
        yield (
            f"<p class=note>Distillation on {said.examples:,} texts {taken}: {safe(said.reason)}."
            f"{'' if said.agreement_before is None else heeded}</p>"
        )


def _stepwise(steps: Sequence[RecoveryStep]) -> list[tuple[str, list[str]]]:
    gained = [one.gained for one in steps]
    return [
        ("Right answers", [percent(one.metrics.accuracy) for one in steps]),
        ("95 % interval", [interval(100 * one.metrics.ci95[0], 100 * one.metrics.ci95[1]) for one in steps]),
        ("Against the step before", ["" if one is None else points(one.pp) for one in gained]),
        ("95 % interval of it", ["" if one is None else interval(*one.ci95) for one in gained]),
        ("Same answer as all heads", [_share(one.metrics.agreement) for one in steps]),
        ("Evaluation texts", [f"{one.metrics.n:,}" for one in steps]),
        ("Worked on, texts", ["" if one.examples is None else f"{one.examples:,}" for one in steps]),
        ("Took", ["" if one.seconds is None else duration(one.seconds) for one in steps]),
        ("Taken", [{None: "", True: "yes", False: "no"}[one.accepted] for one in steps]),
    ]


def _cost(run: RunDocument) -> Iterator[str]:
    ratio, full, pruned = run.latency_ratio, run.cost.full, run.cost.pruned
    before, after = full.latency_ms, pruned.latency_ms
    if ratio is None or before is None or after is None:
        yield "<p>Time and size were not measured.</p>"
        return
    against = times(ratio.median) if ratio.measurable else "no measurable change"
    rows = [
        ("Time against all heads", ["1 ×", against]),
        ("95 % interval of it", ["", f"{interval(*ratio.ci95, 2)}, n = {before.repeats} rounds"]),
        ("Time of a batch, median", [f"{one.median:.1f} ms" for one in (before, after)]),
        ("95th percentile", [f"{one.p95:.1f} ms" for one in (before, after)]),
        ("Weights", [f"{(one.parameters or 0) / 1e6:.1f} M" for one in (full, pruned)]),
        ("Operations of one text", [f"{(one.flops or 0) / 1e9:.2f} G" for one in (full, pruned)]),
    ]
    yield table("Cost", ["all heads", "pruned"], rows)
    yield (
        f"<p class=note>A batch is {before.batch} texts of {before.length} tokens; {before.repeats} rounds, "
        f"both models in turn: {times(ratio.median)} {interval(*ratio.ci95, 2)}. Attention takes "
        f"{_share(run.attention_share, 0)} of the full model's time: no removal of heads can save more.</p>"
    )


def _share(value: float | None, digits: int = 1) -> str:
    return "" if value is None else percent(value, digits)


def budgets(run: RunDocument, of: BudgetTable) -> Iterator[str]:
    """Right answers at every budget that was measured, beside all heads and the best guess without reading."""
    found = [
        RightAt(row.budget, row.quality.accuracy, *row.quality.ci95) for row in of.rows() if row.quality is not None
    ]
    chance = run.data.eval.most_frequent
    guess = (
        ""
        if chance is None
        else f" Whoever always names the most frequent class is right in {percent(chance)} of the texts: what comes "
        "near to that has forgotten the task."
    )
    after = _AFTER.get(of.recover, "as pruned")
    yield (
        f"<p>Right answers {after}, at {len(found)} of {len(of.budgets)} budgets, with 95 % intervals (n = "
        f"{run.metrics.full.n:,}).{guess}</p>"
    )
    yield by_budget(found, full=run.metrics.full.accuracy, chance=chance, at=run.budget.attained)


def in_the_world(found: RealWorld) -> Iterator[str]:
    """Texts an hour, energy and money, with what is assumed."""
    # A watt's worth of each, from which a reader's own assumptions go on.
    kwh = [one.kwh / found.assumed.watts for one in (found.full, found.pruned, found.low, found.high)]
    yield (
        f'<div id="world" data-kwh="{safe(json.dumps(kwh))}" data-watts="{found.assumed.watts:g}" '
        f'data-price="{found.assumed.price:g}">'
    )
    yield table("In units of the real world", ["all heads", "pruned", "95 % interval"], found.rows)
    yield f"</div><p class=note>{safe(found.words)} <code>cahp report --watts --price</code> assumes others.</p>"
