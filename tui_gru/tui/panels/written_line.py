"""A line of the program written out: its formula with a matrix for every name, fitted into the room there is.

First the formula becomes a row of tokens, whose sizes are known before anything is drawn; then the best way to fit them is
chosen by arithmetic; only then are they drawn, and only what is shown of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

from tui_gru.equations import expression as e
from tui_gru.equations.expression import Expression, Name
from tui_gru.equations.functions import FUNCTIONS
from tui_gru.equations.writing import binds, decimal
from tui_gru.tui.palette import Palette
from tui_gru.tui.panels.operands import Operand, Operands
from tui_gru.tui.panels.tokens import Fence, Limits, Matrix, Sign, Token
from tui_gru.tui.widgets.boxes import Box, hstack, pad, vstack

GAP, INDENT = 1, 2


class Writer:
    """Turns a line into tokens. `fold` writes a part that was recorded as a whole, such as r⊙h, as one matrix."""

    def __init__(self, operands: Operands, row: int | None, *, fold: bool = False) -> None:
        self._operands, self._row, self._fold = operands, row or 0, fold

    def line(self) -> list[Token]:
        """The right-hand side, an equals sign, and the result; for += and −= with what was there before."""
        line, before = self._operands.line, self._operands.before
        assert line.formula is not None
        tokens: list[Token] = []
        if line.op != "=":
            tokens.append(Sign("0") if before is None else self._matrix(before))
            tokens.append(Sign("+" if line.op == "+=" else "−", breaks=True))
        tokens += self._tokens(line.formula)
        return [*tokens, Sign("=", breaks=True), replace(self._matrix(self._operands.result), fresh=True)]

    def _matrix(self, operand: Operand, *, picked: bool = False) -> Matrix:
        given, target = self._operands.given(self._row), self._operands.target(self._row)
        row = {"row": self._row, "character": given}.get(operand.rows)
        column = {"row": self._row, "character": target}.get(operand.columns)
        return Matrix(operand, self._operands.vocabulary, focus=(row, column), picked=picked)

    def _tokens(self, node: Expression) -> Iterator[Token]:
        folded = self._operands.recorded(node) if self._fold else None
        if folded is not None:
            yield self._matrix(folded)
            return
        match node:
            case Name(name=name):
                yield self._matrix(self._operands.read(name))
            case e.Number(value=value):
                yield Sign(decimal(value))
            case e.Size():
                yield Sign(f"{self._operands.numbers.value(node, ()):.0f}")
            case e.Transpose(argument=Name(name=name)):
                yield self._matrix(self._operands.read(name).T)
            case e.Transpose(argument=argument):
                yield from self._fenced(argument, "ᵀ")
            case e.Apply(function=function, parts=parts):
                yield Sign(FUNCTIONS[function].text)
                if len(parts) == 1:
                    yield from self._inside(parts[0], 4)
                else:
                    yield from self._listed(parts, "(", ")")
            case e.Reduce(kind=kind, argument=argument):
                yield Sign("Σ" if kind == "sum" else "mean")
                yield from self._inside(argument, 4)
            case e.Negative(argument=argument):
                first, *rest = self._inside(argument, 2)
                yield replace(first, sign=f"−{first.sign}") if isinstance(first, Sign) else Sign("−")
                yield from rest if isinstance(first, Sign) else (first, *rest)
            case e.Sum(parts=(first_part, *parts)):
                yield from self._inside(first_part, 1)
                for part in parts:
                    minus = isinstance(part, e.Negative) and not part.label
                    yield Sign("−" if minus else "+", breaks=not minus)
                    yield from self._inside(part.argument, 2) if isinstance(part, e.Negative) and minus else self._inside(part, 1)
            case e.Product(left=Name(name=read), right=Name(name=name)) if self._operands.numbers.is_one_hot(read):
                yield self._matrix(self._operands.read(read))
                yield self._matrix(self._operands.read(name), picked=True)
            case e.Product(left=left, right=right):
                yield from self._inside(left, 2 if isinstance(left, e.Product) else 3)
                yield from self._inside(right, 3)
            case e.Times(parts=(first_part, *parts)):
                yield from self._inside(first_part, 2)
                number = self._is_number(first_part)
                for part in parts:
                    yield Sign("·" if number else "⊙")
                    yield from self._inside(part, 2)
                    number = self._is_number(part)
            case e.Quotient(left=left, right=right):
                yield from self._inside(left, 2)
                yield Sign("/")
                yield from self._inside(right, 4)
            case e.Power(left=left, right=right):
                yield from self._inside(left, 4)
                yield Sign("^")
                yield from self._inside(right, 4)
            case e.Join(parts=parts):
                yield from self._listed(parts, "[", "]")
            case e.Slice(argument=argument, before=before, axes=axes):
                yield from self._inside(argument, 4)
                yield Sign(f"[{'+'.join(before) or '0'}:{'+'.join((*before, *axes))}]")

    def _listed(self, parts: Sequence[Expression], opening: str, closing: str) -> Iterator[Token]:
        yield Sign(opening)
        for index, part in enumerate(parts):
            if index:
                yield Sign(",")
            yield from self._tokens(part)
        yield Sign(closing)

    def _is_number(self, node: Expression) -> bool:
        return self._operands.numbers.axes(node) == ()

    def _inside(self, node: Expression, tightness: int) -> Iterator[Token]:
        folded = self._fold and self._operands.recorded(node) is not None
        return self._tokens(node) if folded or binds(node) >= tightness else self._fenced(node)

    def _fenced(self, node: Expression, suffix: str = "") -> Iterator[Token]:
        tokens = list(self._tokens(node))
        inner = tuple(token for token in tokens if isinstance(token, Matrix))
        yield Fence(inner, opening=True)
        yield from tokens
        yield Fence(inner, opening=False, suffix=suffix)


#: What may be shown of matrices that do not fit, the best first: columns, and whether in short numbers.
_ELIDED = ((8, False), (8, True), (6, False), (6, True), (5, True), (4, True), (3, True), (2, True))
#: Fewer rows than this of an elided matrix say nothing.
_FEWEST = 2


def fitted(tokens: Sequence[Token], width: int, height: int, *, compact: bool = False, labels: bool = True) -> Limits | None:
    """Limits under which all numbers are seen in so many cells; None if there are none."""
    limits = Limits(compact=compact, labels=labels)
    lines = _lines(tokens, limits, width)
    return limits if lines and sum(map(_height_of, lines)) <= height else None


def elided(tokens: Sequence[Token], width: int, height: int) -> Limits | None:
    """Limits under which the whole line is seen, if not all of its matrices; None if there is no room for that either.

    The names above the matrices go last: of a large matrix they say more than another column.
    """
    for labels, (columns, compact) in product((True, False), _ELIDED):
        for count in range(1, height + 1):
            rows = height // count - labels
            if rows < _FEWEST:
                break
            limits = Limits(columns, rows, compact, labels)
            lines = _lines(tokens, limits, width)
            if lines and len(lines) <= count:
                return limits
    return None


def widest_piece(tokens: Sequence[Token], limits: Limits) -> int:
    """The cells of the widest piece that cannot be broken, with the indent of later lines."""
    pieces: list[int] = [INDENT]
    for token in tokens:
        if token.breaks:
            pieces.append(INDENT)
        pieces[-1] += token.size(limits)[0] + GAP
    return max(pieces)


_Sized = tuple[Token, int, int]


def _height_of(line: Sequence[_Sized]) -> int:
    return max(height for _, _, height in line)


def _lines(tokens: Sequence[Token], limits: Limits, width: int) -> list[list[_Sized]]:
    """The tokens broken into lines before operators; none if a piece between two breaks is wider than the width."""
    pieces: list[list[_Sized]] = []
    for token in tokens:
        sized = (token, *token.size(limits))
        if token.breaks or not pieces:
            pieces.append([sized])
        else:
            pieces[-1].append(sized)
    lines: list[list[_Sized]] = []
    used = 0
    for piece in pieces:
        length = _width_of(piece)
        if lines and used + GAP + length <= width:
            lines[-1] += piece
            used += GAP + length
        else:
            used = length + (INDENT if lines else 0)
            lines.append(piece)
            if used > width:
                return []
    return lines


def _width_of(piece: Sequence[_Sized]) -> int:
    return sum(width for _, width, _ in piece) + GAP * (len(piece) - 1)


def drawn(palette: Palette, tokens: Sequence[Token], limits: Limits, width: int, row: int | None) -> Box:
    """The tokens within these limits, in as many lines as the width asks for. `row` is the batch row singled out."""
    lines = []
    for index, sized in enumerate(_lines(tokens, limits, width)):
        line = [token for token, _, _ in sized]
        placed = [token.beside(line) if isinstance(token, Fence) else token for token in line]
        box = hstack(*(token.box(palette, limits, row) for token in placed), gap=GAP)
        lines.append(pad(box, left=INDENT if index else 0))
    return vstack(*lines)
