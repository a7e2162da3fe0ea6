"""What several threads may do at once: sketch, load, and silence libraries."""

from __future__ import annotations

import threading
from pathlib import Path

import fakes
import pytest
import torch

from cahp.models.matching import sketch_network
from cahp.values import ModelError


def test_a_sketch_of_a_bfloat16_model_leaves_the_numbers_of_other_threads_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fakes.save_language_model(tmp_path / "model", family="llama")
    fakes.configure(folder, dtype="bfloat16")
    types: list[torch.dtype] = []
    change = torch.set_default_dtype

    def note(dtype: torch.dtype) -> None:
        types.append(dtype)
        change(dtype)

    monkeypatch.setattr(torch, "set_default_dtype", note)
    before = torch.get_rng_state()
    sketch_network("model", str(folder), None, "causal", weight_bytes=1 << 20)
    # PyTorch has one default for all threads, and one generator.
    assert set(types) <= {torch.float32}
    assert torch.equal(torch.get_rng_state(), before)


def test_a_sketch_counts_the_parts_of_its_own_thread(tmp_path: Path) -> None:
    folder = fakes.save_language_model(tmp_path / "model", family="llama")
    fakes.configure(folder, num_hidden_layers=2_000)
    refused: list[str] = []

    def sketch() -> None:
        with pytest.raises(ModelError, match="far more modules") as error:
            sketch_network("model", str(folder), None, "causal", weight_bytes=0)
        refused.append(str(error.value))

    thread = threading.Thread(target=sketch)
    thread.start()
    # More modules than a sketch may have.
    modules = [torch.nn.Linear(1, 1) for _ in range(6_000)]
    thread.join()
    assert len(refused) == 1
    assert len(modules) == 6_000
