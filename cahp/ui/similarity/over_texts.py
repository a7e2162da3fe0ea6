"""Heads over the evaluation texts: one head, and all heads at a glance; computed by the worker, kept in the store.

The texts for which a head matters most are shown on request, in the person's session only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from cahp.figures import heads as figures
from cahp.figures.head_grid import head_name, places
from cahp.outcomes import wilson
from cahp.run.bench import Bench
from cahp.studies.head_habits import (
    ALIKE_TEXTS,
    MOSTLY,
    TEXTS,
    HeadHabits,
    LookAlikes,
    Removal,
    compare_head,
    head_habits,
    kept_habits,
    remove_head,
)
from cahp.ui.frame.page import link
from cahp.ui.parts import display
from cahp.ui.parts.display import cache_with
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import Kind
from cahp.ui.similarity import chosen
from cahp.ui.similarity.comparing import FORMULA, HOW, measure
from cahp.values import HeadMask
from cahp.words import number, percent, side_by_side, signed, span

T = TypeVar("T")

#: Number of heads shown as most alike, and of texts for which a head matters most.
_NEAR, _STRONGEST = 8, 5


def _name(bench: Bench) -> str:
    return f"{bench.card.sha256[:16]}-{bench.evaluation.sha256[:16]}"


def _of_one_head(name: str, work: Callable[[Bench, int], T]) -> Kind[tuple[Bench, int], T]:
    return Kind(
        lambda subject, _: work(*subject),
        lambda subject: f"{name}-{subject[1]}-{_name(subject[0])}",
        awaited=False,
        newest=True,
    )


#: Attention targets of every head; shared by all sessions of a model and its texts.
HABITS: Kind[Bench, HeadHabits] = Kind(
    lambda bench, _: head_habits(bench), lambda bench: f"habits-{_name(bench)}", awaited=False, shared=True
)
#: The cost of removing one head, and the heads that attend like it.
REMOVAL, ALIKE = _of_one_head("removal", remove_head), _of_one_head("alike", compare_head)


def _measure_habits(explorer: Explorer) -> HeadHabits | None:
    bench = explorer.bench
    texts, title = min(TEXTS, len(bench.evaluation)), "Measure attention targets"
    return measure(
        explorer, HABITS, bench, name="habits", texts=texts, title=title, kept=lambda: kept_habits(bench) is not None
    )


def _suggest_head(explorer: Explorer) -> int:
    """Return the head that was clicked on the board, or else the most salient one."""
    if explorer.selected is not None:
        return explorer.selected
    return 0 if explorer.clusters is None else int(explorer.clusters.salience.argmax())


# One head ----------------------------------------------------------------------------------------------------


def _choose_head(explorer: Explorer) -> tuple[int, DeltaGenerator]:
    """Draw the box of heads; the chosen head, and the row of the box for what stands beside it."""
    head = chosen.choose_head(explorer.mask, lambda: _suggest_head(explorer))
    row = st.container(horizontal=True, vertical_alignment="bottom", gap="medium")
    with row, st.container(width=320):
        chosen.box(explorer.mask)
    return head, row


def draw_head(explorer: Explorer) -> None:
    """Draw the chosen head; a link to this view opens it again."""
    mask, head, row = explorer.mask, *_choose_head(explorer)
    with row:
        link("budget", "Keep or remove it on the board →")
    st.caption("The address of this page is a link to this head.")
    subject, n = (explorer.bench, head), len(explorer.bench.evaluation)
    habits = _measure_habits(explorer)
    if habits is not None:
        _draw_habits(habits, head, mask)
    removal = measure(explorer, REMOVAL, subject, name="removal", texts=n, title="Evaluate without this head")
    if removal is not None:
        _draw_removal(removal, head, mask)
    alike = measure(explorer, ALIKE, subject, name="alike", texts=ALIKE_TEXTS, title="Compare with every other head")
    if alike is not None:
        _draw_alike(alike, mask)
    if removal is not None:
        _draw_strongest(explorer, removal, head)


def _draw_habits(habits: HeadHabits, head: int, mask: HeadMask) -> None:
    name, dark = head_name(head, mask.heads).capitalize(), display.is_dark()
    shares, breadth, mostly = habits.of(head), habits.breadth_of(head), habits.mostly[head]
    kind, verb = mostly, "attends mostly to"
    if mostly == "broad":
        kind, verb = max(shares, key=lambda kind: shares[kind].value), "has no main target; most attention goes to"
    low, high = shares[kind].low, shares[kind].high
    left, right = st.columns([3, 2], gap="medium")
    with left:
        display.show(
            figures.shares_figure(shares, dark=dark),
            title=f"{name} {verb} {figures.WORDS[kind]}: {percent(shares[kind].value, 0)} of its attention "
            f"({span(100 * low, 100 * high)}, n = {habits.texts} texts)",
            help="The targets of its attention, averaged over query tokens and texts. Each weight counts for the first "
            "target that fits: the first token, a separator (another special token), the token itself, the token "
            "before or after, punctuation, or any other word. Lines are 95 % intervals of the mean over texts. A main "
            f"target gets {MOSTLY:.0%} or more.",
            name="head-habits",
            data={
                "attends to": [figures.WORDS[kind] for kind in shares],
                "share": [round(share.value, 5) for share in shares.values()],
                "low": [round(share.low, 5) for share in shares.values()],
                "high": [round(share.high, 5) for share in shares.values()],
            },
        )
    with right:
        display.show(
            figures.pattern_figure(habits.patterns[head], dark=dark),
            title=f"It attends to {number(breadth.value)} tokens at once ({breadth.span}), of "
            f"{number(float(habits.lengths.mean()), 0)} in a text",
            help="The mean attention map, each text resized to one size: rows are query tokens, columns their targets. "
            "A diagonal line means that the head attends to neighbours, a column that it attends to one position. The "
            "number of tokens is the exponential of the entropy of a token's attention: 1 for a single token.",
            formula=r"b=\frac{1}{S}\sum_{i=1}^{S}\exp\Bigl(-\sum_j A_{ij}\ln A_{ij}\Bigr)",
            name="head-pattern",
            data=lambda: {
                f"to {column}": habits.patterns[head][:, column].round(6).tolist()
                for column in range(habits.patterns.shape[2])
            },
        )


def _draw_removal(removal: Removal, head: int, mask: HeadMask) -> None:
    change, rise, n = removal.change, removal.mean_rise, len(removal.full)
    if change is None:
        verdict = f"changes {removal.changed} of {n:,} predictions"
    else:
        verdict = f"changes accuracy by {change.text}" if change.excludes(0) else "does not measurably change accuracy"
    st.markdown(f"##### The cost of removing it alone\nRemoving {head_name(head, mask.heads)} alone {verdict}.")
    columns = iter(st.columns(2 + (change is not None)))
    if change is not None:
        accuracy = next(columns)
        accuracy.metric(
            "Change in accuracy",
            change.text,
            help="The same texts with and without the head, compared in pairs; interval by bootstrap.",
        )
        # Without any change, the bootstrap would give an interval without width.
        sure = f"95 % interval {change.span}" if removal.changed else "no prediction changed"
        accuracy.caption(f"{sure}, n = {n:,} texts")
    loss, answers = columns
    if change is None:
        loss.metric(
            "KL divergence from the full model, in nats", number(rise.value, 4), help="0: the head does nothing."
        )
    else:
        loss.metric(
            "Change in mean loss, in nats", signed(rise.value, 4), help="Cross-entropy; above 0 the head helps."
        )
    loss.caption(f"95 % interval {span(rise.low, rise.high, 4)}, n = {n:,} texts")
    answers.metric("Changed predictions", f"{removal.changed} of {n:,}")
    low, high = wilson(removal.changed, n)
    answers.caption(f"95 % interval {span(n * low, n * high)}, n = {n:,} texts")


def _draw_alike(alike: LookAlikes, mask: HeadMask) -> None:
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


def _draw_strongest(explorer: Explorer, removal: Removal, head: int) -> None:
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
    inputs, classes = texts.inputs, texts.classes
    rises = "loss rises" if texts.labelled else "KL divergence rises"
    st.markdown(f"##### The texts it matters most for\nTheir {rises} most when this head alone is gone.")
    display.show_texts(
        {
            **({"label": [classes[texts.labels[row]] for row in rows]} if texts.labelled else {}),
            "prediction with all heads": [classes[removal.full.predictions[row]] for row in rows],
            "without it": [classes[removal.without.predictions[row]] for row in rows],
            f"{rises} by (nats)": [round(float(removal.rise[row]), 4) for row in rows],
            "text": [side_by_side(inputs[row]) for row in rows],
        }
    )


# All heads ---------------------------------------------------------------------------------------------------


def draw_all(explorer: Explorer) -> None:
    """Draw the mean attention map of every head, layers by heads; a click on one opens its head."""
    mask, head, row = explorer.mask, *_choose_head(explorer)
    with row:
        st.button("More about this head", key="glance-open", on_click=chosen.open_head)
    habits = _measure_habits(explorer)
    if habits is None:
        return
    mostly, means, dark = habits.mostly, habits.shares.mean(axis=0), display.is_dark()
    display.show(
        cache_with(
            habits,
            ("glance", mask.sha256, head, dark),
            lambda: figures.glance_figure(habits.patterns, mostly, mask, selected=head, dark=dark),
        ),
        title=_describe_targets(mostly),
        help=f"The mean attention map of every head over {habits.texts} evaluation texts, each text resized to one "
        "size. Rows are query tokens, columns their targets; each head has its own scale. A frame marks a kept head, "
        f"the strong frame the chosen one. The label names a target with {MOSTLY:.0%} or more of the attention. Click "
        "a head for its shares with intervals.",
        name="glance",
        data=lambda: {
            **places(mask.layers, mask.heads),
            "mostly": [figures.WORDS[kind] for kind in mostly],
            **{kind: means[:, place].round(5).tolist() for place, kind in enumerate(figures.WORDS) if kind != "broad"},
            "kept": mask.keep.ravel().tolist(),
        },
        on_pick=chosen.open_head,
    )
    words = ", ".join(f"{short} {figures.WORDS[kind]}" for kind, short in figures.SHORT.items())
    st.caption(f"Framed: kept on the board. Strong frame: the chosen head. Labels: {words}.")


def _describe_targets(mostly: list[str]) -> str:
    counts = Counter(mostly)
    kinds = [kind for kind, _ in counts.most_common() if kind != "broad"]
    if not kinds:
        return f"None of {len(mostly)} heads has a main target"
    first, *others = kinds[:4]
    more = "".join(f", {counts[kind]} to {figures.WORDS[kind]}" for kind in others)
    return (
        f"{counts[first]} of {len(mostly)} heads attend mostly to {figures.WORDS[first]}{more}; {counts['broad']} "
        "have no main target"
    )
