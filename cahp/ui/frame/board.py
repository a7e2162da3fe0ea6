"""The board of Home and of the Budget page: the mask, its figures, and what a person does on it."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import msgspec
import streamlit as st

from cahp import features
from cahp.board import Event, FirstScreen, Host, Shown, WordMaps
from cahp.board.colourings import Coloured
from cahp.board.contents import list_clauses
from cahp.board.versus import mismatch
from cahp.figures.head_grid import is_deep
from cahp.outcomes import Outcomes
from cahp.recoveries import NONE, QUICK, RECOVERIES
from cahp.ui.frame.panels import BoardColouring
from cahp.ui.frame.running import describe_progress
from cahp.ui.parts import display
from cahp.ui.parts.budget_board import budget_board
from cahp.ui.parts.display import draw_note, note_refusal, plain, problem
from cahp.ui.parts.inputs import read_own_text
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.jobs import Rank
from cahp.ui.session.work import FIGURE, REFIT, TABLE, WARM
from cahp.values import HasHeads, HeadMask
from cahp.words import capital, percent

#: Seconds that a page waits for the figures of a mask.
_GLIMPSE_S = 0.3
#: The name under which a session keeps the names of colourings that its board was asked to show.
_ASKED = "board.asked"
#: The name under which a feature keeps what the inspector shows of heads: a released budget does not wait for it.
FACTS = "board.facts"
#: The name under which a feature keeps the text of the session and what the heads attend to in it, word by word.
TEXT_MAPS = "board.text"
#: Describes what a mask achieves by its outcomes (None: not measured).
Describe = Callable[[Explorer, HeadMask, Outcomes | None], str]


def find_text_maps(explorer: Explorer) -> WordMaps | None:
    """Return what the heads attend to in the text of the session (None: not read)."""
    known = explorer.memory.get(TEXT_MAPS)
    if known is None or known.text != read_own_text(explorer.bench):
        return None
    maps: WordMaps | None = known.maps
    return maps


def warm(explorer: Explorer) -> None:
    """Load the model ahead for the current texts, so that the first answer after any quick recovery comes at once."""
    if explorer.work.job(WARM, explorer.bench) is None:
        explorer.work.start(WARM, explorer.bench)


def measure(explorer: Explorer) -> None:
    """Start to measure what is on the board, unless it is measured."""
    recovery = explorer.recovery
    bundled = explorer.results.bundled
    pruned = explorer.board_state(NONE.name).need_table
    recovered = explorer.board_state().need_table
    current = None
    if not explorer.board.by_hand:
        current = explorer.board.budget
    pruned.current_budget = recovered.current_budget = current
    lacks_figures = explorer.outcomes(recovery.shown) is None
    job = explorer.job(FIGURE, recovery.shown)
    # An existing distilled model is looked up once; only a person starts a distillation.
    if lacks_figures and (job is None or not (job.error or recovery.row.trains)):
        started = explorer.work.start(FIGURE, explorer.board_state(recovery.shown))
        if job is None:
            # Drawing the page before its first batches would delay them.
            started.wait(_GLIMPSE_S)
    if not bundled and pruned.missing() is not None and explorer.work.job(TABLE) is None:
        explorer.work.start(TABLE, explorer.board_state(NONE.name))
    # Pruned and refitted figures stand together.
    rank = Rank.LONG
    wanted = recovery.awaits == "refit" and not lacks_figures
    name = recovery.refitting
    if recovery.name == NONE.name:
        rank = Rank.UNASKED
        wanted = explorer.can_refit and not lacks_figures and not bundled
    elif not recovery.awaits_refit:
        refit = explorer.job(REFIT, recovery.name)
        # A text may wait for the refit of a mask whose figures are bundled.
        if refit is None or refit.result is not None:
            explorer.work.drop(REFIT)
    if wanted and explorer.outcomes(name) is None and explorer.job(REFIT, name) is None:
        explorer.work.start(REFIT, explorer.board_state(name), rank=rank)


def draw_finding(explorer: Explorer, describe: Describe) -> None:
    """Draw the finding of the board, in the words of ``describe``, with its explanation and numbers."""
    card = explorer.card
    display.heading(
        find_title(explorer, describe),
        help=f"A square is {display.describe_square(card)}: solid ones are kept, light ones are pruned. The letter "
        f"names its cluster at this budget: heads that {card.words.likeness}. The colour names its family, which stays "
        "at every budget. A solid line joins measured budgets. Hollow points on a dashed line are estimates: from a "
        "part of the texts, or between measured budgets. KL divergence compares the probabilities that the pruned and "
        "the full model predict, in nats; agreement is the share of the same predictions. Neither needs labels. "
        f"Intervals of 95 % are over {explorer.bench.evaluation.units}. Time is the median ratio of the cut to the "
        "full model, timed in turn; the KV cache is counted.",
        name="budgets",
        data=lambda: _as_table(explorer),
    )


@cache
def list_colourings() -> tuple[BoardColouring[Any], ...]:
    """Return all colourings that a board may offer, beside that of clusters."""
    return features.colourings()


def find_opening(explorer: Explorer) -> str:
    """Return the name of the colouring with which the first screen opens (empty: that of clusters)."""
    for row in list_colourings():
        if row.opens == explorer.card.task.name and row.know(explorer) is not None:
            return row.name
    return ""


def _colour(explorer: Explorer) -> list[Coloured]:
    """Return the colourings of the board with what is known of them."""
    coloured = []
    for row in list_colourings():
        facts = row.know(explorer)
        waits = None
        if row.kind is not None:
            job = explorer.work.job(row.kind, explorer.bench)
            waits = ""
            if job is not None and not job.ended:
                waits = f"{describe_progress(job, 'Measuring')}…"
        elif facts is not None and row.name not in explorer.memory.get(_ASKED, ()):
            facts = None
            waits = ""
        painted = None
        if facts is not None:
            painted = row.paint(facts)
        coloured.append(Coloured(row.name, row.label, painted, waits))
    return coloured


def shape_key(model: HasHeads) -> str:
    """Return the key of a board's container: the style sheet puts the board of a deep model above its figures."""
    return "deep" if is_deep(model.layers, model.heads) else "flat"


