"""What a timing means outside of it: texts an hour, and energy and money for a million texts.

Two assumptions turn time into energy and money; they are stated wherever the figures are, and can be changed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cahp.costs import KWH_PRICE, WATTS
from cahp.run.document import RunDocument
from cahp.values import OptionError

_MILLION = 1_000_000


@dataclass(frozen=True)
class Assumptions:
    """What a machine draws while it computes, in ``watts``, and the ``price`` of a kilowatt-hour in any currency.

    Raises:
        OptionError: If one of them is no positive number.
    """

    watts: float = WATTS
    price: float = KWH_PRICE

    def __post_init__(self) -> None:
        for name, value in (("watts", self.watts), ("price", self.price)):
            if not (math.isfinite(value) and value > 0):
                raise OptionError(f"{name} must be a positive number and not {value:g}")


@dataclass(frozen=True)
class Use:
    """What a model takes: ``texts`` an hour, and ``kwh`` and ``money`` for a million texts."""

    texts: float
    kwh: float
    money: float

    @classmethod
    def of(cls, ms: float, batch: int, assumed: Assumptions) -> Use:
        """Of batches of ``batch`` texts that take ``ms`` each."""
        texts = 3_600_000 * batch / ms
        kwh = assumed.watts / 1000 * _MILLION / texts
        return cls(texts, kwh, kwh * assumed.price)


@dataclass(frozen=True)
class RealWorld:
    """The full model's use, the pruned one's, and that at the ends of the 95 % interval of their ratio of times.

    The pruned one's follows from the full one's and the ratio, which was timed in turns; ``low`` takes least.
    """

    assumed: Assumptions
    full: Use
    pruned: Use
    low: Use
    high: Use
    batch: int
    length: int
    rounds: int

    @classmethod
    def of(cls, run: RunDocument, assumed: Assumptions) -> RealWorld | None:
        """Of a run; None where time was not measured, or does not change measurably."""
        ratio, timing = run.latency_ratio, run.cost.full.latency_ms
        if ratio is None or timing is None or not ratio.excludes(1):
            return None
        low, high = ratio.low, ratio.high
        full, pruned, least, most = (
            Use.of(timing.median * share, timing.batch, assumed) for share in (1.0, ratio.value, low, high)
        )
        return cls(assumed, full, pruned, least, most, timing.batch, timing.length, timing.repeats)

    @property
    def rows(self) -> list[tuple[str, list[str]]]:
        """A table: what it is, with all heads, pruned, and the 95 % interval of the last."""
        full, pruned, low, high = self.full, self.pruned, self.low, self.high
        return [
            (
                "Texts an hour",
                [_whole(full.texts), _whole(pruned.texts), f"{_whole(high.texts)} to {_whole(low.texts)}"],
            ),
            (
                "Energy for a million texts",
                [f"{_short(full.kwh)} kWh", f"{_short(pruned.kwh)} kWh", _ends(low.kwh, high.kwh)],
            ),
            (
                "Its price",
                [_short(full.money), _short(pruned.money), _ends(low.money, high.money)],
            ),
        ]

    @property
    def words(self) -> str:
        """What is assumed and what was timed, in a sentence."""
        assumed = self.assumed
        return (
            f"Assumed: the machine draws {assumed.watts:g} W while it computes, and a kilowatt-hour costs "
            f"{assumed.price:g} (any currency). Timed: batches of {self.batch} texts of {self.length} tokens, "
            f"n = {self.rounds} rounds; shorter texts take less."
        )


def _whole(value: float) -> str:
    """Three digits, the others as zeros: more are not known."""
    digits = 10 ** max(0, math.floor(math.log10(value)) - 2)
    return f"{round(value / digits) * digits:,}"


def _short(value: float) -> str:
    return _whole(value) if value >= 1000 else f"{value:#.3g}".rstrip(".")


def _ends(low: float, high: float) -> str:
    return f"{_short(low)} to {_short(high)}"
