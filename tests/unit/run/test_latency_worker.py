"""Latency from a process of its own: real answers, found again, and sentences where there are none."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fakes
import pytest

from cahp.run.bench import Bench, open_bench
from cahp.run.latency_worker import LatencyWorker
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.values import CahpError, Cancelled, HeadMask

MASK = HeadMask.of([0, 3, 5, 6, 11], 3, 4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(fakes.save_model(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(scope="module")
def bench(model: str, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    data = fakes.write_data(tmp_path_factory.mktemp("data"))
    return open_bench(Settings(model=model, data=str(data), device="cpu", latency_time="0.1s"), store=store)


@pytest.fixture(scope="module")
def watch(bench: Bench) -> Iterator[LatencyWorker]:
    """One process for all tests: it takes seconds to start."""
    with LatencyWorker(bench) as started:
        yield started


def test_a_mask_is_timed_in_another_process_and_found_again_here(watch: LatencyWorker, bench: Bench) -> None:
    costs = watch.costs(MASK)
    assert watch._process is not None
    assert watch._process.pid != os.getpid()
    assert costs.full.parameters > costs.pruned.parameters > 0
    assert (costs.full.latency_ms.length, costs.full.latency_ms.batch) == (bench.length, costs.pruned.latency_ms.batch)
    assert costs.full.latency_ms.median > 0
    assert costs.ratio.ci95[0] <= costs.ratio.value <= costs.ratio.ci95[1]


@pytest.mark.usefixtures("quiet_machine")
def test_what_was_timed_here_is_found_there(watch: LatencyWorker, bench: Bench) -> None:
    # The same figures to the last digit: nothing is timed a second time, unless it is asked for.
    other = HeadMask.of([0, 1, 5, 6, 11], 3, 4)
    costs = bench.measurements.costs(other, length=bench.length, seconds=bench.latency_seconds)
    assert watch.costs(other) == costs
    assert watch.costs(other, fresh=True) != costs


def test_what_cannot_be_timed_is_a_sentence_and_the_process_goes_on(watch: LatencyWorker, bench: Bench) -> None:
    watch.costs(MASK)
    process = watch._process
    with pytest.raises(CahpError, match="2 x 2 heads"):
        watch.costs(HeadMask.full(2, 2))
    assert watch.costs(MASK).full.latency_ms.length == bench.length
    assert watch._process is process


def test_waiting_for_an_answer_can_be_stopped_and_ends_the_process(bench: Bench) -> None:
    def stop(name: str, done: int, total: int) -> None:
        assert (name, done, total) == ("latency", 0, 1)
        raise Cancelled

    with LatencyWorker(bench) as watch:
        # In place of a process that takes its time: one that never answers.
        watch._command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
        with pytest.raises(Cancelled):
            watch.costs(MASK, progress=stop)
        process = watch._process
        assert process is not None
        assert process.poll() is None
    assert process.returncode is not None


def test_a_process_that_has_ended_is_a_sentence_and_nothing_is_left_of_it(bench: Bench) -> None:
    with LatencyWorker(bench) as watch:
        # In place of a process that crashes: one that ends without a word.
        watch._command = [sys.executable, "-c", ""]
        for _ in range(2):
            with pytest.raises(CahpError, match="has ended"):
                watch.costs(MASK)
        process = watch._process
    assert process is not None
    assert process.returncode is not None
    assert process.stdin is not None
    assert process.stdin.closed


def test_a_bench_is_timed_by_its_own_model_device_store_prompt_and_length(store: Store, tmp_path: Path) -> None:
    model, data = fakes.save_language_model(tmp_path / "model"), fakes.write_data(tmp_path / "data")
    asked: dict[str, Any] = {"prompt": fakes.PROMPTS["causal"], "answers": fakes.ANSWERS, "max_length": 16}
    bench = open_bench(Settings(model=str(model), data=str(data), device="cpu", **asked), store=store)
    with LatencyWorker(bench) as worker:
        prompt = {"template": fakes.PROMPTS["causal"], "answers": list(fakes.ANSWERS)}
        assert json.loads(json.dumps(worker._opening)) == {
            **{"name": str(model), "prompt": prompt, "dtype": "float32", "max_length": 16},
            **{"sha256": bench.card.sha256, "device": "cpu", "cache": str(store.folder.parent)},
        }


def test_no_word_of_a_person_is_in_the_command_and_a_changed_model_is_not_timed(tmp_path: Path, store: Store) -> None:
    folder = fakes.save_language_model(tmp_path / "model")
    asked = fakes.quick(
        folder, fakes.write_data(tmp_path / "data"), prompt="private {text}: it was", answers=("bad", "good")
    )
    bench = open_bench(asked, store=store)
    mask = HeadMask.of(range(5), bench.card.layers, bench.card.heads)
    fakes.save_language_model(folder, seed=1)
    with LatencyWorker(bench) as worker:
        assert not any("private" in word for word in worker._command)
        with pytest.raises(CahpError, match="was changed since it was opened"):
            worker.costs(mask)
