"""A language model on the command line: every command that takes a model takes a prompt and answers."""

from __future__ import annotations

import json
from pathlib import Path

import fakes
import pytest
from terminal import call, refused

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def asked(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """The model, and how it is asked."""
    folder = fakes.teach(fakes.save_language_model(tmp_path_factory.mktemp("lm") / "tiny"))
    return ["--model", folder, "--prompt", fakes.PROMPTS["causal"], "--answers", ",".join(fakes.ANSWERS)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    return ["--data", fakes.write_data(tmp_path_factory.mktemp("data") / "reviews")]


@pytest.fixture
def mask(tmp_path: Path) -> list[object]:
    (tmp_path / "mask.json").write_text(json.dumps({"0": [0, 1], "1": [2]}))
    return ["--mask", tmp_path / "mask.json"]


def test_a_model_is_looked_at_with_its_prompt(asked: list[object]) -> None:
    name, said = asked[1], asked[2:]
    answer = call("models", name, *said)
    assert answer.code == 0, answer.err
    assert "answers   awful (token " in answer.out
    assert "prompt    A warm and funny film. it was" in answer.out
    assert (
        "a language model, measured on its next tokens (or give it --prompt and --answers)" in call("models", name).out
    )
    found = json.loads(call("models", name, *said, "--json").out)
    assert [one["word"] for one in found["prompt"]["answers"]] == list(fakes.ANSWERS)


def test_a_run_records_its_prompt_and_its_command_repeats_it(
    asked: list[object], data: list[object], tmp_path: Path
) -> None:
    line = ["prune", *asked, *data, "--budget", 6, "--pool-size", 8, "--recover", "refit", "--device", "cpu"]
    line += ["--latency-time", "0.05s"]
    answer = call(*line, "--out", tmp_path / "out")
    assert answer.code == 0, answer.err
    assert "labels matched in order: bad=awful, good=great" in answer.out
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["metrics"]["full"]["accuracy"] >= 0.9
    assert (run["settings"]["prompt"], run["settings"]["answers"]) == (fakes.PROMPTS["causal"], list(fakes.ANSWERS))
    assert "'{text} it was'" in run["command"]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--prompt", "{text} it was", "--answers", 'bad,"good'], "--answers 'bad,\"good' cannot be read"),
        (["--prompt", "{text} it was", "--answers", "awful,great,long"], 'as in --label-map "neg='),
        (
            ["--prompt", "{premise}? {hypothesis}", "--answers", "bad,good"],
            "holds single texts, but the prompt has no",
        ),
        ([], "is more than the 80 tokens that"),
    ],
)
def test_an_invalid_prompt_gives_one_sentence(
    asked: list[object], data: list[object], more: list[object], why: str
) -> None:
    assert why in refused(call("evaluate", *asked[:2], *data, *more))
