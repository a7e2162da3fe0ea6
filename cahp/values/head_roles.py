"""The roles of heads: one table of roles, their scores with evidence against chance, and their ablations.

A role is a target that gets a large share of a head's attention. The share is compared with targets drawn at random
among the tokens that the query sees; see ``summarise``. A new role is one row of ``ROLES`` and its targets in
``find_targets``, or in the texts of ``cahp.stages.roles``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cahp.values import Bools, Estimate, Floats, Ints
from cahp.words import percent

#: A head without a role.
NO_ROLE = "none"
#: The losses by which ablation confirms roles: of repeated random tokens, and of answers found in a text.
Loss = Literal["copying", "retrieval"]
#: The probability that chance alone gives any head any role, or confirms any role, with all of them tested.
ALPHA = 0.05
#: Shares of attention at which heads with a role are counted, to show what the required one decides.
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
#: Least share of attention on a place, and on tokens that are found by what they are: these heads attend to something
#: else wherever there is nothing to find.
_PLACE = 0.4
_CONTENT = 0.2


@dataclass(frozen=True)
class Role:
    """A role: its ``noun`` for labels, and ``target`` for sentences ("attends to ..."); ``short`` fits a thumbnail.

    A head has it if its share of attention is above chance and at least ``least``. ``causal`` roles need causal
    attention. ``loss`` is what its ablation should raise.
    """

    name: str
    noun: str
    target: str
    short: str
    least: float
    causal: bool = False
    loss: Loss = "copying"


#: All roles. A head with several is named by the first of them: rare functions stand before common places.
ROLES: Mapping[str, Role] = {
    role.name: role
    for role in (
        Role("retrieval", "retrieval", "the answer to a question in a text", "find", _CONTENT, True, "retrieval"),
        Role("induction", "induction", "the token after an earlier copy of the token", "ind", _CONTENT, True),
        Role("duplicate", "duplicate token", "an earlier copy of the token", "dup", _CONTENT),
        Role("previous", "previous token", "the token before", "prev", _PLACE),
        Role("current", "current token", "the token itself", "self", _PLACE),
        Role("first", "first token", "the first token", "1st", _PLACE),
    )
}
NOUNS: Mapping[str, str] = {**{role.name: role.noun for role in ROLES.values()}, NO_ROLE: "no role"}


@dataclass(frozen=True)
class RoleScores:
    """The scores of all query heads in one role, by flat index.

    ``value`` is the share of attention on the role's targets, averaged over query tokens and then over ``n`` sequences,
    with its 95 % interval ``low`` to ``high`` (None: one sequence); ``chance`` is the highest score that chance
    explains; see ``summarise``. There were ``queries`` query tokens. ``templates`` are the values by the template of
    the texts, each with as many texts, so ``value`` is their mean (None: the sequences follow no template).
    """

    value: tuple[float, ...]
    low: tuple[float, ...] | None
    high: tuple[float, ...] | None
    chance: tuple[float, ...]
    n: int
    queries: int
    templates: Mapping[str, tuple[float, ...]] | None = None

    def estimate(self, head: int) -> Estimate:
        """The score of a query head."""
        interval = None
        if self.low is not None and self.high is not None:
            interval = self.low[head], self.high[head]
        return Estimate(self.value[head], interval, self.n, "share")


@dataclass(frozen=True)
class RoleAblation:
    """The loss without the heads of a role, in nats per token, against random heads of the same layers.

    ``without`` and ``random`` are the rise of the ``loss`` above that of the ``full`` model, without ``heads`` heads
    (key-value groups), and their paired difference is ``extra``; intervals are over sequences. ``random`` is the mean
    of ``draws`` sets, and ``spread`` their lowest and highest. Each set has as many heads of each layer as the role.

    The role has heads in ``layers`` layers. A set can differ from them in ``free_layers`` layers and ``free_heads``
    heads: a layer whose heads all have the role gives the same heads to each set. ``sets`` is the number of possible
    sets, the role's own included. ``p`` is that of a permutation test
    within layers, and ``corrected`` the same for the number of tested roles (Holm). None: no set can differ.
    """

    role: str
    loss: Loss
    heads: int
    full: Estimate
    without: Estimate
    random: Estimate | None = None
    spread: tuple[float, float] | None = None
    extra: Estimate | None = None
    draws: int = 0
    p: float | None = None
    corrected: float | None = None
    sets: int = 0
    layers: int = 0
    free_layers: int = 0
    free_heads: int = 0

    @property
    def confirmed(self) -> bool | None:
        """Whether the loss rises more than without random sets of heads, and on other sequences (None: not tested).

        ``corrected`` is at most ``ALPHA``, and the interval of the difference is above 0.
        """
        if self.corrected is None or self.extra is None:
            return None
        return self.corrected <= ALPHA and self.extra.low > 0


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
    norms: tuple[float, ...]
    unit_norms: tuple[float, ...]
    ablations: tuple[RoleAblation, ...] | None = None

    @cached_property
    def held(self) -> Mapping[str, Bools]:
        """Whether each query head has each role."""
        return {name: exceed(scores.value, scores.chance, ROLES[name].least) for name, scores in self.scores.items()}

    def of_unit(self, unit: int) -> tuple[str, ...]:
        """The roles of the query heads of a unit, the most telling first."""
        return tuple(name for name in ROLES if name in self.held and unit in self.units(name))

    def units(self, role: str) -> tuple[int, ...]:
        """The units with a query head of this role."""
        return tuple(sorted({int(head) // self.group for head in np.flatnonzero(self.held.get(role, ()))}))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The role of each unit: the first of ``of_unit``, or ``NO_ROLE``."""
        held = np.full(self.layers * self.heads, NO_ROLE, dtype=object)
        for name in reversed(list(ROLES)):
            held[list(self.units(name))] = name
        return tuple(held)

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of units named by each role and by none."""
        counted = Counter(self.names)
        return {name: counted[name] for name in NOUNS if name in self.scores or name == NO_ROLE}

    def named_otherwise(self, role: str) -> int:
        """Return how many of the units with a query head of this role are named by another one, which comes first."""
        return sum(self.names[unit] != role for unit in self.units(role))

    @property
    def unit(self) -> str:
        """What is kept or pruned: a head, or a group of heads that share keys and values."""
        if self.group == 1:
            return "head"
        return "group"

    @property
    def at_thresholds(self) -> Mapping[str, tuple[int, ...]]:
        """Number of units that would have each role if it needed each share of ``THRESHOLDS``."""
        counted: dict[str, tuple[int, ...]] = {}
        for name, scores in self.scores.items():
            row: list[int] = []
            for least in THRESHOLDS:
                held = exceed(scores.value, scores.chance, least)
                row.append(len(set((np.flatnonzero(held) // self.group).tolist())))
            counted[name] = tuple(row)
        return counted

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {NOUNS[name]}" for name, count in self.counts.items() if count)
        return f"{self.layers} x {self.heads} heads: {counts}"

    def to_json(self) -> dict[str, Any]:
        """Return the fields as files hold them, and what follows from them: ``names`` by layer and ``thresholds``."""
        import msgspec

        names = [list(self.names[start : start + self.heads]) for start in range(0, len(self.names), self.heads)]
        thresholds = {
            "shares": list(THRESHOLDS),
            "heads": {role: list(row) for role, row in self.at_thresholds.items()},
        }
        return {"names": names, "counts": dict(self.counts), "thresholds": thresholds, **msgspec.to_builtins(self)}

    @property
    def columns(self) -> dict[str, list[Any]]:
        """What is known of each unit as columns of a table: its role, the shares of its best query head, its norm."""
        columns: dict[str, list[Any]] = {"role": [NOUNS[name] for name in self.names]}
        for role, scores in self.scores.items():
            best = [self.best(role, unit) for unit in range(self.layers * self.heads)]
            columns[f"{NOUNS[role]} share"] = [scores.value[head] for head in best]
            columns[f"{NOUNS[role]} chance"] = [scores.chance[head] for head in best]
        columns["relative output norm"] = list(self.unit_norms)
        return columns

    def count_kept(self, keep: Bools) -> Mapping[str, tuple[int, int]]:
        """Return for each role that some unit is named by how many of these a mask keeps, and how many there are."""
        kept = Counter(name for name, here in zip(self.names, keep.ravel().tolist(), strict=True) if here)
        return {name: (kept[name], count) for name, count in self.counts.items() if count}

    def describe(self, unit: int) -> str:
        """Describe the role of a unit, with its evidence, or what it lacks to have one."""
        names = self.of_unit(unit)
        if names:
            return "; ".join(f"{NOUNS[name]}: {self._describe_score(name, unit)}" for name in names)
        lines: list[tuple[float, str]] = []
        for name, scores in self.scores.items():
            relative = scores.value[self.best(name, unit)] / ROLES[name].least
            lines.append((relative, self._describe_score(name, unit)))
        if not lines:
            return "none"
        return f"none; at most, {max(lines)[1]}"

    def _describe_score(self, role: str, unit: int) -> str:
        """Describe the attention of the best query head of a unit to the target of a role, with its evidence."""
        scores = self.scores[role]
        head = self.best(role, unit)
        which = "it gives"
        if self.group > 1:
            which = f"query head {head % self.group} gives"
        estimate = scores.estimate(head)
        share = estimate.text
        if estimate.ci95 is not None:
            share += f" ({estimate.span})"
        chance = f"chance explains {percent(scores.chance[head])}"
        n = f"n = {scores.queries:,} tokens"
        return f"{which} {share} of its attention to {ROLES[role].target} ({chance}; {n})"

    def best(self, role: str, unit: int) -> int:
        """The query head of a unit with the highest score in a role."""
        start = unit * self.group
        return start + int(np.argmax(self.scores[role].value[start : start + self.group]))


def exceed(score: Sequence[float] | Floats, chance: Sequence[float] | Floats, least: float) -> Bools:
    """Tell which scores are above chance and at least ``least``."""
    value = np.asarray(score)
    return np.asarray((value > np.asarray(chance)) & (value >= least))


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


def score_sequence(maps: Floats, targets: Sequence[Bools], candidates: Bools | None = None) -> NDArray[np.float64]:
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


def summarise(scores: NDArray[np.float64], queries: int, tests: int) -> RoleScores:
    """Summarise scores ``(T, N, 4)`` of ``T`` sequences in one role, whose ``n`` they are.

    The interval is Student's t over sequences. Chance is the value that a score exceeds with probability ``ALPHA /
    tests`` if targets are drawn at random: by the exact mean, variance and skewness of that distribution with the
    expansion of Cornish and Fisher (1938), and the correction of Bonferroni for the number of tests.
    """
    from scipy.stats import norm, t

    sequences = len(scores)
    value = scores[..., 0].mean(axis=0)
    mean = scores[..., 1].mean(axis=0)
    spread = np.sqrt(scores[..., 2].sum(axis=0)) / sequences
    third = scores[..., 3].sum(axis=0) / sequences**3
    skewness = np.divide(third, spread**3, out=np.zeros_like(third), where=spread > 0)
    normal = norm.isf(ALPHA / tests)
    chance = np.minimum(mean + spread * (normal + (normal**2 - 1) / 6 * np.maximum(skewness, 0)), 1)
    low = None
    high = None
    if sequences > 1:
        half = t.ppf(0.975, sequences - 1) * scores[..., 0].std(axis=0, ddof=1) / np.sqrt(sequences)
        low = _rounded(np.clip(value - half, 0, 1))
        high = _rounded(np.clip(value + half, 0, 1))
    return RoleScores(_rounded(value), low, high, _rounded(chance), sequences, queries)


def find_p(rise: float, drawn: Floats) -> float:
    """The p value of a rise among those of random sets ``(D,)``: the share with at least this rise, itself included."""
    return (1 + int((drawn >= rise - 1e-12).sum())) / (1 + len(drawn))


def score_text(maps: Floats, ids: Ints, special: Ints) -> HeadRoles:
    """Score the attention ``(L, H, S, S)`` of units to one text of tokens ``ids (S,)``: the roles that heads play here.

    One text gives no interval. Roles without a target in the text, such as copies, have no scores.
    """
    layers, heads, *size = maps.shape
    every = maps.reshape(-1, *size)
    causal = not np.triu(every, 1).any()
    possible = find_targets(ids, special)
    targets: dict[str, Bools] = {}
    for name, role in ROLES.items():
        if name in possible and possible[name].any() and (causal or not role.causal):
            targets[name] = possible[name]
    scores = score_sequence(every, list(targets.values()))
    tests = len(targets) * len(every)
    summaries: dict[str, RoleScores] = {}
    for place, name in enumerate(targets):
        queries = int(targets[name].any(axis=1).sum())
        summaries[name] = summarise(scores[None, :, place], queries, tests)
    return HeadRoles(layers, heads, 1, summaries, {}, (), ())


def _rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(values.round(4).tolist())
