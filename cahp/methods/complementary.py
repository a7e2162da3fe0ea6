"""Complementary attention head pruning: each cluster of similar heads keeps one head (arXiv 2606.19150)."""

from collections.abc import Sequence

from cahp.methods.shared.registry import Evidence, register
from cahp.methods.shared.scored import Suggesting
from cahp.stages.selection import Minimum, Representative, select
from cahp.values import Fields, Selection


@register
class Complementary(Suggesting):
    """Keep the most salient head of each cluster; without a budget, the knee of the silhouette curve sets their number.

    Source: CAHP, arXiv 2606.19150, 2026. Cost: a forward pass of every text, and a backward pass of a quarter of them.
    Labels: of all calibration texts. Randomness: the evidence's seed starts the projection and the clusterings.
    """

    name = "complementary"
    tries: Sequence[Fields] = ({}, {"representative": "medoid"})

    def __init__(self, *, representative: Representative = "salience") -> None:
        self._representative: Representative = representative

    def choose(self, evidence: Evidence, *, budget: int | None, min_per_layer: Minimum = 1) -> Selection:
        """Keep exactly ``budget`` heads, or what the knee suggests; see ``cahp.stages.selection.select``."""
        return select(
            evidence.clustering,
            evidence.salience,
            budget=budget,
            min_per_layer=min_per_layer,
            representative=self._representative,
        )
