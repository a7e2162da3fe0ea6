"""The course of a model: six steps, each with a question and the measurement that answers it.

Every sentence is built from measurements, also where a model does not behave as textbooks say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cahp.features.learn import choosing, saving, switching
from cahp.features.learn.lessons import Answer, Step, Subject
from cahp.tasks import Task
from cahp.values import OptionError, Progress, silent


@dataclass(frozen=True)
class _Entry:
    describe: Callable[[Subject], Step]
    measure: Callable[[Subject, Progress], Answer]


#: The steps about answers and about tokens by name, in order. A guess and its answer are kept under the name.
_OF_LABELS: Mapping[str, _Entry] = {
    "one-head": _Entry(switching.describe_one_head, switching.measure_one_head),
    "one-cluster": _Entry(switching.describe_one_cluster, switching.measure_one_cluster),
    "representatives": _Entry(switching.describe_representatives, switching.measure_representatives),
    "random": _Entry(choosing.describe_random_accuracy, choosing.measure_random_accuracy),
    "refit": _Entry(choosing.describe_refit_of_accuracy, choosing.measure_refit_of_accuracy),
    "time": _Entry(saving.describe_time, saving.measure_time),
}
_OF_TOKENS: Mapping[str, _Entry] = {
    "one-head": _Entry(switching.describe_one_head, switching.measure_one_head),
    "first-token": _Entry(switching.describe_first_token, switching.measure_first_token),
    "induction": _Entry(switching.describe_induction, switching.measure_induction),
    "random": _Entry(choosing.describe_random_divergence, choosing.measure_random_divergence),
    "refit": _Entry(choosing.describe_refit_of_agreement, choosing.measure_refit_of_agreement),
    "cache": _Entry(saving.describe_cache, saving.measure_cache),
}


def _find_lessons(task: Task) -> Mapping[str, _Entry]:
    if task.predicts_labels:
        return _OF_LABELS
    return _OF_TOKENS


def list_steps(subject: Subject) -> list[Step]:
    """Return the six steps about a model in order, with the numbers of the subject in their texts."""
    return [lesson.describe(subject) for lesson in _find_lessons(subject.texts.task).values()]


def measure(step: str, subject: Subject, *, progress: Progress = silent) -> Answer:
    """Measure the answer to a step; ``progress`` counts variants of the model, beside the progress of its bench.

    Raises:
        KeyError: If there is no such step.
        OptionError: If the texts of a classifier have no labels: its steps are about accuracy.
    """
    task = subject.texts.task
    if task.predicts_labels and not subject.texts.labelled:
        raise OptionError("the steps are about accuracy, which needs labels; open labelled texts")
    return _find_lessons(task)[step].measure(subject, progress)
