"""The test of the premise: interactions, permutations and predicted outputs, against answers known beforehand."""

from pathlib import Path

import fakes
import numpy as np
import pytest
import torch
from _premise_control import choose_halves, divide_heads, label_halves
from _premise_heads import PREDICTORS, collect_contexts, measure_heads
from _premise_pairs import draw_pairs, removal_divergences
from _premise_power import conclude_difference, describe_power, draw_duplicates, measure_power
from _premise_test import compare_pairs, count_compared, scale_interactions, stratify, stratify_pairs, weigh_means
from _premise_words import MEASURES, describe_control, describe_test, nats_of_one_head
from premise import describe, explained_shares, measure
from scipy.stats import spearmanr
from transformers import AutoModelForSequenceClassification

from cahp.methods.shared.scored import draw_texts
from cahp.run.bench import Bench, open_bench
from cahp.stages.recovery import mean_ablate
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


@pytest.mark.parametrize("zero", [True, False])
def test_pairs_are_removed_as_by_their_masks(bench: Bench, zero: bool) -> None:
    alone, together = removal_divergences(bench, [(None, np.arange(12)), (2, np.array([3, 5, 11]))], zero=zero)
    assert (alone.shape, together.shape) == ((12, 40), (3, 40))
    averaged = draw_texts(bench.evidence, most=128).inputs
    for removed, table in (((0,), alone[0]), ((7,), alone[7]), ((2, 3), together[0]), ((2, 11), together[2])):
        pruned = bench.measurements.evaluate(bench.evaluation, mask=without(*removed))
        if not zero:
            ablated = mean_ablate(bench.model, without(*removed), averaged)
            pruned = bench.measurements.evaluate_model(ablated, bench.evaluation)
        assert table == pytest.approx(pruned.divergences(bench.full), abs=1e-5)


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


#: Tells that the test finds 18 duplicates often, or seldom.
OFTEN = {"duplicates": [0, 18], "found": [0.05, 0.9], "draws": 20}
SELDOM = {**OFTEN, "found": [0.05, 0.3]}


def costs_of(interactions: np.ndarray, texts: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Costs of 16 heads and of pairs with these interactions, on each text."""
    return np.ones((16, texts)), 2 + interactions[:, None] + np.zeros(texts)


@pytest.mark.parametrize(("inside", "verdict"), [(0.5, "redundant"), (-0.5, "less redundant")])
def test_a_difference_between_the_means_is_significant(inside: float, verdict: str) -> None:
    result = compare_pairs(*costs_of(np.where(WITHIN, inside, 0.1)), FIRST, SECOND, LABELS, ALIKE)
    assert [result[part]["n"] for part in ("within", "between", "difference")] == [24, 96, 120]
    assert result["difference"]["value"] == pytest.approx(inside - 0.1)
    assert result["within"]["ci95"] == pytest.approx((inside, inside))
    # One of 2.6 million partitions of the heads is as extreme.
    assert result["difference"]["p"] == 1 / 10_001
    assert conclude_difference(result["difference"], SELDOM) == verdict


def test_an_interaction_does_not_depend_on_what_the_heads_cost() -> None:
    alone = np.array([1.0, 4.0, 1e-9, 100.0])
    first, second = np.array([0, 0, 2]), np.array([1, 2, 3])
    # Independent effects add up; two halves of a head cost four times as much as one.
    assert scale_interactions(alone, alone[first] + alone[second], first, second) == pytest.approx(0)
    halves = np.array([3.0, 3.0])
    assert scale_interactions(halves, np.array([12.0]), np.array([0]), np.array([1])) == pytest.approx(2)
    # What costs next to nothing has no large interaction by an error of rounding.
    assert scale_interactions(alone, alone[first] + alone[second] + 1e-9, first, second)[1] < 1e-6


@pytest.mark.usefixtures("few_draws")
def test_the_test_finds_duplicates_that_are_planted_if_there_is_little_noise() -> None:
    pairs = np.triu_indices(48, 1)
    random = np.random.default_rng(0)
    options = {"heads": 12, "halves": np.array([2.0]), "seed": 1}
    # Texts that make the interval much wider leave nothing to find, either.
    for noise, interval, found in ((0.1, (0, 0), [1]), (5, (0, 0), [0, 1 / 3, 2 / 3]), (0.1, (-99, 99), [0])):
        values = noise * random.normal(size=len(pairs[0]))
        clusters = (np.arange(48) // 4, np.repeat([0, 1], 24))
        power = measure_power(values, *pairs, *clusters, interval=interval, **options)
        assert (power["duplicates"], power["found"][0]) == ([0, 4, 8, 12], 0)
        assert power["found"][-1] in found
    copied, replaced = draw_duplicates(12, 3, 4, random)
    assert (copied // 4 == replaced // 4).all()
    # By p and by the interval, for the verdict and for the curve.
    for quiet in ({"p": 0.2, "ci95": [0.1, 0.3]}, {"p": 0.02, "ci95": [-0.1, 0.3]}):
        assert conclude_difference(quiet, OFTEN) == "not significant"
        assert conclude_difference(quiet, SELDOM) == "cannot tell"
    assert describe_power(OFTEN).endswith(": it would find 18 duplicates in at least 80 % of draws.")
    assert describe_power(SELDOM).endswith(": it would miss even 18 duplicates in more than 20 % of draws.")


@pytest.mark.usefixtures("few_draws")
def test_heads_that_differ_in_cost_alone_are_rarely_significant() -> None:
    random, ps = np.random.default_rng(0), []
    for draw in range(100):
        cost = random.exponential(size=16)
        alone, joint = costs_of(cost[FIRST] * cost[SECOND], 4)
        joint += 0.1 * random.normal(size=joint.shape)
        ps.append(compare_pairs(alone, joint, FIRST, SECOND, LABELS, ALIKE, seed=draw)["difference"]["p"])
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

    assert kinds(None) == (24, 96)
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
    # Twice the change costs about four times as much; the costs of so small a model are near its rounding errors.
    assert 1 < np.mean(control["interactions"]) < 3
    assert document["power"]["halves"] == pytest.approx(np.mean(control["interactions"]))
    said = "\n".join(describe(document))
    assert f"the clusters find the halves (9 of 9, by chance {number(control['by_chance'])})" in said
    assert describe_control(document) in said
    assert describe_test(document) in said


def test_the_sentence_about_a_test_follows_from_its_numbers() -> None:
    difference = {"value": 0.2, "ci95": [0.1, 0.3], "p": 0.02, "permutations": 999}
    document = {"interaction": {"difference": difference}, "verdict": "redundant", "power": OFTEN}
    said = "Pairs of one cluster interact more: 0.200 [0.100, 0.300], p = 0.0200 by permutation of the clusters. The "
    assert describe_test(document).startswith(f"{said}test finds planted")
    difference["ci95"] = [-0.1, 0.3]
    said = describe_test({**document, "verdict": "cannot tell", "power": SELDOM})
    assert said.startswith("No significant difference: 0.200")
    assert "contains zero, so p alone is no finding. This test cannot tell. The test finds" in said
