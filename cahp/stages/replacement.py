"""Costs of removing heads in the metric of the predictions, and how far other heads of the layer can replace a head.

All follow from the ``Moments`` of a layer: ``H``, the second moment of its context vectors, with a ridge on the
diagonal, and ``G``, that of their gradients. Removing the heads ``R`` changes the predictions by about
``tr(G_RR H_RR)`` (twice the KL divergence in nats per token, to second order). If the heads ``S`` that stay take over
what they linearly can, ``H_pp`` of a head ``p`` becomes ``H_pp - H_pS H_SS^-1 H_Sp``, the inverse of the block of
``p`` in the inverse of ``H``. Sources: Hassibi and Stork 1993 (optimal brain surgeon); ZipLM, NeurIPS 2023, OSSCAR and
SlimGPT, 2024, and SlimLLM, ICML 2025, remove structures of a layer so. The metric of the predictions, by which layers
compare, and heads across layers are ours.
"""

from dataclasses import dataclass, field

import numpy as np

from cahp.values import Bools, Floats, Floats32, HeadMask, Ints
from cahp.values.statistics import Moments, one_openblas_thread

#: Added to the diagonal of ``H``, relative to its mean: as a refit's.
RIDGE = 0.1


@dataclass(frozen=True, eq=False)
class Elimination:
    """The order in which the heads of each layer are removed, ``order (L, H)``, and the cost of each, ``costs (L, H)``.

    In each layer the head that adds least is removed first, whatever happens in other layers.
    """

    order: Ints
    costs: Floats

    @property
    def scores(self) -> Floats:
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


def joint_costs(moments: Moments) -> Floats:
    """What pairs of heads of a layer add to the cost of removing both, ``(L, H, H)``: ``tr(G_hk H_kh)``.

    The cost of removing several heads of a layer is the sum over all their pairs, each head with itself included.
    """
    layers, width = moments.contexts.shape[:2]
    size = width // moments.heads
    products = np.multiply(moments.contexts, moments.gradients, dtype=np.float64)
    return np.asarray(products.reshape(layers, moments.heads, size, moments.heads, size).sum(axis=(2, 4)))


def eliminate_jointly(costs: Floats) -> Elimination:
    """Remove the heads of each layer one by one, without replacement, by their ``joint_costs (L, H, H)``."""
    order = np.empty(costs.shape[:2], dtype=np.int64)
    added = np.empty(costs.shape[:2])
    for layer, pairs in enumerate(costs):
        marginal = pairs.diagonal().copy()
        for step in range(len(marginal)):
            head = int(marginal.argmin())
            order[layer, step] = head
            added[layer, step] = marginal[head]
            marginal += 2 * pairs[head]
            marginal[order[layer, : step + 1]] = np.inf
    return Elimination(order, added)


def eliminate_replaced(moments: Moments, *, ridge: float = RIDGE) -> Elimination:
    """Remove the heads of each layer one by one, each time with the best linear replacement by the heads that stay.

    After each removal the inverse of ``H`` and the gradients are updated to the layer with its replaced weights.
    """
    shape = (len(moments.contexts), moments.heads)
    order = np.empty(shape, dtype=np.int64)
    costs = np.empty(shape)
    with one_openblas_thread():
        for layer, (contexts, gradients) in enumerate(zip(moments.contexts, moments.gradients, strict=True)):
            inverse = np.linalg.inv(_with_ridge(contexts, ridge))
            metric = gradients.astype(np.float64)
            size = len(inverse) // moments.heads
            left = list(range(moments.heads))
            for step in range(moments.heads):
                blocks = _blocks(inverse, size)
                weights = _blocks(metric, size)
                each = np.einsum("hij,hij->h", weights, np.linalg.inv(blocks))
                place = int(each.argmin())
                order[layer, step] = left.pop(place)
                costs[layer, step] = each[place]
                gone = np.zeros(len(inverse), dtype=np.bool_)
                gone[place * size : (place + 1) * size] = True
                # How the others replace the context vector of the head that goes: its weights move to them.
                moved = np.linalg.solve(blocks[place], inverse[np.ix_(gone, ~gone)])
                across = metric[np.ix_(~gone, gone)] @ moved
                metric = metric[np.ix_(~gone, ~gone)] - across - across.T + moved.T @ weights[place] @ moved
                inverse = inverse[np.ix_(~gone, ~gone)] - inverse[np.ix_(~gone, gone)] @ moved
    return Elimination(order, costs)


@dataclass(frozen=True, eq=False)
class Replaceability:
    """How far the other kept heads of its layer can replace a head: the share of its effect that they reproduce.

    Of head ``p`` it is ``1 - tr(G_pp (H_pp - H_pS H_SS^-1 H_Sp)) / tr(G_pp H_pp)``, with ``S`` the other kept heads.
    A layer is computed once for each set of its kept heads, so a changed mask costs only its changed layers.
    """

    moments: Moments
    ridge: float = RIDGE
    _rows: dict[tuple[int, bytes], Floats] = field(default_factory=dict, init=False)

    def shares(self, mask: HeadMask) -> Floats:
        """The share ``(L, H)`` of each head, in 0..1; NaN for a head without any effect."""
        effects, lost = self._rows_of(mask)
        some = effects > 0
        return np.where(some, np.clip(1 - lost / np.where(some, effects, 1.0), 0.0, 1.0), np.nan)

    def losses(self, mask: HeadMask) -> Floats:
        """What of the effect ``(L, H)`` of each head the other kept heads cannot reproduce, as the costs of removal."""
        return np.asarray(self._rows_of(mask)[1])

    def _rows_of(self, mask: HeadMask) -> Floats:
        """Effects and losses, ``(2, L, H)``."""
        with one_openblas_thread():
            return np.stack([self._row(layer, keep) for layer, keep in enumerate(mask.keep)], axis=1)

    def _row(self, layer: int, keep: Bools) -> Floats:
        """The effect of each head of a layer, and what of it the other kept heads cannot reproduce, ``(2, H)``."""
        key = layer, keep.tobytes()
        if key not in self._rows:
            gram = _with_ridge(self.moments.contexts[layer], self.ridge)
            kept = np.flatnonzero(keep)
            size = len(gram) // len(keep)
            width = len(kept) * size
            by_head = gram.reshape(len(keep), size, len(keep), size)
            metric = _blocks(self.moments.gradients[layer], size).astype(np.float64)
            effects = np.einsum("hij,hij->h", metric, _blocks(gram, size))
            left = effects.copy()
            inverse = np.linalg.inv(by_head[kept][:, :, kept].reshape(width, width))
            for head in np.flatnonzero(~keep):
                across = by_head[head][:, kept].reshape(size, width)
                left[head] -= np.vdot(metric[head], across @ inverse @ across.T)
            # A head that alone is kept has no others.
            if len(kept) > 1:
                left[kept] = np.einsum("hij,hij->h", metric[kept], np.linalg.inv(_blocks(inverse, size)))
            self._rows[key] = np.stack([effects, left])
        return self._rows[key]


def _with_ridge(contexts: Floats32, ridge: float) -> Floats:
    gram = contexts.astype(np.float64)
    mean = float(gram.diagonal().mean())
    # Where nothing enters the projection, any ridge will do.
    gram[np.diag_indices_from(gram)] += ridge * (mean or 1.0)
    return gram


def _blocks(matrix: Floats, size: int) -> Floats:
    """The blocks ``(H, size, size)`` on the diagonal."""
    count = len(matrix) // size
    every = np.arange(count)
    return matrix.reshape(count, size, count, size)[every, :, every]
