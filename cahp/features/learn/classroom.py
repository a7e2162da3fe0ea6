"""Learn as a class: one person leads through the steps, and the others guess anonymously.

Classes exist in the server's memory only and end with the session that leads them. For each person only one guess per
step is kept, under the key of the session, which is never shown.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Lock

import streamlit as st

from cahp.features.learn.stage import (
    draw_answer,
    draw_axis,
    draw_guess,
    draw_sentence,
    draw_stage,
    draw_title,
    tell_guess,
    tell_looks,
)
from cahp.features.learn.steps import Answer, Subject, read_texts
from cahp.ui.frame import page_url
from cahp.ui.parts import plain
from cahp.ui.session import is_alive

#: The query parameter that names a class.
_PARAMETER = "class"
#: Seconds between two checks whether the class has moved on.
_PULSE_S = 2.0
#: Held while a class changes.
_LOCK = Lock()


@dataclass(eq=False)
class Classroom:
    """One class of the session ``leader``, at step ``at``, with the answers that were shown.

    ``guesses`` of each step are by session.
    """

    subject: Subject
    leader: str
    code: str = field(default_factory=lambda: secrets.token_urlsafe(8))
    at: int = 0
    answers: dict[int, Answer] = field(default_factory=dict)
    guesses: dict[int, dict[str, int]] = field(default_factory=dict)
    people: set[str] = field(default_factory=set)
    #: Whether its code was shown.
    greeted: bool = False

    @property
    def moment(self) -> tuple[int, Answer | None]:
        """The current step, and its answer once it is shown."""
        return self.at, self.answers.get(self.at)

    def guess(self, who: str, at: int, value: int) -> None:
        """Record or replace a guess, unless the class has moved on or the answer was shown."""
        with _LOCK:
            if at == self.at and at not in self.answers and who in self.people:
                self.guesses.setdefault(at, {})[who] = min(max(int(value), 0), self.subject.steps[at].highest)

    def list_guesses(self, at: int) -> list[int]:
        """Return all guesses at a step, sorted so that their order identifies nobody."""
        with _LOCK:
            return sorted(self.guesses.get(at, {}).values())


class Classes:
    """The classes of this server; ``alive(session)`` says whether a session is open."""

    def __init__(self, alive: Callable[[str], bool]) -> None:
        self.alive = alive
        self._open: dict[str, Classroom] = {}

    def open(self, room: Classroom) -> None:
        """Open a class; one that the same session led before ends, so there are never more than open sessions."""
        self.close(room.leader)
        with _LOCK:
            self._open[room.code] = room

    def close(self, leader: str | None = None) -> None:
        """End the class that a session leads, and those whose leaders have gone."""
        with _LOCK:
            for code, room in list(self._open.items()):
                if room.leader == leader or not self.alive(room.leader):
                    del self._open[code]

    def find(self, code: str) -> Classroom | None:
        """Return the class with this code, or None if it has ended."""
        self.close()
        return self._open.get(code)

    def led_by(self, leader: str) -> Classroom | None:
        """Return the class that a session leads."""
        with _LOCK:
            return next((room for room in self._open.values() if room.leader == leader), None)


#: The classes of this server.
CLASSES = Classes(is_alive)


def find_joined(language: str) -> Classroom | None:
    """Return the class that the address names; if it has ended, say so in the language and clean the address."""
    code = st.query_params.get(_PARAMETER)
    if code is None:
        return None
    room = CLASSES.find(code)
    if room is None:
        st.query_params.pop(_PARAMETER, None)
        st.info(read_texts(language)["page"]["ended"])
    return room


# The leader ------------------------------------------------------------------------------------------------------


def invite(subject: Subject, leader: str) -> None:
    """Offer to lead a class."""
    with st.expander(subject.say("with-class")):
        st.markdown(subject.say("about-class"))
        if st.button(subject.say("open-class"), key="class-open"):
            CLASSES.open(Classroom(subject, leader))
            st.rerun()


def draw_bar(room: Classroom, subject: Subject) -> None:
    """Draw the line of a class above its steps, and once in full how to join."""
    room.subject = subject
    with st.container(horizontal=True, vertical_alignment="center", key="class-bar"):
        st.fragment(_draw_attendance, run_every=_PULSE_S)(room)
        wanted = st.button(subject.say("code"), key="class-code", icon=":material/qr_code_2:")
        if st.button(subject.say("end-class"), key="class-end"):
            CLASSES.close(room.leader)
            st.rerun()
    if wanted or not room.greeted:
        room.greeted = True
        st.dialog(subject.say("join"))(_draw_code)(room)


def _draw_code(room: Classroom) -> None:
    import segno

    subject = room.subject
    url, elsewhere = page_url("Learn", **{_PARAMETER: room.code, "lang": subject.language})
    code = segno.make(url, error="m").svg_inline(scale=8, border=3, dark="#000", light="#fff")
    st.image(str(code), caption=subject.say("scan"))
    st.code(url, language=None, wrap_lines=True)
    if not elsewhere:
        st.warning(subject.say("only-here"))


def _draw_attendance(room: Classroom) -> None:
    present = sum(map(CLASSES.alive, list(room.people)))
    st.markdown(room.subject.say("joined", present=present, guessed=len(room.list_guesses(room.at))))


# Everybody else --------------------------------------------------------------------------------------------------


def attend(room: Classroom, who: str, language: str) -> None:
    """Draw the page of a person in the class, in the language of this person."""
    room.people.add(who)
    at, answer = moment = room.moment
    subject = replace(room.subject, language=language)
    step = subject.steps[at]
    guess = room.guesses.get(at, {}).get(who)
    draw_title(subject, at)
    with st.container(key="learn-step"):
        draw_stage(subject, step, answer, answered=answer is not None, mask=step.mask)
        if not step.question:
            draw_sentence(tell_looks(subject))
        elif answer is None:
            start = guess
            if start is None:
                start = step.highest // 2
            value = draw_guess(step, start, key=f"class-guess-{room.code}-{at}")
            if st.button(subject.say("guess"), key=f"class-hand-in-{at}", type="primary"):
                room.guess(who, at, value)
                st.rerun()
            if guess is not None:
                st.markdown(subject.say("wait", amount=step.amount(guess)))
        else:
            draw_axis(subject, step, answer, guess, room.list_guesses(at))
            draw_sentence(tell_guess(subject, step, answer, guess))
            with st.expander(subject.say("figures")):
                draw_answer(subject, step, answer)
    st.caption(plain(subject.describe()))
    told = []
    for place, shown in sorted(room.answers.items()):
        own = room.guesses.get(place, {}).get(who)
        if own is not None:
            asked = subject.steps[place]
            told.append(f"- **{plain(asked.title)}** {plain(tell_guess(subject, asked, shown, own))}")
    if told:
        st.subheader(subject.say("so-far"))
        st.markdown("\n".join(told))
    st.fragment(_follow, run_every=_PULSE_S)(room, moment)


def _follow(room: Classroom, moment: tuple[int, Answer | None]) -> None:
    """Redraw the page if the class has moved on."""
    if CLASSES.find(room.code) is not room or room.moment != moment:
        st.rerun()
