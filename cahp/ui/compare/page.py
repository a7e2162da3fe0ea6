"""Is it any good: methods of choosing heads under the same rules, and what can be said of their differences."""

from __future__ import annotations

import streamlit as st

from cahp.compare import Reading
from cahp.compare.sentences import called, headline
from cahp.ui.compare import accuracies, choices, costs, heads, own
from cahp.ui.compare.view import filters
from cahp.ui.frame import page as shell
from cahp.ui.parts.text import plain
from cahp.ui.session.explorer import Explorer


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    st.title("Is it any good?")
    available, broken = choices.available()
    for sentence in broken:
        shell.problem(sentence)
    if not available:
        _nothing(explorer)
        return
    choice = choices.chosen(explorer, available)
    found = choice.comparison.reading
    with st.expander("Measure a comparison of your own", expanded=own.under_way(), key="compare-own-panel"):
        own.draw(explorer, choices.keep)
    # Names of methods, which a reading has checked, are the only other foreign words.
    st.subheader(f"{plain(found.model)} on {plain(found.data)}: {_within(headline(found))}")
    st.caption(f"{choice.origin} {_asked(found)}")
    if found.notices:
        with st.expander(f"Notes ({len(found.notices)})", key="compare-notes"):
            st.markdown("\n".join(f"- {plain(notice[:400])}" for notice in found.notices[:20]))
    view = filters(found)
    accuracies.draw(found, view)
    left, right = st.columns([8, 7], gap="medium")
    with left:
        heads.draw_layers(found, view)
    with right:
        heads.draw_consensus(found, view)
    heads.draw_overlap(found, view)
    costs.draw(found, view)
    costs.downloads(choice.comparison)


def _within(sentence: str) -> str:
    """A sentence after a colon."""
    return sentence if sentence[1:2].isupper() else f"{sentence[:1].lower()}{sentence[1:]}"


def _nothing(explorer: Explorer) -> None:
    with st.container(key="compare-nothing"):
        st.markdown(
            "A fair answer holds methods under the same rules: the same texts, the same number of heads, the same "
            "recovery, and differences that pass a test. **This copy of the package ships no finished comparison**, "
            "so make one here or at the command line, or open one."
        )
        st.code("cahp compare --out comparison", language="bash")
        st.caption("That takes minutes, writes `comparison/compare.json`, and goes on where it stopped.")
        choices.uploader()
        own.draw(explorer, choices.keep)


def _asked(found: Reading) -> str:
    tests = (
        f" The test split was opened {found.test_opened} time{'' if found.test_opened == 1 else 's'} for this model."
        if found.test_opened
        else ""
    )
    rule = "" if not found.verdicts else f" {plain(found.rule[:400].replace(found.against, called(found.against)))}"
    return (
        f"{found.calibration:,} calibration texts, {found.n:,} evaluation texts of {plain(found.split[:40])}, "
        f"{found.seeds} seed{'' if found.seeds == 1 else 's'}.{rule}{tests}"
    )
