"""What a mask does to a model: its answers, what it costs, and what a recovery wins back.

Every result is found again in the store under a key of all it depends on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from cahp import processes as parallel
from cahp.run.recovered import Recovered
from cahp.run.recoveries import Recoveries
from cahp.run.resources import Resources
from cahp.store import key
from cahp.values import LATENCY_SECONDS, Cost, Costs, Evaluation, HeadMask, Input, OptionError, Texts

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel

#: Texts on which a mask is compared with its surgery.
_COMPARED = 8


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

    def evaluate(self, texts: Texts, *, mask: HeadMask | None = None, recovered: Recovered | None = None) -> Evaluation:
        """Answers on ``texts`` of the full model, under a mask, or of a recovered pruned model."""
        name = key(
            "evaluation", 1, self.card.sha256, texts.sha256, mask and mask.sha256, recovered and recovered.sha256
        )
        # The full model's are asked for again and again, also where the store gives nothing back.
        if mask is None and name in self._full:
            return self._full[name]
        made = self._resources.found(
            "evaluation",
            name,
            lambda of: Evaluation(of.arrays["predictions"], texts.labels, of.arrays["losses"], texts.classes),
        )
        if made is None:
            model = self.model if mask is None or mask.empty_layers else self.pruned(mask, recovered)
            made = self.answers(model, texts, mask=mask if mask is not None and mask.empty_layers else None)
            self._resources.keep(name, {"predictions": made.predictions, "losses": made.losses})
        if mask is None:
            self._full[name] = made
        return made

    def answers(self, model: HeadModel, texts: Texts, *, mask: HeadMask | None = None) -> Evaluation:
        """Answers of any model, measured now."""
        from cahp.stages.evaluation import evaluate

        with self._resources.timed("evaluation"):
            return evaluate(model, texts, mask=mask, progress=self._resources.progress)

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
        batch: int = 8,
        length: int = 64,
        seconds: float = LATENCY_SECONDS,
        repeats: int | None = None,
    ) -> Costs:
        """Weights, operations and time of the full and the pruned model; see ``cahp.stages.latency.measure``.

        They depend on how many heads each layer keeps, not on which.

        Raises:
            OptionError: If the model does not take texts of ``length`` tokens.
        """
        import platform

        counts = [len(heads) for heads in mask.by_layer]
        name = key(
            "costs",
            3,
            self.card.sha256,
            counts,
            batch,
            length,
            seconds if repeats is None else None,
            repeats,
            self._resources.device,
            platform.node(),
            version("torch"),
        )
        found = self._resources.found("latency", name, lambda entry: costs_from_json(entry.meta))
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
        self._resources.keep(name, {}, asdict(made))
        return made


def costs_from_json(said: Mapping[str, Any]) -> Costs:
    """Costs as ``dataclasses.asdict`` and JSON wrote them."""
    import msgspec

    return msgspec.convert(said, Costs)
