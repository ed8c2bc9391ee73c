"""What one entry of a formula is made of: the entries of its parts, and how they come together. The one walk over formulas.

The derivation turns these terms into values that can be followed, the line at work into a line of text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tui_gru.debugger import formula as f
from tui_gru.debugger.evaluation import Index, Numbers
from tui_gru.debugger.formula import Formula, Name, Product, Times, Transpose


class Part(NamedTuple):
    """One entry of a part of a line; `sign` is how it enters a sum, `t` (0-based) another timestep than the line's."""

    formula: Formula
    at: Index
    sign: int = 1
    t: int | None = None


Term = tuple[Part, ...]  # the product of its parts


class Made(NamedTuple):
    """`size` terms, of which `term` gives the one with a number: only those that are looked at are ever made.

    Kinds: sum, product, quotient, copy (of the row that is picked), given (a constant), and the functions, of the sum of the
    terms; softmax has a term for each character. A sum is `over` something where its length is that of an axis; times `scale`.
    """

    kind: str
    size: int = 0
    term: Callable[[int], Term] = lambda k: ()
    over: str = ""
    scale: float = 1.0


def made_of(node: Formula, index: Index, numbers: Numbers) -> Made:
    """How entry `index` of a formula is made. The numbers say which character a row reads, and how long a sum is."""
    match node:
        case f.Sum(parts):
            return _listed("sum", *(Part(part, index) for part in parts))
        case f.Difference(left, right):
            taken = (Part(part, index, -1) for part in right.terms)
            return _listed("sum", *(Part(part, index) for part in left.terms), *taken)
        case Times():
            return _listed("product", *(Part(factor, index) for factor in _factors(node)))
        case f.Quotient(left, right):
            return _listed("quotient", Part(left, index), Part(right, index))
        case Product(Name("x"), right):
            return _listed("copy", Part(right, (int(numbers.read("x")[index[0]].argmax()), index[1])))
        case Product(Transpose(Name("x")), right):
            rows = [int(row) for row in np.flatnonzero(numbers.read("x")[:, index[0]])]
            return Made("sum", len(rows), lambda k: (Part(right, (rows[k], index[1])),), "rows that read it")
        case Product(left, right):
            count = numbers.inner(node)
            return Made("sum", count, lambda k: (Part(left, (index[0], k)), Part(right, (k, index[1]))), "an axis")
        case Transpose(argument):
            return made_of(argument, index[::-1], numbers)
        case f.Apply("softmax", argument):
            return Made("softmax", numbers.shape(argument)[-1], lambda k: (Part(argument, (index[0], k)),), "the vocabulary")
        case f.Apply(function, argument):
            return _listed(function, *(Part(part, index) for part in argument.terms))
        case f.Reduce():
            return _reduced(node, index, numbers)
        case f.Number():
            return Made("given")
    raise TypeError(node)


def _listed(kind: str, *parts: Part) -> Made:
    return Made(kind, len(parts), lambda k: (parts[k],))


def _reduced(node: f.Reduce, index: Index, numbers: Numbers) -> Made:
    argument = node.argument
    if node.over == "the timesteps":
        count = numbers.program.seq_length
    else:
        count = numbers.shape(argument)[0 if node.over == "the rows" else -1]

    def term(k: int) -> Term:
        if node.over == "the timesteps":
            return (Part(argument, index, t=k),)
        return (Part(argument, (k, *index) if node.over == "the rows" else (*index, k)),)

    return Made("sum", count, term, node.over, node.sign / (1 if node.kind == "sum" else count))


def _factors(node: Formula) -> tuple[Formula, ...]:
    """What a product element by element is made of."""
    return (*_factors(node.left), *_factors(node.right)) if isinstance(node, Times) else (node,)
