"""Running a comparison: fair, resumable, and the same wherever the cells are measured."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import fakes
import numpy as np
import pytest

from cahp import registry
from cahp.compare import Comparison, Estimate, Plan, compare, parse_seeds
from cahp.compare.plan import PLAIN, PRESETS, everyone
from cahp.files import plain_json
from cahp.registry import Evidence
from cahp.run.bench import open_bench
from cahp.run.prune import prune
from cahp.run.settings import Settings
from cahp.stages.selection import top
from cahp.store import Store
from cahp.values import BudgetError, CahpError, Cancelled, OptionError, Price, Selection

pytestmark = pytest.mark.usefixtures("one_thread")

LAYERS, HEADS = 3, 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.save_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.write_data(tmp_path_factory.mktemp("data") / "reviews")


@pytest.fixture(scope="module")
def settings(model: Path, texts: Path) -> Settings:
    return Settings(str(model), str(texts), limit=60, eval_limit=30, pool_size=8, projection="pca", device="cpu")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


class Counted:
    """Keeps the heads of lowest index, and counts how often it is asked."""

    name = "counted"
    needs_budget = True
    asked: ClassVar[list[tuple[int, int]]] = []

    def choose(self, evidence: Evidence, *, budget: int | None, min_per_layer: int = 1) -> Selection:
        assert budget is not None
        self.asked.append((evidence.seed, budget))
        return top(-np.arange(12.0).reshape(LAYERS, HEADS), budget=budget, min_per_layer=min_per_layer)


class Tossed(Counted):
    """Pure chance."""

    name = "tossed"
    draws = 5

    def choose(self, evidence: Evidence, *, budget: int | None, min_per_layer: int = 1) -> Selection:
        assert budget is not None
        self.asked.append((evidence.seed, budget))
        scores = np.random.default_rng(evidence.seed).random((LAYERS, HEADS))
        return top(scores, budget=budget, min_per_layer=min_per_layer)


class Tuned(Counted):
    """Has settings: which end of the heads to keep."""

    name = "tuned"
    tries: Sequence[Mapping[str, Any]] = ({}, {"end": "last"}, {"end": "middle"})

    def __init__(self, *, end: str = "first") -> None:
        self._end = end

    def choose(self, evidence: Evidence, *, budget: int | None, min_per_layer: int = 1) -> Selection:
        assert budget is not None
        places = np.arange(12.0).reshape(LAYERS, HEADS)
        scores = {"first": -places, "last": places, "middle": -np.abs(places - 5.5)}[self._end]
        return top(scores, budget=budget, min_per_layer=min_per_layer)

    def price(self, evidence: Evidence, *, budget: int) -> Price:
        return Price(len(evidence.texts), 7)


class Failing(Counted):
    """Fails at one budget."""

    name = "failing"

    def choose(self, evidence: Evidence, *, budget: int | None, min_per_layer: int = 1) -> Selection:
        if budget == 4:
            raise ZeroDivisionError("no such budget")
        return super().choose(evidence, budget=budget, min_per_layer=min_per_layer)


class Stingy(Counted):
    """Keeps one head fewer than asked."""

    name = "stingy"

    def choose(self, evidence: Evidence, *, budget: int | None, min_per_layer: int = 1) -> Selection:
        assert budget is not None
        return super().choose(evidence, budget=budget - 1, min_per_layer=min_per_layer)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for made in (Counted, Tossed, Tuned, Failing, Stingy):
        monkeypatch.setitem(registry._methods, made.name, made)
    Counted.asked.clear()


def plan(settings: Settings, *names: str, **options: Any) -> Plan:
    given = {"methods": names, "budgets": ("4", "6"), "seeds": (42, 43), **options}
    return Plan(settings, **given)


def kept(found: Comparison, method: str | None = None) -> list[Any]:
    return [cell["kept"] for cell in found.document["cells"] if method in (None, cell["method"])]


def accuracies(found: Comparison) -> list[dict[str, float]]:
    cells = found.document["cells"]
    return [{name: of["eval"]["accuracy"] for name, of in cell["recoveries"].items()} for cell in cells]


# --- the plan


def test_cells_are_every_method_budget_and_seed_and_chance_is_drawn_in_all_as_often_as_it_says(
    settings: Settings,
) -> None:
    cells = plan(settings, "counted", "tossed").cells(layers=LAYERS, heads=HEADS)
    assert Counter((cell.method, cell.budget) for cell in cells) == {
        ("counted", 4): 2,
        ("counted", 6): 2,
        # Five draws over two seeds: three and two.
        ("tossed", 4): 5,
        ("tossed", 6): 5,
    }
    drawn = [cell for cell in cells if cell.method == "tossed" and cell.budget == 4]
    assert Counter(cell.seed for cell in drawn) == {42: 3, 43: 2}
    assert len({cell.noise for cell in drawn}) == 5
    assert {cell.noise for cell in cells if cell.method == "counted"} == {42, 43}


def test_two_methods_of_chance_draw_other_numbers(settings: Settings) -> None:
    cells = plan(settings, "random", "tossed").cells(layers=LAYERS, heads=HEADS)
    first, second = ({cell.noise for cell in cells if cell.method == name} for name in ("random", "tossed"))
    assert (len(first), len(second), first & second) == (20, 5, set())


def test_only_so_many_masks_of_chance_are_recovered(settings: Settings) -> None:
    cells = plan(settings, "counted", "tossed", recovered_draws=2).cells(layers=LAYERS, heads=HEADS)
    assert all(cell.recovered for cell in cells if cell.method == "counted")
    assert Counter(cell.draw for cell in cells if cell.recovered and cell.method == "tossed") == {0: 4}


def test_gates_are_learned_at_their_own_budgets(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counted, "learned", True, raising=False)
    monkeypatch.setattr(Tuned, "learned", False)
    cells = plan(settings, "counted", "tuned", learned_budgets=("6",)).cells(layers=LAYERS, heads=HEADS)
    assert {(cell.method, cell.budget) for cell in cells} == {("counted", 6), ("tuned", 4), ("tuned", 6)}


def test_masks_are_fine_tuned_at_the_budgets_that_are_asked_for(settings: Settings) -> None:
    asked = plan(settings, "counted", recoveries=("refit", "finetune"), finetuned_budgets=("6",))
    cells = asked.cells(layers=LAYERS, heads=HEADS)
    assert {cell.budget for cell in cells if "finetune" in asked.recoveries_of(cell)} == {6}
    assert {cell.budget for cell in cells if "refit" in asked.recoveries_of(cell)} == {4, 6}


def test_an_expensive_method_may_be_measured_with_the_first_seed_alone(settings: Settings) -> None:
    asked = plan(settings, "counted", "tossed", few_seeds=("counted", "tossed"), budgets=("4",))
    measured = Counter((cell.method, cell.seed) for cell in asked.cells(layers=LAYERS, heads=HEADS))
    # Of chance, those draws that would have been the seed's anyway.
    assert measured == {("counted", 42): 1, ("tossed", 42): 3}


@pytest.mark.parametrize(("text", "seeds"), [("3", (42, 43, 44)), ("7,11", (7, 11)), ("7,", (7,)), (" 5 , 6 ", (5, 6))])
def test_seeds_are_a_number_of_them_or_a_list(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "x", "1.5", "-1", "0", "2000", "1,x", "²"])
def test_seeds_that_are_neither_are_refused(text: str) -> None:
    with pytest.raises(OptionError):
        parse_seeds(text)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"methods": ()}, "names none"),
        ({"methods": ("counted", "counted")}, "twice"),
        ({"methods": ("nobody",)}, "no method named 'nobody'"),
        ({"recoveries": ("pray",)}, "--recover pray is unknown"),
        ({"tries": 0}, "--tries 0"),
        ({"seeds": (-1,)}, "--seed -1"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(settings: Settings, options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        plan(settings, "counted", **options)


@pytest.mark.parametrize("budgets", [("2",), ("13",), ("auto",), ("6", "50%")])
def test_budgets_that_cannot_be_compared_are_refused_before_anything_is_measured(
    settings: Settings, store: Store, budgets: tuple[str, ...]
) -> None:
    with pytest.raises(BudgetError):
        compare(plan(settings, "counted", budgets=budgets), store=store)
    assert Counted.asked == []


def test_presets_follow_what_is_registered() -> None:
    learned = {name for name in registry.names() if registry.facts(name).learned}
    assert set(PRESETS["posthoc"].methods) == set(registry.names()) - learned
    assert set(PRESETS["full"].methods) == set(registry.names())
    assert {"counted", "tuned"} <= set(PRESETS["quick"].methods) < set(PRESETS["posthoc"].methods)
    # Those that take as long as all the others.
    assert set(PRESETS["posthoc"].methods) - set(PRESETS["quick"].methods) == {"ablation-greedy", "attattr"}
    assert PRESETS["posthoc"].few_seeds == PRESETS["full"].few_seeds == ("ablation-greedy", "attattr")
    assert PRESETS["quick"].few_seeds == PLAIN.few_seeds == ()
    assert everyone()[0] == "complementary"


# --- the protocol


def test_every_mask_has_the_size_asked_for_and_is_measured_as_the_pipeline_measures(
    settings: Settings, store: Store
) -> None:
    found = compare(plan(settings, "complementary", "counted", recoveries=("refit",)), store=store)
    assert [cell["budget"] for cell in found.document["cells"]] == [
        {"requested": k, "attained": k} for _ in range(2) for k in (4, 4, 6, 6)
    ]
    run = prune(replace(settings, budget="4", recover="refit", latency=False), store=store)
    cell = found.document["cells"][0]
    assert cell["kept"] == run.mask.kept
    for recovery, state in (("none", "pruned"), ("refit", "recovered")):
        measured = cell["recoveries"][recovery]["eval"]
        metrics = plain_json(run.document.metrics.measured[state])
        assert {name: measured[name] for name in metrics} == metrics
        assert measured["delta"] == plain_json(run.document.delta.of(state))


def poisoned(texts: Path, folder: Path, *splits: str) -> Path:
    """The same texts with every label of some splits wrong."""
    folder.mkdir()
    for file in texts.iterdir():
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        for row in rows if file.stem in splits else []:
            row["label"] = {"good": "bad", "bad": "good"}[row["label"]]
        (folder / file.name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize(("tries", "splits"), [(1, ("validation", "test")), (2, ("test",))])
def test_poisoned_labels_of_splits_that_only_evaluate_do_not_change_what_is_kept(
    settings: Settings, tmp_path: Path, texts: Path, tries: int, splits: tuple[str, ...]
) -> None:
    names = [name for name in everyone() if name in ("complementary", "gradient", "fisher", "hies", "ablation")]
    # All of validation, since a sample follows the labels.
    every = replace(settings, report="test", eval_limit=40)
    given = {"budgets": ("5",), "seeds": (42,), "recoveries": ("refit",), "tries": tries}
    clean = compare(plan(every, *names, "tuned", **given), store=Store(tmp_path / "one"))
    bad = replace(every, data=str(poisoned(texts, tmp_path / "poisoned", *splits)))
    dirty = compare(plan(bad, *names, "tuned", **given), store=Store(tmp_path / "two"))
    assert kept(clean) == kept(dirty)
    # Yet the poison bites: every answer that was right is wrong.
    for before, after in zip(clean.document["cells"], dirty.document["cells"], strict=True):
        for recovery in ("none", "refit"):
            shares = [cell["recoveries"][recovery]["report"]["accuracy"] for cell in (before, after)]
            assert sum(shares) == pytest.approx(1)


def test_a_seed_draws_the_calibration_texts_and_all_seeds_are_evaluated_on_the_same(
    settings: Settings, store: Store
) -> None:
    found = compare(plan(settings, "counted"), store=store).document["data"]
    assert len({one["sha256"] for one in found["select"]}) == 2
    evaluation = open_bench(replace(settings, seed=42), store=store).evaluation
    assert found["eval"]["sha256"] == evaluation.sha256


def test_seeds_that_draw_the_same_texts_are_told(settings: Settings, store: Store) -> None:
    found = compare(plan(replace(settings, limit=500), "counted"), store=store)
    assert any("every seed chooses on the same ones" in notice for notice in found.document["notices"])


def test_a_method_of_chance_draws_another_mask_every_time(settings: Settings, store: Store) -> None:
    found = compare(plan(settings, "tossed", budgets=("6",)), store=store)
    assert len({json.dumps(mask) for mask in kept(found)}) == 5
    assert [seed for seed, _ in Counted.asked] == [cell["noise"] for cell in found.document["cells"]]


def test_by_default_nothing_looks_at_validation_to_choose_a_setting(settings: Settings, store: Store) -> None:
    found = compare(plan(settings, "tuned"), store=store)
    assert found.document["data"]["steer"] is None
    assert {json.dumps(cell["setting"]) for cell in found.document["cells"]} == {"{}"}
    assert found.document["cells"][0]["price"] == {"forwards": 60.0, "labels": 7}


def test_settings_are_chosen_on_tuning_texts_that_do_not_evaluate_with_the_same_tries_for_all(
    settings: Settings, store: Store
) -> None:
    # Complementary has two settings, so nobody gets more than two tries.
    found = compare(plan(settings, "complementary", "tuned", "counted", tries=3), store=store)
    assert found.document["settings"]["tries"] == {"asked": 3, "used": 2}
    bench = open_bench(settings, store=store)
    tuning, evaluation = bench.evaluation.take(range(0, 30, 2)), bench.evaluation.take(range(1, 30, 2))
    sizes = (found.document["data"]["steer"]["sha256"], found.document["data"]["eval"]["sha256"])
    assert sizes == (tuning.sha256, evaluation.sha256)
    for cell in found.document["cells"]:
        if cell["method"] != "tuned":
            continue
        right = []
        for setting in Tuned.tries[:2]:
            mask = Tuned(**setting).choose(bench.evidence, budget=cell["budget"]["requested"]).mask
            right.append(int(bench.measurements.evaluate(tuning, mask=mask).correct.sum()))
        assert cell["setting"] == dict(Tuned.tries[int(np.argmax(right))])
        # Two settings were tried, and paid for.
        assert cell["price"]["forwards"] == 2 * 60


def test_the_test_split_is_opened_once_and_only_on_request(settings: Settings, store: Store) -> None:
    assert compare(plan(settings, "counted"), store=store).document["test_opened"] == 0
    asked = plan(replace(settings, report="test"), "counted")
    found = compare(asked, store=store)
    assert found.document["test_opened"] == 1
    assert found.document["cells"][0]["recoveries"]["none"]["report"]["n"] == 40
    assert {one.split for one in found.summary.verdicts or found.summary.means} >= {"validation", "test"}
    # Found again, it is not opened again; other masks are another opening.
    assert compare(asked, store=store).document["test_opened"] == 1
    assert compare(replace(asked, budgets=("5",)), store=store).document["test_opened"] == 2


def test_fine_tuning_is_given_to_the_unpruned_model_as_well(settings: Settings, store: Store) -> None:
    asked = plan(replace(settings, limit=20), "counted", budgets=("6",), seeds=(42,), recoveries=("finetune", "refit"))
    found = compare(asked, store=store)
    (full,) = found.document["full"]
    # A refit of all heads gives the old weights back, so it is not measured.
    assert set(full["recoveries"]) == {"none", "finetune"}
    assert full["recoveries"]["none"]["eval"]["delta"] is None
    measured = found.document["cells"][0]["recoveries"]
    assert set(measured) == {"none", "finetune", "refit"}
    change = (measured["finetune"]["eval"]["accuracy"] - full["recoveries"]["finetune"]["eval"]["accuracy"]) * 100
    assert measured["finetune"]["eval"]["delta_alike"]["pp"] == pytest.approx(change)
    assert measured["refit"]["eval"]["delta_alike"] is None


def test_a_failing_method_costs_its_cells_and_not_the_comparison(settings: Settings, store: Store) -> None:
    found = compare(plan(settings, "counted", "failing", "stingy"), store=store)
    errors = {(cell["method"], cell["budget"]["requested"]): cell["error"] for cell in found.document["cells"]}
    assert errors["counted", 4] is None
    assert errors["failing", 6] is None
    assert errors["failing", 4] == "ZeroDivisionError: no such budget"
    assert errors["stingy", 6] == "BudgetError: stingy kept 5 heads and not the 6 asked for"
    assert any("6 cells failed (failing, stingy)" in notice for notice in found.document["notices"])
    assert {one.method for one in found.summary.means} == {"counted", "failing"}


def test_a_comparison_in_which_all_fail_is_refused(settings: Settings, store: Store) -> None:
    with pytest.raises(CahpError, match="no method could be measured; the first says: BudgetError"):
        compare(plan(settings, "stingy"), store=store)


def test_who_was_right_is_kept_for_every_cell(settings: Settings, store: Store) -> None:
    found = compare(plan(settings, "counted", recoveries=("refit",)), store=store)
    rows = []
    for cell in (*found.document["full"], *found.document["cells"]):
        for of in cell["recoveries"].values():
            rows.append(of["row"])
            assert found.right["eval"][of["row"]].mean() == pytest.approx(of["eval"]["accuracy"])
    assert rows == list(range(len(found.right["eval"])))


# --- stopping and going on


def test_an_interrupted_comparison_goes_on_where_it_stopped_and_computes_nothing_twice(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cahp.run import measurements
    from cahp.stages import recovery

    done: Counter[str] = Counter()

    def count(home: Any, name: str, what: Any) -> None:
        way = getattr(home, name)

        def counting(*given: Any, **options: Any) -> Any:
            result = way(*given, **options)
            done[f"{name} {what(*given, **options)}"] += 1
            return result

        monkeypatch.setattr(home, name, counting)

    count(recovery, "refit", lambda model, mask, texts, **_: (mask.sha256, texts.sha256))
    count(measurements.Measurements, "answers", lambda bench, model, texts, mask=None: (id(model), texts.sha256))
    asked = plan(settings, "complementary", "counted", "tossed", recoveries=("refit",))

    def stop_after(cells: int) -> Any:
        def progress(stage: str, now: int, total: int) -> None:
            if len(Counted.asked) >= cells:
                raise KeyboardInterrupt

        return progress

    for cells in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            compare(asked, store=store, progress=stop_after(cells))
    assert 0 < len(Counted.asked) < 14
    found = compare(asked, store=store)
    # Every cell asked its method once, and those whose measurement was cut short once more.
    assert len(Counted.asked) <= 14 + 2
    refits = {name: times for name, times in done.items() if name.startswith("refit")}
    masks = {(json.dumps(cell["kept"]), cell["seed"]) for cell in found.document["cells"]}
    assert len(refits) == len(masks)
    assert set(refits.values()) == {1}
    before = (len(Counted.asked), dict(done))
    again = compare(asked, store=store, load=lambda *_, **__: pytest.fail("the model was read"))
    assert (len(Counted.asked), dict(done)) == before
    assert accuracies(again) == accuracies(found)
    assert again.summary.verdicts == found.summary.verdicts


def test_progress_may_cancel_between_two_batches(settings: Settings, store: Store) -> None:
    def cancel(stage: str, done: int, total: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        compare(plan(settings, "counted"), store=store, progress=cancel)


def test_a_method_whose_code_has_changed_is_asked_again(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cahp.compare import cells

    compare(plan(settings, "counted"), store=store)
    asked = len(Counted.asked)
    monkeypatch.setattr(cells, "_source", lambda method: "another file")
    compare(plan(settings, "counted"), store=store)
    assert len(Counted.asked) == 2 * asked


def test_the_cost_is_announced_before_and_progress_reaches_it(settings: Settings, store: Store) -> None:
    said: list[Estimate] = []
    seen: list[tuple[int, int]] = []
    asked = plan(settings, "complementary", "tuned", seeds=(42,))
    compare(asked, store=store, announce=said.append, progress=lambda _, done, total: seen.append((done, total)))
    (estimate,) = said
    assert (estimate.cells, estimate.cached) == (4, 0)
    # 60 texts, and gradients of a first batch of 32, which has them all; 60 for the other. Scores count once a seed.
    assert estimate.choosing == (60 + 2 * 32) + 60
    # The full model and four masks answer 30 texts each; the first of them is measured before.
    assert estimate.forwards == estimate.choosing + 4 * 30
    assert estimate.forward_ms > 0
    assert seen[-1] == (round(estimate.forwards), round(estimate.forwards))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_what_is_cached_of_a_mask_is_not_announced_again(settings: Settings, store: Store) -> None:
    said: list[Estimate] = []
    compare(plan(settings, "complementary", seeds=(42,)), store=store)
    compare(plan(settings, "complementary", seeds=(42,), recoveries=("refit",)), store=store, announce=said.append)
    (estimate,) = said
    assert (estimate.cells, estimate.cached, estimate.choosing) == (2, 0, 0.0)
    # Two refits on 48 texts, accepted by 12 and answering 30; their masks and what they answer without it are cached.
    assert estimate.forwards == pytest.approx(2 * (48 * 3.7 + 12 * 2 + 30))


# --- elsewhere


def test_worker_processes_measure_what_this_one_does(settings: Settings, tmp_path: Path) -> None:
    # Workers do not know the methods of this file.
    asked = plan(settings, "complementary", recoveries=("refit",))
    here = compare(asked, store=Store(tmp_path / "one"))
    there = compare(asked, store=Store(tmp_path / "two"), jobs=2)
    assert kept(here) == kept(there)
    assert accuracies(here) == accuracies(there)
    # Everything came back: nothing is left to do.
    compare(asked, store=Store(tmp_path / "two"), load=lambda *_, **__: pytest.fail("the model was read"))


def test_worker_processes_stop_when_the_caller_does(settings: Settings, store: Store) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(plan(settings, "complementary"), store=store, jobs=2, progress=stop)


def test_a_cluster_measures_what_this_process_does(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed", reason="Dask is not installed (the extra `cluster`)")
    asked = plan(settings, "complementary", recoveries=("refit",))
    here = compare(asked, store=Store(tmp_path / "one"))
    # The workers have a store of their own, so what comes back must be kept here as well.
    monkeypatch.setenv("CAHP_CACHE", str(tmp_path / "theirs"))
    there = compare(asked, store=Store(tmp_path / "two"), cluster="dask", jobs=2)
    assert kept(here) == kept(there)
    assert accuracies(here) == accuracies(there)
    compare(asked, store=Store(tmp_path / "two"), load=lambda *_, **__: pytest.fail("the model was read"))


@pytest.mark.parametrize(
    ("cluster", "said"), [("slurm", "write dask"), ("dask:tcp://127.0.0.1:1", "no Dask scheduler")]
)
def test_a_cluster_that_is_not_there_is_refused(settings: Settings, store: Store, cluster: str, said: str) -> None:
    dask = pytest.importorskip("dask")
    with dask.config.set({"distributed.comm.timeouts.connect": "0.2s"}), pytest.raises(OptionError, match=said):
        compare(plan(settings, "counted"), store=store, cluster=cluster)


def test_jobs_must_be_some(settings: Settings, store: Store) -> None:
    with pytest.raises(OptionError, match="--jobs 0"):
        compare(plan(settings, "counted"), store=store, jobs=0)
