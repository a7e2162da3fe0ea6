"""A causal language model without answers on the command line: prune, evaluate, recover and export it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fakes
import pytest
from terminal import call, refused

pytestmark = pytest.mark.usefixtures("one_thread")

TOKENS = ("--window", 16, "--tokens", 320, "--eval-tokens", 128)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """The options that name a language model with grouped queries, and its texts."""
    root = tmp_path_factory.mktemp("language")
    model = fakes.save_language_model(root / "lm", family="llama")
    (root / "texts.txt").write_text("\n\n".join(fakes.sentences(160).first))
    return ["--model", model, "--data", root / "texts.txt", *TOKENS, "--device", "cpu"]


@pytest.fixture(scope="module")
def pruned(source: list[object], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a run with a refit, and what the command printed."""
    out = tmp_path_factory.mktemp("runs") / "out"
    answer = call(
        *("prune", *source, "--pool-size", 8, "--projection", "pca", "--latency-time", "0.05s"),
        *("--budget", 6, "--recover", "refit", "--out", out),
    )
    assert (answer.code, answer.err) == (0, "")
    return out, answer.out


@pytest.fixture(scope="module")
def run(pruned: tuple[Path, str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((pruned[0] / "run.json").read_text())
    return found


def test_a_run_prints_its_protocol_and_speaks_of_tokens(pruned: tuple[Path, str], run: dict[str, Any]) -> None:
    said, documents = pruned[1], run["protocol"]["documents"]
    assert f"Measured on 128 tokens of {documents} documents in windows of 16 tokens, without overlap " in said
    (counts,) = (line.split()[1:] for line in said.splitlines() if line.startswith("  n "))
    assert set(counts) == {str(documents)}
    for row in ("KL divergence", "Agreement with", "Perplexity", "Bits per byte  ", "Loss on repeated random tokens"):
        assert row in said
    for word in ("ccuracy", "F1", "classes", " texts,"):
        assert word not in said


def test_a_run_shows_the_text_that_each_model_continues(pruned: tuple[Path, str], run: dict[str, Any]) -> None:
    written = run["continuation"]
    assert [len(written[name]) for name in ("full", "pruned", "recovered")] == [20, 20, 20]
    for name, differs in written["first_difference"].items():
        same = [a == b for a, b in zip(written["full"], written[name], strict=True)]
        assert differs == (same.index(False) if False in same else None)
    assert f'continued "{written["prompt"]}"' in pruned[1]
    assert call("report", pruned[0], "--out", pruned[0] / "report.html").code == 0
    marks = 1 + sum(one is not None for one in written["first_difference"].values())
    assert pruned[1].count("▸") == (pruned[0] / "report.html").read_text().count("▸") == marks


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--label-map", "a=b"), "does not read"),
        (("--labels", "--recover", "distill"), "--labels needs labels, which"),
        (("--goal", "accuracy-loss=1"), "--goal accuracy-loss=1 needs labels, which"),
        (("--stride", 32), "--stride"),
        (("--tokens", 16, "--budget", 6, "--recover", "refit"), "raise --tokens or lower --window"),
        (("--window", 81), "--window 81 is more than the 80 tokens that lm reads"),
        (("--prompt", "{text} it was", "--answers", 'bad,"good'), "--answers 'bad,\"good' cannot be read"),
    ],
)
def test_options_that_do_not_fit_a_language_model_are_refused(
    source: list[object], options: tuple[object, ...], reason: str
) -> None:
    assert reason in refused(call("prune", *source, *options))
