"""The test of the premise: interactions, permutations and predicted outputs, against answers known beforehand."""

import json
from pathlib import Path

import _premise_pairs
import fakes
import numpy as np
import pytest
import torch
from _premise_control import add_pairs, choose_halves, divide_heads, label_halves
from _premise_heads import PREDICTORS, collect_contexts, measure_heads
from _premise_pairs import (
    compare_pairs,
    count_compared,
    draw_pairs,
    removal_divergences,
    stratify,
    stratify_pairs,
    weigh_means,
)
from _premise_words import MEASURES, describe_control, nats_of_one_head
from premise import conclude_difference, describe, explained_shares, measure
from scipy.stats import spearmanr
from transformers import AutoModelForSequenceClassification

from cahp.run.bench import Bench, open_bench
from cahp.store import Store
from cahp.values import HeadMask, OptionError
from cahp.words import number

pytestmark = pytest.mark.usefixtures("one_thread")


#: Flat indices of two heads that are copies.
COPIES = (4, 5)
#: Sixteen heads in four clusters, and all their pairs.
LABELS = np.repeat(np.arange(4), 4)
FIRST, SECOND = np.triu_indices(16, 1)
WITHIN = LABELS[FIRST] == LABELS[SECOND]
#: All of them in one stratum.
ALIKE = np.zeros(16, dtype=int)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Three layers of four heads; in the second layer head 1 is a copy of head 0."""
    folder = tmp_path_factory.mktemp("copies")
    network = AutoModelForSequenceClassification.from_pretrained(fakes.save_model(folder / "model"))
    attention = network.bert.encoder.layer[1].attention
    with torch.no_grad():
        for part in (attention.self.query, attention.self.key, attention.self.value):
            part.weight[8:16] = part.weight[:8]
            part.bias[8:16] = part.bias[:8]
        attention.output.dense.weight[:, 8:16] = attention.output.dense.weight[:, :8]
    network.save_pretrained(folder / "model")
    data = fakes.write_data(folder / "data")
    settings = fakes.quick(folder / "model", data, limit=60, eval_limit=40, budget="6")
    return open_bench(settings, store=Store(folder / "store"))


def without(*heads: int) -> HeadMask:
    return HeadMask(~HeadMask.of(heads, 3, 4).keep)


def test_pairs_are_removed_as_by_their_masks(bench: Bench) -> None:
    alone, together = removal_divergences(bench, [(None, np.arange(12)), (2, np.array([3, 5, 11]))])
    assert (alone.shape, together.shape) == ((12, 40), (3, 40))
    for removed, table in (((0,), alone[0]), ((7,), alone[7]), ((2, 3), together[0]), ((2, 11), together[2])):
        expected = bench.measurements.evaluate(bench.evaluation, mask=without(*removed)).divergences(bench.full)
        assert table == pytest.approx(expected, abs=1e-5)


def test_every_measure_but_the_norm_calls_copies_redundant(bench: Bench) -> None:
    others = (0, 9)
    first, second = np.array([COPIES[0], others[0]]), np.array([COPIES[1], others[1]])
    measured = measure_heads(bench, bench.evaluation, collect_contexts(bench)[0], first, second)
    assert list(measured) == list(MEASURES)
    for name in ("distance", "attention", "maps", "outputs"):
        alone, pairs = measured[name]
        assert (alone.shape, pairs.shape) == ((12,), (2,))
        assert pairs[0] == pytest.approx(0, abs=1e-3)
        assert pairs[1] > 0.01
        assert alone[COPIES[0]] == pytest.approx(0, abs=1e-3)
    alone, pairs = measured["replaceability"]
    # The ridge keeps the copy from reproducing all.
    assert alone[list(COPIES)].max() < alone[list(others)].min()
    # Without both, nothing but the other two heads of the layer replaces them.
    assert pairs[0] > 1.5 * alone[list(COPIES)].mean()
    norms, sums = measured["norm"]
    assert norms.reshape(3, 4).mean(axis=1) == pytest.approx(1)
    assert sums[0] == pytest.approx(2 * norms[COPIES[0]])


@pytest.mark.parametrize(("inside", "verdict"), [(0.5, "redundant"), (-0.5, "less redundant")])
def test_a_difference_between_the_means_is_significant(inside: float, verdict: str) -> None:
    values = np.where(WITHIN, inside, 0.1)[:, None] + np.zeros(8)
    result = compare_pairs(values, FIRST, SECOND, LABELS, ALIKE)
    assert [result[part]["n"] for part in ("within", "between", "difference")] == [24, 96, 120]
    assert result["difference"]["value"] == pytest.approx(inside - 0.1)
    assert result["within"]["ci95"] == pytest.approx((inside, inside))
    # One of 2.6 million partitions of the heads is as extreme.
    assert result["difference"]["p"] == 1 / 10_001
    assert conclude_difference(result["difference"]) == verdict


def test_heads_that_differ_in_cost_alone_are_rarely_significant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_premise_pairs, "_PERMUTATIONS", 99)
    monkeypatch.setattr(_premise_pairs, "_RESAMPLES", 10)
    random, ps = np.random.default_rng(0), []
    for draw in range(100):
        cost = random.exponential(size=16)
        values = (cost[FIRST] * cost[SECOND])[:, None] + 0.1 * random.normal(size=(len(FIRST), 4))
        ps.append(compare_pairs(values, FIRST, SECOND, LABELS, ALIKE, seed=draw)["difference"]["p"])
    assert 0.05 < np.mean(np.array(ps) <= 0.2) < 0.35
    assert min(ps) >= 0.01


@pytest.mark.parametrize(("value", "shown"), [(0.0123456, "0.0123"), (0.0000123, "0.000012")])
def test_the_cost_of_a_head_is_not_rounded_away(value: float, shown: str) -> None:
    assert nats_of_one_head({"alone": {"value": value}}) == shown


def test_pairs_are_drawn_half_within_clusters_half_between() -> None:
    def kinds(count: int | None) -> tuple[int, int]:
        first, second = draw_pairs(LABELS, ALIKE, count, 42)
        assert len({*zip(first.tolist(), second.tolist(), strict=True)}) == len(first)
        same = LABELS[first] == LABELS[second]
        return int(same.sum()), int((~same).sum())

    assert kinds(None) == (24, 24)
    assert kinds(10) == (5, 5)
    # Only 24 pairs are within clusters, and there are 120 in all.
    assert kinds(100) == (24, 76)
    assert kinds(1000) == (24, 96)
    assert np.array_equal(draw_pairs(LABELS, ALIKE, 10, 1), draw_pairs(LABELS, ALIKE, 10, 1))
    assert not np.array_equal(draw_pairs(LABELS, ALIKE, 10, 1), draw_pairs(LABELS, ALIKE, 10, 2))
    # Pairs between clusters come from the strata of those within.
    labels = np.tile(np.repeat(np.arange(3), 4), 2)
    strata = np.repeat([0, 1], 12)
    labels[12:] += 3 * (np.arange(12) > 7)
    first, second = draw_pairs(labels, strata, 40, 3)
    of_pair = stratify_pairs(strata, first, second)
    within = labels[first] == labels[second]
    assert len(first) == 40
    assert within.sum() == 20
    for stratum in np.unique(of_pair):
        inside = of_pair == stratum
        assert abs((within & inside).sum() - (~within & inside).sum()) <= 1


def test_outputs_are_explained_on_tokens_that_were_not_learned() -> None:
    random = np.random.default_rng(0)
    one, other = random.normal(size=(2, 4000, 3))
    mixed = one @ random.normal(size=(3, 3)) + 7
    r2 = explained_shares(np.stack([one, other, mixed, one + other]), np.arange(4000) % 2 == 0)
    assert np.diag(r2) == pytest.approx(1)
    assert r2[2, 0] == r2[0, 2] == pytest.approx(1)
    assert r2[0, 1] == pytest.approx(0, abs=0.01)
    # Half of the variance of a sum is that of each part.
    assert r2[3, 0] == pytest.approx(0.5, abs=0.03)


@pytest.mark.usefixtures("few_draws")
def test_measures_are_compared_with_the_cost_after_the_refit(bench: Bench) -> None:
    document = measure(bench, pairs=12, refit=True)
    heads = document["values"]["heads"]
    refitted = document["refitted"]
    assert set(refitted) == {*PREDICTORS, "difference"}
    for name in PREDICTORS:
        expected = spearmanr(heads[name], heads["kl_refitted"]).statistic
        assert refitted[name]["value"] == pytest.approx(expected)
    difference = refitted["replaceability"]["value"] - refitted["mean"]["value"]
    assert refitted["difference"]["value"] == pytest.approx(difference)
    # A refit without one head is nearer to the full model than the pruned one, on average.
    assert np.mean(heads["kl_refitted"]) < np.mean(heads["kl"])
    assert "Replaceability predicts the cost of removing a head after the refit" in "\n".join(describe(document))


def test_heads_of_a_layer_are_divided_by_cost() -> None:
    costs = np.tile(np.arange(12.0), 2)
    assert stratify(costs, 12).tolist() == [*[0] * 6, *[1] * 6, *[2] * 6, *[3] * 6]
    # Layers of three heads make blocks of four layers, and the last takes those that are left.
    strata = stratify(np.arange(30.0), 3)
    assert np.unique(strata[:12]).tolist() == [0, 1]
    assert np.unique(strata[12:]).tolist() == [2, 3]
    assert np.bincount(strata).tolist() == [6, 6, 9, 9]


def test_means_are_compared_within_strata() -> None:
    # In stratum 0 the difference is 1, in stratum 1 it is 3; two of three pairs within clusters are in stratum 0.
    values = np.array([2.0, 2.0, 1.0, 13.0, 10.0, 50.0])
    within = np.array([True, True, False, True, False, True])
    of_pair = np.array([0, 0, 0, 1, 1, 2])
    mean, other, difference = weigh_means(values, within, np.ones(6), of_pair)
    assert (mean, other) == pytest.approx(((2 + 2 + 13) / 3, (1 + 1 + 10) / 3))
    assert difference == pytest.approx((1 + 1 + 3) / 3)
    # The pair of stratum 2 has no partner.
    assert count_compared(within, of_pair) == {"within": 3, "between": 2, "difference": 5}


def test_the_most_salient_head_of_a_layer_takes_the_place_of_the_least_salient() -> None:
    halves = choose_halves(np.array([[0.1, 0.9, 0.5], [0.8, 0.7, 0.2]]))
    assert (halves.first.tolist(), halves.second.tolist()) == ([1, 3], [0, 5])
    assert halves.sources.tolist() == [[1, 1, 2], [0, 1, 0]]
    assert label_halves(halves).tolist() == [1, 1, 2, 3, 4, 3]
    first, second = add_pairs(np.array([0, 1]), np.array([1, 2]), halves)
    assert [*zip(first.tolist(), second.tolist(), strict=True)] == [(0, 1), (1, 2), (3, 5)]
    with pytest.raises(OptionError, match="one head"):
        choose_halves(np.ones((3, 1)))


def test_a_half_costs_what_half_of_the_head_does_and_attends_identically(small_bench: Bench) -> None:
    model = small_bench.model
    halves = choose_halves(small_bench.evidence.salience)
    divided = divide_heads(model, halves)
    (batch, *_) = model.batches(model.tokenize(small_bench.evaluation.inputs[:6]))
    keep = np.ones(12, dtype=np.bool_)
    keep[halves.second] = False
    gates = model.gates(keep.reshape(3, 4))
    layer, head = divmod(int(halves.first[0]), 4)
    gates[layer, head] = 0.5
    without = np.ones(12, dtype=np.bool_)
    without[halves.second[0]] = False
    half = divided.logits(batch, gates=divided.gates(without.reshape(3, 4)))
    assert half.numpy() == pytest.approx(model.logits(batch, gates=gates).numpy(), abs=1e-5)
    assert divided.card.sha256 != model.card.sha256


@pytest.mark.usefixtures("few_draws")
def test_clusters_the_test_and_salience_find_divided_heads(tmp_path: Path) -> None:
    model = fakes.save_model(tmp_path / "model", hidden_size=96, num_attention_heads=12)
    settings = fakes.quick(model, fakes.write_data(tmp_path / "data"), limit=60, eval_limit=40, budget="12")
    document = measure(open_bench(settings, store=Store(tmp_path / "store")), control=True, pairs=300)
    control = document["control"]
    assert (control["divided"], control["in_one_cluster"]) == (9, 9)
    assert control["by_chance"] < 2
    assert control["salience_difference"] < 1e-3
    assert sum(control["kept"].values()) == 9
    costs = np.array(document["values"]["heads"]["kl"])
    places = np.array([[name.split(".") for name in pair] for pair in control["heads"]], dtype=int)
    one, other = (places @ [12, 1]).T
    assert costs[one] == pytest.approx(costs[other], rel=1e-3)
    # Twice the change costs about four times as much: two halves interact by about twice the cost of one.
    interaction = control["interaction"]
    assert 1 < interaction["within"]["value"] / costs[one].mean() < 3
    assert document["model"].endswith("with 9 divided heads")
    verb = "finds" if document["verdict"] == "redundant" else "misses"
    said = describe_control(document)
    assert f"the clusters find the halves (9 of 9, by chance {number(control['by_chance'])})" in said
    assert f"The test of the premise {verb} them (difference" in said


def test_what_is_said_of_the_bundled_control_follows_from_its_numbers() -> None:
    folder = Path(__file__).parents[2] / "assets"
    control = json.loads((folder / "premise/control/minilm-bbc.json").read_text("utf-8"))
    said = describe_control(control)
    assert (control["verdict"], "misses them" in said) == ("not significant", True)
    assert said in " ".join((folder / "docs/results/premise.md").read_text("utf-8").split())
    assert "finds them" in describe_control({**control, "verdict": "redundant"})
