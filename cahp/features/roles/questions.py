"""Questions about the roles of heads, answered from what is measured: clusters, kept heads, and the copying loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cahp.outcomes import Outcomes
from cahp.values import Bools, Ints
from cahp.values.head_roles import NO_ROLE, NOUNS, HeadRoles
from cahp.words import number, p_value, percent

#: Draws of a permutation test.
_PERMUTATIONS = 10_000
#: A loss has broken if it is higher by so many nats per token: probabilities are then 2.7 times as small.
BROKEN = 1.0
#: A difference is significant up to this probability.
_ALPHA = 0.05
#: Smaller probabilities are printed as a bound.
_LEAST_P = 0.001


@dataclass(frozen=True)
class Together:
    """Whether heads of a role share clusters: the ``share`` of their pairs that are in one cluster.

    ``chance`` is its mean with the role's names permuted within each layer, as heads of a layer share clusters more
    often, and ``p`` the probability of at least as many pairs. ``largest`` of the ``heads`` are in one cluster, and all
    of them in ``clusters`` clusters.
    """

    role: str
    heads: int
    share: float
    chance: float
    p: float
    largest: int
    clusters: int

    def __str__(self) -> str:
        start = (
            f"{percent(self.share, 0)} of the pairs of {self.heads} {NOUNS[self.role]} heads are in one cluster, "
            f"against {percent(self.chance, 0)} by chance ({p_value(self.p, _PERMUTATIONS)}, {_PERMUTATIONS:,} "
            "permutations)"
        )
        if self.clusters == 1:
            return f"{start}: they form one cluster"
        spread = f"{start}: they lie in {self.clusters} clusters, at most {self.largest} in one"
        if self.p > _ALPHA:
            return f"{spread}; not significant (n = {self.heads} heads)"
        return spread


def share_clusters(roles: HeadRoles, labels: Ints, role: str = "first") -> Together | None:
    """Test whether the heads named by a role share clusters of ``labels (N,)`` (None: there are fewer than two)."""
    own = np.array([name == role for name in roles.names])
    heads = int(own.sum())
    if heads < 2:
        return None

    def pairs(chosen: Bools) -> float:
        counts = np.bincount(labels[chosen])
        return float((counts * (counts - 1)).sum()) / (heads * (heads - 1))

    random = np.random.default_rng(0)
    share = pairs(own)
    counts = np.bincount(labels[own])
    by_layer = own.reshape(roles.layers, -1)
    drawn = np.array([pairs(random.permuted(by_layer, axis=1).ravel()) for _ in range(_PERMUTATIONS)])
    p = (1 + int((drawn >= share - 1e-12).sum())) / (1 + _PERMUTATIONS)
    return Together(role, heads, share, float(drawn.mean()), p, int(counts.max()), int((counts > 0).sum()))


@dataclass(frozen=True)
class Kept:
    """How many heads of a role a mask keeps, of ``count``, against random masks that keep as many heads.

    Random masks keep ``low`` to ``high`` with a probability of 95 % (hypergeometric distribution); ``p`` is two-sided,
    and corrected for the number of roles (Bonferroni). ``unit`` is what is kept or pruned, a head or a group.
    """

    role: str
    kept: int
    count: int
    expected: float
    low: int
    high: int
    p: float
    unit: str = "head"

    @property
    def significant(self) -> bool:
        """Whether the mask differs from random ones."""
        return self.p <= _ALPHA

    @property
    def counted(self) -> str:
        """The number of kept heads, and that of random masks."""
        units = f"{self.unit}s"
        if self.count == 1:
            units = self.unit
        named = f"{NOUNS[self.role]} {units}"
        if self.role == NO_ROLE:
            named = f"{units} without a role"
        return f"{self.kept} of {self.count} {named}; random masks keep {self.range} (95 %)"

    @property
    def range(self) -> str:
        """What random masks keep."""
        if self.low == self.high:
            return str(self.low)
        return f"{self.low} to {self.high}"

    def __str__(self) -> str:
        if not self.significant:
            return f"keeps {self.counted}: not significant (n = {self.count})"
        if self.p < _LEAST_P:
            return f"keeps {self.counted}: p < {_LEAST_P:g}"
        return f"keeps {self.counted}: p = {number(self.p, 3)}"


def compare_kept(roles: HeadRoles, keep: Bools) -> list[Kept]:
    """Compare how many heads of each role a mask ``keep (L, H)`` keeps with random masks of as many heads."""
    from scipy.stats import hypergeom

    counts = roles.count_kept(keep)
    chosen = int(keep.sum())
    rows = []
    for role, (kept, count) in counts.items():
        random = (keep.size, count, chosen)
        tail = min(float(hypergeom.cdf(kept, *random)), float(hypergeom.sf(kept - 1, *random)))
        low, high = (int(hypergeom.ppf(share, *random)) for share in (0.025, 0.975))
        expected = count * chosen / keep.size
        rows.append(Kept(role, kept, count, expected, low, high, min(1.0, 2 * len(counts) * tail), roles.unit))
    return rows


@dataclass(frozen=True)
class Breaks:
    """The largest number of kept heads at which a loss has risen by ``BROKEN`` nats: of copying, and of text.

    None: at no measured budget. Budgets between the measured ones are not known.
    """

    copying: int | None
    text: int | None
    of: int
    unit: str = "head"

    def __str__(self) -> str:
        if self.copying is None and self.text is None:
            return f"neither copying nor ordinary text loses {BROKEN:g} nat per token at any measured budget"
        if self.copying == self.text:
            return f"copying and ordinary text lose {BROKEN:g} nat per token at the same measured budget, {self.text}"
        first = ("copying", self.copying)
        second = ("ordinary text", self.text)
        if self.copying is None or (self.text is not None and self.text > self.copying):
            first, second = second, first
        name, budget = first
        other, later = second
        then = "at no measured budget"
        if later is not None:
            then = f"at {later}"
        where = f"{budget} of {self.of} {self.unit}s"
        return f"{name} breaks first: it loses {BROKEN:g} nat per token at {where}, {other} {then}"


def rises(measured: Mapping[int, Outcomes], full: Outcomes) -> dict[str, dict[int, float]]:
    """Return the rise of the copying loss and of the loss on text above the full model's, by budget, in nats."""
    losses: dict[str, dict[int, float]] = {"copying": {}, "nll": {}}
    for name, by_budget in losses.items():
        for budget, outcomes in sorted(measured.items()):
            if name in outcomes and name in full:
                by_budget[budget] = outcomes[name].value - full[name].value
    return losses


def find_breaks(measured: Mapping[int, Outcomes], full: Outcomes, total: int, *, unit: str = "head") -> Breaks | None:
    """Find where copying and text break as fewer of ``total`` heads are kept (None: their losses are not measured)."""
    losses = rises(measured, full)
    if not all(losses.values()):
        return None
    return Breaks(_find_break(losses["copying"]), _find_break(losses["nll"]), total, unit)


def _find_break(rise: Mapping[int, float]) -> int | None:
    """Return the largest budget at which a loss has broken."""
    return max((budget for budget, nats in rise.items() if nats >= BROKEN), default=None)
