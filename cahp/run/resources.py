"""What evidence, measurements and recoveries share: the stages, the model, loaded on first use, store and clock."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np
from filelock import FileLock

from cahp import data, hub, models
from cahp.files import plain_json, read_beside
from cahp.models.cards import ModelCard
from cahp.store import Entry, Store, key
from cahp.tasks.texts import Texts
from cahp.values import Arrays, Fields, Notices, Precisions, Progress, silent
from cahp.words import capital, size_of

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel
    from cahp.models.training import Watch


#: The words on screen of each stage.
STAGES: dict[str, str] = read_beside(__file__)["stages"]

#: The stages that bring a model into memory.
PREPARATIONS = frozenset(("download", "convert", "load"))

#: The stages that take minutes with many models, and let all other work that a person waits for pass.
LONG = frozenset(("refit", "finetune", "teacher", "distill"))


def on_screen(name: str) -> str:
    """Return the words of a stage on screen; an unknown stage has its own name."""
    return STAGES.get(name, capital(name))


#: Largest stored result in bytes; computing a larger one again costs less than the room it takes.
_LARGEST_ENTRY = 256 << 20
#: Trained weights may take this fraction of the store; those of SmolLM2-135M with their refit take almost as much.
_TRAINED_SHARE = 3

T = TypeVar("T")
#: Loads and proves the model of a card, as ``models.load`` does: ``load(card, device="cpu")``.
Loader = Callable[..., "HeadModel"]


class Resources:
    """One model, and the store in which its results are found again.

    ``cached`` lists the stages that an earlier run has answered, ``timings`` the seconds of the stages that ran here.
    ``listener`` hears of progress between batches and may raise ``Cancelled``; a ``watch``, set before a training,
    observes it.
    """

    def __init__(
        self,
        card: ModelCard,
        *,
        store: Store,
        device: str = "auto",
        precisions: Precisions = Precisions(),  # noqa: B008 - frozen
        model: HeadModel | None = None,
        load: Loader = models.load,
        progress: Progress = silent,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.card = card
        self.store = store
        self.device = device
        self.precisions = precisions
        self.listener = progress
        self.watch: Watch | None = None
        self._now = clock
        self.cached: list[str] = []
        #: The stages of all results that were asked for, found or not, by key.
        self.asked: dict[str, str] = {}
        self.timings: dict[str, float] = {}
        self._stored_here: set[str] = set()
        self._model = model
        self._load = load
        #: Seconds in the listener, which may let other work pass.
        self._elsewhere = 0.0
        self._lock = threading.Lock()

    def progress(self, stage: str, done: int, total: int) -> None:
        """Report ``done`` of ``total`` units of ``stage``."""
        start = self._now()
        try:
            self.listener(stage, done, total)
        finally:
            self._elsewhere += self._now() - start

    def clock(self) -> float:
        """Return the seconds on a clock that stands still while the listener lets other work pass."""
        return self._now() - self._elsewhere

    @property
    def model(self) -> HeadModel:
        """The model, loaded and proven on first use."""
        with self._lock:
            if self._model is None:
                # Loading may convert the model first.
                with self.timed("load"), self._watch_download():
                    self.progress("load", 0, 1)
                    self._model = self._load(self.card, device=self.device)
                    self.progress("load", 1, 1)
            # A model that was passed in is proven too, once.
            return models.verify_model(self._model)

    def _watch_download(self) -> AbstractContextManager[object]:
        if self.card.revision is None and self.card.source is None:
            return nullcontext()
        return hub.progress_to(self.progress)

    @property
    def storage_notices(self) -> Notices:
        """Notices about a loaded model whose weights are not kept in float32."""
        if self._model is None or self._model.notice is None:
            return ()
        return (self._model.notice,)

    @property
    def lacks_room(self) -> bool:
        """Whether the weights of a loaded model had no room, so that times differ from day to day."""
        return self._model is not None and self._model.lacks_room

    def load_cached(self, stage: str, name: str, read: Callable[[Entry], T]) -> T | None:
        """Return what ``read`` makes of the stored result of ``stage`` under the key ``name``, or None."""
        result = self.store.read(name, read)
        self.asked[name] = stage
        if result is not None and stage not in self.cached and name not in self._stored_here:
            self.cached.append(stage)
        return result

    def find(self, stage: str, name: str, read: Callable[[Entry], T], compute: Callable[[], Entry]) -> T:
        """Return what ``read`` makes of the stored entry, which ``compute`` makes where there is none.

        Its seconds are those of ``stage``.
        """
        result = self.load_cached(stage, name, read)
        if result is not None:
            return result
        with self.timed(stage):
            entry = compute()
        self.keep(name, entry.arrays, entry.meta)
        return read(entry)

    def find_values(self, stage: str, name: str, kind: Callable[..., T], compute: Callable[[], T]) -> T:
        """Return the stored dataclass of arrays and JSON values, or ``compute`` and store it."""

        def pack() -> Entry:
            values = vars(compute())
            arrays = {field: value for field, value in values.items() if isinstance(value, np.ndarray)}
            return Entry(arrays, {field: value for field, value in values.items() if field not in arrays})

        return self.find(stage, name, lambda entry: kind(**entry.arrays, **entry.meta), pack)

    def find_record(self, name: str, kind: Any, make: Callable[[], T] | None = None) -> T | None:
        """Return the record of this ``kind`` that is stored under the key ``name``, or ``make`` and store it."""
        record: T | None = self.store.read(
            name, lambda entry: msgspec.convert(entry.meta["record"], kind, strict=False)
        )
        if record is None and make is not None:
            record = make()
            self.keep_record(name, record)
        return record

    def keep_record(self, name: str, record: Any) -> None:
        """Store a record under the key ``name``, or replace it."""
        self.store.save(name, meta={"record": plain_json(record)})

    def keep(
        self,
        name: str,
        arrays: Arrays,
        meta: Fields | None = None,
        *,
        trained: bool = False,
    ) -> None:
        """Store a result unless it is too large; ``trained`` weights, which took longest, may be larger."""
        largest = _LARGEST_ENTRY
        if trained:
            largest = self.store.limit_bytes // _TRAINED_SHARE
        size = sum(array.nbytes for array in arrays.values())
        if size <= largest:
            self.store.save(name, arrays=arrays, meta=meta)
            self._stored_here.add(name)
        elif trained:
            logging.getLogger(__name__).warning(
                "The trained weights take %s and are not kept, so each use trains again; export the model to keep it.",
                size_of(size),
            )

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the seconds of the block to those of ``stage``, also where the block is interrupted.

        Those of a stage inside of the block, such as loading the model, are its own.
        """
        start = self.clock()
        others = sum(self.timings.values())
        try:
            yield
        finally:
            inside = sum(self.timings.values()) - others
            self.timings[stage] = self.timings.get(stage, 0.0) + self.clock() - start - inside


