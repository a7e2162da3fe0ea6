"""Take it home."""

from cahp.ui import export_view, shell

explorer = shell.page("Export")
shell.need_run(explorer)
export_view.draw(explorer)
