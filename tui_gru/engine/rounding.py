"""How far rounding can move the result of a formula: a running error analysis of the operations that it consists of.

Each operation is computed in float64, together with a bound of the error that the same operation makes in the type of a run, at
operands that have errors themselves. A sum of n terms in any order is off by at most γₙ = n·u / (1 − n·u) times the sum of their
sizes, where u is half the distance from 1 to the next number (Higham 2002, *Accuracy and Stability of Numerical Algorithms*,
chapters 3 and 4). A product that is too small for a normal number can lose all of itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tui_gru.engine.weights import Float64Array
from tui_gru.equations import syntax as e
from tui_gru.equations.axes import Axes, union
from tui_gru.equations.functions import FUNCTIONS, numpy_function
from tui_gru.equations.syntax import Expression

FLOAT64 = float(np.finfo(np.float64).eps) / 2
FUNCTION_ERROR = 8  # in u: NumPy's vectorised functions are within 4 units in the last place, which are 2 u each


class Bounded(NamedTuple):
    """A value, the bound of its error, of the same shape, and its axes."""

    value: Float64Array
    error: Float64Array
    axes: Axes

    @classmethod
    def exact(cls, array: NDArray[np.floating], axes: Axes) -> Bounded:
        """Return a stored number, which has no error."""
        value = np.asarray(array, np.float64)
        return cls(value, np.zeros(value.shape), axes)

    @property
    def largest(self) -> Float64Array:
        """The largest size that the computed number can have."""
        return np.abs(self.value) + self.error


ReadBounded = Callable[[str], Bounded]
EXP, LOG = numpy_function("exp"), numpy_function("log")


class Analysis:
    """The error analysis of formulas in a type.

    `sizes` has the length of each axis, `softmaxes` the argument of each name that is a softmax, whose log is computed from it.
    With `wide_numbers`, numbers are Python's until an array is computed with them.
    """

    def __init__(
        self,
        dtype: np.dtype[np.floating],
        sizes: Mapping[str, int],
        softmaxes: Mapping[str, Expression],
        *,
        wide_numbers: bool = False,
    ) -> None:
        self._unit = float(np.finfo(dtype).eps) / 2
        self._unit_of_number = FLOAT64 if wide_numbers else self._unit
        self._number_type = np.dtype(np.float64).type if wide_numbers else np.dtype(dtype).type
        self._tiny = float(np.finfo(dtype).tiny)
        self._sizes, self._softmaxes = sizes, softmaxes

    def gamma(self, n: int, *, of_number: bool = False) -> float:
        """Return γₙ, the error of a sum of n + 1 terms, or of n operations after each other, relative to the sizes of the terms."""
        unit = self._unit_of_number if of_number else self._unit
        return n * unit / (1 - n * unit) if n * unit < 1 else math.inf

    @staticmethod
    def gamma_of_reference(n: int) -> float:
        """Return γₙ of float64, in which the reference is computed."""
        return n * FLOAT64

    def bounded(self, node: Expression, read: ReadBounded) -> Bounded:
        """Return the value of a formula with the bound of its error. `read` is called for every name, and every label, in it."""
        with np.errstate(all="ignore"):
            result = self._inner(node, read)
            error = np.where(np.isnan(result.error), np.inf, result.error)
            # The value itself is computed in float64, with an error that is as much smaller as the type is finer.
            return result._replace(error=error * (1 + FLOAT64 / self._unit))

    def _value(self, node: Expression, read: ReadBounded) -> Bounded:
        return read(node.label) if node.label else self._inner(node, read)

    def _inner(self, node: Expression, read: ReadBounded) -> Bounded:
        match node:
            case e.Name(name=name):
                return read(name)
            case e.Number(value=number):
                return self._rounded(float(number))
            case e.Size(axes=axes):
                return self._rounded(float(math.prod(self._sizes[axis] for axis in axes)))
            case e.Sum(parts=parts):
                return self._sum([self._value(part, read) for part in parts])
            case e.Negative(argument=argument):
                operand = self._value(argument, read)
                return operand._replace(value=-operand.value)
            case e.Times(parts=parts):
                return self._times([self._value(part, read) for part in parts])
            case e.Quotient(left=left, right=right):
                return self._quotient(self._value(left, read), self._value(right, read))
            case e.Power(left=left, right=right):
                return self._power(self._value(left, read), self._value(right, read))
            case e.Product(left=left, right=right):
                return self._product(self._value(left, read), self._value(right, read))
            case e.Transpose(argument=argument):
                value, error, axes = operand = self._value(argument, read)
                if len(axes) == 1:  # a vector, of which an outer product is made
                    return operand
                return Bounded(value.swapaxes(-1, -2), error.swapaxes(-1, -2), (*axes[:-2], axes[-1], axes[-2]))
            case e.Reduce(argument=argument, kind=kind, over=over, all_timesteps=all_timesteps):
                return self._reduced(self._value(argument, read), kind, ("T", "B") if all_timesteps and over == "B" else (over,))
            case e.Join(parts=parts):
                values = [self._value(part, read) for part in parts]
                value, error = (np.concatenate([operand_value[i] for operand_value in values], -1) for i in (0, 1))
                return Bounded(value, error, (*values[0].axes[:-1], "+".join(operand_value.axes[-1] for operand_value in values)))
            case e.Slice(argument=argument, before=before, axes=axes):
                joined = self._value(argument, read)
                start = sum(self._sizes[axis] for axis in before)
                stop = start + sum(self._sizes[axis] for axis in axes)
                return Bounded(joined.value[..., start:stop], joined.error[..., start:stop], (*joined.axes[:-1], "+".join(axes)))
            case e.Activation(argument=argument):
                return self._value(argument, read)
            case e.Spread(argument=argument, axes=axes):
                return self._spread(self._value(argument, read), axes)
            case e.Apply():
                return self._applied(node, read)
        raise TypeError(node)

    def _rounded(self, number: float) -> Bounded:
        return Bounded(np.array(number), np.array(abs(float(self._number_type(number)) - number)), ())

    def _spread(self, operand: Bounded, axes: Axes) -> Bounded:
        shape = tuple(self._sizes[axis] for axis in axes)
        value, error = (np.broadcast_to(_expanded(array, operand.axes, axes), shape) for array in (operand.value, operand.error))
        return Bounded(value, error, axes)

    def _aligned(self, values: Sequence[Bounded]) -> tuple[list[Bounded], Axes]:
        axes = union([operand.axes for operand in values])
        if axes and self._unit_of_number < self._unit:  # a number is rounded to the type of the arrays
            values = [
                operand if operand.axes else operand._replace(error=operand.error + self._unit * operand.largest)
                for operand in values
            ]
        return [
            Bounded(_expanded(operand.value, operand.axes, axes), _expanded(operand.error, operand.axes, axes), axes)
            for operand in values
        ], axes

    def _sum(self, values: Sequence[Bounded]) -> Bounded:
        values, axes = self._aligned(values)
        sizes = reduce(np.add, [operand.largest for operand in values])
        errors = reduce(np.add, [operand.error for operand in values])
        return Bounded(
            reduce(np.add, [operand.value for operand in values]),
            errors + self.gamma(len(values) - 1, of_number=not axes) * sizes,
            axes,
        )

    def _times(self, values: Sequence[Bounded]) -> Bounded:
        values, axes = self._aligned(values)
        value = reduce(np.multiply, [operand.value for operand in values])
        largest = reduce(np.multiply, [operand.largest for operand in values])
        return Bounded(value, largest - np.abs(value) + self.gamma(len(values), of_number=not axes) * largest + self._tiny, axes)

    def _quotient(self, left: Bounded, right: Bounded) -> Bounded:
        (left, right), axes = self._aligned([left, right])
        value, least = left.value / right.value, np.maximum(np.abs(right.value) - right.error, 0)
        error = (left.error + np.abs(value) * right.error + self.gamma(2, of_number=not axes) * left.largest) / least
        return Bounded(value, np.where((left.largest == 0) | np.isinf(right.value), 0, error) + self._tiny, axes)

    def _power(self, left: Bounded, right: Bounded) -> Bounded:
        (left, right), axes = self._aligned([left, right])
        value = left.value**right.value
        away = [np.abs((np.abs(left.value) + sign * left.error) ** right.value - np.abs(value)) for sign in (1, -1)]
        exponent = np.abs(value * LOG(np.abs(left.value))) * right.error
        error = np.maximum(*away) + np.where(right.error == 0, 0, exponent)
        rounding = self.gamma(FUNCTION_ERROR, of_number=not axes) * np.abs(value)
        return Bounded(value, error + rounding + self._tiny, axes)

    def _product(self, left: Bounded, right: Bounded) -> Bounded:
        axes = (*left.axes[:-1], right.axes[-1])
        values = (left.value, left.error, left.largest), (right.value, right.error, right.largest)
        count = left.value.shape[-1]
        if len(left.axes) == len(right.axes) == 1:
            values = tuple(array[:, None] for array in values[0]), tuple(array[None] for array in values[1])  # type: ignore[assignment]
            axes, count = left.axes + right.axes, 1
        elif left.axes[-1] == "B" and "T" in left.axes:  # summed over the rows, and over the timesteps as well
            axes, count = axes[1:], count * left.value.shape[0]
            values = (
                tuple(array.swapaxes(0, 1).reshape(array.shape[1], -1) for array in values[0]),  # type: ignore[assignment]
                tuple(array.reshape(-1, array.shape[-1]) for array in values[1]),
            )
        (a, a_error, a_largest), (b, b_error, b_largest) = values
        error = a_error @ b_largest + np.abs(a) @ b_error + self.gamma(count) * (a_largest @ b_largest) + count * self._tiny
        return Bounded(a @ b, error, axes)

    def _reduced(self, operand: Bounded, kind: str, over: Sequence[str]) -> Bounded:
        at = tuple(operand.axes.index(axis) for axis in over if axis in operand.axes)
        count = math.prod(operand.value.shape[axis] for axis in at)
        value, error, sizes = (array.sum(at) for array in (operand.value, operand.error, operand.largest))
        error = error + self.gamma(count) * sizes
        axes = tuple(axis for axis in operand.axes if axis not in over)
        return Bounded(value / count, error / count, axes) if kind == "mean" else Bounded(value, error, axes)

    def _applied(self, node: e.Apply, read: ReadBounded) -> Bounded:
        function = node.function
        if function == "log" and isinstance(node.argument, e.Name) and node.argument.name in self._softmaxes:
            return self._softmax(self._value(self._softmaxes[node.argument.name], read), of_log=True)
        if (formula := e.formula_of(function, node.parts[0])) is not None:
            return self._inner(formula, read)
        values = [self._value(part, read) for part in node.parts]
        x = values[0]
        match function:
            case "softmax":
                return self._softmax(x, of_log=False)
            case "min" | "max":
                (x, z), axes = self._aligned(values)
                value = np.asarray(np.where((x.value < z.value) == (function == "min"), x.value, z.value), np.float64)
                error = np.where(value == x.value, x.error, z.error)  # of the one that is taken, if that is certain
                uncertain = np.abs(x.value - z.value) <= x.error + z.error
                return Bounded(value, np.where(uncertain, np.maximum(x.error, z.error), error), axes)
            case "positive" | "sign":
                sign = np.asarray(x.value > 0 if function == "positive" else np.sign(x.value), np.float64)
                size = 1 if function == "positive" else 2
                return x._replace(value=sign, error=np.where((np.abs(x.value) <= x.error) & (x.error > 0), size, 0.0))
        row = FUNCTIONS[function]
        compute, others = numpy_function(row.numpy), () if row.second is None else (row.second,)
        value = np.asarray(compute(x.value, *others), np.float64)
        # Twice the error, since the sum itself is rounded. Near an extremum a change could be hidden: the slope is at most 1 there.
        changes = [np.abs(compute(x.value + sign * x.error, *others) - value) for sign in (2, -2)]
        error = x.error if function in ("sin", "cos", "abs") else np.fmax(*changes)
        rounding = self.gamma(FUNCTION_ERROR, of_number=not x.axes) * np.abs(value)
        return Bounded(value, np.where(x.error == 0, 0, error) + rounding + self._tiny, x.axes)

    def _softmax(self, x: Bounded, *, of_log: bool) -> Bounded:
        """Return the bound of exp(x − max) / Σ exp(x − max), or of its log."""
        shifted = x.value - x.value.max(-1, keepdims=True)
        powers = EXP(shifted)
        total = powers.sum(-1, keepdims=True)
        of_shifted = x.error + x.error.max(-1, keepdims=True) + self._unit * np.abs(shifted)  # of the shifted numbers
        of_power = np.expm1(of_shifted) + self.gamma(FUNCTION_ERROR)
        of_total = (powers * of_power).sum(-1, keepdims=True) / total + self.gamma(x.value.shape[-1])
        if of_log:
            log = LOG(total)
            error = of_shifted + of_total + self.gamma(FUNCTION_ERROR) * np.abs(log) + self.gamma(2) * (np.abs(shifted) + log)
            return Bounded(shifted - log, error, x.axes)
        value = powers / total
        return Bounded(value, value * ((1 + of_power) * (1 + of_total) - 1 + self.gamma(2)) + self._tiny, x.axes)


def _expanded(array: Float64Array, own_axes: Axes, axes: Axes) -> Float64Array:
    """Return an array with axes of length 1 for the axes that it lacks."""
    if own_axes == axes[len(axes) - len(own_axes) :]:
        return array
    return array[tuple(slice(None) if axis in own_axes else None for axis in axes)]
