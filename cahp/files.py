"""Names that people type as paths, files written whole or not at all, and JSON and CSV as we write them."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

_DAY_S = 86_400
_SCRATCH = "cahp-"

#: What a file will hold: its bytes, or a function that writes them to an open binary file.
Content = bytes | memoryview | Callable[[IO[bytes]], object]


def write_whole(folder: Path, contents: Mapping[str, Content]) -> None:
    """Write files that belong together into ``folder``, which is made if need be.

    Nobody ever meets half a file: each is written under a temporary name in the same folder, and only when
    all are complete do they take their names, replacing what bore them. A failure or an interruption before
    that leaves the folder as it was. Temporary names start with a dot and end in the file's own name.

    Raises:
        OSError: If the folder cannot be made or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(8)
    written: dict[Path, Path] = {}
    try:
        for name, content in contents.items():
            temporary = folder / f".{token}.{name}"
            written[temporary] = folder / name
            # Not tempfile: its files are readable by their owner only, whatever the umask says.
            with temporary.open("xb") as file:
                if callable(content):
                    content(file)
                else:
                    file.write(content)
                file.flush()
                # Without this a power cut may keep the rename and lose the bytes.
                os.fsync(file.fileno())
        for temporary, final in written.items():
            temporary.replace(final)
    finally:
        for temporary in written:
            temporary.unlink(missing_ok=True)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for temporary files, for as long as the block lasts; what was left by killed processes goes with it."""
    with tempfile.TemporaryDirectory(prefix=_SCRATCH) as folder:
        sweep(Path(folder).parent, re.compile(f"{_SCRATCH}[a-z0-9_]{{8}}"))
        yield Path(folder)


def sweep(folder: Path, pattern: re.Pattern[str]) -> None:
    """Remove what processes of ours that were killed more than a day ago left under names of ``pattern``."""
    with suppress(OSError), os.scandir(folder) as items:
        for item in items:
            # Others may be at it, and some may not be ours to remove.
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
    """``check(path)``, such as ``Path.is_dir``; a name too long or otherwise impossible for a path is none."""
    try:
        return check(path)
    except (OSError, ValueError):
        return False


def expanded(path: Path) -> Path:
    """``path`` with the home folder for ``~``; as it is where there is none: nothing is there, then."""
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
    """JSON text of ``value``, indented by 2, with a line for each innermost list.

    Keys keep their order, floats all their digits; NumPy scalars and arrays become plain numbers and lists,
    and what is not finite becomes null.

    Raises:
        TypeError: If ``value`` holds anything else that JSON cannot say.
    """
    return _render(plain_json(value), "\n") + "\n"


def plain_json(value: object) -> Any:
    """``value`` as JSON can say it: NumPy's become plain numbers and lists, what is not finite null.

    Dataclasses become objects.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain_json(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, np.ndarray):
        return plain_json(value.tolist())
    if isinstance(value, np.generic):
        return plain_json(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise TypeError(f"JSON keys are strings, got {list(value)}")
        return {name: plain_json(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(item) for item in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    raise TypeError(f"JSON cannot say {type(value).__name__}")


def csv_text(header: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """CSV text with a line for each row; None is an empty cell.

    A word that a spreadsheet would take for a formula gets an apostrophe before it: it may be a person's text, a
    class or a method's name out of somebody's file.
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
    # A lone carriage return would not be quoted, and what follows it would begin a row.
    value = value.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\n")) else value


def _render(value: Any, newline: str) -> str:
    inner = newline + "  "
    if isinstance(value, dict) and value:
        items = [f"{json.dumps(name)}: {_render(item, inner)}" for name, item in value.items()]
        return "{" + inner + f",{inner}".join(items) + newline + "}"
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return "[" + inner + f",{inner}".join(_render(item, inner) for item in value) + newline + "]"
    return json.dumps(value)
