"""Buttons that start work, and the progress of a job."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import streamlit as st

from cahp.api.preflight import check_run
from cahp.run.timeline import PREPARATIONS, on_screen
from cahp.stages.selection import middle_budget, nearest_budget, possible_budgets
from cahp.ui.frame import outline
from cahp.ui.parts.display import plain, problem
from cahp.ui.parts.inputs import set_value
from cahp.ui.session.estimates import pass_seconds, run_seconds
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.jobs import Job, Place
from cahp.ui.session.work import CLUSTERS, ROLES, RUN, SPEED, Kind
from cahp.values import CahpError
from cahp.values.head_roles import HeadRoles
from cahp.words import capital, duration

S = TypeVar("S")
T = TypeVar("T")

#: Seconds that a page waits before it shows progress.
_PATIENCE_S = 0.7
#: Seconds up to which work starts without a question.
_UNASKED_S = 60.0

#: The ways to say how many heads a run keeps.
_AUTOMATIC = "automatic"
_BY_NUMBER = "a number"
#: The key of the box for this number.
_NUMBER = "run-number"
#: The look of the button that starts a run, by its place.
_RUN_BUTTONS: Mapping[str, Mapping[str, Any]] = {
    "main": {"type": "primary", "width": "content"},
    "sidebar": {"type": "secondary", "width": "stretch"},
}


def run_button(explorer: Explorer, *, place: str, label: str) -> None:
    """Draw the button that starts a run, with the time it may take."""
    if st.button(
        f"{label} (about {duration(run_seconds(explorer.bench))})",
        key=f"run-{place}",
        **_RUN_BUTTONS[place],
    ):
        explorer.work.start(RUN, explorer.bench)
        st.rerun()


def need_run(explorer: Explorer) -> None:
    """Stop the page and offer a run, unless there is one to show."""
    if explorer.results.run is not None:
        if explorer.clusters is None:
            _await_clusters(explorer)
        return
    with st.container(key="nothing-yet"):
        st.subheader("Nothing has been measured yet")
        bench = explorer.bench
        st.markdown(
            f"A run records the attention of each of the {explorer.card.layers * explorer.card.heads} "
            f"{explorer.card.unit}s on {bench.calibration.measured}, groups those that attend alike, and evaluates the "
            f"kept ones on {bench.evaluation.count:,} others."
        )
        job = explorer.work.job(RUN)
        if job is not None and not job.ended:
            _follow_run(explorer, job)
        else:
            _offer_run(explorer)
    st.stop()


def _await_clusters(explorer: Explorer) -> None:
    """Stop the page while the clusters of a stored run are computed again."""
    job = explorer.work.job(CLUSTERS, explorer.bench)
    if job is not None and not job.ended:
        follow(job, place="clusters", title="Clusters")
    elif job is not None:
        start = partial(explorer.work.start, CLUSTERS, explorer.bench)
        offer_again(job, start, key="clusters-again", stopped="Stopped.")
    st.stop()


def _offer_run(explorer: Explorer) -> None:
    """Draw what a run can measure, the number of heads to keep, and the button that starts it."""
    lines = []
    for check in check_run(explorer.bench):
        sign = "info"
        if check.passed:
            sign = "check"
        lines.append(f":material/{sign}: {plain(check.words)}")
    st.markdown("  \n".join(lines))
    _choose_budget(explorer)
    run_button(explorer, place="main", label="Run here")
    outline.draw(explorer.card)


def _follow_run(explorer: Explorer, job: Job[Any]) -> None:
    """Draw the progress of a run above the board in outline."""

    def draw() -> None:
        if job.ended:
            st.rerun()
        _show_progress(job, "", key=f"cancel-main-{job.id}")
        outline.draw(explorer.card, job)

    st.fragment(draw, run_every=0.5)()


def _choose_budget(explorer: Explorer) -> None:
    """Draw the choice of how many heads a run keeps, and put it into the settings."""
    card = explorer.card
    settings = explorer.settings
    floor = settings.floor(card.layers)
    budgets = possible_budgets(card.layers, card.heads, min_per_layer=floor, even=settings.even)
    budget = settings.budget
    start_with = _AUTOMATIC
    if budget.isdecimal():
        start_with = _BY_NUMBER
    with st.container(horizontal=True, vertical_alignment="bottom", key="run-budget"):
        how = st.segmented_control(
            f"{capital(card.unit)}s to keep",
            (_AUTOMATIC, _BY_NUMBER),
            default=start_with,
            required=True,
            key="run-how",
        )
        # No number is possible where a layer has fewer heads than it must keep; a run says so.
        if how == _BY_NUMBER and budgets:
            start = middle_budget(budgets)
            if budget.isdecimal():
                start = nearest_budget(budgets, int(budget))
            # A person may type a number between two possible ones.
            set_value(_NUMBER, nearest_budget(budgets, st.session_state.get(_NUMBER, start)))
            budget = str(st.number_input("Number", budgets[0], budgets[-1], step=budgets.step, key=_NUMBER, width=140))
        elif budget.isdecimal():
            budget = "auto"
    if budget != settings.budget:
        explorer.set_run_budget(budget)


def draw_timing(explorer: Explorer, *, place: str, polled: bool = False) -> None:
    """Draw the button that times the mask on the board, unless it keeps all heads; or how far the timing is.

    ``polled``: the page redraws itself until the timing has ended.
    """
    job = explorer.job(SPEED)
    if job is not None and not job.ended:
        if polled:
            st.caption(f"{describe_progress(job, 'Measuring the time')}…")
        else:
            follow(job, place=f"{place}-time", title="Measuring the time")
        return
    if job is not None and job.error:
        problem(job.error)
    if job is not None and job.result is not None and job.result.noisy:
        st.caption("The machine was busy, so the last time is not kept. Measure again when it is idle.")
    if explorer.mask.is_full:
        return
    label = "Measure the time"
    if explorer.results.speed(explorer.mask) is not None:
        label = "Measure the time again"
    if st.button(
        label,
        key=f"time-{place}",
        type="tertiary",
        help="Runs the full and the cut model in turn, in a separate process, until the ratio of their times is known "
        "within 2 %, or for 5 s. Times of a busy machine are shown but not cached.",
    ):
        explorer.start(SPEED)
        st.rerun()


# Progress ----------------------------------------------------------------------------------------------------


def describe_progress(job: Job[Any], title: str = "") -> str:
    """Describe a job's place in the queue, or ``title`` or else its stage, and the time left if it is known."""
    place = job.place
    if place is not None:
        return _describe_place(place, title or "Waiting")
    if job.paused:
        return f"{title or on_screen(job.stage)}: paused while other work runs first"
    words = title or on_screen(job.stage or "Starting")
    if job.stage in PREPARATIONS:
        # Preparing a model may take longer than what was asked for.
        words = on_screen(job.stage)
    left = job.announced_left
    if left is not None and left >= 1:
        words += f" · about {duration(left)} left"
    return words


