"""The Compare page: methods of selecting heads under the same rules, and which differences are significant.

A comparison is bundled, measured here, or uploaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import streamlit as st

from cahp import features
from cahp.api import bundled
from cahp.comparison import Comparison, SplitResults
from cahp.comparison.result import read_upload
from cahp.comparison.sentences import headline, method_label
from cahp.run.document import machine
from cahp.ui.compare import claims, own, results
from cahp.ui.compare.view import ComparisonView, draw_filters
from cahp.ui.parts.display import describe_square, plain, problem
from cahp.ui.session.explorer import Explorer
from cahp.values import CahpError
from cahp.words import counted

#: Session key: comparisons that this session measured or opened.
_MINE = "cahp_compare_mine"
#: Session keys: the comparison on screen, and the model it was chosen for.
_CHOSEN = "compare-which"
_CHOSEN_FOR = "cahp_compare_for"


@dataclass(frozen=True, eq=False)
class Choice:
    """A comparison that can be shown, with its label, and its origin in Markdown."""

    label: str
    origin: str
    comparison: Comparison


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    st.title("Does it beat other methods?")
    available, errors = list_choices()
    for error in errors:
        problem(error)
    if not available:
        with st.container(key="compare-nothing"):
            st.markdown(
                "A fair comparison uses the same texts, number of heads and recovery for every method, and tests the "
                "differences. **This copy of the package contains no finished comparison**: measure one "
                "here or at the command line, or open a file."
            )
            st.code("cahp compare --out comparison", language="bash")
            st.caption("This takes minutes, writes `comparison/compare.json`, and resumes if interrupted.")
            draw_upload()
            own.draw(explorer, keep)
        return
    choice = draw_choice(explorer, available)
    if not any(_is_of(explorer, comparison) for comparison in available.values()):
        st.info(
            f"No comparison of {plain(explorer.card.id)} is bundled or measured yet. Measure one below, or read one of "
            "another model."
        )
    # A running comparison stays in sight. The empty form comes last.
    first = choice is None or own.is_active(explorer)
    if first:
        _draw_own(explorer, expanded=True)
    if choice is not None:
        _draw_comparison(explorer, choice)
    if not first:
        _draw_own(explorer, expanded=False)


def _draw_own(explorer: Explorer, *, expanded: bool) -> None:
    with st.expander("Measure your own comparison", expanded=expanded, key="compare-own-panel"):
        own.draw(explorer, keep)


def _draw_comparison(explorer: Explorer, choice: Choice) -> None:
    """Draw the finding, the claims of the paper, the ranking, the curves, and the rest in tabs."""
    shown = choice.comparison.results
    # A headline contains no text from elsewhere except the names of methods, which are checked.
    st.subheader(headline(shown), anchor=False)
    results.draw_primary(shown)
    st.caption(_describe_origin(explorer, choice))
    above = st.container(key="compare-above")
    view = draw_filters(shown, recover=explorer.recover)
    with above:
        claims.draw(explorer, shown, view)
    shown = choice.comparison.results_on(shown.document.parts[-1], view.outcome)
    results.draw_ranking(shown, view)
    results.draw_curve(shown, view)
    drawn = dict(_TABS)
    if shown.document.protocols is not None:
        drawn |= {panel.label: panel.draw for panel in features.panels("Compare tab of a language model")}
    tabs = st.tabs(list(drawn), key="compare-tab", on_change="rerun")
    for tab, draw_tab in zip(tabs, drawn.values(), strict=True):
        if tab.open:
            with tab:
                draw_tab(shown, view)
    results.draw_downloads(choice.comparison)


def _describe_origin(explorer: Explorer, choice: Choice) -> str:
    """Describe where a comparison was measured, and on how many texts."""
    shown = choice.comparison.results
    document = shown.document
    calibration = max(sample.examples for sample in document.data.select)
    read = "texts" if document.protocols is None else "windows"
    words = (
        f"{choice.origin} {calibration:,} calibration {read}, {shown.n:,} evaluation {shown.noun} of "
        f"{plain(shown.split[:40])}, {counted(len(document.seeds), 'seed')}."
    )
    if document.test_opened:
        words += f" The test split was opened {counted(document.test_opened, 'time')} for this model."
    if explorer.card.group > 1 and _is_of(explorer, choice):
        # The sentences are those of the terminal and of files, whose units are heads.
        words += f" A head on this page is {describe_square(explorer.card)}."
    return words


def _draw_overlap(shown: SplitResults, view: ComparisonView) -> None:
    left, right = st.columns([8, 7], gap="medium")
    with left:
        results.draw_overlap(shown, view)
    with right:
        results.draw_consensus(shown, view)


def _draw_notes(shown: SplitResults, view: ComparisonView) -> None:
    """Draw how differences are tested, and the notices."""
    if shown.verdicts:
        st.markdown(plain(shown.summary.rule[:1500].replace(shown.against, method_label(shown.against))))
    st.markdown("\n".join(f"- {plain(notice[:400])}" for notice in shown.document.notices[:20]))


#: What is drawn below the two charts, by the label of its tab.
_TABS: Mapping[str, Callable[[SplitResults, ComparisonView], None]] = {
    "Differences": results.draw_differences,
    "Layers": results.draw_layers,
    "Overlap": _draw_overlap,
    "Costs": results.draw_costs,
    "How it is tested": _draw_notes,
}


# The comparisons ---------------------------------------------------------------------------------------------


def list_choices() -> tuple[dict[str, Choice], list[str]]:
    """All comparisons by key, those of this session first, and an error message for each that cannot be read."""
    choices: dict[str, Choice] = dict(reversed(_session_choices().items()))
    shipped, errors = bundled.read_comparisons(bundled.comparisons_folder())
    for file in shipped:
        origin = "**Bundled**: the machine and the date were not recorded."
        if file.made:
            origin = f"**Bundled**: measured on {plain(file.made['machine'])}, {plain(file.made['date'])}."
        choices[f"bundled-{file.name}"] = Choice(f"{file.comparison.results.title} · bundled", origin, file.comparison)
    return choices, errors


def _session_choices() -> dict[str, Choice]:
    return st.session_state.setdefault(_MINE, {})  # type: ignore[no-any-return]


def _add(key: str, label: str, origin: str, comparison: Comparison) -> None:
    key = f"{key}-{len(_session_choices()) + 1}"
    _session_choices()[key] = Choice(f"{comparison.results.title} · {label}", origin, comparison)
    st.session_state[f"{_CHOSEN}-next"] = key


def keep(comparison: Comparison) -> None:
    """Add a comparison that was measured here, and show it."""
    label = f"measured here ({len(_session_choices()) + 1})"
    _add("own", label, f"**Measured on this machine** ({plain(machine())}).", comparison)


def _is_of(explorer: Explorer, choice: Choice) -> bool:
    """Return whether a comparison is of the explorer's model."""
    return choice.comparison.document.model.sha256 == explorer.card.identity


