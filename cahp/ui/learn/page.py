"""Learn: guess what pruning does in six steps, then see the measured answer."""

from __future__ import annotations

import streamlit as st

from cahp import bundled
from cahp.bundled import BundledLessons
from cahp.figures import lessons as figures
from cahp.studies import answers, lessons
from cahp.studies.answers import Answer
from cahp.studies.lessons import Step, Subject
from cahp.ui.frame import address
from cahp.ui.frame.page import link
from cahp.ui.frame.running import follow, need_run
from cahp.ui.learn import teaching, wording
from cahp.ui.learn.classroom import Classroom
from cahp.ui.parts import display
from cahp.ui.parts.display import plain, problem
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.opening import shared_model
from cahp.words import percent, side_by_side, span

#: Session keys: the open step, moved sliders, submitted guesses, and jobs that measure answers.
_AT, _MOVED, _GUESSES, _ANSWERS = (f"cahp_learn_{what}" for what in ("at", "moved", "guesses", "answers"))

#: Characters of an example text.
_EXCERPT = 240


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    room = teaching.joined()
    if room is not None and room.leader != explorer.id:
        teaching.attend(room, explorer.id)
        return
    need_run(explorer)
    st.title("Learn in six guesses")
    subject = _subject(explorer)
    if subject is None:
        st.info("The clusters of the heads are no longer stored: measure again in the sidebar.")
        return
    steps = lessons.steps(subject)
    st.markdown(
        "How many attention heads does this model need? Guess first, then see the answer, measured on "
        f"{len(subject.texts)} texts that were not used to select heads."
    )
    _example(subject)
    room = teaching.classes().led_by(explorer.id)
    if room is not None and [step.doing for step in room.steps] != [step.doing for step in steps]:
        # For another model or other data, earlier answers of the class would be wrong.
        teaching.classes().close(explorer.id)
        room = None
    if room is not None:
        teaching.invitation(room)
    _link_guesses(steps, subject)
    at = _choose_step(steps, subject)
    with st.container(border=True, key="learn-step"):
        if room is None:
            _step(explorer, subject, steps[at], number=at + 1)
        else:
            _lead(explorer, subject, steps[at], room, at)
    _onwards(at, len(steps))
    if room is None:
        _scores(steps, subject)
        teaching.invite(steps, about=_about(explorer, subject), leader=explorer.id)


def _subject(explorer: Explorer, *, fresh_times: bool = False) -> Subject | None:
    clusters = explorer.clusters
    # Always the heads that CAHP suggests, whatever is on the board: the steps explain the method.
    selection = explorer.choices().of_budget(None)
    if clusters is None or selection is None:
        return None
    return lessons.subject_of(explorer.bench, clusters, selection, load=shared_model, fresh_times=fresh_times)


def _example(subject: Subject) -> None:
    """Draw one of the texts and the classes."""
    texts = subject.texts
    row = len(texts) // 2
    text = side_by_side(texts.inputs[row])
    if len(text) > _EXCERPT:
        text = f"{text[:_EXCERPT]}…"
    classes = ", ".join(plain(name) for name in texts.classes)
    st.caption(f"One of the texts: “{plain(text)}”")
    st.caption(
        f"The model predicts one of {len(texts.classes)} classes ({classes}); the label of this text is "
        f"**{plain(texts.classes[texts.labels[row]])}**."
    )


# Navigation ------------------------------------------------------------------------------------------------


def _choose_step(steps: list[Step], subject: Subject) -> int:
    if _AT not in st.session_state or address.is_history_navigation():
        linked = st.query_params.get("step", "")
        st.session_state[_AT] = int(linked) - 1 if linked in map(str, range(1, len(steps) + 1)) else 0
    at = min(int(st.session_state[_AT]), len(steps) - 1)
    if st.query_params.get("step") != str(at + 1):
        st.query_params["step"] = str(at + 1)
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


def _link_guesses(steps: list[Step], subject: Subject) -> None:
    """Read the guesses of a link once; write submitted guesses into the address, in the order of steps."""
    names = [_name(step, subject) for step in steps]
    if _GUESSES not in st.session_state:
        # Without an answer, only the slider is restored and the question is asked again.
        there = _moved() if _shipped(subject) is None else _guesses()
        for step, name, text in zip(steps, names, st.query_params.get("guesses", "").split(","), strict=False):
            if text.isascii() and text.isdigit() and len(text) < 6 and int(text) <= step.highest:
                there[name] = int(text)
        _guesses()
    said = ",".join(str(_guesses().get(name, "")) for name in names).rstrip(",")
    if said and st.query_params.get("guesses") != said:
        st.query_params["guesses"] = said


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
            link("budget", "Choose a budget yourself")


