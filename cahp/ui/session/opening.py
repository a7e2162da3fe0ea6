"""A model and data, opened for a session: shared where they are the same, somebody's own where they are theirs."""

from __future__ import annotations

import gc
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from cahp import access, data, models
from cahp.cards import ModelCard
from cahp.data.sources import BBC_NEWS
from cahp.data.tables import read_table
from cahp.files import scratch
from cahp.run.bench import Bench, data_name, load_data, open_bench
from cahp.run.settings import Settings, identify_model
from cahp.ui.session import jobs
from cahp.values import DataError, digest

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel

#: Models kept in memory.
_MODELS = 2
_models: OrderedDict[tuple[str, str], HeadModel] = OrderedDict()
_models_lock = threading.Lock()


def shared_model(card: ModelCard, /, *, device: str) -> HeadModel:
    """The model of this card, read and proven once for all sessions."""
    name = (card.sha256, device)
    with _models_lock:
        if name not in _models:
            if len(_models) >= _MODELS:
                _models.popitem(last=False)
                # Its parts know each other: without this they would stay until enough other garbage came together.
                gc.collect()
            _models[name] = models.load(card, device=device)
        _models.move_to_end(name)
        return _models[name]


def is_loaded(card: ModelCard, *, device: str) -> bool:
    """Whether the model of this card was read, and so passed its self-test."""
    return (card.sha256, device) in _models


#: What is built in is read once a process and shared by all sessions: nobody changes it, and installed packages stay as
#: they are while a process runs.
_builtin_lock = threading.Lock()


@cache
def _builtin_card(name: str) -> ModelCard:
    return models.identify(name)


@cache
def _builtin_texts() -> data.Dataset:
    read = data.load(BBC_NEWS)
    for texts in read.splits.values():
        texts.labels.setflags(write=False)
    return read


def _card(settings: Settings) -> ModelCard:
    if settings.model not in models.BUILTINS or settings.prompt is not None:
        return identify_model(settings)
    with _builtin_lock:
        return _builtin_card(settings.model)


def _data(settings: Settings, card: ModelCard) -> data.Dataset:
    if any(settings.columns.values()) or data_name(settings, card) != BBC_NEWS:
        return load_data(settings, card)
    with _builtin_lock:
        return _builtin_texts()


#: Files of one upload: train, validation and test, and some to choose from.
_MOST_FILES = 10


@dataclass(frozen=True)
class Upload:
    """Files that somebody brought, by their names; on disk only while they are read, and in memory of their session.

    Raises:
        DataError: If there are none, or far too many.
    """

    files: Mapping[str, bytes]

    def __post_init__(self) -> None:
        if not 0 < len(self.files) <= _MOST_FILES:
            raise DataError(f"{len(self.files)} files were brought; bring one, or train, validation and test.")

    @property
    def name(self) -> str:
        """What the data are called."""
        return ", ".join(self.files)

    @property
    def folder(self) -> str:
        """Where a command would find them, beside it: the file, or the folder that holds them."""
        return self.name if len(self.files) == 1 else "."

    @contextmanager
    def found(self) -> Iterator[data.Parts]:
        """The tables in them, to look at or to read inside of the block."""
        with scratch() as folder:
            tables = {}
            for number, (name, content) in enumerate(self.files.items()):
                # Under a name that is ours, and a suffix that is theirs.
                path = folder / f"upload-{number}{Path(name).suffix.lower()[:10]}"
                path.write_bytes(content)
                # Where it lies for a moment is nobody's business.
                tables[name] = partial(read_table, path, name)
            parts = data.Parts.of_files(self.name, self.name, tables)
            yield replace(parts, divided=True) if len(tables) == 1 else parts

    def read(self, settings: Settings) -> data.Dataset:
        """The files as labelled texts.

        Raises:
            DataError: If they cannot be used.
        """
        with self.found() as parts:
            return parts.read(**settings.columns)


def look_up(settings: Settings) -> tuple[Settings, ModelCard]:
    """A model without its data: the settings as they may be opened here, and its card.

    Raises:
        CahpError: If there is no such model, or it may not be opened here.
    """
    settings = permitted(settings)
    return settings, _card(settings)


def permitted(settings: Settings, upload: Upload | None = None) -> Settings:
    """The settings with the model and data as they may be opened here; whoever asks, and by whatever way.

    Raises:
        AccessError: If they may not be.
    """
    may = access.current()
    model = may.source(settings.model, known=models.BUILTINS)
    if upload is not None or settings.data is None:
        return replace(settings, model=model)
    return replace(settings, model=model, data=may.source(settings.data, known=data.known()))


@dataclass(frozen=True, eq=False)
class Source:
    """A model and data that fit each other, opened but not computed on."""

    settings: Settings
    card: ModelCard
    raw: data.Dataset
    bench: Bench
    #: The data are files that only this session has.
    uploaded: bool = False

    @classmethod
    def open(cls, settings: Settings, upload: Upload | None = None) -> Source:
        """Find the model, read the data, match the labels.

        Raises:
            CahpError: If they cannot be used together, or may not be opened here, with the next step.
        """
        settings = permitted(settings, upload)
        card = _card(settings)
        raw = _data(settings, card) if upload is None else upload.read(settings)
        return cls(settings, card, raw, _bench(settings, card, raw), uploaded=upload is not None)

    @cached_property
    def fingerprint(self) -> str:
        """A short digest of all texts and labels as they were read: whether files that are brought are the same."""
        return digest(*(f"{split}-{texts.sha256}" for split, texts in self.raw.splits.items()))[:8]

    def with_settings(self, settings: Settings) -> Source:
        """The same model and data, asked differently."""
        return replace(self, settings=settings, bench=_bench(settings, self.card, self.raw))

    def beside(self, settings: Settings, card: ModelCard) -> Bench:
        """Another model on the same data; whoever lets go of the bench lets go of the model.

        Raises:
            CahpError: If the model is not for these data.
        """
        return _bench(settings, card, self.raw)


def _bench(settings: Settings, card: ModelCard, raw: data.Dataset) -> Bench:
    return open_bench(settings, card=card, dataset=raw, load=shared_model, progress=jobs.relay)
