"""The results in a report: outcomes, recoveries, cost, and outcomes by budget."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from cahp.exports.drawings import by_budget, intervals, table
from cahp.outcomes import HEADLINES, OUTCOMES, Outcomes, main_outcome
from cahp.recoveries import NONE, QUICK, RECOVERIES, name_of_result
from cahp.run.document import RunDocument, StateOutcomes
from cahp.studies.budget_sweep import BudgetTable
from cahp.values import Estimate
from cahp.words import capital, duration, percent, safe

_NAMES = {"full": "all heads", "pruned": "pruned", "recovered": "recovered"}


def figures(run: RunDocument) -> Iterator[str]:
    """Draw the outcomes on every split that was opened, and the cost."""
    yield from draw_outcomes("Quality", run.outcomes)
    if run.report is not None:
        yield from draw_outcomes(f"Quality on the {run.report.split} split", run.report.outcomes)
    if run.refit is not None:
        taken = "was accepted" if run.refit.accepted else "was rejected, so nothing changed"
        noun = RECOVERIES.get(run.refit.recovery, QUICK).noun
        yield f"<p class=note>The {noun} {taken}: {safe(run.refit.reason)}.</p>"
    yield from _cost(run)


def draw_outcomes(caption: str, states: StateOutcomes) -> Iterator[str]:
    """Draw the outcomes of the full, the pruned and the recovered model as a figure and a table."""
    named = {_NAMES[state]: outcomes for state, outcomes in states.items()}
    yield intervals(named)
    texts = [f"{main_outcome(outcomes)[1].n:,}" for outcomes in named.values()]
    yield table(caption, list(named), [*_rows(named.values()), ("Texts", texts)])


def _rows(columns: Iterable[Outcomes]) -> Iterator[tuple[str, list[str]]]:
    """A row for each outcome that was measured, with its interval where it has one."""
    columns = list(columns)
    for name, row in OUTCOMES.items():
        estimates = [outcomes.get(name) for outcomes in columns]
        if any(estimates):
            yield capital(row.row_label), ["" if one is None else one.text for one in estimates]
        if any(one is not None and one.ci95 for one in estimates):
            yield "95 % interval", ["" if one is None else one.interval for one in estimates]


def by_recovery(run: RunDocument, others: Mapping[str, Outcomes]) -> dict[str, Outcomes]:
    """Return the outcomes of the run's mask as pruned and after each recovery that was measured."""
    own = {"pruned": NONE.result, "recovered": name_of_result(run.settings.recover)}
    measured = {own[state]: outcomes for state, outcomes in run.outcomes.items() if state in own}
    return {**measured, **{name: outcomes for name, outcomes in others.items() if name not in measured}}


def recoveries(run: RunDocument, compared: Mapping[str, Outcomes]) -> Iterator[str]:
    """Draw the same heads after each recovery, the share of the loss it regained, and the gain of each step."""
    row, full = main_outcome(run.outcomes["full"])
    pruned = compared.get(NONE.result)
    lost = 0.0 if pruned is None else full.value - pruned[row.name].value
    regained = [
        "" if lost <= 0 or outcomes is pruned else percent(1 - (full.value - outcomes[row.name].value) / lost, 0)
        for outcomes in compared.values()
    ]
    rows = [*_rows(compared.values()), ("Share of the loss regained", regained)]
    if len(compared) > 1:
        yield table("The same heads after each recovery, on the same texts", list(compared), rows)
    if run.steps:
        gained = [step.gained for step in run.steps]
        rows = [
            *_rows(step.outcomes for step in run.steps),
            ("Change from the previous step", ["" if one is None else one.text for one in gained]),
            ("95 % interval of this", ["" if one is None else one.interval for one in gained]),
            ("Evaluation texts", [f"{step.outcomes[row.name].n:,}" for step in run.steps]),
            ("Training texts", ["" if step.examples is None else f"{step.examples:,}" for step in run.steps]),
            ("Time", ["" if step.seconds is None else duration(step.seconds) for step in run.steps]),
            ("Accepted", [{None: "", True: "yes", False: "no"}[step.accepted] for step in run.steps]),
        ]
        yield table("Recovery step by step", [step.result for step in run.steps], rows)
    if run.distill is not None:
        distill = run.distill
        taken = "was accepted" if distill.accepted else "was rejected; nothing changed"
        agreement = (
            f" Agreement with the full model on {distill.held_out:,} held-out texts: "
            f"{percent(distill.agreement_before)} before, {percent(distill.held_out_agreement)} after."
        )
        yield (
            f"<p class=note>Distillation on {distill.examples:,} texts {taken}: {safe(distill.reason)}."
            f"{'' if distill.agreement_before is None else agreement}</p>"
        )


def _cost(run: RunDocument) -> Iterator[str]:
    ratio, full, pruned = run.latency_ratio, run.cost.full, run.cost.pruned
    before, after = full.latency_ms, pruned.latency_ms
    if ratio is None or before is None or after is None:
        yield "<p>Time and size were not measured.</p>"
        return
    against = ratio.text if ratio.excludes(1) else "no measurable change"
    rows = [
        ("Time relative to all heads", ["1 ×", against]),
        ("95 % interval of this", ["", f"{ratio.interval}, n = {before.repeats} rounds"]),
        ("Time per batch, median", [f"{one.median:.1f} ms" for one in (before, after)]),
        ("95th percentile", [f"{one.p95:.1f} ms" for one in (before, after)]),
        ("Weights", [f"{(one.parameters or 0) / 1e6:.1f} M" for one in (full, pruned)]),
        ("Operations per text", [f"{(one.flops or 0) / 1e9:.2f} G" for one in (full, pruned)]),
    ]
    yield table("Cost", ["all heads", "pruned"], rows)
    share = "" if run.attention_share is None else percent(run.attention_share, 0)
    yield (
        f"<p class=note>A batch is {before.batch} texts of {before.length} tokens; {before.repeats} rounds, "
        f"alternating the models: {ratio.text} {ratio.interval}. Attention takes "
        f"{share} of the full model's time, which bounds what pruning heads can save.</p>"
    )


def budgets(run: RunDocument, swept: BudgetTable) -> Iterator[str]:
    """Draw each headline outcome at every measured budget, with levels of the full model and of the majority class."""
    full, majority = swept.full or {}, run.data.eval.most_frequent
    for head in HEADLINES:
        measured = swept.estimates(head.name)
        if len(measured) < 2 or head.name not in full:
            continue
        levels = {"all heads": full[head.name]}
        baseline = ""
        if head.needs_labels and majority is not None:
            levels["majority-class baseline"] = Estimate(majority, None, full[head.name].n, head.unit)
            baseline = f" Accuracy of the majority-class baseline: {percent(majority)}."
        yield (
            f"<p>{capital(head.label)} {RECOVERIES[swept.recover].after or NONE.result}, at "
            f"{len(measured)} of {len(swept.budgets)} budgets, with 95 % intervals (n = {full[head.name].n:,})."
            f"{baseline}</p>"
        )
        yield by_budget(head.label, measured, levels=levels, at=run.budget.attained)
