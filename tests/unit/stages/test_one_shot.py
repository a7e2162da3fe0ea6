from __future__ import annotations

from dataclasses import replace

import fakes
import numpy as np
import pytest
import torch

from cahp.models.head_model import HeadModel
from cahp.stages.recovery import collect_grams, solve_at_once
from cahp.tasks.texts import Texts
from cahp.values import HeadMask

MASK = HeadMask(np.array([[True, False, False, True], [True, True, False, False], [False, True, False, False]]))


def logits(model: HeadModel, texts: Texts) -> torch.Tensor:
    found = torch.zeros(len(texts), len(texts.classes))
    for batch in model.batches(model.tokenize(texts.inputs)):
        found[batch.rows] = model.logits(batch)
    return found


def test_each_layer_is_the_ridge_regression_on_what_the_full_model_reads(model: HeadModel) -> None:
    texts = fakes.sentences(60)
    grams = collect_grams(model, texts.inputs)
    solved = solve_at_once(model, MASK, grams, ridge=0.01)
    size = model.card.head_size
    for layer in range(3):
        rows: list[torch.Tensor] = []

        def watch(site: str, at: int, entering: torch.Tensor, layer: int = layer) -> None:
            if (site, at) == ("output", layer):
                rows.append(entering.reshape(-1, entering.shape[-1])[real.reshape(-1)].double())  # noqa: B023

        for batch in model.batches(model.tokenize(texts.inputs)):
            real = batch.tensors["attention_mask"].bool()
            model.logits(batch, tap=watch)
        inputs = torch.cat(rows)
        full = model.projection(layer)
        wanted = inputs @ full.weight.double().T + full.bias.double()
        kept = torch.as_tensor(np.repeat(MASK.keep[layer], size))
        design = torch.cat([inputs[:, kept], torch.ones(len(inputs), 1, dtype=torch.float64)], 1)
        start = torch.cat([full.weight[:, kept].T, full.bias[None]]).double()
        penalty = torch.eye(design.shape[1], dtype=torch.float64) * 0.01 * (inputs[:, kept] ** 2).sum(0).mean()
        penalty[-1, -1] = 0
        expected = start + torch.linalg.solve(design.T @ design + penalty, design.T @ (wanted - design @ start))
        assert torch.allclose(solved.projection(layer).weight.double(), expected[:-1].T, atol=1e-4)
        assert torch.allclose(solved.projection(layer).bias.double(), expected[-1], atol=1e-4)


def test_heads_that_can_only_be_masked_are_solved_for_and_stay_in_their_places(
    model: HeadModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = fakes.sentences(40)
    grams = collect_grams(model, texts.inputs)
    wanted = logits(solve_at_once(model, MASK, grams), texts)
    monkeypatch.setattr(model, "family", replace(model.family, no_cut="they share a matrix"))
    masked = solve_at_once(model, MASK, grams)
    assert masked.head_counts == (4, 4, 4)
    torch.testing.assert_close(logits(masked, texts), wanted, atol=1e-4, rtol=1e-4)
