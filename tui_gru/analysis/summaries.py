"""Summaries of arrays that are too large to show: saturated, dead and near-zero entries, the largest entry, a histogram."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.edits import Index
from tui_gru.debugger.expressions import TimedExpression
from tui_gru.debugger.moment import Moment, value_before
from tui_gru.debugger.position import Reader, TypedError
from tui_gru.debugger.program import Program, ValueKind, axis_index_in_words, spoken
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.numbers import counted, significant
from tui_gru.engine.weights import Array
from tui_gru.equations.functions import FUNCTIONS
from tui_gru.equations.syntax import Apply
from tui_gru.errors import TuiGruError

# ------------------------------------------------------------------------------
# Saturation: entries near a limit of the function that computed them.
#
# Karpathy, Johnson and Fei-Fei (2015), *Visualizing and understanding recurrent networks*, call a gate saturated below 0.1 and
# above 0.9: within a tenth of its range from a limit. The same tenth applies to every other range, so tanh is saturated beyond
# ±0.8.


EDGE = 0.1  # of the range, from either limit
_MOSTLY = 0.9  # a unit is saturated if at least this share of its entries is


class ValueRange(NamedTuple):
    """The limits of a value; an entry within `edge` of the range from a limit is saturated."""

    low: float
    high: float
    edge: float = EDGE

    @property
    def span(self) -> float:
        return self.high - self.low

    def is_low(self, values: Array) -> NDArray[np.bool_]:
        """Return True for each entry that is saturated at the lower limit, in the shape of `values`."""
        below: NDArray[np.bool_] = values < self.low + self.edge * self.span
        return below

    def is_high(self, values: Array) -> NDArray[np.bool_]:
        """Return True for each entry that is saturated at the upper limit, in the shape of `values`."""
        above: NDArray[np.bool_] = values > self.high - self.edge * self.span
        return above

    def saturated(self, values: Array) -> NDArray[np.bool_]:
        """Return True for each entry that is saturated, in the shape of `values`; False for NaN."""
        return self.is_low(values) | self.is_high(values)


def limits_of(program: Program, name: str) -> ValueRange | None:
    """Return the limits of a value that can be saturated: of σ, tanh or clamp, or of a bounded state; None for others.

    A probability may be near 0 or 1 without being saturated, so a softmax has no limits.
    """
    if name in program.names and program.names[name].kind is ValueKind.STATE:
        name = program.names[name].read_in
    made = program.lines[name].formula if name in program.lines else program.parts.get(name)
    flat = isinstance(made, Apply) and FUNCTIONS[made.function].saturates
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
    saturated = np.flatnonzero(unit_shares(values, limits) >= _MOSTLY)
    return int(saturated[np.searchsorted(saturated, after, side="right") % len(saturated)]) if len(saturated) else None


# ------------------------------------------------------------------------------
# Summarises a large matrix: saturated, dead and near-zero entries, the largest entry, and a histogram.


NEAR_ZERO = 0.05  # of the largest possible or actual magnitude; too small to see on a colour scale
DEAD = 1e-3  # of the same; a unit that varies by less is dead
BINS = 24
_ROUNDING, _LARGE = 1e-5, 1e30


@dataclass(frozen=True, eq=False)
class Summary:
    """The summary of an array (…, units). All counts are of entries, except `dead`, which counts units.

    `low` and `high` count saturated entries at the lower and upper limit. A unit is dead if its entries differ by less than a
    thousandth of the largest magnitude; with one entry per unit, no unit is dead. `finite` counts finite entries, and all other
    fields concern those: `smallest`, `largest` and `mean` are NaN if there are none. `peak` is the index of the entry with the
    largest magnitude, `first_bad` that of the first NaN or infinite entry. `counts` (bins) is the histogram between `edges` (bins
    + 1), from limit to limit, or from the smallest entry to the largest.
    """

    entries: int
    finite: int
    low: int
    high: int
    dead: int
    zero: int
    near_zero: int
    smallest: float
    largest: float
    mean: float
    peak: Index | None
    first_bad: Index | None
    counts: NDArray[np.intp]
    edges: NDArray[np.float64]
    limits: ValueRange | None = None

    def __repr__(self) -> str:
        return (
            f"<summary of {self.entries} entries from {self.smallest:.4g} to {self.largest:.4g}, mean {self.mean:.4g}: "
            f"{self.saturated} saturated, {self.near_zero} near 0, {self.dead} units dead, {self.entries - self.finite} not finite>"
        )

    def _repr_html_(self) -> str:
        from html import escape

        facts = {
            "entries": f"{self.entries:,}", "from": f"{self.smallest:.4g}", "to": f"{self.largest:.4g}", "mean": f"{self.mean:.4g}",
            "saturated": f"{self.saturated:,} ({self.share(self.saturated):.0%})", "near 0": f"{self.near_zero:,}",
            "dead units": f"{self.dead:,}", "not finite": f"{self.entries - self.finite:,}",
        }  # fmt: skip
        return f"<table>{''.join(f'<tr><th>{name}</th><td>{escape(fact)}</td></tr>' for name, fact in facts.items())}</table>"

    @property
    def saturated(self) -> int:
        return self.low + self.high

    def share(self, count: int) -> float:
        """Return a count of entries as a share of all; 0 if there are none."""
        return count / self.entries if self.entries else 0.0


def summary(values: Array, limits: ValueRange | None = None, *, bins: int = BINS) -> Summary:
    """Return the summary of an array of any shape, whose last axis counts units. `limits` come from `limits_of`.

    Without `bins`, its histogram is empty.
    """
    is_finite = not values.size or bool(np.isfinite(values.min()) and np.isfinite(values.max()))  # a NaN anywhere makes both NaN
    good = None if is_finite else np.isfinite(values)
    numbers = values if good is None else values[good]
    smallest, largest = (float(numbers.min()), float(numbers.max())) if numbers.size else (np.nan, np.nan)
    sizes = np.abs(numbers)
    scale = max(abs(limits.low), abs(limits.high)) if limits else max(abs(smallest), abs(largest))
    low, high = (limits.low, limits.high) if limits else (smallest, largest)
    counts, edges = _histogram(numbers, bins, low, high)
    return Summary(
        entries=values.size,
        finite=numbers.size,
        low=int(np.count_nonzero(limits.is_low(numbers))) if limits else 0,
        high=int(np.count_nonzero(limits.is_high(numbers))) if limits else 0,
        dead=len(dead_units(values, scale)),
        zero=numbers.size - int(np.count_nonzero(numbers)),
        near_zero=int(np.count_nonzero(sizes <= NEAR_ZERO * scale)),
        smallest=smallest,
        largest=largest,
        mean=float(numbers.mean(dtype=np.float64)) if numbers.size else np.nan,
        peak=_index(int(sizes.argmax()), values.shape) if is_finite and values.size else largest_entry(values),
        first_bad=None if good is None else _index(int(np.argmin(good)), values.shape),
        counts=counts,
        edges=edges,
        limits=limits,
    )


def _histogram(numbers: Array, bins: int, low: float, high: float) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the counts between `low` and `high`, and the edges.

    If all entries are equal, they are in the middle of a range around them.
    """
    if not bins:
        return np.empty(0, np.intp), np.empty(0)
    if not numbers.size:
        low, high = 0.0, 1.0
    elif high - low <= _ROUNDING * max(abs(low), abs(high)):
        spare = max(abs(low), abs(high)) / 2 or 0.5
        low, high = low - spare, high + spare
    fits = 1 / _LARGE < high - low < _LARGE  # the range fits into float32
    return np.histogram(numbers if fits else numbers.astype(np.float64), bins, (low, high))


