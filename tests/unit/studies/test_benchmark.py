"""The naive baseline computes what the package computes, and whether both keep the same heads is looked at."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import fakes
import numpy as np
import pytest

from cahp import models
from cahp.models.head_model import HeadModel
from cahp.run.settings import Settings
from cahp.stages.salience import gate_gradients, salience
from cahp.stages.signatures import collect
from cahp.stages.space import space
from cahp.studies import benchmark


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.save_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def model(place: Path) -> HeadModel:
    return models.load(str(place), device="cpu")


def test_the_naive_baseline_finds_the_same_signatures_and_salience(model: HeadModel) -> None:
    texts = fakes.sentences(40)
    ours, naive = collect(model, texts), benchmark.naive_signatures(model, texts)
    assert np.array_equal(ours.counts, naive.counts)
    np.testing.assert_allclose(ours.mean, naive.mean, atol=1e-6)
    np.testing.assert_allclose(ours.variance, naive.variance, atol=1e-6)
    values = salience(gate_gradients(model, texts)).ravel()
    np.testing.assert_allclose(values, benchmark.naive_salience(model, texts).ravel(), atol=1e-5)


@pytest.mark.parametrize("wrong", [False, True])
def test_whether_both_keep_the_same_heads_is_compared_and_told(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: bool
) -> None:
    # Without t-SNE, which amplifies rounding until so few heads may change places.
    monkeypatch.setattr(benchmark, "space", partial(space, projection="pca"))
    if wrong:
        monkeypatch.setattr(benchmark, "naive_salience", lambda model, texts: -salience(gate_gradients(model, texts)))
    settings = Settings(model=str(place), data=str(fakes.write_data(tmp_path / "data")), device="cpu")
    seen: list[tuple[str, int, int]] = []
    found = benchmark.measure(
        settings, limit=32, rounds=1, progress=lambda name, done, total: seen.append((name, done, total))
    )
    assert found["same_heads"] is not wrong
    (last,) = list(benchmark.words(found))[-1:]
    assert last.strip().startswith("both keep different heads" if wrong else "both keep the same heads")
    assert (found["texts"], found["rounds"]) == (32, 1)
    # Four contestants, and a round to warm up.
    assert seen == [("bench", done, 8) for done in range(9)]


def test_the_memory_of_the_baseline_is_not_counted_as_ours(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A peak never falls: whatever ran before it is read has raised it for good.
    ran: list[str] = []
    for name in ("naive_signatures", "naive_salience", "collect", "gate_gradients"):
        work = getattr(benchmark, name)
        monkeypatch.setattr(
            benchmark,
            name,
            lambda *args, name=name, work=work, **options: ran.append(name) or work(*args, **options),
        )
    read: list[set[str]] = []
    monkeypatch.setattr(benchmark, "peak_bytes", lambda _: read.append(set(ran)) or 7)
    settings = Settings(model=str(place), data=str(fakes.write_data(tmp_path / "data")), device="cpu")
    assert benchmark.measure(settings, limit=32, rounds=2)["peak_memory"] == 7
    assert read == [{"collect", "gate_gradients"}]
    assert {"naive_signatures", "naive_salience"} < set(ran)
