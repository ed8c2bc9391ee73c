"""The condition at which a recorder writes the steps that it holds in memory, such as `nan or loss > 3*mean(loss)`.

A name is a number of the step that has just ended; `mean`, `min` and `max` are over the steps before it, `prev` is the value of the
step before. Unknown numbers are NaN, for which every comparison is false. The text is parsed by Python's parser, and only listed
nodes are allowed.
"""

from __future__ import annotations

import ast
import math
import operator
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeAlias

from tui_gru.interop.errors import CaptureError, printable

NAMES = ("loss", "norm", "step", "lr", "nan")  # norm: of all gradients; nan: 1 if a number is not finite
WINDOW = 100  # the number of steps over which mean, min and max are computed
LONGEST = 1000
DEEPEST = 50

Evaluate: TypeAlias = Callable[[Mapping[str, float]], float]

_ARITHMETIC: Mapping[type[ast.AST], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda a, b: a / b if b else math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a),
}
_COMPARISONS: Mapping[type[ast.AST], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_OVER_STEPS: Mapping[str, Callable[[list[float]], float]] = {
    "mean": lambda values: math.fsum(values) / len(values),
    "min": min,
    "max": max,
    "prev": lambda values: values[-1],
}
_OF_A_NUMBER: Mapping[str, Callable[[float], float]] = {
    "abs": abs,
    "isnan": lambda a: float(math.isnan(a)),
    "isfinite": lambda a: float(math.isfinite(a)),
}


class Trigger:
    """A condition that fires at a step at which it becomes true, and not again while it stays true."""

    def __init__(self, source: str) -> None:
        """Parse the condition; an empty one never fires. Raises a `CaptureError` with the column for an invalid condition."""
        if not isinstance(source, str):
            raise CaptureError(f"on must be a condition in quotes, not {type(source).__name__}; {_EXAMPLE}", option="on")
        self.source = source
        self._earlier: dict[str, deque[float]] = {name: deque(maxlen=WINDOW) for name in NAMES}
        self._evaluate = _compile(source, self._earlier) if source.strip() else None
        self._held = False

    def fires(self, values: Mapping[str, float]) -> bool:
        """Evaluate the condition on the numbers of a step. Returns True if it is true and was not at the step before."""
        holds = self._evaluate is not None and _true(self._evaluate({name: float(values[name]) for name in NAMES}))
        fires, self._held = holds and not self._held, holds
        for name, earlier in self._earlier.items():
            if math.isfinite(values[name]):
                earlier.append(float(values[name]))
        return fires


def _true(value: float) -> bool:
    return bool(value) and not math.isnan(value)


def _compile(source: str, earlier: Mapping[str, deque[float]]) -> Evaluate:
    if len(source) > LONGEST:
        raise CaptureError(f"on is longer than {LONGEST} characters; shorten it", option="on")
    try:
        tree = ast.parse(source.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        column = getattr(error, "offset", None) or 1
        raise CaptureError(f"on: column {column}: {printable(source, 60)!r} is not a condition; {_EXAMPLE}", option="on") from None
    return _Compiler(earlier).number(tree, 0)


_EXAMPLE = "write one such as nan or loss > 3*mean(loss)"


@dataclass(frozen=True)
class _Compiler:
    earlier: Mapping[str, deque[float]]

    def number(self, node: ast.expr, depth: int) -> Evaluate:
        """Return the value of a node: a number, with 1 and 0 for true and false."""
        if depth > DEEPEST:
            raise self._error(node, "it is nested too deeply")
        match node:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                number = self._float(node, value)
                return lambda values: number
            case ast.Name(id=name):
                return operator.itemgetter(self._known(node, name))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inverted = self.number(operand, depth + 1)
                return lambda values: float(not _true(inverted(values)))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                positive = self.number(operand, depth + 1)
                return lambda values: -positive(values)
            case ast.BoolOp(op=op, values=parts):
                operands = [self.number(part, depth + 1) for part in parts]
                decide = any if isinstance(op, ast.Or) else all
                return lambda values: float(decide(_true(part(values)) for part in operands))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                a, b, apply = self.number(left, depth + 1), self.number(right, depth + 1), _ARITHMETIC[type(op)]
                return lambda values: apply(a(values), b(values))
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARISONS:
                a, b, compare = self.number(left, depth + 1), self.number(right, depth + 1), _COMPARISONS[type(op)]
                return lambda values: float(compare(a(values), b(values)))
            case ast.Call(func=ast.Name(id=function), args=[argument], keywords=[]):
                return self._call(node, function, argument, depth)
        raise self._error(node, "this is not allowed here")

    def _call(self, node: ast.Call, function: str, argument: ast.expr, depth: int) -> Evaluate:
        if function in _OF_A_NUMBER:
            value, apply = self.number(argument, depth + 1), _OF_A_NUMBER[function]
            return lambda values: apply(value(values))
        if function not in _OVER_STEPS:
            raise self._error(node, f"there is no function {function}; there are {', '.join((*_OVER_STEPS, *_OF_A_NUMBER))}")
        if not isinstance(argument, ast.Name):
            raise self._error(node, f"{function} takes a name, as in {function}(loss)")
        steps, reduce = self.earlier[self._known(argument, argument.id)], _OVER_STEPS[function]
        return lambda values: reduce(list(steps)) if steps else math.nan

    def _known(self, node: ast.expr, name: str) -> str:
        if name not in NAMES:
            near = get_close_matches(name, NAMES)
            hint = f"did you mean {near[0]}?" if near else f"the names are {', '.join(NAMES)}"
            raise self._error(node, f"unknown name {name}; {hint}")
        return name

    def _float(self, node: ast.expr, value: float) -> float:
        try:
            return float(value)
        except OverflowError:
            raise self._error(node, "this number is too large") from None

    @staticmethod
    def _error(node: ast.expr, reason: str) -> CaptureError:
        return CaptureError(f"on: column {node.col_offset + 1}: {reason}; {_EXAMPLE}", option="on")
