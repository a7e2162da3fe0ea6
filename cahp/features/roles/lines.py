"""The roles of heads in the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from cahp.values.head_roles import NO_ROLE, NOUNS, ROLES, HeadRoles, RoleAblation
from cahp.words import number, percent


def role_lines(model: str, roles: HeadRoles) -> Iterator[str]:
    """The roles of a model's heads as lines of text."""
    counts, units = roles.counts, roles.layers * roles.heads
    noun = "heads" if roles.group == 1 else f"key-value groups of {roles.group} query heads"
    yield f"{model}: {units - counts[NO_ROLE]} of {units} {noun} have a role; without one: {counts[NO_ROLE]}"
    yield ""
    width = max(4, len(str(roles.heads - 1)))
    yield "  layer   head " + " ".join(f"{head:>{width}}" for head in range(roles.heads))
    for layer in range(roles.layers):
        names = roles.names[layer * roles.heads : (layer + 1) * roles.heads]
        marks = ("·" if name == NO_ROLE else ROLES[name].short for name in names)
        yield f"  {layer:>5}        " + " ".join(f"{mark:>{width}}" for mark in marks)
    yield "  · no role"
    yield ""
    yield f"  {'role (share of attention)':<36}{'heads':>7}{'needs':>8}  {'highest':<24}{'chance at most':<16}n"
    for name, scores in roles.scores.items():
        role, best = ROLES[name], max(range(len(scores.value)), key=scores.value.__getitem__)
        highest = scores.estimate(best)
        label = f"{role.short}: {role.noun}"
        yield (
            f"  {label:<36}{len(roles.units(name)):>7}{percent(role.least, 0):>8}  "
            f"{f'{highest.text} {highest.interval}':<24}{percent(max(scores.chance)):<16}{scores.n} sequences, "
            f"{scores.queries:,} tokens"
        )
    if roles.group > 1:
        yield "  a group is named by the first of these roles that one of its query heads has, and counts for each"
    for name, reason in roles.unmeasured.items():
        yield f"  {NOUNS[name]} was not measured: {reason}"
    for ablation in roles.ablations or ():
        yield f"  {describe_ablation(ablation)}"


def describe_ablation(one: RoleAblation) -> str:
    """Describe what removing the heads of a role does, against random heads."""
    heads = f"{one.heads} {NOUNS[one.role]} {'head' if one.heads == 1 else 'heads'}"
    start = (
        f"without the {heads} the {one.loss} loss rises by {one.without.text} {one.without.interval} nats per token "
        f"from {number(one.full.value, 3)}"
    )
    if one.random is None or one.extra is None or one.spread is None:
        return f"{start}; there are too few other heads to compare with"
    low, high = (number(value, 3) for value in one.spread)
    verdict = "confirmed" if one.confirmed else "not confirmed"
    return (
        f"{start}, without as many random ones by {one.random.text} ({low} to {high} in {one.draws} draws): difference "
        f"{one.extra.text} {one.extra.interval}, n = {one.extra.n} sequences; {verdict}"
    )
