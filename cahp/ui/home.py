"""Home: what a head is, which heads stay, and what that costs, in one picture."""

from __future__ import annotations

from collections.abc import Sequence

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
        _onward()
        if explorer.results.bundled:
            job = explorer.work.job(RUN)
            if job is None or job.ended:
                run_button(explorer, place="home", primary=False)
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
    table, clusters = explorer.table(), explorer.clusters
    assert table is not None
    assert clusters is not None
    with st.container(key="first-picture"):
        display.heading(
            _finding(explorer),
            help="Each square is one attention head: its row is the layer, its column the place in the layer. Colour "
            "and letter name its cluster: heads that separate the classes in a similar way. Solid squares stay, hollow "
            "ones are pruned. Accuracy is measured on texts that did not select the heads, with Wilson's 95 % "
            "interval; time is measured on the model whose heads are cut out.",
            name="home-heads",
            data=lambda: _heads(explorer),
        )
        budget_board(
            table,
            clusters,
            Shown(
                explorer.mask,
                explorer.board.origin,
                explorer.outcomes(),
                explorer.speed(),
                note=_refitted(explorer),
                rescued=explorer.board.rescued,
            ),
            labels=explorer.board.labels,
            key="home-board",
        )


def _finding(explorer: Explorer) -> str:
    total = explorer.card.layers * explorer.card.heads
    quality, recovered, table = explorer.outcomes(), explorer.outcomes(QUICK.name), explorer.table()
    kept = f"{explorer.board.budget} of {total} heads kept"
    if quality is None:
        return kept
    full = None if table is None else table.full
    figures = [f"accuracy {quality['accuracy'].text}"]
    if recovered is not None:
        figures.append(f"{recovered['accuracy'].text} {QUICK.after}")
    if full is not None:
        figures.append(f"{full['accuracy'].text} with all heads")
    return f"{kept}: {', '.join(figures)}"


def _refitted(explorer: Explorer) -> str:
    recovered = explorer.outcomes(QUICK.name)
    if recovered is None:
        return ""
    accuracy = recovered["accuracy"]
    return f"{QUICK.after}, without training: {accuracy.text} ({accuracy.span})"


def _heads(explorer: Explorer) -> dict[str, Sequence[object]]:
    mask = explorer.mask
    return {
        **places(mask.layers, mask.heads),
        "kept": [int(kept) for kept in mask.keep.ravel()],
        "cluster": [palette.letters(int(label)) for label in explorer.board.labels],
    }


def _onward() -> None:
    with st.container(key="onward", width="content"):
        link("budget", "Move the budget →", otherwise="Continue with **Budget**.")
