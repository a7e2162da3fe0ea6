"""The measure of roles: what the full model's heads attend to, and which of these heads a mask keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cahp.run import MaskSubject, Measure, NoOptions, find_roles
from cahp.show import Blocks, Line, Marks, Table, Text
from cahp.values import ALPHA, FEWEST_SETS, NO_ROLE, NOUNS, ROLES, THRESHOLDS, Bools, HeadMask, HeadRoles
from cahp.words import number, percent

if TYPE_CHECKING:
    from cahp.run import Bench, Recovered


@dataclass(frozen=True)
class KeptHeads:
    """How many of the ``count`` heads of a role a mask keeps.

    Random masks of as many heads keep ``low`` to ``high`` with a probability of 95 % (hypergeometric distribution);
    ``p`` is two-sided, and corrected for the number of roles (Bonferroni).
    """

    role: str
    kept: int
    count: int
    low: int
    high: int
    p: float


def compare_kept(roles: HeadRoles, keep: Bools) -> list[KeptHeads]:
    """Compare how many heads of each role a mask ``keep (L, H)`` keeps with random masks of as many heads."""
    from scipy.stats import hypergeom

    counts = {role: count for role, count in roles.counts.items() if count}
    names = np.array(roles.names)[keep.ravel()].tolist()
    rows = []
    for role, count in counts.items():
        kept = names.count(role)
        random = hypergeom(keep.size, count, len(names))
        tail = min(float(random.cdf(kept)), float(random.sf(kept - 1)))
        low, high = random.ppf([0.025, 0.975])
        rows.append(KeptHeads(role, kept, count, int(low), int(high), min(1.0, 2 * len(counts) * tail)))
    return rows


class Roles(Measure[HeadRoles]):
    """The roles of the heads of a model, whatever the mask is."""

    name = "roles"
    title = "Roles of heads"
    help = "Measure what each head attends to."
    record = HeadRoles
    # The command takes no data, and the tab needs no mask.
    commanded = False
    tabbed = False

    setting = "roles"

    def run(self, bench: Bench, mask: HeadMask, recovered: Recovered | None, options: NoOptions) -> HeadRoles:
        """Measure the roles of the full model's heads."""
        return find_roles(bench.resources)

    def show(self, record: HeadRoles, subject: MaskSubject) -> Blocks:
        """Yield how many heads have each role and are kept, the role of each head, and the evidence."""
        if not subject.mask.is_full:
            kept = compare_kept(record, subject.mask.keep)
            listed = [f"{NOUNS[row.role]} {row.kept} of {row.count} ({row.low} to {row.high})" for row in kept]
            yield Line(f"kept by role (random masks, 95 %): {', '.join(listed)}")
            rows = [(NOUNS[row.role], f"{row.kept} of {row.count}", number(row.p, 3)) for row in kept]
            yield Table("", ["role", "kept", "p, corrected"], rows, name="roles-kept", closed=True)
        total = len(record.names)
        having = total - record.counts[NO_ROLE]
        yield Text(f"{having} of {total} {record.unit}s have a role, more attention than chance explains.")
        yield mark_roles(record)
        yield _list_scores(record)
        if record.group > 1:
            yield Text("A group is named by the first of these roles that one of its query heads has.")
        for name, reason in record.unmeasured.items():
            yield Text(f"{NOUNS[name]} was not measured: {reason}")
        if record.ablations:
            yield _list_ablations(record)
            yield Text(
                "Other sequences than these assigned the roles. A removed head is replaced by its mean output. Other "
                "sets have as many heads of the same layers as the role, and none of its own. Confirmed: p ≤ "
                f"{ALPHA:g} after Holm's correction, and the interval above 0."
            )
            for one in record.ablations:
                if one.p is None:
                    yield Text(
                        f"{NOUNS[one.role]} was not tested: p ≤ {ALPHA:g} needs {FEWEST_SETS} sets of as many other "
                        f"{record.unit}s, and its layers have {one.sets}."
                    )

    def to_json(self, record: HeadRoles) -> Any:
        """Return the roles by head and by layer."""
        return record.to_json()


def _list_scores(roles: HeadRoles) -> Table:
    """List the evidence for each role, and the number of heads with it at each threshold; that in use has a star."""
    rows = []
    for name, counts in roles.at_thresholds.items():
        scores = roles.scores[name]
        best = scores.estimate(int(np.argmax(scores.value)))
        cells = list(map(str, counts))
        cells[THRESHOLDS.index(ROLES[name].least)] += "*"
        rows.append((NOUNS[name], str(best), percent(max(scores.chance)), *cells))
    title = f"Roles, and {roles.unit}s with a role if it needs this share (* needed)"
    shares = [percent(share, 0) for share in THRESHOLDS]
    columns = ["role", "highest share of attention (95 %)", "chance at most", *shares]
    return Table(title, columns, rows, name="roles", closed=True)


def _list_ablations(roles: HeadRoles) -> Table:
    rows = []
    for one in roles.ablations or ():
        verdict = "not tested"
        if one.corrected is not None:
            word = "confirmed" if one.confirmed else "not significant"
            verdict = f"{word}, p = {number(one.corrected, 3)}"
        drawn = f"{one.drawn:,} of {one.sets:,}"
        rows.append((NOUNS[one.role], one.without, one.zero, one.random, one.extra, drawn, verdict))
    columns = ["role", "without its heads", "zeros", "without others", "difference", "sets (overlap 0)", "verdict"]
    return Table("Rise of the loss in nats per token", columns, rows, name="roles-ablation", closed=True)


#: The index in the board's palette of each role; heads without one are neutral.
_TINTS = {"retrieval": 5, "induction": 1, "duplicate": 3, "previous": 0, "current": 4, "first": 2, NO_ROLE: 8}


def mark_roles(roles: HeadRoles) -> Marks:
    """Return the role of each head as marks of a board."""
    names = list(NOUNS)
    groups = np.array([names.index(name) for name in roles.names], dtype=np.int64)
    return Marks(
        "roles",
        "roles",
        groups.reshape(roles.layers, roles.heads),
        [*(role.short for role in ROLES.values()), ""],
        [*(f"{role.noun} head" for role in ROLES.values()), "no role"],
        "A head's role is what gets a large share of its attention, more than by chance",
        [_TINTS[name] for name in names],
    )


ROLES_OF_HEADS = Roles()
