"""Paths that people type, files that are written as a set, and the form of our JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

#: The names of files and folders that are still being written.
UNFINISHED = re.compile(r"\.[0-9a-f]{16}(\..*)?", re.DOTALL)
#: A complete set of files on its way into its folder: what it replaces, and the files that it only removes.
_READY = ".ready"
_OLD = ".old"
_GONE = ".gone.json"
#: A set takes its place within microseconds; a process that holds the lock for longer was stopped.
_LOCK_TIMEOUT_S = 10
_DAY_S = 86_400
_SCRATCH = "cahp-"

#: The content of a file: its bytes, or a function that writes them to an open binary file.
Content = bytes | memoryview | Callable[[IO[bytes]], object]


# Sets of files ---------------------------------------------------------------------------------------------------


def write_whole(folder: Path, contents: Mapping[str, Content]) -> None:
    """Write files that belong together into ``folder``, which is made if needed: all of them or none.

    A single file replaces the old one at once. A set is prepared in a hidden subfolder and then takes its place as
    ``replace_files`` describes. After a failure the folder is as it was before.

    Raises:
        OSError: If the folder cannot be made or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    hidden = folder / f".{secrets.token_hex(8)}"
    if len(contents) == 1:
        ((name, content),) = contents.items()
        temporary = folder / f"{hidden.name}.{name}"
        try:
            _write(temporary, content)
            temporary.replace(folder / name)
        finally:
            temporary.unlink(missing_ok=True)
        return
    try:
        hidden.mkdir()
        for name, content in contents.items():
            _write(hidden / name, content)
        replace_files(hidden, folder)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _write(path: Path, content: Content) -> None:
    # Not tempfile: its files are readable by their owner only, whatever the umask is.
    with path.open("x+b") as file:
        if callable(content):
            content(file)
        else:
            file.write(content)
        file.flush()
        # Without this a power cut may keep the rename and lose the bytes.
        os.fsync(file.fileno())


def replace_files(prepared: Path, folder: Path, gone: Iterable[str] = ()) -> None:
    """Move all files of the hidden subfolder ``prepared`` into ``folder``, and remove files called ``gone`` from there.

    Files of the old set and of the new one are never mixed: the old ones leave before the new ones come. If one cannot
    be moved, all are put back. If the process is killed in between, ``finish_replacing`` brings the rest.

    Raises:
        OSError: If a file cannot be moved.
    """
    names = {path.name for path in prepared.iterdir()}
    (prepared / _OLD).mkdir()
    (prepared / _GONE).write_text(json.dumps([*gone]), encoding="utf-8")
    ready = folder / f"{prepared.name}{_READY}"
    with locked(folder):
        # From here on the new set counts.
        prepared.rename(ready)
        try:
            _move_in(ready, folder)
        except BaseException:
            for name in names - {path.name for path in ready.iterdir()}:
                (folder / name).rename(ready / name)
            for old in (ready / _OLD).iterdir():
                old.rename(folder / old.name)
            raise
        finally:
            # No longer a set that is ready: nothing in it may be moved again.
            ready.rename(prepared)
    shutil.rmtree(prepared, ignore_errors=True)


def finish_replacing(folder: Path) -> None:
    """Complete the sets of files in ``folder`` whose process was killed while they took their place.

    The folder may come from a stranger: nothing outside it is touched, and what is no set of ours stays as it is.
    """
    with suppress(OSError, ValueError):
        for ready in folder.glob(f".*{_READY}"):
            with locked(folder):
                linked = ready.is_symlink() or (ready / _OLD).is_symlink()
                if UNFINISHED.fullmatch(ready.name) and ready.is_dir() and not linked:
                    _move_in(ready, folder)
                    ready.rename(ready.with_suffix(""))


