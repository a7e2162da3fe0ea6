"""The board of Home and of the Budget page: the mask, its figures, and what a person does on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from operator import attrgetter
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary

import streamlit as st

from cahp import features
from cahp.board import BoardSubject, Event, FirstScreen, Host, Shown, Steps, colourings
from cahp.board.budget_sweep import BudgetTable
from cahp.board.colourings import Coloured
from cahp.board.contents import Savings, list_clauses
from cahp.figures.head_grid import is_deep
from cahp.models.cards import ModelCard
from cahp.outcomes import OUTCOMES, Outcomes
from cahp.recoveries import AT_ONCE, NONE, QUICK, RECOVERIES
from cahp.tasks.texts import Texts
from cahp.ui.frame.panels import BoardColouring
from cahp.ui.frame.running import describe_progress
from cahp.ui.parts import display
from cahp.ui.parts.budget_board import budget_board
from cahp.ui.parts.display import draw_note, note_refusal, plain, problem
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.jobs import Job, Rank
from cahp.ui.session.work import FIGURE, REFIT, REPLACEABILITY, TABLE, WARM
from cahp.values import HeadMask
from cahp.words import percent

#: Seconds that a page waits for the first batches of a mask.
_GLIMPSE_S = 0.6
#: The name under which the results keep colourings that stay as they are.
_COLOURED = "board.coloured"
#: The name under which a session keeps the names of colourings that its board was asked to show.
_ASKED = "board.asked"
#: The name under which the results keep what masks cost and save.
_CHANGES = "board.changes"
#: Describes what a mask achieves by its outcomes (None: not measured).
Describe = Callable[[Explorer, HeadMask, Outcomes | None], str]


def warm(explorer: Explorer) -> None:
    """Load the model ahead for the current texts, so that the first head that is removed answers at once."""
    if explorer.work.job(WARM, explorer.bench) is None:
        explorer.work.start(WARM, explorer.bench)


def measure(explorer: Explorer) -> None:
    """Start to measure what is on the board, unless it is measured."""
    recover = explorer.recovery.name
    pruned = explorer.table()
    assert pruned is not None
    current = None
    if not explorer.board.by_hand:
        current = explorer.board.budget
    for table in (pruned, explorer.table(recover)):
        assert table is not None
        table.current_budget = current
    job = explorer.job(FIGURE, explorer.recovery.shown)
    # An existing distilled model is looked up once; only a person starts a distillation.
    if _lacks_figures(explorer) and (job is None or not (job.error or RECOVERIES[recover].trains)):
        started = explorer.start(FIGURE, explorer.recovery.shown)
        if not started.wait(0.05) and job is None:
            # Drawing the page before its first batches would delay them.
            latest = monotonic() + _GLIMPSE_S
            shown = explorer.mask.sha256, explorer.recovery.shown
            while monotonic() < latest and shown not in explorer.results.glimpses:
                if started.wait(0.02):
                    break
    bundled = explorer.results.bundled
    if not bundled and explorer.work.job(TABLE) is None and pruned.missing() is not None:
        explorer.work.start(TABLE, explorer.board_state(NONE.name))
    if explorer.recovery.awaits == "refit" and not _lacks_figures(explorer):
        _refit(explorer, Rank.LONG)
    elif recover != NONE.name:
        explorer.work.drop(REFIT)
    elif explorer.outcomes() is not None and not bundled:
        _refit(explorer, Rank.UNASKED)


def _lacks_figures(explorer: Explorer) -> bool:
    """Whether the figures that the board shows are not measured."""
    return explorer.outcomes(explorer.recovery.shown) is None


def _refit(explorer: Explorer, rank: Rank) -> None:
    """Start to refit the mask on the board, where that is possible, so that pruned and refitted figures stand together.

    It lets all jobs of a better ``rank`` pass.
    """
    board = explorer.board_state(QUICK.name)
    if explorer.can_refit and explorer.outcomes(QUICK.name) is None and explorer.work.job(REFIT, board) is None:
        explorer.work.start(REFIT, board, rank=rank)


def draw_finding(explorer: Explorer, describe: Describe, *, draw: Callable[..., Any] = st.subheader) -> None:
    """Draw the finding of the board, in the words of ``describe``, with its explanation and numbers.

    ``draw`` draws the words.
    """
    table = explorer.table(explorer.recovery.name)
    assert table is not None
    display.heading(
        _title(explorer, describe),
        help=f"A square is {display.describe_square(explorer.card)}: solid ones are kept, light ones are pruned. "
        f"The letter names its cluster at this budget: heads that {explorer.card.words.likeness}. The "
        "colour names its family, which stays at every budget. A solid line joins measured budgets. Hollow points on a "
        "dashed line are estimates: from a part of the texts, or between measured budgets. "
        f"{_explain_outcomes(explorer)}",
        name="budgets",
        data=lambda: _as_table(table, explorer.card),
        draw=draw,
    )


#: The colouring by what other kept heads can reproduce.
_SHARES = BoardColouring(colourings.REPLACEABILITY, attrgetter("replaceable_shares"), REPLACEABILITY)


@cache
def list_colourings() -> tuple[BoardColouring[Any], ...]:
    """Return all colourings that a board may offer, beside that of clusters."""
    return (_SHARES, *features.colourings())


def find_opening(explorer: Explorer) -> str:
    """Return the name of the colouring with which the first screen opens (empty: that of clusters)."""
    if explorer.card.task.predicts_often:
        for row in list_colourings():
            if row.opens and row.know(explorer) is not None:
                return row.colouring.name
    return ""


def _colour(explorer: Explorer, jobs: Sequence[Job[Any] | None]) -> list[Coloured[Any]]:
    """Return the colourings of the board with what is known of them, given the job of each."""
    asked = explorer.memory.get(_ASKED, ())
    coloured = []
    for row, job in zip(list_colourings(), jobs, strict=True):
        one = _know(explorer, row)
        if row.kind is not None and one.facts is None:
            one.waits = ""
            if job is not None and not job.ended:
                one.waits = f"{describe_progress(job, 'Measuring')}…"
        elif row.kind is None and one.facts is not None and row.colouring.name not in asked:
            one = Coloured(row.colouring, None, "")
        coloured.append(one)
    return coloured


def _know(explorer: Explorer, row: BoardColouring[Any]) -> Coloured[Any]:
    """Return a colouring with its facts, found and drawn once for the results unless they follow the mask."""
    kept: dict[str, Coloured[Any]] = explorer.results.memory.setdefault(_COLOURED, {})
    name = row.colouring.name
    if name in kept:
        return kept[name]
    coloured = Coloured(row.colouring, row.know(explorer))
    if coloured.facts is not None and not row.colouring.follows_mask:
        kept[name] = coloured
    return coloured


def _ask(explorer: Explorer, name: str) -> None:
    """Measure a colouring, or show what is known of it."""
    for row in list_colourings():
        if row.colouring.name != name:
            continue
        if row.kind is None:
            explorer.memory.setdefault(_ASKED, set()).add(name)
        else:
            explorer.work.start(row.kind, explorer.bench)


@cache
def shape_key(layers: int, heads: int) -> str:
    """Return the key of a board's container: the style sheet puts the board of a deep model above its figures."""
    return "deep" if is_deep(layers, heads) else "flat"


