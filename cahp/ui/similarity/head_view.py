"""One head over the evaluation texts: what it mostly looks at, what removing it costs, and which heads are like it.

The texts it matters most for are shown on request, in the session of whoever asks, and go into no file.
"""

from __future__ import annotations

import streamlit as st

from cahp.figures import heads as figures
from cahp.figures.head_grid import head_name
from cahp.outcomes import wilson
from cahp.studies.head_habits import MOSTLY, HeadHabits
from cahp.studies.one_head import ALIKE_TEXTS, LookAlikes, Removal
from cahp.ui.frame.page import link
from cahp.ui.parts import display
from cahp.ui.session.explorer import Explorer
from cahp.ui.similarity import chosen
from cahp.ui.similarity.comparing import FORMULA, HOW
from cahp.ui.similarity.over_texts import ALIKE, REMOVAL, HeadOf, habits, measured
from cahp.values import Estimate, HeadMask
from cahp.words import number, percent, side_by_side, signed, span

#: Heads that are shown as most alike, and texts that a head matters most for.
_NEAR, _STRONGEST = 8, 5

_SHARES = (
    "Where its attention goes: the mean over the tokens that look, then over the texts. Each weight counts "
    "once, as the first of these that it is: to the first token, to a separator (another special token), to the token "
    "itself, to the one before or after, to punctuation, or to any other word. Lines are 95 % intervals of the mean "
    f"over texts. A head looks mostly at a place that gets {MOSTLY:.0%} or more."
)


def draw(explorer: Explorer) -> None:
    """The head that is chosen; a link to this view opens it again."""
    mask = explorer.mask
    head = chosen.settle(mask, lambda: _first(explorer))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        with st.container(width=320):
            chosen.box(mask)
        link("budget", "Keep or drop it on the board →")
    st.caption("The address of this page is a link to this head.")
    asked, n = HeadOf(explorer.bench, head), len(explorer.bench.evaluation)
    found = habits(explorer)
    if found is not None:
        _habits(found, head, mask)
    removal = measured(explorer, REMOVAL, asked, name="removal", texts=n, title="Answer the texts without this head")
    if removal is not None:
        _removal(removal, head, mask)
    alike = measured(explorer, ALIKE, asked, name="alike", texts=ALIKE_TEXTS, title="Compare it with every other head")
    if alike is not None:
        _alike(alike, mask)
    if removal is not None:
        _strongest(explorer, removal, head)


def _first(explorer: Explorer) -> int:
    """The head that was clicked on the board, or else the most salient one."""
    if explorer.selected is not None:
        return explorer.selected
    return 0 if explorer.clusters is None else int(explorer.clusters.salience.argmax())


def _habits(found: HeadHabits, head: int, mask: HeadMask) -> None:
    name, dark = head_name(head, mask.heads).capitalize(), display.is_dark()
    shares, breadth, mostly = found.of(head), found.breadth_of(head), found.mostly[head]
    if mostly == "broad":
        kind, said = max(shares, key=lambda one: shares[one].value), "spreads its attention; most goes to"
    else:
        kind, said = mostly, "looks mostly at"
    low, high = shares[kind].low, shares[kind].high
    left, right = st.columns([3, 2], gap="medium")
    with left:
        display.show(
            figures.shares_figure(shares, dark=dark),
            title=f"{name} {said} {figures.WORDS[kind]}: {percent(shares[kind].value, 0)} of its attention "
            f"({span(100 * low, 100 * high)}, n = {found.texts} texts)",
            help=_SHARES,
            name="head-habits",
            data={
                "looks at": [figures.WORDS[one] for one in shares],
                "share": [round(share.value, 5) for share in shares.values()],
                "low": [round(share.low, 5) for share in shares.values()],
                "high": [round(share.high, 5) for share in shares.values()],
            },
        )
    with right:
        display.show(
            figures.pattern_figure(found.patterns[head], dark=dark),
            title=f"It looks at {number(breadth.value)} tokens at once ({breadth.span}), of "
            f"{number(float(found.lengths.mean()), 0)} in a text",
            help="The mean attention map: each text's map resized to one size, rows look, columns are looked at. A "
            "line down the diagonal is a head that looks nearby, a column one that looks at one place. How many "
            "tokens it looks at once is the exponential of the entropy of a token's attention: 1 for a single token.",
            formula=r"b=\frac{1}{S}\sum_{i=1}^{S}\exp\Bigl(-\sum_j A_{ij}\ln A_{ij}\Bigr)",
            name="head-pattern",
            data=lambda: {
                f"to {column}": found.patterns[head][:, column].round(6).tolist()
                for column in range(found.patterns.shape[2])
            },
        )


