from __future__ import annotations

import pytest

from cahp.figures.marks import label


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("<b>x</b>", "&lt;b&gt;x&lt;/b&gt;"),
        ('<a href="javascript:alert(1)">', '&lt;a href="javascript:ale…'),
        ("a&amp;b", "a&amp;amp;b"),
        ("$x$", "＄x＄"),
        ("a\u202eb\x00c", "a·b·c"),
        ("😀 مرحبا", "😀 مرحبا"),
        ("", ""),
    ],
)
def test_what_a_person_typed_is_no_markup_in_a_label(typed: str, shown: str) -> None:
    assert label(typed) == shown
