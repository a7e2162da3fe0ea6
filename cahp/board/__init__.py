"""The budget board: the heads that a budget keeps, with accuracy and time, while the slider is dragged.

All hosts share one core: ``core/`` is an ES module that draws a board from plain data (``core/board.js`` tells how to
mount it). ``contents`` makes its data and joins its files to one script; ``state`` has the mask on a board, without any
picture. The hosts are the explorer (``cahp.ui.parts.budget_board``), a notebook, and a report.
"""

from cahp.board.budget_sweep import BudgetTable, evaluate_mask
from cahp.board.colourings import (
    CLUSTER_COLOURS,
    COLOURS,
    NEUTRAL,
    STRIPED,
    Pictures,
    contrast,
    mark_clusters,
    pack_bytes,
    tints,
)
from cahp.board.contents import (
    BoardSubject,
    Event,
    FirstScreen,
    Host,
    Sentence,
    SentenceAnswer,
    Shown,
    WordMaps,
    contents,
    read_component,
    script,
    style,
)
from cahp.board.head_clusters import HeadClusters
from cahp.board.versus import Variant, Versus, compare_variants, mismatch

__all__ = [
    "CLUSTER_COLOURS",
    "COLOURS",
    "NEUTRAL",
    "STRIPED",
    "BoardSubject",
    "BudgetTable",
    "Event",
    "FirstScreen",
    "HeadClusters",
    "Host",
    "Pictures",
    "Sentence",
    "SentenceAnswer",
    "Shown",
    "Variant",
    "Versus",
    "WordMaps",
    "compare_variants",
    "contents",
    "contrast",
    "evaluate_mask",
    "mark_clusters",
    "mismatch",
    "pack_bytes",
    "read_component",
    "script",
    "style",
    "tints",
]
