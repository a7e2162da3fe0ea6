"""The parts that all pages share: frame, sidebar, dialog, address and progress."""

from cahp.ui.frame.board import list_colourings, shape_key
from cahp.ui.frame.page import go_to, link
from cahp.ui.frame.panels import BoardColouring, FirstText, Panel, broken_panel
from cahp.ui.frame.running import describe_progress, follow, job_card, measure_roles, need_run, show_job
from cahp.ui.frame.selection import draw_knee

__all__ = [
    "BoardColouring",
    "FirstText",
    "Panel",
    "broken_panel",
    "describe_progress",
    "draw_knee",
    "follow",
    "go_to",
    "job_card",
    "link",
    "list_colourings",
    "measure_roles",
    "need_run",
    "shape_key",
    "show_job",
]
