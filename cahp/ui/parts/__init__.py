"""Elements that pages draw: charts, boxes for texts, and the budget board."""

from cahp.ui.parts.blocks import draw as draw_blocks
from cahp.ui.parts.display import (
    bind_units,
    clear_note,
    is_dark,
    note_refusal,
    plain,
    problem,
    show_texts,
    write_note,
)
from cahp.ui.parts.display import show as show_chart
from cahp.ui.parts.inputs import has_words, is_own_example, own_text_box, parts_of, read_own_text

__all__ = [
    "bind_units",
    "clear_note",
    "draw_blocks",
    "has_words",
    "is_dark",
    "is_own_example",
    "note_refusal",
    "own_text_box",
    "parts_of",
    "plain",
    "problem",
    "read_own_text",
    "show_chart",
    "show_texts",
    "write_note",
]
