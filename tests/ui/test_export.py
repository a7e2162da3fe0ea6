"""What is downloaded opens, and says what the screen says."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from cahp.exports.masks import read_mask
from cahp.run.document import RunDocument
from cahp.words import times

pytestmark = pytest.mark.browser


def download(page: Page, label: str) -> bytes:
    """The file behind the button of that name."""
    with page.expect_download() as started:
        page.get_by_role("button", name=label, exact=True).click()
    return Path(started.value.path()).read_bytes()


def heads_on_screen(page: Page) -> int:
    page.get_by_test_id("stMain").get_by_text(re.compile(r"\d+ of 72 heads")).first.wait_for()
    found = re.search(r"(\d+) of 72 heads", page.get_by_test_id("stMain").inner_text())
    assert found is not None
    return int(found[1])


def test_the_run_and_the_report_say_what_the_screen_says(
    open_page: Callable[[str], Page], new_context: Callable[..., BrowserContext], tmp_path: Path
) -> None:
    page = open_page("Export")
    archive = zipfile.ZipFile(io.BytesIO(download(page, "Run folder (ZIP)")))
    assert archive.testzip() is None
    run = json.loads(archive.read("cahp-run/run.json"))
    RunDocument.from_json(run)
    mask = read_mask(archive.read("cahp-run/head_mask.json"))
    assert mask.count == heads_on_screen(page) == run["budget"]["attained"]
    accuracies = [f"{part['accuracy'] * 100:.1f} %" for part in run["metrics"].values() if part is not None]
    shown = [*accuracies, times(run["latency_ratio"]["median"])]
    page.get_by_text("Figures with intervals").click()
    for figure in shown:
        expect(page.get_by_role("cell", name=re.compile(re.escape(figure))).first).to_be_visible()
    path = tmp_path / "report.html"
    path.write_bytes(download(page, "Report (HTML)"))
    offline = new_context(offline=True, java_script_enabled=False).new_page()
    requests: list[str] = []
    offline.on("request", lambda request: requests.append(request.url))
    offline.goto(path.as_uri())
    words = offline.locator("body").inner_text()
    for figure in shown:
        assert figure in words
    assert "are part of the package" in words
    assert offline.locator("svg.grid rect").count() == 72
    assert requests == [path.as_uri()]
