"""The documents of a text, as lm-evaluation-harness and the guide of transformers read them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cahp.data.parts import RunningText

#: The data whose documents the harness cleans as it cleans WikiText.
_CLEANED = ("c4",)

#: How the harness writes tokenized text as usual text, in this order.
_REPLACED = (
    ("s '", "s'"),
    *((f" @{mark}@ ", mark) for mark in "-,."),
    *((f" {mark} ", f"{mark} ") for mark in ":;.!?,"),
)
_TRIMMED = tuple(
    re.compile(rf"({left})\s*([^{right}]*?)\s*({right})")
    for left, right in ((r"\(", r"\)"), (r"\[", r"\]"), ("{", "}"), ('"', '"'), ("'", "'"))
)
_REPLACED_LAST = (
    ("= = = =", "===="),
    ("= = =", "==="),
    ("= =", "=="),
    (" ° ", "°"),
    (" \n", "\n"),
    ("\n ", "\n"),
    (" N ", " 1 "),
    (" 's", "'s"),
)


@dataclass(frozen=True)
class Document:
    """A document: the ``text`` that a model predicts, and the ``words`` and ``bytes`` of the original."""

    text: str
    words: int
    bytes: int


def describe_form(text: RunningText) -> str:
    """Describe what a document is: a page of WikiText, a row of a table, or the whole text."""
    if _is_wikitext(text.rows):
        return "pages of WikiText"
    if text.of_lines:
        return "the whole text"
    return "rows"


def list_documents(text: RunningText) -> Iterator[Document]:
    """Yield the documents that lm-evaluation-harness evaluates: of WikiText its pages, of a table its rows.

    Any other text file is one document. Pages of WikiText and rows of C4 are written as usual text; their words and
    bytes are counted before that.
    """
    cleaned = text.id in _CLEANED
    originals: Iterable[str] = text.rows
    if _is_wikitext(text.rows):
        cleaned = True
        originals = _split_pages(text.rows)
    elif text.of_lines:
        originals = ["".join(text.rows)]
    for original in originals:
        if not original.strip():
            continue
        shown = original
        if cleaned:
            shown = write_as_usual(original)
        yield Document(shown, len(re.split(r"\s+", original)), len(original.encode()))


def join_rows(text: RunningText) -> str:
    """Join a text as the guide of transformers does: rows, and lines of WikiText, with empty lines between them."""
    if text.of_lines and not _is_wikitext(text.rows):
        return "".join(text.rows)
    # Lines with a space only are empty rows of the published table.
    rows = list(text.rows)
    for number, row in enumerate(rows):
        if not row.strip():
            rows[number] = ""
    return "\n\n".join(rows)


def write_as_usual(text: str) -> str:
    """Write tokenized text as usual text: ``1 @,@ 000 , ( and )`` becomes ``1,000, (and)``."""
    for tokens, usual in _REPLACED:
        text = text.replace(tokens, usual)
    for pattern in _TRIMMED:
        text = pattern.sub(r"\1\2\3", text)
    for tokens, usual in _REPLACED_LAST:
        text = text.replace(tokens, usual)
    return text


def _is_wikitext(rows: Sequence[str]) -> bool:
    """Whether the first row with text is the title of an article."""
    first = next((row for row in rows if row.strip()), "")
    return _is_title(first)


def _is_title(line: str) -> bool:
    """Whether a line is the title of an article, ``= Title =``; those of sections have ``= = Title = =``."""
    line = line.strip().replace("= = =", "===").replace("= =", "==")
    return line.startswith("= ") and line.endswith(" =")


def _split_pages(rows: Iterable[str]) -> Iterator[str]:
    """Yield the pages of WikiText, each with its title; an empty row of a table stands for a line with a space."""
    lines = "".join(row or " \n" for row in rows).split("\n")
    page: list[str] = []
    for line in lines:
        if _is_title(line):
            yield "\n".join(page)
            page = []
        page.append(line)
    yield "\n".join(page)
