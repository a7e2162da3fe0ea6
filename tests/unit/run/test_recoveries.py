"""What distillation promises of its texts, its labels, its time and its store."""

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import fakes
import numpy as np
import pytest
from fakes import prune

from cahp.board import budget_sweep
from cahp.files import json_text
from cahp.models.head_model import HeadModel
from cahp.models.training import Epoch, Schedule
from cahp.recoveries import RECOVERIES
from cahp.run.bench import open_bench
from cahp.run.document import RunDocument
from cahp.run.prune import _run_key, choose, measure_mask, read_run
from cahp.run.recoveries import Recovered, Recoveries, cut_model, measure_steps
from cahp.run.settings import Settings
from cahp.stages import recovery
from cahp.stages.evaluation import evaluate
from cahp.store import Store
from cahp.tasks.texts import Texts
from cahp.values import CahpError, Cancelled, DataError, HeadMask, ModelError

MASK = HeadMask(np.array([[True, False, False, True], [True, True, False, False], [False, True, False, False]]))
#: What makes a training short.
BRIEF: dict[str, Any] = {"epochs": 2, "learning_rate": 1e-3, "batch": 16}


TEXTS = fakes.sentences(200)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def opened(model: HeadModel, store: Store, texts: Texts = TEXTS, **options: Any) -> fakes.Opened:
    return fakes.opened(model.card, texts, store, **{"model": model, **options})


def trained(model: HeadModel, store: Store, how: str, mask: HeadMask = MASK, **options: Any) -> Recovered:
    recovered = opened(model, store, **options).recoveries.recover(mask, how, schedule=BRIEF)
    assert recovered is not None
    return recovered


@pytest.mark.parametrize("how", ["finetune", "distill"])
def test_a_trained_model_is_trained_once_and_found_again(model: HeadModel, store: Store, how: str) -> None:
    # Of so few heads, a refit leaves something to learn.
    mask = HeadMask(np.eye(4, dtype=np.bool_)[[3, 0, 1]])
    recovered = trained(model, store, how, mask)
    report = recovered.distill
    assert report is None or report.accepted
    assert (recovered.refit is None) is (report is None) is (how == "finetune")
    first = opened(model, store).measurements
    answers = first.evaluate(TEXTS, mask=mask, recovered=recovered)
    assert not np.array_equal(answers.losses, first.evaluate(TEXTS, mask=mask).losses)
    again = fakes.opened(model.card, TEXTS, store, load=fakes.unread)
    stored = again.recoveries.recover(mask, how, schedule=BRIEF)
    assert stored.sha256 == recovered.sha256
    assert (stored.epochs, stored.refit, stored.distill) == (recovered.epochs, recovered.refit, recovered.distill)
    assert np.array_equal(again.measurements.evaluate(TEXTS, mask=mask, recovered=stored).losses, answers.losses)
    assert set(again.resources.cached) == {"recovery", "evaluation"}


