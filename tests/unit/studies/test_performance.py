"""The benchmark: the naive baseline computes what the package computes, and the table says which limits are kept."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest

from cahp import models
from cahp.models.head_model import HeadModel
from cahp.run.settings import Settings
from cahp.stages.salience import gate_gradients, salience
from cahp.stages.signatures import collect
from cahp.stages.space import space
from cahp.studies import performance
from cahp.studies.performance import words


def test_the_table_says_where_and_under_which_load_and_which_limits_are_not_kept() -> None:
    found: dict[str, Any] = {
        "model": "minilm-bbc",
        "texts": 640,
        "threads": 2,
        "rounds": 3,
        "seconds": dict.fromkeys(("forward", "signatures", "selection", "naive"), 1.0),
        "ratios": {"signatures_to_forward": 1.0, "naive_to_selection": 4.0},
        "kept": {"signatures_to_forward": True, "naive_to_selection": False},
        "peak_memory": 1_500_000_000,
        "same_heads": True,
        "device": "Somebody's processor, 2 cores",
        "load": 0.25,
    }
    lines = list(words(found))
    assert "on Somebody's processor, 2 cores; load 0.25 before" in lines
    assert any(line.endswith("1.00 x a forward pass (at most 1.05 x)") for line in lines)
    assert any(line.endswith("4.00 x the whole selection (at least 5.00 x, missed)") for line in lines)
    assert any(line.endswith("1.5 GB") for line in lines)
    assert "peak" not in "".join(words({**found, "peak_memory": None}))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.save_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def model(place: Path) -> HeadModel:
    return models.load(str(place), device="cpu")


def test_the_naive_baseline_finds_the_same_signatures_and_salience(model: HeadModel) -> None:
    texts = fakes.sentences(40)
    ours, naive = collect(model, texts), performance.naive_signatures(model, texts)
    assert np.array_equal(ours.counts, naive.counts)
    np.testing.assert_allclose(ours.mean, naive.mean, atol=1e-6)
    np.testing.assert_allclose(ours.variance, naive.variance, atol=1e-6)
    values = salience(gate_gradients(model, texts)).ravel()
    np.testing.assert_allclose(values, performance.naive_salience(model, texts).ravel(), atol=1e-5)


@pytest.mark.parametrize("wrong", [False, True])
def test_whether_both_keep_the_same_heads_is_compared_and_told(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: bool
) -> None:
    # Without t-SNE, which amplifies rounding until so few heads may change places.
    monkeypatch.setattr(performance, "space", partial(space, projection="pca"))
    if wrong:
        monkeypatch.setattr(performance, "naive_salience", lambda model, texts: -salience(gate_gradients(model, texts)))
    settings = Settings(model=str(place), data=str(fakes.write_data(tmp_path / "data")), device="cpu")
    seen: list[tuple[str, int, int]] = []
    found = performance.measure(
        settings, limit=32, rounds=1, progress=lambda name, done, total: seen.append((name, done, total))
    )
    assert found["same_heads"] is not wrong
    (last,) = list(performance.words(found))[-1:]
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
        work = getattr(performance, name)
        monkeypatch.setattr(
            performance,
            name,
            lambda *args, name=name, work=work, **options: ran.append(name) or work(*args, **options),
        )
    read: list[set[str]] = []
    monkeypatch.setattr(performance, "peak_bytes", lambda _: read.append(set(ran)) or 7)
    settings = Settings(model=str(place), data=str(fakes.write_data(tmp_path / "data")), device="cpu")
    assert performance.measure(settings, limit=32, rounds=2)["peak_memory"] == 7
    assert read == [{"collect", "gate_gradients"}]
    assert {"naive_signatures", "naive_salience"} < set(ran)
