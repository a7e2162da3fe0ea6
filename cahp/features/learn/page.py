"""The page Learn: see one head at work, then guess what pruning does in six steps, and see the measured answer."""

import re
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import streamlit as st

from cahp.board import mark_clusters, tints
from cahp.features.learn import classroom
from cahp.features.learn.classroom import CLASSES, Classroom
from cahp.features.learn.scene import HeadFamily, Scene, find_family, find_scene, measure_scene
from cahp.features.learn.stage import (
    LANGUAGE,
    draw_answer,
    draw_axis,
    draw_guess,
    draw_line,
    draw_sentence,
    draw_stage,
    draw_title,
    tell_guess,
    tell_looks,
)
from cahp.features.learn.steps import ENGLISH, LANGUAGES, TURN, Answer, Step, Subject, answer_turn, read_texts
from cahp.recoveries import AT_ONCE, NONE, QUICK
from cahp.run import Bench
from cahp.ui.frame import find_text_maps, go_to, is_history_navigation, job_card, need_run, put_address
from cahp.ui.parts import clear_note, plain
from cahp.ui.session import TABLE, Explorer, Kind, loading_seconds
from cahp.values import Progress
from cahp.words import capital


@dataclass(eq=False)
class _Learner:
    """The state of a session: the open step (None: not read from the address), and by answer its sliders and guesses.

    ``moved`` are the sliders as they were left, and ``guesses`` those whose answers a person wanted to see.
    """

    at: int | None = None
    moved: dict[str, int] = field(default_factory=dict)
    guesses: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Lesson:
    """The steps about a subject for one person, who may lead the class ``room``."""

    explorer: Explorer
    subject: Subject
    learner: _Learner
    room: Classroom | None

    def key(self, at: int) -> str:
        """Return the name under which the guess of one person is kept."""
        return self.subject.name_answer(self.subject.steps[at].name)

    def know(self, at: int) -> Answer | None:
        """Return the answer to a step: measured just now, stored, or of the table of budgets."""
        if self.subject.steps[at].name == TURN:
            return answer_turn(self.subject, self.explorer.table(self.subject.swept))
        job = self.explorer.work.job(ANSWER, (self.subject, self.subject.steps[at]))
        if job is not None and job.result is not None:
            # A full disk keeps none.
            return job.result
        return self.subject.bench.resources.find_record(self.key(at), Answer)

    def see(self, at: int) -> Answer | None:
        """Return the answer to a step once it may be seen: after a guess, or when it is shown to a class."""
        if self.room is not None:
            return self.room.answers.get(at)
        if self.key(at) not in self.learner.guesses:
            return None
        return self.know(at)


def _measure(asked: tuple[Subject, Step], progress: Progress) -> Answer:
    subject, step = asked
    assert step.measure is not None
    answer = step.measure(progress)
    subject.bench.resources.keep_record(subject.name_answer(step.name), answer)
    return answer


#: Measure the answer to a step.
ANSWER: Kind[tuple[Subject, Step], Answer] = Kind(
    _measure, lambda asked: f"learn-{asked[0].name_answer(asked[1].name)}", title="Step of Learn"
)
#: Read the sentence that the steps show.
SCENE: Kind[tuple[Bench, HeadFamily], Scene | None] = Kind(
    lambda subject, _: find_scene(subject[0], subject[1], partial(measure_scene, *subject)),
    lambda subject: f"scene-{subject[0].card.sha256}-{subject[1].leaving}",
    seconds=lambda subject: loading_seconds(subject[0]),
)


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    language = _find_language()
    room = classroom.find_joined(language)
    if room is not None and room.leader != explorer.id:
        classroom.attend(room, explorer.id, language)
        return
    need_run(explorer)
    if explorer.card.task.predicts_labels and not explorer.bench.dataset.labelled:
        st.title("Learn in six guesses")
        st.info(read_texts(language)["page"]["no-labels"])
        return
    subject = _find_subject(explorer, language)
    if subject is None:
        return
    room = CLASSES.led_by(explorer.id)
    topic = (subject.name_answer(TURN), subject.swept)
    if room is not None and (room.subject.name_answer(TURN), room.subject.swept) != topic:
        # For another model, other data or another recovery, earlier answers of the class would be wrong.
        CLASSES.close(explorer.id)
        room = None
    learner: _Learner = st.session_state.setdefault("cahp_learn", _Learner())
    lesson = _Lesson(explorer, subject, learner, room)
    at = _follow_address(lesson)
    if room is not None:
        room.at = at
        classroom.draw_bar(room, subject)
    draw_title(subject, at)
    with st.container(key="learn-step"):
        _draw_step(lesson, at)
    _draw_way(lesson, at)
    if room is None:
        classroom.invite(subject, explorer.id)
    st.caption(plain(subject.describe()))


