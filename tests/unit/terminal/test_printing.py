from __future__ import annotations

from dataclasses import replace

import documents
import pytest

from cahp.goals import ReachedGoal
from cahp.models.cards import Cost, Timing
from cahp.run.document import CostRecord, RunDocument
from cahp.run.evidence import KneeNull
from cahp.run.show import show_cost, show_outcomes
from cahp.show.blocks import Table
from cahp.terminal.printing import run_lines
from cahp.terminal.progress import bars
from cahp.values import Estimate

FULL, CUT = Cost(100, 1000, Timing(10.0, 11.0, 8, 64, 40)), Cost(50, 600, Timing(9.9, 11.0, 8, 64, 40))


def test_a_time_that_could_as_well_be_the_same_is_said_first_to_be_no_change() -> None:
    changes = []
    for ratio in (Estimate(0.99, (0.97, 1.01), 40, "ratio"), Estimate(0.8, (0.78, 0.82), 40, "ratio")):
        table, note = show_cost(CostRecord(FULL, CUT), ratio, 0.3)
        assert isinstance(table, Table)
        changes.append(table.rows[0][-1])
        assert "n = 40 rounds" in note.text
    assert changes == ["no measurable change: 0.99 × [0.97, 1.01]", "0.80 × [0.78, 0.82]"]
    sizes = [row[1:] for row in table.rows[1:]]
    assert sizes == [["0.0 M", "0.0 M", "−50.0 %"], ["0.00 G", "0.00 G", "−40.0 %"]]


def test_the_full_model_does_not_agree_with_itself() -> None:
    itself = {"kl": Estimate(0.0, (0.0, 0.0), 8, "nats"), "agreement": Estimate(1.0, (0.7, 1.0), 8, "share")}
    loss = Estimate(0.7, (0.6, 0.8), 8, "nats")
    assert not show_outcomes("", {"full": itself}).rows
    assert [row[1:] for row in show_outcomes("", {"full": {**itself, "nll": loss}}).rows] == [[loss], [8]]


def test_a_run_says_where_the_rule_stops_on_unstructured_data() -> None:
    run = RunDocument.from_json(documents.run_json())
    run = replace(run, knee=14, knee_null=KneeNull(13, 15, 20), verified=replace(run.verified, difference=0.0))
    said = "  the published rule would stop at 13 to 15 on unstructured data (20 draws), and at 14 here"
    assert said in run_lines(run)
    assert said not in run_lines(replace(run, knee_null=None))


def test_a_run_says_how_its_goal_was_reached_and_whether_other_texts_confirm_it() -> None:
    run = RunDocument.from_json(documents.run_json())
    reached = ReachedGoal("agreement=95%", 31, Estimate(0.963, (0.951, 0.975), 1000, "share"), 12, 67)
    run = replace(run, goal=reached, verified=replace(run.verified, difference=0.0))
    title, *lines = run_lines(run)
    assert title.endswith("(the fewest of the 12 budgets tried that reach the goal)")
    at = lines.index(
        "  agreement=95% is reached at 31 heads: 96.3 % [95.1, 97.5], n = 1,000; 12 of 67 budgets were measured"
    )
    assert lines[at + 1].startswith("  The limit of the interval chose the number of heads")
    for answer, words in ((True, "  The test split confirms it"), (False, "  The test split does not confirm it")):
        confirmed = list(run_lines(replace(run, goal=replace(reached, confirmed=answer))))
        assert confirmed[at + 2].startswith(words)


def test_away_from_a_terminal_every_tenth_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with bars(quiet=False, lines=True, draws=False) as reporter:
        for done in range(0, 101, 5):
            reporter("compare", done, 100)
    said = capsys.readouterr().err.splitlines()
    assert [line.split("%")[0] for line in said] == [f"cahp: {tenth}0 " for tenth in range(1, 11)]
    assert said[-1] == "cahp: 100 % done, 0 s left"
