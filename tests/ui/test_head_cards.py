"""The card of a head in a browser: from the board, by keyboard, with an address of its own."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser


def test_a_card_opens_leads_on_and_closes(new_person: Callable[..., Page], settled: Callable[[Page], Page]) -> None:
    page = new_person(viewport={"width": 390, "height": 844})
    cells = page.get_by_role("gridcell")
    cells.nth(0).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("i")
    card = page.get_by_role("dialog")
    expect(card).to_contain_text("Layer 0, head 1")
    expect(card).to_contain_text("of predictions change")
    expect(card.locator(".sentence svg path").first).to_be_visible()
    expect(page).to_have_url(re.compile(r"head=0\.1\b"))
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    # The first stop after the button that closes it is the family.
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(card).to_contain_text("Layer 0, head 0")
    expect(page).to_have_url(re.compile(r"head=0\.0\b"))
    settled(page).keyboard.press("Escape")
    expect(card).to_have_count(0)
    expect(page).not_to_have_url(re.compile("head="))
    expect(cells.nth(1)).to_be_focused()
