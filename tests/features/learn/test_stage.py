"""What a step draws: nothing of its answer before the guess."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from apps import open_part

from assets.bundle import find_answers, find_subject
from cahp.api import bundled
from cahp.features.learn.scene import HeadFamily, find_family, measure_scene
from cahp.features.learn.stage import describe_stage, draw_answer
from cahp.features.learn.steps import Step
from cahp.run.bench import Bench
from cahp.ui.session.opening import Source
from cahp.values import HeadMask

BENCH = Source.open(bundled.SETTINGS).bench
ANSWERS = find_answers(BENCH)
SUBJECT = replace(find_subject(BENCH), tints=(0,) * 72, names=("A",) * 72)


@pytest.mark.parametrize("name", list(ANSWERS))
def test_before_the_guess_only_the_full_model_has_a_bar_and_no_head_is_removed(name: str) -> None:
    mask = HeadMask.of(range(13), 6, 12)
    answer = ANSWERS[name]
    step = Step(name, mask, question="?")
    before = describe_stage(SUBJECT, step, answer, answered=False, mask=mask)
    after = describe_stage(SUBJECT, step, answer, answered=True, mask=mask)
    assert (len(before["bars"]), before["bars"][0]["kind"]) == (1, "full")
    assert len(after["bars"]) > 1
    # A refit changes no head.
    assert bool(before["off"]) == (name == "refit")
    assert len(after["off"]) == 59


def test_the_names_of_classes_in_an_answer_are_no_markup() -> None:
    answer = replace(ANSWERS["random"], meaning="It stays **odd**: [odd](there)")
    app = open_part(draw_answer, Step("random", HeadMask.full(6, 12), (), 100, unit="answers"), answer, 1, [])
    shown = [one.value for one in app.markdown]
    assert any(r"\*\*odd\*\*" in words for words in shown)
    assert any(r"\[odd\]" in words for words in shown)


def test_a_measured_whole_number_has_no_decimal_place() -> None:
    answer = replace(ANSWERS["random"], value=3.0, interval=None, sample="")
    app = open_part(draw_answer, Step("random", HeadMask.full(6, 12), (), 100, unit="answers"), answer, 1, [])
    assert any("Measured: 3 answers." in one.value for one in app.markdown)


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
