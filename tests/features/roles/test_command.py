"""``cahp roles`` as its users meet it."""

from __future__ import annotations

from pathlib import Path

import copying
import pytest
from terminal import call

import cahp
from cahp.stages import roles as stage

pytestmark = pytest.mark.usefixtures("one_thread")


def test_roles_prints_a_grid_with_evidence_and_its_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = copying.save_copying_model(tmp_path / "model")
    answer = call("roles", model, "--device", "cpu", "--json")
    assert (answer.code, answer.err) == (0, "")
    assert answer.document["names"] == [["previous", "first"], ["induction", "none"]]
    assert answer.document["ablations"] is None
    assert answer.document["thresholds"]["heads"]["induction"] == [1] * 6
    monkeypatch.setattr(stage, "measure_roles", lambda *_, **__: pytest.fail("measured again"))
    lines = call("roles", model, "--device", "cpu", "--ablate").out.splitlines()
    assert lines[0].startswith("  3 of 4 heads have a role")
    assert lines[3].split() == ["0", "prev", "1st"]
    scores, ablation = [line for line in lines if line.startswith("  induction ")]
    assert scores.split()[-6:] == ["1", "1*", "1", "1", "1", "1"]
    # One of the two heads of its layer: every second set is its own.
    assert "1 of 1, 2 ways  " in ablation
    assert "  not significant, p = " in ablation
    again = cahp.roles(model, device="cpu")
    assert again.names == copying.ROLES
    assert repr(again) == "2 x 2 heads: 1 induction, 1 previous token, 1 first token, 1 no role"
