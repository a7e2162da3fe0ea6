"""What all methods of a comparison share: one model, one data set, the same evaluation texts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from cahp import models
from cahp.cards import ModelCard
from cahp.comparison.plan import Plan
from cahp.data import Dataset
from cahp.run.bench import Bench, load_data, open_bench
from cahp.run.resources import Loader
from cahp.run.settings import Settings, identify_model
from cahp.store import Store
from cahp.values import CahpError, Progress, Texts, digest, silent

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel
    from cahp.stages.recovery import Walk

#: What a process keeps of the full model's way through calibration texts, so that refits need not go it again.
_WALKS = 1 << 30


class Benches:
    """A model and its data, opened once a process, with a bench for every seed.

    ``splits`` are the texts to evaluate on, the same for all seeds, so that differences are paired: ``eval``, and
    ``report`` if the plan reports on one. If settings are tuned, every other text of the evaluation sample is one of
    ``tuning_texts`` and the rest are evaluation texts; otherwise there are no tuning texts (None).
    """

    def __init__(
        self,
        plan: Plan,
        *,
        store: Store,
        progress: Progress = silent,
        load: Loader = models.load,
        dataset: Dataset | None = None,
    ) -> None:
        self.plan, self.store, self._progress, self._load_model = plan, store, progress, load
        self.card = identify_model(plan.settings)
        self.raw = load_data(plan.settings, self.card) if dataset is None else dataset
        self._model: HeadModel | None = None
        self._walks: dict[str, Walk] = {}
        first = self._open(plan.settings)
        self._benches = {plan.settings.seed: first}
        self.dataset, self.notices = first.dataset, first.notices
        tuning = plan.tries_used > 1
        # Every other text of each class: data in which two classes alternate would leave one to each half.
        by_class = np.argsort(first.evaluation.labels, kind="stable")
        halves = [first.evaluation.take(np.sort(by_class[start::2])) for start in (0, 1)] if tuning else []
        self.tuning_texts = halves[0] if tuning else None
        self.splits: dict[str, Texts] = {"eval": halves[1] if tuning else first.evaluation}
        if plan.settings.report:
            self.splits["report"] = first.dataset.split(plan.settings.report)
        if not len(self.splits["eval"]):
            raise CahpError("one text cannot both tune settings and evaluate; raise --eval-limit, or use --tries 1")

    @cached_property
    def content(self) -> str:
        """Digest of the model and of all texts: what is found under their names elsewhere may be another."""
        sampled = [self.bench(seed).calibration for seed in self.plan.seeds]
        texts = [one for one in (self.tuning_texts, *self.splits.values(), *sampled) if one is not None]
        return digest(self.card.sha256, *(one.sha256 for one in texts))

    def bench(self, seed: int) -> Bench:
        """The bench whose calibration texts ``seed`` draws."""
        if seed not in self._benches:
            self._benches[seed] = self._open(replace(self.plan.settings, seed=seed))
        return self._benches[seed]

    def alike(self, seeds: Iterable[int]) -> bool:
        """Whether all seeds draw the same calibration texts, because there are no more of them than the limit."""
        return len({self.bench(seed).calibration.sha256 for seed in seeds}) == 1

    def walk(self, texts: Texts) -> Walk | None:
        """The full model's walk through what a refit on ``texts`` calibrates on, if there is room to keep it."""
        from cahp.stages import recovery

        if texts.sha256 not in self._walks:
            room = _WALKS - sum(walk.nbytes for walk in self._walks.values())
            model = self.bench(self.plan.seeds[0]).model
            made = recovery.Walk(model, recovery.calibration_inputs(texts.inputs), room=room)
            if not made.kept:
                return None
            self._walks[texts.sha256] = made
        return self._walks[texts.sha256]

    def report_to(self, progress: Progress) -> None:
        """Report what follows to ``progress``."""
        self._progress = progress

    def _open(self, settings: Settings) -> Bench:
        return open_bench(
            settings,
            store=self.store,
            card=self.card,
            dataset=self.raw,
            load=self._load,
            progress=lambda stage, done, total: self._progress(stage, done, total),
        )

    def _load(self, name: ModelCard, /, *, device: str) -> HeadModel:
        if self._model is None:
            self._model = self._load_model(name, device=device)
        return self._model
