from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from cahp.ui.frame.page import GROUPS, find_pages

ROOT = Path(__file__).parents[4]
SOURCES = [
    *ROOT.glob("*.*"),
    *(path for room in ("cahp", "pages", "tests") for path in (ROOT / room).rglob("*.*")),
]


def test_pages_are_the_scripts_beside_the_app_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    for name in ("pages/2_Last.py", "pages/1_Second.py", "pages/notes.py", "pages/1_First.txt"):
        (tmp_path / name).touch()
    found = find_pages(tmp_path)
    assert list(found.items()) == [("Home", "app.py"), ("Second", "pages/1_Second.py"), ("Last", "pages/2_Last.py")]
    # Not read again for every link of every page.
    assert find_pages(tmp_path) is find_pages(tmp_path)


def test_the_sidebar_leads_to_every_page_once() -> None:
    labels = [label for _, group in GROUPS for label in group]
    assert sorted(labels) == sorted(find_pages(ROOT))


def test_no_file_but_the_page_itself_says_where_it_lies() -> None:
    names = [re.escape(Path(path).stem) for label, path in find_pages(ROOT).items() if label != "Home"]
    place = re.compile(rf"\b({'|'.join(names)})\b")
    texts = [path for path in SOURCES if path.suffix in {".py", ".js", ".css", ".toml", ".md"}]
    assert len(texts) > 100
    assert [str(path) for path in texts if place.search(path.read_text(encoding="utf-8"))] == []


def linked() -> Iterator[str]:
    """The keys in every call of ``link`` that names one; the sidebar's call has all pages."""
    for path in (ROOT / "cahp" / "ui").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "link":
                (key, *_) = node.args
                if isinstance(key, ast.Constant):
                    yield key.value


def test_every_link_leads_to_a_page() -> None:
    keys = set(linked())
    assert keys
    assert keys <= {label.lower() for label in find_pages(ROOT)}
