"""Home: what a head is, which heads stay, and what that costs, in one picture."""

from __future__ import annotations

import streamlit as st

from cahp.cards import ModelCard
from cahp.figures.head_grid import places
from cahp.outcomes import HEADLINES
from cahp.recoveries import QUICK
from cahp.ui.frame.page import link, provenance
from cahp.ui.frame.running import draw_timing, need_run, run_button
from cahp.ui.frame.source_dialog import draw_builtins
from cahp.ui.parts import display
from cahp.ui.parts.budget_board import Shown, budget_board
from cahp.ui.parts.display import describe_square, plain
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import RUN


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    st.title("Which attention heads does this model need?")
    card = explorer.card
    st.markdown(
        f"An **attention head** is a part of a layer that decides which words attend to which. "
        f"{plain(card.id)} has {_count_heads(card)}, and many of them attend alike. CAHP groups similar heads, keeps "
        "one of each group, and prunes the others."
    )
    draw_builtins(explorer)
    need_run(explorer)
    _picture(explorer)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="home-ways"):
        with st.container(key="onward", width="content"):
            link("budget", "Move the budget →")
        with st.container(key="own-text-link", width="content"):
            link("budget", f"{card.words.own_text} →", panel="text")
        if explorer.results.bundled:
            job = explorer.work.job(RUN)
            if job is None or job.ended:
                run_button(explorer, place="home")
        if explorer.bench.dataset.labelled:
            link("learn", "Learn in six guesses")
        link("export", "Export")
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="home-measured"):
        if card.cache is None:
            draw_timing(explorer, place="home")
        evaluated = f"Evaluated on {explorer.bench.evaluation.measured}; the heads were selected on others."
        refitted: tuple[str, ...] = () if explorer.outcomes(QUICK.name) is None else (QUICK.name,)
        st.caption(f"{provenance(explorer, 'none', *refitted)} {evaluated}")


def _count_heads(card: ModelCard) -> str:
    units = card.layers * card.heads
    if card.group == 1:
        return f"{units} heads"
    return f"{units * card.group} heads in {units} groups that share keys and values and are pruned together"


def _picture(explorer: Explorer) -> None:
    """Draw the board with its finding as the title."""
    table, clusters, board, mask = explorer.table(), explorer.clusters, explorer.board, explorer.mask
    card = explorer.card
    assert table is not None
    assert clusters is not None
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
    if outcomes is not None:
        n = max(estimate.n for estimate in outcomes.values())
        finding += f": {'; '.join(figures)} (n = {n:,} {card.words.units})"
    with st.container(key="first-picture"):
        display.heading(
            finding,
            help=f"Each square is {describe_square(card)}: its row is the layer, its column the place in the layer. "
            f"Colour and letter name its cluster: heads that {card.words.likeness}. Solid squares are kept, light "
            "ones are pruned. Outcomes are measured on texts that were not used to select the heads, with 95 % "
            "intervals. KL divergence and agreement compare the predictions with those of the full model. "
            + (
                "Time is measured after the pruned heads are cut out."
                if card.cache is None
                else "The KV cache is counted: the bytes of the keys and values of a token."
            ),
            name="home-heads",
            data=lambda: {
                **places(mask.layers, mask.heads),
                "kept": [int(kept) for kept in mask.keep.ravel()],
                "cluster": clusters.names(board.labels),
            },
        )
        beside = None if recovered is None or mask.is_full else (f"{QUICK.after}:", recovered)
        shown = Shown(mask, board.origin, outcomes, explorer.results.speed(mask), rescued=board.rescued, beside=beside)
        budget_board(table, clusters, shown, labels=board.labels, key="home-board", cache=card.cache)