# The texts of a split ------------------------------------------------------------------------------------------


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


def record_split(resources: Resources, split: str, texts: Texts) -> SplitRecord:
    """Describe the texts of a split, and count those that the model reads only in part."""
    counts = None
    if texts.labelled:
        counts = dict(zip(texts.classes, texts.class_counts.tolist(), strict=True))
    record = SplitRecord(split, texts.count, counts, texts.sha256)
    if not texts.task.items_are_texts:
        # Windows are not cut.
        return record

    def count() -> dict[str, int]:
        model = resources.model
        cut = sum(length > model.max_length for length in model.count_tokens(texts.inputs))
        return {"cut": cut, "max_length": model.max_length - model.prompt_length}

    name = key("cut texts", 3, resources.card.sha256, texts.sha256)
    counted = resources.find_record(name, dict[str, int], count) or {}
    return replace(record, cut=counted.get("cut"), max_length=counted.get("max_length"))


def cut_notices(resources: Resources, splits: Mapping[str, Texts]) -> Iterator[str]:
    """Yield a notice for each of the ``splits`` with texts that were cut."""
    for split, texts in splits.items():
        notice = record_split(resources, split, texts).cut_notice
        if notice is not None:
            yield f"{notice} (--max-length)"


# The log of test splits: every opening is counted, across runs and sessions -----------------------------------------


#: Beside the store's results, because the store removes its oldest ones.
_FILE = "test-opened.txt"
#: Writing a line takes microseconds; after this the process that holds the lock has stopped.
_LOCK_TIMEOUT_S = 10


class TestSplitLog:
    """Counts how often the test split of a data set was opened for a model on this machine.

    Each opening appends one line to a file, by one process at a time. Lines are never removed.
    """

    def __init__(self, card: ModelCard, dataset: data.Dataset, store: Store) -> None:
        self._line = f"{key('test-opened', card.origin, dataset.test_sha256)}\n".encode()
        self._file = store.folder.parent / _FILE

    @property
    def count(self) -> int:
        """How often the split was opened so far."""
        try:
            return self._file.read_bytes().splitlines(keepends=True).count(self._line)
        except OSError:
            # The file does not exist yet, or cannot be read, which the store has reported of its folder.
            return 0

    def open(self, split: str) -> int:
        """Log that a split is read from now on, if it is the test split, and return the count."""
        if split != "test":
            return self.count
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self._file.with_suffix(".lock"), timeout=_LOCK_TIMEOUT_S):
                count = self.count + 1
                with self._file.open("ab") as file:
                    file.write(self._line)
                    file.flush()
                    os.fsync(file.fileno())
                return count
        except OSError as error:
            logging.getLogger(__name__).warning(
                "The test split was opened, but this cannot be counted: %s cannot be written (%s); name another folder "
                "in CAHP_CACHE.",
                self._file,
                error.strerror or error,
            )
            return self.count + 1
