"""The shared ground of a comparison: model, data, texts and benches, opened once per process."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from cahp import models
from cahp.cards import ModelCard
from cahp.comparison.plan import WITHOUT, Cell, Plan, without_labels
from cahp.data import Dataset
from cahp.run.bench import Bench, load_data, open_bench
from cahp.run.resources import Loader
from cahp.run.settings import Settings, identify_model
from cahp.store import Store
from cahp.values import CahpError, Progress, Texts, digest, silent

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel


class Workspace:
    """What all methods of a comparison share: one model, one data set, the same evaluation texts, a bench per seed.

    ``splits`` are the texts to evaluate on: ``eval``, and ``report`` if the plan reports on the test split. They are
    the same for all seeds, so that differences are paired. If settings are tuned, every other text of the evaluation
    sample is one of ``tuning_texts`` and the rest are evaluation texts; otherwise there are no tuning texts (None).
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
        self.plan, self.store, self.progress, self._load_model = plan, store, progress, load
        self.card = identify_model(plan.settings)
        self.raw = load_data(plan.settings, self.card) if dataset is None else dataset
        self._model: HeadModel | None = None
        first = self._open(plan.settings)
        self._benches = {plan.settings.seed: first}
        self.dataset, self.notices = first.dataset, first.notices
        if not self.dataset.labelled:
            self.plan, left_out = without_labels(plan)
            self.notices += left_out
        tuning = self.plan.tries_used > 1
        # Every other text of each class; every other text of all could separate the classes.
        by_class = np.argsort(first.evaluation.labels, kind="stable")
        halves = [first.evaluation.take(np.sort(by_class[start::2])) for start in (0, 1)] if tuning else []
        self.tuning_texts = halves[0] if tuning else None
        self.splits: dict[str, Texts] = {"eval": halves[1] if tuning else first.evaluation}
        if plan.settings.report:
            self.splits["report"] = first.dataset.split(plan.settings.report)
        if not len(self.splits["eval"]):
            raise CahpError(
                "tuning and evaluation need different texts, and there is only one; raise --eval-limit, or use "
                "--tries 1"
            )

    @cached_property
    def content(self) -> str:
        """Digest of the model and of all texts: the same names may mean others on another machine."""
        sampled = [self.bench(seed).calibration for seed in self.plan.seeds]
        texts = [one for one in (self.tuning_texts, *self.splits.values(), *sampled) if one is not None]
        return digest(self.card.sha256, *(one.sha256 for one in texts))

    def bench(self, seed: int) -> Bench:
        """The bench whose calibration texts ``seed`` draws."""
        if seed not in self._benches:
            self._benches[seed] = self._open(replace(self.plan.settings, seed=seed))
        return self._benches[seed]

    def splits_of(self, cell: Cell) -> dict[str, Texts]:
        """The texts to evaluate a cell on: the criticality of heads is measured on evaluation texts alone."""
        return {"eval": self.splits["eval"]} if cell.method == WITHOUT else self.splits

    def _open(self, settings: Settings) -> Bench:
        return open_bench(
            settings,
            store=self.store,
            card=self.card,
            dataset=self.raw,
            load=self._load,
            progress=lambda stage, done, total: self.progress(stage, done, total),
        )

    def _load(self, name: ModelCard, /, *, device: str) -> HeadModel:
        if self._model is None:
            self._model = self._load_model(name, device=device)
        return self._model
