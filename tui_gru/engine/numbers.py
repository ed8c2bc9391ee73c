"""Formatting of numbers, and equality of numbers with NaN.

`wide`, `compact`, `unit` and `compact_unit` return text of a fixed width, so that columns align and a changing digit does not move
its neighbours.
The other functions are for numbers in sentences, and for the ticks of axes.
"""

from __future__ import annotations

import math
from typing import Any, SupportsFloat

#: Widths in cells: `+0.7565`, `+0.76`, `0.4342`, `0.43`.
WIDE, COMPACT, UNIT, COMPACT_UNIT = 7, 5, 6, 4


def wide(x: SupportsFloat) -> str:
    """Format a number with its sign in 7 cells: `+0.7565`, `+123.46`, `+1.23e5`, `+1.2e-5`, `  nan  `; 0 is ` 0     `."""
    return _fitted(float(x), WIDE, signed=True)


def plain(x: SupportsFloat) -> str:
    """Format as `wide`, without blanks around and without a plus sign: `0.7565`, `-1.2e-5`, `0`."""
    return wide(x).strip().removeprefix("+")


def compact(x: SupportsFloat) -> str:
    """Format a number with its sign in 5 cells: `+0.76`, `+12.3`, `+2e-4`, ` nan `; 0 is ` 0   `."""
    return _fitted(float(x), COMPACT, signed=True)


def unit(x: SupportsFloat) -> str:
    """Format a number from 0 to 1 in 6 cells, without a sign: `0.4342`, `1.3e-7`; exactly 0 and 1 are `0     ` and `1     `.

    A number outside of that range (in a diverged run) is also shown in 6 cells, including a minus sign.
    """
    return _fitted(float(x), UNIT, signed=False)


def compact_unit(x: SupportsFloat) -> str:
    """Format a number as `unit` in 4 cells: `0.43`, `7e-9`, `-0.8`, ` 123`; exactly 0 and 1 are `0   ` and `1   `.

    A magnitude for which there is no room is `-0.` below 0.05 and `-big` from 1e6 on.
    """
    return _fitted(float(x), COMPACT_UNIT, signed=False)


def significant(x: SupportsFloat, digits: int = 6) -> str:
    """Format a number with at most `digits` significant digits and no trailing zeros: `0.01`, `1e-8`."""
    return _short_exponent(f"{float(x):.{digits}g}")


def exact(x: SupportsFloat) -> str:
    """Format a number with its sign and all digits that distinguish it from its neighbours in its type (float32 or float64)."""
    digits = str(x)
    return digits if digits.startswith("-") or math.isnan(float(x)) else f"+{digits}"


def rounded(x: float) -> str:
    """Format a number with three significant digits: `0.0123`, `1.2e-5`, `1,230`."""
    if 1000 <= abs(x) < 1e6:
        return f"{x:,.0f}"
    return _short_exponent(f"{x:.3g}")


def correlation(r: float) -> str:
    """Format a correlation with a sign and two decimals, `+0.42`; one that rounds to 0 has no sign."""
    written = f"{r:+.2f}"
    return written[1:] if float(written) == 0 else written


def scientific(x: float) -> str:
    """Format a difference or tolerance with two significant digits and an exponent: `3.1e-8`; 0 is `0`."""
    return "0" if x == 0 else _short_exponent(f"{x:.1e}")


def four(x: float) -> str:
    """Format a number ≥ 0 in four cells, or five above 99.9: `0.12`, `12.3`, `1e-3`, `1e+02`; 0 is `0.00`."""
    if 0 < x < 0.005 or 99.95 <= x < math.inf:
        return f"{x:.0e}".replace("e-0", "e-")
    return f"{x:.2f}" if x < 9.995 else f"{x:.1f}"


def short(x: float) -> str:
    """Format with four decimals, or four significant digits if |x| < 0.001 or |x| ≥ 10⁶; whole numbers below 1000 without
    decimals; `−` as the minus sign."""
    if math.isfinite(x) and x == int(x) and abs(x) < 1000:
        return str(int(x)).replace("-", "−")
    written = f"{x:.4f}" if 0.001 <= abs(x) < 1e6 or not math.isfinite(x) else f"{x:.3e}"
    return written.replace("-", "−")


def decimals(x: float, places: int, *, signed: bool = False) -> str:
    """Format with so many decimal places; with four significant digits and an exponent if that would be 0, or |x| ≥ 10⁶."""
    sign = "+" if signed else ""
    if math.isfinite(x) and (abs(x) >= 1e6 or 0 < abs(x) < 0.5 * 10.0**-places):
        return _short_exponent(f"{x:{sign}.3e}")
    return f"{x:{sign}.{places}f}"


