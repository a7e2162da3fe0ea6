"""What pages share: jobs with their progress, settings, and the curve of the published rule."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import streamlit as st

from cahp.api.preflight import check_run
from cahp.figures.run import silhouette
from cahp.run.document import Evenness
from cahp.run.resources import PREPARATIONS, on_screen
from cahp.stages.selection import nearest_budget
from cahp.ui.parts import display
from cahp.ui.parts.display import note_refusal, plain, problem
from cahp.ui.parts.inputs import set_value
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.jobs import Job, Rank
from cahp.ui.session.work import ROLES, RUN, SPEED, Kind
from cahp.values.head_roles import HeadRoles
from cahp.words import capital, duration

S = TypeVar("S")
T = TypeVar("T")

#: Seconds that a page waits before it shows progress.
_PATIENCE_S = 0.3
#: Seconds between two looks at a job, and at the work of the session.
_PULSE_S = 0.5
_PILL_PULSE_S = 1.0
#: Seconds that no button tells of.
_HARDLY_S = 3.0
#: Seconds up to which work starts without a question.
_UNASKED_S = 60.0


def need_run(explorer: Explorer) -> None:
    """Stop the page and offer a run, unless there is one to show."""
    bench = explorer.bench
    card = explorer.card
    if explorer.results.run is not None:
        return
    with st.container(key="nothing-yet"):
        st.subheader("Nothing has been measured yet")
        st.markdown(
            f"A run records the attention of each of the {card.total} {card.unit}s on "
            f"{bench.calibration.measured}, groups those that attend alike, and evaluates the kept ones on "
            f"{bench.evaluation.count:,} others."
        )
        job = explorer.work.job(RUN)
        if job is not None and not job.ended:
            follow(job, name="main")
            st.stop()
        for line in check_run(bench):
            st.markdown(f":material/info: {plain(line)}")
        budgets = explorer.settings.budget_rules(card).possible
        if budgets:
            # Otherwise a layer has fewer heads than it must keep; a run says so.
            label = f"{capital(card.unit)}s to keep"
            number = st.number_input(
                label,
                budgets[0],
                budgets[-1],
                explorer.start_budget,
                budgets.step,
                placeholder="automatic",
                width=240,
                key="run-number",
            )
            budget = "auto"
            if number is not None:
                budget = str(nearest_budget(budgets, number))
            explorer.change(budget=budget)
        start_button(explorer, RUN, explorer.bench, "Run here", key="run-main", type="primary")
    st.stop()


def draw_timing(explorer: Explorer) -> None:
    """Draw the button that times the mask on the board, if removing heads saves time; or how far that is."""
    if explorer.mask.is_full or explorer.card.saves != "time":
        return
    job_card(
        explorer,
        SPEED,
        explorer.board_state(),
        name="time",
        title="Measuring the time",
        offer="Measure the time",
        again=True,
        type="tertiary",
        help="Runs the full and the cut model in turn, until the ratio of their times is "
        "known within 2 %, or for 5 s. Times of a busy machine are shown but not cached.",
    )


# Progress ----------------------------------------------------------------------------------------------------


def describe_progress(job: Job[Any], title: str = "") -> str:
    """Describe a job's place in the queue, or ``title`` or else its stage, and the time left if it is known."""
    words = title or on_screen(job.stage or "Waiting")
    place = job.place
    if place is not None:
        return f"{words}: number {place} in line"
    if job.paused:
        return f"{words}: paused while other work runs first"
    if job.stage in PREPARATIONS:
        # Preparing a model may take longer than what was asked for.
        words = on_screen(job.stage)
    left = job.seconds_left
    if left is not None and left >= 1:
        words += f" · about {duration(left)} left"
    return words


def describe_steps(job: Job[Any]) -> str:
    """List the stages of a job in Markdown, the present one in bold."""
    names = {stage: on_screen(stage) for stage, seconds in job.stages.items() if seconds}
    if job.stage in names:
        names[job.stage] = f"**{names[job.stage]}**"
    return " → ".join(names.values())


def follow(job: Job[Any], *, name: str, title: str = "") -> None:
    """Draw the job's progress, the time left and a button that cancels it; rerun the page when the job has ended."""

    def draw() -> None:
        if job.ended:
            st.rerun()
        words = title
        if job.stage in job.stages:
            # The step at work has a name of its own.
            words = ""
        with st.container(horizontal=True, vertical_alignment="center"):
            st.progress(job.share, text=plain(describe_progress(job, words)))
            st.button("Cancel", key=f"cancel-{name}", on_click=job.cancel)
        if title and job.stages:
            st.caption(describe_steps(job))

    st.fragment(draw, run_every=_PULSE_S)()


def show_job(
    job: Job[T], start: Callable[[], object], *, name: str, title: str = "", again: str = "Try again"
) -> T | None:
    """Draw the progress of a job, or why it has no result with the button that starts it ``again``.

    Return its result (None: there is none yet).
    """
    if not job.ended:
        follow(job, name=name, title=title)
    elif job.state != "done":
        if job.error:
            problem(job.error)
        else:
            st.info("Stopped. Results so far are kept.")
        if st.button(again, key=f"{name}-again"):
            start()
            st.rerun()
    return job.result


def poll(explorer: Explorer, draw: Callable[[Explorer], None]) -> None:
    """Draw a part of a page, again and again while there is work whose results it shows."""
    pulse = explorer.work.pulse

    def update() -> None:
        draw(explorer)
        if explorer.work.pulse != pulse:
            # Polling starts and stops only with a run of the whole page.
            st.rerun()

    st.fragment(update, run_every=pulse)()


