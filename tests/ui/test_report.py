"""A report opened as a file: no server, no network, and figures that are the command line's."""

import json
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect
from terminal import call

from cahp.api import bundled
from cahp.exports.masks import read_mask
from cahp.words import percent, times

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled run's, as the command line writes it; the folder has all of its budgets measured."""
    file = tmp_path_factory.mktemp("report") / "report.html"
    assert call("report", bundled.run_folder(), "--out", file).code == 0
    return file


@pytest.fixture
def opened(report: Path, new_context: Callable[..., BrowserContext]) -> Iterator[Callable[..., Page]]:
    """``opened(**options)`` is the report without a network; whatever it asks for or complains of fails the test."""
    trouble: list[str] = []
    requests: list[str] = []

    def made(**options: object) -> Page:
        page = new_context(offline=True, **options).new_page()
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(report.as_uri())
        expect(page.get_by_role("gridcell")).to_have_count(72)
        return page

    yield made
    assert trouble == []
    # A blob is what the page itself offers for download.
    assert {url for url in requests if not url.startswith("blob:")} <= {report.as_uri()}


def test_it_answers_while_it_is_dragged_with_the_measured_figures(opened: Callable[..., Page]) -> None:
    page = opened()
    run = bundled.read_run()
    document = run.document
    figures = page.locator(".cahp-board .figure .value")
    expect(figures.nth(0)).to_have_text(f"{document.budget.attained} of 72")
    expect(figures.nth(1)).to_have_text(document.outcomes["pruned"]["accuracy"].text)
    slider = page.get_by_role("slider", name="Heads to keep")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.mouse.move(box["x"] + 9 + (box["width"] - 18) * 0.5, box["y"] + box["height"] / 2)
    page.mouse.down()
    expect(figures.nth(0)).to_have_text("39 of 72")
    expect(figures.nth(1)).to_have_text(percent(run.tables["none"]["outcomes"]["39"]["accuracy"]["value"]))
    page.mouse.up()
    expect(page.get_by_text("Back to 13 heads")).to_be_visible()
    page.get_by_role("gridcell", selected=False).first.click()
    expect(page.locator(".cahp-board .inspector")).to_contain_text("replacement ")
    # Nothing sticks out of a window.
    for width in (1280, 820, 390):
        page.set_viewport_size({"width": width, "height": 900})
        # The board fits itself once it has seen the new width.
        page.wait_for_function("width => document.documentElement.scrollWidth <= width", arg=width)


def test_it_prints_on_paper_what_is_on_screen(opened: Callable[..., Page]) -> None:
    page = opened(color_scheme="dark")
    page.emulate_media(media="print", color_scheme="light")
    page.set_viewport_size({"width": 718, "height": 1000})
    expect(page.get_by_role("slider")).to_be_hidden()
    cell = page.get_by_role("gridcell", selected=True).first
    assert cell.evaluate("cell => getComputedStyle(cell).printColorAdjust") == "exact"
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_what_the_explorer_offers_opens_without_a_script_and_says_what_the_screen_says(
    open_page: Callable[[str], Page], new_context: Callable[..., BrowserContext], tmp_path: Path
) -> None:
    page = open_page("Export")

    def download(label: str) -> Path:
        with page.expect_download() as started:
            page.get_by_role("button", name=label, exact=True).click()
        started.value.save_as(tmp_path / label)
        return tmp_path / label

    archive = zipfile.ZipFile(download("Run folder (ZIP)"))
    assert archive.testzip() is None
    run = json.loads(archive.read("cahp-run/run.json"))
    heads = read_mask(archive.read("cahp-run/head_mask.json")).count
    assert heads == run["budget"]["attained"]
    page.get_by_test_id("stMain").get_by_text(f"{heads} of 72 heads").first.wait_for()
    accuracies = [f"{part['accuracy'] * 100:.1f} %" for part in run["metrics"].values() if part is not None]
    shown = [*accuracies, times(run["latency_ratio"]["median"])]
    page.get_by_text("Figures with intervals").click()
    for figure in shown:
        expect(page.get_by_role("cell", name=re.compile(re.escape(figure))).first).to_be_visible()
    offline = new_context(offline=True, java_script_enabled=False).new_page()
    report = download("Report (HTML)").rename(tmp_path / "report.html")
    offline.goto(report.as_uri())
    words = offline.locator("body").inner_text()
    assert all(figure in words for figure in shown)
    assert "What still works" in words
    assert "are part of the package" in words
    assert offline.locator("svg.grid rect").count() == 72
