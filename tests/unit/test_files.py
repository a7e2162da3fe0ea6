import csv
import io
import os
import re
import stat
from pathlib import Path

import numpy as np
import pytest

from cahp import files
from cahp.files import csv_text, expanded, is_there, write_whole


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
