"""Models that are matched by their structure are refitted, distilled and fine-tuned, and are taken home so."""

from __future__ import annotations

from pathlib import Path

import fakes
import numpy as np
import pytest
import torch
import zoo
from transformers.utils import logging

from cahp import load_pruned, models
from cahp.exports.checkpoints import write
from cahp.exports.form import Pruned
from cahp.exports.formats import model_form
from cahp.models import saving
from cahp.run.recoveries import cut_model
from cahp.store import Store
from cahp.values import HeadMask

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = fakes.sentences(60)
QUICK = {"epochs": 1, "batch": 16, "learning_rate": 1e-3}


@pytest.mark.parametrize("kind", ["esm", "gemma2", "mistral", "qwen3", pytest.param("t5", marks=pytest.mark.nightly)])
def test_a_matched_model_is_recovered_in_every_way(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logging.disable_progress_bar()
    model = models.load(str(zoo.save(tmp_path / "model", kind, seed=3)), device="cpu")
    assert model.family.matched is not None
    keep = np.zeros((model.layers, model.heads), dtype=np.bool_)
    keep[0, -1] = keep[1, :2] = True
    mask, store = HeadMask(keep), Store(tmp_path / "store")
    before = [parameter.clone() for parameter in model.network.parameters()]
    made = fakes.recoveries(model.card, TEXTS, store, model=model)
    recovered = {
        "mean": made.refit(mask, "mean"),
        "quick-refit": made.refit(mask, "quick-refit"),
        "refit": made.refit(mask),
        "distill": made.distill(mask, schedule=QUICK),
        "finetune": made.finetune(mask, schedule=QUICK),
    }
    assert all(map(torch.equal, before, model.network.parameters()))
    # What is found again is what was made, and what is taken home answers so; one goes the whole way to a new process.
    again = fakes.recoveries(model.card, TEXTS, store, model=model)
    if kind != "t5":
        monkeypatch.setattr(saving, "in_new_process", fakes.in_this_process)
    (batch,) = model.batches(model.tokenize(TEXTS.inputs[:8]))
    answers = [model.logits(batch)]
    for how, one in recovered.items():
        found = again.recover(mask, how, schedule=QUICK)
        assert found.sha256 == one.sha256
        pruned = cut_model(model, mask, one)
        if how == "finetune" or kind != "t5":
            folder = tmp_path / how
            results = write(model_form("compact"), folder, Pruned(model, pruned, mask, TEXTS.inputs[:8]))
            assert results["difference"] <= 1e-5
            with torch.no_grad():
                network = load_pruned(folder)
                assert torch.allclose(network(**batch.tensors).logits, pruned.logits(batch), atol=1e-5)
        answers.append(pruned.logits(batch))
    # Weights of a training are those of the network that was trained.
    assert not torch.allclose(answers[-1], answers[0])
    assert not torch.allclose(answers[-1], cut_model(model, mask).logits(batch))
