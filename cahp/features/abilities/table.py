"""The table of abilities of causal language models; a new ability is a row."""

from __future__ import annotations

from cahp.features.abilities.items import AbilityKind, Draw, Size, prefer_first, subtract_second
from cahp.features.abilities.questions import (
    OPTIONS,
    ask_capitals,
    ask_sums,
    check_grammar,
    follow_pattern,
    look_up,
    read_languages,
)
from cahp.features.abilities.repeats import repeat_random, repeat_text, use_context


def _ask(name: str, label: str, draw: Draw, items: int, *, options: int = OPTIONS) -> AbilityKind:
    """A row of questions with options: its value is the share that is right."""
    return AbilityKind(name, label, "share", draw, prefer_first, Size(items), chance=1 / options, means=False)


def _read_twice(name: str, label: str, draw: Draw) -> AbilityKind:
    """A row of sequences that are read twice: its value is what the second reading gains; every run measures it."""
    return AbilityKind(
        name,
        label,
        "nats",
        draw,
        subtract_second,
        Size(64, 16, 256),
        Size(32, 16, 64),
        loss_part=1,
        loss_label="loss of the second reading",
    )


#: All abilities, in the order of a receipt.
ABILITIES: tuple[AbilityKind, ...] = (
    _read_twice("repeats_text", "repeats text", repeat_text),
    _read_twice("repeats_random", "repeats random tokens", repeat_random),
    _ask("looks_up", "looks up", look_up, 32),
    _ask("follows_pattern", "follows a pattern", follow_pattern, 96),
    AbilityKind("uses_context", "uses context", "nats", use_context, subtract_second, Size(24, 64, 384)),
    _ask("grammar", "grammar", check_grammar, 96, options=2),
    _ask("facts", "facts", ask_capitals, 64),
    _ask("arithmetic", "arithmetic", ask_sums, 96),
    AbilityKind("languages", "other languages", "nats", read_languages, subtract_second, Size(36)),
)
