"""Is it any good: methods of choosing heads under the same rules, and what can be said of their differences."""

from __future__ import annotations

import streamlit as st

from cahp.comparison import Reading
from cahp.comparison.sentences import called, headline, in_short
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
    # Names of methods, which a reading has checked, are the only foreign words of a headline.
    st.subheader(in_short(found), anchor=False)
    st.markdown(f"**{plain(found.model)} on {plain(found.data)}.** {headline(found)}")
    st.caption(f"{choice.origin} {_asked(found)}")
    _rules(found)
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


def _rules(found: Reading) -> None:
    """How it was tested, and what else should be known, for whoever opens it."""
    rule = plain(found.rule[:400].replace(found.against, called(found.against))) if found.verdicts else ""
    if not rule and not found.notices:
        return
    notes = f"notes ({len(found.notices)})" if found.notices else ""
    label = " and ".join(part for part in ("How it was tested" if rule else "", notes) if part)
    with st.expander(f"{label[:1].upper()}{label[1:]}", key="compare-notes"):
        st.markdown(rule)
        st.markdown("\n".join(f"- {plain(notice[:400])}" for notice in found.notices[:20]))


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
    return (
        f"{found.calibration:,} calibration texts, {found.n:,} evaluation texts of {plain(found.split[:40])}, "
        f"{found.seeds} seed{'' if found.seeds == 1 else 's'}.{tests}"
    )
