from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest

from cahp import models
from cahp.models.head_model import HeadModel
from cahp.models.surgery import cut
from cahp.stages import latency
from cahp.stages.latency import PRECISE, flops, measure, ratio
from cahp.values import HeadMask

MASK = HeadMask(np.array([[True, False, False, False]] * 3))


def test_operations_are_counted_as_by_hand(model: HeadModel) -> None:
    length, hidden, inner, layers, heads, size = 10, 32, 48, 3, 4, 8
    layer = 4 * hidden * hidden * length + 2 * heads * size * length**2 + 2 * hidden * inner * length
    head = hidden * hidden + 2 * hidden
    assert flops(model, length=length) == 2 * (layers * layer + head)


def test_both_models_are_timed_in_turn_on_a_clock_of_ours(model: HeadModel) -> None:
    pruned, order = cut(model, MASK), []
    ticks = iter(range(10_000))
    for which, name in ((model, "full"), (pruned, "pruned")):
        which.network.register_forward_pre_hook(lambda *_, name=name: order.append(name))
    found, _ = measure(model, pruned, batch=2, contexts=(8,), repeats=6, clock=lambda: float(next(ticks)))
    # Each run lies between two ticks, so every time is one second and every ratio one.
    assert found.full.median == found.pruned.median == found.full.p95 == 1000.0
    assert (found.ratio.value, found.ratio.ci95) == (1.0, (1.0, 1.0))
    assert not found.ratio.excludes(1)
    measured = order[6:18]
    assert measured.count("full") == measured.count("pruned") == 6
    assert measured[:4] == ["pruned", "full", "full", "pruned"]
    assert (found.full.batch, found.full.length, found.full.repeats) == (2, 8, 6)
    assert 0 < found.attention_share < 1


Pair = tuple[HeadModel, HeadModel]


class Machine:
    """A clock that moves only while one of two models runs, by what ``cost`` says of its name, call and tokens."""

    def __init__(self, pair: Pair, cost: Callable[[str, int, int], float]) -> None:
        self.now, self.calls = 0.0, {"full": 0, "pruned": 0}
        self._cost = cost
        for which, name in zip(pair, self.calls, strict=True):
            which.network.register_forward_hook(partial(self._ran, name), with_kwargs=True)

    def _ran(self, name: str, network: object, positional: object, inputs: dict[str, Any], answer: object) -> None:
        self.calls[name] += 1
        self.now += self._cost(name, self.calls[name], inputs["input_ids"].shape[1])

    def clock(self) -> float:
        return self.now


@pytest.fixture
def pair(model: HeadModel) -> Pair:
    """Two models of our own, that may be hooked."""
    return cut(model, HeadMask.full(3, 4)), cut(model, MASK)


def test_timings_stop_as_soon_as_the_ratio_is_known(pair: Pair) -> None:
    machine = Machine(pair, lambda name, call, _: 0.01 if name == "full" else 0.008 * (1 + 0.001 * (call % 3)))
    found, _ = measure(*pair, batch=2, contexts=(8,), clock=machine.clock)
    assert found.full.repeats == found.pruned.repeats == 5
    assert found.ratio.value == pytest.approx(0.8, abs=0.01)
    assert found.ratio.ci95[1] - found.ratio.ci95[0] < PRECISE * found.ratio.value
    assert not found.full.noisy
    # A model that takes longer than the time is run three times and warmed once.
    machine = Machine(pair, lambda name, call, _: 4.0 if name == "full" else 3.0 + 0.3 * (call % 3))
    found, _ = measure(*pair, batch=2, contexts=(8,), clock=machine.clock)
    assert (found.full.repeats, machine.calls["pruned"]) == (3, 4)
    # Three pairs prove little, and the interval says so.
    assert found.ratio.ci95[1] - found.ratio.ci95[0] > 0.2


