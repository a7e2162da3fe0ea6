"""A model and its texts on the bench: every stage computed when first asked, once, and found again on disk.

A stage's key holds everything its result depends on, so a changed option repeats only what it touches. The model is
read when a stage first misses the store; a run whose stages are all known never imports torch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cahp import models
from cahp import processes as parallel
from cahp.run.settings import Salience
from cahp.stages.clustering import cluster, with_degree
from cahp.stages.space import Projection, space
from cahp.store import Entry, Store, key
from cahp.values import (
    Clustering,
    DataError,
    Evaluation,
    Floats,
    GateGradients,
    HeadMask,
    ModelCard,
    OptionError,
    Progress,
    Ratio,
    Signatures,
    Space,
    Texts,
    Timing,
    digest,
    silent,
)

if TYPE_CHECKING:
    from cahp.models.attention import Site
    from cahp.models.head_model import HeadModel
    from cahp.models.training import Schedule, Watch


class Loader(Protocol):
    """Reads and proves a model, as ``models.load`` does."""

    def __call__(self, name: ModelCard, /, *, device: str) -> HeadModel:
        """The model of this card."""


#: The projections that a refit solves anew.
_REPAIRED: tuple[Site, ...] = ("output", "feed_out")

#: With fewer texts a recovery holds none out to be judged by.
_FEWEST_TEXTS = 5

#: What a stored stage may weigh; above it, computing anew is the lesser evil.
_LARGEST_ENTRY = 256 << 20


@dataclass(frozen=True, eq=False)
class Refitted:
    """New output projections of a pruned model (weight and bias by layer and site), and why they were taken or not."""

    projections: Mapping[tuple[int, Site], tuple[NDArray[np.float32], NDArray[np.float32] | None]]
    accepted: bool
    reason: str
    examples: int

    @property
    def document(self) -> dict[str, Any]:
        """What a run file says of it."""
        return {"accepted": self.accepted, "reason": self.reason, "examples": self.examples}

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


class Workbench:
    """All stages of one model on one sample of selection texts.

    ``cached`` lists the stages that were found on disk, ``timings`` the seconds of those that were not.
    """

    def __init__(
        self,
        card: ModelCard,
        texts: Texts | None,
        *,
        store: Store,
        pool_size: int = 32,
        projection: Projection = "tsne",
        salience: Salience = "batch",
        degree: int = 6,
        seed: int = 42,
        device: str = "auto",
        model: HeadModel | None = None,
        load: Loader = models.load,
        progress: Progress = silent,
        watch: Watch | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.card, self._texts, self.store = card, texts, store
        self.progress, self.watch, self.clock = progress, watch, clock
        self.cached: list[str] = []
        self._kept: set[str] = set()
        self._full: dict[str, Evaluation] = {}
        self.timings: dict[str, float] = {}
        self._pool_size, self._projection, self._degree, self._seed = pool_size, projection, degree, seed
        self._salience, self._device = salience, device
        self._model, self._load, self._lock = model, load, threading.Lock()

    @property
    def texts(self) -> Texts:
        """The selection texts."""
        if self._texts is None:
            raise ValueError("this workbench was opened without texts")
        return self._texts

    @property
    def model(self) -> HeadModel:
        """The model, read and proven when first asked for."""
        with self._lock:
            if self._model is None:
                with self.timed("load"):
                    self.progress("load", 0, 1)
                    self._model = self._load(self.card, device=self._device)
                    self.progress("load", 1, 1)
            return self._model

    @property
    def seed(self) -> int:
        """Where randomness starts."""
        return self._seed

    def remembered(self, name: str, make: Callable[[], Floats]) -> NDArray[np.float64]:
        """What ``make`` gives, or gave before for this model, these texts and this seed.

        ``name`` must hold all else that the result depends on.
        """
        entry = key("remembered", 1, name, self.card.sha256, self.texts.sha256, self._seed)
        found = self._found("scores", entry)
        if found is not None:
            return found.arrays["values"].astype(np.float64, copy=False)
        with self.timed("scores"):
            values = np.asarray(make(), dtype=np.float64)
        self._keep(entry, {"values": values})
        return values

    # What is known of the heads ------------------------------------------------------------------------------

    @cached_property
    def signatures(self) -> Signatures:
        """How each head attends, per class."""
        found = self._found("signatures", self._signatures_key)
        if found is None:
            # One forward pass serves both: whoever asks first pays for the other.
            return self._observe()
        arrays = found.arrays
        return Signatures(arrays["counts"], arrays["mean"], arrays["m2"], self.card.layers, self.card.heads)

    @cached_property
    def gradients(self) -> GateGradients:
        """Signed per-example gradients of the loss at open gates."""
        found = self._found("salience", self._gradients_key)
        if found is not None:
            return GateGradients(found.arrays["values"], len(self.texts))
        from cahp.stages.salience import gate_gradients

        model = self.model
        with self.timed("salience"):
            gradients = gate_gradients(model, self.texts, progress=self.progress)
        self._keep(self._gradients_key, {"values": gradients.values})
        return gradients

    @cached_property
    def salience(self) -> NDArray[np.float64]:
        """Salience ``(L, H)`` in 0..1."""
        from cahp.stages.salience import salience

        return salience(self.gradients, how=self._salience)

    @cached_property
    def space(self) -> Space:
        """Where each head lies."""
        found = self._found("space", self._space_key)
        if found is not None:
            return Space(**found.arrays, projection=self._projection)
        signatures = self.signatures
        start = turn = self.clock()

        def watch(stage: str, done: int, total: int) -> None:
            nonlocal turn
            if stage == "projection" and done == 0:
                turn = self.clock()
            self.progress(stage, done, total)

        # Processes that work together must agree on every digit, and have other things to do than the same.
        made = parallel.from_first(
            lambda: space(signatures, projection=self._projection, seed=self._seed, progress=watch)
        )
        self.timings["features"], self.timings["projection"] = turn - start, self.clock() - turn
        arrays = {"features": made.features, "embedding": made.embedding, "distances": made.distances}
        self._keep(self._space_key, arrays)
        return made

    @cached_property
    def clustering(self) -> Clustering:
        """Clusters for every k."""
        name = key("clustering", 1, self._space_key, self._seed)
        found = self._found("clustering", name)
        if found is not None:
            arrays = found.arrays
            medoids = tuple(np.split(arrays["medoids"], np.cumsum(arrays["ks"])[:-1]))
            known = Clustering(arrays["ks"], arrays["mss"], arrays["labels"], medoids, **found.meta)
            return with_degree(known, degree=self._degree)
        space = self.space
        with self.timed("clustering"):
            made = parallel.from_first(
                lambda: cluster(space, seed=self._seed, degree=self._degree, progress=self.progress)
            )
        arrays = {"ks": made.ks, "mss": made.mss, "labels": made.labels, "medoids": np.concatenate(made.medoids)}
        self._keep(name, arrays, {"knee": made.knee, "knee_rule": made.knee_rule})
        return made

    # What a mask does ----------------------------------------------------------------------------------------

    def evaluate(
        self, texts: Texts, *, mask: HeadMask | None = None, recovered: Refitted | FineTuned | None = None
    ) -> Evaluation:
        """Answers on ``texts`` of the full model, under a mask, or of a recovered pruned model."""
        name = key(
            "evaluation", 1, self.card.sha256, texts.sha256, mask and mask.sha256, recovered and recovered.sha256
        )
        # The full model's are asked for again and again, also where the store gives nothing back.
        if mask is None and name in self._full:
            return self._full[name]
        found = self._found("evaluation", name)
        if found is not None:
            made = Evaluation(found.arrays["predictions"], texts.labels, found.arrays["losses"], texts.classes)
        else:
            model = self.model if mask is None or mask.empty_layers else self.pruned(mask, recovered)
            made = self.answers(model, texts, mask=mask if mask is not None and mask.empty_layers else None)
            self._keep(name, {"predictions": made.predictions, "losses": made.losses})
        if mask is None:
            self._full[name] = made
        return made

    def answers(self, model: HeadModel, texts: Texts, *, mask: HeadMask | None = None) -> Evaluation:
        """Answers of any model, measured now."""
        from cahp.stages.evaluation import evaluate

        with self.timed("evaluation"):
            return evaluate(model, texts, mask=mask, progress=self.progress)

    def pruned(self, mask: HeadMask, recovered: Refitted | FineTuned | None = None) -> HeadModel:
        """The model without the heads that ``mask`` drops, with the recovered projections if they were taken."""
        import torch

        from cahp.models.surgery import cut

        if isinstance(recovered, FineTuned):
            from cahp.stages.recovery import with_weights

            return with_weights(cut(self.model, mask), recovered.weights)
        projections = None
        if recovered is not None and recovered.accepted:
            where = self.model.device
            projections = {
                place: (torch.tensor(weight, device=where), None if bias is None else torch.tensor(bias, device=where))
                for place, (weight, bias) in recovered.projections.items()
            }
        return cut(self.model, mask, projections=projections)

    def refit(self, mask: HeadMask) -> Refitted:
        """Refit the pruned model on the selection texts; see ``cahp.stages.recovery.refit``.

        Raises:
            DataError: If there are too few texts to hold one out.
            OptionError: If this model cannot be refitted.
        """
        if self.card.no_refit:
            raise OptionError(f"{self.card.no_refit}; use --recover finetune or none")
        self._check_held_out("a refit")
        name = key("refit", 2, self.card.sha256, self.texts.sha256, mask.sha256)
        places = [(layer, site) for layer in range(self.card.layers) for site in _REPAIRED]
        found = self._found("recovery", name)
        if found is not None:
            arrays = found.arrays
            projections = {
                (layer, site): (arrays[f"{site}-{layer}-weight"], arrays.get(f"{site}-{layer}-bias"))
                for layer, site in places
            }
            return Refitted(projections, **found.meta)
        from cahp.stages.recovery import refit

        model = self.model

        def solved() -> Refitted:
            made = refit(model, mask, self.texts, progress=self.progress)
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

        with self.timed("recovery"):
            recovered = parallel.from_first(solved)
        arrays = {
            f"{site}-{layer}-{part}": values
            for (layer, site), pair in recovered.projections.items()
            for part, values in zip(("weight", "bias"), pair, strict=True)
            if values is not None
        }
        self._keep(name, arrays, recovered.document)
        return recovered

    def tuned(
        self, mask: HeadMask, *, schedule: Schedule | None = None, watch: Watch | None = None, keep: bool = True
    ) -> FineTuned:
        """Fine-tune the pruned model on the selection texts; see ``cahp.stages.recovery.finetune``.

        A training that was stopped is taken up where it stopped, and one that is known is not done again. ``keep`` says
        whether its weights may take room in the store.

        Raises:
            CahpError: If there are too few texts to hold one out, or training goes astray.
        """
        self._check_held_out("fine-tuning")
        from cahp.models.training import Schedule
        from cahp.stages.recovery import finetune

        schedule = schedule or Schedule()
        # Several processes take a batch each at a time, which makes it another training.
        parts = (self.card.sha256, self.texts.sha256, mask.sha256, asdict(schedule), self._seed, parallel.world())
        name = key("tuned", 1, *parts)
        found = self._found("recovery", name)
        if found is not None:
            return FineTuned(found.arrays, tuple(found.meta["epochs"]))
        model = self.model
        checkpoint = _StoredTraining(self.store, key("tuning", 1, *parts, model.device.type))
        with self.timed("recovery"):
            made, history = finetune(
                model,
                mask,
                self.texts,
                schedule=schedule,
                seed=self._seed,
                progress=self.progress,
                watch=watch or self.watch,
                checkpoint=checkpoint,
            )
        weights = {name: weight.detach().cpu().numpy() for name, weight in made.network.named_parameters()}
        tuned = FineTuned(weights, tuple(asdict(epoch) for epoch in history))
        if keep:
            self._keep(name, weights, {"epochs": tuned.epochs})
        return tuned

    def _check_held_out(self, what: str) -> None:
        if len(self.texts) < _FEWEST_TEXTS:
            raise DataError(
                f"every fifth text judges {what}, and there are only {len(self.texts)}; raise --limit or add texts"
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
            1,
            self.card.sha256,
            counts,
            batch,
            length,
            repeats,
            self._device,
            platform.node(),
            version("torch"),
        )
        found = self._found("latency", name)
        if found is not None:
            return Costs.from_json(found.meta)
        from cahp.stages.latency import flops, measure

        full = self.model
        if length > full.max_length:
            raise OptionError(f"{self.card.id} takes at most {full.max_length} tokens and not {length}; lower --length")
        pruned = self.pruned(mask)

        def measured() -> Costs:
            latency = measure(full, pruned, batch=batch, length=length, repeats=repeats, progress=self.progress)
            return Costs(
                Cost(full.parameters, flops(full, length=length), latency.full),
                Cost(pruned.parameters, flops(pruned, length=length), latency.pruned),
                latency.ratio,
                latency.attention_share,
            )

        with self.timed("latency"):
            # By one process: under load the times would be wrong.
            made = parallel.from_first(measured)
        self._keep(name, {}, asdict(made))
        return made

    # Finding and keeping -------------------------------------------------------------------------------------

    @cached_property
    def _signatures_key(self) -> str:
        return key("signatures", 1, self.card.sha256, self.texts.sha256, self._pool_size)

    @cached_property
    def _gradients_key(self) -> str:
        return key("gradients", 1, self.card.sha256, self.texts.sha256)

    @cached_property
    def _space_key(self) -> str:
        return key("space", 1, self._signatures_key, self._projection, self._seed)

    def _observe(self) -> Signatures:
        """Signatures and, unless they are known, gate gradients, from one forward pass of each text."""
        from cahp.stages.salience import examples_used, gate_gradients
        from cahp.stages.signatures import Collector, collect

        model = self.model
        collector = Collector(model, classes=len(self.texts.classes), pool_size=self._pool_size)
        seen = 0
        if self._found("salience", self._gradients_key) is None:
            with self.timed("salience"):
                gradients = gate_gradients(model, self.texts, watch=collector.watch, progress=self.progress)
            self._keep(self._gradients_key, {"values": gradients.values})
            self.__dict__["gradients"] = gradients
            seen = examples_used(len(self.texts))
        with self.timed("signatures"):
            rest = np.arange(seen, len(self.texts))
            made = collect(model, self.texts, rows=rest, into=collector, progress=self.progress)
        self._keep(self._signatures_key, {"counts": made.counts, "mean": made.mean, "m2": made.m2})
        return made

    def _found(self, stage: str, name: str) -> Entry | None:
        entry = self.store.load(name)
        if entry is not None and stage not in self.cached and name not in self._kept:
            self.cached.append(stage)
        return entry

    def _keep(self, name: str, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any] | None = None) -> None:
        if sum(array.nbytes for array in arrays.values()) <= _LARGEST_ENTRY:
            self.store.save(name, arrays=arrays, meta=meta)
            # What this workbench itself has kept is no finding from an earlier run.
            self._kept.add(name)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the block's seconds to those of ``stage``."""
        start = self.clock()
        yield
        self.timings[stage] = self.timings.get(stage, 0.0) + self.clock() - start


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


@dataclass(frozen=True)
class Cost:
    """Weights, floating-point operations of one text, and latency of one batch."""

    parameters: int
    flops: int
    latency: Timing


@dataclass(frozen=True)
class Costs:
    """The full model's cost, the pruned one's, their latency ratio, and attention's share of the full forward pass."""

    full: Cost
    pruned: Cost
    ratio: Ratio
    attention_share: float

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Costs:
        """As ``dataclasses.asdict`` wrote it."""
        full, pruned = (
            Cost(part["parameters"], part["flops"], Timing(**part["latency"]))
            for part in (said["full"], said["pruned"])
        )
        return cls(full, pruned, Ratio(**said["ratio"]), said["attention_share"])
