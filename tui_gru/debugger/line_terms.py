"""How one entry of a line, or of a part of it, is made: its terms, with the numbers that they stand for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tui_gru.debugger import formula as f
from tui_gru.debugger.entries import Term, made_of
from tui_gru.debugger.evaluation import EVERY, Index, Numbers
from tui_gru.debugger.formula import Formula, Name, Product, Transpose
from tui_gru.debugger.moment import Moment, readable_names
from tui_gru.debugger.naming import axes_of, shown_char
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
        if isinstance(node, f.Apply) and node.function in ("log", "softmax"):
            return (self._log if node.function == "log" else self._softmax)(node, index, tick, t)
        made = made_of(node, index, numbers)
        terms = tuple(self._term(node, made.term(k), k, tick, t) for k in range(made.size))
        return self._noted(node, index, Expansion(made.kind, terms, made.scale))

    def _term(self, node: Formula, term: Term, k: int, tick: int, t: int) -> Node:
        nodes = [self.entry(part.formula, part.at, tick, t if part.t is None else part.t, part.sign) for part in term]
        if len(nodes) == 2:
            assert isinstance(node, Product)
            return _times((nodes[0], nodes[1]), f"{node.text} at {self._spoken(self._inner(node.left), k)}")
        return nodes[0] if term[0].t is None else replace(nodes[0], label=f"{nodes[0].label} at t {k + 1}")

    def _noted(self, node: Formula, index: Index, made: Expansion) -> Expansion:
        """The same with a word on what its terms do not say."""
        match node:
            case Transpose(argument):
                return self._noted(argument, index[::-1], made)
            case Product(Name("x"), right):
                pick = made.terms[0].number
                assert pick is not None
                char = shown_char(self._vocabulary[pick.index[0]])
                return replace(made, note=f"“{char}” picks row {pick.index[0] + 1} of {right.text}")
            case Product(Transpose(Name("x"))):
                return made if made.terms else given(f"no row reads “{shown_char(self._vocabulary[index[0]])}” at this timestep")
            case Product(left):
                return replace(made, note=f"over {self._inner(left)}s")
            case f.Reduce():
                return replace(made, note=f"{node.kind} over {node.over}")
            case f.Number():
                return given("the number of rows times timesteps" if "·" in node.value else "")
        return made

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
        return f"“{shown_char(self._vocabulary[k])}”" if axis == "character" else f"{axis} {k + 1}"

    def _softmax(self, node: f.Apply, index: Index, tick: int, t: int) -> Expansion:
        row, chosen = index
        logits = np.asarray(self.numbers(tick, t).value(node.argument, (row, EVERY)))
        top = int(logits.argmax())

        def power(column: int) -> Node:
            o = self.entry(node.argument, (row, column), tick, t)
            largest = self.entry(node.argument, (row, top), tick, t, sign=-1)
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


def _times(pair: tuple[Node, Node], label: str) -> Node:
    left, right = pair
    latex = rf"{left.latex} \cdot {right.latex}"
    return Node(label, left.value * right.value, lambda: Expansion("product", pair), latex=latex)
