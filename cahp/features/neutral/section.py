"""The section of a run in which its mask is evaluated on neutral text."""

from __future__ import annotations

from collections.abc import Iterator

from cahp import methods
from cahp.exports.drawings import table
from cahp.features.neutral.measuring import REVISION, NeutralRecord, evaluate_on_neutral, open_neutral
from cahp.features.neutral.texts import load_neutral
from cahp.run.bench import Bench
from cahp.run.document import RunDocument
from cahp.run.prune import choose
from cahp.run.recovered import Recovered
from cahp.run.sections import Section
from cahp.values import DataError, HeadMask, digest
from cahp.words import safe


def _is_wanted(bench: Bench) -> bool:
    return bench.settings.neutral_data is not None


def _check(bench: Bench) -> None:
    name = bench.settings.neutral_data
    assert name is not None
    neutral = open_neutral(bench, bench.card.layers, name)
    if methods.facts(bench.settings.method).labels == "none":
        return
    try:
        _ = neutral.evidence.texts
    except DataError as error:
        raise DataError(f"--neutral-data: {error}, or leave it out") from None


def _digest_texts(bench: Bench) -> str:
    name = bench.settings.neutral_data
    assert name is not None
    return digest(load_neutral(name, task=bench.dataset.id).sha256, str(REVISION))


def _measure(bench: Bench, mask: HeadMask, recovered: Recovered | None) -> NeutralRecord:
    name = bench.settings.neutral_data
    assert name is not None
    return evaluate_on_neutral(
        bench, mask, name, lambda other: choose(other).mask, recovered=recovered, recover=bench.settings.recover
    )


def _describe(record: NeutralRecord, run: RunDocument) -> Iterator[str]:
    yield f"  {record.finding}"
    yield f"  {record.overlap}"


def _draw(record: NeutralRecord, run: RunDocument) -> Iterator[str]:
    yield f"<p><b>{safe(record.finding)}.</b> {safe(record.overlap)}.</p>"
    rows = [(name, figures) for name, *figures in record.rows]
    yield table(f"On neutral text, {record.data}", [*record.columns[1:]], rows)


NEUTRAL_TEXT: Section[NeutralRecord] = Section(
    "neutral",
    NeutralRecord,
    "Narrow or broad?",
    wanted=_is_wanted,
    measure=_measure,
    describe=_describe,
    draw=_draw,
    as_pruned=NeutralRecord.as_pruned,
    check=_check,
    inputs=_digest_texts,
)
