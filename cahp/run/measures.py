"""Measures: what is measured of a mask beside the outcomes.

A measure is one class with one object. It says what it is called, what it costs, how it is measured, and which blocks
show its record. All doors are generic: a command, a function of ``cahp``, a field of ``run.json``, a tab of the
explorer, a part of the report and a line of the model card need no code of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from cahp.files import plain_json
from cahp.models.cards import ModelCard
from cahp.recoveries import NONE, RECOVERIES
from cahp.run.settings import key_fields
from cahp.show.blocks import Block, find_line
from cahp.store import digest_code, key
from cahp.values import CahpError, Estimate, Fields, HeadMask, JsonObject, OptionError, check_known

if TYPE_CHECKING:
    from cahp.run.bench import Bench
    from cahp.run.document import RunDocument
    from cahp.run.recoveries import Recovered

R = TypeVar("R")

#: The settings that change neither a mask that is given nor what is measured of it, or that a key names otherwise.
_WITHOUT_EFFECT = (
    "budget",
    "goal",
    "latency",
    "latency_time",
    "report",
    "select_time",
    "measure",
    "roles",
    "abilities",
    "recover",
)


@dataclass(frozen=True)
class MaskSubject:
    """What a record is about, for its words: a ``mask``, the name of its recovery, and what a ``unit`` of it is."""

    mask: HeadMask
    recover: str = NONE.name
    unit: str = "head"

    @classmethod
    def of(cls, run: RunDocument) -> MaskSubject:
        """Return the subject of a run."""
        return cls(run.mask, run.settings.recover, run.model.unit)


@dataclass(frozen=True)
class NoOptions:
    """The options of a measure that has none."""


class Measure(Generic[R]):
    """One measure; a feature derives from it and lists one object in its row.

    ``name`` is its command, its function in Python and its field in ``run.json``; ``record`` is the type of that field,
    a dataclass, and ``options`` a dataclass whose fields become flags and widgets (with ``help`` in their metadata).
    ``title`` heads it on screen and in reports, ``help`` says in one sentence what it measures, and ``example`` is a
    command line. Bump ``revision`` to invalidate stored records. A run measures it if ``--measure``, its ``setting``,
    its goal or the task asks for it, with the options of ``wanted``.
    ``reads`` and ``generated`` are the tokens that each language model reads and generates for it by default.
    """

    name: str
    title: str
    help: str
    record: type[R]
    options: type = NoOptions
    example: str = ""
    revision = 1
    reads = 0
    generated = 0
    #: Whether it is about one mask with its recovery, or about the model and its data whatever the mask is.
    of_mask = True
    #: The field of the settings that asks a run for it.
    setting = ""
    #: The command whose settings it takes, see ``TAKES``.
    takes = "measure"
    #: Whether it is a command and a function of ``cahp``, and whether it has a tab of the Budget page.
    commanded = True
    tabbed = True

    def refuses(self, card: ModelCard) -> str | None:
        """Say why it cannot be measured of a model (None: it can)."""
        return None

    def wanted(self, bench: Bench) -> Any:
        """Return the options with which a run that asks for it measures it (None: the run does not)."""
        return self.options()

    def check(self, bench: Bench, options: Any) -> None:
        """Refuse data that cannot be measured, before time is spent.

        Raises:
            CahpError: If model, data and options do not go together.
        """

    def inputs(self, bench: Bench, options: Any) -> str | None:
        """Return a digest of what it reads beside model and texts (None: nothing)."""
        return None

    def tokens(self, bench: Bench, options: Any) -> float:
        """Return the number of tokens that each model reads."""
        return float(bench.evaluation.tokens)

    def run(self, bench: Bench, mask: HeadMask, recovered: Recovered | None, options: Any) -> R:
        """Measure it of the model under ``mask``, and of the ``recovered`` one (None: as pruned only)."""
        raise NotImplementedError

    def stored(self, bench: Bench) -> R | None:
        """Return what is known whatever the mask is, before anything is measured (None: nothing is)."""
        return None

    def goal(self, bench: Bench, mask: HeadMask, recovered: Recovered | None) -> Estimate | None:
        """Measure what the goal of this name counts (None: this mask shows nothing of it)."""
        raise NotImplementedError

    def show(self, record: R, subject: MaskSubject) -> Iterable[Block]:
        """Yield what the record says, the finding first."""
        raise NotImplementedError

    def as_pruned(self, record: R) -> R:
        """Return the record without what belongs to a recovery."""
        return record

    def is_complete(self, record: R) -> bool:
        """Tell whether a record holds all that could be measured: a run may measure a part."""
        return True

    def to_json(self, record: R) -> Any:
        """Return the record as ``run.json`` holds it."""
        return plain_json(record)

    def read(self, content: Any) -> R | None:
        """Return the record that a field of a file holds (None: it was not measured).

        Raises:
            CahpError: If the field holds something else.
        """
        import msgspec

        from cahp.run.document import describe_error

        if content is None:
            return None
        try:
            return msgspec.convert(content, self.record, strict=False)
        except msgspec.ValidationError as error:
            where = f"{describe_error(error)}, in {self.name}"
            raise CahpError(f"{where}; write it again with `cahp prune --out`.") from None

    def read_run(self, run: RunDocument) -> R | None:
        """Return the record that a run has; see ``read``."""
        return self.read(run.sections.get(self.name))


#: The measures that a caller knows; features list them.
Measures = Sequence[Measure[Any]]


def check(one: Measure[Any], bench: Bench, options: Any) -> None:
    """Refuse what a measure cannot measure, before time is spent.

    Raises:
        CahpError: If model, data and options do not go together.
    """
    reason = one.refuses(bench.card)
    if reason is not None:
        raise OptionError(f"{one.name}: {reason}")
    one.check(bench, options)


def measure(one: Measure[R], bench: Bench, mask: HeadMask, recovered: Recovered | None, options: Any) -> R:
    """Measure one of a mask with its recovery, or read the same from the store.

    The settings of the bench name the recovery that made ``recovered``. What training made is measured each time,
    because it ends when its time does. ``check`` must have passed.
    """
    recover = NONE.name
    if recovered is not None:
        recover = bench.settings.recover
    room = type(one).__module__
    if room.count(".") > 2:
        # All files of a feature's folder measure together.
        room = room.rpartition(".")[0]
    recovery = None
    if RECOVERIES[recover].solves:
        recovery = bench.recoveries.inputs_sha256
    name = key(
        "measure",
        one.name,
        one.revision,
        digest_code([room]),
        asdict(options),
        one.inputs(bench, options),
        bench.card.sha256,
        mask.sha256,
        bench.calibration.sha256,
        bench.evaluation.sha256,
        asdict(bench.resources.precisions),
        recover,
        recovery,
        key_fields(bench.settings, without=_WITHOUT_EFFECT),
    )
    store = bench.resources.store
    storable = not RECOVERIES[recover].trains
    if storable:
        stored = store.read(name, lambda entry: one.read(entry.meta["record"]))
        if stored is not None:
            return stored
    record = one.run(bench, mask, recovered, options)
    if storable:
        store.save(name, meta={"record": plain_json(one.to_json(record))})
    return record


def list_wanted(measures: Measures, bench: Bench) -> list[tuple[Measure[Any], Any]]:
    """Return the measures that a run wants, each with its options.

    Raises:
        OptionError: If one is named that does not exist.
    """
    if measures:
        for name in bench.settings.measure:
            check_known("--measure", name, (one.name for one in measures))
    asked = {*bench.settings.measure, *bench.card.task.measures, bench.counted_measure}
    chosen = []
    for one in measures:
        if one.name in asked or getattr(bench.settings, one.setting, None):
            options = one.wanted(bench)
            if options is not None:
                chosen.append((one, options))
    return chosen


def measure_wanted(measures: Measures, bench: Bench, mask: HeadMask, recovered: Recovered | None) -> JsonObject:
    """Measure what a run wants; return the content of each field, and null for the others."""
    content: JsonObject = {one.name: None for one in measures}
    for one, options in list_wanted(measures, bench):
        content[one.name] = plain_json(one.to_json(measure(one, bench, mask, recovered, options)))
    return content


def check_wanted(measures: Measures, bench: Bench) -> None:
    """Refuse what a wanted measure cannot measure, before time is spent.

    Raises:
        CahpError: If model, data and options cannot be used for one of them.
    """
    for one, options in list_wanted(measures, bench):
        check(one, bench, options)


def put_record(run: RunDocument, one: Measure[R], record: R | None) -> RunDocument:
    """Return the run with this record (None: without one)."""
    content = None
    if record is not None:
        content = plain_json(one.to_json(record))
    return replace(run, sections={**run.sections, one.name: content})


def read_records(measures: Measures, content: Fields) -> Iterator[tuple[Measure[Any], Any]]:
    """Yield the measures of which ``content`` has a record, with the record."""
    for one in measures:
        record = one.read(content.get(one.name))
        if record is not None:
            yield one, record


def remove_recovery(measures: Measures, run: RunDocument) -> RunDocument:
    """Return the run with its records as they are without a recovery."""
    for one, record in read_records(measures, run.sections):
        run = put_record(run, one, one.as_pruned(record))
    return run


def show_measured(measures: Measures, run: RunDocument) -> Iterator[tuple[Measure[Any], list[Block]]]:
    """Yield the measures of which a run has a record, with the blocks that show it."""
    for one, record in read_records(measures, run.sections):
        yield one, list(one.show(record, MaskSubject.of(run)))


def find_lines(measures: Measures, content: Fields, subject: MaskSubject) -> Iterator[str]:
    """Yield the finding of each measure whose field ``content`` has, in one line."""
    for one, record in read_records(measures, content):
        line = find_line(one.show(record, subject))
        if line is not None:
            yield line
