"""The table of abilities of causal language models; a new ability is a row."""

from __future__ import annotations

from cahp.features.abilities.items import AbilityKind, Size, subtract_second
from cahp.features.abilities.repeats import repeat_random, repeat_text, use_context

#: All abilities, in the order of a receipt.
ABILITIES: tuple[AbilityKind, ...] = (
    AbilityKind(
        "repeats_text",
        "repeats text",
        "nats",
        repeat_text,
        subtract_second,
        Size(64, 16, 256),
        Size(32, 16, 64),
        loss_part=1,
        loss_label="loss of the second reading",
    ),
    AbilityKind(
        "repeats_random",
        "repeats random tokens",
        "nats",
        repeat_random,
        subtract_second,
        Size(64, 16, 256),
        Size(32, 16, 64),
        loss_part=1,
        loss_label="loss of the second reading",
    ),
    AbilityKind("uses_context", "uses context", "nats", use_context, subtract_second, Size(32, 64, 512)),
)
