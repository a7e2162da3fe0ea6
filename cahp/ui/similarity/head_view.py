"""One head over the evaluation texts: its attention targets, the cost of removing it, and the heads that attend alike.

The texts for which it matters most are shown on request, in the person's session only.
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

#: Number of heads shown as most alike, and of texts for which a head matters most.
_NEAR, _STRONGEST = 8, 5

_SHARES = (
    "The targets of its attention, averaged over query tokens and texts. Each weight counts for the first target that "
    "fits: the first token, a separator (another special token), the token itself, the token before or after, "
    "punctuation, or any other word. Lines are 95 % intervals of the mean over texts. A main target gets "
    f"{MOSTLY:.0%} or more."
)


def draw(explorer: Explorer) -> None:
    """Draw the chosen head; a link to this view opens it again."""
    mask = explorer.mask
    head = chosen.settle(mask, lambda: _first(explorer))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        with st.container(width=320):
            chosen.box(mask)
        link("budget", "Keep or remove it on the board →")
    st.caption("The address of this page is a link to this head.")
    asked, n = HeadOf(explorer.bench, head), len(explorer.bench.evaluation)
    found = habits(explorer)
    if found is not None:
        _habits(found, head, mask)
    removal = measured(explorer, REMOVAL, asked, name="removal", texts=n, title="Evaluate without this head")
    if removal is not None:
        _removal(removal, head, mask)
    alike = measured(explorer, ALIKE, asked, name="alike", texts=ALIKE_TEXTS, title="Compare with every other head")
    if alike is not None:
        _alike(alike, mask)
    if removal is not None:
        _strongest(explorer, removal, head)


def _first(explorer: Explorer) -> int:
    """Return the head that was clicked on the board, or else the most salient one."""
    if explorer.selected is not None:
        return explorer.selected
    return 0 if explorer.clusters is None else int(explorer.clusters.salience.argmax())


def _habits(found: HeadHabits, head: int, mask: HeadMask) -> None:
    name, dark = head_name(head, mask.heads).capitalize(), display.is_dark()
    shares, breadth, mostly = found.of(head), found.breadth_of(head), found.mostly[head]
    if mostly == "broad":
        kind, said = max(shares, key=lambda one: shares[one].value), "has no main target; most attention goes to"
    else:
        kind, said = mostly, "attends mostly to"
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
            title=f"It attends to {number(breadth.value)} tokens at once ({breadth.span}), of "
            f"{number(float(found.lengths.mean()), 0)} in a text",
            help="The mean attention map, each text resized to one size: rows are query tokens, columns their targets. "
            "A diagonal line means that the head attends to neighbours, a column that it attends to one position. The "
            "number of tokens is the exponential of the entropy of a token's attention: 1 for a single token.",
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
    st.markdown(f"##### The cost of removing it alone\n{verdict[:1].upper()}{verdict[1:]}.")
    accuracy, loss, answers = st.columns(3)
    accuracy.metric(
        "Change in accuracy",
        change.text,
        help="The same texts with and without the head, compared in pairs; interval by bootstrap.",
    )
    accuracy.caption(_sure(change, changed=removal.changed, n=n))
    loss.metric("Change in mean loss, in nats", signed(rise.value, 4), help="Cross-entropy; above 0 the head helps.")
    loss.caption(f"95 % interval {span(rise.low, rise.high, 4)}, n = {n:,} texts")
    answers.metric("Changed predictions", f"{removal.changed} of {n:,}")
    low, high = wilson(removal.changed, n)
    answers.caption(f"95 % interval {span(n * low, n * high)}, n = {n:,} texts")


def _sure(change: Estimate, *, changed: int, n: int) -> str:
    # Without any change, the bootstrap would give an interval without width.
    return f"{f'95 % interval {change.span}' if changed else 'no prediction changed'}, n = {n:,} texts"


def _alike(alike: LookAlikes, mask: HeadMask) -> None:
    near = alike.nearest(_NEAR)
    if not near:
        return
    (first, share), heads = near[0], mask.heads
    state = "kept" if mask.keep.flat[first] else "pruned"
    display.show(
        figures.alike_figure(near, mask, dark=display.is_dark()),
        title=f"{head_name(first, heads).capitalize()} ({state}) attends most alike: distance {number(share.value, 3)} "
        f"({span(share.low, share.high, 3)}, n = {alike.texts} texts)",
        help=f"The heads that attend most alike on {alike.texts} evaluation texts, with 95 % intervals of the mean. "
        f"Solid squares are kept on the board, hollow ones pruned. Click one to choose it. {HOW}",
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
