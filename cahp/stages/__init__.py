"""One deep function each; none knows another, and they meet in ``cahp.values``."""

from cahp.stages.evaluation import SharedLayers as SharedLayers
from cahp.stages.selection import select as select, top as top
from cahp.stages.similarity import (
    Arc as Arc,
    attend as attend,
    find_arcs as find_arcs,
    nearest_heads as nearest_heads,
    predict_text as predict_text,
    read_tokens as read_tokens,
    read_words as read_words,
)
