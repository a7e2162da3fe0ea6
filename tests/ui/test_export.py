"""What is downloaded opens, and says what the screen says."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import BrowserContext, Page, expect

from cahp import load_pruned
from cahp.exports.live import live_of
from cahp.exports.masks import read_mask, read_mask_record
from cahp.exports.run_folder import read_run
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


def test_every_form_of_the_mask_and_the_lines_that_make_it_again_are_those_of_the_screen(
    open_page: Callable[[str], Page],
) -> None:
    page = open_page("Export?budget=20")
    assert heads_on_screen(page) == 20
    file = download(page, "JSON")
    mask = read_mask(file)
    assert mask.count == 20
    assert read_mask_record(file)["model"] == "minilm-bbc"
    rows = download(page, "CSV").decode().splitlines()
    assert [int(row.split(",")[2]) for row in rows[1:]] == mask.keep.ravel().astype(int).tolist()
    tensor = torch.load(io.BytesIO(download(page, "PyTorch")), weights_only=True)
    np.testing.assert_array_equal(tensor.numpy(), mask.keep)
    np.testing.assert_array_equal(np.load(io.BytesIO(download(page, "NumPy"))), mask.keep)
    # That they do as they say is tested where they are made.
    blocks = page.locator(".st-key-export-again [data-testid=stCode]")
    # The browser fetches what draws code after the script has ended.
    blocks.wait_for()
    assert blocks.inner_text().strip() == "cahp prune --max-length 128 --budget 20 --recover refit --out cahp-run"


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
    with np.load(io.BytesIO(archive.read("cahp-run/arrays.npz"))) as arrays:
        assert arrays["embedding"].shape == (72, 2)
    archive.extractall(tmp_path)
    live = live_of(read_run(tmp_path / "cahp-run"))
    assert live is not None
    assert live.table.measured() == (67, 67)
    said = [f"{part['accuracy'] * 100:.1f} %" for part in run["metrics"].values() if part is not None]
    shown = [*said, times(run["latency_ratio"]["median"])]
    # The large figures, which a browser draws one after the other.
    expect(page.get_by_test_id("stMetricValue")).to_have_text(shown)
    # The board begins with the refit, and so does its export.
    assert run["settings"]["recover"] == "refit"
    assert run["metrics"]["recovered"] is not None

    path = tmp_path / "report.html"
    path.write_bytes(download(page, "Report (HTML)"))
    offline = new_context(offline=True, java_script_enabled=False).new_page()
    asked: list[str] = []
    offline.on("request", lambda request: asked.append(request.url))
    offline.goto(path.as_uri())
    words = offline.locator("body").inner_text()
    for figure in shown:
        assert figure in words
    assert "are part of the package" in words
    assert offline.locator("svg.grid rect").count() == 72
    assert asked == [path.as_uri()]


@pytest.mark.nightly
def test_a_compact_model_is_made_and_loads(open_page: Callable[[str], Page], tmp_path: Path) -> None:
    page = open_page("Export?budget=20")
    heads_on_screen(page)
    page.get_by_text("None: as pruned").click()
    page.locator(".st-key-export-model button").click()
    ready = page.get_by_role("button", name=re.compile(r"Model \(ZIP"))
    ready.wait_for(timeout=240_000)
    with page.expect_download() as started:
        ready.click()
    zipfile.ZipFile(started.value.path()).extractall(tmp_path)
    (folder,) = tmp_path.iterdir()
    mask = read_mask(folder / "head_mask.json")
    assert mask.count == 20
    network = load_pruned(folder)
    kept = json.loads((folder / "config.json").read_text())["cahp"]["kept"]
    assert kept == mask.by_layer
    first = network.base_model.encoder.layer[0].attention.self.query
    assert first.out_features == 32 * len(kept[0])
