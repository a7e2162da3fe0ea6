"""Streaming heads see the first tokens and the latest."""

from __future__ import annotations

from pathlib import Path

import fakes
import numpy as np
import pytest
import torch

from cahp import models
from cahp.features.peers.streaming import find_seen, stream_heads
from cahp.values import HeadMask

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_token_sees_the_first_and_the_latest_and_none_after_it() -> None:
    seen = find_seen(6, first=1, latest=2)
    assert seen.int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 0, 1, 1, 0, 0],
        [1, 0, 0, 1, 1, 0],
        [1, 0, 0, 0, 1, 1],
    ]


def test_only_tokens_far_back_matter_to_a_model_with_streaming_heads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models.load(str(fakes.save_language_model(tmp_path, family="llama")), device="cpu")
    keep = np.ones((model.layers, model.heads), dtype=np.bool_)
    keep[1, 2] = False
    streaming = stream_heads(model, HeadMask(keep))
    # Two texts of different lengths, so that one is padded.
    batch, *_ = model.batches(model.tokenize([" ".join(fakes.WORDS[:20]), " ".join(fakes.WORDS[:9])]))
    with torch.no_grad():
        torch.testing.assert_close(streaming.logits(batch), model.logits(batch))
        monkeypatch.setattr("cahp.features.peers.streaming.LATEST", 3)
        monkeypatch.setattr(find_seen, "__kwdefaults__", {"first": 1, "latest": 3})
        changed = streaming.logits(batch)
        assert (changed - model.logits(batch)).abs().max() > 1e-3
        # Equal to weights that are set to 0 where a streaming head looks too far back.
        torch.testing.assert_close(changed, model.logits(batch, edit=_hide), atol=1e-5, rtol=1e-4)


def _hide(layer: int, weights: torch.Tensor) -> torch.Tensor:
    if layer != 1:
        return weights
    weights = weights.clone()
    # Group 2 has the query heads 4 and 5.
    weights[:, 4:6] *= find_seen(weights.shape[-1], first=1, latest=3)
    return weights / weights.sum(-1, keepdim=True)
