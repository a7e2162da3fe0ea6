"""What is pinned of one model stands beside another, and a link to its model brings it back; without a page."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import fakes
import pytest

from cahp.board.versus import Variant
from cahp.features.versus import VERSUS, _AgainstPinned
from cahp.run.settings import Settings
from cahp.ui.frame import address
from cahp.ui.session import opening
from cahp.ui.session.explorer import Explorer, Pin
from cahp.ui.session.opening import Source
from cahp.values import HeadMask, MaskError

PATIENCE = 120.0
A, B = HeadMask.of([0, 5, 9, 11], 3, 4), HeadMask.of([0, 4, 9], 3, 4)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("two")
    fakes.save_model(folder / "first")
    fakes.save_model(folder / "second", seed=1)
    return fakes.quick(folder / "first", fakes.write_data(folder / "data"))


@pytest.fixture(scope="module")
def first(settings: Settings) -> Source:
    return Source.open(settings)


@pytest.fixture(scope="module")
def second(settings: Settings) -> Source:
    return Source.open(replace(settings, model=str(Path(settings.model).parent / "second")))


def pinned(source: Source, mask: HeadMask = A, **said: str) -> Pin:
    return Pin(Variant(mask, **said), source.card, source.settings)  # type: ignore[arg-type]


def explored(source: Source, pin: Pin | None = None) -> Explorer:
    explorer = Explorer("somebody", source)
    explorer.pinned = pin
    return explorer


def test_a_pin_stands_on_the_board_s_bench_where_it_is_of_that_model(first: Source, second: Source) -> None:
    assert pinned(first).bench(first) is first.bench
    other = pinned(first).bench(second)
    assert (other.card, other.dataset.id) == (first.card, second.bench.dataset.id)
    assert other.evaluation.sha256 == second.bench.evaluation.sha256


def test_a_compared_model_is_gone_once_nobody_shares_it(first: Source, second: Source) -> None:
    explorer = explored(second, pinned(first))
    assert explorer.pinned is not None
    job = explorer.work.start(VERSUS, _AgainstPinned(second, explorer.pinned, Variant(B)))
    assert job.wait(PATIENCE)
    assert job.error is None
    assert job.result is not None
    # Both were read by way of what all sessions share.
    model = weakref.ref(opening._used[first.card.sha256, "cpu"])
    opening._recent.clear()
    gc.collect()
    assert model() is None
    explorer.close()


def test_a_pin_of_another_model_is_in_no_link_and_stays_in_its_session(first: Source, second: Source) -> None:
    pin = pinned(first)
    there = explored(second, pin)
    link = address.describe(there)
    assert not any(name.startswith("pin") for name in link)
    # A board that moves keeps it.
    address.restore(there, {**link, "budget": "5"})
    assert there.pinned is pin


@pytest.mark.parametrize("said", ["zz", "00", "ffffff", "ff" * 9999], ids=lambda said: said[:8])
def test_a_mask_that_does_not_fit_pins_nothing(first: Source, said: str) -> None:
    there = explored(first)
    with pytest.raises(MaskError):
        address.restore(there, {"pin": said})
    assert there.pinned is None
