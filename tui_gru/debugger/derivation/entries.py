"""Expands one entry of an expression into terms: the entries of its parts, and how they are combined.

Derivations turn the terms into nodes, the panel of the current line turns them into text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tui_gru.debugger.derivation.evaluation import AnyIndex, MomentNumbers
from tui_gru.equations import expression as e
from tui_gru.equations.expression import Expression, Name
from tui_gru.equations.writing import over_words


class Factor(NamedTuple):
    """One entry of a part of a line; `sign` is its sign in a sum; `t` (0-based) is its timestep if it is not the line's."""

    formula: Expression
    at: AnyIndex
    sign: int = 1
    t: int | None = None


FactorTerm = tuple[Factor, ...]  # a product of factors


class Terms(NamedTuple):
    """The terms of one entry: `size` of them, created on demand by `term(k)`, combined by `kind`, times `scale`.

    The kinds are sum, product, quotient, power, copy (of the picked row), given (a constant), and the functions, applied to the
    sum of the terms; softmax has a term per character. `over` names the axis of a sum along an axis.
    """

    kind: str
    size: int = 0
    term: Callable[[int], FactorTerm] = lambda k: ()
    over: str = ""
    scale: float = 1.0


def terms_of(node: Expression, index: AnyIndex, numbers: MomentNumbers) -> Terms:
    """Return the terms of entry `index` of an expression.

    `numbers` gives the characters that rows read, and the lengths of sums.
    """
    match node:
        case e.Sum(parts=parts):
            return _listed("sum", *(signed(part, node, index, numbers) for part in parts))
        case e.Negative(argument=e.Reduce() as inner) if not e.is_unwritten(inner):
            made = _reduced(inner, index, numbers)
            return made._replace(scale=-made.scale)
        case e.Negative(argument=argument):
            return Terms("sum", 1, lambda k: (Factor(argument, index),), scale=-1.0)
        case e.Times(parts=parts):
            return _listed("product", *(Factor(part, numbers.index_of(part, node, index)) for part in parts))
        case e.Quotient(left=left, right=right):
            return _listed("quotient", *(Factor(part, numbers.index_of(part, node, index)) for part in (left, right)))
        case e.Power(left=left, right=right):
            return _listed("power", *(Factor(part, numbers.index_of(part, node, index)) for part in (left, right)))
        case e.Product(left=Name(name=name), right=right) if numbers.is_one_hot(name):
            return _listed("copy", Factor(right, (int(numbers.read(name)[index[0]].argmax()), index[1])))
        case e.Product(left=e.Transpose(argument=Name(name=name)), right=right) if numbers.is_one_hot(name):
            rows = [int(row) for row in np.flatnonzero(numbers.read(name)[:, index[0]])]
            return Terms("sum", len(rows), lambda k: (Factor(right, (rows[k], index[1])),), "rows that read it")
        case e.Product(left=e.Transpose(argument=left), right=right) if numbers.is_vector(left):
            return _listed("product", Factor(left, index[:1]), Factor(right, index[1:]))
        case e.Product(left=left, right=right):
            count = numbers.shape(right)[0]
            return Terms("sum", count, lambda k: (Factor(left, (*index[:-1], k)), Factor(right, (k, index[-1]))), "an axis")
        case e.Transpose(argument=argument):
            return terms_of(argument, index[::-1], numbers)
        case e.Spread(argument=argument):
            return terms_of(argument, numbers.index_of(argument, node, index), numbers)
        case e.Join(parts=parts):
            return _listed("copy", _joined(parts, index, numbers))
        case e.Slice(argument=argument, before=before):
            start = sum(numbers.size(axis) for axis in before)
            return _listed("copy", Factor(argument, (*index[:-1], index[-1] + start)))
        case e.Apply(function="softmax", parts=(argument,)):
            over = over_words(numbers.axes(argument)[-1])
            return Terms("softmax", numbers.shape(argument)[-1], lambda k: (Factor(argument, (*index[:-1], k)),), over)
        case e.Apply(function=("min" | "max") as function, parts=parts):
            return _listed(function, *(Factor(part, numbers.index_of(part, node, index)) for part in parts))
        case e.Apply(function=function, parts=(argument,)):
            return _listed(function, *(signed(part, node, index, numbers) for part in argument.terms))
        case e.Reduce():
            return _reduced(node, index, numbers)
        case e.Number() | e.Size():
            return Terms("given")
        case Name():
            return _listed("copy", Factor(node, index))
    raise TypeError(node)


def signed(part: Expression, node: Expression, index: AnyIndex, numbers: MomentNumbers) -> Factor:
    """Return the entry of a term of a sum, which can lack axes of the sum `node`, with its sign."""
    at = numbers.index_of(part, node, index)
    return Factor(part.argument, at, -1) if isinstance(part, e.Negative) and not part.label else Factor(part, at)


def _listed(kind: str, *parts: Factor) -> Terms:
    return Terms(kind, len(parts), lambda k: (parts[k],))


def _joined(parts: tuple[Expression, ...], index: AnyIndex, numbers: MomentNumbers) -> Factor:
    """Return the entry of the joined part that contains a column."""
    column = index[-1]
    for part in parts:
        width = numbers.shape(part)[-1]
        if column < width:
            return Factor(part, (*index[:-1], column))
        column -= width
    raise IndexError(index)


def _reduced(node: e.Reduce, index: AnyIndex, numbers: MomentNumbers) -> Terms:
    argument, over = node.argument, node.over
    if e.is_unwritten(node):
        return terms_of(argument, index, numbers)
    at = 0 if over == "T" else numbers.axes(argument).index(over)
    count = numbers.program.seq_length if over == "T" else numbers.shape(argument)[at]

    def term(k: int) -> FactorTerm:
        if over == "T":
            return (Factor(argument, index, t=k),)
        return (Factor(argument, (*index[:at], k, *index[at:])),)

    return Terms("sum", count, term, over_words(over), 1 / (1 if node.kind == "sum" else count))
