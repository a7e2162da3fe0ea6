"""Weights that are not kept in float32: the numbers are those of float32 weights, and what has no room is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import torch
import zoo
from safetensors.torch import load_file, save_file
from torch import Tensor

from cahp import models
from cahp.features import measures
from cahp.models import devices, loading, saving
from cahp.models.cards import Dtype, ModelCard
from cahp.models.compact import load_pruned
from cahp.models.head_model import HeadModel
from cahp.models.stored import StoredWeight
from cahp.models.surgery import cut, restore_shapes, separate, tail
from cahp.run.bench import open_bench
from cahp.run.prune import read_run
from cahp.run.recoveries import Recovered, cut_model, projections_of
from cahp.stages import recovery
from cahp.stages.evaluation import evaluate
from cahp.stages.latency import flops
from cahp.stages.signatures import collect, gate_gradients
from cahp.store import Store
from cahp.values import HeadMask, ModelError, OptionError

TEXTS = fakes.sentences(24)
#: Layers whose weights are read in different ways: by their own kind of module, as three dimensions, with a scale.
KINDS = ("deberta-v2", "gpt2", "gemma3_text", "mixtral")


def in_bfloat16(folder: Path) -> Path:
    """The model in ``folder`` with its weights rounded to bfloat16, as many are published."""
    file = folder / "model.safetensors"
    save_file({name: weight.bfloat16() for name, weight in load_file(file).items()}, file, {"format": "pt"})
    return folder


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return in_bfloat16(zoo.save(tmp_path_factory.mktemp(request.param), request.param, seed=3))


def short_of(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """Only ``room`` bytes are free, and the activations of a pass take next to none of them."""
    monkeypatch.setattr(loading, "free_bytes", lambda where: room)
    monkeypatch.setattr(loading, "batch_size", lambda where: (1, 1))


def load_from_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> HeadModel:
    """Load a model with room for three quarters of its float32 weights."""
    card = models.identify(str(folder))
    short_of(monkeypatch, 3 * card.details["parameters"])
    return models.load(card, device="cpu")


def mask_of(model: HeadModel) -> HeadMask:
    return HeadMask(np.arange(model.layers * model.heads).reshape(model.layers, -1) % model.heads != 1)


def kept(model: HeadModel) -> list[Tensor]:
    return [weight.kept for weight in model.network.parameters() if isinstance(weight, StoredWeight)]


@pytest.mark.parametrize("way", ["auto", "disk"])
def test_every_number_is_that_of_float32_weights(folder: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = models.load(str(folder), device="cpu")
    if way == "auto":
        model = models.load(str(folder), device="cpu", dtype="auto")
    else:
        model = load_from_disk(folder, monkeypatch)
    monkeypatch.undo()
    assert plain.notice is None
    assert model.card.sha256 == plain.card.sha256
    # transformers makes one weight of those of all experts, and writes it anew if it stays on the disk.
    types = {weight.dtype for weight in kept(model) if weight.ndim < 3 or way == "auto"}
    assert types == {torch.bfloat16}
    assert sum(weight.numel() for weight in kept(model)) > 0.9 * model.parameters
    assert ("on the disk" in str(model.notice)) is (way == "disk")
    mask = mask_of(model)
    seen: list[list[Any]] = []
    for one in (plain, model):
        pruned, rest = cut(one, mask), tail(one, 1)
        (batch,) = one.batches(one.tokenize(TEXTS.inputs), size=4096)
        left: list[Tensor] = []
        whole = one.logits(batch, leaving=left.append)
        signatures = collect(one, TEXTS, pool_size=8)
        seen.append(
            [
                *(whole, one.logits(batch, gates=one.gates(mask.keep)), pruned.logits(batch)),
                *(one.logits(batch, precision="bfloat16"), None if rest is None else rest.logits(batch, start=left[0])),
                *(gate_gradients(one, TEXTS), signatures.mean, signatures.m2, *one.head_weights(1)),
                *(flops(one, length=8), pruned.parameters, one.verified),
            ]
        )
    for first, second in zip(*seen, strict=True):
        same = torch.equal(first, second) if isinstance(first, Tensor) else np.array_equal(first, second)  # type: ignore[arg-type]
        assert same
    # What a cut model keeps of a layer is kept in the same bytes.
    assert cut(model, mask).projection(0).weight.kept.dtype is torch.bfloat16


def test_a_refit_equals_that_of_float32_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, model = models.load(str(folder), device="cpu"), load_from_disk(folder, monkeypatch)
    mask, results = mask_of(model), []
    for one in (plain, model):
        made, report = recovery.refit(one, mask, TEXTS.inputs)
        again = cut_model(one, mask, Recovered(projections_of(made, report.row), report))
        results.append((report, evaluate(made, TEXTS).scores))
        assert np.array_equal(evaluate(again, TEXTS).scores, results[-1][1])
    assert results[0][0] == results[1][0]
    assert np.array_equal(results[0][1], results[1][1])
    monkeypatch.setattr(devices, "free_bytes", lambda where: 1000)
    with pytest.raises(ModelError, match=r"a refit of .* needs \d+ kB, and cpu has 1 kB free"):
        recovery.refit(model, mask, TEXTS.inputs)
    recovery.refit(plain, mask, TEXTS.inputs)


def test_what_is_taken_home_has_float32_weights(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.load(str(folder), device="cpu", dtype="auto")
    mask = mask_of(model)
    pruned = cut(model, mask)
    (batch,) = model.batches(model.tokenize(TEXTS.inputs), size=4096)
    expected = pruned.logits(batch)
    saving.save_network(restore_shapes(model, pruned, mask), model.tokenizer, tmp_path / "drop-in")
    again = models.load(str(tmp_path / "drop-in"), device="cpu")
    assert torch.allclose(again.logits(batch), expected, atol=1e-5)
    saving.save_compact(tmp_path, pruned, mask)
    with torch.no_grad():
        assert torch.allclose(load_pruned(tmp_path)(**batch.tensors).logits, expected, atol=1e-5)
    copy = separate(pruned)
    assert {type(weight) for weight in copy.network.parameters()} == {torch.nn.Parameter}
    assert torch.equal(copy.logits(batch), expected)
    monkeypatch.setattr(devices, "free_bytes", lambda where: 1000)
    for refused in (lambda: separate(pruned), lambda: saving.save_compact(tmp_path, pruned, mask)):
        with pytest.raises(ModelError, match=r"all weights in float32, needs \d+ kB, and cpu has 1 kB free"):
            refused()


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose file has float32 weights."""
    return fakes.save_language_model(tmp_path_factory.mktemp("exact"), "causal", "llama")


