"""A line of the program written as matrices: its formula with a matrix for every name, fitted into the given size.

The formula is turned into tokens, whose sizes are known without drawing. The limits under which they fit are computed from
the sizes, and then only the parts of the matrices that are shown are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

from tui_gru.equations import expression as e
from tui_gru.equations.expression import FUNCTIONS, Expression, Name
from tui_gru.equations.writing import binds, decimal
from tui_gru.tui.look.glyphs import Glyphs, operator, transliterate
from tui_gru.tui.look.themes import Palette
from tui_gru.tui.panels.program.operands import Operand, Operands
from tui_gru.tui.panels.program.tokens import Bracket, DrawingLimits, DrawnToken, Matrix, OperatorToken
from tui_gru.tui.widgets.boxes import Box, hstack, pad, vstack

GAP, INDENT = 1, 2


class LineWriter:
    """Turns a line into tokens.

    `fold` writes a part that was recorded as a whole, such as r⊙h, as one matrix. `alone` shows only one row of every matrix that
    has a row per row of the batch, and the row that it picks of a matrix. `loose` allows line breaks within products and
    differences too.
    """

    def __init__(
        self,
        operands: Operands,
        row: int | None,
        glyphs: Glyphs,
        *,
        fold: bool = False,
        alone: bool = False,
        loose: bool = False,
    ) -> None:
        self._operands, self._row, self._glyphs = operands, row or 0, glyphs
        self._fold, self._alone, self._loose = fold, alone, loose

    def line(self) -> list[DrawnToken]:
        """Return the right-hand side, an equals sign, and the result; for += and −= with the previous value of the target.

        Numbers have their names above them if the line has no matrices.
        """
        line, before = self._operands.line, self._operands.before
        assert line.formula is not None
        tokens: list[DrawnToken] = []
        if line.op != "=":
            tokens.append(self._sign("0") if before is None else self._matrix(before))
            tokens.append(self._sign("+" if line.op == "+=" else "−", breaks=True))
        tokens += self._tokens(line.formula)
        tokens += [self._sign("=", breaks=True), replace(self._matrix(self._operands.result), fresh=True)]
        if all(token.operand.is_number for token in tokens if isinstance(token, Matrix)):
            return [replace(token, named=True) if isinstance(token, Matrix) else token for token in tokens]
        return tokens

    def _sign(self, sign: str, *, breaks: bool = False) -> OperatorToken:
        return OperatorToken(operator(sign, self._glyphs), breaks)

    def _matrix(self, operand: Operand, *, picked: bool = False) -> Matrix:
        given, target = self._operands.given(self._row), self._operands.target(self._row)
        row = {"row": self._row, "character": given}.get(operand.rows)
        column = {"row": self._row, "character": target}.get(operand.columns)
        if self._alone and (picked or operand.rows == "row"):
            operand, row = operand.only_row(given if picked else self._row), 0
        operand = replace(operand, label=transliterate(operand.label, self._glyphs))
        return Matrix(operand, self._operands.vocabulary, focus=(row, column), picked=picked)

    def _tokens(self, node: Expression) -> Iterator[DrawnToken]:
        folded = self._operands.recorded(node) if self._fold else None
        if folded is not None:
            yield self._matrix(folded)
            return
        match node:
            case Name(name=name):
                yield self._matrix(self._operands.read(name))
            case e.Number(value=value):
                yield self._sign(decimal(value))
            case e.Size():
                yield self._sign(f"{self._operands.numbers.value(node, ()):.0f}")
            case e.Transpose(argument=Name(name=name)):
                yield self._matrix(self._operands.read(name).T)
            case e.Transpose(argument=argument):
                yield from self._fenced(argument, operator("ᵀ", self._glyphs))
            case e.Spread(argument=argument):
                yield from self._tokens(argument)
            case e.Apply(function=function, parts=parts):
                yield self._sign(FUNCTIONS[function].text)
                if len(parts) == 1:
                    yield from self._inside(parts[0], 4)
                else:
                    yield from self._listed(parts, "(", ")")
            case e.Reduce(kind=kind, argument=argument):
                yield self._sign("Σ" if kind == "sum" else "mean")
                yield from self._inside(argument, 4)
            case e.Negative(argument=argument):
                first, *rest = self._inside(argument, 2)
                yield replace(first, sign=f"−{first.sign}") if isinstance(first, OperatorToken) else self._sign("−")
                yield from rest if isinstance(first, OperatorToken) else (first, *rest)
            case e.Sum(parts=(first_part, *parts)):
                yield from self._inside(first_part, 1)
                for part in parts:
                    minus = isinstance(part, e.Negative) and not part.label
                    yield self._sign("−" if minus else "+", breaks=self._loose or not minus)
                    yield from self._inside(part.argument, 2) if isinstance(part, e.Negative) and minus else self._inside(part, 1)
            case e.Product(left=Name(name=read), right=Name(name=name)) if self._operands.numbers.is_one_hot(read):
                yield self._matrix(self._operands.read(read))
                yield replace(self._matrix(self._operands.read(name), picked=True), breaks=self._loose)
            case e.Product(left=left, right=right):
                yield from self._inside(left, 2 if isinstance(left, e.Product) else 3)
                first, *rest = self._inside(right, 3)
                yield replace(first, breaks=self._loose)
                yield from rest
            case e.Times(parts=(first_part, *parts)):
                yield from self._inside(first_part, 2)
                number = self._is_number(first_part)
                for part in parts:
                    yield self._sign("·" if number else "⊙", breaks=self._loose)
                    yield from self._inside(part, 2)
                    number = self._is_number(part)
            case e.Quotient(left=left, right=right):
                yield from self._inside(left, 2)
                yield self._sign("/")
                yield from self._inside(right, 4)
            case e.Power(left=left, right=right):
                yield from self._inside(left, 4)
                yield self._sign("^")
                yield from self._inside(right, 4)
            case e.Join(parts=parts):
                yield from self._listed(parts, "[", "]")
            case e.Slice(argument=argument, before=before, axes=axes):
                yield from self._inside(argument, 4)
                yield self._sign(f"[{'+'.join(before) or '0'}:{'+'.join((*before, *axes))}]")

    def _listed(self, parts: Sequence[Expression], opening: str, closing: str) -> Iterator[DrawnToken]:
        yield self._sign(opening)
        for index, part in enumerate(parts):
            if index:
                yield self._sign(",")
            yield from self._tokens(part)
        yield self._sign(closing)

    def _is_number(self, node: Expression) -> bool:
        return self._operands.numbers.axes(node) == ()

    def _inside(self, node: Expression, tightness: int) -> Iterator[DrawnToken]:
        folded = self._fold and self._operands.recorded(node) is not None
        return self._tokens(node) if folded or binds(node) >= tightness else self._fenced(node)

    def _fenced(self, node: Expression, suffix: str = "") -> Iterator[DrawnToken]:
        tokens = list(self._tokens(node))
        inner = tuple(token for token in tokens if isinstance(token, Matrix))
        yield Bracket(inner, opening=True)
        yield from tokens
        yield Bracket(inner, opening=False, suffix=suffix)


#: The limits for matrices that do not fit, best first: the number of columns, and whether numbers are short.
_ELIDED = ((8, False), (8, True), (6, False), (6, True), (5, True), (4, True), (3, True), (2, True))
#: The least number of rows of an elided matrix, if it has as many.
_FEWEST = 2


def fitted(
    tokens: Sequence[DrawnToken], width: int, height: int, *, compact: bool = False, labels: bool = True
) -> DrawingLimits | None:
    """Return limits under which all numbers fit into the size, None if they do not fit."""
    limits = DrawingLimits(compact=compact, labels=labels)
    lines = _lines(tokens, limits, width)
    return limits if lines and sum(map(_height_of, lines)) <= height else None


def elided(tokens: Sequence[DrawnToken], width: int, height: int) -> DrawingLimits | None:
    """Return limits under which the whole line fits with parts of its matrices, None if it does not fit.

    Columns are dropped before the names above the matrices, which are more useful than another column of a large matrix.
    """
    heights = [len(token.operand.values) for token in tokens if isinstance(token, Matrix) and not token.operand.is_number]
    fewest = min(_FEWEST, max(heights, default=1))
    for labels, (columns, compact) in product((True, False), _ELIDED):
        for count in range(1, height + 1):
            rows = height // count - labels
            if rows < fewest:
                break
            limits = DrawingLimits(columns, rows, compact, labels)
            lines = _lines(tokens, limits, width)
            if lines and len(lines) <= count:
                return limits
    return None


def widest_piece(tokens: Sequence[DrawnToken], limits: DrawingLimits) -> int:
    """Return the width of the widest unbreakable piece, with the indent of later lines, in cells."""
    pieces: list[int] = [INDENT]
    for token in tokens:
        if token.breaks:
            pieces.append(INDENT)
        pieces[-1] += token.size(limits)[0] + GAP
    return max(pieces)


def squeezed(tokens: Sequence[DrawnToken], width: int, height: int) -> DrawingLimits | None:
    """Return limits under which at least one row of every matrix fits, None if not even that fits."""
    for columns, compact in _ELIDED:
        for rows in range(height, 0, -1):
            limits = DrawingLimits(columns, rows, compact, labels=False)
            lines = _lines(tokens, limits, width)
            if lines and sum(map(_height_of, lines)) <= height:
                return limits
    return None


_Sized = tuple[DrawnToken, int, int]


def _height_of(line: Sequence[_Sized]) -> int:
    return max(height for _, _, height in line)


def _lines(tokens: Sequence[DrawnToken], limits: DrawingLimits, width: int) -> list[list[_Sized]]:
    """Break the tokens into lines before operators. Return no lines if a piece between two breaks exceeds the width."""
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


def drawn(palette: Palette, tokens: Sequence[DrawnToken], limits: DrawingLimits, width: int, row: int | None) -> Box:
    """Draw the tokens within these limits, in as many lines as needed. `row` is the batch row singled out."""
    lines = []
    for index, sized in enumerate(_lines(tokens, limits, width)):
        line = [token for token, _, _ in sized]
        placed = [token.beside(line) if isinstance(token, Bracket) else token for token in line]
        box = hstack(*(token.box(palette, limits, row) for token in placed), gap=GAP)
        lines.append(pad(box, left=INDENT if index else 0))
    return vstack(*lines)
