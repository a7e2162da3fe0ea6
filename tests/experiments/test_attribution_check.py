from pathlib import Path

import attribution_check
import fakes
import msgspec
import numpy as np
import pytest
import torch
from _attribution_check import AttributionCheck
from _cache_changes import Span, round_keys, round_to_bits, round_values, stream_heads
from attribution_check import check_text, correlate
from terminal import call

from cahp import models
from cahp.features.attribution.measuring import TextQuestion, draw_sets, measure_baseline
from cahp.models.head_model import HeadModel
from cahp.values import HeadMask

pytestmark = pytest.mark.usefixtures("one_thread")

TEXT = "the film was great and very long"


def test_a_text_is_checked_against_the_removal_of_each_head(model: HeadModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribution_check, "REMOVED", (2, 20))
    monkeypatch.setattr(attribution_check, "KEPT", (3,))
    question = TextQuestion.read(model, TEXT, measure_baseline(model, ["a dull plot"], data="others"))
    check = check_text(question, seed=7)
    changes, logs = question.estimate(None)
    answer = int(logs.argmax())
    exact = [question.remove([HeadMask.without([head], 3, 4).keep], answer)[0][0] - logs[answer] for head in range(12)]
    assert check.correlation == pytest.approx(correlate(changes.ravel(), np.array(exact)), abs=1e-3)
    order = np.argsort(changes, axis=None, kind="stable")
    # Twenty heads are more than there are.
    (removed,) = check.removed
    together, _ = question.remove([HeadMask.without(order[:2], 3, 4).keep], answer)
    assert removed.top == pytest.approx(together[0] - logs[answer], abs=1e-3)
    first = draw_sets(12, 2, seed=7)[0]
    random, _ = question.remove([HeadMask.without(first, 3, 4).keep], answer)
    assert removed.random[0] == pytest.approx(random[0] - logs[answer], abs=1e-3)
    assert [row.size for row in check.kept] == [3, 6]
    _, predictions = question.remove([HeadMask.of(order[:3], 3, 4).keep], answer)
    assert check.kept[0].top == (predictions[0] == answer)
    largest = np.argsort(-np.abs(changes), axis=None, kind="stable")
    _, predictions = question.remove([HeadMask.of(largest[:3], 3, 4).keep], answer)
    assert check.kept[0].largest == (predictions[0] == answer)
    ten = set(np.argsort(exact)[:10].tolist())
    assert check.overlap == len(ten & set(order[:10].tolist())) / 10


def test_the_command_prints_the_check(tmp_path: Path) -> None:
    model = fakes.save_model(tmp_path / "model")
    given = ["--data", fakes.write_data(tmp_path / "data"), "--device", "cpu", "--texts", 2]
    lines = call("experiment", "attribution_check", model, *given, "--out", tmp_path / "check.json").out.splitlines()
    assert lines[0].startswith("rank correlation of attribution with exact removal of each of 12 heads of ")
    written = msgspec.json.decode((tmp_path / "check.json").read_bytes(), type=AttributionCheck)
    assert [len(written.texts), written.units] == [2, 12]


def test_numbers_on_the_grid_stay_exactly_and_others_go_to_the_nearest() -> None:
    grid = torch.tensor([[-3.0, -2.0, 0.0, 4.0, 12.0]])
    # 4 bits have 15 steps from -3 to 12, each of 1.
    torch.testing.assert_close(round_to_bits(grid, 4), grid, rtol=0, atol=0)
    torch.testing.assert_close(
        round_to_bits(torch.tensor([-3.0, 0.4, 0.6, 12.0]), 4), torch.tensor([-3.0, 0.0, 1.0, 12.0]), rtol=0, atol=0
    )
    # 1 bit has the two ends.
    assert round_to_bits(torch.tensor([0.0, 0.2, 0.9, 1.0]), 1).tolist() == [0.0, 0.0, 1.0, 1.0]
    # A key is rounded with its channel and block, and a value with its token and head.
    keys = torch.zeros(1, 4, 2)
    keys[0, :, 0] = torch.tensor([0.0, 1.0, 0.0, 100.0])
    # Each block of two tokens by itself: 1 bit keeps both ends of each.
    torch.testing.assert_close(round_keys(keys, 1, block=2), keys)
    # In one block 1 goes to the nearer end.
    assert round_keys(keys, 1, block=4)[0, :, 0].tolist() == [0.0, 0.0, 0.0, 100.0]
    values = torch.tensor([[[0.0, 1.0, 0.0, 100.0], [5.0, 5.0, 2.0, 1.0]]])
    torch.testing.assert_close(round_values(values, 1, size=2), values)
    assert round_values(values, 1, size=4)[0, 0].tolist() == [0.0, 0.0, 0.0, 100.0]


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_error_is_at_most_half_a_step_and_what_16_bits_lose(bits: int) -> None:
    torch.manual_seed(0)
    values = torch.randn(50, 64) * 3
    reach = values.amax(-1, keepdim=True) - values.amin(-1, keepdim=True)
    lost = 2.0**-11 * (values.abs().amax(-1, keepdim=True) + reach)
    bound = reach / (2**bits - 1) / 2 + lost
    assert ((round_to_bits(values, bits) - values).abs() <= bound).all()


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
