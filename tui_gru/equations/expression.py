"""Expressions as small immutable trees, and the functions in them. A recorded part of a line has a label, as in
`σ(az: x Wz + h_prev Uz + bz)`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import NamedTuple

from tui_gru.equations.errors import SourceSpan


@dataclass(frozen=True)
class Expression:
    """A node of an expression. `label` is the name under which its value is recorded, empty if it is not recorded; `span` is its
    place in a file."""

    label: str = field(default="", kw_only=True)
    span: SourceSpan | None = field(default=None, kw_only=True, compare=False, repr=False)

    @property
    def children(self) -> tuple[Expression, ...]:
        """The child nodes, from left to right."""
        return ()

    def with_children(self, children: tuple[Expression, ...]) -> Expression:
        """Return the same node with other children."""
        return self

    @property
    def terms(self) -> tuple[Expression, ...]:
        """The terms of a sum; for any other node, the node itself."""
        return (self,)

    def walk(self) -> Iterator[Expression]:
        """Yield the node and every node under it."""
        yield self
        for child in self.children:
            yield from child.walk()

    def names(self) -> Iterator[str]:
        """Yield every name in it, from left to right, with repetitions."""
        for child in self.children:
            yield from child.names()

    def labelled(self, label: str) -> Expression:
        """Return the same node, recorded under `label`."""
        return self if self.label == label else replace(self, label=label)


@dataclass(frozen=True)
class Name(Expression):
    """A reference to a value, a state, a parameter or a setting."""

    name: str

    def names(self) -> Iterator[str]:
        yield self.name


@dataclass(frozen=True)
class Number(Expression):
    """An exact constant."""

    value: Fraction


@dataclass(frozen=True)
class Size(Expression):
    """The product of the sizes of some axes: `(B·T)`."""

    axes: tuple[str, ...]


@dataclass(frozen=True)
class _Many(Expression):
    parts: tuple[Expression, ...]

    @property
    def children(self) -> tuple[Expression, ...]:
        return self.parts

    def with_children(self, children: tuple[Expression, ...]) -> Expression:
        return replace(self, parts=children)


class Sum(_Many):
    """A sum. A subtracted term is a `Negative`."""

    @property
    def terms(self) -> tuple[Expression, ...]:
        return self.parts


class Times(_Many):
    """An elementwise product; a factor may also be a number."""


class Join(_Many):
    """Matrices joined along their last axis."""


@dataclass(frozen=True)
class _One(Expression):
    argument: Expression

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.argument,)

    def with_children(self, children: tuple[Expression, ...]) -> Expression:
        return replace(self, argument=children[0])


class Negative(_One):
    """A negated expression."""


class Transpose(_One):
    """A transposed matrix."""


@dataclass(frozen=True)
class Slice(_One):
    """A part of joined columns: those of the axes `axes`, which come after those of the axes `before`."""

    before: tuple[str, ...]
    axes: tuple[str, ...]


@dataclass(frozen=True)
class Reduce(_One):
    """A sum or mean along one axis. With `all_timesteps` it also sums over the timesteps, which is not written: a gradient is
    written as the contribution of one timestep."""

    kind: str
    over: str
    all_timesteps: bool = False


@dataclass(frozen=True)
class Spread(_One):
    """A value broadcast to more axes. The text of the formula does not show the broadcast."""

    axes: tuple[str, ...]


@dataclass(frozen=True)
class Activation(Spread):
    """A part of a forward line that reads weights and has no name, as the backward pass reads it: with the value that the forward
    pass computed. `axes` are its own axes."""


@dataclass(frozen=True)
class _Two(Expression):
    left: Expression
    right: Expression

    @property
    def children(self) -> tuple[Expression, ...]:
        return self.left, self.right

    def with_children(self, children: tuple[Expression, ...]) -> Expression:
        return replace(self, left=children[0], right=children[1])


class Product(_Two):
    """A matrix product of two expressions."""


class Quotient(_Two):
    """An elementwise quotient."""


class Power(_Two):
    """A number to the power of another."""


@dataclass(frozen=True)
class Apply(_Many):
    """A function applied to every element (sigmoid, tanh, log, …) or to every row (softmax)."""

    function: str = ""

    @property
    def argument(self) -> Expression:
        """The argument of a function that has one argument."""
        return self.parts[0]


def is_unwritten(node: Expression) -> bool:
    """Return True for the sum over the timesteps that `+=` stands for."""
    return isinstance(node, Reduce) and node.over == "T" and node.all_timesteps


def apply(function: str, *arguments: Expression) -> Apply:
    """Return a function applied to its arguments."""
    return Apply(arguments, function)


def number(value: int | str | Fraction) -> Number:
    """Return a constant; a text such as `1e-8` is converted exactly."""
    return Number(Fraction(value))


ONE = number(1)


def product(factors: tuple[Expression, ...]) -> Expression:
    """Return the elementwise product of one or more factors."""
    return factors[0] if len(factors) == 1 else Times(factors)


def transpose(node: Expression) -> Expression:
    """Return the transpose of a matrix; for a transpose, the matrix itself."""
    return node.argument if isinstance(node, Transpose) and not node.label else Transpose(node)


def unlabelled(node: Expression) -> Expression:
    """Return the same tree without labels."""
    return plain(node).with_children(tuple(map(unlabelled, node.children))) if node.children else plain(node)


def written_out(node: Expression, parts: Mapping[str, Expression]) -> Expression:
    """Return the same tree without labels, and with each of `parts`, by label, in the place of its name."""
    if isinstance(node, Name) and node.name in parts:
        node = parts[node.name]
    return plain(node).with_children(tuple(written_out(child, parts) for child in node.children)) if node.children else plain(node)


def plain(node: Expression) -> Expression:
    """Return the same node without its label; its children keep their labels."""
    return replace(node, label="") if node.label else node


class Function(NamedTuple):
    """The spelling of a function on screen and in LaTeX, and its number of arguments."""

    text: str
    latex: str
    arity: int = 1


FUNCTIONS = {
    "sigmoid": Function("σ", r"\sigma"),
    "tanh": Function("tanh", r"\tanh"),
    "relu": Function("relu", r"\operatorname{relu}"),
    "clamp": Function("clamp", r"\operatorname{clamp}"),  # clips to the interval from 0 to 1
    "softmax": Function("softmax", r"\mathrm{softmax}"),
    "log": Function("log", r"\log"),
    "exp": Function("exp", r"\exp"),
    "sqrt": Function("sqrt", r"\sqrt"),
    "min": Function("min", r"\min", 2),
    "max": Function("max", r"\max", 2),
    # Indicators, used in derived lines: 1 where the argument is > 0, and 1 where it is between 0 and 1; otherwise 0.
    "positive": Function("positive", r"\operatorname{positive}"),
    "within": Function("within", r"\operatorname{within}"),
}
WRITTEN = {function.text: name for name, function in FUNCTIONS.items()} | {name: name for name in FUNCTIONS}
