"""Numbers written in a fixed width, so that columns of them align and a changing digit does not move its neighbours."""

from __future__ import annotations

import math
from typing import SupportsFloat

#: Widths in cells: `+0.7565`, `+0.76`, `0.4342`.
WIDE, COMPACT, UNIT = 7, 5, 6


def wide(x: SupportsFloat) -> str:
    """A number in 7 cells with its sign: `+0.7565`, `+123.46`, `+1.23e5`, `+1.2e-5`, `  nan  `; 0 is ` 0     `."""
    return _fitted(float(x), WIDE, signed=True)


def compact(x: SupportsFloat) -> str:
    """A number in 5 cells with its sign: `+0.76`, `+12.3`, `+2e-4`, ` nan `; 0 is ` 0   `."""
    return _fitted(float(x), COMPACT, signed=True)


def unit(x: SupportsFloat) -> str:
    """A number from 0 to 1 in 6 cells, without a sign: `0.4342`, `1.3e-7`; exactly 0 and 1 are `0     ` and `1     `.

    What is not a number from 0 to 1 (a diverged run) is still shown in 6 cells, a minus and all.
    """
    return _fitted(float(x), UNIT, signed=False)


def given(x: SupportsFloat) -> str:
    """A number that was given and not computed, with the digits that it has: `0.01`, `1e-8`."""
    digits, _, exponent = f"{float(x):g}".partition("e")
    return f"{digits}e{int(exponent)}" if exponent else digits


def exact(x: SupportsFloat) -> str:
    """All digits that tell this number from its neighbours in its own type (float32 or float64), with a sign."""
    digits = str(x)
    return digits if digits.startswith("-") or math.isnan(float(x)) else f"+{digits}"


def _fitted(x: float, width: int, *, signed: bool) -> str:
    sign = "+" if signed else ""
    if not math.isfinite(x):
        return f"{x:{sign}}".replace("+nan", "nan").center(width)
    lead = 1 if signed else 0
    if x == 0 or (x == 1 and not signed):
        return (" " * lead + f"{x:.0f}".lstrip("-")).ljust(width)  # exactly so, and seen to be: not a rounded 0.0000
    decimals = width - 2 - lead
    if abs(x) >= 0.5 * 10**-decimals:  # else it would be rounded to a zero, and it is none
        # A whole number would look exact in a wide column; in a compact one there is no room to be more exact.
        for places in range(decimals, 0 if width > COMPACT else -1, -1):
            text = f"{x:{sign}.{places}f}"
            if len(text) <= width:
                return text.rjust(width)
    for places in range(width, -1, -1):
        mantissa, exponent = f"{x:{sign}.{places}e}".split("e")
        text = f"{mantissa}e{int(exponent)}"
        if len(text) <= width:
            return text.rjust(width)
    return (("-" if x < 0 else sign) + ("0." if abs(x) < 1 else "big")).rjust(width)  # an exponent of three digits in few cells
