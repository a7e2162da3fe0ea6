"""What a mask does to a model: its answers, what it costs, and what a recovery wins back.

Every result is found again in the store under a key of all it depends on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cahp import processes as parallel
from cahp.run.resources import Resources
from cahp.store import Entry, Store, key
from cahp.values import (
    Cost,
    Costs,
    DataError,
    Evaluation,
    HeadMask,
    ModelCard,
    OptionError,
    RefitReport,
    Texts,
    digest,
)

if TYPE_CHECKING:
    from cahp.models.attention import Site
    from cahp.models.head_model import HeadModel
    from cahp.models.training import Schedule, Watch

#: The projections that a refit solves anew.
_REFITTED: tuple[Site, ...] = ("output", "feed_out")

#: Texts on which a mask is compared with its surgery.
_COMPARED = 8

#: With fewer texts a recovery holds none out to be evaluated on.
_FEWEST_TEXTS = 5


@dataclass(frozen=True, eq=False)
class Refitted:
    """New output projections of a pruned model (weight and bias by layer and site), and why they were taken or not."""

    projections: Mapping[tuple[int, Site], tuple[NDArray[np.float32], NDArray[np.float32] | None]]
    accepted: bool
    reason: str
    examples: int

    @property
    def report(self) -> RefitReport:
        """What a run file says of it."""
        return RefitReport(self.accepted, self.reason, self.examples)

    @property
    def sha256(self) -> str:
        """Digest of the projections."""
        return digest(*(b"" if part is None else part.tobytes() for pair in self.projections.values() for part in pair))


@dataclass(frozen=True, eq=False)
class FineTuned:
    """The weights of a fine-tuned pruned model by name, and the epochs of its training as JSON says them."""

    weights: Mapping[str, NDArray[Any]]
    epochs: tuple[Mapping[str, Any], ...]

    @cached_property
    def sha256(self) -> str:
        """Digest of the weights."""
        return digest(*(part for name, array in self.weights.items() for part in (name, array.tobytes())))


#: A model that was recovered after pruning: by a refit, or by fine-tuning.
Recovered = Refitted | FineTuned


class Measurements:
    """What masks do to one model. Recoveries work on ``calibration`` texts; without any, there are none.

    Answers, costs and recoveries depend on nothing that evidence holds, so masks of any origin can be measured.
    """

    def __init__(self, resources: Resources, calibration: Texts | None = None, *, seed: int = 42) -> None:
        self._resources, self._calibration, self._seed = resources, calibration, seed
        self._full: dict[str, Evaluation] = {}

    @property
    def card(self) -> ModelCard:
        """The model's shape and name."""
        return self._resources.card

    @property
    def model(self) -> HeadModel:
        """The model, read and proven when first asked for."""
        return self._resources.model

    @property
    def calibration(self) -> Texts:
        """The texts that recoveries work on."""
        if self._calibration is None:
            raise ValueError("these measurements were opened without calibration texts")
        return self._calibration

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

    def pruned(self, mask: HeadMask, recovered: Recovered | None = None) -> HeadModel:
        """The model without the heads that ``mask`` drops, with the recovered projections if they were taken."""
        import torch

        from cahp.models.surgery import cut

        if isinstance(recovered, FineTuned):
            from cahp.models.surgery import with_weights

            return with_weights(cut(self.model, mask), recovered.weights)
        projections = None
        if recovered is not None and recovered.accepted:
            where = self.model.device
            projections = {
                place: (torch.tensor(weight, device=where), None if bias is None else torch.tensor(bias, device=where))
                for place, (weight, bias) in recovered.projections.items()
            }
        return cut(self.model, mask, projections=projections)

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

    def refit(self, mask: HeadMask) -> Refitted:
        """Refit the pruned model on the calibration texts; see ``cahp.stages.recovery.refit``.

        Raises:
            DataError: If there are too few texts to hold one out.
            OptionError: If this model cannot be refitted.
        """
        if self.card.no_refit:
            raise OptionError(f"{self.card.no_refit}; use --recover finetune or none")
        self._check_held_out("a refit")
        name = key("refit", 2, self.card.sha256, self.calibration.sha256, mask.sha256)
        places = [(layer, site) for layer in range(self.card.layers) for site in _REFITTED]

        def refitted(entry: Entry) -> Refitted:
            arrays = entry.arrays
            projections = {
                (layer, site): (arrays[f"{site}-{layer}-weight"], arrays.get(f"{site}-{layer}-bias"))
                for layer, site in places
            }
            return Refitted(projections, **entry.meta)

        found = self._resources.found("recovery", name, refitted)
        if found is not None:
            return found
        from cahp.stages.recovery import refit

        model = self.model

        def solved() -> Refitted:
            made = refit(model, mask, self.calibration, progress=self._resources.progress)
            linears = {place: made.model.projection(*place) for place in places}
            return Refitted(
                {
                    place: (linear.weight.cpu().numpy(), None if linear.bias is None else linear.bias.cpu().numpy())
                    for place, linear in linears.items()
                },
                made.accepted,
                made.reason,
                made.examples,
            )

        with self._resources.timed("recovery"):
            recovered = parallel.from_first(solved)
        arrays = {
            f"{site}-{layer}-{part}": values
            for (layer, site), pair in recovered.projections.items()
            for part, values in zip(("weight", "bias"), pair, strict=True)
            if values is not None
        }
        self._resources.keep(name, arrays, asdict(recovered.report))
        return recovered

    def finetune(
        self, mask: HeadMask, *, schedule: Schedule | None = None, watch: Watch | None = None, keep: bool = True
    ) -> FineTuned:
        """Fine-tune the pruned model on the calibration texts; see ``cahp.stages.recovery.finetune``.

        A training that was stopped goes on where it stopped, and one that is cached is not done again. ``keep`` says
        whether its weights may take room in the store.

        Raises:
            CahpError: If there are too few texts to hold one out, or training goes astray.
        """
        self._check_held_out("fine-tuning")
        from cahp.models.training import Schedule
        from cahp.stages import recovery

        schedule = schedule or Schedule()
        # Several processes take a batch each at a time, which makes it another training.
        parts = (self.card.sha256, self.calibration.sha256, mask.sha256, asdict(schedule), self._seed, parallel.world())
        name = key("tuned", 1, *parts)
        found = self._resources.found("recovery", name, lambda of: FineTuned(of.arrays, tuple(of.meta["epochs"])))
        if found is not None:
            return found
        model = self.model
        checkpoint = _StoredTraining(self._resources.store, key("tuning", 1, *parts, model.device.type))
        with self._resources.timed("recovery"):
            made, history = recovery.finetune(
                model,
                mask,
                self.calibration,
                schedule=schedule,
                seed=self._seed,
                progress=self._resources.progress,
                watch=watch or self._resources.watch,
                checkpoint=checkpoint,
            )
        weights = {name: weight.detach().cpu().numpy() for name, weight in made.network.named_parameters()}
        tuned = FineTuned(weights, tuple(asdict(epoch) for epoch in history))
        if keep:
            self._resources.keep(name, weights, {"epochs": tuned.epochs})
        return tuned

    def _check_held_out(self, what: str) -> None:
        if len(self.calibration) < _FEWEST_TEXTS:
            raise DataError(
                f"every fifth text evaluates {what}, and there are only {len(self.calibration)}; raise --limit or add "
                "texts"
            )

    def costs(self, mask: HeadMask, *, batch: int = 8, length: int = 64, repeats: int = 30) -> Costs:
        """Weights, operations and time of the full and the pruned model.

        They depend on how many heads each layer keeps, not on which.

        Raises:
            OptionError: If the model does not take texts of ``length`` tokens.
        """
        import platform

        counts = [len(heads) for heads in mask.by_layer]
        name = key(
            "costs",
            2,
            self.card.sha256,
            counts,
            batch,
            length,
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
            latency = measure(full, pruned, batch=batch, length=length, repeats=repeats, progress=progress)
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


@dataclass(frozen=True)
class _StoredTraining:
    """A training that was stopped, in the store."""

    store: Store
    name: str

    def load(self) -> tuple[Mapping[str, NDArray[Any]], Mapping[str, Any]] | None:
        found = self.store.load(self.name)
        return None if found is None else (found.arrays, found.meta)

    def save(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        self.store.save(self.name, arrays=arrays, meta=meta)

    def remove(self) -> None:
        self.store.remove(self.name)


def costs_from_json(said: Mapping[str, Any]) -> Costs:
    """Costs as ``dataclasses.asdict`` and JSON wrote them."""
    import msgspec

    return msgspec.convert(said, Costs)
