"""What the explorer shows of roles and of what heads attend to: a tab, views of Similarity, cards and colourings."""

from __future__ import annotations

from contextlib import suppress
from operator import attrgetter
from typing import Any

import streamlit as st

from cahp.api import bundled
from cahp.board import Colouring, Painted, Pictures, paint_marks
from cahp.features.roles.figure import WORDS, glance_figure, kept_figure, pattern_figure, rises_figure, shares_figure
from cahp.features.roles.habits import (
    KINDS,
    TEXTS,
    HeadHabits,
    HeadMaps,
    head_habits,
    kept_habits,
    mean_over_texts,
    read_maps,
)
from cahp.features.roles.section import (
    BROKEN,
    CONFIRMED,
    compare_kept,
    describe_ablation,
    describe_others,
    find_breaks,
    mark_roles,
    rises,
    share_clusters,
    show_thresholds,
)
from cahp.figures import head_name, places
from cahp.recoveries import NONE
from cahp.run import Bench
from cahp.ui.frame import BoardColouring, Panel, job_card, link, measure_roles
from cahp.ui.parts import blocks, display
from cahp.ui.parts.display import cache_with, plain
from cahp.ui.session import ROLES as MEASURE_ROLES
from cahp.ui.session import Explorer, Kind, pass_seconds
from cahp.ui.similarity.graph import open_head
from cahp.values import CahpError, HeadMask
from cahp.values.head_roles import NO_ROLE, NOUNS, ROLES, HeadRoles, RoleAblation
from cahp.values.statistics import called
from cahp.words import capital, number, percent, span, too_close


def _paint_maps(maps: HeadMaps, mask: HeadMask) -> Pictures:
    return Pictures(maps.pictures, f"Mean attention, n = {maps.texts}: rows to columns")


def _paint_roles(roles: HeadRoles, mask: HeadMask) -> Painted:
    return paint_marks(mark_roles(roles))


MAPS: Colouring[HeadMaps] = Colouring("attention", "what they attend to", _paint_maps)
BY_ROLE: Colouring[HeadRoles] = Colouring("roles", "roles", _paint_roles)


def _estimate_habits(bench: Bench) -> float:
    """Estimate the seconds of measuring what the heads attend to."""
    with suppress(CahpError):
        # Windows of a bundled run cannot be read without its texts; the measurement itself says so.
        if kept_habits(bench) is not None:
            return 0.0
    return pass_seconds(bench, evaluation=min(1.0, TEXTS / len(bench.evaluation)))


#: Measure what the heads attend to.
HABITS: Kind[Bench, HeadHabits] = Kind(
    lambda bench, _: head_habits(bench),
    lambda bench: f"habits-{bench.card.sha256[:16]}-{bench.evaluation.sha256[:16]}",
    awaited=False,
    seconds=_estimate_habits,
)
#: The name under which maps are kept with the results.
_MAPS = "roles.maps"


def known_maps(explorer: Explorer) -> HeadMaps | None:
    """Return what the heads attend to, measured in this session or before, or bundled (None: not measured)."""
    memory = explorer.results.memory
    maps: HeadMaps | None = memory.get(_MAPS)
    if maps is not None:
        return maps
    job = explorer.work.job(HABITS, explorer.bench)
    if job is not None and job.result is not None:
        memory[_MAPS] = HeadMaps.of(job.result)
    elif _MAPS not in memory:
        # Once: a released budget must not wait for the store.
        memory[_MAPS] = _find_maps(explorer)
    return memory.get(_MAPS)


def _find_maps(explorer: Explorer) -> HeadMaps | None:
    bundle = explorer.results.bundle
    if bundle is not None:
        maps = read_maps(bundled.run_folder(bundle.document.model.id))
        if maps is not None:
            return maps
    if not explorer.bench.evaluation.task.items_are_texts:
        # They would have to be cut for it.
        return None
    habits = kept_habits(explorer.bench)
    if habits is None:
        return None
    return HeadMaps.of(habits)


ATTENTION: BoardColouring[HeadMaps] = BoardColouring(MAPS, known_maps)
ROLE: BoardColouring[HeadRoles] = BoardColouring(BY_ROLE, attrgetter("roles"), MEASURE_ROLES, opens=True)


#: What a role is, in words.
HELP = (
    "A head has a role if a large share of its attention goes to one kind of token, and more than to tokens drawn at "
    "random: chance gives any head of the model a role with a probability of 5 %. Roles are measured on repeated "
    "random tokens and, of language models, on questions about short texts of three kinds."
)


def _measure_habits(explorer: Explorer) -> HeadHabits | None:
    label = "Measure attention targets"
    return job_card(explorer, HABITS, explorer.bench, name="habits", title=label, asks_for_long=label)


# One head ----------------------------------------------------------------------------------------------------


