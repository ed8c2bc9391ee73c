"""Evaluation of formulas in PyTorch, on tensors with named axes, so that operands with fewer axes broadcast correctly.

The axis N, always the first, counts copies of a batch that differ in a few numbers; a value without it is the same in all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from tui_gru.equations import expression as e
from tui_gru.equations.axes import Axes, union
from tui_gru.equations.expression import Expression

if TYPE_CHECKING:
    from torch import Tensor

COPIES = "N"


class Value(NamedTuple):
    """A tensor and its axes."""

    tensor: Tensor
    axes: Axes

    @property
    def has_copies(self) -> bool:
        """True if the value has an axis of copies."""
        return self.axes[:1] == (COPIES,)

    def at(self, t: int) -> Value:
        """Return the value at one timestep; the value itself if it has no axis T."""
        if "T" not in self.axes:
            return self
        return Value(self.tensor.select(self.axes.index("T"), t), tuple(axis for axis in self.axes if axis != "T"))

    def in_copies(self, count: int) -> Value:
        """Return the value repeated for each copy, in new memory."""
        tensor = self.tensor if self.has_copies else self.tensor.expand(count, *self.tensor.shape)
        return Value(tensor.clone(), self.axes if self.has_copies else (COPIES, *self.axes))


Read = Callable[[str], Value]
KeepValue = Callable[[Expression, Value, bool], Value]  # the bool says whether it is the argument of a function


def evaluated(node: Expression, read: Read, softmaxes: Mapping[str, Expression], keep: KeepValue | None = None) -> Value:
    """Return the value of a formula.

    `read` is called for every name in it, from left to right. `softmaxes` has the argument of each name that is a softmax; the log
    of a softmax is computed from that argument, so that it stays finite where the softmax is 0. `keep` receives the value of every
    operation, operands first, then that of every argument of a function, and returns the value to continue with.
    """

    def value(part: Expression) -> Value:
        return evaluated(part, read, softmaxes, keep)

    def argument(part: Expression) -> Value:
        return value(part) if keep is None else keep(part, value(part), True)

    found = _applied(node, read, softmaxes, value, argument)
    return found if keep is None or isinstance(node, e.Name) else keep(node, found, False)


def _applied(
    node: Expression,
    read: Read,
    softmaxes: Mapping[str, Expression],
    value: Callable[[Expression], Value],
    argument_of: Callable[[Expression], Value],
) -> Value:
    match node:
        case e.Name(name=name):
            return read(name)
        case e.Number(value=number):
            return _number(float(number))
        case e.Sum(parts=parts):
            values = list(map(value, parts))
            return _elementwise(lambda *tensors: sum(tensors[1:], tensors[0]), values)
        case e.Negative(argument=argument):
            return _elementwise(lambda a: -a, [value(argument)])
        case e.Times(parts=parts):
            return _elementwise(_multiplied, list(map(value, parts)))
        case e.Quotient(left=left, right=right):
            return _elementwise(lambda a, b: a / b, [value(left), value(right)])
        case e.Power(left=left, right=right):
            return _elementwise(lambda a, b: a**b, [value(left), value(right)])
        case e.Product(left=left, right=right):
            return _product(value(left), value(right))
        case e.Transpose(argument=argument):
            tensor, axes = value(argument)
            return Value(tensor.mT, (*axes[:-2], axes[-1], axes[-2]))
        case e.Reduce(argument=argument, kind=kind, over=over):
            tensor, axes = value(argument)
            at = axes.index(over)
            return Value(tensor.sum(at) if kind == "sum" else tensor.mean(at), (*axes[:at], *axes[at + 1 :]))
        case e.Join(parts=parts):
            return _joined(list(map(value, parts)))
        case e.Apply(function="log", parts=(e.Name(name=name),)) if name in softmaxes:
            tensor, axes = argument_of(softmaxes[name])
            return Value(tensor.log_softmax(-1), axes)
        case e.Apply(function=function, parts=parts):
            return _elementwise(_functions()[function], list(map(value if function == "log" else argument_of, parts)))
    raise TypeError(node)


def stacked(values: Sequence[Value]) -> Value:
    """Return the values of all timesteps stacked, with the axis T after the axis of copies."""
    import torch

    if (count := next((value.tensor.shape[0] for value in values if value.has_copies), None)) is None:
        return Value(torch.stack([value.tensor for value in values]), ("T", *values[0].axes))
    values = [value if value.has_copies else value.in_copies(count) for value in values]
    return Value(torch.stack([value.tensor for value in values], 1), (COPIES, "T", *values[0].axes[1:]))


def _number(number: float) -> Value:
    import torch

    return Value(torch.tensor(number, dtype=torch.float64), ())


def _elementwise(function: Callable[..., Tensor], values: Sequence[Value]) -> Value:
    """Return an elementwise function of operands, each aligned with its axes in the result."""
    own = union([tuple(axis for axis in value.axes if axis != COPIES) for value in values])
    axes = (COPIES, *own) if any(value.has_copies for value in values) else own
    return Value(function(*(_along(value, axes) for value in values)), axes)


def _along(value: Value, axes: Axes) -> Tensor:
    tensor, own = value
    if own == axes[len(axes) - len(own) :]:
        return tensor
    assert own == tuple(axis for axis in axes if axis in own), f"{own} does not lie along {axes}"
    return tensor[tuple(slice(None) if axis in own else None for axis in axes)]


def _multiplied(first: Tensor, *others: Tensor) -> Tensor:
    for other in others:
        first = first * other
    return first


def _product(left: Value, right: Value) -> Value:
    axes = (*left.axes[:-1], right.axes[-1])
    if not right.has_copies:
        return Value(left.tensor @ right.tensor, axes)
    rows = left.tensor.shape[left.has_copies : -1]
    flat = left.tensor.reshape(left.tensor.shape[0] if left.has_copies else 1, -1, left.tensor.shape[-1])
    product = flat @ right.tensor
    return Value(product.reshape(product.shape[0], *rows, product.shape[-1]), axes if left.has_copies else (COPIES, *axes))


def _joined(values: Sequence[Value]) -> Value:
    import torch

    if (count := next((value.tensor.shape[0] for value in values if value.has_copies), None)) is not None:
        values = [value if value.has_copies else value.in_copies(count) for value in values]
    axes = *values[0].axes[:-1], "+".join(value.axes[-1] for value in values)
    return Value(torch.cat([value.tensor for value in values], -1), axes)


@cache
def _functions() -> Mapping[str, Callable[..., Tensor]]:
    import torch

    return {
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "relu": torch.relu,
        # Its derivative is 0 where it clips and at both limits.
        "clamp": lambda a: torch.where((a > 0) & (a < 1), a, a.detach().clamp(0, 1)),
        "softmax": lambda a: a.softmax(-1),
        "log": torch.log,
        "exp": torch.exp,
        "sqrt": torch.sqrt,
        "min": torch.minimum,
        "max": torch.maximum,
        "positive": lambda a: (a > 0).double(),
        "within": lambda a: ((a > 0) & (a < 1)).double(),
    }
