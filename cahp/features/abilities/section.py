"""The section of a run that holds its receipt of abilities."""

from __future__ import annotations

from collections.abc import Iterator

from cahp.exports.drawings import table
from cahp.features.abilities.receipt import (
    ITEM_TOKENS,
    SYMBOLS,
    count_lost,
    count_passes,
    explain,
    list_by_word,
    list_cells,
    list_columns,
    measure_receipt,
    name_state,
    summarise,
)
from cahp.features.abilities.record import MEANINGS, REVISION, AbilitiesRecord
from cahp.goals import Goal
from cahp.run.bench import Bench
from cahp.run.document import RunDocument
from cahp.run.recovered import Recovered
from cahp.run.sections import Section
from cahp.values import Estimate, HeadMask
from cahp.words import safe

#: The name of the section, and of the goal that counts what it measures.
NAME = "abilities"


def _is_wanted(bench: Bench) -> bool:
    """Tell whether a run measures abilities: if it is asked for, and those that are quick if nothing is said."""
    wanted = bench.settings.abilities
    if _is_goal(bench):
        return True
    if wanted is None:
        return not bench.card.task.predicts_labels
    return wanted


def _is_goal(bench: Bench) -> bool:
    goal = bench.settings.goal
    return goal is not None and Goal.parse(goal).kind.section == NAME


def _is_complete(bench: Bench) -> bool:
    return bench.settings.abilities is True or _is_goal(bench)


def _measure(bench: Bench, mask: HeadMask, recovered: Recovered | None) -> AbilitiesRecord:
    return measure_receipt(bench, mask, recovered, complete=_is_complete(bench))


def _measure_goal(bench: Bench, mask: HeadMask, recovered: Recovered | None) -> Estimate | None:
    return count_lost(measure_receipt(bench, mask, recovered))


def _describe(record: AbilitiesRecord, run: RunDocument) -> Iterator[str]:
    for state in record.states:
        yield f"  abilities {name_state(state, run.settings.recover)}: {record.summarise(state)}"
        for word, rows in list_by_word(record, state).items():
            if word != "kept":
                yield from (f"    {SYMBOLS[word]} {explain(row, state)}" for row in rows)


def _draw(record: AbilitiesRecord, run: RunDocument) -> Iterator[str]:
    recover = run.settings.recover
    for state in record.states:
        yield f"<p><b>{safe(name_state(state, recover).capitalize())}</b>, {safe(record.summarise(state))}.</p>"
    rows = [(row.label, list(list_cells(row, record.states))) for row in record.rows]
    yield table("What still works (differences with 95 % intervals)", list_columns(record, recover), rows)
    meanings = "; ".join(f"{word}: {meaning}" for word, meaning in MEANINGS.items())
    yield f"<p>{safe(meanings)}.</p>"


RECEIPT: Section[AbilitiesRecord] = Section(
    NAME,
    AbilitiesRecord,
    "What still works?",
    wanted=_is_wanted,
    measure=_measure,
    describe=_describe,
    draw=_draw,
    inputs=lambda bench: str(REVISION),
    as_pruned=AbilitiesRecord.as_pruned,
    goal=_measure_goal,
    stage=NAME,
    reads=ITEM_TOKENS[False],
    passes=lambda bench: count_passes(bench, complete=_is_complete(bench)),
    summarise=summarise,
)
