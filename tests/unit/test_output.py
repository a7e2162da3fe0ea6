"""What ``--out`` names is looked at before long work and again after it; and how files and numbers are written."""

import csv
import io
import json
import os
import re
import stat
import time
from pathlib import Path

import numpy as np
import pytest

from cahp import files
from cahp.files import csv_text, expanded, is_there, write_whole
from cahp.output import MARK, Mark, Output, UnwrittenError
from cahp.values import OptionError
from cahp.words import duration, nats, number, percent, points, signed, size_of, span

RUN = Mark("run.json", "cahp.run")
OURS = b'{\n  "schema": "cahp.run/1"\n}\n'


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fill(out: Output, **files: str) -> None:
    with out.whole() as part:
        for name, content in files.items():
            (part / name).write_text(content)
            # As weights are written: for their owner alone.
            (part / name).chmod(0o600)


def test_files_with_our_mark_are_replaced_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(OURS)
    (tmp_path / "arrays.npz").write_bytes(b"old")
    (tmp_path / "notes.txt").write_bytes(b"mine")
    out = Output(tmp_path)
    out.check_files(["run.json", "arrays.npz"], RUN)
    out.write({"run.json": b"new", "arrays.npz": b"new"})
    assert tree(tmp_path) == {"run.json": b"new", "arrays.npz": b"new", "notes.txt": b"mine"}
    assert (out.folder, out.note) == (tmp_path, "")


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"mine", b'{"schema": "cahp.runs/1"}', b'{"schema": "their.run/1"}', b" " * 5000 + OURS]
)
def test_files_without_it_are_refused_but_by_force(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "arrays.npz").write_bytes(b"mine")
    with pytest.raises(OptionError, match=r"arrays\.npz"):
        Output(tmp_path).check_files(["run.json", "arrays.npz"], RUN)
    (tmp_path / "arrays.npz").unlink()
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(OptionError, match=r"run\.json.*--force"):
        Output(tmp_path).check_files(["run.json", "arrays.npz"], RUN)
    forced = Output(tmp_path, force=True)
    forced.check_files(["run.json"], RUN)
    forced.write({"run.json": b"new"})
    assert tree(tmp_path) == {"run.json": b"new"}


@pytest.mark.parametrize("before", [None, OURS])
def test_what_changed_meanwhile_is_kept_and_results_go_beside_it(tmp_path: Path, before: bytes | None) -> None:
    folder = tmp_path / "out"
    (tmp_path / "out-2").mkdir()
    if before is not None:
        folder.mkdir()
        (folder / "run.json").write_bytes(before)
    out = Output(folder)
    out.check_files(["run.json"], RUN)
    # Even with our mark: it is hours of somebody's work.
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_bytes(OURS + b" ")
    out.write({"run.json": b"new"})
    assert tree(tmp_path) == {"out/run.json": OURS + b" ", "out-3/run.json": b"new"}
    assert out.folder == tmp_path / "out-3"
    assert "run.json appeared in" in out.note
    assert str(out.folder) in out.note


