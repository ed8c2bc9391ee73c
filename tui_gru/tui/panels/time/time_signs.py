"""The signs of the time line (marks, stops, forks of other branches), collected and drawn; and what is drawn beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.style import Style

from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.program.position import Position
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.debugger.timeline.branches import BranchInfo
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.look.palette import Palette
from tui_gru.tui.widgets.cell_row import CellRow
from tui_gru.tui.widgets.plots.time_scale import TimeScale, divisions, place_name

#: The sign of a fork and that of a division, which connect to the row above.
_FORK, _TICK = "╰", "╵"

#: Signs with their styles by column.
Signs = Mapping[int, tuple[str, Style]]


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
