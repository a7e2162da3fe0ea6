"""What every page has in common: its frame, the sidebar, and the states before there is anything to show."""

from __future__ import annotations

from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from cahp import bundled as bundle
from cahp import models
from cahp.run.settings import Settings
from cahp.ui.frame import pages
from cahp.ui.frame import source_dialog as sources
from cahp.ui.parts.text import plain
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer, mask_from_hex, mask_to_hex
from cahp.ui.session.opening import Source
from cahp.values import CahpError
from cahp.words import duration

_EXPLORER = "cahp_explorer"
_NOTE = "cahp_note"


def page(title: str) -> Explorer:
    """Start a page: frame, style, sidebar; this browser session's explorer, or a designed message and no more."""
    st.set_page_config(
        page_title=f"{title} · CAHP explorer",
        page_icon=str(models.assets() / "icon.png"),
        layout="wide",
        initial_sidebar_state="expanded",
    )
    st.html(models.assets() / "explorer.css")
    explorer = _explorer()
    explorer.collect()
    write_address(explorer)
    with st.sidebar:
        with st.container(key="pages", gap=None):
            pages.navigation()
        _sidebar(explorer)
    _notes(explorer)
    return explorer


def need_run(explorer: Explorer) -> None:
    """Stop the page with an invitation to measure, unless there is a run to show."""
    if explorer.run is not None:
        return
    with st.container(key="nothing-yet"):
        st.subheader("Nothing has been measured yet")
        card, bench = explorer.card, explorer.bench
        st.markdown(
            f"A run looks at how each of the {card.layers * card.heads} heads attends on {len(bench.calibration):,} "
            f"texts, groups heads that do the same, and measures what is left on {len(bench.evaluation):,} other texts."
        )
        job = explorer.run_job
        if job is not None and not job.ended:
            jobs.follow(job)
        else:
            run_button(explorer, place="main")
    st.stop()


def run_button(explorer: Explorer, *, place: str, label: str = "Measure on this machine", primary: bool = True) -> None:
    """The button that starts a run, with the time it may take."""
    expected = explorer.expected_seconds
    hint = None if expected is None else f"about {duration(expected)} on this machine"
    if st.button(
        label,
        key=f"run-{place}",
        type="primary" if primary else "secondary",
        help=hint,
        width="stretch" if place == "sidebar" else "content",
    ):
        explorer.start_run()
        st.rerun()
    if hint and place == "main":
        st.caption(f"Takes {hint}.")


def problem(error: object) -> None:
    """An error a person can do something about, as one sentence; its words are never taken for markup."""
    sentence = str(error).strip()
    end = "" if sentence.endswith((".", "!", "?")) else "."
    st.error(plain(sentence[:1].upper() + sentence[1:] + end))


# The session's explorer --------------------------------------------------------------------------------------


def _explorer() -> Explorer:
    found = st.session_state.get(_EXPLORER)
    if isinstance(found, Explorer):
        _opened(found)
        return st.session_state[_EXPLORER]  # type: ignore[no-any-return]
    settings, wish = sources.from_address(st.query_params.to_dict())
    try:
        explorer = Explorer(_session_id(), Source.open(settings))
    except CahpError as error:
        explorer = _fallback(settings, error)
    st.session_state[_EXPLORER] = explorer
    if wish is not None:
        # Reading from the network or a folder waits for a person's yes; a link alone does not do it.
        st.session_state[sources.WISH] = wish
    else:
        _board_from_address(explorer)
    return explorer


def _fallback(settings: Settings, error: CahpError) -> Explorer:
    """The embedded default where a link asked for something that cannot be used; the end where that is missing too."""
    if settings != bundle.SETTINGS:
        try:
            explorer = Explorer(_session_id(), Source.open(bundle.SETTINGS))
        except CahpError as missing:
            error = missing
        else:
            st.session_state[_NOTE] = str(error)
            return explorer
    st.title("The explorer has nothing to show yet")
    problem(error)
    st.markdown("Install what is missing and reload this page; `cahp doctor` checks the whole installation.")
    st.stop()
    raise AssertionError("a stopped page went on")


def _opened(explorer: Explorer) -> None:
    """Take over a model and data that the worker has opened meanwhile."""
    job = st.session_state.get(sources.OPENING)
    if job is None or not job.ended:
        return
    del st.session_state[sources.OPENING]
    if job.result is not None:
        explorer.close()
        st.session_state[_EXPLORER] = Explorer(explorer.id, job.result)
        # The old address named another budget, or a mask for another model.
        st.query_params.pop("budget", None)
        st.query_params.pop("mask", None)
    elif job.error:
        st.session_state[_NOTE] = job.error


