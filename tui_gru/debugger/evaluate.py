"""Evaluates one entry of an expression from recorded numbers, and builds its terms."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from tui_gru.debugger.derivation import Derivation, Node, ValueRef, not_computed
from tui_gru.debugger.moment import Moment
from tui_gru.debugger.program import Program, axis_index_in_words, axis_word, character
from tui_gru.engine.config import Classes
from tui_gru.engine.model import GRADIENTS, UPDATES
from tui_gru.engine.weights import Array
from tui_gru.equations import syntax as e
from tui_gru.equations.axes import Axes, axes_of
from tui_gru.equations.backward import of_each_timestep
from tui_gru.equations.functions import FUNCTIONS, numpy_function
from tui_gru.equations.syntax import Expression, Name

# ------------------------------------------------------------------------------
# The value of an expression at one entry, or along one row or column, from recorded numbers.
#
# Recorded values are read, never recomputed. Values that are not recorded (a product with a one-hot row, the contribution of a
# timestep to a gradient) are computed in float64 from recorded ones.


AnyIndex = tuple[Any, ...]  # of whole numbers and slices, one for each axis
EVERY = slice(None)


def combined_in_float64(node: Expression, operands: Sequence[Any]) -> Any:
    """Return the value of an elementwise node from the values of its operands, in float64."""
    return e.combined(node, operands, partial(function_in_float64, node.function) if isinstance(node, e.Apply) else None)


def function_in_float64(function: str, *operands: Any) -> Any:
    """Return a function of numbers or arrays in float64, computed by its formula, or by NumPy."""
    row = FUNCTIONS[function]
    if (formula := e.formula_of(function, Name("x"))) is None:
        second = () if row.second is None else (row.second,)
        return np.asarray(numpy_function(row.numpy)(*operands, *second), np.float64)[()]

    def value(node: Expression) -> Any:
        match node:
            case Name():
                return operands[0]
            case e.Number(value=number):
                return np.float64(number)
        return combined_in_float64(node, list(map(value, node.children)))

    return value(formula)


class MomentNumbers:
    """The numbers of one moment, as read by a line executed for timestep `t`."""

    def __init__(self, moment: Moment, t: int) -> None:
        self.moment, self.program, self.t = moment, moment.program, t

    def read(self, name: str, t: int | None = None) -> Any:
        """Return the value of a name at the timestep, in its own dtype: (B, ·), (·), or a number.

        Settings are returned unchanged.
        """
        if name in self.program.model.rule.settings:
            return self.moment.record.settings[name]
        if name == UPDATES:
            return self.moment.record.before.updates + 1
        if name == GRADIENTS:  # of all parameters: their norms, whose squares sum to the square of the whole norm
            return self._norms
        value = self.moment.value(name, self.t if t is None else t)
        if value is None and name in self.program.model.page.inputs:  # in a sum over the timesteps, before its own begins
            value = self.moment.record.array(name)[self.t if t is None else t]
        return value

    @cached_property
    def _norms(self) -> Array:
        """The norm of the gradient of each parameter, float64, (parameters)."""
        gradients = self.moment.record.own_gradients
        return np.array([np.sqrt(np.sum(np.square(gradient, dtype=np.float64))) for _, gradient in gradients.items()])

    def recorded(self, name: str) -> Any:
        """Return a recorded part at the timestep, even if its line has not been executed yet."""
        array = self.moment.record.array(name)
        return array[self.t] if self.program.names[name].timed else array

    def entry(self, name: str, index: AnyIndex, t: int | None = None) -> float:
        """Return one entry of a name, exact."""
        return float(np.asarray(self.read(name, t))[index])

    def is_one_hot(self, name: str) -> bool:
        """Return True if a name is a one-hot input, so that a product with it picks rows."""
        variable = self.program.model.page.inputs.get(name)
        return variable is not None and variable.one_hot

    def size(self, axis: str) -> int:
        """Return the size of an axis."""
        return len(self.program.parameters) if axis == "P" else self.program.config.compiled.sizes[axis]

    def axes(self, node: Expression) -> Axes:
        """Return the axes of an expression's value at one timestep."""

        def named(name: str) -> Axes:
            program_name = self.program.names.get(name)
            return ("P",) if name == GRADIENTS else () if program_name is None else program_name.axes

        return tuple(axis for axis in axes_of(node, named) if axis != "T")

    def is_vector(self, node: Expression) -> bool:
        """Return True if an expression has one axis at one timestep, so that its transpose times a vector is no sum."""
        return len(self.axes(node)) == 1

    def shape(self, node: Expression) -> tuple[int, ...]:
        """Return the shape of an expression's value at one timestep."""
        return tuple(map(self.size, self.axes(node)))

    def index_of(self, child: Expression, node: Expression, index: AnyIndex) -> AnyIndex:
        """Return the index of an operand of an elementwise operation, which can lack axes: a bias has no rows, a mask no units."""
        child_axes, node_axes = self.axes(child), self.axes(node)
        return index if child_axes == node_axes else tuple(index[node_axes.index(axis)] for axis in child_axes)

    def value(self, node: Expression, index: AnyIndex) -> Any:
        """Return the value of an expression at `index`, in float64: recorded, or else computed from its parts.

        `index` has an entry or a slice for each axis.
        """
        if node.label:
            return self._at(self.recorded(node.label), index)
        match node:
            case Name(name=name):
                return self._at(self.read(name), index)
            case e.Number(value=value):
                return np.float64(value)
            case e.Size(axes=axes):
                return np.float64(math.prod(map(self.size, axes)))
            case e.Transpose(argument=argument):
                return np.transpose(self.value(argument, index[::-1]))
            case e.Product(left=e.Transpose(argument=left), right=right) if self.is_vector(left):
                return np.multiply.outer(self.value(left, index[:1]), self.value(right, index[1:]))
            case e.Product(left=left, right=right):
                return self.value(left, (*index[:-1], EVERY)) @ self.value(right, (EVERY, index[-1]))
            case e.Reduce():
                return self._reduced(node, index)
            case e.Join(parts=parts):
                joined = np.concatenate([self.value(part, (*index[:-1], EVERY)) for part in parts], axis=-1)
                return joined[..., index[-1]]
            case e.Slice(argument=argument, before=before, axes=axes):
                start = sum(map(self.size, before))
                argument_value = self.value(argument, (*index[:-1], EVERY))
                return argument_value[..., start : start + sum(map(self.size, axes))][..., index[-1]]
            case e.Activation(argument=argument):
                return self.value(argument, index) if argument.label else self._at(self._activation(argument), index)
            case e.Apply(function="softmax", parts=(argument,)):  # of each row
                logits = np.asarray(self.value(argument, (*index[:-1], EVERY)))
                powers = np.exp(logits - logits.max(-1, keepdims=True))
                return (powers / powers.sum(-1, keepdims=True))[..., index[-1]]
        values = [self.value(child, self.index_of(child, node, index)) for child in node.children]
        if any(isinstance(i, slice) for i in index):
            values = self._aligned(node, values, index)
            if isinstance(node, e.Spread):
                return np.broadcast_to(values[0], [n for n, i in zip(self.shape(node), index, strict=True) if isinstance(i, slice)])
        with np.errstate(all="ignore"):
            return combined_in_float64(node, values)

    def _aligned(self, node: Expression, values: list[Any], index: AnyIndex) -> list[Any]:
        """Return values of operands with axes of length 1 inserted for the axes of the result that they lack."""
        node_axes = self.axes(node)
        sliced = [axis for axis, i in zip(node_axes, index, strict=True) if isinstance(i, slice)]
        aligned = []
        for child, value in zip(node.children, values, strict=True):
            child_axes = self.axes(child)
            form = tuple(slice(None) if axis in child_axes else np.newaxis for axis in sliced)
            aligned.append(np.asarray(value)[form] if np.ndim(value) else value)
        return aligned

    def _at(self, value: Any, index: AnyIndex) -> Any:
        return np.asarray(np.asarray(value)[index], np.float64)[()]

    def _reduced(self, node: e.Reduce, index: AnyIndex) -> Any:
        if e.is_unwritten(node):
            return self.value(node.argument, index)
        if node.over == "T":
            terms = np.array([MomentNumbers(self.moment, t).value(node.argument, index) for t in range(self.program.seq_length)])
            axis = 0
        else:
            at = self.axes(node.argument).index(node.over)
            terms = np.asarray(self.value(node.argument, (*index[:at], EVERY, *index[at:])))
            axis = sum(isinstance(i, slice) for i in index[:at])
        return terms.sum(axis) if node.kind == "sum" else terms.mean(axis)

    def _activation(self, part: Expression) -> Any:
        """Return the stored value of a part of a forward line that has no name."""
        operation = self.program.config.compiled.schedule.activation(part)
        array = self.moment.record.slot(operation.memory, operation.half)
        return array[self.t] if operation.timed else array


