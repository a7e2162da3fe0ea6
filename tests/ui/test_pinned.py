"""Two masks against each other on the Budget page: A, which was pinned, and B, on the board."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import fakes
import pytest
from apps import done, explorer_of, open_app, rerun, text_of
from streamlit.testing.v1 import AppTest

from cahp.api import bundled
from cahp.board.budget_sweep import BudgetTable
from cahp.features.versus.panel import TAB, VERSUS
from cahp.ui.frame.address import OPENING, mask_to_hex
from cahp.ui.session import jobs
from cahp.ui.session.opening import Source
from cahp.ui.session.work import RUN

opened = partial(open_app, "budget")


def said(app: AppTest) -> str:
    return text_of(app, "markdown", "caption")


def test_a_pinned_mask_is_held_against_the_board_in_pairs_with_interval_and_n() -> None:
    app = opened(budget="20", recover="none")
    app.button(key="board-pin").click().run()
    explorer = explorer_of(app)
    assert "A and B are the same" in said(app)
    assert explorer.detail == TAB.label
    assert explorer.work.job(VERSUS) is None
    a = explorer.mask
    explorer.board.set_budget(13)
    app.run()
    found = done(explorer.work.job(VERSUS))
    assert found is not None
    rerun(app)
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
    return rerun(app)


def run(app: AppTest) -> AppTest:
    explorer = explorer_of(app)
    done(explorer.work.start(RUN, explorer.bench))
    return rerun(app)


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
    explorer_of(app).detail = TAB.label
    found = done(explorer_of(app.run()).work.job(VERSUS))
    assert found is not None
    rerun(app)
    words = said(app)
    assert (
        "**A** (pinned, of **first**) keeps 7 heads, as pruned; **B** (on the board, of **second**) 5, as pruned"
        in words
    )
    assert "on the same 40 texts, compared in pairs" in words
    assert "Both models are evaluated on the data on screen." in words
    assert found.apart
    assert list(app.dataframe[0].value["A says"]) == [found.a.classes[found.a.predictions[row]] for row in found.apart]
    assert app.button(key="pin-swap").disabled
    # A link holds the pins of its own model only.
    assert "pin" not in app.query_params
    change(app, folders, "first")
    assert "pin" in app.query_params
    explorer_of(app).close()
