"""A language model on the command line: every command that takes a model takes a prompt and answers."""

from __future__ import annotations

import json

import fakes
import pytest
from terminal import call, refused

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def asked(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """The model, and how it is asked."""
    folder = fakes.save_language_model(tmp_path_factory.mktemp("lm") / "tiny")
    return ["--model", folder, "--prompt", fakes.PROMPTS["causal"], "--answers", ",".join(fakes.ANSWERS)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    return ["--data", fakes.write_data(tmp_path_factory.mktemp("data") / "reviews")]


def test_a_model_is_looked_at_with_its_prompt(asked: list[object]) -> None:
    name, said = asked[1], asked[2:]
    answer = call("models", name, *said)
    assert answer.code == 0, answer.err
    assert "answers  awful (token " in answer.out
    assert "prompt   A warm and funny film. it was" in answer.out
    assert "a causal language model; --prompt and --answers" in call("models", name).out
    found = json.loads(call("models", name, *said, "--json").out)
    assert [one["word"] for one in found["prompt"]["answers"]] == list(fakes.ANSWERS)


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
