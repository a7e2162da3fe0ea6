"""Costs of removing heads in the metric of the predictions, and how far other heads of the layer can replace a head.

All follow from the ``Moments`` of a layer: ``H``, the second moment of its context vectors, with a ridge on the
diagonal, and ``G``, that of their gradients. Removing the heads ``R`` changes the predictions by about
``tr(G_RR H_RR)`` (twice the KL divergence in nats per token, to second order). If the heads ``S`` that stay take over
what they linearly can, ``H_pp`` of a head ``p`` becomes ``H_pp - H_pS H_SS^-1 H_Sp``, the inverse of the block of
``p`` in the inverse of ``H``. Sources: Hassibi and Stork 1993 (optimal brain surgeon); ZipLM, NeurIPS 2023, OSSCAR and
SlimGPT, 2024, and SlimLLM, ICML 2025, remove structures of a layer so. The metric of the predictions, by which layers
compare, and heads across layers are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cahp.head_statistics import Moments
from cahp.values import Floats

#: Added to the diagonal of ``H``, relative to its mean: as a refit's.
RIDGE = 0.1


@dataclass(frozen=True, eq=False)
class Elimination:
    """The order in which the heads of each layer are removed, ``order (L, H)``, and the cost of each, ``costs (L, H)``.

    In each layer the head that adds least is removed first, whatever happens in other layers.
    """

    order: NDArray[np.int64]
    costs: NDArray[np.float64]

    @property
    def scores(self) -> NDArray[np.float64]:
        """The place ``(L, H)`` of each head in the order in which the cheapest head of all layers always goes next.

        A head that is cheaper than the one removed before it follows at once.
        """
        layers, heads = self.order.shape
        rising = np.maximum.accumulate(self.costs, axis=1)
        # Stable: of equal costs, the first layer's head is removed first, and each layer keeps its order.
        places = np.empty(rising.size)
        places[np.argsort(rising, axis=None, kind="stable")] = np.arange(rising.size)
        scores = np.empty((layers, heads))
        np.put_along_axis(scores, self.order, places.reshape(layers, heads), axis=1)
        return scores


def joint_costs(moments: Moments) -> NDArray[np.float64]:
    """What pairs of heads of a layer add to the cost of removing both, ``(L, H, H)``: ``tr(G_hk H_kh)``.

    The cost of removing several heads of a layer is the sum over all their pairs, each head with itself included.
    """
    layers, width = moments.contexts.shape[:2]
    size = width // moments.heads
    products = np.multiply(moments.contexts, moments.gradients, dtype=np.float64)
    return np.asarray(products.reshape(layers, moments.heads, size, moments.heads, size).sum(axis=(2, 4)))


def eliminate_jointly(costs: Floats) -> Elimination:
    """Remove the heads of each layer one by one, without replacement, by their ``joint_costs (L, H, H)``."""
    order, added = np.empty(costs.shape[:2], dtype=np.int64), np.empty(costs.shape[:2])
    for layer, pairs in enumerate(costs):
        marginal = pairs.diagonal().copy()
        for step in range(len(marginal)):
            head = int(marginal.argmin())
            order[layer, step], added[layer, step] = head, marginal[head]
            marginal += 2 * pairs[head]
            marginal[order[layer, : step + 1]] = np.inf
    return Elimination(order, added)


def eliminate_replaced(moments: Moments, *, ridge: float = RIDGE) -> Elimination:
    """Remove the heads of each layer one by one, each time with the best linear replacement by the heads that stay.

    After each removal the inverse of ``H`` and the gradients are updated to the layer with its replaced weights.
    """
    shape = (len(moments.contexts), moments.heads)
    order, costs = np.empty(shape, dtype=np.int64), np.empty(shape)
    for layer, (contexts, gradients) in enumerate(zip(moments.contexts, moments.gradients, strict=True)):
        inverse, metric = np.linalg.inv(_with_ridge(contexts, ridge)), gradients.astype(np.float64)
        size, left = len(inverse) // moments.heads, list(range(moments.heads))
        for step in range(moments.heads):
            blocks, weights = _blocks(inverse, size), _blocks(metric, size)
            each = np.einsum("hij,hij->h", weights, np.linalg.inv(blocks))
            place = int(each.argmin())
            order[layer, step], costs[layer, step] = left.pop(place), each[place]
            gone = np.zeros(len(inverse), dtype=np.bool_)
            gone[place * size : (place + 1) * size] = True
            # What the others must give to replace the context vector of the head that goes: its weights move to them.
            moved = np.linalg.solve(blocks[place], inverse[np.ix_(gone, ~gone)])
            across = metric[np.ix_(~gone, gone)] @ moved
            metric = metric[np.ix_(~gone, ~gone)] - across - across.T + moved.T @ weights[place] @ moved
            inverse = inverse[np.ix_(~gone, ~gone)] - inverse[np.ix_(~gone, gone)] @ moved
    return Elimination(order, costs)


def _with_ridge(contexts: NDArray[np.float32], ridge: float) -> NDArray[np.float64]:
    gram = contexts.astype(np.float64)
    mean = float(gram.diagonal().mean())
    # Where nothing enters the projection, any ridge will do.
    gram[np.diag_indices_from(gram)] += ridge * (mean or 1.0)
    return gram


def _blocks(matrix: Floats, size: int) -> Floats:
    """The blocks ``(H, size, size)`` on the diagonal."""
    count = len(matrix) // size
    every = np.arange(count)
    return np.asarray(matrix.reshape(count, size, count, size)[every, :, every])
