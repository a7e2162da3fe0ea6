"""The measure in which a language model continues the same text as full, pruned and recovered model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cahp.features.own_text.continuation import TOKENS, Continuation, compare_continuations
from cahp.run.measures import MaskSubject, Measure, NoOptions
from cahp.show.blocks import Block, Table
from cahp.values import HeadMask
from cahp.words import printable

if TYPE_CHECKING:
    from cahp.models.cards import ModelCard
    from cahp.run.bench import Bench
    from cahp.run.recovered import Recovered

#: Stands before the first token that differs from the full model's.
DIFFERS = "▸"


class Continued(Measure[Continuation]):
    """The same text, continued; every run of a language model has it."""

    name = "continuation"
    title = "The same text, continued"
    help = "Let the full and the pruned language model continue the same text."
    record = Continuation
    generated = TOKENS
    commanded = False
    # A person's own text is continued there.
    tabbed = False

    def refuses(self, card: ModelCard) -> str | None:
        """Refuse models that do not predict next tokens."""
        if not card.task.predicts_often:
            return "only a causal language model continues a text"
        return None

    def wanted(self, bench: Bench) -> NoOptions | None:
        """Return options for every language model."""
        if bench.card.task.predicts_often:
            return NoOptions()
        return None

    def tokens(self, bench: Bench, options: NoOptions) -> float:
        """Return 0: the prompt is short."""
        return 0.0

    def run(self, bench: Bench, mask: HeadMask, recovered: Recovered | None, options: NoOptions) -> Continuation:
        """Continue the prompt by the full, the pruned and the recovered model."""
        return compare_continuations(bench.measurements, mask, recovered)

    def show(self, record: Continuation, subject: MaskSubject) -> Iterator[Block]:
        """Yield what each model writes."""
        rows = []
        for name, (tokens, differs) in record.models.items():
            shown = [printable(token) for token in tokens]
            if differs is not None:
                shown[differs] = f"{DIFFERS}{shown[differs]}"
            rows.append((name, "".join(shown).strip()))
        yield Table(
            f'continued "{record.prompt}" by the {len(record.full)} most probable tokens, one after the other '
            f"({DIFFERS} before the first that differs)",
            ("model", "continuation"),
            rows,
            name="continuation",
        )

    def as_pruned(self, record: Continuation) -> Continuation:
        """Return it without the recovered model's."""
        return record.as_pruned()


CONTINUATION = Continued()
