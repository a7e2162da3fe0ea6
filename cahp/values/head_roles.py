"""The roles of heads: one table of roles, their scores with evidence against chance, and their ablations.

A role is a target that gets a large share of a head's attention. The share is compared with targets drawn at random
among the tokens that the query sees; see ``summarise``. A new role is one row of ``ROLES`` and its targets in
``find_targets``, or in the texts of ``cahp.stages.roles``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import product
from typing import Literal

import numpy as np

from cahp.values import Bools, Estimate, Floats, Ints, JsonObject, Names
from cahp.values.statistics import half_interval
from cahp.words import percent

#: A figure of each head, by flat index.
ByHead = tuple[float, ...]
#: A head without a role.
NO_ROLE = "none"
#: The losses by which ablation confirms roles: of repeated random tokens, and of answers found in a text.
Loss = Literal["copying", "retrieval"]
#: The probability that chance alone gives any head any role, or confirms any role, with all of them tested.
ALPHA = 0.05
#: The fewest sets of heads among which the least of p is ``ALPHA``: with the role's own they are 20.
FEWEST_SETS = 19
#: Shares of attention at which heads with a role are counted, to show what the required one decides.
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
#: Least share of attention on a place, and on tokens that are found by what they are: these heads attend to something
#: else wherever there is nothing to find.
_PLACE = 0.4
_CONTENT = 0.2


@dataclass(frozen=True)
class Role:
    """A role: its ``noun`` for labels, and ``target`` for sentences ("attends to ..."); ``short`` fits a thumbnail.

    ``plain`` says what a head of this role does. A head has it if its share of attention is above chance and at least
    ``least``. ``causal`` roles need causal attention. ``loss`` is what its ablation should raise.
    """

    name: str
    noun: str
    target: str
    short: str
    plain: str
    least: float
    causal: bool = False
    loss: Loss = "copying"


#: All roles. A head with several is named by the first of them: rare functions stand before common places.
ROLES = {
    role.name: role
    for role in (
        Role(
            "retrieval",
            "retrieval",
            "the answer to a question in a text",
            "find",
            "Fetches a named fact",
            _CONTENT,
            True,
            "retrieval",
        ),
        Role(
            "induction",
            "induction",
            "the token after an earlier copy of the token",
            "ind",
            "Copies what came next last time",
            _CONTENT,
            True,
        ),
        Role(
            "duplicate",
            "duplicate token",
            "an earlier copy of the token",
            "dup",
            "Finds the earlier copy of a word",
            _CONTENT,
        ),
        Role("previous", "previous token", "the token before", "prev", "Looks at the word before", _PLACE),
        Role("current", "current token", "the token itself", "self", "Looks at the word itself", _PLACE),
        Role("first", "first token", "the first token", "1st", "Rests on the first token", _PLACE),
    )
}
NOUNS = {**{role.name: role.noun for role in ROLES.values()}, NO_ROLE: "no role"}


@dataclass(frozen=True)
class RoleScores:
    """The scores of all query heads in one role, by flat index.

    ``value`` is the share of attention on the role's targets, averaged over query tokens and then over ``n`` sequences,
    with its 95 % interval ``low`` to ``high`` (None: one sequence); ``chance`` is the highest score that chance
    explains; see ``summarise``. There were ``queries`` query tokens. ``templates`` are the values by the template of
    the texts, each with as many texts, so ``value`` is their mean (None: the sequences follow no template).
    """

    value: ByHead
    low: ByHead | None
    high: ByHead | None
    chance: ByHead
    n: int
    queries: int
    templates: Mapping[str, ByHead] | None = None

    def estimate(self, head: int) -> Estimate:
        """The score of a query head."""
        interval = None
        if self.low is not None and self.high is not None:
            interval = self.low[head], self.high[head]
        return Estimate(self.value[head], interval, self.n, "share")


@dataclass(frozen=True)
class RoleAblation:
    """The loss without the heads of a role, in nats per token, against other heads of the same layers.

    ``without`` is the rise of the loss above that of the full model, with the mean output of each of the ``heads``
    heads (key-value groups) in its place, and ``zero`` that with nothing in their place. ``random`` is the mean rise
    without sets of as many other heads, and ``extra`` the paired difference of ``without`` from it; intervals are over
    sequences.

    There are ``sets`` of as many heads of the same layers that hold none of the role's own (overlap 0). ``losses`` are
    the rises of those that were removed: of all, if they are few. ``p`` is the share of sets with at least the role's
    rise, itself included, and ``corrected`` the same for the number of tested roles (Holm). None: there are fewer than
    ``FEWEST_SETS``, so it is not tested. ``sequences`` are the rises by sequence that each estimate is the mean of, by
    its name.
    """

    role: str
    heads: int
    without: Estimate
    zero: Estimate
    random: Estimate | None = None
    extra: Estimate | None = None
    p: float | None = None
    corrected: float | None = None
    sets: int = 0
    losses: tuple[float, ...] = ()
    sequences: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def drawn(self) -> int:
        """The number of sets that were removed."""
        return len(self.losses)

    @property
    def confirmed(self) -> bool:
        """Whether the loss rises more than without random sets of heads, and on other sequences.

        ``corrected`` is at most ``ALPHA``, and the interval of the difference is above 0.
        """
        return self.corrected is not None and self.corrected <= ALPHA and self.extra is not None and self.extra.low > 0


@dataclass(frozen=True)
class HeadRoles:
    """The roles of the heads of a model, by query head and by the unit that is pruned.

    A model has ``layers`` with ``heads`` units each; a unit is a key-value group of ``group`` query heads, and query
    head ``q`` belongs to unit ``q // group``. ``scores`` are by role, ``unmeasured`` the reasons why others have none.
    ``norms`` are the norms of the outputs of query heads, and ``unit_norms`` of units, relative to the mean of their
    layer. ``ablations`` is None where nothing was removed.
    """

    layers: int
    heads: int
    group: int
    scores: Mapping[str, RoleScores]
    unmeasured: Mapping[str, str]
    norms: ByHead
    unit_norms: ByHead
    ablations: tuple[RoleAblation, ...] | None = None

    def units(self, role: str, least: float | None = None) -> tuple[int, ...]:
        """The units with a query head of this role, if that needs ``least`` share of attention (None: its own)."""
        if role not in self.scores:
            return ()
        if least is None:
            least = ROLES[role].least
        value = np.array(self.scores[role].value)
        held = (value > self.scores[role].chance) & (value >= least)
        return tuple(np.unique(np.flatnonzero(held) // self.group).tolist())

    @cached_property
    def of_units(self) -> list[list[str]]:
        """The roles of the query heads of each unit, the most telling first."""
        held: list[list[str]] = [[] for _ in range(self.layers * self.heads)]
        for name in ROLES:
            for unit in self.units(name):
                held[unit].append(name)
        return held

    @cached_property
    def names(self) -> Names:
        """The role of each unit: the first of ``of_units``, or ``NO_ROLE``."""
        return tuple([*held, NO_ROLE][0] for held in self.of_units)

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of units named by each role and by none."""
        return {name: self.names.count(name) for name in NOUNS if name in self.scores or name == NO_ROLE}

    def named_otherwise(self, role: str) -> int:
        """Return how many of the units with a query head of this role are named by another one, which comes first."""
        return len(self.units(role)) - self.names.count(role)

    @property
    def unit(self) -> str:
        """What is kept or pruned: a head, or a group of heads that share keys and values."""
        return "head" if self.group == 1 else "group"

    @property
    def at_thresholds(self) -> Mapping[str, list[int]]:
        """Number of units that would have each role if it needed each share of ``THRESHOLDS``."""
        return {name: [len(self.units(name, least)) for least in THRESHOLDS] for name in self.scores}

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {NOUNS[name]}" for name, count in self.counts.items() if count)
        return f"{self.layers} x {self.heads} heads: {counts}"

    def to_json(self) -> JsonObject:
        """Return the fields as files hold them, and what follows from them: ``names`` by layer and ``thresholds``."""
        names = np.reshape(self.names, (self.layers, self.heads)).tolist()
        thresholds = {"shares": list(THRESHOLDS), "heads": self.at_thresholds}
        return {"names": names, "counts": self.counts, "thresholds": thresholds, **asdict(self)}

    @property
    def columns(self) -> dict[str, list[str]]:
        """The role of each unit as a column of a table."""
        return {"role": [NOUNS[name] for name in self.names]}

    def find_evidence(self, unit: int) -> tuple[str, int]:
        """Find the role that names a unit, or comes nearest to it, and the query head with the most evidence for it."""
        roles = self.of_units[unit][:1] or self.scores
        every = product(roles, range(unit * self.group, (unit + 1) * self.group))
        return max(every, key=lambda one: self.scores[one[0]].value[one[1]] / ROLES[one[0]].least)

    def tell(self, unit: int) -> tuple[str, str, str, float]:
        """Return the role of a unit, what it does in plain words, and its share of attention to its target.

        Without a role, they are those of the role that it comes nearest to.
        """
        role, head = self.find_evidence(unit)
        return self.names[unit], ROLES[role].plain, ROLES[role].target, self.scores[role].value[head]

    def describe(self, unit: int) -> str:
        """Describe the roles of a unit, with the evidence for the one that it has or comes nearest to."""
        nouns = ", ".join(NOUNS[name] for name in self.of_units[unit]) or NO_ROLE
        if not self.scores:
            return nouns
        role, head = self.find_evidence(unit)
        scores = self.scores[role]
        estimate = scores.estimate(head)
        which = "it gives"
        if self.group > 1:
            which = f"query head {head % self.group} gives"
        share = f"{estimate.text} {estimate.interval}".rstrip()
        chance = percent(scores.chance[head])
        return (
            f"{nouns}; {which} {share} of its attention to {ROLES[role].target} "
            f"(chance explains {chance}; n = {scores.queries:,} tokens)"
        )