def finding_key(explorer: Explorer, key: str = "board") -> str:
    """Return the key of the container with the finding of the board ``key``, which no board of another model has."""
    return f"finding-{key}-{explorer.card.sha256[:12]}-{explorer.bench.evaluation.sha256[:12]}"


def draw(
    explorer: Explorer,
    describe: Describe,
    *,
    key: str = "board",
    note: str = "",
    marks: bool = False,
    first: FirstScreen | None = None,
) -> None:
    """Draw the board with its figures; while a person drags, the finding follows in the words of ``describe``.

    ``note`` are words about the recovery of the mask. With ``marks``, heads that only one of the mask and a pinned one
    keeps are marked. ``first`` is given on the first screen, where the details are closed until a person opens them.
    """
    recover = explorer.recovery.name
    if explorer.card_head != explorer.drawn_card:
        # Only a run of the whole page opens or closes a card.
        st.rerun()
    # The model as pruned and the refitted one are shown together.
    other = QUICK.name if recover == NONE.name else NONE.name
    second = explorer.table(other)
    table = explorer.table(recover)
    clusters = explorer.clusters
    assert table is not None
    assert second is not None
    assert clusters is not None
    job = explorer.job(FIGURE, explorer.recovery.shown)
    status = ""
    if job is not None and not job.ended:
        status = describe_progress(job)
    how = ""
    if explorer.recovery.awaits_refit:
        how = AT_ONCE.after
        refit = explorer.job(REFIT, QUICK.name)
        if not note and refit is not None and not refit.ended:
            note = describe_progress(refit, "Refit")
    pinned = None
    if marks:
        pinned = explorer.marked_mask
    colouring_jobs = [row.find_job(explorer) for row in list_colourings()]
    steps = Steps(explorer.board.can_undo)
    suggested = explorer.choices().suggested
    if suggested is not None and not explorer.board.auto:
        steps = Steps(explorer.board.can_undo, suggested.mask.count)
    beside = None
    if not explorer.mask.is_full and (outcomes := explorer.outcomes(other)) is not None:
        beside = RECOVERIES[other].beside, outcomes

    draw_note()
    with st.container(key=shape_key(explorer.card.layers, explorer.card.heads)):
        budget_board(
            table,
            clusters,
            Shown(
                explorer.mask,
                explorer.board.origin,
                explorer.outcomes(explorer.recovery.shown),
                explorer.results.speed(explorer.mask),
                note=note,
                rescued=explorer.board.rescued,
                places=explorer.card.places,
                pinned=pinned,
                glimpse=explorer.results.glimpses.get((explorer.mask.sha256, explorer.recovery.shown)),
                how=how,
                beside=beside,
                method=explorer.board.method,
            ),
            labels=explorer.board.labels,
            subject=BoardSubject(
                explorer.card.unit,
                _majority(explorer),
                explorer.card.cache,
                explorer.results.weights,
                explorer.bench.evaluation.units,
            ),
            host=Host(
                selected=explorer.selected,
                status=status,
                titles=[_title(explorer, describe), *(describe(explorer, *row) for row in _measured(table))],
                colourings=_colour(explorer, colouring_jobs),
                steps=steps,
                cards=True,
                details=first is None,
                first=first,
            ),
            other=second,
            key=key,
            finding=finding_key(explorer, key),
            on_event=lambda event: _handle(explorer, event),
        )
    for failed in (job, explorer.stopped_refit, *colouring_jobs):
        if failed is not None and failed.error:
            problem(failed.error)


