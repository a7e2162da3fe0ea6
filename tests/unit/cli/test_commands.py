"""The commands with few options of their own: what they print, and their exit codes."""

import io
import sys
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from terminal import call, refused

import cahp
from cahp import hub
from cahp.cli.command import questions
from cahp.models import BUILTINS
from cahp.values import CahpError


def test_evaluate_of_a_run_s_mask_finds_its_figures(model: Path, data: Path, folder: Path, run: dict[str, Any]) -> None:
    asked = ["evaluate", "--model", model, "--data", data, "--device", "cpu", "--mask", folder / "head_mask.json"]
    for more in ([], ["--no-cache"]):
        answer = call(*asked, *more, "--json")
        assert (answer.code, answer.err) == (0, "")
        assert answer.document["metrics"]["full"] == run["metrics"]["full"]
        assert answer.document["metrics"]["pruned"] == run["metrics"]["pruned"]
        assert answer.document["delta"]["pruned"] == run["delta"]["pruned"]
    assert "5 of 12 heads" in call(*asked).out


@pytest.mark.parametrize("name", ["", "run.json", "head_mask.json"])
def test_a_run_tells_a_command_all_that_is_not_given(
    name: str, model: Path, data: Path, folder: Path, run: dict[str, Any]
) -> None:
    answer = call("evaluate", folder / name, "--json")
    assert answer.code == 0
    assert answer.err == f"from {folder / name}: --model {model} --data {data}\n"
    for state in ("full", "pruned", "recovered"):
        assert answer.document["metrics"][state] == run["metrics"][state]
    assert (
        cahp.evaluate(folder / name, device="cpu")["metrics"]["recovered"]["loss"]
        == run["metrics"]["recovered"]["loss"]
    )


def test_options_override_what_a_run_tells(folder: Path, tmp_path: Path) -> None:
    other = fakes.write_data(tmp_path / "other", validation=20)
    assert call("evaluate", folder, "--data", other, "--json").document["data"]["id"] == str(other)
    np.save(tmp_path / "one.npy", np.eye(3, 4, dtype=bool))
    kept = call("evaluate", folder, "--mask", tmp_path / "one.npy", "--quiet", "--json", "--latency")
    timed = kept.document.pop("latency")
    assert (timed["kept"], timed["cost"]["full"] == timed["cost"]["pruned"]) == ({"heads": 3, "of": 12}, False)
    assert "none-such" in refused(call("evaluate", folder, "--model", "none-such", "--quiet"))
    assert (kept.document["kept"], kept.err) == ({"heads": 3, "of": 12}, "")


def test_a_run_is_chosen_again_with_another_budget(model: Path, data: Path, folder: Path) -> None:
    answer = call("prune", folder, "--budget", 6, "--json", "--no-latency")
    assert answer.err.startswith(f"from {folder}: --model {model} --data {data}")
    assert "--budget" not in answer.err
    assert answer.document["budget"]["attained"] == 6


def test_an_export_of_a_run_has_its_recovery_and_one_of_a_mask_has_none(
    data: Path, folder: Path, run: dict[str, Any], tmp_path: Path
) -> None:
    made = call("export", folder, "--out", tmp_path / "refitted", "--json").document
    assert made["metrics"]["recovered"] == run["metrics"]["recovered"]
    about = ("--mask", folder / "head_mask.json", "--data", data, "--device", "cpu")
    alone = call("export", *about, "--out", tmp_path / "cut", "--json").document
    assert alone["metrics"]["recovered"] is None
    mask = call("export", folder, "--format", "npy", "--out", tmp_path / "mask", "--json").document
    assert mask["notices"] == ["a mask has no weights, so the refit is not in it; --format compact writes both"]
    assert alone["metrics"]["pruned"] == run["metrics"]["pruned"]


def test_a_model_may_stand_where_a_run_does_but_there_is_only_one(model: Path, data: Path) -> None:
    placed = call("evaluate", model, "--data", data, "--json")
    assert placed.out == call("evaluate", "--model", model, "--data", data, "--json").out
    assert refused(call("evaluate", model, "--model", "smollm2")) == (
        f"{model} and --model smollm2 are two models; leave one of them out"
    )
    for command in (["latency"], ["export", "--out", "here"], ["recover", "--out", "here"]):
        assert refused(call(*command)) == "which heads? name the folder of a run, or a mask with --mask"


def test_latency_prints_the_ratio_of_both_models(model: Path, folder: Path) -> None:
    asked = ["latency", "--model", model, "--mask", folder / "head_mask.json", "--repeats", 5, "--device", "cpu"]
    answer = call(*asked, "--json")
    assert (answer.code, answer.err) == (0, "")
    assert answer.document["kept"] == {"heads": 5, "of": 12}
    assert answer.document["cost"]["pruned"]["latency_ms"]["repeats"] == 5
    assert "  Time per batch, median " in call(*asked).out


