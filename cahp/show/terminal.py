"""Blocks as lines of a terminal: tables in columns, heads as a grid; charts are left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cahp.show.blocks import Block, Figure, Line, Marks, Table, Text

#: A head without a sign.
_NONE = "·"


def lines(blocks: Iterable[Block], *, summary: bool = False) -> Iterator[str]:
    """Yield the lines of blocks, each indented by two; a ``summary`` has their findings and open tables only."""
    for block in blocks:
        match block:
            case Line():
                yield f"  {block.text}"
            case Text() if not summary:
                yield f"  {block.text}"
            case Table() if not (summary and block.closed):
                yield from _draw_table(block)
            case Marks() if not summary:
                yield from _draw_marks(block)
            case Figure():
                # A terminal has no charts; their findings stand in lines.
                continue


def _draw_table(table: Table) -> Iterator[str]:
    if table.title:
        yield f"  {table.title}"
    yield from align([table.columns, *table.texts])


def align(rows: Sequence[Sequence[str]], *, gap: int = 2) -> Iterator[str]:
    """Yield the rows of a table in columns as wide as their widest cell: the first on the left, others on the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = [f"  {first:<{widths[0]}}"]
        cells += [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
        yield (" " * gap).join(cells).rstrip()


def _draw_marks(marks: Marks) -> Iterator[str]:
    layers, heads = marks.groups.shape
    names = [str(head) for head in range(heads)]
    rows = [["layer", *names]]
    for layer in range(layers):
        signs = [marks.signs[group] or _NONE for group in marks.groups[layer]]
        rows.append([str(layer), *signs])
    yield from align(rows, gap=1)
    named = [f"{sign} {word}" for sign, word in zip(marks.signs, marks.words, strict=True) if sign]
    yield f"  {marks.legend}: {', '.join(named)}; {_NONE} none"
