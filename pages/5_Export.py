"""Take it home."""

from cahp.ui.export import page as export_view
from cahp.ui.frame import page as shell

explorer = shell.page("Export")
shell.need_run(explorer)
export_view.draw(explorer)
