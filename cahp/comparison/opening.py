"""Comparisons that were written before: in a folder of ours, or in a file that somebody brought."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cahp.comparison.result import FILE, Comparison
from cahp.files import scratch
from cahp.values import CahpError


def read(path: Path) -> Comparison:
    """The comparison in a folder, or in its ``compare.json``, with the summary that it was written with.

    Raises:
        CahpError: If there is none, or it is broken.
    """
    try:
        found = Comparison.read(path)
        # What was written is what its authors saw; asking the bootstrap again takes seconds.
        found = found if found.written is None else replace(found, right={})
        _ = found.reading
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError):
        raise CahpError(
            f"{path.name} says that it is a comparison, but parts of it are missing or broken; write one with "
            "`cahp compare --out DIR`"
        ) from None
    return found


def opened(name: str, content: bytes) -> Comparison:
    """A ``compare.json`` that somebody brought, which they call ``name``.

    Raises:
        CahpError: If it is none, in a sentence that names it as they do.
    """
    with scratch() as folder:
        path = folder / FILE
        path.write_bytes(content)
        try:
            found = read(path)
            # A file that cannot be written again is broken where nobody looked yet.
            _ = found.files
        except CahpError as error:
            sentence = (
                str(error).replace(str(path), f"the file {name}").replace(f"{path.name} says", f"the file {name} says")
            )
            raise CahpError(sentence if name in sentence else f"the file {name}: {sentence}") from None
        except Exception:
            raise CahpError(f"the file {name} is broken; write a comparison with `cahp compare --out DIR`") from None
    return found
