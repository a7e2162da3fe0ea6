from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("streamlit", reason="the explorer's packages are not installed")

from cahp import bundled
from cahp.run.spelling import written
from cahp.ui.frame.address import Wish, asked, mask_from_hex, mask_to_hex
from cahp.values import HeadMask, MaskError, OptionError


def test_a_link_that_names_nothing_opens_the_default() -> None:
    assert asked({}) == (bundled.SETTINGS, None)


def test_a_link_to_what_is_built_in_opens_it_and_any_other_waits_for_a_persons_yes() -> None:
    default = bundled.SETTINGS.model
    assert asked({"model": default, "data": "bbc-news"})[1] is None
    assert asked({"model": "org/else"}) == (bundled.SETTINGS, Wish("org/else", None))
    assert asked({"data": "/etc"}) == (bundled.SETTINGS, Wish(default, "/etc"))
    assert asked({"model": "m" * 5000, "data": "d" * 5000})[1] == Wish("m" * 200, "d" * 200)


def test_a_link_asks_as_the_view_did() -> None:
    said = {"model": "org/lm", "data": "sst5", "prompt": '{text}\n"It" was', "answers": '"not bad, really",awful'}
    _, wish = asked(said)
    assert wish is not None
    assert wish.settings.prompt == said["prompt"]
    assert wish.settings.answers == ("not bad, really", "awful")
    assert written(wish.settings.answers) == said["answers"]
    _, half = asked({"model": "org/lm", "prompt": "It was", "answers": "bad,good"})
    assert half is not None
    with pytest.raises(OptionError, match=r"write {text} once"):
        _ = half.settings


@pytest.mark.parametrize("shape", [(6, 12), (1, 1), (3, 3), (32, 32)])
def test_a_mask_survives_its_address(shape: tuple[int, int]) -> None:
    keep = np.random.default_rng(0).random(shape) < 0.5
    assert (mask_from_hex(mask_to_hex(HeadMask(keep)), *shape).keep == keep).all()


@pytest.mark.parametrize("text", ["", "zz", "ff", "ff" * 3, "-1", "01ff"])
def test_an_address_of_another_mask_is_refused(text: str) -> None:
    with pytest.raises(MaskError, match="not one for this model"):
        mask_from_hex(text, 3, 3)


def test_a_mask_is_written_four_heads_a_digit() -> None:
    assert mask_to_hex(HeadMask.of([0, 5, 8], 3, 3)) == "8480"