# One step ----------------------------------------------------------------------------------------------------


def _step(explorer: Explorer, subject: Subject, step: Step, *, number: int) -> None:
    name = _name(step, subject)
    teaching.describe(step, number=number, of=6)
    job, answer = _jobs().get(name), _answer(step, subject)
    under_way = job is not None and not job.ended
    guess = _guess(step, subject, fixed=answer is not None or under_way)
    if under_way:
        assert job is not None
        follow(job, place="learn", title="Evaluate the model")
        return
    if job is not None and job.error:
        problem(job.error)
    if answer is not None:
        _show(step, guess, answer)
        if job is None or job.result is None:
            _bundled_note(explorer, step, subject)
        elif step.name == "time" and st.button("Measure latency again", key="learn-time-again", type="tertiary"):
            _measure(explorer, step, _subject(explorer, fresh_times=True) or subject)
            st.rerun()
    else:
        with st.container(horizontal=True, vertical_alignment="center"):
            asked = st.button("See", key=f"learn-see-{step.name}", type="primary", disabled=name not in _moved())
            if name not in _moved():
                st.caption("Move the slider to your guess first.")
        if asked:
            _guesses()[name] = guess
            if _shipped(subject) is None:
                _measure(explorer, step, subject)
            st.rerun()


def _lead(explorer: Explorer, subject: Subject, step: Step, room: Classroom, at: int) -> None:
    """Draw a step for the leader of a class."""
    teaching.describe(step, number=at + 1, of=len(room.steps))
    job = _jobs().get(_name(step, subject))
    if job is not None and not job.ended:
        room.go(at)
        follow(job, place="learn", title="Evaluate the model")
        return
    if job is not None and job.error:
        problem(job.error)
    teaching.lead(room, at, _known(step, subject), measure=lambda: _measure(explorer, step, subject))


def _about(explorer: Explorer, subject: Subject) -> str:
    """Return a sentence about the model and the texts for people who see neither."""
    return (
        f"Measured on {explorer.card.id}, {explorer.card.layers} layers of {explorer.card.heads} heads, and "
        f"{len(subject.texts)} texts that were not used to select heads."
    )


def _measure(explorer: Explorer, step: Step, subject: Subject) -> None:
    name = _name(step, subject)
    _jobs()[name] = jobs.submit(
        explorer.id,
        f"learn-{name}",
        lambda progress: answers.measure(step.name, subject, progress=progress),
        rank=jobs.Rank.QUICK,
    )


def _bundled_note(explorer: Explorer, step: Step, subject: Subject) -> None:
    """Draw where a bundled answer was measured, and a button to measure it here."""
    shipped = _shipped(subject)
    assert shipped is not None
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"Bundled: measured on {plain(shipped.made['machine'])}, {plain(shipped.made['date'])}.")
        if st.button("Measure it here", key=f"learn-here-{step.name}"):
            _measure(explorer, step, subject)
            st.rerun()


