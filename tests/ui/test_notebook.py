"""The board in a real JupyterLab: drawn, dragged, and measured by the kernel."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import fakes
import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

pytest.importorskip("anywidget", reason="the extra `notebook` is not installed")
pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")

import cahp
from cahp.store import Store
from cahp.studies import budget_sweep

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[2]
TOKEN = "for-the-test"
CELLS = (
    "import cahp\nrun = cahp.prune('model', 'data', budget=5, pool_size=8, projection='pca', latency=False)\nrun",
    "run.board.budget = 7\nrun.board.wait(100)\nprint(run.board.budget, f'{run.board.quality.accuracy:.6f}')",
    "print(run.board.wait(100), run.board.budget, run.board.mask.by_layer)",
)


def notebook(cells: tuple[str, ...]) -> str:
    made = [
        {
            "cell_type": "code",
            "id": f"cell-{at}",
            "metadata": {},
            "outputs": [],
            "execution_count": None,
            "source": cell,
        }
        for at, cell in enumerate(cells)
    ]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return json.dumps({"cells": made, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, its data and a notebook."""
    found = tmp_path_factory.mktemp("notebook")
    fakes.save_model(found / "model")
    fakes.write_data(found / "data", train=60, validation=30)
    (found / "board.ipynb").write_text(notebook(CELLS), encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def jupyter(place: Path) -> Iterator[str]:
    """Address of a JupyterLab on that folder."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    own = {name: str(place / ".jupyter") for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")}
    # The page must not ask anybody outside whether there is news.
    quiet = ["--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}", "--allow-root", *quiet]
    log = place / "jupyter.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [*command, f"--ServerApp.root_dir={place}", f"--IdentityProvider.token={TOKEN}"],
            cwd=place,
            env={**os.environ, **own, "PYTHONPATH": str(ROOT), "CAHP_CACHE": str(place / "cache")},
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(process, f"{url}/api", log)
            yield url
        finally:
            # Its kernels end with it.
            process.terminate()
            process.wait(30)


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urlopen(url, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text(errors='replace')}", pytrace=False)


def run_cell(page: Page, number: int) -> Locator:
    """Run a cell; the cell."""
    cell = page.locator(".jp-CodeCell").nth(number)
    cell.locator(".jp-InputArea-editor").click()
    page.keyboard.press("Control+Enter")
    return cell


def test_a_run_is_the_live_board_and_the_kernel_measures_what_is_released(
    jupyter: str, place: Path, new_context: Callable[..., BrowserContext]
) -> None:
    page = new_context(viewport={"width": 1280, "height": 1000}).new_page()
    page.goto(f"{jupyter}/lab/tree/board.ipynb?token={TOKEN}")
    page.locator(".jp-NotebookPanel-notebook").wait_for()
    expect(page.locator("#jp-main-statusbar")).to_contain_text("Idle")
    run_cell(page, 0)
    figures = page.locator(".cahp-board .figure")
    expect(figures.nth(0)).to_contain_text("5 of 12", timeout=120_000)
    expect(page.get_by_role("gridcell")).to_have_count(12)

    # What the same question's run says, from another process.
    same = {"budget": 5, "pool_size": 8, "projection": "pca", "latency": False, "progress": False}
    run = cahp.prune(str(place / "model"), str(place / "data"), **same, store=Store(place / "other"))
    table = run.board.table
    assert run.metrics.pruned is not None
    expect(figures.nth(1)).to_contain_text(f"{run.metrics.pruned.accuracy * 100:.1f} %")

    # By keyboard, whose arrows are the board's and not the notebook's.
    slider = page.get_by_role("slider", name="Heads to keep")
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(figures.nth(0)).to_contain_text("8 of 12")
    found = budget_sweep.quality(run.bench, table.selection(8).mask)
    expect(figures.nth(1)).to_contain_text("95 % interval", timeout=120_000)
    expect(figures.nth(1)).to_contain_text(f"{found.accuracy * 100:.1f} %")
    expect(page.get_by_role("button", name="Undo")).to_be_enabled()

    # From a cell to the board.
    said = run_cell(page, 1)
    expect(said.locator(".jp-OutputArea-output")).to_contain_text("7 ", timeout=120_000)
    expect(figures.nth(0)).to_contain_text("7 of 12")
    seven = budget_sweep.quality(run.bench, table.selection(7).mask)
    expect(said.locator(".jp-OutputArea-output")).to_contain_text(f"7 {seven.accuracy:.6f}")

    # And back: a head dropped by hand.
    page.get_by_role("gridcell", selected=True).first.click()
    expect(figures.nth(0)).to_contain_text("made by hand")
    again = run_cell(page, 2)
    expect(again.locator(".jp-OutputArea-output")).to_contain_text("True 6", timeout=120_000)
