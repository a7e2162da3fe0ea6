"""Take it home: the mask on the board, its figures, its report, its recipe, and a recovered model."""

from __future__ import annotations

import streamlit as st

from cahp.ui.export.figures import accuracy_curve, grid, silhouette_curve
from cahp.ui.export.files import again, mask_files, report_files
from cahp.ui.export.model import model_files
from cahp.ui.export.view import found, on_board
from cahp.ui.frame.running import need_run
from cahp.ui.session.explorer import Explorer


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    need_run(explorer)
    view = on_board(explorer)
    st.title("Take it home")
    who = "made by hand" if explorer.board.by_hand else "chosen by CAHP"
    st.markdown(
        f"What is on the board, as files: **{view.mask.count} of {view.mask.keep.size} heads**, {who}. "
        "Change it on the Budget page; everything here follows."
    )
    found(explorer, view)
    for row in ((mask_files, report_files), (model_files, again)):
        for column, part in zip(st.columns(2, gap="medium"), row, strict=True):
            with column, st.container(border=True, key=f"export-{part.__name__}", height="stretch"):
                part(explorer, view)
    st.subheader("Pictures")
    st.caption("SVG, PNG and CSV of each are under the small i beside its title.")
    left, right = st.columns(2, gap="large")
    with left:
        grid(view)
    with right:
        accuracy_curve(explorer)
        silhouette_curve(explorer)
