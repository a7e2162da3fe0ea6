"""Comparisons of language models on windows of tokens: outcomes at each token, statistics over documents."""

import math
from dataclasses import replace
from pathlib import Path

import fakes
import numpy as np
import pytest
from fake_methods import plan
from scipy import stats

from cahp import methods
from cahp.comparison import Comparison, Plan
from cahp.comparison.cells import Workspace
from cahp.comparison.running import compare
from cahp.comparison.statistics import crossed_mean
from cahp.outcomes import measure
from cahp.run.bench import open_bench
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.values import HeadMask

pytestmark = pytest.mark.usefixtures("one_thread")

RECOVERIES = ("none", "mean", "refit", "distill", "finetune")


@pytest.fixture(scope="module")
def settings(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("lm")
    (folder / "texts.txt").write_text("\n\n".join(fakes.sentences(300).first))
    model = fakes.teach(fakes.save_language_model(folder / "model", family="llama"))
    return fakes.quick(model, folder / "texts.txt", window=16, tokens=480, eval_tokens=192)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def comparison(settings: Settings, store: Store) -> Comparison:
    asked = Plan(
        replace(settings, report="test"),
        methods=("complementary", "gradient", "random"),
        budgets=("4", "8"),
        seeds=(42, 43),
        recoveries=RECOVERIES,
        draws=2,
        trained_budgets=("8",),
        trained=("complementary",),
    )
    return compare(asked, store=store)


@pytest.fixture(scope="module")
def folder(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    comparison.write(out)
    return out


def test_outcomes_are_those_of_a_run_with_its_mask(comparison: Comparison, settings: Settings, store: Store) -> None:
    assert not any(cell.error for cell in comparison.document.cells)
    cell = next(cell for cell in comparison.document.cells if cell.method == "gradient")
    bench = open_bench(settings, store=store)
    mask = HeadMask(comparison.document.mask(cell))
    outcomes = measure(bench.measurements.evaluate(bench.evaluation, mask=mask), full=bench.full)
    measured = cell.recoveries["none"].eval
    assert measured["accuracy"] is None
    for name in ("kl", "agreement", "perplexity", "bits_per_byte", "copying"):
        assert measured[name] == pytest.approx(outcomes[name].value, abs=1e-6)
    assert {name for cell in comparison.document.cells for name in cell.recoveries} == set(RECOVERIES)


def test_the_files_hold_what_every_mean_and_interval_follows_from(folder: Path) -> None:
    comparison = Comparison.read(folder)
    document = comparison.document
    assert document.protocols["eval"].documents >= 8
    assert comparison.results.outcomes == ("kl", "agreement", "nll", "copying")
    with np.load(folder / "compare.npz") as arrays:
        assert {name.removeprefix("eval_") for name in arrays if name.startswith("eval_")} == {
            *("predictions", "kl", "nll", "documents", "windows", "sizes", "copying", "copies")
        }
        assert (arrays["eval_predictions"].dtype, arrays["eval_kl"].dtype) == (np.int32, np.float16)
        kl, losses = (arrays[f"eval_{name}"].astype(np.float64) for name in ("kl", "nll"))
        same = arrays["eval_predictions"] == arrays["eval_predictions"][document.full[0].recoveries["none"].row]
        owners, sizes, copying = (arrays[f"eval_{name}"] for name in ("documents", "sizes", "copying"))
    assert len(owners) == document.protocols["eval"].tokens == 192
    documents = np.unique(owners)
    for mean in comparison.summary.means:
        if mean.split != document.data.eval.split:
            continue
        rows = [
            [cell.recoveries[mean.recovery].row for cell in own if mean.recovery in cell.recoveries]
            for seed in document.seeds
            if (own := [one for one in document.cells if (one.method, one.seed) == (mean.method, seed)])
            and (own := [one for one in own if one.budget["requested"] == mean.budget])
        ]
        for name, table, weights in (
            ("kl", kl, np.ones(len(owners))),
            ("agreement", same, np.ones(len(owners))),
            ("nll", losses, np.ones(len(owners))),
            ("bits_per_byte", losses / math.log(2), sizes),
        ):
            by_seed = np.array([table[one].mean(axis=0) for one in rows])
            estimate = mean.outcomes[name]
            assert estimate.value == pytest.approx(by_seed.mean(axis=0).sum() / weights.sum())
            assert estimate.n == len(documents)
            assert estimate.low <= estimate.value <= estimate.high
        assert mean.outcomes["perplexity"].value == pytest.approx(math.exp(mean.outcomes["nll"].value))
        assert mean.outcomes["perplexity"].high == pytest.approx(math.exp(mean.outcomes["nll"].high))
        by_row = np.mean([copying[one].astype(np.float64).mean() for one in rows])
        assert mean.outcomes["copying"].value == pytest.approx(by_row)
        assert mean.outcomes["copying"].n == 8
    tests = [one for one in comparison.summary.tests if (one.split, one.outcome) == ("validation", "kl")]
    # Tokens of one document do not count as independent.
    assert {one.n for one in tests} == {len(documents)}


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("ablation", "attattr", "dsp"), id="some"),
        pytest.param(tuple(methods.names()), id="all", marks=pytest.mark.nightly),
    ],
)
def test_methods_that_need_labels_learn_next_tokens(settings: Settings, store: Store, names: tuple[str, ...]) -> None:
    few = replace(settings, tokens=160, eval_tokens=64)
    found = compare(Plan(few, methods=names, budgets=("6",), seeds=(42,)), store=store)
    assert {cell.method: cell.error for cell in found.document.cells if cell.error} == {}
    assert {cell.method for cell in found.document.cells} == set(names)
    assert not any("left out" in notice for notice in found.document.notices)


def test_tuning_and_evaluation_windows_are_halves_of_the_text(settings: Settings, store: Store) -> None:
    found = Workspace(plan(settings, "complementary", "tuned", tries=2), store=store)
    tuning, evaluation = found.tuning_texts.windows, found.splits["eval"].windows
    assert not any(window.copying for window in tuning)
    assert (len(tuning), sum(window.copying for window in evaluation)) == (6, 8)
    assert max(window.units.max() for window in tuning) <= min(
        window.units.min() for window in evaluation if not window.copying
    )


def test_with_one_seed_the_error_is_that_of_a_ratio_of_sums() -> None:
    random = np.random.default_rng(0)
    tokens = random.integers(20, 200, 15).astype(np.float64)
    sums = tokens * random.normal(0.5, 0.1, 15) + random.normal(0, 3.0, 15)
    found = crossed_mean((sums / tokens.mean())[None], tokens / tokens.mean())
    ratio = sums.sum() / tokens.sum()
    error = np.sqrt(15 / 14 * np.square(sums - ratio * tokens).sum()) / tokens.sum()
    assert found.mean == pytest.approx(ratio)
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 14, loc=ratio, scale=error))
