"""Compare the pinned mask, A, with the one on the board, B: heads, accuracy, and the texts on which they differ.

A may be of another model of the same shape; both are then evaluated on the evaluation texts of the board's data.
"""

from dataclasses import dataclass

import streamlit as st

from cahp.board import Variant, Versus, compare_variants, mismatch
from cahp.recoveries import RECOVERIES
from cahp.ui.frame import Panel, job_card
from cahp.ui.parts import clear_note, plain, show_texts
from cahp.ui.session import Explorer, Kind, Pin, Source
from cahp.words import too_close

#: The label of the tab below the board.
_LABEL = "A | B"
#: The label of the tab that opens when nothing is pinned any more.
_OTHER = "My text"


@dataclass(frozen=True, eq=False)
class _AgainstPinned:
    """A pinned model and a model on screen."""

    source: Source
    a: Pin
    b: Variant

    def __str__(self) -> str:
        bench = self.source.bench
        a = self.a
        digests = (a.card.sha256, bench.card.sha256, bench.calibration.sha256, bench.evaluation.sha256)
        return "-".join((*digests, str(a.variant), str(self.b)))


#: Compare the two. A comparison of a mask that has left the board is dropped.
VERSUS: Kind[_AgainstPinned, Versus | None] = Kind(
    # The bench of the other model lives as long as this; shared models stay in memory by their own rules.
    lambda pair, _: compare_variants((pair.a.bench(pair.source), pair.a.variant), (pair.source.bench, pair.b)),
    lambda pair: f"versus-{pair}",
    newest=True,
)


def draw_button(explorer: Explorer) -> None:
    """Draw the button that pins the mask on the board."""
    if st.button(
        "Pin as A",
        key="board-pin",
        help="Pin this mask as A, to compare it with the next mask on the board (B), also of another model of the same "
        "shape. The board marks the heads that only A or only B keeps",
    ):
        clear_note()
        explorer.pinned = Pin(_on_board(explorer), explorer.card, explorer.settings)
        explorer.detail = _LABEL
        st.rerun()


def _on_board(explorer: Explorer) -> Variant:
    return Variant(explorer.mask, explorer.recovery.ready)


# A and B -----------------------------------------------------------------------------------------------------


def _draw_comparison(explorer: Explorer, pin: Pin) -> None:
    a = pin.variant
    b = _on_board(explorer)
    both = int((a.mask.keep & b.mask.keep).sum())
    st.markdown(
        f"**A** (pinned, {plain(pin.card.id)}) keeps {a.mask.count} {pin.card.unit}s, {RECOVERIES[a.recover].beside}; "
        f"**B** (on the board, {plain(explorer.card.id)}) {b.mask.count}, {RECOVERIES[b.recover].beside}. {both} "
        f"{pin.card.unit}s are in both. Both are measured on the data on screen."
    )
    if pin.is_of(explorer.card) and str(a) == str(b):
        st.caption("A and B are the same. Move the budget, click heads, or choose another recovery or model.")
        return
    pair = _AgainstPinned(explorer.source, pin, b)
    compared = job_card(explorer, VERSUS, pair, name="pin", title="Comparing predictions")
    job = explorer.work.job(VERSUS, pair)
    if compared is None and job is not None and job.state == "done":
        st.caption("A or B is not distilled yet. Distil its mask first.")
    if compared is None:
        return
    differ, n = compared.counts
    words = f"**{differ:,} of {n:,} predictions of A and B differ.**"
    change = compared.change
    if change is not None:
        verdict = "" if change.excludes(0) else f"; {too_close(n)}"
        in_a, in_b = compared.right_alone
        words = (
            f"**B against A: {change.text} of accuracy** (95 % interval {change.span}, on the same {n:,} texts, "
            f"compared in pairs){verdict}. {differ:,} predictions differ: {in_a} are correct only in A, {in_b} only "
            "in B."
        )
    st.markdown(words)
    show_texts(compared.table(explorer.bench.evaluation, "A says", "B says", classes=explorer.bench.class_names))


def draw_tab(explorer: Explorer) -> None:
    """Draw the tab below the board: the comparison, and the texts on which A and B disagree."""
    pin = explorer.pinned
    if pin is None:
        st.markdown("Pin the mask on the board as **A** (above), then change the board. The changed mask is **B**.")
        return
    with st.container(key="pinned"):
        why = mismatch(pin.card, explorer.card)
        if st.button("Unpin", key="pin-forget"):
            explorer.pinned = None
            if explorer.detail == _LABEL:
                explorer.detail = _OTHER
            st.rerun()
        if why:
            st.markdown(
                f"**A** (pinned) is of **{plain(pin.card.id)}** and cannot be compared: {plain(why)}. It stays pinned "
                "until you open its model again."
            )
        else:
            _draw_comparison(explorer, pin)


TAB = Panel(_LABEL, draw_tab, place=12, tool=draw_button)
