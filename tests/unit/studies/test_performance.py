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
from cahp.studies.performance import ROWS, Limit, placed, words


@pytest.fixture(autouse=True)
def quick_clustering(monkeypatch: pytest.MonkeyPatch) -> None:
    clustering = performance._clustering
    monkeypatch.setattr(performance, "_clustering", lambda heads: clustering(heads // 24))


@pytest.mark.parametrize(
    ("row", "value", "kept"),
    [
        (Limit("a", "a", "times", 1.05), 1.05, True),
        (Limit("a", "a", "times", 1.05), 1.06, False),
        (Limit("a", "a", "times", 5.0, "least"), 5.0, True),
        (Limit("a", "a", "times", 5.0, "least"), 4.9, False),
        (Limit("a", "a", "times"), 1.0, None),
        (Limit("a", "a", "seconds", 8.0), 9.0, False),
        (Limit("a", "a", "seconds", 8.0), None, None),
    ],
)
def test_a_limit_is_kept_on_its_own_side(row: Limit, value: float | None, kept: bool | None) -> None:
    assert row.kept(value) is kept


def test_the_table_says_where_and_under_which_load_and_which_limits_are_not_kept() -> None:
    values = {row.name: 1.0 for row in ROWS} | {"clustering_384": 10.5, "peak_memory": 1_500_000_000}
    found: dict[str, Any] = {
        "model": "minilm-bbc",
        "texts": 640,
        "threads": 2,
        "rounds": 3,
        "seconds": dict.fromkeys(("forward", "signatures", "selection", "naive"), 1.0),
        "ratios": {"signatures_to_forward": 1.0, "naive_to_selection": 6.0},
        "same_heads": True,
        "rows": [{"value": values[row.name], "kept": row.kept(values[row.name])} for row in ROWS],
        "device": "Somebody's processor, 2 cores",
        "load": 0.25,
    }
    said = "\n".join(words(found))
    assert "on Somebody's processor, 2 cores; load 0.25 before" in said
    lines = {row.name: next(line for line in said.splitlines() if row.words in line) for row in ROWS}
    assert lines["clustering_384"].endswith("10.50 s   at most 10.00 s, missed")
    assert lines["naive_to_selection"].endswith("1.00 x   at least 5.00 x, missed")
    assert lines["signatures_to_forward"].endswith("1.00 x   at most 1.05 x")
    assert lines["peak_memory"].endswith("1.5 GB")
    assert ROWS[0].write(None) == "-"


def test_the_table_takes_the_place_of_the_last_one() -> None:
    before = "# A\n<!-- bench -->\nold\n<!-- /bench -->\nend\n"
    once = placed(before, ["one", "two"])
    assert once == "# A\n<!-- bench -->\n```\none\ntwo\n```\n<!-- /bench -->\nend\n"
    assert placed(once, ["three"]) == "# A\n<!-- bench -->\n```\nthree\n```\n<!-- /bench -->\nend\n"
    assert placed("no marks", ["one"]) is None
    assert placed("<!-- bench --> alone", ["one"]) is None


def test_sizes_of_clustering_stand_in_the_table_with_what_they_may_take() -> None:
    rows = {row.name: row for row in ROWS}
    for heads, said, seconds in (
        (384, "384 heads, every number", 10),
        (1024, "1,024 heads, 124 numbers", 2),
        (2048, "2,048 heads, 126 numbers", 8),
    ):
        row = rows[f"clustering_{heads}"]
        assert (row.words, row.limit) == (f"clustering {said} of clusters", seconds)
    assert {f"clustering_{heads}" for heads in performance.CLUSTERED} == {name for name in rows if "clustering" in name}


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
