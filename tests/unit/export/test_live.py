"""A report whose board answers: what is in the file. That it answers is tested in a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any

import documents
import pytest
from clusters import in_a_row, outcomes, speed

from cahp.board.budget_sweep import BudgetTable
from cahp.exports.live import Live
from cahp.exports.report import Origin, page, recipe
from cahp.run.document import RunDocument
from cahp.run.settings import Settings
from cahp.values import HeadMask


def of_size(layers: int, heads: int, budget: int, **changes: Any) -> tuple[RunDocument, HeadMask, Live]:
    """A run of a model of any size, with every budget measured."""
    clusters = in_a_row(layers, heads)
    table = BudgetTable(clusters.selections(Settings()))
    for row in table.budgets:
        table.add(row, outcomes=outcomes(0.5 + 0.4 * row / (layers * heads)), speed=speed(0.9))
    selection = table.selection(budget)
    said = documents.run_json()
    said["model"] |= {"layers": layers, "heads": heads}
    said["kept"] = {str(layer): kept for layer, kept in enumerate(selection.mask.by_layer)}
    said |= {"rescued": [], "budget": {"requested": budget, "attained": budget}, **changes}
    labels = clusters.groups(selection.k)[0]
    return RunDocument.from_json(said), selection.mask, Live(clusters, table, labels)


def html(run: RunDocument, mask: HeadMask, live: Live, **options: Any) -> str:
    origin = Origin("a small machine", "2026-01-31", recipe(run.settings))
    return page(run, origin=origin, live=live, **options)


def board_of(page: str) -> Any:
    """The data of a page's board."""
    found = re.search(r'class="board-data">(.*?)</script>', page, re.DOTALL)
    return json.loads(found[1])


def test_the_page_may_run_its_one_script_and_load_nothing() -> None:
    text = html(*of_size(6, 12, 20))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    scripts = re.findall(r'<script type="module">(.*?)</script>', text, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert policy[1] == (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; font-src data:; img-src blob:"
    )
    assert "http" not in scripts[0].replace("http://www.w3.org/2000/svg", "")
    assert "<!--" not in scripts[0]


def test_without_script_it_says_the_same() -> None:
    run, mask, live = of_size(6, 12, 20)
    fallback = re.search(r"<noscript>.*?(<svg class=grid.*?</svg>)", html(run, mask, live), re.DOTALL)
    assert fallback[1] in html(run, mask, live, static=True)


def test_names_that_people_chose_never_become_script() -> None:
    hostile = "</script><script>alert(1)</script><!--"
    run, mask, live = of_size(6, 12, 20)
    said = run.to_json()
    said["model"]["id"] = said["data"]["id"] = hostile
    said["settings"]["recover"] = "distill"
    said["outcomes"]["recovered"] = said["outcomes"]["pruned"]
    said["refit"] = {"accepted": True, "reason": hostile, "examples": 1}
    said["data"]["eval"]["class_counts"] = {hostile: 3}
    text = html(RunDocument.from_json(said), mask, live)
    assert text.count("<script") == 2
    assert "alert(1)</script>" not in text
    assert "<!--" not in text


def test_what_the_board_is_given_are_the_measured_figures() -> None:
    run, mask, live = of_size(6, 12, 20)
    data = board_of(html(run, mask, live))
    assert data["budgets"] == list(range(6, 73))
    assert data["rows"][0]["values"]["accuracy"][0] == 0.5 + 0.4 * 6 / 72
    assert data["current"]["values"]["accuracy"] == [0.912, 0.895, 0.927, 1200]
    assert data["current"]["speed"]["ratio"]["ci95"][0] == 0.8
    assert data["current"]["covers"] == live.clusters.covers(mask, live.labels).tolist()
    assert len(data["readings"]) == 67


@pytest.mark.parametrize(("layers", "heads", "most"), [(6, 12, 1e6), (32, 32, 5e6)])
def test_a_report_is_small_enough_to_be_mailed(layers: int, heads: int, most: float) -> None:
    assert len(html(*of_size(layers, heads, layers * heads // 4)).encode()) < most