def _find_language() -> str:
    """Return the language that a person or the address chose last, and write it into the address."""
    # Another page drops the switch, and the address.
    state = st.session_state
    language: str = state.get(LANGUAGE) or st.query_params.get("lang") or state.get("address-lang", "")
    if language not in LANGUAGES:
        language = ENGLISH
    put_address("lang", language.removeprefix(ENGLISH))
    return language


def _find_subject(explorer: Explorer, language: str) -> Subject | None:
    """Return the subject of the run on screen in a language (None: the sentence is being read)."""
    page = read_texts(language)["page"]
    clusters = explorer.clusters
    run = explorer.results.run
    # Always the heads that CAHP suggests, or as many as the run keeps, whatever is on the board: the steps explain the
    # method.
    count = None
    if run is not None and explorer.settings.budget != "auto":
        count = run.mask.count
    selection = explorer.choices().of_budget(count)
    if clusters is None or selection is None:
        st.info(page["no-clusters"])
        return None
    labels, _ = clusters.groups(selection.k)
    family = find_family(labels, selection.mask, clusters.salience, explorer.roles)
    scene = find_scene(explorer.bench, family)
    if scene is None:
        scene = job_card(explorer, SCENE, (explorer.bench, family), name="scene", title=page["read"])
    if scene is None:
        return None
    # The last step is about budgets after a refit, or after a quick one, if all of them are refitted.
    swept = NONE.name
    for recovery in (AT_ONCE, QUICK):
        refitted = explorer.table(recovery.name)
        if refitted is not None and all(row.outcomes is not None for row in refitted.rows()):
            swept = recovery.name
    hues = tuple(tints(clusters.families).tolist())
    return Subject(
        explorer.bench,
        selection.mask,
        family,
        scene,
        swept,
        hues,
        tuple(mark_clusters(labels, clusters.families).names),
        language,
    )


def _follow_address(lesson: _Lesson) -> int:
    """Return the open step, at first that of the address; write it there with all guesses, in the order of steps."""
    learner = lesson.learner
    steps = lesson.subject.steps
    if learner.at is None:
        for at, text in enumerate(st.query_params.get("guesses", "").split(",")[: len(steps)]):
            if re.fullmatch("[0-9]{1,5}", text) and int(text) <= steps[at].highest:
                learner.moved[lesson.key(at)] = int(text)
                if lesson.know(at) is not None:
                    # Otherwise the question is asked again.
                    learner.guesses[lesson.key(at)] = int(text)
    if learner.at is None or is_history_navigation():
        linked = st.query_params.get("step", "")
        learner.at = 0
        if linked in map(str, range(1, len(steps) + 1)):
            learner.at = int(linked) - 1
    at = min(learner.at, len(steps) - 1)
    put_address("step", str(at + 1))
    guesses = [str(learner.guesses.get(lesson.key(place), "")) for place in range(len(steps))]
    linked = ",".join(guesses).rstrip(",")
    # Guesses of a link that is only restored stay in the address; those about another model do not.
    if linked or learner.guesses:
        put_address("guesses", linked)
    return at


# One step --------------------------------------------------------------------------------------------------------


