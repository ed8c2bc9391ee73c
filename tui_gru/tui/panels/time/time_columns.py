"""The loss of a run of any length in one row of cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.look.palette import Palette
from tui_gru.tui.widgets.cell_row import CellRow
from tui_gru.tui.widgets.plots.axis import axis_of
from tui_gru.tui.widgets.plots.envelope import Envelope
from tui_gru.tui.widgets.plots.smoothing import LONG, mean_parts, standing_out
from tui_gru.tui.widgets.plots.time_scale import TimeScale
from tui_gru.tui.widgets.written import Array


@dataclass(frozen=True, eq=False)
class LossColumns:
    """The losses by column, each array of shape (columns,).

    `heights` is from 0 to 1, NaN where there is no loss. `broken` is True where a loss is not finite. `standing_out` is 1 where a
    loss is an outlier above the others, −1 below, 0 if there is none. `reached` is the number of columns that the run has reached.
    """

    heights: Array
    broken: Array
    standing_out: Array
    reached: int

    def cells(self, palette: Palette, here: int) -> CellRow:
        """Draw columns of eighths, in full colour up to `here` and faint after it; a rule without a loss; arrows at outliers."""
        row, levels = CellRow(len(self.heights)), palette.glyphs.column
        rule, ahead, above, below = (transliterate(sign, palette.glyphs) for sign in "─╌↑↓")
        steps = np.where(np.isnan(self.heights), -1.0, 1 + np.rint(self.heights * (len(levels) - 2))).astype(int).tolist()
        signs = [levels[step] if step > 0 else rule if x < self.reached else ahead for x, step in enumerate(steps)]
        row.fill(0, signs[: here + 1], palette.gate)
        row.fill(here + 1, signs[here + 1 :], palette.faint)
        for x in np.flatnonzero(self.standing_out).tolist():
            row.put(x, above if self.standing_out[x] > 0 else below, palette.warning)
        for x in np.flatnonzero(self.broken).tolist():
            row.put(x, palette.glyphs.not_finite, palette.warning)
        return row


def loss_columns(losses: Envelope, scale: TimeScale, batch_ticks: int, newest: int) -> LossColumns:
    """Lay out the losses on a scale; `newest` is the newest tick of the run. The axis is chosen as in the loss curve.

    A batch that is wider than a column fills all of its columns. A column of many batches shows the mean on the axis.
    """
    axis, edges = axis_of([losses]), scale.batches(batch_ticks)
    per_column = edges[1] - edges[0] if len(edges) > 1 else 0
    if per_column < 1:
        values, broken = _each(losses, scale, batch_ticks)
        parts = axis.parts(values)
        out = np.where(parts > 1, 1, np.where(parts < 0, -1, 0))
    else:
        low, high, broken = losses.columns(edges)
        low, high = axis.parts(low), axis.parts(high)
        parts = mean_parts(losses, axis, edges)
        out = np.where(high > 1, 1, np.where(low < 0, -1, 0))
        if per_column >= LONG:
            out = np.where(out == 0, standing_out(low, high, parts), out)
    return LossColumns(_stretched(np.clip(parts, 0, 1)), broken, out, scale.column(newest) + 1)


def _stretched(parts: Array) -> Array:
    """Scale parts of an axis such that the lowest is 0 and the highest 1; 0.5 if all are equal."""
    finite = parts[np.isfinite(parts)]
    least, most = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
    stretched: Array = (parts - least) / (most - least) if most > least else np.where(np.isnan(parts), np.nan, 0.5)
    return stretched


def _each(losses: Envelope, scale: TimeScale, batch_ticks: int) -> tuple[Array, Array]:
    """Return the loss of the batch of each column, NaN if it has no finite loss, and whether it has one that is not finite."""
    batches = np.array([max(scale.tick(x) - 1, 0) // batch_ticks for x in range(scale.width)])
    known = batches < len(losses)
    values = np.full(scale.width, np.nan)
    values[known] = losses.at(batches[known])
    broken = known & ~np.isfinite(values)
    values[broken] = np.nan
    return values, broken
