from __future__ import annotations

import pytest
from comparisons import varied

from cahp.comparison.running import ComparisonCost
from cahp.terminal.comparison import announcement, comparison_lines
from cahp.terminal.progress import LineReporter


def test_the_cost_is_told_in_words() -> None:
    said = announcement(ComparisonCost(50, 10, 12345.6, 2345.6, 4.25, 3.2))
    assert said == (
        "40 cells to measure (10 were measured before): about 12,346 forward passes, 2,346 of them to select heads; "
        "at 4.2 ms each about 3 min"
    )
    primary = "KL divergence, after refit, at 12 of 72 heads"
    assert announcement(ComparisonCost(1, 0, 1.0, 1.0, 1.0, 1.0, primary)).endswith(f"; primary test: {primary}")


def test_the_primary_test_stands_before_all_outcomes() -> None:
    lines = list(comparison_lines(varied(divergences=True)))
    at = lines.index(
        "  primary test, named beforehand (KL divergence, after refit, at 3 of 6 heads); all others are descriptive:"
    )
    assert all(line.startswith("    3 heads, after refit: ") for line in lines[at + 1 : at + 3])
    assert at < next(place for place, line in enumerate(lines) if "as pruned, n = 60" in line)
    assert at < lines.index("  descriptive tests:")


def test_away_from_a_terminal_every_tenth_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = LineReporter()
    for done in range(0, 101, 5):
        lines("compare", done, 100)
    said = capsys.readouterr().err.splitlines()
    assert [line.split("%")[0] for line in said] == [f"cahp: {tenth}0 " for tenth in range(1, 11)]
    assert said[-1] == "cahp: 100 % done"
