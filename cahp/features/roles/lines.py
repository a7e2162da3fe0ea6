"""The roles of heads in the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from cahp.values.head_roles import NO_ROLE, NOUNS, ROLES, HeadRoles, RoleAblation
from cahp.words import number, percent


def role_lines(model: str, roles: HeadRoles) -> Iterator[str]:
    """The roles of a model's heads as lines of text."""
    units = roles.layers * roles.heads
    noun = f"key-value groups of {roles.group} query heads"
    if roles.group == 1:
        noun = "heads"
    without = roles.counts[NO_ROLE]
    yield f"{model}: {units - without} of {units} {noun} have a role; without one: {without}"
    yield ""
    width = max(4, len(str(roles.heads - 1)))
    yield "  layer   head " + " ".join(f"{head:>{width}}" for head in range(roles.heads))
    for layer in range(roles.layers):
        names = roles.names[layer * roles.heads : (layer + 1) * roles.heads]
        yield f"  {layer:>5}        " + " ".join(f"{_sign(name):>{width}}" for name in names)
    yield "  · no role"
    yield ""
    yield f"  {'role (share of attention)':<36}{'heads':>7}{'needs':>8}  {'highest':<24}{'chance at most':<16}n"
    for name, scores in roles.scores.items():
        role = ROLES[name]
        highest = scores.estimate(max(range(len(scores.value)), key=scores.value.__getitem__))
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


def _sign(role: str) -> str:
    """Return the short sign of a role, or a dot for none."""
    if role == NO_ROLE:
        return "·"
    return ROLES[role].short


def describe_ablation(ablation: RoleAblation) -> str:
    """Describe what removing the heads of a role does, against random heads."""
    noun = "head" if ablation.heads == 1 else "heads"
    without = ablation.without
    start = (
        f"without the {ablation.heads} {NOUNS[ablation.role]} {noun} the {ablation.loss} loss rises by {without.text} "
        f"{without.interval} nats per token from {number(ablation.full.value, 3)}"
    )
    random = ablation.random
    extra = ablation.extra
    if random is None or extra is None or ablation.spread is None:
        return f"{start}; there are too few other heads to compare with"
    low, high = (number(value, 3) for value in ablation.spread)
    verdict = "confirmed" if ablation.confirmed else "not confirmed"
    return (
        f"{start}, without as many random ones by {random.text} ({low} to {high} in {ablation.draws} draws): "
        f"difference {extra.text} {extra.interval}, n = {extra.n} sequences; {verdict}"
    )
