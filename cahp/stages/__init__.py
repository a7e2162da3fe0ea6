"""One deep function each; none knows another, and they meet in ``cahp.values``."""

from cahp.stages.evaluation import SharedLayers
from cahp.stages.selection import select, top
from cahp.stages.similarity import Arc, attend, find_arcs, nearest_heads, predict_text, read_tokens, read_words

__all__ = [
    "Arc",
    "SharedLayers",
    "attend",
    "find_arcs",
    "nearest_heads",
    "predict_text",
    "read_tokens",
    "read_words",
    "select",
    "top",
]
