"""Make the arrays beside this file from the reference's whole file and the sentences that it was computed on.

python tests/parity/golden/make.py WHOLE.npz SST5_FOLDER
"""

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cahp import data
from cahp.models.identity import identify
from cahp.models.loading import load_model
from cahp.stages.signatures import collect, gate_gradients

HERE = Path(__file__).parent
#: Of the reference as they are.
WHOLE = ("class_counts", "embedding", "salience", "ks", "mss", "knee", "kept", "rescued", "labels", "medoids")
CLASSES, CELLS = 5, 1024
#: Of the cells of an attention map, those whose features and statistics are here.
SAMPLE = np.arange(5, CELLS, 64)


def coordinates(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Coordinates ``(N, N - 1)`` with the distances of features ``(N, F)`` (Torgerson 1952)."""
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    values, axes = np.linalg.eigh(centred @ centred.T)
    found: NDArray[np.float32] = (axes[:, :0:-1] * np.sqrt(np.maximum(values[:0:-1], 0))).astype(np.float32)
    return found


def main(whole: Path, sentences: Path) -> None:
    with np.load(whole, allow_pickle=False) as stored:
        golden = dict(stored)
    model = load_model(identify("minilm"), device_name="cpu", labels=tuple("01234"))
    with torch.no_grad():
        model.network.classifier.weight.copy_(torch.tensor(golden["classifier_weight"]))
        model.network.classifier.bias.copy_(torch.tensor(golden["classifier_bias"]))
    texts = data.load(str(sentences)).split("train").take(range(256))
    signatures, gradients = collect(model, texts), gate_gradients(model, texts)
    blocks = golden["features"].reshape(len(golden["features"]), -1, CELLS)
    arrays = {
        **{name: golden[name] for name in WHOLE},
        "coordinates": coordinates(golden["features"]),
        "cells": SAMPLE,
        "features": blocks[:, :, SAMPLE],
        "mean": signatures.mean[:, :, SAMPLE].astype(np.float32),
        "m2": signatures.m2[:, :, SAMPLE].astype(np.float32),
        "gradients": gradients.values.astype(np.float32),
    }
    np.savez_compressed(HERE / "sst5_256.npz", **arrays)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
