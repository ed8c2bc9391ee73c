"""The tokens of a written line: signs, matrices and brackets, whose sizes are known before drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from rich.cells import cell_len
from rich.segment import Segment

from tui_gru.engine import numbers
from tui_gru.engine.data.tokens import Text
from tui_gru.tui.look.characters import widest, written_char
from tui_gru.tui.look.themes import Palette
from tui_gru.tui.panels.program.operands import Operand
from tui_gru.tui.widgets.boxes import Box, bracket, from_rows, hstack, pad, text, titled
from tui_gru.tui.widgets.refs import Cell
from tui_gru.tui.widgets.written import ENTRIES, kept, matrix

#: One-hot rows over more characters than this are written as characters.
ONEHOT = 12


class DrawingLimits(NamedTuple):
    """How matrices are drawn: with at most `rows` and `columns` (None: all), short numbers if `compact`, and names above."""

    columns: int | None = None
    rows: int | None = None
    compact: bool = False
    labels: bool = True


@dataclass(frozen=True)
class OperatorToken:
    """An operator or the name of a function. With `breaks`, the line may be broken before it."""

    sign: str
    breaks: bool = False

    def size(self, limits: DrawingLimits) -> tuple[int, int]:
        return cell_len(self.sign), 1

    def box(self, palette: Palette, limits: DrawingLimits, row: int | None) -> Box:
        return text(palette, self.sign)


@dataclass(frozen=True, eq=False)
class Matrix:
    """An operand. `focus` is the row and the column of the batch row that is singled out.

    `picked` is True for a matrix from which one-hot rows pick rows, `named` for a number that has its name above it.
    """

    operand: Operand
    vocabulary: Text
    fresh: bool = False
    focus: tuple[int | None, int | None] = (None, None)
    picked: bool = False
    named: bool = False
    breaks: bool = False

    def size(self, limits: DrawingLimits) -> tuple[int, int]:
        operand = self.operand
        if operand.is_number:
            labelled = self.named and limits.labels
            return max(len(self._number), cell_len(operand.label) if labelled else 0), 1 + labelled
        rows, columns = operand.values.shape
        note = 1 + len(f"{rows}×{columns}")
        if self._as_characters(limits):
            shown = min(len(operand.picks), _most(limits.rows if operand.rows == "row" else limits.columns))
            cell = widest(self.vocabulary)
            size = (cell, shown) if operand.rows == "row" else (shown * (cell + 1) - 1, 1)
            width, height = size[0] + 2 + note, size[1]
        else:
            height, across = min(rows, _most(limits.rows)), min(columns, _most(limits.columns))
            width = across * (self._entry(limits) + 1) + 1 + (note if height < rows or across < columns else 0)
        if limits.labels:
            return max(width, 1 + cell_len(operand.label)), height + 1
        return width, height

    def box(self, palette: Palette, limits: DrawingLimits, row: int | None) -> Box:
        operand = self.operand
        if operand.is_number:
            ink = palette.accent if self.fresh else palette.plain
            number = from_rows([(Cell.of(self._number, ink, None if operand.refs is None else operand.refs(0, 0)),)])
            return titled(self._label(palette), number) if self.named and limits.labels else number
        if self._as_characters(limits):
            box = self._characters(palette, limits, row)
        else:
            box = matrix(
                palette,
                operand.values,
                kind="onehot" if self._all_zero else operand.kind,
                fresh=self.fresh,
                row=self.focus[0] if row is not None and (operand.rows == "row" or self.picked) else None,
                focus=self.focus,
                compact=limits.compact,
                elide=(limits.rows, limits.columns),
                refs=operand.refs,
            )
        if not limits.labels:
            return box
        return titled(pad(self._label(palette), left=1), box)

    def _label(self, palette: Palette) -> Box:
        return text(palette, self.operand.label, palette.accent if self.fresh else palette.dim)

    @cached_property
    def _number(self) -> str:
        if self.operand.setting:
            return numbers.given(self.operand.values)
        return numbers.plain(self.operand.values)

    @cached_property
    def _all_zero(self) -> bool:
        return not self.operand.values.any()

    def _entry(self, limits: DrawingLimits) -> int:
        return ENTRIES["onehot" if self._all_zero else self.operand.kind, limits.compact].width

    def _as_characters(self, limits: DrawingLimits) -> bool:
        return bool(self.operand.picks) and len(self.vocabulary) > min(ONEHOT, _most(limits.columns))

    def _characters(self, palette: Palette, limits: DrawingLimits, row: int | None) -> Box:
        """Draw one-hot rows as characters, in a column, or in a row if transposed."""
        picks, upright = self.operand.picks, self.operand.rows == "row"
        shown = kept(len(picks), limits.rows if upright else limits.columns, row)
        cells = []
        for i in shown:
            if i is None:
                cells.append(Segment(palette.glyphs.vertical_ellipsis if upright else palette.glyphs.ellipsis, palette.dim))
                continue
            style = palette.dim if row is not None and i != row else palette.strong
            cells.append(Segment(written_char(self.vocabulary[picks[i]], palette.glyphs), style))
        if upright:
            box = from_rows([(cell,) for cell in cells], axis=max(len(cells) - 1, 0) // 2)
        else:
            box = hstack(*(from_rows([(cell,)]) for cell in cells))
        box = bracket(palette, box)
        rows, columns = self.operand.values.shape
        note = Segment(f" {rows}{palette.glyphs.by}{columns}", palette.dim)
        return from_rows((*box.rows[:-1], (*box.rows[-1], note)), box.axis)


@dataclass(frozen=True, eq=False)
class Bracket:
    """A bracket as tall as the enclosed matrices on its line, `inner` (see `beside`)."""

    inner: tuple[Matrix, ...]
    opening: bool
    suffix: str = ""
    breaks: bool = False

    def size(self, limits: DrawingLimits) -> tuple[int, int]:
        return 1 + len(self.suffix), 1  # the height of a bracket does not count for the line

    def beside(self, tokens: Sequence[object]) -> Bracket:
        """Return the bracket for a line of these tokens, which may not contain its partner."""
        return replace(self, inner=tuple(each for each in self.inner if each in tokens))

    def box(self, palette: Palette, limits: DrawingLimits, row: int | None) -> Box:
        bare = limits._replace(labels=False)
        height = max((each.size(bare)[1] for each in self.inner), default=1)
        pair = bracket(palette, from_rows([()] * height, axis=(height - 1) // 2), palette.plain)
        side = 0 if self.opening else 1
        rows = [(line[side], Segment(self.suffix if i == 0 else "", palette.plain)) for i, line in enumerate(pair.rows)]
        return from_rows(rows, pair.axis)


DrawnToken = OperatorToken | Matrix | Bracket


def _most(limit: int | None) -> int:
    return 2**31 if limit is None else limit
