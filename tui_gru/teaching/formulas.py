"""Lines of the program as a reader types them: judged by their values, so that every equal form is right; and their mistakes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, permutations, product
from typing import Any

import numpy as np

from tui_gru.debugger.evaluate import function_in_float64
from tui_gru.debugger.program import Program, ProgramLine, Store, spoken
from tui_gru.equations import syntax as e
from tui_gru.equations.functions import FUNCTIONS
from tui_gru.equations.syntax import EquationError, Expression, File, Name, Parser, tokens_of
from tui_gru.errors import TuiGruError
from tui_gru.session.session import Session
from tui_gru.teaching.values import number_in_text

# ------------------------------------------------------------------------------
# The value of any formula of the names of a batch, in float64, at one timestep.


class MisfitError(Exception):
    """A formula whose shapes do not fit, or that reads what a batch does not have."""


@dataclass(frozen=True)
class BatchValues:
    """The values of a complete batch at one timestep (0-based)."""

    session: Session
    t: int

    def read(self, name: str) -> Any:
        sizes = self.session.config.compiled.sizes
        if name in sizes and name not in self.session.program.names:
            return float(sizes[name])
        value = self.session.value(name, self.t)
        if value is None:
            raise MisfitError(f"{self.session.program.writer.name(name)} is not computed in this batch")
        return np.asarray(value, np.float64)

    def value(self, node: Expression) -> Any:
        """Return the value of a formula, with the axes of its parts as NumPy has them. Raises `MisfitError`."""
        with np.errstate(all="ignore"):
            try:
                return self._value(node)
            except ValueError:
                raise MisfitError("the shapes do not fit") from None

    def _value(self, node: Expression) -> Any:
        match node:
            case Name(name=name):
                return self.read(name)
            case e.Number(value=number):
                return float(number)
            case e.Size(axes=axes):
                return float(math.prod(self.session.config.compiled.sizes[axis] for axis in axes))
            case e.Transpose(argument=argument):
                return np.transpose(self._value(argument))
            case e.Product(left=left, right=right):
                return self._product(node, left, right)
            case e.Spread(argument=argument):
                return self._value(argument)
            case e.Join(parts=parts):
                return np.concatenate([self._value(part) for part in parts], axis=-1)
            case e.Slice(argument=argument, before=before, axes=axes):
                sizes = self.session.config.compiled.sizes
                start = sum(sizes[axis] for axis in before)
                return self._value(argument)[..., start : start + sum(sizes[axis] for axis in axes)]
            case e.Reduce():
                return self._reduced(node)
            case e.Apply(function="softmax", parts=(argument,)):
                logits = np.asarray(self._value(argument))
                powers = np.exp(logits - logits.max(-1, keepdims=True))
                return powers / powers.sum(-1, keepdims=True)
            case e.Apply(function=function, parts=parts):
                return np.asarray(function_in_float64(function, *map(np.asarray, map(self._value, parts))))
        return e.combined(node, [self._value(child) for child in node.children])

    def _product(self, node: Expression, left: Expression, right: Expression) -> Any:
        a, b = np.asarray(self._value(left)), np.asarray(self._value(right))
        if not a.ndim or not b.ndim:
            raise MisfitError(f"{self.session.program.writer.text(node)} multiplies matrices, and one of the two is a number")
        if a.ndim == b.ndim == 1:
            return np.multiply.outer(a, b)
        return a @ b

    def _reduced(self, node: e.Reduce) -> Any:
        if node.over == "T" and not e.is_unwritten(node):
            steps = range(self.session.config.seq_length)
            values = np.stack([BatchValues(self.session, t).value(node.argument) for t in steps])
            return values.sum(0) if node.kind == "sum" else values.mean(0)
        value = np.asarray(self._value(node.argument))
        if e.is_unwritten(node):
            return value
        axis = 0 if node.over == "B" else -1
        return value.sum(axis) if node.kind == "sum" else value.mean(axis)


def equal(one: Any, other: Any, size: float) -> bool:
    """Return True if two values are equal but for the rounding of float64: a formula has at most some thousand operations, each of
    which rounds by 2⁻⁵³ of a number that is at most `size`."""
    a, b = np.asarray(one), np.asarray(other)
    return a.shape == b.shape and bool(np.all(np.abs(a - b) <= 2.0**-40 * size))


# ------------------------------------------------------------------------------
# The right line with one mistake in it.


def mutants(node: Expression, program: Program, writer: Any = None) -> Iterator[tuple[str, Expression]]:
    """Yield the formula with one mistake in it, after the words for the mistake."""
    writer = program.writer
    match node:
        case e.Transpose(argument=argument):
            yield f"{writer.text(argument)} has to be transposed: {writer.text(node)}", argument
        case Name(name=name) if name in program.names:
            axes, is_parameter = program.names[name].axes, name in program.parameters
            for other, named in program.names.items():
                fits = named.axes == axes and named.kind.store is not Store.NOTHING
                if other != name and fits and named.kind.is_weight == is_parameter == (other in program.parameters):
                    yield f"{writer.name(other)} in the place of {writer.name(name)}", replace(node, name=other)
            if len(axes) == 2 and "B" not in axes:
                yield f"{writer.name(name)} is not transposed here", e.Transpose(node)
        case e.Times(parts=parts):
            for i, part in enumerate(parts):
                rest = tuple(factor for j, factor in enumerate(parts) if j != i)
                yield f"the factor {_bare(writer.text(part))} is missing", rest[0] if len(rest) == 1 else e.Times(rest)
        case e.Quotient(left=left, right=right):
            yield f"it is still to be divided by {writer.text(right)}", left
        case e.Sum(parts=parts):
            for i, part in enumerate(parts):
                rest = tuple(term for j, term in enumerate(parts) if j != i)
                shown_part = _bare(writer.text(part.argument if isinstance(part, e.Negative) else part))
                yield f"the term {shown_part} is missing", rest[0] if len(rest) == 1 else e.Sum(rest)
                turned = part.argument if isinstance(part, e.Negative) else e.Negative(part)
                yield f"the term {shown_part} has the other sign", e.Sum((*parts[:i], turned, *parts[i + 1 :]))
            yield from _exchanged_shares(parts, writer)
        case e.Apply(parts=(argument,), function=function):
            yield f"{FUNCTIONS[function].text} of it is still to be taken", argument
            if function in ("sigmoid", "tanh"):
                other_function = "tanh" if function == "sigmoid" else "sigmoid"
                words = f"{FUNCTIONS[other_function].text} in the place of {FUNCTIONS[function].text}"
                yield words, replace(node, function=other_function)
        case e.Reduce(argument=argument, kind="mean", over=over) if not e.is_unwritten(node):
            yield f"that is the sum; the mean over {writer.over(over)} divides it", replace(node, kind="sum")
    for i, child in enumerate(node.children):
        for words, mutant in mutants(child, program):
            if isinstance(node, e.Transpose) and isinstance(mutant, e.Transpose):
                continue  # turned twice
            yield words, node.with_children(tuple(mutant if j == i else other for j, other in enumerate(node.children)))


def _exchanged_shares(parts: tuple[Expression, ...], writer: Any) -> Iterator[tuple[str, Expression]]:
    """Yield a sum such as z⊙a + (1 − z)⊙b with the two shares exchanged."""
    for (i, one), (j, other) in permutations(enumerate(parts), 2):
        if not (isinstance(one, e.Times) and isinstance(other, e.Times)):
            continue
        for share, rest in product(one.parts, other.parts):
            if writer.text(rest).strip("()") == f"1 − {writer.text(share)}":
                turned = list(parts)
                turned[i] = e.Times(tuple(rest if factor is share else factor for factor in one.parts))
                turned[j] = e.Times(tuple(share if factor is rest else factor for factor in other.parts))
                yield f"{writer.text(share)} and 1 − {writer.text(share)} are exchanged", e.Sum(tuple(turned))


def _bare(text: str) -> str:
    return text.removeprefix("−").strip()


# ------------------------------------------------------------------------------
# Judging of a typed line.


class LineJudge:
    """Judges what is typed for a line of the program, at all timesteps of the batch of a session.

    With `hidden`, a part of the line is asked for. Raises `TuiGruError` if there is no such line or part.
    """

    def __init__(self, session: Session, target: str, hidden: str = "") -> None:
        self.program, self.t = session.program, session.position.t
        self.target = self.program.code_name(target.strip())
        line = self.program.lines.get(self.target)
        if line is None or line.formula is None:
            targets = ", ".join(self.program.writer.name(name) for name in self.program.lines)
            raise TuiGruError(f"there is no line {target}; the lines are {targets}")
        self.line: ProgramLine = line
        self.formula: Expression = line.formula
        self._session = session
        self.asked = self._part(hidden) if hidden else self.formula

    def _part(self, hidden: str) -> Expression:
        """Return the part of the line that is written so."""
        written = {compact_formula(_bare(self.program.writer.text(node))): node for node in reversed(list(self.formula.walk()))}
        if (part := written.get(compact_formula(hidden))) is None:
            listed = ", ".join(self.program.writer.text(term) for term in self.formula.terms)
            raise TuiGruError(f"{self.line.text} has no part {hidden}; its terms are {listed}")
        return part

    @cached_property
    def batch(self) -> tuple[BatchValues, ...]:
        """The values of the batch at the end of its forward or backward pass, at the current timestep first."""
        copy, program = Session(state=self._session.state), self.program
        needs_gradients = self.line.phase in ("backward", "update")
        if needs_gradients and not copy.learning:
            copy.learning = True
        end = program.backward_end if needs_gradients else program.loss_tick
        copy.seek(copy.position.number * program.ticks + end)
        others = (t for t in range(program.seq_length) if t != self.t)
        return tuple(BatchValues(copy, t) for t in (self.t, *others))

    @property
    def answer(self) -> str:
        """The text that is asked for."""
        return self.program.writer.text(self.asked)

    def parsed(self, typed: str) -> Expression:
        """Parse what is typed, with or without `name =`. Raises `TuiGruError` if it is no formula, or has unknown names."""
        text = typed.rpartition("=")[2].strip()
        spellings: Mapping[str, str] = self.program.spellings
        try:
            tree = Parser(tokens_of(text, File("typed"), 1, symbols=spellings), spellings).formula()
        except EquationError as error:
            raise TuiGruError(f"this is not read as a formula: {error.message}") from None
        sizes = self._session.config.compiled.sizes
        for name in tree.names():
            if name not in self.program.names and name not in sizes:
                raise TuiGruError(f"there is no {name} here; {e.did_you_mean(name, self.program.spellings)}")
        return tree

    def judged(self, typed: str) -> tuple[bool, str]:
        """Return True if what is typed gives the values of the program, and what is to be said: what is wrong, or nothing."""
        try:
            tree = self.parsed(typed)
        except TuiGruError as error:
            return False, str(error)
        if any(self._fits(tree, right) for right in self._complete_forms(typed)):
            return True, ""
        line = tree if "=" in typed else self.with_part(tree)
        try:
            mine, right = self.batch[0].value(line), self.batch[0].value(self.formula)
        except MisfitError as problem:
            return False, self._named_by_text(tree) or str(problem)
        if np.shape(mine) != np.shape(right):
            shapes = [" × ".join(map(str, np.shape(value))) or "one number" for value in (mine, right)]
            return False, self._named_by_text(tree) or f"it has the shape {shapes[0]}, and {self.line.text} has {shapes[1]}"
        if self._fits(line, self.formula):
            return True, ""
        return False, self._named(line) or self._difference(mine, right)

    def judged_as(self, typed: str, mistaken: str) -> bool:
        """Return True if what is typed gives the same values as another formula, a foreseen mistake.

        Raises `TuiGruError` if that is no formula.
        """
        wrong = self.parsed(mistaken)
        try:
            return self._fits(self.parsed(typed), wrong)
        except TuiGruError:
            return False

    def _complete_forms(self, typed: str) -> Iterator[Expression]:
        """Yield the forms of the complete line that count as an answer to a question for a part of it, and in the place of −=."""
        if self.asked is not self.formula:
            yield self.formula
        if self.line.op == "-=" and "=" in typed:
            yield e.Sum((Name(self.target), e.Negative(self.formula)))

    def with_part(self, part: Expression) -> Expression:
        """Return the line with another expression in the place of the part that is asked for."""
        return part if self.asked is self.formula else _replaced(self.formula, self.asked, part)

    def _fits(self, one: Expression, other: Expression) -> bool:
        """Return True if two formulas have equal values at all timesteps; False also if the values cannot be computed."""
        try:
            return all(equal(batch.value(one), batch.value(other), self.sizes[i]) for i, batch in enumerate(self.batch))
        except MisfitError:
            return False

    @cached_property
    def sizes(self) -> tuple[float, ...]:
        """The largest number that the line computes with at each timestep."""
        nodes = [node for node in self.formula.walk() if not isinstance(node, e.Reduce)]
        return tuple(max(float(np.max(np.abs(batch.value(node)))) for node in nodes) for batch in self.batch)

    def _named_by_text(self, tree: Expression) -> str:
        """Return the words for the mistake that is written so, for a formula that cannot be evaluated; empty if there is none."""
        write = self.program.writer.text
        for words, mutant in mutants(self.asked, self.program):
            if compact_formula(write(mutant)) == compact_formula(write(tree)):
                return words
        return ""

    def _named(self, line: Expression) -> str:
        """Return the words for the mistake that gives the same values, empty if there is none or more than two."""
        for words, mistaken in self.plain_mistakes():
            if self._fits(line, mistaken):
                return words
        matches = dict.fromkeys(words for words, mistaken in self.mutants() if self._fits(line, mistaken))
        return " or ".join(matches) if len(matches) <= 2 else ""

    def plain_mistakes(self) -> Iterator[tuple[str, Expression]]:
        """Yield the line with a mistake in all of the part that is asked for, after words for it; the first that fits counts."""
        yield "the sign of the whole is the other one", e.Negative(self.formula)
        if self.asked is not self.formula:
            yield "the sign is the other one", self.with_part(e.Negative(self.asked))
        terms = self.asked.terms
        texts = [_bare(self.program.writer.text(term)) for term in terms]
        for count in range(2, len(terms)):
            for missing in combinations(range(len(terms)), count):
                rest = tuple(term for i, term in enumerate(terms) if i not in missing)
                words = f"the terms {' and '.join(texts[i] for i in missing)} are missing"
                yield words, self.with_part(rest[0] if len(rest) == 1 else e.Sum(rest))
        sizes = self._session.config.compiled.sizes
        factors = {"B": sizes["B"], "T": sizes["T"], "B·T": sizes["B"] * sizes["T"]} if {"B", "T"} <= sizes.keys() else {}
        for letters, size in factors.items():
            if size > 1:
                scaled = {"large": e.Times((self.asked, e.number(size))), "small": e.Quotient(self.asked, e.number(size))}
                for words, part in scaled.items():
                    yield f"it is {size} times too {words}, and {letters} = {size}", self.with_part(part)

    def mutants(self) -> Iterator[tuple[str, Expression]]:
        """Yield the line with one mistake in a detail of the part that is asked for, after the words for it."""
        for words, mutant in mutants(self.asked, self.program):
            yield words, self.with_part(mutant)

    def _difference(self, mine: Any, right: Any) -> str:
        """Say where what is typed differs most, with both numbers."""
        a, b = np.asarray(mine), np.asarray(right)
        if not a.ndim:
            return f"it would be {number_in_text(a)}; the program has {number_in_text(b)}"
        at = tuple(map(int, np.unravel_index(int(np.argmax(np.abs(a - b))), a.shape)))
        fitting = int(np.count_nonzero(np.abs(a - b) <= 2.0**-40 * self.sizes[0]))
        entry = spoken(self.program, self.target, at) if self.line.phase != "update" else f"entry {at}"
        numbers = f"would be {number_in_text(a[at])}; the program has {number_in_text(b[at])}"
        return f"with it {entry} {numbers}. It fits in {fitting} of {a.size} entries"


def _replaced(node: Expression, part: Expression, other: Expression) -> Expression:
    """Return a formula with another expression in the place of one of its nodes."""
    if node is part:
        return other
    return node.with_children(tuple(_replaced(child, part, other) for child in node.children)) if node.children else node


def compact_formula(text: str) -> str:
    """Return a formula without blanks, with the signs of the screen."""
    return "".join(text.split()).replace("-", "−").replace("*", "⊙").replace(".T", "ᵀ").replace("'", "ᵀ")