def dead_units(values: Array, scale: float, dead: float = DEAD) -> NDArray[np.intp]:
    """Return the units (last axis), (n), whose entries lie within `dead` · `scale` of each other; none if a unit has one entry."""
    rows = values.reshape(-1, values.shape[-1]) if values.ndim else values.reshape(1, 1)
    if len(rows) < 2:
        return np.empty(0, np.intp)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.flatnonzero(rows.max(axis=0) - rows.min(axis=0) <= dead * scale)


def largest_entry(values: Array) -> Index | None:
    """Return the index of the entry with the largest magnitude, ignoring NaN; None if all entries are NaN."""
    places = largest_entries(values, 1)
    return places[0] if places else None


def largest_entries(values: Array, count: int) -> list[Index]:
    """Return the indices of the `count` entries with the largest magnitude, largest first, ignoring NaN."""
    sizes = np.abs(values).ravel()
    bad = np.isnan(sizes)
    sizes[bad] = -1
    count = min(count, sizes.size - int(np.count_nonzero(bad)))
    if count <= 0:
        return []
    candidates = np.array([np.argmax(sizes)]) if count == 1 else np.argpartition(sizes, -count)[-count:]
    order = candidates[np.lexsort((candidates, -sizes[candidates]))]
    return [_index(int(at), values.shape) for at in order]


