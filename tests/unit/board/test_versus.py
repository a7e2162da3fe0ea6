import itertools
from dataclasses import replace
from pathlib import Path

import fakes
import numpy as np
import pytest
from colours import contrast_ratio, linear
from documents import answers

from cahp.api.bundled import read_run
from cahp.board.colourings import CLUSTER_COLOURS, NEUTRAL, Coloured, contrast, encode, mark_clusters
from cahp.board.versus import Variant, Versus, compare_variants, mismatch
from cahp.figures.marks import COMMUNITY_COLOURS, blend, ink
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
    # Why models cannot be compared is said.
    here = card(3, 4, "bad", "good")
    assert mismatch(here, card(3, 4, "Good", "bad")) == ""
    assert mismatch(card(6, 4, "bad", "good"), here) == "A's model has 6 layers of 4 heads, and B's 3 of 4"
    assert mismatch(here, card(3, 8, "bad", "good")) == "A's model has 3 layers of 4 heads, and B's 3 of 8"
    assert mismatch(here, card(3, 4, "bad", "fair", "good")).endswith("do not predict the same classes or tokens")


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


def test_two_masks_are_compared_token_by_token(window_bench: Bench) -> None:
    found = compare_variants((window_bench, Variant(A)), (window_bench, Variant(B)))
    a, b = (window_bench.measurements.evaluate(window_bench.evaluation, mask=mask).predictions for mask in (A, B))
    assert found.counts == (int((a != b).sum()), 160)
    assert found.change is None
    table = found.table(window_bench.evaluation, "A", "B")
    assert sum(int(count.split()[0]) for count in table["tokens that differ"]) == found.counts[0]


def test_colourings_are_offered_or_left_out() -> None:
    assert encode([Coloured("roles", "roles", None)]) == []
    offered = encode([Coloured("roles", "roles", None, "next")])
    assert offered == [{"name": "roles", "label": "roles", "waits": "next"}]


#: What is left of linear red, green and blue for people without one kind of cone (Machado, Oliveira, Fernandes 2009).
BLINDNESS = {
    "none": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(colour: str, blindness: str) -> np.ndarray:
    seen = np.clip(np.asarray(BLINDNESS[blindness]) @ linear(colour), 0, 1)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    scaled = np.asarray(to_xyz) @ seen / [0.95047, 1, 1.08883]
    f = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("blindness", BLINDNESS)
@pytest.mark.parametrize("colours", [CLUSTER_COLOURS, COMMUNITY_COLOURS], ids=["clusters", "communities"])
def test_every_two_colours_stay_apart_for_the_colour_blind(colours: tuple[str, ...], blindness: str) -> None:
    seen = [lab(colour, blindness) for colour in colours]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 12


def test_the_eight_largest_families_get_hues_the_next_eight_stripes_and_the_rest_is_neutral() -> None:
    # Cluster 0 has one head, cluster 1 two, ...
    labels = np.repeat(np.arange(19), np.arange(1, 20))
    marks = mark_clusters(labels)
    of_cluster = {
        int(label): (colour, bool(line))
        for label, colour, line in zip(labels, marks.colours, marks.striped, strict=True)
    }
    assert [of_cluster[label] for label in range(3)] == [(NEUTRAL, False)] * 3
    assert of_cluster[18] == (CLUSTER_COLOURS[0], False)
    assert [label for label, (_, line) in of_cluster.items() if line] == list(range(3, 11))
    # No two of sixteen clusters look alike.
    assert len({of_cluster[label] for label in range(3, 19)}) == 16


@pytest.mark.parametrize("name", ["minilm-bbc", "smollm2"])
def test_no_head_changes_its_colour_with_the_budget_and_none_is_grey(name: str) -> None:
    bundle = read_run(name)
    clusters = bundle.evidence()
    drawn = [mark_clusters(clusters.groups(k)[0], clusters.families) for k in clusters.clustering.ks.tolist()]
    assert all(marks.colours == drawn[0].colours for marks in drawn)
    assert NEUTRAL not in drawn[0].colours
    # At the suggested budget a letter is a colour: families are its clusters.
    knee = clusters.clustering.knee
    at_knee = mark_clusters(clusters.groups(knee)[0], clusters.families)
    looks = set(zip(at_knee.names, at_knee.colours, at_knee.striped.tolist(), strict=True))
    assert len(looks) == len(set(at_knee.names)) == knee


@pytest.mark.parametrize("dark", [False, True])
def test_letters_are_readable_on_kept_and_on_pruned_heads(dark: bool) -> None:
    for colour in CLUSTER_COLOURS:
        for fill in (colour, blend(colour, ink(dark=dark).ground, 0.2)):
            assert contrast_ratio(fill, contrast(fill)) >= 4.5, (colour, fill, dark)
