"""A finished comparison: its document and arrays, its results on a split, and its files. Reading one needs no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cahp.comparison.arrays import Answers, read_arrays, write_arrays
from cahp.comparison.claims import Finding, assess_claims
from cahp.comparison.document import (
    SCHEMA,
    TESTED,
    Area,
    AreaVerdict,
    ComparisonDocument,
    Mean,
    Participant,
    Primary,
    Verdict,
    list_tested,
    tabulate_cells,
    write_table,
)
from cahp.comparison.plan import FULL
from cahp.comparison.summary import Consensus, MethodCost, Summary, summarise
from cahp.files import finish_replacing, json_text, plain_json
from cahp.outcomes import OUTCOMES
from cahp.output import Mark, Output
from cahp.recoveries import NONE, RECOVERIES
from cahp.values import CahpError, Estimate
from cahp.words import counted

FILE = "compare.json"
_TABLE = "comparison.csv"
ARRAYS = "compare.npz"
#: The files that a comparison writes, and the mark of its folder.
FILES = (FILE, _TABLE, ARRAYS)
MARK = Mark(FILE, "cahp.compare")
#: A thousand cells take two megabytes; JSON in memory may be thirty times as large.
_LARGEST_FILE = 32 << 20
_WRITE_ONE = "write one with `cahp compare --out DIR`"
#: More heads than any model has.
_MOST_HEADS = 65_536
#: Names of methods: short, and without any characters that Markdown interprets.
_NAME = re.compile("(?=.{1,60}$)[A-Za-z0-9]+([-_.][A-Za-z0-9]+)*")


@dataclass(frozen=True, eq=False)
class SplitResults:
    """The results of a comparison on one ``part`` (``eval`` or ``report``), in one ``outcome``.

    ``means`` are by recovery, method and budget, ``areas`` by recovery and method; ``overall`` are the tests of areas,
    ``verdicts`` those at one budget. ``primary`` is the primary test, if it is on this part in this outcome; all others
    are descriptive. ``overlap`` is by two methods in the order of their names, or one method twice (its own masks), and
    budget; ``random_overlap`` by budget.
    """

    document: ComparisonDocument
    summary: Summary
    part: str
    outcome: str
    means: Mapping[tuple[str, str, int], Mean]
    areas: Mapping[tuple[str, str], Area]
    verdicts: tuple[Verdict, ...]
    overall: tuple[AreaVerdict, ...]
    primary: Primary | None
    overlap: Mapping[tuple[str, str, int], float]
    random_overlap: Mapping[int, float]

    @classmethod
    def of(cls, document: ComparisonDocument, summary: Summary, part: str, outcome: str | None = None) -> SplitResults:
        """Select the results of a comparison on ``part``; ``outcome`` None is the first that was measured.

        Raises:
            ValueError: If parts contradict each other.
        """
        split = document.data.of(part).split
        means = {(mean.recovery, mean.method, mean.budget): mean for mean in summary.means if mean.split == split}
        outcomes = _list_outcomes(means)
        if not outcomes or outcome not in (None, *outcomes):
            raise ValueError("an outcome that was not measured")
        place = split, outcome or outcomes[0]
        primary = summary.primary
        if primary is not None and (primary.split, primary.outcome) != place:
            primary = None
        overlap: dict[tuple[str, str, int], float] = {}
        random_overlap: dict[int, float] = {}
        for pair in summary.overlap.methods:
            first, second = sorted(pair.methods)
            overlap[first, second, pair.budget] = pair.jaccard
            random_overlap[pair.budget] = pair.chance
        for own in summary.overlap.seeds:
            overlap[own.method, own.method, own.budget] = own.jaccard
            random_overlap[own.budget] = own.chance
        results = cls(
            document,
            summary,
            part,
            place[1],
            means=means,
            areas={(one.recovery, one.method): one for one in summary.areas if (one.split, one.outcome) == place},
            verdicts=tuple(test for test in summary.verdicts if (test.split, test.outcome) == place),
            overall=tuple(test for test in summary.area_verdicts if (test.split, test.outcome) == place),
            primary=primary,
            overlap=overlap,
            random_overlap=random_overlap,
        )
        _check(results)
        return results

    @property
    def split(self) -> str:
        """The name of the split."""
        return self.document.data.of(self.part).split

    @cached_property
    def outcomes(self) -> tuple[str, ...]:
        """The outcomes by which methods are tested."""
        return _list_outcomes(self.means)

    @property
    def n(self) -> int:
        """The number of texts, or units of another ``noun``."""
        if self.document.protocol(self.part) is None:
            return self.document.data.of(self.part).examples
        return self.estimate(next(iter(self.means.values()))).n

    @property
    def noun(self) -> str:
        """What ``n`` counts."""
        return self.document.noun(self.part, self.outcome)

    @property
    def methods(self) -> Mapping[str, Participant]:
        """The methods that took part."""
        return self.document.methods

    @property
    def against(self) -> str:
        """The method that the others are compared with."""
        return self.summary.against

    @property
    def recoveries(self) -> tuple[str, ...]:
        """The recoveries, in the order of the plan."""
        return self.document.recoveries

    @property
    def by_cost(self) -> tuple[str, ...]:
        """The recoveries, the cheapest first."""
        return tuple(name for name in RECOVERIES if name in self.recoveries)

    @cached_property
    def layers(self) -> Mapping[tuple[str, int], tuple[float, ...]]:
        """Heads kept in each layer, by method and budget."""
        return {(row.method, row.budget): row.mean for row in self.summary.layers}

    @cached_property
    def consensus(self) -> Mapping[int, Consensus]:
        """The heads that all methods keep, by budget."""
        return {row.budget: row for row in self.summary.consensus}

    @cached_property
    def cost(self) -> Mapping[str, MethodCost]:
        """The cost of each method."""
        return {row.method: row for row in self.summary.cost}

    @cached_property
    def full(self) -> Mapping[str, float]:
        """The outcome of the full model by recovery, the mean over seeds."""
        cells = tabulate_cells(self.document)
        cells = cells[(cells["method"] == FULL) & (cells["part"] == self.part)].dropna(subset=[self.outcome])
        full = {name: float(np.mean(values)) for name, values in cells.groupby("recovery", sort=False)[self.outcome]}
        if OUTCOMES[self.outcome].difference:
            # The full model does not differ from itself.
            full[NONE.name] = 0.0 if OUTCOMES[self.outcome].lower_is_better else 1.0
        return full

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row for each of the ``means``, with its ``value`` and interval (``low``, ``high``)."""
        rows = []
        for (recovery, method, budget), mean in self.means.items():
            own = self.estimate(mean)
            counts = (mean.seeds, mean.masks, mean.rejected)
            rows.append((recovery, method, budget, own.value, own.low, own.high, *counts))
        columns = ["recovery", "method", "budget", "value", "low", "high", "seeds", "masks", "rejected"]
        return pd.DataFrame(rows, columns=columns)

    def budgets_after(self, recovery: str) -> list[int]:
        """The budgets measured after a recovery, ascending."""
        return sorted({budget for measured, _, budget in self.means if measured == recovery})

    @property
    def budgets(self) -> tuple[int, ...]:
        """All measured budgets, ascending."""
        return tuple(sorted({budget for _, _, budget in self.means}))

    def rank(self, recovery: str, budget: int) -> list[Mean]:
        """The means of the methods at a budget after a recovery, the best first."""
        means = [mean for (how, _, at), mean in self.means.items() if (how, at) == (recovery, budget)]
        falls = not OUTCOMES[self.outcome].lower_is_better
        return sorted(means, key=lambda mean: self.estimate(mean).value, reverse=falls)

    def tests_at(self, recovery: str, budget: int) -> list[Verdict]:
        """The tests of differences at a budget after a recovery."""
        return [test for test in self.verdicts if (test.recovery, test.budget) == (recovery, budget)]

    def estimate(self, mean: Mean) -> Estimate:
        """The outcome of a mean."""
        return mean.outcomes[self.outcome]

    def full_text(self, recovery: str = "none") -> str:
        """The outcome of the full model, such as ``96.5 %``."""
        return Estimate(self.full[recovery], None, self.n, OUTCOMES[self.outcome].unit).text

    def own_overlap(self, method: str) -> str:
        """The Jaccard index of a method's own masks over seeds, from budget to budget; empty with one mask."""
        indices = [index for (one, other, _), index in self.overlap.items() if one == other == method]
        if not indices:
            return ""
        ends = (f"{min(indices):.2f}", f"{max(indices):.2f}")
        return " to ".join(dict.fromkeys(ends))

    def rejections(self, recovery: str) -> str:
        """How many recoveries were rejected, by method; empty where that does not apply."""
        table = self.table[self.table["recovery"] == recovery].dropna(subset=["rejected"])
        if table.empty:
            return ""
        counts = table.groupby("method", sort=False)[["rejected", "masks"]].sum().astype(int)
        words = f"recoveries rejected on held-out texts: {counts.rejected.sum()} of {counts.masks.sum()}"
        by_method = [f"{name} {rejected} of {masks}" for name, rejected, masks in counts.itertuples() if rejected]
        if by_method:
            words += f" ({', '.join(by_method)})"
        return words

    @property
    def total(self) -> int:
        """Heads of the full model."""
        return self.document.model.layers * self.document.model.heads

    @property
    def title(self) -> str:
        """Model, data and number of methods, as the label of a comparison."""
        return f"{self.document.model.id} on {self.document.data.id}, {counted(len(self.methods), 'method')}"


