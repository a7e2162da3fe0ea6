"""Learn as a class: one person leads through the steps, and the others guess anonymously; and what all see of a step.

Classes exist in the server's memory only and end with the session that leads them. For each person only one guess per
step is kept, under the key of the session, which is never shown.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import streamlit as st

from cahp import access
from cahp.features.learn.choosing import TURN, choose_best
from cahp.features.learn.lessons import Answer, Step
from cahp.features.learn.scene import Scene
from cahp.features.learn.stage import Picture, draw_stage, guess_figure, variants_figure
from cahp.outcomes import OUTCOMES
from cahp.ui.parts import display
from cahp.ui.parts.display import bind_units, plain, problem
from cahp.ui.session import is_alive
from cahp.values import CahpError
from cahp.words import capital, span
from cahp.words import number as format_number

#: Largest number of classes, and of people in one.
_CLASSES = 32
_PEOPLE = 1000


class ClassError(CahpError):
    """A class cannot be opened or joined."""


class Classroom:
    """One class; thread-safe.

    ``picture`` is drawn, and ``about`` describes the model and the texts; ``leader`` is the session that leads;
    ``alive(session)`` says whether a session is open.
    """

    def __init__(
        self, steps: Sequence[Step], picture: Picture, *, about: str, leader: str, alive: Callable[[str], bool]
    ) -> None:
        self.code = secrets.token_urlsafe(8)
        self.steps = tuple(steps)
        self.picture = picture
        self.about = about
        self.leader = leader
        self._alive = alive
        self._lock = Lock()
        self._at = 0
        self._answers: dict[int, Answer] = {}
        self._guesses: list[dict[str, int]] = [{} for _ in steps]
        self._people: set[str] = set()

    @property
    def moment(self) -> tuple[int, Answer | None]:
        """The current step, and its answer once it is shown."""
        with self._lock:
            return self._at, self._answers.get(self._at)

    def go(self, at: int) -> None:
        """Move the class to step ``at``."""
        with self._lock:
            if 0 <= at < len(self.steps):
                self._at = at

    def show(self, at: int, answer: Answer) -> None:
        """Show the answer of a step, which ends its guesses."""
        with self._lock:
            self._answers.setdefault(at, answer)

    def shown(self) -> list[tuple[int, Answer]]:
        """Return the steps whose answers were shown, in order."""
        with self._lock:
            return sorted(self._answers.items())

    def attend(self, who: str) -> None:
        """Let a person in.

        Raises:
            ClassError: If the class is full.
        """
        with self._lock:
            if len(self._people | {who}) > _PEOPLE:
                raise ClassError(f"this class is full ({_PEOPLE:,} people)")
            self._people.add(who)

    def here(self) -> int:
        """Return the number of people present, without the leader."""
        with self._lock:
            return sum(map(self._alive, self._people))

    def guess(self, who: str, at: int, value: int) -> bool:
        """Record or replace a guess; False if the class has moved on or the answer was shown."""
        with self._lock:
            if at != self._at or at in self._answers or who not in self._people:
                return False
            self._guesses[at][who] = min(max(int(value), 0), self.steps[at].highest)
            return True

    def guess_of(self, who: str, at: int) -> int | None:
        """Return the guess of a person at a step."""
        with self._lock:
            return self._guesses[at].get(who)

    def guesses(self, at: int) -> list[int]:
        """Return all guesses at a step, sorted so that their order identifies nobody."""
        with self._lock:
            return sorted(self._guesses[at].values())


class Classes:
    """The classes of this server; ``alive(session)`` says whether a session is open."""

    def __init__(self, alive: Callable[[str], bool]) -> None:
        self._alive = alive
        self._lock = Lock()
        self._open: dict[str, Classroom] = {}

    def open(self, steps: Sequence[Step], picture: Picture, *, about: str, leader: str) -> Classroom:
        """Open a class; a class that the same session led before ends.

        Raises:
            ClassError: If there are too many.
        """
        self.close(leader)
        room = Classroom(steps, picture, about=about, leader=leader, alive=self._alive)
        with self._lock:
            if len(self._open) >= _CLASSES:
                raise ClassError(f"{_CLASSES} classes are open on this explorer already; try again when one has ended")
            self._open[room.code] = room
        return room

    def close(self, leader: str | None) -> None:
        """End the class that a session leads, and those whose leaders have gone."""
        with self._lock:
            for code, room in list(self._open.items()):
                if room.leader == leader or not self._alive(room.leader):
                    del self._open[code]

    def find(self, code: str) -> Classroom | None:
        """Return the class with this code, or None if it has ended."""
        self.close(None)
        with self._lock:
            return self._open.get(code)

    def led_by(self, leader: str) -> Classroom | None:
        """Return the class that a session leads."""
        with self._lock:
            return next((room for room in self._open.values() if room.leader == leader), None)


# Learn as a class: the leader chooses the step and shows its answer, everybody else guesses -------------------------


#: The query parameter that names a class.
_PARAMETER = "class"
#: The classes of this server.
CLASSES = Classes(is_alive)
#: Numbers of guesses in words; a model that cannot be refitted has one less.
_COUNTED = {5: "five", 6: "six"}
#: Seconds between two checks whether the class has moved on.
_PULSE_S = 2.0


def joined() -> Classroom | None:
    """Return the class that the address names; if it has ended, say so and clean the address."""
    code = st.query_params.get(_PARAMETER)
    if code is None:
        return None
    room = CLASSES.find(code)
    if room is None:
        st.query_params.pop(_PARAMETER, None)
        st.info("This class has ended. You can continue alone.")
    return room


# What all see -------------------------------------------------------------------------------------------------


def describe(steps: Sequence[Step], at: int) -> None:
    """Draw what is done in step ``at``, and what its new terms mean."""
    step = steps[at]
    guesses = sum(bool(step.question) for step in steps)
    st.caption(f"Learn in {_COUNTED.get(guesses, str(guesses))} guesses · step {at + 1} of {len(steps)}")
    st.title(step.title)
    terms = " ".join(f"**{term.capitalize()}**: {meaning}." for term, meaning in step.terms.items())
    st.markdown(step.doing, help=terms or None)


def describe_scene(scene: Scene, unit: str) -> str:
    """Say in one sentence at which words the head looks."""
    strongest = sorted(scene.arcs, key=lambda arc: -arc[2])[:2]
    if not strongest:
        return f"This {unit} looks at no single word of this sentence."
    said = [f"“{scene.words[looking]}” looks at “{scene.words[other]}”" for looking, other, _ in sorted(strongest)]
    return f"{', '.join(said)}."


def ask_guess(step: Step, start: int, **options: Any) -> int:
    """Draw the slider for a guess."""
    value = st.slider(step.question, 0, step.highest, start, format=f"%d {step.unit}", help=step.counted, **options)
    return int(value)


def measured(step: Step, answer: Answer) -> str:
    """Return the measured value, or that no change was measurable if the interval contains 0."""
    if answer.interval is not None and answer.interval[0] < 0 < answer.interval[1]:
        return "no measurable change"
    return f"{_digits(answer.value)} {step.unit}"


def off(step: Step, guess: int, answer: Answer) -> str:
    """Return how far the guess was from the measured value."""
    distance = guess - answer.value
    if answer.interval is not None and answer.interval[0] <= guess <= answer.interval[1]:
        return "within the interval"
    if not distance:
        return "exactly right"
    unit = step.unit
    if unit == "per cent":
        # Percentages differ by percentage points.
        unit = "points"
    side = "high" if distance > 0 else "low"
    return f"{_digits(abs(distance))} {unit} too {side}"


def _digits(value: float) -> str:
    if float(value).is_integer():
        return format_number(value, 0)
    return format_number(value)


def tabulate(seen: Sequence[tuple[Step, int, Answer]]) -> dict[str, list[str]]:
    """Return steps, guesses and measured values with 95 % intervals as the columns of a table."""
    table: dict[str, list[str]] = {"Step": [], "Your guess": [], "Measured": [], "You were": []}
    for step, guess, answer in seen:
        value = measured(step, answer)
        if answer.interval is not None:
            value += f" ({span(*answer.interval)})"
        table["Step"].append(step.title)
        table["Your guess"].append(f"{guess} {step.unit}")
        table["Measured"].append(value)
        table["You were"].append(off(step, guess, answer))
    return table


def show_answer(step: Step, answer: Answer, guess: int | None, guesses: Sequence[int] = ()) -> None:
    """Draw the figures of an answer, with the own ``guess`` and the sorted ``guesses`` of a class."""
    st.markdown(f"**{step.question}**")
    low, high = answer.interval or (answer.value, answer.value)
    column, right = st.columns(2)
    own = []
    title = "There are no guesses"
    if guess is not None:
        own.append(guess)
        title = f"Your guess: {off(step, guess, answer)}"
        column.metric("Your guess", f"{guess} {step.unit}")
        column = right
    unknown = [None] * (len(own) + len(guesses))
    column.metric("Measured", measured(step, answer))
    if answer.interval is not None:
        column.caption(
            f"{capital(step.interval)} {span(low, high)}",
            help="Another sample of the same size would give a slightly different value; 95 of 100 such 95 % intervals "
            "contain the true one.",
        )
    if guesses:
        near = sum(off(step, other, answer) in ("within the interval", "exactly right") for other in guesses)
        middle = f"{float(np.median(guesses)):g} {step.unit}"
        title = f"Median of {len(guesses)} guesses: {middle}; within the interval: {near}"
        if len(guesses) == 1:
            title = f"The one guess: {middle}; within the interval: {near}"
    display.show(
        guess_figure(step, answer, guess, guesses, dark=display.is_dark()),
        title=title,
        help=f"Line: the measured answer; band: its {step.interval}. Hollow diamond: your guess. Bars: how many "
        "people of a class gave this guess.",
        name=f"learn-distance-{step.name}",
        data={
            "what": ["measured", *["your guess"] * len(own), *["a guess of the class"] * len(guesses)],
            step.unit: [answer.value, *own, *guesses],
            "low": [low, *unknown],
            "high": [high, *unknown],
        },
    )
    n = "counted"
    if step.units:
        n = f"n = {answer.n} {step.units}"
    st.markdown(f"{plain(answer.found)} ({n})")
    st.markdown(f"**{plain(answer.meaning)}**")
    if answer.bars:
        _draw_variants(step, answer)


def _draw_variants(step: Step, answer: Answer) -> None:
    """Draw the outcome of each variant and of random selections."""
    (_, full), (variant, changed), *_ = answer.bars.items()
    label = OUTCOMES[answer.outcome].label
    table: dict[str, list[Any]] = {"variant": [], label: [], "low": [], "high": []}
    for name, bar in answer.bars.items():
        table["variant"].append(name)
        table[label].append(bar.value)
        table["low"].append(bar.low)
        table["high"].append(bar.high)
    for name, shares in answer.draws.items():
        table["variant"] += [name] * len(shares)
        table[label] += shares
        table["low"] += [None] * len(shares)
        table["high"] += [None] * len(shares)
    display.show(
        variants_figure(answer, dark=display.is_dark()),
        title=f"{capital(label)} {changed.text} {variant}, {full.text} with all heads",
        help=f"Dot: {label} of one variant of the model; line: its 95 % interval. If lines overlap widely, the "
        "difference may be chance. Hollow dots: random choices of heads.",
        name=f"learn-{step.name}",
        data=table,
    )


# The leader ------------------------------------------------------------------------------------------------


def invite(steps: list[Step], picture: Picture, *, about: str, leader: str) -> None:
    """Offer to lead a class."""
    with st.expander("With a class"):
        st.markdown(
            "Each person guesses on their own screen. Then all guesses are shown with the measured answer. You choose "
            "the step and when to show its answer. Guesses are anonymous and deleted when you end the class or close "
            "this tab. A plan for 20 minutes is in `assets/docs/teaching.md`."
        )
        if st.button("Open a class", key="class-open"):
            try:
                CLASSES.open(steps, picture, about=about, leader=leader)
            except ClassError as error:
                problem(str(error))
            else:
                st.rerun()


def invitation(room: Classroom) -> None:
    """Draw how to join the class and how to end it."""
    import segno

    url, elsewhere = _invitation(room.code)
    code = segno.make(url, error="m").svg_inline(scale=5, border=3, dark="#000", light="#fff")
    with st.container(border=True, key="class-door"):
        # Closed after the first step, when most people have joined.
        with st.expander("Join this class", expanded=room.moment == (0, None)):
            picture, words = st.columns([1, 3], gap="medium", vertical_alignment="center")
            with picture:
                st.image(str(code), caption="Scan to join")
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
                CLASSES.close(room.leader)
                st.rerun()


def _attendance(room: Classroom) -> None:
    joined = room.here()
    if not joined:
        st.markdown("No participants yet.")
        return
    guesses = len(room.guesses(room.moment[0]))
    st.markdown(f"{joined} joined, {guesses} guessed at this step.")


def _invitation(code: str) -> tuple[str, bool]:
    """Return the address of the class and whether other machines can open it."""
    here = urlsplit(str(st.context.url or ""))
    listening = str(st.get_option("server.address") or "0.0.0.0")  # noqa: S104
    host = here.hostname or "127.0.0.1"
    port = here.port
    if access.is_loopback(host):
        port = port or int(st.get_option("server.port"))
        if access.is_every_address(listening):
            # The leader uses the machine that runs the server.
            host = access.reachable(listening)
    # Behind a proxy there may be no port.
    url = access.current().address(host, port, "Learn", scheme=here.scheme or "http", **{_PARAMETER: code})
    return url, not access.is_loopback(host)


def lead(room: Classroom, at: int, known: Answer | None, *, measure: Callable[[], None]) -> None:
    """Draw the question for the leader; ``measure`` measures an answer that is not ``known``."""
    room.go(at)
    awaited = f"class-awaited-{room.code}-{at}"
    if known is not None and st.session_state.pop(awaited, False):
        room.show(at, known)
        st.rerun()
    step = room.steps[at]
    st.markdown(f"**{step.question}**")
    if st.button("Show the answer", key=f"class-show-{at}", type="primary"):
        if known is None:
            st.session_state[awaited] = True
            measure()
        else:
            room.show(at, known)
        st.rerun()
    st.caption("Your class can guess until you show the answer.")


# Everybody else -----------------------------------------------------------------------------------------------


def attend(room: Classroom, who: str) -> None:
    """Draw the page of a person in the class."""
    try:
        room.attend(who)
    except ClassError as error:
        st.title("Learn as a class")
        problem(f"{error}. You can continue alone: open Learn in the menu.")
        return
    at, answer = moment = room.moment
    step = room.steps[at]
    guess = room.guess_of(who, at)
    describe(room.steps, at)
    with st.container(key="learn-step"):
        draw_stage(step, room.picture, answer, answered=answer is not None)
        sentence = ""
        if not step.question:
            sentence = describe_scene(room.picture.scene, room.picture.unit)
        elif answer is not None:
            sentence = answer.headline
        if sentence:
            with st.container(key="learn-sentence"):
                st.markdown(f"**{bind_units(plain(sentence))}**")
        if answer is not None:
            if step.name == TURN:
                best = choose_best(room.guesses(at), answer)
                st.markdown(f"The best guess of the class: {best} {step.unit}.")
            with st.expander("Figures", expanded=True):
                show_answer(step, answer, guess, room.guesses(at))
        elif step.question:
            _hand_in(room, who, at, guess)
    st.caption(plain(room.about))
    seen = []
    for place, shown in room.shown():
        own = room.guess_of(who, place)
        if own is not None:
            seen.append((room.steps[place], own, shown))
    if seen:
        st.subheader("Your guesses so far")
        with st.container(key="class-so-far"):
            st.table(tabulate(seen), hide_index=True)
    st.fragment(_pulse, run_every=_PULSE_S)(room, moment)


def _hand_in(room: Classroom, who: str, at: int, guess: int | None) -> None:
    """Draw the slider for a guess, which replaces an earlier ``guess``."""
    step = room.steps[at]
    start = guess
    label = "Guess again"
    if start is None:
        start = step.highest // 2
        label = "Guess"
    value = ask_guess(step, start, key=f"class-guess-{room.code}-{at}")
    if st.button(label, key=f"class-hand-in-{at}", type="primary"):
        room.guess(who, at, value)
        st.rerun()
    if guess is not None:
        st.markdown(f"You guessed **{guess} {step.unit}**. The leader shows the answer.")


def _pulse(room: Classroom, moment: tuple[int, Answer | None]) -> None:
    """Redraw the page if the class has moved on."""
    if CLASSES.find(room.code) is not room or room.moment != moment:
        st.rerun()
