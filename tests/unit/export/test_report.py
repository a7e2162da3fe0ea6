from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import documents
import numpy as np

from cahp.exports.report import Origin, page
from cahp.run.document import RunDocument

LABELS = np.array([0, 0, 1, 1, 2, 0])
ORIGIN = Origin("a small machine, 2 cores", "2026-01-31", "cahp prune --budget 3")


def run() -> dict[str, Any]:
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
    return Outline(page(RunDocument.from_json(document or run()), origin=ORIGIN, **options))


def test_a_report_asks_for_nothing_and_runs_nothing() -> None:
    outline = report(labels=LABELS)
    names = {tag for tag, _ in outline.tags}
    assert names.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "form", "a", "base", "image", "use"})
    attributes = {name for _, attrs in outline.tags for name in attrs}
    assert attributes.isdisjoint({"src", "href", "xlink:href", "srcset", "action", "background"})
    assert not any(name.startswith("on") for name in attributes)
    policies = [attrs["content"] for tag, attrs in outline.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; font-src data:"]
    assert re.findall(r"url\((.{5})", page(RunDocument.from_json(run()), origin=ORIGIN)) == ["data:"]


def test_names_that_people_chose_are_text_and_not_markup() -> None:
    document = run()
    hostile = '"><script>alert(1)</script>'
    document["model"]["id"] = document["data"]["id"] = hostile
    document["data"]["eval"]["class_counts"] = {hostile: 3}
    document["notices"] = [hostile]
    outline = report(document)
    assert "script" not in {tag for tag, _ in outline.tags}
    assert outline.text.count("<script>alert(1)</script>") >= 4


def test_the_figures_are_those_of_the_run() -> None:
    measured = ("95.3 %", "91.2 %", "[94.0, 96.4]", "−4.1 points", "[−5.6, −2.7]", "87.7 %", "93.0 %", "1,200")
    costs = ("12.3 ms", "22.7 M", "1.04 G", "0.82 × [0.80, 0.85]", "34 %")
    facts = ("a small machine, 2 cores", "2026-01-31", "torch 2.9", "cahp prune --budget 3")
    text = report().text
    for said in (*measured, *costs, *facts):
        assert said in text


def test_the_grid_has_a_square_for_every_head_and_pruned_ones_are_light() -> None:
    squares = [attrs for tag, attrs in report(labels=LABELS).tags if tag == "rect"]
    blue, orange, green = "#0072B2", "#E69F00", "#009E73"
    assert [square["fill"] for square in squares] == [blue, blue, orange, orange, green, blue]
    assert [square["fill-opacity"] for square in squares] == ["1", "0.2", "1", "0.2", "1", "0.2"]


NOTHING = {"parameters": None, "flops": None, "latency_ms": None}


def test_the_report_says_nothing_that_is_not_so() -> None:
    assert "are part of the package" not in report().text
    bundled = page(RunDocument.from_json(run()), origin=replace(ORIGIN, bundled=True))
    assert "are part of the package" in Outline(bundled).text
    by_chance = {**run(), "settings": {**run()["settings"], "method": "random"}}
    text = report(by_chance, labels=LABELS).text
    assert "one head of each cluster" not in text
    assert "head_mask.json" not in text
    untimed = {"latency_ratio": None, "attention_share": None, "cost": {"full": NOTHING, "pruned": NOTHING}}
    text = report({**run(), **untimed}).text
    assert "Time and size were not measured" in text
    assert " ms" not in text
