"""The evidence about a model's heads on the calibration texts, from which methods choose.

Every part is computed once, on first use, and stored. Its key holds everything it depends on, so a changed option
repeats only the parts that depend on it. Where all parts are cached, torch is not imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from cahp.files import plain_json
from cahp.run.resources import Resources
from cahp.run.settings import AFTERWARDS, CHOOSING, IN_DIGESTS, MACHINE, Salience, Settings, key_fields
from cahp.stages.clustering import (
    CLUSTERS_REVISION,
    COMPLETE,
    NO_KNEE,
    cluster,
    cluster_counts,
    knee,
    place,
    space,
    with_degree,
)
from cahp.store import Entry, digest_code, key
from cahp.tasks.texts import Texts
from cahp.values import Array, Bools, DataError, Floats, Ints, KneeNotFoundError, Progress, silent
from cahp.values.head_roles import HeadRoles
from cahp.values.statistics import Clustering, Moments, Signatures, Space

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel


# The silhouette curve on unstructured data: the heads' features, mixed at random, and where the published rule stops


#: Number of draws, and of more heads than ``_MANY_HEADS``, where each takes several seconds.
_DRAWS = 20
_FEW_DRAWS = 5
_MANY_HEADS = 200
#: Fewer heads have no curve.
_FEWEST = 4


@dataclass(frozen=True)
class KneeNull:
    """The lowest and the highest knee over ``draws`` of unstructured data."""

    low: int
    high: int
    draws: int

    def describe(self, knee: int) -> str:
        """Return where the published rule stops on unstructured data, compared with ``knee`` (0: none) here."""
        stops = f"{self.low}"
        if self.low != self.high:
            stops = f"{self.low} to {self.high}"
        here = ""
        if knee:
            here = f", and at {knee} here"
        return f"the published rule would stop at {stops} on unstructured data ({self.draws} draws){here}"


@dataclass(frozen=True, eq=False)
class NullCurves:
    """Silhouette curves ``mss (draws, K)`` of unstructured data over the numbers of clusters ``ks (K,)``."""

    ks: Ints
    mss: Floats

    def knee(self, degree: int) -> KneeNull | None:
        """Return where the rule stops on the curves with a polynomial of ``degree`` (None: it stops on none)."""
        knees = []
        for curve in self.mss:
            with suppress(KneeNotFoundError):
                knees.append(knee(self.ks, curve, degree=degree)[0])
        if not knees:
            return None
        return KneeNull(min(knees), max(knees), len(self.mss))

    @property
    def band(self) -> Floats:
        """The lowest and the highest curve, ``(2, K)``."""
        return np.stack([self.mss.min(axis=0), self.mss.max(axis=0)])

    def contains(self, curve: Floats) -> bool:
        """Tell whether a curve is as near to the mean of the null curves as these are to each other.

        The distance is the mean over the numbers of clusters, in standard deviations. With 20 curves, one in 21
        curves of unstructured data is farther away than all others.
        """

        def height(curve: Floats, others: Floats) -> float:
            return float(np.mean((curve - others.mean(axis=0)) / np.maximum(others.std(axis=0), 1e-6)))

        own = [height(curve, np.delete(self.mss, draw, axis=0)) for draw, curve in enumerate(self.mss)]
        return height(curve, self.mss) <= max(own)

    def describe(self, curve: Floats) -> str:
        """Return whether a curve shows structure, as a sentence."""
        verdict = "higher than for unstructured data: heads do form clusters"
        if self.contains(curve):
            verdict = "not significantly higher than for unstructured data"
        return f"Averaged over all numbers of clusters, the curve is {verdict} (n = {len(self.mss)} curves)."


def null_curves(space: Space, *, seed: int = 42, progress: Progress = silent) -> NullCurves:
    """Cluster features ``(N, F)`` that a random rotation mixes across heads."""
    from scipy.linalg import helmert
    from scipy.stats import ortho_group

    heads = len(space.features)
    random = np.random.default_rng(seed)
    mean = space.features.mean(axis=0)
    # Coordinates of the heads without their mean, which a rotation must not mix.
    basis = helmert(heads)
    coordinates = basis @ space.features
    draws = _DRAWS
    if heads > _MANY_HEADS:
        draws = _FEW_DRAWS
    ks = cluster_counts(heads)
    curves = np.empty((draws, len(ks)))
    for draw in range(draws):
        progress("unstructured", draw, draws)
        mixed = mean + basis.T @ (ortho_group.rvs(heads - 1, random_state=random) @ coordinates)
        curves[draw] = cluster(place(mixed.astype(np.float32), space.projection, seed), seed=seed).mss
    progress("unstructured", draws, draws)
    return NullCurves(ks, curves)


#: Settings that change no part of the evidence; the precision of signatures is part of the keys that depend on it.
_NOT_IN_EVIDENCE = (*IN_DIGESTS, *CHOOSING, *AFTERWARDS, *MACHINE)


class HeadEvidence:
    """Signatures, gradients, salience, space and clusters of one model's heads on one sample of texts.

    It is a ``cahp.methods.shared.registry.Evidence``.
    """

    def __init__(self, resources: Resources, texts: Texts, settings: Settings) -> None:
        self._resources = resources
        self._texts = texts
        self._settings = settings
        self.card = resources.card
        self.seed = settings.seed
        self._precision = resources.precisions.signatures

    @cached_property
    def texts(self) -> Texts:
        """The calibration texts; where they have no labels, the full model's predictions take their place.

        Raises:
            DataError: If all predictions are the same class.
        """
        if self._texts.labelled:
            return self._texts
        labels = self._texts.task.label(self._texts, self._predict_classes)
        return self._texts.with_labels(np.asarray(labels, dtype=np.int64))

    def _predict_classes(self) -> Ints:
        from cahp.models.reading import Reader
        from cahp.stages.evaluation import evaluate

        without = ("pool_size", "projection", "seed")
        name = self._key("predicted classes", 2, self._texts.sha256, self._precision, without=without)

        def predict() -> Ints:
            reader = Reader(self._texts, precision=self._precision)
            return evaluate(self.model, self._texts, reader=reader, progress=self.progress).predictions

        labels = self._find_array("evaluation", name, predict).astype(np.int64)
        if len(np.unique(labels)) < 2:
            raise DataError(
                f"{self.card.id} predicts {self._texts.classes[labels[0]]!r} for all {len(labels)} calibration texts; "
                "add texts of other classes"
            )
        return labels

    def _find_array(self, stage: str, name: str, compute: Callable[[], Array]) -> Array:
        return self._resources.find(
            stage, name, lambda entry: entry.arrays["values"], lambda: Entry({"values": compute()})
        )

    @property
    def model(self) -> HeadModel:
        """The model, loaded on first use. It is shared and must not be changed."""
        return self._resources.model

    @property
    def progress(self) -> Progress:
        """Callback between batches, which may raise ``Cancelled``."""
        return self._resources.progress

    def cached(self, name: str, make: Callable[[], Floats]) -> Floats:
        """Return the stored result of ``make`` for this model, these texts and this seed, or compute it.

        ``name`` must hold everything else that the result depends on, except the code of ``make``.
        """
        texts = [self._texts.sha256]
        if not self._texts.labelled:
            # The predictions that take the place of labels follow from the model and the precision.
            texts.append(self._precision)
        # The modules of the function and of the pruning methods that it refers to.
        function: Any = make
        while isinstance(function, partial):
            function = function.func
        held = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
        modules = {function.__module__, *(one.__module__ for one in held if hasattr(type(one), "needs_budget"))}
        entry = self._key("remembered", 2, name, digest_code(modules), *texts, without=("pool_size", "projection"))
        return self._find_array("scores", entry, lambda: np.asarray(make(), dtype=np.float64))

    @cached_property
    def signatures(self) -> Signatures:
        """Statistics of each head's attention maps, per class."""
        return self._resources.find_values("signatures", self._signatures_key, Signatures, self._observe)

    @cached_property
    def gradients(self) -> Floats:
        """Signed gradients ``(M, L, H)`` of each example's loss at open gates, for the first quarter of the texts."""
        return self._find_gradients()

    def _find_gradients(self, **watch: Any) -> Floats:
        from cahp.stages.signatures import gate_gradients

        def compute() -> Floats:
            return gate_gradients(self.model, self.texts, progress=self.progress, **watch)

        name = self._key("gradients", 2, self.texts.sha256, without=("pool_size", "projection", "seed"))
        return self._find_array("salience", name, compute)

    def _observe(self) -> Signatures:
        """Compute signatures from one forward pass per text, which in float32 also gives the gradients.

        The batches do not depend on what is cached: other sums would differ in their last digits, and t-SNE amplifies
        such differences until other heads are chosen.
        """
        from cahp.stages.signatures import Collector, collect, examples_used

        model = self.model
        texts = self.texts
        collector = Collector(model, classes=len(texts.classes), pool_size=self._settings.pool_size)
        collected = partial(collect, model, texts, into=collector, progress=self.progress)
        seen = 0
        if self._precision == "float32":
            seen = examples_used(texts)
            if "gradients" not in vars(self):
                self.gradients = self._find_gradients(watch=collector.watch)
            if not collector.seen:
                # The gradients were known.
                collected(rows=np.arange(seen), size=model.backward_tokens)
        return collected(rows=np.arange(seen, len(texts)), precision=self._precision)

    @cached_property
    def salience(self) -> Floats:
        """Salience ``(L, H)`` in 0..1."""
        return self.compute_salience(self._settings.salience)

    def compute_salience(self, how: Salience, rows: Bools | None = None) -> Floats:
        """Compute the salience ``(L, H)`` in 0..1 of one kind, from the gradients of these ``rows`` (None: of all)."""
        from cahp.stages.signatures import salience

        gradients = self.gradients
        if rows is not None:
            gradients = gradients[rows]
        if self._texts.task.batch == 1:
            # The mean over a batch of one item is that of the item.
            how = "example"
        return salience(gradients, how=how)

    def collect_part(self, rows: Ints) -> Signatures:
        """Compute the signatures on some of the texts."""
        from cahp.stages.signatures import collect

        return collect(self.model, self.texts, pool_size=self._settings.pool_size, rows=rows, progress=self.progress)

    def cluster_again(self, signatures: Signatures, seed: int) -> Clustering:
        """Place and cluster the heads by other signatures, or with another seed; nothing is stored."""
        placed = space(signatures, projection=self._settings.projection, seed=seed)
        return cluster(placed, seed=seed, degree=self._settings.poly_degree)

    @cached_property
    def moments(self) -> Moments:
        """Second moments of context vectors and their gradients, from a forward and a backward pass of every text."""
        from cahp.stages.signatures import collect_moments

        def compute() -> Moments:
            return collect_moments(self.model, self._texts, seed=self.seed, progress=self.progress)

        name = self._key("moments", 5, self._texts.sha256, without=("pool_size", "projection"))
        return self._resources.find_values("moments", name, Moments, compute)

    @cached_property
    def space(self) -> Space:
        """Features, embedding and distances of the heads."""

        def compute() -> Space:
            signatures = self.signatures
            clock = self._resources.clock
            start = turn = clock()

            def watch(stage: str, done: int, total: int) -> None:
                nonlocal turn
                if stage == "projection" and done == 0:
                    turn = clock()
                self.progress(stage, done, total)

            made = space(signatures, projection=self._settings.projection, seed=self.seed, progress=watch)
            self._resources.timings |= {"features": turn - start, "projection": clock() - turn}
            return made

        return self._resources.find_values("space", self._space_key, Space, compute)

    @cached_property
    def clustering(self) -> Clustering:
        """Clusters for every number of clusters."""
        degree = self._settings.poly_degree

        def read(entry: Entry) -> Clustering:
            arrays = dict(entry.arrays)
            medoids = tuple(np.split(arrays.pop("medoids"), np.cumsum(arrays["ks"])[:-1]))
            return with_degree(Clustering(medoids=medoids, knee=0, knee_rule=NO_KNEE, **arrays), degree=degree)

        def compute() -> Entry:
            made = cluster(self.space, seed=self.seed, degree=degree, progress=self.progress)
            medoids = np.concatenate(made.medoids)
            return Entry({"ks": made.ks, "mss": made.mss, "labels": made.labels, "medoids": medoids})

        name = self._key("clustering", CLUSTERS_REVISION, self._space_key)
        return self._resources.find("clustering", name, read, compute)

    @cached_property
    def null_curves(self) -> NullCurves | None:
        """The silhouette curves of the same features without structure (None: there are too few or many heads)."""
        if not _FEWEST <= self.card.total <= COMPLETE:
            return None

        def compute() -> NullCurves:
            return null_curves(self.space, seed=self.seed, progress=self.progress)

        name = self._key("null curves", CLUSTERS_REVISION, self._space_key)
        return self._resources.find_values("unstructured", name, NullCurves, compute)

    @cached_property
    def _signatures_key(self) -> str:
        return self._key("signatures", 4, self.texts.sha256, self._precision, without=("projection", "seed"))

    @cached_property
    def _space_key(self) -> str:
        return self._key("space", 5, self._signatures_key)

    def _key(self, part: str, revision: int, *depends: object, without: Iterable[str] = ()) -> str:
        """The key of a part, which ``depends`` on this and on every setting but those ``without`` effect on it."""
        settings = key_fields(self._settings, without=(*_NOT_IN_EVIDENCE, *without))
        return key(part, revision, self.card.sha256, settings, *depends)


