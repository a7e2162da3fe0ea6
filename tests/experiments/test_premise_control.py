"""The positive control: divided heads are the model that they were made from, and everything finds them."""

from __future__ import annotations

from pathlib import Path

import fakes
import numpy as np
import pytest
from _premise_control import add_pairs, choose_halves, divide_heads, label_halves
from _premise_words import describe_control
from premise import measure

from cahp.run.bench import Bench, open_bench
from cahp.store import Store
from cahp.values import OptionError

pytestmark = pytest.mark.usefixtures("one_thread", "few_draws")


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
    assert "Positive control: the test finds duplicates. 9 heads were divided" in describe_control(control)
