"""The scripts of the board and of the features that draw like it, joined to one module for a page."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_CORE = Path(__file__).parent / "core"
#: Elements of a page, and arcs over words: what more than the board draws.
SHARED = (_CORE / "elements.js", _CORE / "arcs.js")


def join_scripts(files: Iterable[Path]) -> str:
    """Join ``files``, each after those that it imports, to one script without imports and named exports."""
    script = "\n".join(file.read_text(encoding="utf-8") for file in files)
    return re.sub(r"^import .*\n|^export (?=const|function|class)", "", script, flags=re.MULTILINE)
