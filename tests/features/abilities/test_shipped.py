"""The losses of a model with all its heads that ship, so that a receipt reads the items with the pruned one only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import copying
import numpy as np
import pytest

from cahp.api import bundled
from cahp.features.abilities import measuring
from cahp.features.abilities.measuring import (
    LOSSES_FILE,
    measure_abilities,
    measure_full_losses,
    pack_losses,
)
from cahp.features.abilities.record import AbilitiesRecord
from cahp.models.identity import identify
from cahp.run.resources import Resources
from cahp.store import Store
from cahp.tasks.texts import Texts
from cahp.values import HeadMask

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = Texts((), None, np.zeros(0, np.int64), ())


@pytest.fixture
def resources(tmp_path: Path) -> Resources:
    card = identify(str(copying.save_copying_model(tmp_path / "copying")))
    return Resources(card, store=Store(tmp_path / "cache"), device="cpu")


@pytest.fixture
def shipping(resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of the losses of the model."""
    monkeypatch.setattr(bundled, "RUNS", {resources.card.id: None})
    monkeypatch.setattr(bundled, "run_folder", lambda _: tmp_path)
    measuring._read_losses.cache_clear()
    losses = measure_full_losses(resources, TEXTS)
    arrays = pack_losses(resources.card, losses)
    with (tmp_path / LOSSES_FILE).open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    yield tmp_path / LOSSES_FILE
    measuring._read_losses.cache_clear()


def count_readings(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Note each reading of items from here on."""
    readings: list[object] = []
    read = measuring.read_items

    def noted(*given: object, **options: object) -> object:
        readings.append(given)
        return read(*given, **options)

    monkeypatch.setattr(measuring, "read_items", noted)
    return readings


def measure_full(resources: Resources) -> AbilitiesRecord:
    return measure_abilities(resources, TEXTS, HeadMask.full(resources.card.layers, resources.card.heads))


@pytest.mark.usefixtures("shipping")
def test_shipped_losses_are_not_measured_again(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = count_readings(monkeypatch)
    measured = measure_full(resources)
    assert readings == []
    assert any(row.full is not None for row in measured.rows)


@pytest.mark.usefixtures("shipping")
def test_without_the_cache_they_are_measured(
    resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = count_readings(monkeypatch)
    fresh = Resources(resources.card, store=Store(tmp_path / "cache", fresh=True), device="cpu")
    measure_full(fresh)
    assert readings


def test_losses_of_another_model_are_not_used(
    resources: Resources, shipping: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with np.load(shipping) as arrays:
        changed = {**arrays, "model": np.array("0" * 64)}
    with shipping.open("wb") as file:
        np.savez(file, allow_pickle=False, **changed)
    readings = count_readings(monkeypatch)
    measure_full(resources)
    assert readings
