"""The costs of a full and a pruned model as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cahp.models.costs import GenerationSpeed, KvCache
    from cahp.run.document import CostRecord
    from cahp.values import Estimate

from cahp.words import percent, rate


def cost_lines(cost: CostRecord, ratio: Estimate | None, attention_share: float | None) -> Iterator[str]:
    """Size, operations and latency of the full and the pruned model."""
    before = cost.full.latency_ms
    after = cost.pruned.latency_ms
    if ratio is None or before is None or after is None:
        yield "  time and size were not measured"
        return
    yield _describe_size(cost)
    yield f"  latency   {_compare(ratio, before.repeats)}"
    yield (
        f"            {before.median:.1f} ms -> {after.median:.1f} ms per batch of {before.batch} texts of "
        f"{before.length} tokens (median; 95th percentile {before.p95:.1f} -> {after.p95:.1f})"
    )
    yield (
        f"            attention takes {percent(attention_share, 0)} of the full forward pass, which is the most that "
        "pruning heads can save"
    )


def _describe_size(cost: CostRecord) -> str:
    weights = cost.full.parameters or 0
    smaller = cost.pruned.parameters or 0
    flops = cost.full.flops or 0
    fewer = cost.pruned.flops or 0
    return (
        f"  size      {weights / 1e6:.1f} M weights -> {smaller / 1e6:.1f} M "
        f"({percent(1 - smaller / weights)} fewer), operations {percent(1 - fewer / flops)} fewer"
    )


def _compare(ratio: Estimate, rounds: int) -> str:
    speed = f"{1 / ratio.value:.2f} x as fast" if ratio.excludes(1) else "no measurable change"
    return f"{speed}: pruned / full {ratio.value:.2f} {ratio.interval}, n = {rounds} rounds"


def generation_lines(
    cost: CostRecord,
    cache: KvCache,
    speed: GenerationSpeed | None,
    attention_share: float | None,
    attention_weights: float | None,
) -> Iterator[str]:
    """The cost of a causal language model: the most that pruning can save, its cache, and the speed of generation."""
    if cost.full.parameters:
        yield _describe_size(cost)
    shares = []
    if attention_weights is not None:
        shares.append(f"{percent(attention_weights)} of the weights")
    if attention_share is not None and speed is not None:
        timed = f"{percent(attention_share, 0)} of the time of a prefill of {speed.prefill[0].context:,} tokens"
        shares.append(f"{timed} (more of longer contexts)")
    if shares:
        bound = "no more of either" if len(shares) > 1 else "no more"
        shrinks = "shrinks with the heads" if cache.shape.head else "does not shrink: all heads share what is cached"
        yield f"  ceiling   attention is {' and '.join(shares)}:"
        yield f"            pruning heads saves {bound}; the cache {shrinks}"
    yield (
        f"  cache     keys and values take {cache.full:,} bytes per token -> {cache.pruned:,} "
        f"({percent(1 - cache.share)} fewer), in {cache.shape.width}-byte numbers"
    )
    before = _describe_context(cache.longest_full)
    after = _describe_context(cache.longest_pruned)
    if cache.shape.positions is not None:
        after += f"; the model reads at most {cache.shape.positions:,}"
    yield f"            {cache.memory / 2**30:g} GiB holds {before} -> {after}"
    layers, limits = cache.shape.limited_layers
    if limits:
        latest = " or ".join(f"{limit:,}" for limit in limits)
        yield f"            {layers} layers cache only the latest {latest} tokens"
    if speed is None:
        yield "  speed     not measured"
        return
    for name, points in (("prefill", speed.prefill), ("decode", speed.decode)):
        label = name
        for point in points:
            # The median of all ratios: two medians of their own would contradict it on a busy machine.
            pruned = rate(point.full / point.ratio.value)
            yield (
                f"  {label:<10}{point.context:>5,} tokens: {rate(point.full)} -> {pruned} tokens per "
                f"second, {_compare(point.ratio, point.ratio.n)}"
            )
            # The first line of a group has its name.
            label = ""
    if speed.left_out:
        yield f"            not timed, for lack of time or memory: {', '.join(speed.left_out)}"


def _describe_context(tokens: int | None) -> str:
    """Return the longest context of a cache (None: it has no limit)."""
    if tokens is None:
        return "any context"
    return f"{tokens:,} tokens"
