"""The words of a text that three models continue."""

from __future__ import annotations

import pytest

from cahp.features.own_text.continuation import Continuation, Tokens
from cahp.features.own_text.continued import describe, mark

LABELS = {"full": "all 9 heads", "pruned": "4 as pruned", "recovered": "4 refitted"}


def continuation(pruned: str, recovered: str) -> Continuation:
    return Continuation.of("", *(Tokens(tuple(map(ord, text)), tuple(text)) for text in ("abcd", pruned, recovered)))


@pytest.mark.parametrize(
    ("pruned", "recovered", "said"),
    [
        ("abxd", "abcy", "The continuation changes at token 3 with 4 as pruned, at token 4 with 4 refitted"),
        ("abxd", "abcd", "The continuation changes at token 3 with 4 as pruned, not with 4 refitted"),
        ("abcd", "abcd", "All 4 tokens stay the same with 4 as pruned and 4 refitted"),
        # Nothing is claimed of tokens that are not written yet.
        ("abx", "", "The continuation changes at token 3 with 4 as pruned"),
        ("ab", "", "Continuing: 0 of 4 tokens"),
    ],
)
def test_the_finding_names_the_first_token_that_differs(pruned: str, recovered: str, said: str) -> None:
    assert describe(continuation(pruned, recovered), LABELS, of=4) == said


def test_a_model_with_all_heads_is_alone() -> None:
    alone = Continuation.of("", Tokens((1,), ("a",)), Tokens(), None)
    assert describe(alone, {"full": "all 9 heads"}, of=1) == "1 tokens by all 9 heads"


def test_written_tokens_are_no_markup() -> None:
    assert mark((" <b>", "[x](y)", "\n"), None) == r" \<b\>\[x\]\(y\) ⏎ "
    assert mark((" a", " *b*", " c"), 1) == r" a :orange-background[**▸\*b\***] c"
    assert mark(("a ", "b", "c"), 1) == "a :orange-background[**▸b**]c"
    assert mark(("a", " ", " c"), 1) == "a :orange-background[**▸␣**] c"
