"""Builds the derivation of one entry of a line, or of a part of it: its terms, with their numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tui_gru.debugger.derivation.entries import Term, terms_of
from tui_gru.debugger.derivation.evaluation import EVERY, Index, Numbers
from tui_gru.debugger.derivation.origin import Derivation, Node, ValueRef, given
from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.program.names import Kind
from tui_gru.debugger.program.naming import character, index_in_words
from tui_gru.debugger.timeline.moment import Moment
from tui_gru.equations import expression as e
from tui_gru.equations.expression import Expression, Name


class TermBuilder:
    """Builds terms from the formulas of the program. `moment` gives the moment at a tick, `node` the node of a number with a sign.

    `part` gives the derivation of an entry of a labelled part, from the part, its name, the index, the tick and the timestep.
    """

    def __init__(
        self,
        program: Program,
        moment: Callable[[int], Moment],
        node: Callable[[ValueRef, int], Node],
        part: Callable[[Expression, str, Index, int, int], Derivation],
    ) -> None:
        self._program, self._moment, self._node, self._part = program, moment, node, part
        self._writer, self._vocabulary = program.writer, program.config.vocabulary

    def numbers(self, tick: int, t: int) -> Numbers:
        """Return the numbers that a line reads that was executed at or before `tick` for timestep `t`."""
        return Numbers(self._moment(tick), t)

    def formula(self, node: Expression, index: Index, tick: int, t: int) -> Derivation:
        """Return the derivation of one entry of an expression."""
        numbers = self.numbers(tick, t)
        match node:
            case e.Apply(function="softmax"):
                return self._softmax(node, index, tick, t)
            case e.Apply(function="log", parts=(Name(name=name),)) if self._softmax_of(name) is not None:
                return self._log_of_softmax(node, name, index, tick, t)
        made = terms_of(node, index, numbers)
        terms = tuple(self._term(node, made.term(k), k, tick, t) for k in range(made.size))
        return self._noted(node, index, Derivation(made.kind, terms, made.scale), numbers)

    def _term(self, node: Expression, term: Term, k: int, tick: int, t: int) -> Node:
        nodes = [self.entry(part.formula, part.at, tick, t if part.t is None else part.t, part.sign) for part in term]
        if len(nodes) == 2:
            assert isinstance(node, e.Product)
            return _times((nodes[0], nodes[1]), f"{self._writer.text(node)} at {self._said(self._inner(node.left), k)}")
        return nodes[0] if term[0].t is None else replace(nodes[0], label=f"{nodes[0].label} at t {k + 1}")

    def _noted(self, node: Expression, index: Index, made: Derivation, numbers: Numbers) -> Derivation:
        """Return the derivation with a note on what its terms do not show."""
        match node:
            case e.Transpose(argument=argument):
                return self._noted(argument, index[::-1], made, numbers)
            case e.Product(left=Name(name=name), right=right) if numbers.is_one_hot(name):
                pick = made.terms[0].number
                assert pick is not None
                char = character(pick.index[0], self._vocabulary)
                return replace(made, note=f"{char} picks row {pick.index[0] + 1} of {self._writer.text(right)}")
            case e.Product(left=e.Transpose(argument=Name(name=name))) if numbers.is_one_hot(name):
                return made if made.terms else given(f"no row reads {character(index[0], self._vocabulary)} at this timestep")
            case e.Product(left=left):
                return replace(made, note=f"over {self._inner(left)}s")
            case e.Reduce(kind=kind):
                return replace(made, note=f"{kind} over {terms_of(node, index, numbers).over}")
            case e.Number():
                return given("")
            case e.Size(axes=axes):
                return given(
                    "the number of rows times timesteps"
                    if set(axes) == {"B", "T"}
                    else f"the number of entries of {'·'.join(axes)}"
                )
        return made

    def entry(self, node: Expression, index: Index, tick: int, t: int, sign: int = 1) -> Node:
        """Return the node of one entry of a part of a line: a number of the run if named, else a value with its own terms."""
        numbers = self.numbers(tick, t)
        if isinstance(node, e.Transpose) and not node.label:
            return self.entry(node.argument, index[::-1], tick, t, sign)
        name = node.name if isinstance(node, Name) else node.label
        if name in self._program.names and (isinstance(node, Name) or self._is_shown_by_name(name)):
            timed = self._program.names[name].timed
            return self._node(ValueRef(name, index, t if timed else None, tick), sign)
        value, text, latex = float(numbers.value(node, index)), self._writer.text(node), self._writer.latex(node)
        if isinstance(node, Name):  # n
            note = "updates so far, including this one"
            return Node(text, value, lambda: given(note), sign=sign, exact=True, latex=latex)
        if node.label:
            return Node(text, value, lambda: self._part(node, node.label, index, tick, t), sign=sign, exact=True, latex=latex)
        return Node(text, value, lambda: self.formula(node, index, tick, t), sign=sign, latex=latex)

    def _is_shown_by_name(self, name: str) -> bool:
        """Return True if a labelled part is shown by its name (az, dh_carry) instead of its formula (1 − z)."""
        return self._program.names[name].kind is not Kind.VALUE or name in self._program.preactivations

    def _inner(self, left: Expression) -> str:
        """Return the word for what a matrix product sums over: unit, character or row."""
        if isinstance(left, e.Transpose):
            return "row"
        name = left.name if isinstance(left, Name) else left.label
        named = self._program.names.get(name)
        return named.counted[-1] if named is not None else "unit"

    def _said(self, axis: str, k: int) -> str:
        return index_in_words(axis, k, self._vocabulary)

    def _softmax_of(self, name: str) -> e.Apply | None:
        """Return the softmax that a line computes; None for any other name."""
        line = self._program.lines.get(name)
        formula = line.formula if line is not None else None
        return formula if isinstance(formula, e.Apply) and formula.function == "softmax" else None

    def _softmax(self, node: e.Apply, index: Index, tick: int, t: int) -> Derivation:
        *row, chosen = index
        logits = np.asarray(self.numbers(tick, t).value(node.argument, (*row, EVERY)))
        top = int(logits.argmax())

        def power(column: int) -> Node:
            o = self.entry(node.argument, (*row, column), tick, t)
            largest = self.entry(node.argument, (*row, top), tick, t, sign=-1)
            value = math.exp(o.value - largest.value)
            return Node(f"exp({o.label} − max)", value, lambda: Derivation("exp", (o, largest)), latex=rf"\exp({o.latex} - \max)")

        powers = tuple(map(power, range(len(logits))))
        over = Derivation("sum", powers, note="over the vocabulary")
        total = Node("Σ exp", math.fsum(p.value for p in powers), lambda: over, latex=r"\sum \exp")
        return Derivation("quotient", (powers[chosen], total))

    def _log_of_softmax(self, node: e.Apply, name: str, index: Index, tick: int, t: int) -> Derivation:
        """Return the derivation of log ŷ; from the logits if ŷ is too small for a float, as the engine computes it."""
        numbers = self.numbers(tick, t)
        y_hat = self.entry(node.argument, index, tick, t)
        with np.errstate(all="ignore"):
            log = float(np.log(numbers.value(node.argument, index)))
        if y_hat.value > 1e-30 or (math.isinf(log) and math.isinf(float(numbers.value(node, index)))):
            return Derivation("log", (y_hat,))
        softmax = self._softmax_of(name)
        assert softmax is not None
        logits = np.asarray(numbers.value(softmax.argument, (*index[:-1], EVERY)))
        log_total = float(np.log(np.exp(logits - logits.max()).sum()) + logits.max())
        o, shown = self.entry(softmax.argument, index, tick, t), self._writer.text(softmax.argument)
        rest = Node(
            f"log Σ exp({shown})", log_total, lambda: given("over the vocabulary"), sign=-1, latex=rf"\log \sum \exp {shown}"
        )
        return Derivation("sum", (o, rest), note=f"{shown} − log Σ exp({shown}): {self._writer.name(name)} is too small")


def _times(pair: tuple[Node, Node], label: str) -> Node:
    left, right = pair
    latex = rf"{left.latex} \cdot {right.latex}"
    return Node(label, left.value * right.value, lambda: Derivation("product", pair), latex=latex)
