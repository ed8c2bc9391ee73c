"""The loss of a whole run in one row of cells, however long it is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from rich.style import Style

from tui_gru.tui.glyphs import transliterate
from tui_gru.tui.palette import Palette
from tui_gru.tui.widgets.cell_row import CellRow
from tui_gru.tui.widgets.envelope import Envelope
from tui_gru.tui.widgets.time_scale import TimeScale
from tui_gru.tui.widgets.written import Array


@dataclass(frozen=True, eq=False)
class LossColumns:
    """For each column the height of its loss, 0 to 1, NaN where there is none; whether one of it is not finite.

    `reached` is how many columns the run has come to.
    """

    heights: Array
    broken: Array
    reached: int

    def cells(self, palette: Palette, here: int) -> CellRow:
        """Columns of eighths up to `here` in full colour, the others faint; a rule where there is no loss."""
        row, levels = CellRow(len(self.heights)), palette.glyphs.column
        rule, ahead = (transliterate(sign, palette.glyphs) for sign in "─╌")
        steps = np.where(np.isnan(self.heights), -1.0, 1 + np.rint(self.heights * (len(levels) - 2))).astype(int).tolist()
        signs = [levels[step] if step > 0 else rule if x < self.reached else ahead for x, step in enumerate(steps)]
        row.fill(0, signs[: here + 1], palette.gate)
        row.fill(here + 1, signs[here + 1 :], _faint(palette))
        for x in np.flatnonzero(self.broken).tolist():
            row.put(x, palette.glyphs.not_finite, palette.warning)
        return row


@cache
def _faint(palette: Palette) -> Style:
    """The hue of the curve, no stronger than a tint; grey where a theme has no tints."""
    tint = palette.unit(1).bgcolor
    return palette.dim if tint is None else Style(color=tint)


def loss_columns(losses: Envelope, scale: TimeScale, batch_ticks: int, newest: int) -> LossColumns:
    """The losses laid out on a scale; `newest` is the tick the run has come to.

    A batch takes all of its columns, and of a column of many batches it is the middle between its lowest and highest.
    """
    edges = scale.batches(batch_ticks)
    if len(edges) > 1 and edges[1] - edges[0] < 1:
        middle, broken = _each(losses, scale, batch_ticks)
    else:
        low, high, broken = losses.columns(edges)
        middle = (low + high) / 2
    finite = middle[np.isfinite(middle)]
    least, most = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
    heights = (middle - least) / (most - least) if most > least else np.where(np.isnan(middle), np.nan, 0.5)
    return LossColumns(heights, broken, scale.column(newest) + 1)


def _each(losses: Envelope, scale: TimeScale, batch_ticks: int) -> tuple[Array, Array]:
    """The loss of the batch that each column lies in, NaN where it has none that is finite; whether it has one that is not."""
    batches = np.array([max(scale.tick(x) - 1, 0) // batch_ticks for x in range(scale.width)])
    there = batches < len(losses)
    values = np.full(scale.width, np.nan)
    values[there] = losses.at(batches[there])
    broken = there & ~np.isfinite(values)
    values[broken] = np.nan
    return values, broken
