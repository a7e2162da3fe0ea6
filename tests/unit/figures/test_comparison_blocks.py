"""What a comparison shows, in every place where it is shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from comparisons import made, varied

from cahp.comparison import SplitResults
from cahp.comparison.running import ComparisonCost, describe_cost
from cahp.figures.comparison_blocks import (
    Filters,
    show_comparison,
    show_costs,
    show_differences,
    show_layers,
    show_means,
    show_ranking,
)
from cahp.outcomes import OUTCOMES
from cahp.show import terminal
from cahp.show.blocks import Block, Figure, Line, Table

METHODS = ("complementary", "gradient", "random")


def costs(results: SplitResults, *methods: str, recovery: str = "none") -> dict[str, list[str]]:
    """The table of costs, column by column."""
    blocks = show_costs(results, Filters(results.outcome, recovery, 3, methods))
    table = next(block for block in blocks if isinstance(block, Table))
    return dict(zip(table.columns, map(list, zip(*table.texts, strict=True)), strict=True))


def titles(blocks: list[Block]) -> list[str]:
    return [block.title for block in blocks if isinstance(block, Figure)]


def test_seconds_stand_beside_the_number_of_seeds_and_masks_that_they_are_the_mean_of() -> None:
    right = np.ones(8, dtype=np.bool_)
    # Chance does not touch one of them: a second seed would keep the same.
    found = made({"complementary": [right, right], "gradient": [right]}).results
    assert costs(found, "complementary", "gradient")["n (seeds)"] == ["2", "1"]
    twice = costs(varied().results, "gradient", recovery="refit")
    # Two budgets and two seeds.
    assert (twice["refit (s)"], twice["n (refit)"]) == (["1.50"], ["4"])


def test_a_method_that_was_not_measured_at_every_budget_says_so_where_others_have_their_mean() -> None:
    found = varied().results_on("eval", "accuracy")
    found = replace(found, areas={key: area for key, area in found.areas.items() if "gradient" not in key})
    first, second = costs(found, "gradient", "random")["accuracy over all budgets"]
    assert first == "some budgets only"
    assert second.endswith("]")


def test_the_primary_test_stands_before_all_outcomes() -> None:
    lines = list(terminal.lines(show_comparison(varied(divergences=True))))
    heading = "  Primary test (KL divergence, after refit, at 3 of 6 heads): "
    at = next(place for place, line in enumerate(lines) if line.startswith(heading))
    table = lines.index("  Primary test, by method")
    assert all("3 heads, after refit" in line for line in lines[table + 2 : table + 4])
    assert at < table < next(place for place, line in enumerate(lines) if "as pruned, n = 60" in line)


def test_every_outcome_and_recovery_has_a_table_and_each_budget_a_finding() -> None:
    comparison = varied(divergences=True)
    blocks = list(show_comparison(comparison))
    tables = [block for block in blocks if isinstance(block, Table) and block.name == "compare-means"]
    results = comparison.results
    assert len(tables) == len(results.outcomes) * len(results.recoveries)
    assert {line.split(",")[0] for line in titles(blocks) if "after refit" in line} == {"At 3 heads", "At 5 heads"}
    assert [block.text.split(":")[0] for block in blocks if isinstance(block, Line)][1] == "Better at high compression"


def test_a_table_of_means_has_every_interval_and_the_full_model() -> None:
    results = varied().results_on("eval", "accuracy")
    table = show_means(results, "refit")
    mean = results.means["refit", "gradient", 5].accuracy
    row = dict(zip(table.columns, table.texts[list(results.methods).index("gradient")], strict=True))
    assert row["5 heads"] == f"{mean.text} {mean.interval}"
    assert f"all heads {results.full_text()}" in table.title
    assert OUTCOMES["accuracy"].label.capitalize() in table.title


def test_only_chosen_methods_are_drawn_and_all_are_tested() -> None:
    results = varied().results
    filters = Filters(results.outcome, "refit", 3, ("random",))
    (ranking,) = show_ranking(results, filters)
    assert isinstance(ranking, Figure)
    assert len(ranking.draw(False).layout.yaxis.ticktext) == 1
    assert "gradient" in ranking.title or "2 other methods" in ranking.title
    figure, table = show_differences(results, filters)
    assert isinstance(figure, Figure)
    assert isinstance(table, Table)
    assert {row[0] for row in table.rows} == {"random"}
    assert figure.data["method"] == ["random"]


def test_where_all_keep_the_same_layers_nobody_is_nearest_to_an_end() -> None:
    results = varied().results
    same = {(row.method, row.budget): (1.0, 2.0) for row in results.summary.layers}
    level = replace(results)
    vars(level)["layers"] = same
    filters = Filters(results.outcome, "none", 3, METHODS)
    assert titles(list(show_layers(level, filters))) == [
        "Of 3 heads kept, all are of mean layer 0.7; an even spread has 0.5"
    ]
    vars(level)["layers"] = {**same, ("gradient", 3): (2.0, 1.0)}
    assert "gradient nearest the input (0.3)" in titles(list(show_layers(level, filters)))[0]


def test_the_cost_is_told_in_words() -> None:
    said = describe_cost(ComparisonCost(50, 10, 12345.6, 2345.6, 4.25, 3.2))
    assert said == (
        "40 cells to measure (10 were measured before): about 12,346 forward passes, 2,346 of them to select heads; "
        "at 4.2 ms each about 3 min"
    )
    primary = "KL divergence, after refit, at 12 of 72 heads"
    assert describe_cost(ComparisonCost(1, 0, 1.0, 1.0, 1.0, 1.0, primary)).endswith(f"; primary test: {primary}")
