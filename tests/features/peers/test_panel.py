"""The peers on screen: a tab of Compare, and a sentence on Budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from apps import text_of
from peer_documents import DOCUMENT
from streamlit.testing.v1 import AppTest

from cahp.features.peers import panel
from cahp.features.peers.figure import AXES, describe_points, has_axis, peers_figure
from cahp.files import json_text


def test_the_figure_has_a_point_for_each_row_that_saves_something_on_the_axis() -> None:
    cache = peers_figure(DOCUMENT, "cache", dark=False)
    assert [list(trace.x) for trace in cache.data] == [pytest.approx(one) for one in ([20, 50], [46.875], [71.875])]
    assert [list(trace.y) for trace in cache.data] == [[0.1, 0.405], [0.00031], [0.036]]
    (timed,) = peers_figure(DOCUMENT, "speed", dark=True).data
    assert list(timed.x) == [pytest.approx(1.5, abs=0.01)]
    assert list(peers_figure(DOCUMENT, "weights", dark=False).data[0].x) == [pytest.approx(4), pytest.approx(10)]
    assert set(AXES) == set(panel._NAMES)
    assert "a cache in 8 bits, 8 bits: 47 % saved, 0.0003 nats." in describe_points(DOCUMENT)


def test_an_axis_is_offered_only_where_a_row_has_a_value_on_it() -> None:
    untimed = replace(DOCUMENT, rows=DOCUMENT.rows[:1])
    assert [has_axis(document, "speed") for document in (DOCUMENT, untimed)] == [True, False]
    assert has_axis(untimed, "weights")


def test_a_bundled_result_is_of_exactly_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cahp.models.assets", lambda: tmp_path)
    assert panel.find_document("smollm2", "abc") is None
    file = tmp_path / "compare" / "smollm2" / "peers.json"
    file.parent.mkdir(parents=True)
    file.write_text(json_text(DOCUMENT.to_json()))
    assert panel.find_document("smollm2", "abc") == DOCUMENT
    assert panel.find_document("smollm2", "another") is None
    assert panel.find_document("../smollm2", "abc") is None


def _draw() -> None:
    from types import SimpleNamespace

    from cahp.features.peers import panel

    model = SimpleNamespace(id="smollm2", sha256="abc", identity="abc")
    panel.draw_peers(SimpleNamespace(document=SimpleNamespace(model=model)), None)  # type: ignore[arg-type]
    panel.draw_note(SimpleNamespace(card=model))  # type: ignore[arg-type]


def test_the_finding_is_said_first_and_the_table_has_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panel, "find_document", lambda *_: DOCUMENT)
    app = AppTest.from_function(_draw, default_timeout=60).run()
    assert not app.exception
    assert text_of(app, "subheader").endswith("18 of 90 groups removed save 20 % for 0.10 nats [0.090, 0.11]")
    assert len(app.dataframe[0].value) == 4
    # On Budget, in a sentence.
    assert (
        text_of(app, "caption")
        .splitlines()[-1]
        .startswith("A cache in 8 bits (simulated) is nearest to the full model at as few bytes: it saves 47 %")
    )
    monkeypatch.setattr(panel, "find_document", lambda *_: None)
    app = AppTest.from_function(_draw, default_timeout=60).run()
    assert "cahp experiment peers smollm2" in app.code[0].value
    assert "nearest to the full model" not in text_of(app, "caption", "subheader", "markdown")