def draw_panels(explorer: Explorer) -> None:
    """Draw what features bring below the board."""
    for panel in features.panels("Board"):
        panel.draw(explorer)


def draw_no_refit(explorer: Explorer) -> None:
    """Draw why no refit is offered, where it is impossible."""
    if explorer.no_refit:
        st.caption(f"A refit is not available: {plain(explorer.no_refit)}.")


def _explain_outcomes(explorer: Explorer) -> str:
    if explorer.card.task.predicts_often:
        return (
            "KL divergence (nats per token) compares the probabilities of the next token in the pruned and the full "
            "model; agreement is the share of tokens at which both predict the same; perplexity is the exponential of "
            "the mean loss per token. Intervals are bootstraps over "
            f"{explorer.bench.evaluation.units}. The KV cache is counted: the bytes of the keys and values of a token."
        )
    time = "Time is the median ratio of the cut to the full model, timed in turn."
    if explorer.card.saves == "cache":
        time = "The KV cache is counted: the bytes of the keys and values of a token."
    return (
        "KL divergence (nats per text) compares the class probabilities of the pruned and the full model; agreement is "
        "the share of texts with the same prediction. Neither needs labels. Shares have Wilson's 95 % interval, KL "
        f"divergence has a bootstrap interval over texts. {time}"
    )


#: Accuracies by texts: the baseline stands beside the accuracy at each budget.
_majorities: WeakKeyDictionary[Texts, float | None] = WeakKeyDictionary()


def _majority(explorer: Explorer) -> float | None:
    """Return the accuracy of the majority-class baseline (None: there are no labels)."""
    texts = explorer.bench.evaluation
    if texts not in _majorities:
        majority = None
        if texts.labelled:
            majority = float(texts.class_counts.max()) / len(texts)
        _majorities[texts] = majority
    return _majorities[texts]


def below_baseline(explorer: Explorer, outcomes: Outcomes) -> str:
    """Return the clause that the accuracy is below that of the majority-class baseline; empty if it is not."""
    baseline = _majority(explorer)
    accuracy = outcomes.get("accuracy")
    if baseline is None or accuracy is None or accuracy.value >= baseline:
        return ""
    return f"below the majority-class baseline ({percent(baseline)})"


def _measured(table: BudgetTable) -> Iterator[tuple[HeadMask, Outcomes | None]]:
    for row, selection in zip(table.rows(), table.selections, strict=True):
        yield selection.mask, row.outcomes


