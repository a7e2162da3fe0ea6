"""Every measure through every door of a run: its field, its lines, its part of the report, and the store."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import pytest

from cahp import features
from cahp.exports.report import Origin, page
from cahp.files import json_text
from cahp.run.bench import open_bench
from cahp.run.document import RunDocument
from cahp.run.measures import MaskSubject, Measure, measure
from cahp.run.settings import Settings
from cahp.show.blocks import Line
from cahp.store import Store
from cahp.terminal.printing import run_lines

pytestmark = pytest.mark.usefixtures("one_thread")

MEASURES = features.measures()
ORIGIN = Origin("a machine", "2026-01-31", "cahp prune")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("measures")
    (place / "notes.txt").write_text("\n\n".join(fakes.sentences(120, seed=9).first))
    return place


@pytest.fixture(scope="module")
def classifier(place: Path) -> Settings:
    return fakes.quick_task(place / "classifier", limit=60, eval_limit=40, budget="5")


@pytest.fixture(scope="module")
def language_model(place: Path) -> Settings:
    model = fakes.save_language_model(place / "language")
    return fakes.quick(model, place / "notes.txt", window=16, tokens=320, eval_tokens=160, budget="5")


@pytest.mark.parametrize("one", MEASURES, ids=lambda one: one.name)
def test_a_run_measures_what_it_is_asked_for_and_finds_it_again(
    one: Measure[Any], request: pytest.FixtureRequest, place: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = request.getfixturevalue("language_model" if one.name == "continuation" else "classifier")
    if one.name != "continuation":
        plain = fakes.prune(settings, store=store).document
        assert plain.to_json()[one.name] is None
        assert f"<h2>{one.title}</h2>" not in page(plain, origin=ORIGIN, measures=MEASURES)
    asked = replace(settings, measure=(one.name,))
    if one.name == "neutral":
        asked = replace(asked, neutral_data=str(place / "notes.txt"))
    document = fakes.prune(asked, store=store).document
    record = one.read_run(document)
    assert record is not None
    assert one.read_run(RunDocument.from_json(json.loads(json_text(document.to_json())))) == record
    said = [block.text for block in one.show(record, MaskSubject.of(document)) if isinstance(block, Line)]
    assert all(any(finding in line for line in run_lines(document, MEASURES)) for finding in said[:1])
    assert f"<h2>{one.title}</h2>" in page(document, origin=ORIGIN, measures=MEASURES)
    monkeypatch.setattr(type(one), "run", lambda *_: pytest.fail("measured again"))
    bench = open_bench(asked, store=store)
    assert measure(one, bench, document.mask, None, one.wanted(bench)) == record
