"""Expressions: small immutable trees. A part of a line that is recorded has a label, `σ(az: x Wz + h_prev Uz + bz)`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction

from tui_gru.equations.errors import Span


@dataclass(frozen=True)
class Expression:
    """A node. `label` is the name under which its value is recorded, empty if it is not; `span` is its place in a file."""

    label: str = field(default="", kw_only=True)
    span: Span | None = field(default=None, kw_only=True, compare=False, repr=False)

    @property
    def children(self) -> tuple[Expression, ...]:
        """The nodes under it, from left to right."""
        return ()

    def with_children(self, children: tuple[Expression, ...]) -> Expression:
        """The same node over other children."""
        return self

    @property
    def terms(self) -> tuple[Expression, ...]:
        """The terms that it is the sum of: itself, unless it is a sum."""
        return (self,)

    def walk(self) -> Iterator[Expression]:
        """The node and every node under it."""
        yield self
        for child in self.children:
            yield from child.walk()

    def names(self) -> Iterator[str]:
        """Every name that it reads, from left to right, as often as it is read."""
        for child in self.children:
            yield from child.names()

    def labelled(self, label: str) -> Expression:
        """The same node, recorded under `label`."""
        return self if self.label == label else replace(self, label=label)


@dataclass(frozen=True)
class Name(Expression):
    """A value, a state, a parameter or a setting by its name."""

    name: str

    def names(self) -> Iterator[str]:
        yield self.name


@dataclass(frozen=True)
class Number(Expression):
    """A constant, exact."""

    value: Fraction


@dataclass(frozen=True)
class Size(Expression):
    """The number of entries along some axes together: `(B·T)`."""

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
    """A sum; a term that is subtracted is a `Negative`."""

    @property
    def terms(self) -> tuple[Expression, ...]:
        return self.parts


class Times(_Many):
    """A product element by element, or of numbers and matrices."""


class Join(_Many):
    """Matrices beside each other: the units of the one behind those of the other."""


@dataclass(frozen=True)
class _One(Expression):
    argument: Expression

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.argument,)

    def with_children(self, children: tuple[Expression, ...]) -> Expression:
        return replace(self, argument=children[0])


class Negative(_One):
    """Its argument with the other sign."""


class Transpose(_One):
    """A matrix with rows and columns exchanged."""


@dataclass(frozen=True)
class Slice(_One):
    """Part of what was joined: the columns behind those of the axes `before`, as many as `axes` has."""

    before: tuple[str, ...]
    axes: tuple[str, ...]


@dataclass(frozen=True)
class Reduce(_One):
    """A sum or mean along one axis; `all_timesteps`: a sum over the rows to which all timesteps add."""

    kind: str
    over: str
    all_timesteps: bool = False


@dataclass(frozen=True)
class Spread(_One):
    """A value that is the same along some of the axes it has here; it is written as it is without them."""

    axes: tuple[str, ...]


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
    """A matrix product."""


class Quotient(_Two):
    """A quotient element by element."""


class Power(_Two):
    """A number to the power of another."""


@dataclass(frozen=True)
class Apply(_Many):
    """A function of every element (sigmoid, tanh, log, …), or of every row (softmax)."""

    function: str = ""

    @property
    def argument(self) -> Expression:
        """The argument of a function that has one."""
        return self.parts[0]


def apply(function: str, *arguments: Expression) -> Apply:
    """A function of its arguments."""
    return Apply(arguments, function)


def number(value: int | str | Fraction) -> Number:
    """A constant; a text such as `1e-8` is taken exactly."""
    return Number(Fraction(value))


ONE = number(1)


def total(parts: tuple[Expression, ...]) -> Expression:
    """The sum of one part or of several."""
    return parts[0] if len(parts) == 1 else Sum(parts)


def product(factors: tuple[Expression, ...]) -> Expression:
    """The product element by element of one factor or of several."""
    return factors[0] if len(factors) == 1 else Times(factors)


def transpose(node: Expression) -> Expression:
    """A matrix transposed; of a transpose, the matrix itself."""
    return node.argument if isinstance(node, Transpose) and not node.label else Transpose(node)


def unlabelled(node: Expression) -> Expression:
    """The same tree without any labels, so that nothing in it is recorded."""
    return plain(node).with_children(tuple(map(unlabelled, node.children))) if node.children else plain(node)


def plain(node: Expression) -> Expression:
    """The same node without its own label; its parts keep theirs."""
    return replace(node, label="") if node.label else node
