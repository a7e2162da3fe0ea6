"""Elements that pages draw: charts, boxes for texts, and the budget board."""

from cahp.ui.parts import blocks, display
from cahp.ui.parts.display import (
    bind_units as bind_units,
    clear_note as clear_note,
    is_dark as is_dark,
    note_refusal as note_refusal,
    plain as plain,
    problem as problem,
    show_texts as show_texts,
    write_note as write_note,
)
from cahp.ui.parts.inputs import (
    has_words as has_words,
    is_own_example as is_own_example,
    own_text_box as own_text_box,
    parts_of as parts_of,
    read_own_text as read_own_text,
)

draw_blocks = blocks.draw
show_chart = display.show
