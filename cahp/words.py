"""Formats of numbers and markup, the same in the terminal, in files and on screen.

The minus is the typographic sign, as wide as the plus and different from a hyphen.
"""

import html
import math
from collections.abc import Iterable, Sequence

#: The states of a model whose figures stand beside each other; those after a recovery are ``Recovery.beside``.
ALL_HEADS = "all heads"
AS_PRUNED = "as pruned"


def number(value: float, digits: int = 1) -> str:
    """Format a number with ``digits`` digits after the point."""
    return f"{value:z.{digits}f}".replace("-", "−")


def counted(amount: int, noun: str) -> str:
    """Write an amount with its noun, which takes an s unless it is one: ``1 seed``, ``2 seeds``."""
    if amount == 1:
        return f"1 {noun}"
    return f"{amount} {noun}s"


def join_quoted(names: Iterable[str], *, limit: int = 20) -> str:
    """Quote and join the first ``limit`` names for a sentence."""
    names = list(names)
    quoted = [repr(name[:60]) for name in names[:limit]]
    if len(names) > limit:
        quoted.append(f"... ({len(names)} in all)")
    return ", ".join(quoted) or "none"


def capital(text: str) -> str:
    """Write the first letter as a capital, unless the first word is the name of a file."""
    first_word = text.split(" ", 1)[0]
    if any(sign in first_word[1:-1] for sign in "./_"):
        return text
    return f"{text[:1].upper()}{text[1:]}"


def signed(value: float, digits: int = 1) -> str:
    """Format a difference with its sign."""
    return f"{value:+z.{digits}f}".replace("-", "−")


def nats_digits(value: float) -> int:
    """Return the number of decimals of nats: a value below 0.01 keeps two significant digits."""
    if 0 < abs(value) < 0.01:
        return min(9, 1 - math.floor(math.log10(abs(value))))
    return 3


def nats(value: float) -> str:
    """Format a divergence without its unit: ``0.123``, ``0.00012``."""
    return number(value, nats_digits(value))


def percent(share: float | None, digits: int = 1) -> str:
    """Format a share in per cent."""
    if share is None:
        return "not measured"
    return f"{number(share * 100, digits)} %"


def points(pp: float) -> str:
    """Format a difference of two shares in percentage points, with its sign."""
    return f"{signed(pp)} points"


def times(ratio: float) -> str:
    """Format a ratio, such as that of two latencies."""
    return f"{number(ratio, 2)} ×"


def rate(per_second: float) -> str:
    """Format tokens per second: ``17.3``, ``1,204``."""
    if per_second < 100:
        return f"{per_second:,.1f}"
    return f"{per_second:,.0f}"


def interval(low: float, high: float, digits: int = 1) -> str:
    """Format an interval for a table of the terminal or of a file: ``[0.1, 0.2]``; pages write ``(0.1 to 0.2)``."""
    return f"[{number(low, digits)}, {number(high, digits)}]"


def span(low: float, high: float, digits: int = 1) -> str:
    """Format an interval for a sentence: ``0.1 to 0.2``."""
    return f"{number(low, digits)} to {number(high, digits)}"


def too_close(n: int) -> str:
    """Say that ``n`` measurements leave open which of two is better."""
    return f"too close to call with {n:,} texts"


def side_by_side(text: str | Sequence[str]) -> str:
    """Put the two texts of a pair, or a text alone, on one line."""
    if isinstance(text, str):
        return text
    return " ⸱ ".join(text)


def duration(seconds: float) -> str:
    """Format seconds in seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def size_of(count: int) -> str:
    """Format bytes in kB, MB or GB: powers of 1,000, as for disks and downloads."""
    if round(count / 1e3) < 1000:
        return f"{count / 1e3:.0f} kB"
    if round(count / 1e6) < 1000:
        return f"{count / 1e6:.0f} MB"
    return f"{count / 1e9:.1f} GB"


def safe(value: object) -> str:
    """Return any value as text that HTML and SVG show as it is."""
    return html.escape(str(value))


def printable(text: str) -> str:
    """Return a text on one line: line breaks and control characters are written as in Python."""
    return "".join(map(_printable_character, text))


def _printable_character(character: str) -> str:
    if character.isprintable():
        return character
    return repr(character)[1:-1]


def encodable(text: str) -> str:
    """Return a text that any file can hold: bytes of a file's name that are no UTF-8 are written as in Python."""
    return text.encode("utf-8", "backslashreplace").decode()


def first_line(error: BaseException) -> str:
    """Return the first line of an error, shortened for a sentence."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200].rstrip(" .:")
