"""Progress on stderr: one bar a stage, with the time left."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from cahp.values import Progress, silent

_NAMES = {
    "load": "reading the model",
    "signatures": "watching the heads",
    "salience": "weighing the heads",
    "scores": "scoring the heads",
    "features": "comparing heads",
    "projection": "placing heads",
    "clustering": "clustering for every k",
    "evaluation": "answering texts",
    "refit": "refitting",
    "finetune": "fine-tuning",
    "latency": "timing",
    "fit": "training",
    "compare": "comparing",
}


@contextmanager
def bars(*, quiet: bool) -> Iterator[Progress]:
    """A progress callback that draws bars while the block runs; none when quiet or away from a terminal."""
    if quiet or not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description:<24}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Bars(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as drawn:
        tasks = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = drawn.add_task(_NAMES.get(stage, stage), total=total)
            drawn.update(tasks[stage], completed=done, total=total)

        yield report
