import json
import math
from dataclasses import replace
from pathlib import Path

import fakes
import numpy as np
import pytest
from clusters import CARD, on_a_line, outcomes, speed
from fakes import prune

from cahp import data
from cahp.api import bundled
from cahp.board.budget_sweep import BudgetTable, Speed, count_tokens, evaluate_mask, fill, measure_part, reach
from cahp.board.head_clusters import HeadClusters
from cahp.files import json_text
from cahp.goals import Goal
from cahp.models.cards import CacheShape, Costs
from cahp.run.bench import Bench, open_bench
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.values import BudgetError, Cancelled, HeadMask, Selection


def table(fewest: int = 2, most: int = 8, *, layer: int = 4) -> BudgetTable:
    """Budgets of two layers of heads; every mask keeps the first heads, and the last one so that layer 1 has one."""
    masks = [HeadMask.of([2 * layer - 1, *range(budget - 1)], 2, layer) for budget in range(fewest, most + 1)]
    return BudgetTable([Selection(mask, mask.count) for mask in masks])


def two_rows(**options: str) -> BudgetTable:
    """A table whose budgets 4 and 8 are measured."""
    filled = BudgetTable(table().selections, **options)  # type: ignore[arg-type]
    filled.add(4, outcomes=outcomes(0.6))
    filled.add(8, outcomes=outcomes(0.8))
    return filled


def test_between_two_measurements_lies_an_estimate_and_it_says_so() -> None:
    rows = {row.budget: row for row in two_rows().rows()}
    assert rows[6].values == pytest.approx({"accuracy": 0.7, "agreement": 0.9})
    assert rows[6].outcomes is None
    assert rows[4].outcomes is not None
    # Outside of what is measured nothing supports an estimate.
    assert rows[2].values == {}
    # Between distilled models lies none, and nothing asks for more of them.
    assert BudgetTable(table().selections, recover="distill").missing() is None
    filled = two_rows(recover="distill")
    filled.current_budget = 5
    assert {row.budget: row.values["accuracy"] for row in filled.rows() if row.values} == {4: 0.6, 8: 0.8}
    assert filled.missing() is None
    # A quicker recovery stands for what is not measured.
    quick = BudgetTable(table().selections, recover="quick-refit", timed=False)
    filled = BudgetTable(table().selections, recover="refit", quicker=quick)
    for budget, accuracy in ((4, 0.5), (5, 0.7), (8, 0.8)):
        quick.add(budget, outcomes=outcomes(accuracy))
    filled.add(4, outcomes=outcomes(0.6))
    assert filled.row(4).values["accuracy"] == 0.6
    assert filled.row(5).values["accuracy"] == 0.7
    assert filled.row(5).outcomes is None


def test_time_is_estimated_towards_the_full_model_whose_ratio_is_1_by_definition() -> None:
    filled = table()
    filled.add(4, speed=speed(0.6))
    rows = {row.budget: row for row in filled.rows()}
    assert rows[6].ratio == pytest.approx(0.8)
    assert rows[6].speed is None
    assert (rows[8].ratio, rows[8].speed) == (1.0, None)
    # A time of a busy machine is no estimate, and replaces no reliable one.
    filled = table()
    busy = replace(speed(0.9), busy=True)
    filled.add(4, speed=busy)
    assert filled.row(4).speed == busy
    assert filled.as_json()["speed"] == {}
    assert all(row.ratio is None for row in filled.rows())
    filled.add(4, speed=speed(0.7))
    filled.add(4, speed=busy)
    assert filled.row(4).speed == speed(0.7)


def test_the_full_model_is_measured_first_and_then_the_current_budget() -> None:
    filled = table()
    filled.current_budget = 5
    assert filled.missing() == ("outcomes", 8)
    filled.add(8, outcomes=outcomes(0.9))
    assert filled.missing() == ("outcomes", 5)
    filled.add(5, outcomes=outcomes(0.9))
    assert filled.missing() == ("outcomes", 2)
    # Measurements survive a file.
    filled = table()
    filled.add(3, outcomes=outcomes(0.5), speed=speed(0.7))
    filled.add(8, outcomes=outcomes(0.9))
    again = table()
    again.fill_from(json.loads(json_text(filled.as_json())))
    assert again.rows() == filled.rows()


def test_the_cache_of_all_budgets_is_known_without_measuring_and_no_time_is_missed() -> None:
    card = replace(CARD, cache=CacheShape(head=8))
    reached = reach(table(), Goal.parse("kv-cache=-30%"), card)
    # Of 8 heads, 5 are the most that are at most 70 %.
    assert (reached.heads, reached.measured) == (5, 7)
    filled = BudgetTable(table().selections, timed=False)
    for budget in filled.budgets:
        assert filled.missing() is not None
        filled.add(budget, outcomes=outcomes(0.6))
    assert filled.missing() is None


def test_a_table_of_even_selections_has_the_budgets_that_the_layers_divide() -> None:
    even = BudgetTable(on_a_line().selections(Settings(even=True)))
    assert even.budgets == (2, 4, 6)
    assert even.row(4).budget == even.selection(4).mask.count == 4
    assert [even.nearest(heads).mask.count for heads in (0, 3, 5, 9)] == [2, 4, 6, 6]
    # A mask of three heads, which is on no even budget.
    assert not even.has(HeadMask.of([0, 1, 3], 2, 3))
    with pytest.raises(BudgetError, match="a budget of 3 heads is impossible with these settings; choose 2 or 4"):
        even.selection(3)


