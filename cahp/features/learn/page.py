"""Learn: guess what pruning does in six steps, then see the measured answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from cahp.features.learn import lessons, teaching
from cahp.features.learn.bundled import BundledLessons, read_lessons
from cahp.features.learn.course import list_steps, measure
from cahp.features.learn.lessons import STAGE, Answer, Step, Subject
from cahp.tasks.texts import Texts
from cahp.ui.frame import address
from cahp.ui.frame.page import link
from cahp.ui.frame.running import follow, need_run
from cahp.ui.frame.source_dialog import draw_builtins
from cahp.ui.parts.display import plain, problem
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.values.head_roles import HeadRoles

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

#: Characters of an example text.
_EXCERPT = 240


@dataclass
class _Learner:
    """The state of a session: the open step, and by lesson the moved sliders, guesses and jobs that measure answers.

    ``guesses`` is None until those of a link are read.
    """

    at: int | None = None
    moved: dict[str, int] = field(default_factory=dict)
    guesses: dict[str, int] | None = None
    jobs: dict[str, jobs.Job[Answer]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Lesson:
    """A step of a ``subject`` for one person; ``shipped`` are the bundled answers if they are about this subject."""

    step: Step
    subject: Subject
    shipped: BundledLessons | None
    learner: _Learner

    @property
    def name(self) -> str:
        return f"{self.step.name}-{self.subject.sha256}"

    @property
    def job(self) -> jobs.Job[Answer] | None:
        return self.learner.jobs.get(self.name)

    @property
    def guess(self) -> int | None:
        return (self.learner.guesses or {}).get(self.name)

    @property
    def known(self) -> Answer | None:
        """The answer, measured here or bundled."""
        if self.job is not None and self.job.result is not None:
            return self.job.result
        if self.shipped is None:
            return None
        return self.shipped.answers.get(self.step.name)

    @property
    def answer(self) -> Answer | None:
        """The answer once there is a guess."""
        return None if self.guess is None else self.known

    def measure(self, explorer: Explorer) -> None:
        """Start measuring the answer."""
        # One bar over all variants, instead of one for each, where the step counts variants only.
        headline: str | None = STAGE
        if self.step.name in ("refit", "time", "cache"):
            headline = None
        self.learner.jobs[self.name] = jobs.submit(
            explorer.id,
            f"learn-{self.name}",
            lambda progress: measure(self.step.name, self.subject, progress=progress),
            rank=jobs.Rank.QUICK,
            headline=headline,
        )


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    room = teaching.joined()
    if room is not None and room.leader != explorer.id:
        teaching.attend(room, explorer.id)
        return
    need_run(explorer)
    st.title("Learn in six guesses")
    if explorer.card.task.predicts_labels and not explorer.bench.dataset.labelled:
        st.info(
            "The guesses are about accuracy, which needs labels, and these texts have none. Open labelled texts in the "
            "sidebar."
        )
        draw_builtins(explorer)
        return
    clusters = explorer.clusters
    run = explorer.results.run
    # Always the heads that CAHP suggests, or as many as the run keeps, whatever is on the board: the steps explain the
    # method.
    count = None
    if run is not None and explorer.settings.budget != "auto":
        count = run.mask.count
    selection = explorer.choices().of_budget(count)
    if clusters is None or selection is None:
        st.info("The clusters of the heads are not stored any more. Measure again in the sidebar.")
        return
    subject = lessons.subject_of(explorer.bench, clusters, selection)
    steps = [_with_heads(step, subject, explorer.roles) for step in list_steps(subject)]
    measured_on = f"{subject.measured_on} that were not used to select heads."
    st.markdown(f"Guess first, then see the answer, measured on {measured_on}")
    room = teaching.CLASSES.led_by(explorer.id)
    if room is not None and [step.doing for step in room.steps] != [step.doing for step in steps]:
        # For another model or other data, earlier answers of the class would be wrong.
        teaching.CLASSES.close(explorer.id)
        room = None
    if room is not None:
        teaching.invitation(room)
    learner: _Learner = st.session_state.setdefault("cahp_learn", _Learner())
    shipped = read_lessons(explorer.card.id)
    if shipped is not None and shipped.subject != subject.sha256:
        shipped = None
    course = [_Lesson(step, subject, shipped, learner) for step in steps]
    _link_guesses(course, learner)
    at = _choose_step(course, learner)
    lesson = course[at]
    with st.container(border=True, key="learn-step"):
        shown = lesson.answer
        if room is not None:
            shown = dict(room.shown()).get(at)
        left, right = teaching.describe(lesson.step, number=at + 1, of=len(course), asking=shown is None)
        with left:
            if room is None:
                _ask_and_answer(explorer, lesson, beside=right)
            elif _show_job(lesson):
                room.go(at)
            else:
                teaching.lead(room, at, lesson.known, beside=right, measure=lambda: lesson.measure(explorer))
    if not subject.texts.task.predicts_often:
        _show_example(subject.texts)
    if room is None:
        _show_scores(course)
        model = f"{explorer.card.id}, {explorer.card.layers} layers of {explorer.card.heads} heads"
        teaching.invite(steps, about=f"Measured on {model}, and {measured_on}", leader=explorer.id)


def _with_heads(step: Step, subject: Subject, roles: HeadRoles | None) -> Step:
    """Add the heads of a role that is switched off, where roles are measured."""
    if step.role is None or roles is None:
        return step
    return replace(step, mask=subject.without(roles.units(step.role)))


def _show_example(texts: Texts) -> None:
    row = len(texts) // 2
    text = texts.get_line(row)
    if len(text) > _EXCERPT:
        text = f"{text[:_EXCERPT]}…"
    classes = ", ".join(plain(name) for name in texts.classes)
    with st.expander("One of the texts"):
        st.markdown(f"“{plain(text)}”")
        st.caption(
            f"The model predicts one of {len(texts.classes)} classes ({classes}). The label of this text is "
            f"**{plain(texts.classes[texts.labels[row]])}**."
        )


# Navigation ------------------------------------------------------------------------------------------------


def _choose_step(course: Sequence[_Lesson], learner: _Learner) -> int:
    if learner.at is None or address.is_history_navigation():
        linked = st.query_params.get("step", "")
        learner.at = 0
        if linked in map(str, range(1, len(course) + 1)):
            learner.at = int(linked) - 1
    at = min(learner.at, len(course) - 1)
    address.put("step", str(at + 1))
    # Above the step: an answer is long, and the way on stays in sight.
    with st.container(horizontal=True, key="learn-steps", gap="small"):
        for number, lesson in enumerate(course):
            label = str(number + 1)
            if lesson.answer is not None:
                label += " ✓"
            kind = "primary" if number == at else "secondary"
            _go_button(label, f"learn-go-{number + 1}", learner, number, type=kind, help=lesson.step.title)
        st.space("stretch")
        _go_button("Back", "learn-back", learner, at - 1, disabled=at == 0)
        if at + 1 < len(course):
            _go_button("Next step", "learn-next", learner, at + 1)
        else:
            link("budget", "Choose a budget yourself →")
    return at


def _go_button(label: str, key: str, learner: _Learner, to: int, **options: Any) -> None:
    if st.button(label, key=key, **options):
        learner.at = to
        st.rerun()


def _link_guesses(course: Sequence[_Lesson], learner: _Learner) -> None:
    """Read the guesses of a link once; write submitted guesses into the address, in the order of steps."""
    if learner.guesses is None:
        learner.guesses = {}
        for lesson, text in zip(course, st.query_params.get("guesses", "").split(","), strict=False):
            if text.isascii() and text.isdigit() and len(text) < 6 and int(text) <= lesson.step.highest:
                if lesson.shipped is None:
                    # Without an answer, only the slider is restored and the question is asked again.
                    learner.moved[lesson.name] = int(text)
                else:
                    learner.guesses[lesson.name] = int(text)
    guesses = []
    for lesson in course:
        guess = "" if lesson.guess is None else str(lesson.guess)
        guesses.append(guess)
    linked = ",".join(guesses).rstrip(",")
    if linked:
        address.put("guesses", linked)


# One step ----------------------------------------------------------------------------------------------------


def _show_job(lesson: _Lesson) -> bool:
    """Show the progress or the error of the job that measures the answer; return whether it is at work."""
    job = lesson.job
    if job is not None and not job.ended:
        follow(job, place="learn", title="Evaluate the model")
        return True
    if job is not None and job.error:
        problem(job.error)
    return False


def _ask_and_answer(explorer: Explorer, lesson: _Lesson, *, beside: DeltaGenerator) -> None:
    """Draw the slider for a guess, then the answer, and the variants ``beside`` it."""
    step = lesson.step
    learner = lesson.learner
    answer = lesson.answer
    fixed = lesson.job is not None and not lesson.job.ended
    if answer is not None and not fixed:
        _show_job(lesson)
        _draw_answer(explorer, lesson, answer, beside)
        return
    key = f"learn-guess-{step.name}-{fixed}"

    def move() -> None:
        learner.moved[lesson.name] = int(st.session_state[key])

    start = lesson.guess
    if start is None:
        start = learner.moved.get(lesson.name, step.highest // 2)
    guess = teaching.ask_guess(step, start, key=key, disabled=fixed, on_change=move)
    if _show_job(lesson):
        return
    moved = lesson.name in learner.moved
    with st.container(horizontal=True, vertical_alignment="center"):
        pressed = st.button("Check my guess", key=f"learn-see-{step.name}", type="primary", disabled=not moved)
        if not moved:
            st.caption("Move the slider to your guess first.")
    if pressed:
        assert learner.guesses is not None
        learner.guesses[lesson.name] = guess
        if lesson.shipped is None:
            lesson.measure(explorer)
        st.rerun()


def _draw_answer(explorer: Explorer, lesson: _Lesson, answer: Answer, beside: DeltaGenerator) -> None:
    step = lesson.step
    job = lesson.job
    teaching.show_answer(step, answer, lesson.guess, beside=beside)
    if job is None or job.result is None:
        assert lesson.shipped is not None
        origin = lesson.shipped.made
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f"Bundled: measured on {plain(origin['machine'])}, {plain(origin['date'])}.")
            if st.button("Measure it here", key=f"learn-here-{step.name}"):
                lesson.measure(explorer)
                st.rerun()
    elif step.name == "time" and st.button("Measure latency again", key="learn-time-again", type="tertiary"):
        lesson.measure(explorer)
        st.rerun()


def _show_scores(course: Sequence[_Lesson]) -> None:
    """Draw all guesses with the measured answers after the last step."""
    seen = []
    for lesson in course:
        answer = lesson.answer
        if lesson.guess is not None and answer is not None:
            seen.append((lesson.step, lesson.guess, answer))
    if len(seen) < len(course):
        return
    st.subheader("Your guesses and the measured answers")
    with st.container(key="learn-scores"):
        st.table(teaching.tabulate(seen), hide_index=True)
