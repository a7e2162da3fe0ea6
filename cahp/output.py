"""The folder that results go to: looked at before hours of work, and again before anything in it is replaced.

What is replaced bears our own mark; anything else is replaced only on request (``--force``), and what came into the
folder while the work went on is kept: the results then go into a folder beside it.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from cahp.files import Content, sweep, write_whole
from cahp.values import CahpError, OptionError

#: The mark of a folder that was written as a whole: which files in it are ours, and what their maker says of them.
MARK = "cahp.json"
_SCHEMA = "cahp.folder/1"
#: What a mark is looked for in: it stands at the beginning of its file.
_HEAD_BYTES = 4096
_LARGEST_MARK = 1 << 20
#: Two renames take microseconds; whoever holds the lock for longer was stopped.
_PATIENCE_S = 10

#: Names of a file or folder under way, with the name that it will have.
_UNDER_WAY = re.compile(r"\.[0-9a-f]{16}(\..*)?", re.DOTALL)
#: What a folder that ``save_pretrained`` or an export of ours wrote may hold, and would be read with what is new.
_PART_OF_A_MODEL = re.compile(
    r"(adapter_)?model(-\d+-of-\d+)?\.safetensors(\.index\.json)?|(adapter_|generation_|tokenizer_)?config\.json"
    r"|(tokenizer|special_tokens_map|added_tokens|vocab|metrics|head_mask)\.json|(vocab|merges)\.txt|\w+\.model"
    r"|model\.onnx(\.data)?|load_pruned\.py|README\.md"
)


class UnwrittenError(CahpError):
    """Results that cannot be written; ``found`` is what was found, to be told all the same."""

    found: Mapping[str, Any] | None = None

    @staticmethod
    @contextmanager
    def saying(found: Mapping[str, Any]) -> Iterator[None]:
        """Whatever cannot be written while the block lasts, this was found."""
        try:
            yield
        except UnwrittenError as error:
            error.found = found
            raise


@dataclass(frozen=True)
class Mark:
    """Says that files are ours: ``file`` is one of them, and names its ``schema`` near its beginning."""

    file: str
    schema: str

    def is_in(self, folder: Path) -> bool:
        """Whether the files in ``folder`` bear it."""
        try:
            with (folder / self.file).open("rb") as file:
                head = file.read(_HEAD_BYTES)
        except OSError:
            return False
        return re.search(rb'"' + re.escape(self.schema).encode() + rb'/\d+"', head) is not None


class Output:
    """A folder for results. Make one before the work: what is in the folder by then is what may be replaced.

    ``folder`` is where the results go, and in the end where they lie: beside the folder that was asked for if
    something came into that one in the meantime, of which ``note`` then tells. With ``force``, files of the same names
    are replaced whosoever they are. Nothing but files of the same names, and parts of a model that go with them, is
    ever removed.
    """

    def __init__(self, folder: str | PathLike[str], *, force: bool = False) -> None:
        self.folder, self.note = Path(folder), ""
        self._force = force
        self._real = self.folder.resolve()
        with _alone(self._real.parent):
            _restore(self._real)
        self._before = _seen(self._real)

    @classmethod
    def of(cls, folder: str | PathLike[str] | Output) -> Output:
        """``folder`` as an output, looked at now unless it was before."""
        return folder if isinstance(folder, Output) else cls(folder)

    def wrote(self, names: Iterable[str] = ()) -> str:
        """What was written where, as a line for people."""
        listed = ", ".join(names)
        return f"  wrote     {self.folder}{'/' if listed else ''}{listed}"

    # Files that are written into a folder --------------------------------------------------------------------------

    def check_files(self, names: Iterable[str], mark: Mark) -> None:
        """Check that files of these names may be replaced.

        Raises:
            OptionError: If some are there that do not bear ``mark``.
        """
        there = [name for name in names if name in self._before]
        if there and not self._force and not mark.is_in(self._real):
            raise OptionError(
                f"{self.folder} holds {there[0]}, which this command did not write and would be lost; name another "
                "folder with --out, or add --force to replace it"
            )

    def check_file(self, name: str, content: bytes) -> None:
        """Check that a file in which there is no room for a mark may be replaced: none, or one of the same content.

        Raises:
            OptionError: If there is another.
        """
        path = self._real / name
        if name not in self._before or self._force:
            return
        with suppress(OSError):
            if path.stat().st_size == len(content) and path.read_bytes() == content:
                return
        raise OptionError(
            f"{self.folder / name} is there already and would be lost; name another folder with --out, or add --force"
        )

    def write(self, contents: Mapping[str, Content]) -> None:
        """Write files that belong together, whole or not at all; they replace none that is not as it was seen before.

        Raises:
            UnwrittenError: If they cannot be written.
        """
        with unwritten(self.folder):
            with _alone(self._real.parent):
                self._step_aside_for(contents)
                write_whole(self._real, contents)
            sweep(self._real, _UNDER_WAY)

    # A folder that is written as a whole ---------------------------------------------------------------------------

    def check_folder(self) -> None:
        """Check that the folder is new, empty, or one of ours.

        Raises:
            OptionError: If not.
        """
        others = [name for name in sorted(self._before) if name != "__pycache__"]
        if others and not self._force and _listed(self._real) is None:
            raise OptionError(
                f"{self.folder} holds {others[0]} and bears no mark of cahp ({MARK}), so what is in it would be lost; "
                "name a new or empty folder with --out, or add --force to replace files of the same names"
            )

    @property
    def made(self) -> Mapping[str, Any]:
        """What whoever wrote the folder as a whole says of it; empty if nothing."""
        said = (_mark(self._real) or {}).get("made")
        return said if isinstance(said, dict) else {}

    @contextmanager
    def whole(self, made: Callable[[Path], Mapping[str, Any]] | None = None) -> Iterator[Path]:
        """A new folder to fill, which takes its place when the block is left without an error.

        ``made`` is called with the filled folder and says, as JSON, what ``made`` is to say of it later.

        Raises:
            UnwrittenError: If it cannot be written.
        """
        with unwritten(self.folder):
            part = self._part()
            try:
                part.mkdir(parents=True)
                yield part
                names = sorted({*(path.name for path in part.iterdir()), MARK})
                said: dict[str, Any] = {"schema": _SCHEMA, "files": names}
                if made is not None:
                    said["made"] = made(part)
                (part / MARK).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
                with _alone(self._real.parent):
                    self._place(part, names)
            finally:
                shutil.rmtree(part, ignore_errors=True)
            sweep(self._real.parent, re.compile(rf"\.{re.escape(self._real.name)}-[0-9a-f]{{16}}(-old)?"))
            sweep(self._real, _UNDER_WAY)

    def _part(self) -> Path:
        """Where the new folder is filled: beside the old one, or inside of it where it cannot change places with it."""
        token, real = secrets.token_hex(8), self._real
        if real.is_dir() and (not os.access(real.parent, os.W_OK) or real.stat().st_dev != real.parent.stat().st_dev):
            return real / f".{token}"
        return real.with_name(f".{real.name}-{token}")

    def _place(self, part: Path, names: list[str]) -> None:
        ours = self._ours(names)
        if self._step_aside_for(ours):
            ours = set(names)
        real = self._real
        if part.parent == real or any(name not in ours for name in _seen(real)):
            self._merge(part, names, ours)
            return
        aside = part.with_name(f"{part.name}-old")
        if real.exists():
            # Moved first and deleted last: whoever interrupts this loses neither the old nor the new.
            real.replace(aside)
        try:
            part.replace(real)
        except BaseException:
            _restore(real)
            raise
        shutil.rmtree(aside, ignore_errors=True)

    def _ours(self, names: Iterable[str]) -> set[str]:
        """What the new folder replaces: files of its names, and what the old one's mark lists."""
        listed = _listed(self._real)
        if listed is None:
            # Only where that was asked for. A model's other parts would be read together with the new ones.
            listed = set(filter(_PART_OF_A_MODEL.fullmatch, self._before)) if self._force else set()
        return {*names, *listed, "__pycache__"}

    def _merge(self, part: Path, names: list[str], ours: set[str]) -> None:
        """Replace file by file, where there are others beside them, which stay."""
        # First of all: whenever this is interrupted, the mark tells what is ours.
        mark = {"schema": _SCHEMA, "files": sorted({*ours, *names} - {"__pycache__"})}
        write_whole(self._real, {MARK: (json.dumps(mark, indent=2) + "\n").encode()})
        for name in sorted((ours & set(_seen(self._real))) - {*names, MARK}):
            path = self._real / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        for name in sorted(names, key=lambda name: name == MARK):
            (part / name).replace(self._real / name)

    # What came in the meantime -------------------------------------------------------------------------------------

    def _step_aside_for(self, names: Iterable[str]) -> bool:
        """Go on with a new folder beside this one if any of these were made or changed since it was looked at."""
        now = _seen(self._real)
        new = sorted(name for name in names if name in now and now[name] != self._before.get(name))
        if self._force or not new:
            return False
        asked, before = self.folder, self._real
        for number in itertools.count(2):
            self._real = before.with_name(f"{before.name}-{number}")
            with suppress(FileExistsError):
                self._real.mkdir()
                break
        self._before = {}
        self.folder = asked.with_name(self._real.name) if asked.parent.resolve() == before.parent else self._real
        self.note = f"{new[0]} came into {asked} in the meantime and is kept; the results are in {self.folder}"
        return True


