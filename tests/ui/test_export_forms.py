"""The Export page offers the forms of the table, whatever they are."""

from dataclasses import replace
from typing import Any

import pytest
from apps import PATIENCE, explorer_of, has_button, open_app, rerun, text_of, wait_for_ever
from clusters import ratio_of

from cahp.exports import formats
from cahp.exports.form import Footprint
from cahp.models.cards import DERIVED_SIZE, Timing
from cahp.run.bench import Bench
from cahp.ui.export import page as export_page
from cahp.ui.export import view
from cahp.values import Estimate, HeadMask


def test_a_form_is_offered_as_soon_as_it_is_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = replace(formats.model_form("drop-in"), key="toy", title="Toy", loads_with="play", needs_model="children")
    mask = replace(formats.mask_forms()[0], key="bits", title="Bits", file="head_mask.txt")
    table = (*formats.FORMS, toy, mask)
    monkeypatch.setattr(formats, "FORMS", table)
    app = open_app("export")
    assert has_button(app, "export-write-toy")
    words = text_of(app, "caption", "markdown")
    assert "Size: as the original · speed: as the original" in words
    assert "Loads with play" in words
    # MiniLM's configuration does not state the size of a head, and it is no language model: their cards come last.
    assert not has_button(app, "export-write-standard")
    assert f"Not with this model and mask: {DERIVED_SIZE}." in words
    assert words.index("**Toy**") < words.index("**Standard**")
    buttons = [button.proto.label for button in app.get("download_button")]
    first = buttons.index("JSON")
    assert buttons[first : first + 7] == ["JSON", "NumPy", "PyTorch", "CSV", "Head pattern", "heads_to_prune", "Bits"]


def test_the_mask_and_the_recovery_of_the_board_are_exported() -> None:
    app = open_app("export", recover="distill")
    explorer = explorer_of(app)
    assert app.selectbox(key="export-recover").value == "distill"
    assert "unless this mask was recovered before" in text_of(app, "caption")
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
    monkeypatch.setattr(export_page, "recovery_seconds", lambda bench, recover: 500.0)
    app = open_app("export")
    # That of the board.
    assert app.selectbox(key="export-recover").value == "refit"
    app.selectbox(key="export-recover").set_value("auto").run()
    assert app.number_input(key="export-allowed").value == 2.0
    app.number_input(key="export-allowed").set_value(10.0).run()
    assert "Expected: 8 min," in text_of(app, "caption")
    app.button(key="export-write-compact").click().run()
    assert explorer_of(app).work.job(export_page.WRITE).wait(PATIENCE)
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
    assert results.loc["n"].tolist() == ["311"] * 3
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
    second = explorer_of(app).work.job(export_page.WRITE)
    second.cancel()
    app.button(key="export-measure").click()
    rerun(app)
    assert "Measurement of minilm-bbc" in text_of(app, "caption")
