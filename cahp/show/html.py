"""Blocks as HTML of a report, which loads nothing: all text is escaped here, and charts are their findings."""

from collections.abc import Iterable, Iterator, Sequence

from cahp.show.blocks import Block, Figure, Line, Marks, Table, Text
from cahp.words import safe

#: Most characters of a word in a narrow column.
_LONGEST_WORD = 16


def draw(blocks: Iterable[Block]) -> Iterator[str]:
    """Yield the HTML of blocks."""
    for block in blocks:
        match block:
            case Line():
                yield f"<p><b>{safe(block.text)}.</b></p>"
            case Text():
                yield f"<p class=note>{safe(block.text)}</p>"
            case Table():
                yield table(block.title, block.columns, block.texts)
            case Marks():
                yield table(block.caption, block.columns, block.rows)
            case Figure():
                yield f"<p>{safe(block.title)}.</p>"


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of texts, the first cell of each row as its heading."""
    head = ""
    if any(columns):
        names = "".join(_draw_column(column) for column in columns)
        head = f"<thead><tr>{names}</tr></thead>"
    body = []
    for first, *others in rows:
        cells = "".join(f"<td{_breaks(cell)}>{safe(cell)}</td>" for cell in others)
        body.append(f"<tr><th scope=row{_breaks(first)}>{safe(first)}</th>{cells}</tr>")
    return f"<table><caption>{safe(caption)}</caption>{head}<tbody>{''.join(body)}</tbody></table>"


def _draw_column(name: str) -> str:
    if not name:
        return "<td></td>"
    return f"<th scope=col>{safe(name)}</th>"


def _breaks(text: str) -> str:
    """Return the class of a cell whose words may break, because one is longer than a column, such as a digest."""
    if any(len(word) > _LONGEST_WORD for word in text.split()):
        return " class=long"
    return ""
