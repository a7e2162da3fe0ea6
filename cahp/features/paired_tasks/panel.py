"""The tab of Compare that pairs two runs of lm-evaluation-harness, from the files that a person drops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from cahp.features.paired_tasks.lines import describe_row, row_cells
from cahp.features.paired_tasks.pairing import PairedSamples, pair
from cahp.features.paired_tasks.samples import read_lines
from cahp.files import json_text
from cahp.ui.frame.panels import Panel
from cahp.ui.parts import display
from cahp.values import CahpError

#: Session key: the files that were compared last, and the result or the error.
_LAST = "cahp_paired_last"
_COLUMNS = ("Metric", "Items", "A", "B", "B − A", "95 % interval", "p", "p (Holm)")


def draw(*_: Any) -> None:
    """Draw the places for two files, and their comparison."""
    st.markdown(
        "Two runs of lm-evaluation-harness on one task, item by item: hard items count for no run. Each file is a "
        "`samples_*.jsonl` that the harness wrote with `--log_samples`."
    )
    with st.container(horizontal=True, key="paired-files"):
        a = st.file_uploader("Run A", type=["jsonl"], key="paired-a")
        b = st.file_uploader("Run B", type=["jsonl"], key="paired-b")
    st.caption("The files stay in this session.")
    if a is None or b is None:
        return
    given = a.file_id, b.file_id
    known = st.session_state.get(_LAST)
    if known is None or known[0] != given:
        known = given, _compare(a, b)
        st.session_state[_LAST] = known
    result = known[1]
    if isinstance(result, str):
        display.problem(result)
        return
    _draw_result(result)


def _compare(a: Any, b: Any) -> PairedSamples | str:
    """Return the comparison of two uploads, or an error message."""
    try:
        return pair(read_lines(a.name, a), read_lines(b.name, b))
    except CahpError as error:
        return str(error)


def _draw_result(paired: PairedSamples) -> None:
    columns = zip(*map(row_cells, paired.rows), strict=True)
    table: Mapping[str, list[str]] = {name: list(cells) for name, cells in zip(_COLUMNS, columns, strict=True)}
    with st.container(key="paired-result"):
        display.heading(
            _describe_finding(paired),
            help="**B − A** is the mean difference over the items that both runs have. Its unit is points for right "
            "answers, nats per word or byte for perplexities, and else that of the metric. Its interval is a bootstrap "
            "over items. Right and wrong answers have the exact test of McNemar, other values random flips of signs. "
            "**p (Holm)** is corrected for the number of rows.",
            name="paired",
            data=table,
        )
        st.dataframe(table, hide_index=True, height="content")
        lines = [*map(describe_row, paired.rows), *paired.notices]
        st.markdown("\n".join(f"- {display.plain(line[:400])}" for line in lines[:40]))
        display.download(
            "Comparison (JSON)",
            lambda: json_text(paired.to_json()).encode(),
            "paired.json",
            "application/json",
            key="paired-get",
        )


def _describe_finding(paired: PairedSamples) -> str:
    differ = sum(row.p_holm <= 0.05 for row in paired.rows)
    count = len(paired.rows)
    if not differ:
        return f"No significant difference in {count} {_name(count)}"
    return f"The runs differ in {differ} of {count} {_name(count)}"


def _name(count: int) -> str:
    if count == 1:
        return "metric"
    return "metrics"


TAB = Panel("Harness runs", draw, place=10)
