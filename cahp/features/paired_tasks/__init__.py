"""Tasks of lm-evaluation-harness: two runs of it, compared item by item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cahp.features.feature import Feature

if TYPE_CHECKING:
    from cahp.cli.command import Alternative
    from cahp.ui.frame.panels import Panel


def _list_evaluations() -> Sequence[Alternative]:
    from cahp.features.paired_tasks.command import SAMPLES, TASKS

    return (SAMPLES, TASKS)


def _list_panels() -> Sequence[Panel]:
    from cahp.features.paired_tasks.panel import TAB

    return (TAB,)


PAIRED_TASKS = Feature("paired_tasks", evaluations=_list_evaluations, panels=_list_panels)
