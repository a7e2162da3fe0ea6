"""Learn as a class: the leader chooses the step and shows its answer, everybody else guesses."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from urllib.parse import urlsplit

import streamlit as st

from cahp import access
from cahp.figures import lessons as figures
from cahp.studies.answers import Answer
from cahp.studies.lessons import Step
from cahp.ui.learn import wording
from cahp.ui.learn.classroom import ClassError, Classes, Classroom, Moment
from cahp.ui.parts import display
from cahp.ui.parts.display import plain, problem
from cahp.ui.session.lifetime import is_alive
from cahp.words import span

#: The query parameter that names a class.
_PARAMETER = "class"
#: Seconds between two checks whether the class has moved on.
_PULSE_S = 2.0


@cache
def classes() -> Classes:
    """Return the classes of this server."""
    return Classes(is_alive)


def joined() -> Classroom | None:
    """Return the class that the address names; if it has ended, say so and clean the address."""
    code = st.query_params.get(_PARAMETER)
    if code is None:
        return None
    room = classes().find(code)
    if room is None:
        st.query_params.pop(_PARAMETER, None)
        st.info("This class has ended. You can continue alone.")
    return room


# The leader ------------------------------------------------------------------------------------------------


def invite(steps: list[Step], *, about: str, leader: str) -> None:
    """Offer to lead a class."""
    with st.expander("With a class"):
        st.markdown(
            "Everybody guesses on their own screen; then all guesses are shown with the measured answer. You choose "
            "the step and when to show its answer. Guesses are anonymous and deleted when you end the class or close "
            "this tab."
        )
        if st.button("Open a class", key="class-open"):
            try:
                classes().open(steps, about=about, leader=leader)
            except ClassError as error:
                problem(str(error))
            else:
                st.rerun()


def invitation(room: Classroom) -> None:
    """Draw how to join the class and how to end it."""
    url, elsewhere = _invitation(room.code)
    with st.container(border=True, key="class-door"):
        # Closed after the first step, when most people have joined.
        with st.expander("Join this class", expanded=room.moment.turn == 0):
            picture, words = st.columns([1, 3], gap="medium", vertical_alignment="center")
            with picture:
                st.image(_qr(url), caption="Scan to join")
            with words:
                st.code(url, language=None, wrap_lines=True)
                if not elsewhere:
                    st.warning(
                        "Only this machine can open this address. For a class, start the explorer with "
                        "`cahp explore --host 0.0.0.0` and open the address that it prints."
                    )
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            st.fragment(_attendance, run_every=_PULSE_S)(room)
            if st.button("End the class", key="class-end"):
                classes().close(room.leader)
                st.rerun()


def _attendance(room: Classroom) -> None:
    here, handed_in = room.here(), len(room.guesses(room.moment.at))
    people = "No participants yet." if not here else f"{here} joined, {handed_in} guessed at this step."
    st.markdown(people)


def lead(room: Classroom, at: int, known: Answer | None, *, measure: Callable[[], None]) -> None:
    """Draw the step for the leader; ``measure`` measures an answer that is not ``known``."""
    room.go(at)
    moment = room.moment
    if moment.answer is None and known is not None and st.session_state.pop(f"class-awaited-{at}", False):
        room.show(at, known)
        moment = room.moment
    if moment.answer is not None:
        reveal(room, moment, guess=None)
        return
    st.markdown(f"**{room.steps[at].question}**")
    if st.button("Show the answer", key=f"class-show-{at}", type="primary"):
        if known is None:
            st.session_state[f"class-awaited-{at}"] = True
            measure()
        else:
            room.show(at, known)
        st.rerun()
    st.caption("Your class can guess until you show the answer.")


# Everybody else -----------------------------------------------------------------------------------------------


def attend(room: Classroom, who: str) -> None:
    """Draw the page of a person in the class."""
    st.title("Learn as a class")
    try:
        room.attend(who)
    except ClassError as error:
        problem(f"{error}. You can continue alone: open Learn in the menu.")
        return
    moment = room.moment
    step = room.steps[moment.at]
    with st.container(border=True, key="learn-step"):
        describe(step, number=moment.at + 1, of=len(room.steps))
        guess = room.guess_of(who, moment.at)
        if moment.answer is None:
            _ask(room, who, moment.at, step, guess)
        else:
            reveal(room, moment, guess=guess)
    st.caption(plain(room.about))
    _so_far(room, who)
    st.fragment(_pulse, run_every=_PULSE_S)(room, who, moment.turn)


def _ask(room: Classroom, who: str, at: int, step: Step, guess: int | None) -> None:
    value = st.slider(
        step.question,
        0,
        step.highest,
        step.highest // 2 if guess is None else guess,
        format=f"%d {step.unit}",
        key=f"class-guess-{room.code}-{at}",
        help=step.counted,
    )
    if st.button("Guess" if guess is None else "Guess again", key=f"class-hand-in-{at}", type="primary"):
        room.guess(who, at, value)
        st.rerun()
    if guess is not None:
        st.markdown(f"You guessed **{guess} {step.unit}**. The leader shows the answer.")


def _pulse(room: Classroom, who: str, turn: int) -> None:
    """Redraw the page if the class has moved on."""
    if classes().find(room.code) is not room:
        st.rerun()
    room.attend(who)
    if room.moment.turn != turn:
        st.rerun()


def _so_far(room: Classroom, who: str) -> None:
    """Draw the person's guesses with the measured answers."""
    seen = [
        (room.steps[at], guess, answer) for at, answer in room.shown() if (guess := room.guess_of(who, at)) is not None
    ]
    if not seen:
        return
    st.subheader("Your guesses so far")
    with st.container(key="class-so-far"):
        st.table(wording.beside(seen), hide_index=True)


