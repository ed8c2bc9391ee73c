"""The values of the expression language and their operations.

Every value is an array whose first axis is the moment in time, so that one code path serves a test at one moment and
a search over a million: a number is (n,), a (B, H) matrix is (n, B, H). A first axis of 1 stands for the same value
at every moment. Numbers are computed in float64, to which float32 widens exactly, with NumPy's rules for division by
zero and nan. Nothing here writes to an array it was given.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tui_gru.debugger.expressions.text import SourcePart

AnyArray: TypeAlias = npt.NDArray[Any]
Operation: TypeAlias = Callable[[AnyArray, AnyArray], AnyArray]
"""An elementwise operation on two arrays."""

_LARGEST_INDEX = 2.0**53


class UnevenSliceError(Exception):
    """Raised if the bounds of a slice differ between moments; these moments are then evaluated one by one."""


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """The values that can be read at `count` moments: of the names as of the moment, `now`, and of those computed before it,
    `before`.

    `rows` selects moments from the arrays; None selects all.
    """

    count: int
    now: Mapping[str, AnyArray]
    before: Mapping[str, AnyArray]
    rows: AnyArray | None = None

    def value(self, name: str) -> AnyArray:
        return self._looked_at(self.now[name])

    def previous(self, name: str) -> AnyArray:
        return self._looked_at(self.before[name])

    def where(self, chosen: AnyArray) -> "Moments":
        """Return the moments for which `chosen` (count,) is true."""
        rows = np.flatnonzero(chosen) if self.rows is None else self.rows[chosen]
        return replace(self, count=len(rows), rows=rows)

    def _looked_at(self, values: AnyArray) -> AnyArray:
        return values if self.rows is None else where(values, self.rows)


class Verdict:
    """The truth of a condition with several parts, such as `a and b`, decided at each moment by the first part that can.

    `truth` (n,) is `undecided` until a part decides otherwise; `moments` are those not decided yet.
    """

    def __init__(self, moments: Moments, undecided: bool) -> None:
        self.moments = moments
        self.truth: AnyArray = np.full(moments.count, undecided)
        self._undecided = undecided
        self._open: AnyArray = np.arange(moments.count)

    @property
    def settled(self) -> bool:
        """True if no moment is undecided; False if there is none, which is a check of all parts."""
        return self.moments.count == 0 < len(self.truth)

    def settle(self, outcome: AnyArray) -> AnyArray:
        """Apply the `outcome` of a part at the undecided moments. Returns which of them remain undecided."""
        still_open: AnyArray = outcome == self._undecided
        if np.count_nonzero(still_open) < len(still_open):
            self.truth[self._open[~still_open]] = not self._undecided
            self.moments, self._open = self.moments.where(still_open), self._open[still_open]
        return still_open


def where(values: AnyArray, rows: AnyArray) -> AnyArray:
    """Return the values at some of the moments."""
    return values if len(values) == 1 else values[rows]


def is_text(value: AnyArray) -> bool:
    return value.dtype.kind == "U"


def numbers(value: AnyArray, place: SourcePart) -> AnyArray:
    """Return the value in float64 and C order, which fixes the order of sums. Raises ConditionError if it is text."""
    if is_text(value):
        raise place.error(f"{place} is text; a number is needed here")
    if value.dtype == np.float64 and value.flags.c_contiguous:
        return value  # the usual case
    return np.ascontiguousarray(value, np.float64)


def truth(value: AnyArray, count: int, place: SourcePart, advice: str = "use any(...) or all(...)") -> AnyArray:
    """Return one truth value for each of `count` moments.

    Raises ConditionError with `advice` if a moment has another number of values.
    """
    if is_text(value):
        raise place.error(f"{place} is text; compare it, as in char == 'a'")
    flat = value[:, np.newaxis] if value.ndim == 1 else _flat(value)
    if flat.shape[1] != 1:
        raise place.error(f"{place} has {flat.shape[1]} values; {advice}")
    single = flat[:, 0].astype(bool, copy=False)
    return single if len(single) == count else np.broadcast_to(single, count)


def combine(operation: Operation, left: AnyArray, right: AnyArray, place: SourcePart) -> AnyArray:
    """Apply an elementwise binary operation; shapes within a moment broadcast as in NumPy."""
    ndim = max(left.ndim, right.ndim)
    try:
        return operation(_with_ndim(left, ndim), _with_ndim(right, ndim))
    except ValueError:
        shapes = f"{_shape(left)} and {_shape(right)}"
        raise place.error(f"{place} combines the shapes {shapes}, which do not fit") from None


def compare(operation: Operation, left: AnyArray, right: AnyArray, place: SourcePart) -> AnyArray:
    """Compare numbers with numbers, or text with text; NaN equals nothing."""
    if is_text(left) != is_text(right):
        raise place.error(f"{place} compares text with a number")
    if not is_text(left):
        left, right = numbers(left, place), numbers(right, place)
    return combine(operation, left, right, place)


def power(base: AnyArray, exponent: AnyArray) -> AnyArray:
    # Broadcast first: NumPy squares if a single exponent 2 serves all bases, which differs in the last bit from its power. A
    # search over many moments must find what a test at one moment finds.
    full = np.broadcast_arrays(base, exponent)
    return np.asarray(np.power(*map(np.ascontiguousarray, full)))


def pick(value: AnyArray, keys: Sequence[tuple[AnyArray | slice, SourcePart]], place: SourcePart) -> AnyArray:
    """Return the element or block at `keys`, one key per leading axis; an index (n,) can differ between moments."""
    shape = _shape(value)
    if not shape:
        raise place.error(f"{place}: a single value takes no index")
    if len(keys) > len(shape):
        raise place.error(f"{place} has {len(keys)} indices; there are {len(shape)} axes")
    for (key, at), size in zip(keys, shape, strict=False):
        if not isinstance(key, slice) and ((key < -size) | (key >= size)).any():
            raise at.error(f"index {at} is out of range: this axis has {size}, counted from 0")
    indices = [key for key, _ in keys]
    if all(isinstance(index, slice) for index in indices):
        return np.asarray(value[(slice(None), *indices)])
    # If the moments are indexed by an array as well, NumPy puts them first.
    return np.asarray(value[(np.arange(len(value)), *indices)])


def whole(value: AnyArray, place: SourcePart) -> AnyArray:
    """Return indices (n,), one per moment. Raises ConditionError if a value is not a whole number."""
    index = numbers(value, place)
    if index.ndim != 1:
        raise place.error(f"{place} has the shape {_shape(index)}; an index is one whole number")
    if not (np.isfinite(index) & (index == np.floor(index))).all():
        raise place.error(f"{place} is not a whole number, as an index must be")
    return np.clip(index, -_LARGEST_INDEX, _LARGEST_INDEX).astype(np.int64)


def even_slice(bounds: Sequence[AnyArray | None], place: SourcePart) -> slice:
    """Return a slice from start, stop and step, (n,) each.

    Raises UnevenSliceError if they differ between moments, or are not known because there is no moment.
    """
    if any(bound is not None and (not len(bound) or (bound != bound[0]).any()) for bound in bounds):
        raise UnevenSliceError
    start, stop, step = (None if bound is None else int(bound[0]) for bound in bounds)
    if step == 0:
        raise place.error(f"{place} has a step of 0")
    return slice(start, stop, step)


ELEMENTWISE: Mapping[str, Callable[[AnyArray], AnyArray]] = {"abs": np.abs, "isnan": np.isnan, "isfinite": np.isfinite}
"""Elementwise functions."""

REDUCTIONS: Mapping[str, Callable[[AnyArray], AnyArray]] = {
    "any": lambda flat: np.asarray(flat.any(axis=1)),
    "all": lambda flat: np.asarray(flat.all(axis=1)),
    "min": lambda flat: flat.min(axis=1),
    "max": lambda flat: flat.max(axis=1),
    "sum": lambda flat: flat.sum(axis=1),
    "mean": lambda flat: flat.sum(axis=1) / flat.shape[1],
    "norm": lambda flat: np.sqrt((flat * flat).sum(axis=1)),
}
"""Functions of all numbers of a moment, from (n, k) to (n,)."""


def reduce(name: str, value: AnyArray, place: SourcePart) -> AnyArray:
    """Apply a function of REDUCTIONS. Raises ConditionError for the min, max or mean of no numbers."""
    flat = _flat(numbers(value, place))
    if flat.shape[1] == 0 and name in ("min", "max", "mean"):
        raise place.error(f"{place}: no values, so no {name}")
    return REDUCTIONS[name](flat)


def _shape(value: AnyArray) -> tuple[int, ...]:
    return value.shape[1:]


def _flat(value: AnyArray) -> AnyArray:
    """Return the values of each moment in one row, (n, k)."""
    return value.reshape(len(value), prod(_shape(value)))


def _with_ndim(value: AnyArray, ndim: int) -> AnyArray:
    return value if value.ndim == ndim else value.reshape(len(value), *[1] * (ndim - value.ndim), *_shape(value))