def test_latency_of_a_language_model_counts_its_cache_and_times_generation(tmp_path: Path, data: Path) -> None:
    model = fakes.save_language_model(tmp_path / "lm", "causal", "llama")
    np.save(tmp_path / "mask.npy", np.arange(4) < np.array([1, 2, 4])[:, None])
    asked = ["latency", "--model", model, "--mask", tmp_path / "mask.npy", "--device", "cpu", "--latency-time", "1s"]
    asked += ["--prompt", fakes.PROMPTS["causal"], "--answers", ",".join(fakes.ANSWERS)]
    found = call(*asked, "--json").document
    # 12 groups, of which 7 stay, with keys and values of 4 channels and 4 bytes; the model reads 80 tokens.
    assert (found["kv_cache"]["full"], found["kv_cache"]["pruned"]) == (12 * 32, 7 * 32)
    assert (found["kv_cache"]["longest_full"], found["kv_cache"]["longest_pruned"]) == (80, 80)
    assert [[one["context"] for one in found["speed"][name]] for name in ("prefill", "decode")] == [[80], [80]]
    assert (found["cost"]["full"]["latency_ms"]["batch"], found["cost"]["full"]["latency_ms"]["length"]) == (1, 80)
    assert "  KV cache per token                384 bytes  224 bytes  −41.7 %" in call(*asked).out
    assert "at most 80 tokens" in refused(call(*asked, "--length", 81))
    looked_at = call("models", *asked[2:3], *asked[-4:], "--json").document
    pairs = ["--data", data, "--prompt", "{premise}? {hypothesis}", "--answers", "bad,good"]
    assert "holds single texts, but the prompt has no" in refused(call("evaluate", "--model", model, *pairs))
    assert [one["word"] for one in looked_at["prompt"]["answers"]] == list(fakes.ANSWERS)


def test_models_and_data_list_what_there_is_and_describe_one(model: Path, data: Path) -> None:
    assert [one["name"] for one in call("models", "--json").document] == [*BUILTINS]
    found = call("models", model, "--json").document
    assert (found["layers"], found["heads"], found["labels"]) == (3, 4, ["bad", "good"])
    assert "built-in" in refused(call("models", "no-such-model"))
    assert [one["name"] for one in call("data", "--json").document] == ["bbc-news", "sst5", "mnli", "wikitext-2", "c4"]
    found = call("data", data, "--json").document
    train = found["splits"]["train"]
    assert (train["examples"], train["class_counts"]) == (120, {"bad": 60, "good": 60})
    assert "bad 60, good 60" in call("data", data).out
    assert "no data named" in refused(call("data", "no-such-data"))
    assert "name it with --model" in refused(call("data", "bbc-news", "--max-length", 9))
    assert "splits of python-manual are fixed" in refused(call("data", "python-manual", "--text-column", "t"))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def asked(*, yes: bool = False) -> None:
    with questions(yes=yes):
        hub.require_consent("org/name", 2_000_000_000, error=CahpError)


def test_a_person_at_a_terminal_is_asked_and_told_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    asked()
    assert "org/name takes 2.0 GB" in shown.getvalue()
    for answer in ("n\n", "\n"):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        with pytest.raises(CahpError, match="consent"):
            asked()


def test_yes_consents_to_a_download_and_no_terminal_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    asked(yes=True)
    with pytest.raises(CahpError, match="--yes"):
        asked()


@pytest.fixture
def recovering(model: Path, data: Path, folder: Path) -> list[object]:
    return ["recover", "--model", model, "--data", data, "--mask", folder / "head_mask.json", "--device", "cpu"]


def test_a_recovered_model_is_written_and_reported(recovering: list[object], tmp_path: Path) -> None:
    answer = call(*recovering, "--out", tmp_path / "new")
    assert answer.code == 0
    # As much of refit and distillation as two minutes allow.
    assert "  The refit was " in answer.out
    assert "  The distillation was " in answer.out
    assert (tmp_path / "new" / "model.safetensors").is_file()
    answer = call(*recovering, "--out", tmp_path / "new", "--json")
    assert answer.document["kept"] == {"heads": 5, "of": 12}


@pytest.mark.parametrize("recover", ["finetune", "distill"])
def test_a_training_tells_epochs_on_stderr_and_in_the_result(
    recovering: list[object], recover: str, tmp_path: Path
) -> None:
    words = [*recovering, "--recover", recover, "--epochs", 2, "--batch", 16, "--learning-rate", 0.001]
    answer = call(*words, "--out", tmp_path / "a")
    assert answer.code == 0
    assert [line.split()[:3:2] for line in answer.err.splitlines()] == [["epoch", "loss"], ["epoch", "loss"]]
    # The same epochs stand below the table.
    said = answer.out.splitlines()
    at = next(place for place, line in enumerate(said) if line.split()[:2] == ["epoch", "loss"])
    losses = [line.split()[3].strip(",") for line in answer.err.splitlines()]
    assert [line.split()[1] for line in said[at + 1 : at + 3]] == losses
    again = call(*words, "--out", tmp_path / "b")
    assert (again.code, again.err) == (0, "")
    assert again.out.replace("/b", "/a") == answer.out