# What all see -------------------------------------------------------------------------------------------------


def describe(step: Step, *, number: int, of: int) -> None:
    """Draw a step: what is done, and the terms it introduces."""
    st.caption(f"Step {number} of {of}")
    st.subheader(step.title)
    st.markdown(step.doing)
    st.caption("  \n".join(f"**{term}**: {meaning}." for term, meaning in step.terms.items()))


def reveal(room: Classroom, moment: Moment, *, guess: int | None) -> None:
    """Draw the guesses of the class with the measured answer; ``guess`` is the person's own."""
    answer, step = moment.answer, room.steps[moment.at]
    assert answer is not None
    guesses = room.guesses(moment.at)
    st.markdown(f"**{step.question}**")
    own = "" if guess is None else f" You guessed {guess} {step.unit}: {wording.off(step, guess, answer)}."
    if guesses:
        near = sum(wording.off(step, one, answer) in ("within the interval", "exactly right") for one in guesses)
        middle = guesses[len(guesses) // 2]
        display.show(
            figures.guesses(guesses, answer, unit=step.unit, own=guess, dark=display.is_dark()),
            title=f"Half of {len(guesses)} guesses were {middle} {step.unit} or less; measured: "
            f"{wording.measured(step, answer)}",
            help="Bars: how many people gave this guess. Line: the measured answer; band: its 95 % interval. Hollow "
            "diamond: your guess.",
            name=f"class-{step.name}",
            data={"guess": guesses},
        )
        st.markdown(f"{near} of {len(guesses)} guesses lie within the interval.{own}")
    else:
        st.markdown(f"Nobody guessed. Measured: **{wording.measured(step, answer)}**.")
    if answer.interval is not None:
        st.caption(f"95 % interval {span(*answer.interval)}, {wording.counted(answer, step)}.")
    st.markdown(f"{answer.found} **{answer.meaning}**")


# The address --------------------------------------------------------------------------------------------------


def _invitation(code: str) -> tuple[str, bool]:
    """Return the address of the class and whether other machines can open it."""
    here = urlsplit(str(st.context.url or ""))
    mine, listening = access.current(), str(st.get_option("server.address") or "0.0.0.0")  # noqa: S104
    host, port = here.hostname or "127.0.0.1", here.port
    if access.is_loopback(host):
        port = port or int(st.get_option("server.port"))
        if access.is_every_address(listening):
            # The leader uses the machine that runs the server.
            host = access.reachable(listening)
    # Behind a proxy there may be no port.
    url = mine.address(host, port, "Learn", scheme=here.scheme or "http", **{_PARAMETER: code})
    return url, not access.is_loopback(host)


@lru_cache(maxsize=32)
def _qr(url: str) -> str:
    """Return the address as a QR code in SVG."""
    import segno

    return str(segno.make(url, error="m").svg_inline(scale=5, border=3, dark="#000", light="#fff"))
