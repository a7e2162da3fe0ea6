"""Settings as they are written down mean the same when they are read again."""

from __future__ import annotations

import pytest

from cahp.run.settings import join_pairs


@pytest.mark.parametrize(
    ("pairs", "line"),
    [
        ({"neg": "bad", "pos": "good"}, "neg=bad,pos=good"),
        ({"a, b": "c"}, '"a, b=c"'),
        ({'say "a"': "c"}, '"say ""a""=c"'),
        ({}, ""),
    ],
)
def test_a_label_map_is_written_plainly_and_quoted_where_it_must_be(pairs: dict[str, str], line: str) -> None:
    assert join_pairs(pairs) == line
