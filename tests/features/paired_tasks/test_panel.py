"""The tab of Compare for two runs of lm-evaluation-harness."""

from __future__ import annotations

import json
from typing import Any

from streamlit.testing.v1 import AppTest


def drawn() -> None:
    from cahp.features.paired_tasks.panel import draw

    draw()


def lines(right: str, metric: str = "acc") -> bytes:
    rows: list[dict[str, Any]] = [
        {"doc_id": number, "doc_hash": str(number), "filter": "none", "metrics": [metric], metric: float(one)}
        for number, one in enumerate(right)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_two_files_give_a_table_and_a_file_without_samples_an_error() -> None:
    app = AppTest.from_function(drawn, default_timeout=60).run()
    assert not app.exception
    app.file_uploader(key="paired-a").upload("a.jsonl", lines("1" * 12 + "0" * 3)).run()
    assert not app.subheader
    app.file_uploader(key="paired-b").upload("b.jsonl", lines("0" * 9 + "1" * 3 + "0" * 3)).run()
    assert not app.exception
    assert app.subheader[0].value == "The runs differ in 1 of 1 metric"
    (table,) = app.dataframe
    assert table.value.iloc[0].tolist()[:5] == ["acc", "15", "80.0 %", "20.0 %", "−60.0 points"]
    app.file_uploader(key="paired-b").upload("b.jsonl", b"no samples").run()
    assert "is not JSON" in app.error[0].value


def test_names_of_a_file_are_not_read_as_markup() -> None:
    app = AppTest.from_function(drawn, default_timeout=60).run()
    content = lines("1100", "**bold** <b>")
    for key in ("paired-a", "paired-b"):
        app.file_uploader(key=key).upload("<img src=x>.jsonl", content).run()
    shown = " ".join(one.value for one in app.markdown)
    assert "**bold**" not in shown
    assert "<b>" not in shown
