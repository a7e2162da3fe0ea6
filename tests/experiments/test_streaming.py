"""Streaming heads see the first tokens and the latest."""

from __future__ import annotations

from pathlib import Path

import fakes
import numpy as np
import pytest
import torch
from _cache_changes import Span, stream_heads

from cahp import models
from cahp.values import HeadMask

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_token_sees_the_first_and_the_latest_and_none_after_it() -> None:
    seen = Span(first=1, latest=2).find_seen(6)
    assert seen.int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 0, 1, 1, 0, 0],
        [1, 0, 0, 1, 1, 0],
        [1, 0, 0, 0, 1, 1],
    ]


def test_only_tokens_far_back_matter_to_a_model_with_streaming_heads(tmp_path: Path) -> None:
    model = models.load(str(fakes.save_language_model(tmp_path, family="llama")), device="cpu")
    keep = np.ones((model.layers, model.heads), dtype=np.bool_)
    keep[1, 2] = False
    mask = HeadMask(keep)
    # Two texts of different lengths, so that one is padded.
    batch, *_ = model.batches(model.tokenize([" ".join(fakes.WORDS[:20]), " ".join(fakes.WORDS[:9])]))
    with torch.no_grad():
        torch.testing.assert_close(stream_heads(model, mask).logits(batch), model.logits(batch))
        changed = stream_heads(model, mask, Span(first=1, latest=3)).logits(batch)
        assert (changed - model.logits(batch)).abs().max() > 1e-3
        # Equal to weights that are set to 0 where a streaming head looks too far back.
        torch.testing.assert_close(changed, model.logits(batch, edit=_hide), atol=1e-5, rtol=1e-4)


def _hide(layer: int, weights: torch.Tensor) -> torch.Tensor:
    if layer != 1:
        return weights
    weights = weights.clone()
    # Group 2 has the query heads 4 and 5.
    weights[:, 4:6] *= Span(first=1, latest=3).find_seen(weights.shape[-1])
    return weights / weights.sum(-1, keepdim=True)
