"""Compare two runs of lm-evaluation-harness item by item.

    cahp experiment pair --samples full/samples_piqa.jsonl --samples pruned/samples_piqa.jsonl

The harness prints the score of each run with its own error. Here the same items are paired, so that hard items count
for no run: each metric has the difference B - A with its 95 % interval and its p, also corrected for all metrics (Holm
1979). Right or wrong answers have the exact test of McNemar (1947), all other values random flips of signs. Of a
perplexity the difference is that of the loss, in nats for each word or byte. No model is loaded.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from cahp.comparison.sentences import describe_p
from cahp.files import json_text
from cahp.outcomes import compare_signs, estimate_change, estimate_mean, estimate_ratio, to_perplexity, wilson
from cahp.values import DataError, Estimate, Floats, OptionError, Unit, holm_correction
from cahp.words import counted, first_line, interval, number, printable, signed

#: Metrics whose values are log-likelihoods, each with the number that it is divided by.
_DIVIDED = ("word_perplexity", "byte_perplexity", "bits_per_byte")
#: Fields of a sample that are read as texts.
_TEXTS = ("doc_id", "doc_hash", "prompt_hash", "target_hash", "filter")
_HEAD = ("metric", "n", "A", "B", "B - A", "95 % interval", "p", "p (Holm)")


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare the two runs, and print the table, or JSON."""
    parser = argparse.ArgumentParser(prog="cahp experiment pair", description=__doc__.splitlines()[0])
    about = "a samples_*.jsonl file that the harness wrote with --log_samples; give the option twice"
    parser.add_argument("--samples", type=Path, action="append", default=[], help=about)
    parser.add_argument("--seed", type=int, default=42, help="seed of the bootstrap of intervals")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    if len(options.samples) != 2:
        raise OptionError("two runs are compared; write --samples A --samples B")
    a, b = map(read_samples, options.samples)
    paired = pair(a, b, seed=options.seed)
    if options.json:
        print(json_text(paired), end="")
        return
    print(*describe(paired), sep="\n")


# Files -----------------------------------------------------------------------------------------------------------


def read_samples(path: Path) -> pd.DataFrame:
    """Read a file of samples into a table with a row for each value.

    Its columns are ``document`` (its digest, or in files without digests its number) and ``copy`` (the number of equal
    documents before it), ``prompt`` and ``target`` (digests; empty: not recorded), ``metric`` and ``filter``, and
    ``number`` and ``size``: a log-likelihood and what it is divided by, or a number and 1. Its attributes are the
    ``name`` of the file, ``by_digest``, and the metrics ``unread``, with values that are no finite numbers.

    Raises:
        DataError: If it holds no samples; the message names the first line that cannot be read.
    """
    values: list[dict[str, Any]] = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({first_line(error)}); name a samples_*.jsonl file") from error
    for place, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        problem = "is no sample"
        row = None
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            problem = f"is not JSON ({first_line(error)})"
        if not isinstance(row, dict) or not isinstance(row.get("metrics"), list):
            raise DataError(
                f"{path.name}, line {place}: {problem}; give a samples_*.jsonl file that lm-evaluation-harness wrote "
                "with --log_samples"
            )
        texts = {name: printable(str(row.get(name, ""))[:200]) for name in _TEXTS}
        for name in map(str, row["metrics"]):
            number_, size = read_value(name, row.get(name))
            values.append({**texts, "metric": printable(name[:100]), "number": number_, "size": size})
    table = pd.DataFrame(values, columns=[*_TEXTS, "metric", "number", "size"])
    unread = set(table.loc[table["number"].isna(), "metric"])
    table = table[table["number"].notna()].rename(columns={"prompt_hash": "prompt", "target_hash": "target"})
    if table.empty:
        raise DataError(
            f"{path.name} has no finite number for a metric ({_list(unread)}); run the task again with --log_samples, "
            "by a metric with a number for each item"
        )
    by_digest = bool((table["doc_hash"] != "").all())
    table["document"] = table["doc_id"]
    if by_digest:
        table["document"] = table["doc_hash"]
    # Of equal documents the first belongs to the first of the other run.
    table["copy"] = table.groupby(["document", "metric", "filter"]).cumcount()
    table.attrs.update(name=path.name, by_digest=by_digest, unread=unread)
    return table


