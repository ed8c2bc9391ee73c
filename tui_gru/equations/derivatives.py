"""The derivative of every operation as a rule that maps the gradient of the result to the gradients of the operands.

A rule takes the node, the gradient `a` of its value, and its `value` as a name; it returns the gradient of each child, in order.
Differentiating an operation without a rule is an error.
"""

from __future__ import annotations

from collections.abc import Callable

from tui_gru.equations import expression as e
from tui_gru.equations.expression import ONE, Expression, apply, transpose

Rule = Callable[[Expression, Expression, Expression], tuple[Expression, ...]]


def handed_back(node: Expression, a: Expression, value: Expression) -> tuple[Expression, ...] | None:
    """Return the gradients of the children of a node, given the gradient `a` of its value; None if the operation has no rule."""
    match node:
        case e.Sum(parts=parts):
            return (a,) * len(parts)
        case e.Negative():
            return (e.Negative(a),)
        case e.Times(parts=parts):
            return tuple(e.Times((a, *parts[:i], *parts[i + 1 :])) for i in range(len(parts)))
        case e.Quotient(left=left, right=right):
            return e.Quotient(a, right), e.Negative(e.Quotient(e.Times((a, value)), right))
        case e.Product(left=left, right=right):
            return e.Product(a, transpose(right)), e.Product(transpose(left), a)
        case e.Transpose():
            return (transposed_gradient(a),)
        case e.Reduce(kind="sum"):
            return (a,)
        case e.Reduce(kind="mean", over=over):
            return (e.Quotient(a, e.Size((over,))),)
        case e.Power(right=e.Number(value=power)):
            lower = node.children[0] if power == 2 else e.Power(node.children[0], e.number(power - 1))
            return (e.Times((a, e.number(power), lower)), e.number(0))
        case e.Apply(function=function) if function in OF_FUNCTION:
            return OF_FUNCTION[function](node, a, value)
    return None


def transposed_gradient(a: Expression) -> Expression:
    """Return the gradient of a matrix whose transpose has the gradient `a`; (P Q)ᵀ is written Qᵀ Pᵀ."""
    if isinstance(a, e.Product):
        return e.Product(transpose(a.right), transpose(a.left))
    return transpose(a)


def _one_minus(node: Expression) -> Expression:
    return e.Sum((ONE, e.Negative(node)))


#: The rules of elementwise functions. Softmax and the log of a softmax, which sum over a row, are in `backward`.
OF_FUNCTION: dict[str, Rule] = {
    "sigmoid": lambda node, a, value: (e.Times((a, value, _one_minus(value))),),
    "tanh": lambda node, a, value: (e.Times((a, _one_minus(e.Times((value, value))))),),
    "relu": lambda node, a, value: (e.Times((a, apply("positive", value))),),
    "clamp": lambda node, a, value: (e.Times((a, apply("within", value))),),
    "exp": lambda node, a, value: (e.Times((a, value)),),
    "log": lambda node, a, value: (e.Quotient(a, node.children[0]),),
    "sqrt": lambda node, a, value: (e.Quotient(a, e.Times((e.number(2), value))),),
}
