"""The board of Home and of the Budget page: the mask, its figures, and what a person does on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import streamlit as st

from cahp import features
from cahp.board import BoardSubject, Event, Host, Shown, colourings
from cahp.board.budget_sweep import BudgetTable
from cahp.board.colourings import Coloured
from cahp.figures.head_grid import is_deep
from cahp.models.cards import ModelCard
from cahp.outcomes import OUTCOMES, Outcomes
from cahp.recoveries import NONE, QUICK, RECOVERIES
from cahp.ui.frame import notes
from cahp.ui.frame.panels import BoardColouring
from cahp.ui.frame.running import describe_progress
from cahp.ui.parts import display
from cahp.ui.parts.budget_board import budget_board
from cahp.ui.parts.display import plain, problem
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.jobs import Job
from cahp.ui.session.work import FIGURE, REFIT, REPLACEABILITY, TABLE, WARM, recovery_seconds
from cahp.values import CahpError, HeadMask
from cahp.words import percent, span

#: A mask made by hand is refitted automatically if that takes at most so many seconds.
_UNASKED_S = 30.0
#: Seconds that a page waits for the first batches of a mask.
_GLIMPSE_S = 0.6
#: A wider interval says little, so it is shown beside "no measurable change".
_WIDE_PP = 10.0
#: Describes what a mask achieves by its outcomes (None: not measured).
Describe = Callable[[Explorer, HeadMask, Outcomes | None], str]


def warm(explorer: Explorer) -> None:
    """Load the model ahead for the current texts, so that the first head that is removed answers at once."""
    if explorer.work.job(WARM, explorer.bench) is None:
        explorer.work.start(WARM, explorer.bench)


def measure(explorer: Explorer) -> None:
    """Start to measure what is on the board, unless it is measured."""
    recover, pruned = explorer.recover, explorer.table()
    assert pruned is not None
    for table in (pruned, explorer.table(recover)):
        assert table is not None
        table.current_budget = None if explorer.board.by_hand else explorer.board.budget
    job = explorer.job(FIGURE)
    # An existing distilled model is looked up once; only a person starts a distillation.
    if explorer.outcomes(recover) is None and (job is None or not (job.error or RECOVERIES[recover].trains)):
        started = explorer.start(FIGURE)
        if not started.wait(0.05) and job is None:
            _await_glimpse(explorer, started)
    bundled = explorer.results.bundled
    if not bundled and explorer.work.job(TABLE) is None and pruned.missing() is not None:
        explorer.work.start(TABLE, explorer.board_state(NONE.name))
    if recover != NONE.name:
        explorer.work.drop(REFIT)
    elif explorer.outcomes() is not None and (not bundled or _refits_by_hand(explorer)):
        _refit(explorer)


def _await_glimpse(explorer: Explorer, job: Job[Any]) -> None:
    """Wait for the first batches of a mask: drawing the page meanwhile would delay them."""
    latest = monotonic() + _GLIMPSE_S
    while monotonic() < latest and (explorer.mask.sha256, explorer.recover) not in explorer.results.glimpses:
        if job.wait(0.02):
            return


def _refits_by_hand(explorer: Explorer) -> bool:
    """Whether the board holds a mask made by hand, and its refit is quick: the next click waits for a long one."""
    return explorer.board.by_hand and recovery_seconds(explorer.bench, QUICK.name) <= _UNASKED_S


def _refit(explorer: Explorer) -> None:
    """Start to refit the mask on the board, where that is possible, so that pruned and refitted figures stand together.

    It costs seconds, and lets all that a person asks for pass.
    """
    mask, board = explorer.mask, explorer.board_state(QUICK.name)
    possible = not (mask.is_full or mask.empty_layers or explorer.no_refit)
    if possible and explorer.outcomes(QUICK.name) is None and explorer.work.job(REFIT, board) is None:
        explorer.work.start(REFIT, board)


def draw_finding(explorer: Explorer, describe: Describe, *, draw: Callable[..., Any] = st.subheader) -> None:
    """Draw the finding of the board, in the words of ``describe``, with its explanation and numbers.

    ``draw`` draws the words.
    """
    table = explorer.table(explorer.recover)
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


def _ask_shares(explorer: Explorer) -> None:
    explorer.work.start(REPLACEABILITY, explorer.bench)


def _find_shares_job(explorer: Explorer) -> Job[Any] | None:
    return explorer.work.job(REPLACEABILITY, explorer.bench)


#: The colouring by what other kept heads can reproduce.
_SHARES = BoardColouring(
    colourings.REPLACEABILITY, lambda explorer: explorer.replaceable_shares, _ask_shares, _find_shares_job
)


def list_colourings() -> tuple[BoardColouring[Any], ...]:
    """Return all colourings that a board may offer, beside that of clusters."""
    return (_SHARES, *features.colourings())


def _colour(explorer: Explorer) -> list[Coloured[Any]]:
    """Return the colourings of the board with what is known of them."""
    coloured = []
    for one in list_colourings():
        waits = None
        if one.is_offered(explorer):
            waits = _describe_waiting(one.find_job(explorer))
        coloured.append(Coloured(one.colouring, one.know(explorer), waits))
    return coloured


def _describe_waiting(job: Job[Any] | None) -> str:
    """Describe how far the measurement of a colouring is (empty: it is not measured now)."""
    if job is None or job.ended:
        return ""
    return f"{describe_progress(job, 'Measuring')}…"


def draw(explorer: Explorer, describe: Describe, *, key: str = "board", note: str = "", marks: bool = False) -> None:
    """Draw the board with its figures; while a person drags, the finding follows in the words of ``describe``.

    ``note`` are words about the recovery of the mask. With ``marks``, heads that only one of the mask and a pinned one
    keeps are marked.
    """
    recover = explorer.recover
    # The model as pruned and the refitted one are shown together.
    second = explorer.table(QUICK.name if recover == NONE.name else NONE.name)
    table, clusters = explorer.table(recover), explorer.clusters
    assert table is not None
    assert second is not None
    beside = None if explorer.mask.is_full else explorer.outcomes(second.recover)
    assert clusters is not None
    job = explorer.job(FIGURE)
    status = ""
    if job is not None and not job.ended:
        status = describe_progress(job)
    pinned = explorer.marked_mask if marks else None
    notes.draw()
    # The board of a deep model is above its figures.
    deep = is_deep(explorer.card.layers, explorer.card.heads)
    with st.container(key="deep" if deep else "flat"):
        budget_board(
            table,
            clusters,
            Shown(
                explorer.mask,
                explorer.board.origin,
                explorer.outcomes(recover),
                explorer.results.speed(explorer.mask),
                note=note or explain_recovery(explorer),
                rescued=explorer.board.rescued,
                places=explorer.card.places,
                pinned=pinned,
                glimpse=explorer.results.glimpses.get((explorer.mask.sha256, recover)),
                beside=None if beside is None else (RECOVERIES[second.recover].beside, beside),
            ),
            labels=explorer.board.labels,
            subject=BoardSubject(explorer.card.unit, _majority(explorer), explorer.card.cache),
            host=Host(
                selected=explorer.selected,
                status=status,
                titles=[_title(explorer, describe), *(describe(explorer, *one) for one in _measured(table))],
                colourings=_colour(explorer),
            ),
            other=second,
            key=key,
            on_event=lambda event: _handle(explorer, event),
        )
    for one in (job, *(colouring.find_job(explorer) for colouring in list_colourings())):
        if one is not None and one.error:
            problem(one.error)


def explain_recovery(explorer: Explorer) -> str:
    """Tell that the figures are those as pruned, where those of other masks are refitted (empty: they are not)."""
    if explorer.chosen_recovery is not None or explorer.swept == NONE.name or explorer.outcomes(QUICK.name) is not None:
        return ""
    job = explorer.work.job(REFIT, explorer.board_state(QUICK.name))
    if explorer.mask.is_full or explorer.no_refit or (job is not None and job.error):
        return ""
    return "not refitted yet" if job is None or job.ended else "not refitted yet: the refit is computed"


def draw_no_refit(explorer: Explorer) -> None:
    """Draw why no refit is offered, where it is impossible."""
    if explorer.no_refit:
        st.caption(f"A refit is not available: {plain(explorer.no_refit)}.")


def _explain_outcomes(explorer: Explorer) -> str:
    if explorer.card.task.predicts_often:
        return (
            "KL divergence (nats per token) compares the probabilities of the next token in the pruned and the full "
            "model; agreement is the share of tokens at which both predict the same; perplexity is the exponential of "
            "the mean loss per token. Intervals are bootstraps over documents. The KV cache is counted: the bytes of "
            "the keys and values of a token."
        )
    time = "Time is the median ratio of the cut to the full model, timed in turn."
    if explorer.card.saves == "cache":
        time = "The KV cache is counted: the bytes of the keys and values of a token."
    return (
        "KL divergence (nats per text) compares the class probabilities of the pruned and the full model; agreement is "
        "the share of texts with the same prediction. Neither needs labels. Shares have Wilson's 95 % interval, KL "
        f"divergence has a bootstrap interval over texts. {time}"
    )


def _majority(explorer: Explorer) -> float | None:
    """Accuracy of the majority-class baseline (None: there are no labels)."""
    texts = explorer.bench.evaluation
    return float(texts.class_counts.max()) / len(texts) if texts.labelled else None


def below_baseline(explorer: Explorer, outcomes: Outcomes) -> str:
    """Return the clause that the accuracy is below that of the majority-class baseline; empty if it is not."""
    baseline, accuracy = _majority(explorer), outcomes.get("accuracy")
    if baseline is None or accuracy is None or accuracy.value >= baseline:
        return ""
    return f"below the majority-class baseline ({percent(baseline)})"


def _measured(table: BudgetTable) -> Iterator[tuple[HeadMask, Outcomes | None]]:
    for row, selection in zip(table.rows(), table.selections, strict=True):
        yield selection.mask, row.outcomes


def _title(explorer: Explorer, describe: Describe) -> str:
    """Return the finding of the mask on the board, or why there is none yet."""
    outcomes = explorer.outcomes(explorer.recover)
    title = describe(explorer, explorer.mask, outcomes)
    if outcomes is not None:
        return title
    waits = explorer.awaits_distillation
    return f"{title}: {f'not {RECOVERIES[explorer.recover].result} yet' if waits else 'measuring…'}"


def describe_change(explorer: Explorer, mask: HeadMask, quality: Outcomes | None) -> str:
    """Describe what pruning to ``mask`` changed."""
    total, kept, speed = mask.keep.size, mask.count, explorer.results.speed(mask)
    title = f"{kept} of {total} {explorer.card.unit}s"
    if quality is None:
        return title
    findings = []
    points, agreement = quality.get("accuracy_change"), quality.get("agreement")
    if points is not None and points.excludes(0):
        findings.append(f"{abs(points.value):.1f} points of accuracy {'lost' if points.value < 0 else 'gained'}")
    elif points is not None:
        findings.append("no measurable change in accuracy")
        if points.high - points.low > _WIDE_PP:
            findings[0] += f" (with {points.n} texts, within {span(points.low, points.high, 0)} points)"
    if below := below_baseline(explorer, quality):
        findings.append(f"accuracy {quality['accuracy'].text} is {below}")
    if agreement is not None:
        findings.append(f"{agreement.text} agreement")
    cache = explorer.card.count_cache_ratio(mask)
    if cache is not None:
        saved = 1 - cache.value
        findings.append(f"{percent(saved, 0)} of the KV cache saved")
    elif speed is not None and speed.busy:
        findings.append("time unreliable, as the machine was busy")
    elif speed is not None and speed.ratio.excludes(1):
        ratio = speed.ratio.value
        findings.append(f"{abs(1 - ratio) * 100:.0f} % of the time {'saved' if ratio < 1 else 'added'}")
    state = "" if mask.is_full else f" {RECOVERIES[explorer.recover].beside}"
    return f"{title}{state}: {', '.join(findings)}"


def _as_table(table: BudgetTable, card: ModelCard) -> dict[str, list[Any]]:
    rows = table.rows()
    columns: dict[str, list[Any]] = {"heads kept": [row.budget for row in rows]}
    for head in OUTCOMES.values():
        found = [None if row.outcomes is None else row.outcomes.get(head.name) for row in rows]
        values = [row.values.get(head.name, one and one.value) for row, one in zip(rows, found, strict=True)]
        if any(value is not None for value in values):
            columns[head.label] = values
        if any(one is not None and one.ci95 for one in found):
            columns |= {f"{head.label} {end}": [one and getattr(one, end) for one in found] for end in ("low", "high")}
    columns["outcomes are"] = ["measured" if row.outcomes else "estimated" for row in rows]
    if card.saves == "cache":
        return {
            **columns,
            "KV cache, bytes per token": [card.count_cached_bytes(one.mask, 1) for one in table.selections],
        }
    return {
        **columns,
        "time ratio": [row.ratio for row in rows],
        "time ratio low": [row.speed and row.speed.ratio.low for row in rows],
        "time ratio high": [row.speed and row.speed.ratio.high for row in rows],
        "time is": ["measured" if row.speed else "estimated" for row in rows],
    }


def _handle(explorer: Explorer, event: Event) -> None:
    notes.clear()
    # A person who moves the slider on Overview may then click a head.
    warm(explorer)
    try:
        if event.kind == "budget":
            explorer.board.set_budget(event.budget)
        elif event.kind == "colour":
            for one in list_colourings():
                if one.colouring.name == event.name:
                    one.ask(explorer)
        else:
            explorer.selected = event.head
            if event.kind == "ask" or not explorer.mask.keep.flat[event.head]:
                explorer.detail = "Replacement head"
            if event.kind == "toggle":
                explorer.board.toggle(event.head)
    except CahpError as error:
        notes.write(error)