def draw_choice(explorer: Explorer, choices: dict[str, Choice]) -> Choice | None:
    """Draw the list of comparisons and return the selected one, at first the largest of the explorer's model.

    Without one it is the largest of a model that predicts the same (classes or tokens), or none: outcomes of a
    classifier tell nothing about a language model.
    """
    requested = st.session_state.pop(f"{_CHOSEN}-next", None)
    if requested in choices:
        st.session_state[_CHOSEN] = requested
    elif st.session_state.get(_CHOSEN) not in choices or st.session_state[_CHOSEN_FOR] != explorer.card.identity:
        tokens = explorer.card.task.predicts_often
        alike = [key for key in choices if (choices[key].comparison.document.protocols is not None) == tokens]
        same = [key for key in alike if _is_of(explorer, choices[key])]
        largest = max(same or alike, key=lambda key: len(choices[key].comparison.results.means), default=None)
        st.session_state[_CHOSEN] = largest
    st.session_state[_CHOSEN_FOR] = explorer.card.identity
    left, right = st.columns([4, 1], vertical_alignment="bottom", gap="small")
    with left:
        key = st.selectbox(
            "Comparison",
            list(choices),
            index=None,
            placeholder="Choose a comparison",
            format_func=lambda key: choices[key].label,
            key=_CHOSEN,
            persist_state="session",
            label_visibility="collapsed",
        )
    with right, st.popover("Open a file", key="compare-open", width="stretch"):
        draw_upload()
    if key is None:
        return None
    return choices[key]


def draw_upload() -> None:
    """Draw the file upload, and the error of the last file."""

    def read() -> None:
        file = st.session_state["compare-file"]
        st.session_state.pop("compare-trouble", None)
        if file is None:
            return
        try:
            comparison = read_upload(file.name, file.getvalue())
        except CahpError as error:
            st.session_state["compare-trouble"] = str(error)
            return
        _add("file", file.name[:40], f"**From your file** {plain(file.name[:80])}.", comparison)

    st.file_uploader("A compare.json from `cahp compare --out DIR`", type=["json"], key="compare-file", on_change=read)
    if "compare-trouble" in st.session_state:
        with st.container(key="compare-trouble-place"):
            problem(st.session_state["compare-trouble"])
    st.caption("The file stays in this session.")
