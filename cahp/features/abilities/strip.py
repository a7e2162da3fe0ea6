"""The strip of marks: what a mask broke, at one glance; a mark tells its figures when pointed at or focused."""

from __future__ import annotations

from collections.abc import Iterator

from cahp.features.abilities.receipt import SYMBOLS, explain, list_by_word, name_state
from cahp.features.abilities.record import FLAGS, AbilitiesRecord, Ability, Word
from cahp.words import safe

#: With more abilities only the weaker and lost ones have a mark each.
_MANY = 6


def strip_html(record: AbilitiesRecord, state: str, recover: str) -> str:
    """Return the HTML of the marks of a model, grouped by word, the worst first.

    Each mark has a symbol, so that no colour is needed, and can be reached by keyboard. Where there are many abilities,
    one mark counts those of a word that is no loss, so that the strip takes a line.
    """
    many = len(record.rows) > _MANY
    groups = "".join(_draw_group(word, rows, state, many=many) for word, rows in list_by_word(record, state).items())
    title = safe(f"Abilities {name_state(state, recover)}")
    return f'<div class="abilities" role="group" aria-label="{title}"><b>{title}</b>{groups}</div>'


def _draw_group(word: Word, rows: list[Ability], state: str, *, many: bool) -> str:
    kind = word.replace(" ", "-")
    if many and word not in FLAGS:
        about = safe("; ".join(explain(row, state) for row in rows))
        marks = _draw_mark(about, f"{SYMBOLS[word]} {len(rows)} {word}")
        return f'<span class="ability-group ability-{kind}">{marks}</span>'
    marks = "".join(_draw_marks(word, rows, state))
    return f'<span class="ability-group ability-{kind}"><span class="ability-word">{safe(word)}</span>{marks}</span>'


def _draw_marks(word: Word, rows: list[Ability], state: str) -> Iterator[str]:
    for row in rows:
        yield _draw_mark(safe(explain(row, state)), f"{SYMBOLS[word]} {safe(row.label)}")


def _draw_mark(about: str, label: str) -> str:
    """Return a mark, of texts without HTML."""
    return (
        f'<span class="ability" tabindex="0" role="img" title="{about}" aria-label="{about}" data-about="{about}">'
        f"{label}</span>"
    )
