from __future__ import annotations

import pytest

pytest.importorskip("streamlit", reason="the explorer's packages are not installed")

from cahp.ui.parts.text import plain


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("[x](http://a) ![y](b)", r"\[x\]\(http\://a\) \!\[y\]\(b\)"),
        ("<b>:smile:</b> $x$", r"\<b\>\:smile\:\</b\> \$x\$"),
        ("one\n# two\n\n- three", r"one \# two \- three"),
        ("all right", "all right"),
    ],
)
def test_what_a_person_typed_is_no_markup_in_a_sentence(typed: str, shown: str) -> None:
    assert plain(typed) == shown