def _describe_place(place: Place, title: str) -> str:
    position = f"number {place.number}"
    if place.number == 1:
        position = "next"
    words = f"{title}: {position} in line"
    if place.seconds is not None and place.seconds >= 1:
        words += f", starts in about {duration(place.seconds)}"
    return words


def show_in_row(job: Job[Any], title: str = "", *, key: str) -> None:
    """Draw the job's progress once with a button that cancels it; the page redraws it."""
    with st.container(horizontal=True, vertical_alignment="center"):
        _show_progress(job, title, key=key)


def _show_progress(job: Job[Any], title: str, *, key: str) -> None:
    share = 0.0
    if job.place is None:
        share = job.share
    st.progress(share, text=plain(describe_progress(job, title)))
    if st.button("Cancel", key=key):
        job.cancel()
        st.rerun()
    if job.place is not None and job.place.passable:
        st.button("Start now", key=f"now-{key}", on_click=job.start_now, help="Longer work waits meanwhile.")


def follow(job: Job[Any], *, place: str = "main", title: str = "") -> None:
    """Draw the job's progress, the time left and a button that cancels it; rerun the page when the job has ended."""

    def draw() -> None:
        if job.ended:
            st.rerun()
        _show_progress(job, title, key=f"cancel-{place}-{job.id}")

    if not job.ended:
        st.fragment(draw, run_every=0.5)()


def await_end(job: Job[Any], *, label: str, key: str) -> None:
    """Draw a button that waits for the job, whose progress stands elsewhere; rerun the page when the job has ended.

    A job that waits for others tells its place, and can be cancelled.
    """

    def draw() -> None:
        if job.ended:
            st.rerun()
        if job.place is not None:
            _show_progress(job, "", key=f"cancel-{key}-{job.id}")
            return
        st.button(label, key=key, disabled=True, width="stretch")

    st.fragment(draw, run_every=0.5)()


def offer_again(
    job: Job[Any],
    start: Callable[[], object],
    *,
    key: str,
    label: str = "Try again",
    stopped: str = "Stopped. Results so far are kept.",
) -> None:
    """Show why an ended job has no result, and the button that starts it again."""
    if job.error:
        problem(job.error)
    else:
        st.info(stopped)
    if st.button(label, key=key):
        start()
        st.rerun()


def _is_kept(kept: Callable[[], bool]) -> bool:
    try:
        return kept()
    except CahpError:
        # The work itself tells what is missing.
        return False


def measure(
    explorer: Explorer,
    kind: Kind[S, T],
    subject: S,
    *,
    name: str,
    title: str,
    texts: int = 1,
    kept: Callable[[], bool] = lambda: False,
    polled: bool = False,
) -> T | None:
    """Return the result of the worker (None: running, stopped or failed).

    It starts by itself unless running ``texts`` evaluation texts takes long and the result is not ``kept`` from before;
    then a person starts it. ``name`` distinguishes its buttons, ``title`` stands beside its progress. ``polled``: the
    page redraws itself until the work has ended.
    """
    job = explorer.work.job(kind, subject)
    if job is None:
        seconds = pass_seconds(explorer.bench, evaluation=min(1.0, texts / len(explorer.bench.evaluation)))
        ask = seconds > _UNASKED_S and not _is_kept(kept)
        if ask and not st.button(f"{title} (about {duration(seconds)})", key=f"measure-{name}"):
            return None
        job = explorer.work.start(kind, subject)
        job.wait(_PATIENCE_S)
    if not job.ended and polled:
        show_in_row(job, title, key=f"cancel-{name}")
    elif not job.ended:
        follow(job, place=name, title=title)
    elif job.result is None:
        offer_again(job, lambda: explorer.work.start(kind, subject), key=f"again-{name}", label="Measure again")
    return job.result


def measure_roles(explorer: Explorer) -> HeadRoles | None:
    """Return the roles of the heads (None: being measured, or stopped or failed)."""
    if explorer.roles is None:
        # They take as long as about half of the evaluation texts.
        texts = max(1, len(explorer.bench.evaluation) // 2)
        measure(explorer, ROLES, explorer.bench, name="roles", title="Measure roles of heads", texts=texts)
    return explorer.roles
