"""What methods cost, and the files of a comparison to take along."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from cahp.comparison import Comparison, Reading
from cahp.comparison.sentences import AFTER, called, over
from cahp.ui.compare.view import ComparisonView
from cahp.ui.parts import chart as charts
from cahp.words import span

_AREA = r"\bar a=\frac{1}{k_m-k_1}\sum_{i=1}^{m-1}\frac{(a_i+a_{i+1})\,(k_{i+1}-k_i)}{2}"
#: The column of the mean accuracy over the budgets of a recovery.
_OVERALL = "Accuracy (%)"
#: What recoveries are called at the head of a column.
_RECOVERIES = {"refit": "Refit", "distill": "Distillation", "finetune": "Fine-tuning"}


def draw(found: Reading, view: ComparisonView) -> None:
    """Draw what each method costs, beside what it achieves."""
    shown = [name for name in view.methods if name in found.cost]
    if not shown:
        return
    measured = table(found, shown, view.recovery)
    areas = [found.areas[view.recovery, name] for name in shown if (view.recovery, name) in found.areas]
    where = over(areas[0].budgets if areas else found.budgets, found.budgets)
    with st.container(key="figure-compare-cost"):
        charts.heading(
            _costs(found, shown),
            help=(
                "A **forward pass** is one text through the full model (a backward pass counts as two), as if nothing "
                "were cached: it compares methods. **Seconds** are what this comparison took for the "
                "costliest budget, and evidence that another method had gathered before took none, so they do not; "
                "they are means over the **n** seeds or masks beside them, without an interval, and say more of the "
                "machine than of the method. "
                f"**Labels** are labelled texts that a method needs. The **accuracy** is the mean {where}, "
                f"that is, the area under the first chart's line over its width ({AFTER[view.recovery]}), with its "
                "95 % interval; methods that were not measured at all of these have none."
            ),
            formula=_AREA if _OVERALL in measured else None,
            name="compare-cost",
            data=measured,
        )
        st.dataframe(
            measured,
            hide_index=True,
            height="content",
            column_config={
                "Forward passes": st.column_config.NumberColumn(format="localized"),
                "Labels": st.column_config.NumberColumn(format="localized"),
                **{name: st.column_config.NumberColumn(format="%.2f") for name in measured if name.endswith("(s)")},
            },
        )


def table(found: Reading, shown: Sequence[str], recovery: str) -> dict[str, list[Any]]:
    """What each method costs beside what it achieves after a recovery, column by column."""
    costs = [found.cost[name] for name in shown]
    areas = [found.areas.get((recovery, name)) for name in shown]
    made: dict[str, list[Any]] = {"Method": [called(name) for name in shown]}
    if any(areas):
        made[_OVERALL] = [
            "some budgets only" if area is None else _share(area.area, area.low, area.high) for area in areas
        ]
    elif len(measured := {budget for how, _, budget in found.means if how == recovery}) == 1:
        (budget,) = measured
        means = [found.means.get((recovery, name, budget)) for name in shown]
        made[f"Accuracy at {budget} heads (%)"] = [
            "not measured" if mean is None else _share(mean.accuracy, mean.low, mean.high) for mean in means
        ]
    made |= {
        "Forward passes": [None if cost.forwards is None else round(cost.forwards) for cost in costs],
        "Labels": [cost.labels for cost in costs],
        # Seconds were read off a clock: means without an interval, each with how many it is the mean of.
        "Choosing (s)": [cost.score_s for cost in costs],
        "n (seeds)": [found.seeds_of(name) for name in shown],
    }
    for how in found.by_cost:
        if how != "none":
            made[f"{_RECOVERIES[how]} (s)"] = [cost.recovery_s.get(how) for cost in costs]
            made[f"n ({_RECOVERIES[how].lower()})"] = [found.masks_of(name, how) for name in shown]
    return made


def _share(value: float, low: float, high: float) -> str:
    return f"{100 * value:.1f} ({span(100 * low, 100 * high)})"


def _costs(found: Reading, shown: Sequence[str]) -> str:
    said = {name: forwards for name in shown if (forwards := found.cost[name].forwards) is not None}
    if not said:
        return "What choosing costs was not said"
    costliest = max(said, key=lambda name: said[name])
    free = sum(not forwards for forwards in said.values())
    most = f"{called(costliest)} costs most to choose: {said[costliest]:,.0f} forward passes"
    return most + (f"; {free} method{'' if free == 1 else 's'} need{'s' if free == 1 else ''} none" if free else "")


def downloads(comparison: Comparison) -> None:
    """Draw the buttons that take the comparison along, and the command that measures it again."""
    with st.container(horizontal=True, key="compare-downloads", gap="small", vertical_alignment="center"):
        st.markdown("**Take it along:**", width="content")
        for label, name, kind in (
            ("Document (JSON)", "compare.json", "application/json"),
            ("Table (CSV)", "comparison.csv", "text/csv"),
        ):
            st.download_button(
                label,
                lambda name=name: comparison.files[name],
                name,
                kind,
                key=f"compare-get-{name}",
                on_click="ignore",
            )
        st.download_button(
            "All, with figures (ZIP)",
            lambda: comparison.archive,
            "comparison.zip",
            "application/zip",
            key="compare-get-all",
            on_click="ignore",
        )
    command = comparison.reading.command
    if command:
        with st.expander("The command that measures this again", key="compare-command"):
            st.code(command[:2000], language="bash", wrap_lines=True)
