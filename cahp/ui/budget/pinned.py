"""A mask that was pinned, A, against the one on the board, B: heads, accuracy, and the texts on which they disagree."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from cahp.run.bench import Bench
from cahp.studies.budget_sweep import Recover
from cahp.studies.versus import Variant, Versus, only, versus
from cahp.ui.budget import notes
from cahp.ui.frame.page import problem
from cahp.ui.frame.progress import in_line
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.jobs import Job
from cahp.ui.session.work import Kind
from cahp.words import points, side_by_side, span

#: The tab below the board that shows the texts.
TAB = "A against B"

_CALLED: dict[Recover, str] = {"none": "as pruned", "refit": "refitted", "distill": "distilled"}


@dataclass(frozen=True, eq=False)
class _AgainstPinned:
    """Two pruned models of a bench."""

    bench: Bench
    a: Variant
    b: Variant


#: Hold one against the other. Nobody waits for a mask that is not on the board any more.
VERSUS: Kind[_AgainstPinned, Versus | None] = Kind(
    lambda pair, _: versus(pair.bench, pair.a, pair.b), lambda pair: f"versus-{pair.a}-{pair.b}", newest=True
)


def button(explorer: Explorer) -> None:
    """What pins the mask on the board, in the row of controls."""
    if st.button(
        "Pin as A",
        key="board-pin",
        help="Keep this choice of heads beside the next one: the board marks which heads only one of them keeps, and "
        "their answers are compared",
    ):
        notes.forget()
        explorer.pinned = _on_board(explorer)
        explorer.detail = TAB
        st.rerun()


def draw(explorer: Explorer) -> None:
    """What A and B have in common and how their answers differ, above the board."""
    a, b = explorer.pinned, _on_board(explorer)
    if a is None:
        return
    both, only_a, only_b = only(a.mask, b.mask)
    with st.container(border=True, key="pinned"):
        st.markdown(
            f"**A** (pinned) keeps {a.mask.count} heads, {_CALLED[a.recover]}; **B** (on the board) {b.mask.count}, "
            f"{_CALLED[b.recover]}. {both} heads are in both, {only_a} only in A, {only_b} only in B."
        )
        if str(a) == str(b):
            st.caption("They are the same: move the budget, click heads, or choose another recovery.")
        else:
            _verdict(explorer, _AgainstPinned(explorer.bench, a, b))
        with st.container(horizontal=True, gap="small"):
            if st.button("Swap A and B", key="pin-swap", disabled=str(a) == str(b)):
                explorer.pinned = b
                _put(explorer, a)
                st.rerun()
            if st.button("Unpin", key="pin-forget"):
                explorer.pinned = None
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
        _progress(job)
    elif job.error:
        problem(job.error)
    elif job.state == "cancelled":
        if st.button("Compare them", key="pin-again"):
            explorer.work.start(VERSUS, pair)
            st.rerun()
    elif job.result is None:
        st.caption("One of them was not distilled, so there is nothing to compare yet.")
    else:
        st.markdown(_sentence(job.result))


def _progress(job: Job[Versus | None]) -> None:
    place = job.place
    said = f"Waiting: {in_line(place)}" if place is not None else "Comparing their answers"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(min(1.0, job.done / job.total) if job.total else 0.0, text=said)
        if st.button("Cancel", key="pin-cancel"):
            job.cancel()
            st.rerun()


def _sentence(found: Versus) -> str:
    change, n = found.change, len(found.a)
    verdict = "" if change.measurable else "; no measurable difference"
    return (
        f"**B against A: {points(change.pp)} of accuracy** (95 % interval {span(*change.ci95)}, on the same "
        f"{n:,} texts, compared in pairs){verdict}. They answer {len(found.apart):,} of them differently."
    )


def draw_texts(explorer: Explorer) -> None:
    """The texts on which A and B disagree, in the tab below the board."""
    a = explorer.pinned
    if a is None:
        st.markdown("Pin what is on the board as **A** (above), then change it: what changed is **B**.")
        return
    job = explorer.work.job(VERSUS, _AgainstPinned(explorer.bench, a, _on_board(explorer)))
    found = None if job is None else job.result
    if found is None:
        under_way = job is not None and not job.ended
        st.caption("Comparing answers…" if under_way else "There are no answers of two different choices to compare.")
        return
    alone, texts, rows = found.right_alone, explorer.bench.evaluation, found.apart
    st.markdown(
        f"**{len(rows):,} of {len(found.a):,} answers differ: {alone[0]} are right in A alone, {alone[1]} in B alone.**"
    )
    if not rows:
        return
    inputs, classes = texts.inputs, texts.classes
    st.dataframe(
        {
            "text": [side_by_side(inputs[row]) for row in rows],
            "label": [classes[texts.labels[row]] for row in rows],
            "A says": [classes[found.a.predictions[row]] for row in rows],
            "B says": [classes[found.b.predictions[row]] for row in rows],
        },
        hide_index=True,
        column_config={"text": st.column_config.TextColumn(width="large")},
    )