def by_size(matrix: Array, axis: int) -> NDArray[np.intp]:
    """Return the indices of the rows (`axis` 0) or columns (1) of a matrix, (n), in descending order of their Euclidean norms."""
    wide = np.nan_to_num(matrix.astype(np.float64), nan=np.inf)
    with np.errstate(over="ignore"):
        norms = np.sqrt(np.square(wide).sum(axis=1 - axis))
    return np.argsort(-norms, kind="stable")


def _index(at: int, shape: Sequence[int]) -> Index:
    return tuple(map(int, np.unravel_index(at, shape)))


# ------------------------------------------------------------------------------
# The numbers of one array or expression, as they are typed.


@dataclass(frozen=True)
class PrintedNumbers:
    """What a typed name or expression stands for at a moment: one number, or an array of at most two axes, with the names of its
    rows and columns. `t` is the timestep from 0, None for what has none."""

    expression: str
    values: Array
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    t: int | None = None

    @property
    def sentence(self) -> str:
        """The expression with its timestep; of an array, with its shape, type, range and mean."""
        place = "" if self.t is None else f" t {self.t + 1}"
        if not self.values.ndim:
            return f"{self.expression}{place} = {significant(float(self.values))}"
        finite = self.values[np.isfinite(self.values)]
        shape = f"({', '.join(map(str, self.values.shape))}{',' if self.values.ndim == 1 else ''})"
        words = [f"{self.expression}{place}: {shape} {self.values.dtype}"]
        if finite.size:
            words.append(f"{significant(finite.min(), 4)} to {significant(finite.max(), 4)}")
            words.append(f"mean {significant(finite.mean(dtype=np.float64), 4)}")
        if zeros := int(np.count_nonzero(self.values == 0)):
            words.append(f"{counted(zeros, 'zero')}")
        if finite.size < self.values.size:
            words.append(f"{self.values.size - finite.size:,} not finite")
        return ", ".join(words)


def printed(program: Program, typed: str, moment: Moment, previous: BatchRecord | None) -> PrintedNumbers:
    """Return the numbers of a value `h`, of a part `W[row 1]`, `W[:, 2]`, each also `t 2`, or of an expression `max(abs(W))`.

    Raises `TuiGruError` for what cannot be parsed or is not computed yet.
    """
    try:
        reader = Reader(typed, "a name such as loss, or an expression such as abs(loss)")
        name, index = reader.entries(program)
        t = reader.timestep(program.seq_length)
    except TypedError:
        name, index, t = "", (), None
    code = program.code_name(name)
    if code not in program.names:
        return _of_expression(program, typed, moment, previous)
    named = program.names[code]
    if not named.timed and t is not None:
        raise TuiGruError(f"{name} has no timesteps; leave out t {t + 1}")
    value = moment.value(code, t)
    if value is None:
        raise TuiGruError(
            moment.why_missing(code) or f"{name} is not computed yet; go {program.writer.name(code)} goes to its line"
        )
    values = np.asarray(value)
    axes = [axis for axis in named.axes if axis != "T"][: values.ndim]
    index = (*index, *(None,) * (len(axes) - len(index)))
    if len(index) > len(axes):
        raise TuiGruError(f"{name} takes at most {len(axes)} numbers in brackets, not {len(index)}: its shape is {values.shape}")
    for i, size in zip(index, values.shape, strict=True):
        if i is not None and not -size <= i < size:
            raise TuiGruError(f"{name} has no entry {i}: its shape is {values.shape}")
    part = values[tuple(slice(None) if i is None else i for i in index)]
    names = [
        tuple(axis_index_in_words(program, axis, i) for i in range(size))
        for axis, size, at in zip(axes, values.shape, index, strict=True)
        if at is None
    ]
    whole = all(i is None for i in index)
    label = program.writer.name(code) if whole else spoken(program, code, index)
    rows, columns = names if len(names) == 2 else ((), names[0]) if names else ((), ())
    shown_t = (moment.position.t if t is None else t) if named.timed else None
    return PrintedNumbers(label, part, rows, columns, shown_t)


def _of_expression(program: Program, typed: str, moment: Moment, previous: BatchRecord | None) -> PrintedNumbers:
    value = TimedExpression(typed, program.spellings).value(moment.in_conditions, partial(value_before, moment, previous))
    if value is None:
        raise TuiGruError(f"{typed} is not computed yet; step to the end of the batch, n")
    values = np.asarray(value)
    if values.dtype.kind not in "fiub":
        raise TuiGruError(f"{typed} is {value!r}, and no number")
    values = values.astype(np.float64) if values.dtype.kind != "f" else values
    return PrintedNumbers(typed, values.reshape(-1, values.shape[-1]) if values.ndim > 2 else values)
