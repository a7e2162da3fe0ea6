"""The Export page offers the forms of the table, whatever they are."""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import fakes
import pytest
from apps import PATIENCE, explorer_of, explorer_with_run, has_button, open_app, rerun, text_of, wait_for_ever
from clusters import ratio_of

from cahp.exports import formats
from cahp.exports.checkpoints import Provenance, checkpoint
from cahp.exports.form import Footprint
from cahp.exports.report import run_report
from cahp.exports.run_folder import read_run, write_run
from cahp.models.cards import DERIVED_SIZE, Timing
from cahp.run.bench import Bench
from cahp.run.prune import Run
from cahp.ui.export import page, page as export_page, view
from cahp.ui.export.view import on_board
from cahp.ui.frame.running import describe_steps
from cahp.ui.session.explorer import Explorer
from cahp.values import Estimate, HeadMask
from cahp.words import percent


def test_a_form_is_offered_as_soon_as_it_is_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = replace(formats.model_form("drop-in"), key="toy", title="Toy", loads_with="play", needs_model="children")
    mask = replace(formats.mask_forms()[0], key="bits", title="Bits", file="head_mask.txt")
    table = (*formats.FORMS, toy, mask)
    monkeypatch.setattr(formats, "FORMS", table)
    app = open_app("export")
    assert has_button(app, "export-write-toy")
    words = text_of(app, "caption", "markdown")
    # What it takes is known before: all weights in float32.
    assert re.search(r"^f32 · 91 MB · about \d+ (s|min)$", words, re.MULTILINE)
    assert "Loads with play" in words
    # MiniLM's configuration does not state the size of a head, and it is no language model: they are folded.
    assert not has_button(app, "export-write-standard")
    assert f"**Standard**: {DERIVED_SIZE}." in words
    assert "5 forms cannot be written" in app.main.expander[-1].label
    buttons = [button.proto.label for button in app.get("download_button")]
    first = buttons.index("JSON")
    assert buttons[first : first + 7] == ["JSON", "NumPy", "PyTorch", "CSV", "Head pattern", "heads_to_prune", "Bits"]


def test_the_mask_and_the_recovery_of_the_board_are_exported() -> None:
    app = open_app("export", recover="distill")
    explorer = explorer_of(app)
    assert app.selectbox(key="export-recover").value == "distill"
    # The run on screen was refitted: its figures are not those of a distilled model.
    assert app.button(key="export-measure").label.startswith("Recover and measure (about ")
    assert text_of(app, "code").startswith("cahp prune ")
    assert "--recover distill" in text_of(app, "code")
    explorer.board.toggle(explorer.mask.flat[0])
    assert "cahp evaluate --mask head_mask.json" in text_of(rerun(app), "code")


def test_a_model_is_recovered_in_time_and_shown_with_size_time_and_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []
    files = (
        Footprint("full", 90_900_000, Timing(50.0, 50.0, 8, 128, 40), None),
        Footprint("pruned", 80_700_000, Timing(49.0, 49.0, 8, 128, 40), ratio_of(0.98, 0.95, 1.01)),
        Footprint("int8", 20_500_000, Timing(25.0, 25.0, 8, 128, 40), ratio_of(0.5, 0.49, 0.51)),
    )
    accuracy = {"accuracy": Estimate(0.9, (0.862, 0.929), 311, "share")}
    outcomes = {file.name: accuracy for file in files}
    close = {"difference": 1e-7, "agreement": 1.0, "tried": 8, "written": 8}

    def write(bench: Bench, mask: HeadMask, **options: Any) -> tuple[bytes, dict[str, Any]]:
        calls.append(options)
        return b"a ZIP file", {"files": files, "form": "onnx-int8", "outcomes": outcomes, **close}

    monkeypatch.setattr(export_page, "checkpoint", write)
    monkeypatch.setattr(export_page, "plan_recovery", lambda *_: {"load": 0.0, "distill": 490, "evaluation": 2})
    app = open_app("export")
    # That of the board.
    assert app.selectbox(key="export-recover").value == "refit"
    app.selectbox(key="export-recover").set_value("auto").run()
    assert app.number_input(key="export-allowed").value == 2.0
    app.number_input(key="export-allowed").set_value(10.0).run()
    assert "about 9 min" in text_of(app, "markdown")
    app.button(key="export-write-compact").click().run()
    assert (job := explorer_of(app).work.job(export_page.WRITE)).wait(PATIENCE)
    assert describe_steps(job) == "Distilling → Evaluating → Writing → Loading again → Comparing"
    rerun(app)
    assert [(options["recover"], options["allowed"]) for options in calls] == [("auto", 600.0)]
    assert "Model (ZIP, 0 MB)" in [button.proto.label for button in app.get("download_button")]
    cells = [table.value.replace(r"\\", "", regex=True) for table in app.table]
    sizes = next(table for table in cells if "file" in table).to_dict("list")
    assert sizes["file"] == ["91 MB", "81 MB", "20 MB"]
    assert sizes["time of a batch"] == ["50.0 ms", "49.0 ms", "25.0 ms"]
    assert sizes["relative to the full model (95 %)"] == ["", "0.98 × [0.95, 1.01]", "0.50 × [0.49, 0.51]"]
    (results,) = (table.set_index("") for table in cells if "int8" in table)
    assert results.loc["Accuracy"].tolist() == ["90.0 % [86.2, 92.9]"] * 3
    assert "median of n = 40 rounds in turn." in text_of(app, "caption")
    # A mask made by hand is written as such.
    explorer = explorer_of(app)
    explorer.board.toggle(explorer.mask.flat[0])
    rerun(app).button(key="export-write-compact").click().run()
    assert explorer.work.job(export_page.WRITE).wait(PATIENCE)
    assert [options["provenance"].method for options in calls] == ["complementary", "by hand"]


def test_work_of_the_page_stands_on_every_page_and_only_the_newest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_page, "checkpoint", wait_for_ever)
    monkeypatch.setattr(view, "measure_mask", wait_for_ever)
    app = open_app("export", budget="20")
    app.button(key="export-write-compact").click()
    rerun(app)
    assert "Export of minilm-bbc" in text_of(app, "caption")
    first = explorer_of(app).work.job(export_page.WRITE)
    app.button(key="export-write-drop-in").click()
    rerun(app)
    assert first.state == "cancelled"
    explorer_of(app).work.job(export_page.WRITE).cancel()
    app.button(key="export-measure").click()
    rerun(app)
    assert "Measurement of minilm-bbc" in text_of(app, "caption")
    explorer_of(app).close()


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
