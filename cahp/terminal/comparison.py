"""A comparison in the terminal: its cost and its results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cahp.comparison.sentences import after, describe_test, describe_tie, is_equivalent, name_outcome, verdict_sentence
from cahp.outcomes import OUTCOMES
from cahp.terminal.printing import list_notes
from cahp.words import duration

if TYPE_CHECKING:
    from cahp.comparison import Comparison, SplitResults
    from cahp.comparison.document import Verdict
    from cahp.comparison.running import ComparisonCost


def announcement(cost: ComparisonCost) -> str:
    """The estimated cost of a comparison, before it begins."""
    cached = f" ({cost.cached} were measured before)" if cost.cached else ""
    time = duration(60 * cost.minutes)
    return (
        f"{cost.cells - cost.cached:,} cells to measure{cached}: about {cost.forwards:,.0f} forward passes, "
        f"{cost.choosing:,.0f} of them to select heads; at {cost.forward_ms:.1f} ms each about {time}"
    )


def comparison_lines(comparison: Comparison) -> Iterator[str]:
    """The results of a comparison as lines of text."""
    results, document, summary = comparison.results, comparison.document, comparison.summary
    yield (
        f"{document.model.id} on {document.data.id}: {len(results.methods)} methods, {len(document.cells)} masks, "
        f"{len(document.seeds)} seed(s)"
    )
    shown = [comparison.results_on(part, name) for part in reversed(document.parts) for name in results.outcomes]
    for one in shown:
        for recovery in results.recoveries:
            yield ""
            yield from _table(one, recovery)
            if one.outcome == "nll":
                yield ""
                yield from _table(one, recovery, "perplexity")
    yield ""
    yield f"  {summary.rule}"
    for one in shown:
        yield from _verdicts(one)
    yield ""
    yield "  the paper's claims on these texts:"
    for finding in comparison.claims:
        yield f"    {finding.claim}: {finding.status}. {finding.words}"
    yield "    Finds the number by itself: `cahp prune --budget auto` compares with unstructured data."
    yield ""
    for row in summary.consensus:
        yield (
            f"  heads     at {row.budget}: {len(row.everybody)} kept by all {row.methods} methods with every seed, "
            f"{len(row.nobody)} by none (without random selection)"
        )
    for budget, overlap in results.random_overlap.items():
        yield f"            at {budget}: random masks have an overlap of {overlap:.2f} (Jaccard index)"
    costs = [f"{row.method} {row.forwards:,.0f}" for row in summary.cost if row.forwards is not None]
    if costs:
        yield f"  selecting in forward passes: {', '.join(costs)}"
    yield from list_notes(document.notices, document.test_opened)


def _table(results: SplitResults, recovery: str, outcome: str | None = None) -> Iterator[str]:
    """The outcome of every method after a recovery, beside the overlap of its masks over seeds.

    ``outcome`` is shown instead of the results', which are tested.
    """
    outcome = outcome or results.outcome
    when, row, own = after(recovery), OUTCOMES[outcome], outcome == results.outcome
    full = "" if row.difference or not own else f", all heads {results.full_text()}"
    noun = "" if results.noun == "texts" else f" {results.noun}"
    yield f"  {row.label} on {results.split} {when}, n = {results.n:,}{noun}{full}"
    if recovery != "none" and recovery in results.full and own:
        yield f"  (all heads {when}: {results.full_text(recovery)})"
    budgets = results.budgets_after(recovery)
    areas = results.areas if own else {}
    covered = next((area.budgets for (how, _), area in areas.items() if how == recovery), ())
    titles = [f"{budget} heads" for budget in budgets]
    titles += [f"area {covered[0]}-{covered[-1]} heads"] if covered else []
    titles += ["own overlap"]
    width = max(len(name) for name in results.methods)
    yield f"    {'':<{width}}" + "".join(f"{title:>25}" for title in titles)
    for name in results.methods:
        means = [results.means.get((recovery, name, budget)) for budget in budgets]
        estimates = [mean.outcomes.get(outcome) if mean else None for mean in means]
        if covered:
            area = areas.get((recovery, name))
            estimates.append(area.estimate if area else None)
        cells = [f"{estimate.text} {estimate.interval}" if estimate else "–" for estimate in estimates]
        yield f"    {name:<{width}}" + "".join(f"{text:>25}" for text in (*cells, results.own_overlap(name)))
    if outcome == results.outcomes[0] and (rejected := results.rejections(recovery)):
        yield f"    {rejected}"


def _note(test: Verdict) -> str:
    if not test.tested:
        return ", one seed: no verdict"
    return f", {describe_tie(test)}" if is_equivalent(test) else ""


def _verdicts(result: SplitResults) -> Iterator[str]:
    tests, place = (*result.overall, *result.verdicts), f"{result.split}, {name_outcome(result.outcome)}"
    for test in tests:
        if not test.tie:
            yield f"    {result.split}: {verdict_sentence(test, result.budgets, noun=result.noun)}"
    ties = [test for test in tests if test.tie]
    if ties:
        yield f"    {place}: no difference is resolved at this n in {len(ties)} of {len(tests)} tests:"
        where: dict[str, list[str]] = {}
        for test in ties:
            group = where.setdefault(describe_test(test, result.budgets), [])
            group.append(f"{test.method} ({test.lead}{_note(test)})")
        for place, methods in where.items():
            yield f"      {place}: {result.against} and {', '.join(methods)}"
