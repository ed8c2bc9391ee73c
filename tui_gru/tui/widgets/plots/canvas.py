"""A canvas of dots for curves: vertical runs, smooth lines, rules and levels behind them, and arrows for values off the axis."""

from __future__ import annotations

import numpy as np
from rich.style import Style

from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.look.themes import Palette
from tui_gru.tui.widgets.boxes import Box, from_rows
from tui_gru.tui.widgets.cell_row import merged
from tui_gru.tui.widgets.plots.axis import label
from tui_gru.tui.widgets.written import AnyArray

#: The bit of each of a braille pattern's dots, (4 rows, 2 columns), above U+2800.
_BRAILLE = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])


class Canvas:
    """Dots in cells: 2 × 4 per cell in braille, otherwise one."""

    def __init__(self, palette: Palette, rows: int, columns: int) -> None:
        self._palette = palette
        self._rows, self._columns = rows, columns
        self.dots_per_column, self._dots_per_row = (2, 4) if palette.glyphs.braille else (1, 1)
        self.dots_across, self._dots_down = columns * self.dots_per_column, rows * self._dots_per_row
        self._dots = np.zeros((self._dots_down, self.dots_across), bool)
        self._inks: list[Style] = [palette.dim]
        self._ink = np.full((rows, columns), -1)  # the index of the ink of each cell, −1 if nothing is drawn
        self._faint = np.zeros((rows, columns), bool)
        self._rules: list[int] = []
        self._levels: dict[int, str] = {}
        self._pointed: int | None = None
        self._beyond: dict[tuple[int, int], float] = {}  # furthest value off the axis by column and side (±1)
        self.standing_out: dict[int, int] = {}

    def draw(self, low: AnyArray, high: AnyArray, ink: Style, every: int) -> None:
        """Draw vertical runs of dots from low to high, both (n,) and parts of the axis, joined to their neighbours.

        Only every `every`-th column of dots is drawn.
        """
        dots = self._runs(low, high, every)
        self._write(dots, ink)

    def draw_long(
        self, low: AnyArray, high: AnyArray, middle: AnyArray, out: AnyArray, ink: Style, every: int, *, faint: bool
    ) -> None:
        """Draw the smooth line `middle`; with `faint`, also faint runs from low to high, outliers (`out` = ±1) in full colour."""
        for dot in np.flatnonzero(out).tolist():
            self.standing_out[dot // self.dots_per_column] = int(out[dot])
        if faint:
            runs = self._runs(low, high, 1)
            self._write(runs, self._palette.faint, faint=True)
            runs[:, out == 0] = False
            self._write(runs, ink, instead=True)
        self._write(self._runs(middle, middle, every), ink, instead=True)

    def beyond(self, lowest: AnyArray, highest: AnyArray, low: AnyArray, high: AnyArray) -> None:
        """Register the values that are off the axis. All arrays are (n,); `low` and `high` are parts of the axis."""
        for way, values, outside in ((1, highest, high > 1), (-1, lowest, low < 0)):
            for dot in np.flatnonzero(outside).tolist():
                key = dot // self.dots_per_column, way
                self._beyond[key] = max(self._beyond.get(key, values[dot]), values[dot], key=lambda value: way * value)
                self.standing_out[key[0]] = way

    def _runs(self, low: AnyArray, high: AnyArray, every: int) -> AnyArray:
        down = self._dots_down - 1
        upper, lower = ((1 - np.clip(part, 0, 1)) * down for part in (high, low))
        gap_up = np.fmin(upper[1:], lower[:-1] - 1)  # extend up to the neighbour on the left if that is higher
        gap_down = np.fmax(lower[1:], upper[:-1] + 1)
        upper = np.concatenate([upper[:1], np.where(np.isnan(upper[1:]), np.nan, gap_up)])
        lower = np.concatenate([lower[:1], np.where(np.isnan(lower[1:]), np.nan, gap_down)])
        rows = np.arange(self._dots_down)[:, None]
        with np.errstate(invalid="ignore"):
            dots: AnyArray = (rows >= np.rint(upper)) & (rows <= np.rint(lower))
        dots[:, np.arange(self.dots_across) % every != 0] = False
        return dots

    def _write(self, dots: AnyArray, ink: Style, *, faint: bool = False, instead: bool = False) -> None:
        """Put dots into the cells; with `instead`, replace faint dots in them."""
        shape = self._rows, self._dots_per_row, self._columns, self.dots_per_column
        cells = dots.reshape(shape).any(axis=(1, 3))
        if instead:
            self._dots &= ~np.repeat(np.repeat(cells & self._faint, self._dots_per_row, 0), self.dots_per_column, 1)
        self._dots |= dots
        self._ink[cells], self._faint[cells] = len(self._inks), faint
        self._inks.append(ink)

    def rule(self, dots: list[int]) -> None:
        """Draw vertical lines at these columns of dots, in cells without a drawing."""
        self._rules = [dot // self.dots_per_column for dot in dots if dot < self.dots_across]

    def level(self, row: int, name: str) -> None:
        """Draw a dashed line along a row of cells without a drawing. A second level in a row is ignored.

        Its name is drawn as far to the right as there is free space, otherwise at the left, over the drawing.
        """
        self._levels.setdefault(row, name)

    def point(self, column: int) -> None:
        """Draw a vertical line at a column of cells, in cells without a drawing or with only faint dots."""
        self._pointed = column

    def box(self) -> Box:
        grouped = self._dots.reshape(self._rows, self._dots_per_row, self._columns, self.dots_per_column)
        glyphs = self._palette.glyphs
        if glyphs.braille:
            patterns = np.einsum("rdce,de->rc", grouped, _BRAILLE)
            signs = [[chr(0x2800 + code) if code else " " for code in row] for row in patterns.tolist()]
        else:
            signs = [
                [("." if faint else "*") if dot else " " for dot, faint in zip(row, faints, strict=True)]
                for row, faints in zip(self._dots.tolist(), self._faint.tolist(), strict=True)
            ]
        rows = []
        dash = transliterate("╌", glyphs)
        arrows = self._arrows()
        for number, (row, inks) in enumerate(zip(signs, self._ink.tolist(), strict=True)):
            behind: list[tuple[int, str]] = []
            named = range(0)
            if (name := self._levels.get(number)) is not None:
                named = _place_for(f" {name} ", row)
                for column, sign in zip(named, f" {name} ", strict=False):
                    row[column], inks[column] = sign, 0
                behind += ((column, dash) for column in range(len(row)))
            behind += ((column, glyphs.vertical_ellipsis) for column in self._rules)
            for column, sign in behind:
                if row[column] == " " and column not in named:
                    row[column], inks[column] = sign, 0
            at = self._pointed
            if at is not None and at not in named and (inks[at] <= 0 or self._faint[number, at]):
                row[at], inks[at] = glyphs.axis_vertical, self._ink_of(self._palette.accent)
            for column, sign in arrows.get(number, {}).items():
                row[column], inks[column] = sign, self._ink_of(self._palette.warning)
            rows.append(merged(row, (self._inks[ink] if ink >= 0 else None for ink in inks)))
        return from_rows(rows)

    def _arrows(self) -> dict[int, dict[int, str]]:
        """Return the signs for values off the axis by row and column: arrows, and the value beside the furthest."""
        arrows: dict[int, dict[int, str]] = {}
        for way, row, arrow in ((1, 0, "↑"), (-1, self._rows - 1, "↓")):
            values = {column: value for (column, side), value in self._beyond.items() if side == way}
            if not values:
                continue
            signs = dict.fromkeys(values, transliterate(arrow, self._palette.glyphs))
            furthest = max(values, key=lambda column: way * values[column])
            words = label(values[furthest], 0.01 if abs(values[furthest]) < 100 else 1)
            start = furthest + 1 if furthest + 1 + len(words) <= self._columns else furthest - len(words)
            if start >= 0:
                signs = {**signs, **{start + i: sign for i, sign in enumerate(words)}}
            arrows.setdefault(row, {}).update(signs)
        return arrows

    def _ink_of(self, style: Style) -> int:
        if style not in self._inks:
            self._inks.append(style)
        return self._inks.index(style)


def _place_for(words: str, row: list[str]) -> range:
    """Return the columns for words in a row: the last blank ones, otherwise the first; empty if the words fill half of the row."""
    length = len(words)
    if length >= len(row) // 2:
        return range(0)
    starts = (start for start in range(len(row) - length, -1, -1) if not any(map(str.strip, row[start : start + length])))
    start = next(starts, 0)
    return range(start, start + length)
