from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO

import pytest

from cahp.files import write_whole


def test_files_are_written_from_bytes_and_from_functions_into_a_new_folder(tmp_path: Path) -> None:
    write_whole(tmp_path / "a" / "b", {"one": b"1", "two": lambda file: file.write(b"22")})
    assert (tmp_path / "a" / "b" / "one").read_bytes() == b"1"
    assert (tmp_path / "a" / "b" / "two").read_bytes() == b"22"


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_when_the_last_of_three_files_fails_the_folder_is_as_it_was(tmp_path: Path, stop: type[BaseException]) -> None:
    def fail(file: IO[bytes]) -> None:
        file.write(b"half")
        raise stop

    (tmp_path / "one").write_bytes(b"old")
    with pytest.raises(stop):
        write_whole(tmp_path, {"one": b"new", "two": b"new", "three": fail})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"one": b"old"}


def test_no_file_takes_its_name_before_all_are_complete(tmp_path: Path) -> None:
    seen: list[bool] = []
    write_whole(tmp_path, {"one": b"1", "two": lambda file: seen.append((tmp_path / "one").exists())})
    assert seen == [False]


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_files_are_as_readable_as_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_whole(tmp_path, {"one": b"1"})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "one").stat().st_mode) == 0o644
