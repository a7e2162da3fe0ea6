"""The measure of roles: what the full model's heads attend to, which of them a mask keeps, and the words for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from cahp.api.options import Name, ShowProgress, show_progress
from cahp.models import Dtype
from cahp.outcomes import Outcomes
from cahp.run import Resources, Settings, find_roles, identify_model
from cahp.run.measures import MaskSubject, Measure, NoOptions
from cahp.show.blocks import Block, Line, Marks, Table, Text
from cahp.store import Store
from cahp.values import Bools, HeadMask, Ints
from cahp.values.head_roles import ALPHA, NO_ROLE, NOUNS, ROLES, THRESHOLDS, HeadRoles, RoleAblation
from cahp.words import number, p_value, percent

if TYPE_CHECKING:
    from cahp.models import HeadModel
    from cahp.run import Bench, Recovered


def roles(
    model: Name | HeadModel = Settings.model,
    *,
    ablate: bool = False,
    device: str = Settings.device,
    dtype: Dtype = Settings.dtype,
    progress: ShowProgress = None,
    yes: bool = False,
    store: Store | None = None,
) -> HeadRoles:
    """Measure the roles of the heads of a model, without labels or data; see ``cahp.values.head_roles.ROLES``.

    ``cahp.roles("smollm2").names`` has the role of each key-value group, or "none".

    Args:
        model: A built-in, a hub id, a folder, a GGUF file, or a model loaded by ``cahp.load``.
        ablate: Also measure the loss of a causal language model without the heads of each role, and without random
            sets of as many heads of the same layers, on sequences that did not assign the roles.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        dtype: ``float32``, ``auto`` or ``bfloat16``, see ``cahp.load``.
        progress, yes, store: See ``cahp.prune``.

    Raises:
        CahpError: If the model cannot be loaded or read, or ablations have no loss; one line with the next step.
    """
    with show_progress(progress, yes=yes) as reporter:
        store = store or Store()
        if isinstance(model, str | PathLike):
            card = identify_model(replace(Settings(), model=str(model), dtype=dtype))
            resources = Resources(card, store=store, device=device, progress=reporter)
        else:
            resources = Resources(model.card, store=store, model=model, progress=reporter)
        return find_roles(resources, ablate=ablate)


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


#: When a role is confirmed.
CONFIRMED = (
    "Other sequences assigned the roles. Random sets have as many heads of each layer as the role. Confirmed: p ≤ "
    f"{ALPHA:g} after Holm's correction for the number of tested roles, and the interval of the difference above 0."
)


def show_roles(model: str, roles: HeadRoles) -> Iterator[Block]:
    """Yield the roles of a model's heads with their evidence, whatever a mask keeps of them."""
    units = roles.layers * roles.heads
    noun = f"key-value groups of {roles.group} query heads"
    if roles.group == 1:
        noun = "heads"
    without = roles.counts[NO_ROLE]
    yield Line(f"{model}: {units - without} of {units} {noun} have a role; without one: {without}")
    yield mark_roles(roles)
    rows = []
    for name, scores in roles.scores.items():
        role = ROLES[name]
        highest = scores.estimate(int(np.argmax(scores.value)))
        measured = f"{scores.n} sequences, {scores.queries:,} tokens"
        cells = (len(roles.units(name)), percent(role.least, 0), highest, percent(max(scores.chance)), measured)
        rows.append((f"{role.short}: {role.noun}", *cells))
    yield Table("", ("role (share of attention)", "heads", "needs", "highest", "chance at most", "n"), rows)
    if roles.group > 1:
        yield Text("a group is named by the first of these roles that one of its query heads has, and counts for each")
    for name, reason in roles.unmeasured.items():
        yield Text(f"{NOUNS[name]} was not measured: {reason}")
    yield from show_thresholds(roles)
    if roles.ablations:
        yield Text(CONFIRMED)
    for ablation in roles.ablations or ():
        yield Text(f"{describe_ablation(ablation, roles.unit)}{describe_others(roles, ablation.role)}")


def show_thresholds(roles: HeadRoles) -> Iterator[Block]:
    """Yield the number of heads with each role at other thresholds; the one that is used has a star."""
    rows = []
    for name, counts in roles.at_thresholds.items():
        cells = [str(count) for count in counts]
        cells[THRESHOLDS.index(ROLES[name].least)] += "*"
        rows.append((NOUNS[name], *cells))
    shares = [percent(share, 0) for share in THRESHOLDS]
    yield Table(f"{roles.unit}s with a role if it needs (* needed)", ("role", *shares), rows, name="roles-thresholds")
    spread = describe_spread(roles)
    if spread:
        yield Text(spread)


def describe_spread(roles: HeadRoles) -> str | None:
    """Describe how the scores of the best head differ between templates (None: no role has templates)."""
    for name, scores in roles.scores.items():
        if scores.templates:
            best = max(range(len(scores.value)), key=scores.value.__getitem__)
            values = ", ".join(f"{percent(values[best])} {template}" for template, values in scores.templates.items())
            return f"{NOUNS[name]} is the mean over {len(scores.templates)} templates; of the best head: {values}"
    return None


