"""The range of the values of a line, derived from its formula: a gate from 0 to 1, a state from −1 to 1."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tui_gru.equations import expression as e
from tui_gru.equations.expression import ONE, Expression, Name
from tui_gru.equations.page import Page

Range = tuple[float, float]
_ANY: Range = (-math.inf, math.inf)
_OF_FUNCTION: Mapping[str, Range] = {
    "sigmoid": (0, 1), "softmax": (0, 1), "clamp": (0, 1), "within": (0, 1), "positive": (0, 1), "tanh": (-1, 1),
}  # fmt: skip


def ranges_of(page: Page) -> dict[str, Range]:
    """Return the range of every input, state, line and labelled part of a page; infinite if nothing bounds it.

    A state has the range −1 to 1 if its line stays in this range whenever all such states do.
    """
    bounded = set(page.states)
    while True:
        found = _with(page, bounded)
        beyond = {state for state in bounded if found[state][0] < -1 or found[state][1] > 1}
        if not beyond:
            return found
        bounded -= beyond


def _with(page: Page, bounded: set[str]) -> dict[str, Range]:
    found: dict[str, Range] = {name: (0, 1) if given.one_hot or not given.axis else _ANY for name, given in page.inputs.items()}
    for state in page.states:
        found[page.before(state)] = (-1, 1) if state in bounded else _ANY
    for line in page.lines:
        found[line.target] = _range(line.formula, found)
    return found


def _range(node: Expression, known: dict[str, Range]) -> Range:
    found = _plain_range(node, known)
    if node.label:
        known[node.label] = found
    return found


def _plain_range(node: Expression, known: dict[str, Range]) -> Range:
    inner = [_range(child, known) for child in node.children]
    match node:
        case Name(name=name):
            return known.get(name, _ANY)
        case e.Number(value=value):
            return float(value), float(value)
        case e.Apply(function=function) if function in _OF_FUNCTION:
            return _OF_FUNCTION[function]
        case e.Negative():
            return -inner[0][1], -inner[0][0]
        case e.Sum(parts=(e.Times() as left, e.Times() as right)) if (parts := _convex(left, right)) is not None:
            return _hull([_times([_range(factor, known) for factor in factors]) for factors in parts])
        case e.Sum():
            return sum(low for low, _ in inner), sum(high for _, high in inner)
        case e.Times():
            return _times(inner)
        case e.Join():
            return _hull(inner)
        case e.Slice():
            return inner[0]
    return _ANY


def _convex(left: e.Times, right: e.Times) -> tuple[list[Expression], list[Expression]] | None:
    """Return the factors a and b of a sum z ⊙ a + (1 − z) ⊙ b; None for any other sum."""
    for first, second in ((left, right), (right, left)):
        for weight in first.parts:
            rest = e.plain(e.Sum((ONE, e.Negative(weight))))
            others = [factor for factor in second.parts if e.plain(factor) != rest]
            if len(others) < len(second.parts):
                return [factor for factor in first.parts if factor is not weight], others
    return None


def _times(ranges: list[Range]) -> Range:
    low, high = 1.0, 1.0
    for a, b in ranges:
        corners = [_product(x, y) for x in (low, high) for y in (a, b)]
        low, high = min(corners), max(corners)
    return low, high


def _product(x: float, y: float) -> float:
    return 0.0 if x == 0 or y == 0 else x * y


def _hull(ranges: list[Range]) -> Range:
    return min(low for low, _ in ranges), max(high for _, high in ranges)
