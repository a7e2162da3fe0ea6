"""GGUF files as models: each is converted once into a folder of the cache, which is then a model like any other.

A folder is found again by the digest of its file. Configuration and tokenizer are converted when the model is first
identified, and the weights when they are first loaded. Chat templates are copied and never run.
"""

from __future__ import annotations

import math
import os
import re
import secrets
import shutil
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from cahp import hub
from cahp.files import UNFINISHED, json_text, sweep
from cahp.models.cards import ModelCard
from cahp.models.weights import WEIGHTS, read_json, sha256
from cahp.store import Store, cache_folder, key
from cahp.values import ModelError, digest
from cahp.words import size_of

# The header, checked against the bytes that are there before anything is made of it ---------------------------------
#
# Readers of the format make objects for every entry that a header lists and take memory for every size that it states.
# This one reads the header once, within bounds, and takes nothing for weights. The format:
# https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

SUFFIX = ".gguf"
_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_ALIGNMENT = 32
#: The types of metadata that are no numbers, and the formats of the others.
_STRING = 8
_ARRAY = 9
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_MOST_DIMENSIONS = 4
_LONGEST_KEY = 65_535
_LONGEST_STRING = 1 << 20
#: Readers take about 500 bytes for each entry (of metadata, of its lists, of the table of tensors), and an entry of a
#: vocabulary has a row of weights: entries that any file may have, and bytes of the file for each further one.
_ENTRIES = 10_000
_BYTES_PER_ENTRY = 32
#: Merges of a vocabulary may be computed from all parts of its words: sum of the squares of their lengths that any
#: file may have, and how much more for each of its bytes.
_SQUARES = 10_000_000
_SQUARES_PER_BYTE = 1
#: Formats of numbers that are no blocks of few bits.
_PLAIN = ("F64", "F32", "F16", "BF16", "I8", "I16", "I32", "I64")
_BITS = re.compile(r"(?:I?Q|TQ|MXFP|NVFP)(\d)")


@dataclass(frozen=True)
class Header:
    """The header of a GGUF file.

    ``metadata`` holds single values by name; lists, such as the vocabulary, are left out. ``tensors`` maps the name of
    each tensor to the name of its number format and its count of numbers.
    """

    architecture: str
    metadata: Mapping[str, Any]
    tensors: Mapping[str, tuple[str, int]]

    @property
    def numbers(self) -> int:
        """The count of numbers in all tensors."""
        return sum(count for _, count in self.tensors.values())

    @property
    def note(self) -> str | None:
        """What the user should know about weights of few bits; None if they are plain numbers."""
        counts: dict[str, int] = {}
        for kind, count in self.tensors.values():
            counts[kind] = counts.get(kind, 0) + count
        kind = max(counts, key=lambda kind: counts[kind])
        if kind in _PLAIN:
            return None
        bits = _BITS.match(kind)
        name = "quantized"
        if bits is not None:
            name = f"{bits[1]}-bit"
        return f"{name} weights ({kind}) expanded to float32, not the published ones"

    @property
    def scales_positions(self) -> bool:
        """Whether rotary positions are scaled for long texts."""
        if any(name.startswith("rope_") for name in self.tensors):
            return True
        return any(key.endswith(".rope.scaling.type") and value != "none" for key, value in self.metadata.items())


class _BrokenError(Exception):
    """The file is not what it says it is."""


def read_header(path: Path) -> Header:
    """Read and check the header of a GGUF file; no weights are read.

    Raises:
        ModelError: If it is damaged or cut short, is a part of a model, or claims more than its bytes can hold.
    """
    try:
        with path.open("rb") as file:
            return _Reader(path, file).read()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); check its permissions") from None
    except (_BrokenError, UnicodeDecodeError):
        raise ModelError(f"{path} is not a whole GGUF file; download or convert it again") from None


