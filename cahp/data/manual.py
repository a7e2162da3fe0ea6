"""The reference manual of Python as data: prose that is installed with it, without labels."""

from __future__ import annotations

import importlib.util
import re

from cahp.data.dataset import Dataset, assemble
from cahp.data.rows import UNLABELLED, RawSplit, make_texts
from cahp.values import DataError

#: The name by which it is loaded.
MANUAL = "python-manual"
#: Words of the shortest paragraph that is taken from the manual.
_WORDS = 20
#: Lines of code, tables and headings in it.
_NO_PROSE = re.compile(r"^\s|[*=~-]{4}", re.MULTILINE)


def read_manual() -> Dataset:
    """Read the paragraphs of the reference manual that Python shows under ``help``.

    Raises:
        DataError: If this Python has none.
    """
    if importlib.util.find_spec("pydoc_data") is None:
        raise DataError(f"this Python has no manual (pydoc_data), so there are no data {MANUAL}; name a text file")
    from pydoc_data.topics import topics

    paragraphs: dict[str, None] = {}
    for topic in sorted(topics):
        for block in re.split(r"\n\s*\n", topics[topic]):
            words = block.split()
            if block[:1].isalnum() and not _NO_PROSE.search(block) and len(words) >= _WORDS:
                paragraphs[" ".join(words)] = None
    texts = tuple(paragraphs)
    return assemble(MANUAL, {"train": RawSplit(make_texts(texts, None, [UNLABELLED] * len(texts)))})
