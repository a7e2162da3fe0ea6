"""What is said of devices and costs, that nothing waits for a device in every layer, and the writing of ONNX files."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fakes
import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from cahp import models
from cahp.models import devices, to_onnx
from cahp.models.cards import CacheShape
from cahp.stages.evaluation import evaluate
from cahp.stages.signatures import collect, gate_gradients
from cahp.values import HeadMask, OptionError

CPU = torch.device("cpu")


class Waits(TorchDispatchMode):
    """Counts what makes the processor wait for a number that a device computes."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function.overloadpacket.__name__ in ("_local_scalar_dense", "item", "equal", "nonzero")
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("stage", [collect, evaluate, gate_gradients])
def test_a_stage_waits_for_the_device_as_often_with_more_layers(stage: Callable[..., object], tmp_path: Path) -> None:
    waits = []
    for layers in (2, 5):
        folder = fakes.save_model(tmp_path / str(layers), num_hidden_layers=layers)
        model = models.load(str(folder), device="cpu")
        with Waits() as seen:
            stage(model, fakes.sentences(24))
        waits.append(seen.count)
    assert waits[0] == waits[1]


def test_a_machine_or_container_says_how_much_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.stat").write_text("anon 2000000\nfile 900000\n")
    monkeypatch.setattr(devices.psutil, "virtual_memory", lambda: SimpleNamespace(available=2048 * 1024))
    monkeypatch.setattr(devices, "_CONTAINER", tmp_path)
    assert devices.free_bytes(CPU) == 1_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert devices.free_bytes(CPU) == 2048 * 1024
    assert devices.free_bytes(torch.device("mps")) is None


def test_the_memory_that_models_may_use_is_limited_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_free_bytes", lambda where: 5_000_000_000)
    sizes = {"": 5_000_000_000, "300MB": 300_000_000, "1.5 GB": 1_500_000_000, "8GB": 5_000_000_000}
    for limit, expected in sizes.items():
        monkeypatch.setenv("CAHP_MEMORY", limit)
        assert devices.free_bytes(CPU) == expected
    monkeypatch.setenv("CAHP_MEMORY", "much")
    with pytest.raises(OptionError, match="CAHP_MEMORY=much is no size"):
        devices.free_bytes(CPU)


FULL = HeadMask.full(2, 3)
#: Two heads in the first layer, one in the second.
MASK = HeadMask(np.array([[True, False, True], [False, True, False]]))
#: The first layer keeps no head.
EMPTY = HeadMask(np.array([[False, False, False], [True, True, False]]))


def test_keys_and_values_leave_the_cache_with_their_heads() -> None:
    shape = CacheShape(head=512)
    assert [shape.per_token(mask) for mask in (FULL, MASK, EMPTY)] == [6 * 512, 3 * 512, 2 * 512]
    assert shape.ratio(MASK).value == 0.5
    assert str(shape.ratio(MASK)) == "0.50 ×"
    # A layer with a window caches no more than its latest tokens.
    shape = CacheShape(head=10, windows=((1, 100),))
    assert shape.of_context(MASK, 50) == 50 * 30
    assert shape.of_context(MASK, 400) == 400 * 20 + 100 * 10
    # Of a layer that uses the keys and values of another one, nothing is cached.
    assert CacheShape(head=10, windows=((1, 0),)).per_token(FULL) == 30


@pytest.mark.parametrize(
    ("shape", "memory", "longest"),
    [
        (CacheShape(head=10), 299, 9),
        (CacheShape(head=10), 300, 10),
        (CacheShape(head=10), 29, 0),
        (CacheShape(head=10, positions=8), 300, 8),
        (CacheShape(head=10, windows=((0, 4), (1, 4))), 120, None),
        (CacheShape(head=10, windows=((0, 4), (1, 4))), 119, 3),
        (CacheShape(head=10, windows=((0, 4), (1, 4)), positions=9), 120, 9),
    ],
)
def test_the_longest_context_fits_and_no_token_more(shape: CacheShape, memory: int, longest: int | None) -> None:
    assert shape.longest(MASK, memory) == longest


class Toy(nn.Module):
    """Embeds tokens, and squeezes a dimension of 1 without saying which."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 4)

    def _can_set_experts_implementation(self) -> bool:
        return False

    def forward(self, input_ids: Tensor) -> Any:
        return SimpleNamespace(logits=self.table(input_ids).sum(1, keepdim=True).squeeze())


# PyTorch's exporter uses what PyTorch has replaced.
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_batch_of_one_and_large_weights_beside_their_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="what runs ONNX files is not installed")
    monkeypatch.setattr(to_onnx, "LARGEST_FILE", 8)
    network, squeeze = Toy(), Tensor.squeeze
    to_onnx.write(network, {"input_ids": torch.tensor([[1, 2, 3], [4, 5, 6]])}, tmp_path / "model.onnx")
    assert Tensor.squeeze is squeeze
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    graph = onnx.load(tmp_path / "model.onnx", load_external_data=False).graph
    assert [axis.dim_param for axis in graph.input[0].type.tensor_type.shape.dim] == ["batch", "length"]
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"))
    for asked in ([[7, 8]], [[1], [2], [3]]):
        (found,) = session.run(["logits"], {"input_ids": np.array(asked)})
        assert found.shape == (len(asked), 4)
        assert np.allclose(found, network.table.weight.detach().numpy()[np.array(asked)].sum(1), atol=1e-6)
