"""The measure of roles: what the full model's heads attend to, and which of them a mask keeps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from cahp.features.roles.questions import compare_kept
from cahp.run.measures import MaskSubject, Measure, NoOptions
from cahp.run.roles import find_roles
from cahp.show.blocks import Block, Line, Marks, Table, Text
from cahp.values import HeadMask
from cahp.values.head_roles import NO_ROLE, NOUNS, ROLES, HeadRoles
from cahp.words import percent

if TYPE_CHECKING:
    from cahp.run.bench import Bench
    from cahp.run.recovered import Recovered

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
