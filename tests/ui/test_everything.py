"""What holds for the explorer as a whole, seen through a browser."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from apps import explorer_of, open_app
from PIL import Image
from playwright.sync_api import Page, expect

from cahp.exports.masks import MaskOrigin, mask_json
from cahp.ui.frame.page import find_pages
from cahp.values import HeadMask

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
PAGES = ("", *list(find_pages(ROOT))[1:])


#: Choices and sliders' values that do not stand out from their ground: a contrast below 4.5 (WCAG 2.2, 1.4.3).
_PALE = """() => {
  const parts = colour => colour.match(/[0-9.]+/g).map(Number);
  const light = rgb => rgb.slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = element => {
    const [r, g, b, a = 1] = parts(getComputedStyle(element).backgroundColor);
    if (a === 1 || !element.parentElement) return [r, g, b];
    return ground(element.parentElement).map((below, at) => below * (1 - a) + [r, g, b][at] * a);
  };
  return [...document.querySelectorAll(
    '[data-variant=segmented_control]:not([data-disabled]):not(:disabled),'
    + ' [data-testid=stSlider]:not(:has([data-disabled])) [data-testid=stSliderThumbValue]')]
    .map(choice => {
      const words = choice.querySelector('p') ?? choice;
      // A value lies above its thumb, not on it.
      const below = choice.closest('[data-testid=stSlider]') ?? choice;
      const [a, b] = [light(parts(getComputedStyle(words).color)), light(ground(below))];
      return [choice.innerText, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
    })
    .filter(([, contrast]) => contrast < 4.5);
}"""


#: Buttons and links of the page on whose middle something else lies; some show themselves only under the mouse.
_COVERED = """() => [...document.querySelectorAll('[data-testid=stMain] button, [data-testid=stSidebar] a')]
  .filter(button => !button.closest('[data-testid=stHeadingWithActionElements], [data-testid=stCode]'))
  .map(button => [button, button.getBoundingClientRect()])
  .filter(([button]) => button.checkVisibility() && !button.closest('details:not([open])'))
  .filter(([, box]) => box.width > 2 && box.top >= 0 && box.bottom <= innerHeight)
  .filter(([button, box]) => {
    const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    return top && !button.contains(top) && !top.contains(button);
  })
  .map(([button]) => button.innerText)"""


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.nightly)])
def test_every_page_fits_whole(new_person: Callable[..., Page], settled: Callable[[Page], Page], scheme: str) -> None:
    page = new_person("", color_scheme=scheme)
    for name in PAGES:
        if name:
            page.locator(f".st-key-pages a[href*='{name}']").click()
            page.wait_for_url(re.compile(f"/{name}"))
            page.mouse.move(0, 0)
        settled(page).get_by_test_id("stMain").get_by_role("heading").first.wait_for()
        expect(page.locator("[data-testid=stMain] button, [data-testid=stSidebar] a").nth(5)).to_be_attached()
        if name in ("", "Budget"):
            expect(page.get_by_role("gridcell")).to_have_count(72)
        assert page.get_by_test_id("stException").all_inner_texts() == []
        wide, high = page.evaluate(
            "() => { const main = document.querySelector('[data-testid=stMain]');"
            " return [main.scrollWidth - main.clientWidth, main.scrollHeight]; }"
        )
        assert wide <= 0, f"{name} scrolls sideways"
        assert high > 200
        assert page.evaluate(_COVERED) == [], name
        assert page.evaluate(_PALE) == [], name
        ground = page.evaluate("() => getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor")
        assert ground == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(16, 20, 22)")
    # Explanations have names, and links a ring.
    page.get_by_role("link", name="Budget", exact=True).click()
    for tab in ("More", "Where heads lie"):
        page.get_by_text(tab, exact=True).click()
    expect(page.get_by_role("button", name=re.compile("^About: "))).to_have_count(2)
    page.get_by_role("link", name="Budget", exact=True).focus()
    page.keyboard.press("Shift+Tab")
    ring = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(f"[document.activeElement.tagName, {ring}]") == ["A", "solid"]


#: Never a mask for 6 x 12 heads; all that cannot be read is refused where masks are read.
FILES = {
    "markup.json": b'{"keep": "<img src=x onerror=window.hacked=1>"}',
    "other-shape.json": b'{"schema": "cahp.mask/1", "heads_per_layer": 2, "keep": [[1, 0]], "sha256": ""}',
    "other-model.json": mask_json(
        HeadMask.of(range(0, 72, 12), 6, 12), MaskOrigin("minilm-bbc", "by hand", None, model_sha256="0" * 64)
    ),
    "all-gone.json": json.dumps([[0] * 12] * 6).encode(),
}


def test_odd_masks_are_refused_in_a_sentence() -> None:
    app = open_app("budget", budget="20")
    for name, content in FILES.items():
        app.file_uploader(key="mask-file").upload(name, content).run()
        assert not app.exception, name
        (error,) = app.error
        assert "<" not in error.value, name
        assert error.value.endswith("."), name
        assert (explorer_of(app).board.budget, explorer_of(app).board.by_hand) == (20, False), name


@pytest.mark.nightly
def test_a_tablets_sidebar_closes_by_itself(new_person: Callable[..., Page], settled: Callable[[Page], Page]) -> None:
    page = new_person("", viewport={"width": 820, "height": 1100})
    closed, opened = (page.locator(f'[data-testid="stSidebar"][data-collapsed="{how}"]') for how in ("true", "false"))
    expect(closed).to_be_attached()
    page.get_by_test_id("stExpandSidebarButton").click()
    expect(opened).to_be_attached()
    expect(settled(page).locator(".st-key-pages a")).to_have_count(len(PAGES))
    # It covers the page, and nothing covers it.
    assert page.evaluate(_COVERED.replace("[data-testid=stMain] button, ", "")) == []
    close = Image.open(io.BytesIO(page.get_by_test_id("stSidebarCollapseButton").screenshot()))
    assert len(close.convert("L").getcolors() or []) > 1
    page.get_by_role("link", name="Export").first.click()
    expect(closed).to_be_attached()
    expect(settled(page).get_by_role("heading", level=1)).to_be_visible()
    main = page.get_by_test_id("stMain")
    assert main.evaluate("element => element.scrollWidth <= element.clientWidth")
    page.get_by_test_id("stExpandSidebarButton").click()
    page.locator(".st-key-change-source button").click()
    page.locator(".st-key-use-source button").click()
    expect(closed).to_be_attached()


#: What is narrower or lower than a finger needs (WCAG 2.2, 2.5.8), also in shadow trees. An input that a label holds is
#: touched there, and a slider on its track.
_SMALL = """() => {
  const touched = "a[href], button, input, textarea, summary, [role=button], [role=gridcell], [role=combobox]";
  const small = [];
  const look = (root) => root.querySelectorAll("*").forEach((element) => {
    if (element.shadowRoot) look(element.shadowRoot);
    if (!element.matches(touched) || !element.checkVisibility({ visibilityProperty: true })) return;
    if (element.matches("label input, [data-testid=stSlider] input, input[role=combobox]")) return;
    const { width, height } = element.getBoundingClientRect();
    if (width > 2 && Math.min(width, height) < 23.9) small.push(element.outerHTML.slice(0, 160));
  });
  look(document.querySelector("[data-testid=stMain]"));
  return small;
}"""


#: Tool bars of charts that lie over what is drawn.
_OVER_CHARTS = """() => [...document.querySelectorAll(".js-plotly-plot")].filter((plot) => {
  const bar = plot.querySelector(".modebar")?.getBoundingClientRect();
  return bar && bar.bottom > plot.querySelector(".main-svg").getBoundingClientRect().top + 1;
}).map((plot) => plot.closest("[class*=st-key-chart-]").className)"""


@pytest.mark.nightly
def test_targets_are_large(new_person: Callable[..., Page], explorer_url: str, settled: Callable[[Page], Page]) -> None:
    page = new_person("Budget", viewport={"width": 390, "height": 844}, has_touch=True)
    for name in ("Budget", "Compare", "Export"):
        page.goto(f"{explorer_url}/{name}", wait_until="domcontentloaded")
        settled(page)
        if name != "Export":
            page.get_by_test_id("stMain").locator(".modebar-btn").first.wait_for(state="attached")
        expect(page.locator("[data-testid=stMain] [data-testid=stSkeleton]:visible")).to_have_count(0)
        assert page.evaluate(_SMALL) == [], name
        assert page.evaluate(_OVER_CHARTS) == [], name
        assert page.get_by_test_id("stMain").evaluate("main => main.scrollWidth <= main.clientWidth"), name
