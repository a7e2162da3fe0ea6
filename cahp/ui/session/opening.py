"""Models and data of a session. Built-in ones and loaded models are shared by all sessions, uploads are not."""

from __future__ import annotations

import gc
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np

from cahp import access, data, models
from cahp.api import bundled
from cahp.api.bundled import WindowsRecord
from cahp.data.sources import BBC_NEWS
from cahp.data.tables import read_table
from cahp.files import scratch
from cahp.models.cards import ModelCard
from cahp.recoveries import NONE, RECOVERIES
from cahp.run.bench import Bench, open_bench
from cahp.run.settings import IN_DIGESTS, Settings, identify_model
from cahp.run.texts import ALL, cut_split, data_name, load_data
from cahp.tasks import NEXT_TOKEN
from cahp.tasks.answers import NO_LABEL, Window
from cahp.tasks.texts import Texts
from cahp.ui.session import jobs
from cahp.values import DataError, ModelError

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel


#: The models that stay in memory after the last session has closed them.
_recent: deque[HeadModel] = deque(maxlen=2)
#: All models that a session uses: they are in memory anyway, and are not loaded twice.
_used: WeakValueDictionary[tuple[str, str], HeadModel] = WeakValueDictionary()
_models_lock = threading.Lock()


def shared_model(card: ModelCard, /, *, device: str) -> HeadModel:
    """Return the model of this card, loaded and self-tested once for all sessions."""
    key = (card.sha256, device)
    with _models_lock:
        model = _used.get(key)
        if model is None:
            if len(_recent) == _recent.maxlen:
                _recent.popleft()
                # Its objects refer to each other: without this they would stay until more garbage came together.
                gc.collect()
            model = models.load(card, device=device)
            _used[key] = model
        if model in _recent:
            _recent.remove(model)
        _recent.append(model)
        return model


def is_loaded(card: ModelCard, *, device: str) -> bool:
    """Return whether the model of this card is in memory, and so passed its self-test."""
    return (card.sha256, device) in _used


#: Built-in models and data are read once per process: installed packages do not change while it runs.
_builtin_lock = threading.Lock()


@cache
def _builtin_card(name: str, max_length: int | None) -> ModelCard:
    # A bundled language model is shown at once: reading its files takes seconds, and they need not be installed.
    bundle = bundled.read_run(name)
    if bundle is not None and bundle.facts is not None:
        return replace(bundle.facts.card, max_length=max_length)
    return replace(models.identify(name), max_length=max_length)


@cache
def _builtin_texts() -> data.Dataset:
    dataset = data.load(BBC_NEWS)
    for texts in dataset.splits.values():
        texts.labels.setflags(write=False)
    return dataset


def builtin_card(name: str, max_length: int | None = None) -> ModelCard:
    """Return the card of a built-in model that reads at most ``max_length`` tokens of a text.

    Raises:
        ModelError: If the model is neither bundled nor installed.
    """
    with _builtin_lock:
        return _builtin_card(name, max_length)


#: Files of one upload: train, validation and test, and some more to choose from.
_MOST_FILES = 10


@dataclass(frozen=True)
class Upload:
    """Uploaded files by name: in the memory of their session, and on disk only while they are read.

    Raises:
        DataError: If there are no files, or too many.
    """

    files: Mapping[str, bytes]

    def __post_init__(self) -> None:
        if not 0 < len(self.files) <= _MOST_FILES:
            raise DataError(f"{len(self.files)} files were uploaded; upload one, or train, validation and test.")

    @property
    def name(self) -> str:
        """The name of the data."""
        return ", ".join(self.files)

    @contextmanager
    def open(self) -> Iterator[data.Parts]:
        """Open the tables in the files; they can be read inside of the block."""
        with scratch() as folder:
            tables = {}
            for number, (name, content) in enumerate(self.files.items()):
                # Of the uploaded name only the suffix is used.
                path = folder / f"upload-{number}{Path(name).suffix.lower()[:10]}"
                path.write_bytes(content)
                # Error messages name the uploaded file and not this path.
                tables[name] = partial(read_table, path, name)
            parts = data.Parts.of_files(self.name, self.name, tables)
            if len(tables) == 1:
                parts = replace(parts, divided=True)
            yield parts


def permitted(settings: Settings, upload: Upload | None = None) -> Settings:
    """Check access to the model and data, and return the settings with their resolved names.

    Raises:
        AccessError: If access is not permitted.
    """
    rules = access.current()
    settings = replace(settings, model=rules.source(settings.model, known=models.BUILTINS))
    if upload is None and settings.data is not None:
        settings = replace(settings, data=rules.source(settings.data, known=data.known()))
    return settings


def with_length(settings: Settings, *, uploaded: bool) -> Settings:
    """Return settings that read as much of a text as the bundled run of this model and these data does.

    New figures are then comparable with the bundled ones. Settings that name a number, or of which no run is bundled,
    stay as they are.
    """
    bundle = bundled.read_run(settings.model)
    if bundle is None or settings.max_length is not None or uploaded:
        return settings
    if settings.data not in (None, models.BUILTINS[settings.model].data):
        return settings
    return replace(settings, max_length=bundle.document.settings.max_length)


