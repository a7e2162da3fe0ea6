"""The result cache on disk.

What a stage measured is kept under a key made of everything it depends on, so nothing known is computed
again and nothing stale is ever found. Neither joblib nor diskcache serves: both load pickles, and whoever can
write to the folder could then run code here. An entry is one JSON line and plain NumPy arrays behind a checksum.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cahp import processes as parallel
from cahp.files import expanded, read_array, write_whole
from cahp.values import digest

T = TypeVar("T")

#: Part of the checksum: an entry that another version laid out differently counts as absent.
_FORMAT = b"cahp.store/1"
_SUFFIX = ".entry"
_HOUR_NS = 3600 * 10**9
_PRIVATE = 0o700
_CHECKSUM_BYTES = hashlib.sha256().digest_size


def key(stage: str, *parts: object) -> str:
    """The name of a result: SHA-256 of the stage and of all that its result depends on, as 64 hex digits.

    ``parts`` are what JSON can say: None, booleans, integers, finite floats, strings, and lists, tuples and
    string-keyed dicts of them. The order of a dict's keys does not matter; 1, 1.0 and True differ. A stage
    whose numbers change for the same parts (a bug fix) adds a revision number to them.

    Raises:
        TypeError: For anything else; pass a digest instead.
        ValueError: For a float that is not finite.
    """
    _check_canonical(parts)
    return digest(stage, json.dumps(parts, sort_keys=True, separators=(",", ":")))


def _check_canonical(value: object) -> None:
    if isinstance(value, dict):
        for name, item in value.items():
            # json.dumps would turn the keys 1 and "1" into one.
            if not isinstance(name, str):
                raise TypeError(f"a dict with the key {name!r} cannot be part of a key; use strings")
            _check_canonical(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_canonical(item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} cannot be part of a key; use None")
    elif value is not None and not isinstance(value, (bool, int, float, str)):
        raise TypeError(f"{type(value).__name__} cannot be part of a key; pass a digest or a plain number")


@dataclass(frozen=True, eq=False)
class Entry:
    """What a stage left: named arrays, and what JSON can say."""

    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)


class Store:
    """Results by key, in a folder that many processes may share.

    A broken entry counts as absent. The folder is its owner's only, as far as it is ours to say. A folder that cannot
    be used costs time, never an exception: the first problem is logged, and ``trouble`` keeps the sentence. Save no
    texts here: they would outlive their session.

    Args:
        folder: Where to keep results; by default the environment's ``CAHP_CACHE``, else the user's cache folder.
        limit_bytes: Above this, the entries unused for longest are removed.
        fresh: Find nothing, so that all is measured anew, but keep the new results.
    """

    def __init__(self, folder: Path | None = None, *, limit_bytes: int = 2 << 30, fresh: bool = False) -> None:
        named = folder or _named_folder()
        # A folder of its own: removing old entries must never meet files that are not ours.
        self.folder = (named or _default_folder()) / "results"
        # Whoever named a folder may have opened it to others, so that they share results.
        self._always_private = named is None
        self.trouble: str | None = None
        self.limit_bytes = limit_bytes
        self._fresh = fresh

    def load(self, key: str) -> Entry | None:
        """The entry saved under ``key``, or None."""
        path = self._path(key)
        if self._fresh:
            return None
        # Processes that work together must find the same, or they would part ways and wait for each other.
        entry, self.trouble = parallel.from_first(lambda: (self._read(key, path), self.trouble))
        return entry

    def holds(self, key: str) -> bool:
        """Whether something is kept under ``key``; it is not looked at."""
        path = self._path(key)
        return not self._fresh and parallel.from_first(path.exists)

    def read(self, key: str, of: Callable[[Entry], T]) -> T | None:
        """What ``of`` makes of the entry saved under ``key``, or None; an entry that it can make nothing of is removed.

        A checksum says that an entry is whole. Whether it holds what its key stands for only its reader can tell, by
        failing on what is missing or of another form.
        """
        entry = self.load(key)
        if entry is None:
            return None
        try:
            return of(entry)
        except Exception:  # what is missing or of another form fails in any way
            self.remove(key)
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
        # Both may fail in a folder that others fill and we may only read.
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
        arrays: Mapping[str, NDArray[Any]] | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> bool:
        """Keep arrays and JSON under ``key``, and say whether they are: an entry larger than the limit is not.

        Raises:
            TypeError: If ``meta`` is not JSON.
            ValueError: If an array holds Python objects.
        """
        path = self._path(key)

        def write() -> tuple[bool, str | None]:
            kept = False
            head = _head(key, arrays or {}, meta or {})
            size = len(head) + sum(np.asarray(array).nbytes for array in (arrays or {}).values())
            if size <= self.limit_bytes:
                try:
                    self._make_folder()
                    write_whole(path.parent, {path.name: lambda file: _pack(file, head, arrays or {})})
                    kept = True
                    self._evict()
                except OSError as error:
                    self._report(error)
            return kept, self.trouble

        kept, self.trouble = parallel.from_first(write)
        return kept

    def remove(self, key: str) -> None:
        """Forget what is kept under ``key``, if anything is."""
        path = self._path(key)
        if parallel.first():
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        if not re.fullmatch("[0-9a-f]{64}", key):
            raise ValueError(f"{key!r} is not a key; make one with cahp.store.key")
        return self.folder / f"{key}{_SUFFIX}"

    def _make_folder(self) -> None:
        """Make the folder, for its owner only: what a text was answered, and how many texts there are, is theirs."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.folder.mkdir(mode=_PRIVATE)
        except FileExistsError:
            if self._always_private and self.folder.stat().st_mode & 0o077:
                # Made by an earlier version; another person's folder cannot be changed, and is theirs to change.
                with contextlib.suppress(OSError):
                    self.folder.chmod(_PRIVATE)

    def _evict(self) -> None:
        """Remove the entries unused for longest until the rest fits the limit."""
        files = []
        with os.scandir(self.folder) as found:
            for item in found:
                # Another process may remove any of them at any time.
                with contextlib.suppress(FileNotFoundError):
                    if item.name.endswith(_SUFFIX):
                        status = item.stat()
                        files.append((status.st_mtime_ns, status.st_size, item))
        # A temporary name is another process at work, or, after an hour, what a killed one left behind. The
        # entry just written tells the time.
        stale = max((used for used, _, _ in files), default=0) - _HOUR_NS
        entries = []
        for used, size, item in files:
            if not item.name.startswith("."):
                entries.append((used, size, item))
            elif used < stale:
                Path(item).unlink(missing_ok=True)
        excess = sum(size for _, size, _ in entries) - self.limit_bytes
        for _, size, item in sorted(entries, key=lambda entry: entry[0]):
            if excess <= 0:
                break
            Path(item).unlink(missing_ok=True)
            excess -= size

    def _report(self, error: OSError) -> None:
        if self.trouble is None:
            self.trouble = (
                f"Results are not kept: {self.folder} cannot be used ({error.strerror or error}); "
                "name another folder in CAHP_CACHE."
            )
            logging.getLogger(__name__).warning(self.trouble)


