"""GGUF files as models: each is converted once into a folder of the cache, which is then a model like any other.

A folder is found again by the digest of its file. Configuration and tokenizer are converted when the model is first
identified, and the weights when they are first loaded. Chat templates are copied and never run.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from cahp import hub
from cahp.files import UNFINISHED, json_text, sweep, write_whole
from cahp.models.cards import ModelCard
from cahp.models.description import check_attention, describe_config
from cahp.models.gguf_header import SUFFIX, read_header
from cahp.models.weights import CONFIG, WEIGHTS, read_json, sha256
from cahp.store import cache_folder
from cahp.values import ModelError, digest
from cahp.words import size_of

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
    note = f"{digest(str(path))[:40]}.json"
    try:
        status = path.stat()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); check its path and permissions") from None
    state = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    with suppress(OSError, ValueError, LookupError, TypeError):
        known = json.loads((_home() / "digests" / note).read_text(encoding="utf-8"))
        if known["state"] == state:
            return str(known["sha256"])
    content = sha256(path)
    if time.time_ns() - status.st_mtime_ns > _SETTLED_NS:
        with suppress(OSError):
            entry = json_text({"state": state, "sha256": content})
            write_whole(_make_folder(_home() / "digests"), {note: entry.encode()})
    return content


def describe_gguf(name: str, path: Path) -> ModelCard:
    """Make the card of the model ``name`` in the file at ``path``; its weights are not read.

    Raises:
        ModelError: If the file is damaged, cannot be read by transformers, or holds a model that cannot be used.
    """
    content = file_digest(path)
    folder = _folder(content)
    if not (folder / _FACTS).is_file():
        with _locked(folder):
            if not (folder / _FACTS).is_file():
                _write_description(name, path, folder)
    facts = read_json(folder / _FACTS)
    numbers = int(facts["numbers"])
    try:
        card = describe_config(name, folder, weight_bytes=4 * numbers)
        check_attention(card, numbers)
    except ModelError as error:
        # The configuration is the file's.
        raise ModelError(str(error).replace(str(folder / CONFIG), str(path))) from None
    with suppress(OSError):
        os.utime(folder)
    return replace(
        card,
        sha256=digest(_REVISION, content),
        source=str(path.resolve()),
        notes=(*facts["notes"], *card.notes),
        details={**(card.details or {}), "bytes": 4 * numbers, "parameters": numbers, "types": {"F32": numbers}},
    )


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
            _write_weights(card, path, folder)
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


def _write_weights(card: ModelCard, path: Path, folder: Path) -> None:
    from cahp.models.gguf_conversion import write_weights

    header = read_header(path)
    needed = 4 * header.numbers
    room = shutil.disk_usage(folder).free
    if needed > room:
        raise ModelError(
            f"converting {card.id} takes {size_of(needed)} in {_home()}, and {size_of(room)} are free; free some space "
            "there, or set CAHP_CACHE to another folder"
        )
    with _prepared() as part:
        write_weights(card, path, part, header, hub.report)
        _check_unchanged(path, folder)
        # Moved last: a folder with weights in it holds a complete model.
        (part / WEIGHTS).replace(folder / WEIGHTS)


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
        lock = FileLock(_make_folder(_home()) / f"{folder.name}.lock")
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


def _make_folder(folder: Path) -> Path:
    cache_folder().mkdir(parents=True, exist_ok=True)
    for part in (_home(), folder):
        part.mkdir(mode=_PRIVATE, exist_ok=True)
    return folder


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
