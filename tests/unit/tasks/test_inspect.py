"""What a model is said to need before it is used."""

from __future__ import annotations

from pathlib import Path

import fakes
import pytest

from cahp import models
from cahp.tasks import inspect as preflight
from cahp.values import ModelCard, ModelError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.save_model(tmp_path_factory.mktemp("models") / "tiny")


def card(*, layers: int, hidden: int, labels: int = 2, bytes_: int = 0) -> ModelCard:
    names = tuple(str(index) for index in range(labels))
    details = {"bytes": bytes_, "parameters": bytes_ // 4}
    return ModelCard("m", None, "bert", layers, 12, hidden // 12, hidden, names, "", "", details=details)


def test_a_supported_model_is_described_without_reading_its_weights(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "load", lambda *_, **__: pytest.fail("the weights were read"))
    found = preflight.look(str(model))
    assert (found["layers"], found["heads"], found["family"]) == (3, 4, "bert")
    assert found["labels"] == ["bad", "good"]
    said = "\n".join(preflight.words(found))
    assert "tiny: supported (bert)" in said
    assert "3 layers x 4 = 12" in said
    assert "bad, good" in said


def test_a_plain_encoder_is_pointed_to_fit() -> None:
    assert "cahp fit" in "\n".join(preflight.words(preflight.look("minilm")))


def test_an_unsupported_model_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(ModelError, match="t5"):
        preflight.look(str(tmp_path))


def test_the_built_ins_are_listed_whether_or_not_their_package_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(one["available"] for one in preflight.builtins())
    monkeypatch.setattr("cahp.models.identity.ENCODER_PACKAGE", "no_such_package")
    assert [one["available"] for one in preflight.builtins()] == [False] * len(models.BUILTINS)


def test_time_grows_with_the_weights_of_the_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    # A machine of 1.5 * 2 operations a second does one weight and token a second.
    monkeypatch.setattr(preflight, "_speed", lambda: 3.0)
    assert preflight.expected_seconds(card(layers=1, hidden=12), tokens=1) == 12 * 12**2
    assert preflight.expected_seconds(card(layers=2, hidden=12), tokens=5) == 10 * 12 * 12**2


def test_the_speed_of_this_machine_is_that_of_a_machine() -> None:
    # Between a pocket calculator's and a supercomputer's.
    assert 1e6 < preflight._speed() < 1e17


def test_the_speed_of_this_machine_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    preflight._speed()
    monkeypatch.setattr(preflight, "_seconds", lambda _: pytest.fail("measured again"))
    first, second = (preflight.expected_seconds(card(layers=1, hidden=12)) for _ in range(2))
    assert first == second


def test_memory_holds_the_weights_and_the_statistics_of_every_class() -> None:
    small, large, many = (
        preflight._memory(card(layers=6, hidden=384, labels=labels), size)
        for size, labels in ((0, 2), (1 << 30, 2), (0, 77))
    )
    assert large - small == 1 << 30
    # Two moments in float64, and as much again, for 32 x 32 cells of 72 heads and 75 more classes.
    assert many - small == 75 * 72 * 1024 * 8 * 4