def test_the_bundled_run_holds_no_texts() -> None:
    if not data.catalogue()[0].available:
        pytest.skip("the demo extra is not installed")
    texts = data.load("bbc-news").split("validation").first
    content = "".join(path.read_text(encoding="utf-8") for path in sorted(bundled.run_folder().glob("*.json")))
    assert not any(text[:40] in content for text in texts)
    assert all(array.dtype.kind in "fiu" for array in bundled.read_run().arrays.values())


def test_rows_of_the_table_are_those_of_plain_evaluations(window_bench: Bench, tmp_path: Path) -> None:
    clusters = HeadClusters.of(window_bench.evidence)
    table = BudgetTable(clusters.selections(window_bench.settings), timed=False)
    # Rows without a recovery share their first layers; each refit reads the calibration windows.
    refits = BudgetTable(table.selections, recover="refit", timed=False)
    tokens = sum(len(window.ids) for window in window_bench.evaluation.windows)
    assert 0 < count_tokens(table, window_bench) < (len(table.budgets) - 1) * tokens
    assert count_tokens(refits, window_bench) > 2 * count_tokens(table, window_bench)
    list(fill(table, window_bench))
    assert count_tokens(table, window_bench) == 0
    plain = open_bench(window_bench.settings, store=Store(tmp_path))
    for row in table.rows():
        assert {"kl", "agreement", "perplexity"} <= row.values.keys()
        expected = evaluate_mask(plain, table.selection(row.budget).mask)
        for name, estimate in expected.items():
            assert row.outcomes[name].value == pytest.approx(estimate.value, abs=1e-6)


def test_a_part_of_the_windows_estimates_the_perplexity_of_all(window_bench: Bench) -> None:
    pruned = window_bench.measurements.evaluate(window_bench.evaluation, mask=HeadMask.of([0, 4, 9], 3, 4))
    rows = np.array([0, 3, 4])
    part = measure_part(window_bench, rows, pruned.take(rows))
    change = pruned.take(rows).losses.mean() - window_bench.full.take(rows).losses.mean()
    assert part["perplexity"].value == pytest.approx(math.exp(window_bench.full.losses.mean() + change))
    # Repeated random tokens tell nothing about the text.
    copies = np.array([row for row, window in enumerate(window_bench.evaluation.windows) if window.copying])
    assert measure_part(window_bench, copies, pruned.take(copies)) == {}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return fakes.quick_task(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def bench(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return open_bench(settings, store=Store(tmp_path_factory.mktemp("store")))


@pytest.fixture(autouse=True)
def timed(monkeypatch: pytest.MonkeyPatch, quiet_machine: None) -> list[HeadMask]:
    """The masks that were timed, in few rounds."""
    asked: list[HeadMask] = []

    def costs(bench: Bench, mask: HeadMask, *, fresh: bool = False) -> Costs:
        asked.append(mask)
        return fakes.time_quickly(bench, mask, fresh=fresh)

    monkeypatch.setattr(Bench, "costs", costs)
    return asked


def planned(bench: Bench) -> BudgetTable:
    return BudgetTable(HeadClusters.of(bench.evidence).selections(bench.settings))


def test_a_row_says_what_a_run_with_its_budget_says(bench: Bench) -> None:
    table = planned(bench)
    list(fill(table, bench))
    run = prune(replace(bench.settings, budget="5"), store=bench.resources.store).document
    row = table.row(5)
    assert row.values["kl"] == row.outcomes["kl"].value
    assert row.outcomes == run.outcomes["pruned"]
    costs = bench.costs(table.selection(5).mask)
    assert row.speed == Speed.of(costs.ratio, costs.full, costs.pruned)
    assert table.full["accuracy"] == run.outcomes["full"]["accuracy"]
    assert table.full["accuracy_change"].value == 0


def test_a_mask_with_an_empty_layer_is_evaluated_but_neither_timed_nor_recovered(bench: Bench) -> None:
    bare = replace(bench, settings=replace(bench.settings, min_per_layer=0))
    every = HeadClusters.of(bare.evidence).selections(bare.settings)
    # 1, 10 and all 12 heads.
    some = [every[0], every[-3], every[-1]]
    pruned, refitted = BudgetTable(some), BudgetTable(some, recover="refit")
    assert pruned.selection(1).mask.empty_layers
    for table in (pruned, refitted):
        list(fill(table, bare))
        assert table.missing() is None
        assert table.row(1).speed is None
        assert (table.row(1).outcomes is None) == (table is refitted)
    # All heads kept leave nothing to recover.
    assert pruned.full == refitted.full


def test_cancelling_keeps_what_was_measured(bench: Bench) -> None:
    seen: list[tuple[str, int, int]] = []

    def progress(name: str, done: int, total: int) -> None:
        seen.append((name, done, total))
        if done == 3:
            raise Cancelled

    table = planned(bench)
    with pytest.raises(Cancelled):
        list(fill(table, bench, progress))
    assert seen == [("table", done, 10) for done in range(4)]
    assert table.measured() == (3, 10)
    # Filling it again goes on from there.
    list(fill(table, bench))
    assert table.missing() is None
