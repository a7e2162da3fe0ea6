"""Sizes and latencies of the files of one model, the full model first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cahp.costs import Timing
from cahp.values import Estimate
from cahp.words import size_of


@dataclass(frozen=True)
class Footprint:
    """A file of a model: ``name`` is ``full``, or what was done to the model, ``bytes`` its size.

    ``latency_ms`` is the time of one batch, and ``ratio`` that time over the full model's (None for the full model).
    """

    name: str
    bytes: int
    latency_ms: Timing
    ratio: Estimate | None


def change(ratio: Estimate) -> str:
    """Describe a latency ratio."""
    return f"{ratio.value:.2f} of the full model's time" if ratio.excludes(1) else "no measurable change"


def circumstances(files: Sequence[Footprint], runtime: str) -> str:
    """Describe how the files were timed with ``runtime``."""
    full = files[0].latency_ms
    busy = "; other processes kept the machine busy" if any(file.latency_ms.noisy for file in files) else ""
    return (
        f"with {runtime}, a batch of {full.batch} texts of {full.length} tokens, median of {full.repeats} rounds "
        f"in turn{busy}"
    )


def lines(files: Sequence[Footprint], runtime: str) -> Iterator[str]:
    """Yield the sizes and latencies for a terminal."""
    yield f"  latency   {circumstances(files, runtime)}:"
    for file in files:
        compared = ""
        if (ratio := file.ratio) is not None:
            first = "" if ratio.excludes(1) else f"{change(ratio)}: "
            rounds = f"n = {file.latency_ms.repeats} rounds"
            compared = f"   {first}{file.name} / full {ratio.value:.2f} {ratio.interval}, {rounds}"
        yield f"            {file.name:<10}{size_of(file.bytes):>8}{file.latency_ms.median:>10.1f} ms{compared}"


def markdown(files: Sequence[Footprint], runtime: str, machine: str) -> Iterator[str]:
    """Yield the sizes and latencies as a table, after a sentence that describes it."""
    yield f"Latency {circumstances(files, f'{runtime} on {machine}')}:"
    yield ""
    yield "| model | file | time of a batch | change | 95 % interval of the ratio |"
    yield "|---|---|---|---|---|"
    for file in files:
        compared = "| |" if file.ratio is None else f"{change(file.ratio)} | {file.ratio.span} |"
        yield f"| {file.name} | {size_of(file.bytes)} | {file.latency_ms.median:.1f} ms | {compared}"
