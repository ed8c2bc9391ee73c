"""Refuses conditions that can hold nowhere in a run, with the reason: `t == 7` where a batch has three timesteps.

The limits of every part of a condition follow from those of the names that it reads, whatever their values are. A condition that is
not refused may still never hold.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from unicodedata import normalize

from tui_gru.debugger.expressions import ConditionError, ExpressionText, at_one_timestep, compile_expression
from tui_gru.debugger.program import CHARACTERS, COUNTERS, Program
from tui_gru.equations.syntax import did_you_mean


class Limits(NamedTuple):
    """Every number of a value is from `low` to `high`, for the reasons `why`. `may_be_nan` is False if none of them is NaN."""

    low: float = -math.inf
    high: float = math.inf
    may_be_nan: bool = True
    why: tuple[str, ...] = ()

    def join(self, other: Limits, low: float, high: float) -> Limits:
        """Return the limits of what is computed from two values."""
        if math.isnan(low) or math.isnan(high):
            return Limits()
        may_be_nan = self.may_be_nan or other.may_be_nan or (math.isinf(low) and math.isinf(high))
        return Limits(low, high, may_be_nan, tuple(dict.fromkeys(self.why + other.why)))


class Texts(NamedTuple):
    """A value is one of these `texts`; with `why`, all those that it may be."""

    texts: frozenset[str]
    why: tuple[str, ...] = ()


class Possibility(NamedTuple):
    """Whether a condition can be true, and whether it can be false; if it cannot be true, the part `at` fault, and `why`."""

    may_hold: bool
    may_fail: bool
    at: ast.expr
    why: tuple[str, ...] = ()


def refuse_impossible(source: str, program: Program, begins: tuple[int, int] = (1, 1), epochs: int | None = None) -> None:
    """Raise `ConditionError` if a condition can never hold, or cannot be evaluated.

    `begins` are the epoch and the step from which on it is tested, from 1, and `epochs` is the number of epochs of the run, None if
    it has no end.
    """
    compile_expression(source, program.spellings, test=True).check(program.shapes)
    _Reasoning(source, program, begins, epochs).refuse()


class _Reasoning:
    def __init__(self, source: str, program: Program, begins: tuple[int, int], epochs: int | None) -> None:
        self._source, self._program, self._begins, self._epochs = source, program, begins, epochs
        self._text = ExpressionText(at_one_timestep(source, program.spellings)[0], names=program.spellings)
        self._names = {normalize("NFKC", spelled): name for spelled, name in program.spellings.items()}

    def refuse(self) -> None:
        verdict = self._truth(self._text.tree)
        if not verdict.may_hold:
            place = self._text.place(verdict.at)
            raise ConditionError(f"{place} never holds{': ' if verdict.why else ''}{'; '.join(verdict.why)}", place.column)

    # Truth

    def _truth(self, node: ast.expr) -> Possibility:
        match node:
            case ast.BoolOp():
                parts = [self._truth(part) for part in node.values]
                if isinstance(node.op, ast.And):
                    impossible = next((part for part in parts if not part.may_hold), None)
                    return impossible or Possibility(True, any(part.may_fail for part in parts), node)
                if any(part.may_hold for part in parts):
                    return Possibility(True, all(part.may_fail for part in parts), node)
                return parts[0]
            case ast.UnaryOp(op=ast.Not()):
                inner = self._truth(node.operand)
                return Possibility(inner.may_fail, inner.may_hold, node, inner.why)
            case ast.Compare():
                operands = [node.left, *node.comparators]
                links = [
                    self._compared(self._value(left), self._value(right), sign, node)
                    for left, right, sign in zip(operands, operands[1:], node.ops, strict=False)
                ]
                impossible = next((link for link in links if not link.may_hold), None)
                reasons = tuple(dict.fromkeys(why for link in links for why in link.why))
                return impossible or Possibility(True, any(link.may_fail for link in links), node, reasons)
            case ast.Call(func=ast.Name(id="any" | "all" as name), args=[argument]):
                inner = self._truth(argument)
                none = any(isinstance(part, ast.Slice) for part in ast.walk(argument))  # a slice may have no numbers at all
                return inner._replace(may_hold=inner.may_hold or (none and name == "all"), may_fail=True)
        value = self._value(node)
        if isinstance(value, Texts):
            return Possibility(True, True, node)
        return Possibility((value.low, value.high) != (0, 0), value.low <= 0 <= value.high, node, value.why)

    def _compared(self, left: Limits | Texts, right: Limits | Texts, sign: ast.cmpop, node: ast.expr) -> Possibility:
        compare = _COMPARISONS[type(sign)]
        if isinstance(left, Texts) and isinstance(right, Texts):
            if not left.texts or not right.texts:
                return Possibility(True, True, node)
            pairs = {compare(one, other) for one in left.texts for other in right.texts}
            return Possibility(True in pairs, False in pairs, node, self._missing(left, right))
        if isinstance(left, Texts) or isinstance(right, Texts):
            return Possibility(True, True, node)
        nan = left.may_be_nan or right.may_be_nan
        apart = left.high < right.low or right.high < left.low
        same = left.low == left.high == right.low == right.high
        match sign:
            case ast.Eq():
                may_hold, may_fail = not apart, not same or nan
            case ast.NotEq():
                may_hold, may_fail = not same or nan, not apart
            case _:
                may_hold = compare(left.low, right.high) if isinstance(sign, ast.Lt | ast.LtE) else compare(left.high, right.low)
                always = compare(left.high, right.low) if isinstance(sign, ast.Lt | ast.LtE) else compare(left.low, right.high)
                may_fail = nan or not always
        return Possibility(bool(may_hold), bool(may_fail), node, tuple(dict.fromkeys(left.why + right.why)))

    def _missing(self, *sides: Texts) -> tuple[str, ...]:
        known = [str(token) for token in self._program.config.vocabulary]
        return tuple(
            f"there is no {text!r} in the vocabulary; {did_you_mean(text, known)}"
            for side in sides
            if not side.why
            for text in side.texts
            if text not in known
        )

    # Values

    def _value(self, node: ast.expr) -> Limits | Texts:
        match node:
            case ast.Constant(value=bool() | int() | float() as number):
                return Limits(float(number), float(number), math.isnan(number))
            case ast.Constant(value=str() as text):
                return Texts(frozenset({text}))
            case ast.Name():
                return self._of_name(self._names.get(node.id, ""))
            case ast.Subscript():
                return self._value(node.value)
            case ast.Call(func=ast.Name(id="prev"), args=[argument]):
                value = self._value(argument)
                # A counter may have had less before.
                return value if isinstance(value, Texts) or not value.why else value._replace(low=min(value.low, 1.0))
            case ast.Call(func=ast.Name(id=name), args=[argument]):
                return self._call(name, argument)
            case ast.UnaryOp(op=ast.USub()):
                value = self._value(node.operand)
                return value if isinstance(value, Texts) else value._replace(low=-value.high, high=-value.low)
            case ast.UnaryOp(op=ast.UAdd()):
                return self._value(node.operand)
            case ast.BinOp():
                left, right = self._value(node.left), self._value(node.right)
                if not isinstance(left, Texts) and not isinstance(right, Texts):
                    counts = isinstance(node.left, ast.Name) and self._names.get(node.left.id) in COUNTERS
                    return self._combined(left, right, node.op, counts=counts)
        if isinstance(node, ast.Compare | ast.BoolOp | ast.UnaryOp):
            verdict = self._truth(node)
            return Limits(float(not verdict.may_fail), float(verdict.may_hold), False, verdict.why)
        return Limits()

    def _combined(self, left: Limits, right: Limits, sign: ast.operator, *, counts: bool) -> Limits:
        # Rounding keeps the order of numbers, so that the limits hold of rounded results too.
        match sign:
            case ast.Add():
                return left.join(right, left.low + right.low, left.high + right.high)
            case ast.Sub():
                return left.join(right, left.low - right.high, left.high - right.low)
            case ast.Mult():
                corners = [one * other for one in left[:2] for other in right[:2]]
                return Limits() if any(map(math.isnan, corners)) else left.join(right, min(corners), max(corners))
            case ast.Mod() if counts and right.low == right.high and right.low > 0 and right.low.is_integer():
                return Limits(0, right.low - 1, False, (f"what is left by {right.low:g} is 0 to {right.low - 1:g}",))
        return Limits()

    def _call(self, name: str, argument: ast.expr) -> Limits:
        if name == "argmax":
            size = self._size(argument)
            if size is None:
                return Limits(0, math.inf, False)
            return Limits(0, size - 1, False, (f"argmax counts the {size} numbers from 0: 0 to {size - 1}",))
        if name in ("any", "all"):
            verdict = self._truth(ast.Call(ast.Name(name), [argument], []))
            return Limits(float(not verdict.may_fail), float(verdict.may_hold), False, verdict.why)
        value = self._value(argument)
        if isinstance(value, Texts):
            return Limits()
        known = f"{name} has no number below 0"
        match name:
            case "min" | "max" | "mean":
                return value
            case "isnan" | "isfinite":
                return Limits(0, 1, False, (f"{name} is 0 or 1",))
            case "abs" | "norm" | "sqrt" | "exp":
                high = max(abs(value.low), abs(value.high)) if name == "abs" else math.inf
                return Limits(0, high, value.may_be_nan, (*value.why, known))
            case "sigmoid" | "σ":
                return Limits(0, 1, value.may_be_nan, ("σ is 0 to 1",))
        return Limits()

    def _size(self, node: ast.expr) -> int | None:
        """Return how many numbers a name, or one with whole indices, has; None if this is not known."""
        match node:
            case ast.Name():
                shape = self._program.shapes.get(self._names.get(node.id, ""))
                return None if shape is None else math.prod(shape)
            case ast.Subscript(value=ast.Name(id=name), slice=index):
                shape = self._program.shapes.get(self._names.get(name, ""), ())
                indices = index.elts if isinstance(index, ast.Tuple) else [index]
                if any(isinstance(part, ast.Slice) for part in indices) or len(indices) > len(shape):
                    return None
                return math.prod(shape[len(indices) :])
        return None

    # Names

    def _of_name(self, name: str) -> Limits | Texts:
        program = self._program
        if name in COUNTERS:
            return self._counter(name)
        if name in CHARACTERS:
            known = frozenset(str(token) for token in program.config.vocabulary)
            return Texts(known, ("the vocabulary",))
        return Limits()

    def _counter(self, name: str) -> Limits:
        program, (epoch, step) = self._program, self._begins
        match name:
            case "t":
                T = program.seq_length
                return Limits(1, T, False, (f"t is {_span(T)}: a batch has {_count(T, 'timestep')}",))
            case "batch":
                count = program.num_batches
                words = (
                    f"batch is {_span(count)}: an epoch has {_count(count, 'batch', 'batches')}; step counts those of the whole run"
                )
                return Limits(1, count, False, (words,))
        if name == "step" and program.config.source.steps:  # the numbers that a recording gives them
            return Limits()
        first = epoch if name == "epoch" else step
        last = math.inf if self._epochs is None else self._epochs * (1 if name == "epoch" else program.num_batches)
        past = f"{name} is {first:,} from here on, and only grows; back {self._source} goes back in time"
        words = f"{name} counts from 1" if first == 1 else past
        ends = "" if self._epochs is None else f", and the run ends after epoch {self._epochs}"
        return Limits(first, last, False, (words + ends,))


def _span(count: int) -> str:
    return "1" if count == 1 else f"1 to {count}"


def _count(count: int, one: str, several: str = "") -> str:
    return f"{count} {one if count == 1 else several or f'{one}s'}"


_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
