"""Norms of weights, from the weights as they are saved."""

import math
from pathlib import Path

import fakes
import numpy as np
import pytest
from safetensors.numpy import load_file

from cahp import models
from cahp.methods.shared import registry

NAMES = {
    "bert": ("bert.encoder.layer.{}.attention.", ("self.query", "self.key", "self.value"), "output.dense"),
    "distilbert": ("distilbert.transformer.layer.{}.attention.", ("q_lin", "k_lin", "v_lin"), "out_lin"),
}


@pytest.mark.parametrize("family", list(NAMES))
def test_magnitude_is_the_norm_of_a_head_s_slices(tmp_path: Path, family: str) -> None:
    folder = fakes.save_model(tmp_path / "model", family)
    weights = load_file(folder / "model.safetensors")
    path, inputs, output = NAMES[family]
    expected = np.zeros((3, 4))
    for layer in range(3):
        for head in range(4):
            own = slice(8 * head, 8 * head + 8)
            parts = [weights[f"{path.format(layer)}{name}.weight"][own] for name in inputs]
            parts.append(weights[f"{path.format(layer)}{output}.weight"][:, own])
            expected[layer, head] = math.sqrt(sum(float(value) ** 2 for part in parts for value in part.flat))
    model = models.load(str(folder), device="cpu")
    bench = fakes.gather(model, fakes.sentences(4), tmp_path / "store")
    raw, relative = (
        registry.get(name).score(bench)  # type: ignore[attr-defined]
        for name in ("magnitude-raw", "magnitude")
    )
    assert np.allclose(raw, expected, rtol=1e-6)
    assert np.allclose(relative, [row / math.sqrt(sum(row**2)) for row in expected], rtol=1e-6)
    assert np.allclose((relative**2).sum(axis=1), 1)
