"""Blocks as HTML of a report, which loads nothing: all text is escaped here, and charts are their findings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cahp.show.blocks import Block, Figure, Line, Marks, Table, Text
from cahp.words import safe


def draw(blocks: Iterable[Block]) -> Iterator[str]:
    """Yield the HTML of blocks."""
    for block in blocks:
        match block:
            case Line() if not block.detail:
                yield f"<p><b>{safe(block.text)}.</b></p>"
            case Text():
                yield f"<p class=note>{safe(block.text)}</p>"
            case Table():
                yield table(block.title, block.columns, block.texts)
            case Marks():
                yield _draw_marks(block)
            case Figure():
                yield f"<p>{safe(block.title)}.</p>"


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of texts, the first cell of each row as its heading."""
    head = "".join(f"<th scope=col>{safe(column)}</th>" for column in columns)
    body = []
    for first, *others in rows:
        cells = "".join(f"<td>{safe(cell)}</td>" for cell in others)
        body.append(f"<tr><th scope=row>{safe(first)}</th>{cells}</tr>")
    return (
        f"<table><caption>{safe(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    )


def _draw_marks(marks: Marks) -> str:
    layers, heads = marks.groups.shape
    rows = []
    for layer in range(layers):
        signs = [marks.signs[group] or "\N{EN DASH}" for group in marks.groups[layer]]
        rows.append([f"layer {layer}", *signs])
    named = [f"{sign}: {word}" for sign, word in zip(marks.signs, marks.words, strict=True) if sign]
    return table(f"{marks.legend} ({', '.join(named)})", ["", *map(str, range(heads))], rows)