def test_a_noisy_machine_is_timed_until_the_time_is_over_and_longer_tells_more(pair: Pair) -> None:
    noise = np.random.default_rng(0).lognormal(0, 0.3, 10_000)
    machine = Machine(pair, lambda name, call, _: 0.01 * noise[2 * call + (name == "full")])
    began = machine.now
    short, _ = measure(*pair, batch=2, contexts=(8,), seconds=1.0, clock=machine.clock)
    # Of the second, a fifth is left to attention's share; no round begins later.
    assert 0.7 < machine.now - began < 1.0
    assert short.full.noisy
    long, _ = measure(*pair, batch=2, contexts=(8,), seconds=5.0, clock=machine.clock)
    assert long.full.repeats > 4 * short.full.repeats
    width = [one.ratio.ci95[1] - one.ratio.ci95[0] for one in (short, long)]
    assert width[1] < 0.7 * width[0]


def test_the_interval_of_three_ratios_is_students_by_hand() -> None:
    # Logarithms -0.1, 0, 0.1: mean 0, deviation 0.1; t(0.975, 2) = 4.303; 4.303 * 0.1 / sqrt(3) = 0.2484.
    found = ratio(np.exp([-0.1, 0.0, 0.1]))
    assert found.value == pytest.approx(1)
    assert found.ci95 == pytest.approx((np.exp(-0.2484), np.exp(0.2484)), abs=1e-4)


@pytest.fixture
def writers(tmp_path: Path) -> Pair:
    """A language model of our own and a cut one, with uneven layers."""
    folder = fakes.save_language_model(tmp_path, "causal", "llama", max_position_embeddings=8192)
    model = models.load(str(folder), device="cpu", prompt=fakes.PROMPTS["causal"], answers=fakes.ANSWERS)
    keep = np.arange(4) < np.array([1, 2, 4])[:, None]
    return cut(model, HeadMask.full(3, 4)), cut(model, HeadMask(keep))


def test_reading_and_writing_are_timed_apart_as_far_as_the_time_allows(writers: Pair) -> None:
    # A token read takes a millisecond, one written ten; the pruned model takes four fifths of that.
    share = {"full": 1.0, "pruned": 0.8}
    machine = Machine(writers, lambda name, _, tokens: share[name] * (0.001 * tokens if tokens > 1 else 0.01))
    times, speed = measure(*writers, contexts=(128, 1024, 4096), batch=1, seconds=5.0, clock=machine.clock)
    assert machine.now <= 5.0
    assert (times.full.batch, times.full.length) == (1, 128)
    (prefill,) = speed.prefill
    assert (prefill.context, prefill.full, prefill.pruned) == pytest.approx((128, 1000.0, 1250.0))
    assert [one.context for one in speed.decode] == [128, 1024, 4096]
    assert [(one.full, one.pruned) for one in speed.decode] == [pytest.approx((100.0, 125.0))] * 3
    assert all(one.ratio.value == pytest.approx(0.8) for one in (prefill, *speed.decode))
    # A warm-up and three rounds of two models: 8 times a second.
    assert [one.partition(" tokens")[0] for one in speed.left_out] == ["prefill at 1,024", "prefill at 4,096"]
    _, longer = measure(*writers, batch=1, contexts=(128, 1024), seconds=60.0, clock=machine.clock)
    assert ([one.context for one in longer.prefill], longer.left_out) == ([128, 1024], ())
    # Where decoding takes all the time, the prefill has the fewest rounds.
    noise = np.random.default_rng(0).lognormal(0, 0.3, 10_000)
    machine = Machine(writers, lambda name, call, tokens: (4.0 if tokens == 1 else 1.0) * noise[2 * call])
    times, speed = measure(*writers, batch=1, contexts=(128,), seconds=0.5, clock=machine.clock)
    assert (times.full.repeats, machine.calls["full"]) == (3, 5)
    assert speed.left_out == ("decode at 128 tokens (more than the time left)",)


def test_a_cache_without_room_in_memory_is_left_out(writers: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    # 12 groups with keys and values of 4 channels and 4 bytes; there may be three caches in half of the memory.
    monkeypatch.setattr(latency, "free_bytes", lambda _: 2 * 3 * 384 * 1000)
    _, speed = measure(*writers, contexts=(100, 1200), repeats=3, batch=2, seconds=60.0)
    assert [one.context for one in speed.decode] == [100]
    assert speed.left_out == ("decode at 1,200 tokens (3 MB of memory)",)
    assert [one.ratio.n for one in (*speed.prefill, *speed.decode)] == [3, 3, 3]