def _title(explorer: Explorer, describe: Describe) -> str:
    """Return the finding of the mask on the board, or why there is none yet."""
    outcomes = explorer.outcomes(explorer.recovery.shown)
    title = describe(explorer, explorer.mask, outcomes)
    if outcomes is not None:
        return title
    if explorer.recovery.awaits == "distillation":
        return f"{title}: not {explorer.recovery.row.result} yet"
    return f"{title}: measuring…"


def describe_change(explorer: Explorer, mask: HeadMask, outcomes: Outcomes | None) -> str:
    """Describe what pruning to ``mask`` costs and saves, in one sentence."""
    title = f"{mask.count} of {mask.keep.size} {explorer.card.unit}s"
    clauses = list_changes(explorer, mask, outcomes)
    if not clauses:
        return title
    return f"{title} {RECOVERIES[explorer.recovery.shown].beside}: {', '.join(clauses)}"


def list_changes(explorer: Explorer, mask: HeadMask, outcomes: Outcomes | None) -> list[str]:
    """List what pruning to ``mask`` costs and saves: see ``list_clauses``; with an accuracy below the baseline."""
    speed = explorer.results.speed(mask)
    # A board describes all budgets whenever it is drawn. Keeping the outcomes keeps their id.
    kept: dict[tuple[str, int], tuple[Any, Any, list[str]]] = explorer.results.memory.setdefault(_CHANGES, {})
    name = (mask.sha256, id(outcomes))
    if name in kept and kept[name][1] is speed:
        return list(kept[name][2])
    savings = Savings(speed=speed)
    cache = explorer.card.count_cache_ratio(mask)
    if cache is not None:
        savings = replace(savings, cache=cache.value)
    if explorer.results.weights is not None:
        savings = replace(savings, size=explorer.results.weights.ratio(mask))
    clauses = list_clauses(mask, outcomes, savings, answers=explorer.card.words.answers)
    if outcomes is not None and (below := below_baseline(explorer, outcomes)):
        clauses.append(f"accuracy {outcomes['accuracy'].text} is {below}")
    kept[name] = outcomes, speed, clauses
    return list(clauses)


def list_masks(explorer: Explorer) -> Iterator[tuple[HeadMask, Outcomes | None]]:
    """Yield the mask on the board, then that of each budget, with the outcomes after the recovery on the board."""
    yield explorer.mask, explorer.outcomes(explorer.recovery.shown)
    table = explorer.table(explorer.recovery.name)
    assert table is not None
    yield from _measured(table)


def _as_table(table: BudgetTable, card: ModelCard) -> dict[str, list[Any]]:
    rows = table.rows()
    columns: dict[str, list[Any]] = {"heads kept": [row.budget for row in rows]}
    for outcome in OUTCOMES.values():
        estimates = [(row.outcomes or {}).get(outcome.name) for row in rows]
        values = []
        for row, estimate in zip(rows, estimates, strict=True):
            values.append(row.values.get(outcome.name, estimate and estimate.value))
        if any(value is not None for value in values):
            columns[outcome.label] = values
        if any(estimate is not None and estimate.ci95 for estimate in estimates):
            columns[f"{outcome.label} low"] = [estimate and estimate.low for estimate in estimates]
            columns[f"{outcome.label} high"] = [estimate and estimate.high for estimate in estimates]
    columns["outcomes are"] = [_name_evidence(row.outcomes) for row in rows]
    if card.saves == "cache":
        cached = [card.count_cached_bytes(selection.mask, 1) for selection in table.selections]
        return {**columns, "KV cache, bytes per token": cached}
    columns["time ratio"] = [row.ratio for row in rows]
    columns["time ratio low"] = [row.speed and row.speed.ratio.low for row in rows]
    columns["time ratio high"] = [row.speed and row.speed.ratio.high for row in rows]
    columns["time is"] = [_name_evidence(row.speed) for row in rows]
    return columns


def _name_evidence(measurement: object) -> str:
    return "measured" if measurement else "estimated"


def _handle(explorer: Explorer, event: Event) -> None:
    # A person who moves the slider on Overview may then click a head.
    warm(explorer)
    with note_refusal():
        if event.kind == "budget":
            explorer.board.set_budget(event.budget)
        elif event.kind == "undo":
            explorer.board.undo()
        elif event.kind == "suggested":
            explorer.board.set_budget(None)
        elif event.kind == "colour":
            _ask(explorer, event.name)
        else:
            explorer.selected = event.head
            if event.kind == "toggle":
                explorer.board.toggle(event.head)
            else:
                explorer.card_head = event.head
