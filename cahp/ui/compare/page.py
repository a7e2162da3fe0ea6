"""The Compare page: methods of selecting heads under the same rules, and which differences are significant.

A comparison is bundled, measured here, or uploaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import streamlit as st

from cahp import features
from cahp.api import bundled
from cahp.comparison import Comparison, SplitResults
from cahp.comparison.result import read_upload
from cahp.comparison.sentences import headline
from cahp.figures.comparison_blocks import (
    SECTIONS,
    Filters,
    list_claims,
    show_curve,
    show_primary,
    show_ranking,
)
from cahp.run.document import machine
from cahp.show.blocks import Block, Claim, Text
from cahp.ui.compare import own
from cahp.ui.compare.view import draw_filters
from cahp.ui.frame.running import draw_knee
from cahp.ui.parts import blocks, display
from cahp.ui.parts.display import cache_with, plain, problem
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
    choices, errors = list_choices()
    for error in errors:
        problem(error)
    if not any(_is_of(explorer, choice) for choice in choices.values()):
        st.info(
            f"No comparison of {plain(explorer.card.id)} is bundled or measured yet. Measure one, here or with `cahp "
            "compare --out DIR`, or open a file."
        )
    choice = _draw_choice(explorer, choices)
    # A running comparison stays in sight. The empty form comes last.
    first = choice is None or explorer.work.job(own.MEASURE) is not None
    if choice is not None and not first:
        _draw_comparison(explorer, choice)
    with st.expander("Measure your own comparison", expanded=first, key="compare-own-panel"):
        own.draw(explorer, _keep)
    if choice is not None and first:
        _draw_comparison(explorer, choice)


def _draw_comparison(explorer: Explorer, choice: Choice) -> None:
    """Draw the finding, the claims of the paper, the ranking, the curves, and the rest in tabs."""
    shown = choice.comparison.results
    # A headline contains no text from elsewhere except the names of methods, which are checked.
    st.subheader(headline(shown), anchor=False)
    _, *statistics = show_primary(shown)
    if shown.primary is not None:
        with st.expander(f"Primary test: {shown.primary.words}", key="compare-primary"):
            blocks.draw(statistics)
    document = shown.document
    calibration = max(sample.examples for sample in document.data.select)
    read = "texts" if document.protocols is None else "windows"
    words = f"{calibration:,} calibration {read}, {shown.n:,} evaluation {shown.noun} of {plain(shown.split[:40])}, "
    st.caption(f"{choice.origin} {words}{counted(len(document.seeds), 'seed')}.")
    above = st.container(key="compare-above")
    filters = draw_filters(shown, recover=explorer.recovery.name)
    with above:
        _draw_claims(explorer, shown, filters)
    shown = choice.comparison.results_on(shown.document.parts[-1], filters.outcome)
    blocks.draw(show_ranking(shown, filters), owner=shown, key=filters)
    blocks.draw(show_curve(shown, filters), owner=shown, key=filters)
    tabs = st.tabs(list(SECTIONS), key="compare-tab", on_change="rerun")
    for tab, show in zip(tabs, SECTIONS.values(), strict=True):
        if tab.open:
            with tab:
                blocks.draw(show(shown, filters), owner=shown, key=filters)
    _draw_downloads(choice.comparison)


def _draw_claims(explorer: Explorer, results: SplitResults, filters: Filters) -> None:
    """Draw a line with the verdict for each claim, and for each experiment; it opens the evidence.

    ``results`` are those in the first outcome that was measured.
    """
    claims = list_claims(results, filters)
    claims.append(_find_number(explorer, results))
    for find in features.experiments():
        claim = find(results.document)
        if claim is not None:
            claims.append(claim)
    with st.container(key="compare-claims", gap="small"):
        st.subheader("What the paper claims", anchor=False)
        for start in range(0, len(claims), 2):
            columns = st.columns(2, gap="small")
            for column, claim in zip(columns, claims[start : start + 2], strict=False):
                key = f"claim-{claim.name}"
                # A panel with another verdict would be another one, and closed.
                st.session_state[key] = st.session_state.get(key, False)
                with column:
                    # A status contains no text from elsewhere.
                    panel = st.expander(f"{claim.title}: **{claim.status}**", key=key, on_change="rerun")
                if panel.open:
                    with panel:
                        blocks.draw(claim.show(), owner=results, key=filters)


def _find_number(explorer: Explorer, results: SplitResults) -> Claim:
    """Return the claim on the number of heads, tested if the model of the comparison is open and has a run."""
    run = explorer.results.run
    null = explorer.results.null
    clusters = None
    if run is not None and run.model.sha256 == results.document.model.sha256:
        clusters = explorer.clusters
    status = "not tested yet"
    if clusters is not None and null is not None:
        degree = explorer.settings.poly_degree
        stops = cache_with(null, degree, lambda: null.knee(degree))
        status = "supported"
        chosen = clusters.clustering.knee
        if not chosen or (stops is not None and stops.low <= chosen <= stops.high):
            # The rule names no number, or stops there without clusters, too.
            status = "not supported"

    def show() -> Iterator[Block]:
        if clusters is None:
            yield Text(
                "The Stability page compares the published rule with unstructured data, once "
                f"{results.document.model.id} is open and has a run."
            )
        else:
            draw_knee(explorer, place="compare")

    return Claim("number", "Finds the number by itself", status, show)


def _draw_downloads(comparison: Comparison) -> None:
    """Draw the buttons that download the comparison, and its command."""
    media = {"compare.json": "application/json", "comparison.csv": "text/csv"}
    if comparison.answers:
        media["compare.npz"] = "application/octet-stream"
    with st.container(horizontal=True, key="compare-downloads", gap="small", vertical_alignment="center"):
        st.markdown("**Download:**", width="content")
        for file, kind in media.items():
            write = partial(lambda name: comparison.files[name], file)
            display.download(file, write, file, kind, key=f"compare-get-{file}")
    if comparison.document.command:
        with st.expander("Command", key="compare-command"):
            st.code(comparison.document.command[:2000], language="bash", wrap_lines=True)


# The comparisons ---------------------------------------------------------------------------------------------


def list_choices() -> tuple[dict[str, Choice], list[str]]:
    """All comparisons by key, those of this session first, and an error message for each that cannot be read."""
    choices: dict[str, Choice] = dict(reversed(_session_choices().items()))
    shipped, errors = bundled.read_comparisons(bundled.comparisons_folder())
    for file in shipped:
        origin = "**Bundled**."
        if file.made:
            origin = f"**Bundled**: measured on {plain(file.made['machine'])}, {plain(file.made['date'])}."
        choices[f"bundled-{file.name}"] = Choice(f"{file.comparison.results.title} · bundled", origin, file.comparison)
    return choices, errors


def _session_choices() -> dict[str, Choice]:
    return st.session_state.setdefault(_MINE, {})  # type: ignore[no-any-return]


def _add(label: str, origin: str, comparison: Comparison) -> None:
    """Add a comparison to those of this session, and show it."""
    key = f"own-{len(_session_choices()) + 1}"
    _session_choices()[key] = Choice(f"{comparison.results.title} · {label}", origin, comparison)
    st.session_state[f"{_CHOSEN}-next"] = key


def _keep(comparison: Comparison) -> None:
    label = f"measured here ({len(_session_choices()) + 1})"
    _add(label, f"**Measured on this machine** ({plain(machine())}).", comparison)


def _is_of(explorer: Explorer, choice: Choice) -> bool:
    """Return whether a comparison is of the explorer's model."""
    return choice.comparison.document.model.sha256 == explorer.card.identity


