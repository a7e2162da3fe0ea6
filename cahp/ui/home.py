"""Home: what a head is, which heads stay, and what that costs, in one picture."""

from __future__ import annotations

import streamlit as st

from cahp.cards import ModelCard
from cahp.outcomes import HEADLINES
from cahp.recoveries import QUICK
from cahp.ui.frame import address, board
from cahp.ui.frame.page import link, provenance
from cahp.ui.frame.running import draw_timing, need_run, run_button
from cahp.ui.frame.source_dialog import draw_builtins
from cahp.ui.parts.display import plain
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.lifetime import page_drawn
from cahp.ui.session.work import RUN

#: Where one goes from here: the page, the label of its link, and what it is for.
_DOORS = (
    ("similarity", "Heads on your own text", "See which ones attend alike."),
    ("budget", "Choose a budget", "By hand or by a goal."),
    ("learn", "Learn in six guesses", "Guess first, then see."),
    ("export", "Export", "Mask, model, ONNX, report."),
)


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    st.title("Which attention heads does this model need?")
    st.markdown(
        f"An **attention head** decides which words attend to which. {plain(explorer.card.id)} has "
        f"{_count_heads(explorer.card)}, and many attend alike. CAHP groups similar heads and keeps one of each group. "
        "Drag the budget, or click a head."
    )
    need_run(explorer)
    pulse = explorer.work.pulse
    st.fragment(_live, run_every=pulse)(explorer, pulse)
    guesses = explorer.bench.dataset.labelled or explorer.card.predicts_tokens
    doors = [door for door in _DOORS if door[0] != "learn" or guesses]
    with st.container(key="doors"):
        for column, (key, label, about) in zip(st.columns(len(doors)), doors, strict=True):
            with column, st.container(border=True, key=f"door-{key}"):
                link(key, label)
                st.caption(about)
    draw_builtins(explorer)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="home-measured"):
        with st.container(key="own-text-link", width="content"):
            link("budget", f"{explorer.card.words.own_text} →", panel="text")
        if explorer.results.bundled:
            job = explorer.work.job(RUN)
            if job is None or job.ended:
                run_button(explorer, place="home")
        if explorer.card.cache is None:
            draw_timing(explorer, place="home")
        evaluated = f"Evaluated on {explorer.bench.evaluation.measured}; the heads were selected on others."
        refitted: tuple[str, ...] = () if explorer.outcomes(QUICK.name) is None else (QUICK.name,)
        st.caption(f"{provenance(explorer, 'none', *refitted)} {evaluated}")


def _live(explorer: Explorer, pulse: float | None) -> None:
    page_drawn()
    address.write(explorer)
    board.measure(explorer)
    with st.container(key="first-picture"):
        board.draw(explorer, finding=_describe(explorer), key="home-board")
    if explorer.work.pulse != pulse:
        # Polling starts and stops only with a run of the whole page.
        st.rerun()


def _count_heads(card: ModelCard) -> str:
    units = card.layers * card.heads
    if card.group == 1:
        return f"{units} heads"
    return f"{units * card.group} heads in {units} groups that share keys and values and are pruned together"


def _describe(explorer: Explorer) -> str:
    """Describe what the kept heads achieve as pruned, after a refit, and with all heads."""
    mask, table = explorer.mask, explorer.table()
    assert table is not None
    outcomes, recovered = explorer.outcomes(), explorer.outcomes(QUICK.name)
    models = {"": outcomes, f" {QUICK.after}": recovered, " with all heads": table.full}
    figures = []
    for row in HEADLINES:
        # The figures beside the board have all outcomes with their intervals.
        known = [
            f"{found[row.name].text}{words}"
            for words, found in models.items()
            if found is not None and row.name in found and not (row.difference and found is table.full)
        ]
        if known and row.unit in ("share", "number"):
            figures.append(f"{row.label} {', '.join(known)}")
    finding = f"{mask.count} of {mask.keep.size} heads kept"
    if outcomes is None:
        return finding
    n = max(estimate.n for estimate in outcomes.values())
    return f"{finding}: {'; '.join(figures)} (n = {n:,} {explorer.card.words.units})"
