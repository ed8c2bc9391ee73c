"""The two rows of the time line: the losses of a run of any length, and under them the signs of marks, stops and forks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from rich.cells import cell_len
from rich.style import Style

from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.program.position import Position
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.debugger.timeline.branches import BranchInfo
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.look.themes import Palette
from tui_gru.tui.widgets.cell_row import CellRow
from tui_gru.tui.widgets.plots.axis import axis_of
from tui_gru.tui.widgets.plots.envelope import Envelope
from tui_gru.tui.widgets.plots.smoothing import LONG, mean_parts, standing_out
from tui_gru.tui.widgets.plots.time_scale import TimeScale, divisions, place_name
from tui_gru.tui.widgets.written import AnyArray

#: The sign of a fork and that of a division, which connect to the row above.
_FORK, _TICK = "╰", "╵"
#: Signs with their styles by column.
Signs = Mapping[int, tuple[str, Style]]


@dataclass(frozen=True, eq=False)
class LossColumns:
    """The losses by column, each array of shape (columns,).

    `heights` is from 0 to 1, NaN where there is no loss. `broken` is True where a loss is not finite. `standing_out` is 1 where a
    loss is an outlier above the others, −1 below, 0 if there is none. `reached` is the number of columns that the run has reached.
    """

    heights: AnyArray
    broken: AnyArray
    standing_out: AnyArray
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


def _stretched(parts: AnyArray) -> AnyArray:
    """Scale parts of an axis such that the lowest is 0 and the highest 1; 0.5 if all are equal."""
    finite = parts[np.isfinite(parts)]
    least, most = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
    stretched: AnyArray = (parts - least) / (most - least) if most > least else np.where(np.isnan(parts), np.nan, 0.5)
    return stretched


def _each(losses: Envelope, scale: TimeScale, batch_ticks: int) -> tuple[AnyArray, AnyArray]:
    """Return the loss of the batch of each column, NaN if it has no finite loss, and whether it has one that is not finite."""
    batches = np.array([max(scale.tick(x) - 1, 0) // batch_ticks for x in range(scale.width)])
    known = batches < len(losses)
    values = np.full(scale.width, np.nan)
    values[known] = losses.at(batches[known])
    broken = known & ~np.isfinite(values)
    values[broken] = np.nan
    return values, broken


class TimelineMark(NamedTuple):
    """A sign at `tick`: `kind` is mark, stop or fork, `name` the letter of a mark or the other branch, `note` a description."""

    tick: int
    kind: str
    name: str
    note: str


def timeline_marks(snapshot: Snapshot) -> tuple[TimelineMark, ...]:
    """Return the signs of the current branch. If two are in the same column, the first one in this list is shown.

    A mark of another branch counts as one of this branch if it is in their shared past.
    """
    here = snapshot.branch
    shared = dict(partings(snapshot.forks, here))
    marks = [
        TimelineMark(mark.tick, "mark", mark.letter, f"mark {mark.letter}")
        for mark in snapshot.marks
        if mark.branch == here or mark.tick <= shared.get(mark.branch, -1)
    ]
    forks = [TimelineMark(tick, "fork", name, f"{name} leaves {here} here") for name, tick in shared.items()]
    stops = [TimelineMark(tick, "stop", "", "a run stopped here") for tick in snapshot.hits]
    return (*marks, *forks, *stops)


def partings(forks: Sequence[BranchInfo], current: str) -> Iterator[tuple[str, int]]:
    """Yield (name, tick) for every other branch: the tick up to which it equals the current one."""
    by_name = {fork.name: fork for fork in forks}
    if current not in by_name:
        return
    mine = dict(_lineage(by_name, current))
    for name in by_name:
        if name == current:
            continue
        for ancestor, tick in _lineage(by_name, name):
            if ancestor in mine:  # they can fork from their common ancestor at different ticks
                yield name, min(tick, mine[ancestor])
                break


def _lineage(forks: dict[str, BranchInfo], name: str) -> Iterator[tuple[str, int]]:
    """Yield a branch and its ancestors, each with the tick up to which the branch shares its past."""
    upto = forks[name].newest
    while True:
        yield name, upto
        fork = forks[name]
        if fork.source is None or fork.source not in forks:
            return
        name, upto = fork.source, min(upto, fork.tick)


def placed(palette: Palette, scale: TimeScale, places: Sequence[TimelineMark]) -> Signs:
    """Return the signs by column; if there are several in a column, the first."""
    styles = {"mark": palette.strong, "fork": palette.second, "stop": palette.warning}
    signs: dict[int, tuple[str, Style]] = {}
    for place in places:
        shown = {"mark": place.name, "fork": _FORK, "stop": palette.glyphs.breakpoint}[place.kind]
        signs.setdefault(scale.column(place.tick), (transliterate(shown, palette.glyphs), styles[place.kind]))
    return signs


def put_signs(row: CellRow, signs: Signs) -> None:
    for x, (sign, ink) in signs.items():
        row.put(x, sign, ink)


def put_here(row: CellRow, palette: Palette, x: int, position: Position, *, focused: bool) -> None:
    """Draw the current position: its sign, the sign that it covers, and the place in words, to the right or the left of it."""
    covered = row.at(x).strip()
    ink, words = (palette.cursor, palette.cursor) if focused else (palette.accent, palette.plain)
    place = transliterate(place_name(position), palette.glyphs)
    right, left = f" {covered} {place}" if covered else f" {place}", f"{place} {covered} " if covered else f"{place} "
    start = x - len(left)
    if row.free(x + 1, len(right)) or (start < 0 and x + len(right) < row.width):
        row.put(x + 1, right, words)
    elif row.free(start, len(left)) or x + len(right) >= row.width:
        row.put(start, left, words)
    else:
        row.put(x + 1, right, words)
    row.put(x, palette.glyphs.here, ink)


def put_branches(row: CellRow, palette: Palette, scale: TimeScale, places: Sequence[TimelineMark]) -> None:
    """Draw the names of other branches beside their forks if there is room."""
    parting: dict[int, list[str]] = {}
    for place in places:
        if place.kind == "fork":
            parting.setdefault(scale.column(place.tick), []).append(place.name)
    for x, (name, *others) in parting.items():
        label = transliterate(f"{name} +{len(others)}" if others else name, palette.glyphs)
        if row.at(x) == transliterate(_FORK, palette.glyphs) and row.free(x + 1, cell_len(label) + 1):
            row.put(x + 1, label, palette.dim)


def put_divisions(row: CellRow, palette: Palette, scale: TimeScale, program: Program) -> None:
    """Draw divisions at round places, with their labels if there is room."""
    tick = transliterate(_TICK, palette.glyphs)
    for place, label in divisions(scale, program):
        x = scale.column(place)
        if row.free(x, len(label) + 2) and (x == 0 or row.free(x - 1, 1)):
            row.put(x, tick + label, palette.dim)
        elif row.free(max(x - 1, 0), 2) and (x + 1 == row.width or row.free(x + 1, 1)):
            row.put(x, tick, palette.dim)
