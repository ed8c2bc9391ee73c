"""How one entry of a line, or of a part of it, is made: its terms, with the numbers that they stand for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tui_gru.debugger import formula as f
from tui_gru.debugger.evaluation import EVERY, Index, Numbers
from tui_gru.debugger.formula import Formula, Name, Product, Times, Transpose
from tui_gru.debugger.moment import Moment, readable_names
from tui_gru.debugger.naming import axes_of, printable
from tui_gru.debugger.origin import Expansion, Node, Number, given
from tui_gru.debugger.program import Program
from tui_gru.engine.parameters import parameter_names


class LineTerms:
    """Reads the program's table. `moment` gives what can be read at a tick, `node` a number of the run as a term with a sign.

    `part` says how an entry of a part that is recorded under a name of its own is made: part, name, index, tick and timestep.
    """

    def __init__(
        self,
        program: Program,
        vocabulary: str,
        moment: Callable[[int], Moment],
        node: Callable[[Number, int], Node],
        part: Callable[[Formula, str, Index, int, int], Expansion],
    ) -> None:
        self._program, self._vocabulary, self._moment, self._node, self._part = program, vocabulary, moment, node, part
        parameters = parameter_names(program.config.reset)
        self._timeless = frozenset({*parameters, *(f"d{name}" for name in parameters), "loss", "learning_rate"})
        self._named = frozenset(readable_names(program.config.reset))

    def numbers(self, tick: int, t: int) -> Numbers:
        """The numbers that a line executed by `tick` for timestep `t` reads."""
        return Numbers(self._moment(tick), t)

    def formula(self, node: Formula, index: Index, tick: int, t: int) -> Expansion:
        """How one entry of a formula is made."""
        numbers = self.numbers(tick, t)

        def entry(part: Formula, at: Index = index, sign: int = 1) -> Node:
            return self.entry(part, at, tick, t, sign)

        match node:
            case f.Sum(parts):
                return Expansion("sum", tuple(entry(part) for part in parts))
            case f.Difference(left, right):
                return Expansion("sum", (*(entry(part) for part in left.terms), *(entry(part, sign=-1) for part in right.terms)))
            case Times():
                return Expansion("product", tuple(entry(part) for part in _factors(node)))
            case f.Quotient(left, right):
                return Expansion("quotient", (entry(left), entry(right)))
            case Product(Name("x"), right):
                pick = int(numbers.read("x")[index[0]].argmax())
                char = printable(self._vocabulary[pick])
                return Expansion("copy", (entry(right, (pick, index[1])),), note=f"“{char}” picks row {pick + 1} of {right.text}")
            case Product(Transpose(Name("x")), right):
                rows = [int(row) for row in np.flatnonzero(numbers.read("x")[:, index[0]])]
                if not rows:
                    return given(f"no row reads “{printable(self._vocabulary[index[0]])}” at this timestep")
                return Expansion("sum", tuple(entry(right, (row, index[1])) for row in rows))
            case Product(left, right):
                pairs = [(entry(left, (index[0], k)), entry(right, (k, index[1]))) for k in range(numbers.inner(node))]
                inner = self._inner(left)
                terms = [_times(pair, f"{node.text} at {self._spoken(inner, k)}") for k, pair in enumerate(pairs)]
                return Expansion("sum", tuple(terms), note=f"over {inner}s")
            case f.Transpose(argument):
                return self.formula(argument, index[::-1], tick, t)
            case f.Apply("softmax", argument):
                return self._softmax(argument, index, tick, t)
            case f.Apply("log"):
                return self._log(node, index, tick, t)
            case f.Apply(function, argument):
                return Expansion(function, tuple(entry(part) for part in argument.terms))
            case f.Reduce():
                return self._reduced(node, index, tick, t)
            case f.Number():
                return given("the number of rows times timesteps" if "·" in node.value else "")
        raise TypeError(node)

    def entry(self, node: Formula, index: Index, tick: int, t: int, sign: int = 1) -> Node:
        """One entry of a part of a line: a number of the run where it has a name, else a value with terms of its own."""
        numbers = self.numbers(tick, t)
        if isinstance(node, Transpose):
            return self.entry(node.argument, index[::-1], tick, t, sign)
        name = node.name if isinstance(node, Name) else numbers.part(node)
        if isinstance(node, Name) or (name is not None and name in self._named):
            assert name is not None
            return self._node(
                Number(name, index[len(index) - len(axes_of(name)) :], None if name in self._timeless else t, tick), sign
            )
        value = float(numbers.value(node, index))
        if name is not None:
            return Node(node.text, value, lambda: self._part(node, name, index, tick, t), sign=sign, exact=True, latex=node.latex)
        return Node(node.text, value, lambda: self.formula(node, index, tick, t), sign=sign, latex=node.latex)

    def _inner(self, left: Formula) -> str:
        """What a matrix product sums over: units, characters or rows."""
        if isinstance(left, Transpose):
            return "row"
        return axes_of(left.name)[-1] if isinstance(left, Name) else "unit"

    def _spoken(self, axis: str, k: int) -> str:
        return f"“{printable(self._vocabulary[k])}”" if axis == "character" else f"{axis} {k + 1}"

    def _softmax(self, argument: Formula, index: Index, tick: int, t: int) -> Expansion:
        row, chosen = index
        logits = np.asarray(self.numbers(tick, t).value(argument, (row, EVERY)))
        top = int(logits.argmax())

        def power(column: int) -> Node:
            o = self.entry(argument, (row, column), tick, t)
            largest = self.entry(argument, (row, top), tick, t, sign=-1)
            value = math.exp(o.value - largest.value)
            return Node(f"exp({o.label} − max)", value, lambda: Expansion("exp", (o, largest)), latex=rf"\exp({o.latex} - \max)")

        powers = tuple(map(power, range(len(logits))))
        over = Expansion("sum", powers, note="over the vocabulary")
        total = Node("Σ exp", math.fsum(p.value for p in powers), lambda: over, latex=r"\sum \exp")
        return Expansion("quotient", (powers[chosen], total))

    def _log(self, node: f.Apply, index: Index, tick: int, t: int) -> Expansion:
        """log ŷ; from the logits where float has no ŷ this small, as it is computed everywhere."""
        y_hat = self.entry(node.argument, index, tick, t)
        if y_hat.value > 1e-30 or self.numbers(tick, t).value(node, index) == -math.inf:
            return Expansion("log", (y_hat,))
        softmax = self._program.lines["y_hat"].formula
        assert isinstance(softmax, f.Apply)
        logits = np.asarray(self.numbers(tick, t).value(softmax.argument, (index[0], EVERY)))
        log_total = float(np.log(np.exp(logits - logits.max()).sum()) + logits.max())
        rest = Node("log Σ exp(o)", log_total, lambda: given("over the vocabulary"), sign=-1, latex=r"\log \sum \exp o")
        return Expansion("sum", (self.entry(softmax.argument, index, tick, t), rest), note="o − log Σ exp(o): ŷ is too small")

    def _reduced(self, node: f.Reduce, index: Index, tick: int, t: int) -> Expansion:
        numbers = self.numbers(tick, t)
        if node.over == "the timesteps":
            assert isinstance(node.argument, Name)
            name = node.argument.name
            terms = tuple(self._node(Number(name, (), at, tick), 1) for at in range(self._program.seq_length))
            terms = tuple(replace(term, label=f"{term.label} at t {i + 1}") for i, term in enumerate(terms))
        else:
            rows = node.over == "the rows"
            count = numbers.shape(node.argument)[0 if rows else -1]
            terms = tuple(self.entry(node.argument, (k, *index) if rows else (*index, k), tick, t) for k in range(count))
        scale = node.sign / (1 if node.kind == "sum" else len(terms))
        return Expansion("sum", terms, scale=scale, note=f"{node.kind} over {node.over}")


def _factors(node: Formula) -> tuple[Formula, ...]:
    """What a product element by element is made of."""
    return (*_factors(node.left), *_factors(node.right)) if isinstance(node, Times) else (node,)


def _times(pair: tuple[Node, Node], label: str) -> Node:
    left, right = pair
    latex = rf"{left.latex} \cdot {right.latex}"
    return Node(label, left.value * right.value, lambda: Expansion("product", pair), latex=latex)
