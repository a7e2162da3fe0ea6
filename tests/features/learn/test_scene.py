"""One head on one sentence: which words look at which."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from cahp.features.learn.scene import HeadFamily, find_family, measure_scene
from cahp.run.bench import Bench
from cahp.values import HeadMask

MASK = HeadMask.of([0, 4, 5], 2, 4)
LABELS = np.array([0, 0, 0, 0, 1, 2, 1, 2])
SALIENCE = np.array([[0.9, 0.1, 0.2, 0.3], [1.0, 0.8, 0.4, 0.5]])


def test_the_family_is_the_largest_cluster_with_its_kept_head_or_all_heads_that_copy() -> None:
    assert find_family(LABELS, MASK, SALIENCE, None) == HeadFamily((0, 1, 2, 3), 0)
    copying: Any = SimpleNamespace(units=lambda role: {"induction": (2, 7)}[role], named_otherwise=lambda role: 1)
    family = find_family(LABELS, MASK, SALIENCE, copying)
    assert (family, family.leaving) == (HeadFamily((2, 7), named_otherwise=1), (2, 7))
    none: Any = SimpleNamespace(units=lambda role: ())
    assert find_family(LABELS, MASK, SALIENCE, none).leaving == (1, 2, 3)


def test_the_answers_are_named_as_the_labels_of_the_data(small_bench: Bench) -> None:
    named = replace(small_bench, reading={"poor": "bad", "fine": "good"})
    scene = measure_scene(named, HeadFamily((0, 1), 0))
    assert {scene.before.words, scene.after.words} <= {"poor", "fine"}
