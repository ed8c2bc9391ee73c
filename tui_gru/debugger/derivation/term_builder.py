"""Builds the derivation of one entry of a line, or of a part of it: its terms, with their numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from tui_gru.debugger.derivation.entries import FactorTerm, signed, terms_of
from tui_gru.debugger.derivation.evaluation import EVERY, AnyIndex, MomentNumbers
from tui_gru.debugger.derivation.origin import Derivation, Node, ValueRef, given
from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.program.names import ValueKind, counted
from tui_gru.debugger.program.naming import axis_index_in_words, character
from tui_gru.debugger.timeline.moment import Moment
from tui_gru.equations import expression as e
from tui_gru.equations.backward import of_each_timestep
from tui_gru.equations.expression import Expression, Name
from tui_gru.equations.writing import over_words


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
            case e.Apply(function="log", parts=(Name(name=name),)) if self._softmax_of(name) is not None:
                return self._log_of_softmax(node, name, index, tick, t)
        made = terms_of(node, index, numbers)
        terms = tuple(self._term(node, made.term(k), k, numbers, tick) for k in range(made.size))
        return self._noted(node, index, Derivation(made.kind, terms, made.scale), numbers)

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
        named = self._program.config.compiled.schedule.named
        timed, once = list[Expression](), list[Expression]()
        for term in (formula,) if formula.label else formula.terms:
            (timed if of_each_timestep(term, lambda name: named[name].axes) else once).append(term)
        each = e.Sum(tuple(timed)) if len(timed) > 1 else next(iter(timed), formula)

        def share(t: int) -> Node:
            numbers = self.numbers(tick, t)
            at = numbers.index_of(each, formula, index)
            latex = rf"\left({self._writer.latex(each)}\right)_{{t={t + 1}}}"
            value = float(numbers.value(each, at))
            return Node(f"t {t + 1}", value, lambda: expanded(self.formula(each, at, tick, t), t), latex=latex)

        last = self._program.seq_length - 1
        whole = [signed(term, formula, index, self.numbers(tick, last)) for term in once]
        return [
            *(share(t) for t in (timesteps if timed else ())),
            *(self.entry(part.formula, part.at, tick, last, part.sign) for part in whole),
        ]

    def _term(self, node: Expression, term: FactorTerm, k: int, numbers: MomentNumbers, tick: int) -> Node:
        nodes = [self.entry(part.formula, part.at, tick, numbers.t if part.t is None else part.t, part.sign) for part in term]
        if len(nodes) == 2:
            while not isinstance(node, e.Product):  # a transposed product
                (node,) = node.children
            return _times((nodes[0], nodes[1]), f"{self._writer.text(node)} at {self._said(node.left, k, numbers)}")
        return nodes[0] if term[0].t is None else replace(nodes[0], label=f"{nodes[0].label} at t {k + 1}")

    def _noted(self, node: Expression, index: AnyIndex, made: Derivation, numbers: MomentNumbers) -> Derivation:
        """Return the derivation with a note on what its terms do not show."""
        match node:
            case e.Transpose(argument=argument):
                return self._noted(argument, index[::-1], made, numbers)
            case e.Product(left=Name(name=name), right=right) if numbers.is_one_hot(name):
                pick = int(numbers.read(name)[index[0]].argmax())
                picks = f"{character(pick, self._vocabulary)} picks row {pick + 1} of {self._writer.text(right)}"
                return replace(made, note=picks)
            case e.Product(left=e.Transpose(argument=Name(name=name))) if numbers.is_one_hot(name):
                return made if made.terms else given(f"no row reads {character(index[0], self._vocabulary)} at this timestep")
            case e.Product(left=left) if made.kind == "sum":
                return replace(made, note=f"over {self._counted(left, numbers)}")
            case e.Reduce(kind=kind, argument=argument):
                if e.is_unwritten(node):
                    return self._noted(argument, index, made, numbers)
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

    def entry(self, node: Expression, index: AnyIndex, tick: int, t: int, sign: int = 1) -> Node:
        """Return the node of one entry of a part of a line: a number of the run if named, else a value with its own terms."""
        numbers = self.numbers(tick, t)
        if isinstance(node, e.Transpose) and not node.label:
            return self.entry(node.argument, index[::-1], tick, t, sign)
        if isinstance(node, e.Activation) and node.argument.label:
            return self.entry(node.argument, index, tick, t, sign)
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
        stored = isinstance(node, e.Activation)
        return Node(text, value, lambda: self.formula(node, index, tick, t), sign=sign, exact=stored, latex=latex)

    def _is_shown_by_name(self, name: str) -> bool:
        """Return True if a labelled part is shown by its name (az, dh_carry) instead of its formula (1 − z)."""
        return self._program.names[name].kind is not ValueKind.VALUE or name in self._program.preactivations

    def _counted(self, left: Expression, numbers: MomentNumbers) -> str:
        """Return what a matrix product sums over in words: units, characters, rows, characters and units."""
        return " and ".join(dict.fromkeys(f"{counted(axis)}s" for axis in numbers.axes(left)[-1].split("+")))

    def _said(self, left: Expression, k: int, numbers: MomentNumbers) -> str:
        return axis_index_in_words(self._program, numbers.axes(left)[-1], k)

    def _softmax_of(self, name: str) -> e.Apply | None:
        """Return the softmax that a line computes; None for any other name."""
        line = self._program.lines.get(name)
        formula = line.formula if line is not None else None
        return formula if isinstance(formula, e.Apply) and formula.function == "softmax" else None

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
        words = over_words(self.numbers(tick, t).axes(node)[-1])
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
