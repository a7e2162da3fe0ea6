"""Two masks against each other on the Budget page: A, which was pinned, and B, on the board."""

from __future__ import annotations

from functools import partial

from apps import done, explorer_of, open_app, rerun, text_of
from streamlit.testing.v1 import AppTest

from cahp.features.versus.panel import TAB, VERSUS
from cahp.ui.frame.address import mask_to_hex

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
    assert f"{(a.keep & explorer.mask.keep).sum()} heads are in both" in said(app)
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