def test_quick_refits_come_from_one_full_pass(model: HeadModel, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(model, store).recoveries
    first.prepare("quick-refit")
    # Another session, and another mask: nothing is run again.
    monkeypatch.setattr(recovery, "collect_grams", None)
    again = opened(model, store).recoveries
    other = HeadMask(np.eye(4, dtype=np.bool_)[[1, 2, 3]])
    found = [made.recover(mask, "quick-refit") for made, mask in ((first, MASK), (again, MASK), (again, other))]
    assert found[0].sha256 == found[1].sha256
    report = found[2].refit
    assert (report.verdict, report.row.name, report.kl_after) == ("applied", "quick-refit", None)
    assert report.reason == "not compared on held-out texts"


def test_held_out_texts_choose_among_all_rates(model: HeadModel, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    # The second rate diverges.
    rates = (1e-5, 1e30, 1e-2)
    row = replace(RECOVERIES["refit-finetune"], rates=rates)
    monkeypatch.setitem(RECOVERIES, "refit-finetune", row)  # type: ignore[arg-type]
    bench = opened(model, store)
    brief = {"epochs": 2, "batch": 16}
    tuned = bench.recoveries.finetune(MASK, "refit-finetune", schedule=brief)
    start = cut_model(model, MASK, bench.recoveries.refit(MASK))
    schedule = Schedule(**brief)  # type: ignore[arg-type]
    tried = {
        rate: recovery.finetune(start, TEXTS, schedule=replace(schedule, epochs=1, learning_rate=rate))[1]
        for rate in (1e-5, 1e-2)
    }
    best = replace(schedule, learning_rate=max(tried, key=lambda rate: tried[rate][-1].accuracy or 0))
    assert {epoch["learning_rate"] for epoch in tuned.epochs} == {best.learning_rate}
    whole, history = recovery.finetune(start, TEXTS, schedule=best)
    assert [epoch["loss"] for epoch in tuned.epochs] == [epoch.loss for epoch in history]
    again = opened(model, store)
    assert again.recoveries.finetune(MASK, "refit-finetune", schedule=brief).sha256 == tuned.sha256
    answers = again.measurements.evaluate(TEXTS, mask=MASK, recovered=tuned)
    assert np.array_equal(answers.losses, evaluate(whole, TEXTS).losses)


@pytest.mark.parametrize(("how", "step"), [("finetune", 11), ("distill", 17)])
def test_a_stopped_training_goes_on_whole(model: HeadModel, store: Store, tmp_path: Path, how: str, step: int) -> None:
    def names(store: Store) -> set[str]:
        return {path.name for path in store.folder.glob("*")}

    other = Store(tmp_path / "other")
    whole = trained(model, other, how)
    with pytest.raises(Cancelled):
        trained(model, store, how, progress=fakes.stop_at(how, step))
    assert names(store) != names(other)
    seen: list[tuple[str, int, int]] = []
    again = trained(model, store, how, progress=lambda *at: seen.append(at))
    assert again.sha256 == whole.sha256
    # 160 texts to learn from: ten batches an epoch. It goes on after the last whole one, and the refit was kept.
    assert next(at for at in seen if at[0] == how) == (how, 10, 20)
    assert "refit" not in {stage for stage, *_ in seen}
    assert names(store) == names(other)


def test_rates_may_diverge_or_lack_memory(model: HeadModel, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scores of a language model are below 0."""
    outcomes: dict[float, float | CahpError] = {0.3: CahpError("diverged"), 0.2: math.nan, 0.1: -3.0, 0.01: -2.0}
    tried: list[float] = []

    def finetune(start: HeadModel, *_: Any, schedule: Schedule, **__: Any) -> Any:
        tried.append(schedule.learning_rate)
        outcome = outcomes[schedule.learning_rate]
        if isinstance(outcome, CahpError):
            raise outcome
        # The share of right tokens is another order.
        return start, [Epoch(1, 1.0, -outcome, outcome)]

    def tune(*rates: float) -> Recovered:
        row = replace(RECOVERIES["refit-finetune"], rates=rates)
        monkeypatch.setitem(RECOVERIES, "refit-finetune", row)  # type: ignore[arg-type]
        return opened(model, store).recoveries.finetune(MASK, "refit-finetune")

    monkeypatch.setattr(recovery, "finetune", finetune)
    assert [epoch["learning_rate"] for epoch in tune(*outcomes).epochs] == [0.01]
    outcomes[0.5] = ModelError("no room")
    with pytest.raises(ModelError, match="no room"):
        tune(0.3, 0.1, 0.5)
    outcomes[0.5] = -1.0
    tried.clear()
    assert tune(0.3, 0.1, 0.5).epochs[0]["learning_rate"] == 0.5
    # What was tried before the interruption is not tried again.
    assert tried == [0.5, 0.5]


def test_a_distillation_is_found_again_without_the_refit_that_it_began_with(model: HeadModel, store: Store) -> None:
    first = trained(model, store, "distill")
    assert first.start is not None
    # It also serves where there is a time limit.
    recoveries = fakes.opened(model.card, TEXTS, store, load=fakes.unread).recoveries
    assert recoveries.distill(MASK, schedule=BRIEF, seconds=60.0).sha256 == first.sha256
    entries = opened(model, store).recoveries
    store.remove(entries._refit_key(MASK, "refit", entries.inputs))
    again = fakes.opened(model.card, TEXTS, store, load=fakes.unread).recoveries.distill(MASK, schedule=BRIEF)
    assert (again.sha256, again.refit, again.distill, again.start) == (first.sha256, first.refit, first.distill, None)


@pytest.mark.parametrize("seconds", [None, 1e9])
def test_poisoned_labels_change_no_distillation(model: HeadModel, tmp_path: Path, seconds: float | None) -> None:
    wrong = Texts(TEXTS.first, TEXTS.second, 1 - TEXTS.labels, TEXTS.classes)
    found = []
    for name, texts, unlabelled in (("a", TEXTS, None), ("b", wrong, None), ("c", wrong, TEXTS.inputs)):
        shared = fakes.resources(model.card, Store(tmp_path / name), model=model)
        recoveries = Recoveries(shared, texts, unlabelled=unlabelled)
        found.append(recoveries.distill(MASK, schedule=BRIEF, seconds=seconds))
    honest, *others = found
    for other in others:
        assert (other.sha256, other.report, other.refit) == (honest.sha256, honest.report, honest.refit)


def test_texts_without_labels_serve_and_none_of_them_evaluates(model: HeadModel, tmp_path: Path) -> None:
    data = fakes.write_data(tmp_path / "data")
    fresh = fakes.sentences(60, seed=77).first
    closed = [json.loads(line)["text"] for line in (data / "test.jsonl").read_text().splitlines()][:2]
    file = tmp_path / "more.csv"
    file.write_text("text\n" + "\n".join([*fresh, *closed]) + "\n")
    settings = fakes.quick(model.card.folder, data, budget="5", recover="distill", recover_data=str(file))
    bench = open_bench(settings, store=Store(tmp_path / "store"))
    assert set(bench.recoveries.inputs) <= set(fresh)
    assert any("were left out" in notice for notice in bench.notices)
    timed = open_bench(replace(settings, recover="auto", limit=20), store=Store(tmp_path / "store"))
    assert f"recovered on as many of 62 texts of {file} as the time allows" in timed.notices
    run = prune(settings, store=Store(tmp_path / "store"))
    assert run.document.distill.examples + run.document.distill.held_out == len(bench.recoveries.inputs)
    # Another content is another run.
    file.write_text("text\n" + "\n".join(fresh[:40]) + "\n")
    assert prune(settings, store=Store(tmp_path / "store")).document.distill != run.document.distill
    refitted = prune(replace(settings, recover="refit"), store=Store(tmp_path / "store")).document
    assert refitted.refit.kl_after < refitted.refit.kl_before
    file.write_text("premise,hypothesis\na,b\n")
    with pytest.raises(DataError, match="single texts"):
        open_bench(settings, store=Store(tmp_path))
    with pytest.raises(DataError, match="no data named"):
        open_bench(replace(settings, recover_data="nowhere.csv"), store=Store(tmp_path))


@pytest.mark.parametrize("file", ["data/train.jsonl", "more.jsonl"])
def test_texts_beyond_the_sample_count_where_a_recovery_reads_as_its_time_allows(file: str, tmp_path: Path) -> None:
    settings = fakes.quick_task(tmp_path, limit=20, sample="head")
    more = tmp_path / "more.jsonl"
    texts = fakes.sentences(40, seed=5).first
    more.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    if file == "more.jsonl":
        settings = replace(settings, recover_data=str(more))

    def keys() -> list[str]:
        benches = [open_bench(replace(settings, recover=name), store=Store(tmp_path)) for name in ("refit", "auto")]
        return [_run_key(bench, ()) for bench in benches]

    before = keys()
    assert keys() == before
    with (tmp_path / file).open("a") as rows:
        rows.write('{"text": "a text of its own", "label": "good"}\n')
    refit, auto = keys()
    assert refit == before[0]
    assert auto != before[1]


def test_no_windows_are_cut_to_find_a_timed_run(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(
        model=str(fakes.save_language_model(tmp_path / "model", family="llama")),
        data=str(fakes.write_data(tmp_path / "data")),
        **{"window": 16, "tokens": 160, "eval_tokens": 160, "recover": "auto", "device": "cpu"},
    )
    bench = open_bench(settings, store=store)
    monkeypatch.setattr("cahp.run.bench.read_all_unlabelled", fakes.unread)
    assert read_run(bench) is None


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> fakes.WorkClock:
    return fakes.WorkClock(monkeypatch)


@pytest.mark.parametrize("allowed", [150.0, 900.0, 2100.0])
def test_the_time_allowed_is_kept(model: HeadModel, store: Store, clock: fakes.WorkClock, allowed: float) -> None:
    made = opened(model, store, clock=clock).recoveries.distill(MASK, schedule=BRIEF, seconds=allowed)
    # A batch that was begun is ended.
    assert 0.5 * allowed < clock.now <= allowed + 10
    assert made.start is not None or allowed < 400
    texts = made.report.examples + made.report.held_out
    assert 40 <= texts <= 200
    assert (texts == 200) is (allowed > 2000)
    assert ("of 2 epochs" in made.report.reason) is bool(made.report.epochs)


@pytest.mark.parametrize("stage", ["refit", "teacher", "evaluation", "distill"])
def test_cancelling_waits_for_one_batch(model: HeadModel, store: Store, clock: fakes.WorkClock, stage: str) -> None:
    asked: list[float] = []

    def stop(at: str, done: int, total: int) -> None:
        # Cancelled a little after the stage began.
        if asked:
            raise Cancelled
        if at == stage:
            asked.append(clock.now)

    # What refit, teacher and both epochs take on all texts, in passes of a text, and a little more.
    with pytest.raises(Cancelled):
        opened(model, store, clock=clock, progress=stop).recoveries.distill(MASK, schedule=BRIEF, seconds=2600.0)
    # Six texts are a small batch of evaluation, sixteen one of training.
    assert clock.now - asked[0] <= 3 * 16


@pytest.fixture
def settings(model: HeadModel, tmp_path: Path) -> Settings:
    return fakes.quick(model.card.folder, fakes.write_data(tmp_path / "data"), budget="5")


def test_another_bench_finds_a_distillation(settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    # All texts would be the same however they are drawn.
    drawn = replace(settings, limit=50)
    bench = open_bench(replace(drawn, recover="refit"), store=store)
    # No recovery reads labels, not even to draw its texts.
    assert bench.recoveries.inputs != bench.calibration.inputs
    assert bench.recoveries.read(choose(bench).mask, "distill") is None
    run = prune(replace(drawn, recover="distill"), store=store)
    found = bench.recoveries.read(run.mask, "distill")
    assert found.report == run.document.distill
    monkeypatch.setattr(recovery, "distill", None)
    assert budget_sweep.evaluate_mask(bench, run.mask, recover="distill") == run.document.outcomes["recovered"]
    said = measure_mask(
        bench, run.mask, costs=lambda _: cast(Any, None), command=lambda asked: asked.recover, recover="distill"
    )
    assert (said.outcomes, said.distill, said.command) == (run.document.outcomes, run.document.distill, "distill")


@pytest.mark.parametrize("how", ["distill", "auto"])
def test_a_run_says_what_refit_and_distillation_brought(settings: Settings, store: Store, how: Any) -> None:
    asked = replace(settings, recover=how)
    run = prune(asked, store=store)
    said = run.document
    pruned, refit, last = said.steps
    assert [one.step for one in said.steps] == ["pruned", "refit", "distill"]
    assert (pruned.outcomes, last.outcomes) == (said.outcomes["pruned"], said.outcomes["recovered"])
    assert {one.outcomes["accuracy"].n for one in said.steps} == {40}
    for before, after in pairwise(said.steps):
        change = after.outcomes["accuracy"].value - before.outcomes["accuracy"].value
        assert after.gained.value == pytest.approx(100 * change)
    assert pruned.gained is None
    assert (refit.seconds or 0) > 0 < (last.seconds or 0)
    assert "recovered" in said.outcomes
    assert said.refit is not None
    if how == "distill":
        # Without the refit, which the store removed, what training added to it is not known.
        bench = open_bench(asked, store=store)
        store.remove(bench.recoveries._refit_key(run.mask, "refit", bench.recoveries.inputs))
        alone = bench.recoveries.recover(run.mask, how)
        steps = measure_steps(bench.measurements, bench.evaluation, run.mask, alone, seed=0)
        assert [(one.step, one.gained) for one in steps] == [("pruned", None), ("distill", None)]
    assert said.distill.held_out == 24
    assert said.timings.recovery_s is not None
    assert RunDocument.from_json(json.loads(json_text(said.to_json()))) == said
    again = prune(asked, store=store).document
    assert again == replace(said, timings=again.timings, cached=again.cached)
    assert prune(settings, store=store).document.distill is None
