from __future__ import annotations

import fakes
import numpy as np
import pytest

from cahp import models
from cahp.models.head_model import HeadModel
from cahp.models.surgery import cut
from cahp.stages.latency import flops, measure, ratio, sample_batch
from cahp.values import HeadMask

MASK = HeadMask(np.array([[True, False, False, False]] * 3))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> HeadModel:
    return models.load(str(fakes.save_model(tmp_path_factory.mktemp("model"))), device="cpu")


def test_operations_are_counted_as_by_hand(model: HeadModel) -> None:
    length, hidden, inner, layers, heads, size = 10, 32, 48, 3, 4, 8
    layer = 4 * hidden * hidden * length + 2 * heads * size * length**2 + 2 * hidden * inner * length
    head = hidden * hidden + 2 * hidden
    assert flops(model, length=length) == 2 * (layers * layer + head)


def test_cut_heads_save_their_projections_and_products(model: HeadModel) -> None:
    length, hidden, layers, cut_heads, size = 10, 32, 3, 3, 8
    saved = layers * cut_heads * (4 * hidden * size * length + 2 * size * length**2)
    assert flops(model, length=length) - flops(cut(model, MASK), length=length) == 2 * saved


def test_both_models_are_timed_in_turn_on_a_clock_of_ours(model: HeadModel) -> None:
    pruned, order = cut(model, MASK), []
    ticks = iter(range(10_000))
    for which, name in ((model, "full"), (pruned, "pruned")):
        which.network.register_forward_pre_hook(lambda *_, name=name: order.append(name))
    found = measure(model, pruned, batch=2, length=8, repeats=6, clock=lambda: float(next(ticks)))
    # Each run lies between two ticks, so every time is one second and every ratio one.
    assert found.full.median == found.pruned.median == found.full.p95 == 1000.0
    assert (found.ratio.median, found.ratio.ci95) == (1.0, (1.0, 1.0))
    assert not found.ratio.measurable
    measured = order[6:18]
    assert measured.count("full") == measured.count("pruned") == 6
    assert measured[:4] == ["pruned", "full", "full", "pruned"]
    assert (found.full.batch, found.full.length, found.full.repeats) == (2, 8, 6)
    assert 0 < found.attention_share < 1


def test_a_steady_ratio_has_a_narrow_interval_and_a_noisy_one_holds_one() -> None:
    steady = ratio(np.full(30, 0.8))
    assert (steady.median, steady.ci95) == (0.8, (0.8, 0.8))
    noisy = ratio(np.random.default_rng(0).normal(1.0, 0.2, 30))
    assert noisy.ci95[0] < 1 < noisy.ci95[1]


def test_inputs_have_no_padding(model: HeadModel) -> None:
    batch = sample_batch(model, batch=3, length=7)
    assert batch.tensors["input_ids"].shape == (3, 7)
    assert bool((batch.tensors["attention_mask"] == 1).all())
    assert not bool((batch.tensors["input_ids"] == model.tokenizer.pad_token_id).any())
