"""Numbers that are wrong in a way that can be named: worked out from the derivation of the right one, or from its expression."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import NamedTuple

import numpy as np

from tui_gru.debugger.derivation import Node
from tui_gru.debugger.evaluate import function_in_float64
from tui_gru.debugger.expressions import ConditionError, ExpressionText
from tui_gru.debugger.position import TypedError, index_in_words_of
from tui_gru.debugger.program import ValueKind, spoken
from tui_gru.equations.functions import FUNCTIONS
from tui_gru.errors import TuiGruError
from tui_gru.session.session import Session
from tui_gru.teaching.formulas import BatchValues, LineJudge, MisfitError
from tui_gru.teaching.values import WORD, LessonValues, number_in_text

# ------------------------------------------------------------------------------
# The number that a question asks for.


class Slip(NamedTuple):
    """A wrong number, and what it is. `rank` sorts those that fit the typed digits: of several, the lowest is likelier."""

    value: float
    words: str
    rank: int


@dataclass(frozen=True)
class Reference:
    """One entry of a name at a timestep (0-based), with the sign that the expression has before it."""

    name: str
    index: tuple[int, ...]
    t: int | None
    sign: int = 1


def referred(session: Session, typed: str) -> Reference | None:
    """Return the entry that an expression consists of, such as `-term2[row 1] t 2`; None for any other expression."""
    text, sign = typed.strip(), 1
    if text[:1] in ("-", "−"):
        text, sign = text[1:].strip(), -1
    t: int | None = None
    before, word, number = text.rpartition(" t ")
    if word and number.strip().isdecimal():
        text, t = before.strip(), int(number) - 1
    name, bracket, rest = text.partition("[")
    program, index = session.program, tuple[int, ...]()
    name = program.code_name(name.strip())
    if name not in program.names or (bracket and rest.find("]") != len(rest) - 1):
        return None
    if bracket:
        try:
            spoken_index = index_in_words_of(program, name, rest[:-1], 1)
            index = tuple(int(part) for part in rest[:-1].split(",")) if spoken_index is None else spoken_index
        except (TypedError, ValueError):
            return None
    shape = program.shapes.get(name, ())
    return Reference(name, index, t, sign) if len(index) == len(shape) else None


# ------------------------------------------------------------------------------
# Derivations that are computed again with a mistake in them.


MOST_SUBSETS = 6  # terms of a sum of which every subset is left out; of more, each one
MOST_TERMS = 64  # of a derivation that is looked into
DEPTH = 2  # levels of a derivation in which a mistake is looked for
LEVELS = (1, 2, 3)  # of the derivation from which a reader may have computed the number


def combined_value(node: Node, parts: Sequence[float]) -> float | None:
    """Return the value of a node from the signed values of its terms; None if it is computed in a way that is not a formula."""
    kind, scale = node.derivation.kind, node.derivation.scale
    with np.errstate(all="ignore"):
        try:
            match kind:
                case "sum":
                    return math.fsum(parts) * scale
                case "product":
                    return math.prod(parts) * scale
                case "copy" if len(parts) == 1:
                    return parts[0] * scale
                case "quotient" if len(parts) == 2 and parts[1]:
                    return parts[0] / parts[1] * scale
                case "power" if len(parts) == 2:
                    return float(parts[0] ** parts[1] * scale)
                case "norm":
                    return math.sqrt(math.fsum(part * part for part in parts)) * scale
                case _ if kind in FUNCTIONS and FUNCTIONS[kind].arity == 1:
                    return float(function_in_float64(kind, np.float64(math.fsum(parts)))) * scale
        except (ValueError, OverflowError, ArithmeticError):
            pass
    return None


def computed_from_rounded(node: Node, levels: int, rounded: Callable[[float], float]) -> float:
    """Return the value of a node as a reader computes it from rounded numbers, so many levels of its derivation below."""
    if levels == 0 or not node.derivation.near or not 0 < len(node.terms) <= MOST_TERMS:
        return rounded(node.value)
    parts = [term.sign * computed_from_rounded(term, levels - 1, rounded) for term in node.terms]
    value = combined_value(node, parts)
    return node.value if value is None else value


def as_on_screen(number: float) -> float:
    """Return a number with the digits that the screen and the lesson show."""
    if not math.isfinite(number) or number == int(number):
        return number
    return float(f"{number:.4f}" if 5e-4 <= abs(number) < 1e4 else f"{number:.1e}")


def rounded_slips(node: Node) -> Iterator[Slip]:
    """Yield what the number is if it is computed from numbers with one decimal or two."""
    for decimals, words in ((1, "one decimal"), (2, "two decimals")):
        for levels in LEVELS[:2]:
            value = computed_from_rounded(node, levels, partial(round, ndigits=decimals))
            yield Slip(value, f"it is computed from numbers rounded to {words}; take all digits that the screen shows", 4)


def derived_slips(node: Node, depth: int = DEPTH) -> Iterator[Slip]:
    """Yield what the number is with a mistake in its derivation, at most `depth` levels below."""
    if not node.derivation.near or not 0 < len(node.terms) <= MOST_TERMS:
        return
    terms, parts = node.terms, [term.contribution for term in node.terms]
    right = combined_value(node, parts)
    if right is None or not math.isclose(right, node.value, rel_tol=1e-3, abs_tol=1e-12):
        return  # the terms alone do not say how it is computed
    kind, scale = node.derivation.kind, node.derivation.scale

    def made(values: Sequence[float], words: str, rank: int) -> Iterator[Slip]:
        if (value := combined_value(node, values)) is not None:
            yield Slip(value, words, rank)

    labels = [term.label.strip() for term in terms]
    if kind in FUNCTIONS and kind != "norm":
        function = FUNCTIONS[kind].text
        yield Slip(math.fsum(parts) * scale, f"{function} of it is still to be taken", 1)
        if kind in ("sigmoid", "tanh"):
            other = "tanh" if kind == "sigmoid" else "sigmoid"
            value = float(function_in_float64(other, np.float64(math.fsum(parts)))) * scale
            yield Slip(value, f"that is {FUNCTIONS[other].text} in the place of {function}", 2)
    if node.derivation.adds and kind != "norm":
        if abs(scale) != 1:
            words = f"that is the sum; the mean divides it by {number_in_text(1 / abs(scale))}"
            yield Slip(math.fsum(parts) * math.copysign(1, scale), words, 1)
        yield from _without_terms(node, labels, parts)
        if len(parts) > 1:
            for i, part in enumerate(parts):
                if part:
                    yield from made(
                        [-v if i == j else v for j, v in enumerate(parts)], f"the term {labels[i]} has the other sign", 2
                    )
    if kind == "norm":
        yield Slip(node.value**2, "that is the square; its root is still to be taken", 1)
    if kind == "product" and len(parts) > 1:
        for i, label in enumerate(labels):
            yield from made([1.0 if i == j else v for j, v in enumerate(parts)], f"the factor {label} is missing", 2)
    if kind == "quotient":
        yield from made([parts[0], 1.0], f"it is still to be divided by {labels[1]}, {number_in_text(parts[1])}", 1)
        yield from made([parts[0] * parts[1], 1.0], f"it is multiplied by {labels[1]} in the place of divided", 3)
    if depth > 1:
        for i, term in enumerate(terms):
            for slip in derived_slips(term, depth - 1):
                values = [term.sign * slip.value if i == j else v for j, v in enumerate(parts)]
                yield from made(values, f"{slip.words} (in {labels[i]})", slip.rank + 2)


def _without_terms(node: Node, labels: list[str], parts: list[float]) -> Iterator[Slip]:
    counts = range(1, len(parts)) if len(parts) <= MOST_SUBSETS else (1,)
    for count in counts:
        for missing in combinations(range(len(parts)), count):
            if not all(parts[i] for i in missing):
                continue
            value = combined_value(node, [v for i, v in enumerate(parts) if i not in missing])
            if value is not None:
                words = " and ".join(f"{labels[i]} ({number_in_text(parts[i])})" for i in missing)
                yield Slip(value, f"the term {words} is missing" if count == 1 else f"the terms {words} are missing", count)


# ------------------------------------------------------------------------------
# Other numbers that are mistaken for the right one.


def _group(kind: ValueKind) -> str | None:
    """Return what the numbers of a kind are mistaken for: numbers of the same group."""
    if kind in (ValueKind.VALUE, ValueKind.STATE):
        return "forward"
    return "backward" if kind is ValueKind.VALUE_GRADIENT else None


def mutated_lines(session: Session, reference: Reference) -> Iterator[Slip]:
    """Yield the number as its line computes it with another name in the place of one, or with a matrix that is transposed."""
    line = session.program.lines.get(reference.name)
    if line is None or line.formula is None or line.op != "=" or line.phase == "update" or not reference.index:
        return
    try:
        judge = LineJudge(session, reference.name)
        t = session.position.t if reference.t is None else reference.t
        values = BatchValues(judge.batch[0].session, t)
    except TuiGruError:
        return
    for words, mistaken in judge.mutants():
        if any(word in words for word in ("transposed", "in the place of", "exchanged")):
            try:
                array = np.asarray(values.value(mistaken))
                yield Slip(reference.sign * float(array[reference.index]), words, 2)
            except (MisfitError, TuiGruError, IndexError, TypeError):
                continue


def neighbours(session: Session, reference: Reference) -> Iterator[Slip]:
    """Yield the other entries of the name, and the same entry at other timesteps."""
    program, name, index, sign = session.program, reference.name, reference.index, reference.sign
    array = session.value(name, reference.t)
    if isinstance(array, np.ndarray) and array.dtype.kind == "f" and array.size <= 4096:
        swapped = index[::-1] if len(index) == 2 and array.shape[0] == array.shape[1] else None
        for other in np.ndindex(array.shape):
            if other != index:
                words = f"that is {spoken(program, name, other)}"
                words += ", with row and column exchanged" * (other == swapped and "B" not in program.names[name].axes)
                near = sum(a != b for a, b in zip(other, index, strict=True))
                yield Slip(sign * float(array[other]), words, 1 + near)
    group = _group(program.names[name].kind)
    for other_name, named in program.names.items():
        if other_name != name and named.axes == program.names[name].axes and _group(named.kind) == group is not None:
            other_value = session.value(other_name, reference.t)
            if isinstance(other_value, np.ndarray) and other_value.dtype.kind == "f":
                yield Slip(sign * float(other_value[index]), f"that is {spoken(program, other_name, index)}", 3)
    if program.names[name].timed:
        now = session.position.t if reference.t is None else reference.t
        for t in range(program.seq_length):
            value = session.value(name, t) if t != now else None
            if value is not None:
                yield Slip(sign * float(np.asarray(value)[index]), f"that is {spoken(program, name, index)} at t {t + 1}", 2)


def other_units(session: Session, true: float, expression: str) -> Iterator[Slip]:
    """Yield the number in other units, with the other sign, and multiplied or divided by what means divide by.

    Only a number of the loss has been through a logarithm, and only one of gradients and weights through the learning rate.
    """
    if not true or not math.isfinite(true):
        return
    program = session.program
    words_in = {program.code_name(word) for word in WORD.findall(expression)}
    kinds = {program.names[name].kind for name in words_in if name in program.names}
    is_step = any(kind.is_weight or kind is ValueKind.GRADIENT for kind in kinds) or bool(words_in & {"learning_rate", "grad_norm"})
    yield Slip(-true, "the sign is the other one", 0)
    if words_in & {*program.loss_names[1:], "loss", "losses", "log"}:
        yield Slip(true / math.log(2), "that is in bits, by log₂; the program uses nats, by the natural logarithm", 3)
        yield Slip(true / math.log(10), "that is by log₁₀; the program uses the natural logarithm", 3)
        if 0 < abs(true) < 50:
            yield Slip(math.exp(-abs(true)), "that is the chance itself; its surprise is −log of it", 4)
    elif not is_step and 0 < abs(true) <= 1:
        yield Slip(100 * true, f"that is in percent; the number is {number_in_text(100)} times smaller, or write % after it", 3)
    sizes = session.config.sizes
    factors = {f"{axis} = {size}": size for axis, size in sizes.items() if axis in ("B", "T") and size > 1}
    if {"B", "T"} <= sizes.keys() and sizes["B"] > 1 < sizes["T"]:
        factors[f"B·T = {sizes['B'] * sizes['T']}"] = sizes["B"] * sizes["T"]
    for words, size in factors.items():
        yield Slip(true * size, f"it is {size} times too large, and {words}", 3)
        yield Slip(true / size, f"it is {size} times too small, and {words}", 3)
    rate = session.value("learning_rate") if "learning_rate" in program.names else 0
    if is_step and rate and rate != 1:
        yield Slip(true * float(rate), f"that is η = {number_in_text(float(rate))} times the number", 4)
        yield Slip(true / float(rate), f"that is the number divided by η = {number_in_text(float(rate))}", 4)


def expression_slips(values: LessonValues, typed: str, model: str) -> Iterator[Slip]:
    """Yield what an expression is with a mistake in it: a term, a factor or a function left out, another sign, a product in the
    place of a power."""
    try:
        expression, numbers = values.prepared(typed, model)
        session = values.session(model)
        names = {**session.program.spellings, **{name: name for name in numbers}}
        text = ExpressionText(expression, names=session.program.spellings if not numbers else names)
    except (ConditionError, TuiGruError):
        return
    source = expression.strip()
    for node in (part for part in ast.walk(text.tree) if isinstance(part, ast.expr)):
        for words, replacement in _mistakes(node, lambda part: text.place(part).text):
            place = text.place(node)
            start = place.column - 1
            changed = f"{source[:start]}({replacement}){source[start + len(place.text) :]}"
            try:
                value = float(session.calculate(changed, numbers=numbers))
            except (TuiGruError, TypeError, ValueError):
                continue
            yield Slip(value, words, 2)


def _mistakes(node: ast.AST, text_of: Callable[[ast.expr], str]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong, and the text that is then in the place of a node."""
    match node:
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=right):
            a, b, plus = text_of(left), text_of(right), isinstance(op, ast.Add)
            yield f"the term {b} is missing", a
            yield f"the term {a} is missing", f"{'' if plus else '-'}({b})"
            yield f"the term {b} has the other sign", f"({a}) {'-' if plus else '+'} ({b})"
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            a, b = text_of(left), text_of(right)
            yield f"the factor {b} is missing", a
            yield f"the factor {a} is missing", b
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            a, b = text_of(left), text_of(right)
            yield f"it is still to be divided by {b}", a
            yield f"it is multiplied by {b} in the place of divided", f"({a}) * ({b})"
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            a, b = text_of(left), text_of(right)
            yield f"the power of {b} is missing", a
            yield f"that is {b} times {a}; it is to the power of {b}", f"({a}) * ({b})"
            yield "that is one power too few", f"({a}) ** (({b}) - 1)"
            yield "that is one power too many", f"({a}) ** (({b}) + 1)"
        case ast.Call(func=ast.Name(id="norm"), args=[_]):
            yield "that is the square; its root is still to be taken", f"({text_of(node)}) ** 2"
        case ast.Call(func=ast.Name(id=function), args=[argument]):
            yield f"{function} of it is still to be taken", text_of(argument)


