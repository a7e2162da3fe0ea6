"""A comparison in the terminal: its cost and its results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd

from cahp.comparison.sentences import (
    after,
    count_texts,
    describe_test,
    describe_tie,
    is_equivalent,
    name_outcome,
    verdict_sentence,
)
from cahp.outcomes import OUTCOMES
from cahp.terminal.printing import list_notes
from cahp.words import duration

if TYPE_CHECKING:
    from cahp.comparison import Comparison, SplitResults
    from cahp.comparison.running import ComparisonCost


def announcement(cost: ComparisonCost) -> str:
    """The estimated cost of a comparison and its primary test, before it begins."""
    cached = f" ({cost.cached} were measured before)" if cost.cached else ""
    time = duration(60 * cost.minutes)
    words = (
        f"{cost.cells - cost.cached:,} cells to measure{cached}: about {cost.forwards:,.0f} forward passes, "
        f"{cost.choosing:,.0f} of them to select heads; at {cost.forward_ms:.1f} ms each about {time}"
    )
    if cost.primary:
        words += f"; primary test: {cost.primary}"
    return words


def comparison_lines(comparison: Comparison) -> Iterator[str]:
    """The results of a comparison as lines of text."""
    results = comparison.results
    document = comparison.document
    summary = comparison.summary
    yield (
        f"{document.model.id} on {document.data.id}: {len(results.methods)} methods, {len(document.cells)} masks, "
        f"{len(document.seeds)} seed(s)"
    )
    yield from _primary(results)
    shown = [comparison.results_on(part, name) for part in reversed(document.parts) for name in results.outcomes]
    for outcome_results in shown:
        for recovery in results.recoveries:
            yield ""
            yield from _table(outcome_results, recovery)
            if outcome_results.outcome == "nll":
                yield ""
                yield from _table(outcome_results, recovery, "perplexity")
    yield ""
    yield f"  {summary.rule}"
    if results.primary is not None:
        yield "  descriptive tests:"
    for outcome_results in shown:
        yield from _verdicts(outcome_results)
    yield ""
    yield "  the paper's claims on these texts:"
    for finding in comparison.claims:
        yield f"    {finding.claim}: {finding.status}. {finding.words}"
    yield "    Finds the number by itself: `cahp prune --budget auto` compares with unstructured data."
    yield ""
    for row in summary.consensus:
        if row.methods < 2:
            continue
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


def _primary(results: SplitResults) -> Iterator[str]:
    """The primary test against each method."""
    primary = results.primary
    if primary is None or not primary.tests:
        return
    yield ""
    yield f"  primary test, named beforehand ({primary.words}); all others are descriptive:"
    for test in primary.tests:
        yield f"    {verdict_sentence(test, results.budgets, noun=results.noun)}"


def _table(results: SplitResults, recovery: str, outcome: str | None = None) -> Iterator[str]:
    """The outcome of every method after a recovery, beside the overlap of its masks over seeds.

    ``outcome`` is shown instead of the results', which are tested.
    """
    outcome = outcome or results.outcome
    when = after(recovery)
    row = OUTCOMES[outcome]
    own = outcome == results.outcome
    n = f"{results.n:,}"
    if results.noun != "texts":
        n += f" {results.noun}"
    if own and not row.difference:
        n += f", all heads {results.full_text()}"
    yield f"  {row.label} on {results.split} {when}, n = {n}"
    if recovery != "none" and recovery in results.full and own:
        yield f"  (all heads {when}: {results.full_text(recovery)})"
    cells = results.write_means(recovery, outcome).add_suffix(" heads")
    areas = {method: area for (how, method), area in results.areas.items() if how == recovery and own}
    if areas:
        covered = next(iter(areas.values())).budgets
        estimates = {method: area.estimate for method, area in areas.items()}
        texts = pd.Series({method: f"{area.text} {area.interval}" for method, area in estimates.items()})
        cells[f"area {covered[0]}-{covered[-1]} heads"] = texts.reindex(cells.index, fill_value="–")
    cells["own overlap"] = [results.own_overlap(name) for name in cells.index]
    width = max(len(name) for name in results.methods)
    rows = [("", *cells.columns), *cells.itertuples(name=None)]
    cell_width = max(25, *(len(text) + 1 for _, *texts in rows for text in texts))
    for name, *texts in rows:
        yield f"    {name:<{width}}" + "".join(f"{text:>{cell_width}}" for text in texts)
    if outcome == results.outcomes[0] and (rejected := results.rejections(recovery)):
        yield f"    {rejected}"


def _verdicts(result: SplitResults) -> Iterator[str]:
    tests = (*result.overall, *result.verdicts)
    for test in tests:
        if not test.tie:
            yield f"    {result.split}: {verdict_sentence(test, result.budgets, noun=result.noun)}"
    ties = [test for test in tests if test.tie]
    if not ties:
        return
    place = f"{result.split}, {name_outcome(result.outcome)}"
    n = count_texts(max(ties, key=lambda test: test.seeds), result.noun)
    yield f"    {place}: {len(ties)} of {len(tests)} tests not significant ({n}):"
    where: dict[str, list[str]] = {}
    for test in ties:
        note = ""
        if not test.tested:
            note = ", one seed: no verdict"
        elif is_equivalent(test):
            note = f", {describe_tie(test)}"
        where.setdefault(describe_test(test, result.budgets), []).append(f"{test.method} ({test.lead}{note})")
    for place, methods in where.items():
        yield f"      {place}: {result.against} and {', '.join(methods)}"
