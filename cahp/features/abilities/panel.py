"""The receipt of abilities below the board: a strip of marks, each with a symbol, so that no colour is needed."""

import streamlit as st

from cahp.features.abilities.record import FLAGS, AbilitiesRecord
from cahp.features.abilities.section import RECEIPT, SYMBOLS, explain, find_state, name_state
from cahp.ui.frame import Panel, draw_offer, find_record
from cahp.ui.session import Explorer
from cahp.words import safe

#: With more abilities only the weaker and lost ones have a mark each.
_MANY = 6


def strip_html(record: AbilitiesRecord, state: str, recover: str) -> str:
    """Return the HTML of the marks of a model, grouped by word, the worst first; the keyboard reaches each.

    Where there are many abilities, one mark counts those of a word that is no loss, so that the strip takes a line.
    """
    groups = []
    for word, rows in record.by_word(state).items():
        named = f'<span class="ability-word">{safe(word)}</span>'
        labels = {row.label: explain(row, state) for row in rows}
        if len(record.rows) > _MANY and word not in FLAGS:
            named = ""
            labels = {f"{len(rows)} {word}": "; ".join(labels.values())}
        marks = ""
        for label, words in labels.items():
            about = safe(words)
            marks += (
                f'<span class="ability" tabindex="0" role="img" title="{about}" aria-label="{about}" '
                f'data-about="{about}">{SYMBOLS[word]} {safe(label)}</span>'
            )
        groups.append(f'<span class="ability-group ability-{word.replace(" ", "-")}">{named}{marks}</span>')
    title = safe(f"Abilities {name_state(state, recover)}")
    return f'<div class="abilities" role="group" aria-label="{title}"><b>{title}</b>{"".join(groups)}</div>'


def draw_strip(explorer: Explorer) -> None:
    """Draw the marks of the mask on the board where they are known, else the button that measures them."""
    if explorer.mask.is_full:
        return
    record = find_record(explorer, RECEIPT)
    with st.container(key="abilities-board"):
        if record is not None:
            st.html(strip_html(record, find_state(record), explorer.recovery.ready))
        else:
            draw_offer(RECEIPT, explorer, place="strip", label=RECEIPT.title)


STRIP = Panel("", draw_strip, place=10)
