"""One model in several files, the full one first: how large each is and how long it takes, measured in turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cahp.costs import Timing
from cahp.values import Estimate
from cahp.words import size_of

if TYPE_CHECKING:
    from cahp.stages.latency import Times


@dataclass(frozen=True)
class Footprint:
    """A file of a model: ``name`` is which (``full`` for all heads), ``bytes`` its size.

    ``latency_ms`` is the time of one batch, and ``ratio`` that time over the full model's (None for that one itself).
    """

    name: str
    bytes: int
    latency_ms: Timing
    ratio: Estimate | None


def footprints_of(names: Sequence[str], sizes: Sequence[int], times: Sequence[Times]) -> tuple[Footprint, ...]:
    """Those of files, the full model's first; ``times`` are those of the others beside it."""
    first = Footprint(names[0], sizes[0], times[0].full, None)
    others = (
        Footprint(name, size, found.pruned, found.ratio)
        for name, size, found in zip(names[1:], sizes[1:], times, strict=True)
    )
    return (first, *others)


def change(ratio: Estimate) -> str:
    """What a ratio of times comes to."""
    return f"{ratio.value:.2f} of the full model's time" if ratio.excludes(1) else "no measurable change"


def circumstances(files: Sequence[Footprint], runtime: str) -> str:
    """Under which they were timed, in ``runtime`` and where."""
    full = files[0].latency_ms
    busy = "; something else kept the machine busy" if any(one.latency_ms.noisy for one in files) else ""
    return (
        f"with {runtime}, a batch of {full.batch} texts of {full.length} tokens, median of {full.repeats} rounds "
        f"in turn{busy}"
    )


def lines(files: Sequence[Footprint], runtime: str) -> Iterator[str]:
    """For a terminal."""
    yield f"  latency   {circumstances(files, runtime)}:"
    for one in files:
        said = ""
        if one.ratio is not None:
            first = "" if one.ratio.excludes(1) else f"{change(one.ratio)}: "
            said = f"   {first}{one.name} / full {one.ratio.value:.2f} {one.ratio.interval}"
            said += f", n = {one.latency_ms.repeats} rounds"
        yield f"            {one.name:<10}{size_of(one.bytes):>8}{one.latency_ms.median:>10.1f} ms{said}"


def markdown(files: Sequence[Footprint], runtime: str, machine: str) -> Iterator[str]:
    """As a table, with the sentence that says what it holds."""
    yield f"Times {circumstances(files, f'{runtime} on {machine}')}:"
    yield ""
    yield "| model | file | time of a batch | change | 95 % interval of the ratio |"
    yield "|---|---|---|---|---|"
    for one in files:
        said = "| |" if one.ratio is None else f"{change(one.ratio)} | {one.ratio.span} |"
        yield f"| {one.name} | {size_of(one.bytes)} | {one.latency_ms.median:.1f} ms | {said}"
