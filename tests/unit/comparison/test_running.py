"""A comparison is planned and run: fair, resumable, and the same wherever the cells are measured."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from fake_methods import HEADS, LAYERS, Counted, Tuned, plan
from fakes import prune

from cahp.comparison import Comparison, make_plan, running as engines
from cahp.comparison.plan import read_seeds
from cahp.comparison.running import compare
from cahp.figures.comparison_blocks import show_comparison
from cahp.files import plain_json
from cahp.models import devices
from cahp.outcomes import to_delta, to_metrics
from cahp.run.bench import open_bench
from cahp.run.settings import Settings
from cahp.show import terminal
from cahp.store import Store
from cahp.values import BudgetError, CahpError, HeadMask, OptionError, digest

pytestmark = pytest.mark.usefixtures("one_thread")


def written(found: Comparison) -> dict[str, Any]:
    """What ``compare.json`` says of it."""
    return dict(plain_json(found.document))


def kept(found: Comparison, method: str | None = None) -> list[Any]:
    return [cell["kept"] for cell in written(found)["cells"] if method in (None, cell["method"])]


def accuracies(found: Comparison) -> list[dict[str, float]]:
    cells = written(found)["cells"]
    return [{name: of["eval"]["accuracy"] for name, of in cell["recoveries"].items()} for cell in cells]


def test_every_mask_has_the_size_asked_for_and_is_measured_as_a_run_is(settings: Settings, store: Store) -> None:
    asked = plan(settings, "complementary", "counted", seeds=(42,), recoveries=("refit",))
    found = compare(asked, store=store)
    assert [cell["budget"] for cell in written(found)["cells"]] == [
        {"requested": k, "attained": k} for _ in range(2) for k in (4, 6)
    ]
    run = prune(replace(settings, budget="4", recover="refit", latency=False), store=store)
    cell = written(found)["cells"][0]
    assert cell["kept"] == run.mask.kept
    for recovery, state in (("none", "pruned"), ("refit", "recovered")):
        measured = cell["recoveries"][recovery]["eval"]
        metrics = plain_json(to_metrics(run.document.outcomes[state]))
        assert {name: measured[name] for name in metrics} == metrics
        assert measured["delta"] == plain_json(to_delta(run.document.outcomes[state]))


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
def test_poisoned_labels(settings: Settings, tmp_path: Path, data: Path, tries: int, splits: tuple[str, ...]) -> None:
    names = ["complementary", "ablation", "tuned"]
    # All of validation, since a sample follows the labels.
    every = replace(settings, report="test", eval_limit=40)
    given = {"budgets": ("5",), "seeds": (42,), "recoveries": ("refit",), "tries": tries}
    clean = compare(plan(every, *names, **given), store=Store(tmp_path / "one"))
    bad = replace(every, data=str(poisoned(data, tmp_path / "poisoned", *splits)))
    dirty = compare(plan(bad, *names, **given), store=Store(tmp_path / "two"))
    assert kept(clean) == kept(dirty)
    # Yet the poison bites: every answer that was right is wrong.
    for before, after in zip(written(clean)["cells"], written(dirty)["cells"], strict=True):
        for recovery in ("none", "refit"):
            shares = [cell["recoveries"][recovery]["report"]["accuracy"] for cell in (before, after)]
            assert sum(shares) == pytest.approx(1)


def test_settings_are_chosen_on_tuning_texts_with_the_same_tries_for_all(settings: Settings, store: Store) -> None:
    # Complementary has two settings, so nobody gets more than two tries.
    found = compare(plan(settings, "complementary", "tuned", "counted", tries=3), store=store)
    assert written(found)["settings"]["tries"] == {"asked": 3, "used": 2}
    assert any(notice.startswith("settings were chosen among 2, not 3") for notice in written(found)["notices"])
    bench = open_bench(settings, store=store)
    # Every other text of each class; here two classes alternate.
    by_class = np.argsort(bench.evaluation.labels, kind="stable")
    tuning, evaluation = (bench.evaluation.take(np.sort(by_class[start::2])) for start in (0, 1))
    assert min(np.bincount(evaluation.labels)) >= 7
    sizes = (written(found)["data"]["steer"]["sha256"], written(found)["data"]["eval"]["sha256"])
    assert sizes == (tuning.sha256, evaluation.sha256)
    for cell in written(found)["cells"]:
        if cell["method"] != "tuned":
            continue
        right = []
        for setting in Tuned.tries[:2]:
            mask = Tuned(**setting).choose(bench.evidence, budget=cell["budget"]["requested"]).mask
            right.append(int(bench.measurements.evaluate(tuning, mask=mask).correct.sum()))
        assert cell["setting"] == dict(Tuned.tries[int(np.argmax(right))])
        # Two settings weighed the same evidence, and each answered the tuning texts.
        assert (cell["price"]["forwards"], cell["price"]["labels"]) == (60 + 2 * 15, 7 + 15)
    # One text cannot both tune and evaluate.
    with pytest.raises(CahpError, match="there is only one"):
        compare(plan(replace(settings, eval_limit=1), "complementary", "tuned", tries=2), store=store)


def test_the_test_split_is_opened_once_and_only_on_request(settings: Settings, store: Store) -> None:
    assert compare(plan(settings, "counted"), store=store).document.test_opened == 0
    asked = plan(replace(settings, report="test"), "counted")
    found = compare(asked, store=store)
    assert written(found)["test_opened"] == 1
    assert written(found)["cells"][0]["recoveries"]["none"]["report"]["n"] == 40
    assert {one.split for one in found.summary.tests or found.summary.means} >= {"validation", "test"}
    # Found again, it is not opened again; other masks are another opening.
    assert compare(asked, store=store).document.test_opened == 1
    assert compare(replace(asked, budgets=("5",)), store=store).document.test_opened == 2


def test_fine_tuning_is_given_to_the_unpruned_model_and_distillation_is_not(settings: Settings, store: Store) -> None:
    recoveries = ("finetune", "refit", "distill")
    small = replace(settings, limit=20)
    found = compare(plan(small, "counted", budgets=("6",), seeds=(42,), recoveries=recoveries), store=store)
    (full,) = written(found)["full"]
    # A refit of all heads gives the old weights back, and a distillation has the unpruned model for its teacher.
    assert set(full["recoveries"]) == {"none", "finetune"}
    assert full["recoveries"]["none"]["eval"]["delta"] is None
    assert full["recoveries"]["finetune"]["eval"]["delta_alike"] is None
    measured = written(found)["cells"][0]["recoveries"]
    assert set(measured) == {"none", *recoveries}
    change = (measured["finetune"]["eval"]["accuracy"] - full["recoveries"]["finetune"]["eval"]["accuracy"]) * 100
    assert measured["finetune"]["eval"]["delta_alike"]["pp"] == pytest.approx(change)
    assert measured["refit"]["eval"]["delta_alike"] is None


def test_a_failing_method_costs_its_cells_and_not_the_comparison(settings: Settings, store: Store) -> None:
    found = compare(plan(settings, "counted", "failing", "stingy"), store=store)
    errors = {(cell["method"], cell["budget"]["requested"]): cell["error"] for cell in written(found)["cells"]}
    assert errors["counted", 4] is None
    assert errors["failing", 6] is None
    assert errors["failing", 4] == "ZeroDivisionError: no such budget"
    assert errors["stingy", 6].startswith("BudgetError: stingy kept 5 heads instead of 6")
    assert any("6 cells failed (failing, stingy)" in notice for notice in written(found)["notices"])
    assert {one.method for one in found.summary.means} == {"counted", "failing"}


def test_the_answers_to_each_text_are_kept_for_every_cell(settings: Settings, store: Store) -> None:
    found = compare(plan(settings, "counted", recoveries=("refit",)), store=store)
    arrays, rows = found.answers["eval"], []
    for cell in (*written(found)["full"], *written(found)["cells"]):
        for of in cell["recoveries"].values():
            rows.append(of["row"])
            answers = {name: array[of["row"]] for name, array in arrays.items() if name != "labels"}
            correct = answers["predictions"] == arrays["labels"]
            means = (correct.mean(), answers["nll"].mean(dtype=float))
            assert means == pytest.approx((of["eval"]["accuracy"], of["eval"]["loss"]), rel=1e-3)
            bins = np.minimum((answers["confidence"].astype(np.float64) * 15).astype(int), 14)
            gaps = np.abs(np.bincount(bins, weights=answers["confidence"] - correct))
            assert gaps.sum() / len(bins) == pytest.approx(of["eval"]["ece"], abs=2e-3)
            assert answers["kl"].mean(dtype=float) == pytest.approx(of["eval"]["kl"] or 0.0, rel=1e-3, abs=1e-6)
    assert rows == list(range(len(arrays["kl"])))
    assert (arrays["predictions"].dtype, arrays["kl"].dtype, arrays["nll"].dtype) == (np.uint8, np.float16, np.float16)
    accepted = {(name, of["accepted"]) for cell in written(found)["cells"] for name, of in cell["recoveries"].items()}
    assert accepted <= {("none", None), ("refit", True), ("refit", False)}


def test_an_interrupted_one_repeats_nothing(settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
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

    count(recovery, "refit", lambda model, mask, inputs, **_: (mask.sha256, digest(*inputs)))
    count(measurements.Measurements, "evaluate_model", lambda _, model, texts, **__: (id(model), texts.sha256))
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
    masks = {(json.dumps(cell["kept"]), cell["seed"]) for cell in written(found)["cells"]}
    assert len(refits) == len(masks)
    assert set(refits.values()) == {1}
    before = (len(Counted.asked), dict(done))
    again = compare(asked, store=store, load=lambda *_, **__: pytest.fail("the model was read"))
    assert (len(Counted.asked), dict(done)) == before
    assert accuracies(again) == accuracies(found)
    assert again.summary.tests == found.summary.tests


def test_the_cost_is_announced_before_and_progress_reaches_it(settings: Settings, store: Store) -> None:
    said: list[str] = []
    seen: list[tuple[int, int]] = []
    asked = plan(settings, "complementary", "tuned", seeds=(42,))
    watch = lambda _, done, total: seen.append((done, total))  # noqa: E731
    estimate = compare(asked, store=store, announce=said.append, progress=watch).document.estimate
    (announced,) = said
    assert (estimate["cells"], estimate["known"]) == (4, 0)
    # 60 texts, and gradients of a first batch of 32, which has them all; 60 for the other. Scores count once a seed.
    choosing = (60 + 2 * 32) + 60
    # Four masks answer 30 texts each. Of three layers of four heads 4 * (3 + 1) / 2 = 8 passes remove each alone.
    passes = choosing + (4 + 8) * 30
    assert estimate["forwards"] == passes
    assert estimate["forward_ms"] > 0
    assert announced.startswith(f"4 of 4 cells to measure: about {passes:,} forward passes, at ")
    assert "primary test: KL divergence" in announced
    assert seen[-1] == (passes, passes)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_the_criticality_of_a_head_is_the_divergence_without_it_found_once(settings: Settings, store: Store) -> None:
    asked = plan(replace(settings, report="test"), "counted", budgets=("4",), seeds=(42,))
    found = compare(asked, store=store).document
    bench = open_bench(settings, store=store)
    keep = np.ones((3, 4), dtype=np.bool_)
    keep[1, 2] = False
    without = bench.measurements.evaluate(bench.evaluation, mask=HeadMask(keep))
    assert np.shape(found.criticality) == (3, 4)
    assert found.criticality[1][2] == pytest.approx(without.divergences(bench.full).mean())
    assert len({value for row in found.criticality for value in row}) == 12
    # Another budget and seed need no criticality again.
    again = compare(replace(asked, budgets=("5",), seeds=(43,)), store=store).document
    assert again.criticality == found.criticality
    # One mask on 30 evaluation texts and 40 of the test split; the full model is known.
    assert again.estimate["forwards"] == 30 + 40
    assert again.estimate["cells"] == 1


@pytest.mark.nightly
@pytest.mark.parametrize("elsewhere", [{"jobs": 2}, {"jobs": 2, "cluster": "dask"}], ids=["processes", "cluster"])
def test_workers_measure_what_this_process_does(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: dict[str, Any]
) -> None:
    if "cluster" in elsewhere:
        pytest.importorskip("distributed", reason="Dask is not installed (the extra `cluster`)")
        # The workers have a store of their own, so what comes back must be kept here as well.
        monkeypatch.setenv("CAHP_CACHE", str(tmp_path / "theirs"))
    # Workers do not know the methods of this file.
    asked = plan(settings, "complementary", recoveries=("refit",))
    here = compare(asked, store=Store(tmp_path / "one"))
    there = compare(asked, store=Store(tmp_path / "two"), **elsewhere)
    assert kept(here) == kept(there)
    assert accuracies(here) == accuracies(there)
    # Everything came back: nothing is left to do.
    compare(asked, store=Store(tmp_path / "two"), load=lambda *_, **__: pytest.fail("the model was read"))


@pytest.mark.parametrize(("cluster", "said"), [("slurm", "write dask"), ("dask:tcp://127.0.0.1:1", "Dask scheduler")])
def test_a_cluster_that_is_not_there_is_refused(settings: Settings, store: Store, cluster: str, said: str) -> None:
    dask = pytest.importorskip("dask")
    # Its settings are there once it is imported; imported inside the block, they would go with it.
    pytest.importorskip("distributed", reason="Dask is not installed (the extra `cluster`)")
    with dask.config.set({"distributed.comm.timeouts.connect": "0.2s"}), pytest.raises(OptionError, match=said):
        compare(plan(settings, "counted"), store=store, cluster=cluster)


_KILLED = """
import os, signal, sys
from cahp.comparison.running import open_executor
if __name__ == "__main__":
    with open_executor(jobs=2, device="cpu") as executor:
        print(executor.submit(os.getpid).result(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.nightly
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="processes are looked for as on Linux")
def test_the_workers_of_a_killed_comparison_end_with_it(tmp_path: Path) -> None:
    (tmp_path / "killed.py").write_text(_KILLED)
    root = Path(__file__).parents[3]
    # Not a pipe to wait at: the worker would hold it.
    with (tmp_path / "out").open("w") as out:
        environment = {**os.environ, "PYTHONPATH": str(root)}
        done = subprocess.run([sys.executable, tmp_path / "killed.py"], env=environment, stdout=out, check=False)
    assert done.returncode == -signal.SIGKILL
    worker = int((tmp_path / "out").read_text())
    end = time.monotonic() + 60
    while Path(f"/proc/{worker}").exists():
        assert time.monotonic() < end
        time.sleep(0.05)


def seen() -> str | None:
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def test_each_process_sees_a_gpu_of_its_own_and_one_that_is_killed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    # One real process, since each takes seconds to begin; the others' turns are taken here.
    monkeypatch.setattr(devices, "visible_gpus", lambda: ["7", "GPU-b"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with engines.open_executor(jobs=2, device="cuda") as executor:
        assert executor.submit(seen).result() == "7"
        killed = executor.submit(os._exit, 1)
        with pytest.raises(CahpError, match=r"BrokenProcessPool.*memory.*fewer --jobs"):
            engines.wait_for(killed)
    assert seen() is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,GPU-b")
    turn = get_context("spawn").Value("i", 0)
    for expected in ("7", "GPU-b", "7"):
        engines._take_gpu(["7", "GPU-b"], turn)
        assert seen() == expected
    engines._take_gpu([], turn)
    assert (seen(), turn.value) == ("7", 3)


def test_methods_that_need_labels_are_left_out_by_name_and_no_accuracy_is_there(tmp_path: Path, store: Store) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("\n\n".join(fakes.sentences(120, seed=3).first), encoding="utf-8")
    settings = fakes.quick(fakes.save_model(tmp_path / "tiny"), notes)
    names = ("complementary", "magnitude", "dsp", "ablation")
    compare(plan(settings, *names, recoveries=("none", "refit", "finetune")), store=store).write(tmp_path / "out")
    comparison = Comparison.read(tmp_path / "out")
    assert "left out, because they need labels: dsp, ablation, finetune." in comparison.document.notices
    assert set(comparison.document.methods) == {"complementary", "magnitude"}
    assert comparison.document.recoveries == ("none", "refit")
    assert not any(cell.error for cell in comparison.document.cells)
    assert comparison.results.outcomes == ("kl", "agreement")
    assert all("labels" not in arrays and "nll" not in arrays for arrays in comparison.answers.values())
    assert "accuracy" not in "\n".join(terminal.lines(show_comparison(comparison))).lower()
    with pytest.raises(OptionError, match="dsp need labels"):
        compare(plan(settings, "dsp"), store=store)


def test_cells_cross_methods_budgets_and_seeds_with_the_stated_draws(settings: Settings) -> None:
    cells = plan(settings, "counted", "tossed").cells(HeadMask.full(LAYERS, HEADS))
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


def test_a_method_takes_part_with_other_per_layer_minima_and_the_same_draws(settings: Settings) -> None:
    asked = plan(settings, "tossed", "tossed-min-0", "tossed-min-2", budgets=("6",), recoveries=("refit",))
    cells = asked.cells(HeadMask.full(LAYERS, HEADS))
    noise = {name: [cell.noise for cell in cells if cell.method == name] for name in asked.methods}
    assert len(noise["tossed"]) == 5
    assert noise["tossed"] == noise["tossed-min-0"] == noise["tossed-min-2"]
    assert all("refit" in cell.recoveries for cell in cells)
    with pytest.raises(BudgetError):
        plan(settings, "tossed-min-2", budgets=("4",)).cells(HeadMask.full(LAYERS, HEADS))
    with pytest.raises(OptionError, match="there is no method 'nobody'"):
        plan(settings, "nobody-min-0")


def test_gates_are_learned_at_their_own_budgets(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counted, "learned", True, raising=False)
    monkeypatch.setattr(Tuned, "learned", False)
    cells = plan(settings, "counted", "tuned", trained_budgets=("6",)).cells(HeadMask.full(LAYERS, HEADS))
    assert {(cell.method, cell.budget) for cell in cells} == {("counted", 6), ("tuned", 4), ("tuned", 6)}


def test_only_the_methods_and_budgets_of_the_plan_have_their_masks_trained(settings: Settings) -> None:
    asked = plan(settings, "counted", "tossed", recoveries=("refit", "distill", "finetune"), trained=("tossed",))
    cells = asked.cells(HeadMask.full(LAYERS, HEADS))
    for recovery, methods in (("distill", {"tossed"}), ("finetune", {"tossed"}), ("refit", {"counted", "tossed"})):
        assert {cell.method for cell in cells if recovery in cell.recoveries} == methods
    at = replace(asked, trained=None, trained_budgets=("6",)).cells(HeadMask.full(LAYERS, HEADS))
    assert {cell.budget for cell in at if "distill" in cell.recoveries} == {6}
    assert {cell.budget for cell in at if "refit" in cell.recoveries} == {4, 6}


@pytest.mark.parametrize(("text", "seeds"), [("3", (42, 43, 44)), ("7,11", (7, 11)), ("7,", (7,)), (" 5 , 6 ", (5, 6))])
def test_seeds_are_a_number_of_them_or_a_list(text: str, seeds: tuple[int, ...]) -> None:
    assert read_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "x", "1.5", "-1", "0", "2000", "1,x", "²"])
def test_seeds_that_are_neither_are_refused(text: str) -> None:
    with pytest.raises(OptionError):
        read_seeds(text)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"methods": ()}, "is empty"),
        ({"methods": ("counted", "counted")}, "twice"),
        ({"methods": ("nobody",)}, "there is no method 'nobody'"),
        ({"recoveries": ("pray",)}, "--recover pray is unknown"),
        ({"recoveries": ("auto",)}, "speed of the machine"),
        ({"tries": 0}, "--tries 0"),
        ({"seeds": (-1,)}, "--seed -1"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(settings: Settings, options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        plan(settings, "counted", **options)


@pytest.mark.parametrize("budgets", [("2",), ("13",), ("auto",), ("6", "50%")])
def test_budgets_that_do_not_compare_are_refused(settings: Settings, store: Store, budgets: tuple[str, ...]) -> None:
    with pytest.raises(BudgetError):
        compare(plan(settings, "counted", budgets=budgets), store=store)
    assert Counted.asked == []


def test_named_methods_bring_no_preset_s_short_cuts_and_a_preset_can_be_changed() -> None:
    named = make_plan(Settings(), methods="random")
    assert (named.draws, len(named.seeds), named.settings.limit) == (None, 5, 2000)
    quick = make_plan(Settings())
    assert (quick.budgets, quick.seeds, quick.settings.limit) == (("12", "36"), (42, 43), 400)
    assert (quick.settings.eval_limit, quick.recoveries) == (300, ("none", "refit"))
    assert not {"attattr", "ablation-greedy"} & set(quick.methods)
    changed = make_plan(Settings(), preset="full", budgets="8", limit=10, tries=2)
    assert (changed.budgets, changed.trained_budgets, changed.settings.limit, changed.tries) == (("8",), None, 10, 2)
    with pytest.raises(OptionError):
        make_plan(Settings(), preset="slow")
