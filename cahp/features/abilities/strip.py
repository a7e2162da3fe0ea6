"""The strip of marks: what a mask broke, at one glance; a mark tells its figures when pointed at or focused."""

from __future__ import annotations

from collections.abc import Iterator

from cahp.features.abilities.receipt import SYMBOLS, explain, list_by_word, name_state
from cahp.features.abilities.record import AbilitiesRecord, Ability, Word
from cahp.words import safe


def strip_html(record: AbilitiesRecord, state: str, recover: str) -> str:
    """Return the HTML of the marks of a model, grouped by word, the worst first.

    Each mark has a symbol, so that no colour is needed, and can be reached by keyboard.
    """
    groups = "".join(_draw_group(word, rows, state) for word, rows in list_by_word(record, state).items())
    title = safe(f"Abilities {name_state(state, recover)}")
    return f'<div class="abilities" role="group" aria-label="{title}"><b>{title}</b>{groups}</div>'


def _draw_group(word: Word, rows: list[Ability], state: str) -> str:
    marks = "".join(_draw_marks(word, rows, state))
    kind = word.replace(" ", "-")
    return f'<span class="ability-group ability-{kind}"><span class="ability-word">{safe(word)}</span>{marks}</span>'


def _draw_marks(word: Word, rows: list[Ability], state: str) -> Iterator[str]:
    for row in rows:
        about = safe(explain(row, state))
        yield (
            f'<span class="ability" tabindex="0" role="img" title="{about}" aria-label="{about}" data-about="{about}">'
            f"{SYMBOLS[word]} {safe(row.label)}</span>"
        )