def price(label: str, seconds: float | None) -> str:
    """Return the label of a button with the time that its work may take (None: unknown), unless it is hardly any."""
    if seconds is None or seconds < _HARDLY_S:
        return label
    return f"{label} (about {duration(seconds)})"


def start_button(explorer: Explorer, kind: Kind[S, Any], subject: S, label: str, **look: Any) -> None:
    """Draw the button that starts a job, with the time it may take; ``look`` are the options of a button."""
    if st.button(price(label, kind.seconds(subject)), **look):
        explorer.work.start(kind, subject)
        st.rerun()


def job_card(
    explorer: Explorer,
    kind: Kind[S, T],
    subject: S,
    *,
    name: str,
    title: str = "",
    offer: str = "",
    again: bool = False,
    **look: Any,
) -> T | None:
    """Draw a job: the button that starts it, its progress, or why it has no result; return the result.

    Args:
        explorer: The session that it belongs to.
        kind: The kind of the job.
        subject: Its subject.
        name: The name of its buttons.
        title: Stands beside the progress (empty: the title of the kind, or the stages).
        offer: The label of the button that starts the job (empty: the job starts by itself; where it takes more than a
            minute, a button with its title does).
        again: Offer it again once it is done.
        **look: The look of the button.
    """
    job = explorer.work.job(kind, subject)
    start = partial(explorer.work.start, kind, subject)
    title = title or kind.title
    if job is None or (again and job.state == "done"):
        if (kind.seconds(subject) or 0.0) > _UNASKED_S:
            offer = offer or title
        if offer:
            start_button(explorer, kind, subject, offer, key=name, **look)
            return None
        job = start()
        job.wait(_PATIENCE_S)
    return show_job(job, start, name=name, title=title)


def measure_roles(explorer: Explorer) -> HeadRoles | None:
    """Return the roles of the heads (None: being measured, or stopped or failed)."""
    if explorer.roles is None:
        job_card(explorer, ROLES, explorer.bench, name="roles", title="Measure roles of heads")
    return explorer.roles


def draw_pill(explorer: Explorer) -> None:
    """Draw the line at the lower edge of every page, and follow the work while there is some."""
    # The container always exists, so that the line changes the place of no other element.
    with st.container(key="pill-place"):
        # Work with a title may follow work without one while the whole page does not run again. Nothing follows
        # loading ahead, so the page does not poll for it.
        if any(job.title or job.rank < Rank.BACKGROUND for job in jobs.unfinished(explorer.id)):
            st.fragment(_show_pill, run_every=_PILL_PULSE_S)(explorer)


def _show_pill(explorer: Explorer) -> None:
    titled = [job for job in jobs.unfinished(explorer.id) if job.title]
    if not titled:
        return
    # The running one goes first.
    job = min(titled, key=lambda job: (job.state != "running", job.paused, job.rank))
    with st.container(key="pill", horizontal=True, wrap=False, vertical_alignment="center"):
        st.caption(plain(describe_progress(job, f"{job.title} of {explorer.card.id}")), width="content")
        st.button("Cancel", key=f"cancel-pill-{job.id}", type="tertiary", on_click=job.cancel)


# How heads are selected ---------------------------------------------------------------------------------------


def draw_setting(explorer: Explorer, widget: Any, label: str, name: str, *args: Any, **look: Any) -> None:
    """Draw a ``widget`` for the setting of this ``name``; a page has one."""
    key = f"setting-{name}"

    def change() -> None:
        with note_refusal():
            explorer.change(**{name: st.session_state[key]})

    set_value(key, getattr(explorer.settings, name))
    widget(label, *args, key=key, on_change=change, **look)


def draw_evenness(explorer: Explorer, measured: Evenness | None = None) -> None:
    """Draw the switch; below it what it costs, where that was measured."""
    draw_setting(
        explorer,
        st.toggle,
        f"The same number of {explorer.card.unit}s in every layer",
        "even",
        help="A language model that is pruned evenly can be exported as a standard checkpoint.",
    )
    if measured is not None:
        st.caption(plain(capital(measured.finding)))


# The silhouette curve with the band of unstructured data -----------------------------------------------------


def draw_knee(explorer: Explorer) -> None:
    """Draw the curve, and where the run computed it the band of unstructured data with what follows from both."""
    if explorer.clusters is None:
        return
    curve = explorer.clusters.clustering
    null = explorer.results.null
    data = {"k": curve.ks.tolist(), "silhouette": curve.mss.tolist()}
    band = None
    if null is not None:
        band = null.band
        data |= {"lowest null": band[0].tolist(), "highest null": band[1].tolist()}
    title = "The published rule does not stop"
    if curve.knee:
        title = f"The published rule stops at {curve.knee} clusters"
    display.show(
        silhouette(curve.ks, curve.mss, curve.knee or None, null=band, dark=display.is_dark()),
        title=title,
        help="The line is the mean silhouette of k clusters of heads; it rises with k for any data. The dashed line "
        "marks the knee of the curve, smoothed by a polynomial: the published rule stops there. The grey band contains "
        "the curves of unstructured data. In these data a random rotation has mixed the features of the heads: means "
        "and covariances stay, clusters disappear. The test is of the mean over all numbers of clusters, so a curve "
        "may leave the band at some of them.",
        name="knee",
        data=data,
    )
    if null is not None:
        degree = explorer.settings.poly_degree
        stops = display.cache_with(null, degree, lambda: null.knee(degree))
        sentence = ""
        if stops is not None:
            sentence = f"{capital(stops.describe(curve.knee))}."
        st.markdown(f"{null.describe(curve.mss)} {sentence}")
