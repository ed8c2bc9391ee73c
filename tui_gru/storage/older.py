"""Rewrites the conditions of older session files, in which epoch, batch and t count from 0, so that they mean the same."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tui_gru.debugger.expressions import ConditionError, ExpressionText
from tui_gru.debugger.program import Program
from tui_gru.debugger.stops import HitKey, Stop, Stops, Watch, map_expressions

COUNTERS = frozenset({"epoch", "batch", "t"})
_MOST = 2**50  # up to this size, whole numbers and their sums with 1 are exact in float64


def counted_from_one(kept: Mapping[str, Any], program: Program) -> dict[str, Any]:
    """Return the fields of a state whose conditions count from 0, with conditions that count from 1 and hold at the same places.

    Lines that log points have written stay as they were written.
    """
    fields = dict(kept)
    if "stops" in fields:
        stops: Stops = fields["stops"]
        for stop in stops.all:
            stops = stops.with_stop(_stop_from_one(stop, program))
        fields["stops"] = stops
    if "last_condition" in fields:
        fields["last_condition"] = from_one(fields["last_condition"], program, test=True)
    return fields


def _stop_from_one(stop: Stop, program: Program) -> Stop:
    if isinstance(stop, Watch):
        return replace(stop, expression=from_one(stop.expression, program))
    log = map_expressions(stop.log, lambda expression: from_one(expression, program))
    return replace(stop, condition=from_one(stop.condition, program, test=True), log=log)


def key_from_one(key: HitKey, program: Program) -> HitKey:
    """Return the key of the same stop, `ResolvedStop.key`, after `counted_from_one`."""
    *others, text = key
    return (*others, from_one(text, program, test=key[0] == "breakpoint"))


def from_one(source: str, program: Program, *, test: bool = False) -> str:
    """Return an expression in which epoch, batch and t count from 0 as one in which they count from 1.

    It is written as a person would: `t == 2` for `t == 1`, `epoch % 10 == 1` for `epoch % 10 == 0`, `z[t - 1]` for `z[t]`. A
    counter that is shown by itself stays, and is shown from 1 on. `test` is True for a condition. An invalid expression is
    unchanged.
    """
    try:
        text = ExpressionText(source, 1, program.spellings)
    except ConditionError:
        return source
    rewriter = _Rewriter(text)
    if test or not _is_counter(text.tree):
        rewriter.truth(text.tree) if test else rewriter.value(text.tree)
    for start, end, written in sorted(rewriter.changes, reverse=True):
        source = f"{source[:start]}{written}{source[end:]}"
    return source


class _Rewriter:
    """Collects the parts of an expression to replace: start and end in the text, and what takes their place."""

    def __init__(self, text: ExpressionText) -> None:
        self._text = text
        self.changes: list[tuple[int, int, str]] = []

    def truth(self, node: ast.expr) -> None:
        """Rewrite a part that is read as true or false; a counter is true unless it is the first one."""
        match node:
            case ast.BoolOp(values=parts):
                for part in parts:
                    self.truth(part)
            case ast.UnaryOp(op=ast.Not(), operand=operand) if _is_counter(operand):
                self._put(node, f"{self._written(operand)} == 1")
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                self.truth(operand)
            case _ if _is_counter(node):
                self._put(node, f"{self._written(node)} > 1")
            case _:
                self.value(node)

    def value(self, node: ast.expr, *, bracketed: bool = False) -> None:
        """Rewrite a part that is read as a number; `bracketed`: a difference in its place needs parentheses."""
        match node:
            case _ if _is_counter(node):
                self._put(node, f"({self._written(node)} - 1)" if bracketed else f"{self._written(node)} - 1")
            case ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
                self.truth(node)
            case ast.UnaryOp(operand=operand):
                self.value(operand, bracketed=True)
            case ast.Compare():
                self._comparison(node)
            case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=ast.Constant(value=int(number))) if _is_counter(
                left
            ) and _is_exact(number):
                more = (number if isinstance(op, ast.Add) else -number) - 1
                self._put(node, f"{self._written(left)} {'+' if more > 0 else '-'} {abs(more)}" if more else self._written(left))
            case ast.BinOp(left=ast.Constant(value=int(number)), op=ast.Add(), right=right) if (
                _is_counter(right) and number > 0 and _is_exact(number)
            ):
                self._put(node, f"{number - 1} + {self._written(right)}" if number > 1 else self._written(right))
            case ast.BinOp(left=left, op=op, right=right):
                self.value(left, bracketed=not isinstance(op, ast.Add | ast.Sub))
                self.value(right, bracketed=True)
            case ast.Subscript(value=array, slice=index):
                self.value(array)
                for part in index.elts if isinstance(index, ast.Tuple) else [index]:
                    self.value(part)
            case ast.Slice(lower=lower, upper=upper, step=step):
                for bound in filter(None, (lower, upper, step)):
                    self.value(bound)
            case ast.Call(args=arguments):
                for argument in arguments:
                    self.value(argument)

    def _comparison(self, node: ast.Compare) -> None:
        """Rewrite a comparison: of counters with numbers by greater numbers, another one by smaller counters."""
        operands = [node.left, *node.comparators]
        match node:
            case ast.Compare(
                left=ast.BinOp(left=counter, op=ast.Mod(), right=ast.Constant(value=int(divisor))),
                ops=[ast.Eq() | ast.NotEq()],
                comparators=[ast.Constant(value=int(rest))],
            ) if _is_counter(counter) and _is_exact(divisor) and _is_exact(rest) and rest < divisor:
                self._put(node.comparators[0], str((rest + 1) % divisor))
            case _ if all(_is_counter(each) or _greater(each) for each in operands):
                for each in operands:
                    if (greater := _greater(each)) is not None:
                        self._put(each, greater)
            case _:
                for each in operands:
                    self.value(each)

    def _written(self, counter: ast.expr) -> str:
        return self._text.place(counter).text

    def _put(self, node: ast.expr, written: str) -> None:
        place = self._text.place(node)
        self.changes.append((place.column - 1, place.column - 1 + len(place.text), written))


def _is_counter(node: ast.expr) -> bool:
    """Return True for a counter, or the one before it, `prev(t)`."""
    match node:
        case ast.Name(id=name):
            return name in COUNTERS
        case ast.Call(func=ast.Name(id="prev"), args=[ast.Name(id=name)]):
            return name in COUNTERS
    return False


def _is_exact(number: object) -> bool:
    """Return True for a whole number whose sum with a counter is exact."""
    return type(number) is int and 0 <= number < _MOST


def _greater(node: ast.expr) -> str | None:
    """Return a number that is greater by 1, None if it cannot be written exactly."""
    match node:
        case ast.Constant(value=int(number)) if _is_exact(number):
            return str(number + 1)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(number))) if _is_exact(number):
            return str(1 - number)
        case ast.Constant(value=float(number)) if abs(number) < _MOST and (number + 1) - 1 == number:
            return repr(number + 1)
    return None
