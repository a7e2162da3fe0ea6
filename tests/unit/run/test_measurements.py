"""Every stage once, when first asked, and found again on disk; and every opening of the test split is counted."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import copying
import fakes
import numpy as np
import pytest

from cahp import models
from cahp.data.dataset import RawSplit, assemble
from cahp.models.cards import ModelCard
from cahp.models.head_model import HeadModel
from cahp.models.windows import cut_windows
from cahp.run.bench import open_bench
from cahp.run.evidence import find_roles, stored_roles
from cahp.run.measurements import Measurements
from cahp.run.recoveries import cut_model
from cahp.run.resources import TestSplitLog as Log
from cahp.stages.evaluation import evaluate
from cahp.stages.signatures import collect
from cahp.store import Store
from cahp.tasks.answers import Evaluation
from cahp.tasks.texts import Texts
from cahp.values import Cancelled, HeadMask, Ints, Precision, Precisions

LAYERS, HEADS = 3, 4
TEXTS = fakes.sentences(150)
MASK = HeadMask(np.tile(np.array([True, False, False, True]), (LAYERS, 1)))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def opened(model: HeadModel, store: Store, texts: Texts = TEXTS, /, **options: Any) -> fakes.Opened:
    return fakes.opened(model.card, texts, store, **{"model": model, **options})


@pytest.mark.parametrize("precision", get_args(Precision))
def test_the_order_of_requests_changes_no_result(
    model: HeadModel, store: Store, tmp_path: Path, precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that passes with gradients have batches of their own, as those of larger models do.
    monkeypatch.setattr("cahp.models.head_model.activation_bytes", lambda _: 4800 * model.layers * model.card.hidden)
    computed = Precisions(signatures=precision)
    made = opened(model, store, precisions=computed)
    other = opened(model, Store(tmp_path / "other"), precisions=computed)
    _ = made.evidence.signatures, other.evidence.gradients
    assert np.array_equal(made.evidence.signatures.mean, other.evidence.signatures.mean)
    assert np.array_equal(made.evidence.signatures.m2, other.evidence.signatures.m2)
    assert np.array_equal(made.evidence.gradients, other.evidence.gradients)
    if precision == "bfloat16":
        alone = collect(model, TEXTS, pool_size=8, precision=precision)
        assert np.array_equal(made.evidence.signatures.mean, alone.mean)


def test_a_second_bench_finds_everything_and_reads_no_model(model: HeadModel, store: Store) -> None:
    def everything(made: fakes.Opened) -> list[Any]:
        refitted = made.recoveries.refit(MASK)
        answers = [
            made.measurements.evaluate(TEXTS),
            made.measurements.evaluate(TEXTS, mask=MASK),
            made.measurements.evaluate(TEXTS, mask=MASK, recovered=refitted),
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

    first = everything(opened(model, store))
    again = opened(model, store, model=None, load=fakes.unread)
    for expected, found in zip(first, everything(again), strict=True):
        assert np.array_equal(found, expected)
        assert found.dtype == expected.dtype
    assert again.resources.timings == {}
    assert set(again.resources.cached) == {"signatures", "salience", "space", "clustering", "evaluation", "recovery"}


def test_a_mask_that_drops_nothing_is_the_full(model: HeadModel, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = opened(model, store).measurements
    full, seen = HeadMask.full(LAYERS, HEADS), []
    logits = HeadModel.logits
    monkeypatch.setattr(HeadModel, "logits", lambda own, batch, **more: (seen.append(1), logits(own, batch, **more))[1])
    assert made.evaluate(TEXTS, mask=full) is made.evaluate(TEXTS)
    passes = len(seen)
    made.evaluate(TEXTS, mask=full)
    assert len(seen) == passes == len(model.batches(model.tokenize(TEXTS.inputs)))
    assert np.allclose(made.evaluate(TEXTS).losses, evaluate(model, TEXTS).losses, atol=1e-6)


def test_windows_are_read_once_for_all_masks(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.load(str(fakes.save_language_model(tmp_path / "model", family="llama")), device="cpu")
    windows = cut_windows(model.card, fakes.sentences(60), window=16, tokens=160)
    made = fakes.measurements(model.card, store, model=model)
    seen: list[HeadModel] = []
    logits = HeadModel.logits
    monkeypatch.setattr(HeadModel, "logits", lambda own, *at, **more: (seen.append(own), logits(own, *at, **more))[1])
    full = made.evaluate(windows)
    made.evaluate(windows, mask=MASK)
    passes = len(model.batches(model.tokenize(windows.inputs)))
    assert seen.count(model) == passes
    # The time of an evaluation contains its pass.
    again = made.evaluate_model(model, windows)
    assert seen.count(model) == 2 * passes
    # It is compared with nothing.
    assert np.array_equal(full.scores, again.scores)
    assert np.array_equal(full.scores, evaluate(model, windows).scores)


def test_parts_of_an_evaluation_change_nothing(model: HeadModel, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cahp.models.head_model.batch_size", lambda _: (10_000, 6))
    made = opened(model, store).measurements
    parts: list[tuple[Ints, Evaluation]] = []
    whole = made.evaluate(TEXTS, mask=MASK, on_part=lambda rows, part: parts.append((rows, part)))
    expected = made.evaluate_model(cut_model(model, MASK), TEXTS)
    assert np.array_equal(whole.scores, expected.scores)
    sizes = [len(rows) for rows, _ in parts]
    assert sizes
    # 6 texts, then 12, 18, 30, ...: half as many again each time, of all lengths from the beginning.
    assert all(6 <= size < len(TEXTS) for size in sizes)
    assert all(after >= 1.5 * before for before, after in pairwise(sizes))
    for rows, part in parts:
        assert np.array_equal(part.scores, whole.scores[rows])
        assert np.array_equal(part.labels, TEXTS.labels[rows])
    seen: list[object] = []
    made.evaluate(TEXTS, mask=MASK, on_part=lambda *part: seen.append(part))
    assert not seen, "what is in the store has no parts"


@pytest.mark.usefixtures("quiet_machine")
def test_costs_are_found_again_for_every_mask_of_the_same_counts(model: HeadModel, store: Store) -> None:
    first = fakes.measurements(model.card, store, model=model).costs(MASK, length=8, repeats=5)
    other = HeadMask(MASK.keep[:, ::-1].copy())
    there = fakes.resources(model.card, store, load=fakes.unread)
    assert Measurements(there).costs(other, length=8, repeats=5) == first
    assert there.cached == ["latency"]
    uneven = MASK.keep.copy()
    uneven[0, 1] = True
    again = fakes.measurements(model.card, store, model=model)
    more = again.costs(HeadMask(uneven), length=8, repeats=5)
    assert (more.pruned.parameters or 0) > (first.pruned.parameters or 0) > 0


def test_work_that_passes_between_two_batches_counts_for_no_stage(model: HeadModel, store: Store) -> None:
    now = [0.0]

    def pass_by(stage: str, done: int, total: int) -> None:
        now[0] += 60.0

    made = fakes.resources(model.card, store, clock=lambda: now[0], progress=pass_by)
    with made.timed("evaluation"):
        now[0] += 2.0
        made.progress("evaluation", 1, 2)
        now[0] += 1.0
    assert made.timings == {"evaluation": 3.0}


def test_an_interrupted_ablation_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cahp.stages import roles as stage

    card = models.identify(str(copying.save_copying_model(tmp_path / "model")))
    store = Store(tmp_path / "store")
    measured: list[int] = []
    compute = stage._losses

    def stop_at_the_second_call(*given: object) -> object:
        measured.append(len(given[2]))
        if len(measured) == 2:
            raise Cancelled
        return compute(*given)

    monkeypatch.setattr(stage, "_losses", stop_at_the_second_call)
    monkeypatch.setattr(stage, "_KEPT_TOGETHER", 3)
    with pytest.raises(Cancelled):
        find_roles(fakes.resources(card, store), ablate=True)
    # The full model and the two sets of each role in two parts, and its heads again with zeros in their place.
    assert measured == [2, 1]
    roles = find_roles(fakes.resources(card, store), ablate=True)
    assert measured == [2, 1, 1, 1, *[2, 1, 1] * 2]
    assert [one.role for one in roles.ablations or ()] == ["induction", "previous", "first"]
    assert [one.drawn for one in roles.ablations or ()] == [1, 1, 1]
    assert stored_roles(fakes.resources(card, store), ablate=True) == roles


def log(folder: Path) -> Log:
    shape = {"layers": 3, "heads": 4, "group": 1, "head_size": 8, "hidden": 32}
    card = ModelCard("tiny", None, "bert", labels=("bad", "good"), origin="a" * 64, folder="", **shape)
    return Log(card, assemble("reviews", {"test": RawSplit(fakes.sentences(10))}), Store(folder))


def open_often(folder: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: log(folder).open("test"), range(20)))


@pytest.mark.nightly
def test_eighty_at_once_count_eighty(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=open_often, args=(tmp_path,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
    assert [process.exitcode for process in processes] == [0] * 4
    assert log(tmp_path).count == 4 * 20


def test_however_its_texts_are_cut_into_windows_it_is_one_test_split(tmp_path: Path) -> None:
    model = fakes.save_language_model(tmp_path / "model")
    settings = fakes.quick(model, fakes.write_data(tmp_path / "data"), window=16, tokens=480, eval_tokens=192)
    store = Store(tmp_path / "store")
    counts = []
    for changes in ({}, {"seed": 7}, {"window": 8}, {"eval_tokens": 96}):
        bench = open_bench(replace(settings, **changes), store=store)
        counts.append(Log(bench.card, bench.dataset, store).open("test"))
    assert counts == [1, 2, 3, 4]


def test_where_nothing_can_be_written_the_opening_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log(tmp_path).open("test")
    # There is a folder of this name, so no user can write the file, not even root.
    name = tmp_path / "test-opened.txt"
    name.rename(tmp_path / "aside")
    name.mkdir()
    assert log(tmp_path).open("test") == 1
    (said,) = [record.getMessage() for record in caplog.records]
    assert "CAHP_CACHE" in said
    assert list(name.iterdir()) == []
