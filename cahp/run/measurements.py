"""What a mask does to a model: its answers, what it costs, and what a recovery wins back.

Every result is found again in the store under a key of all it depends on.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from cahp import processes as parallel
from cahp.costs import LATENCY_SECONDS, Cost, Costs
from cahp.run.recovered import Recovered
from cahp.run.recoveries import Recoveries
from cahp.run.resources import Resources
from cahp.store import Entry, key
from cahp.values import Evaluation, HeadMask, Input, Ints, OptionError, Precision, Texts

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel
    from cahp.run.shared_prefixes import SharedPrefixes

#: Texts on which a mask is compared with its surgery.
_COMPARED = 8
#: Texts of a batch that is timed.
_BATCH = 8


class Measurements(Recoveries):
    """What masks do to one model. Recoveries work on ``calibration`` texts; without any, there are none.

    Answers, costs and recoveries depend on nothing that evidence holds, so masks of any origin can be measured.
    """

    def __init__(
        self,
        resources: Resources,
        calibration: Texts | None = None,
        *,
        seed: int = 42,
        unlabelled: Sequence[Input] | None = None,
    ) -> None:
        super().__init__(resources, calibration, seed=seed, unlabelled=unlabelled)
        self._full: dict[str, Evaluation] = {}
        self._sharing: _Sharing | None = None

    def evaluate(self, texts: Texts, *, mask: HeadMask | None = None, recovered: Recovered | None = None) -> Evaluation:
        """Answers on ``texts`` of the full model, under a mask, or of a recovered pruned model."""
        if mask is not None and mask.is_full and recovered is None:
            # Nothing is dropped, which the self-test has proven to be the full model.
            mask = None
        name = self._name_of_answers(texts, mask, recovered)
        # The full model's are asked for again and again, also where the store gives nothing back.
        if mask is None and name in self._full:
            return self._full[name]
        made = self._known(name, texts)
        sharing = None if recovered is not None else self._sharing_on(texts)
        if made is None:
            made = self._answered(texts, mask, recovered, sharing)
            self._resources.keep(name, {"predictions": made.predictions, "losses": made.losses})
        elif sharing is not None:
            sharing.answered(mask or self._whole)
        if mask is None:
            self._full[name] = made
        return made

    def glimpse(self, texts: Texts, mask: HeadMask) -> tuple[Ints, Evaluation] | None:
        """Answers under a mask on a part of the texts that masks share now, and the rows of that part.

        It takes a third of the time, which answering all of them is spared later. None: there is no part to answer
        first, or all is known already.
        """
        sharing = self._sharing_on(texts)
        if sharing is None or mask.is_full or mask.empty_layers:
            return None
        if self._known(self._name_of_answers(texts, mask, None), texts) is not None:
            return None
        with self._resources.timed("evaluation"):
            return sharing.prefixes(self.model, self._precision).glimpse(mask, progress=self._resources.progress)

    def _name_of_answers(self, texts: Texts, mask: HeadMask | None, recovered: Recovered | None) -> str:
        name = key(
            "evaluation", 1, self.card.sha256, texts.sha256, mask and mask.sha256, recovered and recovered.sha256
        )
        return name if self._precision == "float32" else key("computed in", name, self._precision)

    def _known(self, name: str, texts: Texts) -> Evaluation | None:
        return self._resources.found(
            "evaluation",
            name,
            lambda of: Evaluation(of.arrays["predictions"], texts.labels, of.arrays["losses"], texts.classes),
        )

    def _answered(
        self, texts: Texts, mask: HeadMask | None, recovered: Recovered | None, sharing: _Sharing | None
    ) -> Evaluation:
        if mask is not None and mask.empty_layers:
            return self.answers(self.model, texts, mask=mask)
        if sharing is not None:
            with self._resources.timed("evaluation"):
                prefixes = sharing.prefixes(self.model, self._precision)
                return prefixes.evaluate(mask or self._whole, progress=self._resources.progress)
        return self.answers(self.model if mask is None else self.pruned(mask, recovered), texts)

    @property
    def _whole(self) -> HeadMask:
        return HeadMask.full(self.card.layers, self.card.heads)

    @property
    def _precision(self) -> Precision:
        return self._resources.precisions.evaluation

    def _sharing_on(self, texts: Texts) -> _Sharing | None:
        return self._sharing if self._sharing is not None and self._sharing.texts.sha256 == texts.sha256 else None

    @contextmanager
    def sharing(self, texts: Texts, masks: Sequence[HeadMask]) -> Iterator[None]:
        """Inside the block, what ``masks`` have in common is computed once when they are evaluated on ``texts``."""
        # Processes that share the texts go through the masks together anyway.
        if parallel.world() == 1:
            self._sharing = _Sharing(texts, masks)
        try:
            yield
        finally:
            self._sharing = None

    def answers(self, model: HeadModel, texts: Texts, *, mask: HeadMask | None = None) -> Evaluation:
        """Answers of any model, measured now."""
        from cahp.stages.evaluation import evaluate

        with self._resources.timed("evaluation"):
            return evaluate(model, texts, mask=mask, precision=self._precision, progress=self._resources.progress)

    def difference(self, mask: HeadMask, texts: Texts) -> float | None:
        """Largest difference between the logits of the masked and the cut model on some texts (None: it cannot be cut).

        Raises:
            SelfTestError: If it is larger than the self-test allows.
        """
        if mask.empty_layers:
            return None
        from cahp.models.selftest import difference

        model = self.model
        return difference(model, mask, model.batches(model.tokenize(texts.inputs[:_COMPARED])))

    def costs(
        self,
        mask: HeadMask,
        *,
        batch: int = _BATCH,
        length: int = 64,
        seconds: float = LATENCY_SECONDS,
        repeats: int | None = None,
        fresh: bool = False,
    ) -> Costs:
        """Weights, operations and time of the full and the pruned model; see ``cahp.stages.latency.measure``.

        They depend on how many heads each layer keeps, not on which. ``fresh`` times again what was timed before. What
        a busy machine took is given once and kept for nobody.

        Raises:
            OptionError: If the model does not take texts of ``length`` tokens.
        """
        name = self._name_of_costs(mask, batch=batch, length=length, seconds=seconds, repeats=repeats)
        found = None if fresh else self._resources.found("latency", name, _costs_of)
        if found is not None:
            return found
        from cahp.stages.latency import flops, measure

        full = self.model
        if length > full.max_length:
            raise OptionError(f"{self.card.id} takes at most {full.max_length} tokens and not {length}; lower --length")
        pruned = self.pruned(mask)

        def measured() -> Costs:
            progress = self._resources.progress
            latency = measure(
                full, pruned, batch=batch, length=length, seconds=seconds, repeats=repeats, progress=progress
            )
            return Costs(
                Cost(full.parameters, flops(full, length=length), latency.full),
                Cost(pruned.parameters, flops(pruned, length=length), latency.pruned),
                latency.ratio,
                latency.attention_share,
            )

        with self._resources.timed("latency"):
            # By one process: under load the times would be wrong.
            made = parallel.from_first(measured)
        if not made.noisy:
            self._resources.keep(name, {}, asdict(made))
        return made

    def costs_before(self, mask: HeadMask, *, length: int, seconds: float) -> Costs | None:
        """What ``costs`` found before on a machine that was not busy (None: nothing); nothing is timed."""
        name = self._name_of_costs(mask, batch=_BATCH, length=length, seconds=seconds, repeats=None)
        return self._resources.store.read(name, _costs_of)

    def _name_of_costs(self, mask: HeadMask, *, batch: int, length: int, seconds: float, repeats: int | None) -> str:
        return key(
            "costs",
            5,
            self.card.sha256,
            [len(heads) for heads in mask.by_layer],
            batch,
            length,
            seconds if repeats is None else None,
            repeats,
            *timed_on(self._resources.device),
        )


def timed_on(device: str) -> tuple[str | int | None, ...]:
    """All that times on a device of this name depend on, as far as it is known without asking PyTorch."""
    import platform

    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    said = (os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES"))
    return device, platform.node(), version("torch"), there, *said


class _Sharing:
    """Prefixes that masks share, which need the model only when the first mask is not in the store."""

    def __init__(self, texts: Texts, masks: Sequence[HeadMask]) -> None:
        self.texts = texts
        self._masks = {mask.sha256: mask for mask in masks if not mask.empty_layers}
        self._prefixes: SharedPrefixes | None = None
        self._lock = threading.Lock()

    def answered(self, mask: HeadMask) -> None:
        with self._lock:
            self._masks.pop(mask.sha256, None)
            if self._prefixes is not None:
                self._prefixes.answered(mask)

    def prefixes(self, model: HeadModel, precision: Precision) -> SharedPrefixes:
        from cahp.run.shared_prefixes import SharedPrefixes

        with self._lock:
            if self._prefixes is None:
                self._prefixes = SharedPrefixes(model, self.texts, self._masks.values(), precision=precision)
            return self._prefixes


def _costs_of(entry: Entry) -> Costs:
    return costs_from_json(entry.meta)


def costs_from_json(said: Mapping[str, Any]) -> Costs:
    """Costs as ``dataclasses.asdict`` and JSON wrote them."""
    import msgspec

    return msgspec.convert(said, Costs)