def _move_in(ready: Path, folder: Path) -> None:
    new = sorted({path.name for path in ready.iterdir()} - {_OLD, _GONE})
    if (ready / _GONE).exists():
        gone = json.loads((ready / _GONE).read_text(encoding="utf-8"))
        if not isinstance(gone, list) or not all(map(_is_name, gone)):
            raise ValueError("it lists what are no names of files")
        for name in {*new, *gone}:
            if os.path.lexists(folder / name):
                (folder / name).rename(ready / _OLD / name)
        (ready / _GONE).unlink()
    for name in new:
        (ready / name).rename(folder / name)


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name not in ("", ".", "..") and Path(name).name == name


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes of ours from replacing files in ``folder``, where folders can be locked."""
    with ExitStack() as stack:
        if sys.platform != "win32":
            import fcntl

            with suppress(OSError):
                handle = os.open(folder, os.O_RDONLY)
                stack.callback(os.close, handle)
                end = time.monotonic() + _LOCK_TIMEOUT_S
                while time.monotonic() < end:
                    try:
                        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        time.sleep(0.02)
        yield


# Temporary files and paths ---------------------------------------------------------------------------------------


def assets() -> Path:
    """Return the folder of what ships beside the code, in a checkout or in an installed wheel."""
    package = Path(__file__).parent
    installed = package / "assets"
    if installed.is_dir():
        return installed
    return package.parent / "assets"


@contextmanager
def scratch() -> Iterator[Path]:
    """Make a folder for temporary files that lasts as long as the block; remove those of killed processes."""
    with tempfile.TemporaryDirectory(prefix=_SCRATCH) as folder:
        sweep(Path(folder).parent, re.compile(f"{_SCRATCH}[a-z0-9_]{{8}}"))
        yield Path(folder)


def sweep(folder: Path, pattern: re.Pattern[str]) -> None:
    """Remove files and folders of this user with a name of ``pattern`` that are older than a day."""
    with suppress(OSError), os.scandir(folder) as items:
        for item in items:
            # Another process may remove it first, or it may not be ours to remove.
            with suppress(OSError):
                if not pattern.fullmatch(item.name):
                    continue
                status = item.stat(follow_symlinks=False)
                ours = not hasattr(os, "getuid") or status.st_uid == os.getuid()
                if ours and status.st_mtime < time.time() - _DAY_S:
                    if item.is_dir(follow_symlinks=False):
                        shutil.rmtree(item.path, ignore_errors=True)
                    else:
                        Path(item.path).unlink()


def is_there(path: Path, check: Callable[[Path], bool]) -> bool:
    """Return ``check(path)``, such as ``Path.is_dir``, and False for a name that no path can have."""
    try:
        return check(path)
    except (OSError, ValueError):
        return False


def expanded(path: Path) -> Path:
    """Replace ``~`` in ``path`` by the home folder, if there is one."""
    try:
        return path.expanduser()
    except (RuntimeError, ValueError):
        return path


def read_array(body: io.BytesIO, end: int) -> NDArray[Any]:
    """Read the next array in NumPy's format; its size is checked before memory is allocated.

    Raises:
        ValueError: If it is damaged, larger than what is left before ``end``, or holds Python objects.
    """
    start = body.tell()
    shape, dtype = array_header(body)
    if math.prod(shape) * dtype.itemsize > end - body.tell():
        raise ValueError("an array that is larger than its file")
    body.seek(start)
    array: NDArray[Any] = np.lib.format.read_array(body, allow_pickle=False)
    return array


def array_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read the shape and the type of the next array in NumPy's format, but not its content.

    Raises:
        ValueError: If it is damaged.
    """
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in read:  # a third exists for names of fields, which our arrays lack
        raise ValueError(f"an array in version {version} of the format")
    shape, _, dtype = read[version](file)
    return shape, dtype


def json_text(value: object) -> str:
    """Write ``value`` as JSON, indented by 2, with a line for each innermost list.

    Keys keep their order and floats all their digits.

    Raises:
        TypeError: As ``plain_json``.
    """
    return _render(plain_json(value), "\n") + "\n"


def plain_json(value: object) -> Any:
    """Convert ``value`` to plain JSON types.

    NumPy scalars and arrays become numbers and lists, dataclasses become objects, NaN and infinity become null.

    Raises:
        TypeError: If ``value`` holds anything else that JSON cannot express.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, (np.ndarray, np.generic)):
        return plain_json(value.tolist())
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return value
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise TypeError(f"JSON keys are strings, got {list(value)}")
        return {name: plain_json(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(item) for item in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    raise TypeError(f"JSON cannot express {type(value).__name__}")


def csv_text(header: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """Write a table as CSV; None is an empty cell.

    A text that a spreadsheet would read as a formula gets an apostrophe before it: texts, classes and names of methods
    may come from files of strangers.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(_cell, header))
    writer.writerows(map(_cell, row) for row in rows)
    return out.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, str):
        return value
    # A lone carriage return would not be quoted, and the rest would begin a new row.
    value = value.replace("\r\n", "\n").replace("\r", "\n")
    if value.startswith(("=", "+", "-", "@", "\t", "\n")):
        return f"'{value}"
    return value


def _render(value: Any, newline: str) -> str:
    inner = newline + "  "
    if isinstance(value, dict) and value:
        items = [f"{json.dumps(name)}: {_render(item, inner)}" for name, item in value.items()]
        return "{" + inner + f",{inner}".join(items) + newline + "}"
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return "[" + inner + f",{inner}".join(_render(item, inner) for item in value) + newline + "]"
    return json.dumps(value)
