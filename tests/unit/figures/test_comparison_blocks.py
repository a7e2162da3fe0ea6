"""What a comparison shows, in every place where it is shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from comparisons import varied

from cahp.figures.comparison_blocks import (
    Filters,
    show_comparison,
    show_costs,
    show_heads,
)
from cahp.show import terminal
from cahp.show.blocks import Line, Table, Text

METHODS = ("complementary", "gradient", "random")


def test_the_cost_of_a_method_is_that_of_its_costliest_budget() -> None:
    blocks = show_costs(varied().results, Filters("kl", "refit", 3, METHODS[:1]))
    table = next(block for block in blocks if isinstance(block, Table))
    columns = ["method", "forward passes", "labels", "selecting (s)", "refit (s)"]
    assert dict(zip(columns, table.texts[0], strict=True)) == {
        "method": "CAHP",
        "forward passes": "30",
        "labels": "10",
        "selecting (s)": "2.00",
        "refit (s)": "1.50",
    }


def test_heads_are_counted_by_layer_and_masks_compared_with_those_of_the_same_seed() -> None:
    layers, alike, *_ = show_heads(varied().results, Filters("kl", "refit", 3, METHODS))
    assert isinstance(layers, Table)
    assert isinstance(alike, Table)
    # CAHP and gradient have two heads in common, of four that one of them keeps.
    assert layers.texts == [["CAHP", "1.0", "2.0"], ["gradient", "2.0", "1.0"], ["random", "1.0", "2.0"]]
    assert [row[1:] for row in alike.texts] == [["", "0.50", "0.20"], ["0.50", "", "0.20"], ["0.20", "0.20", ""]]


@pytest.mark.parametrize("said", [None, {}, {"seeds": [{"method": "complementary", "jaccard": "much"}]}])
def test_a_method_s_own_masks_are_compared_with_each_other_whatever_a_file_says(said: Any) -> None:
    results = varied().results
    if said is not None:
        results = replace(results, summary=replace(results.summary, overlap=said))
    *_, table, _ = show_heads(results, Filters("kl", "refit", 3, METHODS[:1]))
    assert isinstance(table, Table)
    # Both seeds keep the same heads; 3 of 6 heads at random share 0.365.
    assert table.texts == [["CAHP", "1.00", "0.36", "1"]]


def test_the_primary_test_stands_before_all_outcomes() -> None:
    lines = list(terminal.lines(show_comparison(varied(divergences=True))))
    heading = "  Primary test (KL divergence, after refit, at 3 of 6 heads): "
    at = next(place for place, line in enumerate(lines) if line.startswith(heading))
    table = lines.index("  Primary test, by method")
    assert all("at 3 heads" in line for line in lines[table + 2 : table + 4])
    assert at < table < next(place for place, line in enumerate(lines) if "as pruned, n = 60" in line)


def test_every_outcome_and_recovery_has_a_table_and_each_budget_a_finding() -> None:
    comparison = varied(divergences=True)
    blocks = list(show_comparison(comparison))
    tables = [block for block in blocks if isinstance(block, Table) and block.name == "compare-means"]
    results = comparison.results
    assert len(tables) == len(results.outcomes) * len(comparison.document.recoveries)
    texts = [block.text for block in blocks if isinstance(block, Text)]
    assert {text.split(",")[0] for text in texts if text.startswith("At ")} == {"At 3 heads", "At 5 heads"}
    assert [block.text.split(":")[0] for block in blocks if isinstance(block, Line)][1] == "Better at high compression"
