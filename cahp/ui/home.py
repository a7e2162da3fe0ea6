"""Home, called Overview: which heads stay, what that costs, and the budget to drag, in one screen."""

import streamlit as st

from cahp import features
from cahp.api.bundled import describe_overlap
from cahp.board import FirstScreen
from cahp.board.contents import describe_headline
from cahp.outcomes import Outcomes
from cahp.recoveries import NONE, RECOVERIES
from cahp.ui.frame import address, board
from cahp.ui.frame.page import link, provenance
from cahp.ui.frame.running import need_run, poll
from cahp.ui.frame.source_dialog import switch_builtins
from cahp.ui.parts.display import plain
from cahp.ui.session.explorer import Explorer
from cahp.values import HeadMask

#: Where one goes from here: the page, and the label of its link.
_DOORS = (
    ("similarity", "See which heads attend alike →"),
    ("budget", "Choose a budget →"),
    ("learn", "Learn in six guesses →"),
    ("export", "Export mask or model →"),
)


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    need_run(explorer)
    what = "A head decides which words attend to which."
    if explorer.card.group > 1:
        what = "A group is a few heads that share keys and values."
    with st.container(horizontal=True, vertical_alignment="center", key="first-line"):
        st.caption(f"Which heads does this model need? {what} CAHP keeps one of each family.")
        switch_builtins(explorer)
    poll(explorer, _draw)
    with st.container(key="doors"):
        for column, (key, label) in zip(st.columns(len(_DOORS)), _DOORS, strict=True):
            with column:
                link(key, label, width="stretch")


def _draw(explorer: Explorer) -> None:
    address.write(explorer)
    board.measure(explorer)
    shown = explorer.recovery.shown
    with st.container(key="first-picture"):
        with st.container(key=board.finding_key(explorer, "home-board")):
            st.title(plain(board.find_title(explorer, _describe)), anchor=False)
            with st.container(key="home-measured"):
                source = "Measured on this machine"
                if explorer.results.ships(explorer.mask, shown):
                    source = "Bundled result"
                evaluated = f"Evaluated on {explorer.bench.evaluation.measured}; the heads were selected on others."
                added = ""
                if explorer.recovery.row.adds_bypass:
                    added = f"; it {explorer.card.describe_bypass(explorer.mask, explorer.bypass_rank)}"
                help = f"{provenance(explorer, NONE.name, shown)} {evaluated}"
                card = explorer.card
                stability = describe_overlap(card.id, card.identity, explorer.bench.dataset.id, explorer.mask.count)
                measured = f"{source}, {RECOVERIES[shown].beside}{added}. {stability}"
                st.caption(measured, help=help, width="content")
        texts = features.first_texts()
        sentence = None
        for text in texts:
            sentence = text.above(explorer) or sentence
        recovery = explorer.recovery.name
        offered = [name for name in explorer.recoveries if name in (NONE.name, recovery) or RECOVERIES[name].at_once]
        recoveries = {name: RECOVERIES[name].beside for name in offered}
        first = FirstScreen(explorer.card.words.answers, sentence, board.find_opening(explorer), recoveries, recovery)
        board.draw(explorer, _describe, key="home-board", first=first)
        for text in texts:
            text.below(explorer)
        for panel in features.panels("Board"):
            panel.draw(explorer)


def _describe(explorer: Explorer, mask: HeadMask, outcomes: Outcomes | None) -> str:
    warnings = board.list_warnings(explorer, outcomes)
    if warnings:
        return f"{mask.count} of {mask.keep.size} {explorer.card.unit}s: {warnings[0]}"
    return describe_headline(mask, explorer.card.unit, outcomes, explorer.card.words)