def describe_others(roles: HeadRoles, role: str) -> str:
    """Say, after a sentence about all heads of a role, how many of them are counted under another role elsewhere."""
    others = roles.named_otherwise(role)
    if not others:
        return ""
    if others == 1:
        return f"; 1 of these {roles.unit}s has a more telling role, by which it is named and counted"
    return f"; {others} of these {roles.unit}s have a more telling role, by which they are named and counted"


def describe_ablation(ablation: RoleAblation, unit: str) -> str:
    """Describe the loss without the heads of a role, against random heads; a ``unit`` is a head or a group."""
    units = f"{unit}s"
    if ablation.heads == 1:
        units = unit
    without = ablation.without
    start = (
        f"without the {ablation.heads} {NOUNS[ablation.role]} {units} the {ablation.loss} loss rises by {without.text} "
        f"({without.span}) nats per token from {number(ablation.full.value, 3)}"
    )
    random = ablation.random
    extra = ablation.extra
    if random is None or extra is None or ablation.spread is None or ablation.p is None or ablation.corrected is None:
        return f"{start}; not testable: these are all {unit}s of their layers, so that no random set can differ"
    low, high = (number(value, 3) for value in ablation.spread)
    verdict = f"not significant (n = {extra.n} sequences)"
    if ablation.confirmed:
        verdict = "confirmed"
    evidence = f"{p_value(ablation.p, ablation.draws)}, {number(ablation.corrected, 3)} corrected"
    return (
        f"{start}, without random {unit}s of its layers by {random.text} ({low} to {high} in {ablation.draws} sets; "
        f"{_describe_sets(ablation, unit)}): difference {extra.text} ({extra.span}), n = {extra.n} sequences, "
        f"{evidence}; {verdict}"
    )


def _describe_sets(ablation: RoleAblation, unit: str) -> str:
    """Describe in how many layers and heads a random set can differ."""
    layers = f"all {ablation.layers} layers"
    if ablation.layers == 1:
        layers = "this layer"
    elif ablation.free_layers < ablation.layers:
        layers = f"{ablation.free_layers} of {ablation.layers} layers"
    return f"they can differ in {layers} and {ablation.free_heads} of {ablation.heads} {unit}s, {ablation.sets:,} ways"


#: The index in the board's palette of each role; heads without one are neutral.
_TINTS = {"retrieval": 5, "induction": 1, "duplicate": 3, "previous": 0, "current": 4, "first": 2, NO_ROLE: 8}


class Roles(Measure[HeadRoles]):
    """The roles of the heads of a model, whatever the mask is."""

    name = "roles"
    title = "Roles of heads"
    help = "Measure what each head attends to."
    record = HeadRoles
    # The command takes no data, and the tab has charts of its own.
    commanded = False
    tabbed = False

    def wanted(self, bench: Bench) -> NoOptions | None:
        """Return options if ``--roles`` is given."""
        if bench.settings.roles or self.name in bench.settings.measure:
            return NoOptions()
        return None

    def run(self, bench: Bench, mask: HeadMask, recovered: Recovered | None, options: NoOptions) -> HeadRoles:
        """Measure the roles of the full model's heads."""
        return find_roles(bench.resources)

    def show(self, record: HeadRoles, subject: MaskSubject) -> Iterator[Block]:
        """Yield how many heads of each role are kept, the highest share of attention, and the role of each head."""
        kept = compare_kept(record, subject.mask.keep)
        listed = ", ".join(f"{NOUNS[row.role]} {row.kept} of {row.count} ({row.range})" for row in kept)
        yield Line(f"kept by role (random masks, 95 %): {listed}")
        groups = ""
        if record.group > 1:
            groups = " A key-value group is named by the first role of its query heads."
        yield Text(
            "A head has a role if a large share of its attention goes to one kind of token, and more than chance "
            f"explains.{groups}"
        )
        rows = []
        for row in kept:
            cells = [f"{row.kept} of {row.count}", row.range, "", "", ""]
            if row.role in record.scores:
                scores = record.scores[row.role]
                best = scores.estimate(int(np.argmax(scores.value)))
                cells[2:] = [str(best), percent(ROLES[row.role].least, 0), percent(max(scores.chance))]
            rows.append((NOUNS[row.role], *cells))
        columns = (
            "role",
            "kept",
            "random masks (95 %)",
            "highest share of attention (95 %)",
            "needs",
            "chance at most",
        )
        yield Table("Roles", columns, rows, name="roles", closed=True)
        yield mark_roles(record)

    def to_json(self, record: HeadRoles) -> Any:
        """Return the roles by head and by layer."""
        return record.to_json()


def mark_roles(roles: HeadRoles) -> Marks:
    """Return the role of each head as marks of a board."""
    names = list(NOUNS)
    groups = np.array([names.index(name) for name in roles.names], dtype=np.int64)
    signs = [""] * len(names)
    words = ["no role"] * len(names)
    for place, name in enumerate(names):
        if name != NO_ROLE:
            signs[place] = ROLES[name].short
            words[place] = f"{NOUNS[name]} head"
    return Marks(
        "roles",
        "roles",
        groups.reshape(roles.layers, roles.heads),
        signs,
        words,
        "A head's role is what gets a large share of its attention, more than by chance",
        [_TINTS[name] for name in names],
    )


ROLES_OF_HEADS = Roles()
