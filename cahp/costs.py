"""What choosing heads, running a model and timing it cost."""

from __future__ import annotations

from dataclasses import dataclass

from cahp.values import Estimate

#: Default seconds for timing a model.
LATENCY_SECONDS = 5.0
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
class Costs:
    """Cost of the full and the pruned model, their latency ratio, and attention's share of the full forward pass."""

    full: Cost
    pruned: Cost
    ratio: Estimate
    attention_share: float

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
