"""Evaluate and compare in Python on a tiny model, beside the numbers of other tools."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from comparisons import varied
from terminal import call, refused

import cahp
from cahp.api.compare import CompareResult
from cahp.api.evaluate import evaluate
from cahp.api.options import GivenRun, find_run
from cahp.cli.explore import view_of
from cahp.exports.masks import MaskOrigin, mask_json
from cahp.run.settings import Mix, Settings
from cahp.store import Store
from cahp.values import HeadMask, MaskError

pytestmark = pytest.mark.usefixtures("one_thread")


def write_mask(path: Path, made_for: str, **origin: Any) -> Path:
    """A mask of heads 0 and 3 of every layer."""
    mask = HeadMask(np.tile(np.array([True, False, False, True]), (3, 1)))
    path.write_bytes(mask_json(mask, MaskOrigin(made_for, "by hand", None, **origin)))
    return path


def test_without_a_mask_the_full_model_alone_is_measured(
    settings: Settings, model: Path, data: Path, store: Store, plain_accuracy: Callable[[Path, Path], float]
) -> None:
    found = evaluate(settings, store=store)
    assert found["kept"] is None
    assert found["metrics"]["pruned"] is found["metrics"]["recovered"] is None
    assert found["metrics"]["full"]["accuracy"] == plain_accuracy(model, data)
    assert (found["data"]["split"], found["data"]["examples"]) == ("validation", 40)


def test_a_run_tells_what_is_not_given(run: cahp.PruneResult, store: Store, tmp_path: Path) -> None:
    expected = evaluate(run.settings, mask=run.mask, store=store)["metrics"]["pruned"]
    for given in (run, run.save(tmp_path / "run"), tmp_path / "run" / "run.json"):
        assert evaluate(given, store=store, device="cpu")["metrics"]["pruned"] == expected
    for mask in (run, run.document.kept, {layer: np.array(kept) for layer, kept in enumerate(run.mask.by_layer)}):
        assert evaluate(run.settings, mask=mask, store=store)["metrics"]["pruned"] == expected
    for mask in ({0: [4]}, {3: [0]}, {"first": [0]}, {0: 1}):
        with pytest.raises(MaskError, match=r"has \(3, 4\) heads; list those that stay, such as {0: \[1, 3\]}"):
            evaluate(run.settings, mask=mask, store=store)
    lost = cahp.abilities(run, store=store, device="cpu")
    assert lost == cahp.abilities(run.settings, mask=run.mask, store=store)


def test_the_paths_of_a_run_are_found_from_any_folder(
    model: Path, data: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    shutil.copytree(model, work / "model")
    shutil.copytree(data, work / "texts")
    # Another model and other texts of these names are not those of the run.
    fakes.save_model(tmp_path / "else" / "model", num_hidden_layers=2)
    fakes.write_data(tmp_path / "else" / "texts", validation=20)
    monkeypatch.chdir(work)
    quick = {"pool_size": 8, "projection": "pca", "latency": False, "device": "cpu", "budget": 5}
    run = cahp.prune("model", "texts", store=store, mix="repeats=10%,texts=5%", **quick)
    run.save("runs/one")
    assert json.loads(Path("runs/one/run.json").read_text())["settings"]["data"] == "texts"
    expected = evaluate(run, store=store)["metrics"]["pruned"]
    for here in (work, work / "runs", work / "runs" / "one", tmp_path / "else"):
        monkeypatch.chdir(here)
        place = os.path.relpath(work / "runs" / "one")
        assert evaluate(place, store=store)["metrics"]["pruned"] == expected
        view = view_of(place)
        assert [Path(view[name]) for name in ("model", "data")] == [work / "model", work / "texts"]
        given = find_run(place)
        assert given is not None
        (source,) = Mix.parse(given.settings.mix).sources
        assert Path(source) == work / "texts"
        mask = Path(place) / "head_mask.json"
        assert cahp.latency(mask=mask, store=store, latency_time=0.05)["model"] == "model"


def test_a_run_tells_nothing_of_its_data_where_there_are_others() -> None:
    settings = Settings(model="m", data="d", text_column="words", max_length=64, seed=7, device="cpu")
    run = GivenRun(settings, np.ones((2, 2), dtype=bool))
    told = {"model": "m", "data": "d", "text_column": "words", "max_length": 64, "seed": 7}
    assert run.tell([*told, "device", "pool_size"], []) == told
    assert run.tell(["model", "data", "text_column", "max_length", "seed"], ["data"]) == {"model": "m", "seed": 7}


def test_the_test_split_is_counted_when_it_is_opened(settings: Settings, tmp_path: Path) -> None:
    store, test = Store(tmp_path), replace(settings, eval_split="test")
    opened = [evaluate(one, store=store)["test_opened"] for one in (settings, test, test, settings)]
    assert opened == [0, 1, 2, 2]


def test_a_mask_of_another_name_is_used_with_a_notice(settings: Settings, store: Store, tmp_path: Path) -> None:
    foreign = write_mask(tmp_path / "mask.json", "another")
    notice = f"the mask was made for another and is used on {Path(settings.model).name}"
    assert notice in evaluate(settings, mask=foreign, store=store)["notices"]


def test_a_mask_is_forced(settings: Settings, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    name = Path(settings.model).name
    path = write_mask(tmp_path / "mask.json", name, model_sha256="0" * 64)
    for measure in (evaluate, cahp.latency, cahp.abilities):
        with pytest.raises(MaskError, match="is another model; name its own, or use it anyway with --force"):
            measure(settings, mask=path, store=store)
    forced = evaluate(settings, mask=path, force=True, store=store)
    notice = f"the mask was made for {name} and is used on {name}"
    assert notice in forced["notices"]
    cahp.abilities(settings, mask=path, force=True, store=store)
    assert notice in caplog.messages


def test_a_mask_is_used_on_the_model_of_its_run_unasked(model: Path, data: Path, store: Store, tmp_path: Path) -> None:
    asked = fakes.quick(model, data, limit=30, eval_limit=20, budget="6")
    cahp.prune(asked, store=store, progress=False).save(tmp_path / "run")
    mask = tmp_path / "run" / "head_mask.json"
    found = evaluate(data=str(data), mask=mask, eval_limit=20, store=store)
    assert (found["model"], found["kept"]["heads"]) == (model.name, 6)
    with pytest.raises(MaskError, match="name the model, too"):
        cahp.export(mask=cahp.read_mask(mask), out=tmp_path / "trap")
    line = ["evaluate", "--mask", str(mask), "--data", str(data), "--limit", "20"]
    assert call(*line, "--json").document["model"] == model.name
    assert "6 x 12" in refused(call(*line, "--model", "minilm-bbc"))


@pytest.fixture(scope="module")
def found() -> CompareResult:
    made = varied()
    return CompareResult(made.document, made.answers, made.written)


def test_lists_and_a_plan_give_the_same_comparison(asked: dict[str, Any], store: Store) -> None:
    options = {name: asked[name] for name in ("model", "data", "device")}
    lists: dict[str, Any] = {"methods": ["complementary", "magnitude"], "budgets": [4, 6], "seeds": 1}
    found = cahp.compare(**options, **lists, limit=40, eval_limit=20, store=store)
    assert isinstance(found, cahp.CompareResult)
    assert {one.budget for one in found.summary.means} == {4, 6}


def test_its_table_holds_the_means_with_their_intervals(found: CompareResult) -> None:
    table = found.table
    assert len(table["recovery"]) == len(found.results.means)
    place = tuple(table[name][0] for name in ("recovery", "method", "budget"))
    estimate = found.results.means[place].outcomes["accuracy"]
    shown = [table[f"accuracy{end}"][0] for end in ("", "_low", "_high")]
    assert shown == [estimate.value, estimate.low, estimate.high]
    # In a notebook it is a table for each recovery, without a script.
    shown = found._repr_html_()
    assert shown.count("<table>") == 2
    mean = found.results.means["refit", "complementary", 3].outcomes[found.results.outcome]
    assert f"{mean.text} {mean.interval}" in shown
    assert "<script" not in shown


@pytest.mark.parametrize("name", ["curve", "ranking"])
def test_every_figure_of_the_page_is_drawn(found: CompareResult, name: Any) -> None:
    pytest.importorskip("plotly", reason="what draws figures is not installed")
    figure = found.plot(name, recovery="refit", budget=3)
    assert figure.layout.title.text
    assert len(figure.data) > 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"name": "costs"}, "there is no figure 'costs'; choose one of curve, ranking"),
        ({"recovery": "magic"}, "there is no recovery 'magic'; choose one of none, refit"),
        ({"budget": 99}, "there is no budget 99; choose one of 3, 5"),
        ({"outcome": "kl"}, "there is no outcome 'kl'; choose one of agreement, accuracy"),
        ({"methods": ["luck"]}, "there is no method 'luck'; choose one of complementary"),
    ],
)
def test_what_was_not_compared_is_refused(found: CompareResult, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(cahp.CahpError, match=sentence):
        found.plot(**options)