def slips_of(values: LessonValues, typed: str, true: float, model: str = "") -> list[Slip]:
    """Return the wrong numbers near the value of an expression, likeliest first, each value once."""
    model, expression = values.model_of(typed, model)
    session = values.session(model)
    candidates = list(other_units(session, true, expression))
    reference = referred(session, expression)
    if reference is None:
        candidates += expression_slips(values, expression, model)
    else:
        candidates += neighbours(session, reference)
        candidates += mutated_lines(session, reference)
        try:
            node = session.explain(reference.name, reference.index, reference.t)
        except TuiGruError:
            node = None
        if node is not None:
            slips = (*derived_slips(node), *rounded_slips(node))
            candidates += [slip._replace(value=reference.sign * slip.value) for slip in slips]
    named: dict[tuple[float, str], Slip] = {}
    for slip in sorted(candidates, key=lambda slip: slip.rank):
        if math.isfinite(slip.value):
            named.setdefault((slip.value, slip.words), slip)
    return list(named.values())


def readings(values: LessonValues, typed: str, true: float, model: str = "") -> list[float]:
    """Return the right number, and what a reader computes for it from the rounded numbers on the screen."""
    model, expression = values.model_of(typed, model)
    session = values.session(model)
    reference = referred(session, expression)
    numbers = [true]
    if reference is not None:
        try:
            node = session.explain(reference.name, reference.index, reference.t)
            numbers += [reference.sign * computed_from_rounded(node, levels, as_on_screen) for levels in LEVELS]
        except TuiGruError:
            pass
        return numbers
    try:
        source, prepared = values.prepared(expression, model)
        names = {name for name in session.program.names if session.program.shapes.get(name, ()) or name in ("loss", "grad_norm")}
        text = ExpressionText(source, names={**session.program.spellings, **{name: name for name in prepared}})
        used = {node.id for node in ast.walk(text.tree) if isinstance(node, ast.Name)}
        rounded = {name: _rounded(value) for name, value in prepared.items() if name in used}
        for name in used & names:
            if (value := session.value(name)) is not None:
                rounded[name] = _rounded(value)
        numbers.append(float(session.calculate(source, numbers={**prepared, **rounded})))
    except (TuiGruError, TypeError, ValueError):
        pass
    return numbers


def _rounded(value: object) -> object:
    array = np.asarray(value)
    return value if array.dtype.kind != "f" else np.vectorize(as_on_screen, otypes=[float])(array)[()]
