"""Where cells are measured: one process a GPU."""

from __future__ import annotations

import os
from multiprocessing import get_context

import pytest

from cahp.comparison import running as engines
from cahp.models import devices
from cahp.values import CahpError


def seen() -> str | None:
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def test_each_process_sees_a_gpu_of_its_own_and_one_that_is_killed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    # One real process, since each takes seconds to begin; the others' turns are taken here.
    monkeypatch.setattr(devices, "visible_gpus", lambda: ["7", "GPU-b"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with engines.open_executor(jobs=2, device="cuda") as executor:
        assert executor.submit(seen).result() == "7"
        killed = executor.submit(os._exit, 1)
        with pytest.raises(CahpError, match=r"BrokenProcessPool.*memory.*fewer --jobs"):
            engines.wait_for(killed)
    assert seen() is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,GPU-b")
    turn = get_context("spawn").Value("i", 0)
    for expected in ("7", "GPU-b", "7"):
        engines._take_gpu(["7", "GPU-b"], turn)
        assert seen() == expected
    engines._take_gpu([], turn)
    assert (seen(), turn.value) == ("7", 3)
