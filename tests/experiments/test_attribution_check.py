from pathlib import Path

import attribution_check
import fakes
import msgspec
import numpy as np
import pytest
from _attribution_check import AttributionCheck
from attribution_check import check_text, correlate
from terminal import call

from cahp.features.attribution.measuring import TextQuestion, draw_sets, measure_baseline
from cahp.models.head_model import HeadModel
from cahp.values import HeadMask

pytestmark = pytest.mark.usefixtures("one_thread")

TEXT = "the film was great and very long"


def test_a_text_is_checked_against_the_removal_of_each_head(model: HeadModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribution_check, "REMOVED", (2, 20))
    monkeypatch.setattr(attribution_check, "KEPT", (3,))
    question = TextQuestion.read(model, TEXT, measure_baseline(model, ["a dull plot"], data="others"))
    check = check_text(question, seed=7)
    changes, logs = question.estimate(None)
    answer = int(logs.argmax())
    exact = [question.remove([HeadMask.without([head], 3, 4).keep], answer)[0][0] - logs[answer] for head in range(12)]
    assert check.correlation == pytest.approx(correlate(changes.ravel(), np.array(exact)), abs=1e-3)
    order = np.argsort(changes, axis=None, kind="stable")
    # Twenty heads are more than there are.
    (removed,) = check.removed
    together, _ = question.remove([HeadMask.without(order[:2], 3, 4).keep], answer)
    assert removed.top == pytest.approx(together[0] - logs[answer], abs=1e-3)
    first = draw_sets(12, 2, seed=7)[0]
    random, _ = question.remove([HeadMask.without(first, 3, 4).keep], answer)
    assert removed.random[0] == pytest.approx(random[0] - logs[answer], abs=1e-3)
    assert [row.size for row in check.kept] == [3, 6]
    _, predictions = question.remove([HeadMask.of(order[:3], 3, 4).keep], answer)
    assert check.kept[0].top == (predictions[0] == answer)
    largest = np.argsort(-np.abs(changes), axis=None, kind="stable")
    _, predictions = question.remove([HeadMask.of(largest[:3], 3, 4).keep], answer)
    assert check.kept[0].largest == (predictions[0] == answer)
    ten = set(np.argsort(exact)[:10].tolist())
    assert check.overlap == len(ten & set(order[:10].tolist())) / 10


def test_the_command_prints_the_check(tmp_path: Path) -> None:
    model = fakes.save_model(tmp_path / "model")
    given = ["--data", fakes.write_data(tmp_path / "data"), "--device", "cpu", "--texts", 2]
    lines = call("experiment", "attribution_check", model, *given, "--out", tmp_path / "check.json").out.splitlines()
    assert lines[0].startswith("rank correlation of attribution with exact removal of each of 12 heads of ")
    written = msgspec.json.decode((tmp_path / "check.json").read_bytes(), type=AttributionCheck)
    assert [len(written.texts), written.units] == [2, 12]
