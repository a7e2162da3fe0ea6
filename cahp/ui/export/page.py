"""Export: the mask on the board, its report, its run, and the pruned model as files."""

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
    st.title("Export")
    who = "made by hand" if explorer.board.by_hand else "chosen by CAHP"
    st.markdown(
        f"The mask on the board: **{view.mask.count} of {view.mask.keep.size} heads kept**, {who}. Change it on the "
        "Budget page."
    )
    found(explorer, view)
    for row in ((mask_files, report_files), (model_files, again)):
        for column, part in zip(st.columns(2, gap="medium"), row, strict=True):
            with column, st.container(border=True, key=f"export-{part.__name__}", height="stretch"):
                part(explorer, view)
    st.subheader("Figures")
    st.caption("Download each as SVG, PNG or CSV under the small i beside its title.")
    left, right = st.columns(2, gap="large")
    with left:
        grid(view)
    with right:
        accuracy_curve(explorer)
        silhouette_curve(explorer)
