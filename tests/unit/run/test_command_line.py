"""Settings as they are written down mean the same when they are read again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cahp.data import parse_label_map
from cahp.run.command_line import flags, join_pairs, to_arguments, to_text
from cahp.run.settings import Settings

PRUNE, EVALUATE = flags("prune"), flags("evaluate")
#: Labels that an option can name: a map has no place for "=", and blanks around a label are none of its own.
LABELS = st.text(min_size=1, max_size=8).filter(lambda name: "=" not in name and name == name.strip() and name)
AWKWARD = st.sampled_from(['"', '"a', 'a"', "a,b", "a b", "'", "\\", "a\nb", "a\r\nb", ",", "-", "ä"])


def test_what_is_as_usual_goes_without_saying() -> None:
    assert to_arguments(Settings(), PRUNE) == []
    asked = Settings(budget="5", pool_size=8, eval_limit=20)
    assert to_arguments(asked, PRUNE) == ["--eval-limit", "20", "--budget", "5", "--pool-size", "8"]
    # An evaluation has no budget, and one purpose for its texts.
    assert to_arguments(asked, EVALUATE) == ["--limit", "20"]


@given(st.dictionaries(LABELS | AWKWARD, LABELS | AWKWARD, min_size=1, max_size=4))
def test_a_label_map_is_read_as_it_was_meant(pairs: dict[str, str]) -> None:
    assert parse_label_map(join_pairs(pairs)) == pairs
    assert to_text(pairs) == join_pairs(pairs)


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
