"""Smoothing of a long series by columns, and detection of outliers."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tui_gru.tui.widgets.plots.axis import Axis
from tui_gru.tui.widgets.plots.envelope import Envelope
from tui_gru.tui.widgets.written import AnyArray

#: A series is long from this number of points per column on.
LONG = 4
#: The part of the columns over which is averaged, and the number of columns on each side with which a column is compared.
_SMOOTHED, _BESIDE = 1 / 30, 3
#: A column is an outlier if its distance from its neighbours is at least this multiple of the median distance, and this part.
_FAR, _FAR_AT_LEAST = 3, 0.08


def mean_parts(line: Envelope, axis: Axis, edges: AnyArray) -> AnyArray:
    """Return the means between consecutive edges (n+1,) as parts of the axis (n,), with values clipped to the axis."""
    return line.means(edges, lambda values: np.clip(axis.parts(values), 0, 1))


def smooth(means: AnyArray) -> AnyArray:
    """Return the moving average, ignoring missing columns: (n,) -> (n,), NaN if there are none in the window."""
    reach = min(max(round(len(means) * _SMOOTHED / 2), 1), (len(means) - 1) // 2)
    there = np.isfinite(means)
    window = np.ones(2 * reach + 1)
    sums, counts = (np.convolve(each, window, "same") for each in (np.where(there, means, 0.0), there.astype(float)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(there, sums / counts, np.nan)


def standing_out(low: AnyArray, high: AnyArray, means: AnyArray) -> AnyArray:
    """Return which columns have an outlier: 1 above, −1 below the neighbouring columns, 0 for none.

    `low`, `high` and `means` (n,) are the extremes and the mean of each column as parts of an axis. Each column is compared with
    the levels on both sides, so that a step from one level to another is no outlier.
    """
    there = np.isfinite(means)
    if not there.any():
        return np.zeros(len(means), int)
    filled = np.interp(np.arange(len(means)), np.flatnonzero(there), means[there])
    levels = np.sort(sliding_window_view(np.pad(filled, _BESIDE, "edge"), 2 * _BESIDE + 1), axis=1)[:, _BESIDE]  # the medians
    around = sliding_window_view(np.pad(levels, 1, "edge"), 3)
    up, down = high - around.max(axis=1), around.min(axis=1) - low
    far = max(_FAR * _median(np.maximum(high - levels, levels - low)[there]), _FAR_AT_LEAST)
    with np.errstate(invalid="ignore"):
        return np.where(up > far, 1, np.where(down > far, -1, 0))


def _median(values: AnyArray) -> float:
    """Return the median without NaN, as `np.nanmedian`, which takes 20 ms to load a module that is not needed."""
    known = np.sort(values[~np.isnan(values)])
    return float((known[(len(known) - 1) // 2] + known[len(known) // 2]) / 2) if len(known) else np.nan