@contextmanager
def unwritten(folder: Path) -> Iterator[None]:
    """A disk that fails while something is written to ``folder`` becomes one sentence.

    Raises:
        UnwrittenError: If it does.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UnwrittenError(
            f"Cannot write to {folder} ({reason}); free some room there, or name another folder with --out."
        ) from error


def _seen(folder: Path) -> dict[str, tuple[int, int, int]]:
    """What lies in a folder, and by what it would be told that it was changed."""
    found = {}
    with suppress(OSError), os.scandir(folder) as items:
        for item in items:
            if not _UNDER_WAY.fullmatch(item.name):
                status = item.stat(follow_symlinks=False)
                found[item.name] = (status.st_mtime_ns, status.st_size, status.st_ino)
    return found


def _listed(folder: Path) -> set[str] | None:
    """The files that a folder's mark says are ours; None without a mark."""
    # Of what lies in it: whatever a mark lists, it reaches nothing outside of its folder.
    there = set(_seen(folder))
    said = _mark(folder)
    if said is not None and isinstance(said.get("files"), list):
        return there & {name for name in said["files"] if isinstance(name, str)}
    # Exported before there were marks.
    exported = Mark("metrics.json", "cahp.metrics").is_in(folder)
    return set(filter(_PART_OF_A_MODEL.fullmatch, there)) if exported else None


def _mark(folder: Path) -> dict[str, Any] | None:
    """What a folder's mark says; None without one."""
    try:
        with (folder / MARK).open("rb") as file:
            said = json.loads(file.read(_LARGEST_MARK))
    except (OSError, ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) and said.get("schema") == _SCHEMA else None


def _restore(folder: Path) -> None:
    """Put a folder back that was moved aside by a process which was killed before the new one took its place."""
    if os.path.lexists(folder):
        return
    with suppress(OSError):
        aside = [path for path in folder.parent.iterdir() if _aside(folder).fullmatch(path.name)]
        if aside:
            max(aside, key=lambda path: path.stat().st_ctime_ns).replace(folder)


def _aside(folder: Path) -> re.Pattern[str]:
    return re.compile(rf"\.{re.escape(folder.name)}-[0-9a-f]{{16}}-old")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Alone among our processes that replace something in ``folder``; where it cannot be locked, the checks must do."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        yield
        return
    try:
        end = time.monotonic() + _PATIENCE_S
        while time.monotonic() < end:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.02)
            except OSError:
                break
        yield
    finally:
        os.close(handle)