def _named_folder() -> Path | None:
    named = os.environ.get("CAHP_CACHE")
    return expanded(Path(named)) if named else None


def _default_folder() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("cahp", appauthor=False)


def _head(key: str, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> bytes:
    # The key is stored too, so that a file renamed by hand is not taken for another result.
    return json.dumps({"key": key, "arrays": list(arrays), "meta": dict(meta)}).encode() + b"\n"


def _pack(file: IO[bytes], head: bytes, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an entry; nothing as large as its arrays is ever made in memory."""
    file.write(bytes(_CHECKSUM_BYTES))
    body = _Summing(file)
    body.write(head)
    for array in arrays.values():
        np.lib.format.write_array(body, np.asarray(array), allow_pickle=False)
    file.seek(0)
    file.write(body.sha.digest())


class _Summing:
    """A file that sums up what is written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.sha, self._file = hashlib.sha256(_FORMAT), file

    def write(self, content: bytes) -> int:
        self.sha.update(content)
        return self._file.write(content)


def _unpack(key: str, data: bytes) -> Entry | None:
    if _checksum(memoryview(data)[_CHECKSUM_BYTES:]) != data[:_CHECKSUM_BYTES]:
        return None
    # The sum says that the bytes are whole, not that _pack made them: whoever can write here can make a sum.
    body = io.BytesIO(data)
    body.seek(_CHECKSUM_BYTES)
    try:
        head = json.loads(body.readline())
        if head["key"] != key or not isinstance(head["meta"], dict) or not isinstance(head["arrays"], list):
            return None
        arrays = {str(name): read_array(body, len(data)) for name in head["arrays"]}
    except (ValueError, KeyError, TypeError, RecursionError, MemoryError):
        return None
    return Entry(arrays=arrays, meta=head["meta"]) if body.tell() == len(data) else None


def _checksum(content: memoryview) -> bytes:
    sha = hashlib.sha256(_FORMAT)
    sha.update(content)
    return sha.digest()
