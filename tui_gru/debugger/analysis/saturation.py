"""Saturation: entries near a limit of the function that computed them.

Karpathy, Johnson and Fei-Fei (2015), *Visualizing and understanding recurrent networks*, call a gate saturated below 0.1 and above
0.9: within a tenth of its range from a limit. The same tenth applies to every other range, so tanh is saturated beyond ±0.8.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.program.names import ValueKind
from tui_gru.engine.running.weights import Array
from tui_gru.equations.expression import Apply

EDGE = 0.1  # of the range, from either limit
SATURATING = ("sigmoid", "tanh", "clamp")  # functions that are flat near their limits
_MOSTLY = 0.9  # a unit is saturated if at least this share of its entries is


@dataclass(frozen=True)
class ValueRange:
    """The limits of a value; an entry within `edge` of the range from a limit is saturated."""

    low: float
    high: float
    edge: float = EDGE

    @property
    def span(self) -> float:
        return self.high - self.low

    def is_low(self, values: Array) -> NDArray[np.bool_]:
        """Return True for each entry that is saturated at the lower limit."""
        below: NDArray[np.bool_] = values < self.low + self.edge * self.span
        return below

    def is_high(self, values: Array) -> NDArray[np.bool_]:
        """Return True for each entry that is saturated at the upper limit."""
        above: NDArray[np.bool_] = values > self.high - self.edge * self.span
        return above

    def saturated(self, values: Array) -> NDArray[np.bool_]:
        """Return True for each entry that is saturated; False for NaN."""
        return self.is_low(values) | self.is_high(values)


def limits_of(program: Program, name: str) -> ValueRange | None:
    """Return the limits of a value that can be saturated: of σ, tanh or clamp, or of a bounded state; None for others.

    A probability may be near 0 or 1 without being saturated, so a softmax has no limits.
    """
    if name in program.names and program.names[name].kind is ValueKind.STATE:
        name = program.names[name].read_in
    made = program.lines[name].formula if name in program.lines else program.parts.get(name)
    flat = isinstance(made, Apply) and made.function in SATURATING
    if (
        name not in program.names
        or program.names[name].kind is not ValueKind.VALUE
        or not (flat or name in program.model.page.states)
    ):
        return None
    low, high = program.ranges[name]
    return ValueRange(low, high) if np.isfinite(high - low) else None


def saturating(program: Program) -> tuple[str, ...]:
    """Return the values that can be saturated, in the order of the equations."""
    return tuple(name for name in program.names_of(ValueKind.VALUE) if limits_of(program, name) is not None)


def unit_shares(values: Array, limits: ValueRange) -> Array:
    """Return the share of saturated entries of each unit, (units), of values (…, units)."""
    rows = values.reshape(-1, values.shape[-1])
    share: Array = np.count_nonzero(limits.saturated(rows), axis=0) / len(rows)
    return share


def next_saturated_unit(values: Array, limits: ValueRange, after: int = -1) -> int | None:
    """Return the next unit after `after` that is saturated, starting again at the first after the last.

    `values` is (…, units); None if no unit is.
    """
    found = np.flatnonzero(unit_shares(values, limits) >= _MOSTLY)
    return int(found[np.searchsorted(found, after, side="right") % len(found)]) if len(found) else None
