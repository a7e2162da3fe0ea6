from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cahp.features.stability import measuring
from cahp.models.cards import ModelCard
from cahp.run.bench import Bench
from cahp.run.measures import MaskSubject
from cahp.run.settings import Settings
from cahp.stages.clustering import cluster, space
from cahp.stages.signatures import salience
from cahp.tasks.texts import Texts
from cahp.values import HeadMask, SpaceError
from cahp.values.statistics import Clustering, Signatures


def resampled(*kept: list[int], heads: int = 4, knees: list[int] | None = None) -> measuring.Stability:
    """Choices of one layer of heads that keep the given ones."""
    knees = knees or [2] * len(kept)
    return measuring.Stability("seed", 1, heads, tuple(range(len(kept))), tuple(knees), tuple(map(tuple, kept)))


def some_signatures(seed: int = 0, examples: int = 20) -> Signatures:
    """Twelve heads in two layers, three classes, a pool of 4 x 4."""
    rng = np.random.default_rng(seed)
    mean = 0.2 + 0.1 * rng.random((12, 1, 1)) * rng.standard_normal((12, 3, 16))
    return Signatures(np.full(3, examples), mean, 0.01 * examples * (0.5 + rng.random((12, 3, 16))), 2, 6)


@pytest.fixture
def bench() -> Any:
    """A bench whose model has been watched already, and what its progress said."""
    rng, said = np.random.default_rng(1), list[tuple[str, int, int]]()
    texts = Texts(tuple("text" for _ in range(60)), None, np.arange(60) % 3, ("a", "b", "c"))
    signatures = some_signatures()
    gradients = rng.normal(size=(32, 2, 6))

    def place_and_cluster(signatures: Signatures, seed: int) -> Clustering:
        return cluster(space(signatures, projection="pca", seed=seed), seed=seed, degree=6)

    return SimpleNamespace(
        said=said,
        settings=Settings(projection="pca", pool_size=4, seed=5),
        card=ModelCard("m", None, "bert", 2, 6, 2, 12, ("a", "b", "c"), "0" * 64, "."),
        calibration=texts,
        model=None,
        resources=SimpleNamespace(progress=lambda *state: said.append(state)),
        evidence=SimpleNamespace(
            texts=texts,
            signatures=signatures,
            salience=rng.random((2, 6)),
            gradients=gradients,
            clustering=place_and_cluster(signatures, 5),
            cluster_again=place_and_cluster,
            collect_part=lambda rows: some_signatures(int(rows[0]), examples=2),
            compute_salience=lambda how, rows: salience(gradients[rows], how=how),
        ),
    )


def repeat(bench: Any, vary: Any, choices: int = 3, keep: int = 0) -> measuring.Stability:
    return measuring.measure_stability(bench, measuring.StabilityOptions(vary, choices, keep))


def test_frequency_and_overlap_are_those_of_all_pairs_of_choices() -> None:
    result = resampled([0, 1], [0, 2], [0, 1])
    assert result.frequency.tolist() == [[1.0, 2 / 3, 1 / 3, 0.0]]
    # {0,1} and {0,2} share 1 of 3; {0,1} twice share all; {0,2} and {0,1} share 1 of 3.
    assert result.overlap.value == pytest.approx((1 / 3 + 1 + 1 / 3) / 3)
    # Two of four heads: all shared 1/6, one shared 4/6 (Jaccard 1/3), none 1/6.
    assert result.chance == pytest.approx(1 / 6 + 4 / 6 / 3)
    # A choice without a knee counts neither for nor against a head.
    result = resampled([0, 1], [], [0, 1], knees=[2, 0, 2])
    assert result.frequency.tolist() == [[1, 1, 0, 0]]
    assert (result.overlap.value, len(result.masks)) == (1, 2)
    (line,) = measuring.STABILITY.show(resampled([0], []), MaskSubject(HeadMask.full(1, 4)))
    assert "fewer than two choices" in line.text
    # Its interval is the jackknife's over choices.
    # Pairs share 1/3, 1/3 and 1 of their heads; without a choice 1, 1/3 or 1/3 is left.
    assert resampled([0, 1], [0, 2], [0, 2]).overlap.ci95 == (0.0, 1.0)
    assert resampled(*[[0, 1]] * 4).overlap.ci95 == (1.0, 1.0)
    many = resampled(*[[0, 1, 2 + row % 2] for row in range(12)]).overlap
    assert many.low < many.value < many.high < 1


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ([0, 1, 2, 3], "stable, another seed"),
        ([0, 1, 2, 4], "fairly stable"),
        ([0, 1, 5, 4], "unstable"),
        ([4, 5, 6, 7], "hardly better than random selection"),
    ],
)
def test_the_verdict_is_in_plain_words(other: list[int], words: str) -> None:
    assert measuring.state_verdict(resampled([0, 1, 2, 3], other, heads=72)).startswith(words)


def test_choices_over_seeds_begin_with_the_runs_own_and_keep_as_many_heads(bench: Any) -> None:
    result = repeat(bench, "seed")
    assert result.values == (5, 6, 7)
    assert result.knees[0] == bench.evidence.clustering.knee
    # A principal plane does not depend on the seed.
    assert result.overlap.value == 1
    for vary in ("seed", "sample"):
        assert list(map(len, repeat(bench, vary, keep=5).kept)) == [5, 5, 5]
    bench.settings = replace(bench.settings, even=True)
    first, second = repeat(bench, "seed", 2).masks.sum(axis=2).T
    assert first.tolist() == second.tolist()


def test_other_samples_are_different_halves_of_the_texts(bench: Any) -> None:
    result = repeat(bench, "sample", 4)
    assert result.values == (1, 2, 3, 4)
    assert result.overlap.value < 1
    assert bench.said[-1] == (measuring.STAGE, 3, 4)
    assert [done for _, done, _ in bench.said] == sorted(done for _, done, _ in bench.said)
    # Too few texts are refused.
    bench.evidence.texts = bench.evidence.texts.take(range(12))
    with pytest.raises(SpaceError, match="use at least 20"):
        repeat(bench, "sample")


def test_parts_that_do_not_fit_into_memory_are_refused(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Twelve heads, three classes and a pool of 4 x 4, in two statistics of eight bytes.
    part = 12 * 3 * 16 * 16
    monkeypatch.setattr(measuring, "_MEMORY", 4 * part)
    assert len(repeat(bench, "sample").kept) == 3
    monkeypatch.setattr(measuring, "_MEMORY", 4 * part - 1)
    with pytest.raises(SpaceError, match="smaller pool size"):
        repeat(bench, "sample")


def test_windows_of_one_document_are_in_one_part(window_bench: Bench) -> None:
    documents = np.array([np.bincount(window.units).argmax() for window in window_bench.calibration.windows])
    parts = measuring.shards_of(window_bench.calibration, 5, seed=1)
    assert all(len(np.unique(parts[documents == one])) == 1 for one in documents)
    assert len(np.unique(parts)) == 5
