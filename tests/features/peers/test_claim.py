"""The peers on screen: a claim on Compare, and a sentence on Budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from apps import text_of
from comparisons import varied
from peer_documents import DOCUMENT
from streamlit.testing.v1 import AppTest

from cahp.features.peers import claim
from cahp.files import json_text
from cahp.show.blocks import Line, Table, Text


def test_a_bundled_result_is_of_exactly_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cahp.models.assets", lambda: tmp_path)
    assert claim.find_document("smollm2", "abc") is None
    file = tmp_path / "compare" / "smollm2" / "peers.json"
    file.parent.mkdir(parents=True)
    file.write_text(json_text(DOCUMENT.to_json()))
    assert claim.find_document("smollm2", "abc") == DOCUMENT
    assert claim.find_document("smollm2", "another") is None
    assert claim.find_document("../smollm2", "abc") is None


def test_the_finding_is_first_and_the_table_has_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    language = replace(varied().document, protocols={})
    monkeypatch.setattr(claim, "find_document", lambda *_: DOCUMENT)
    found = claim.find_peers(language)
    assert found is not None
    finding, *_, table = found.show()
    assert isinstance(finding, Line)
    assert finding.text.endswith("18 of 90 groups removed save 20 % for 0.10 nats [0.090, 0.11]")
    assert isinstance(table, Table)
    assert len(table.rows) == 4
    monkeypatch.setattr(claim, "find_document", lambda *_: None)
    missing = claim.find_peers(language)
    assert missing is not None
    assert "cahp experiment peers tiny" in next(text.text for text in missing.show() if isinstance(text, Text))
    assert claim.find_peers(varied().document) is None


def _draw() -> None:
    from types import SimpleNamespace

    from cahp.features.peers import claim

    claim.draw_note(SimpleNamespace(card=SimpleNamespace(id="smollm2", identity="abc")))  # type: ignore[arg-type]


def test_the_finding_stands_on_budget_where_it_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "find_document", lambda *_: DOCUMENT)
    said = text_of(AppTest.from_function(_draw, default_timeout=60).run(), "caption")
    assert said.startswith("A cache in 8 bits (simulated) is nearest to the full model at as few bytes: it saves 47 %")
    monkeypatch.setattr(claim, "find_document", lambda *_: None)
    assert not text_of(AppTest.from_function(_draw, default_timeout=60).run(), "caption")
