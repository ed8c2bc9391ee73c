"""A long series column by column: the smooth line through it, and the columns in which a value stands out."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tui_gru.tui.widgets.plots.axis import Axis
from tui_gru.tui.widgets.plots.envelope import Envelope
from tui_gru.tui.widgets.written import Array

#: Points to a column from which on a series is long.
LONG = 4
#: The part of the columns that is smoothed over, and the columns on either side that a column is compared with.
_SMOOTHED, _BESIDE = 1 / 30, 3
#: A column stands out that is this many times as far from those beside it as half of the columns are, and this far at least.
_FAR, _FAR_AT_LEAST = 3, 0.08


def mean_parts(line: Envelope, axis: Axis, edges: Array) -> Array:
    """The mean between consecutive edges (n+1,), as parts of an axis (n,), each value no further than the axis goes."""
    return line.means(edges, lambda values: np.clip(axis.parts(values), 0, 1))


def smooth(means: Array) -> Array:
    """The mean over a stretch of columns around each, over those that there are: (n,) -> (n,), NaN where there is none."""
    reach = min(max(round(len(means) * _SMOOTHED / 2), 1), (len(means) - 1) // 2)
    there = np.isfinite(means)
    window = np.ones(2 * reach + 1)
    sums, counts = (np.convolve(each, window, "same") for each in (np.where(there, means, 0.0), there.astype(float)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(there, sums / counts, np.nan)


def standing_out(low: Array, high: Array, means: Array) -> Array:
    """Which columns have a value that stands out: 1 above, −1 below the columns beside it, 0 for none.

    `low`, `high` and `means` (n,) are the extremes and the mean of each column, as parts of an axis. Each column is compared with
    the levels on both sides of it, so that a step from one level to another does not stand out.
    """
    there = np.isfinite(means)
    if not there.any():
        return np.zeros(len(means), int)
    filled = np.interp(np.arange(len(means)), np.flatnonzero(there), means[there])
    levels = np.median(sliding_window_view(np.pad(filled, _BESIDE, "edge"), 2 * _BESIDE + 1), axis=1)
    around = sliding_window_view(np.pad(levels, 1, "edge"), 3)
    up, down = high - around.max(axis=1), around.min(axis=1) - low
    far = max(_FAR * float(np.nanmedian(np.maximum(high - levels, levels - low)[there])), _FAR_AT_LEAST)
    with np.errstate(invalid="ignore"):
        return np.where(up > far, 1, np.where(down > far, -1, 0))