def _draw_step(lesson: _Lesson, at: int) -> None:
    """Draw the open step: the stage, then the guess or the answer, and the way on."""
    subject = lesson.subject
    explorer = lesson.explorer
    step = subject.steps[at]
    seen = lesson.see(at)
    guess = None
    guesses = []
    budget = 0
    # Above the guess, which it may show.
    stage = st.container()
    if step.name == "head":
        with stage:
            subject = _offer_own(subject, explorer)
    if step.question and seen is None:
        budget = _ask(lesson, at)
    else:
        sentence = tell_looks(subject)
        if seen is not None:
            budget = int(seen.value)
            if lesson.room is None:
                guess = lesson.learner.guesses[lesson.key(at)]
            else:
                guesses = lesson.room.list_guesses(at)
            sentence = tell_guess(subject, step, seen, guess)
        with draw_sentence(sentence):
            if at + 1 < len(subject.steps):
                label = subject.say("next", short=subject.steps[at + 1].short)
                _draw_go_button(lesson, label, "learn-next", at + 1, type="primary")
            elif st.button(
                subject.say("open", amount=step.amount(budget)),
                key="learn-open",
                icon=":material/arrow_forward:",
            ):
                clear_note()
                explorer.board.set_budget(budget)
                go_to("home")
        if seen is not None:
            with st.expander(subject.say("figures")):
                draw_answer(subject, step, seen)
                if step.measure is not None:
                    stored = subject.bench.resources.store.load(lesson.key(at))
                    if stored is not None and stored.made:
                        made = {name: plain(text) for name, text in stored.made.items()}
                        st.caption(subject.say("bundled", **made))
                    name = f"learn-here-{step.name}"
                    offer = subject.say("here")
                    job_card(explorer, ANSWER, (subject, step), name=name, title=step.short, offer=offer, again=True)
    mask = step.mask
    if step.name == TURN:
        selection = explorer.choices().of_budget(budget)
        assert selection is not None
        mask = selection.mask
    with stage:
        draw_stage(subject, step, lesson.know(at), answered=seen is not None, mask=mask)
        if seen is not None:
            draw_axis(subject, step, seen, guess, guesses)


def _offer_own(subject: Subject, explorer: Explorer) -> Subject:
    """Offer the text of the session where it was read, and return the subject with the sentence to show."""
    maps = find_text_maps(explorer)
    if maps is None or not st.toggle(subject.say("mine"), key="learn-own"):
        return subject
    return replace(subject, scene=replace(subject.scene, words=maps.words, arcs=maps.arcs[subject.scene.head]))


def _ask(lesson: _Lesson, at: int) -> int:
    """Draw the slider for a guess, and the button that checks it; return the guess so far."""
    subject = lesson.subject
    step = subject.steps[at]
    learner = lesson.learner
    key = lesson.key(at)
    slider = f"learn-guess-{step.name}"
    guess = learner.moved.get(key, step.highest // 2)

    def move() -> None:
        learner.moved[key] = int(st.session_state[slider])

    if lesson.room is None or step.name == TURN:
        guess = draw_guess(step, guess, key=slider, on_change=move)
    else:
        st.markdown(f"**{step.question}**")
    label = "check"
    ready = key in learner.moved
    wanted = key
    if lesson.room is not None:
        label = "show"
        ready = True
        # Guesses of before the class show it nothing.
        wanted = f"{lesson.room.code}-{at}"
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(subject.say(label), key=f"learn-see-{step.name}", type="primary", disabled=not ready):
            learner.guesses[wanted] = guess
        elif not ready:
            st.caption(subject.say("move"))
    if wanted not in learner.guesses:
        return guess
    # The answer may have to be measured first.
    answer = lesson.know(at)
    if answer is None and step.name == TURN:
        job_card(lesson.explorer, TABLE, lesson.explorer.board_state(NONE.name), name="learn-turn")
    elif answer is None:
        answer = job_card(lesson.explorer, ANSWER, (subject, step), name="learn", title=subject.say("evaluate"))
    if answer is not None:
        if lesson.room is not None:
            lesson.room.answers.setdefault(at, answer)
        st.rerun()
    return guess


def _draw_way(lesson: _Lesson, at: int) -> None:
    """Draw the outcome of all steps so far, and below it a button for each step."""
    subject = lesson.subject
    steps = subject.steps
    answers = [lesson.see(place) for place in range(len(steps))]
    known = lesson.know(1)
    full = None
    if known is not None:
        full = known.bars[0]
        st.caption(capital(subject.say("way")))
    with st.container(key="learn-way", gap=None):
        draw_line(subject, answers, full, at)
        with st.container(key="learn-steps"):
            for place, column in enumerate(st.columns(len(steps), gap="small")):
                label = f"{place + 1} {steps[place].short}"
                if answers[place] is not None:
                    label += " ✓"
                with column:
                    key = f"learn-go-{place + 1}"
                    _draw_go_button(lesson, label, key, place, disabled=place == at, width="stretch")


def _draw_go_button(lesson: _Lesson, label: str, key: str, to: int, **look: Any) -> None:
    if st.button(label, key=key, **look):
        lesson.learner.at = to
        st.rerun()
