"""A table as every format gives it: named columns, and rows that know where they came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from cahp.values import DataError

#: A position (1-based line or row) and the cells of at least the wanted columns.
Rows = Iterator[tuple[int, Mapping[str, object]]]

#: Wider tables are no labelled texts: every row would become a mapping of as many names.
_MOST_COLUMNS = 10_000

#: A novel has fewer characters, and no model reads more than the first few thousand.
LONGEST_VALUE = 1 << 22


@dataclass(frozen=True)
class Table:
    """Columns and rows of one file or one hub split; its rows can be read once.

    ``rows(wanted, most)`` gives the wanted columns, of the first ``most`` rows where that is not None. ``place`` and
    ``unit`` name a position in errors, ``class_names`` decodes integer label columns that carry their names,
    ``published`` marks data that the person who reads it cannot correct. ``opaque`` names columns that hold neither
    text nor numbers, and what they hold: those are never read, since decoding a picture or a sound may open other
    files, and one value of a nested column may be larger than the file.

    Raises:
        DataError: If two columns have one name, or there are far too many.
    """

    place: str
    unit: str
    columns: tuple[str, ...]
    rows: Callable[[Sequence[str], int | None], Rows]
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    published: bool = False
    opaque: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.columns) > _MOST_COLUMNS:
            raise DataError(f"{self.place} has {len(self.columns)} columns; keep those with the texts and labels.")
        twice = sorted(name for name, count in Counter(self.columns).items() if count > 1)
        if twice:
            raise DataError(f"{self.place} has more than one column {listed(twice)}; rename or remove one.")

    def read(self, wanted: Sequence[str]) -> Rows:
        """All rows, of the wanted columns.

        Raises:
            DataError: If one of them holds neither text nor numbers, or a row is broken.
        """
        for name in wanted:
            if name in self.opaque:
                raise DataError(
                    f"The column {listed([name])} of {self.place} holds {self.opaque[name]} and neither text nor "
                    "numbers; name another with --text-column or --label-column."
                )
        return self.rows(wanted, None)

    def preview(self, count: int) -> list[dict[str, str]]:
        """The first ``count`` rows as text, for people; what is never read is named instead.

        Raises:
            DataError: If one of them is broken.
        """
        plain = [name for name in self.columns if name not in self.opaque]
        unread = {name: f"({what})" for name, what in self.opaque.items()}
        rows = islice(self.rows(plain, count), count) if plain else iter(())
        return [{**unread, **{name: _shown(row.get(name, "")) for name in plain}} for _, row in rows]

    def broken(self, number: int, what: str) -> DataError:
        """The error for a row that cannot be used."""
        return broken(self.place, self.unit, number, what)


def _shown(value: object) -> str:
    try:
        return str(value)
    except RecursionError:
        return "(nested too deep)"


def broken(place: str, unit: str, number: int, what: str) -> DataError:
    """The error for one line or row of ``place``."""
    return DataError(f"{place}, {unit} {number}: {what}; correct or remove that {unit}.")


def listed(names: Iterable[str], *, limit: int = 20) -> str:
    """Names quoted and joined for a sentence, the first ``limit`` of them."""
    names = list(names)
    quoted = [repr(name) if len(name) <= 60 else repr(name[:60]) + "..." for name in names[:limit]]
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(quoted) + more if quoted else "none"


def first_line(error: BaseException) -> str:
    """The first line of a library's error, short enough for a sentence."""
    text = str(error).strip()
    line = text.splitlines()[0] if text else type(error).__name__
    return line[:200].rstrip(" .:")
