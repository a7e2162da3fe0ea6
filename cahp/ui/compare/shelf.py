"""The comparisons that ship with the package, and ``python -m cahp.ui.compare.shelf DIR`` to put one there.

A comparison does not say where and when it was measured; ``made.json`` beside it does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path

from cahp import bundled as bundle
from cahp import models
from cahp.compare import Comparison
from cahp.files import json_text, write_whole
from cahp.ui.compare import reading as compare_reading
from cahp.ui.compare.reading import Reading
from cahp.values import CahpError

_FILE, _MADE = "compare.json", "made.json"


@dataclass(frozen=True, eq=False)
class Shelved:
    """A comparison that ships with the package; ``made`` names its ``machine`` and ``date``, if that is known."""

    name: str
    reading: Reading
    made: Mapping[str, str]


def shelf() -> Path:
    """The folder of bundled comparisons."""
    return models.assets() / "compare"


def shelved(folder: Path) -> tuple[list[Shelved], list[str]]:
    """The comparisons in ``folder``, by name, and a sentence for each that cannot be read."""
    found, broken = [], []
    for file in sorted(folder.glob(f"*/{_FILE}")):
        try:
            found.append(_read(file, file.stat().st_mtime_ns))
        except (CahpError, OSError) as error:
            broken.append(f"The bundled comparison {file.parent.name} cannot be shown: {error}")
    return found, broken


@lru_cache(maxsize=8)
def _read(file: Path, changed: int) -> Shelved:
    # The time of its last change is part of the question: a file that was replaced is read again.
    try:
        made = json.loads(file.with_name(_MADE).read_text(encoding="utf-8"))
        made = {name: str(made[name]) for name in ("machine", "date")}
    except (OSError, ValueError, KeyError, TypeError):
        made = {}
    return Shelved(file.parent.name, compare_reading.read(file.parent), made)


def put(source: Path, place: Path, *, machine: str) -> Path:
    """Put the comparison in the folder ``source`` on the shelf at ``place``, with its machine and day of measuring.

    Who answered which text stays behind: its summary is in the document.

    Raises:
        CahpError: If there is none in the folder.
    """
    found = Comparison.read(source)
    compare_reading.of(found)
    day = date.fromtimestamp((source / _FILE).stat().st_mtime).isoformat()
    place.mkdir(parents=True, exist_ok=True)
    write_whole(
        place,
        {
            _FILE: json_text(found.as_json()).encode(),
            _MADE: json_text({"machine": machine, "date": day}).encode(),
        },
    )
    return place


if __name__ == "__main__":
    given = Path(sys.argv[1])
    print(put(given, shelf() / given.resolve().name, machine=bundle.machine()))
