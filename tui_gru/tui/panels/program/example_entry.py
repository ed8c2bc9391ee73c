"""One entry of the result of a line, computed with recorded numbers: `z[…]: 0.1·0.2 + … = 0.3`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

from tui_gru.debugger.derivation.entries import Factor, Terms, terms_of
from tui_gru.debugger.derivation.evaluation import MomentNumbers
from tui_gru.debugger.program.naming import index_in_words, joined, shown_char
from tui_gru.engine import numbers
from tui_gru.equations import expression as e
from tui_gru.equations.expression import FUNCTIONS, Apply, Name
from tui_gru.equations.writing import decimal
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.look.themes import Palette
from tui_gru.tui.panels.program.operands import Operands
from tui_gru.tui.widgets.boxes import Box, from_rows

#: Sums of more terms than this are abbreviated to the first and the last term.
LONGEST = 4


def number(x: Any) -> str:
    """Format a recorded number: four decimals as in the matrices unless it is whole, with a minus sign but no plus sign."""
    if float(x).is_integer() and abs(x) < 1000:
        return f"{x:.0f}".removeprefix("-" if x == 0 else "").replace("-", "−")
    return numbers.plain(x).replace("-", "−")


def _shortened(count: int, term: Callable[[int], str]) -> list[str]:
    if count <= LONGEST:
        return [term(k) for k in range(count)]
    return [term(0), f"… {count} terms …", term(count - 1)]


@dataclass(frozen=True)
class ExampleEntry:
    """An entry of the result of a line: in row `row` of the batch, at the first unit or at the target."""

    operands: Operands
    row: int

    def pieces(self, palette: Palette, *, brief: bool = False) -> list[tuple[str, Style]]:
        """Return the text in styled pieces; lines may be broken between them. With `brief`, only the terms and the result."""
        operands, line = self.operands, self.operands.line
        assert line.formula is not None
        result, before = operands.result, operands.before
        i, j = self._place
        activation = operands.activation
        formula = line.formula.argument if activation is not None and isinstance(line.formula, Apply) else line.formula
        terms = self._summands(Factor(formula, self.index))
        if line.op == "+=":
            terms = [number(before.values[i, j]) if before is not None else "0", *terms]
        if line.op == "-=" and before is not None:
            terms = [number(before.values[i, j]), *map(_negated, terms)]
        pieces = [(f"{where}:", palette.dim)] if not brief and (where := self._where()) else []
        pieces += [(term, palette.plain) for term in joined(terms)]
        value = number(result.values if result.is_number else result.values[i, j])
        if activation is None:
            pieces.append((f"= {value}", palette.accent))
        else:
            assert isinstance(line.formula, Apply)
            pieces.append((f"= {number(activation.values[i, j])}", palette.plain))
            pieces.append((f"  {FUNCTIONS[line.formula.function].text} → {value}", palette.accent))
        if brief:
            return pieces
        if (step := operands.step) is not None:
            pieces.append((f"  a step of {number(step[i, j])}", palette.dim))
        if word := self._pick():
            pieces.append((f"  {word}", palette.dim))
        return pieces

    def box(self, palette: Palette, width: int, *, brief: bool = False) -> Box:
        """Return the pieces in as many lines as they need at this width."""
        lines: list[list[Segment]] = [[]]
        used = 0
        for content, style in self.pieces(palette, brief=brief):
            piece = transliterate(content, palette.glyphs)
            for part in [piece] if cell_len(piece) + 2 <= width else piece.split():
                if lines[-1] and used + 1 + cell_len(part) > width:
                    lines.append([Segment(" ")])
                    used, part = 1, part.lstrip()
                written = f" {part}" if lines[-1] else part
                lines[-1].append(Segment(written, style))
                used += cell_len(written)
        return from_rows(lines)

    @property
    def _numbers(self) -> MomentNumbers:
        return self.operands.numbers

    # The index of the entry

    @property
    def index(self) -> tuple[int, ...]:
        """The index of the entry in the array of the result, which has no axis for rows or columns if there is only one."""
        return tuple(at for _, at in self._axes)

    @property
    def _place(self) -> tuple[int, int]:
        """The row and the column of the entry in the result as it is drawn."""
        result, given, target = self.operands.result, self.operands.given(self.row), self.operands.target(self.row)
        i = {"row": self.row, "character": given}.get(result.rows, 0)
        return i, target if result.columns == "character" else 0

    @property
    def _axes(self) -> list[tuple[str, int]]:
        result = self.operands.result
        return [(axis, at) for axis, at in zip((result.rows, result.columns), self._place, strict=True) if axis]

    def _where(self) -> str:
        return ", ".join(index_in_words(axis, at, self.operands.vocabulary) for axis, at in self._axes)

    def _pick(self) -> str:
        program, line = self.operands.snapshot.program, self.operands.line
        if line.target == program.loss_names.row and program.target:
            return f"only the target {shown_char(self.operands.vocabulary[self.operands.target(self.row)])} counts"
        picked = next((matrix for matrix in self._picked_from()), "")
        if not picked:
            return ""
        pick = self.operands.given(self.row)
        if not self.operands.vocabulary:
            return f"token {pick} picks row {pick + 1} of {program.writer.name(picked)}"
        char = self.operands.vocabulary[pick]
        kind = "letter" if char.isalpha() else "character"
        return f"the {kind} {shown_char(char)} picks row {pick + 1} of {program.writer.name(picked)}"

    def _picked_from(self) -> Iterator[str]:
        """Yield the matrices of this line from which a one-hot input picks a row."""
        for node in self.operands.line.formula.walk() if self.operands.line.formula is not None else ():
            match node:
                case e.Product(left=Name(name=read), right=Name(name=matrix)) if self._numbers.is_one_hot(read):
                    yield matrix

    # The terms of the entry

    def _summands(self, part: Factor) -> list[str]:
        """Return the summands of an entry; a name or a number is its own single summand."""
        node = part.formula
        if isinstance(node, Name | e.Number | e.Size):
            return self._signed(part, [self._factor(part)])
        made = terms_of(node, part.at, self._numbers)
        match made.kind:
            case "product":
                terms = ["·".join(self._factor(made.term(k)[0]) for k in range(made.size))]
            case "quotient":
                dividend, divisor = (self._factor(made.term(k)[0]) for k in range(2))
                terms = [f"{dividend} / {divisor if _is_whole(divisor) else f'({divisor})'}"]
            case "power":
                base, exponent = (self._factor(made.term(k)[0]) for k in range(2))
                terms = [f"{base if _is_whole(base) else f'({base})'}^{exponent}"]
            case "min" | "max":
                terms = [f"{made.kind}({', '.join(self._factor(made.term(k)[0]) for k in range(2))})"]
            case "softmax":
                terms = [f"e^{self._factor(made.term(part.at[-1])[0])} / ({' + '.join(self._each(made, 'e^'))})"]
            case "sum" if made.over:
                terms = self._each(made) or ["0"]
            case "sum":
                terms = [each for k in range(made.size) for each in self._summands(made.term(k)[0])]
            case "copy":
                terms = [self._factor(made.term(0)[0])]
            case function:
                inside = " ".join(joined([each for k in range(made.size) for each in self._summands(made.term(k)[0])]))
                terms = [f"{FUNCTIONS[function].text} {inside}" if _is_number(inside) else f"{FUNCTIONS[function].text}({inside})"]
        if abs(made.scale) not in (0.0, 1.0):
            terms = [f"{'−' if made.scale < 0 else ''}({' '.join(joined(terms))}) / {made.size}"]
        elif made.scale < 0:
            terms = [_negated(term) for term in terms]
        return self._signed(part, terms)

    def _signed(self, part: Factor, terms: list[str]) -> list[str]:
        return terms if part.sign > 0 else [_negated(term) for term in terms]

    def _each(self, made: Terms, before: str = "") -> list[str]:
        """Return the terms of a sum over an axis, abbreviated if there are many; over the vocabulary only those that are not 0."""
        chosen: Sequence[int] = range(made.size)
        if made.over == "the vocabulary" and made.kind == "sum" and made.size > LONGEST:
            chosen = [k for k in chosen if self._value(made.term(k)[0]) != 0]
        return _shortened(len(chosen), lambda k: "·".join(f"{before}{self._factor(part)}" for part in made.term(chosen[k])))

    def _factor(self, part: Factor) -> str:
        """Return an entry as a factor: one number, or an expression in parentheses."""
        node = part.formula
        match node:
            case e.Transpose(argument=argument):
                return self._factor(part._replace(formula=argument, at=part.at[::-1]))
            case Name(name=name) if name in self.operands.snapshot.program.model.rule.settings:
                return numbers.given(self._value(part)).replace("-", "−")
            case e.Number(value=value):
                return decimal(value)
            case Name() | e.Size():
                return number(self._value(part))
            case Apply(argument=Name()):
                pass  # a function of one number is written as a function: log 0.1317
            case e.Times() | Apply() if node.label:
                return number(self._value(part))
        terms = self._summands(part)
        return terms[0] if len(terms) == 1 and not isinstance(node, e.Sum) else f"({' '.join(joined(terms))})"

    def _value(self, part: Factor) -> float:
        """Return the recorded value of an entry."""
        if isinstance(part.formula, Name) and not part.formula.label:
            return self._numbers.entry(part.formula.name, part.at, part.t)
        return float(self._numbers.value(part.formula, part.at))


def _is_number(term: str) -> bool:
    """True if a term is one number that is not negative."""
    return re.fullmatch(r"[\d.]+(?:e−?\d+)?", term) is not None


def _is_whole(term: str) -> bool:
    """True if a term needs no parentheses as a divisor or a base: one number, or an expression in parentheses."""
    return _is_number(term) or re.fullmatch(r"\w*\([^()]*\)", term) is not None


def _negated(term: str) -> str:
    return term[1:] if term.startswith("−") else f"−{term}"