def _session_id() -> str:
    context = get_script_run_ctx()
    return "" if context is None else str(context.session_id)


# A view is a link --------------------------------------------------------------------------------------------


def _board_from_address(explorer: Explorer) -> None:
    """Put the budget or the mask of a link on the board."""
    budget, mask = st.query_params.get("budget"), st.query_params.get("mask")
    try:
        if mask is not None:
            explorer.set_mask(mask_from_hex(mask, explorer.card.layers, explorer.card.heads))
        elif budget is not None and budget != "auto":
            table = explorer.table()
            if table is not None:
                table.selection(_number(budget))
                explorer.set_budget(_number(budget))
    except CahpError as error:
        st.session_state[_NOTE] = str(error)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise CahpError("The budget in this link is not a number of heads.")
    return int(text)


def write_address(explorer: Explorer) -> None:
    """Model, data, budget or mask; never a text, and no name of a file that only this session has."""
    wanted = {"model": explorer.settings.model}
    if not sources.uploaded():
        wanted["data"] = explorer.bench.dataset.id
    if explorer.by_hand:
        wanted["mask"] = mask_to_hex(explorer.mask)
    elif explorer.run is not None:
        wanted["budget"] = "auto" if explorer.auto else str(explorer.budget)
    if any(st.query_params.get(name) != value for name, value in wanted.items()):
        st.query_params.update(wanted)
    for name in {"data", "mask", "budget"} - set(wanted):
        st.query_params.pop(name, None)


# The sidebar -------------------------------------------------------------------------------------------------


def _sidebar(explorer: Explorer) -> None:
    card, bench = explorer.card, explorer.bench
    with st.container(key="source", gap="small"):
        st.markdown(f"**{plain(card.id)}** on **{plain(bench.dataset.id)}**")
        st.caption(
            f"{card.layers} layers × {card.heads} heads = {card.layers * card.heads} · {len(card.labels)} classes"
        )
        sources.door(explorer)
    opening = st.session_state.get(sources.OPENING)
    if opening is not None:
        jobs.follow(opening, place="opening", title="Opening model and data")
    sources.sample(explorer)
    _badge(explorer)
    job = explorer.run_job
    if job is not None and not job.ended:
        jobs.follow(job, place="sidebar")
    elif explorer.run is None or explorer.bundled:
        run_button(explorer, place="sidebar", primary=False)
    elif explorer.settings_changed:
        run_button(explorer, place="sidebar", label="Run with these settings", primary=False)


def _badge(explorer: Explorer) -> None:
    run = explorer.run
    with st.container(key="badge"):
        if explorer.verified:
            st.badge(
                "mask verified", color="green", help=_VERIFIED + " Checked on this machine when the model was read."
            )
        elif run is not None and run["verified"]["mask_bites"]:
            where = "bundled" if explorer.bundled else "earlier"
            how = "Recorded with the bundled run." if explorer.bundled else "Recorded with the run on screen."
            st.badge(f"mask verified ({where})", color="green", help=f"{_VERIFIED} {how}")
        else:
            st.badge("mask not yet verified", color="gray", help="The model proves itself when it is first read.")


_VERIFIED = (
    "All gates at 0 change the answer, each gate alone changes its layer's output, and masked and physically pruned "
    "models give the same logits. Without that no result is shown."
)


def _notes(explorer: Explorer) -> None:
    """What a person should know before they read on."""
    for note in (st.session_state.pop(_NOTE, None), explorer.trouble):
        if note:
            problem(note)
    explorer.trouble = None
    if explorer.outdated and explorer.run is None:
        st.info(
            "A finished run ships with this package, but it was made with another version of this model or data, so it "
            "is not shown. Measure on this machine to see the current one."
        )


def provenance(explorer: Explorer) -> str:
    """Where the figures on screen come from, in Markdown."""
    if explorer.bundle is not None:
        made = explorer.bundle.made
        where = f"measured on {plain(made['machine'])}, {made['date']}"
        return (
            f"This mask: measured here. Curves: bundled, {where}." if explorer.by_hand else f"Bundled result, {where}."
        )
    return f"Measured on this machine ({plain(bundle.machine())})."


def settings_of(explorer: Explorer) -> dict[str, Any]:
    """Settings that differ from the defaults: what a command line must name."""
    default = Settings()
    return {name: value for name, value in vars(explorer.settings).items() if value != getattr(default, name, None)}
