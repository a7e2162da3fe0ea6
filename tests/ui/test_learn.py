"""Guess, then see."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser


def test_the_answer_comes_after_the_guess_and_with_its_interval(open_page: Callable[[str], Page]) -> None:
    page = open_page("Learn")
    step = page.locator(".st-key-learn-step")
    assert "Measured" not in step.inner_text()
    # A guess must be made first.
    expect(step.get_by_role("button", name="Check my guess")).to_be_disabled()
    page.get_by_role("slider").press("Home")
    page.get_by_role("slider").press("ArrowRight")
    expect(step).to_contain_text("1 answers")
    step.get_by_role("button", name="Check my guess").click()
    step.get_by_text("Measured", exact=True).wait_for()
    words = step.inner_text()
    assert re.search(r"Your guess\s+1 answers", words)
    changed = re.search(r"Measured\s+(\d+) answers", words)
    assert changed is not None
    assert f"{changed[1]} of 311 answers changed" in words
    # The embedded default's answers ship, and say so.
    assert re.search(r"Bundled: measured on .+, \d{4}-\d\d-\d\d", words)
    # A guess does not move once the answer is known.
    expect(step.get_by_role("slider")).to_have_count(0)
    # The way on stays in sight.
    expect(page.locator(".st-key-learn-next button")).to_be_in_viewport()
    expect(page.locator(".st-key-chart-learn-heads-one-head")).to_be_in_viewport()
    # And it is all still there after a look at another step.
    page.locator(".st-key-learn-next button").click()
    expect(step).to_contain_text("Step 2 of 6")
    page.locator(".st-key-learn-back button").click()
    expect(step).to_contain_text(f"{changed[1]} of 311 answers changed")


@pytest.mark.nightly
def test_an_answer_can_be_measured_here_and_a_long_one_cancelled(open_page: Callable[[str], Page]) -> None:
    page = open_page("Learn")
    step = page.locator(".st-key-learn-step")
    page.locator(".st-key-learn-go-4 button").first.click()
    expect(step).to_contain_text("Step 4 of 6")
    page.get_by_role("slider").press("Home")
    page.locator(".st-key-learn-see-random button").click()
    expect(step).to_contain_text("After a refit")
    bundled = step.get_by_text("random selections are at least as accurate. Accuracy").inner_text()
    page.locator(".st-key-learn-here-random button").click()
    page.get_by_role("button", name="Cancel").click()
    # What ships is still there.
    expect(page.locator(".st-key-learn-here-random button")).to_be_visible()
    expect(step).to_contain_text(bundled)


@pytest.mark.nightly
def test_a_class_guesses_together_and_sees_all_guesses_beside_the_truth(
    open_page: Callable[[str], Page], new_person: Callable[..., Page], settled: Callable[[Page], Page]
) -> None:
    teacher = open_page("Learn")
    teacher.get_by_text("With a class").click()
    teacher.get_by_role("button", name="Open a class").click()
    door = teacher.locator(".st-key-class-door")
    expect(door.locator("img, svg").first).to_be_visible()
    link = door.get_by_test_id("stCode").inner_text()
    assert "/Learn?class=" in link
    pupils = [new_person(link[link.index("Learn?") :], viewport={"width": 390, "height": 800}) for _ in range(2)]
    for pupil, presses in zip(pupils, (1, 4), strict=True):
        expect(pupil.get_by_text("Step 1 of 6")).to_be_visible()
        pupil.get_by_role("slider").press("Home")
        for _ in range(presses):
            pupil.get_by_role("slider").press("ArrowRight")
        expect(pupil.locator(".st-key-learn-step")).to_contain_text(f"{presses} answers")
        settled(pupil).get_by_role("button", name="Guess", exact=True).click()
        expect(pupil.get_by_text(f"You guessed {presses} answers")).to_be_visible()
    expect(door).to_contain_text("2 joined, 2 guessed at this step.")
    teacher.get_by_role("button", name="Show the answer").click()
    for page in (teacher, *pupils):
        expect(page.get_by_text("Half of 2 guesses were 4 answers or less")).to_be_visible()
        expect(page.locator(".st-key-learn-step")).to_contain_text(re.compile(r"Measured\s*\d+ answers"))
    expect(pupils[0].locator(".st-key-learn-step")).to_contain_text(re.compile(r"Your guess\s*1 answers"))
    teacher.locator(".st-key-learn-next button").click()
    expect(pupils[1].get_by_text("Step 2 of 6")).to_be_visible()
    expect(pupils[1].get_by_text("Your guesses so far")).to_be_visible()
    teacher.get_by_role("button", name="End the class").click()
    expect(pupils[0].get_by_text("This class has ended.")).to_be_visible()
