from __future__ import annotations

from dataclasses import replace

import documents

from cahp.goals import ReachedGoal
from cahp.models.costs import Cost, Timing
from cahp.run.document import CostRecord, RunDocument
from cahp.run.evidence import KneeNull
from cahp.terminal.costs import cost_lines
from cahp.terminal.printing import evaluation_lines, run_lines
from cahp.values import Estimate

FULL, CUT = Cost(100, 1000, Timing(10.0, 11.0, 8, 64, 40)), Cost(50, 600, Timing(9.9, 11.0, 8, 64, 40))


def test_a_time_that_could_as_well_be_the_same_is_said_first_to_be_no_change() -> None:
    lines = list(cost_lines(CostRecord(FULL, CUT), Estimate(0.99, (0.97, 1.01), 40, "ratio"), 0.3))
    assert lines[1] == "  latency   no measurable change: pruned / full 0.99 [0.97, 1.01], n = 40 rounds"
    (said, *_) = list(cost_lines(CostRecord(FULL, CUT), Estimate(0.8, (0.78, 0.82), 40, "ratio"), 0.3))[1:]
    assert said == "  latency   1.25 x as fast: pruned / full 0.80 [0.78, 0.82], n = 40 rounds"


def test_a_run_says_where_the_rule_stops_on_unstructured_data() -> None:
    run = RunDocument.from_json(documents.run_json())
    run = replace(run, knee=14, knee_null=KneeNull(13, 15, 20), verified=replace(run.verified, difference=0.0))
    said = "  the published rule would stop at 13 to 15 on unstructured data too (20 draws)"
    assert said in run_lines(run)
    elsewhere = "  the published rule would stop at 13 to 15 on unstructured data, and at 36 here (20 draws)"
    assert elsewhere in run_lines(replace(run, knee=36))
    assert said not in run_lines(replace(run, knee_null=None))


def test_a_run_counts_groups_where_query_heads_share_keys_and_values() -> None:
    run = RunDocument.from_json(documents.run_json())
    run = replace(run, model=replace(run.model, group=3), verified=replace(run.verified, difference=0.0))
    total = run.model.layers * run.model.heads
    assert f"{run.budget.attained} of {total} groups kept" in next(run_lines(run))


def test_long_intervals_stay_apart_in_the_table_of_outcomes() -> None:
    run = RunDocument.from_json(documents.run_json())
    small = Estimate(0.00005, (0.00003, 0.0000784), 100, "nats")
    outcomes = {state: {**values, "kl": small} for state, values in run.outcomes.items()}
    run = replace(run, outcomes=outcomes, verified=replace(run.verified, difference=0.0))
    assert " [0.000030, 0.000078] [0.000030, 0.000078]" in " ".join("\n".join(run_lines(run)).split())


def test_a_model_alone_is_not_compared_with_itself() -> None:
    full = {"kl": Estimate(0.0, (0.0, 0.0), 9, "nats"), "agreement": Estimate(1.0, (0.7, 1.0), 9, "share")}
    document = {
        "model": "tiny",
        "kept": None,
        "data": {"id": "notes", "split": "validation"},
        "outcomes": {"full": full, "pruned": None},
        "notices": [],
    }
    lines = "\n".join(evaluation_lines(document))
    assert "KL" not in lines
    assert "agreement" not in lines
    assert "one model without labels has no outcome" in lines


def test_a_run_says_how_its_goal_was_reached_and_whether_other_texts_confirm_it() -> None:
    run = RunDocument.from_json(documents.run_json())
    reached = ReachedGoal("agreement=95%", 31, Estimate(0.963, (0.951, 0.975), 1000, "share"), 12, 67)
    run = replace(run, goal=reached, verified=replace(run.verified, difference=0.0))
    title, found, note, *_ = run_lines(run)
    assert title.endswith("(the fewest of the 12 budgets tried that reach the goal with the limit of the interval)")
    assert found == (
        "  agreement=95% is reached at 31 heads: 96.3 % [95.1, 97.5], n = 1,000; 12 of 67 budgets were measured"
    )
    assert "optimistic" in note
    confirmed = [list(run_lines(replace(run, goal=replace(reached, confirmed=answer))))[2] for answer in (True, False)]
    assert ["does not confirm" in line for line in confirmed] == [False, True]
