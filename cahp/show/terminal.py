"""Blocks as lines of a terminal: tables in columns, heads as a grid, and of charts their findings."""

from collections.abc import Iterable, Iterator, Sequence

from cahp.show.blocks import Block, Cell, Figure, Line, Marks, Table, Text
from cahp.values import Estimate


def lines(blocks: Iterable[Block], *, summary: bool = False) -> Iterator[str]:
    """Yield the lines of blocks, each indented by two; a ``summary`` has their findings and open tables only.

    A table with a header and the marks of heads have an empty line before them, unless they come first.
    """
    first = True
    for block in blocks:
        drawn = list(_draw(block, summary=summary))
        apart = isinstance(block, Marks) or (isinstance(block, Table) and any(block.columns))
        if drawn and apart and not first:
            yield ""
        if drawn:
            first = False
        yield from drawn


def _draw(block: Block, *, summary: bool) -> Iterator[str]:
    match block:
        case Line():
            yield f"  {block.text}"
        case Text() if not summary:
            yield f"  {block.text}"
        case Table() if block.rows and not (summary and block.closed):
            yield from _draw_table(block)
        case Marks() if not summary:
            numeric = [False, *[True] * block.groups.shape[1], *[False] * bool(block.ends)]
            yield from align([block.columns, *block.rows], numeric, gap=1)
            yield f"  {block.caption}"
        case Figure() if not summary:
            yield f"  {block.title}"


def _draw_table(table: Table) -> Iterator[str]:
    columns = list(table.columns)
    rows = table.texts
    if any(columns):
        if columns[0] and table.title:
            yield f"  {table.title}"
        elif not columns[0]:
            # The title stands over the names of the rows.
            columns[0] = table.title
        rows = [columns, *rows]
    numeric = [_is_numeric(cells) for cells in zip(*table.rows, strict=True)]
    yield from align(rows, numeric)


def _is_numeric(cells: Iterable[Cell]) -> bool:
    return any(isinstance(cell, int | Estimate) for cell in cells)


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
