"""Opening a model and data: what is built in is the same for all sessions, what somebody brings is theirs."""

import gc
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from weakref import WeakValueDictionary

import pytest

from cahp import data, models
from cahp.api import bundled
from cahp.ui.session import opening
from cahp.ui.session.opening import Source, Upload


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Nothing was read so far; how often the built-in model and texts are read from now on."""
    read = {"model": 0, "texts": 0}
    identify, load = models.identify, data.load

    def identified(name: str) -> models.ModelCard:
        read["model"] += 1
        return identify(name)

    def loaded(name: str, **columns: object) -> data.Dataset:
        read["texts"] += 1
        return load(name, **columns)  # type: ignore[arg-type]

    opening._builtin_card.cache_clear()
    opening._builtin_texts.cache_clear()
    monkeypatch.setattr(models, "identify", identified)
    monkeypatch.setattr(data, "load", loaded)
    return read


def test_eight_who_come_at_once_read_the_built_in_model_and_texts_once(anew: dict[str, int]) -> None:
    with ThreadPoolExecutor(8) as people:
        opened = list(people.map(Source.open, [bundled.SETTINGS] * 8))
    assert anew == {"model": 1, "texts": 1}
    assert len({id(source.card) for source in opened}) == len({id(source.raw) for source in opened}) == 1
    assert len({id(source.bench) for source in opened}) == 8


def test_a_file_of_somebody_s_own_is_read_for_them_alone(anew: dict[str, int]) -> None:
    classes = Source.open(bundled.SETTINGS).card.labels
    rows = "\n".join(f"text number {row},{classes[row % len(classes)]}" for row in range(100))
    mine = Upload({"mine.csv": f"text,label\n{rows}\n".encode()})
    settings = replace(bundled.SETTINGS, data="mine.csv")
    first, second = Source.open(settings, mine), Source.open(settings, mine)
    assert first.raw is not second.raw
    assert first.raw.splits["train"].first[0].startswith("text number")
    # They are read as far as the model can, however far the bundled run reads.
    assert first.settings.max_length is None
    assert Source.open(bundled.SETTINGS).raw.id == data.sources.BBC_NEWS
    assert anew["texts"] == 1, "the built-in ones, once"


def test_a_model_that_somebody_still_uses_is_not_loaded_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    class Loaded:
        """A model."""

    def load(card: Any, *, device: str) -> Loaded:
        loaded.append(card.sha256)
        return Loaded()

    monkeypatch.setattr(models, "load", load)
    monkeypatch.setattr(opening, "_recent", deque(maxlen=2))
    monkeypatch.setattr(opening, "_used", WeakValueDictionary())
    cards: list[Any] = [SimpleNamespace(sha256=name) for name in "abc"]
    in_use = [opening.shared_model(card, device="cpu") for card in [*cards, *cards]]
    assert loaded == ["a", "b", "c"]
    assert in_use[:3] == in_use[3:]
    # The last two stay when all sessions are closed.
    in_use.clear()
    gc.collect()
    for card in cards[1:]:
        opening.shared_model(card, device="cpu")
    assert loaded == ["a", "b", "c"]
    assert not opening.is_loaded(cards[0], device="cpu")
