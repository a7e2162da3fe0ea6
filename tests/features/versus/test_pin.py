"""What is pinned of one model stands beside another, and a link to its model brings it back; without a page."""

import gc
import weakref
from dataclasses import replace

import fakes
import pytest
from apps import done

from cahp.board.versus import Variant
from cahp.features.versus import VERSUS, _AgainstPinned
from cahp.ui.frame import address
from cahp.ui.session import opening
from cahp.ui.session.explorer import Explorer, Pin
from cahp.ui.session.opening import Source
from cahp.values import HeadMask

A, B = HeadMask.of([0, 5, 9, 11], 3, 4), HeadMask.of([0, 4, 9], 3, 4)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, Source]:
    """Two models with the same data."""
    folder = tmp_path_factory.mktemp("two")
    settings = fakes.quick_task(folder)
    other = fakes.save_model(folder / "other", seed=1)
    return Source.open(settings), Source.open(replace(settings, model=str(other)))


@pytest.fixture
def pin(sources: tuple[Source, Source]) -> Pin:
    """A mask of the first model."""
    first, _ = sources
    return Pin(Variant(A), first.card, first.settings)


@pytest.fixture
def explorer(sources: tuple[Source, Source], pin: Pin) -> Explorer:
    """What is explored is the second model."""
    _, second = sources
    made = Explorer("somebody", second)
    made.pinned = pin
    return made


def test_a_pin_stands_on_the_board_s_bench_where_it_is_of_that_model(sources: tuple[Source, Source], pin: Pin) -> None:
    first, second = sources
    assert pin.bench(first) is first.bench
    other = pin.bench(second)
    assert (other.card, other.dataset.id) == (first.card, second.bench.dataset.id)
    assert other.evaluation.sha256 == second.bench.evaluation.sha256


def test_a_compared_model_goes_with_its_last_user(sources: tuple[Source, Source], pin: Pin, explorer: Explorer) -> None:
    done(explorer.work.start(VERSUS, _AgainstPinned(sources[1], pin, Variant(B))))
    # Both were read by way of what all sessions share.
    model = weakref.ref(opening._used[pin.card.sha256, "cpu"])
    opening._recent.clear()
    gc.collect()
    assert model() is None
    explorer.close()


def test_a_pin_of_another_model_is_in_no_link_and_stays_in_its_session(explorer: Explorer, pin: Pin) -> None:
    link = address.describe(explorer)
    assert not any(name.startswith("pin") for name in link)
    # A board that moves keeps it.
    address.restore(explorer, {**link, "budget": "5"})
    assert explorer.pinned is pin
