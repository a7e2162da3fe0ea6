"""Blocks: what a result says, before a terminal, a page or a file shows it.

A result yields its blocks once; ``terminal``, ``html`` and ``markdown`` beside this file, and ``cahp.ui.parts.blocks``
for the explorer, draw all of them. The first ``Line`` of a result is its finding: it stands alone where there is room
for one sentence.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cahp.values import Estimate, Ints

#: A cell of a table: a measured value shows its unit and interval, a count its thousands; None is not measured.
Cell = str | int | Estimate | None
#: Values by the name of their column, all columns of one length.
Columns = Mapping[str, Sequence[Any]]
#: A head without a sign.
NO_SIGN = "·"


@dataclass(frozen=True)
class Line:
    """A finding in one sentence with its number, without a full stop; ``flagged``: a person should see it first."""

    text: str
    flagged: bool = False


@dataclass(frozen=True)
class Text:
    """Sentences that explain what is shown: how to read it, or under which conditions it holds."""

    text: str


@dataclass(frozen=True)
class Table:
    """A table: the first of the ``columns`` names its rows; where no column has a name, the rows are facts.

    ``name`` is that of its file, where it can be downloaded. With ``closed`` it is shown where there is room for more
    than findings: not in the terminal's summary of a run.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    name: str = "table"
    closed: bool = False

    @property
    def texts(self) -> list[list[str]]:
        """The cells as text, row by row."""
        return [[write(cell) for cell in row] for row in self.rows]


@dataclass(frozen=True, eq=False)
class Figure:
    """A chart: ``draw`` makes it for a light or a dark page, with a Plotly figure as its result.

    ``title`` states its finding, ``help`` tells how to read it, and ``data`` are its numbers by column. ``formula`` is
    TeX (None: there is none).
    """

    title: str
    draw: Callable[[bool], Any]
    help: str
    data: Columns
    name: str = "figure"
    formula: str | None = None


@dataclass(frozen=True, eq=False)
class Marks:
    """What each head is: the index ``groups (L, H)`` of each head into ``signs`` and ``words``.

    ``signs`` are the few letters on a head of each group (empty: none), ``words`` say it in a sentence, and ``legend``
    tells what the marks mean. ``colours`` of the groups are indices into the palette of the board, or the colours
    themselves (None: one after the other). ``name`` and ``label`` are those of a colouring of the board. ``ends`` are
    the words after the heads of each layer, if any.
    """

    name: str
    label: str
    groups: Ints
    signs: Sequence[str]
    words: Sequence[str]
    legend: str
    colours: Sequence[int] | Sequence[str] | None = None
    ends: Sequence[str] = ()

    @property
    def caption(self) -> str:
        """The legend with the meaning of each sign."""
        named = [f"{sign} {word}" for sign, word in zip(self.signs, self.words, strict=True) if sign]
        return f"{self.legend}: {', '.join(named)}"

    @property
    def columns(self) -> list[str]:
        """The columns of a table of the heads: the layer, each head, and the end of a layer."""
        heads = [str(head) for head in range(self.groups.shape[1])]
        return ["layer", *heads, *[""] * bool(self.ends)]

    @property
    def rows(self) -> list[list[str]]:
        """The rows of this table, one for each layer."""
        rows = []
        for layer, groups in enumerate(self.groups):
            signs = [self.signs[group] or NO_SIGN for group in groups]
            rows.append([str(layer), *signs, *self.ends[layer : layer + 1]])
        return rows


Block = Line | Text | Table | Figure | Marks
#: What a result says, block after block.
Blocks = Iterator[Block]


@dataclass(frozen=True, eq=False)
class Claim:
    """A statement with its verdict in a few words (``status``); ``show`` yields the evidence once it is asked for."""

    name: str
    title: str
    status: str
    show: Callable[[], Iterable[Block]]


def write(cell: Cell) -> str:
    """Write a cell of a table; a value that was not measured is empty."""
    if cell is None:
        return ""
    if isinstance(cell, Estimate):
        return f"{cell.text} {cell.interval}".rstrip()
    if isinstance(cell, int):
        return f"{cell:,}"
    return cell


def find_line(blocks: Iterable[Block]) -> str | None:
    """Return the finding of a result: its first line (None: it has none)."""
    for block in blocks:
        if isinstance(block, Line):
            return block.text
    return None
