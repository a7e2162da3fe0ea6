"""Files written whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

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
def whole_folder(folder: Path) -> Iterator[Path]:
    """A new folder to fill, which takes the place of ``folder`` when the block is left without an error."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    aside = part.with_name(f"{part.name}-old")
    try:
        yield part
        part.chmod(0o755)
        if folder.exists():
            # Moved first and deleted last: whoever interrupts this loses neither the old nor the new.
            folder.replace(aside)
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if folder.exists():
            shutil.rmtree(aside, ignore_errors=True)
