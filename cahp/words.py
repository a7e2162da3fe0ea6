"""Numbers as words, the same in a terminal, in a file and on screen.

A minus is the sign that typesetters use: as wide as the plus, and never taken for a hyphen.
"""

from __future__ import annotations

from collections.abc import Sequence


def number(value: float, digits: int = 1) -> str:
    """A number with so many digits after its point."""
    return f"{value:z.{digits}f}".replace("-", "−")


def signed(value: float, digits: int = 1) -> str:
    """A difference, with its sign."""
    return f"{value:+z.{digits}f}".replace("-", "−")


def percent(share: float | None, digits: int = 1) -> str:
    """A share as per cent."""
    return "not measured" if share is None else f"{number(share * 100, digits)} %"


def points(pp: float) -> str:
    """A difference of two shares in percentage points, with its sign."""
    return f"{signed(pp)} pp"


def times(ratio: float) -> str:
    """How many times as long something takes."""
    return f"{number(ratio, 2)} ×"


def interval(low: float, high: float, digits: int = 1) -> str:
    """An interval of numbers, as tables write it."""
    return f"[{number(low, digits)}, {number(high, digits)}]"


def span(low: float, high: float, digits: int = 1) -> str:
    """An interval of numbers, as sentences say it."""
    return f"{number(low, digits)} to {number(high, digits)}"


def side_by_side(text: str | Sequence[str]) -> str:
    """A text, or the texts of a pair, as one line of a table."""
    return text if isinstance(text, str) else " ⸱ ".join(text)


def ordinal(place: int) -> str:
    """A place in a line."""
    ending = "th" if place % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{ending}"


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size_of(count: int) -> str:
    """A number of bytes in kB, MB or GB, powers of 1,000 as disks and downloads count them."""
    if round(count / 1e3) < 1000:
        return f"{count / 1e3:.0f} kB"
    return f"{count / 1e6:.0f} MB" if round(count / 1e6) < 1000 else f"{count / 1e9:.1f} GB"
