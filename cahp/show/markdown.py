"""Blocks as Markdown of a model card; text is escaped, since names of classes come from data."""

from collections.abc import Iterable, Iterator, Sequence

from cahp.show.blocks import Block, Line, Table, Text
from cahp.words import printable, safe


def draw(blocks: Iterable[Block]) -> Iterator[str]:
    """Yield the lines of blocks; marks of heads and charts are left out."""
    for block in blocks:
        match block:
            case Line():
                yield f"{escape(block.text)}."
                yield ""
            case Text():
                yield escape(block.text)
                yield ""
            case Table():
                if block.title:
                    yield f"{escape(block.title)}:"
                    yield ""
                yield from table(block.columns, block.texts)
                yield ""


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table of texts."""
    yield f"| {' | '.join(map(escape, columns))} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(map(escape, row))} |"


def escape(text: str) -> str:
    """Return a text on one line, without HTML and without the bars of a table."""
    return safe(printable(text)).replace("|", "\\|")
