"""Every stage once, when first asked, and found again on disk."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import fakes
import numpy as np
import pytest
from clusters import ratio_of

from cahp import models
from cahp.models import costs
from cahp.models.cards import ModelCard
from cahp.models.costs import Cost, Costs, Timing
from cahp.models.head_model import HeadModel
from cahp.models.training import Schedule
from cahp.recoveries import RefitReport
from cahp.run import resources
from cahp.run.measurements import Measurements, costs_from_json
from cahp.run.recovered import Refitted, cut_model
from cahp.stages.evaluation import evaluate
from cahp.stages.recovery import finetune
from cahp.stages.salience import gate_gradients
from cahp.stages.signatures import collect
from cahp.store import Store
from cahp.tasks.answers import Evaluation
from cahp.tasks.texts import Texts
from cahp.values import CahpError, Cancelled, HeadMask, Ints, OptionError, Precision, Precisions

pytestmark = pytest.mark.usefixtures("one_thread")

LAYERS, HEADS = 3, 4
MASK = HeadMask(np.tile(np.array([True, False, False, True]), (LAYERS, 1)))


@pytest.fixture
def texts() -> Texts:
    return fakes.sentences(150)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


class Loader:
    """Gives the same model again, and counts how often it was asked."""

    def __init__(self, model: HeadModel) -> None:
        self._model, self.count = model, 0

    def __call__(self, card: ModelCard, /, *, device: str) -> HeadModel:
        self.count += 1
        return self._model


def bench(model: HeadModel, texts: Texts, store: Store, **options: Any) -> fakes.Opened:
    return fakes.opened(model.card, texts, store, **{"load": Loader(model), **options})


def test_evidence_is_measured_once_and_on_demand(model: HeadModel, texts: Texts, store: Store) -> None:
    loader = Loader(model)
    made = bench(model, texts, store, load=loader)
    assert (loader.count, made.resources.timings, made.resources.cached) == (0, {}, [])
    assert made.evidence.clustering is made.evidence.clustering
    assert made.evidence.salience.shape == (LAYERS, HEADS)
    assert loader.count == 1
    assert set(made.resources.timings) == {"load", "signatures", "salience", "features", "projection", "clustering"}


def test_one_forward_pass_serves_signatures_and_salience(model: HeadModel, texts: Texts, store: Store) -> None:
    made = bench(model, texts, store)
    apart, gradients = collect(model, texts, pool_size=8), gate_gradients(model, texts)
    assert np.allclose(made.evidence.signatures.mean, apart.mean, atol=1e-9)
    assert np.allclose(made.evidence.signatures.m2, apart.m2, atol=1e-6)
    assert made.evidence.signatures.counts.tolist() == [75, 75]
    assert np.allclose(made.evidence.gradients, gradients, atol=1e-5)


@pytest.mark.parametrize("precision", get_args(Precision))
def test_the_order_of_requests_changes_no_result(
    model: HeadModel,
    texts: Texts,
    store: Store,
    tmp_path: Path,
    precision: Precision,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # So that passes with gradients have batches of their own, as those of larger models do.
    monkeypatch.setattr(
        "cahp.models.head_model.activation_bytes", lambda _: 100 * model.layers * model.card.hidden * 48
    )
    computed = Precisions(signatures=precision)
    made = bench(model, texts, store, precisions=computed)
    other = bench(model, texts, Store(tmp_path / "other"), precisions=computed)
    _ = made.evidence.signatures, other.evidence.gradients
    assert np.array_equal(made.evidence.signatures.mean, other.evidence.signatures.mean)
    assert np.array_equal(made.evidence.signatures.m2, other.evidence.signatures.m2)
    assert np.array_equal(made.evidence.gradients, other.evidence.gradients)
    if precision == "bfloat16":
        alone = collect(model, texts, pool_size=8, precision=precision)
        assert np.array_equal(made.evidence.signatures.mean, alone.mean)


def test_a_second_bench_finds_everything_and_reads_no_model(model: HeadModel, texts: Texts, store: Store) -> None:
    def everything(made: fakes.Opened) -> list[Any]:
        refitted = made.recoveries.refit(MASK)
        answers = [
            made.measurements.evaluate(texts),
            made.measurements.evaluate(texts, mask=MASK),
            made.measurements.evaluate(texts, mask=MASK, recovered=refitted),
        ]
        return [
            made.evidence.signatures.mean,
            made.evidence.signatures.m2,
            made.evidence.gradients,
            made.evidence.space.embedding,
            made.evidence.space.distances,
            made.evidence.clustering.mss,
            made.evidence.clustering.labels,
            np.concatenate(made.evidence.clustering.medoids),
            np.array(made.evidence.clustering.knee),
            *(array for answer in answers for array in (answer.predictions, answer.losses)),
            *refitted.weights.values(),
        ]

    first = everything(bench(model, texts, store))
    loader = Loader(model)
    again = bench(model, texts, store, load=loader)
    for expected, found in zip(first, everything(again), strict=True):
        assert np.array_equal(found, expected)
        assert found.dtype == expected.dtype
    assert loader.count == 0
    assert again.resources.timings == {}
    assert set(again.resources.cached) == {"signatures", "salience", "space", "clustering", "evaluation", "recovery"}


def test_what_a_bench_kept_itself_is_no_finding(model: HeadModel, texts: Texts, store: Store) -> None:
    made = bench(model, texts, store)
    made.measurements.evaluate(texts, mask=MASK)
    made.measurements.evaluate(texts, mask=MASK)
    assert made.resources.cached == []


@pytest.mark.parametrize(
    ("option", "value", "same", "different"),
    [
        ("pool_size", 6, "gradients", "signatures"),
        ("projection", "none", "signatures", "space"),
        ("seed", 7, "signatures", "space"),
        ("poly_degree", 2, "clustering", None),
        ("salience", "example", "gradients", None),
    ],
)
def test_an_option_repeats_only_what_depends_on_it(
    model: HeadModel, texts: Texts, store: Store, option: str, value: Any, same: str, different: str | None
) -> None:
    first = bench(model, texts, store)
    _ = first.evidence.clustering, first.evidence.salience
    loader = Loader(model)
    made = bench(model, texts, store, load=loader, **{option: value})
    getattr(made.evidence, same)
    assert loader.count == 0
    if different is not None:
        before = set(made.resources.timings)
        getattr(made.evidence, different)
        assert set(made.resources.timings) > before


def test_other_texts_or_labels_are_other_results(model: HeadModel, texts: Texts, store: Store) -> None:
    first = bench(model, texts, store)
    flipped = Texts(texts.first, None, 1 - texts.labels, texts.classes)
    second = bench(model, flipped, store)
    assert not np.array_equal(second.evidence.signatures.mean, first.evidence.signatures.mean)
    assert second.resources.cached == []


def test_where_nothing_is_found_the_full_model_still_answers_once(
    model: HeadModel, texts: Texts, tmp_path: Path
) -> None:
    made = bench(model, texts, Store(tmp_path, fresh=True))
    assert made.measurements.evaluate(texts) is made.measurements.evaluate(texts)
    assert made.measurements.evaluate(texts.take(range(10))) is not made.measurements.evaluate(texts)


def test_entries_that_are_too_large_are_computed_again(
    model: HeadModel, texts: Texts, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "_LARGEST_ENTRY", 100)
    first, second = (bench(model, texts, store).evidence.signatures for _ in range(2))
    assert np.allclose(first.mean, second.mean, atol=1e-9)
    again = bench(model, texts, store)
    _ = again.evidence.signatures
    assert "signatures" not in again.resources.cached


# --- masks


@pytest.mark.parametrize("shared", [False, True])
def test_a_mask_that_drops_nothing_is_the_full_model_and_answered_once(
    model: HeadModel, texts: Texts, store: Store, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    made = bench(model, texts, store).measurements
    full, seen = HeadMask.full(LAYERS, HEADS), []
    logits = HeadModel.logits
    monkeypatch.setattr(HeadModel, "logits", lambda own, batch, **more: (seen.append(1), logits(own, batch, **more))[1])
    with made.sharing(texts, [full, MASK] if shared else []):
        assert made.evaluate(texts, mask=full) is made.evaluate(texts)
        passes = len(seen)
        made.evaluate(texts, mask=full)
    assert len(seen) == passes == len(model.batches(model.tokenize(texts.inputs)))
    assert np.allclose(made.evaluate(texts).losses, evaluate(model, texts).losses, atol=1e-6)


def test_only_masks_that_share_texts_are_glimpsed_at_and_only_before_they_answered(
    model: HeadModel, texts: Texts, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cahp.models.head_model.batch_size", lambda _: (10_000, 20))
    made = bench(model, texts, store).measurements
    full, keep = HeadMask.full(LAYERS, HEADS), MASK.keep.copy()
    keep[1] = False
    assert made.glimpse(texts, MASK) is None
    with made.sharing(texts, [MASK]):
        assert made.glimpse(texts, full) is None
        assert made.glimpse(texts, HeadMask(keep)) is None
        assert made.glimpse(fakes.sentences(80), MASK) is None
        rows, found = made.glimpse(texts, MASK)  # type: ignore[misc]
        assert 0 < len(rows) < len(texts) / 2
        assert np.array_equal(found.losses, made.evaluate(texts, mask=MASK).losses[rows])
        assert made.glimpse(texts, MASK) is None


@pytest.mark.parametrize("shared", [False, True])
def test_parts_of_an_evaluation_are_told_as_they_grow_and_change_nothing(
    model: HeadModel, texts: Texts, store: Store, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    monkeypatch.setattr("cahp.models.head_model.batch_size", lambda _: (10_000, 6))
    made = bench(model, texts, store).measurements
    parts: list[tuple[Ints, Evaluation]] = []
    with made.sharing(texts, [MASK] if shared else []):
        whole = made.evaluate(texts, mask=MASK, on_part=lambda rows, part: parts.append((rows, part)))
    expected = made.evaluate_model(cut_model(model, MASK), texts)
    assert np.array_equal(whole.scores, expected.scores)
    sizes = [len(rows) for rows, _ in parts]
    assert sizes
    # 6 texts, then 12, 18, 30, ...: half as many again each time, of all lengths from the beginning.
    assert all(6 <= size < len(texts) for size in sizes)
    assert all(after >= 1.5 * before for before, after in pairwise(sizes))
    for rows, part in parts:
        assert np.array_equal(part.scores, whole.scores[rows])
        assert np.array_equal(part.labels, texts.labels[rows])
    seen: list[object] = []
    made.evaluate(texts, mask=MASK, on_part=lambda *part: seen.append(part))
    assert not seen, "what is in the store has no parts"


def test_a_cut_and_a_masked_model_answer_alike(model: HeadModel, texts: Texts, store: Store) -> None:
    made = bench(model, texts, store)
    cut = made.measurements.evaluate(texts, mask=MASK)
    masked = made.measurements.evaluate_model(model, texts, mask=MASK)
    assert np.array_equal(cut.predictions, masked.predictions)
    assert np.allclose(cut.losses, masked.losses, atol=1e-5)


def test_a_layer_without_heads_is_masked_since_it_cannot_be_cut(model: HeadModel, texts: Texts, store: Store) -> None:
    keep = MASK.keep.copy()
    keep[1] = False
    empty = HeadMask(keep)
    made = bench(model, texts, store)
    assert np.array_equal(
        made.measurements.evaluate(texts, mask=empty).losses,
        made.measurements.evaluate_model(model, texts, mask=empty).losses,
    )


def test_a_refit_that_was_not_taken_changes_nothing(model: HeadModel, texts: Texts, store: Store) -> None:
    made = bench(model, texts, store).measurements
    refused = Refitted({}, RefitReport(accepted=False, reason="worse", examples=3))
    assert np.array_equal(
        made.evaluate(texts, mask=MASK, recovered=refused).losses,
        made.evaluate(texts, mask=MASK).losses,
    )


@pytest.mark.usefixtures("quiet_machine")
def test_the_speed_of_generation_is_measured_once(tmp_path: Path, store: Store) -> None:
    folder = fakes.save_language_model(tmp_path / "model", "causal", "llama", max_position_embeddings=256)
    writer = models.load(str(folder), device="cpu", prompt=fakes.PROMPTS["causal"], answers=fakes.ANSWERS)
    made = bench(writer, fakes.sentences(20), store).measurements
    costs = made.costs(MASK, seconds=2.0)
    assert costs.speed is not None
    assert [[one.context for one in points] for points in (costs.speed.prefill, costs.speed.decode)] == [[128, 256]] * 2
    assert costs_from_json(json.loads(json.dumps(asdict(costs)))) == costs
    assert made.costs(MASK, seconds=2.0) == made.read_costs(MASK, length=None, seconds=2.0) == costs
    assert made.read_costs(MASK, length=64, seconds=2.0) is None


# --- fine-tuning

QUICK = Schedule(epochs=2, learning_rate=1e-3, batch=16)


def sizes(store: Store) -> list[int]:
    return sorted(path.stat().st_size for path in store.folder.iterdir())


def test_a_fine_tuned_model_is_trained_once(model: HeadModel, texts: Texts, store: Store) -> None:
    first = bench(model, texts, store)
    tuned = first.recoveries.finetune(MASK, schedule=QUICK)
    answers = first.measurements.evaluate(texts, mask=MASK, recovered=tuned)
    assert not np.array_equal(answers.losses, first.measurements.evaluate(texts, mask=MASK).losses)
    # The model with the trained weights put in answers as the model that was trained.
    trained, history = finetune(model, MASK, texts, schedule=QUICK)
    assert np.array_equal(answers.losses, evaluate(trained, texts).losses)
    assert tuned.epochs == tuple(asdict(epoch) for epoch in history)

    loader = Loader(model)
    again = bench(model, texts, store, load=loader)
    known = again.recoveries.finetune(MASK, schedule=QUICK)
    assert (known.sha256, known.epochs) == (tuned.sha256, tuned.epochs)
    assert np.array_equal(again.measurements.evaluate(texts, mask=MASK, recovered=known).losses, answers.losses)
    assert (loader.count, set(again.resources.cached)) == (0, {"recovery", "evaluation"})


def test_fine_tuning_from_a_refit_tries_each_rate_and_keeps_the_one_that_held_out_texts_choose(
    model: HeadModel, texts: Texts, store: Store
) -> None:
    made, rates = bench(model, texts, store).recoveries, (1e-5, 1e30, 1e-2)
    tuned = made.finetune(MASK, schedule=QUICK, refitted=True, rates=rates)
    start = cut_model(model, MASK, made.refit(MASK))
    tried = {
        rate: finetune(model, MASK, texts, start=start, schedule=replace(QUICK, epochs=1, learning_rate=rate))[1]
        for rate in (1e-5, 1e-2)
    }
    # The second rate diverges.
    best = max(tried, key=lambda rate: tried[rate][-1].accuracy or 0)
    assert {epoch["learning_rate"] for epoch in tuned.epochs} == {best}
    whole, history = finetune(model, MASK, texts, start=start, schedule=replace(QUICK, learning_rate=best))
    assert [epoch["loss"] for epoch in tuned.epochs] == [epoch.loss for epoch in history]
    again = bench(model, texts, store)
    assert again.recoveries.finetune(MASK, schedule=QUICK, refitted=True, rates=rates).sha256 == tuned.sha256
    found = again.measurements.evaluate(texts, mask=MASK, recovered=tuned)
    assert np.array_equal(found.losses, evaluate(whole, texts).losses)
    # Neither the rates nor the start is the same as those of fine-tuning as in the paper.
    assert again.recoveries.finetune(MASK, schedule=replace(QUICK, learning_rate=best)).sha256 != tuned.sha256


@pytest.mark.parametrize("difference", ["schedule", "seed", "mask", "texts"])
def test_another_training_is_another_result(model: HeadModel, texts: Texts, store: Store, difference: str) -> None:
    bench(model, texts, store).recoveries.finetune(MASK, schedule=QUICK)
    before = len(sizes(store))
    other = bench(
        model,
        texts.take(range(100)) if difference == "texts" else texts,
        store,
        **({"seed": 7} if difference == "seed" else {}),
    )
    mask = HeadMask(MASK.keep[:, ::-1].copy() ^ np.array([0, 1, 0, 0], np.bool_)) if difference == "mask" else MASK
    other.recoveries.finetune(mask, schedule=replace(QUICK, epochs=1) if difference == "schedule" else QUICK)
    assert other.resources.cached == []
    assert len(sizes(store)) == before + 1


def test_fine_tuning_that_was_stopped_goes_on_and_leaves_nothing_unfinished(
    model: HeadModel, texts: Texts, store: Store, tmp_path: Path
) -> None:
    whole = bench(model, texts, Store(tmp_path / "other")).recoveries.finetune(MASK, schedule=QUICK)

    def stop(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("finetune", 11):
            raise Cancelled

    with pytest.raises(Cancelled):
        bench(model, texts, store, progress=stop).recoveries.finetune(MASK, schedule=QUICK)
    assert len(sizes(store)) == 1
    seen: list[tuple[str, int, int]] = []
    again = bench(model, texts, store, progress=lambda *at: seen.append(at))
    assert again.recoveries.finetune(MASK, schedule=QUICK).sha256 == whole.sha256
    # 120 texts to learn from: eight batches an epoch.
    assert next(at for at in seen if at[0] == "finetune") == ("finetune", 11, 16)
    assert sizes(store) == sizes(Store(tmp_path / "other"))


def test_weights_that_weigh_too_much_are_not_kept_and_others_only_if_asked(
    model: HeadModel, texts: Texts, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench(model, texts, store).recoveries.finetune(MASK, schedule=QUICK, keep=False)
    assert sizes(store) == []
    # They took more to make than other results of their size.
    monkeypatch.setattr(resources, "_LARGEST_ENTRY", 1000)
    bench(model, texts, store).recoveries.finetune(MASK, schedule=QUICK)
    (size,) = sizes(store)
    small = Store(tmp_path / "small", limit_bytes=2 * size)
    bench(model, texts, small).recoveries.finetune(MASK, schedule=QUICK)
    assert list(small.folder.glob("*")) == []


def test_a_rate_that_leads_nowhere_is_refused(model: HeadModel, texts: Texts, store: Store) -> None:
    with pytest.raises(CahpError, match="--learning-rate"):
        bench(model, texts, store).recoveries.finetune(MASK, schedule=replace(QUICK, learning_rate=1e30))
    assert sizes(store) == []


def test_without_calibration_texts_costs_can_be_measured_still(model: HeadModel, store: Store) -> None:
    made = fakes.measurements(model.card, store, model=model)
    timing = made.costs(MASK, length=8, repeats=5).pruned.latency_ms
    assert timing is not None
    assert timing.length == 8


# --- costs


@pytest.mark.usefixtures("quiet_machine")
def test_costs_are_found_again_for_every_mask_of_the_same_counts(model: HeadModel, store: Store) -> None:
    first = fakes.measurements(model.card, store, model=model).costs(MASK, length=8, repeats=5)
    loader = Loader(model)
    other = HeadMask(MASK.keep[:, ::-1].copy())
    found = fakes.resources(model.card, store, load=loader)
    again = Measurements(found)
    assert again.costs(other, length=8, repeats=5) == first
    assert (loader.count, found.cached) == (0, ["latency"])
    uneven = MASK.keep.copy()
    uneven[0, 1] = True
    assert _weights(again.costs(HeadMask(uneven), length=8, repeats=5)) > _weights(first)


def test_times_of_a_busy_machine_are_returned_but_not_cached(
    model: HeadModel, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fakes.measurements(model.card, store, model=model)
    # Every machine is busier than that.
    monkeypatch.setattr(costs, "NOISY", 0.0)
    assert made.costs(MASK, length=8, seconds=0.1).noisy
    assert made.read_costs(MASK, length=8, seconds=0.1) is None
    assert not store.folder.exists()


@pytest.mark.usefixtures("quiet_machine")
def test_a_time_is_taken_again_when_asked_and_then_found_by_all(model: HeadModel, store: Store) -> None:
    made = fakes.measurements(model.card, store, model=model)
    first = made.costs(MASK, length=8, seconds=0.1)
    again = made.costs(MASK, length=8, seconds=0.1, fresh=True)
    assert again.full.latency_ms != first.full.latency_ms
    assert made.costs(MASK, length=8, seconds=0.1) == again
    assert made.read_costs(MASK, length=8, seconds=0.1) == again
    assert made.read_costs(MASK, length=16, seconds=0.1) is None


def _weights(costs: Costs) -> int:
    assert costs.pruned.parameters is not None
    return costs.pruned.parameters


def test_times_of_a_busy_machine_say_so() -> None:
    calm, busy = Timing(10.0, 12.4, 8, 64, 30), Timing(10.0, 16.0, 8, 64, 30)
    said = [
        Costs(Cost(100, 1000, one), Cost(50, 600, calm), ratio_of(0.5, 0.4, 0.6), 0.3).notices for one in (calm, busy)
    ]
    assert said[0] == ()
    assert "1.6 times their median" in said[1][0]
    assert "--latency-time" in said[1][0]
    other = Costs(Cost(100, 1000, calm), Cost(50, 600, busy), ratio_of(0.5, 0.4, 0.6), 0.3)
    assert "of the pruned model's 30 times is 1.6" in other.notices[0]


def test_texts_longer_than_the_model_takes_are_refused(model: HeadModel, store: Store) -> None:
    with pytest.raises(OptionError, match="--length"):
        fakes.measurements(model.card, store, model=model).costs(MASK, length=65)


# --- time


def test_the_seconds_of_an_interrupted_stage_are_kept(model: HeadModel, store: Store) -> None:
    times = iter([10.0, 13.0, 20.0, 21.0])
    made = fakes.resources(model.card, store, clock=lambda: next(times))
    with pytest.raises(Cancelled), made.timed("recovery"):
        raise Cancelled
    with made.timed("recovery"):
        pass
    assert made.timings == {"recovery": 4.0}


def test_progress_names_every_stage_and_ends_with_all_done(model: HeadModel, texts: Texts, store: Store) -> None:
    last: dict[str, tuple[int, int]] = {}

    def watch(stage: str, done: int, total: int) -> None:
        assert done >= last.get(stage, (0, total))[0]
        last[stage] = (done, total)

    made = bench(model, texts, store, progress=watch)
    _ = made.evidence.clustering, made.recoveries.refit(MASK), made.measurements.evaluate(texts)
    assert {"load", "signatures", "salience", "features", "projection", "clustering", "refit", "evaluation"} <= set(
        last
    )
    assert all(done == total for done, total in last.values())