def test_a_new_folder_bears_the_mark_and_is_replaced_whole_by_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    for given in ({"model": "1", "index": "1"}, {"model": "2"}):
        out = Output(folder)
        out.check_folder()
        fill(out, **given)
        assert (out.folder, set(tree(folder))) == (folder, {*given, MARK})
        mark = json.loads((folder / MARK).read_text())
        assert mark == {"schema": "cahp.folder/1", "files": sorted([*given, MARK])}
        assert len({path.stat().st_mode for path in folder.iterdir()}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_is_no_folder_to_write_to(tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").touch()
    with pytest.raises(OptionError, match=r"reviews.csv is the name of a file; name a folder with --out"):
        Output(tmp_path / "reviews.csv").check_folder()


@pytest.mark.parametrize("mark", [None, b"", b"[]", b'{"schema": "x"}', b'{"schema": "cahp.folder/1"}', b"[" * 9999])
def test_a_folder_without_our_mark_is_refused(tmp_path: Path, mark: bytes | None) -> None:
    (tmp_path / "thesis.docx").write_bytes(b"mine")
    if mark is not None:
        (tmp_path / MARK).write_bytes(mark)
    with pytest.raises(OptionError, match=r"not written by cahp.*--force"):
        Output(tmp_path).check_folder()


def test_by_force_a_model_replaces_the_parts_of_another_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (folder / "data").mkdir(parents=True)
    theirs = {"thesis.docx": b"1", "data/rows.csv": b"2"}
    parts = dict.fromkeys(("model.safetensors.index.json", "config.json", "sentencepiece.bpe.model"), b"3")
    for name, content in {**theirs, **parts}.items():
        (folder / name).write_bytes(content)
    out = Output(folder, force=True)
    out.check_folder()
    fill(out, **{"config.json": "new", "model.safetensors": "new"})
    found = tree(folder)
    assert {*json.loads(found.pop(MARK))["files"]} >= {"config.json", "model.safetensors"}
    assert found == {**theirs, "config.json": b"new", "model.safetensors": b"new"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_somebody_s_file_in_a_folder_of_ours_stays_where_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    fill(Output(folder), model="1", index="1")
    (folder / "notes.txt").write_text("mine")
    inode = (folder / "notes.txt").stat().st_ino
    out = Output(folder)
    out.check_folder()
    fill(out, model="2")
    found = tree(folder)
    assert json.loads(found.pop(MARK))["files"] == [MARK, "model"]
    assert found == {"model": b"2", "notes.txt": b"mine"}
    assert (folder / "notes.txt").stat().st_ino == inode


def test_a_mark_reaches_nothing_outside_of_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (tmp_path / "thesis.docx").write_text("mine")
    said = {"schema": "cahp.folder/1", "files": ["../thesis.docx", str(tmp_path / "thesis.docx"), "..", 7, "a"]}
    (folder / MARK).write_text(json.dumps(said))
    (folder / "notes.txt").write_text("mine")
    fill(Output(folder), model="1")
    assert (tmp_path / "thesis.docx").read_text() == "mine"
    assert {*tree(folder)} == {MARK, "model", "notes.txt"}


@pytest.mark.parametrize("theirs", ["model", MARK])
def test_a_model_that_came_in_the_meantime_is_kept(tmp_path: Path, theirs: str) -> None:
    folder = tmp_path / "out"
    out = Output(folder)
    out.check_folder()
    folder.mkdir()
    (folder / theirs).write_text("theirs")
    fill(out, model="ours")
    assert tree(folder) == {theirs: b"theirs"}
    assert (tmp_path / "out-2" / "model").read_text() == "ours"
    assert out.folder == tmp_path / "out-2"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out-2"]


@pytest.mark.parametrize("stop", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("no")])
def test_a_failure_leaves_what_was_there(tmp_path: Path, stop: BaseException) -> None:
    folder = tmp_path / "out"
    fill(Output(folder), model="1")
    before = tree(tmp_path)
    expected = UnwrittenError if isinstance(stop, OSError) else type(stop)

    def write() -> None:
        with Output(folder).whole() as part:
            (part / "model").write_text("half")
            raise stop

    with pytest.raises(expected):
        write()
    assert tree(tmp_path) == before


def test_old_remains_go_and_new_ones_and_other_files_stay(tmp_path: Path) -> None:
    gone = [tmp_path / ".0123456789abcdef.run.json", tmp_path / ".0123456789abcdef"]
    kept = [tmp_path / ".bashrc", tmp_path / ".0123456789abcdef-notes", tmp_path / "run.json.old"]
    fresh = tmp_path / ".fedcba9876543210.run.json"
    gone[1].mkdir()
    (gone[1] / "model").write_text("")
    for path in (gone[0], *kept, fresh):
        path.write_text("")
    two_days_ago = time.time() - 2 * 86_400
    for path in (*gone, *kept):
        os.utime(path, (two_days_ago, two_days_ago))
    Output(tmp_path).write({"run.json": b""})
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in (*kept, fresh))


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
    # Nor does it begin a row.
    assert csv_text(["a"], [["b\r=1"], ["b\r\n=1"]]) == 'a\n"b\n=1"\n"b\n=1"\n'


def test_one_function_writes_all_csv_files() -> None:
    root = Path(files.__file__).parent
    ours = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if re.search("csv.writer|DictWriter|to_csv", path.read_text())
    }
    # A command line shows a label map as one quoted record of CSV. No program opens it.
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


def test_numbers_are_written_as_people_read_them() -> None:
    # A difference has its sign, and no hyphen stands for a minus.
    assert (points(1.24), points(-1.26), points(0.0)) == ("+1.2 points", "−1.3 points", "+0.0 points")
    assert (signed(-2, 0), signed(2, 2), number(-3.14159, 2), number(3)) == ("−2", "+2.00", "−3.14", "3.0")
    # A small divergence keeps two digits.
    assert [nats(value) for value in (0.5, 0.0, 0.00012345, 0.0099)] == ["0.500", "0.000", "0.00012", "0.0099"]
    # What rounds to zero has no minus.
    assert (number(-0.04), percent(-0.0004), span(-0.01, 0.1)) == ("0.0", "0.0 %", "0.0 to 0.1")
    assert (points(-0.04), signed(-0.5, 0)) == ("+0.0 points", "+0")
    counts = (0, 999_499, 999_500, 999_499_999, 999_999_999, 1_550_000_000)
    assert [size_of(count) for count in counts] == ["0 kB", "999 kB", "1 MB", "999 MB", "1.0 GB", "1.6 GB"]
    assert [duration(seconds) for seconds in (89, 90, 5399, 5400)] == ["89 s", "2 min", "90 min", "1.5 h"]
