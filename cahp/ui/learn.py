"""Redundancy in six steps: guess, then see what the model really does."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from cahp.figures import palette
from cahp.run.measurements import Measurements
from cahp.run.resources import Resources
from cahp.run.stopwatch import Stopwatch
from cahp.studies import lessons
from cahp.studies.lessons import Answer, Step, Subject
from cahp.ui.frame.page import problem
from cahp.ui.frame.pages import link
from cahp.ui.frame.progress import follow
from cahp.ui.frame.run_button import need_run
from cahp.ui.parts import chart, theme
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.opening import shared_model
from cahp.values import Costs, HeadMask, Progress
from cahp.words import number, percent, span

#: Session keys: which step is open, the guesses, and the jobs that answered.
_AT, _GUESSES, _ANSWERS = "cahp_learn_at", "cahp_learn_guesses", "cahp_learn_answers"


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    need_run(explorer)
    st.title("Six small steps")
    subject = _subject(explorer)
    if subject is None:
        st.info("The heads' clusters are no longer in the cache; measure again (left) and come back.")
        return
    steps = lessons.steps(subject)
    st.markdown(
        "Do attention heads do the same work twice? Guess first, then see what this model does. Every answer is "
        f"measured now, on {len(subject.texts)} texts that did not choose the heads."
    )
    at = _choose_step(steps, subject)
    with st.container(border=True, key="learn-step"):
        _step(explorer, subject, steps[at], number=at + 1)
    _onwards(at, len(steps))
    _scores(steps, subject)


def _subject(explorer: Explorer) -> Subject | None:
    clusters = explorer.clusters
    # Always CAHP's own suggestion, whatever is on the board: the steps are about the method.
    selection = explorer.choices().of_budget(None)
    if clusters is None or selection is None:
        return None
    bench = explorer.bench

    def measurements(progress: Progress) -> Measurements:
        resources = Resources(
            bench.card,
            store=bench.resources.store,
            device=bench.settings.device,
            load=shared_model,
            progress=progress,
        )
        return Measurements(resources, bench.calibration, seed=bench.settings.seed)

    def costs(mask: HeadMask, progress: Progress) -> Costs:
        with Stopwatch(bench.settings.model, device=bench.settings.device, store=bench.resources.store) as watch:
            return watch.costs(mask, length=bench.length, progress=progress)

    return Subject.of(
        bench.evaluation,
        measurements=measurements,
        costs=costs,
        mask=selection.mask,
        labels=clusters.groups(selection.k)[0],
        salience=clusters.salience,
    )


# Where one is ------------------------------------------------------------------------------------------------


def _choose_step(steps: list[Step], subject: Subject) -> int:
    at = min(int(st.session_state.get(_AT, 0)), len(steps) - 1)
    with st.container(horizontal=True, key="learn-steps", gap="small"):
        for number, step in enumerate(steps):
            seen = _answer(step, subject) is not None
            if st.button(
                f"{number + 1}{' ✓' if seen else ''}",
                key=f"learn-go-{number + 1}",
                type="primary" if number == at else "secondary",
                help=step.title,
            ):
                st.session_state[_AT] = number
                st.rerun()
    return at


def _onwards(at: int, count: int) -> None:
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        if st.button("Back", key="learn-back", disabled=at == 0):
            st.session_state[_AT] = at - 1
            st.rerun()
        if at + 1 < count:
            if st.button("Next step", key="learn-next"):
                st.session_state[_AT] = at + 1
                st.rerun()
        else:
            link("budget", "Now choose a budget yourself")


# One step ----------------------------------------------------------------------------------------------------


def _step(explorer: Explorer, subject: Subject, step: Step, *, number: int) -> None:
    st.caption(f"Step {number} of 6")
    st.subheader(step.title)
    st.markdown(step.doing)
    job = _jobs().get(_name(step, subject))
    answer = None if job is None else job.result
    guess = _guess(step, subject, fixed=answer is not None or (job is not None and not job.ended))
    if answer is not None:
        _show(step, guess, answer)
    elif job is not None and not job.ended:
        follow(job, place="learn", title="Asking the model")
    else:
        if job is not None and job.error:
            problem(job.error)
        if st.button("See", key=f"learn-see-{step.name}", type="primary"):
            _guesses()[_name(step, subject)] = guess
            _jobs()[_name(step, subject)] = jobs.submit(
                explorer.id,
                f"learn-{_name(step, subject)}",
                lambda progress: lessons.measure(step.name, subject, progress=progress),
                rank=jobs.Rank.QUICK,
            )
            st.rerun()


def _guess(step: Step, subject: Subject, *, fixed: bool) -> int:
    said = _guesses().get(_name(step, subject), step.highest // 2)
    return int(
        st.slider(
            step.question,
            0,
            step.highest,
            said,
            format=f"%d {step.unit}",
            key=f"learn-guess-{step.name}-{fixed}",
            disabled=fixed,
        )
    )


def _show(step: Step, guess: int, answer: Answer) -> None:
    words, picture = st.columns(2, gap="large") if answer.bars else (st.container(), None)
    with words:
        guessed, measured = st.columns(2)
        guessed.metric("Your guess", f"{guess} {step.unit}")
        digits = 0 if float(answer.value).is_integer() else 1
        measured.metric("Measured", f"{number(answer.value, digits)} {step.unit}")
        if answer.interval is not None:
            measured.caption(f"95 % interval {span(*answer.interval)}")
        what = "rounds" if step.name == "time" else "texts"
        st.markdown(f"{answer.found} (n = {answer.n} {what})")
        st.markdown(f"**{answer.meaning}**")
    if picture is not None:
        with picture:
            _picture(step, answer)


def _picture(step: Step, answer: Answer) -> None:
    full, changed = answer.bars[:2]
    chart.show(
        _comparison(answer),
        title=f"{percent(changed.accuracy)} right {changed.name}, {percent(full.accuracy)} with all heads",
        help=(
            "A dot is the share of right answers of one variant of the model, its line the 95 % interval (Wilson). "
            "Where lines overlap widely, the difference may be chance. Hollow dots are random choices, one each."
        ),
        formula=r"\hat p = \frac{\text{right answers}}{n}",
        name=f"learn-{step.name}",
        data={
            "variant": [*(bar.name for bar in answer.bars), *(f"random {i}" for i in range(len(answer.draws)))],
            "accuracy": [*(bar.accuracy for bar in answer.bars), *answer.draws],
            "low": [*(bar.low for bar in answer.bars), *([None] * len(answer.draws))],
            "high": [*(bar.high for bar in answer.bars), *([None] * len(answer.draws))],
        },
    )


def _comparison(answer: Answer) -> Any:
    import plotly.graph_objects as go

    colours = palette.ink(dark=theme.dark())
    centre = np.array([bar.accuracy for bar in answer.bars]) * 100
    figure = go.Figure(
        go.Scatter(
            x=centre,
            y=[bar.name for bar in answer.bars],
            mode="markers",
            marker={"size": 11, "color": colours.accent},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": np.array([bar.high for bar in answer.bars]) * 100 - centre,
                "arrayminus": centre - np.array([bar.low for bar in answer.bars]) * 100,
                "color": colours.accent,
                "thickness": 2,
            },
            hovertemplate="%{y}<br>%{x:.1f} % right<extra></extra>",
        )
    )
    if answer.draws:
        figure.add_trace(
            go.Scatter(
                x=np.array(answer.draws) * 100,
                y=[f"{len(answer.draws)} random choices"] * len(answer.draws),
                mode="markers",
                marker={
                    "size": 11,
                    "symbol": "circle-open",
                    "color": colours.text,
                    "opacity": 0.7,
                    "line": {"width": 1.5},
                },
                hovertemplate="a random choice<br>%{x:.1f} % right<extra></extra>",
            )
        )
    rows = len(answer.bars) + bool(answer.draws)
    figure.update_layout(
        xaxis={"title": {"text": "right answers in %"}},
        yaxis={"autorange": "reversed", "title": None},
        height=90 + 34 * rows,
        margin={"l": 10, "r": 10, "t": 10, "b": 50},
        showlegend=False,
    )
    return figure


def _scores(steps: list[Step], subject: Subject) -> None:
    """All guesses beside what was measured, when the last step is done."""
    seen = [(step, answer) for step in steps if (answer := _answer(step, subject)) is not None]
    if len(seen) < len(steps):
        return
    st.subheader("What you guessed and what it was")
    st.dataframe(
        {
            "Step": [step.title for step, _ in seen],
            "Your guess": [f"{_guesses()[_name(step, subject)]} {step.unit}" for step, _ in seen],
            "Measured": [f"{number(answer.value, 0)} {step.unit}" for step, answer in seen],
        },
        hide_index=True,
        key="learn-scores",
    )


def _name(step: Step, subject: Subject) -> str:
    return f"{step.name}-{subject.texts.sha256}-{subject.mask.sha256}"


def _answer(step: Step, subject: Subject) -> Answer | None:
    job = _jobs().get(_name(step, subject))
    return None if job is None else job.result


def _jobs() -> dict[str, jobs.Job[Answer]]:
    return st.session_state.setdefault(_ANSWERS, {})  # type: ignore[no-any-return]


def _guesses() -> dict[str, int]:
    return st.session_state.setdefault(_GUESSES, {})  # type: ignore[no-any-return]
