"""Clusters of heads for every k, the selections that follow from them, and replacement heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from cahp.board.colourings import tints
from cahp.run.document import RunDocument
from cahp.run.evidence import HeadEvidence
from cahp.run.settings import Salience, Settings
from cahp.stages.clustering import with_degree
from cahp.stages.selection import Minimum, table
from cahp.values import Arrays, Floats, Floats32, HeadMask, Ints, Selection
from cahp.values.statistics import Clustering

#: The suggested selection (None: there is no knee), and that of each budget.
_Selected = tuple[Selection | None, tuple[Selection, ...]]


def families_of(arrays: Arrays, document: RunDocument) -> Ints | None:
    """Return the family of each head ``(N,)`` in a run's arrays (None: they lack the clusters for every k)."""
    if "labels_of_k" not in arrays:
        return None
    return HeadClusters.of_arrays(arrays, document).families


@dataclass(frozen=True, eq=False)
class HeadClusters:
    """Clusters for every k, salience ``(L, H)``, ``embedding (N, 2)`` and the clustered ``distances (N, N)``.

    Selections are computed once for all sessions.
    """

    clustering: Clustering
    salience: Floats
    embedding: Floats32
    distances: Floats32
    _selected: dict[tuple[int, int, bool, str], _Selected] = field(default_factory=dict, init=False)

    @classmethod
    def of(cls, evidence: HeadEvidence) -> HeadClusters:
        """Take them from the evidence, which computes them if need be."""
        return cls(evidence.clustering, evidence.salience, evidence.space.embedding, evidence.space.distances)

    @classmethod
    def of_arrays(cls, arrays: Arrays, document: RunDocument, salience: Salience | None = None) -> HeadClusters:
        """Build them from a run's arrays, with its kind of salience or another one, if the run has that.

        Raises:
            KeyError: If the arrays lack the clusters for every k.
        """
        ks = arrays["ks"].astype(np.int64)
        clustering = Clustering(
            ks,
            arrays["mss"],
            arrays["labels_of_k"].astype(np.int64),
            tuple(np.split(arrays["medoids_of_k"].astype(np.int64), np.cumsum(ks)[:-1])),
            document.knee or 0,
            document.knee_rule or "",
        )
        shape = (document.model.layers, document.model.heads)
        values = arrays.get(f"salience_{salience}", arrays["salience"])
        return cls(clustering, values.reshape(shape), arrays["embedding"], arrays["distances"])

    @property
    def layers(self) -> int:
        """Number of layers."""
        return int(self.salience.shape[0])

    @property
    def heads(self) -> int:
        """Heads a layer."""
        return int(self.salience.shape[1])

    @property
    def families(self) -> Ints:
        """The family of each head ``(N,)``, the same at every budget: see ``Clustering.families``."""
        return self.clustering.families

    @cached_property
    def tints(self) -> Ints:
        """The index in ``COLOURS`` of the family of each head ``(N,)``."""
        return tints(self.families)

    @cached_property
    def nearest(self) -> Ints:
        """The four nearest heads of each head ``(N, 4)``, nearest first; the head is one of them."""
        return np.argsort(self.distances, axis=1)[:, :4]

    def suggested(self, settings: Settings) -> Selection | None:
        """Return the selection at the curve's knee, or an even one of nearly as many heads (None: it has no knee)."""
        return self._select(settings)[0]

    def selections(self, settings: Settings) -> tuple[Selection, ...]:
        """Return the selection of each budget, from the fewest heads that ``settings`` allow to all heads."""
        return self._select(settings)[1]

    def _select(self, settings: Settings) -> _Selected:
        rules = settings.budget_rules(self)
        how = settings.representative
        key = (settings.min_per_layer, settings.min_first_layers, settings.even, how)
        if key in self._selected:
            return self._selected[key]

        def at(budgets: Sequence[int | None], least: Minimum) -> list[Selection]:
            return table(self.clustering, self.salience, budgets=budgets, min_per_layer=least, representative=how)

        suggested = None
        if self.clustering.knee in self.clustering.ks:
            (suggested,) = at([None], rules.minimum)
        budgets = rules.possible
        if not rules.even:
            selections = at(budgets, rules.minimum)
        else:
            selections = [chosen for budget in budgets for chosen in at([budget], rules.layer_minimum(budget))]
            if suggested is not None:
                suggested = selections[budgets.index(rules.round_evenly(suggested.mask.count))]
        self._selected[key] = suggested, tuple(selections)
        return self._selected[key]

    def groups(self, k: int | None) -> tuple[Ints, Ints]:
        """Return labels ``(N,)`` and medoids of ``k`` clusters, or of the nearest number that was clustered."""
        if k is None:
            k = int(self.clustering.ks[-1])
        return self.clustering.at(self.clustering.nearest(k))

    def with_degree(self, degree: int) -> HeadClusters:
        """Return the same clusters with the knee of another polynomial degree."""
        return replace(self, clustering=with_degree(self.clustering, degree=degree))

    def covers(self, mask: HeadMask, labels: Ints) -> Ints:
        """Return the replacement of each head ``(N,)``: the nearest other kept head of its cluster in ``labels (N,)``.

        If its cluster keeps no other head, it is the nearest kept head of all; a single kept head replaces itself.
        """
        distances = np.where(mask.keep.ravel(), self.distances, np.inf)
        np.fill_diagonal(distances, np.inf)
        shared = np.where(labels[:, None] == labels, distances, np.inf)
        inside = np.isfinite(shared).any(axis=1, keepdims=True)
        nearest = np.where(inside, shared, distances).argmin(axis=1)
        alone = np.isinf(distances).all(axis=1)
        return np.where(alone, np.arange(len(nearest)), nearest)

    def nearest_kept(self, mask: HeadMask, head: int, labels: Ints) -> tuple[int, float, bool]:
        """Return the replacement of ``head``, its distance, and whether it is in the same cluster."""
        cover = int(self.covers(mask, labels)[head])
        return cover, float(self.distances[head, cover]), bool(labels[cover] == labels[head])
