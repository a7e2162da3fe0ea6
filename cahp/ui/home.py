"""Home: what a head is, which heads stay, and what that costs, in one picture."""

from __future__ import annotations

import streamlit as st

from cahp.figures import palette
from cahp.figures.head_grid import places
from cahp.recoveries import QUICK
from cahp.ui.frame.page import link, provenance
from cahp.ui.frame.running import follow, need_run, run_button, time_button
from cahp.ui.parts import display
from cahp.ui.parts.budget_board import Shown, budget_board
from cahp.ui.parts.display import plain, problem
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import RUN, SPEED


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    st.title("Which attention heads does this model need?")
    card = explorer.card
    st.markdown(
        f"An **attention head** is a part of a layer that decides which words of a text look at which others. "
        f"{plain(card.id)} has {card.layers * card.heads} heads, and many attend alike. CAHP groups similar heads, "
        "keeps one per group, and prunes the rest."
    )
    need_run(explorer)
    _picture(explorer)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="home-ways"):
        with st.container(key="onward", width="content"):
            link("budget", "Move the budget →")
        if explorer.results.bundled:
            job = explorer.work.job(RUN)
            if job is None or job.ended:
                run_button(explorer, place="home")
        link("learn", "Learn in six guesses")
        link("export", "Export")
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="home-measured"):
        timing_job = explorer.job(SPEED)
        if timing_job is not None and not timing_job.ended:
            follow(timing_job, place="home-time", title="Timing")
        else:
            if timing_job is not None and timing_job.error:
                problem(timing_job.error)
            if time_button(explorer, place="home"):
                st.rerun()
        evaluated = f"Evaluated on {len(explorer.bench.evaluation):,} texts; the heads were selected on others."
        refitted: tuple[str, ...] = () if explorer.outcomes(QUICK.name) is None else (QUICK.name,)
        st.caption(f"{provenance(explorer, 'none', *refitted)} {evaluated}")


def _picture(explorer: Explorer) -> None:
    """Draw the board with its finding as the title."""
    table, clusters, board, mask = explorer.table(), explorer.clusters, explorer.board, explorer.mask
    assert table is not None
    assert clusters is not None
    outcomes, recovered, note = explorer.outcomes(), explorer.outcomes(QUICK.name), ""
    figures = [] if outcomes is None else [f"accuracy {outcomes['accuracy'].text}"]
    if recovered is not None:
        accuracy = recovered["accuracy"]
        note = f"{QUICK.after}, without training: {accuracy.text} ({accuracy.span})"
        figures.append(f"{accuracy.text} {QUICK.after}")
    if table.full is not None:
        figures.append(f"{table.full['accuracy'].text} with all heads")
    finding = f"{mask.count} of {mask.keep.size} heads kept"
    if outcomes is not None:
        finding += f": {', '.join(figures)}"
    with st.container(key="first-picture"):
        display.heading(
            finding,
            help="Each square is one attention head: its row is the layer, its column the place in the layer. Colour "
            "and letter name its cluster: heads that separate the classes in a similar way. Solid squares stay, hollow "
            "ones are pruned. Accuracy is measured on texts that did not select the heads, with Wilson's 95 % "
            "interval; time is measured on the model whose heads are cut out.",
            name="home-heads",
            data=lambda: {
                **places(mask.layers, mask.heads),
                "kept": [int(kept) for kept in mask.keep.ravel()],
                "cluster": [palette.letters(int(label)) for label in board.labels],
            },
        )
        shown = Shown(mask, board.origin, outcomes, explorer.speed(), note=note, rescued=board.rescued)
        budget_board(table, clusters, shown, labels=board.labels, key="home-board")
