"""Results of experiments on screen: claims on Compare, and a sentence on Budget."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from apps import text_of
from comparisons import varied
from peer_documents import DOCUMENT
from streamlit.testing.v1 import AppTest

from cahp.features import findings
from cahp.files import json_text
from cahp.models import assets
from cahp.show.blocks import Line, Table, Text

SHA256 = json.loads((assets() / "compare" / "smollm2" / "peers.json").read_text())["sha256"]


def test_a_bundled_result_is_of_exactly_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings.models, "assets", lambda: tmp_path)
    assert findings.read_peers("smollm2", "abc") is None
    file = tmp_path / "compare" / "smollm2" / "peers.json"
    file.parent.mkdir(parents=True)
    file.write_text(json_text(DOCUMENT.to_json()))
    assert findings.read_peers("smollm2", "abc") is not None
    assert findings.read_peers("smollm2", "another") is None
    assert findings.read_peers("../smollm2", "abc") is None


def test_the_finding_is_first_and_the_table_has_every_row() -> None:
    document = varied().document
    model = replace(document.model, id="smollm2", sha256=SHA256)
    found = findings.find_peers(replace(document, protocols={}, model=model))
    assert found is not None
    finding, *_, table = found.show()
    assert isinstance(finding, Line)
    assert "is nearest to the full model at as few bytes" in finding.text
    assert isinstance(table, Table)
    assert len(table.rows) > 8
    missing = findings.find_peers(replace(document, protocols={}))
    assert missing is not None
    assert "cahp experiment peers tiny" in next(text.text for text in missing.show() if isinstance(text, Text))
    assert findings.find_peers(document) is None


def _draw(sha256: str) -> None:
    from types import SimpleNamespace

    from cahp.features import findings

    findings.draw_note(SimpleNamespace(card=SimpleNamespace(id="smollm2", identity=sha256)))  # type: ignore[arg-type]


def test_the_finding_stands_on_budget_where_it_was_measured() -> None:
    for sha256, said in ((SHA256, "is nearest to the full model"), ("another", "")):
        app = AppTest.from_function(_draw, args=(sha256,), default_timeout=60).run()
        assert bool(said) == bool(text_of(app, "caption"))
        assert said in text_of(app, "caption")