def prompted(folder: Path) -> ModelCard:
    return models.identify(str(folder), prompt=models.make_prompt(fakes.PROMPTS["causal"], fakes.ANSWERS))


def test_bfloat16_rounds_the_weights_and_is_another_model(exact: Path, tmp_path: Path) -> None:
    card = prompted(exact)
    rounded = models.load(models.set_dtype(card, "bfloat16"), device="cpu")
    assert rounded.card.sha256 != card.sha256 == models.set_dtype(card, "auto").sha256
    assert {weight.dtype for weight in kept(rounded)} == {torch.bfloat16}
    # Embeddings that are the head's stay so.
    network = rounded.network
    assert network.get_output_embeddings().weight is network.get_input_embeddings().weight
    for path in exact.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    same = models.load(prompted(in_bfloat16(tmp_path)), device="cpu")
    (batch,) = same.batches(same.tokenize(TEXTS.inputs), size=4096)
    assert torch.equal(rounded.logits(batch), same.logits(batch))
    assert not torch.equal(rounded.logits(batch), models.load(card, device="cpu").logits(batch))
    # Nothing is rounded there, so it is the same model.
    assert models.set_dtype(same.card, "bfloat16").sha256 == same.card.sha256


def test_weights_take_the_room_that_there_is(exact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some in memory and the others on the disk, with the same answers; nothing is said where all have room."""
    card = prompted(exact)
    plain = models.load(card, device="cpu")
    (batch,) = plain.batches(plain.tokenize(TEXTS.inputs), size=4096)
    size = 4 * card.details["parameters"]
    short_of(monkeypatch, size - 1)
    model = models.load(card, device="cpu")
    said = f"the weights take {size / 1e3:.0f} kB in float32, and cpu has {size / 1e3:.0f} kB free"
    assert str(model.notice).startswith(said)
    assert "in memory" in str(model.notice)
    assert torch.equal(model.logits(batch), plain.logits(batch))
    assert {weight.dtype for weight in kept(model)} == {torch.float32}


@pytest.mark.parametrize("option", ["adapter", "kept"])
def test_weights_made_here_are_float32_alone(exact: Path, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    card = replace(prompted(exact), **{option: ((0,),) if option == "kept" else "somewhere"})  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="leave --dtype out"):
        models.set_dtype(card, "bfloat16")
    short_of(monkeypatch, 5_000)
    with pytest.raises(ModelError, match="must fit on one device"):
        models.load(models.set_dtype(card, "auto"), device="cpu")


@pytest.mark.parametrize("dtype", ["float32", "auto"])
def test_no_room_keeps_no_times(exact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: Dtype) -> None:
    data = fakes.write_data(tmp_path, train=60, validation=20, test=5)
    windows = {"window": 16, "tokens": 256, "eval_tokens": 128}
    timed = {"latency": True, "latency_time": "0.05s"}
    settings = fakes.quick(exact, data, **windows, **timed, budget="3", recover="refit", dtype=dtype)
    stores, documents = (Store(tmp_path / "short"), Store(tmp_path / "roomy")), []
    parameters = (models.identify(str(exact)).details or {})["parameters"]
    for store in stores:
        with monkeypatch.context() as patched:
            if store is stores[0]:
                short_of(patched, 3 * parameters)
            documents.append(fakes.prune(settings, store=store).document)
    short, roomy = documents
    assert short.outcomes == roomy.outcomes
    assert ["on the disk" in " ".join(one.notices) for one in documents] == [True, False]
    kept = [read_run(open_bench(settings, store=store), measures=measures()) for store in stores]
    assert [run is not None for run in kept] == [False, True]
