"""Learn: one head at work, then guess what pruning does in six steps, and see the measured answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import streamlit as st

from cahp.features.learn import classroom, lessons
from cahp.features.learn.choosing import TURN, answer_turn, choose_best, find_swept
from cahp.features.learn.classroom import Classroom
from cahp.features.learn.course import list_steps, measure
from cahp.features.learn.lessons import STAGE, Answer, BundledLessons, Step, Subject, read_lessons
from cahp.features.learn.scene import HeadFamily, Scene, find_family, measure_scene
from cahp.features.learn.stage import Picture, draw_line, draw_stage, name_outcome
from cahp.recoveries import NONE, QUICK
from cahp.run import Bench
from cahp.tasks import Texts
from cahp.ui.frame import address, draw_builtins, follow, go_to, job_card, need_run
from cahp.ui.parts.display import bind_units, clear_note, plain, problem
from cahp.ui.session import TABLE, Explorer, Kind, jobs, loading_seconds
from cahp.words import capital

#: Characters of an example text.
_EXCERPT = 240
#: Read the sentence that the steps show.
SCENE: Kind[tuple[Bench, HeadFamily], Scene] = Kind(
    lambda subject, _: measure_scene(*subject),
    lambda subject: f"scene-{subject[0].card.sha256}-{subject[1].leaving}",
    seconds=lambda subject: loading_seconds(subject[0]),
)


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
            title="Step of Learn",
        )


@dataclass(frozen=True, eq=False)
class Course:
    """The steps of one model for one person, and what they draw."""

    lessons: tuple[_Lesson, ...]
    picture: Picture
    explorer: Explorer

    @property
    def steps(self) -> list[Step]:
        """The steps."""
        return [lesson.step for lesson in self.lessons]

    def known(self, at: int) -> Answer | None:
        """Return the answer to a step: measured here, bundled, or of the table of budgets."""
        lesson = self.lessons[at]
        if lesson.step.name == TURN:
            return answer_turn(lesson.step, self.explorer.table(lesson.subject.swept))
        return lesson.known

    def answer(self, at: int) -> Answer | None:
        """Return the answer to a step once there is a guess."""
        if self.lessons[at].guess is None:
            return None
        return self.known(at)


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    room = classroom.joined()
    if room is not None and room.leader != explorer.id:
        classroom.attend(room, explorer.id)
        return
    need_run(explorer)
    if explorer.card.task.predicts_labels and not explorer.bench.dataset.labelled:
        st.title("Learn in six guesses")
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
    labels = clusters.groups(selection.k)[0]
    family = find_family(labels, selection.mask, clusters.salience, explorer.roles)
    learner: _Learner = st.session_state.setdefault("cahp_learn", _Learner())
    shipped = read_lessons(explorer.card.id)
    scene = _find_scene(explorer, family, shipped)
    if scene is None:
        return
    subject = lessons.subject_of(explorer.bench, selection.mask, family, scene)
    subject = replace(subject, swept=find_swept(explorer.table(QUICK.name)))
    if shipped is not None and shipped.subject != subject.sha256:
        shipped = None
    course = Course(
        tuple(_Lesson(step, subject, shipped, learner) for step in list_steps(subject)),
        Picture.of(subject, clusters, labels),
        explorer,
    )
    room = classroom.CLASSES.led_by(explorer.id)
    if room is not None and [step.doing for step in room.steps] != [step.doing for step in course.steps]:
        # For another model or other data, earlier answers of the class would be wrong.
        classroom.CLASSES.close(explorer.id)
        room = None
    _link_guesses(course.lessons, learner)
    at = _find_step(course.lessons, learner)
    # People join at the first step; afterwards the step comes first.
    joining = room is not None and room.moment == (0, None)
    if room is not None and joining:
        classroom.invitation(room)
    _draw_step(course, at, room)
    _draw_way(course, at, room)
    if room is not None and not joining:
        classroom.invitation(room)
    elif room is None:
        classroom.invite(course.steps, course.picture, about=_describe_measured(course), leader=explorer.id)
    st.caption(plain(_describe_measured(course)))


def _find_scene(explorer: Explorer, family: HeadFamily, shipped: BundledLessons | None) -> Scene | None:
    """Return the bundled scene if it is of this family, or measure one (None: it is being measured)."""
    if shipped is not None and explorer.results.bundled and shipped.scene.head in family.heads:
        return shipped.scene
    title = "Read a sentence"
    return job_card(explorer, SCENE, (explorer.bench, family), name="scene", title=title, asks_for_long=title)


def _describe_measured(course: Course) -> str:
    """Describe what the answers are measured on; of windows also how many of them other pages use."""
    subject = course.lessons[0].subject
    card = course.explorer.card
    words = f"{card.id}, {card.layers} layers of {card.heads} {card.unit}s. Measured on {subject.measured_on}"
    table = course.explorer.table()
    first = course.known(1)
    if subject.texts.task.predicts_often and first is not None and table is not None and table.full is not None:
        count = max(estimate.n for estimate in table.full.values())
        units = course.explorer.bench.evaluation.units
        if first.n < count:
            words += f", {first.n} of the {count} {units} of the other pages, so their figures differ a little"
        else:
            words += f", the {count} {units} of the other pages"
    return f"{words}. None of these texts was used to select heads."


# One step ----------------------------------------------------------------------------------------------------


def _draw_step(course: Course, at: int, room: Classroom | None) -> None:
    """Draw the open step: what is done, the stage, the guess or the answer, and the way on."""
    lesson = course.lessons[at]
    step = lesson.step
    shown = course.answer(at)
    if room is not None:
        room.go(at)
        shown = dict(room.shown()).get(at)
    classroom.describe(course.steps, at)
    with st.container(key="learn-step"):
        if step.name == TURN:
            _draw_turn(course, lesson, room)
            return
        draw_stage(step, course.picture, course.known(at), answered=shown is not None)
        if not step.question:
            _draw_sentence(course, at, classroom.describe_scene(course.picture.scene, course.picture.unit))
        elif shown is not None:
            _draw_sentence(course, at, shown.headline)
            with st.expander("Figures", expanded=room is not None):
                _draw_figures(course.explorer, lesson, shown, room)
        elif room is None:
            _ask(course.explorer, lesson)
        elif not _show_job(lesson):
            classroom.lead(room, at, lesson.known, measure=lambda: lesson.measure(course.explorer))


def _draw_sentence(course: Course, at: int, sentence: str) -> None:
    """Draw the sentence that a step ends with, and beside it the button to the next one."""
    with st.container(horizontal=True, vertical_alignment="center", key="learn-sentence"):
        st.markdown(f"**{bind_units(plain(sentence))}**")
        if at + 1 < len(course.lessons):
            following = course.steps[at + 1].short.lower()
            _go_button(f"Next: {following}", "learn-next", course.lessons[at].learner, at + 1, type="primary")


def _draw_turn(course: Course, lesson: _Lesson, room: Classroom | None) -> None:
    """Draw the last step: the board follows the slider, and leads to Overview."""
    step = lesson.step
    explorer = course.explorer
    answer = course.known(len(course.lessons) - 1)
    table = explorer.table()
    assert table is not None
    budgets = table.budgets
    learner = lesson.learner
    guess = lesson.guess
    start = min(max(budgets[0], learner.moved.get(lesson.name, budgets[-1] // 2)), budgets[-1])
    if guess is None and len(budgets) == 1:
        guess = budgets[0]
        st.caption(f"The only possible number of {step.unit} here is {guess}.")
    elif guess is None:
        guess = st.slider(step.question, budgets[0], budgets[-1], start, key="learn-turn", help=step.counted)
        learner.moved[lesson.name] = guess
    selection = explorer.choices().of_budget(guess)
    assert selection is not None
    place = len(course.lessons) - 1
    shown = course.answer(place)
    guesses = [int(guess)]
    label = "Check my guess"
    if room is not None:
        shown = dict(room.shown()).get(place)
        guesses = room.guesses(place)
        label = "Show the answer"
    draw_stage(step, course.picture, answer, answered=shown is not None, mask=selection.mask)
    if shown is not None:
        with st.container(horizontal=True, vertical_alignment="center", key="learn-sentence"):
            st.markdown(f"**{bind_units(plain(shown.headline))}**")
            _open_button(explorer, choose_best(guesses, shown), step.unit)
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(label, key="learn-see-turn", type="primary", disabled=answer is None):
            assert answer is not None
            if room is not None:
                room.show(place, answer)
            else:
                assert learner.guesses is not None
                learner.guesses[lesson.name] = int(guess)
            st.rerun()
        if answer is None:
            _measure_numbers(explorer)
            _open_button(explorer, int(guess), step.unit)


def _measure_numbers(explorer: Explorer) -> None:
    """Measure every number of heads as pruned, with progress."""
    board = explorer.board_state(NONE.name)
    job_card(explorer, TABLE, board, name="learn-turn", title="Measuring every number")


def _open_button(explorer: Explorer, budget: int, unit: str) -> None:
    """Draw the button that puts a budget on the board and opens Overview."""
    if st.button(f"Open {budget} {unit} on Overview", key="learn-open", icon=":material/arrow_forward:"):
        clear_note()
        explorer.board.set_budget(budget)
        go_to("home")


def _draw_figures(explorer: Explorer, lesson: _Lesson, answer: Answer, room: Classroom | None) -> None:
    """Draw the guess beside the measured answer, its interval, and all variants."""
    guesses: Sequence[int] = ()
    guess = lesson.guess
    if room is not None:
        guesses = room.guesses(room.moment[0])
        guess = None
    classroom.show_answer(lesson.step, answer, guess, guesses)
    job = lesson.job
    _show_job(lesson)
    if job is None or job.result is None:
        if lesson.shipped is None:
            return
        origin = lesson.shipped.made
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f"Bundled: measured on {plain(origin['machine'])}, {plain(origin['date'])}.")
            if st.button("Measure it here", key=f"learn-here-{lesson.step.name}"):
                lesson.measure(explorer)
                st.rerun()
    elif lesson.step.name == "time" and st.button("Measure latency again", key="learn-time-again", type="tertiary"):
        lesson.measure(explorer)
        st.rerun()
    if not lesson.subject.texts.task.predicts_often:
        _show_example(lesson.subject.texts, lesson.subject.bench.class_names)


def _show_example(texts: Texts, names: Sequence[str]) -> None:
    row = len(texts) // 2
    text = texts.get_line(row)
    if len(text) > _EXCERPT:
        text = f"{text[:_EXCERPT]}…"
    classes = ", ".join(plain(name) for name in names)
    with st.expander("One of the texts"):
        st.markdown(f"“{plain(text)}”")
        st.caption(
            f"The model predicts one of {len(names)} classes ({classes}). The label of this text is "
            f"**{plain(names[texts.labels[row]])}**."
        )


# Navigation ------------------------------------------------------------------------------------------------


def _find_step(course: Sequence[_Lesson], learner: _Learner) -> int:
    """Return the open step, at first that of the address, and write it there."""
    if learner.at is None or address.is_history_navigation():
        linked = st.query_params.get("step", "")
        learner.at = 0
        if linked in map(str, range(1, len(course) + 1)):
            learner.at = int(linked) - 1
    at = min(learner.at, len(course) - 1)
    address.put("step", str(at + 1))
    return at


def _draw_way(course: Course, at: int, room: Classroom | None) -> None:
    """Draw the outcome of all steps so far, and below it a button for each step."""
    answers: list[Answer | None] = [course.answer(place) for place in range(len(course.lessons))]
    if room is not None:
        shown = dict(room.shown())
        answers = [shown.get(place) for place in range(len(course.lessons))]
    known = next(filter(None, map(course.known, range(1, len(course.lessons)))), None)
    full = None
    if known is not None:
        full = next(iter(known.bars.values()), None)
        st.caption(f"{capital(name_outcome(known))}, step by step: the line grows as you guess")
    with st.container(key="learn-way", gap=None):
        draw_line(course.steps, answers, full, at)
        with st.container(key="learn-steps"):
            for column, (number, lesson) in zip(
                st.columns(len(course.lessons), gap="small"), enumerate(course.lessons), strict=True
            ):
                label = f"{number + 1} {lesson.step.short}"
                if answers[number] is not None:
                    label += " ✓"
                with column:
                    _go_button(
                        label, f"learn-go-{number + 1}", lesson.learner, number, disabled=number == at, width="stretch"
                    )


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
    # Guesses of a link that is only restored stay in the address; those about another model do not.
    if linked or learner.guesses:
        address.put("guesses", linked)


def _show_job(lesson: _Lesson) -> bool:
    """Show the progress or the error of the job that measures the answer; return whether it is at work."""
    job = lesson.job
    if job is not None and not job.ended:
        follow(job, name="learn", title="Evaluate the model")
        return True
    if job is not None and job.error:
        problem(job.error)
    return False


def _ask(explorer: Explorer, lesson: _Lesson) -> None:
    """Draw the slider for a guess."""
    step = lesson.step
    learner = lesson.learner
    fixed = lesson.job is not None and not lesson.job.ended
    key = f"learn-guess-{step.name}-{fixed}"

    def move() -> None:
        learner.moved[lesson.name] = int(st.session_state[key])

    start = lesson.guess
    if start is None:
        start = learner.moved.get(lesson.name, step.highest // 2)
    guess = classroom.ask_guess(step, start, key=key, disabled=fixed, on_change=move)
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