def _list_outcomes(means: Mapping[tuple[str, str, int], Mean]) -> tuple[str, ...]:
    """The outcomes by which methods are tested: those that every mean has with an interval."""
    if not means:
        return ()
    measured = set(TESTED)
    for mean in means.values():
        measured &= {name for name, estimate in mean.outcomes.items() if estimate.ci95}
    return list_tested(measured)


def mean_layer(kept: Sequence[float]) -> float:
    """The mean layer of the kept heads, from 0 (first) to L - 1 (last); ``kept`` are heads per layer."""
    counts = np.asarray(kept, dtype=np.float64)
    return float((np.arange(len(counts)) * counts).sum() / max(counts.sum(), 1e-12))


def _check(results: SplitResults) -> None:
    """Check what a file from elsewhere says.

    Raises:
        ValueError: If parts contradict each other.
    """
    model = results.document.model
    summary = results.summary
    if not 0 < results.total <= _MOST_HEADS:
        raise ValueError("an impossible number of heads")
    # Names appear in headings, sentences, file names and columns.
    if not all(_NAME.fullmatch(method) for method in results.methods):
        raise ValueError("an invalid name of a method")
    tests: list[Verdict] = [*results.verdicts, *results.overall]
    budgets = set(results.budgets)
    recoveries = {*results.recoveries}
    if results.primary is not None:
        tests += results.primary.tests
        budgets |= {*results.primary.budgets}
        recoveries.add(results.primary.recovery)
    rows: list[Mean | Area | Verdict] = [*results.means.values(), *results.areas.values(), *tests]
    recoveries |= {row.recovery for row in rows}
    if not recoveries <= RECOVERIES.keys():
        raise ValueError("an unknown recovery")
    methods = {row.method for row in rows} | {*results.cost} | {summary.against}
    methods |= {row.method for row in summary.layers}
    if not results.recoveries or not methods <= {*results.methods} or NONE.name not in results.full:
        raise ValueError("methods that did not take part, or no means")
    critical = results.document.criticality
    if critical is not None and (
        np.shape(critical) != (model.layers, model.heads) or not 0 <= np.min(critical) <= np.max(critical) < np.inf
    ):
        raise ValueError("criticality that is negative, or of heads that the model does not have")
    if any(not 0 < budget <= results.total for budget in budgets):
        raise ValueError("an impossible budget")
    shapes = {np.shape(row.mean) for row in summary.layers} | {np.shape(row.share) for row in summary.consensus}
    if not shapes <= {(model.layers,), (model.layers, model.heads)}:
        raise ValueError("layers or heads that the model does not have")


