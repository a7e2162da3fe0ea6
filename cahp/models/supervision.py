"""What observes a training, ends it early, and lets an interrupted one go on."""

from __future__ import annotations

from dataclasses import dataclass

from cahp.models.training import Hooks, Watch
from cahp.models.training_state import Left
from cahp.store import StoredTraining
from cahp.values import Progress, silent


@dataclass(frozen=True)
class Supervision:
    """Callbacks and state of a training; see ``cahp.models.training.optimise``.

    ``progress`` is called between batches and may raise ``Cancelled``, ``watch`` after each batch. With a
    ``checkpoint`` an interrupted training is resumed. ``left`` returns the seconds left (None: no limit).
    """

    progress: Progress = silent
    watch: Watch | None = None
    checkpoint: StoredTraining | None = None
    left: Left | None = None

    def hooks(self, stage: str) -> Hooks:
        """Return what a training of this ``stage`` calls between its batches."""
        return Hooks(stage, self.progress, self.watch, checkpoint=self.checkpoint)
