"""The value of an expression at one entry, or along one row or column, from recorded numbers.

Recorded values are read, never recomputed. Values that are not recorded (a product with a one-hot row, the contribution of a
timestep to a gradient) are computed in float64 from recorded ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from tui_gru.debugger.program.names import ValueKind
from tui_gru.debugger.timeline.moment import Moment
from tui_gru.engine.compiling.update import GRADIENTS, UPDATES
from tui_gru.engine.running.weights import Array
from tui_gru.equations import expression as e
from tui_gru.equations.axes import Axes, axes_of
from tui_gru.equations.expression import Expression, Name

AnyIndex = tuple[Any, ...]  # of whole numbers and slices, one for each axis
EVERY = slice(None)

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "tanh": np.tanh,
    "log": np.log,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "relu": lambda a: np.maximum(a, 0),
    "clamp": lambda a: np.clip(a, 0, 1),
    "positive": lambda a: np.where(a > 0, 1.0, 0.0),
    "within": lambda a: np.where((a > 0) & (a < 1), 1.0, 0.0),
    "min": np.minimum,
    "max": np.maximum,
}


class MomentNumbers:
    """The numbers of one moment, as read by a line executed for timestep `t`."""

    def __init__(self, moment: Moment, t: int) -> None:
        self.moment, self.program, self.t = moment, moment.program, t

    def read(self, name: str, t: int | None = None) -> Any:
        """Return the value of a name at the timestep, in its own dtype: (B, ·), (·), or a number.

        Settings are returned unchanged.
        """
        if name in self.program.model.rule.settings:
            return self.moment.record.settings[name]
        if name == UPDATES:
            return self.moment.record.before.updates + 1
        if name == GRADIENTS:  # of all parameters: their norms, whose squares sum to the square of the whole norm
            return self._norms
        value = self.moment.value(name, self.t if t is None else t)
        if value is None and self.program.names[name].kind is ValueKind.INPUT:  # in a sum over the timesteps, before its own begins
            value = self.moment.record.array(name)[self.t if t is None else t]
        return value

    @cached_property
    def _norms(self) -> Array:
        """The norm of the gradient of each parameter, float64, (parameters)."""
        gradients = self.moment.record.own_gradients
        return np.array([np.sqrt(np.sum(np.square(gradient, dtype=np.float64))) for _, gradient in gradients.items()])

    def recorded(self, name: str) -> Any:
        """Return a recorded part at the timestep, even if its line has not been executed yet."""
        array = self.moment.record.array(name)
        return array[self.t] if self.program.names[name].timed else array

    def entry(self, name: str, index: AnyIndex, t: int | None = None) -> float:
        """Return one entry of a name, exact."""
        return float(np.asarray(self.read(name, t))[index])

    def is_one_hot(self, name: str) -> bool:
        """Return True if a name is a one-hot input, so that a product with it picks rows."""
        given = self.program.model.page.inputs.get(name)
        return given is not None and given.one_hot

    def size(self, axis: str) -> int:
        """Return the size of an axis."""
        return len(self.program.parameters) if axis == "P" else self.program.config.compiled.sizes[axis]

    def axes(self, node: Expression) -> Axes:
        """Return the axes of an expression's value at one timestep."""

        def named(name: str) -> Axes:
            known = self.program.names.get(name)
            return ("P",) if name == GRADIENTS else () if known is None else known.axes

        return tuple(axis for axis in axes_of(node, named) if axis != "T")

    def is_vector(self, node: Expression) -> bool:
        """Return True if an expression has one axis at one timestep, so that its transpose times a vector is no sum."""
        return len(self.axes(node)) == 1

    def shape(self, node: Expression) -> tuple[int, ...]:
        """Return the shape of an expression's value at one timestep."""
        return tuple(map(self.size, self.axes(node)))

    def index_of(self, child: Expression, node: Expression, index: AnyIndex) -> AnyIndex:
        """Return the index of an operand of an elementwise operation, which can lack axes: a bias has no rows, a mask no units."""
        own, every = self.axes(child), self.axes(node)
        return index if own == every else tuple(index[every.index(axis)] for axis in own)

    def value(self, node: Expression, index: AnyIndex) -> Any:
        """Return the value of an expression at `index`, in float64: recorded, or else computed from its parts.

        `index` has an entry or a slice for each axis.
        """
        if node.label:
            return self._at(self.recorded(node.label), index)
        match node:
            case Name(name=name):
                return self._at(self.read(name), index)
            case e.Number(value=value):
                return float(value)
            case e.Size(axes=axes):
                return float(math.prod(map(self.size, axes)))
            case e.Transpose(argument=argument):
                return np.transpose(self.value(argument, index[::-1]))
            case e.Product(left=e.Transpose(argument=left), right=right) if self.is_vector(left):
                return np.multiply.outer(self.value(left, index[:1]), self.value(right, index[1:]))
            case e.Product(left=left, right=right):
                return self.value(left, (*index[:-1], EVERY)) @ self.value(right, (EVERY, index[-1]))
            case e.Negative(argument=argument):
                return -self.value(argument, index)
            case e.Reduce():
                return self._reduced(node, index)
            case e.Join(parts=parts):
                every = np.concatenate([self.value(part, (*index[:-1], EVERY)) for part in parts], axis=-1)
                return every[..., index[-1]]
            case e.Slice(argument=argument, before=before, axes=axes):
                start = sum(map(self.size, before))
                whole = self.value(argument, (*index[:-1], EVERY))
                return whole[..., start : start + sum(map(self.size, axes))][..., index[-1]]
            case e.Activation(argument=argument):
                return self.value(argument, index) if argument.label else self._at(self._activation(argument), index)
            case e.Apply(function="softmax", parts=(argument,)):  # of each row
                logits = np.asarray(self.value(argument, (*index[:-1], EVERY)))
                powers = np.exp(logits - logits.max(-1, keepdims=True))
                return (powers / powers.sum(-1, keepdims=True))[..., index[-1]]
        values = [self.value(child, self.index_of(child, node, index)) for child in node.children]
        if any(isinstance(i, slice) for i in index):
            values = self._aligned(node, values, index)
            if isinstance(node, e.Spread):
                return np.broadcast_to(values[0], [n for n, i in zip(self.shape(node), index, strict=True) if isinstance(i, slice)])
        with np.errstate(all="ignore"):
            return self._combined(node, values)

    @staticmethod
    def _combined(node: Expression, values: list[Any]) -> Any:
        match node:
            case e.Spread():
                return values[0]
            case e.Sum():
                return sum(values[1:], values[0])
            case e.Times():
                return math.prod(values)
            case e.Quotient():
                return np.float64(values[0]) / values[1]
            case e.Power():
                return np.float64(values[0]) ** values[1]
            case e.Apply(function=function):
                return _FUNCTIONS[function](*map(np.asarray, values))
        raise TypeError(node)

    def _aligned(self, node: Expression, values: list[Any], index: AnyIndex) -> list[Any]:
        """Return values of operands with axes of length 1 inserted for the axes of the result that they lack."""
        every = self.axes(node)
        kept = [axis for axis, i in zip(every, index, strict=True) if isinstance(i, slice)]
        found = []
        for child, value in zip(node.children, values, strict=True):
            own = self.axes(child)
            form = tuple(slice(None) if axis in own else np.newaxis for axis in kept)
            found.append(np.asarray(value)[form] if np.ndim(value) else value)
        return found

    def _at(self, value: Any, index: AnyIndex) -> Any:
        found = np.asarray(value)[index]
        return np.asarray(found, np.float64) if isinstance(found, np.ndarray) else float(found)

    def _reduced(self, node: e.Reduce, index: AnyIndex) -> Any:
        if e.is_unwritten(node):
            return self.value(node.argument, index)
        if node.over == "T":
            terms = np.array([MomentNumbers(self.moment, t).value(node.argument, index) for t in range(self.program.seq_length)])
            axis = 0
        else:
            at = self.axes(node.argument).index(node.over)
            terms = np.asarray(self.value(node.argument, (*index[:at], EVERY, *index[at:])))
            axis = sum(isinstance(i, slice) for i in index[:at])
        return terms.sum(axis) if node.kind == "sum" else terms.mean(axis)

    def _activation(self, part: Expression) -> Any:
        """Return the stored value of a part of a forward line that has no name."""
        operation = self.program.config.compiled.schedule.activation(part)
        array = self.moment.record.slot(operation.memory, operation.half)
        return array[self.t] if operation.timed else array
