"""Compare the pinned mask, A, with the one on the board, B: heads, accuracy, and the texts on which they differ.

A may be of another model of the same shape; both are then evaluated on the evaluation texts of the board's data.
"""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from cahp.cards import ModelCard
from cahp.recoveries import RECOVERIES
from cahp.run.timeline import on_screen
from cahp.studies.versus import Side, Variant, Versus, only, versus
from cahp.ui.budget import notes, pin_asked
from cahp.ui.frame import address
from cahp.ui.frame.running import show_in_row
from cahp.ui.parts.display import plain, problem
from cahp.ui.session.explorer import Explorer, Pin
from cahp.ui.session.opening import Source
from cahp.ui.session.work import Kind
from cahp.values import HeadMask, Progress
from cahp.words import side_by_side

#: The tab below the board that shows the texts.
TAB = "Compare A and B"


@dataclass(frozen=True, eq=False)
class _AgainstPinned:
    """A pinned model and a model on screen."""

    source: Source
    a: Pin
    b: Variant

    def __str__(self) -> str:
        bench = self.source.bench
        models = f"{self.a.card.sha256}-{bench.card.sha256}"
        return f"{models}-{bench.calibration.sha256}-{bench.evaluation.sha256}-{self.a.variant}-{self.b}"


def _held(pair: _AgainstPinned, _: Progress) -> Versus | None:
    # The bench of the other model lives as long as this; shared models stay in memory by their own rules.
    return versus(Side(pair.a.bench(pair.source), pair.a.variant), Side(pair.source.bench, pair.b))


#: Compare the two. A comparison of a mask that has left the board is dropped.
VERSUS: Kind[_AgainstPinned, Versus | None] = Kind(_held, lambda pair: f"versus-{pair}", newest=True)


def button(explorer: Explorer) -> None:
    """Draw the button that pins the mask on the board."""
    if st.button(
        "Pin for comparison",
        key="board-pin",
        help="Keep this mask as A beside the next one, of this or another model of the same shape. The board marks "
        "heads that only one of them keeps, and their predictions are compared",
    ):
        notes.forget()
        explorer.pinned, explorer.pin_asked = Pin(_on_board(explorer), explorer.card, explorer.settings), {}
        explorer.detail = TAB
        st.rerun()


def beside(explorer: Explorer) -> HeadMask | None:
    """Return the mask that the board shows beside its own."""
    pin = explorer.pinned
    return None if pin is None or pin.mismatch(explorer.card) else pin.variant.mask


def draw(explorer: Explorer) -> None:
    """Draw what A and B share and how their predictions differ, above the board."""
    pin_asked.take(explorer)
    if explorer.pinned is None and not explorer.pin_asked:
        return
    with st.container(border=True, key="pinned"):
        if explorer.pinned is None:
            way = pin_asked.draw(explorer)
            with st.container(horizontal=True, gap="small"):
                if way is not None:
                    pin_asked.offer(explorer, way)
                _unpin(explorer)
        elif why := explorer.pinned.mismatch(explorer.card):
            _apart(explorer, explorer.pinned, why)
            _unpin(explorer)
        else:
            _against(explorer, explorer.pinned)


def before_run(explorer: Explorer) -> None:
    """Draw whether the pinned mask can be compared with this model, before a run of it."""
    pin_asked.take(explorer)
    pin = explorer.pinned
    if pin is None or pin.is_of(explorer.card):
        return
    with st.container(border=True, key="pinned"):
        if why := pin.mismatch(explorer.card):
            _apart(explorer, pin, why)
        else:
            a, _ = _names(pin, explorer)
            st.markdown(f"**A** is pinned: {pin.variant.mask.count} heads of {a}. A run brings **B** beside it.")
        _unpin(explorer)


def _apart(explorer: Explorer, pin: Pin, why: str) -> None:
    a, b = _names(pin, explorer)
    st.markdown(
        f"**A** (pinned) is of {a}, and **B** (on the board) of {b}. They cannot be compared: "
        f"{plain(why)}. **A** stays pinned until you open its model again."
    )


def _against(explorer: Explorer, pin: Pin) -> None:
    a, b = pin.variant, _on_board(explorer)
    one_model = pin.is_of(explorer.card)
    of_a, of_b = ("", "") if one_model else (f", of {name}" for name in _names(pin, explorer))
    same = one_model and str(a) == str(b)
    both, only_a, only_b = only(a.mask, b.mask)
    st.markdown(
        f"**A** (pinned{of_a}) keeps {a.mask.count} heads, {RECOVERIES[a.recover].result}; **B** (on the board{of_b}) "
        f"{b.mask.count}, {RECOVERIES[b.recover].result}. {both} heads are in both, {only_a} only in A, {only_b} only "
        "in B."
    )
    if same:
        st.caption("A and B are the same: move the budget, click heads, or choose another recovery or model.")
    else:
        _verdict(explorer, _AgainstPinned(explorer.source, pin, b))
    if not one_model:
        _of_two_models(explorer, recovered={a.recover, b.recover} != {"none"})
    with st.container(horizontal=True, gap="small"):
        if st.button(
            "Swap A and B",
            key="pin-swap",
            disabled=same or not one_model,
            help=None if one_model else "A belongs to another model; open that model to see A on the board",
        ):
            explorer.pinned = Pin(b, explorer.card, explorer.settings)
            _put(explorer, a)
            st.rerun()
        _unpin(explorer)


