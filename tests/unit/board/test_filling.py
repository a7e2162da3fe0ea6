"""A table of all budgets is filled with what the other commands would say, one measurement a step."""

from dataclasses import replace

import fakes
import pytest
from fakes import prune

from cahp.board.budget_sweep import BudgetTable, Speed, fill
from cahp.board.head_clusters import HeadClusters
from cahp.models.cards import Costs
from cahp.run.bench import Bench, open_bench
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.values import Cancelled, HeadMask


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
