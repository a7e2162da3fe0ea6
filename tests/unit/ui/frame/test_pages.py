import re
from pathlib import Path

from cahp.ui.frame.page import GROUPS, find_pages

ROOT = Path(__file__).parents[4]
SOURCES = [*ROOT.glob("*.*"), *(path for room in ("cahp", "pages", "tests") for path in (ROOT / room).rglob("*.*"))]


def test_the_sidebar_leads_to_every_page_once() -> None:
    labels = [label for _, group in GROUPS for label in group]
    assert sorted(labels) == sorted(find_pages(ROOT))


def test_no_file_but_the_page_itself_says_where_it_lies() -> None:
    names = [re.escape(Path(path).stem) for label, path in find_pages(ROOT).items() if label != "Home"]
    place = re.compile(rf"\b({'|'.join(names)})\b")
    texts = [path for path in SOURCES if path.suffix in {".py", ".js", ".css", ".toml", ".md"}]
    assert len(texts) > 100
    assert [str(path) for path in texts if place.search(path.read_text(encoding="utf-8"))] == []
