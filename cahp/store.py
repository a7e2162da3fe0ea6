"""The result cache on disk.

The result of a stage is stored under a key made of everything it depends on, so that nothing is computed twice and no
stale result is used. An entry is one JSON line and plain NumPy arrays behind a checksum. joblib and diskcache are not
used because both load pickles, which can run any code.
"""

import contextlib
import hashlib
import io
import json
import logging
import os
import re
import secrets
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
import platformdirs

from cahp.files import UNFINISHED, assets, expanded, read_array, sweep, write_whole
from cahp.values import Arrays, CahpError, Fields, digest

T = TypeVar("T")

#: Part of the checksum: bump it with the layout of an entry, and older entries count as absent.
_FORMAT = b"cahp.store/1"
_SUFFIX = ".entry"
_PRIVATE = 0o700
_CHECKSUM_BYTES = hashlib.sha256().digest_size
#: The folder of this package, and the packages in it whose code decides which heads are chosen.
_PACKAGE = Path(__file__).parent
_CHOOSING = ("methods", "models", "stages", "tasks", "values")
#: Another text in each process.
_SESSION = secrets.token_hex()
#: What a reader raises for an entry whose content it does not know. Other errors say nothing about the entry.
_UNKNOWN = (LookupError, ValueError, TypeError, ArithmeticError, CahpError)


def key(stage: str, *parts: object) -> str:
    """Make the key of a result: SHA-256 of the stage and of everything its result depends on, as 64 hex digits.

    ``parts`` may hold None, booleans, integers, finite floats, strings, and lists, tuples and string-keyed dicts of
    them. The order of a dict's keys does not matter; 1, 1.0 and True differ. Add a revision number for changed numbers.

    Raises:
        TypeError: For a value of another type; pass a digest instead.
        ValueError: For a float that is not finite; pass None instead.
    """
    return digest(stage, json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False))


def digest_code(modules: Collection[str]) -> str:
    """Digest the code of ``modules``, so that changed code finds no results of the old one.

    All code of this package that decides which heads are chosen counts, too, and of another package all of its files.
    Code without a file, as in a notebook, counts as changed in each session, and when a name there has another value.
    """
    digests = [_digest_package(_PACKAGE)]
    for module in modules:
        if not _list_files(module):
            digests += [_SESSION, repr([*map(id, getattr(sys.modules.get(module), "__dict__", {}).values())])]
    for file in sorted({file for module in modules for file in _list_files(module)}):
        with contextlib.suppress(OSError):
            digests += [file.name, digest(file.read_bytes())]
    return digest(*digests)


@lru_cache
def _digest_package(folder: Path) -> str:
    """Digest the code in the package ``folder`` that decides which heads are chosen, with the package's version."""
    digests = [version("cahp-explorer")]
    for name in _CHOOSING:
        for file in _list_code(folder / name):
            digests += [file.relative_to(folder).as_posix(), digest(file.read_bytes())]
    return digest(*digests)


def _list_code(folder: Path) -> list[Path]:
    """List the code in a folder, with the texts that it reads."""
    return sorted([*folder.rglob("*.py"), *folder.rglob("*.toml")])


def _list_files(module: str) -> list[Path]:
    """List the file or the folder of a module of this package, or all files of another; none if there are none."""
    first, *rest = module.split(".")
    if first == _PACKAGE.name:
        place = _PACKAGE.joinpath(*rest)
        return [place.with_suffix(".py"), *_list_code(place)]
    package = sys.modules.get(first)
    files = [Path(file) for file in [getattr(package, "__file__", None)] if file is not None]
    return files + [file for folder in getattr(package, "__path__", ()) for file in Path(folder).rglob("*.py")]


def cache_folder() -> Path:
    """Return the folder of all that is cached: the environment's ``CAHP_CACHE``, else in the user's cache folder."""
    named = os.environ.get("CAHP_CACHE")
    if named:
        return expanded(Path(named))
    return platformdirs.user_cache_path("cahp", appauthor=False)