# Scores ----------------------------------------------------------------------------------------------------------


def find_targets(ids: Ints, special: Ints) -> Mapping[str, Bools]:
    """Return the targets ``(S, S)`` of each role that any text has, row by query, on tokens ``ids (S,)``.

    The first two tokens and ``special`` ones are no queries, for the first token is also the previous one of the
    second. Copies are earlier ones, also where a query sees later tokens.
    """
    at = np.arange(len(ids))
    special_at = np.isin(ids, special)
    query = (at >= 2) & ~special_at
    apart = at[:, None] - at[None]
    same = (ids[:, None] == ids[None]) & (apart > 0) & ~special_at
    after = np.zeros_like(same)
    after[:, 1:] = same[:, :-1]
    places = {"first": (at == 0)[None] & (apart > 0), "previous": apart == 1, "current": apart == 0}
    # Of the token before the query's own copy, the query is the token after.
    contents = {"duplicate": same, "induction": after & (apart > 0)}
    return {name: targets & query[:, None] for name, targets in {**places, **contents}.items()}


def score_sequence(maps: Floats, targets: Sequence[Bools], candidates: Bools | None = None) -> Floats:
    """Score maps ``(N, S, S)`` of heads on one sequence, ``(N, R, 4)`` for ``R`` roles with ``targets (S, S)`` each.

    The mean over queries of the attention on targets, and what it has if targets are drawn at random: mean, variance
    and third central moment. They are drawn among the ``candidates (S, S)``, or else all tokens, without later ones
    if attention is causal. Not a number, where a role has no query.
    """
    rows = np.zeros(maps.shape[1], dtype=np.bool_)
    if len(targets):
        rows = np.any(targets, axis=(0, 2))
    seen = np.asarray(maps[:, rows], dtype=np.float64)
    if candidates is None:
        # Not the tokens that get attention: that of a sharp head is exactly 0 elsewhere.
        candidates = np.ones(maps.shape[1:], dtype=np.bool_)
        if not np.triu(maps, 1).any():
            candidates = np.tril(candidates)
    among = np.broadcast_to(candidates[rows], seen.shape)
    count = np.maximum(among.sum(axis=2), 1)
    mean = np.where(among, seen, 0).sum(axis=2) / count
    away = np.where(among, seen - mean[..., None], 0)
    square = away * away
    moments = np.stack([mean, square.sum(axis=2) / count, (square * away).sum(axis=2) / count], axis=-1)
    scores = np.full((len(maps), len(targets), 4), np.nan)
    for place, target in enumerate(targets):
        drawn = target[rows].sum(axis=1)
        queries = np.count_nonzero(drawn)
        if queries:
            scores[:, place, 0] = np.einsum("nij,ij->n", seen, target[rows]) / queries
            # Independent draws: their means add up, and so do variances and third moments.
            scores[:, place, 1:] = np.einsum("nim,i->nm", moments, drawn) / float(queries) ** np.array([1, 2, 3])
    return scores


