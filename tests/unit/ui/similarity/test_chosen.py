from __future__ import annotations

import pytest

from cahp.ui.frame.address import parse_head
from cahp.values.statistics import called


@pytest.mark.parametrize(
    ("text", "head"),
    [
        ("3.7", 43),
        ("0.0", 0),
        ("5.11", 71),
        ("17", 17),
        ("6.0", None),
        ("0.12", None),
        ("72", None),
        ("", None),
        (".", None),
        ("1.2.3", None),
        ("-1", None),
        ("1e3", None),
        ("٣", None),
        ("1." + "9" * 9, None),
    ],
)
def test_a_link_names_a_head_by_layer_and_place_or_by_its_index(text: str, head: int | None) -> None:
    assert parse_head(text, 6, 12) == head


def test_every_head_is_found_by_what_it_is_called() -> None:
    assert [parse_head(called(head, 12), 6, 12) for head in range(72)] == list(range(72))
