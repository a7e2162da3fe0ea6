"""Studies of language models on windows of tokens: the table of budgets, stability, two masks, and the premise."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import fakes
import numpy as np
import pytest

import cahp
from cahp.board.budget_sweep import BudgetTable, count_tokens, evaluate_mask, fill, measure_part
from cahp.board.head_clusters import HeadClusters
from cahp.board.versus import Variant, mismatch, versus
from cahp.features.learn import answers, lessons
from cahp.features.premise import measuring as premise
from cahp.features.stability import measuring as stability
from cahp.run.bench import Bench, open_bench
from cahp.run.prune import choose
from cahp.store import Store
from cahp.values import DataError, HeadMask

pytestmark = pytest.mark.usefixtures("one_thread")

A, B = HeadMask.of([0, 1, 5, 9, 11], 3, 4), HeadMask.of([0, 4, 9], 3, 4)


@pytest.fixture(scope="module")
def bench(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("lm")
    (folder / "texts.txt").write_text("\n\n".join(fakes.sentences(300).first))
    model = fakes.teach(fakes.save_language_model(folder / "model", family="llama"))
    windows = {"window": 16, "tokens": 640, "eval_tokens": 160}
    settings = fakes.quick(model, folder / "texts.txt", **windows, budget="6")
    return open_bench(settings, store=Store(folder / "store"))


def test_rows_of_the_table_are_those_of_plain_evaluations(bench: Bench, tmp_path: Path) -> None:
    clusters = HeadClusters.of(bench.evidence)
    table = BudgetTable(clusters.selections(bench.settings), timed=False)
    for _ in fill(table, bench):
        pass
    # Rows without a recovery share their first layers; each refit reads the calibration windows.
    refits = BudgetTable(table.selections, recover="refit", timed=False)
    assert count_tokens(table, bench) < (len(table.budgets) - 1) * sum(len(one.ids) for one in bench.evaluation.windows)
    assert count_tokens(refits, bench) > 2 * count_tokens(table, bench)
    plain = open_bench(bench.settings, store=Store(tmp_path))
    for row in table.rows():
        assert row.outcomes is not None
        assert {"kl", "agreement", "perplexity"} <= row.values.keys()
        expected = evaluate_mask(plain, table.selection(row.budget).mask)
        for name, estimate in expected.items():
            assert row.outcomes[name].value == pytest.approx(estimate.value, abs=1e-6)


def test_the_cost_of_a_table_is_said_first(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    run = cahp.prune(bench.settings, sweep=True, store=bench.resources.store, progress=True)
    assert run.table is not None
    assert run.table.missing() is None
    shown = capsys.readouterr()
    assert f"table of {len(run.table.budgets)} budgets: about" in shown.out + shown.err


def test_a_part_of_the_windows_estimates_the_perplexity_of_all(bench: Bench) -> None:
    answers_of_b, rows = bench.measurements.evaluate(bench.evaluation, mask=B), np.array([0, 3, 4])
    part = measure_part(bench, rows, answers_of_b.take(rows))
    change = answers_of_b.take(rows).losses.mean() - bench.full.take(rows).losses.mean()
    assert part["perplexity"].value == pytest.approx(math.exp(bench.full.losses.mean() + change))
    # Repeated random tokens tell nothing about the text.
    copies = np.array([row for row, window in enumerate(bench.evaluation.windows) if window.copying])
    assert measure_part(bench, copies, answers_of_b.take(copies)) == {}


@pytest.mark.parametrize("axis", ["seed", "sample", "degree"])
def test_a_selection_is_repeated_and_each_choice_measured(bench: Bench, axis: stability.Axis) -> None:
    result = stability.stability(bench, axis=axis, resamples=3, budget=6)
    assert len(result.found) >= 1
    outcomes = stability.measure_choices(bench, result)
    assert all(one["kl"].value >= 0 and "accuracy" not in one for one in outcomes)
    assert bench.evidence.null_curves is not None


def test_windows_of_one_document_are_in_one_part(bench: Bench) -> None:
    documents = np.array([np.bincount(window.units).argmax() for window in bench.calibration.windows])
    parts = stability.shards_of(bench.calibration, 5, seed=1)
    assert all(len(np.unique(parts[documents == one])) == 1 for one in documents)
    assert len(np.unique(parts)) == 5


def test_two_masks_are_compared_token_by_token(bench: Bench) -> None:
    found = versus((bench, Variant(A)), (bench, Variant(B)))
    assert found is not None
    a, b = (bench.measurements.evaluate(bench.evaluation, mask=mask).predictions for mask in (A, B))
    assert found.counts == (int((a != b).sum()), 160)
    assert found.noun == "tokens"
    assert found.agreement.value == pytest.approx((a == b).mean())
    assert found.agreement.n == len(np.unique(found.a.units))
    assert found.change is None
    table = found.table(bench.evaluation, "A", "B")
    assert sum(int(count.split()[0]) for count in table["tokens that differ"]) == found.counts[0]
    # Those in which B differs most from the full model come first.
    assert sorted(bench.evaluation.inputs[row] for row in found.apart) == sorted(table["text"])
    assert table["KL, B"] == sorted(table["KL, B"], key=float, reverse=True)


def test_models_that_read_other_tokens_are_not_compared(bench: Bench) -> None:
    other = open_bench(replace(bench.settings, window=8), store=bench.resources.store)
    assert mismatch(other.card, bench.card) == ""
    with pytest.raises(DataError, match="different tokens"):
        versus((other, Variant(A)), (bench, Variant(B)))


def test_the_premise_is_tested_over_documents(bench: Bench) -> None:
    document = premise.measure(bench)
    tested = premise.tested_texts(bench)
    units = np.unique(np.concatenate([window.units for window in tested.windows]))
    assert (document["texts"], document["unit"]) == (len(units), "documents")
    assert not any(window.copying for window in tested.windows)
    labels, _ = bench.evidence.clustering.at(choose(bench).k or 6)
    first, second = premise.draw_pairs(labels, None, 42)
    (alone,) = premise.removal_divergences(bench, [(None, np.arange(12))])
    keep = np.ones((3, 4), dtype=np.bool_)
    keep.flat[first[0]] = False
    single = bench.measurements.evaluate(tested, mask=HeadMask(keep))
    assert alone[first[0]].mean() == pytest.approx(single.divergences(single).mean(), abs=1e-6)
    keep.flat[second[0]] = False
    both = bench.measurements.evaluate(tested, mask=HeadMask(keep))
    (pair,) = premise.removal_divergences(bench, [(int(first[0]), second[:1])])
    assert pair.mean() == pytest.approx(both.divergences(both).mean(), abs=1e-6)
    lines = "\n".join(premise.describe(document))
    assert f"n = {len(units)} documents" in lines
    assert "nats per token" in lines


def test_the_lessons_measure_some_windows_and_all_repeated_tokens(bench: Bench) -> None:
    subject = lessons.subject_of(bench, HeadClusters.of(bench.evidence), choose(bench))
    assert [one.copying for one in subject.sample.windows].count(False) == lessons.WINDOWS
    assert subject.sample.windows[-1].copying
    full, pruned = (bench.measurements.evaluate(subject.sample, mask=mask) for mask in (None, subject.mask))
    before = (pruned.predictions == full.predictions).mean()
    found = answers.measure("refit", subject)
    assert found.value == pytest.approx(100 * (found.bars["after refit"].value - before))
    assert found.bars["before refit"].value == pytest.approx(before)
    assert "Loss on repeated random tokens" in found.found