def _of_two_models(explorer: Explorer, *, recovered: bool) -> None:
    said = "Both models are evaluated on the data on screen"
    said += ", and are recovered on its calibration texts." if recovered else "."
    if "pin-again" in address.describe(explorer):
        said += " The settings of A's model are too long for a link, so the link opens without them."
    st.caption(said)


def _names(pin: Pin, explorer: Explorer) -> tuple[str, str]:
    """What the two models are called: by as much as tells them apart."""
    pairs = (
        (pin.card.id, explorer.card.id),
        (pin.settings.model, explorer.settings.model),
        (_asked(pin.card), _asked(explorer.card)),
    )
    a, b = next((pair for pair in pairs if pair[0] != pair[1]), pairs[1])
    return f"**{plain(a)}**", f"**{plain(b)}**"


def _asked(card: ModelCard) -> str:
    asked = "" if card.prompt is None else f" asked “{card.prompt.template[:80]}”"
    return f"{card.id}{asked} ({', '.join(card.labels)[:80]})"


def _unpin(explorer: Explorer) -> None:
    if st.button("Unpin", key="pin-forget"):
        explorer.pinned, explorer.pin_asked = None, {}
        if explorer.detail == TAB:
            explorer.detail = "Where the heads lie"
        st.rerun()


def _put(explorer: Explorer, one: Variant) -> None:
    table = explorer.table(one.recover)
    if table is not None and table.has(one.mask):
        explorer.board.set_budget(one.mask.count)
    else:
        explorer.board.set_mask(one.mask)
    explorer.recover = one.recover


def _on_board(explorer: Explorer) -> Variant:
    return Variant(explorer.mask, explorer.recover)


def _verdict(explorer: Explorer, pair: _AgainstPinned) -> None:
    job = explorer.work.job(VERSUS, pair)
    if job is None:
        job = explorer.work.start(VERSUS, pair)
        job.wait(0.05)
    if not job.ended:
        show_in_row(job, on_screen(job.stage) if job.stage == "load" else "Comparing predictions", key="pin-cancel")
    elif job.error:
        problem(job.error)
    elif job.state == "cancelled":
        if st.button("Compare them", key="pin-again"):
            explorer.work.start(VERSUS, pair)
            st.rerun()
    elif job.result is None:
        st.caption("One of them is not distilled yet.")
    else:
        st.markdown(_sentence(job.result))


def _sentence(found: Versus) -> str:
    change, n = found.change, len(found.a)
    verdict = "" if change.excludes(0) else "; no measurable difference"
    return (
        f"**B against A: {change.text} of accuracy** (95 % interval {change.span}, on the same "
        f"{n:,} texts, compared in pairs){verdict}. Their predictions differ on {len(found.apart):,} of them."
    )


def draw_texts(explorer: Explorer) -> None:
    """The texts on which A and B disagree, in the tab below the board."""
    pin = explorer.pinned
    if pin is None:
        st.markdown("Pin what is on the board as **A** (above), then change it: what changed is **B**.")
        return
    job = explorer.work.job(VERSUS, _AgainstPinned(explorer.source, pin, _on_board(explorer)))
    found = None if job is None or pin.mismatch(explorer.card) else job.result
    if found is None:
        under_way = job is not None and not job.ended
        st.caption("Comparing predictions…" if under_way else "A and B are not compared yet.")
        return
    alone, texts, rows = found.right_alone, explorer.bench.evaluation, found.apart
    st.markdown(
        f"**{len(rows):,} of {len(found.a):,} predictions differ: {alone[0]} are correct only in A, {alone[1]} only "
        "in B.**"
    )
    if not rows:
        return
    inputs, classes = texts.inputs, texts.classes
    st.dataframe(
        {
            # The predictions come first: on a phone a text fills the table.
            "A says": [classes[found.a.predictions[row]] for row in rows],
            "B says": [classes[found.b.predictions[row]] for row in rows],
            "label": [classes[texts.labels[row]] for row in rows],
            "text": [side_by_side(inputs[row]) for row in rows],
        },
        hide_index=True,
        column_config={"text": st.column_config.TextColumn(width="large")},
    )
