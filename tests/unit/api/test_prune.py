"""``cahp.prune`` asks for the same as the command line; keywords replace the defaults of ``Settings``."""

import inspect
import json
from collections.abc import Callable
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import torch
from terminal import call

import cahp
from cahp.api.prune import _read_settings
from cahp.recoveries import RECOVERIES
from cahp.run.bench import open_bench
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.values import Cancelled, OptionError

pytestmark = pytest.mark.usefixtures("one_thread")


def test_keywords_settings_and_the_command_line_ask_for_the_same_run(
    run: cahp.PruneResult, asked: dict[str, Any], store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = {**asked, "model": str(asked["model"]), "data": str(asked["data"])}
    again = cahp.prune(cahp.Settings(**words, budget="5", recover="refit"), store=store)
    assert again.document.cached
    assert again.document.outcomes == run.document.outcomes
    monkeypatch.setenv("CAHP_CACHE", str(tmp_path))
    typed = ["--model", asked["model"], "--data", asked["data"], "--pool-size", 8, "--projection", "pca"]
    answer = call("prune", *typed, "--device", "cpu", "--budget", 5, "--recover", "refit", "--json", "--quiet")
    said = answer.document
    assert said["kept"] == run.mask.kept
    assert said["metrics"]["recovered"] == json.loads(json.dumps(run.document.to_json()))["metrics"]["recovered"]
    assert run.document.command.startswith("cahp prune --model")


def test_a_loaded_model(asked: dict[str, Any], store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(asked["model"].parent)
    loaded = cahp.load("tiny", device="cpu")
    rest = {name: value for name, value in asked.items() if name not in ("model", "data")}
    monkeypatch.setattr("cahp.models.load", None)
    again = cahp.prune(loaded, asked["data"], **rest, budget=6, store=store)
    assert again.bench.model is loaded
    assert again.mask.count == 6
    # Another model of that name lies where one goes on working.
    fakes.save_model(tmp_path / "tiny", seed=7)
    monkeypatch.chdir(tmp_path)
    assert again.settings.model == str(asked["model"])
    assert f"--model {asked['model']}" in again.document.command
    assert open_bench(again.settings, store=store).card.sha256 == loaded.card.sha256


def test_a_loaded_language_model_keeps_its_own_prompt(store: Store, asked: dict[str, Any], tmp_path: Path) -> None:
    folder = fakes.save_language_model(tmp_path / "words")
    loaded = cahp.load(str(folder), device="cpu", prompt=fakes.PROMPTS["causal"], answers=fakes.ANSWERS)
    rest = {name: value for name, value in asked.items() if name not in ("model", "data", "device")}
    run = cahp.prune(loaded, asked["data"], **rest, budget=5, store=store)
    assert (run.settings.prompt, run.settings.answers) == (fakes.PROMPTS["causal"], fakes.ANSWERS)
    assert open_bench(run.settings, store=store).card == loaded.card
    for otherwise in ({"prompt": "{text} I find it"}, {"answers": ("bad", "good")}):
        with pytest.raises(cahp.CahpError, match=r"words was loaded with (prompt|answers)="):
            cahp.prune(loaded, asked["data"], **otherwise)


def test_a_loaded_model_stays_on_its_device(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    loaded = cahp.load(str(asked["model"]), device="cpu")
    with pytest.raises(cahp.CahpError, match="tiny was loaded with device='cpu'; leave device out"):
        cahp.prune(loaded, asked["data"], device="cuda")
    with pytest.raises(cahp.CahpError, match="tiny was loaded with prompt=None"):
        cahp.prune(loaded, asked["data"], prompt="{text} It was", answers=("bad", "good"))
    assert _read_settings(loaded, None, {})[0].device == "cpu"


def test_the_network_of_a_run_learns_with_all_its_weights(run: cahp.PruneResult, tmp_path: Path) -> None:
    network = run.model()
    texts = run.bench.evaluation
    batch = run.bench.model.tokenizer(list(texts.first), padding=True, return_tensors="pt")
    labels = torch.as_tensor(texts.labels)
    right = network(**batch).logits.argmax(dim=1) == labels
    assert right.float().mean().item() == pytest.approx(run.outcomes["recovered"]["accuracy"].value)
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    losses = []
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for _ in range(4):
        loss = network(**batch, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert [name for name, weight in network.named_parameters() if weight.equal(before[name])] == []
    network.save_pretrained(tmp_path / "trained")
    again = cahp.load_pruned(tmp_path / "trained")
    assert torch.allclose(again(**batch).logits, network(**batch).logits, atol=1e-5)


def test_the_signature_lists_every_field_of_the_settings() -> None:
    said = inspect.signature(cahp.prune).parameters
    more = {"tokenizer", "sweep", "command", "progress", "yes", "store"}
    assert set(said) == {field.name for field in fields(cahp.Settings)} | more
    assert (said["budget"].default, said["recover"].default) == ("auto", "none")


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"budgte": 20}, "cahp.prune has no option budgte; did you mean budget?"),
        ({"recover": "magic"}, "--recover magic is unknown; choose one of"),
        ({"limit": "many"}, "--limit cannot be 'many' (Expected `int`, got `str`)"),
        ({"limit": 1}, "--limit 1 is out of range; it must be in"),
        ({"method": "none-such"}, "none-such"),
        ({"model": "no-such-model"}, "no-such-model"),
        ({"model": cahp.Settings(), "budget": 20}, "Settings and options are both given"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(cahp.CahpError) as refused:
        cahp.prune(**asked)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)
    # Jupyter shows this in place of a traceback.
    (shown,) = refused.value._render_traceback_()
    assert shown == f"{type(refused.value).__name__}: {refused.value}"


def test_a_run_has_a_table_of_its_heads(run: cahp.PruneResult) -> None:
    heads = run.heads
    assert list(heads) == ["layer", "head", "kept", "cluster", "salience", "x", "y"]
    kept = heads[heads.kept]
    assert np.array_equal(kept[["layer", "head"]], np.argwhere(run.mask.keep))
    assert np.array_equal(heads[["x", "y"]], run.arrays["embedding"])
    roles = cahp.roles(run.settings.model, store=run.bench.resources.store)
    assert run.heads.role.tolist() == roles.columns["role"]


def test_a_run_is_text_in_a_terminal_and_a_picture_in_a_notebook(run: cahp.PruneResult) -> None:
    assert "5 of 12 heads kept" in repr(run)
    shown = run._repr_html_()
    assert shown.count("<rect") == 12
    assert "<script" not in shown
    assert "http" not in shown.replace("http://www.w3.org", "")


#: The module of a verb that has another name, and what a verb calls with its settings.
HOMES = {"recover": "cahp.api.export"}
NEXT = {"recover": "open_bench", "export": "open_bench", "compare": "measure"}


@pytest.fixture
def ask(settings: Settings, mask: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Call a verb with settings whose fields are changed, and return those with which it would work."""

    def call(verb: str, fields: dict[str, Any], **keywords: Any) -> Settings:
        needed = {"recover": {"mask": mask, "out": tmp_path / "out"}, "export": {"mask": mask, "out": tmp_path / "out"}}
        reached: list[Any] = []

        def stop(asked: Any, **_: Any) -> None:
            reached.append(asked)
            raise Cancelled

        monkeypatch.setattr(import_module(HOMES.get(verb, f"cahp.api.{verb}")), NEXT[verb], stop)
        with pytest.raises(Cancelled):
            getattr(cahp, verb)(replace(settings, **fields), **needed.get(verb, {}), **keywords)
        (asked,) = reached
        return getattr(asked, "settings", asked)

    return call


@pytest.mark.parametrize(
    ("verb", "fields", "keywords", "texts"),
    [
        ("recover", {"recover": "distill"}, {}, {}),
        ("export", {"recover": "none"}, {}, {}),
        ("compare", {"limit": None, "eval_limit": 16}, {}, {}),
        # A keyword repeats a field or replaces its default.
        ("recover", {"recover": "refit"}, {"recover": "refit"}, {}),
        ("recover", {"recover": "none"}, {"recover": "refit"}, {}),
        ("compare", {"eval_limit": 16}, {"limit": 24}, {}),
        # Where settings have the default, a comparison reads the texts of its preset.
        ("compare", {}, {}, {"limit": 400, "eval_limit": 300}),
        ("compare", {"limit": 24}, {}, {"eval_limit": 300}),
    ],
)
def test_a_call_honours_the_fields_of_settings(
    ask: Any, settings: Settings, verb: str, fields: dict[str, Any], keywords: dict[str, Any], texts: dict[str, int]
) -> None:
    assert ask(verb, fields, **keywords) == replace(settings, **{**fields, **keywords, **texts})


def test_fit_takes_settings(settings: Settings, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[int | None, int]] = []

    def stop(texts: Any, limit: int | None, *, seed: int) -> None:
        drawn.append((limit, seed))
        raise Cancelled

    monkeypatch.setattr("cahp.data.sample", stop)
    for asked in (
        {"model": replace(settings, model=str(encoder), limit=24, seed=7)},
        {"model": encoder, "data": settings.data},
        {"model": replace(settings, model=str(encoder))},
        {"model": encoder, "data": settings.data, "limit": 16, "seed": 1},
        {"model": replace(settings, model=str(encoder)), "limit": Settings.limit},
    ):
        with pytest.raises(Cancelled):
            cahp.fit(**asked, out=tmp_path / "out")  # type: ignore[arg-type]
    assert drawn == [(24, 7), (None, 42), (None, 42), (16, 1), (2000, 42)]


def test_settings_without_a_recovery_are_refused_by_recover(settings: Settings, mask: Path, tmp_path: Path) -> None:
    others = ", ".join(name for name in RECOVERIES if name != "none")
    with pytest.raises(OptionError, match=f"--recover none cannot be used here; choose one of {others}$"):
        cahp.recover(settings, mask=mask, out=tmp_path / "out")