@dataclass(frozen=True, eq=False)
class Comparison:
    """Methods measured under one protocol.

    ``document`` is ``compare.json`` without its summary. ``answers`` are the arrays of ``compare.npz`` by part, with
    the answers of a mask in the row that a recovery's ``row`` names. A comparison that was read has the summary of its
    file, ``written``; it may lack the answers (a ``compare.json`` that was moved alone).
    """

    document: ComparisonDocument
    answers: Mapping[str, Answers] = field(default_factory=dict)
    written: Mapping[str, Any] | None = None
    _views: dict[tuple[str, str | None], SplitResults] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def summary(self) -> Summary:
        """Means, areas, overlaps, costs and verdicts, of both splits if it reports on the test split."""
        if self.written is not None:
            return Summary.from_json(self.written)
        if not self.answers:
            raise CahpError(f"this comparison has neither {ARRAYS} nor a summary; run `cahp compare` again")
        return summarise(self.document, self.answers)

    def results_on(self, part: str, outcome: str | None = None) -> SplitResults:
        """The results on one of the document's ``parts``, in an ``outcome`` (None: the first that was measured)."""
        view = part, outcome
        if view not in self._views:
            self._views[view] = SplitResults.of(self.document, self.summary, part, outcome)
        return self._views[view]

    @cached_property
    def results(self) -> SplitResults:
        """The results on the test split if the comparison reports on it, otherwise on its evaluation texts."""
        return self.results_on(self.document.parts[-1])

    @cached_property
    def claims(self) -> tuple[Finding, ...]:
        """What ``results`` say about the paper's claims."""
        return assess_claims(self.results)

    @classmethod
    def read(cls, path: str | PathLike[str]) -> Comparison:
        """Read the comparison in a folder, or in its ``compare.json``.

        Raises:
            CahpError: If there is none, or its schema is another one.
        """
        file = Path(path)
        if file.is_dir():
            file /= FILE
        finish_replacing(file.parent)
        try:
            with file.open("rb") as open_file:
                content = open_file.read(_LARGEST_FILE + 1)
        except OSError as error:
            raise CahpError(f"{file} cannot be read ({error}); {_WRITE_ONE}") from error
        document, summary = _parse(content, str(file))
        return cls(document, read_arrays(file.with_name(ARRAYS), document), summary)

    def recompute(self) -> Comparison:
        """Return the comparison with a summary that is computed anew; without its answers, with that of its file."""
        if not self.answers:
            return self
        return Comparison(self.document, self.answers)

    def write(self, folder: str | PathLike[str] | Output) -> list[str]:
        """Write all files of the comparison and return their names; after an error, none of them has changed.

        The files of another comparison are replaced, other files are left alone.

        Raises:
            OptionError: If the folder has files of these names that no comparison wrote.
            UnwrittenError: If the folder cannot be written to.
        """
        output = Output.of(folder)
        output.check_files(self.files, MARK)
        output.write(self.files)
        return list(self.files)

    @cached_property
    def files(self) -> dict[str, bytes]:
        """The content of the files that ``write`` writes."""
        contents = {FILE: json_text(self.as_json()).encode(), _TABLE: write_table(self.document).encode()}
        if self.answers:
            contents[ARRAYS] = write_arrays(self.answers)
        return contents

    def as_json(self) -> dict[str, Any]:
        """The content of ``compare.json``."""
        document = self.document.to_json()
        # The long list last, for people who look at the file.
        cells = document.pop("cells")
        summary = self.written
        if summary is None:
            summary = self.summary.to_json()
        return {**document, "claims": plain_json(self.claims), "summary": summary, "cells": cells}


