"""What is said of devices, and that nothing waits for one in every layer."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fakes
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cahp import models
from cahp.models import devices
from cahp.stages.evaluation import evaluate
from cahp.stages.signatures import collect, gate_gradients
from cahp.values import OptionError

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
