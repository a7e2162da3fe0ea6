from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cahp.api import bundled
from cahp.ui.frame.address import Wish, mask_from_hex, mask_to_hex, parse_head, read
from cahp.values import CahpError, HeadMask, MaskError
from cahp.values.statistics import called


@pytest.mark.parametrize(
    ("query", "changed"),
    [
        ({}, {}),
        ({"even": "True"}, {"even": True}),
        ({"even": "False"}, {}),
        ({"limit": "500", "projection": "pca"}, {"limit": 500, "projection": "pca"}),
        ({"unheard_of": "1"}, {}),
    ],
    ids=str,
)
def test_a_link_says_what_differs_from_the_default(query: dict[str, str], changed: dict[str, Any]) -> None:
    assert read(query) == (replace(bundled.SETTINGS, **changed), None)


def test_a_link_to_what_is_built_in_opens_it_and_any_other_waits_for_a_persons_yes() -> None:
    default = bundled.SETTINGS.model
    assert read({"model": default, "data": "bbc-news"}) == (bundled.SETTINGS, None)
    assert read({"model": "org/else"}) == (bundled.SETTINGS, Wish({"model": "org/else"}))
    assert read({"data": "/etc"}) == (bundled.SETTINGS, Wish({"model": default, "data": "/etc"}))


def test_a_link_says_how_its_data_are_read_and_waits_with_its_view() -> None:
    said = {
        "data": "/mine",
        "text_column": "question",
        "label_column": "kind",
        "splits": "a.csv=train,b.csv=validation",
        "label_map": '"yes, really=pos",no=neg',
        "budget": "30",
        "recover": "refit",
    }
    settings, wish = read(said)
    assert settings == bundled.SETTINGS
    assert (wish.settings.text_column, wish.settings.pair_column) == ("question", None)
    assert wish.settings.splits == {"a.csv": "train", "b.csv": "validation"}
    assert wish.settings.label_map == {"yes, really": "pos", "no": "neg"}
    assert wish.board == {"budget": "30", "recover": "refit"}
    _, files = read({"files": "0a1b2c3d", "text_column": "question"})
    assert files == Wish({"model": bundled.SETTINGS.model, "text_column": "question"}, "0a1b2c3d")


@pytest.mark.parametrize(
    "said",
    [{"limit": "many"}, {"limit": "1"}, {"projection": "magic"}, {"poly_degree": "-1"}, {"min_per_layer": "9" * 40}],
    ids=str,
)
def test_what_has_no_sense_in_a_link_is_refused_in_a_sentence(said: dict[str, str]) -> None:
    with pytest.raises(CahpError, match=r"number|range|unknown"):
        read(said)


@pytest.mark.parametrize("shape", [(6, 12), (1, 1), (3, 3), (32, 32)])
def test_a_mask_survives_its_address(shape: tuple[int, int]) -> None:
    keep = np.random.default_rng(0).random(shape) < 0.5
    assert (mask_from_hex(mask_to_hex(HeadMask(keep)), *shape).keep == keep).all()


@pytest.mark.parametrize("text", ["", "zz", "ff", "ff" * 3, "-1", "01ff"])
def test_an_address_of_another_mask_is_refused(text: str) -> None:
    with pytest.raises(MaskError, match="does not fit this model"):
        mask_from_hex(text, 3, 3)


@pytest.mark.parametrize(("text", "head"), [("3.7", 43), ("0.0", 0), ("5.11", 71), ("17", 17)])
def test_a_link_names_a_head_by_layer_and_place_or_by_its_index(text: str, head: int) -> None:
    assert parse_head(text, 6, 12) == head


@pytest.mark.parametrize("text", ["6.0", "0.12", "72", "", ".", "1.2.3", "-1", "1e3", "٣", "1." + "9" * 9])
def test_what_is_no_head_is_none(text: str) -> None:
    assert parse_head(text, 6, 12) is None


def test_every_head_is_found_by_what_it_is_called() -> None:
    assert [parse_head(called(head, 12), 6, 12) for head in range(72)] == list(range(72))
