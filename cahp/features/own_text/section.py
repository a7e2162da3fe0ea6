"""The same greedy continuation of a prompt by the full, the pruned and the recovered language model, as a measure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cahp.run import MaskSubject, Measure, NoOptions, Recovered
from cahp.show import Block, Table
from cahp.values import HeadMask
from cahp.words import printable

if TYPE_CHECKING:
    from cahp.models import ModelCard
    from cahp.run import Bench, Measurements

#: The prompt of all models, which is no text of a person, and the tokens that follow.
PROMPT = "The old house at the end of the street had been empty for years. One morning"
TOKENS = 20


@dataclass(frozen=True)
class Tokens:
    """Tokens that a model wrote: their ``ids``, and the ``parts`` of the text that they make."""

    ids: tuple[int, ...] = ()
    parts: tuple[str, ...] = ()

    @classmethod
    def of(cls, tokenizer: Any, ids: Sequence[int]) -> Tokens:
        """Decode the ids."""
        from cahp.models import split_text

        return cls(tuple(ids), split_text(tokenizer, ids))


@dataclass(frozen=True)
class Continuation:
    """The most probable tokens after a ``prompt``, one after the other, as text, by each model.

    ``first_difference`` holds the index of the first token that differs from the full model's (None: none differs), for
    the ``pruned`` and the ``recovered`` model.
    """

    prompt: str
    full: tuple[str, ...]
    pruned: tuple[str, ...]
    recovered: tuple[str, ...] | None
    first_difference: Mapping[str, int | None]

    @classmethod
    def of(cls, prompt: str, full: Tokens, pruned: Tokens, recovered: Tokens | None) -> Continuation:
        """Compare the tokens of the models with the full model's, as far as both have come."""
        differences = {"pruned": find_difference(full, pruned)}
        recovered_parts = None
        if recovered is not None:
            differences["recovered"] = find_difference(full, recovered)
            recovered_parts = recovered.parts
        return cls(prompt, full.parts, pruned.parts, recovered_parts, differences)

    @property
    def models(self) -> dict[str, tuple[tuple[str, ...], int | None]]:
        """The tokens of each model, and the index of the first that differs."""
        states = {"full": self.full, "pruned": self.pruned}
        if self.recovered is not None:
            states["recovered"] = self.recovered
        return {name: (tokens, self.first_difference.get(name)) for name, tokens in states.items()}

    def as_pruned(self) -> Continuation:
        """Return it without the recovered model's."""
        return replace(self, recovered=None, first_difference={"pruned": self.first_difference["pruned"]})


def find_difference(full: Tokens, other: Tokens) -> int | None:
    """Return the index of the first token that differs, as far as both have come (None: none differs)."""
    for place, (expected, token) in enumerate(zip(full.ids, other.ids, strict=False)):
        if token != expected:
            return place
    return None


def compare_continuations(measurements: Measurements, mask: HeadMask, recovered: Recovered | None) -> Continuation:
    """Let the full model, the one cut to ``mask`` and the recovered one continue the prompt."""

    def continue_prompt(mask: HeadMask | None, recovered: Recovered | None = None) -> Tokens:
        ids = measurements.continue_text(PROMPT, TOKENS, mask=mask, recovered=recovered)
        return Tokens.of(measurements.model.tokenizer, ids)

    full = continue_prompt(None)
    pruned = continue_prompt(mask)
    after = None
    if recovered is not None:
        after = continue_prompt(mask, recovered)
    return Continuation.of(PROMPT, full, pruned, after)


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
