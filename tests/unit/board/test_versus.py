from dataclasses import replace
from pathlib import Path

import fakes
import numpy as np
import pytest
from documents import answers

from cahp.board.versus import Variant, Versus, compare_variants, mismatch
from cahp.models.cards import ModelCard
from cahp.run.bench import Bench, open_bench
from cahp.run.settings import Settings
from cahp.tasks.texts import Texts
from cahp.values import DataError, Estimate, HeadMask

pytestmark = pytest.mark.usefixtures("one_thread")

FULL, A, B = HeadMask.full(3, 4), HeadMask.of([0, 5, 9, 11], 3, 4), HeadMask.of([0, 4, 9], 3, 4)


def test_texts_that_differ_are_counted_by_who_is_right() -> None:
    labels = [0, 1, 1, 0]
    found = Versus(answers([0, 1, 0, 1], labels), answers([1, 1, 1, 1], labels), Estimate(0.0, (0.0, 0.0), 4, "points"))
    assert found.counts == (2, 4)
    assert found.right_alone == (1, 1)
    names, given = found.a.classes, found.a.labels
    texts = Texts(("one", "two", "three", "four"), None, given, names)
    assert found.table(texts, "A says", "B says") == {
        "text": ["one", "three"],
        "label": [names[0], names[1]],
        "A says": [names[0], names[0]],
        "B says": [names[1], names[1]],
    }
    assert found.table(texts, "A", "B", classes=("low", "high"))["label"] == ["low", "high"]
    unlabelled = Texts(texts.first, None, np.full(4, -1), names)
    assert list(found.table(unlabelled, "A says", "B says")) == ["text", "A says", "B says"]


def test_two_models_answer_the_same_texts_and_are_compared_in_pairs(small_bench: Bench, tmp_path: Path) -> None:
    settings = replace(small_bench.settings, model=str(fakes.save_model(tmp_path / "other", "roberta")))
    other = open_bench(settings, store=small_bench.resources.store)
    found = compare_variants((other, Variant(B)), (small_bench, Variant(A)))
    texts = small_bench.evaluation
    ours = other.measurements.evaluate_model(other.model, texts, mask=B).correct.astype(float)
    theirs = small_bench.measurements.evaluate_model(small_bench.model, texts, mask=A).correct.astype(float)
    assert found.counts[0]
    assert found.change.value == pytest.approx(100 * (theirs - ours).mean())
    # Whole texts are drawn, each with both answers.
    rows = np.random.default_rng(0).integers(0, len(texts), (4000, len(texts)))
    low, high = np.percentile(100 * (theirs - ours)[rows].mean(axis=1), [2.5, 97.5])
    assert found.change.ci95 == pytest.approx((low, high), abs=100 / len(texts))
    assert found.right_alone == (int(((ours == 1) & (theirs == 0)).sum()), int(((theirs == 1) & (ours == 0)).sum()))


@pytest.mark.parametrize(
    ("labels", "label_map"),
    [
        # The same weights, their two classes called the other way round.
        (("good", "bad"), {}),
        (("Good", "BAD "), {}),
        # Names that say nothing: how the data were read does.
        (("LABEL_0", "LABEL_1"), {"bad": "LABEL_1", "good": "LABEL_0"}),
    ],
    ids=str,
)
def test_answers_of_a_are_expressed_in_the_classes_of_b(
    small_bench: Bench, tmp_path: Path, labels: tuple[str, ...], label_map: dict[str, str]
) -> None:
    theirs = ("LABEL_0", "LABEL_1") if label_map else ("bad", "good")
    b_map = {"bad": "LABEL_0", "good": "LABEL_1"} if label_map else {}
    benches = [
        open_bench(
            replace(small_bench.settings, model=str(fakes.save_model(tmp_path / name, labels=names)), label_map=said),
            store=small_bench.resources.store,
        )
        for name, names, said in (("a", labels, label_map), ("b", theirs, b_map))
    ]
    found = compare_variants(*((bench, Variant(A)) for bench in benches))
    assert found.a.classes == found.b.classes == theirs
    assert np.array_equal(found.a.predictions, 1 - found.b.predictions)
    assert np.array_equal(found.a.labels, found.b.labels)
    assert found.change.value == pytest.approx(100 * (found.b.correct.mean() - (1 - found.b.correct).mean()))


def test_models_that_group_the_labels_of_the_data_differently_are_not_compared(tmp_path: Path) -> None:
    data = str(fakes.write_data(tmp_path / "data", train=30, validation=9, test=9, classes=3))
    settings = Settings(data=data, device="cpu", latency=False, model=str(fakes.save_model(tmp_path / "model")))
    a, b = ((open_bench(replace(settings, label_map={"fine": goal})), Variant(A)) for goal in ("good", "bad"))
    with pytest.raises(DataError, match="into different classes"):
        compare_variants(a, b)


def card(layers: int, heads: int, *labels: str) -> ModelCard:
    return ModelCard("m", None, "bert", layers, heads, 8, 32, labels, "", "")


def test_why_models_cannot_be_compared_is_said() -> None:
    here = card(3, 4, "bad", "good")
    assert mismatch(here, card(3, 4, "Good", "bad")) == ""
    assert mismatch(card(6, 4, "bad", "good"), here) == "A's model has 6 layers of 4 heads, and B's 3 of 4"
    assert mismatch(here, card(3, 8, "bad", "good")) == "A's model has 3 layers of 4 heads, and B's 3 of 8"
    assert mismatch(here, card(3, 4, "bad", "fair", "good")).endswith("do not predict the same classes or tokens")


def test_two_masks_are_compared_token_by_token(window_bench: Bench) -> None:
    found = compare_variants((window_bench, Variant(A)), (window_bench, Variant(B)))
    a, b = (window_bench.measurements.evaluate(window_bench.evaluation, mask=mask).predictions for mask in (A, B))
    assert found.counts == (int((a != b).sum()), 160)
    assert found.change is None
    table = found.table(window_bench.evaluation, "A", "B")
    assert sum(int(count.split()[0]) for count in table["tokens that differ"]) == found.counts[0]