@dataclass(frozen=True, eq=False)
class Source:
    """A model and data that fit each other."""

    settings: Settings
    card: ModelCard
    raw: data.Dataset
    bench: Bench
    #: Whether the data are files that only this session has.
    uploaded: bool = False

    @classmethod
    def open(cls, settings: Settings, upload: Upload | None = None) -> Source:
        """Find the model, read the data and match the labels.

        Raises:
            CahpError: If they cannot be used together, or access is not permitted.
        """
        settings = with_length(permitted(settings, upload), uploaded=upload is not None)
        if settings.model in models.BUILTINS and settings.prompt is None and settings.dtype == "float32":
            card = builtin_card(settings.model, settings.max_length)
        else:
            card = identify_model(settings)
        bundle = bundled.read_run(settings.model)
        if bundle is not None and upload is None and settings.budget == "auto":
            settings = replace(settings, budget=bundle.document.settings.budget)
        if upload is not None:
            # Several files are read by a command that is run in their folder.
            name = upload.name
            if len(upload.files) > 1:
                name = "."
            settings = replace(settings, data=name)
            with upload.open() as parts:
                raw = parts.read(**settings.columns)
        elif settings.columns != Settings().columns or data_name(settings, card) != BBC_NEWS:
            raw = load_data(settings, card)
        else:
            with _builtin_lock:
                raw = _builtin_texts()
        bench = bench_of(settings, card, raw)
        return cls(bench.settings, card, raw, bench, uploaded=upload is not None)

    @cached_property
    def fingerprint(self) -> str:
        """A short digest of all texts and labels, which tells whether uploaded files are the same as before."""
        return self.raw.sha256[:8]

    def with_settings(self, settings: Settings) -> Source:
        """Return the same model and data with other settings."""
        card = replace(self.card, max_length=settings.max_length)
        bench = bench_of(settings, card, self.raw)
        return replace(self, settings=bench.settings, card=card, bench=bench)


def bench_of(settings: Settings, card: ModelCard, raw: data.Dataset) -> Bench:
    """Return a bench of a model that all sessions share; it asks for no refit where none is possible.

    A layer without heads has none, nor have some models.

    Raises:
        CahpError: If the model does not fit these data, or a layer cannot keep the heads that a link asks for.
    """
    settings.budget_rules(card).check_minimum()
    windows = shipped_dataset(settings, card, raw)
    bench = open_bench(settings, card=card, dataset=raw, windows=windows, load=shared_model, progress=jobs.relay)
    if RECOVERIES[settings.recover].closed_form and (bench.recoveries.no_refit or not settings.min_per_layer):
        return replace(bench, settings=replace(settings, recover=NONE.name))
    return bench


# The model and windows of a bundled run, known without their files -------------------------------------------


#: The settings on which windows depend.
_OF_WINDOWS = (*(name for name in IN_DIGESTS if name != "data"), "seed")


class ShippedTexts(Texts):
    """The windows of a split, of which the digest and numbers are known; ``cut`` makes them when they are first read.

    ``units`` are what intervals are drawn over (None: the windows must be read to tell). Reading them raises what
    ``cut`` raises, and ``ModelError`` if they are not the windows of the bundled run.
    """

    def __init__(self, record: WindowsRecord, cut: Callable[[], Texts], units: str | None = None) -> None:
        labels = np.full(record.rows, NO_LABEL, dtype=np.int64)
        # The fields but the first, and what ``cached_property`` keeps there.
        known = {"sha256": record.sha256, "tokens": float(record.tokens)}
        vars(self).update(known, second=None, labels=labels, classes=ALL, task=NEXT_TOKEN, _record=record, _cut=cut)
        if units is not None:
            vars(self).update(units=units)

    @cached_property
    def first(self) -> tuple[str | Window, ...]:
        """The windows."""
        texts: Texts = vars(self)["_cut"]()
        if texts.sha256 != self.sha256:
            raise ModelError(
                "the model or the texts here are not those of the bundled run; choose another number of tokens under "
                "“Sample and device” to measure these"
            )
        return texts.first

    def __len__(self) -> int:
        return int(vars(self)["_record"].rows)

    @property
    def count(self) -> int:
        """Number of windows, without those of repeated random tokens."""
        return int(vars(self)["_record"].count)


def shipped_dataset(settings: Settings, card: ModelCard, raw: data.Dataset) -> data.Dataset | None:
    """Return the windows of the bundled run of ``card``, if those of ``settings`` are the same; None otherwise."""
    bundle = bundled.read_run(card.id)
    if bundle is None or bundle.document.model.sha256 != card.identity:
        return None
    run = bundle.document
    if not (bundle.facts and run.protocol):
        return None
    if settings.data not in (None, models.BUILTINS[card.id].data) or raw.splits.keys() != bundle.facts.splits.keys():
        return None
    if any(getattr(settings, name) != getattr(run.settings, name) for name in _OF_WINDOWS):
        return None
    units = {settings.eval_split: run.protocol.units}
    splits = {}
    for name, record in bundle.facts.splits.items():
        splits[name] = ShippedTexts(record, partial(cut_split, raw, name, settings, card), units.get(name))
    return replace(raw, splits=splits, classes=ALL, whole_test=raw.test_sha256)