def summarise(scores: Floats, queries: int, tests: int) -> RoleScores:
    """Summarise scores ``(T, N, 4)`` of ``T`` sequences in one role, whose ``n`` they are.

    The interval is Student's t over sequences. Chance is the value that a score exceeds with probability ``ALPHA /
    tests`` if targets are drawn at random: by the exact mean, variance and skewness of that distribution with the
    expansion of Cornish and Fisher (1938), and the correction of Bonferroni for the number of tests.
    """
    from scipy.stats import norm

    sequences = len(scores)
    value, mean, _, _ = np.moveaxis(scores.mean(axis=0), -1, 0)
    spread = np.sqrt(scores[..., 2].sum(axis=0)) / sequences
    third = scores[..., 3].sum(axis=0) / sequences**3
    skewness = np.divide(third, spread**3, out=np.zeros_like(third), where=spread > 0)
    normal = norm.isf(ALPHA / tests)
    chance = np.minimum(mean + spread * (normal + (normal**2 - 1) / 6 * np.maximum(skewness, 0)), 1)
    low = None
    high = None
    if sequences > 1:
        half = half_interval(scores[..., 0])
        low = round_by_head(np.clip(value - half, 0, 1))
        high = round_by_head(np.clip(value + half, 0, 1))
    return RoleScores(round_by_head(value), low, high, round_by_head(chance), sequences, queries)


def round_by_head(values: Floats) -> ByHead:
    """Round figures by head, ``(L, H)`` or flat."""
    return tuple(values.ravel().round(4).tolist())
