"""Pooled maps that fused attention gives of long texts equal those of whole maps, in memory linear in the length."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import torch
import zoo
from torch.utils._python_dispatch import TorchDispatchMode

from cahp import models
from cahp.models.attention import MAPS_UP_TO, PooledProbe
from cahp.models.head_model import Batch, HeadModel
from cahp.stages.signatures import Collector, gate_gradients
from cahp.tasks.texts import Texts
from cahp.values import Precision

LENGTHS = (200, 150, 40, 7)
#: Heads of 8, 32 and 64 channels: smaller than pooled maps, as large, and larger.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", {"hidden_size": 128}),
    "groups": ("llama", {"hidden_size": 48, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 64}),
    "window": ("mistral", {"sliding_window": 48}),
    "local": ("modernbert", {"head_dim": 8, "local_attention": 64}),
    "gpt2": ("gpt2", {"n_positions": 600}),
}


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], HeadModel]:
    loaded: dict[str, HeadModel] = {}

    def load_once(name: str) -> HeadModel:
        if name not in loaded:
            kind, more = MODELS.get(name, (name, {}))
            folder = tmp_path_factory.mktemp(name)
            save = fakes.save_model if kind in fakes.SHAPES else zoo.save
            place = save(folder, kind, **{"max_position_embeddings": 600, **more})
            loaded[name] = models.load(str(place), device="cpu")
            # The scores of real models: float32 rounds large ones by as much as it rounds their attention.
            for parameter in loaded[name].network.parameters():
                parameter.mul_(0.3 if parameter.ndim == 2 else 1)
        return loaded[name]

    return load_once


def long_batch(model: HeadModel, *lengths: int, left: bool = False) -> Batch:
    """Random texts of these lengths, padded on the right or on the ``left``."""
    generator = torch.Generator().manual_seed(3)
    counts = torch.tensor(lengths)
    places = torch.arange(int(counts.max()))
    real = places < counts[:, None]
    real = real.flip(1) if left else real
    ids = torch.randint(4, model.network.config.vocab_size, real.shape, generator=generator)
    # T5 reads its answer at the end of a text.
    ids[:, int(counts.min()) // 2] = 3
    tensors = {"input_ids": ids.where(real, torch.tensor(0)), "attention_mask": real.long()}
    return Batch(np.arange(len(lengths)), tensors, real)


def pooled_by(model: HeadModel, batch: Batch, *, whole: bool, precision: Precision = "float32") -> list[torch.Tensor]:
    """The pooled maps of each layer, from whole maps or as the model gives them."""
    pooled: dict[int, torch.Tensor] = {}
    probe = PooledProbe.of(batch.here, 32, model.device, pooled.__setitem__)
    model.logits(batch, probe=(lambda layer, maps: probe(layer, maps)) if whole else probe, precision=precision)
    return [pooled[layer] for layer in range(model.layers)]


class Largest(TorchDispatchMode):
    """Notes all operations and the largest tensor that any of them makes."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers, self.operations = 0, set[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operations.add(str(func))
        for made in out if isinstance(out, tuple | list) else (out,):
            if isinstance(made, torch.Tensor):
                self.numbers = max(self.numbers, made.untyped_storage().nbytes() // made.element_size())
        return out


@pytest.fixture
def no_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        pytest.fail("whole maps were made")

    monkeypatch.setattr(PooledProbe, "__call__", fail)


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_pooled_maps_of_long_texts_equal_those_of_whole_maps(
    name: str, left: bool, load: Callable[[str], HeadModel], request: pytest.FixtureRequest
) -> None:
    model = load(name)
    assert model.family.pools
    batch = long_batch(model, *LENGTHS, left=left)
    expected = pooled_by(model, batch, whole=True)
    request.getfixturevalue("no_maps")
    found = pooled_by(model, batch, whole=False)
    # Attention of a token adds up to 1. The same hidden states enter the first layer; those that leave it have other
    # last digits.
    differences = [float((one - other).abs().max()) for one, other in zip(found, expected, strict=True)]
    assert differences[0] <= 2e-7
    assert max(differences) <= 1e-6
    assert found[0].shape == (len(LENGTHS), model.heads, 32, 32)


@pytest.mark.parametrize("name", ["bert", "groups", "window"])
def test_padding_changes_nothing_and_needs_no_mask(name: str, load: Callable[[str], HeadModel], no_maps: None) -> None:
    model = load(name)
    batch = long_batch(model, 140, 140)
    wider = {key: torch.nn.functional.pad(tensor, (0, 20)) for key, tensor in batch.tensors.items()}
    padded = Batch(batch.rows, wider, wider["attention_mask"].bool())
    for one, other in zip(*(pooled_by(model, each, whole=False) for each in (batch, padded)), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("name", ["gpt_oss", "t5", "albert", "deberta"])
def test_others_keep_whole_maps(name: str, load: Callable[[str], HeadModel], monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(name)
    batch = long_batch(model, 150, 130)
    monkeypatch.setattr(PooledProbe, "pool", lambda *_, **__: pytest.fail("maps were left out"))
    found, expected = (pooled_by(model, batch, whole=whole) for whole in (False, True))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("tokens", [MAPS_UP_TO, MAPS_UP_TO + 1])
def test_texts_up_to_128_tokens_are_pooled_from_whole_maps(tokens: int, load: Callable[[str], HeadModel]) -> None:
    model = load("bert")
    batch = long_batch(model, tokens, 30)
    maps: list[torch.Tensor] = []
    model.logits(batch, probe=lambda _, weights: maps.append(weights))
    found = pooled_by(model, batch, whole=False)
    for weights, pooled in zip(maps, found, strict=True):
        resize = torch.zeros(2, 32, tokens)
        for row, length in enumerate((tokens, 30)):
            wide = torch.nn.functional.interpolate(torch.eye(length)[None], size=32, mode="linear", align_corners=False)
            resize[row, :, :length] = wide[0].T
        left = resize.repeat_interleave(model.heads, dim=0)
        whole = torch.bmm(torch.bmm(left, weights.flatten(0, 1)), left.transpose(1, 2).contiguous())
        # To the last digit: the projection to two dimensions amplifies the smallest difference.
        assert torch.equal(pooled.flatten(0, 1), whole) is (tokens == MAPS_UP_TO)


@pytest.mark.parametrize("name", ["groups", "bert"])
def test_memory_grows_with_the_length_and_not_with_its_square(name: str, load: Callable[[str], HeadModel]) -> None:
    model, largest = load(name), dict[tuple[bool, int], int]()
    for whole in (False, True):
        for tokens in (256, 512):
            batch = long_batch(model, tokens)
            gates = torch.ones(1, model.layers, model.heads, requires_grad=True)
            collector = Collector(model, classes=1)
            probe = collector.watch(batch, np.zeros(1, dtype=np.int64))
            with Largest() as seen:
                seeing = (lambda layer, maps, probe=probe: probe(layer, maps)) if whole else probe
                model.logits(batch, probe=seeing, gates=gates).sum().backward()
            largest[whole, tokens] = seen.numbers
            # Fused kernels have no softmax of their own.
            assert any("softmax" in name for name in seen.operations) is whole
    heads = model.heads * model.card.group
    assert largest[True, 512] >= heads * 512**2
    assert largest[False, 512] < heads * 512**2 / 2
    assert largest[False, 512] <= 2 * largest[False, 256]


@pytest.mark.parametrize("name", ["bert", "groups"])
def test_gradients_stay_the_same(name: str, load: Callable[[str], HeadModel], monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(name)
    monkeypatch.setattr("cahp.models.head_model.MAX_LENGTH", 300)
    monkeypatch.setattr(model.tokenizer, "model_max_length", 300)
    words = np.random.default_rng(0).choice(fakes.WORDS, size=(4, 250))
    sizes = (250, 150, 60, 5)
    long = tuple(" ".join(row[:size]) for row, size in zip(words, sizes, strict=True))
    texts = Texts(long, None, np.arange(4) % 2, ("bad", "good"))
    collector = Collector(model, classes=2)
    shared = gate_gradients(model, texts, watch=collector.watch)
    assert np.array_equal(shared, gate_gradients(model, texts))
    stepwise = gate_gradients(model, texts, watch=lambda batch, labels: lambda layer, maps: None)
    assert np.isfinite(shared).all()
    assert 0 < np.abs(shared - stepwise).max() <= 1e-5 * np.abs(stepwise).max()
    assert collector.result().counts.tolist() == [2, 2]


def test_pooled_maps_are_float32_where_products_are_bfloat16(load: Callable[[str], HeadModel]) -> None:
    model = load("groups")
    batch = long_batch(model, 160, 140)
    for rough, exact in zip(
        pooled_by(model, batch, whole=False, precision="bfloat16"), pooled_by(model, batch, whole=False), strict=True
    ):
        assert rough.dtype == torch.float32
        assert 0 < (rough - exact).abs().max() < 0.1 * exact.max()


def test_a_model_whose_pooled_maps_differ_keeps_whole_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = PooledProbe.pool

    def wrong(probe: PooledProbe, module: Any, query: torch.Tensor, *args: Any, **options: Any) -> None:
        pool(probe, module, query * 1.1, *args, **options)

    monkeypatch.setattr(PooledProbe, "pool", wrong)
    model = models.load(str(fakes.save_model(tmp_path, "llama")), device="cpu")
    assert not model.family.pools
