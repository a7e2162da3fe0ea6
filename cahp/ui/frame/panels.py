"""What features bring to the pages: tabs, colourings of the board, and what they measure of the mask on it."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from typing import Any, Generic, TypeVar, get_args, get_type_hints

import streamlit as st

from cahp import features
from cahp.api.preflight import STEP_TOKENS, count_models
from cahp.board.colourings import Pictures
from cahp.board.contents import Sentence
from cahp.recoveries import NONE
from cahp.run.bench import Bench
from cahp.run.measurements import estimate_seconds
from cahp.run.measures import MaskSubject, Measure, check, measure
from cahp.show.blocks import Marks
from cahp.ui.frame.running import job_card
from cahp.ui.parts import blocks
from cahp.ui.parts.display import plain, problem
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.jobs import Rank
from cahp.ui.session.work import BoardState, Kind
from cahp.values import HeadMask, Progress
from cahp.words import capital

F = TypeVar("F")


@dataclass(frozen=True)
class Panel:
    """A part of a page that is drawn where it is chosen: a tab with a ``label``.

    The table of features names its page. ``Board`` stands for what is drawn below the board on every page that has it,
    ``Every page`` for what opens over any page, ``Card`` for a section of the card of a head. ``draw`` takes what the
    page passes to its panels: of a card, the explorer and the head. Panels stand in the order of their ``place``;
    ``name`` is theirs in links (empty: no link opens it). ``tool`` draws a button of the page's toolbar.
    """

    label: str
    draw: Callable[..., None]
    place: int
    name: str = ""
    tool: Callable[[Explorer], None] | None = None


def broken_panel(feature: str, error: Exception) -> Panel:
    """Return the panel that stands for one of a ``feature`` that cannot be imported, and says why."""
    label = capital(feature.replace("_", " "))
    words = f"{label} cannot be shown: {type(error).__name__}: {error}"
    return Panel(label, lambda *_: problem(words), place=90, name=feature)


@dataclass(frozen=True)
class FirstText:
    """A person's text on the first screen: ``above`` the board, which shows the sentence, or ``below`` it.

    ``above`` draws the line for the text and returns the sentence (None: texts of this model stand below). ``below``
    draws the line and what the model makes of the text (nothing for a model whose texts stand above).
    """

    above: Callable[[Explorer], Sentence | None]
    below: Callable[[Explorer], None]


@dataclass(frozen=True)
class BoardColouring(Generic[F]):
    """A colouring that the explorer's board offers: what is known of it, and the job that measures it.

    ``label`` names it on the switch. ``know`` returns its facts (None: not measured), and ``paint`` what they draw on
    the heads. ``kind`` is the job that measures them when a person asks. Without one the board offers facts that are
    known, and shows them once a person asks: they are large. It opens the first screen of models whose task has the
    name ``opens``, where its facts are known.
    """

    name: str
    label: str
    paint: Callable[[F], Marks | Pictures]
    know: Callable[[Explorer], F | None]
    kind: Kind[Bench, Any] | None = None
    opens: str = ""


# Measures of the mask on the board ---------------------------------------------------------------------------


R = TypeVar("R")

#: The place of the first measure among the tabs of Budget.
_PLACE = 55


@cache
def kind_of(one: Measure[R], options: Any) -> Kind[BoardState, R]:
    """Return the kind of job that measures one of the mask on the board, after its recovery."""

    def work(board: BoardState, _: Progress) -> R:
        bench = board.bench
        check(one, bench, options)
        mask = board.mask
        recover = board.recover
        recovered = None
        if one.of_mask:
            if not mask.is_full:
                recovered = bench.recoveries.recover(mask, recover)
            bench = replace(bench, settings=replace(bench.settings, recover=recover))
        record = measure(one, bench, mask, recovered, options)
        # The board may show another mask by now.
        board.results.records[one.name, mask.sha256, recover] = record
        return record

    def seconds(board: BoardState) -> float:
        tokens = one.tokens(board.bench, options) + STEP_TOKENS * one.generated
        return count_models(board.recover) * estimate_seconds(board.bench.card, tokens=tokens)

    return Kind(work, lambda board: f"{one.name}-{options}-{board}", Rank.RUN, seconds=seconds, title=one.title)


def _find_subject(explorer: Explorer, one: Measure[Any]) -> tuple[HeadMask, str]:
    """Return the mask and the recovery that a measure is about: those on the board, or those of the full model."""
    if one.of_mask:
        return explorer.mask, explorer.recovery.ready
    return explorer.mask.unpruned, NONE.name


def find_record(explorer: Explorer, one: Measure[R]) -> R | None:
    """Return what is known of the mask on the board with its recovery: of this session, or of the run."""
    known = explorer.results.records
    run = explorer.results.run
    mask, recover = _find_subject(explorer, one)
    key = (one.name, mask.sha256, recover)
    of_run = key
    if run is not None and one.of_mask:
        of_run = (one.name, run.mask.sha256, run.settings.recover)
    if run is not None and of_run not in known and (record := one.read_run(run)) is not None:
        known[of_run] = record
    if one.of_mask and recover == NONE.name:
        others = [record for (name, digest, _), record in known.items() if (name, digest) == (one.name, mask.sha256)]
        if others:
            known[key] = one.as_pruned(max(others, key=one.is_complete))
    if not one.of_mask and key not in known:
        stored = explorer.results.once(f"measure {one.name}", lambda: one.stored(explorer.bench))
        if stored is not None:
            known[key] = stored
    return known.get(key)


def draw_measure(one: Measure[Any], explorer: Explorer) -> None:
    """Draw the tab of a measure: its record, or the card that offers to measure it."""
    reason = one.refuses(explorer.card)
    if reason is not None:
        st.caption(plain(f"{capital(reason)}."))
        return
    if one.of_mask and explorer.mask.is_full:
        st.caption(f"All {explorer.card.unit}s are kept: nothing is pruned whose effect could be measured.")
        return
    record = find_record(explorer, one)
    if record is None or not one.is_complete(record):
        draw_offer(one, explorer)
    if record is not None:
        blocks.draw(one.show(record, MaskSubject(explorer.mask, explorer.recovery.ready, explorer.card.unit)))


def draw_offer(one: Measure[Any], explorer: Explorer, *, place: str = "tab", label: str = "Measure") -> None:
    """Draw the card of a measure's job: what it measures and costs, or how far it is, or why it failed."""
    if one.of_mask and explorer.recovery.lacks_model:
        st.caption("This can be measured once the distilled model is on this machine.")
        return
    options = one.options()
    look = "tertiary"
    if place == "tab":
        st.markdown(plain(one.help.split("\n\n")[-1]))
        options = _ask_options(one)
        look = "secondary"
    mask, recover = _find_subject(explorer, one)
    board = replace(explorer.board_state(recover), mask=mask)
    name = f"{one.name}-{place}"
    job_card(explorer, kind_of(one, options), board, name=name, offer=label, type=look)