def percent(share: float) -> str:
    """Format a share from 0 to 1: `34 %`. It is rounded to 0 % or 100 % only if it is exactly that."""
    if 0 < share < 0.01:
        return "under 1 %"
    return f"{min(round(100 * share), 99) if share < 1 else 100} %"


def short_percent(share: float) -> str:
    """Format a share from 0 to 1 in at most four cells: `34%`, `<1%`, `>99%`; `0%` and `100%` only if it is exactly that; nothing
    for NaN."""
    if math.isnan(share):
        return ""
    if 0 < share < 0.01:
        return "<1%"
    return ">99%" if 0.99 < share < 1 else f"{100 * share:.0f}%"


def counted(count: int, noun: str) -> str:
    """Return a number with a noun: `1 batch`, `3 batches`, `7 epochs`, `1,000 entries`."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}es" if noun.endswith(("tch", "nch", "s")) else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def gib(size: float) -> str:
    """Format a number of bytes: `1,024.0 GiB`."""
    return f"{size / 2**30:,.1f} GiB"


def mib(size: float) -> str:
    """Format a number of bytes: `1,024.0 MiB`."""
    return f"{size / 2**20:,.1f} MiB"


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it: `42 s`, `3 min`, `1.5 h`, `12 days`, `3,170 years`."""
    day = 86400
    for unit_name, size, upto, places in (
        ("s", 1, 90, 0),
        ("min", 60, 5400, 0),
        ("h", 3600, 2 * day, 1),
        ("days", day, 730 * day, 0),
    ):
        if seconds < upto:
            return f"{seconds / size:.{places}f} {unit_name}"
    return f"{seconds / (365.25 * day):,.0f} years"


def same(a: Any, b: Any) -> Any:
    """Return True if two numbers are equal or both NaN; for arrays that broadcast together, an array of bools."""
    return (a == b) | ((a != a) & (b != b))


def value_ticks(low: float, high: float, *, logarithmic: bool) -> list[float]:
    """Return round values from `low` to `high` for an axis, at most about six."""
    if logarithmic and high >= 4 * low:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for digits in ((1, 2, 5), (1, 3), (1,)):
            ticks = [value for power in powers for digit in digits if low <= (value := digit * 10.0**power) <= high]
            if len(ticks) <= 7:
                return ticks
        return ticks[:: -(-len(ticks) // 6)]
    return [float(f"{value:.12g}") for value in _round_steps(low, high)]


def batch_ticks(first: float, last: float) -> list[int]:
    """Return the first and round numbers up to the last one for an axis of whole numbers."""
    return sorted({round(first), *(round(value) for value in _round_steps(first, last) if value >= 1)})


def _round_steps(low: float, high: float) -> list[float]:
    """Return multiples of 1, 2 or 5 times a power of ten from `low` to `high`, at most about six."""
    if high <= low:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / 5))
    step = next(digit * power for digit in (1, 2, 5, 10) if digit * power * 6 >= high - low)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _short_exponent(digits: str) -> str:
    mantissa, _, exponent = digits.partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def _fitted(x: float, width: int, *, signed: bool) -> str:
    sign = "+" if signed else ""
    if not math.isfinite(x):
        return f"{x:{sign}}".replace("+nan", "nan").center(width)
    lead = 1 if signed else 0
    if x == 0 or (x == 1 and not signed):
        return (" " * lead + f"{x:.0f}".lstrip("-")).ljust(width)  # exact, so without decimals
    most_places = width - 2 - (1 if signed or x < 0 else 0)
    if abs(x) >= 0.5 * 10**-most_places:  # otherwise a number that is not 0 would be rounded to 0
        # A wide column shows at least one decimal, because a whole number would look exact; a compact one has no room for it.
        for places in range(most_places, 0 if width > COMPACT else -1, -1):
            text = f"{x:{sign}.{places}f}"
            if len(text) <= width:
                return text.rjust(width)
    for places in range(width, -1, -1):
        mantissa, exponent = f"{x:{sign}.{places}e}".split("e")
        text = f"{mantissa}e{int(exponent)}"
        if len(text) <= width:
            return text.rjust(width)
    return (("-" if x < 0 else sign) + ("0." if abs(x) < 1 else "big")).rjust(width)  # a three-digit exponent does not fit
