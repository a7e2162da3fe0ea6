"""The steps with a class: whoever leads chooses and shows, everybody guesses, all see the guesses beside the truth."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from urllib.parse import urlsplit

import streamlit as st

from cahp import access
from cahp.figures import lessons as figures
from cahp.studies.answers import Answer
from cahp.studies.lessons import Step
from cahp.ui.frame.page import problem
from cahp.ui.learn import wording
from cahp.ui.learn.classroom import ClassError, Classes, Classroom, Moment
from cahp.ui.parts import display
from cahp.ui.parts.display import plain
from cahp.ui.session.lifetime import is_alive
from cahp.words import span

#: The parameter of an address that names a class.
_PARAMETER = "class"
#: Seconds after which a page looks whether its class went on.
_PULSE_S = 2.0


@cache
def classes() -> Classes:
    """The classes of this server."""
    return Classes(is_alive)


def joined() -> Classroom | None:
    """The class that the address names; a class that has ended is said and taken out of the address."""
    code = st.query_params.get(_PARAMETER)
    if code is None:
        return None
    room = classes().find(code)
    if room is None:
        st.query_params.pop(_PARAMETER, None)
        st.info("This class has ended. You can go on by yourself.")
    return room


# Whoever leads ------------------------------------------------------------------------------------------------


def invite(steps: list[Step], *, about: str, leader: str) -> None:
    """Offer to lead a class."""
    with st.expander("With a class"):
        st.markdown(
            "Everybody guesses on their own screen, and all guesses are shown beside the truth. You choose the step "
            "and when to show the answer. There are no names, and nothing is kept once you close this tab or end the "
            "class."
        )
        if st.button("Open a class", key="class-open"):
            try:
                classes().open(steps, about=about, leader=leader)
            except ClassError as error:
                problem(str(error))
            else:
                st.rerun()


def door(room: Classroom) -> None:
    """How people come in, and the way out."""
    url, elsewhere = _invitation(room.code)
    with st.container(border=True, key="class-door"):
        # Who is in needs it no more: the step is what counts then.
        with st.expander("Your class joins here", expanded=room.moment.turn == 0):
            picture, words = st.columns([1, 3], gap="medium", vertical_alignment="center")
            with picture:
                st.image(_qr(url), caption="To join, scan this")
            with words:
                st.code(url, language=None, wrap_lines=True)
                if not elsewhere:
                    st.warning(
                        "Only this machine can open that address. For a class, start the explorer with "
                        "`cahp explore --host 0.0.0.0`, and open it at the address that it prints."
                    )
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            st.fragment(_attendance, run_every=_PULSE_S)(room)
            if st.button("End the class", key="class-end"):
                classes().close(room.leader)
                st.rerun()


def _attendance(room: Classroom) -> None:
    here, handed_in = room.here(), len(room.guesses(room.moment.at))
    people = "Nobody is here yet." if not here else f"{here} here, {handed_in} guessed at this step."
    st.markdown(people)


def lead(room: Classroom, at: int, known: Answer | None, *, measure: Callable[[], None]) -> None:
    """The step as whoever leads sees it; ``measure`` finds the answer out where it is not ``known``."""
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
    st.caption("Your class can guess until you show it.")


# Everybody else -----------------------------------------------------------------------------------------------


def attend(room: Classroom, who: str) -> None:
    """What somebody in the class sees."""
    st.title("Six small steps, together")
    try:
        room.attend(who)
    except ClassError as error:
        problem(f"{error}. You can go on by yourself: open Learn from the left.")
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
        st.markdown(f"You guessed **{guess} {step.unit}**. The answer comes when it is shown to all.")


def _pulse(room: Classroom, who: str, turn: int) -> None:
    """Look whether the class has gone on; the page is drawn again only then."""
    if classes().find(room.code) is not room:
        st.rerun()
    room.attend(who)
    if room.moment.turn != turn:
        st.rerun()


def _so_far(room: Classroom, who: str) -> None:
    """One's own guesses beside what was measured."""
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
    """A step: what is done, and the words that come up first in it."""
    st.caption(f"Step {number} of {of}")
    st.subheader(step.title)
    st.markdown(step.doing)
    st.caption("  \n".join(f"**{term}**: {meaning}." for term, meaning in step.terms.items()))


def reveal(room: Classroom, moment: Moment, *, guess: int | None) -> None:
    """The guesses of the class beside what was measured; ``guess`` is one's own."""
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
            help="A bar is how many guessed so; the line is what was measured, the band its 95 % interval, and the "
            "hollow diamond your own guess.",
            name=f"class-{step.name}",
            data={"guess": guesses},
        )
        st.markdown(f"{near} of {len(guesses)} guessed within the interval.{own}")
    else:
        st.markdown(f"Nobody guessed. Measured: **{wording.measured(step, answer)}**.")
    if answer.interval is not None:
        st.caption(f"95 % interval {span(*answer.interval)}, {wording.counted(answer, step)}.")
    st.markdown(f"{answer.found} **{answer.meaning}**")


# The address --------------------------------------------------------------------------------------------------


def _invitation(code: str) -> tuple[str, bool]:
    """The address that brings people in, and whether it can be opened from another machine."""
    here = urlsplit(str(st.context.url or ""))
    mine, listening = access.current(), str(st.get_option("server.address") or "0.0.0.0")  # noqa: S104
    host, port = here.hostname or "127.0.0.1", here.port
    if access.is_loopback(host):
        port = port or int(st.get_option("server.port"))
        if access.is_every_address(listening):
            # Whoever leads sits at the machine itself.
            host = access.reachable(listening)
    # Behind a proxy there may be no port to say.
    url = mine.address(host, port, "Learn", scheme=here.scheme or "http", **{_PARAMETER: code})
    return url, not access.is_loopback(host)


@lru_cache(maxsize=32)
def _qr(url: str) -> str:
    """The address as a QR code, as an SVG picture."""
    import segno

    return str(segno.make(url, error="m").svg_inline(scale=5, border=3, dark="#000", light="#fff"))
