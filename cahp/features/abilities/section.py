"""The measure of abilities: what a pruned model can still do, beside the full model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cahp.features.abilities.receipt import (
    ITEM_TOKENS,
    SYMBOLS,
    count_lost,
    count_tokens,
    explain,
    list_by_word,
    list_cells,
    list_columns,
    measure_receipt,
    name_state,
)
from cahp.features.abilities.record import FLAGS, MEANINGS, REVISION, AbilitiesRecord
from cahp.goals import Goal
from cahp.run.measures import MaskSubject, Measure
from cahp.show.blocks import Block, Line, Table, Text
from cahp.values import Estimate, HeadMask
from cahp.words import capital

if TYPE_CHECKING:
    from cahp.run.bench import Bench
    from cahp.run.recovered import Recovered

#: The name of the measure, and of the goal that counts what it measures.
NAME = "abilities"


@dataclass(frozen=True)
class AbilityOptions:
    """Whether all abilities are measured, or of a language model those alone that are quick."""

    complete: bool = field(default=True, metadata={"help": "Measure all abilities, not only those that are quick."})


class Abilities(Measure[AbilitiesRecord]):
    """A receipt of abilities. A run of a language model measures the quick ones if nothing else is said."""

    name = NAME
    title = "What still works?"
    help = (
        "Measure what a pruned model can still do.\n\nRepeating, looking up, grammar and others: what the full model "
        "can, and what is left of it under a mask."
    )
    example = "cahp abilities smollm2 --mask run/head_mask.json"
    record = AbilitiesRecord
    options = AbilityOptions
    revision = REVISION
    reads = ITEM_TOKENS[False]
    # The tab has a search for the fewest heads, too.
    tabbed = False

    def wanted(self, bench: Bench) -> AbilityOptions | None:
        """Return the options with which a run measures abilities, which a goal may ask for, too."""
        goal = bench.settings.goal
        asked = bench.settings.abilities
        if self.name in bench.settings.measure or asked or (goal is not None and Goal.parse(goal).kind.section == NAME):
            return AbilityOptions()
        if asked is None and not bench.card.task.predicts_labels:
            return AbilityOptions(complete=False)
        return None

    def tokens(self, bench: Bench, options: AbilityOptions) -> float:
        """Return the number of tokens of the items, or of a classifier's texts."""
        return count_tokens(bench, complete=options.complete)

    def run(
        self, bench: Bench, mask: HeadMask, recovered: Recovered | None, options: AbilityOptions
    ) -> AbilitiesRecord:
        """Measure the abilities of the model under the mask, and of the recovered one; see ``measure_receipt``."""
        record = measure_receipt(bench, mask, recovered, complete=options.complete)
        if mask.is_full:
            return record.of_full_model()
        return record

    def goal(self, bench: Bench, mask: HeadMask, recovered: Recovered | None) -> Estimate | None:
        """Count the abilities that the mask loses."""
        return count_lost(measure_receipt(bench, mask, recovered))

    def show(self, record: AbilitiesRecord, subject: MaskSubject) -> Iterator[Block]:
        """Yield what became of the abilities of each model, the last one first, and all values."""
        for state in reversed(record.states):
            lost = record.flagged(state)
            yield Line(f"abilities {name_state(state, subject.recover)}: {record.summarise(state)}", flagged=bool(lost))
            for word, rows in list_by_word(record, state).items():
                if word != "kept":
                    yield from (Line(f"  {SYMBOLS[word]} {explain(row, state)}", flagged=word in FLAGS) for row in rows)
        cells = [(row.label, *list_cells(row, record.states)) for row in record.rows]
        columns = ["ability", *list_columns(record, subject.recover)]
        yield Table("Differences with 95 % intervals over the items", columns, cells, name=NAME, closed=True)
        for row in record.rows:
            if row.losses and not row.reason:
                means = ", ".join(f"{_name(state, subject)} {loss.text}" for state, loss in row.losses.items())
                yield Text(f"{capital(row.label)}: {row.loss_label}, in nats per token: {means}.")
        if record.states:
            meanings = "; ".join(f"{word}: {meaning}" for word, meaning in MEANINGS.items())
            yield Text(f"{meanings}. The words are corrected for the number of abilities (Holm), intervals are not.")

    def is_complete(self, record: AbilitiesRecord) -> bool:
        """Tell whether all abilities were measured."""
        return record.complete

    def as_pruned(self, record: AbilitiesRecord) -> AbilitiesRecord:
        """Return the receipt without the recovered model."""
        return record.as_pruned()


def _name(state: str, subject: MaskSubject) -> str:
    if state == "full":
        return "full model"
    return name_state(state, subject.recover)


RECEIPT = Abilities()
