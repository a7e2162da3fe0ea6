"""The reference manual of Python as data: prose that is installed with it, without labels, in short or long texts."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator

from cahp.data.dataset import Dataset, assemble
from cahp.data.rows import UNLABELLED, RawSplit, make_texts
from cahp.values import DataError

#: The names by which it is loaded: its paragraphs as texts, and its topics, of many paragraphs each.
MANUAL = "python-manual"
TOPICS = "python-topics"
#: Words of the shortest paragraph that is taken from the manual.
_WORDS = 20
#: Words of the shortest topic.
_TOPIC_WORDS = 100
#: Lines of code, tables and headings in it.
_NO_PROSE = re.compile(r"^\s|[*=~-]{4}", re.MULTILINE)


def read_manual(name: str) -> Dataset:
    """Read the reference manual that Python shows under ``help``, as ``MANUAL`` or as ``TOPICS``.

    Raises:
        DataError: If this Python has none.
    """
    if importlib.util.find_spec("pydoc_data") is None:
        raise DataError(f"this Python has no manual (pydoc_data), so there are no data {name}; name a text file")
    from pydoc_data.topics import topics

    # Topics repeat paragraphs of each other, which must not be on both sides of a split.
    known: set[str] = set()
    texts: list[str] = []
    for topic in sorted(topics):
        paragraphs = []
        for paragraph in _list_prose(topics[topic]):
            if paragraph not in known:
                known.add(paragraph)
                paragraphs.append(paragraph)
        if name == MANUAL:
            texts += paragraphs
            continue
        text = "\n".join(paragraphs)
        if len(text.split()) >= _TOPIC_WORDS:
            texts.append(text)
    return assemble(name, {"train": RawSplit(make_texts(tuple(texts), None, [UNLABELLED] * len(texts)))})


def _list_prose(topic: str) -> Iterator[str]:
    """Yield the paragraphs of a topic that are prose, each on one line."""
    for block in re.split(r"\n\s*\n", topic):
        words = block.split()
        if block[:1].isalnum() and not _NO_PROSE.search(block) and len(words) >= _WORDS:
            yield " ".join(words)
