"""The core's files as one script and one style sheet, which a host can hand out or write into a page."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

_CORE = Path(__file__).parent / "core"
#: In the order in which they need each other.
_FILES = ("elements.js", "figures.js", "heads.js", "curves.js", "board.js")


def script(host: str = "") -> str:
    """The text of an ES module: the core, and after it the lines of a host, which may call its ``mount``.

    A host's names are its own. The module exports ``mount`` only where there is no host.
    """
    core = "\n".join(_inlined((_CORE / file).read_text(encoding="utf-8")) for file in _FILES)
    return f"const mount = (() => {{\n{core}\nreturn mount;\n}})();\n{_without_imports(host) or 'export { mount };'}\n"


@cache
def style() -> str:
    """The style sheet; it is all about what lies in a board."""
    return (_CORE / "board.css").read_text(encoding="utf-8")


def _inlined(source: str) -> str:
    return re.sub(r"^export (?=const|function|class)", "", _without_imports(source), flags=re.MULTILINE)


def _without_imports(source: str) -> str:
    return re.sub(r"^import .*\n", "", source, flags=re.MULTILINE)
