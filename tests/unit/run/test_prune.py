"""The order of the stages: what a run promises of its budget, its splits, its notices and its store."""

import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import documents
import fakes
import pytest
from fakes import prune

from cahp import models
from cahp.files import json_text
from cahp.models import cards
from cahp.models.cards import Timing
from cahp.run import resources
from cahp.run.bench import labelling, open_bench
from cahp.run.document import Budget, RunDocument
from cahp.run.evidence import stored_roles
from cahp.run.measurements import Measurements
from cahp.run.prune import Run, measure_run, read_run
from cahp.run.settings import Settings, describe
from cahp.stages.evaluation import evaluate
from cahp.store import Store
from cahp.tasks.texts import Texts
from cahp.values import BudgetError, Cancelled, DataError, ModelError, OptionError

LAYERS, HEADS = 3, 4


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return fakes.quick_task(tmp_path_factory.mktemp("tiny"), budget="5")


def write(folder: Path, **splits: list[tuple[str, str]]) -> str:
    """Split files of the given texts and labels."""
    folder.mkdir(exist_ok=True)
    for split, rows in splits.items():
        lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return str(folder)


def notices(run: Run, about: str) -> list[str]:
    return [notice for notice in run.document.notices if about in notice]


@pytest.mark.parametrize("budget", [LAYERS, 7, LAYERS * HEADS])
def test_every_budget_is_met_exactly_and_empties_no_layer(settings: Settings, store: Store, budget: int) -> None:
    run = prune(replace(settings, budget=str(budget)), store=store)
    assert run.mask.count == budget
    assert run.mask.empty_layers == ()
    assert run.document.budget == Budget(requested=budget, attained=budget)
    assert RunDocument.from_json(json.loads(json_text(run.document.to_json()))) == run.document
    kept = [len(heads) for heads in run.document.kept.values()]
    assert sum(kept) == budget
    assert run.arrays["labels"].shape == (LAYERS * HEADS,)


@pytest.mark.parametrize(("budget", "heads"), [("6", 2), ("54%", 2), ("auto", None)])
def test_an_even_run_keeps_as_many_in_a_layer(settings: Settings, store: Store, budget: str, heads: int | None) -> None:
    run = prune(replace(settings, budget=budget, even=True), store=store)
    free = prune(replace(settings, budget="auto"), store=store).mask.count
    counts = {len(kept) for kept in run.document.kept.values()}
    # Where the curve decides, its number of heads is rounded to a multiple of the layers.
    assert counts == {heads or int(free / LAYERS + 0.5)}
    assert run.document.budget.requested == (None if budget == "auto" else 6)
    # Its price is the difference of two divergences on the same texts.
    price = run.document.evenness
    assert price.even == run.document.outcomes["pruned"]["kl"]
    assert price.difference.value == pytest.approx(price.even.value - price.free.value)
    assert price.difference.n == 40
    assert price.difference.low <= price.difference.value <= price.difference.high
    assert RunDocument.from_json(json.loads(json_text(run.document.to_json()))).evenness == price
    assert prune(replace(settings, budget="6"), store=store).document.evenness is None


def test_without_a_budget_the_curve_decides_and_rescued_heads_come_on_top(settings: Settings, store: Store) -> None:
    document = prune(replace(settings, budget="auto"), store=store).document
    assert document.clusters == document.knee
    assert document.knee_rule.startswith(("polynomial-", "chord"))
    assert document.budget.attained == (document.knee or 0) + len(document.rescued)
    # Where the curve decides, the run says where it would stop on unstructured data, also when it is found again.
    assert document.knee_null is not None
    assert document.knee_null.draws == 20
    assert document.knee_null.low <= document.knee_null.high
    assert prune(replace(settings, budget="auto"), store=store).document.knee_null == document.knee_null
    assert prune(settings, store=store).document.knee_null is None