def draw_head(explorer: Explorer, head: int) -> None:
    """Draw what a head attends to; a link to this view opens it again."""
    roles = measure_roles(explorer)
    if roles is not None:
        st.markdown(f"**Role over random tokens:** {roles.describe(head)}.", help=HELP)
    habits = _measure_habits(explorer)
    if habits is None:
        return
    name = head_name(head, explorer.mask.heads, explorer.card.unit).capitalize()
    dark = display.is_dark()
    shares = habits.of(head)
    breadth = mean_over_texts(habits.breadth[:, head])
    kind = max(shares, key=lambda kind: shares[kind].value)
    most = shares[kind]
    table: dict[str, list[Any]] = {"attends to": [], "share": [], "low": [], "high": []}
    for target, share in shares.items():
        table["attends to"].append(WORDS[target])
        table["share"].append(round(share.value, 5))
        table["low"].append(round(share.low, 5))
        table["high"].append(round(share.high, 5))
    left, right = st.columns([3, 2], gap="medium")
    with left:
        display.show(
            shares_figure(shares, dark=dark),
            title=f"{name} gives most of its attention to {WORDS[kind]}: {percent(most.value, 0)} "
            f"({span(100 * most.low, 100 * most.high)}, n = {habits.texts} {explorer.card.words.items})",
            help="The targets of its attention, averaged over query tokens and texts. Each weight counts for the first "
            "target that fits: the first token, a separator (another special token), the token itself, the token "
            "before or after, punctuation, or any other word. Lines are 95 % intervals of the mean over texts.",
            name="head-habits",
            data=table,
        )
    with right:
        display.show(
            pattern_figure(habits.patterns[head], dark=dark),
            title=f"It attends to {number(breadth.value)} tokens at once ({breadth.span}), of "
            f"{number(float(habits.lengths.mean()), 0)} in a text",
            help="The mean attention map, each text resized to one size: rows are query tokens, columns their targets. "
            "A diagonal line: the head attends to neighbours. A column: it attends to one position. The "
            "number of tokens is the exponential of the entropy of a token's attention: 1 for a single token.",
            formula=r"b=\frac{1}{S}\sum_{i=1}^{S}\exp\Bigl(-\sum_j A_{ij}\ln A_{ij}\Bigr)",
            name="head-pattern",
            data=lambda: {
                f"to {column}": habits.patterns[head][:, column].round(6).tolist()
                for column in range(habits.patterns.shape[2])
            },
        )


# All heads ---------------------------------------------------------------------------------------------------


def draw_all(explorer: Explorer, head: int) -> None:
    """Draw the mean attention map of every head, layers by heads; a click on one opens its head."""
    mask = explorer.mask
    roles = measure_roles(explorer)
    if roles is None or (known_maps(explorer) is None and _measure_habits(explorer) is None):
        return
    maps = known_maps(explorer)
    assert maps is not None
    dark = display.is_dark()
    display.show(
        cache_with(
            maps,
            ("glance", mask.sha256, head, dark),
            lambda: glance_figure(maps.pictures, roles, mask, selected=head, dark=dark),
        ),
        title=_count_roles(roles, explorer.card.unit),
        help=f"The mean attention map of every head over {maps.texts} evaluation {explorer.card.words.items}, each "
        "resized to one size. Rows are query tokens, columns their targets; each head has its own scale. A frame "
        f"marks a kept head, the strong frame the chosen one. The label is its role. Click a head for its shares with "
        f"intervals. {HELP}",
        name="glance",
        data=lambda: {
            **places(mask.layers, mask.heads),
            **roles.columns,
            **{kind: maps.shares[:, place].round(5).tolist() for place, kind in enumerate(WORDS)},
            "kept": mask.keep.ravel().tolist(),
        },
        on_pick=open_head,
    )
    words = ", ".join(f"{ROLES[name].short} {NOUNS[name]}" for name in roles.scores)
    st.caption(f"Framed: kept on the board. Strong frame: the chosen head. Labels: {words}; no label: no role.")


def _count_roles(roles: HeadRoles, unit: str) -> str:
    counts = dict(roles.counts)
    without = counts.pop(NO_ROLE)
    common = sorted((name for name in counts if counts[name]), key=lambda name: -counts[name])
    named = ", ".join(f"{counts[name]} {NOUNS[name]}" for name in common) or "0"
    return f"{sum(counts.values())} of {len(roles.names)} {unit}s have a role: {named}; without one: {without}"


ONE_HEAD = Panel("Over all texts", draw_head, place=40, name="head")
ALL_HEADS = Panel("All at a glance", draw_all, place=50, name="all")


def draw(explorer: Explorer, head: int) -> None:
    """Draw what the head attends to over many texts, and its role."""
    maps = known_maps(explorer)
    if maps is not None:
        st.markdown(f"#### {describe_target(maps, head)} on {maps.texts} {explorer.card.words.items}")
    roles = explorer.roles
    asked = explorer.work.job(MEASURE_ROLES, explorer.bench) is not None
    if roles is None and (asked or st.button("Measure its role", key="one-head-roles", type="tertiary")):
        roles = measure_roles(explorer)
    if roles is not None:
        st.caption(plain(describe_role(roles, head)), help=HELP)
        _draw_ablations(roles, head)
    if maps is None:
        chosen = called(head, explorer.card.heads)
        link("similarity", "Measure what it attends to over many texts →", view="head", shown=chosen)


