"""The parts that all pages share: frame, sidebar, dialog, address and progress."""

from cahp.ui.frame import address
from cahp.ui.frame.address import (
    is_history_navigation as is_history_navigation,
    page_url as page_url,
    parse_head as parse_head,
    set_head as set_head,
)
from cahp.ui.frame.board import (
    FACTS as FACTS,
    TEXT_MAPS as TEXT_MAPS,
    find_text_maps as find_text_maps,
    list_colourings as list_colourings,
    shape_key as shape_key,
    warm as warm,
)
from cahp.ui.frame.page import go_to as go_to, link as link
from cahp.ui.frame.panels import (
    BoardColouring as BoardColouring,
    FirstText as FirstText,
    Panel as Panel,
    broken_panel as broken_panel,
    draw_offer as draw_offer,
    find_record as find_record,
)
from cahp.ui.frame.running import (
    describe_progress as describe_progress,
    draw_knee as draw_knee,
    job_card as job_card,
    measure_roles as measure_roles,
    need_run as need_run,
)

put_address = address.put
