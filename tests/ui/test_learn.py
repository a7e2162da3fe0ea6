"""Guess, then see."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from cahp.board import read_component
from cahp.features.learn.stage import _CORE

pytestmark = pytest.mark.browser


def test_a_head_is_drawn_and_the_answer_moves_after_the_guess(open_page: Callable[[str], Page]) -> None:
    page = open_page("Learn")
    step = page.locator(".st-key-learn-step")
    # Word by word, or as far as a person moves the slider.
    step.get_by_label("Words that were read").press("End")
    expect(step.locator(".arc.seen")).to_have_count(7)
    expect(step).to_contain_text("“The” looks at “striker”, “that” looks at “rates”.")
    page.locator(".st-key-learn-next button").click()
    expect(step.locator(".arc.seen")).to_have_count(7)
    assert "stays" not in step.inner_text()
    # A guess must be made first.
    expect(step.get_by_role("button", name="Check my guess")).to_be_disabled()
    step.get_by_role("slider").press("Home")
    step.get_by_role("slider").press("ArrowRight")
    expect(step).to_contain_text("1 answers")
    expect(page.locator(".dot.seen")).to_have_count(1)
    step.get_by_role("button", name="Check my guess").click()
    expect(step).to_contain_text("You guessed 1 answer: right. 1 of 311 answers changed. Here it stays “business”.")
    expect(step.locator(".arc.seen")).to_have_count(0)
    expect(page.locator(".dot.seen")).to_have_count(2)
    expect(step.locator(".axis")).to_have_attribute("aria-label", "measured: 1 answer. you: 1 answer")
    # A guess does not move once the answer is known, and the way on is in sight.
    expect(step.get_by_role("slider")).to_have_count(0)
    expect(page.locator(".st-key-learn-next button")).to_be_in_viewport()
    step.get_by_text("Figures").click()
    expect(step.get_by_text(re.compile(r"Bundled: measured on .+, \d{4}-\d\d-\d\d"))).to_be_visible()
    # It is all still there after a look at another step.
    page.locator(".st-key-learn-next button").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Its family attends alike")
    expect(step.locator(".cell.on")).to_have_count(9)
    page.locator(".st-key-learn-go-2 button").click()
    expect(step).to_contain_text("Here it stays “business”.")


@pytest.mark.nightly
def test_a_class_guesses_together_and_sees_all_guesses_beside_the_truth(
    open_page: Callable[[str], Page], new_person: Callable[..., Page], settled: Callable[[Page], Page]
) -> None:
    teacher = open_page("Learn")
    teacher.get_by_text("With a class").click()
    teacher.get_by_role("button", name="Open a class").click()
    door = teacher.get_by_role("dialog")
    expect(door.locator("img, svg").first).to_be_visible()
    link = door.get_by_test_id("stCode").inner_text()
    teacher.keyboard.press("Escape")
    assert "/Learn?class=" in link
    teacher.locator(".st-key-learn-next button").click()
    pupils = [new_person(link[link.index("Learn?") :], viewport={"width": 390, "height": 800}) for _ in range(2)]
    for pupil, presses in zip(pupils, (1, 4), strict=True):
        expect(pupil.get_by_text("step 2 of 7")).to_be_visible()
        slider = pupil.locator(".st-key-learn-step").get_by_role("slider")
        slider.press("Home")
        for _ in range(presses):
            slider.press("ArrowRight")
        expect(pupil.locator(".st-key-learn-step")).to_contain_text(f"{presses} answers")
        settled(pupil).get_by_role("button", name="Guess", exact=True).click()
        expect(pupil.get_by_text(f"You guessed {presses} answer")).to_be_visible()
    expect(teacher.locator(".st-key-class-bar")).to_contain_text("2 joined, 2 guessed at this step.")
    teacher.get_by_role("button", name="Show the answer").click()
    for page in (teacher, *pupils):
        expect(page.get_by_text("Median of 2 guesses: 2.5 answers").first).to_be_visible()
        expect(page.locator(".axis .others")).to_have_count(1)
    expect(pupils[0].locator(".st-key-learn-step")).to_contain_text("You guessed 1 answer: right.")
    teacher.locator(".st-key-learn-next button").click()
    expect(pupils[1].get_by_text("step 3 of 7")).to_be_visible()
    expect(pupils[1].get_by_text("Your guesses so far")).to_be_visible()
    teacher.get_by_role("button", name="End the class").click()
    expect(pupils[0].get_by_text("This class has ended.")).to_be_visible()


def test_the_stage_draws_new_bars_of_the_same_answer_and_another_sentence(page: Page) -> None:
    cells = {"fills": ["#336699"], "inks": ["#ffffff"], "names": ["A"], "striped": [False]}
    sentence = {"words": ["one", "two"], "arcs": [[1, 0, 0.9]], "colour": "#336699", "dashed": False, "drops": True}
    bar = {"label": "without", "value": 0.5, "text": "50 %", "ends": None}
    board = {"step": "one-head", "layers": 1, "heads": 1, "texts": {"board": ""}, "off": [0], "answered": True}
    data = {**board, **cells, **sentence, "bars": [bar]}
    other = {**data, "bars": [{**bar, "text": "60 %"}]}
    script, _ = read_component(_CORE / "learn.css", _CORE / "texts.js", _CORE / "sentence.js", _CORE / "stage.js")
    drawn = page.evaluate(
        """async ([script, ...given]) => {
          const { default: draw } = await import(`data:text/javascript,${encodeURIComponent(script)}`);
          return given.map((data) => (draw({ data, parentElement: document.body }), document.body.innerText));
        }""",
        [script, data, other, {**other, "words": ["two", "three"]}],
    )
    assert ["60 %" in text for text in drawn] == [False, True, True]
    assert ["three" in text for text in drawn] == [False, False, True]
    expect(page.locator(".stage")).to_have_count(1)
