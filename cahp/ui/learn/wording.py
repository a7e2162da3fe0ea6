"""Words for a guess and the measured answer."""

from __future__ import annotations

from collections.abc import Sequence

from cahp.studies.answers import Answer
from cahp.studies.lessons import Step
from cahp.words import number, span


def value(answer: Answer) -> str:
    """Return the measured value without its unit."""
    return number(answer.value, 0 if float(answer.value).is_integer() else 1)


def measured(step: Step, answer: Answer) -> str:
    """Return the measured value, or that no change was measurable if the interval contains 0."""
    if answer.interval is not None and answer.interval[0] < 0 < answer.interval[1]:
        return "no measurable change"
    return f"{value(answer)} {step.unit}"


def off(step: Step, guess: int, answer: Answer) -> str:
    """Return how far the guess was from the measured value."""
    distance = guess - answer.value
    if answer.interval is not None and answer.interval[0] <= guess <= answer.interval[1]:
        return "within the interval"
    if not distance:
        return "exactly right"
    size = number(abs(distance), 0 if float(distance).is_integer() else 1)
    # Percentages differ by percentage points.
    unit = "points" if step.unit == "per cent" else step.unit
    return f"{size} {unit} too {'many' if distance > 0 else 'few'}"


def beside(seen: Sequence[tuple[Step, int, Answer]]) -> dict[str, list[str]]:
    """Return steps, guesses and measured values with 95 % intervals as the columns of a table."""
    return {
        "Step": [step.title for step, _, _ in seen],
        "Your guess": [f"{guess} {step.unit}" for step, guess, _ in seen],
        "Measured": [
            measured(step, answer) + ("" if answer.interval is None else f" ({span(*answer.interval)})")
            for step, _, answer in seen
        ],
        "You were": [off(step, guess, answer) for step, guess, answer in seen],
    }


def counted(answer: Answer, step: Step) -> str:
    """Return the number of texts or rounds of an answer."""
    return f"n = {answer.n} {'rounds' if step.name == 'time' else 'texts'}"
