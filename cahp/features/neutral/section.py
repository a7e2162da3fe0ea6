"""The section of a run in which its mask is evaluated on neutral text."""

from __future__ import annotations

from collections.abc import Iterator

from cahp.exports.drawings import table
from cahp.features.neutral.measuring import NeutralRecord, evaluate_on_neutral, open_neutral
from cahp.run.bench import Bench
from cahp.run.document import RunDocument
from cahp.run.prune import choose
from cahp.run.recovered import Recovered
from cahp.run.sections import Section
from cahp.values import HeadMask, digest
from cahp.words import safe


def _is_wanted(bench: Bench) -> bool:
    return bench.settings.neutral_data is not None


def _open(bench: Bench, count: int) -> Bench:
    name = bench.settings.neutral_data
    assert name is not None
    return open_neutral(bench, count, name)


def _check(bench: Bench) -> None:
    _open(bench, bench.card.layers)


def _digest_texts(bench: Bench) -> str:
    neutral = _open(bench, bench.card.layers)
    return digest(neutral.calibration.sha256, neutral.evaluation.sha256)


def _measure(bench: Bench, mask: HeadMask, recovered: Recovered | None) -> NeutralRecord:
    name = bench.settings.neutral_data
    assert name is not None
    return evaluate_on_neutral(bench, mask, name, lambda other: choose(other).mask)


def _describe(record: NeutralRecord, run: RunDocument) -> Iterator[str]:
    yield f"  {record.finding}"
    yield f"  {record.overlap}"


def _draw(record: NeutralRecord, run: RunDocument) -> Iterator[str]:
    yield f"<p><b>{safe(record.finding)}.</b> {safe(record.overlap)}.</p>"
    rows = [(name, figures) for name, *figures in record.rows]
    yield table(f"On {record.texts:,} neutral texts of {record.data}, as pruned", [*record.COLUMNS[1:]], rows)


NEUTRAL_TEXT: Section[NeutralRecord] = Section(
    "neutral",
    NeutralRecord,
    "Narrow or broad?",
    wanted=_is_wanted,
    measure=_measure,
    describe=_describe,
    draw=_draw,
    check=_check,
    inputs=_digest_texts,
)
