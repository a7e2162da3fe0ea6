"""Home, called Overview: which heads stay, what that costs, and the budget to drag, in one screen."""

from __future__ import annotations

import streamlit as st

from cahp.models.cards import ModelCard
from cahp.outcomes import HEADLINES, OUTCOMES, Outcomes
from cahp.recoveries import NONE, RECOVERIES
from cahp.ui.frame import address, board
from cahp.ui.frame.page import link, provenance
from cahp.ui.frame.running import draw_timing, need_run
from cahp.ui.frame.source_dialog import draw_builtins
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.lifetime import page_drawn
from cahp.values import HeadMask

#: Where one goes from here: the page, the label of its link, and what it is for.
_DOORS = (
    ("similarity", "Try your own text →", "See which heads attend alike."),
    ("budget", "Choose a budget →", "By hand or by a goal."),
    ("learn", "Learn in five minutes →", "Six guesses about heads."),
    ("export", "Export →", "Mask, model, ONNX, report."),
)


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    need_run(explorer)
    pulse = explorer.work.pulse
    st.fragment(_live, run_every=pulse)(explorer, pulse)
    guesses = explorer.bench.dataset.labelled or not explorer.card.task.predicts_labels
    doors = [door for door in _DOORS if door[0] != "learn" or guesses]
    with st.container(key="doors"):
        for column, (key, label, about) in zip(st.columns(len(doors), gap="small"), doors, strict=True):
            with column, st.container(border=True, key=f"door-{key}"):
                link(key, label)
                st.caption(about)
    draw_builtins(explorer)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="home-measured"):
        shown = dict.fromkeys((NONE.name, explorer.recover))
        evaluated = f"Evaluated on {_count_texts(explorer)}; the heads were selected on others."
        st.caption(f"{provenance(explorer, *shown)} {evaluated}")
        if explorer.card.saves == "time":
            draw_timing(explorer, place="home")


def _count_texts(explorer: Explorer) -> str:
    """Return the number of evaluation texts; of windows with that of the documents in them, if it was measured."""
    texts = explorer.bench.evaluation
    table = explorer.table()
    units = texts.task.words.units
    if table is None or table.full is None or units == texts.task.words.items:
        return texts.measured
    count = max(estimate.n for estimate in table.full.values())
    return f"{count:,} {units} in {texts.measured}"


def _live(explorer: Explorer, pulse: float | None) -> None:
    page_drawn()
    address.write(explorer)
    board.measure(explorer)
    with st.container(key="first-picture", gap="small"):
        st.caption("Which attention heads does this model need?")
        board.draw_finding(explorer, _describe, draw=st.title)
        st.markdown(_introduce(explorer.card))
        board.draw(explorer, _describe, key="home-board")
        board.draw_panels(explorer)
    if explorer.work.pulse != pulse:
        # Polling starts and stops only with a run of the whole page.
        st.rerun()


def _introduce(card: ModelCard) -> str:
    if card.group == 1:
        what = "An **attention head** decides which words attend to which."
    else:
        what = f"A **group** is {card.group} attention heads that share keys and values."
    return f"{what} CAHP keeps one {card.unit} of each cluster of similar ones: drag the slider."


def _describe(explorer: Explorer, mask: HeadMask, outcomes: Outcomes | None) -> str:
    """Describe by the main figure what the kept heads achieve, beside all heads."""
    table = explorer.table()
    assert table is not None
    finding = f"{mask.count} of {mask.keep.size} {explorer.card.unit}s"
    if outcomes is None:
        return finding
    # The accuracy or the perplexity; where there is neither, the agreement, which the full model has not.
    row = next((row for row in HEADLINES if row.name in outcomes and not row.difference), OUTCOMES["agreement"])
    value = outcomes[row.name].text
    figure = {"accuracy": f"{value} right", "agreement": f"{value} agreement"}.get(row.name, f"{row.label} {value}")
    finding += f": {figure}"
    if mask.is_full:
        return finding
    noun = RECOVERIES[explorer.shown_recovery].noun
    finding += f" after a {noun}" if noun else " as pruned"
    below = board.below_baseline(explorer, outcomes)
    if below:
        finding += f", {below}"
    elif table.full is not None and not row.difference:
        finding += f", {table.full[row.name].text} with all"
    return finding
