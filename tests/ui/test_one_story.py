"""One mask, one story: board, page, report, run folder and model say the same figures of the same recovery."""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import fakes
import pytest
from apps import explorer_with_run, open_app, text_of

from cahp.exports import formats
from cahp.exports.checkpoints import Provenance, checkpoint
from cahp.exports.report import run_report
from cahp.exports.run_folder import read_run, write_run
from cahp.run.prune import Run
from cahp.ui.export import page
from cahp.ui.export.view import on_board
from cahp.ui.session.explorer import Explorer
from cahp.words import percent

BUDGET = 5


@pytest.fixture(scope="module")
def explorer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explorer]:
    """A session whose run on screen was refitted, as the bundled one is, on a quiet machine."""
    sizes = {"limit": 60, "eval_limit": 30, "budget": str(BUDGET)}
    place = tmp_path_factory.mktemp("tiny")
    settings = fakes.quick_task(place, **sizes, recover="refit", latency=True, latency_time="0.2s")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cahp.models.cards.NOISY", float("inf"))
        with explorer_with_run("somebody", settings) as made:
            made.board.set_budget(BUDGET)
            yield made


def quality_table(report: str) -> list[str]:
    """The accuracies of a report, of all models of the run."""
    table = report.partition("<h2>Quality and cost</h2>")[2]
    row = re.search(r"<th scope=row>Accuracy</th>((?:<td>[^<]*</td>)+)", table)
    return [cell.partition(" [")[0] for cell in re.findall(r"<td>([^<]*)</td>", row[1])]


def card_table(readme: str) -> list[str]:
    """The accuracies of a model card."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in readme.splitlines() if line.startswith("| ")]
    (cells,) = (row[1:] for row in rows if row[0] == "Accuracy")
    return [cell.partition(" [")[0] for cell in cells]


@pytest.mark.parametrize("recover", ["none", "refit"])
@pytest.mark.usefixtures("read_back_here")
def test_every_export_shows_the_same_figures_of_a_mask(explorer: Explorer, recover: str, tmp_path: Path) -> None:
    explorer.chosen_recovery = recover
    board = explorer.outcomes(recover)
    app = open_app("export", explorer)
    tables = [table.value for table in app.table]
    quality, cost = (table.set_index("") for table in tables if "" in table.columns)
    on_page = [cell.replace("\\", "").partition(" [")[0] for cell in quality.loc["Accuracy"]]
    view = on_board(explorer)
    run = view.document
    assert run.settings.recover == recover
    report = page._report(explorer, view, run).decode()
    folder = tmp_path / "run"
    write_run(folder, Run(run, view.mask, view.arrays), table=explorer.table(explorer.swept))
    said: dict[str, Any] = json.loads((folder / "run.json").read_text())
    by_command = run_report(read_run(folder), day=date(2026, 1, 31))
    # The form follows the board's recovery, so no figures differ.
    assert app.selectbox(key="export-recover").value == recover
    assert "Its figures appear here" not in text_of(app, "caption")
    content, _ = checkpoint(
        explorer.bench, view.mask, form=formats.model_form("compact"), provenance=Provenance(), recover=recover
    )
    archive = zipfile.ZipFile(io.BytesIO(content))
    (inside,) = {Path(name).parts[0] for name in archive.namelist()}
    readme = archive.read(f"{inside}/README.md").decode()
    figures = json.loads(archive.read(f"{inside}/{formats.FIGURES_FILE}"))
    expected = [percent(part["accuracy"]) for part in said["metrics"].values() if part is not None]
    assert len(expected) == (2 if recover == "none" else 3)
    assert expected[-1] == board["accuracy"].text
    assert on_page == expected
    assert quality_table(report) == quality_table(by_command) == expected
    assert card_table(readme) == expected
    assert figures["metrics"] == said["metrics"]
    assert figures["delta"] == said["delta"]
    assert figures["recovery"] == said["settings"]["recover"] == recover
    headline = re.search(r"<p class=lead>.*?</p>", report)
    assert headline[0] in by_command
    # And of its time.
    ratio = run.latency_ratio
    words = cost.loc["Time per batch, median"].iloc[-1].replace("\\", "")
    assert f"{ratio.text} {ratio.interval}" in words
    assert f"<td>{words}</td>" in report
    assert f"<td>{words}</td>" in by_command
    speed = explorer.results.speed(explorer.mask)
    assert speed.ratio == ratio
