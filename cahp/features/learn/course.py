"""The course of a model: one head at work, then six steps with a question and the measurement that answers it.

Every sentence is built from measurements, also where a model does not behave as textbooks say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cahp.features.learn import choosing, switching
from cahp.features.learn.choosing import TURN
from cahp.features.learn.lessons import Answer, Step, Subject
from cahp.values import OptionError, Progress, silent


@dataclass(frozen=True)
class _Entry:
    """``measure`` is None where nothing is asked, or where the board's own table answers."""

    describe: Callable[[Subject], Step]
    measure: Callable[[Subject, Progress], Answer] | None = None


#: The steps by name, in order, for labels and for tokens. A guess and its answer are kept under the name.
_OF_LABELS: Mapping[str, _Entry] = {
    "head": _Entry(switching.describe_head),
    "one-head": _Entry(switching.describe_one_head, switching.measure_one_head),
    "one-cluster": _Entry(switching.describe_one_cluster, switching.measure_one_cluster),
    "random": _Entry(choosing.describe_random_accuracy, choosing.measure_random_accuracy),
    "refit": _Entry(choosing.describe_refit_of_accuracy, choosing.measure_refit_of_accuracy),
    "time": _Entry(choosing.describe_time, choosing.measure_time),
    TURN: _Entry(choosing.describe_turn),
}
_OF_TOKENS: Mapping[str, _Entry] = {
    "head": _Entry(switching.describe_head),
    "one-head": _Entry(switching.describe_one_head, switching.measure_one_head),
    "one-cluster": _Entry(switching.describe_one_cluster, switching.measure_one_cluster),
    "induction": _Entry(switching.describe_induction, switching.measure_induction),
    "random": _Entry(choosing.describe_random_agreement, choosing.measure_random_agreement),
    "refit": _Entry(choosing.describe_refit_of_agreement, choosing.measure_refit_of_agreement),
    "cache": _Entry(choosing.describe_cache, choosing.measure_cache),
    TURN: _Entry(choosing.describe_turn),
}


def _find_lessons(subject: Subject) -> Mapping[str, _Entry]:
    entries = _OF_TOKENS
    if subject.texts.task.predicts_labels:
        entries = _OF_LABELS
    # The family is a cluster, or all heads that copy.
    unused = {"induction"}
    if subject.family.stays is None:
        unused = {"one-cluster"}
    if subject.bench.recoveries.no_refit is not None:
        unused.add("refit")
    return {name: entry for name, entry in entries.items() if name not in unused}


def list_steps(subject: Subject) -> list[Step]:
    """Return the steps about a model in order, with the numbers of the subject in their texts."""
    return [entry.describe(subject) for entry in _find_lessons(subject).values()]


def list_measured(subject: Subject) -> list[str]:
    """Return the names of the steps whose answers are measured."""
    return [name for name, entry in _find_lessons(subject).items() if entry.measure is not None]


def measure(step: str, subject: Subject, *, progress: Progress = silent) -> Answer:
    """Measure the answer to a step; ``progress`` counts variants of the model, beside the progress of its bench.

    Raises:
        KeyError: If there is no such step.
        OptionError: If the texts of a classifier have no labels: its steps are about accuracy.
    """
    task = subject.texts.task
    if task.predicts_labels and not subject.texts.labelled:
        raise OptionError("the steps are about accuracy, which needs labels; open labelled texts")
    measured = _find_lessons(subject)[step].measure
    if measured is None:
        raise KeyError(step)
    return measured(subject, progress)
