"""A formula's value at one entry, or along one row or column of it, from the numbers that were computed.

What is recorded under a name of its own is read, never computed again; what is not (a product with a one-hot row, a
timestep's share of a gradient) is computed in float64 from what is recorded.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tui_gru.debugger.formula import (
    Apply,
    Difference,
    Formula,
    Name,
    Number,
    Product,
    Quotient,
    Reduce,
    Sum,
    Times,
    Transpose,
)  # fmt: skip
from tui_gru.debugger.moment import Moment
from tui_gru.engine.record import PART_NAMES

Index = tuple[Any, ...]  # of whole numbers and slices, one for each axis
EVERY = slice(None)


class Numbers:
    """The numbers of one moment, as a line executed for timestep `t` reads them."""

    def __init__(self, moment: Moment, t: int) -> None:
        self.moment, self.program, self.t = moment, moment.program, t
        self._config = moment.program.config

    def read(self, name: str, t: int | None = None) -> Any:
        """What a name stands for, in the dtype it was computed in: (B, ·), (·), or a number."""
        if name in PART_NAMES:
            return self.moment.record.array(name)[self.t]
        return self.moment.value(name, self.t if t is None else t)

    def entry(self, name: str, index: Index, t: int | None = None) -> float:
        """One entry of a name, exactly. A bias has no rows, whatever index it stands in."""
        array = np.asarray(self.read(name, t))
        return float(array[index[len(index) - array.ndim :]])

    def part(self, node: Formula) -> str | None:
        """The name under which a part of a line is recorded, None for one that is not."""
        return self.program.parts.get(node)

    def constant(self, node: Number) -> float:
        """A constant as a number: the sizes of the model in place of their letters."""
        if node.value == "(B·T)":
            return float(self._config.batch_size * self._config.seq_length)
        return float(node.value)

    def inner(self, product: Product) -> int:
        """Over how many terms a matrix product sums."""
        return self.shape(product.right)[0]

    def shape(self, node: Formula) -> tuple[int, ...]:
        """The shape of a formula's value."""
        match node:
            case Name(name):
                return np.shape(self.read(name))
            case Transpose(argument):
                return self.shape(argument)[::-1]
            case Product(left, right):
                return (self.shape(left)[0], self.shape(right)[1])
            case Reduce(argument=argument, over=over):
                return self.shape(argument)[1:] if over == "the rows" else self.shape(argument)[:-1]
            case _:
                return max((self.shape(child) for child in node.children), key=len, default=())

    def value(self, node: Formula, index: Index) -> Any:
        """A formula's value at `index`, float64: recorded where it is, else computed from its parts."""
        name = self.part(node)
        if name is not None:
            return self._at(np.asarray(self.read(name)), index)
        match node:
            case Name(name):
                return self._at(np.asarray(self.read(name)), index)
            case Number():
                return self.constant(node)
            case Transpose(argument):
                return np.transpose(self.value(argument, index[::-1]))
            case Product(left, right):
                return self.value(left, (index[0], EVERY)) @ self.value(right, (EVERY, index[1]))
            case Times(left, right):
                return self.value(left, index) * self.value(right, index)
            case Quotient(left, right):
                return self.value(left, index) / self.value(right, index)
            case Difference(left, right):
                return self.value(left, index) - self.value(right, index)
            case Sum(parts):
                return sum(self.value(part, index) for part in parts)
            case Reduce():
                return self._reduced(node, index)
            case Apply():
                return self._applied(node, index)
        raise TypeError(node)

    def _at(self, array: Any, index: Index) -> Any:
        value = array[index[len(index) - array.ndim :]]
        return np.asarray(value, np.float64) if isinstance(value, np.ndarray) else float(value)

    def _reduced(self, node: Reduce, index: Index) -> Any:
        if node.over == "the timesteps":
            assert isinstance(node.argument, Name)
            terms = np.array([self.read(node.argument.name, t) for t in range(self.program.seq_length)], np.float64)
        else:
            terms = np.asarray(self.value(node.argument, (EVERY, *index) if node.over == "the rows" else (*index, EVERY)))
        axis = 0 if node.over == "the rows" else -1
        return node.sign * (terms.sum(axis) if node.kind == "sum" else terms.mean(axis))

    def _applied(self, node: Apply, index: Index) -> Any:
        if node.function == "softmax":
            logits = np.asarray(self.value(node.argument, (index[0], EVERY)))
            powers = np.exp(logits - logits.max())
            return (powers / powers.sum())[index[1]]
        a = np.asarray(self.value(node.argument, index))
        with np.errstate(all="ignore"):
            return {"sigmoid": lambda: 1 / (1 + np.exp(-a)), "tanh": lambda: np.tanh(a), "log": lambda: np.log(a)}[node.function]()
