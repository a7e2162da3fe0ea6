"""A paired comparison in the terminal and on screen."""

from __future__ import annotations

from collections.abc import Iterator

from cahp.comparison.sentences import write_p
from cahp.features.paired_tasks.pairing import PairedRow, PairedSamples
from cahp.values import Estimate
from cahp.words import interval, number, signed

_HEAD = ("metric", "n", "A", "B", "B - A", "95 % interval", "p", "p (Holm)")


def paired_lines(paired: PairedSamples) -> Iterator[str]:
    """Return a comparison of two runs as lines of text."""
    yield f"A: {paired.a}"
    yield f"B: {paired.b}"
    yield ""
    table = [_HEAD, *map(row_cells, paired.rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for first, *others in table:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        yield "  ".join((f"  {first.ljust(widths[0])}", *cells))
    yield ""
    for row in paired.rows:
        yield f"  {describe_row(row)}"
    for notice in paired.notices:
        yield f"  note: {notice}"


def row_cells(row: PairedRow) -> tuple[str, ...]:
    """Return the cells of a row, in the order of the table."""
    a, b = (_write(one) for one in (row.a, row.b))
    ends = ""
    if row.difference.ci95 is not None:
        ends = interval(*row.difference.ci95, _digits(row.difference))
    p = [write_p(one).removeprefix("p ").removeprefix("= ") for one in (row.p, row.p_holm)]
    return (row.label, f"{row.n:,}", a, b, _write(row.difference, with_sign=True), ends, *p)


def describe_row(row: PairedRow) -> str:
    """Describe how the difference of a row was tested, and whether it is significant."""
    verdict = "no significant difference"
    if row.p_holm <= 0.05:
        verdict = "the runs differ"
    tested = f"test by {row.test} of differences"
    if row.only_a is not None:
        tested = f"{row.only_a:,} items right in A only, {row.only_b:,} in B only (exact test of {row.test})"
    return f"{row.label}: {verdict}; {tested}"


def _digits(estimate: Estimate) -> int:
    return {"share": 1, "points": 1}.get(estimate.unit, 4)


def _write(estimate: Estimate, *, with_sign: bool = False) -> str:
    if estimate.unit == "share":
        return estimate.text
    text = number(estimate.value, _digits(estimate))
    if with_sign:
        text = signed(estimate.value, _digits(estimate))
    if estimate.unit == "points":
        text += " points"
    return text
