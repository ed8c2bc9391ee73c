"""Normal form of sums of products, in which a gradient reads as a person would write it.

Numbers and sizes are multiplied, equal terms are added, and common factors are factored out: a⊙b − a⊙c = a⊙(b − c).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from tui_gru.equations import expression as e
from tui_gru.equations.expression import Expression


@dataclass(frozen=True)
class Term:
    """A term of a sum: `coefficient · factors / sizes`."""

    coefficient: Fraction
    sizes: tuple[str, ...]
    factors: tuple[Expression, ...]

    def expression(self) -> Expression:
        """Return the term as a tree; a negative term is a `Negative`."""
        wanted = self.factors
        if abs(self.coefficient) != 1 or not wanted:
            wanted = (e.number(abs(self.coefficient)), *wanted)
        node = e.product(wanted)
        if self.sizes:
            node = e.Quotient(node, e.Size(self.sizes))
        return e.Negative(node) if self.coefficient < 0 else node


def terms_of(node: Expression) -> list[Term]:
    """Return the terms of an expression. Labelled parts are not expanded."""
    one = Term(Fraction(1), (), (node,))
    if node.label:
        return [one]
    match node:
        case e.Sum(parts=parts):
            return [term for part in parts for term in terms_of(part)]
        case e.Negative(argument=argument):
            return [Term(-term.coefficient, term.sizes, term.factors) for term in terms_of(argument)]
        case e.Number(value=value):
            return [Term(value, (), ())]
        case e.Quotient(left=left, right=e.Size(axes=axes)):
            return [Term(term.coefficient, (*term.sizes, *axes), term.factors) for term in terms_of(left)]
        case e.Times(parts=parts):
            coefficient = Fraction(1)
            sizes: tuple[str, ...] = ()
            factors: tuple[Expression, ...] = ()
            for part in parts:
                inner = terms_of(part)
                only = inner[0] if len(inner) == 1 else Term(Fraction(1), (), (part,))
                coefficient, sizes, factors = coefficient * only.coefficient, (*sizes, *only.sizes), (*factors, *only.factors)
            return [Term(coefficient, sizes, factors)]
    return [one]


def sum_of(terms: Iterable[Term]) -> Expression:
    """Return the sum of terms, with common factors in front."""
    merged: dict[tuple[tuple[str, ...], tuple[Expression, ...]], Fraction] = {}
    for term in terms:
        key = tuple(sorted(term.sizes)), term.factors
        merged[key] = merged.get(key, Fraction(0)) + term.coefficient
    left = [Term(coefficient, sizes, factors) for (sizes, factors), coefficient in merged.items() if coefficient]
    if len(left) < 2:
        return left[0].expression() if left else e.number(0)
    number = Fraction(1)
    sizes: tuple[str, ...] = ()
    if len({(abs(term.coefficient), term.sizes) for term in left}) == 1:
        number, sizes = abs(left[0].coefficient), left[0].sizes
        left = [Term(term.coefficient / number, (), term.factors) for term in left]
    shared: list[Expression] = []
    rests = [list(term.factors) for term in left]
    for factor in left[0].factors:
        if all(factor in rest for rest in rests):  # a factor that every term has twice is factored out twice
            shared.append(factor)
            for rest in rests:
                rest.remove(factor)
    left = [Term(term.coefficient, term.sizes, tuple(rest)) for term, rest in zip(left, rests, strict=True)]
    if number == 1 and not sizes and not shared:
        return e.Sum(tuple(term.expression() for term in left))
    left.sort(key=lambda term: term.coefficient < 0)  # begin with a positive term if there is one
    whole = e.Sum(tuple(term.expression() for term in left))
    return Term(number, sizes, (*shared, whole)).expression()
