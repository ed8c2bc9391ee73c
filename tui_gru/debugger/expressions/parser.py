"""The compiler of the expression language: it turns a syntax tree, whose node types are whitelisted, into a closure over arrays.

Python's `eval` is never used; node types that are not listed here are refused. The run time is bounded by the size of the
expression and of the arrays: there are no loops, all arithmetic is float64, and each node is evaluated once.
"""

import ast
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TypeAlias
from unicodedata import normalize

import numpy as np

from tui_gru.debugger.expressions import values as values
from tui_gru.debugger.expressions.text import ConditionError, ExpressionText
from tui_gru.debugger.expressions.values import AnyArray, Moments, Operation, UnevenSliceError, Verdict
from tui_gru.debugger.program.names import CHARACTERS, Spellings
from tui_gru.equations.errors import did_you_mean

Evaluate: TypeAlias = Callable[[Moments], AnyArray]
Read: TypeAlias = Callable[[str], object]
"""Returns the value of a name: a read-only array, a number or a string; None if it is not computed yet."""

FUNCTIONS = (*values.REDUCTIONS, *values.ELEMENTWISE, "prev")

_CHAIN_ADVICE = "write the two comparisons separately, as in all(a < b) and all(b < c)"

_ARITHMETIC: Mapping[type[ast.AST], Operation] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.remainder,
    ast.Pow: values.power,
}

_COMPARISONS: Mapping[type[ast.AST], Operation] = {
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
}

_REFUSED: Mapping[type[ast.AST], str] = {
    ast.Attribute: "an attribute",
    ast.Call: "calling a result",
    ast.Dict: "a dictionary",
    ast.DictComp: "a comprehension",
    ast.GeneratorExp: "a comprehension",
    ast.IfExp: "if … else",
    ast.In: "in",
    ast.Is: "is",
    ast.IsNot: "is not",
    ast.JoinedStr: "an f-string",
    ast.LShift: "<<",
    ast.Lambda: "lambda",
    ast.List: "a list",
    ast.ListComp: "a comprehension",
    ast.NotIn: "not in",
    ast.RShift: ">>",
    ast.Set: "a set",
    ast.SetComp: "a comprehension",
    ast.Tuple: "a comma",
}


