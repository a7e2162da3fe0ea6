"""What is pinned of one model stands beside another, and a link brings it back; without a page."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import fakes
import pytest

pytest.importorskip("streamlit")

from cahp import access
from cahp.run.settings import Settings
from cahp.studies.versus import Variant
from cahp.ui.budget.pinned import LOOK_UP, VERSUS, _AgainstPinned, take_link
from cahp.ui.frame import address
from cahp.ui.session import opening
from cahp.ui.session.explorer import Explorer, Pin
from cahp.ui.session.opening import Source, look_up
from cahp.values import CahpError, HeadMask, MaskError

PATIENCE = 120.0
A, B = HeadMask.of([0, 5, 9, 11], 3, 4), HeadMask.of([0, 4, 9], 3, 4)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("two")
    fakes.save_model(folder / "first")
    fakes.save_model(folder / "second", seed=1)
    data = fakes.write_data(folder / "data")
    return Settings(model=str(folder / "first"), data=str(data), projection="pca", latency=False, device="cpu")


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
    model = weakref.ref(opening._models[first.card.sha256, "cpu"])
    opening._models.clear()
    gc.collect()
    assert model() is None
    explorer.close()


def test_other_evaluation_texts_are_another_comparison(first: Source) -> None:
    fewer = first.with_settings(replace(first.settings, eval_limit=20))
    one, other = (_AgainstPinned(source, pinned(first), Variant(B)) for source in (first, fewer))
    assert VERSUS.key(one) != VERSUS.key(other)


# Links --------------------------------------------------------------------------------------------------------------


def test_a_link_names_the_other_model_and_brings_its_pin_back(first: Source, second: Source) -> None:
    link = address.describe(explored(second, pinned(first, recover="refit")))
    assert link["model"] == second.settings.model
    assert link["pin-model"] == first.settings.model
    there = explored(second)
    address.restore(there, link)
    assert there.pinned is None
    assert address.describe(there) == link, "a reload before it is opened asks for the same"
    assert there.work.start(LOOK_UP, address.pin_settings(there.pin_asked)).wait(PATIENCE)
    take_link(there)
    assert there.pinned is not None
    assert str(there.pinned.variant) == str(Variant(A, "refit"))
    assert there.pinned.card.sha256 == first.card.sha256
    assert address.describe(there) == link
    # What was looked up is not looked up again by the same address.
    before = there.pinned
    address.restore(there, {**link, "budget": "5"})
    assert there.pinned is before


def test_a_pin_of_the_model_on_the_board_needs_no_model_in_the_link(first: Source, second: Source) -> None:
    assert set(address.describe(explored(first, pinned(first)))) >= {"pin"}
    assert "pin-model" not in address.describe(explored(first, pinned(first)))
    link = address.describe(explored(second, pinned(first)))
    # Whoever opens its model themselves needs nothing looked up.
    there = explored(first)
    address.restore(there, {name: link[name] for name in link if name.startswith("pin")})
    take_link(there)
    assert there.pinned is not None
    assert there.pinned.is_of(first.card)
    assert there.work.job(LOOK_UP) is None


def test_a_pin_that_is_too_long_for_a_link_stays_in_its_session(first: Source, second: Source) -> None:
    long = {f"label {number} {'x' * 60}": "good" for number in range(99)}
    pin = replace(pinned(first), settings=replace(first.settings, label_map=long))
    link = address.describe(explored(second, pin))
    assert not any(name.startswith("pin") for name in link)
    # A board that moves keeps it.
    there = explored(second, pin)
    address.restore(there, {**link, "budget": "5"})
    assert there.pinned is pin


def test_a_prompt_and_a_map_travel_with_the_pin(first: Source, second: Source) -> None:
    asked = {"prompt": "{text} it was", "answers": ("so, so", "great"), "label_map": {"a, b": "bad", "good": "good"}}
    pin = replace(pinned(first), settings=replace(first.settings, **asked))  # type: ignore[arg-type]
    link = address.describe(explored(second, pin))
    found = address.pin_settings({name: text for name, text in link.items() if name.startswith("pin")})
    assert {name: getattr(found, name) for name in asked} == asked
    assert found.data is None


@pytest.mark.parametrize(
    "said",
    [
        {"pin-model": "m" * 5000},
        {"pin-model": "minilm-bbc", "pin-prompt": "no place for a text", "pin-answers": "a,b"},
        {"pin-model": "minilm-bbc", "pin-answers": '"open'},
        {"pin-model": "minilm-bbc", "pin-label_map": "nonsense"},
        {"pin": "zz"},
        {"pin": "00"},
        {"pin": "ff" * 9999},
    ],
    ids=lambda said: str(said)[:60],
)
def test_what_has_no_sense_is_refused_in_a_sentence_and_pins_nothing(first: Source, said: dict[str, str]) -> None:
    there = explored(first)
    with pytest.raises(CahpError):
        address.restore(there, {"pin": address.mask_to_hex(A), **said})
    assert there.pinned is None
    assert not there.pin_asked


@pytest.mark.parametrize("model", ["/etc", "../..", "a\0b", "", "~", "org/name", "minilm-bbc/../.."])
def test_nothing_but_what_may_be_opened_is_looked_up(
    first: Source, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = explored(first)
    address.restore(there, {"pin": address.mask_to_hex(A), "pin-model": model})
    asked = address.pin_settings(there.pin_asked)
    with pytest.raises(CahpError):
        look_up(asked)
    monkeypatch.setattr(opening.access, "current", lambda: access.Access(public=True))
    with pytest.raises(access.AccessError, match="opens only built-in models"):
        look_up(asked)
    take_link(there)
    assert there.pinned is None
    assert there.pin_asked, "the address keeps what it asked for"


def test_a_mask_of_another_shape_than_its_model_is_refused(first: Source) -> None:
    with pytest.raises(MaskError, match="does not fit this model"):
        address.read_pin({"pin": "ffffff"}, first.settings, first.card)
    with pytest.raises(MaskError, match="would keep no head"):
        address.read_pin({"pin": address.mask_to_hex(HeadMask.of([0], 3, 4))}, first.settings, first.card)
    asked = address.pin_settings({"pin-model": first.settings.model})
    beside = address.read_pin(
        {"pin": address.mask_to_hex(HeadMask.of([0], 3, 4)), "pin-recover": "refit"}, asked, first.card
    )
    assert beside.variant.recover == "none", "a layer without heads cannot be refitted"
