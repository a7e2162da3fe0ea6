"""The roles of heads in the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from cahp.values.head_roles import ALPHA, NO_ROLE, NOUNS, ROLES, THRESHOLDS, HeadRoles, RoleAblation
from cahp.words import number, p_value, percent

#: When a role is confirmed.
CONFIRMED = (
    "Other sequences assigned the roles. Random sets have as many heads of each layer as the role. Confirmed: p ≤ "
    f"{ALPHA:g} after Holm's correction for the number of tested roles, and the interval of the difference above 0."
)


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
    spread = describe_spread(roles)
    if spread:
        yield f"  {spread}"
    for name, reason in roles.unmeasured.items():
        yield f"  {NOUNS[name]} was not measured: {reason}"
    yield ""
    yield from _threshold_lines(roles)
    if roles.ablations:
        yield ""
        yield f"  {CONFIRMED}"
    for ablation in roles.ablations or ():
        yield f"  {describe_ablation(ablation, roles.unit)}{describe_others(roles, ablation.role)}"


def _threshold_lines(roles: HeadRoles) -> Iterator[str]:
    """The number of heads with each role at other thresholds; the one that is used has a star."""
    title = f"{roles.unit}s with the role if it needs"
    yield f"  {title:<36}{' '.join(f'{percent(share, 0):>7}' for share in THRESHOLDS)}"
    for name, counts in roles.at_thresholds.items():
        cells = ""
        for share, count in zip(THRESHOLDS, counts, strict=True):
            sign = " "
            if share == ROLES[name].least:
                sign = "*"
            cells += f"{count:>7}{sign}"
        yield f"  {NOUNS[name]:<36}{cells}".rstrip()
    yield "  * needed"


def describe_spread(roles: HeadRoles) -> str | None:
    """Describe how the scores of the best head differ between templates (None: no role has templates)."""
    for name, scores in roles.scores.items():
        if scores.templates:
            best = max(range(len(scores.value)), key=scores.value.__getitem__)
            values = ", ".join(f"{percent(values[best])} {template}" for template, values in scores.templates.items())
            return f"{NOUNS[name]} is the mean over {len(scores.templates)} templates; of the best head: {values}"
    return None


def _sign(role: str) -> str:
    """Return the short sign of a role, or a dot for none."""
    if role == NO_ROLE:
        return "·"
    return ROLES[role].short


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
