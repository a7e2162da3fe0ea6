"""What choosing heads, running a model and timing it cost, and the memory that its cache of keys and values takes."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Literal

from cahp.values import Estimate, HeadMask

#: What removing heads saves first: time, or of a causal language model the memory of its cache.
Saving = Literal["time", "cache"]
#: Default seconds for timing a model.
LATENCY_SECONDS = 5.0
#: Numbers of tokens in the contexts at which the generation of text is timed.
CONTEXTS = (128, 1024, 4096)
#: A machine is noisy if the 95th percentile of a model's times is more than this many times their median.
NOISY = 1.25


@dataclass(frozen=True)
class SelectionCost:
    """What a method needs to choose heads: forward passes of one example and labels.

    ``forwards`` counts passes through the whole model; a backward pass counts as two.
    """

    forwards: float
    labels: int


@dataclass(frozen=True)
class Timing:
    """Latency of one batch in milliseconds: ``repeats`` runs of ``batch`` texts of ``length`` tokens."""

    median: float
    p95: float
    batch: int
    length: int
    repeats: int

    @property
    def noisy(self) -> bool:
        """Whether the machine was busy: the slowest twentieth took more than ``NOISY`` times the median."""
        return self.p95 > NOISY * self.median


@dataclass(frozen=True)
class Cost:
    """Weights, floating-point operations per text, and latency of one batch; None where not measured."""

    parameters: int | None
    flops: int | None
    latency_ms: Timing | None


@dataclass(frozen=True)
class Throughput:
    """Tokens per second of the ``full`` and the ``pruned`` model at a ``context`` of so many tokens.

    ``ratio`` is the median ratio of their times, pruned / full (below 1: faster).
    """

    context: int
    full: float
    pruned: float
    ratio: Estimate


@dataclass(frozen=True)
class GenerationSpeed:
    """How fast a causal language model reads a context (``prefill``) and then writes one token (``decode``).

    ``batch`` texts run at a time, and their tokens count together. ``left_out`` tells what was not timed, and why.
    """

    prefill: tuple[Throughput, ...]
    decode: tuple[Throughput, ...]
    left_out: tuple[str, ...] = ()
    batch: int = 1


@dataclass(frozen=True)
class Costs:
    """Cost of the full and the pruned model, their latency ratio, and attention's share of the full forward pass.

    A causal language model has a ``speed``, too (None: another model). Its latency is that of the shortest prefill.
    """

    full: Cost
    pruned: Cost
    ratio: Estimate
    attention_share: float
    speed: GenerationSpeed | None = None

    @property
    def noisy(self) -> bool:
        """Whether the machine was busy while either model was timed."""
        return bool(self.notices)

    @property
    def notices(self) -> tuple[str, ...]:
        """What the reader should know about these times."""
        timings = {"full": self.full.latency_ms, "pruned": self.pruned.latency_ms}
        noisy = {name: timing for name, timing in timings.items() if timing is not None and timing.noisy}
        if not noisy:
            return ()
        name, timing = max(noisy.items(), key=lambda item: item[1].p95 / item[1].median)
        return (
            f"the machine was busy while latency was measured: the 95th percentile of the {name} model's "
            f"{timing.repeats} times is {timing.p95 / timing.median:.1f} times their median (more than {NOISY}); "
            "raise --latency-time, or measure again on an idle machine",
        )


# The cache of keys and values -------------------------------------------------------------------------------------


#: The memory for which the longest context is given: 1 GiB.
CACHE_MEMORY = 1 << 30
#: Longer contexts count as any.
_LONGEST = 1 << 40


@dataclass(frozen=True)
class CacheShape:
    """The size of the keys and values that a causal language model caches, counted from its configuration.

    For each token, a layer caches ``head`` bytes for each of its heads (key-value groups), which leave the cache with
    the head, and ``shared`` bytes as long as it keeps a head; without heads it caches nothing. ``windows`` are pairs
    of a layer's index and the number of the latest tokens that it caches; other layers cache all tokens. The model
    reads at most ``positions`` tokens (None: any number). A number takes ``width`` bytes.
    """

    head: int
    shared: int = 0
    windows: tuple[tuple[int, int], ...] = ()
    positions: int | None = None
    width: int = 4

    @property
    def limited_layers(self) -> tuple[int, list[int]]:
        """The number of layers that cache only the latest tokens, and how many tokens these are, in order."""
        return len(self.windows), sorted({tokens for _, tokens in self.windows if tokens})

    def per_token(self, mask: HeadMask) -> int:
        """Bytes per token of the model cut to ``mask``, in a context no longer than any window."""
        return self.of_context(mask, 1)

    def of_context(self, mask: HeadMask, tokens: int) -> int:
        """Bytes of a context of so many ``tokens`` of the model cut to ``mask``."""
        windows = dict(self.windows)
        return sum(
            (self.head * len(heads) + self.shared) * min(tokens, windows.get(layer, tokens))
            for layer, heads in enumerate(mask.by_layer)
            if heads
        )

    def longest(self, mask: HeadMask, memory: int = CACHE_MEMORY) -> int | None:
        """The longest context in tokens whose cache fits in ``memory`` bytes, at most ``positions`` (None: any)."""
        most = self.positions
        if most is None:
            most = _LONGEST
        tokens = bisect_right(range(1, most + 1), memory, key=lambda tokens: self.of_context(mask, tokens))
        if tokens == _LONGEST:
            return None
        return tokens

    def ratio(self, mask: HeadMask) -> Estimate:
        """The bytes per token of the model cut to ``mask`` relative to the full model's: counted, without interval."""
        full = HeadMask.full(mask.layers, mask.heads)
        return Estimate(self.per_token(mask) / self.per_token(full), None, 0, "ratio")


@dataclass(frozen=True)
class KvCache:
    """Bytes of keys and values per token of the full and of the pruned model, and how they were counted.

    ``longest_full`` and ``longest_pruned`` are the longest contexts in tokens whose cache fits in ``memory`` bytes, at
    most the positions of the model (None: any).
    """

    full: int
    pruned: int
    longest_full: int | None
    longest_pruned: int | None
    shape: CacheShape
    memory: int = CACHE_MEMORY

    @classmethod
    def of(cls, shape: CacheShape | None, mask: HeadMask) -> KvCache | None:
        """Count them for a mask (None: the model has no such cache)."""
        if shape is None:
            return None
        every = HeadMask.full(mask.layers, mask.heads)
        return cls(shape.per_token(every), shape.per_token(mask), shape.longest(every), shape.longest(mask), shape)

    @property
    def share(self) -> float:
        """The bytes of the pruned model relative to the full model's."""
        return self.pruned / self.full
