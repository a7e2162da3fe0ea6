from __future__ import annotations

import csv
import io
import json
import os
import re
import stat
from pathlib import Path

import numpy as np
import pytest

from cahp import files
from cahp.files import csv_text, expanded, finish_replacing, is_there, write_whole


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_files_are_as_readable_as_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_whole(tmp_path, {"one": b"1"})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "one").stat().st_mode) == 0o644


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_no_cell_of_a_csv_file_is_a_formula_of_a_spreadsheet(cell: str) -> None:
    written = csv_text([cell, "b"], [[cell, -1.5], [None, np.float64(-0.5)]])
    said = "'" + cell.replace("\r", "\n")
    assert list(csv.reader(io.StringIO(written, newline=""))) == [[said, "b"], [said, "-1.5"], ["", "-0.5"]]


def test_no_cell_of_a_csv_file_begins_a_row() -> None:
    assert csv_text(["a"], [["b\r=1"], ["b\r\n=1"]]) == 'a\n"b\n=1"\n"b\n=1"\n'


def test_one_function_writes_all_csv_files() -> None:
    root = Path(files.__file__).parent
    ours = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if re.search("csv.writer|DictWriter|to_csv", path.read_text())
    }
    # A command line's label map is quoted as one record of CSV, for people to read and nobody to open.
    assert ours == {"files.py", "run/settings.py"}


def test_what_cannot_be_a_path_is_not_there(tmp_path: Path) -> None:
    assert is_there(tmp_path, Path.is_dir)
    assert not is_there(tmp_path, Path.is_file)
    for name in ("x" * 5000, "a\0b", "no such"):
        assert not is_there(Path(name), Path.is_dir)


def test_the_home_folder_stands_for_its_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded(Path("~/models")) == tmp_path / "models"
    assert expanded(Path("a/~b")) == Path("a/~b")
    assert expanded(Path("~a\0b")) == Path("~a\0b")
    assert expanded(Path("~nobody-of-this-name/models")) == Path("~nobody-of-this-name/models")


# --- a folder from a stranger


def prepare_set(folder: Path, gone: str) -> Path:
    """A set of files that waits to take its place, as a killed process leaves it."""
    ready = folder / ".0123456789abcdef.ready"
    (ready / ".old").mkdir(parents=True)
    (ready / ".gone.json").write_text(gone)
    (ready / "config.json").write_text("new")
    return ready


def test_a_set_of_files_takes_its_place(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("old")
    prepare_set(tmp_path, json.dumps(["old.json"]))
    finish_replacing(tmp_path)
    assert (tmp_path / "config.json").read_text() == "new"
    assert not (tmp_path / "old.json").exists()


@pytest.mark.parametrize("gone", ['["../precious"]', '["a/precious"]', '[".."]', "[5]", '{"a": 1}', "", "[["])
def test_nothing_outside_a_folder_is_touched(tmp_path: Path, gone: str) -> None:
    (tmp_path / "precious").write_text("mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").symlink_to(tmp_path, target_is_directory=True)
    ready = prepare_set(folder, gone)
    finish_replacing(folder)
    assert (tmp_path / "precious").read_text() == "mine"
    assert (ready / "config.json").exists()


def test_a_link_is_no_set_of_files(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "precious").write_text("mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / ".0123456789abcdef.ready").symlink_to(tmp_path / "home", target_is_directory=True)
    finish_replacing(folder)
    assert (tmp_path / "home" / "precious").exists()
    ready = prepare_set(tmp_path / "other", "[]")
    (ready / ".old").rmdir()
    (ready / ".old").symlink_to(tmp_path / "home", target_is_directory=True)
    (tmp_path / "other" / "config.json").write_text("old")
    finish_replacing(tmp_path / "other")
    assert (tmp_path / "other" / "config.json").read_text() == "old"
