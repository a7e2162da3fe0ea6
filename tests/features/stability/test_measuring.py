from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cahp.features.stability import measuring as module
from cahp.features.stability.measuring import Axis, Stability, measure_choices, shards, shards_of, stability
from cahp.models.cards import ModelCard
from cahp.run.bench import Bench
from cahp.run.settings import Settings
from cahp.stages.clustering import cluster
from cahp.stages.space import space
from cahp.store import Store
from cahp.tasks.answers import Evaluation
from cahp.tasks.texts import Texts
from cahp.values import HeadMask, SpaceError
from cahp.values.statistics import Signatures


def resampled(*kept: list[int], heads: int = 4, knees: list[int] | None = None) -> Stability:
    """Resamples of one layer of heads that keep the given ones."""
    keep = np.zeros((len(kept), 1, heads), dtype=np.bool_)
    for row, members in zip(keep, kept, strict=True):
        row[0, members] = True
    return Stability("seed", np.arange(len(kept)), np.array(knees or [2] * len(kept)), keep)


def some_signatures(seed: int = 0, examples: int = 20) -> Signatures:
    """Twelve heads in two layers, three classes, a pool of 4 x 4."""
    rng = np.random.default_rng(seed)
    mean = 0.2 + 0.1 * rng.random((12, 1, 1)) * rng.standard_normal((12, 3, 16))
    return Signatures(np.full(3, examples), mean, 0.01 * examples * (0.5 + rng.random((12, 3, 16))), 2, 6)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A bench whose model has been watched already."""
    rng = np.random.default_rng(1)
    texts = Texts(tuple("text" for _ in range(60)), None, np.arange(60) % 3, ("a", "b", "c"))
    parts = [some_signatures(seed, examples=2) for seed in range(10)]
    monkeypatch.setattr(module, "_shard", lambda bench, shard_of, shard, count, progress: parts[shard])
    signatures = some_signatures()
    settings = Settings(projection="pca", pool_size=4, seed=5)
    return SimpleNamespace(
        settings=settings,
        card=ModelCard("m", None, "bert", 2, 6, 2, 12, ("a", "b", "c"), "0" * 64, "."),
        calibration=texts,
        resources=SimpleNamespace(store=Store(tmp_path)),
        evidence=SimpleNamespace(
            texts=texts,
            signatures=signatures,
            salience=rng.random((2, 6)),
            gradients=rng.normal(size=(32, 2, 6)),
            clustering=cluster(space(signatures, projection="pca", seed=5), seed=5, degree=6),
        ),
    )


def test_frequency_counts_the_resamples_that_keep_a_head() -> None:
    assert resampled([0, 1], [0, 2], [0, 1]).frequency.tolist() == [[1.0, 2 / 3, 1 / 3, 0.0]]


def test_overlap_is_the_mean_jaccard_index_of_all_pairs_of_resamples() -> None:
    # {0,1} and {0,2} share 1 of 3; {0,1} twice share all; {0,2} and {0,1} share 1 of 3.
    assert resampled([0, 1], [0, 2], [0, 1]).overlap == pytest.approx((1 / 3 + 1 + 1 / 3) / 3)


def test_chance_is_that_of_sets_of_the_same_sizes() -> None:
    # Two of four heads: all shared 1/6, one shared 4/6 (Jaccard 1/3), none 1/6.
    same = resampled([0, 1], [0, 1])
    assert same.chance == pytest.approx(1 / 6 + 4 / 6 / 3)
    assert same.beyond_chance == pytest.approx(1)


def test_a_resample_without_a_knee_counts_neither_for_nor_against_a_head() -> None:
    result = resampled([0, 1], [], [0, 1], knees=[2, 0, 2])
    assert result.frequency.tolist() == [[1, 1, 0, 0]]
    assert result.overlap == 1
    assert len(result.masks) == 2


def test_one_resample_overlaps_with_nothing() -> None:
    assert np.isnan(resampled([0, 1]).overlap)


def test_parts_deal_every_class_out_evenly() -> None:
    labels = np.array([0] * 23 + [1] * 9 + [2] * 4)
    part = shards(labels, 4, seed=0)
    for label in range(3):
        counts = np.bincount(part[labels == label], minlength=4)
        assert counts.max() - counts.min() <= 1
    sizes = np.bincount(part)
    assert sizes.max() - sizes.min() <= 1
    assert np.array_equal(part, shards(labels, 4, seed=0))
    assert not np.array_equal(part, shards(labels, 4, seed=1))


def test_the_first_resample_over_seeds_is_the_runs_own(bench: Any) -> None:
    result = stability(bench, axis="seed", resamples=3)
    assert result.values.tolist() == [5, 6, 7]
    assert result.knees[0] == bench.evidence.clustering.knee
    # A principal plane does not depend on the seed.
    assert result.overlap == 1


def test_a_budget_is_met_in_every_resample(bench: Any) -> None:
    for axis in ("seed", "sample"):
        assert stability(bench, axis=axis, resamples=3, budget=5).keep.sum(axis=(1, 2)).tolist() == [5, 5, 5]


def test_even_choices_are_those_of_an_even_run(bench: Any) -> None:
    bench.settings = replace(bench.settings, even=True)
    for axis in ("seed", "degree"):
        first, second = stability(bench, axis=axis, resamples=2).keep.sum(axis=2).T
        assert first.tolist() == second.tolist()


def test_other_samples_are_different_halves_of_the_texts(bench: Any) -> None:
    said: list[tuple[str, int, int]] = []
    result = stability(bench, axis="sample", resamples=4, progress=lambda *state: said.append(state))
    assert result.values.tolist() == [1, 2, 3, 4]
    assert result.overlap < 1
    assert said[-1] == (module.STAGE, 4, 4)
    assert [done for _, done, _ in said] == sorted(done for _, done, _ in said)


def test_degrees_move_the_knee_of_one_curve_whatever_the_budget(bench: Any) -> None:
    result = stability(bench, axis="degree", budget=5)
    assert result.values.tolist() == [2, 3, 4, 5, 6, 7, 8]
    at_six = result.values.tolist().index(6)
    assert result.knees[at_six] == bench.evidence.clustering.knee
    assert set(result.keep.sum(axis=(1, 2)).tolist()) != {5}


def test_what_was_measured_is_found_again(bench: Any) -> None:
    first = stability(bench, axis="seed", resamples=2)
    bench.evidence.signatures = None
    again = stability(bench, axis="seed", resamples=2)
    assert np.array_equal(first.keep, again.keep)
    assert again.keep.dtype == np.bool_
    with pytest.raises(AttributeError):
        stability(bench, axis="seed", resamples=3)


def test_too_few_texts_to_draw_samples_from_are_refused(bench: Any) -> None:
    bench.evidence.texts = bench.evidence.texts.take(range(12))
    with pytest.raises(SpaceError, match="use at least 20"):
        stability(bench, axis="sample")


def test_each_choice_is_measured_against_the_full_model() -> None:
    labels = np.array([0, 1])

    def answers(*, mask: HeadMask | None = None) -> Evaluation:
        # Without head 0 both texts get even scores.
        scores = np.zeros((2, 2)) if mask is not None and not mask.keep[0, 0] else np.log([[0.8, 0.2], [0.2, 0.8]])
        return Evaluation(scores.astype(np.float32), labels, ("a", "b"))

    bench: Any = SimpleNamespace(
        settings=Settings(),
        evaluation=None,
        full=answers(),
        measurements=SimpleNamespace(evaluate=lambda texts, *, mask: answers(mask=mask)),
    )
    steps: list[tuple[int, int]] = []
    outcomes = measure_choices(
        bench, resampled([0, 1], [], [1, 2]), progress=lambda stage, done, total: steps.append((done, total))
    )
    lost = 0.8 * np.log(0.8 / 0.5) + 0.2 * np.log(0.2 / 0.5)
    assert [one["kl"].value for one in outcomes] == pytest.approx([0, lost], abs=1e-6)
    assert steps == [(0, 2), (1, 2), (2, 2)]


@pytest.mark.parametrize("axis", ["seed", "sample", "degree"])
def test_a_selection_is_repeated_and_each_choice_measured(window_bench: Bench, axis: Axis) -> None:
    result = stability(window_bench, axis=axis, resamples=3, budget=6)
    assert len(result.masks) >= 1
    outcomes = measure_choices(window_bench, result)
    assert all(one["kl"].value >= 0 and "accuracy" not in one for one in outcomes)
    assert window_bench.evidence.null_curves is not None


def test_windows_of_one_document_are_in_one_part(window_bench: Bench) -> None:
    documents = np.array([np.bincount(window.units).argmax() for window in window_bench.calibration.windows])
    parts = shards_of(window_bench.calibration, 5, seed=1)
    assert all(len(np.unique(parts[documents == one])) == 1 for one in documents)
    assert len(np.unique(parts)) == 5