@pytest.mark.parametrize(("budget", "floor"), [("2", 1), ("13", 1), ("1%", 1), ("5", 2), ("many", 1), ("", 1)])
def test_an_impossible_budget_is_refused_unread(settings: Settings, tmp_path: Path, budget: str, floor: int) -> None:
    seen = Mock()
    with pytest.raises(BudgetError):
        prune(replace(settings, budget=budget, min_per_layer=floor), store=Store(tmp_path), progress=seen)
    seen.assert_not_called()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        # Before its data are looked for.
        ({"model": "minilm", "data": "nothing"}, "cahp fit --model minilm"),
        ({"data": None}, "--data"),
        # The split that chooses is never the one that evaluates.
        *(({"select_split": "validation"}, "same split"), ({"eval_split": "train"}, "same split")),
        *(({"select_split": "test"}, "--report test"), ({"eval_split": "test"}, "--report test")),
    ],
)
def test_what_cannot_serve_is_refused(settings: Settings, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelError if "model" in changes else OptionError, match=named):
        open_bench(replace(settings, **changes))


def test_one_class_tells_no_heads_apart(settings: Settings, tmp_path: Path) -> None:
    good = [(f"{word} film", "good") for word in fakes.WORDS]
    one = write(tmp_path / "one", train=good, validation=[("bad film", "bad")])
    with pytest.raises(DataError, match="every text of train is 'good'"):
        open_bench(replace(settings, data=one))
    late = write(tmp_path / "late", train=[*good, ("bad film", "bad")], validation=good)
    with pytest.raises(DataError, match="--sample stratified"):
        open_bench(replace(settings, data=late, sample="head", limit=10))
    assert open_bench(replace(settings, data=late, limit=10)).calibration.class_counts.tolist() == [1, 9]


@pytest.fixture(scope="module")
def oracle(settings: Settings) -> list[tuple[str, str]]:
    """Texts with the labels that the tiny model gives them, as many of each class."""
    texts = fakes.sentences(400, seed=9)
    answers = evaluate(models.load(settings.model, device="cpu"), texts).predictions
    by_class = [[text for text, said in zip(texts.first, answers, strict=True) if said == label] for label in (0, 1)]
    count = min(map(len, by_class))
    assert count >= 60
    return [pair for bad, good in zip(*by_class, strict=False) for pair in ((bad, "bad"), (good, "good"))]


@pytest.mark.parametrize("names", [("bad", "good"), ("0", "1"), ('a "quoted", name', "it's")], ids=str)
def test_wrong_labels(
    settings: Settings, oracle: list[tuple[str, str]], tmp_path: Path, names: tuple[str, str]
) -> None:
    swapped = {"bad": names[1], "good": names[0]}
    rows = [(text, swapped[label]) for text, label in oracle]
    wrong = replace(
        settings,
        data=write(tmp_path / "data", train=rows[:60], validation=rows[60:]),
        label_map={} if "it's" not in names else dict(zip(names, ("bad", "good"), strict=True)),
    )
    run = prune(wrong, store=Store(tmp_path / "store"))
    assert run.document.outcomes["full"]["accuracy"].value == 0.0
    (said,) = notices(run, "permuted")
    option = shlex.split(re.sub(".*--label-map ", "", said))
    mended = prune(replace(wrong, label_map=describe()["label_map"].parse(*option)), store=Store(tmp_path / "store"))
    assert mended.document.outcomes["full"]["accuracy"].value == 1.0
    assert notices(mended, "permuted") == []


def test_the_option_maps_labels_of_the_data_to_classes() -> None:
    labels = [0, 1, 2] * 20
    full = documents.answers([[2, 0, 1][one] for one in labels], labels, classes="abc")
    (said,) = labelling(full, {name: name for name in "abc"})
    assert said.endswith("--label-map a=c,b=a,c=b")


