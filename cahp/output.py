"""The folder for results: checked before hours of work, and again before anything in it is replaced.

Only files that carry our mark are replaced; others need ``--force``. Files that appear in the folder during the work
are kept: the results then go into a new folder beside it.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from cahp.files import UNFINISHED, Content, is_there, sweep, write_whole
from cahp.values import CahpError, OptionError

#: Lists the files of a folder that was written as a whole, and holds what its maker noted.
MARK = "cahp.json"
_SCHEMA = "cahp.folder/1"
#: A mark stands at the beginning of its file.
_HEAD_BYTES = 4096
_LARGEST_MARK = 1 << 20
#: Endings of a name that names a file, and not a folder.
_FILES = {".json", ".npy", ".pt", ".csv", ".tsv"}
#: Files of a saved model or of an export: left behind, they would be read together with the new ones.
_PART_OF_A_MODEL = re.compile(
    r"(adapter_)?model(-\d+-of-\d+)?\.safetensors(\.index\.json)?|(adapter_|generation_|tokenizer_)?config\.json"
    r"|(tokenizer|special_tokens_map|added_tokens|vocab|metrics|head_mask)\.json|(vocab|merges)\.txt|[\w.]+\.model"
    r"|(pre)?processor_config\.json|chat_template\.(jinja|json)|model\.onnx(\.data)?|load_pruned\.py|README\.md"
)


class UnwrittenError(CahpError):
    """The results cannot be written."""


@dataclass(frozen=True)
class Mark:
    """Shows that files are ours: ``file`` is one of them and names its ``schema`` near its beginning."""

    file: str
    schema: str


class Output:
    """A folder for results. Make one before the work: only files that it finds then may be replaced.

    ``folder`` is where the results go. If somebody else writes to it during the work, they go into a new folder beside
    it; ``folder`` then changes, and ``note`` explains it. A name with the ending of a file, such as ``m.json``, is the
    name ``file`` of the only file that can be written, to the folder above it. With ``force`` any files of the same
    names are replaced. Only files of the same names, and parts of a model that belong to them, are ever removed.
    """

    def __init__(self, folder: str | PathLike[str], *, force: bool = False) -> None:
        self.folder = Path(folder)
        self.file: str | None = None
        if self.folder.suffix in _FILES and not is_there(self.folder, Path.is_dir):
            self.file = self.folder.name
            self.folder = self.folder.parent
        self.note = ""
        self._force = force
        self._real = self.folder.resolve()
        self._before = _states(self._real)

    @classmethod
    def of(cls, folder: AnyFolder) -> Output:
        """Return ``folder`` as an output, made now unless it is one."""
        if isinstance(folder, Output):
            return folder
        return cls(folder)

    def describe(self, names: Iterable[str] = ()) -> str:
        """Name the folder and the files that were written, in a line for the terminal."""
        return f"  wrote     {self.folder}/{', '.join(names)}".rstrip("/")

    def _check_named_a_folder(self) -> None:
        if self.file is not None:
            raise OptionError(f"{self.folder / self.file} is the name of a file; name a folder with --out")

    def check_writable(self) -> None:
        """Make the folder if need be and check that it can be written to, so that long work does not end in a refusal.

        Raises:
            UnwrittenError: If it cannot.
        """
        with translate_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass

    # Files that are written into a folder --------------------------------------------------------------------------

    def check_files(self, names: Iterable[str], mark: Mark) -> None:
        """Check that files of these names may be replaced.

        Raises:
            OptionError: If some exist without ``mark``.
        """
        self._check_named_a_folder()
        existing = [name for name in names if name in self._before]
        head = b""
        with suppress(OSError), (self._real / mark.file).open("rb") as file:
            head = file.read(_HEAD_BYTES)
        marked = re.search(rb'"' + re.escape(mark.schema).encode() + rb'/\d+"', head)
        if existing and not self._force and not marked:
            raise OptionError(
                f"{self.folder} holds {existing[0]}, which this command did not write and would overwrite; name "
                "another folder with --out, or add --force to replace it"
            )

    def check_file(self, name: str, content: bytes) -> None:
        """Check that a file which cannot hold a mark may be replaced: it does not exist or has the same content.

        Raises:
            OptionError: If it exists with another content.
        """
        path = self._real / name
        if name not in self._before or self._force:
            return
        with suppress(OSError):
            if path.stat().st_size == len(content) and path.read_bytes() == content:
                return
        raise OptionError(
            f"{self.folder / name} exists and would be overwritten; name another folder with --out, or add --force"
        )

    def write(self, contents: Mapping[str, Content]) -> None:
        """Write files that belong together; files that changed during the work are not replaced.

        Raises:
            UnwrittenError: If they cannot be written.
        """
        with translate_errors(self.folder):
            self._step_aside_for(contents)
            write_whole(self._real, contents)
            sweep(self._real, UNFINISHED)

    # A folder that is written as a whole ---------------------------------------------------------------------------

    def check_folder(self) -> None:
        """Check that the folder is new, empty, or one of ours.

        Raises:
            OptionError: If it holds other files.
        """
        self._check_named_a_folder()
        others = [name for name in sorted(self._before) if name != "__pycache__"]
        if others and not self._force and _marked_files(self._real) is None:
            raise OptionError(
                f"{self.folder} holds {others[0]} and was not written by cahp (it has no {MARK}); name a new or empty "
                "folder with --out, or add --force to replace files of the same names"
            )

    @property
    def written(self) -> list[str]:
        """The names of the files and folders that were written here last as a whole, without the mark."""
        return sorted((_marked_files(self._real) or set()) - {MARK})

    @contextmanager
    def whole(self) -> Iterator[Path]:
        """Yield a new folder to fill, which replaces the old one when the block ends without an error.

        Raises:
            UnwrittenError: If it cannot be written.
        """
        with translate_errors(self.folder):
            token = secrets.token_hex(8)
            part = self._real.with_name(f".{self._real.name}-{token}")
            if self._real.is_dir():
                part = self._real / f".{token}"
            try:
                part.mkdir(parents=True)
                yield part
                names = sorted({*(path.name for path in part.iterdir()), MARK})
                mark = {"schema": _SCHEMA, "files": names}
                (part / MARK).write_text(json.dumps(mark, indent=2) + "\n", encoding="utf-8")
                for path in part.rglob("*"):
                    # Weights are written for their owner alone; here they get the permissions of other files.
                    if path.is_file():
                        path.chmod((part / MARK).stat().st_mode)
                self._place(part, names)
            finally:
                shutil.rmtree(part, ignore_errors=True)
            sweep(self._real.parent, re.compile(rf"\.{re.escape(self._real.name)}-[0-9a-f]{{16}}"))
            sweep(self._real, UNFINISHED)

    def _place(self, part: Path, names: list[str]) -> None:
        """Give the files in ``part`` their place, and remove those of the old folder that are ours."""
        gone = {"__pycache__", *(_marked_files(self._real) or ())}
        if self._force and _marked_files(self._real) is None:
            gone.update(filter(_PART_OF_A_MODEL.fullmatch, self._before))
        if self._step_aside_for({*names, *gone}):
            gone = set()
        if not self._real.exists():
            part.rename(self._real)
            return
        for name in gone:
            path = self._real / name
            # A file is replaced at once; a folder has to be empty for that.
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif name not in names:
                path.unlink(missing_ok=True)
        for path in part.iterdir():
            path.replace(self._real / path.name)

    def _step_aside_for(self, names: Iterable[str]) -> bool:
        """Switch to a new folder beside this one if any of these files appeared or changed during the work."""
        now = _states(self._real)
        new = sorted(name for name in names if name in now and now[name] != self._before.get(name))
        if self._force or not new:
            return False
        before = self._real
        number = 2
        while self._real == before or self._real.exists():
            self._real = before.with_name(f"{before.name}-{number}")
            number += 1
        self._real.mkdir()
        self._before = {}
        # As it was named: relative, or through a link.
        named = self.folder
        self.folder = named.with_name(self._real.name)
        if named.parent.resolve() != before.parent:
            self.folder = self._real
        self.note = f"{new[0]} appeared in {named} during the work and is kept; the results are in {self.folder}"
        return True


@contextmanager
def translate_errors(folder: Path) -> Iterator[None]:
    """Turn errors of the disk inside the block into an ``UnwrittenError`` about ``folder``.

    Raises:
        UnwrittenError: If something cannot be written.
    """
    try:
        yield
    except (FileExistsError, NotADirectoryError):
        raise UnwrittenError(f"{folder} is a file, or lies in one; name a folder with --out.") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise UnwrittenError(
            f"Cannot write to {folder} ({reason}); free some space there, or name another folder with --out."
        ) from error


def _states(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Describe each file in a folder by what changes with it: time, size and number on the disk."""
    states = {}
    with suppress(OSError), os.scandir(folder) as items:
        for item in items:
            if not UNFINISHED.fullmatch(item.name):
                status = item.stat(follow_symlinks=False)
                states[item.name] = (status.st_mtime_ns, status.st_size, status.st_ino)
    return states


def _marked_files(folder: Path) -> set[str] | None:
    """List the files in a folder that its mark says are ours; None without a mark."""
    with suppress(OSError, ValueError, TypeError, LookupError, RecursionError), (folder / MARK).open("rb") as file:
        mark = json.loads(file.read(_LARGEST_MARK))
        if mark["schema"] == _SCHEMA and isinstance(mark["files"], list):
            # Only those in the folder: a mark must not reach outside it.
            return {name for name in _states(folder) if name in mark["files"]}
    return None


#: A folder by its name, or as an output.
AnyFolder = str | PathLike[str] | Output