def _draw_choice(explorer: Explorer, choices: dict[str, Choice]) -> Choice | None:
    """Draw the list of comparisons and return the selected one (None: there is none).

    At first it is the largest of the explorer's model, or else of one that predicts the same (classes or tokens).
    """
    tokens = explorer.card.task.predicts_often
    requested = st.session_state.pop(f"{_CHOSEN}-next", None)
    if requested in choices:
        st.session_state[_CHOSEN] = requested
    elif st.session_state.get(_CHOSEN) not in choices or st.session_state[_CHOSEN_FOR] != explorer.card.identity:
        st.session_state[_CHOSEN] = max(
            choices,
            key=lambda key: (
                _is_of(explorer, choices[key]),
                (choices[key].comparison.document.protocols is not None) == tokens,
                len(choices[key].comparison.results.means),
            ),
            default=None,
        )
    st.session_state[_CHOSEN_FOR] = explorer.card.identity
    left, right = st.columns([4, 1], vertical_alignment="bottom", gap="small")
    key = left.selectbox(
        "Comparison",
        list(choices),
        index=None,
        format_func=lambda key: choices[key].label,
        key=_CHOSEN,
        persist_state="session",
        label_visibility="collapsed",
    )
    with right, st.popover("Open a file", key="compare-open", width="stretch"):
        _draw_upload()
    return choices.get(key or "")


def _draw_upload() -> None:
    """Draw the file upload, and the error of the last file."""

    def read() -> None:
        file = st.session_state["compare-file"]
        st.session_state.pop("compare-trouble", None)
        if file is None:
            return
        try:
            comparison = read_upload(f"the file {file.name}", file.getvalue())
        except CahpError as error:
            st.session_state["compare-trouble"] = str(error)
            return
        _add(file.name[:40], f"**From your file** {plain(file.name[:80])}.", comparison)

    st.file_uploader("A compare.json from `cahp compare --out DIR`", type=["json"], key="compare-file", on_change=read)
    if "compare-trouble" in st.session_state:
        problem(st.session_state["compare-trouble"])
    st.caption("The file stays in this session.")