def describe_target(maps: HeadMaps, head: int) -> str:
    """Describe the target that gets most of a head's attention."""
    shares = maps.shares[head]
    most = int(shares.argmax())
    return f"It attends most to {WORDS[KINDS[most]]}: {percent(float(shares[most]), 0)} of its attention"


def describe_role(roles: HeadRoles, head: int) -> str:
    """Describe the role of a head with its evidence, or that it has none."""
    named = roles.of_unit(head)
    if named:
        return f"Role: {roles.describe(head)}."
    nearest = roles.describe(head).removeprefix("none").removeprefix("; ")
    words = "No role confirmed"
    if nearest:
        words += f": {nearest}"
    return f"{words}."


def _draw_ablations(roles: HeadRoles, head: int) -> None:
    """Tell whether removing all heads of its roles confirmed them, where that was tested."""
    for ablation in roles.ablations or ():
        if ablation.role in roles.of_unit(head):
            about = f"{CONFIRMED} {capital(describe_ablation(ablation, roles.unit))}."
            st.caption(describe_verdict(ablation, roles.unit), help=plain(about))


def describe_verdict(ablation: RoleAblation, unit: str) -> str:
    """Tell whether removing all heads of a role confirmed it."""
    noun = f"{ablation.heads} {NOUNS[ablation.role]} {unit}s together"
    extra = ablation.extra
    if extra is None or ablation.confirmed is None:
        return f"Removing the {noun} cannot test this role."
    if ablation.confirmed:
        return f"Removing the {noun} confirms this role."
    return f"Removing the {noun} does not confirm this role: {too_close(extra.n, 'sequences')}."


HEADLINE = Panel("What it attends to", draw, place=0)


def draw_roles(explorer: Explorer) -> None:
    """Draw the answers for the mask on the board."""
    roles = measure_roles(explorer)
    if roles is None:
        return
    mask = explorer.mask
    labels = explorer.board.labels
    dark = display.is_dark()
    rows = compare_kept(roles, mask.keep)
    significant = "; ".join(str(row) for row in rows if row.significant)
    title = f"The mask {significant}"
    if not significant:
        title = (
            "No role differs significantly from random masks "
            f"(n = {mask.count} of {mask.keep.size} {explorer.card.unit}s)"
        )
    names = ("role", "kept", "of", "expected at random", "low", "high", "p")
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for row in rows:
        values = (NOUNS[row.role], row.kept, row.count, row.expected, row.low, row.high, row.p)
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)
    display.show(
        kept_figure(rows, dark=dark),
        title=title,
        help="Each head is named by its most telling role. Lines: what random masks of as many heads keep (95 %, "
        "hypergeometric distribution, without a per-layer minimum). Solid dots: p ≤ 0.05, corrected for the number of "
        "roles.",
        name="roles-kept",
        data=columns,
    )
    st.markdown("\n".join(f"- The mask {row}." for row in rows))
    assert explorer.clusters is not None
    together = cache_with(explorer.clusters, ("together", labels.tobytes()), lambda: share_clusters(roles, labels))
    if together is not None:
        st.markdown(f"**Do first-token heads form one cluster?** {capital(str(together))}.")
    for ablation in roles.ablations or ():
        described = capital(describe_ablation(ablation, roles.unit))
        described = plain(described + describe_others(roles, ablation.role))
        st.markdown(f"**Does ablation confirm {NOUNS[ablation.role]} heads?** {described}.")
    if roles.ablations:
        st.caption(CONFIRMED)
    _draw_breaks(explorer, dark=dark)
    with st.expander(f"{capital(roles.unit)}s by threshold"):
        st.caption(
            f"How many {roles.unit}s have a role if it needs a smaller or larger share of attention, and more than "
            "chance explains."
        )
        blocks.draw(show_thresholds(roles))


def _draw_breaks(explorer: Explorer, *, dark: bool) -> None:
    table = explorer.table(NONE.name)
    if table is None or table.full is None or not explorer.card.task.predicts_often:
        return
    full = table.full
    unit = explorer.card.unit
    measured = {row.budget: row.outcomes for row in table.rows() if row.outcomes is not None}
    breaks = find_breaks(measured, full, table.budgets[-1], unit=unit)
    if breaks is None:
        return
    risen = rises(measured, full)
    display.show(
        rises_figure(risen, unit=unit, dark=dark),
        title=f"As {unit}s are pruned, {breaks}",
        help="The rise of the loss above the full model's, as pruned, at measured budgets: on the second half of "
        f"repeated random tokens ({full['copying'].n} sequences), and on the evaluation texts "
        f"({full['nll'].n} {explorer.bench.evaluation.units}). A loss has broken if it has risen by {BROKEN:g} nat per "
        "token. The rises have no intervals.",
        name="roles-copying",
        data={
            f"{unit}s kept": list(risen["copying"]),
            "rise on repeated tokens": list(risen["copying"].values()),
            "rise on text": [risen["nll"].get(budget) for budget in risen["copying"]],
        },
    )


TAB = Panel("Roles", draw_roles, place=40)
