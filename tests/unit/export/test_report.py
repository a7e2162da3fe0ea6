"""Reports, and those whose board answers: what is in the file. That it answers is tested in a browser."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import documents
import numpy as np
import pytest
from clusters import in_a_row, outcomes, speed
from terminal import call, refused

from cahp.api import bundled
from cahp.api.export import site
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


LABELS = np.array([0, 0, 1, 1, 2, 0])
ORIGIN = Origin("a small machine, 2 cores", "2026-01-31", "cahp prune --budget 3")


def run_json() -> dict[str, Any]:
    return {**documents.run_json(), "refit": None, "cached": []}


class Outline(HTMLParser):
    """Tags and attributes of a document whose tags are all closed."""

    EMPTY = frozenset({"meta", "rect", "line", "circle", "polyline"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.EMPTY:
            assert self._open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text = f"{self.text} {data.strip()}".strip()


def report(document: dict[str, Any] | None = None, **options: Any) -> Outline:
    return Outline(page(RunDocument.from_json(document or run_json()), origin=ORIGIN, **options))


def test_a_report_asks_for_nothing_and_runs_nothing() -> None:
    outline = report(labels=LABELS)
    names = {tag for tag, _ in outline.tags}
    assert names.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "form", "a", "base", "image", "use"})
    attributes = {name for _, attrs in outline.tags for name in attrs}
    assert attributes.isdisjoint({"src", "href", "xlink:href", "srcset", "action", "background"})
    assert not any(name.startswith("on") for name in attributes)
    policies = [attrs["content"] for tag, attrs in outline.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; font-src data:"]
    assert re.findall(r"url\((.{5})", page(RunDocument.from_json(run_json()), origin=ORIGIN)) == ["data:"]


def test_names_that_people_chose_are_text_and_not_markup() -> None:
    document = run_json()
    hostile = '"><script>alert(1)</script>'
    document["model"]["id"] = document["data"]["id"] = hostile
    document["data"]["eval"]["class_counts"] = {hostile: 3}
    document["notices"] = [hostile]
    outline = report(document)
    assert "script" not in {tag for tag, _ in outline.tags}
    assert outline.text.count("<script>alert(1)</script>") >= 4


def test_the_grid_has_a_square_for_every_head_and_pruned_ones_are_light() -> None:
    squares = [attrs for tag, attrs in report(labels=LABELS).tags if tag == "rect"]
    blue, orange, green = "#0072B2", "#E69F00", "#009E73"
    assert [square["fill"] for square in squares] == [blue, blue, orange, orange, green, blue]
    assert [square["fill-opacity"] for square in squares] == ["1", "0.2", "1", "0.2", "1", "0.2"]


NOTHING = {"parameters": None, "flops": None, "latency_ms": None}


def test_the_report_says_nothing_that_is_not_so() -> None:
    assert "are part of the package" not in report().text
    bundled = page(RunDocument.from_json(run_json()), origin=replace(ORIGIN, bundled=True))
    assert "are part of the package" in Outline(bundled).text
    by_chance = {**run_json(), "settings": {**run_json()["settings"], "method": "random"}}
    text = report(by_chance, labels=LABELS).text
    assert "one head of each cluster" not in text
    assert "head_mask.json" not in text
    untimed = {"latency_ratio": None, "attention_share": None, "cost": {"full": NOTHING, "pruned": NOTHING}}
    text = report({**run_json(), **untimed}).text
    assert "Time and size were not measured" in text
    assert " ms" not in text


def test_one_page_holds_the_boards_of_all_bundled_runs_and_loads_nothing(tmp_path: Path) -> None:
    document = site(tmp_path / "site")
    page = Path(document["file"]).read_text(encoding="utf-8")
    assert document["models"] == list(bundled.RUNS)
    assert page.count('class="live-board"') == page.count('class="board-data"') == len(bundled.RUNS)
    assert document["bytes"] == len(page.encode()) < 2_000_000
    assert "default-src 'none'" in page
    assert not re.search(r'(src|href)="https?:', page)
    for words in ("What still works?", "Methods compared on minilm-sst5", "cahp explore"):
        assert words in page


def test_a_report_is_of_a_run_or_a_site_and_not_of_both(tmp_path: Path) -> None:
    assert "--site" in refused(call("report"))
    assert "--site" in refused(call("report", tmp_path, "--site", tmp_path))
    assert "leave out the run, --static and --out" in refused(call("report", "--site", tmp_path, "--static"))
    answer = call("report", "--site", tmp_path / "site", "--json")
    assert answer.document["file"] == str(tmp_path / "site" / "index.html")
