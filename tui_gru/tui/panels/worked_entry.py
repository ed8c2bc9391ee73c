"""One entry of a line's result worked out: its terms with their recorded values, what they make, and a word on each pick."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

from tui_gru.debugger.formula import (
    FUNCTIONS,
    Apply,
    Difference,
    Formula,
    Name,
    Number,
    Product,
    Quotient,
    Reduce,
    Sum,
    Times,
    Transpose,
)  # fmt: skip
from tui_gru.tui.characters import visible
from tui_gru.tui.glyphs import transliterate
from tui_gru.tui.palette import Palette
from tui_gru.tui.panels.operands import Operand, Operands
from tui_gru.tui.widgets import numbers
from tui_gru.tui.widgets.boxes import Box, from_rows

#: Sums of more terms than this are written with their first and their last.
LONGEST = 4


def number(x: Any) -> str:
    """A recorded number in a line of text: four decimals as in the matrices unless whole, a minus as in print, no plus."""
    if float(x).is_integer() and abs(x) < 1000:
        return f"{x:.0f}".removeprefix("-" if x == 0 else "").replace("-", "−")
    return numbers.wide(x).strip().removeprefix("+").replace("-", "−")


def joined(terms: Sequence[str]) -> list[str]:
    """Summands with the sign that joins each to those before: `a`, `+ b`, `− c`."""
    rest = [f"− {term[1:]}" if term.startswith("−") else f"+ {term}" for term in terms[1:]]
    return [*terms[:1], *rest]


def _shortened(count: int, term: Callable[[int], str]) -> list[str]:
    if count <= LONGEST:
        return [term(k) for k in range(count)]
    return [term(0), f"… {count} terms …", term(count - 1)]


@dataclass(frozen=True)
class WorkedEntry:
    """The entry of a line's result in the batch row that is looked at (0 if none is), in the first unit or at the target."""

    operands: Operands
    row: int

    def pieces(self, palette: Palette) -> list[tuple[str, Style]]:
        """What it says, in pieces that a line may be broken between."""
        operands, line = self.operands, self.operands.line
        assert line.formula is not None
        result, before = operands.result, operands.before
        i, j = self._place(result)
        terms = self._terms(line.formula, i, j)
        if line.op == "+=":
            terms = [number(before.values[i, j]) if before is not None else "0", *terms]
        if line.op == "-=" and before is not None:
            terms = [number(before.values[i, j]), *map(_negated, terms)]
        pieces = [(f"{where}:", palette.dim)] if (where := self._where(result, i, j)) else []
        pieces += [(term, palette.plain) for term in joined(terms)]
        value = number(result.values if result.is_number else result.values[i, j])
        activation = operands.activation
        if activation is None:
            pieces.append((f"= {value}", palette.accent))
        else:
            assert isinstance(line.formula, Apply)
            pieces.append((f"= {number(activation.values[i, j])}", palette.plain))
            pieces.append((f"  {FUNCTIONS[line.formula.function][0]} → {value}", palette.accent))
        if (step := operands.step) is not None:
            pieces.append((f"  a step of {number(step[i, j])}", palette.dim))
        if word := self._pick():
            pieces.append((f"  {word}", palette.dim))
        return pieces

    def box(self, palette: Palette, width: int) -> Box:
        """The pieces in as many lines as the width asks for."""
        lines: list[list[Segment]] = [[]]
        used = 0
        for content, style in self.pieces(palette):
            piece = transliterate(content, palette.glyphs)
            for part in [piece] if cell_len(piece) + 2 <= width else piece.split():
                if lines[-1] and used + 1 + cell_len(part) > width:
                    lines.append([Segment(" ")])
                    used, part = 1, part.lstrip()
                written = f" {part}" if lines[-1] else part
                lines[-1].append(Segment(written, style))
                used += cell_len(written)
        return from_rows(lines)

    # Which entry

    def _place(self, result: Operand) -> tuple[int, int]:
        given, target = self.operands.given(self.row), self.operands.target(self.row)
        i = {"row": self.row, "character": given}.get(result.rows, 0)
        return i, target if result.columns == "character" else 0

    def _where(self, result: Operand, i: int, j: int) -> str:
        return ", ".join(self._named(what, index) for what, index in ((result.rows, i), (result.columns, j)) if what)

    def _named(self, what: str, index: int) -> str:
        return f"“{visible(self.operands.vocabulary[index])}”" if what == "character" else f"{what} {index + 1}"

    def _pick(self) -> str:
        read = self.operands.line.reads
        if self.operands.line.target == "term2":
            return f"only the target {visible(self.operands.vocabulary[self.operands.target(self.row)])} counts"
        weights = next((name for name in read if name[0] == "W"), "")
        if "x" not in read or not weights:
            return ""
        pick = self.operands.given(self.row)
        char = self.operands.vocabulary[pick]
        return f"the {'letter' if char.isalpha() else 'character'} {visible(char)} picks row {pick + 1} of {weights}"

    # What it is made of

    def _terms(self, node: Formula, i: int, j: int) -> list[str]:
        """The summands of entry (i, j) of a formula."""
        match node:
            case Sum(parts):
                return [term for part in parts for term in self._terms(part, i, j)]
            case Difference(left, right):
                return [*self._terms(left, i, j), *map(_negated, self._terms(right, i, j))]
            case Product(Name("x"), right):
                return [self._factor(right, self.operands.read("x").picks[i], j)]
            case Product(Transpose(Name("x")), right):
                rows = [k for k, pick in enumerate(self.operands.read("x").picks) if pick == i]
                return _shortened(len(rows), lambda k: self._factor(right, rows[k], j)) or ["0"]
            case Product(left, right):
                return _shortened(self._inner(right), lambda k: self._multiplied(left, right, (i, k), (k, j)))
            case Apply("sigmoid" | "tanh", argument):
                return self._terms(argument, i, j)
            case Apply("softmax", argument):
                return self._softmax(argument, i, j)
            case Reduce():
                return self._reduced(node, i, j)
            case _:
                return [self._factor(node, i, j)]

    def _factor(self, node: Formula, i: int, j: int) -> str:
        """Entry (i, j) of a formula as a factor: one number, or something in parentheses."""
        recorded = self.operands.recorded(node) if isinstance(node, Times) else None
        if recorded is not None:
            return number(recorded.values[i, j])
        match node:
            case Name(name):
                operand = self.operands.read(name)
                if operand.setting:
                    return f"{operand.values:g}"
                return number(operand.values[i if operand.rows else 0, j])
            case Number(value):
                return self.operands.number(value)
            case Transpose(argument):
                return self._factor(argument, j, i)
            case Times(left, right):
                return self._multiplied(left, right, (i, j), (i, j))
            case Quotient(left, right):
                return f"{self._factor(left, i, j)} / {self._factor(right, i, j)}"
            case Apply(function, argument):
                return f"{FUNCTIONS[function][0]} {self._factor(argument, i, j)}"
            case _:
                return f"({' '.join(joined(self._terms(node, i, j)))})"

    def _multiplied(self, left: Formula, right: Formula, at: tuple[int, int], other: tuple[int, int]) -> str:
        return f"{self._factor(left, *at)}·{self._factor(right, *other)}"

    def _inner(self, right: Formula) -> int:
        """The number of terms of a matrix product, by its right factor."""
        if isinstance(right, Transpose):
            assert isinstance(right.argument, Name)
            return int(self.operands.read(right.argument.name).values.shape[1])
        assert isinstance(right, Name)
        return len(self.operands.read(right.name).values)

    def _softmax(self, argument: Formula, i: int, j: int) -> list[str]:
        assert isinstance(argument, Name)
        count = self.operands.read(argument.name).values.shape[1]
        every = _shortened(count, lambda k: f"e^{self._factor(argument, i, k)}")
        return [f"e^{self._factor(argument, i, j)} / ({' + '.join(every)})"]

    def _reduced(self, node: Reduce, i: int, j: int) -> list[str]:
        assert isinstance(node.argument, Name)
        values = self.operands.read(node.argument.name).values
        entries = values[:, j] if node.over == "the rows" else values[min(i, len(values) - 1)]
        if node.over == "the vocabulary" and len(entries) > LONGEST:
            entries = entries[entries != 0]
        terms = _shortened(len(entries), lambda k: number(entries[k])) or ["0"]
        if node.kind == "sum":
            return terms
        return [f"{'−' if node.sign < 0 else ''}({' '.join(joined(terms))}) / {len(entries)}"]


def _negated(term: str) -> str:
    return term[1:] if term.startswith("−") else f"−{term}"
