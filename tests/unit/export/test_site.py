"""The page of finished results: complete, small, and without a request."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from terminal import call, refused

from cahp.api import bundled
from cahp.api.export import site
from cahp.values import CahpError

pytestmark = pytest.mark.skipif(bundled.read_run() is None, reason="no bundled run")


def test_one_page_holds_the_boards_of_all_bundled_runs_and_loads_nothing(tmp_path: Path) -> None:
    document = site(tmp_path / "site")
    page = Path(document["file"]).read_text(encoding="utf-8")
    assert document["models"] == list(bundled.RUNS)
    assert page.count('class="live-board"') == page.count('class="board-data"') == len(bundled.RUNS)
    assert document["bytes"] == len(page.encode()) < 2_000_000
    assert "default-src 'none'" in page
    assert not re.search(r'(src|href)="https?:', page)
    for words in ("What still works?", "Methods compared on minilm-sst5", "cahp explore"):
        assert words in page


def test_it_replaces_itself_and_nothing_else(tmp_path: Path) -> None:
    site(tmp_path)
    site(tmp_path)
    (tmp_path / "index.html").write_text("a page of somebody else")
    with pytest.raises(CahpError):
        site(tmp_path)
    site(tmp_path, force=True)


def test_a_report_is_of_a_run_or_a_site_and_not_of_both(tmp_path: Path) -> None:
    assert "--site" in refused(call("report"))
    assert "--site" in refused(call("report", tmp_path, "--site", tmp_path))
    assert "leave out the run, --static and --out" in refused(call("report", "--site", tmp_path, "--static"))
    answer = call("report", "--site", tmp_path / "site", "--json")
    assert answer.document["file"] == str(tmp_path / "site" / "index.html")