def _ask_options(one: Measure[Any]) -> Any:
    """Draw a widget for each option of a measure, and return the options."""
    hints = get_type_hints(one.options)
    chosen = {}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for entry in fields(one.options):
            hint = hints[entry.name]
            draw = partial(st.number_input, value=entry.default)
            if hint is bool:
                draw = partial(st.checkbox, value=entry.default)
            elif hint is str:
                draw = partial(st.text_input, value=entry.default)
            elif words := get_args(hint):
                draw = partial(st.selectbox, options=words, index=words.index(entry.default))
            label = capital(entry.name.replace("_", " "))
            key = f"{one.name}-option-{entry.name}"
            chosen[entry.name] = draw(label, key=key, help=entry.metadata.get("help", ""), width=240)
    return one.options(**chosen)


def list_tabs() -> list[Panel]:
    """Return the tabs of the Budget page for what features measure; one that cannot be imported says so."""
    tabs = []
    for feature in features.FEATURES:
        try:
            measures = list(map(features.find_part, feature.measures))
        except Exception as error:
            tabs.append(broken_panel(feature.name, error))
            continue
        for one in measures:
            if one.tabbed:
                tabs.append(Panel(one.title, partial(draw_measure, one), place=_PLACE + len(tabs), name=one.name))
    return tabs
