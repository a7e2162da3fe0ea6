"""The Compare page: methods of selecting heads under the same rules, and which differences are significant.

A comparison is bundled, measured here, or uploaded.
"""

from dataclasses import dataclass
from functools import partial

import streamlit as st

from cahp import features
from cahp.api import bundled
from cahp.comparison import Comparison, SplitResults
from cahp.comparison.result import ARRAYS, read_upload
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
from cahp.show.blocks import Claim, Text
from cahp.ui.compare import own
from cahp.ui.compare.view import draw_filters
from cahp.ui.parts import blocks, display
from cahp.ui.parts.display import plain, problem
from cahp.ui.session.explorer import Explorer
from cahp.values import CahpError
from cahp.words import counted

#: Session keys: comparisons that this session measured or opened, the one on screen, and the model it was chosen for.
_MINE = "cahp_compare_mine"
_CHOSEN = "compare-which"
_CHOSEN_FOR = "cahp_compare_for"
#: Files that a person can download.
_MEDIA = {"compare.json": "application/json", "comparison.csv": "text/csv", "compare.npz": "application/octet-stream"}


@dataclass(frozen=True, eq=False)
class Choice:
    """A comparison that can be shown, with its label, and its origin in Markdown."""

    label: str
    origin: str
    comparison: Comparison


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    st.title("Does it beat other methods?")
    choices = dict(reversed(st.session_state.setdefault(_MINE, {}).items()))
    shipped, errors = bundled.read_comparisons()
    for error in errors:
        problem(error)
    for file in shipped:
        origin = "**Bundled**."
        if file.made:
            origin = f"**Bundled**: measured on {plain(file.made['machine'])}, {plain(file.made['date'])}."
        choices[f"bundled-{file.name}"] = Choice(f"{file.comparison.results.title} · bundled", origin, file.comparison)
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
    panel = st.expander("Measure your own comparison", expanded=first, key="compare-own-panel", on_change="rerun")
    if panel.open:
        with panel:
            own.draw(explorer, _keep)
    if choice is not None and first:
        _draw_comparison(explorer, choice)


def _draw_comparison(explorer: Explorer, choice: Choice) -> None:
    """Draw the finding, the claims of the paper, the ranking, the curves, and the rest in tabs."""
    comparison = choice.comparison
    shown = comparison.results
    document = comparison.document
    # A headline contains no text from elsewhere except the names of methods, which are checked.
    st.subheader(headline(shown), anchor=False)
    _, *statistics = show_primary(shown)
    if shown.primary is not None:
        with st.expander(f"Primary test: {shown.primary.words}", key="compare-primary"):
            blocks.draw(statistics)
    calibration = max(sample.examples for sample in document.data.select)
    st.caption(
        f"{choice.origin} {calibration:,} calibration {document.items}, {shown.n:,} evaluation {shown.noun} of "
        f"{plain(shown.split[:40])}, {counted(len(document.seeds), 'seed')}."
    )
    above = st.container(key="compare-above")
    filters = draw_filters(shown, recover=explorer.recovery.name)
    with above:
        _draw_claims(shown, filters)
    shown = comparison.results_on(document.parts[-1], filters.outcome)
    blocks.draw(show_ranking(shown, filters), owner=comparison, key=filters)
    blocks.draw(show_curve(shown, filters), owner=comparison, key=filters)
    tabs = st.tabs(list(SECTIONS), key="compare-tab", on_change="rerun")
    for tab, show in zip(tabs, SECTIONS.values(), strict=True):
        if tab.open:
            with tab:
                blocks.draw(show(shown, filters), owner=comparison, key=filters)
    with st.container(horizontal=True, key="compare-downloads", vertical_alignment="center"):
        st.markdown("**Download:**", width="content")
        for file, media in _MEDIA.items():
            if comparison.answers or file != ARRAYS:
                write = partial(lambda name: comparison.files[name], file)
                display.download(file, write, file, media, key=f"compare-get-{file}")
    if document.command:
        with st.expander("Command", key="compare-command"):
            st.code(document.command[:2000], language="bash", wrap_lines=True)