# ------------------------------------------------------------------------------
# Expands one entry of an expression into terms: the entries of its parts, and how they are combined.
#
# Derivations turn the terms into nodes, the panel of the current line turns them into text.


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
            over = numbers.program.writer.over(numbers.axes(argument)[-1])
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

    return Terms("sum", count, term, numbers.program.writer.over(over), 1 / (1 if node.kind == "sum" else count))


# ------------------------------------------------------------------------------
# Builds the derivation of one entry of a line, or of a part of it: its terms, with their numbers.


class TermBuilder:
    """Builds terms from the formulas of the program. `moment` gives the moment at a tick, `node` the node of a number with a sign.

    `part` gives the derivation of an entry of a labelled part, from the part, its name, the index, the tick and the timestep;
    `activation` that of a part of a forward line without a name, which a line of the backward pass reads.
    """

    def __init__(
        self,
        program: Program,
        moment: Callable[[int], Moment],
        node: Callable[[ValueRef, int], Node],
        part: Callable[[Expression, str, AnyIndex, int, int], Derivation],
        activation: Callable[[Expression, AnyIndex, int, int], Derivation],
    ) -> None:
        self._program, self._moment, self._node = program, moment, node
        self._part, self._activation = part, activation
        self._writer, self._vocabulary = program.writer, program.config.vocabulary

    def numbers(self, tick: int, t: int) -> MomentNumbers:
        """Return the numbers that a line reads that was executed at or before `tick` for timestep `t`."""
        return MomentNumbers(self._moment(tick), t)

    def formula(self, node: Expression, index: AnyIndex, tick: int, t: int) -> Derivation:
        """Return the derivation of one entry of an expression."""
        numbers = self.numbers(tick, t)
        match node:
            case e.Activation(argument=argument) if not node.label:
                return self.formula(argument, index, tick, t) if argument.label else self._activation(argument, index, tick, t)
            case e.Apply(function="softmax"):
                return self._softmax(node, index, tick, t)
            case e.Apply(function="log", parts=(Name(name=name),)) if self.softmax_argument(name) is not None:
                return self._log_of_softmax(node, name, index, tick, t)
        made = terms_of(node, index, numbers)
        terms = tuple(self._term(node, made.term(k), k, numbers, tick) for k in range(made.size))
        return self.noted(node, index, Derivation(made.kind, terms, made.scale), numbers)

    def shares(
        self,
        formula: Expression,
        index: AnyIndex,
        tick: int,
        timesteps: Iterable[int],
        expanded: Callable[[Derivation, int], Derivation],
    ) -> list[Node]:
        """Return what each timestep adds to one entry of a gradient, then what is added once for all timesteps.

        `expanded` completes the derivation of the share of a timestep.
        """
        summed, once = self.split(formula)

        def share(t: int) -> Node:
            assert summed is not None
            numbers = self.numbers(tick, t)
            at = numbers.index_of(summed, formula, index)
            latex = rf"\left({self._writer.latex(summed)}\right)_{{t={t + 1}}}"
            value = float(numbers.value(summed, at))
            return Node(f"t {t + 1}", value, lambda: expanded(self.formula(summed, at, tick, t), t), latex=latex)

        last = self._program.seq_length - 1
        constant = [signed(term, formula, index, self.numbers(tick, last)) for term in once]
        return [
            *(share(t) for t in (timesteps if summed is not None else ())),
            *(self.entry(part.formula, part.at, tick, last, part.sign) for part in constant),
        ]

    def split(self, formula: Expression) -> tuple[Expression | None, tuple[Expression, ...]]:
        """Return the part of a gradient that each timestep adds, None if there is none, and the terms that are added once."""
        named = self._program.config.compiled.schedule.named
        timed, once = list[Expression](), list[Expression]()
        for term in (formula,) if formula.label else formula.terms:
            (timed if of_each_timestep(term, lambda name: named[name].axes) else once).append(term)
        return (e.Sum(tuple(timed)) if len(timed) > 1 else next(iter(timed), None)), tuple(once)

    def _term(self, node: Expression, term: FactorTerm, k: int, numbers: MomentNumbers, tick: int) -> Node:
        nodes = [self.entry(part.formula, part.at, tick, numbers.t if part.t is None else part.t, part.sign) for part in term]
        if len(nodes) == 2:
            while not isinstance(node, e.Product):  # a transposed product
                (node,) = node.children
            return _times((nodes[0], nodes[1]), f"{self._writer.text(node)} at {self._index_words(node.left, k, numbers)}")
        return nodes[0] if term[0].t is None else replace(nodes[0], label=f"{nodes[0].label} at t {k + 1}")

    def noted(self, node: Expression, index: AnyIndex, made: Derivation, numbers: MomentNumbers) -> Derivation:
        """Return the derivation with a note on what its terms do not show."""
        match node:
            case e.Transpose(argument=argument):
                return self.noted(argument, index[::-1], made, numbers)
            case e.Product(left=Name(name=name), right=right) if numbers.is_one_hot(name):
                pick = int(numbers.read(name)[index[0]].argmax())
                picks = f"{character(pick, self._vocabulary)} picks row {pick + 1} of {self._writer.text(right)}"
                return replace(made, note=picks)
            case e.Product(left=e.Transpose(argument=Name(name=name))) if numbers.is_one_hot(name):
                return (
                    made if made.terms else not_computed(f"no row reads {character(index[0], self._vocabulary)} at this timestep")
                )
            case e.Product(left=left) if made.kind == "sum":
                return replace(made, note=f"over {self._counted(left, numbers)}")
            case e.Reduce(kind=kind, argument=argument):
                if e.is_unwritten(node):
                    return self.noted(argument, index, made, numbers)
                return replace(made, note=f"{kind} over {terms_of(node, index, numbers).over}")
            case e.Number():
                return not_computed("")
            case e.Size(axes=axes):
                return not_computed(
                    "the number of rows times timesteps"
                    if set(axes) == {"B", "T"}
                    else f"the number of entries of {'·'.join(axes)}"
                )
        return made

    def entry(self, node: Expression, index: AnyIndex, tick: int, t: int, sign: int = 1) -> Node:
        """Return the node of one entry of a part of a line: a number of the run if named, else a value with its own terms."""
        numbers = self.numbers(tick, t)
        if isinstance(node, e.Transpose) and not node.label:
            return self.entry(node.argument, index[::-1], tick, t, sign)
        if isinstance(node, e.Activation) and node.argument.label:
            return self.entry(node.argument, index, tick, t, sign)
        name = node.name if isinstance(node, Name) else node.label
        if name in self._program.names and (isinstance(node, Name) or self.is_shown_by_name(name)):
            timed = self._program.names[name].timed
            return self._node(ValueRef(name, index, t if timed else None, tick), sign)
        value, text, latex = float(numbers.value(node, index)), self._writer.text(node), self._writer.latex(node)
        if isinstance(node, Name):  # n
            note = "updates so far, including this one"
            return Node(text, value, lambda: not_computed(note), sign=sign, exact=True, latex=latex)
        if node.label:
            return Node(text, value, lambda: self._part(node, node.label, index, tick, t), sign=sign, exact=True, latex=latex)
        stored = isinstance(node, e.Activation)
        return Node(text, value, lambda: self.formula(node, index, tick, t), sign=sign, exact=stored, latex=latex)

    def is_shown_by_name(self, name: str) -> bool:
        """Return True if a labelled part is shown by its name (az, dh_carry) instead of its formula (1 − z)."""
        return self._program.names[name].kind.is_derivative or name in self._program.preactivations

    def _counted(self, left: Expression, numbers: MomentNumbers) -> str:
        """Return what a matrix product sums over in words: units, characters, rows, characters and units."""
        words = dict.fromkeys(axis_word(axis, self._program.model) for axis in numbers.axes(left)[-1].split("+"))
        classes = isinstance(self._vocabulary, Classes)  # instead of characters
        return " and ".join("classes" if word == "character" and classes else f"{word}s" for word in words)

    def _index_words(self, left: Expression, k: int, numbers: MomentNumbers) -> str:
        return axis_index_in_words(self._program, numbers.axes(left)[-1], k)

    def softmax_argument(self, name: str) -> Expression | None:
        """Return what the softmax of a line reads; None for a line without one."""
        line = self._program.lines.get(name)
        formula = line.formula if line is not None else None
        return formula.argument if isinstance(formula, e.Apply) and formula.function == "softmax" else None

    def _softmax(self, node: e.Apply, index: AnyIndex, tick: int, t: int) -> Derivation:
        *row, chosen = index
        logits = np.asarray(self.numbers(tick, t).value(node.argument, (*row, EVERY)))
        top = int(logits.argmax())

        def power(column: int) -> Node:
            o = self.entry(node.argument, (*row, column), tick, t)
            largest = self.entry(node.argument, (*row, top), tick, t, sign=-1)
            value = math.exp(o.value - largest.value)
            return Node(f"exp({o.label} − max)", value, lambda: Derivation("exp", (o, largest)), latex=rf"\exp({o.latex} - \max)")

        powers = tuple(map(power, range(len(logits))))
        words = self._writer.over(self.numbers(tick, t).axes(node)[-1])
        over = Derivation("sum", powers, note=f"over {words}")
        total = Node("Σ exp", math.fsum(p.value for p in powers), lambda: over, latex=r"\sum \exp")
        return Derivation("quotient", (powers[chosen], total))

    def _log_of_softmax(self, node: e.Apply, name: str, index: AnyIndex, tick: int, t: int) -> Derivation:
        """Return the derivation of log ŷ; from the logits if ŷ is too small for a float, as the engine computes it."""
        numbers = self.numbers(tick, t)
        y_hat = self.entry(node.argument, index, tick, t)
        with np.errstate(all="ignore"):
            log = float(np.log(numbers.value(node.argument, index)))
        if y_hat.value > 1e-30 or (math.isinf(log) and math.isinf(float(numbers.value(node, index)))):
            return Derivation("log", (y_hat,))
        read = self.softmax_argument(name)
        assert read is not None
        logits = np.asarray(numbers.value(read, (*index[:-1], EVERY)))
        log_total = float(np.log(np.exp(logits - logits.max()).sum()) + logits.max())
        o, shown = self.entry(read, index, tick, t), self._writer.text(read)
        rest = Node(
            f"log Σ exp({shown})", log_total, lambda: not_computed("over the vocabulary"), sign=-1, latex=rf"\log \sum \exp {shown}"
        )
        return Derivation("sum", (o, rest), note=f"{shown} − log Σ exp({shown}): {self._writer.name(name)} is too small")


def _times(pair: tuple[Node, Node], label: str) -> Node:
    left, right = pair
    latex = rf"{left.latex} \cdot {right.latex}"
    return Node(label, left.value * right.value, lambda: Derivation("product", pair), latex=latex)
