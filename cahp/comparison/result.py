"""A finished comparison: its document and arrays, its results on a split, and its files. Reading one needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path

import pandas as pd

from cahp.comparison.arrays import Answers, read_arrays, write_arrays
from cahp.comparison.claims import Finding, assess_claims
from cahp.comparison.document import ComparisonDocument, Participant, tabulate_cells, write_table
from cahp.comparison.plan import FULL
from cahp.comparison.statistics import Verdict, Verdicts, list_tested
from cahp.comparison.summary import Area, Mean, Primary, Summary, summarise
from cahp.files import json_text, plain_json
from cahp.outcomes import OUTCOMES
from cahp.output import AnyFolder, Mark, Output
from cahp.recoveries import NONE, RECOVERIES
from cahp.values import CahpError, Estimate, JsonObject, Names
from cahp.words import counted, first_line

FILE = "compare.json"
_TABLE = "comparison.csv"
ARRAYS = "compare.npz"
#: The files that a comparison writes, and the mark of its folder.
FILES = (FILE, _TABLE, ARRAYS)
MARK = Mark(FILE, "cahp.compare")
#: A thousand cells take two megabytes; JSON in memory may be thirty times as large.
_LARGEST_FILE = 32 << 20
_WRITE_ONE = "write one with `cahp compare --out DIR`"


@dataclass(frozen=True, eq=False)
class SplitResults:
    """The results of a comparison on one ``part`` (``eval`` or ``report``), in one ``outcome``.

    ``means`` are by recovery, method and budget, ``areas`` by recovery and method; ``tests`` are those of areas and
    those at one budget. ``primary`` is the primary test, if it is on this part in this outcome; all others are
    descriptive.
    """

    document: ComparisonDocument
    summary: Summary
    part: str
    outcome: str
    outcomes: Names
    means: Mapping[tuple[str, str, int], Mean]
    areas: Mapping[tuple[str, str], Area]
    tests: Verdicts
    primary: Primary | None

    @property
    def split(self) -> str:
        """The name of the split."""
        return self.document.data.of(self.part).split

    @property
    def n(self) -> int:
        """The number of texts, or units of another ``noun``."""
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
    def by_cost(self) -> Names:
        """The recoveries, the cheapest first."""
        return tuple(name for name in RECOVERIES if name in self.document.recoveries)

    @property
    def total(self) -> int:
        """Heads of the full model."""
        return self.document.total

    @cached_property
    def full(self) -> Mapping[str, float]:
        """The outcome of the full model by recovery, the mean over seeds."""
        row = OUTCOMES[self.outcome]
        column = "loss" if self.outcome == "nll" else self.outcome
        cells = tabulate_cells(self.document)
        cells = cells[(cells["method"] == FULL) & (cells["part"] == self.part)]
        values = pd.to_numeric(cells[column]).groupby(cells["recovery"], sort=False).mean().dropna()
        full = {str(recovery): float(value) for recovery, value in values.items()}
        if row.difference:
            # The full model does not differ from itself.
            full[NONE.name] = 0.0 if row.lower_is_better else 1.0
        return full

    def budgets_after(self, recovery: str) -> list[int]:
        """The budgets measured after a recovery, ascending."""
        return sorted({budget for measured, _, budget in self.means if measured == recovery})

    @property
    def budgets(self) -> tuple[int, ...]:
        """All measured budgets, ascending."""
        return tuple(sorted({mean.budget for mean in self.means.values()}))

    def rank(self, recovery: str, budget: int) -> list[Mean]:
        """The means of the methods at a budget after a recovery, the best first."""
        means = [mean for mean in self.means.values() if (mean.recovery, mean.budget) == (recovery, budget)]
        falls = not OUTCOMES[self.outcome].lower_is_better
        return sorted(means, key=lambda mean: self.estimate(mean).value, reverse=falls)

    def tests_at(self, recovery: str, budget: int) -> list[Verdict]:
        """The tests of differences at a budget after a recovery."""
        return [test for test in self.tests if (test.recovery, test.budget) == (recovery, budget)]

    def estimate(self, mean: Mean) -> Estimate:
        """The outcome of a mean."""
        return mean.outcomes[self.outcome]

    def full_text(self) -> str:
        """The outcome of the full model, such as ``96.5 %``."""
        return Estimate(self.full[NONE.name], None, self.n, OUTCOMES[self.outcome].unit).text

    @property
    def units(self) -> str:
        """What is kept: heads, or groups of heads that share keys and values."""
        return f"{self.document.model.unit}s"

    @property
    def title(self) -> str:
        """Model, data, and numbers of methods and seeds, as the label of a comparison."""
        counts = f"{counted(len(self.methods), 'method')}, {counted(len(self.document.seeds), 'seed')}"
        return f"{self.document.model.id} on {self.document.data.id}, {counts}"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Methods measured under one protocol.

    ``document`` is ``compare.json`` without its summary. ``answers`` are the arrays of ``compare.npz`` by part, with
    the answers of a mask in the row that a recovery's ``row`` names. A comparison that was read has the summary of its
    file, ``written``; it may lack the answers (a ``compare.json`` that was moved alone).
    """

    document: ComparisonDocument
    answers: Mapping[str, Answers] = field(default_factory=dict)
    written: Summary | None = None

    @cached_property
    def summary(self) -> Summary:
        """Means, areas, overlaps, costs and tests, of both splits if it reports on the test split."""
        return self.written or summarise(self.document, self.answers)

    def results_on(self, part: str, outcome: str | None = None) -> SplitResults:
        """The results on one of the document's ``parts``, in an ``outcome`` (None: the first that was measured).

        Raises:
            ValueError: If nothing was measured on the part, or the outcome was not.
        """
        summary = self.summary
        split = self.document.data.of(part).split
        means = {(mean.recovery, mean.method, mean.budget): mean for mean in summary.means if mean.split == split}
        # Methods are tested by the outcomes that every mean has with an interval.
        outcomes = list_tested(
            [
                name
                for name in OUTCOMES
                if all(name in one.outcomes and one.outcomes[name].ci95 for one in means.values())
            ]
        )
        if not means or outcome not in (None, *outcomes):
            raise ValueError("an outcome that was not measured")
        outcome = outcome or outcomes[0]
        place = (split, outcome)
        primary = summary.primary
        if primary is not None and (primary.split, primary.outcome) != place:
            primary = None
        return SplitResults(
            self.document,
            summary,
            part,
            outcome,
            outcomes,
            means,
            {(area.recovery, area.method): area for area in summary.all_areas if (area.split, area.outcome) == place},
            tuple(test for test in summary.tests if (test.split, test.outcome) == place),
            primary,
        )

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
            CahpError: If there is none, it is broken, or its schema is another one.
        """
        file = Path(path)
        if file.is_dir():
            file /= FILE
        try:
            with file.open("rb") as open_file:
                content = open_file.read(_LARGEST_FILE + 1)
        except OSError as error:
            raise CahpError(f"{file} cannot be read ({error}); {_WRITE_ONE}") from error
        alone = read_upload(str(file), content)
        return cls(alone.document, read_arrays(file.with_name(ARRAYS), alone.document), alone.written)

    def recompute(self) -> Comparison:
        """Return the comparison with a summary that is computed anew; without its answers, with that of its file."""
        if not self.answers:
            return self
        return Comparison(self.document, self.answers)

    def write(self, folder: AnyFolder) -> list[str]:
        """Write all files of the comparison and return their names; no file is ever half written.

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

    def as_json(self) -> JsonObject:
        """The content of ``compare.json``."""
        document = plain_json(self.document)
        # The long list last, for people who look at the file.
        cells = document.pop("cells")
        return {**document, "claims": plain_json(self.claims), "summary": self.summary.to_json(), "cells": cells}


def read_upload(name: str, content: bytes) -> Comparison:
    """Read an uploaded ``compare.json`` with its summary, and check every part of it; ``name`` is its file name.

    Raises:
        CahpError: If it is no comparison; the message contains ``name``.
    """
    try:
        # A longer file is broken where it is cut.
        data = json.loads(content[:_LARGEST_FILE])
        document = ComparisonDocument.from_json(data)
        comparison = Comparison(document, written=Summary.from_json(data["summary"], document))
        for outcome in comparison.results.outcomes:
            _ = comparison.results_on(document.parts[-1], outcome).full
        # They visit every other part.
        _ = comparison.claims, write_table(document)
    except Exception as error:
        # A file from elsewhere may hold anything anywhere.
        raise CahpError(f"{name} is broken ({first_line(error)}); {_WRITE_ONE}") from error
    return comparison
