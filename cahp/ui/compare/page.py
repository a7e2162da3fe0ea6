"""The Compare page: methods of selecting heads under the same rules, and which differences are significant."""

from __future__ import annotations

import streamlit as st

from cahp.comparison import SplitResults
from cahp.comparison.sentences import headline, method_label, short_headline
from cahp.ui.compare import choices, heads, own, results
from cahp.ui.compare.view import draw_filters
from cahp.ui.parts.display import plain, problem
from cahp.ui.session.explorer import Explorer


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    st.title("Does it beat other methods?")
    available, errors = choices.list_choices()
    for error in errors:
        problem(error)
    if not available:
        _draw_empty_page(explorer)
        return
    choice = choices.draw_choice(explorer, available)
    shown = choice.comparison.results
    model, data = shown.document.model.id, shown.document.data.id
    with st.expander("Measure your own comparison", expanded=own.is_active(), key="compare-own-panel"):
        own.draw(explorer, choices.keep)
    # A headline contains no text from elsewhere except the names of methods, which are checked.
    st.subheader(short_headline(shown), anchor=False)
    st.markdown(f"**{plain(model)} on {plain(data)}.** {headline(shown)}")
    st.caption(f"{choice.origin} {_describe_samples(shown)}")
    _draw_notes(shown)
    view = draw_filters(shown)
    results.draw_accuracy(shown, view)
    results.draw_differences(shown, view)
    left, right = st.columns([8, 7], gap="medium")
    with left:
        heads.draw_layers(shown, view)
    with right:
        heads.draw_consensus(shown, view)
    heads.draw_overlap(shown, view)
    results.draw_costs(shown, view)
    results.draw_downloads(choice.comparison)


def _draw_notes(shown: SplitResults) -> None:
    """Draw how differences are tested, and the notices, in an expander."""
    rule = plain(shown.rule[:400].replace(shown.against, method_label(shown.against))) if shown.verdicts else ""
    notices = shown.document.notices
    if not rule and not notices:
        return
    labels = ["How differences are tested"] if rule else []
    labels += [f"Notes ({len(notices)})"] if notices else []
    with st.expander(" · ".join(labels), key="compare-notes"):
        st.markdown(rule)
        st.markdown("\n".join(f"- {plain(notice[:400])}" for notice in notices[:20]))


def _draw_empty_page(explorer: Explorer) -> None:
    with st.container(key="compare-nothing"):
        st.markdown(
            "A fair comparison uses the same texts, the same number of heads and the same recovery for every method, "
            "and tests the differences. **This copy of the package contains no finished comparison**: measure one "
            "here or at the command line, or open a file."
        )
        st.code("cahp compare --out comparison", language="bash")
        st.caption("This takes minutes, writes `comparison/compare.json`, and resumes if interrupted.")
        choices.draw_upload()
        own.draw(explorer, choices.keep)


def _describe_samples(shown: SplitResults) -> str:
    seeds, opened = len(shown.document.seeds), shown.document.test_opened
    times = f" The test split was opened {opened} time{'' if opened == 1 else 's'} for this model." if opened else ""
    return (
        f"{shown.calibration:,} calibration texts, {shown.n:,} evaluation texts of {plain(shown.split[:40])}, "
        f"{seeds} seed{'' if seeds == 1 else 's'}.{times}"
    )
