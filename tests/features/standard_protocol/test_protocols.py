"""Perplexities by the protocols of others, against what these compute themselves."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import harness
import numpy as np
import pytest
import torch
from terminal import call, refused
from transformers import AutoModelForCausalLM, AutoTokenizer

from cahp.features.standard_protocol import measuring
from cahp.features.standard_protocol.use_case import measure_perplexity
from cahp.run.resources import Resources
from cahp.store import Store
from cahp.values import HeadMask

pytestmark = pytest.mark.usefixtures("one_thread")

REFERENCE: dict[str, Any] = json.loads(harness.REFERENCE.read_text())
KINDS: dict[str, dict[str, bool]] = {"begins": {}, "ends only": {"begins": False}, "adds both": {"ends": True}}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "wiki.test.raw"
    path.write_text(harness.make_wikitext())
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return harness.save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("kind", KINDS)
def test_words_bytes_and_bits_are_those_of_the_harness(text: Path, tmp_path: Path, kind: str) -> None:
    found = measure_perplexity(
        str(harness.save_tiny(tmp_path, **KINDS[kind])), text, window=harness.TINY_WINDOW, device="cpu"
    )
    reference = REFERENCE["tiny"][kind]
    assert found["protocol"]["documents"] == len(reference["log_likelihoods"])
    for name in ("word_perplexity", "byte_perplexity", "bits_per_byte"):
        assert found["outcomes"]["full"][name].value == pytest.approx(reference[name], rel=1e-5), name


@pytest.mark.parametrize("stride", [None, 5])
def test_the_perplexity_of_a_token_is_that_of_the_guide(folder: Path, text: Path, stride: int | None) -> None:
    found = measure_perplexity(str(folder), text, protocol="transformers", window=15, stride=stride, device="cpu")
    network = AutoModelForCausalLM.from_pretrained(folder)
    rows = [line * bool(line.strip()) for line in text.read_text().splitlines(keepends=True)]
    ids = AutoTokenizer.from_pretrained(folder)("\n\n".join(rows), return_tensors="pt").input_ids
    total = counted = before = 0.0
    for begin in range(0, ids.shape[1], stride or 15):
        end = min(begin + 15, ids.shape[1])
        targets = ids[:, begin:end].clone()
        added = end - int(before)
        targets[:, :-added] = -100
        with torch.no_grad():
            total += float(network(ids[:, begin:end], labels=targets).loss) * (added - 1)
        counted += added - 1
        before = end
        if end == ids.shape[1]:
            break
    assert found["outcomes"]["full"]["perplexity"].value == pytest.approx(math.exp(total / counted), rel=1e-5)


def test_a_mask_is_evaluated_beside_the_full_model_and_what_was_measured_is_not_measured_again(
    folder: Path, text: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = np.array([[True, False], [True, True]])
    given: dict[str, Any] = {"window": harness.TINY_WINDOW, "device": "cpu", "store": store}
    found = measure_perplexity(str(folder), text, mask=HeadMask(keep), **given)
    full, pruned = (found["outcomes"][state] for state in ("full", "pruned"))
    rise = pruned["nll_rise"]
    assert rise.value == pytest.approx(pruned["nll"].value - full["nll"].value)
    assert rise.n == 10
    assert (full["kl"].value, full["agreement"].value) == (0, 1)
    assert pruned["kl"].value > 0
    assert found["outcomes"]["recovered"] is None
    monkeypatch.setattr(Resources, "model", property(lambda _: pytest.fail("measured again")))
    assert measure_perplexity(str(folder), text, mask=HeadMask(keep), **given)["outcomes"] == found["outcomes"]


def test_parts_give_the_figures_of_the_whole(folder: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {"window": harness.TINY_WINDOW, "device": "cpu", "protocol": "transformers"}
    monkeypatch.setattr(measuring, "_PART", 40)
    found = measure_perplexity(str(folder), text, mask=HeadMask(np.array([[True, False], [True, True]])), **given)
    monkeypatch.undo()
    whole = measure_perplexity(str(folder), text, mask=HeadMask(np.array([[True, False], [True, True]])), **given)
    for name in ("kl", "perplexity"):
        assert found["outcomes"]["pruned"][name].value == pytest.approx(whole["outcomes"]["pruned"][name].value)


def test_the_first_documents_are_whole(folder: Path, text: Path) -> None:
    found = measure_perplexity(str(folder), text, window=harness.TINY_WINDOW, first=60, device="cpu")
    pages = harness.split_pages(harness.make_wikitext())[: found["protocol"]["documents"]]
    assert 1 < len(pages) < 10
    assert found["protocol"]["tokens"] >= 60
    assert found["protocol"]["bytes"] == sum(len(page) for page in pages)
    log = REFERENCE["tiny"]["begins"]["log_likelihoods"][: len(pages)]
    assert found["outcomes"]["full"]["word_perplexity"].value == pytest.approx(
        math.exp(-sum(log) / found["protocol"]["words"]), rel=1e-5
    )


def test_the_command_names_the_protocol_and_refuses_what_has_no_effect(folder: Path, text: Path) -> None:
    given = ["evaluate", "--model", folder, "--data", text, "--device", "cpu", "--window", harness.TINY_WINDOW]
    lines = call(*given, "--protocol", "lm-eval").out.splitlines()
    assert lines[2] == "  lm-eval: the rolling log-likelihood of lm-evaluation-harness"
    assert "of 10 pages of WikiText, in windows of 16 tokens without overlap" in lines[3]
    word = REFERENCE["tiny"]["begins"]["word_perplexity"]
    assert next(line for line in lines if "word perplexity" in line).split()[-1] == f"{word:,.3f}"
    assert "--protocol wikitext is unknown" in refused(call(*given, "--protocol", "wikitext"))
    assert "eval_tokens has no effect" in refused(call(*given, "--protocol", "lm-eval", "--eval-tokens", 100))
    assert "--stride has no effect" in refused(call(*given, "--protocol", "lm-eval", "--stride", 4))
    assert "--first needs --protocol" in refused(call(*given, "--first", 100))
    assert "lower it" in refused(call(*given[:-1], 4096, "--protocol", "lm-eval"))
    given[given.index("--data") + 1] = "bbc-news"
    assert "bbc-news is a set of texts; name wikitext-2 or a file" in refused(call(*given, "--protocol", "lm-eval"))


# --- at night


@pytest.mark.nightly
def test_the_recorded_values_are_those_of_the_harness() -> None:
    pytest.importorskip("lm_eval")
    for kind, found in harness.measure("tiny").items():
        for name, value in found.items():
            assert REFERENCE["tiny"][kind][name] == pytest.approx(value, rel=1e-6), (kind, name)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_smollm2_has_the_bits_of_the_harness_on_one_text_of_several_windows(tmp_path: Path) -> None:
    (tmp_path / "news.txt").write_text(harness.join_bbc())
    found = measure_perplexity("smollm2", tmp_path / "news.txt", window=harness.WINDOW, device="cpu")
    assert found["protocol"]["documents"] == 1
    for name in ("byte_perplexity", "bits_per_byte"):
        assert found["outcomes"]["full"][name].value == pytest.approx(REFERENCE["smollm2"][name], abs=1e-3), name
    # The word perplexity of news is 166, so that float32 allows no smaller difference.
    assert found["outcomes"]["full"]["word_perplexity"].value == pytest.approx(
        REFERENCE["smollm2"]["word_perplexity"], rel=1e-4
    )


@pytest.mark.nightly
@pytest.mark.skipif("CAHP_WIKITEXT" not in os.environ, reason="CAHP_WIKITEXT names wiki.test.raw of WikiText-2")
@pytest.mark.timeout(7200)
def test_smollm2_has_the_word_perplexity_of_the_harness_on_the_whole_of_wikitext() -> None:
    found = measure_perplexity("smollm2", os.environ["CAHP_WIKITEXT"], window=harness.WINDOW, device="cpu")
    assert found["protocol"]["documents"] == len(REFERENCE["wikitext"]["log_likelihoods"])
    for name in ("word_perplexity", "byte_perplexity", "bits_per_byte"):
        assert found["outcomes"]["full"][name].value == pytest.approx(REFERENCE["wikitext"][name], abs=1e-3), name