def _parse(content: bytes, file: str) -> tuple[ComparisonDocument, Any]:
    """Read the document and the summary in a ``compare.json``; messages call it ``file``."""
    if len(content) > _LARGEST_FILE:
        raise CahpError(f"{file} is too large for a comparison; {_WRITE_ONE}")
    try:
        data = json.loads(content.decode())
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise CahpError(f"{file} is not of the schema {SCHEMA}; {_WRITE_ONE}")
        return ComparisonDocument.from_json(data), data.get("summary")
    except (ValueError, RecursionError) as error:
        raise CahpError(f"{file} is broken ({error}); {_WRITE_ONE}") from error


# Files that may be broken ------------------------------------------------------------------------------------


def read_shown(path: Path) -> Comparison:
    """Read a comparison for a page: with the summary of its file, and every part checked.

    Raises:
        CahpError: If there is none, or it is broken.
    """
    comparison = Comparison.read(path)
    _check_parts(lambda: _views(comparison), path.name)
    return comparison


def read_upload(name: str, content: bytes) -> Comparison:
    """Read an uploaded ``compare.json``; ``name`` is its file name.

    Raises:
        CahpError: If it is no comparison; the message contains ``name``.
    """
    file = f"the file {name}"
    document, summary = _parse(content, file)
    comparison = Comparison(document, written=summary)
    # Writing it visits every part of the document.
    _check_parts(lambda: (_views(comparison), comparison.files), file)
    return comparison


def _views(comparison: Comparison) -> list[SplitResults]:
    return [comparison.results_on(comparison.document.parts[-1], name) for name in comparison.results.outcomes]


def _check_parts(visit: Callable[[], object], file: str) -> None:
    try:
        visit()
    except CahpError as error:
        raise CahpError(f"{file}: {error}") from None
    except Exception:
        # A file from elsewhere may hold anything anywhere.
        raise CahpError(f"{file} has missing or broken parts; {_WRITE_ONE}") from None
