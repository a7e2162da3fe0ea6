"""The budget board: the heads that a budget keeps, with accuracy and time, while the slider is dragged.

All hosts share one core: ``core/`` is an ES module that draws a board from plain data (``core/board.js`` tells how to
mount it). ``contents`` makes its data and joins its files to one script; ``state`` has the mask on a board, without any
picture. The hosts are the explorer (``cahp.ui.parts.budget_board``), a notebook, and a report.
"""

from cahp.board.budget_sweep import BudgetTable as BudgetTable, evaluate_mask as evaluate_mask
from cahp.board.colourings import (
    CLUSTER_COLOURS as CLUSTER_COLOURS,
    COLOURS as COLOURS,
    NEUTRAL as NEUTRAL,
    STRIPED as STRIPED,
    Pictures as Pictures,
    contrast as contrast,
    mark_clusters as mark_clusters,
    pack_bytes as pack_bytes,
    tints as tints,
)
from cahp.board.contents import (
    BoardSubject as BoardSubject,
    Event as Event,
    FirstScreen as FirstScreen,
    Host as Host,
    Sentence as Sentence,
    SentenceAnswer as SentenceAnswer,
    Shown as Shown,
    WordMaps as WordMaps,
    contents as contents,
    read_component as read_component,
    script as script,
    style as style,
)
from cahp.board.head_clusters import HeadClusters as HeadClusters
from cahp.board.versus import (
    Variant as Variant,
    Versus as Versus,
    compare_variants as compare_variants,
    mismatch as mismatch,
)