class _Reader:
    """Reads a header from its beginning to its end."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path = path
        self._file = file
        self._size = path.stat().st_size
        self._at = 0
        self._entries = _ENTRIES + self._size // _BYTES_PER_ENTRY
        self._squares = _SQUARES + self._size * _SQUARES_PER_BYTE

    def read(self) -> Header:
        if self._take(4) != _MAGIC:
            raise _BrokenError
        version = self._number("I")
        if version & 0xFFFF == 0:
            raise ModelError(f"{self._path} is a big-endian GGUF file; convert it to little-endian")
        if version not in _VERSIONS:
            raise ModelError(
                f"{self._path} has version {version} of the GGUF format, and versions 2 and 3 can be read; download or "
                "convert it again"
            )
        tensor_count = self._number("Q")
        value_count = self._number("Q")
        self._spend(tensor_count + value_count)
        metadata: dict[str, Any] = {}
        for _ in range(value_count):
            key = self._text(_LONGEST_KEY)
            if key in metadata:
                raise _BrokenError
            metadata[key] = self._value(self._number("I"))
        if (parts := metadata.get("split.count", 0)) not in (0, 1):
            raise ModelError(
                f"{self._path} is one of {str(parts)[:20]} parts of a model; join them with `llama-gguf-split "
                "--merge`, and name the whole file"
            )
        architecture = metadata.get("general.architecture")
        if not isinstance(architecture, str) or not re.fullmatch(r"[\w.-]{1,60}", architecture, re.ASCII):
            raise _BrokenError
        layers = [value for key, value in metadata.items() if key.endswith("block_count") and isinstance(value, int)]
        if max(layers, default=0) > tensor_count:
            raise ModelError(
                f"{self._path} claims {max(layers):,} layers and holds {tensor_count:,} tensors: it is damaged; "
                "download or convert it again"
            )
        alignment = metadata.get("general.alignment", _ALIGNMENT)
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise _BrokenError
        return Header(architecture, metadata, self._tensors(tensor_count, alignment))

    def _tensors(self, count: int, alignment: int) -> dict[str, tuple[str, int]]:
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        tensors: dict[str, tuple[str, int]] = {}
        places: list[tuple[int, int]] = []
        for _ in range(count):
            name = self._text(_LONGEST_KEY)
            dimensions = self._number("I")
            if name in tensors or not 1 <= dimensions <= _MOST_DIMENSIONS:
                raise _BrokenError
            shape = [self._number("Q") for _ in range(dimensions)]
            kind = self._number("I")
            offset = self._number("Q")
            sizes = GGML_QUANT_SIZES.get(kind)
            if sizes is None:
                raise ModelError(
                    f"{self._path} stores numbers in format {kind}, which the installed package gguf does not know; "
                    "name a file in another format, or install a newer gguf"
                )
            numbers = math.prod(shape)
            # A row, whose length comes first, consists of whole blocks.
            if numbers == 0 or shape[0] % sizes[0]:
                raise _BrokenError
            tensors[name] = GGMLQuantizationType(kind).name, numbers
            places.append((offset, numbers // sizes[0] * sizes[1]))
        if not tensors:
            raise _BrokenError
        # The tensors begin at the next multiple of the alignment, lie in the file and share no bytes.
        start = -(-self._at // alignment) * alignment
        end = 0
        for offset, size in sorted(places):
            if offset < end:
                raise _BrokenError
            end = offset + size
        if start + end > self._size:
            raise _BrokenError
        return tensors

    def _value(self, kind: int) -> Any:
        """The next value of metadata; None for a list."""
        if kind in _NUMBERS:
            return self._number(_NUMBERS[kind])
        if kind == _STRING:
            return self._text(_LONGEST_STRING)
        if kind != _ARRAY:
            raise _BrokenError
        item = self._number("I")
        count = self._number("Q")
        self._spend(count)
        if item in _NUMBERS:
            self._take(count * struct.calcsize(f"<{_NUMBERS[item]}"))
        elif item == _STRING:
            for _ in range(count):
                self._squares -= len(self._bytes(_LONGEST_STRING)) ** 2
                if self._squares < 0:
                    raise self._too_much("longer words")
        else:
            raise _BrokenError
        return None

    def _spend(self, entries: int) -> None:
        self._entries -= entries
        if self._entries < 0:
            raise self._too_much("more entries")

    def _too_much(self, what: str) -> ModelError:
        return ModelError(
            f"the header of {self._path} lists {what} than a model of {self._size:,} bytes has: it is damaged; "
            "download or convert it again"
        )

    def _text(self, longest: int) -> str:
        return self._bytes(longest).decode()

    def _bytes(self, longest: int) -> bytes:
        length = self._number("Q")
        if length > longest:
            raise _BrokenError
        return self._take(length)

    def _number(self, form: str) -> Any:
        (number,) = struct.unpack(f"<{form}", self._take(struct.calcsize(f"<{form}")))
        return number

    def _take(self, count: int) -> bytes:
        if count > self._size - self._at:
            raise _BrokenError
        self._at += count
        data = self._file.read(count)
        if len(data) < count:
            raise _BrokenError
        return data


# The cache of converted files ---------------------------------------------------------------------------------------

#: Bump it when the same file is converted to other answers: folders and results of before are not used again.
_REVISION = "cahp.gguf/1"
#: What a folder knows of its file: the count of numbers, and notes for the user.
_FACTS = "gguf.json"
_PRIVATE = 0o700
_STAGE = "convert"
#: Bytes of converted models in the cache. Those above it that were used least recently are removed, unless they were
#: used within a day.
_LIMIT_BYTES = 16 << 30
_DAY_S = 86_400
_POLL_S = 0.5
#: A file that changed so recently may change again without another time.
_SETTLED_NS = 2_000_000_000


def is_gguf(path: Path) -> bool:
    """Whether a path has the suffix of GGUF files."""
    return path.suffix.lower() == SUFFIX


def file_digest(path: Path) -> str:
    """SHA-256 of a file, which is remembered as long as the file does not change.

    Raises:
        ModelError: If it cannot be read.
    """
    path = path.resolve()
    try:
        status = path.stat()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); check its path and permissions") from None
    state = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    store = Store()
    name = key("file", 1, str(path), *state)
    known = store.read(name, lambda entry: str(entry.meta["sha256"]))
    if known is not None:
        return known
    content = sha256(path)
    if time.time_ns() - status.st_mtime_ns > _SETTLED_NS:
        store.save(name, meta={"sha256": content})
    return content


@dataclass(frozen=True)
class Prepared:
    """A file whose configuration and tokenizer lie in ``folder``.

    ``numbers`` is the count of its weights, and ``notes`` are for the user. ``sha256`` stands for all that it answers.
    """

    folder: Path
    numbers: int
    notes: tuple[str, ...]
    sha256: str


def prepare(name: str, path: Path) -> Prepared:
    """Convert configuration and tokenizer of the model ``name`` in the file at ``path``, unless they are there.

    Raises:
        ModelError: If the file is damaged, or cannot be read by transformers.
    """
    content = file_digest(path)
    folder = _folder(content)
    if not (folder / _FACTS).is_file():
        with _locked(folder):
            if not (folder / _FACTS).is_file():
                _write_description(name, path, folder)
    facts = read_json(folder / _FACTS)
    with suppress(OSError):
        os.utime(folder)
    return Prepared(folder, int(facts["numbers"]), tuple(facts["notes"]), digest(_REVISION, content))


def convert_weights(card: ModelCard) -> None:
    """Write the weights of a card from its GGUF file into its folder, unless they are there.

    Raises:
        ModelError: If the file is gone, was changed, or its weights cannot be used.
    """
    assert card.source is not None
    path = Path(card.source)
    folder = Path(card.folder)
    if (folder / WEIGHTS).is_file():
        return
    _check_unchanged(path, folder)
    with _locked(folder):
        if not (folder / _FACTS).is_file():
            # Removed by another process to make room.
            _write_description(card.id, path, folder)
        if not (folder / WEIGHTS).is_file():
            from cahp.models.gguf_conversion import write_weights

            header = read_header(path)
            needed = 4 * header.numbers
            room = shutil.disk_usage(folder).free
            if needed > room:
                raise ModelError(
                    f"converting {card.id} takes {size_of(needed)} in {_home()}, and {size_of(room)} are free; free "
                    "some space there, or set CAHP_CACHE to another folder"
                )
            with _prepared() as part:
                write_weights(card, path, part, header, hub.report)
                _check_unchanged(path, folder)
                # Moved last: a folder with weights in it holds a complete model.
                (part / WEIGHTS).replace(folder / WEIGHTS)
    _make_room(folder)


def _home() -> Path:
    return cache_folder() / "models"


def _folder(content: str) -> Path:
    """The folder of the model in a file with this digest."""
    return _home() / digest(_REVISION, content)[:40]


def _write_description(name: str, path: Path, folder: Path) -> None:
    from cahp.models.gguf_conversion import write_description

    header = read_header(path)
    with _prepared() as part:
        notes = write_description(name, path, part, header, hub.report)
        facts = {"numbers": header.numbers, "notes": [note for note in (header.note, *notes) if note]}
        (part / _FACTS).write_text(json_text(facts), encoding="utf-8")
        _check_unchanged(path, folder)
        part.rename(folder)


def _check_unchanged(path: Path, folder: Path) -> None:
    if _folder(file_digest(path)) != folder:
        raise ModelError(f"{path} was changed since it was opened; open it again")


@contextmanager
def _prepared() -> Iterator[Path]:
    """Make a hidden folder for files that then take their place; remove what is left of it."""
    part = _home() / f".{secrets.token_hex(8)}"
    try:
        part.mkdir(mode=_PRIVATE)
        yield part
    except OSError as error:
        raise ModelError(
            f"the converted model cannot be written to {_home()} ({error.strerror or error}); free some space there, "
            "or set CAHP_CACHE to another folder"
        ) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process after the other convert the model of ``folder``."""
    try:
        _home().mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        lock = FileLock(_home() / f"{folder.name}.lock")
        while True:
            try:
                lock.acquire(timeout=_POLL_S)
                break
            except Timeout:
                # It may be cancelled while another process converts.
                hub.report(_STAGE, 0, 1)
    except OSError as error:
        raise ModelError(
            f"{_home()} cannot be written to ({error.strerror or error}); set CAHP_CACHE to another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _make_room(kept: Path) -> None:
    """Remove what killed processes left, and other models that were used least recently until the rest fits."""
    sweep(_home(), UNFINISHED)
    # Another process may remove any of them at any time.
    with suppress(OSError):
        models = [folder for folder in _home().iterdir() if (folder / WEIGHTS).is_file()]
        others = sorted((folder.stat().st_mtime, (folder / WEIGHTS).stat().st_size, folder) for folder in models)
        excess = sum(size for _, size, _ in others) - _LIMIT_BYTES
        for used, size, folder in others:
            if excess > 0 and folder != kept and used < time.time() - _DAY_S:
                # Renamed first, so that no process reads a folder that is half deleted.
                gone = folder.rename(folder.with_name(f".{secrets.token_hex(8)}"))
                shutil.rmtree(gone, ignore_errors=True)
                excess -= size
