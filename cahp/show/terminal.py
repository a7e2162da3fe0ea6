"""Blocks as lines of a terminal: tables in columns, heads as a grid, and of charts their findings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cahp.show.blocks import Block, Cell, Figure, Line, Marks, Table, Text

#: A head without a sign.
_NONE = "·"


def lines(blocks: Iterable[Block], *, summary: bool = False) -> Iterator[str]:
    """Yield the lines of blocks, each indented by two; a ``summary`` has their findings and open tables only."""
    for block in blocks:
        match block:
            case Line() if summary or not block.detail:
                yield f"  {block.text}"
            case Text() if not summary:
                yield f"  {block.text}"
            case Table() if not (summary and block.closed):
                yield from _draw_table(block)
            case Marks() if not summary:
                yield from _draw_marks(block)
            case Figure() if not summary:
                yield f"  {block.title}"


def _draw_table(table: Table) -> Iterator[str]:
    if table.title:
        yield f"  {table.title}"
    numeric = [_is_numeric(cells) for cells in zip(*table.rows, strict=True)]
    yield from align([table.columns, *table.texts], numeric)


def _is_numeric(cells: Iterable[Cell]) -> bool:
    return not any(isinstance(cell, str) and cell for cell in cells)


def align(rows: Sequence[Sequence[str]], numeric: Sequence[bool], *, gap: int = 2) -> Iterator[str]:
    """Yield the rows of a table in columns as wide as their widest cell; those of numbers are aligned on the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = []
        for cell, width, right in zip(row, widths, numeric, strict=True):
            if right:
                cells.append(cell.rjust(width))
            else:
                cells.append(cell.ljust(width))
        yield f"  {(' ' * gap).join(cells)}".rstrip()


def _draw_marks(marks: Marks) -> Iterator[str]:
    layers, heads = marks.groups.shape
    names = [str(head) for head in range(heads)]
    rows = [["layer", *names]]
    for layer in range(layers):
        signs = [marks.signs[group] or _NONE for group in marks.groups[layer]]
        rows.append([str(layer), *signs])
    yield from align(rows, [False, *[True] * heads], gap=1)
    named = [f"{sign} {word}" for sign, word in zip(marks.signs, marks.words, strict=True) if sign]
    yield f"  {marks.legend}: {', '.join(named)}; {_NONE} none"
