"""The parts that all pages share: frame, sidebar, dialog, address and progress."""

from cahp.ui.frame.address import is_history_navigation, page_url, parse_head, set_head
from cahp.ui.frame.address import put as put_address
from cahp.ui.frame.board import FACTS, list_colourings, shape_key, warm
from cahp.ui.frame.page import go_to, link
from cahp.ui.frame.panels import BoardColouring, FirstText, Panel, broken_panel, draw_offer, find_record
from cahp.ui.frame.running import describe_progress, draw_knee, job_card, measure_roles, need_run

__all__ = [
    "FACTS",
    "BoardColouring",
    "FirstText",
    "Panel",
    "broken_panel",
    "describe_progress",
    "draw_knee",
    "draw_offer",
    "find_record",
    "go_to",
    "is_history_navigation",
    "job_card",
    "link",
    "list_colourings",
    "measure_roles",
    "need_run",
    "page_url",
    "parse_head",
    "put_address",
    "set_head",
    "shape_key",
    "warm",
]
