"""How large the pages of a Parquet file become, by their own headers.

Arrow believes a page's header and makes room for what it says; the sizes in the file's footer, which Arrow shows, are
not compared with it. So the headers are read here, before Arrow reads the pages. They are in Thrift's compact protocol
(parquet.thrift, ``PageHeader``), of which three numbers matter.
"""

from __future__ import annotations

import mmap
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: More pages than this are no honest file: writers make pages of a megabyte or 20,000 rows.
_MOST_PAGES = 20_000

# Thrift's compact protocol: types of fields.
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
#: Page headers nest three deep.
_DEEPEST = 8


@dataclass(frozen=True)
class Page:
    """One page: its bytes once it is decompressed."""

    size: int


def pages_of(path: Path, metadata: Any, columns: Collection[str], groups: Iterable[int]) -> Iterator[Page]:
    """The pages of these columns in these row groups; ``metadata`` is the file's, as pyarrow read it.

    Raises:
        ValueError: If a header is broken, or there are far too many pages.
    """
    count = 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for group in groups:
            row_group = metadata.row_group(group)
            for index in range(row_group.num_columns):
                chunk = row_group.column(index)
                if chunk.path_in_schema.partition(".")[0] not in columns and chunk.path_in_schema not in columns:
                    continue
                at = chunk.data_page_offset
                if chunk.has_dictionary_page and 0 < (chunk.dictionary_page_offset or 0) < at:
                    at = chunk.dictionary_page_offset
                end = at + chunk.total_compressed_size
                while at < end:
                    count += 1
                    if count > _MOST_PAGES:
                        raise ValueError(f"more than {_MOST_PAGES:,} pages")
                    reader = _Reader(data, at)
                    header = reader.struct()
                    size, compressed = header.get(2), header.get(3)
                    if size is None or compressed is None or size < 0 or compressed < 0:
                        raise ValueError("a page without a size")
                    yield Page(size)
                    at = reader.at + compressed


class _Reader:
    """Reads Thrift's compact protocol, and keeps of it the whole numbers of the outermost structure."""

    def __init__(self, data: mmap.mmap, at: int) -> None:
        self._data, self.at = data, at

    def struct(self, depth: int = 0) -> dict[int, int]:
        if depth > _DEEPEST:
            raise ValueError("a page header nested too deep")
        found: dict[int, int] = {}
        field = 0
        while head := self._byte():
            kind, step = head & 15, head >> 4
            field = field + step if step else self._zigzag()
            if kind in (_I16, _I32, _I64):
                found[field] = self._zigzag()
            else:
                self._skip(kind, depth)
        return found

    def _skip(self, kind: int, depth: int) -> None:
        if kind in (_TRUE, _FALSE):
            return
        if kind == _BYTE:
            self.at += 1
        elif kind in (_I16, _I32, _I64):
            self._varint()
        elif kind == _DOUBLE:
            self.at += 8
        elif kind == _BINARY:
            length = self._varint()
            self.at += length
        elif kind == _STRUCT:
            self.struct(depth + 1)
        else:
            # Page headers have no lists or maps; skipping a huge empty one would take for ever.
            raise ValueError("a page header of an unknown form")

    def _byte(self) -> int:
        if not 0 <= self.at < len(self._data):
            raise ValueError("a page outside the file")
        self.at += 1
        return self._data[self.at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number that is too long")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
