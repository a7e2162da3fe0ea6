"""Two masks against each other on the Budget page: A, which was pinned, and B, on the board."""

from pathlib import Path

import fakes
from apps import done, explorer_with_run, open_app, rerun, text_of
from streamlit.testing.v1 import AppTest

from cahp.features.versus import TAB, VERSUS
from cahp.ui.frame.address import mask_to_hex
from cahp.ui.session.explorer import Explorer


def said(app: AppTest) -> str:
    return text_of(app, "markdown", "caption")


def test_a_pinned_mask_is_held_against_the_board_in_pairs_with_interval_and_n(tmp_path: Path) -> None:
    with explorer_with_run("pinned", fakes.quick_task(tmp_path)) as explorer:
        check_pinned(explorer)


def check_pinned(explorer: Explorer) -> None:
    # Else a refit that ends between two runs of the page would make B differ from A.
    explorer.chosen_recovery = "none"
    explorer.board.set_budget(8)
    app = open_app("budget", explorer)
    app.button(key="board-pin").click().run()
    assert "A and B are the same" in said(app)
    assert explorer.detail == TAB.label
    assert explorer.work.job(VERSUS) is None
    a = explorer.mask
    explorer.board.set_budget(5)
    app.run()
    found = done(explorer.work.job(VERSUS))
    rerun(app)
    assert f"{(a.keep & explorer.mask.keep).sum()} heads are in both" in said(app)
    assert "on the same 40 texts" in said(app)
    assert f"{found.counts[0]} predictions differ: " in said(app)
    assert len(app.dataframe[0].value) == found.counts[0]
    # The address restores both.
    link = dict(app.query_params)
    assert link["pin"] == mask_to_hex(a)
    assert link["budget"] in ("5", "auto")
    app.button(key="pin-forget").click().run()
    assert explorer.pinned is None
    assert "pin" not in app.query_params
