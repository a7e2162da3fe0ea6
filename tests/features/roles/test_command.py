"""``cahp roles`` as its users meet it."""

from __future__ import annotations

from pathlib import Path

import copying
import pytest
from terminal import call, refused

import cahp
from cahp.stages import roles as stage

pytestmark = pytest.mark.usefixtures("one_thread")


def test_roles_prints_a_grid_with_evidence_and_its_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = copying.save_copying_model(tmp_path / "model")
    answer = call("roles", model, "--device", "cpu", "--json")
    assert (answer.code, answer.err) == (0, "")
    assert answer.document["names"] == [["previous", "first"], ["induction", "none"]]
    assert answer.document["ablations"] is None
    monkeypatch.setattr(stage, "measure_roles", lambda *_, **__: pytest.fail("measured again"))
    lines = call("roles", model, "--device", "cpu", "--ablate").out.splitlines()
    assert lines[0].endswith("3 of 4 heads have a role; without one: 1")
    assert lines[3].split() == ["0", "prev", "1st"]
    assert any("induction head the copying loss rises by 5.687" in line and "; confirmed" in line for line in lines)
    again = cahp.roles(model, device="cpu")
    assert again.names == copying.ROLES
    assert repr(again) == "2 x 2 heads: 1 induction, 1 previous token, 1 first token, 1 no role"


def test_roles_of_an_unknown_model_are_refused_in_one_line() -> None:
    assert "no-such-model" in refused(call("roles", "no-such-model"))