def _removal(removal: Removal, head: int, mask: HeadMask) -> None:
    change, rise, n = removal.change, removal.mean_rise, len(removal.full)
    name = head_name(head, mask.heads)
    verdict = (
        f"removing {name} alone changes accuracy by {change.text}"
        if change.excludes(0)
        else f"no measurable change of accuracy without {name} alone"
    )
    st.markdown(f"##### What removing it alone costs\n{verdict[:1].upper()}{verdict[1:]}.")
    accuracy, loss, answers = st.columns(3)
    accuracy.metric(
        "Accuracy, against all heads",
        change.text,
        help="The same texts with and without the head, so their answers are compared in pairs; interval by bootstrap.",
    )
    accuracy.caption(_sure(change, changed=removal.changed, n=n))
    loss.metric("Mean loss, in nats", signed(rise.value, 4), help="Cross-entropy; above 0 the head is missed.")
    loss.caption(f"95 % interval {span(rise.low, rise.high, 4)}, n = {n:,} texts")
    answers.metric("Answers that change", f"{removal.changed} of {n:,}")
    low, high = wilson(removal.changed, n)
    answers.caption(f"95 % interval {span(n * low, n * high)}, n = {n:,} texts")


def _sure(change: Estimate, *, changed: int, n: int) -> str:
    # Without a change there is nothing to resample, and an interval without width would promise too much.
    return f"{f'95 % interval {change.span}' if changed else 'no answer changed'}, n = {n:,} texts"


def _alike(alike: LookAlikes, mask: HeadMask) -> None:
    near = alike.nearest(_NEAR)
    if not near:
        return
    (first, share), heads = near[0], mask.heads
    state = "kept" if mask.keep.flat[first] else "pruned"
    display.show(
        figures.alike_figure(near, mask, dark=display.is_dark()),
        title=f"{head_name(first, heads).capitalize()} ({state}) attends most like it: {number(share.value, 3)} apart "
        f"({span(share.low, share.high, 3)}, n = {alike.texts} texts)",
        help=f"The heads whose attention is nearest, on {alike.texts} evaluation texts, with 95 % intervals of "
        f"the mean. Solid squares are kept on the board, hollow ones are pruned. Click one to look at it. {HOW}",
        formula=FORMULA,
        name="head-alike",
        data={
            "head": [head_name(other, heads) for other, _ in near],
            "distance": [round(one.value, 5) for _, one in near],
            "low": [round(one.low, 5) for _, one in near],
            "high": [round(one.high, 5) for _, one in near],
            "kept": [bool(mask.keep.flat[other]) for other, _ in near],
        },
        on_pick=chosen.choose,
    )


def _strongest(explorer: Explorer, removal: Removal, head: int) -> None:
    key = f"head-texts-{head}"
    if not st.session_state.get(key):
        if st.button("Show the texts it matters most for", key="show-head-texts"):
            st.session_state[key] = True
            st.rerun()
        return
    texts, rows = explorer.bench.evaluation, removal.strongest(_STRONGEST)
    if not rows:
        st.caption("No text's loss rises without this head.")
        return
    st.markdown("##### The texts it matters most for\nTheir loss rises most when this head alone is gone.")
    inputs, classes = texts.inputs, texts.classes
    st.dataframe(
        {
            "text": [side_by_side(inputs[row]) for row in rows],
            "label": [classes[texts.labels[row]] for row in rows],
            "all heads say": [classes[removal.full.predictions[row]] for row in rows],
            "without it": [classes[removal.without.predictions[row]] for row in rows],
            "loss rises by (nats)": [round(float(removal.rise[row]), 4) for row in rows],
        },
        hide_index=True,
        column_config={"text": st.column_config.TextColumn(width="large")},
    )
