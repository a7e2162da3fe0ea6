"""The measure of a mask on neutral text: narrow or broad?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cahp import methods
from cahp.features.neutral.measuring import REVISION, NeutralRecord, evaluate_on_neutral, open_neutral
from cahp.features.neutral.texts import AUTO, load_neutral
from cahp.run.measures import MaskSubject, Measure
from cahp.show.blocks import Block, Line, Table, Text
from cahp.values import DataError, HeadMask, digest

if TYPE_CHECKING:
    from cahp.run.bench import Bench
    from cahp.run.recovered import Recovered


@dataclass(frozen=True)
class NeutralOptions:
    """The neutral texts."""

    texts: str = field(
        default=AUTO, metadata={"help": "Neutral texts: auto (news, or the manual of Python), or a name as in --data."}
    )


class Neutral(Measure[NeutralRecord]):
    """A mask that was chosen on one task, evaluated on neutral text."""

    name = "neutral"
    title = "Narrow or broad?"
    help = (
        "Evaluate a mask on neutral text.\n\nHeads are chosen a second time, on neutral text. Both choices are "
        "compared there, as pruned and after the recovery."
    )
    example = "cahp neutral minilm-bbc --mask run/head_mask.json"
    record = NeutralRecord
    options = NeutralOptions
    revision = REVISION

    def wanted(self, bench: Bench) -> NeutralOptions | None:
        """Return the texts that ``--neutral-data`` names."""
        if bench.settings.neutral_data is not None:
            return NeutralOptions(bench.settings.neutral_data)
        if self.name in bench.settings.measure:
            return NeutralOptions()
        return None

    def check(self, bench: Bench, options: NeutralOptions) -> None:
        """Refuse texts from which the method cannot choose heads."""
        neutral = open_neutral(bench, bench.card.layers, options.texts)
        if methods.facts(bench.settings.method).labels == "none":
            return
        try:
            _ = neutral.evidence.texts
        except DataError as error:
            raise DataError(f"--neutral-data: {error}, or leave it out") from None

    def inputs(self, bench: Bench, options: NeutralOptions) -> str:
        """Return the digest of the neutral texts."""
        return digest(load_neutral(options.texts, task=bench.dataset.id).sha256)

    def tokens(self, bench: Bench, options: NeutralOptions) -> float:
        """Return about the tokens of a whole run, since heads are chosen again."""
        return float(bench.calibration.tokens + bench.evaluation.tokens)

    def run(self, bench: Bench, mask: HeadMask, recovered: Recovered | None, options: NeutralOptions) -> NeutralRecord:
        """Evaluate the mask, and one that is chosen there; see ``evaluate_on_neutral``."""
        return evaluate_on_neutral(bench, mask, options.texts, recovered=recovered, recover=bench.settings.recover)

    def show(self, record: NeutralRecord, subject: MaskSubject) -> Iterator[Block]:
        """Yield the finding, how many heads both choices share, and the outcomes on neutral text."""
        yield Line(record.finding, flagged=record.narrow)
        yield Text(f"{record.overlap}.")
        title = f"On {record.texts:,} neutral texts of {record.data}"
        yield Table(title, record.columns, record.rows, name="neutral", closed=True)

    def as_pruned(self, record: NeutralRecord) -> NeutralRecord:
        """Return the record without the recovery."""
        return record.as_pruned()


NEUTRAL_TEXT = Neutral()
