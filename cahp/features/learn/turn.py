"""The last step: how few heads are enough? The board's own table of budgets answers."""

from __future__ import annotations

from collections.abc import Sequence

from cahp.board.budget_sweep import BudgetTable
from cahp.features.learn.lessons import Answer, Step, Subject
from cahp.outcomes import OUTCOMES, Outcomes
from cahp.recoveries import NONE, QUICK
from cahp.values import HeadMask

#: The name of this step.
TURN = "turn"
#: Points of accuracy that may be lost, and the share of next words that must stay.
_POINTS = 1.0
_SHARE = 0.7


def find_swept(refitted: BudgetTable | None) -> str:
    """Return the recovery of the budgets that answer: a refit, if all of them are ``refitted``."""
    if refitted is None or any(row.outcomes is None for row in refitted.rows()):
        return NONE.name
    return QUICK.name


def describe_turn(subject: Subject) -> Step:
    """Ask for the fewest heads that are enough."""
    unit = subject.bench.card.unit
    after = ", as pruned"
    if subject.swept != NONE.name:
        after = ", after a refit"
    goal = f"keep {100 * _SHARE:.0f} % of the next words unchanged"
    if subject.texts.task.predicts_labels:
        goal = f"lose at most {_POINTS:.0f} point of accuracy"
    return Step(
        TURN,
        "Your turn",
        f"Your turn: how few {unit}s are enough?",
        f"You choose how many {unit}s stay; CAHP chooses which. You want to {goal}{after}.",
        HeadMask.full(subject.mask.layers, subject.mask.heads),
        f"What is the smallest number of {unit}s?",
        f"{unit}s",
        subject.total,
        f"The smallest number of {unit}s from which on every measured number reaches the goal.",
        units="",
    )


def answer_turn(step: Step, table: BudgetTable | None) -> Answer | None:
    """Return the fewest heads that are enough (None: not all budgets are measured yet, or none is enough)."""
    if table is None or table.full is None:
        return None
    rows = table.rows()
    if any(row.outcomes is None for row in rows):
        return None
    outcome = "agreement"
    if "accuracy" in table.full:
        outcome = "accuracy"
    enough = None
    for row in reversed(rows):
        if row.outcomes is None or not _is_enough(row.outcomes, table.full, outcome):
            break
        enough = row
    if enough is None or enough.outcomes is None:
        return None
    reached = enough.outcomes[outcome]
    label = OUTCOMES[outcome].label
    return Answer(
        float(enough.budget),
        None,
        f"{enough.budget} {step.unit} are enough: {label} {reached.text}, with all {table.full[outcome].text}.",
        f"{label.capitalize()} of all numbers of {step.unit} is on the Budget page.",
        "How few are enough depends on the goal, and on the texts that it is measured on.",
        reached.n,
        {"all heads": table.full[outcome], f"{enough.budget} {step.unit}": reached},
        outcome=outcome,
    )


def _is_enough(outcomes: Outcomes, full: Outcomes, outcome: str) -> bool:
    if outcome == "agreement":
        return outcomes[outcome].value >= _SHARE
    return 100 * (full[outcome].value - outcomes[outcome].value) <= _POINTS


def choose_best(guesses: Sequence[int], answer: Answer) -> int:
    """Return the smallest guess that is enough, or else the answer."""
    enough = int(answer.value)
    return min((guess for guess in guesses if guess >= enough), default=enough)
