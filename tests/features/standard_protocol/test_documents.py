"""What the documents of a text are: pages of WikiText, rows of a table, or the whole text."""

from __future__ import annotations

from pathlib import Path

import harness
import pytest

from cahp.data.parts import RunningText
from cahp.data.sources import find
from cahp.features.standard_protocol.documents import describe_form, join_rows, list_documents, write_as_usual


def text_of(*rows: str, name: str = "texts", of_lines: bool = False) -> RunningText:
    return RunningText(name, "test", rows, of_lines)


def test_wikitext_is_read_page_by_page_and_its_sections_stay_with_it() -> None:
    rows = (" \n", " = Mill = \n", " \n", " A mill . \n", " = = Wheel = = \n", " Old . \n", " = Sea = \n", " Wet . \n")
    text = text_of(*rows, of_lines=True)
    mill, sea = list_documents(text)
    assert describe_form(text) == "pages of WikiText"
    assert mill.text == " = Mill =\n\nA mill.\n== Wheel ==\nOld. "
    # Words and bytes are those of the page before, with an empty word at each end.
    page = " = Mill = \n \n A mill . \n = = Wheel = = \n Old . "
    assert (mill.words, mill.bytes) == (15, len(page))
    assert sea.text == " = Sea =\nWet.\n"


def test_empty_rows_of_the_published_table_are_lines_with_a_space() -> None:
    lines = harness.make_wikitext().splitlines(keepends=True)
    rows = [line * bool(line.strip()) for line in lines]
    assert [*list_documents(text_of(*rows))] == [*list_documents(text_of(*lines, of_lines=True))]
    pages = harness.split_pages(harness.make_wikitext())
    assert [document.bytes for document in list_documents(text_of(*rows))] == [len(page) for page in pages]


def test_other_texts_are_one_document_a_file_or_a_row() -> None:
    rows = ("One , two . \n", " \n", "Three.")
    (whole,) = list_documents(text_of(*rows, of_lines=True))
    assert (whole.text, whole.words) == ("".join(rows), 5)
    assert [document.text for document in list_documents(text_of(*rows))] == ["One , two . \n", "Three."]
    assert [document.text for document in list_documents(text_of("One , two .", name="c4"))] == ["One, two ."]


def test_the_guide_reads_rows_with_empty_lines_between_them() -> None:
    assert join_rows(text_of(" = A = \n", "", " b \n")) == " = A = \n\n\n\n\n b \n"
    assert join_rows(text_of("a\n", " \n", "b", of_lines=True)) == "a\n \nb"


@pytest.mark.parametrize(
    ("tokens", "usual"),
    [
        ("1 @,@ 000 @.@ 5 km @-@ long", "1,000.5 km-long"),
        ("a ( small ) [ old ] mill , { b } ; c : d ! e ? f", "a (small) [old] mill, {b}; c: d! e? f"),
        ('the mill \'s " wheel "', 'the mill\'s "wheel"'),
        ("20 ° C", "20°C"),
    ],
)
def test_tokenized_text_is_written_as_usual(tokens: str, usual: str) -> None:
    assert write_as_usual(tokens) == usual


def test_a_text_file_keeps_its_lines_and_a_table_its_order(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(b"\xef\xbb\xbfone\r\n\r\n two \r\n")
    assert find(str(tmp_path / "a.raw")).read_in_order("test").rows == ("one\n", "\n", " two \n")
    (tmp_path / "a.csv").write_text("text,label\nb,1\na,0\n,1\n")
    read = find(str(tmp_path / "a.csv")).read_in_order("test")
    assert (read.split, read.rows) == ("all", ("b", "a", ""))
