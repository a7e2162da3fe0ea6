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


def perplexity(document: dict[str, Any], state: str = "full") -> float:
    return float(document["outcomes"][state]["perplexity"]["value"])


def test_a_run_prints_its_protocol_and_speaks_of_tokens(pruned: tuple[Path, str], run: dict[str, Any]) -> None:
    documents = run["protocol"]["documents"]
    assert (
        f"Measured on 128 tokens of {documents} documents in windows of 16 tokens, without overlap "
        "(only the first begins with [CLS])" in pruned[1]
    )
    (counts,) = (line.split()[1:] for line in pruned[1].splitlines() if line.startswith("  n "))
    assert set(counts) == {str(documents)}
    for row in ("KL divergence", "Agreement with", "Perplexity", "Bits per byte  ", "Loss on repeated random tokens"):
        assert row in pruned[1]
    assert "inputs, no training" in pruned[1]
    for word in ("ccuracy", "F1", "classes", " texts,"):
        assert word not in pruned[1]


def test_a_run_shows_the_text_that_each_model_continues(pruned: tuple[Path, str], run: dict[str, Any]) -> None:
    written = run["continuation"]
    assert [len(written[name]) for name in ("full", "pruned", "recovered")] == [20, 20, 20]
    for name, differs in written["first_difference"].items():
        same = [a == b for a, b in zip(written["full"], written[name], strict=True)]
        assert differs == (same.index(False) if False in same else None)
    assert f'continued "{written["prompt"]}"' in pruned[1]
    assert pruned[1].count("▸") == 1 + sum(one is not None for one in written["first_difference"].values())
    assert call("report", pruned[0], "--out", pruned[0] / "report.html").code == 0
    page = (pruned[0] / "report.html").read_text()
    assert page.count("▸") == 1 + sum(one is not None for one in written["first_difference"].values())
    assert "128 tokens of" in page
    assert "separate the classes" not in page


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--label-map", "a=b"), "does not read"),
        (("--labels", "--recover", "distill"), "--labels needs labels, which"),
        (("--goal", "accuracy-loss=1"), "--goal accuracy-loss=1 needs labels, which"),
        (("--stride", 32), "--stride"),
        (("--tokens", 16, "--budget", 6, "--recover", "refit"), "raise --tokens or lower --window"),
        (("--window", 81), "--window 81 is more than the 80 tokens that lm reads"),
    ],
)
def test_options_that_do_not_fit_a_language_model_are_refused(
    source: list[object], options: tuple[object, ...], reason: str
) -> None:
    assert reason in refused(call("prune", *source, *options))


@pytest.mark.usefixtures("read_back_here")
@pytest.mark.parametrize("form", ["compact", "drop-in", pytest.param("onnx-int8", marks=pytest.mark.nightly)])
def test_an_export_is_a_language_model_with_the_same_perplexity(
    source: list[object], pruned: tuple[Path, str], run: dict[str, Any], tmp_path: Path, form: str
) -> None:
    folder, mask = tmp_path / "out", pruned[0] / "head_mask.json"
    answer = call(
        *("export", *source, "--mask", mask, "--recover", "refit", "--format", form, "--out", folder),
        *("--latency-time", "0.05s"),
    )
    assert answer.code == 0, answer.err
    card, figures = (folder / "README.md").read_text(), json.loads((folder / "metrics.json").read_text())
    assert "pipeline_tag: text-generation" in card
    assert "128 tokens of" in card
    assert figures["protocol"] == run["protocol"]
    assert perplexity(figures, "recovered") == pytest.approx(perplexity(run, "recovered"), rel=1e-6)
    if form == "onnx-int8":
        assert perplexity(figures, "int8") == pytest.approx(perplexity(run, "recovered"), rel=0.2)
        assert figures["tried"] == 128 + 8 * 32
        return
    assert "ForCausalLM" in card if form == "drop-in" else "load_pruned" in card
    assert "model.generate" in card
    window = [one for one in source[4:] if one not in ("--tokens", 320)]
    document = call("evaluate", "--model", folder, *source[2:4], *window, "--json").document
    assert perplexity(document) == pytest.approx(perplexity(run, "recovered"), rel=1e-5)
