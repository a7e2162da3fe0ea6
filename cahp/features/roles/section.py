"""The section of a run that holds the roles of the full model's heads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cahp.exports.drawings import table
from cahp.features.roles.colourings import BY_ROLE
from cahp.features.roles.questions import compare_kept
from cahp.run.bench import Bench
from cahp.run.document import RunDocument
from cahp.run.recovered import Recovered
from cahp.run.roles import find_roles
from cahp.run.sections import Section
from cahp.stages.roles import STAGE
from cahp.values import HeadMask
from cahp.values.head_roles import NOUNS, ROLES, HeadRoles
from cahp.words import percent


def _is_wanted(bench: Bench) -> bool:
    return bench.settings.roles


def _measure(bench: Bench, mask: HeadMask, recovered: Recovered | None) -> HeadRoles:
    return find_roles(bench.resources)


def _describe(roles: HeadRoles, run: RunDocument) -> Iterator[str]:
    rows = compare_kept(roles, run.mask.keep)
    listed = ", ".join(f"{NOUNS[row.role]} {row.kept} of {row.count} ({row.range})" for row in rows)
    yield f"  kept by role (random masks, 95 %): {listed}"


def _draw(roles: HeadRoles, run: RunDocument) -> Iterator[str]:
    groups = ""
    if roles.group > 1:
        groups = " A key-value group is named by the first role of its query heads."
    yield (
        "<p>A head has a role if a large share of its attention goes to one kind of token, and more than chance "
        f"explains.{groups}</p>"
    )
    rows = []
    for row in compare_kept(roles, run.mask.keep):
        cells = [f"{row.kept} of {row.count}", row.range, "", "", ""]
        if row.role in roles.scores:
            scores = roles.scores[row.role]
            best = scores.estimate(int(np.argmax(scores.value)))
            cells[2:] = [str(best), percent(ROLES[row.role].least, 0), percent(max(scores.chance))]
        rows.append((NOUNS[row.role], cells))
    heads = ["kept", "random masks (95 %)", "highest share of attention (95 %)", "needs", "chance at most"]
    yield table("Roles", heads, rows)
    short = {name: role.short for name, role in ROLES.items()}
    layers = []
    for layer in range(roles.layers):
        names = roles.names[layer * roles.heads : (layer + 1) * roles.heads]
        layers.append((f"layer {layer}", [short.get(name, "\N{EN DASH}") for name in names]))
    words = ", ".join(f"{role.short}: {role.noun}" for role in ROLES.values() if role.name in roles.scores)
    yield table(f"Role of each head ({words})", [str(head) for head in range(roles.heads)], layers)


ROLES_OF_HEADS: Section[HeadRoles] = Section(
    "roles",
    HeadRoles,
    "Roles of heads",
    wanted=_is_wanted,
    measure=_measure,
    describe=_describe,
    draw=_draw,
    to_json=HeadRoles.to_json,
    stage=STAGE,
    colouring=BY_ROLE,
)
