"""Learn: one head at work, then guess what pruning does in six steps, and see the measured answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import streamlit as st

from cahp.features.learn import classroom
from cahp.features.learn.classroom import CLASSES, Classroom
from cahp.features.learn.lessons import Answer, Step, Subject, name_answer, subject_of
from cahp.features.learn.scene import HeadFamily, Scene, find_family, find_scene, measure_scene
from cahp.features.learn.stage import (
    Picture,
    draw_answer,
    draw_guess,
    draw_line,
    draw_sentence,
    draw_stage,
    draw_title,
)
from cahp.features.learn.steps import TURN, answer_turn, choose_best, find_swept, list_steps
from cahp.outcomes import OUTCOMES
from cahp.recoveries import NONE, QUICK
from cahp.run import Bench
from cahp.ui.frame import go_to, is_history_navigation, job_card, need_run, put_address, show_job
from cahp.ui.parts import clear_note, plain
from cahp.ui.session import TABLE, Explorer, Kind, loading_seconds
from cahp.values import Progress
from cahp.words import capital


@dataclass(eq=False)
class _Learner:
    """The state of a session: the open step, and by step and subject the moved sliders, guesses and own answers.

    ``at`` is None until the address is read.
    """

    at: int | None = None
    moved: dict[str, int] = field(default_factory=dict)
    guesses: dict[str, int] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Course:
    """The steps of a subject for one person, and what they draw.

    ``room`` is the class that the person leads.
    """

    explorer: Explorer
    subject: Subject
    steps: list[Step]
    picture: Picture
    learner: _Learner
    room: Classroom | None

    def key(self, at: int) -> str:
        """Return the name under which an answer to a step is kept, and the guess of one person."""
        return f"{self.steps[at].name}-{self.subject.sha256}"

    def know(self, at: int) -> Answer | None:
        """Return the answer to a step: measured here, stored, or of the table of budgets."""
        step = self.steps[at]
        if step.name == TURN:
            return answer_turn(step, self.explorer.table(self.subject.swept))
        answer = self.learner.answers.get(self.key(at))
        if answer is None:
            answer = self.subject.bench.resources.find_record(name_answer(self.subject, step.name), Answer)
        return answer

    def see(self, at: int) -> Answer | None:
        """Return the answer to a step once it may be seen: after a guess, or when it is shown to a class."""
        if self.room is not None:
            return self.room.answers.get(at)
        if self.key(at) not in self.learner.guesses:
            return None
        return self.know(at)


def _measure(subject: tuple[_Course, int], progress: Progress) -> Answer:
    course, at = subject
    measure = course.steps[at].measure
    assert measure is not None
    answer = measure(progress)
    course.learner.answers[course.key(at)] = answer
    course.subject.bench.resources.keep_record(name_answer(course.subject, course.steps[at].name), answer)
    return answer


def _read_scene(subject: tuple[Bench, HeadFamily], _: Progress) -> Scene:
    scene = find_scene(*subject, lambda: measure_scene(*subject))
    assert scene is not None
    return scene


#: Measure the answer to a step.
ANSWER: Kind[tuple[_Course, int], Answer] = Kind(
    _measure, lambda subject: f"learn-{subject[0].key(subject[1])}", title="Step of Learn"
)
#: Read the sentence that the steps show.
SCENE: Kind[tuple[Bench, HeadFamily], Scene] = Kind(
    _read_scene,
    lambda subject: f"scene-{subject[0].card.sha256}-{subject[1].leaving}",
    seconds=lambda subject: loading_seconds(subject[0]),
)


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    room = classroom.find_joined()
    if room is not None and room.leader != explorer.id:
        classroom.attend(room, explorer.id)
        return
    need_run(explorer)
    if explorer.card.task.predicts_labels and not explorer.bench.dataset.labelled:
        st.title("Learn in six guesses")
        st.info("The guesses are about accuracy, which needs labels. Open labelled texts in the sidebar.")
        return
    course = _open_course(explorer)
    if course is None:
        return
    _link_guesses(course)
    at = _find_step(course)
    about = _describe(course)
    room = course.room
    # People join at the first step; afterwards the step comes first.
    joining = room is not None and room.moment == (0, None)
    if room is not None:
        room.at = at
    if room is not None and joining:
        classroom.draw_door(room)
    draw_title(course.steps, at)
    with st.container(key="learn-step"):
        _draw_step(course, at)
    _draw_way(course, at)
    if room is None:
        classroom.invite(course.steps, course.picture, about=about, leader=explorer.id)
    elif not joining:
        classroom.draw_door(room)
    st.caption(plain(about))


def _open_course(explorer: Explorer) -> _Course | None:
    """Return the course about the run on screen (None: the sentence is being read)."""
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
        return None
    labels = clusters.groups(selection.k)[0]
    family = find_family(labels, selection.mask, clusters.salience, explorer.roles)
    scene = find_scene(explorer.bench, family)
    if scene is None:
        title = "Read a sentence"
        scene = job_card(explorer, SCENE, (explorer.bench, family), name="scene", title=title)
    if scene is None:
        return None
    subject = subject_of(explorer.bench, selection.mask, family, scene, find_swept(explorer.table(QUICK.name)))
    steps = list_steps(subject)
    room = CLASSES.led_by(explorer.id)
    if room is not None and [step.doing for step in room.steps] != [step.doing for step in steps]:
        # For another model or other data, earlier answers of the class would be wrong.
        CLASSES.close(explorer.id)
        room = None
    learner: _Learner = st.session_state.setdefault("cahp_learn", _Learner())
    return _Course(explorer, subject, steps, Picture.of(subject, clusters, labels), learner, room)


def _describe(course: _Course) -> str:
    """Describe the model and the texts."""
    card = course.explorer.card
    return (
        f"{card.id}, {card.layers} layers of {card.heads} {card.unit}s. Measured on {course.subject.measured_on}. None "
        "of these texts was used to select heads."
    )


# One step --------------------------------------------------------------------------------------------------------


def _draw_step(course: _Course, at: int) -> None:
    """Draw the open step: the stage, then the guess or the answer, and the way on."""
    step = course.steps[at]
    seen = course.see(at)
    # Above the guess, which it may show.
    stage = st.container()
    mask = step.mask
    budget = None
    if not step.question:
        _draw_end(course, at, course.picture.scene.describe(course.picture.unit))
    elif seen is None:
        budget = _ask(course, at)
    elif course.room is not None:
        guesses = course.room.list_guesses(at)
        budget = choose_best(guesses, seen)
        _draw_end(course, at, seen.headline, budget)
        _draw_figures(course, at, seen, None, guesses)
    else:
        budget = course.learner.guesses[course.key(at)]
        _draw_end(course, at, f"You guessed {budget} {step.unit}. {seen.headline}", choose_best([budget], seen))
        _draw_figures(course, at, seen, budget, [])
    if step.name == TURN:
        selection = course.explorer.choices().of_budget(budget)
        assert selection is not None
        mask = selection.mask
    with stage:
        draw_stage(step, course.picture, course.know(at), answered=seen is not None, mask=mask)


def _ask(course: _Course, at: int) -> int:
    """Draw the slider for a guess, and the button that checks it; return the guess so far."""
    step = course.steps[at]
    learner = course.learner
    key = course.key(at)
    slider = f"learn-guess-{step.name}"

    def move() -> None:
        learner.moved[key] = int(st.session_state[slider])

    guess = learner.moved.get(key, step.highest // 2)
    label = "Show the answer"
    ready = True
    if course.room is not None:
        # Guesses of before the class show it nothing.
        key = f"{course.room.code}-{at}"
    if course.room is None or step.name == TURN:
        guess = draw_guess(step, guess, key=slider, on_change=move)
    else:
        st.markdown(f"**{step.question}**")
    if course.room is None:
        label = "Check my guess"
        ready = key in learner.moved
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(label, key=f"learn-see-{step.name}", type="primary", disabled=not ready):
            learner.guesses[key] = guess
        elif not ready:
            st.caption("Move the slider to your guess first.")
    if key not in learner.guesses:
        return guess
    # The answer may have to be measured first.
    answer = course.know(at)
    if answer is None and step.name == TURN:
        job_card(course.explorer, TABLE, course.explorer.board_state(NONE.name), name="learn-turn")
    elif answer is None:
        job_card(course.explorer, ANSWER, (course, at), name="learn", title="Evaluate the model")
        answer = course.know(at)
    if answer is not None:
        if course.room is not None:
            course.room.answers.setdefault(at, answer)
        st.rerun()
    return guess


def _draw_end(course: _Course, at: int, sentence: str, budget: int | None = None) -> None:
    """Draw the sentence that a step ends with, and the button to the next one, or to Overview after the last."""
    with draw_sentence(sentence):
        if at + 1 < len(course.steps):
            label = f"Next: {course.steps[at + 1].short.lower()}"
            _draw_go_button(course, label, "learn-next", at + 1, type="primary")
        elif budget is not None:
            label = f"Open {budget} {course.steps[at].unit} on Overview"
            if st.button(label, key="learn-open", icon=":material/arrow_forward:"):
                clear_note()
                course.explorer.board.set_budget(budget)
                go_to("home")


def _draw_figures(course: _Course, at: int, answer: Answer, guess: int | None, guesses: list[int]) -> None:
    """Draw the figures of an answer, and offer to measure it here."""
    with st.expander("Figures", expanded=course.room is not None):
        draw_answer(course.steps[at], answer, guess, guesses)
        if course.steps[at].measure is not None:
            _draw_origin(course, at)


def _draw_origin(course: _Course, at: int) -> None:
    """Tell that an answer is bundled, and offer to measure it here."""
    work = course.explorer.work
    start = partial(work.start, ANSWER, (course, at))
    job = work.job(ANSWER, (course, at))
    if job is not None and job.state != "done":
        show_job(job, start, name="learn", title="Evaluate the model")
        if not job.ended:
            return
    with st.container(horizontal=True, vertical_alignment="center"):
        stored = course.subject.bench.resources.store.load(name_answer(course.subject, course.steps[at].name))
        if stored is not None and stored.made:
            st.caption(f"Bundled: measured on {plain(stored.made['machine'])}, {plain(stored.made['date'])}.")
        if st.button("Measure it here", key=f"learn-here-{course.steps[at].name}"):
            start()
            st.rerun()


# Navigation ------------------------------------------------------------------------------------------------------


def _find_step(course: _Course) -> int:
    """Return the open step, at first that of the address, and write it there."""
    learner = course.learner
    if learner.at is None or is_history_navigation():
        linked = st.query_params.get("step", "")
        learner.at = 0
        if linked in map(str, range(1, len(course.steps) + 1)):
            learner.at = int(linked) - 1
    at = min(learner.at, len(course.steps) - 1)
    put_address("step", str(at + 1))
    return at


def _draw_way(course: _Course, at: int) -> None:
    """Draw the outcome of all steps so far, and below it a button for each step."""
    answers = [course.see(place) for place in range(len(course.steps))]
    known = course.know(1)
    full = None
    if known is not None:
        full = known.bars["all heads"]
        label = capital(OUTCOMES[known.outcome].label)
        st.caption(f"{label}, step by step: the line grows as you guess")
    with st.container(key="learn-way", gap=None):
        draw_line(course.steps, answers, full, at)
        with st.container(key="learn-steps"):
            for place, column in enumerate(st.columns(len(course.steps), gap="small")):
                label = f"{place + 1} {course.steps[place].short}"
                if answers[place] is not None:
                    label += " ✓"
                with column:
                    key = f"learn-go-{place + 1}"
                    _draw_go_button(course, label, key, place, disabled=place == at, width="stretch")


def _draw_go_button(course: _Course, label: str, key: str, to: int, **look: Any) -> None:
    if st.button(label, key=key, **look):
        course.learner.at = to
        st.rerun()


def _link_guesses(course: _Course) -> None:
    """Read the guesses of a link once; write those about this subject into the address, in the order of steps."""
    learner = course.learner
    if learner.at is None:
        for at, text in enumerate(st.query_params.get("guesses", "").split(",")[: len(course.steps)]):
            if text.isascii() and text.isdigit() and len(text) < 6 and int(text) <= course.steps[at].highest:
                learner.moved[course.key(at)] = int(text)
                if course.know(at) is not None:
                    # Otherwise the question is asked again.
                    learner.guesses[course.key(at)] = int(text)
    guesses = [str(learner.guesses.get(course.key(at), "")) for at in range(len(course.steps))]
    linked = ",".join(guesses).rstrip(",")
    # Guesses of a link that is only restored stay in the address; those about another model do not.
    if linked or learner.guesses:
        put_address("guesses", linked)
