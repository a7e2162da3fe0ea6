"""The same greedy continuation of a prompt by the full, the pruned and the recovered language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cahp.run.recovered import Recovered
from cahp.values import HeadMask

if TYPE_CHECKING:
    from cahp.run.measurements import Measurements

#: The prompt of all models, which is no text of a person, and the tokens that follow.
PROMPT = "The old house at the end of the street had been empty for years. One morning"
TOKENS = 20


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

    @property
    def models(self) -> dict[str, tuple[tuple[str, ...], int | None]]:
        """The tokens of each model, and the index of the first that differs."""
        states = {"full": self.full, "pruned": self.pruned, "recovered": self.recovered}
        return {
            name: (tokens, self.first_difference.get(name)) for name, tokens in states.items() if tokens is not None
        }

    def as_pruned(self) -> Continuation:
        """Return it without the recovered model's."""
        return replace(self, recovered=None, first_difference={"pruned": self.first_difference["pruned"]})


def compare_continuations(measurements: Measurements, mask: HeadMask, recovered: Recovered | None) -> Continuation:
    """Let the full model, the one cut to ``mask`` and the recovered one continue the prompt."""
    full, pruned = (measurements.continue_text(PROMPT, TOKENS, mask=one) for one in (None, mask))
    ids = {"pruned": pruned}
    if recovered is not None:
        ids["recovered"] = measurements.continue_text(PROMPT, TOKENS, mask=mask, recovered=recovered)
    words = measurements.model.tokenizer
    return Continuation(
        PROMPT,
        split_text(words, full),
        split_text(words, pruned),
        split_text(words, ids["recovered"]) if recovered is not None else None,
        {
            name: next((at for at, pair in enumerate(zip(full, made, strict=True)) if len(set(pair)) > 1), None)
            for name, made in ids.items()
        },
    )


def split_text(tokenizer: Any, ids: Sequence[int]) -> tuple[str, ...]:
    """The part of each token in the text of all: joined, they are that text."""
    parts, before = list[str](), ""
    for end in range(1, len(ids) + 1):
        text = str(tokenizer.decode(ids[:end]))
        # A token may be a part of a character.
        parts.append(text[len(before) :] if text.startswith(before) else str(tokenizer.decode([ids[end - 1]])))
        before = text
    return tuple(parts)