def _guess(step: Step, subject: Subject, *, fixed: bool) -> int:
    name = _name(step, subject)
    key = f"learn-guess-{step.name}-{fixed}"

    def moved() -> None:
        _moved()[name] = int(st.session_state[key])

    said = _guesses().get(name, _moved().get(name, step.highest // 2))
    return int(
        st.slider(
            step.question,
            0,
            step.highest,
            said,
            format=f"%d {step.unit}",
            key=key,
            disabled=fixed,
            on_change=moved,
            help=step.counted,
        )
    )


def _show(step: Step, guess: int, answer: Answer) -> None:
    words, picture = st.columns(2, gap="large") if answer.bars else (st.container(), None)
    with words:
        guessed, measured = st.columns(2)
        guessed.metric("Your guess", f"{guess} {step.unit}")
        measured.metric("Measured", wording.measured(step, answer))
        if answer.interval is not None:
            measured.caption(
                f"95 % interval {span(*answer.interval)}",
                help="Another sample of the same size would give a slightly different value; 95 of 100 such intervals "
                "contain the true one.",
            )
        _distance(step, guess, answer)
        st.markdown(f"{answer.found} ({wording.counted(answer, step)})")
        st.markdown(f"**{answer.meaning}**")
    if picture is not None:
        with picture:
            _picture(step, answer)


def _distance(step: Step, guess: int, answer: Answer) -> None:
    """Draw the guess and the measured answer on one axis."""
    low, high = answer.interval or (answer.value, answer.value)
    display.show(
        figures.distance(guess, answer, unit=step.unit, dark=display.is_dark()),
        title=f"Your guess: {wording.off(step, guess, answer)}",
        help="Hollow diamond: guess. Dot: measured answer, with its 95 % interval.",
        name=f"learn-distance-{step.name}",
        data={
            "what": ["guess", "measured"],
            step.unit: [guess, answer.value],
            "low": [None, low],
            "high": [None, high],
        },
    )


def _picture(step: Step, answer: Answer) -> None:
    full, changed = answer.bars[:2]
    drawn = [(draws, one) for draws in answer.draws for one in draws.accuracies]
    display.show(
        figures.accuracies(answer, dark=display.is_dark()),
        title=f"Accuracy {percent(changed.accuracy)} {changed.name}, {percent(full.accuracy)} with all heads",
        help=(
            "Dot: accuracy of one variant of the model; line: its 95 % interval (Wilson). If lines overlap widely, the "
            "difference may be chance. Hollow dots: random choices of heads."
        ),
        formula=r"\hat p = \frac{\text{correct predictions}}{n}",
        name=f"learn-{step.name}",
        data={
            "variant": [*(bar.name for bar in answer.bars), *(draws.name for draws, _ in drawn)],
            "accuracy": [*(bar.accuracy for bar in answer.bars), *(one for _, one in drawn)],
            "low": [*(bar.low for bar in answer.bars), *([None] * len(drawn))],
            "high": [*(bar.high for bar in answer.bars), *([None] * len(drawn))],
        },
    )


def _scores(steps: list[Step], subject: Subject) -> None:
    """Draw all guesses with the measured answers after the last step, and a text to copy."""
    seen = [(step, _guesses()[_name(step, subject)], answer) for step in steps if (answer := _answer(step, subject))]
    if len(seen) < len(steps):
        return
    st.subheader("Your guesses and the measured answers")
    with st.container(key="learn-scores"):
        st.table(wording.beside(seen), hide_index=True)
    card = "\n".join(
        [
            f"Learn in six guesses: attention heads of {subject.mask.layers} x {subject.mask.heads}, "
            f"{len(subject.texts)} texts",
            *(
                f"{number}. {step.title}: guessed {guess}, measured {wording.value(answer)} {step.unit}"
                + ("" if answer.interval is None else f" (95 % interval {span(*answer.interval)})")
                for number, (step, guess, answer) in enumerate(seen, start=1)
            ),
        ]
    )
    st.caption("Your result:")
    st.code(card, language=None, wrap_lines=True)
    st.download_button("Save the result", card, "six-steps.txt", "text/plain", key="learn-save", on_click="ignore")


def _name(step: Step, subject: Subject) -> str:
    return f"{step.name}-{subject.sha256}"


def _answer(step: Step, subject: Subject) -> Answer | None:
    """Return the answer to a step once there is a guess."""
    return _known(step, subject) if _name(step, subject) in _guesses() else None


def _known(step: Step, subject: Subject) -> Answer | None:
    """Return the answer to a step, measured here or bundled."""
    job, shipped = _jobs().get(_name(step, subject)), _shipped(subject)
    if job is not None and job.result is not None:
        return job.result
    return None if shipped is None else shipped.answers.get(step.name)


def _shipped(subject: Subject) -> BundledLessons | None:
    """Return the bundled answers if they are about this subject."""
    shipped = bundled.read_lessons()
    return shipped if shipped is not None and shipped.subject == subject.sha256 else None


def _jobs() -> dict[str, jobs.Job[Answer]]:
    return st.session_state.setdefault(_ANSWERS, {})  # type: ignore[no-any-return]


def _moved() -> dict[str, int]:
    return st.session_state.setdefault(_MOVED, {})  # type: ignore[no-any-return]


def _guesses() -> dict[str, int]:
    return st.session_state.setdefault(_GUESSES, {})  # type: ignore[no-any-return]
