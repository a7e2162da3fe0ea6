"""Paths that people type, files that are written as a set, and the form of our JSON and CSV."""

import atexit
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
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields, is_dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np

from cahp.values import Array, JsonObject

#: The names of files and folders that are still being written.
UNFINISHED = re.compile(r"\.[0-9a-f]{16}(\..*)?", re.DOTALL)
_DAY_S = 86_400
_SCRATCH = "cahp-"

#: The content of a file: its bytes, or a function that writes them to an open binary file.
Content = bytes | memoryview | Callable[[IO[bytes]], object]


def write_whole(folder: Path, contents: Mapping[str, Content]) -> None:
    """Write files that belong together into ``folder``, which is made if needed.

    All are written under hidden names first, and until then the old ones stay. Then each replaces the old one of its
    name at once; if one cannot, those after it stay as they were.

    Raises:
        OSError: If the folder cannot be made or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    hidden = f".{secrets.token_hex(8)}"
    temporary = {name: folder / f"{hidden}.{name}" for name in contents}
    try:
        for name, content in contents.items():
            # Not tempfile: its files are readable by their owner only, whatever the umask is.
            with temporary[name].open("x+b") as file:
                if callable(content):
                    content(file)
                else:
                    file.write(content)
                file.flush()
                # Without this a power cut may keep the rename and lose the bytes.
                os.fsync(file.fileno())
        for name, path in temporary.items():
            path.replace(folder / name)
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)


# Temporary files and paths ---------------------------------------------------------------------------------------


def assets() -> Path:
    """Return the folder of what ships beside the code, in a checkout or in an installed wheel."""
    package = Path(__file__).parent
    installed = package / "assets"
    if installed.is_dir():
        return installed
    return package.parent / "assets"


def package_folder(name: str) -> Path | None:
    """Return the folder of an installed package, whose code is not imported; None without it."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent


@contextmanager
def scratch() -> Iterator[Path]:
    """Make a folder for temporary files that lasts as long as the block; remove those of killed processes."""
    with tempfile.TemporaryDirectory(prefix=_SCRATCH) as folder:
        sweep(Path(folder).parent, re.compile(f"{_SCRATCH}[a-z0-9_]{{8}}"))
        yield Path(folder)


@cache
def process_folder() -> Path:
    """Return a folder for temporary files that lasts as long as the process."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(scratch())


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


def read_beside(module: str) -> JsonObject:
    """Read the TOML file of texts and names beside a module, given the module's ``__file__``."""
    return tomllib.loads(Path(module).with_suffix(".toml").read_text(encoding="utf-8"))


def read_bounded_json(path: Path, most: int) -> Any:
    """Read a JSON file of at most ``most`` bytes.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is larger, or holds no JSON.
    """
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"more than {most:,} bytes")
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("nested too deep") from None


def read_array(body: io.BytesIO, end: int) -> Array:
    """Read the next array in NumPy's format; its size is checked before memory is allocated.

    Raises:
        ValueError: If it is damaged, larger than what is left before ``end``, or holds Python objects.
    """
    start = body.tell()
    shape, dtype = array_header(body)
    if math.prod(shape) * dtype.itemsize > end - body.tell():
        raise ValueError("an array that is larger than its file")
    body.seek(start)
    return np.lib.format.read_array(body, allow_pickle=False)


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
    return json.loads(json.dumps(value, default=_to_plain), parse_constant=lambda _: None)


def _to_plain(value: object) -> Any:
    if is_dataclass(value):
        # Not ``vars``: what msgspec reads holds no defaults.
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
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