def finding_key(explorer: Explorer, key: str = "board") -> str:
    """Return the key of the container with the finding of the board ``key``, which no board of another model has."""
    return f"finding-{key}-{explorer.card.sha256[:12]}-{explorer.bench.evaluation.sha256[:12]}"


def draw(
    explorer: Explorer,
    describe: Describe,
    *,
    key: str = "board",
    first: FirstScreen | None = None,
) -> None:
    """Draw the board with its figures; while a person drags, the finding follows in the words of ``describe``.

    ``first`` is given on the first screen, where the details are
    closed until a person opens them; elsewhere, heads that only one of the mask and a pinned one keeps are marked.
    """
    if explorer.card_head != explorer.drawn_card:
        # Only a run of the whole page opens or closes a card.
        st.rerun()
    recovery = explorer.recovery
    board = explorer.board
    mask = explorer.mask
    # The model as pruned and the refitted one are shown together.
    other = QUICK.name if recovery.name == NONE.name else NONE.name
    second = explorer.board_state(other).need_table
    table = explorer.board_state().need_table
    clusters = explorer.clusters
    assert clusters is not None
    job = explorer.job(FIGURE, recovery.shown)
    refit = explorer.job(REFIT, recovery.refitting)
    shown = Shown(
        mask,
        board.origin,
        explorer.outcomes(recovery.shown),
        explorer.results.speed(mask, recovery.name),
        rescued=board.rescued,
        places=explorer.card.places,
        glimpse=explorer.results.glimpses.get((mask.sha256, recovery.shown)),
        method=board.method,
    )
    if recovery.awaits_refit:
        shown = replace(shown, how=RECOVERIES[recovery.shown].after)
        if refit is not None and not refit.ended:
            shown = replace(shown, note=describe_progress(refit, capital(recovery.row.noun)))
    pin = explorer.pinned
    if first is None and pin is not None and not mismatch(pin.card, explorer.card):
        shown = replace(shown, pinned=pin.variant.mask)
    outcomes = explorer.outcomes(other)
    if outcomes is not None and not mask.is_full:
        shown = replace(shown, beside=(RECOVERIES[other].beside, outcomes))
    suggestion = explorer.choices().suggested
    suggested = None
    if suggestion is not None and not board.auto:
        suggested = suggestion.mask.count
    titles = [find_title(explorer, describe)]
    for row, selection in zip(table.rows(), table.selections, strict=True):
        titles.append(describe(explorer, selection.mask, row.outcomes))
    host = Host(
        selected=explorer.selected,
        titles=titles,
        colourings=_colour(explorer),
        steps={"undo": board.can_undo, "suggested": suggested},
        cards=True,
        details=first is None,
        first=first,
        facts=explorer.memory.get(FACTS, {}),
    )
    if job is not None and not job.ended:
        host = replace(host, status=describe_progress(job))
    draw_note()
    with st.container(key=shape_key(explorer.card)):
        budget_board(
            table,
            clusters,
            shown,
            labels=board.labels,
            subject=explorer.subject,
            host=host,
            other=second,
            key=key,
            finding=finding_key(explorer, key),
            on_event=lambda event: _handle(explorer, event),
        )
    jobs = [explorer.work.job(row.kind, explorer.bench) for row in list_colourings() if row.kind is not None]
    if first is not None or not recovery.awaits_refit:
        # The Budget page offers it again, and says there why it failed.
        jobs.append(refit)
    for failed in (job, *jobs):
        if failed is not None and failed.error:
            problem(failed.error)