def _draw_claims(results: SplitResults, filters: Filters) -> None:
    """Draw a line with the verdict for each claim, and for each experiment; it opens the evidence.

    ``results`` are those in the first outcome that was measured.
    """
    claims: list[Claim | None] = [*list_claims(results, filters)]
    number = Text("The Stability page compares the published rule with unstructured data, for a model that has a run.")
    claims.append(Claim("number", "Finds the number by itself", "see Stability", lambda: [number]))
    claims += [find(results.document) for find in features.experiments()]
    with st.container(key="compare-claims"):
        st.subheader("What the paper claims", anchor=False)
        columns = st.columns(2)
        for place, claim in enumerate(filter(None, claims)):
            key = f"claim-{claim.name}"
            # A panel with another verdict would be another one, and closed.
            st.session_state[key] = st.session_state.get(key, False)
            with columns[place % 2]:
                # A status contains no text from elsewhere.
                panel = st.expander(f"{claim.title}: **{claim.status}**", key=key, on_change="rerun")
            if panel.open:
                with panel:
                    blocks.draw(claim.show())


# The comparisons ---------------------------------------------------------------------------------------------


def _add(label: str, origin: str, comparison: Comparison) -> None:
    """Add a comparison to those of this session, and show it."""
    mine = st.session_state[_MINE]
    key = f"own-{len(mine) + 1}"
    mine[key] = Choice(f"{comparison.results.title} · {label}", origin, comparison)
    st.session_state[f"{_CHOSEN}-next"] = key


def _keep(comparison: Comparison) -> None:
    label = f"measured here ({len(st.session_state[_MINE]) + 1})"
    _add(label, f"**Measured on this machine** ({plain(machine())}).", comparison)


def _is_of(explorer: Explorer, choice: Choice) -> bool:
    """Return whether a comparison is of the explorer's model."""
    return choice.comparison.document.model.sha256 == explorer.card.identity


def _draw_choice(explorer: Explorer, choices: dict[str, Choice]) -> Choice | None:
    """Draw the list of comparisons and return the selected one (None: there is none).

    At first it is the one with most seeds of the explorer's model, or else of its family, or of all.
    """
    requested = st.session_state.pop(f"{_CHOSEN}-next", None)
    if requested in choices:
        st.session_state[_CHOSEN] = requested
    elif st.session_state.get(_CHOSEN) not in choices or st.session_state[_CHOSEN_FOR] != explorer.card.identity:

        def rank(key: str) -> tuple[bool, bool, int, int]:
            comparison = choices[key].comparison
            document = comparison.document
            family = document.model.family == explorer.card.family
            return _is_of(explorer, choices[key]), family, len(document.seeds), len(comparison.results.means)

        st.session_state[_CHOSEN] = max(choices, key=rank, default=None)
    st.session_state[_CHOSEN_FOR] = explorer.card.identity
    left, right = st.columns([4, 1], vertical_alignment="bottom")
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
        st.file_uploader(
            "A compare.json from `cahp compare --out DIR`", type=["json"], key="compare-file", on_change=_read
        )
        if "compare-trouble" in st.session_state:
            problem(st.session_state["compare-trouble"])
        st.caption("The file stays in this session.")
    return choices.get(key or "")


def _read() -> None:
    """Add the comparison in the uploaded file, or note its error."""
    file = st.session_state["compare-file"]
    st.session_state.pop("compare-trouble", None)
    if file is not None:
        try:
            comparison = read_upload(f"the file {file.name}", file.getvalue())
        except CahpError as error:
            st.session_state["compare-trouble"] = str(error)
        else:
            _add(file.name[:40], f"**From your file** {plain(file.name[:80])}.", comparison)
