"""The shared ground of a comparison: model, data, texts and benches, opened once per process."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from cahp import models
from cahp.comparison.plan import WITHOUT, Cell, Plan, without_labels
from cahp.data import Dataset
from cahp.models.cards import ModelCard
from cahp.recoveries import RECOVERIES
from cahp.run.bench import Bench, open_bench
from cahp.run.resources import Loader
from cahp.run.settings import Settings, identify_model
from cahp.run.texts import load_data, window_protocol
from cahp.store import Store
from cahp.tasks.texts import Texts
from cahp.tasks.window import WindowProtocol
from cahp.values import CahpError, Progress, digest, silent, spread

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel


#: Removing each head of a language model alone may take this part of the time of all masks.
_CRITICALITY = 0.25


class Loaded(TypedDict, total=False):
    """What this process has loaded: how it reads the model, and data whose labels are not matched yet."""

    load: Loader
    dataset: Dataset | None


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
        self.plan = plan
        self.store = store
        self.progress = progress
        self._load_model = load
        self.card = identify_model(plan.settings)
        if dataset is None:
            dataset = load_data(plan.settings, self.card)
        self.raw = dataset
        self._model: HeadModel | None = None
        self._benches: dict[int, Bench] = {}
        first = self._benches[plan.settings.seed] = self._open(plan.settings)
        self.dataset = first.dataset
        self.notices = first.notices
        if not self.dataset.labelled and first.evaluation.task.predicts_labels:
            self.plan, left_out = without_labels(plan)
            self.notices += left_out
        self.tuning_texts: Texts | None = None
        self.splits: dict[str, Texts] = {"eval": first.evaluation}
        if self.plan.tries_used > 1:
            self.tuning_texts, self.splits["eval"] = _halve(first.evaluation)
        if plan.settings.report:
            self.splits["report"] = first.dataset.split(plan.settings.report)
        if not len(self.splits["eval"]):
            raise CahpError(
                "tuning and evaluation need different texts, and there is only one; raise --eval-limit, or use "
                "--tries 1"
            )

    @cached_property
    def protocols(self) -> dict[str, WindowProtocol] | None:
        """How a language model is measured on each split (None: a classifier)."""
        settings = self.plan.settings
        protocols = {name: window_protocol(settings, self.card, texts) for name, texts in self.splits.items()}
        return {name: protocol for name, protocol in protocols.items() if protocol is not None} or None

    @cached_property
    def criticality_texts(self) -> Texts | None:
        """The evaluation texts on which heads are removed one by one; None: on too few to measure it.

        Items of many predictions are expensive: as many are taken, evenly spread, as a part of the time allows.
        """
        texts = self.splits["eval"]
        if not texts.task.predicts_often:
            return texts
        rows = np.array(texts.text_rows)
        affordable = int(_CRITICALITY * self._mask_passes / self.removal_passes)
        if not affordable:
            return None
        return texts.take(rows[spread(len(rows), affordable)])

    @property
    def removal_passes(self) -> float:
        """Forward passes of a text to remove each head alone: the layers below a head are computed once for all."""
        return self.card.heads * (self.card.layers + 1) / 2

    @property
    def _mask_passes(self) -> float:
        """Forward passes to evaluate and recover all masks of the plan, if nothing is stored."""
        evaluated = sum(texts.task.count_passes(texts) for texts in self.splits.values())
        recovered = len(self.bench(self.plan.seeds[0]).calibration)
        return sum(
            RECOVERIES[name].passes(recovered, can_refit=not self.card.no_refit) + evaluated
            for cell in self.plan.cells(layers=self.card.layers, heads=self.card.heads)
            for name in cell.recoveries
        )

    @property
    def criticality_notice(self) -> str | None:
        """On how many windows the criticality of heads is measured, where these are not all."""
        texts = self.criticality_texts
        count = self.splits["eval"].count
        if texts is None:
            return "the criticality of heads was not measured: it would take too long beside so few masks."
        if len(texts) >= count:
            return None
        return (
            f"the criticality of heads was measured on {len(texts)} of {count} windows: on all it would take longer "
            "than a quarter of the time of all masks."
        )

    @cached_property
    def content(self) -> str:
        """Digest of the model and of all texts: the same names may mean others on another machine."""
        sampled = [self.bench(seed).calibration for seed in self.plan.seeds]
        texts = [*self.splits.values(), *sampled]
        if self.tuning_texts is not None:
            texts.insert(0, self.tuning_texts)
        return digest(self.card.sha256, *(one.sha256 for one in texts))

    def bench(self, seed: int) -> Bench:
        """The bench whose calibration texts ``seed`` draws."""
        if seed not in self._benches:
            self._benches[seed] = self._open(replace(self.plan.settings, seed=seed))
        return self._benches[seed]

    def splits_of(self, cell: Cell) -> dict[str, Texts]:
        """The texts to evaluate a cell on: the criticality of heads is measured on evaluation texts alone."""
        if cell.method != WITHOUT:
            return self.splits
        if self.criticality_texts is None:
            return {}
        return {"eval": self.criticality_texts}

    def _open(self, settings: Settings) -> Bench:
        bench = open_bench(
            settings,
            store=self.store,
            card=self.card,
            dataset=self.raw,
            load=self._load,
            progress=lambda stage, done, total: self.progress(stage, done, total),
        )
        if not bench.evaluation.task.compares_while_reading or not self._benches:
            return bench
        # What is known of the full model at each token takes time and memory, so that all seeds share it.
        return replace(bench, measurements=next(iter(self._benches.values())).measurements)

    def _load(self, name: ModelCard, /, *, device: str) -> HeadModel:
        if self._model is None:
            self._model = self._load_model(name, device=device)
        return self._model


def _halve(texts: Texts) -> tuple[Texts, Texts]:
    """Split texts in two; see ``Task.halve``."""
    first, second = texts.task.halve(texts)
    return texts.take(first), texts.take(second)
