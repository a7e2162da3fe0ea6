"""GGUF files as models: each is converted once into a folder of the cache, which is then a model like any other.

A folder is found again by the digest of its file. Configuration and tokenizer are converted when the model is first
identified, and the weights when they are first loaded. Chat templates are copied and never run.
"""

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from cahp import hub
from cahp.files import UNFINISHED, json_text, sweep
from cahp.models.cards import ModelCard
from cahp.models.weights import WEIGHTS, file_digest, read_json
from cahp.store import cache_folder
from cahp.values import ModelError, Notices, digest
from cahp.words import size_of

SUFFIX = ".gguf"
#: Bump it when the same file is converted to other answers: folders and results of before are not used again.
_REVISION = "cahp.gguf/1"
#: What a folder knows of its file: the count of numbers, and notes for the user.
_FACTS = "gguf.json"
_PRIVATE = 0o700
#: Bytes of converted models in the cache. Those above it that were used least recently are removed, unless they were
#: used within a day.
_LIMIT_BYTES = 16 << 30
_DAY_S = 86_400


def is_gguf(path: Path) -> bool:
    """Whether a path has the suffix of GGUF files."""
    return path.suffix.lower() == SUFFIX


@dataclass(frozen=True)
class Prepared:
    """A file whose configuration and tokenizer lie in ``folder``.

    ``numbers`` is the count of its weights, and ``notes`` are for the user. ``sha256`` stands for all that it answers.
    """

    folder: Path
    numbers: int
    notes: Notices
    sha256: str


def prepare(name: str, path: Path) -> Prepared:
    """Convert configuration and tokenizer of the model ``name`` in the file at ``path``, unless they are there.

    Raises:
        ModelError: If the file is damaged, or cannot be read by transformers.
    """
    sha256 = digest(_REVISION, file_digest(path))
    folder = _home() / sha256[:40]
    if not (folder / _FACTS).is_file():
        from cahp.models import gguf_conversion

        with _converting(folder) as part:
            if not (folder / _FACTS).is_file():
                numbers, notes = gguf_conversion.write_description(name, path, part, hub.report)
                (part / _FACTS).write_text(json_text({"numbers": numbers, "notes": notes}), encoding="utf-8")
                _check_unchanged(path, folder)
                part.rename(folder)
    facts = read_json(folder / _FACTS)
    with suppress(OSError):
        os.utime(folder)
    return Prepared(folder, int(facts["numbers"]), tuple(facts["notes"]), sha256)


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
    # Another process may have removed its description to make room.
    needed = 4 * prepare(card.id, path).numbers
    room = shutil.disk_usage(folder).free
    if needed > room:
        raise ModelError(
            f"converting {card.id} takes {size_of(needed)} in {_home()}, and {size_of(room)} are free; free some space "
            "there, or set CAHP_CACHE to another folder"
        )
    from cahp.models import gguf_conversion

    with _converting(folder) as part:
        if not (folder / WEIGHTS).is_file():
            gguf_conversion.write_weights(card, path, part, hub.report)
            _check_unchanged(path, folder)
            # Moved last: a folder with weights in it holds a complete model.
            (part / WEIGHTS).replace(folder / WEIGHTS)
    _make_room(folder)


def _home() -> Path:
    return cache_folder() / "models"


def _check_unchanged(path: Path, folder: Path) -> None:
    if digest(_REVISION, file_digest(path))[:40] != folder.name:
        raise ModelError(f"{path} was changed since it was opened; open it again")


@contextmanager
def _converting(folder: Path) -> Iterator[Path]:
    """Make a hidden folder for files of ``folder``, one process after the other; remove what is left of it."""
    part = _home() / f".{secrets.token_hex(8)}"
    try:
        _home().mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        with FileLock(_home() / f"{folder.name}.lock"):
            part.mkdir(mode=_PRIVATE)
            yield part
    except OSError as error:
        raise ModelError(
            f"the converted model cannot be written to {_home()} ({error.strerror or error}); free some space there, "
            "or set CAHP_CACHE to another folder"
        ) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _make_room(kept: Path) -> None:
    """Remove what killed processes left, and other models that were used least recently until the rest fits."""
    sweep(_home(), UNFINISHED)
    # Another process may remove any of them at any time.
    with suppress(OSError):
        models = [folder for folder in _home().iterdir() if (folder / WEIGHTS).is_file()]
        models.sort(key=lambda folder: folder.stat().st_mtime)
        excess = sum((folder / WEIGHTS).stat().st_size for folder in models) - _LIMIT_BYTES
        for folder in models:
            if excess > 0 and folder != kept and folder.stat().st_mtime < time.time() - _DAY_S:
                excess -= (folder / WEIGHTS).stat().st_size
                # Renamed first, so that no process reads a folder that is half deleted.
                gone = folder.rename(folder.with_name(f".{secrets.token_hex(8)}"))
                shutil.rmtree(gone, ignore_errors=True)
