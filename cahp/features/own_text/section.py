"""The section of a run in which a language model continues the same text as full, pruned and recovered model."""

from __future__ import annotations

from collections.abc import Iterator

from cahp.features.own_text.continuation import TOKENS, Continuation, compare_continuations
from cahp.run.bench import Bench
from cahp.run.document import RunDocument
from cahp.run.recovered import Recovered
from cahp.run.sections import Section
from cahp.values import HeadMask
from cahp.words import printable, safe

#: Stands before the first token that differs from the full model's.
DIFFERS = "▸"


def _is_wanted(bench: Bench) -> bool:
    return bench.card.task.predicts_often


def _measure(bench: Bench, mask: HeadMask, recovered: Recovered | None) -> Continuation:
    return compare_continuations(bench.measurements, mask, recovered)


def _describe(continuation: Continuation, run: RunDocument) -> Iterator[str]:
    yield f'  continued "{continuation.prompt}"'
    count = len(continuation.full)
    yield f"  by the {count} most probable tokens, one after the other ({DIFFERS} before the first that differs):"
    for name, (tokens, differs) in continuation.models.items():
        shown = [printable(token) for token in tokens]
        if differs is not None:
            shown[differs] = f"{DIFFERS}{shown[differs]}"
        yield f"    {name:<10}{''.join(shown).strip()}"


def _draw(continuation: Continuation, run: RunDocument) -> Iterator[str]:
    yield (
        f"<p>Each model continues “{safe(continuation.prompt)}” by the {len(continuation.full)} most probable tokens, "
        "one after the other. The first token that differs is marked.</p>"
    )
    for name, (tokens, differs) in continuation.models.items():
        shown = [safe(printable(token)) for token in tokens]
        if differs is not None:
            shown[differs] = f"<mark>{shown[differs]}</mark>"
        yield f"<p><b>{safe(name)}:</b> {''.join(shown)}</p>"


CONTINUATION: Section[Continuation] = Section(
    "continuation",
    Continuation,
    "The same text, continued",
    wanted=_is_wanted,
    measure=_measure,
    describe=_describe,
    draw=_draw,
    as_pruned=Continuation.as_pruned,
    generated=TOKENS,
)
