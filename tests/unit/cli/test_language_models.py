"""A causal language model without answers on the command line: prune, evaluate, recover and export it."""

import json
from pathlib import Path

import fakes
import pytest
from terminal import call, refused


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """The options that name a language model with grouped queries, and its texts."""
    root = tmp_path_factory.mktemp("language")
    model = fakes.save_language_model(root / "lm", family="llama")
    (root / "texts.txt").write_text("\n\n".join(fakes.sentences(160).first))
    tokens = ["--window", 16, "--tokens", 320, "--eval-tokens", 128]
    return ["--model", model, "--data", root / "texts.txt", *tokens, "--device", "cpu"]


def test_a_run_prints_its_protocol_and_speaks_of_tokens(source: list[object], tmp_path: Path) -> None:
    quick = ["--pool-size", 8, "--projection", "pca", "--latency-time", "0.05s"]
    answer = call("prune", *source, *quick, "--budget", 6, "--recover", "refit", "--out", tmp_path / "out")
    assert (answer.code, answer.err) == (0, "")
    said = answer.out
    documents = json.loads((tmp_path / "out" / "run.json").read_text())["protocol"]["documents"]
    assert f"Measured on 128 tokens of {documents} documents in windows of 16 tokens, without overlap " in said
    (counts,) = (line.split()[1:] for line in said.splitlines() if line.startswith("  n "))
    assert set(counts) == {str(documents)}
    for row in ("KL divergence", "Agreement with", "Perplexity", "Bits per byte  ", "Loss on repeated random tokens"):
        assert row in said
    for word in ("ccuracy", "F1", "classes", " texts,"):
        assert word not in said


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--label-map", "a=b"), "does not read"),
        (("--labels", "--recover", "distill"), "--labels needs labels, which"),
        (("--goal", "accuracy-loss=1"), "--goal accuracy-loss=1 needs labels, which"),
        (("--stride", 32), "--stride"),
        (("--tokens", 32, "--window", 64, "--budget", 6, "--recover", "refit"), "raise --tokens or lower --window"),
        (("--window", 81), "--window 81 is more than the 80 tokens that lm reads"),
        (("--prompt", "{text} it was", "--answers", 'bad,"good'), "--answers 'bad,\"good' cannot be read"),
    ],
)
def test_options_of_classifiers_are_refused(source: list[object], options: tuple[object, ...], reason: str) -> None:
    assert reason in refused(call("prune", *source, *options))
