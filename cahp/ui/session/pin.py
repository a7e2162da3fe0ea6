"""A pruned model that was pinned: its heads, and what opens its full model again. No model stays in memory by it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cahp.cards import ModelCard
from cahp.run.bench import Bench
from cahp.run.settings import Settings
from cahp.studies.versus import Variant, mismatch
from cahp.ui.session.opening import Source


@dataclass(frozen=True, eq=False)
class Pin:
    """A pruned model to hold others against, of the model of ``card``.

    Of ``settings`` only what names the model and says how it is asked is used, and which of its classes a label is.
    """

    variant: Variant
    card: ModelCard
    settings: Settings

    def is_of(self, card: ModelCard) -> bool:
        """Whether it was made of this very model."""
        return self.card.sha256 == card.sha256

    def mismatch(self, card: ModelCard) -> str:
        """Why it cannot be held against pruned models of ``card``, as a clause; empty if it can."""
        return mismatch(self.card, card)

    def bench(self, source: Source) -> Bench:
        """Its model on the data of ``source``, sampled as they are there; it is read when a stage needs it.

        Raises:
            CahpError: If the model is not for these data.
        """
        if self.is_of(source.card):
            return source.bench
        mine = self.settings
        settings = replace(
            source.settings,
            model=mine.model,
            prompt=mine.prompt,
            answers=mine.answers,
            label_map=mine.label_map or source.settings.label_map,
        )
        return source.beside(settings, self.card)
