"""Facility location: heads that represent all others, weighted by importance."""

import numpy as np

from cahp.methods.shared.registry import Evidence, register
from cahp.methods.shared.scored import MOST_BATCHED, Scored, batch_gradients
from cahp.models.cards import SelectionCost
from cahp.values import Floats, Ints

#: Reach of a head, as a share of the median distance between two heads.
REACH = 0.5


@register
class Facility(Scored):
    """Keep heads that are close to all other heads, weighted by how much the loss depends on the others.

    Heads are taken one by one, each the one that raises ``sum_i w_i max_{j taken} exp(-d_ij^2 / 2 r^2)`` most: facility
    location, whose greedy set reaches at least 1 - 1/e of the best. ``d`` is the distance of two heads' signatures in
    the full space, where complementary selection clusters their map; ``r`` half of its median; ``w`` the Fisher
    information of the gate, as in the method ``fisher`` before rearrangement. The score is the place in that order, so
    a larger budget keeps all heads of a smaller one, except those added by the per-layer minimum. Source: ours; greedy
    maximisation by Nemhauser, Wolsey and Fisher, Mathematical Programming 1978. Cost: a forward pass of every text for
    the signatures, a forward and a backward pass of at most 2,048 for the information, 4 forward passes each. Labels:
    of all calibration texts. Randomness: the evidence's seed says which texts and which of them share a batch.
    """

    name = "facility"
    labels = "or predictions"

    def score(self, evidence: Evidence) -> Floats:
        """How early each head is taken: from N for the first down to 1, shape ``(L, H)``."""
        order = order_by_coverage(evidence.space.features, np.square(batch_gradients(evidence)).sum(axis=0).ravel())
        scores = np.empty(len(order))
        scores[order] = np.arange(len(order), 0, -1)
        return scores.reshape(evidence.card.layers, evidence.card.heads)

    def estimate_cost(self, evidence: Evidence, *, budget: int) -> SelectionCost:
        """A forward pass of every text, and a forward and a backward pass of at most 2,048."""
        texts = len(evidence.texts)
        return SelectionCost(texts + 3 * min(texts, MOST_BATCHED), texts)


def order_by_coverage(features: Floats, weights: Floats) -> Ints:
    """Order the points ``features (N, D)`` by how much of the ``weights (N,)`` they add to the coverage; ties by index.

    If all points are equal, each covers everything, and their order is that of their indices.
    """
    from scipy.spatial.distance import pdist, squareform

    between = pdist(features)
    radius = 0.0
    if len(between):
        radius = REACH * float(np.median(between))
    distances = squareform(between)
    alike = np.where(distances == 0, 1.0, 0.0)
    if radius > 0:
        alike = np.exp(-np.square(distances / radius) / 2)
    covered = np.zeros(len(weights))
    left = np.ones(len(weights), dtype=np.bool_)
    order = np.empty(len(weights), dtype=np.int64)
    for place in range(len(order)):
        gains = weights @ np.maximum(alike - covered[:, None], 0.0)
        best = int(np.where(left, gains, -1.0).argmax())
        order[place] = best
        left[best] = False
        np.maximum(covered, alike[:, best], out=covered)
    return order
