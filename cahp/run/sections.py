"""Sections of a run: what features measure beside the outcomes, each under its own name in ``run.json``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from cahp.files import plain_json
from cahp.values import Estimate, HeadMask

if TYPE_CHECKING:
    from cahp.run.bench import Bench
    from cahp.run.document import RunDocument
    from cahp.run.recovered import Recovered

R = TypeVar("R")


def _accept(bench: Bench) -> None:
    """Accept any bench."""


def _ignore_texts(bench: Bench) -> str | None:
    """Return nothing: the record depends on the run's own model, texts and settings only."""
    return None


def _keep(record: Any) -> Any:
    """Return the record unchanged."""
    return record


@dataclass(frozen=True)
class Section(Generic[R]):
    """One section: ``name`` is its field in ``run.json``, and ``record`` the type that the field holds.

    ``wanted`` tells from a bench whether a run measures it. ``check`` raises if it cannot be measured, before anything
    is computed. ``measure`` measures it for the mask of a run and its recovered model (None: none). ``inputs`` is a
    digest of what it reads beside the texts of the run (None: nothing). ``as_pruned`` drops what belongs to a recovery.
    ``goal`` measures for a mask what the goal of this name counts (None: this mask shows nothing of it).
    ``stage`` names its stage in the list of cached stages (None: it has none). For estimates of time, ``generated`` and
    ``reads`` are the numbers of tokens that each language model generates and reads for it by default, and ``passes``
    estimates how often each model could read the evaluation texts of a bench meanwhile.

    ``colouring`` is a ``cahp.board.colourings.Colouring`` whose facts are the record (None: it does not colour boards).
    ``title`` heads it in a report, ``draw`` yields its HTML there, and ``describe`` its lines in the terminal; both
    take the record and the run. ``summarise`` takes the record and the name of the recovery, and says it in one line
    where a model is exported (None: it is not said there).
    """

    name: str
    record: type[R]
    title: str
    wanted: Callable[[Bench], bool]
    measure: Callable[[Bench, HeadMask, Recovered | None], R]
    describe: Callable[[R, RunDocument], Iterable[str]]
    draw: Callable[[R, RunDocument], Iterable[str]]
    check: Callable[[Bench], None] = _accept
    inputs: Callable[[Bench], str | None] = _ignore_texts
    as_pruned: Callable[[R], R] = _keep
    to_json: Callable[[R], Any] = _keep
    goal: Callable[[Bench, HeadMask, Recovered | None], Estimate | None] | None = None
    summarise: Callable[[R, str], str] | None = None
    stage: str | None = None
    generated: int = 0
    reads: int = 0
    passes: Callable[[Bench], float] = lambda _: 0.0
    colouring: object | None = None

    def read(self, run: RunDocument) -> R | None:
        """Return the record that a run has (None: it was not measured).

        Raises:
            CahpError: If the file of the run holds something else.
        """
        return self.read_field(run.sections.get(self.name))

    def read_field(self, content: Any) -> R | None:
        """Return the record that a field of a file holds; see ``read``."""
        import msgspec

        from cahp.run.document_fields import describe_error
        from cahp.values import CahpError

        if content is None:
            return None
        try:
            return msgspec.convert(content, self.record, strict=False)
        except msgspec.ValidationError as error:
            where = f"{describe_error(error)}, in {self.name}"
            raise CahpError(f"{where}; write it again with `cahp prune --out`.") from None

    def put(self, run: RunDocument, record: R | None) -> RunDocument:
        """Return the run with this record."""
        content = None
        if record is not None:
            content = plain_json(self.to_json(record))
        return replace(run, sections={**run.sections, self.name: content})


#: The sections that a caller knows; features list them.
Sections = Sequence[Section[Any]]


def measure_sections(sections: Sections, bench: Bench, mask: HeadMask, recovered: Recovered | None) -> dict[str, Any]:
    """Measure the sections that a run wants; return the content of each field, and null for the others."""
    content: dict[str, Any] = {}
    for section in sections:
        content[section.name] = None
        if section.wanted(bench):
            record = section.measure(bench, mask, recovered)
            content[section.name] = plain_json(section.to_json(record))
    return content


def check_sections(sections: Sections, bench: Bench) -> None:
    """Refuse what a wanted section cannot measure, before time is spent.

    Raises:
        CahpError: If model, data and options cannot be used for one of them.
    """
    for section in sections:
        if section.wanted(bench):
            section.check(bench)


def list_inputs(sections: Sections, bench: Bench) -> list[tuple[str, str | None]]:
    """Return each wanted section with the digest of what it reads beside the run's own texts, for keys."""
    return [(section.name, section.inputs(bench)) for section in sections if section.wanted(bench)]


def remove_recovery(sections: Sections, run: RunDocument) -> RunDocument:
    """Return the run with its sections as they are without a recovery."""
    for section in sections:
        record = section.read(run)
        if record is not None:
            run = section.put(run, section.as_pruned(record))
    return run


def describe_sections(sections: Sections, run: RunDocument) -> Iterator[str]:
    """Yield the lines of the measured sections for a terminal, each after an empty line."""
    for section in sections:
        record = section.read(run)
        if record is not None:
            yield ""
            yield from section.describe(record, run)


def summarise_sections(sections: Sections, content: Mapping[str, Any], recover: str) -> Iterator[str]:
    """Yield a line for each measured section that says something of an exported model.

    ``content`` holds the fields of a run's file, or a part of them; ``recover`` names the recovery of the model.
    """
    for section in sections:
        record = section.read_field(content.get(section.name))
        if record is not None and section.summarise is not None:
            yield section.summarise(record, recover)


def draw_sections(sections: Sections, run: RunDocument) -> Iterator[tuple[str, Iterable[str]]]:
    """Yield the title and the HTML of the measured sections for a report."""
    for section in sections:
        record = section.read(run)
        if record is not None:
            yield section.title, section.draw(record, run)


def read_sections(content: Mapping[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    """Return the parts of a run's file that are none of its ``fields``: those of sections."""
    known = set(fields)
    return {name: part for name, part in content.items() if name not in known}