@dataclass(frozen=True)
class CompiledExpression:
    """A compiled expression: its `source`, all `names` it reads, and those it reads as of the moment and through `prev()`."""

    source: str
    names: frozenset[str]
    previous: frozenset[str]
    current: frozenset[str] = field(repr=False, compare=False)
    _evaluate: Evaluate = field(repr=False, compare=False)

    def value(self, read: Read, read_previous: Read | None = None) -> AnyArray | float | str | None:
        """Return the value at one moment: a new read-only array, or a single number, truth value or character.

        None if one of the names is not computed yet. Raises ConditionError if the expression cannot be evaluated.
        """
        moments = self.moment(read, read_previous)
        if moments is None:
            return None
        value = np.array(self.evaluate(moments)[0])
        if value.ndim == 0:
            single: float | str = value.item()
            return single
        value.flags.writeable = False
        return value

    def evaluate(self, moments: Moments) -> AnyArray:
        """Return the values at all moments, with the moment as first axis; no warnings for division by zero and NaN."""
        with np.errstate(all="ignore"):
            return self._evaluate(moments)

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raise ConditionError if it cannot be evaluated on values of these shapes, whatever the values are."""
        kinds = {name: "U1" if name in CHARACTERS else "f8" for name in self.names}
        empty = {name: np.empty((0, *shapes[name]), kind) for name, kind in kinds.items()}
        with suppress(UnevenSliceError):
            self.evaluate(self.moments(empty, empty, 0))

    def moment(self, read: Read, read_previous: Read | None) -> Moments | None:
        """Return a single moment with the values from `read` and `read_previous`; None if a name is not computed yet."""
        now = {name: read(name) for name in self.current}
        before = {name: read_previous and read_previous(name) for name in self.previous}
        if any(value is None for value in (*now.values(), *before.values())):
            return None
        return Moments(1, _single(now), _single(before))

    def moments(self, now: Mapping[str, AnyArray], before: Mapping[str, AnyArray], count: int) -> Moments:
        """Return the moments of columns (n, …)."""
        return Moments(count, {name: now[name] for name in self.current}, {name: before[name] for name in self.previous})


def compile_expression(source: str, names: Collection[str], *, test: bool = False, first_column: int = 1) -> CompiledExpression:
    """Compile `source`, which may read `names`; with `test`, to one truth value per moment.

    `names` can map every spelling of a name, in code and on screen, to its code spelling. Columns in errors are counted from
    `first_column`. Raises ConditionError if `source` is not a valid expression.
    """
    spellings = names if isinstance(names, Mapping) else {name: name for name in names}
    text = ExpressionText(source, first_column, spellings)
    compiler = _Compiler(text, spellings)
    evaluate = compiler.truth(text.tree) if test else compiler.value(text.tree)
    now, before = frozenset(compiler.now), frozenset(compiler.before)
    return CompiledExpression(source, now | before, before, now, evaluate)


def _single(read: Mapping[str, object]) -> dict[str, AnyArray]:
    return {name: np.asarray(value)[np.newaxis] for name, value in read.items()}


class _Compiler:
    """Turns the nodes of one expression into closures, and collects the names it reads: `now`, and `before` through `prev()`."""

    def __init__(self, text: ExpressionText, spellings: Mapping[str, str]) -> None:
        self._place = text.place
        self._names = frozenset(spellings.values())
        self._tokens = spellings.tokens if isinstance(spellings, Spellings) else frozenset()
        # Python's parser normalizes names (NFKC).
        self._spellings = {normalize("NFKC", spelled): name for spelled, name in spellings.items()}
        self.now: set[str] = set()
        self.before: set[str] = set()

    def value(self, node: ast.expr) -> Evaluate:
        """Return a closure that returns the value of `node`: (n, …), or (1, …) if it is the same at every moment."""
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.Name():
                name = self._name(node)
                self.now.add(name)
                return lambda moments: moments.value(name)
            case ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
                return self.truth(node)
            case ast.Compare(ops=[_]):
                return self._comparison(node)
            case ast.Compare():
                return self._chain(node)
            case ast.UnaryOp(op=ast.USub()):
                return self._negative(node)
            case ast.UnaryOp(op=ast.UAdd()):
                return self._numbers(node.operand)
            case ast.BinOp():
                return self._arithmetic(node)
            case ast.Subscript():
                return self._subscript(node)
            case ast.Call():
                return self._call(node)
            case _:
                raise self._refusal(node, node)

    def truth(self, node: ast.expr) -> Evaluate:
        """Return a closure that returns one truth value per moment: (n,)."""
        match node:
            case ast.BoolOp():
                return self._junction(node)
            case ast.UnaryOp(op=ast.Not()):
                operand = self.truth(node.operand)
                return lambda moments: ~operand(moments)
        value, place = self.value(node), self._place(node)
        return lambda moments: values.truth(value(moments), moments.count, place)

    def _constant(self, node: ast.Constant) -> Evaluate:
        match node.value:
            case str() as text if len(text) == 1 or text in self._tokens:
                constant = np.array([text])
            case str() as text if self._tokens:
                near = get_close_matches(text, self._tokens)
                advice = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
                raise self._error(node, f"there is no token {text!r} in the vocabulary{advice}")
            case str() as text:
                raise self._error(node, f"{len(text)} characters; text is compared one character at a time")
            case bool() as flag:
                constant = np.array([flag])
            case int() | float() as number:
                constant = np.array([self._number(node, number)])
            case _:
                raise self._error(node, f"{self._place(node)} is not allowed here; write a number or one character")
        constant.flags.writeable = False
        return lambda moments: constant

    def _number(self, node: ast.Constant, number: float) -> float:
        try:
            return float(number)
        except OverflowError:
            raise self._error(node, "this number is too large") from None

    def _name(self, node: ast.Name) -> str:
        if (name := self._spellings.get(node.id)) is not None:
            return name
        if node.id in FUNCTIONS:
            raise self._error(node, f"{node.id} is a function; write {node.id}(...)")
        raise self._error(node, f"unknown name {node.id}; {did_you_mean(node.id, sorted(self._names))}")

    def _junction(self, node: ast.BoolOp) -> Evaluate:
        """Compile `and` or `or`: each part is evaluated at the moments that the parts before it did not decide."""
        parts, undecided = [self.truth(part) for part in node.values], isinstance(node.op, ast.And)

        def evaluate(moments: Moments) -> AnyArray:
            verdict = Verdict(moments, undecided)
            for part in parts:
                if verdict.settled:
                    break
                verdict.settle(part(verdict.moments))
            return verdict.truth

        return evaluate

    def _comparison(self, node: ast.Compare) -> Evaluate:
        left, [(operation, right)], place = self.value(node.left), self._links(node), self._place(node)
        return lambda moments: values.compare(operation, left(moments), right(moments), place)

    def _chain(self, node: ast.Compare) -> Evaluate:
        """Compile `a < b < c` as `a < b and b < c`, but with each operand evaluated once."""
        first, links, place = self.value(node.left), self._links(node), self._place(node)

        def evaluate(moments: Moments) -> AnyArray:
            verdict = Verdict(moments, undecided=True)
            left = first(moments)
            for operation, operand in links:
                if verdict.settled:
                    break
                right = operand(verdict.moments)
                outcome = values.compare(operation, left, right, place)
                still_open = verdict.settle(values.truth(outcome, verdict.moments.count, place, _CHAIN_ADVICE))
                left = values.where(right, still_open)
            return verdict.truth

        return evaluate

    def _links(self, node: ast.Compare) -> list[tuple[Operation, Evaluate]]:
        return [
            (self._operation(_COMPARISONS, operator, node), self.value(operand))
            for operator, operand in zip(node.ops, node.comparators, strict=True)
        ]

    def _arithmetic(self, node: ast.BinOp) -> Evaluate:
        operation, place = self._operation(_ARITHMETIC, node.op, node), self._place(node)
        left, right = self._numbers(node.left), self._numbers(node.right)
        return lambda moments: values.combine(operation, left(moments), right(moments), place)

    def _numbers(self, node: ast.expr) -> Evaluate:
        value, place = self.value(node), self._place(node)
        return lambda moments: values.numbers(value(moments), place)

    def _negative(self, node: ast.UnaryOp) -> Evaluate:
        operand = self._numbers(node.operand)
        return lambda moments: -operand(moments)

    def _subscript(self, node: ast.Subscript) -> Evaluate:
        return self._picked(self.value(node.value), node)

    def _picked(self, value: Evaluate, node: ast.Subscript) -> Evaluate:
        place = self._place(node)
        items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        keys = [(self._slice(i) if isinstance(i, ast.Slice) else self._index(i), self._place(i)) for i in items]
        return lambda moments: values.pick(value(moments), [(key(moments), at) for key, at in keys], place)

    def _index(self, node: ast.expr) -> Evaluate:
        value, place = self.value(node), self._place(node)
        if isinstance(node, ast.Constant) and type(node.value) is int:
            index = values.whole(np.array([self._number(node, node.value)]), place)
            return lambda moments: index
        return lambda moments: values.whole(value(moments), place)

    def _slice(self, node: ast.Slice) -> Callable[[Moments], slice]:
        bounds = [None if bound is None else self._index(bound) for bound in (node.lower, node.upper, node.step)]
        place = self._place(node)
        return lambda moments: values.even_slice([bound and bound(moments) for bound in bounds], place)

    def _call(self, node: ast.Call) -> Evaluate:
        match node.func:
            case ast.Name(id=name) if name in FUNCTIONS:
                argument = self._only_argument(node, name)
            case ast.Name(id=name):
                raise self._error(node, f"no function {name}; the functions are {', '.join(FUNCTIONS)}")
            case ast.Attribute(attr=name) if name in FUNCTIONS:
                raise self._error(node, f"an attribute is not allowed here; write {name}(...)")
            case _:
                raise self._refusal(node.func, node.func)
        if name == "prev":
            return self._previous(argument)
        value, place = self.value(argument), self._place(node)
        if name in values.REDUCTIONS:
            return lambda moments: values.reduce(name, value(moments), place)
        function = values.ELEMENTWISE[name]
        return lambda moments: function(values.numbers(value(moments), place))

    def _only_argument(self, node: ast.Call, name: str) -> ast.expr:
        if len(node.args) != 1 or node.keywords:
            raise self._error(node, f"{name} takes one value, as in {name}(h)")
        return node.args[0]

    def _previous(self, node: ast.expr) -> Evaluate:
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):  # prev(h[0, 1]) is prev(h)[0, 1]
            return self._picked(self._previous(node.value), node)
        if not isinstance(node, ast.Name):
            raise self._error(node, "prev takes a name, as in prev(h)[0, 1]")
        name = self._name(node)
        self.before.add(name)
        return lambda moments: moments.previous(name)

    def _operation(self, known: Mapping[type[ast.AST], Operation], operator: ast.AST, node: ast.expr) -> Operation:
        if type(operator) not in known:
            raise self._refusal(operator, node)
        return known[type(operator)]

    def _refusal(self, refused: ast.AST, node: ast.expr) -> ConditionError:
        return self._error(node, f"{_REFUSED.get(type(refused), 'this')} is not allowed here")

    def _error(self, node: ast.expr, reason: str) -> ConditionError:
        return self._place(node).error(reason)
