"""Round numbers along an axis."""

from __future__ import annotations

import math


def ticks(low: float, high: float, count: int, *, whole: bool = False) -> list[float]:
    """Return at most `count` round numbers from low to high, in steps of 1, 2 or 5 times a power of ten; integers if `whole`."""
    span = high - low
    if count < 1 or not (math.isfinite(span) and span > 0):
        return [low] if count >= 1 and math.isfinite(low) else []
    power = 10.0 ** math.floor(math.log10(span / count))
    for step in (m * power for m in (1, 2, 5, 10, 20, 50, 100)):
        if whole and step < 1:
            continue
        slack = 0 if whole else 1e-9
        first, last = math.ceil(low / step - slack), math.floor(high / step + slack)
        if last - first + 1 <= count:
            marks = [index * step for index in range(first, last + 1)]
            return marks if whole else [min(max(mark, low), high) for mark in marks]  # rounding must not leave the range
    return []


def label(value: float, step: float) -> str:
    """Return the label of a tick, with only the decimals that its step needs: `0.25`, `1,000`, `2e-06`."""
    if value and not 1e-4 <= abs(value) < 1e7:
        return f"{value:.2g}"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 2
    return f"{value:,.{decimals}f}"
