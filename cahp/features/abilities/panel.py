"""The receipt of abilities on screen: a strip of marks below the board, and the search for the fewest heads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import streamlit as st

from cahp.features.abilities.record import FLAGS, AbilitiesRecord, Ability, Word
from cahp.features.abilities.section import RECEIPT, SYMBOLS, explain, find_state, list_by_word, name_state
from cahp.goals import ReachedGoal
from cahp.run import Settings, reach_goal
from cahp.ui.frame import Panel, job_card
from cahp.ui.frame.panels import draw_measure, draw_offer, estimate, find_record
from cahp.ui.parts.display import write_note
from cahp.ui.session import BoardState, Explorer, Kind, Rank, recovery_seconds
from cahp.values import Progress, digest
from cahp.words import safe

#: Numbers of heads that a search tries, about.
_TRIES = 8


def _search(board: BoardState, _: Progress) -> ReachedGoal:
    settings = replace(board.bench.settings, goal=RECEIPT.name, budget=Settings.budget, recover=board.recover)
    assert board.table is not None
    # The masks of the board, which nothing has to choose again.
    return reach_goal(replace(board.bench, settings=settings), board.table.selection, (RECEIPT,))


def _identify(board: BoardState) -> str:
    """Return the key of a search, which does not depend on the mask on the board."""
    bench = board.bench
    return f"fewest-{digest(repr(bench.settings), board.recover, bench.calibration.sha256, bench.evaluation.sha256)}"


def estimate_search_seconds(board: BoardState) -> float:
    """Estimate the seconds of the search for the fewest heads."""
    receipt = estimate(RECEIPT, board.bench, board.recover, RECEIPT.options())
    return _TRIES * (receipt + recovery_seconds(board.bench, board.recover))


#: Search for the fewest heads of CAHP's with which no measurable ability is lost after the board's recovery.
FEWEST: Kind[BoardState, ReachedGoal] = Kind(
    _search,
    _identify,
    Rank.LONG,
    newest=True,
    seconds=estimate_search_seconds,
    title="Search for the fewest heads",
    of_settings=True,
)


#: Name under which a session keeps the mask that was on the board when the search began.
_BEFORE = "abilities.fewest"


def draw_search(explorer: Explorer) -> None:
    """Draw the button that starts the search, or how far it is; put its result on the board."""
    board = explorer.board_state()
    if explorer.work.job(FEWEST, board) is None and not explorer.recovery.row.swept:
        return
    search = job_card(
        explorer,
        FEWEST,
        board,
        name="abilities-fewest",
        title="Searching for the fewest heads",
        offer=f"Find the fewest {explorer.card.unit}s that lose no ability",
        help="Tries numbers of heads until no measurable ability is lost, on these texts: the number is optimistic.",
        on_click=_remember,
        args=(explorer,),
    )
    if search is not None:
        _keep(explorer, search)


def _remember(explorer: Explorer) -> None:
    """Note the board when a search begins."""
    # Another budget must not change the recovery, on which the search depends.
    explorer.chosen_recovery = explorer.recovery.name
    explorer.memory[_BEFORE] = explorer.mask.sha256


def drop_outdated(explorer: Explorer) -> None:
    """Cancel a search with another recovery than the board's, whose progress is shown nowhere."""
    if explorer.job(FEWEST) is not explorer.work.job(FEWEST):
        explorer.work.drop(FEWEST)


def _keep(explorer: Explorer, found: ReachedGoal) -> None:
    """Say how many heads a search has found, and put them on the board unless a person has changed it since."""
    explorer.work.drop(FEWEST)
    if explorer.mask.sha256 == explorer.memory.pop(_BEFORE, None):
        explorer.board.set_budget(found.heads)
    write_note(
        f"{found.heads} {explorer.card.unit}s are the fewest with which no measurable ability is lost "
        f"{explorer.recovery.row.beside}; {found.measured} of {found.budgets} budgets were measured."
    )
    st.rerun()


#: With more abilities only the weaker and lost ones have a mark each.
_MANY = 6


def strip_html(record: AbilitiesRecord, state: str, recover: str) -> str:
    """Return the HTML of the marks of a model, grouped by word, the worst first.

    Each mark has a symbol, so that no colour is needed, and can be reached by keyboard. Where there are many abilities,
    one mark counts those of a word that is no loss, so that the strip takes a line.
    """
    many = len(record.rows) > _MANY
    groups = "".join(_draw_group(word, rows, state, many=many) for word, rows in list_by_word(record, state).items())
    title = safe(f"Abilities {name_state(state, recover)}")
    return f'<div class="abilities" role="group" aria-label="{title}"><b>{title}</b>{groups}</div>'


def _draw_group(word: Word, rows: list[Ability], state: str, *, many: bool) -> str:
    kind = word.replace(" ", "-")
    if many and word not in FLAGS:
        about = safe("; ".join(explain(row, state) for row in rows))
        marks = _draw_mark(about, f"{SYMBOLS[word]} {len(rows)} {word}")
        return f'<span class="ability-group ability-{kind}">{marks}</span>'
    marks = "".join(_draw_marks(word, rows, state))
    return f'<span class="ability-group ability-{kind}"><span class="ability-word">{safe(word)}</span>{marks}</span>'


def _draw_marks(word: Word, rows: list[Ability], state: str) -> Iterator[str]:
    for row in rows:
        yield _draw_mark(safe(explain(row, state)), f"{SYMBOLS[word]} {safe(row.label)}")


def _draw_mark(about: str, label: str) -> str:
    """Return a mark, of texts without HTML."""
    return (
        f'<span class="ability" tabindex="0" role="img" title="{about}" aria-label="{about}" data-about="{about}">'
        f"{label}</span>"
    )


def draw_strip(explorer: Explorer) -> None:
    """Draw the marks of the mask on the board where they are known, else the button that measures them."""
    drop_outdated(explorer)
    if explorer.mask.is_full:
        return
    record = find_record(explorer, RECEIPT)
    with st.container(key="abilities-board"):
        if record is not None:
            st.html(strip_html(record, find_state(record), explorer.recovery.ready))
        else:
            draw_offer(RECEIPT, explorer, place="strip", label=RECEIPT.title)


def draw_table(explorer: Explorer) -> None:
    """Draw the tab of the receipt, and the search for the fewest heads."""
    draw_measure(RECEIPT, explorer)
    if not explorer.mask.is_full:
        draw_search(explorer)


STRIP = Panel("", draw_strip, place=10)
TAB = Panel(RECEIPT.title, draw_table, place=54, name=RECEIPT.name)
