"""The tab of roles: which the mask on the board keeps, whether they form clusters, and when copying breaks."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cahp.features.roles.figure import kept_figure, rises_figure
from cahp.features.roles.lines import CONFIRMED, describe_ablation, describe_others, describe_spread
from cahp.features.roles.questions import BROKEN, compare_kept, find_breaks, rises, share_clusters
from cahp.recoveries import NONE
from cahp.ui.frame.panels import Panel
from cahp.ui.frame.running import measure_roles
from cahp.ui.parts import display
from cahp.ui.parts.display import cache_with, plain
from cahp.ui.session.explorer import Explorer
from cahp.values.head_roles import NOUNS, ROLES, THRESHOLDS, HeadRoles
from cahp.words import capital, percent


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
    _draw_thresholds(roles)


def _draw_thresholds(roles: HeadRoles) -> None:
    """Draw, folded, how many heads would have each role at other thresholds."""
    with st.expander("Heads by threshold"):
        st.caption(
            f"How many {roles.unit}s have a role if it needs a smaller or larger share of attention, and more than "
            "chance explains."
        )
        columns: dict[str, list[Any]] = {"role": [], "needs": []}
        columns |= {percent(share, 0): [] for share in THRESHOLDS}
        for role, counts in roles.at_thresholds.items():
            values = (NOUNS[role], percent(ROLES[role].least, 0), *counts)
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
        st.dataframe(columns, hide_index=True, key="roles-thresholds")
        spread = describe_spread(roles)
        if spread:
            st.caption(plain(spread))


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