# Roles of heads ----------------------------------------------------------------------------------------------


#: Bump to invalidate cached results.
_REVISION = 4


def find_roles(resources: Resources, *, ablate: bool = False) -> HeadRoles:
    """Measure the roles of the heads of the full model; with ``ablate`` also the losses without them.

    The losses without some sets of heads are kept as soon as they are measured, so an interrupted ablation goes on.

    Raises:
        ModelError: If the model reads too few tokens, or has no loss for ablations.
    """
    roles = stored_roles(resources, ablate=ablate)
    if roles is not None:
        return roles
    from cahp.stages.roles import STAGE, ablate_roles, measure_roles

    def find_losses(name: str, compute: Callable[[], Floats]) -> Floats:
        entry = key("role ablation", _REVISION, resources.card.sha256, name)
        return resources.find("ablation", entry, lambda of: of.arrays["losses"], lambda: Entry({"losses": compute()}))

    known = None
    if ablate:
        known = find_roles(resources)
    with resources.timed(STAGE):
        if known is None:
            roles = measure_roles(resources.model, progress=resources.progress)
        else:
            roles = ablate_roles(resources.model, known, cached=find_losses, progress=resources.progress)
    resources.keep(_name_roles(resources, ablate), {}, plain_json(roles))
    return roles


def stored_roles(resources: Resources, *, ablate: bool = False) -> HeadRoles | None:
    """Return the result of ``find_roles`` from the store, or one with ablations, or None; nothing is measured."""

    def read(entry: Entry) -> HeadRoles:
        return msgspec.convert(entry.meta, HeadRoles, strict=False)

    roles = resources.load_cached("roles", _name_roles(resources, True), read)
    if roles is None and not ablate:
        roles = resources.load_cached("roles", _name_roles(resources, False), read)
    return roles


def _name_roles(resources: Resources, ablate: bool) -> str:
    return key("roles", _REVISION, resources.card.sha256, ablate)