def read_value(name: str, given: Any) -> tuple[float, float]:
    """Return a number and 1, or a log-likelihood and what it is divided by; not a number where the value is none."""
    size: Any = 1
    if name in _DIVIDED and isinstance(given, list) and len(given) == 2:
        given, size = given
    try:
        value = float(given), float(size)
    except (OverflowError, TypeError, ValueError):
        return math.nan, 1.0
    if isinstance(given, str) or not math.isfinite(value[0]) or not value[1] > 0:
        return math.nan, 1.0
    return value


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(set(names))[:20]) or "none is named"


# Pairs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A metric of two runs on the same ``n`` items: ``a``, ``b``, and the ``difference`` b - a with its ``p``.

    Of right and wrong answers the difference is in points, and ``only_a`` and ``only_b`` count the items that only one
    has right (None: other values). ``p_holm`` is corrected for all rows.
    """

    metric: str
    filter: str
    n: int
    a: Estimate
    b: Estimate
    difference: Estimate
    test: str
    p: float
    p_holm: float
    only_a: int | None = None
    only_b: int | None = None

    @property
    def label(self) -> str:
        """The metric, with its filter where it has one."""
        if self.filter in ("", "none"):
            return self.metric
        return f"{self.metric} ({self.filter})"


@dataclass(frozen=True)
class Paired:
    """Two runs, compared: a row for each metric that both have, and what was left out."""

    a: str
    b: str
    rows: tuple[Row, ...]
    notices: tuple[str, ...]


def pair(a: pd.DataFrame, b: pd.DataFrame, *, seed: int = 42) -> Paired:
    """Compare two tables of samples on the items that both have; ``seed`` draws the bootstrap of intervals.

    Raises:
        DataError: If they have no item, or no metric, in common.
    """
    names = a.attrs["name"], b.attrs["name"]
    both = " and ".join(names)
    again = "give two runs of one task, of the same version and split"
    if a.attrs["by_digest"] != b.attrs["by_digest"]:
        raise DataError(f"only one of {both} has digests of its documents (doc_hash); {again}")
    notices: list[str] = []
    if not a.attrs["by_digest"]:
        notices.append("items are matched by doc_id, since the files have no digests of documents")
    key = ["document", "copy"]
    items = a.drop_duplicates(key).merge(b.drop_duplicates(key), on=key, suffixes=("_a", "_b"))
    same = items[~_differ(items, "target")]
    if same.empty:
        problem = "have no item in common"
        if len(items):
            problem = f"have another right answer for each of the {counted(len(items), 'item')} in common"
        raise DataError(f"{both} {problem}; {again}")
    for name, table in zip(names, (a, b), strict=True):
        total = len(table.drop_duplicates(key))
        if total > len(items):
            notices.append(f"{total - len(items):,} of {total:,} items of {name} are not in the other file")
    if len(same) < len(items):
        notices.append(f"{counted(len(items) - len(same), 'item')} with another right answer in each run left out")
    prompted = int(_differ(same, "prompt").sum())
    if prompted:
        notices.append(
            f"{prompted:,} of {len(same):,} items have another prompt in each run (version, examples or template of "
            "the task), so the difference is not only that of the models"
        )
    values = a.merge(b, on=[*key, "metric", "filter"], suffixes=("_a", "_b")).merge(same[key], on=key)
    # A perplexity is divided by the same words or bytes in both runs.
    values = values[values["size_a"] == values["size_b"]]
    if values.empty:
        raise DataError(f"{both} have no metric in common; {again}")
    rows: list[Row] = []
    for (metric, filter_), of_metric in values.groupby(["metric", "filter"], sort=False):
        numbers = of_metric[["number_a", "number_b"]].to_numpy()
        rows.append(compare(metric, filter_, numbers, of_metric["size_a"].to_numpy(), seed))
    alone = set(a["metric"]) ^ set(b["metric"])
    if alone:
        notices.append(f"only one run has {_list(alone)}")
    unread = a.attrs["unread"] | b.attrs["unread"]
    if unread:
        notices.append(f"some items have no number for {_list(unread)}")
    corrected = holm_correction([row.p for row in rows])
    final = [replace(row, p_holm=p) for row, p in zip(rows, corrected, strict=True)]
    return Paired(*names, tuple(final), tuple(notices))


def _differ(items: pd.DataFrame, column: str) -> pd.Series:
    """Return for each item whether both runs recorded the digest of a column, and these differ."""
    left = items[f"{column}_a"]
    right = items[f"{column}_b"]
    return (left != "") & (right != "") & (left != right)


def compare(metric: str, filter_: str, numbers: Floats, sizes: Floats, seed: int) -> Row:
    """Compare the values ``numbers (n, 2)`` of one metric in two runs; ``sizes (n,)`` divide log-likelihoods."""
    change = numbers[:, 1] - numbers[:, 0]
    only_a: int | None = None
    only_b: int | None = None
    test = "random signs"
    p = compare_signs(change)
    if metric in _DIVIDED or (metric == "perplexity" and bool((numbers <= 0).all())):
        # Losses in bits, or in nats where the metric is a perplexity.
        unit: Unit = "nats"
        losses = -numbers
        if metric == "bits_per_byte":
            unit = "bits"
            losses = -numbers / np.log(2)
        a, b, difference = (
            estimate_ratio(values, sizes, seed, unit) for values in (*losses.T, losses[:, 1] - losses[:, 0])
        )
        if unit == "nats":
            a = to_perplexity(a)
            b = to_perplexity(b)
    elif np.isin(numbers, (0.0, 1.0)).all():
        right = numbers.sum(axis=0).astype(int).tolist()
        a, b = (Estimate(count / len(numbers), wilson(count, len(numbers)), len(numbers), "share") for count in right)
        only_a = int((change < 0).sum())
        only_b = int((change > 0).sum())
        difference = estimate_change(change.astype(np.int64), seed)
        test = "McNemar"
        p = 1.0
        if only_a + only_b:
            p = float(binomtest(only_b, only_a + only_b).pvalue)
    else:
        a, b, difference = (estimate_mean(values, seed, "number") for values in (*numbers.T, change))
    return Row(metric, filter_, len(numbers), a, b, difference, test, p, p, only_a, only_b)


# Words -----------------------------------------------------------------------------------------------------------


def describe(paired: Paired) -> list[str]:
    """Return a comparison of two runs as lines of text."""
    table = [_HEAD]
    tests: list[str] = []
    for row in paired.rows:
        digits = {"share": 1, "points": 1}.get(row.difference.unit, 4)
        ends = ""
        if row.difference.ci95 is not None:
            ends = interval(*row.difference.ci95, digits)
        difference = signed(row.difference.value, digits)
        if row.difference.unit == "points":
            difference += " points"
        scores = [one.text if one.unit == "share" else number(one.value, digits) for one in (row.a, row.b)]
        p, p_holm = (describe_p(one).removeprefix("p ").removeprefix("= ") for one in (row.p, row.p_holm))
        table.append((row.label, f"{row.n:,}", scores[0], scores[1], difference, ends, p, p_holm))
        verdict = "no significant difference"
        if row.p_holm <= 0.05:
            verdict = "the runs differ"
        tested = f"test by {row.test} of differences"
        if row.only_a is not None:
            tested = f"{row.only_a:,} items right in A only, {row.only_b:,} in B only (exact test of {row.test})"
        tests.append(f"  {row.label}: {verdict}; {tested}")
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [f"A: {printable(paired.a)}", f"B: {printable(paired.b)}", ""]
    for label, *cells in table:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join((f"  {label.ljust(widths[0])}", *padded)))
    return [*lines, "", *tests, *(f"  note: {notice}" for notice in paired.notices)]


if __name__ == "__main__":
    main()