def test_looks_at_the_test_split_count(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, seen, real = Store(tmp_path), set(), Measurements.evaluate

    def evaluate(self: Measurements, texts: Texts, **options: Any) -> Any:
        seen.add(texts.sha256)
        return real(self, texts, **options)

    monkeypatch.setattr(Measurements, "evaluate", evaluate)
    bench = open_bench(settings, store=store)
    held_back = bench.dataset.split("test").sha256
    assert prune(settings, store=store).document.test_opened == 0
    assert held_back not in seen
    first = prune(replace(settings, report="test"), store=store).document
    assert first.test_opened == 1
    assert first.report.split == "test"
    assert (first.report.examples, first.report.sha256) == (40, held_back)
    assert first.report.outcomes["full"]["accuracy"].n == 40
    assert held_back in seen
    # What is stopped while it reads them has opened them.
    with monkeypatch.context() as patched:
        patched.setattr(Measurements, "outcomes", Mock(side_effect=Cancelled))
        with pytest.raises(Cancelled):
            prune(replace(settings, report="test", budget="7"), store=store)
    assert resources.TestSplitLog(bench.card, bench.dataset, store).count == 2
    # The same figures again are no new opening; other heads judged by the same texts are.
    assert prune(replace(settings, report="test"), store=store).document.test_opened == 2
    assert prune(replace(settings, report="test", budget="6"), store=store).document.test_opened == 3
    assert prune(replace(settings, report="test"), store=Store(tmp_path, fresh=True)).document.test_opened == 4
    # And what was found before the first look knows of it now.
    assert prune(settings, store=store).document.test_opened == 4


def test_a_busy_machine_is_timed_again(settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = replace(settings, latency=True, latency_time="0.1s")
    monkeypatch.setattr(cards, "NOISY", 0.0)
    first = prune(asked, store=store).document
    assert any("the machine was busy" in notice for notice in first.notices)
    # Now the machine is idle, and the first times are known to be noisy.
    noisy = first.cost.full.latency_ms, first.cost.pruned.latency_ms
    monkeypatch.setattr(Timing, "noisy", property(lambda timing: timing in noisy))
    again = prune(asked, store=store).document
    assert again.outcomes == first.outcomes
    assert again.cost.pruned.latency_ms != first.cost.pruned.latency_ms
    assert not any("the machine was busy" in notice for notice in again.notices)
    assert "evaluation" in again.cached
    assert "latency" not in again.cached


def test_a_change_repeats_only_what_it_touches(settings: Settings, store: Store) -> None:
    prune(settings, store=store)

    def found(**changes: Any) -> set[str]:
        return set(prune(replace(settings, **changes), store=store).document.cached)

    everything = {"signatures", "space", "clustering", "salience", "evaluation"}
    assert found() == everything
    assert found(poly_degree=3) == everything
    assert found(budget="4") >= everything - {"evaluation"}
    assert found(salience="example") >= everything - {"evaluation"}
    assert found(seed=7) == {"signatures", "salience", "evaluation"}
    assert found(projection="none") >= {"signatures", "salience"}
    assert found(pool_size=6) >= {"salience"}
    assert "signatures" not in found(pool_size=5)
    assert "salience" not in found(limit=90)


def test_what_was_only_asked_for_is_no_cached_stage(settings: Settings, tmp_path: Path) -> None:
    store = Store(tmp_path)
    bench = open_bench(settings, store=store)
    assert stored_roles(bench.resources) is None
    measure_run(bench)
    again = measure_run(open_bench(settings, store=store)).document
    assert set(again.cached) == {"signatures", "space", "clustering", "salience", "evaluation"}


def test_a_run_without_times_is_found_anyway(settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = prune(settings, store=store)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert read_run(open_bench(settings, store=store)) is not None
    assert read_run(open_bench(replace(settings, latency=True), store=store)) is None
    assert run.document.latency_ratio is None


def test_a_run_is_another_when_its_distillation_texts_are(settings: Settings, store: Store, tmp_path: Path) -> None:
    data = tmp_path / "reviews"
    shutil.copytree(settings.data or "", data)
    asked = replace(settings, data=str(data), limit=40, recover="distill")
    bench = open_bench(asked, store=store)
    calibration, read = set(bench.calibration.inputs), set(bench.recoveries.inputs)
    first = prune(asked, store=store).document
    train = data / "train.jsonl"
    rows = [json.loads(line) for line in train.read_text().splitlines()]
    for place, row in enumerate(rows):
        # The heads are chosen on the same texts.
        if row["text"] in read - calibration:
            row["text"] = f"cold film never dull story number {place}"
    train.write_text("".join(json.dumps(row) + "\n" for row in rows))
    again = prune(asked, store=store).document
    assert (again.kept, again.outcomes["pruned"]) == (first.kept, first.outcomes["pruned"])
    assert again.distill != first.distill


@pytest.mark.parametrize("stage", ["salience", "signatures", "features", "clustering", "evaluation"])
def test_a_cancelled_run_ends_as_if_nothing_was(settings: Settings, store: Store, tmp_path: Path, stage: str) -> None:
    with pytest.raises(Cancelled):
        prune(settings, store=Store(tmp_path), progress=fakes.stop_at(stage))
    again = prune(settings, store=Store(tmp_path))
    expected = prune(settings, store=store)
    assert again.mask.sha256 == expected.mask.sha256
    assert again.document.outcomes == expected.document.outcomes
