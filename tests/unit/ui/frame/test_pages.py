from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cahp.ui.frame.page import GROUPS, find_pages

ROOT = Path(__file__).parents[4]
SOURCES = [
    *ROOT.glob("*.*"),
    *(path for room in ("cahp", "pages", "tests") for path in (ROOT / room).rglob("*.*")),
]

#: A page: two imports, and one call that draws it.
FORM = """
from {module} import draw
from cahp.ui.frame.page import page
draw(page({title!r}))
"""
#: Home is also where Streamlit starts its server.
HOME = """
from streamlit import App
from cahp.ui import server
from {module} import draw
from cahp.ui.frame.page import page
if __name__ == "__main__":
    draw(page({title!r}))
else:
    app = App(__file__, lifespan=server.lifespan, middleware=server.middleware())
"""


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
    assert labels == ["Home", "Similarity", "Budget", "Learn", "Compare", "Stability", "Export"]
    assert sorted(labels) == sorted(find_pages(ROOT))


@pytest.mark.parametrize(("label", "path"), find_pages(ROOT).items(), ids=str)
def test_a_page_is_one_script_of_one_form_and_draws_once(label: str, path: str) -> None:
    written = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert ast.get_docstring(written), "a page says what it answers"
    modules = [node.module for node in written.body if isinstance(node, ast.ImportFrom)]
    home = label == "Home"
    (module,) = set(modules) - {"cahp.ui.frame.page"} - ({"streamlit", "cahp.ui"} if home else set())
    said = {ast.unparse(node) for node in written.body[1:]}
    form = HOME if home else FORM
    assert said == {ast.unparse(node) for node in ast.parse(form.format(module=module, title=label)).body}


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
