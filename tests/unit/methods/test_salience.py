from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import fakes
import numpy as np

from cahp import methods


def test_salience_keeps_the_most_salient_heads_and_costs_a_quarter_of_the_texts() -> None:
    texts = fakes.sentences(256)
    salience = np.array([[0.9, 0.8, 0.7], [0.1, 0.3, 0.2]])
    evidence: Any = SimpleNamespace(salience=salience, card=SimpleNamespace(layers=2, heads=3), texts=texts)
    method: Any = methods.get("salience")
    assert method.choose(evidence, budget=3, min_per_layer=0).mask.by_layer == [[0, 1, 2], []]
    # The per-layer minimum keeps one head of the second layer.
    assert method.choose(evidence, budget=3, min_per_layer=1).mask.by_layer == [[0, 1], [1]]
    # Eight batches of 32: two of them, each text forward and backward.
    price = method.price(evidence, budget=3)
    assert (price.forwards, price.labels) == (3 * 64, 64)
