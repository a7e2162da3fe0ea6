from __future__ import annotations

import pytest

pytest.importorskip("streamlit", reason="the explorer's packages are not installed")

from cahp.ui.parts.inputs import has_words, load_examples
from cahp.values import Input


@pytest.mark.parametrize(
    ("text", "some"),
    [("x", True), ("", False), (" \n\t", False), (("a", "b"), True), (("a", " "), False), (("", "b"), False)],
)
def test_a_pair_has_words_only_if_both_of_its_parts_have(text: Input, some: bool) -> None:
    assert has_words(text) is some


def test_every_box_has_an_example_to_begin_with() -> None:
    assert all(example["text"].strip() and example["name"] for example in load_examples("single"))
    assert all(has_words((example["first"], example["second"])) for example in load_examples("pairs"))
    assert min(len(load_examples("single")), len(load_examples("pairs"))) >= 4