def draw_no_refit(explorer: Explorer) -> None:
    """Draw why no refit is offered, where it is impossible."""
    if explorer.no_refit:
        st.caption(f"A refit is not available: {plain(explorer.no_refit)}.")


def find_title(explorer: Explorer, describe: Describe) -> str:
    """Return the finding of the mask on the board, or why there is none yet."""
    recovery = explorer.recovery
    outcomes = explorer.outcomes(recovery.shown)
    title = describe(explorer, explorer.mask, outcomes)
    if outcomes is not None:
        return title
    if recovery.awaits == "distillation":
        return f"{title}: not {recovery.row.result} yet"
    return f"{title}: measuring…"


def describe_change(explorer: Explorer, mask: HeadMask, outcomes: Outcomes | None) -> str:
    """Describe what pruning to ``mask`` costs and saves, in one sentence: see ``list_clauses``."""
    title = f"{mask.count} of {mask.keep.size} {explorer.card.unit}s"
    clauses = list_clauses(
        mask,
        outcomes,
        answers=explorer.card.words.answers,
        cache=explorer.card.count_cache_ratio(mask),
        speed=explorer.results.speed(mask, explorer.recovery.name),
        size=explorer.subject.size(mask),
    )
    clauses += list_warnings(explorer, outcomes)
    if not clauses:
        return title
    return f"{title} {RECOVERIES[explorer.recovery.shown].beside}: {', '.join(clauses)}"


def list_warnings(explorer: Explorer, outcomes: Outcomes | None) -> list[str]:
    """Return a clause if the most frequent class alone has a higher accuracy, else none."""
    chance = explorer.subject.chance
    accuracy = (outcomes or {}).get("accuracy")
    if accuracy is None or chance is None or accuracy.value >= chance:
        return []
    return [f"accuracy {accuracy.text} is below the majority-class baseline ({percent(chance)})"]


def _as_table(explorer: Explorer) -> dict[str, list[Any]]:
    """Return the curves of the board as columns of a file; measured values have an interval, estimates have none."""
    import pandas as pd

    rows = pd.json_normalize(msgspec.to_builtins(explorer.board_state().need_table.rows()), sep=" ")
    return dict(rows.astype(object).fillna("").to_dict("list"))


def _handle(explorer: Explorer, event: Event) -> None:
    # A person who moves the slider on Overview may then remove a head.
    warm(explorer)
    with note_refusal():
        if event.kind == "budget":
            explorer.board.set_budget(event.budget)
        elif event.kind == "undo":
            explorer.board.undo()
        elif event.kind == "suggested":
            explorer.board.set_budget(None)
        elif event.kind == "colour":
            explorer.memory.setdefault(_ASKED, set()).add(event.name)
            for row in list_colourings():
                if row.name == event.name and row.kind is not None:
                    explorer.work.start(row.kind, explorer.bench)
        elif event.kind == "recover":
            explorer.chosen_recovery = event.name
        else:
            explorer.selected = event.head
            if event.kind == "toggle":
                explorer.board.toggle(event.head)
            else:
                explorer.card_head = event.head
