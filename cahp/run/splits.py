"""The texts of a split as documents record them, with how many of them a model does not read to the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cahp.run.resources import Resources
from cahp.store import Entry, key
from cahp.tasks.texts import Texts


@dataclass(frozen=True)
class SplitRecord:
    """The texts of a split: their number, classes (None: there are no labels) and digest.

    Of a text ``max_length`` tokens were read, and ``cut`` of the texts have more (None: windows, or not counted).
    """

    split: str
    examples: int
    class_counts: Mapping[str, int] | None
    sha256: str
    cut: int | None = field(default=None, kw_only=True)
    max_length: int | None = field(default=None, kw_only=True)

    @property
    def cut_notice(self) -> str | None:
        """How many texts were cut (None: no text was)."""
        if not self.cut or self.max_length is None:
            return None
        count = f"{self.cut:,} of {self.examples:,} texts"
        return f"{self.split}: {count} are longer than {self.max_length:,} tokens and were cut"

    @property
    def most_frequent(self) -> float | None:
        """Accuracy of the majority-class baseline (None: there are no texts, or no labels)."""
        counts = list((self.class_counts or {}).values())
        if not sum(counts):
            return None
        return max(counts) / sum(counts)

    @classmethod
    def of(cls, split: str, texts: Texts) -> SplitRecord:
        """Describe a sample of a split."""
        counts = None
        if texts.labelled:
            counts = dict(zip(texts.classes, texts.class_counts.tolist(), strict=True))
        return cls(split, texts.count, counts, texts.sha256)

    def with_id(self, name: str) -> dict[str, Any]:
        """Return the fields, after the ``id`` of the data ``name``, as documents of one split have them."""
        return {"id": name, **vars(self)}


@dataclass(frozen=True)
class CutTexts:
    """Of how many texts the end was cut: a model read ``max_length`` tokens of each, and could read ``longest``."""

    cut: int
    max_length: int
    longest: int


def count_cut(resources: Resources, texts: Texts) -> CutTexts | None:
    """Count the texts that the model of ``resources`` reads only in part (None: windows, which are not cut)."""
    if not texts.task.items_are_texts:
        return None

    def read(entry: Entry) -> CutTexts:
        return CutTexts(**{name: int(entry.meta[name]) for name in CutTexts.__annotations__})

    name = key("cut texts", 1, resources.card.sha256, texts.sha256)
    counted = resources.store.read(name, read)
    if counted is None:
        model = resources.model
        prompt = model.prompt_length
        cut = sum(length > model.max_length for length in model.count_tokens(texts.inputs))
        counted = CutTexts(cut, model.max_length - prompt, model.longest - prompt)
        resources.store.save(name, meta=asdict(counted))
    return counted


def record_split(resources: Resources, split: str, texts: Texts) -> SplitRecord:
    """Describe the texts of a split, and count those that were cut."""
    record = SplitRecord.of(split, texts)
    found = count_cut(resources, texts)
    if found is None:
        return record
    return replace(record, cut=found.cut, max_length=found.max_length)


def cut_notices(resources: Resources, splits: Mapping[str, Texts]) -> Iterator[str]:
    """Yield a notice for each of the ``splits`` with texts that were cut, with the length that the model can read."""
    for split, texts in splits.items():
        found = count_cut(resources, texts)
        notice = record_split(resources, split, texts).cut_notice
        if found is not None and notice is not None:
            if found.longest > found.max_length:
                notice = f"{notice}; --max-length reads up to {found.longest:,}"
            yield notice
