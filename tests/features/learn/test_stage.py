"""What a step draws: nothing of its answer before the guess."""

from __future__ import annotations

from dataclasses import replace

import pytest
from apps import open_part

from assets.bundle import find_answers, find_subject
from cahp.api import bundled
from cahp.features.learn.lessons import Step
from cahp.features.learn.stage import Picture, describe_stage, draw_answer
from cahp.features.learn.steps import choose_best
from cahp.ui.session.opening import Source
from cahp.values import HeadMask

BENCH = Source.open(bundled.SETTINGS).bench
ANSWERS = find_answers(BENCH)
PICTURE = Picture(6, 12, "head", (0,) * 72, ("A",) * 72, find_subject(BENCH).scene)


@pytest.mark.parametrize("name", list(ANSWERS))
def test_before_the_guess_only_the_full_model_has_a_bar_and_no_head_is_removed(name: str) -> None:
    mask = HeadMask.of(range(13), 6, 12)
    answer = ANSWERS[name]
    step = Step(name, "", "", "", mask, "?", early=name == "refit")
    before = describe_stage(step, PICTURE, answer, answered=False, mask=mask)
    after = describe_stage(step, PICTURE, answer, answered=True, mask=mask)
    assert (len(before["bars"]), before["bars"][0]["kind"]) == (1, "full")
    assert len(after["bars"]) > 1
    # A refit changes no head.
    assert bool(before["off"]) == (name == "refit")
    assert len(after["off"]) == 59


def test_the_names_of_classes_in_an_answer_are_no_markup() -> None:
    answer = replace(ANSWERS["random"], meaning="It stays **odd**: [odd](there)")
    app = open_part(draw_answer, Step("random", "", "", "", HeadMask.full(6, 12), "?", "answers", 100), answer, 1)
    shown = [one.value for one in app.markdown]
    assert any(r"\*\*odd\*\*" in words for words in shown)
    assert any(r"\[odd\]" in words for words in shown)


def test_the_best_guess_is_the_smallest_that_is_enough_or_else_the_answer() -> None:
    answer = ANSWERS["random"]
    # 69.3 are needed.
    assert [choose_best(guesses, answer) for guesses in ([70, 80, 60], [3], [])] == [70, 69, 69]
