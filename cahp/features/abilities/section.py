"""The measure of abilities: what a pruned model can still do, beside the full model."""

from dataclasses import dataclass, field

from cahp.features.abilities.record import (
    COMPARED,
    FLAGS,
    MEANINGS,
    REVISION,
    AbilitiesRecord,
    Ability,
    ItemValues,
    decide,
)
from cahp.recoveries import NONE, RECOVERIES
from cahp.run import Bench, MaskSubject, Measure, Recovered
from cahp.show import Blocks, Line, Table, Text
from cahp.values import Estimate, HeadMask
from cahp.words import number, percent

#: The symbol of each word: its shape tells it without colour.
SYMBOLS = {
    "lost": "\N{MULTIPLICATION X}",
    "weaker": "\N{BLACK DOWN-POINTING TRIANGLE}",
    "not significant": "?",
    "kept": "\N{CHECK MARK}",
    "not measurable": "\N{EN DASH}",
}

#: Passes of a classifier over the evaluation texts and their changed copies.
_CLASSIFIER_PASSES = 1.2
#: Tokens of the items that a language model reads, as counted with `smollm2`: of quick abilities, and of all.
ITEM_TOKENS = (4_438, 41_831)


def list_items(
    bench: Bench, mask: HeadMask, recovered: Recovered | None = None, *, complete: bool = True
) -> list[ItemValues]:
    """Measure the values by item that a receipt is made of; see ``measure_receipt``."""
    if bench.card.task.predicts_labels:
        from cahp.features.abilities.classifying import classify_items

        return classify_items(bench, mask, recovered)
    from cahp.features.abilities.measuring import measure_items

    return measure_items(bench, mask, recovered, complete=complete)


def measure_receipt(
    bench: Bench, mask: HeadMask, recovered: Recovered | None, *, complete: bool = True
) -> AbilitiesRecord:
    """Measure the abilities of a model under ``mask``, and of the ``recovered`` one.

    Of a language model all abilities are measured if ``complete``, else those that are quick. The seed of the bench
    draws the bootstrap of intervals.
    """
    rows = decide(list_items(bench, mask, recovered, complete=complete), bench.settings.seed)
    return AbilitiesRecord(rows, complete or bench.card.task.predicts_labels)


def find_state(record: AbilitiesRecord) -> str:
    """Return the last model of a receipt: the ``recovered`` one, or else the ``pruned`` one."""
    return (COMPARED[0], *record.states)[-1]


def count_lost(record: AbilitiesRecord) -> Estimate | None:
    """Count the abilities that the last model has lost, of all that are measurable (None: none is)."""
    words = [row.word_of(find_state(record)) for row in record.rows]
    measurable = len(words) - words.count("not measurable")
    if not measurable:
        return None
    lost = float(words.count("lost"))
    return Estimate(lost, (lost, lost), measurable, "number")


def name_state(state: str, recover: str) -> str:
    """Name a model of a receipt, whose recovered one was made by the recovery ``recover``."""
    if state == "pruned":
        recover = NONE.name
    return RECOVERIES[recover].beside


def explain(row: Ability, state: str) -> str:
    """Say in one line what was measured of an ability: word, values, difference with interval, and number of items."""
    verdict = row.get(state)
    if verdict is None or row.full is None:
        return f"{row.label}: not measurable, as {row.reason}"
    return (
        f"{row.label}: {verdict.word}; {verdict.value.text} instead of {row.full.text}, difference {verdict.difference}"
    )


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
    setting = "abilities"

    def wanted(self, bench: Bench) -> AbilityOptions | None:
        """Return the options with which a run measures abilities, which a goal may ask for, too."""
        asked = bench.settings.abilities
        if self.name in bench.settings.measure or asked or bench.counted_measure == NAME:
            return AbilityOptions()
        if asked is None:
            return AbilityOptions(complete=False)
        return None

    def tokens(self, bench: Bench, options: AbilityOptions) -> float:
        """Return the number of tokens of the items, or of a classifier's texts."""
        if bench.card.task.predicts_labels:
            return _CLASSIFIER_PASSES * bench.evaluation.tokens
        return ITEM_TOKENS[options.complete]

    def run(
        self, bench: Bench, mask: HeadMask, recovered: Recovered | None, options: AbilityOptions
    ) -> AbilitiesRecord:
        """Measure the abilities of the model under the mask, and of the recovered one; see ``measure_receipt``."""
        record = measure_receipt(bench, mask, recovered, complete=options.complete)
        if mask.is_full:
            return record.of_models("full")
        return record

    def goal(self, bench: Bench, mask: HeadMask, recovered: Recovered | None) -> Estimate | None:
        """Count the abilities that the mask loses."""
        return count_lost(measure_receipt(bench, mask, recovered))

    def show(self, record: AbilitiesRecord, subject: MaskSubject) -> Blocks:
        """Yield what became of the abilities of each model, the last one first, and all values."""
        columns = ["ability", "full model"]
        lines: list[Line] = []
        for state in record.states:
            name = name_state(state, subject.recover)
            columns += [name, f"difference {name}"]
            flagged = any(row.word_of(state) in FLAGS for row in record.rows)
            lines = [Line(f"abilities {name}: {record.summarise(state)}", flagged=flagged), *lines]
        yield from lines
        rows = []
        for row in record.rows:
            cells = [row.label, row.full]
            for state in record.states:
                verdict = row.get(state)
                difference = None
                if verdict is not None:
                    difference = verdict.difference
                cells += [f"{SYMBOLS[row.word_of(state)]} {row.word_of(state)}", difference]
            chance = number(row.chance)
            if row.full is not None and row.full.unit == "share":
                chance = percent(row.chance)
            rows.append([*cells, chance, row.n, row.reason])
        title = "Values and differences with 95 % intervals over the items"
        yield Table(title, [*columns, "chance", "n", "not measurable, as"], rows, name=NAME, closed=True)
        if record.states:
            meanings = "; ".join(f"{word}: {meaning}" for word, meaning in MEANINGS.items())
            yield Text(f"{meanings}. The words are corrected for the number of abilities (Holm), intervals are not.")

    def is_complete(self, record: AbilitiesRecord) -> bool:
        """Tell whether all abilities were measured."""
        return record.complete

    def as_pruned(self, record: AbilitiesRecord) -> AbilitiesRecord:
        """Return the receipt without the recovered model."""
        return record.of_models("full", "pruned")


RECEIPT = Abilities()