@dataclass(frozen=True, eq=False)
class Entry:
    """A stored result: named arrays, and metadata as JSON.

    ``made`` names the ``machine`` and the ``date`` of a result that ships with the package; others have none.
    """

    arrays: Arrays = field(default_factory=dict)
    meta: Fields = field(default_factory=dict)
    made: Mapping[str, str] = field(default_factory=dict)


class Store:
    """Results by key, in a folder that many processes may share, and behind it those that ship with the package.

    A damaged entry counts as absent. A new folder is readable by its owner only. A folder that cannot be used raises no
    error: the first problem is logged and kept in ``trouble``. Never store texts: they would outlive their session.

    Args:
        folder: Where to store results; by default the environment's ``CAHP_CACHE``, else the user's cache folder.
        shipped: A folder of results that is only read, after the other one; by default that of the package.
        limit_bytes: Above this size, the least recently used entries are removed.
        fresh: Return no result of others, so that everything is measured again, once; the new results are stored.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        shipped: Path | None = None,
        limit_bytes: int = 2 << 30,
        fresh: bool = False,
    ) -> None:
        # A subfolder, so that removing old entries never touches files of others.
        self.folder = (folder or cache_folder()) / "results"
        self.shipped = shipped or assets() / "results"
        self.trouble: str | None = None
        self.limit_bytes = limit_bytes
        self.fresh = fresh
        #: The keys that were saved here.
        self._saved: set[str] = set()

    def load(self, key: str) -> Entry | None:
        """Return the entry stored under ``key``, or None."""
        path = self._path(key)
        if self._hides(key):
            return None
        entry = self._read(key, path)
        if entry is None and (self.shipped / path.name).is_file():
            entry = _read_shipped(key, self.shipped / path.name)
        return entry

    def holds(self, key: str) -> bool:
        """Tell whether an entry is stored under ``key``, without reading it."""
        path = self._path(key)
        return not self._hides(key) and (path.exists() or (self.shipped / path.name).exists())

    def _hides(self, key: str) -> bool:
        return self.fresh and key not in self._saved

    def read(self, key: str, convert: Callable[[Entry], T]) -> T | None:
        """Return ``convert`` of the entry stored under ``key``, or None without one.

        The checksum proves that an entry is whole, but only ``convert`` can tell whether its content fits. An entry in
        which it misses something, or finds something of another form, counts as absent, with a warning. It stays in
        place, because the mistake may be in the reader. Other errors, such as a lack of memory, are raised.
        """
        entry = self.load(key)
        if entry is None:
            return None
        try:
            return convert(entry)
        except _UNKNOWN as error:
            logging.getLogger(__name__).warning(
                "A stored result cannot be used and is measured again (%s: %s).", type(error).__name__, error
            )
            return None

    def _read(self, key: str, path: Path) -> Entry | None:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._report(error)
            return None
        entry = _unpack(key, data)
        # Both fail in a shared folder that this user may only read.
        with contextlib.suppress(OSError):
            if entry is None:
                path.unlink(missing_ok=True)
            else:
                os.utime(path)
        return entry

    def save(
        self,
        key: str,
        *,
        arrays: Arrays | None = None,
        meta: Fields | None = None,
        made: Mapping[str, str] | None = None,
    ) -> bool:
        """Store arrays and JSON under ``key``, and tell whether they were stored: an entry above the limit is not.

        ``made`` says where and when a result was measured that is to ship.

        Raises:
            TypeError: If ``meta`` is not JSON.
            ValueError: If an array holds Python objects.
        """
        path = self._path(key)
        arrays = arrays or {}
        # The key is stored too, so that a file renamed by hand is not taken for another result.
        facts = {"key": key, "meta": dict(meta or {}), "made": made or {}, "arrays": list(arrays)}
        head = json.dumps(facts).encode() + b"\n"
        if len(head) + sum(np.asarray(array).nbytes for array in arrays.values()) > self.limit_bytes:
            return False
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            # Results tell about their owner's texts.
            self.folder.mkdir(mode=_PRIVATE, exist_ok=True)
            write_whole(path.parent, {path.name: lambda file: _pack(file, head, arrays)})
            self._saved.add(key)
            self._evict()
        except OSError as error:
            self._report(error)
            return False
        return True

    def remove(self, key: str) -> None:
        """Remove the entry stored under ``key``, if there is one."""
        path = self._path(key)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        if not re.fullmatch("[0-9a-f]{64}", key):
            raise ValueError(f"{key!r} is not a key; make one with cahp.store.key")
        return self.folder / f"{key}{_SUFFIX}"

    def _evict(self) -> None:
        """Remove what killed processes left, and the least recently used entries until the rest fits the limit."""
        sweep(self.folder, UNFINISHED)
        files = []
        for path in self.folder.glob(f"[!.]*{_SUFFIX}"):
            # Another process may remove any of them at any time.
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                files.append((status.st_mtime_ns, status.st_size, path))
        excess = sum(size for _, size, _ in files) - self.limit_bytes
        for _, size, path in sorted(files):
            if excess > 0:
                path.unlink(missing_ok=True)
                excess -= size

    def _report(self, error: OSError) -> None:
        if self.trouble is None:
            self.trouble = (
                f"Results are not stored: {self.folder} cannot be used ({error.strerror or error}); "
                "set CAHP_CACHE to another folder."
            )
            logging.getLogger(__name__).warning(self.trouble)


@dataclass
class StoredTraining:
    """An interrupted training under its ``name`` in the store; ``resumed`` if one was loaded."""

    store: Store
    name: str
    resumed: bool = field(default=False, init=False)
    _saved: bool = field(default=True, init=False)

    def load(self) -> tuple[Arrays, Fields] | None:
        """Return the last state, or None."""
        entry = self.store.load(self.name)
        if entry is None:
            return None
        self.resumed = True
        return entry.arrays, entry.meta

    def save(self, arrays: Arrays, meta: Fields) -> None:
        """Replace the stored state; warn once where it is not kept, such as one above the limit of the store."""
        saved = self.store.save(self.name, arrays=arrays, meta=meta)
        if self._saved and not saved:
            logging.getLogger(__name__).warning(
                "The state of this training cannot be kept; if it is interrupted, it begins again."
            )
        self._saved = saved

    def remove(self) -> None:
        """Remove the stored state."""
        self.store.remove(self.name)


def _pack(file: IO[bytes], head: bytes, arrays: Arrays) -> None:
    """Write an entry without a second copy of its arrays in memory."""
    file.write(bytes(_CHECKSUM_BYTES) + head)
    for array in arrays.values():
        np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
    sha = hashlib.sha256(_FORMAT)
    file.seek(_CHECKSUM_BYTES)
    while block := file.read(1 << 20):
        sha.update(block)
    file.seek(0)
    file.write(sha.digest())


@lru_cache(maxsize=128)
def _read_shipped(key: str, path: Path) -> Entry | None:
    """Read an entry that ships with the package; its file never changes, so each is read once.

    All sessions share its arrays, which are therefore read-only.
    """
    entry = _unpack(key, path.read_bytes())
    if entry is not None:
        for array in entry.arrays.values():
            array.flags.writeable = False
    return entry


def _unpack(key: str, data: bytes) -> Entry | None:
    content = memoryview(data)[_CHECKSUM_BYTES:]
    sha = hashlib.sha256(_FORMAT)
    sha.update(content)
    if sha.digest() != data[:_CHECKSUM_BYTES]:
        return None
    # The checksum proves that the bytes are whole, not that _pack wrote them.
    body = io.BytesIO(content)
    try:
        head = json.loads(body.readline())
        arrays = {str(name): read_array(body, len(data)) for name in head["arrays"]}
        if head["key"] == key and body.tell() == len(content):
            return Entry(arrays, {**head["meta"]}, head.get("made", {}))
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return None
