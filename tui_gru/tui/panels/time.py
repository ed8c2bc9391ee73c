"""Where the run is in time: the top line, the time line, and the loss curve."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.style import Style as TextStyle

from tui_gru import analysis
from tui_gru.debugger.position import Position, place_name, position_of
from tui_gru.debugger.program import Program
from tui_gru.debugger.timeline import BranchInfo
from tui_gru.engine import numbers
from tui_gru.engine.model import UPDATES
from tui_gru.engine.source import Ability
from tui_gru.session.snapshot import Snapshot, View
from tui_gru.tui.draw import EMPTY, Box, CellRow, SegmentRow, clip, from_rows, row_width, shortened_row, styled_row
from tui_gru.tui.keys import with_keys
from tui_gru.tui.panel import Compared, LabelledPlace, SnapshotPanel, Titles
from tui_gru.tui.plots import (
    EMPTY_PLOT,
    LONG,
    Envelope,
    LossSeries,
    Plot,
    Scale,
    TimeScale,
    axis_of,
    divisions,
    mean_parts,
    plot,
    standing_out,
)
from tui_gru.tui.theme import Palette, transliterate
from tui_gru.tui.written import AnyArray

if TYPE_CHECKING:
    pass

# ------------------------------------------------------------------------------
# The top line: four slots at fixed columns, with the position, the phase, what is unusual, and the loss.


_GAP = "  "
_PHASE = len("backward")  # the longest phase
_LAST = "last batch’s loss"
#: The columns of the phase and of what is unusual, by the least width of a screen. They are those of the panels below.
_COLUMNS = ((150, 50, 106), (100, 42, 80), (60, 31, 46))
#: The least width for words: totals after `of`, and the settings beside the phase.
_WORDS = 100
#: The least need of a warning, and the least width of a shortened name of a source.
_URGENT, _SHORTENED = 9, 8


class _Item(NamedTuple):
    """A piece of a slot. Of those that do not fit, the least needed are left out first."""

    parts: SegmentRow
    need: int

    @property
    def width(self) -> int:
        return row_width(self.parts)


class Header(SnapshotPanel, can_focus=False):
    """One row: the position, the phase with the settings, what is unusual, and the loss, each always in the same place."""

    ABOUT = "Where the run is, its settings, and its newest loss."

    DEFAULT_CSS = "Header { height: 1; border: none !important; padding: 0; background: $panel; }"

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        return from_rows([header(self.palette, snapshot, width)])


def header(palette: Palette, snapshot: Snapshot, width: int) -> SegmentRow:
    """Draw the line for a screen of this width."""
    position, reserved = _position(palette, snapshot, words=width >= _WORDS)
    first, second = next(((at, then) for least, at, then in _COLUMNS if width >= least), (0, 0))
    first = max(first, 1 + reserved + len(_GAP))
    second = max(second, first + _PHASE + len(_GAP))
    loss = _loss_words(palette, snapshot, width)
    end = width - row_width(loss) - 1
    if second > end:  # too narrow for all: the position is needed most, then the phase, then the loss
        first, second = first if first + _PHASE < width else width, width
        end = end if end > first + _PHASE else width
    row = CellRow(width)
    phase, settings = _phase(palette, snapshot)
    urgent = [item for item in _unusual(palette, snapshot, learning=True) if item.need >= _URGENT]
    if second == width and urgent:  # without a slot of its own, a warning follows what is needed more than it
        items = [*position, _Item(phase, 7), *urgent]
        return (Segment(" "), *_fitting(palette, items, width - 2)) if width > 1 else ()
    room = first - 1 - len(_GAP) - reserved - len(_GAP)
    if (title := snapshot.config.source.title) and room >= min(_SHORTENED, cell_len(title)):
        position.insert(0, _Item(shortened_row(palette, styled_row(palette, (title, palette.dim)), room), 0))
    slots = [(_fitting(palette, position, first - 1), 1)]
    usual = row_width(settings) <= second - first - _PHASE - 2 * len(_GAP) and width >= _WORDS
    if first < width:
        slots.append((phase, first))
    unusual = _unusual(palette, snapshot, learning=not usual)
    after = first + _PHASE + len(_GAP)
    if max(unusual, key=lambda item: item.need, default=_Item((), 0)).width > end - second - len(_GAP):
        second, usual = after, False  # a warning that is long takes the place of the settings
    preferred = end - sum(item.width + len(_GAP) for item in unusual)
    second = max(min(second, preferred), after + (row_width(settings) + len(_GAP) if usual else 0)) if second < width else width
    if usual:
        slots.append((settings, after))
    if second < width:
        slots.append((_fitting(palette, unusual, end - second - len(_GAP)), second))
    if end < width:
        slots.append((loss, end))
    for parts, x in slots:
        for segment in parts:
            row.put(x, segment.text, segment.style or palette.plain)
            x += segment.cell_length
    return tuple(row.strip())


def _fitting(palette: Palette, items: Sequence[_Item], room: int) -> SegmentRow:
    """Return the most needed items that fit, in their order, with gaps between them; at least a part of the most needed."""
    fitting_items: list[_Item] = []
    for item in sorted(items, key=lambda item: -item.need):
        if sum(candidate.width + len(_GAP) for candidate in (*fitting_items, item)) - len(_GAP) <= room:
            fitting_items.append(item)
    if items and not fitting_items:
        return shortened_row(palette, max(items, key=lambda item: item.need).parts, max(room, 0))
    shown = [item.parts for item in items if item in fitting_items]
    return tuple(part for i, parts in enumerate(shown) for part in ((Segment(_GAP),) if i else ()) + parts)


def _position(palette: Palette, snapshot: Snapshot, *, words: bool) -> tuple[list[_Item], int]:
    """Return the pieces of the position, and the cells that they take at most: epoch 14  batch 1 of 3  t 2 of 3.

    The timestep is shown if there is a current one.
    """
    at, program, last = snapshot.position, snapshot.program, snapshot.last
    source = snapshot.config.source
    if not source.can(Ability.TRAIN):
        places = (source.places[0], source.places[at.batch], source.places[-1]) if source.places else ()
        items = [_Item(styled_row(palette, places[1]), 9)] if places else []
        reserved = max(map(cell_len, places), default=-len(_GAP)) + len(_GAP)
        counted = []
    else:
        counted = [("epoch", at.epoch, None if last is None else last.epoch + 1, 8), ("batch", at.batch, program.num_batches, 9)]
        items, reserved = [], 0
    counted.append(("t", at.t, program.seq_length, 10))
    in_a_loop = at.phase in ("forward", "backward") and (at.line is None or at.line.formula is not None)
    for name, value, most, need in counted:
        total = "" if most is None else f"{' of ' if words else '/'}{most:,}"
        if name != "t" or in_a_loop:
            items.append(_Item(styled_row(palette, f"{name} ", (f"{value + 1:,}", palette.strong), (total, palette.dim)), need))
        widest = f"{value + 1:,}" if most is None else f"{most:,}"
        reserved += len(name) + 1 + len(widest) + len(total) + len(_GAP)
    return items, reserved - len(_GAP)


def _phase(palette: Palette, snapshot: Snapshot) -> tuple[SegmentRow, SegmentRow]:
    """Return the phase, and the settings: whether the model learns, and the update rule with its numbers."""
    config = snapshot.config
    settings = list[str]()
    if config.source.can(Ability.TRAIN):
        settings = ["learning on" if snapshot.settings.learning else "learning off", *_rule(snapshot)]
        settings += [f"carry {config.carry}"] if config.carry != "detach" else []
    return styled_row(palette, (snapshot.position.phase, palette.strong)), styled_row(palette, (", ".join(settings), palette.dim))


def _unusual(palette: Palette, snapshot: Snapshot, *, learning: bool) -> list[_Item]:
    """Return what is not as usual: problems, another machine, the past, branches, checks; with `learning`, that it is off."""
    items: list[_Item] = []

    def add(words: str, ink: Style, need: int) -> None:
        items.append(_Item(styled_row(palette, (words, ink)), need))

    behind = snapshot.newest.tick - snapshot.position.tick if snapshot.config.source.can(Ability.TRAIN) else 0
    if not snapshot.finite:
        add(f"{palette.glyphs.not_finite} not finite", palette.warning, 11)
    if snapshot.silent is not None:
        add(f"{snapshot.silent.written(snapshot.program)} held at 0", palette.warning, 10)
    if snapshot.unrecorded:
        add("unrecorded", palette.warning, 9)
    if (machine := snapshot.machine) is not None:
        add(machine.short, palette.warning if machine.warning else palette.plain, 9 if machine.warning else 6)
    if count := sum(not finding.is_observation for finding in snapshot.findings):
        sign, words = (f"{palette.glyphs.here} ", palette.warning), numbers.counted(count, "finding")
        items.append(_Item(styled_row(palette, sign, words), 7))
    if behind:
        part = int(100 * snapshot.position.tick / snapshot.newest.tick)
        place = f"{numbers.counted(behind, 'line')} back" if behind < 100 else f"at {part} % of the run"
        add(f"past, {place}", palette.strong, 8)
    if len(snapshot.state.branches.names) > 1:
        add(f"branch {snapshot.state.branch}", palette.plain, 3)
    if (other := snapshot.other) is not None:
        if other.moment is None:
            add(f"{other.name} has not come this far", palette.second, 5)
        elif snapshot.position.tick < other.parted:
            add(f"the same as {other.name} so far", palette.second, 5)
        else:
            add(f"compared with {other.name}", palette.second, 5)
    if snapshot.checked is not None:
        add(f"✓ {snapshot.checked.batches:,} checked", palette.gate, 3)
    if learning and snapshot.config.source.can(Ability.TRAIN) and not snapshot.settings.learning:
        add("learning off", palette.dim, 2)
    return items


def _rule(snapshot: Snapshot) -> list[str]:
    """Return the update rule unless it is plain SGD, with learning rate, clipping limit and number of updates."""
    config, program, settings = snapshot.config, snapshot.program, snapshot.settings.rule
    rule = "" if config.optimizer == "sgd" else f"{config.optimizer} "
    facts = [f"{rule}{program.writer.name('learning_rate')} {numbers.significant(settings['learning_rate'])}"]
    if "limit" in settings:
        facts.append(f"clip {numbers.significant(settings['limit'])}")
    if any(UPDATES in line.reads for line in program.update):
        count = snapshot.record.before.updates + (snapshot.position.phase == "update")
        facts.append(numbers.counted(count, "update"))
    return facts


def _loss_words(palette: Palette, snapshot: Snapshot, width: int) -> SegmentRow:
    """Return the newest loss after its label, which is short on a narrow screen."""
    label, loss = _loss(snapshot)
    if loss is None:
        return ()
    label = "last loss" if label == _LAST and width < _WORDS else label
    return styled_row(palette, (f"{label} ", palette.dim), (numbers.plain(loss), palette.strong))


def _loss(snapshot: Snapshot) -> tuple[str, float | None]:
    """Return the newest loss and its label: the loss of this batch, of the previous one, or, in the first batch, of a timestep."""
    loss = snapshot.value("loss")
    if loss is not None:
        return "loss", loss
    if snapshot.previous is not None:
        is_recorded = snapshot.position.number - 1 not in snapshot.config.source.unknown_losses
        return (_LAST, snapshot.previous.loss) if is_recorded else ("", None)
    name = snapshot.program.loss_names.timestep
    for t in range(snapshot.position.t, -1, -1) if name else ():
        term = snapshot.value(name, t)
        if term is not None:
            return f"{snapshot.program.writer.name(name)} t {t + 1}:", term
    return "", None


# ------------------------------------------------------------------------------
# The two rows of the time line: the losses of a run of any length, and under them the signs of marks, stops and forks.


#: The signs of a fork and of a division, which connect to the row above.
_FORK, _TICK = "╰", "╵"
#: Signs with their styles by column.
Signs = Mapping[int, tuple[str, Style]]


class LossColumns(NamedTuple):
    """The losses by column, each array of shape (columns,).

    `heights` is from 0 to 1, NaN where there is no loss. `broken` is True where a loss is not finite. `standing_out` is 1 where a
    loss is an outlier above the others, −1 below, 0 if there is none. `reached` is the number of columns that the run has reached.
    """

    heights: AnyArray
    broken: AnyArray
    standing_out: AnyArray
    reached: int

    def cells(self, palette: Palette, current: int) -> CellRow:
        """Draw columns of eighths, in full colour up to `current` and faint after it; a rule without a loss; arrows at outliers."""
        row, levels = CellRow(len(self.heights)), palette.glyphs.column
        rule, further, above, below = (transliterate(sign, palette.glyphs) for sign in "─╌↑↓")
        steps = np.where(np.isnan(self.heights), -1.0, 1 + np.rint(self.heights * (len(levels) - 2))).astype(int).tolist()
        signs = [levels[step] if step > 0 else rule if x < self.reached else further for x, step in enumerate(steps)]
        row.fill(0, signs[: current + 1], palette.gate)
        row.fill(current + 1, signs[current + 1 :], palette.faint)
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
        values, broken = _one_per_column(losses, scale, batch_ticks)
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


@lru_cache(maxsize=4)
def _batches(scale: TimeScale, batch_ticks: int) -> AnyArray:
    """Return the batch of each column, (width,); not to be written to."""
    return np.array([max(scale.tick(x) - 1, 0) // batch_ticks for x in range(scale.width)])


def _one_per_column(losses: Envelope, scale: TimeScale, batch_ticks: int) -> tuple[AnyArray, AnyArray]:
    """Return the loss of the batch of each column, NaN if it has no finite loss, and whether it has one that is not finite."""
    batches = _batches(scale, batch_ticks)
    present = batches < len(losses)
    values = np.full(scale.width, np.nan)
    values[present] = losses.at(batches[present])
    broken = np.zeros(scale.width, bool)
    broken[present] = losses.broken(values[present], batches[present])
    values[broken] = np.nan
    return values, broken


class TimelineMark(NamedTuple):
    """A sign at `tick`: `kind` is mark, stop, fork or finding, `name` the letter of a mark or finding or the other branch, `note` a
    description."""

    tick: int
    kind: str
    name: str
    note: str


def timeline_marks(snapshot: Snapshot) -> tuple[TimelineMark, ...]:
    """Return the signs of the current branch. If two are in the same column, the first one in this list is shown.

    A mark of another branch counts as one of this branch if it is in their shared past.
    """
    branch = snapshot.state.branch
    shared = dict(partings(snapshot.forks, branch))
    marks = [
        TimelineMark(mark.tick, "mark", mark.letter, f"mark {mark.letter}")
        for mark in snapshot.state.marks.sorted
        if mark.branch == branch or mark.tick <= shared.get(mark.branch, -1)
    ]
    forks = [TimelineMark(tick, "fork", name, f"{name} leaves {branch} here") for name, tick in shared.items()]
    stops = [TimelineMark(tick, "stop", "", "a run stopped here") for tick in snapshot.hits]
    lettered = analysis.examined.lettered(snapshot.findings) if snapshot.findings else ()
    findings = [
        TimelineMark(finding.first_seen.tick, "finding", letter, f"{letter}: {finding.title}, seen from here on")
        for letter, finding in lettered
        if finding.first_seen is not None
    ]
    return (*marks, *forks, *stops, *findings)


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
    styles = {"mark": palette.strong, "fork": palette.second, "stop": palette.warning, "finding": palette.warning}
    signs: dict[int, tuple[str, Style]] = {}
    for place in places:
        shown = {"fork": _FORK, "stop": palette.glyphs.breakpoint}.get(place.kind, place.name)
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


# ------------------------------------------------------------------------------
# The time line at the bottom of the screen: the loss of the whole run, signs at its events, and the current position.


class TimeLine(SnapshotPanel):
    """The loss over the whole run with the scale below it, or, in one row, the loss overlaid with the signs.

    A click goes to a place, as do the arrow keys with the focus. Dragging moves through time up to the newest moment. A column
    with a sign stands for the exact place of the sign.
    """

    ABOUT = (
        "The whole run from left to right: its loss as columns, the current position, marks, stops, and forks of other "
        "branches. ← → move, enter goes to the next sign, a click goes to a place."
    )

    ALLOW_MAXIMIZE = False  # it has two rows
    SHOWS_FOCUS = True
    ASKING = frozenset({"move", "end", "next"})
    DEFAULT_CSS = "TimeLine { height: 2; border: none !important; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move(-1)", "Through time", key_display="← →"),
        ("right", "move(1)"),
        ("home", "end(False)"),
        ("end", "end(True)"),
        Binding("enter", "next(1)", "Next sign"),
        ("backspace", "next(-1)"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._series, self._versions = LossSeries(), 0
        self._columns: tuple[object, LossColumns] | None = None
        self._signs: tuple[TimelineMark, ...] = ()
        self._signs_of: tuple[object, ...] = ()
        self._base: tuple[object, CellRow] | None = None
        self._requested: int | None = None  # the column last requested, from which the next key continues
        self._under_way = False  # the requested place has not been shown yet
        self._grasped: int | None = None  # the tick at which a drag began, None if there is no drag
        self._target_tick: int | None = None  # the tick to go to after the next refresh

    def show(self, snapshot: Snapshot, view: View) -> None:
        """Show this snapshot."""
        self._versions += self._series.follow(snapshot.losses, snapshot.position.number, snapshot.state.branch)
        forks = tuple((f.name, f.source, f.tick) for f in snapshot.forks)
        signs_of = snapshot.state.branch, snapshot.state.marks.sorted, snapshot.hits, forks, snapshot.findings
        if signs_of != self._signs_of:
            self._signs_of, self._signs = signs_of, timeline_marks(snapshot)
        if self._snapshot is not None and snapshot.position != self._snapshot.position and not self._under_way:
            self._requested = None  # the position was changed by something else
        self._under_way = self._under_way and snapshot.passing
        super().show(snapshot, view)

    def reads(self, snapshot: Snapshot, view: View) -> Hashable:
        return self._versions, snapshot.newest, snapshot.position, self._signs

    @property
    def scale(self) -> TimeScale:
        """The scale for the present width."""
        return self._scale_of(self.snapshot, self.content_size.width)

    def _scale_of(self, snapshot: Snapshot, width: int) -> TimeScale:
        """Return the scale from the beginning to the end of the run, or of the newest batch if the run has no end."""
        batch = snapshot.program.ticks
        end = max(-(-snapshot.newest.tick // batch), 1) * batch if snapshot.last is None else snapshot.last.tick
        return TimeScale(end, width)

    # Drawing

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        if width < 1:
            return EMPTY
        palette, scale = self.palette, self._scale_of(snapshot, width)
        column = scale.column(snapshot.position.tick)
        curve = self._curve(snapshot, scale).cells(palette, column)
        if height == 1:
            put_signs(curve, placed(palette, scale, self._signs))
            curve.put(column, palette.glyphs.here, palette.cursor if self.has_focus else palette.accent)
            return from_rows([curve.strip()])
        key = (scale, palette, self._signs)
        if self._base is None or self._base[0] != key:
            self._base = key, CellRow(scale.width)
            put_signs(self._base[1], placed(palette, scale, self._signs))
        row = self._base[1].copy()
        put_here(row, palette, column, snapshot.position, focused=self.has_focus)
        put_branches(row, palette, scale, self._signs)
        put_divisions(row, palette, scale, snapshot.program)
        return from_rows([curve.strip(), row.strip()])

    def _curve(self, snapshot: Snapshot, scale: TimeScale) -> LossColumns:
        key = (self._versions, scale, snapshot.newest.tick)
        if self._columns is None or self._columns[0] != key:
            self._columns = key, loss_columns(self._series.envelope, scale, snapshot.program.ticks, snapshot.newest.tick)
        return self._columns[1]

    # Moving through time

    def places(self) -> Sequence[LabelledPlace]:
        """Return the moments with a sign or a division, those of signs first where there is no room for both labels."""
        scale, program, taken = self.scale, self.snapshot.program, dict[int, LabelledPlace]()
        ticks = (*(sign.tick for sign in self._signs), *(tick for tick, _ in divisions(scale, program)))
        for tick in ticks:
            x = min(scale.column(tick), scale.width - 2)
            if tick < scale.span and not any(abs(x - other) < 3 for other in taken):
                taken[x] = LabelledPlace(x, self.content_size.height - 1, tick=tick)
        return list(taken.values())

    @property
    def expecting(self) -> bool:
        """True if a requested place has not been shown yet."""
        return self._target_tick is not None or self._under_way

    def seek(self, tick: int) -> None:
        """Request to go to a tick. Of several requests before the next refresh, only the last counts."""
        due, self._target_tick = self._target_tick is not None, tick
        if not due:
            self.call_after_refresh(self._ask)

    def _ask(self) -> None:
        tick, self._target_tick = self._target_tick, None
        if tick is not None and tick != self.snapshot.position.tick:
            self._under_way = True
            self.request("go", tick, self._grasped not in (None, self.snapshot.position.tick))

    def action_move(self, columns: int) -> None:
        """Go by columns, at least by one tick."""
        scale, current = self.scale, self.snapshot.position.tick
        at = scale.column(current) if self._requested is None else self._requested
        self._requested = min(max(at + columns, 0), scale.width - 1)
        tick = self.tick_of(self._requested)
        if (tick - current) * columns <= 0:
            tick = current + columns
        self._go_to(min(max(tick, 0), self.snapshot.newest.tick))

    def action_end(self, newest: bool) -> None:
        self._requested = None
        self._go_to(self.snapshot.newest.tick if newest else 0)

    def action_next(self, direction: int) -> None:
        """Go to the next place with a sign."""
        current = self.snapshot.position.tick
        further = [sign.tick for sign in self._signs if (sign.tick - current) * direction > 0]
        if further:
            self._requested = None
            self._go_to(min(further) if direction > 0 else max(further))

    def _go_to(self, tick: int) -> None:
        self._grasped = None
        self.seek(tick)

    def on_blur(self) -> None:
        self._requested = None

    # The mouse

    def on_mouse_down(self, event: events.MouseDown) -> None:
        if event.button == 1:
            self.capture_mouse()
            self._grasped = self.snapshot.position.tick
            self._requested = None
            self.seek(self._tick_under(event))
            event.stop()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        tick = self._tick_under(event)
        if self.app.mouse_captured is self:
            self.seek(min(tick, self.snapshot.newest.tick))
        self.tooltip = Content(transliterate(self.describe(tick), self.palette.glyphs))

    def on_mouse_up(self, event: events.MouseUp) -> None:
        self.release_mouse()

    def _tick_under(self, event: events.MouseEvent) -> int:
        return self.tick_of(event.get_content_offset_capture(self).x)

    def tick_of(self, column: int) -> int:
        """Return the tick that a column stands for: the tick of its sign, otherwise of its outlier, otherwise in its middle."""
        scale = self.scale
        signs = (sign.tick for sign in self._signs if scale.column(sign.tick) == column)
        sign = next(signs, None)
        return sign if sign is not None else self._standing_out(column) or scale.tick(column)

    def _standing_out(self, column: int) -> int | None:
        """Return the tick of the outlier among the losses of a column, None if there is none."""
        snapshot, scale = self.snapshot, self.scale
        if not 0 <= column < scale.width:
            return None
        ticks, direction = snapshot.program.ticks, int(self._curve(snapshot, scale).standing_out[column])
        first, after = (math.ceil(edge) for edge in scale.batches(ticks)[column : column + 2])
        first, after = max(first, 0), min(after, len(self._series))
        if not direction or after <= first:
            return None
        return self._series.envelope.furthest(first, after, direction) * ticks + snapshot.program.loss_tick

    def describe(self, tick: int) -> str:
        """Describe a tick for the tooltip: its place, the loss of its batch, and the signs in its column."""
        snapshot, scale = self.snapshot, self.scale
        position = position_of(snapshot.program, tick)
        words = place_name(position)
        losses = self._series.envelope.values
        if tick > snapshot.newest.tick:
            words += " · not reached yet"
        elif position.number < len(losses) and position.number not in snapshot.config.source.unknown_losses:
            words += f" · loss {numbers.plain(losses[position.number])}"
        column = scale.column(tick)
        notes = dict.fromkeys(sign.note for sign in self._signs if scale.column(sign.tick) == column)
        if tick == self._standing_out(column):
            notes["this loss is an outlier"] = None
        return "\n".join([words, *list(notes)[:6]])


# ------------------------------------------------------------------------------
# The loss curve: the loss of every batch so far.


class LossCurve(SnapshotPanel):
    """The loss over batches, with a mark at the current batch, a rule after each epoch, and the mean of the epoch in the border.

    Few batches are points, many a band from the lowest to the highest loss; the line over them has the mean of each epoch, or, of
    few long epochs, the moving average.

    With the focus, the arrows move a cursor from batch to batch. The border shows the number and the loss of the batch under the
    cursor or the mouse. If a column has several batches, that is the outlier among them, otherwise the middle one.

    Dashed lines show, if the axis spans them, the losses of a blind guess, of character frequencies (unigram), and of pair
    frequencies (bigram).

    If two branches are compared, both losses are drawn, and the border names the branches.
    """

    ABOUT = (
        "The loss of every batch so far, as points or as a band; the line is the mean of each epoch. Dashed lines: the losses of "
        "guessing and of counting characters. ← → go from batch to batch, , changes the scale."
    )

    MOVING = frozenset({"move"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move(-1)", "Batch", key_display="← →"),
        ("right", "move(1)"),
        ("home", "move(-1000000)"),
        ("end", "move(1000000)"),
        Binding("comma", "scale", "Scale"),
    ]

    COMPARED = Compared.BOTH

    def __init__(self) -> None:
        super().__init__()
        self._series, self._other = LossSeries(), LossSeries()
        self._versions = 0  # of both series
        self.scale = Scale.AUTO
        self._plot: Plot = EMPTY_PLOT  # the plot of the last drawing
        self._cursor: int | None = None  # the batch under the cursor, 0-based
        self._hovered: int | None = None  # the batch under the mouse, 0-based

    def reads(self, snapshot: Snapshot, view: View) -> Hashable:
        return self._versions, snapshot.position.number, _names(snapshot)

    def titles(self, snapshot: Snapshot) -> Titles:
        title = self._legend(*_names(snapshot)) if snapshot.other is not None else "loss so far"
        count, epoch_batches = len(self._series), _batches_of_epoch(snapshot)
        if self.pointed is not None:
            return Titles(title, self._described(snapshot, self.pointed))
        if not count:
            return Titles(title)
        batches = numbers.counted(count, "step" if snapshot.config.source.steps else "batch")
        scale = [] if self.scale is Scale.AUTO else [self.scale.value]
        if epoch_batches is None:
            unknown = snapshot.config.source.unknown_losses
            newest = next((batch for batch in range(count - 1, -1, -1) if batch not in unknown), None)
            words = [] if newest is None else [f"newest {numbers.plain(self._series.envelope.values[newest])}"]
            return Titles(title, [*words, *scale], batches)
        first = min(snapshot.position.number, count - 1) // epoch_batches * epoch_batches
        losses = np.asarray(self._series.envelope.values[first : first + epoch_batches], np.float64)
        with np.errstate(invalid="ignore"):
            mean = numbers.plain(losses.mean())
        so_far = " so far" if len(losses) < epoch_batches else ""
        epochs = "1 epoch" if count <= epoch_batches else f"{-(-count // epoch_batches):,} epochs"
        return Titles(title, [f"mean of epoch {first // epoch_batches + 1:,}{so_far} {mean}", *scale], f"{batches}, {epochs}")

    def show(self, snapshot: Snapshot, view: View) -> None:
        number, other = snapshot.position.number, snapshot.other
        self._versions += self._series.follow(snapshot.losses, number, snapshot.state.branch)
        if other is not None:
            self._versions += self._other.follow(other.losses, number, other.name)
        super().show(snapshot, view)

    @property
    def pointed(self) -> int | None:
        """The batch under the mouse, otherwise under the cursor, counted from 0 over the run; None if there is neither."""
        batch = self._cursor if self._hovered is None else self._hovered
        return batch if batch is not None and batch < len(self._series) else None

    def _described(self, snapshot: Snapshot, batch: int) -> str:
        """Return `loss 0.1234 · e3 b2 · batch 8`, in a comparison with the loss of the other branch."""
        epoch, number = divmod(batch, snapshot.program.num_batches)
        losses = f"loss {numbers.plain(self._series.envelope.values[batch])}"
        if batch in snapshot.config.source.unknown_losses:
            losses = "loss not known"
        if snapshot.other is not None and batch < len(self._other):
            losses += f" ({numbers.plain(self._other.envelope.values[batch])} on {snapshot.other.name})"
        step = snapshot.config.source.step(batch)
        return f"{losses} · {step}" if step else f"{losses} · e{epoch + 1:,} b{number + 1:,} · batch {batch + 1:,}"

    def _legend(self, one: str, other: str) -> Content:
        """Return the legend of the curves of two branches."""
        palette = self.palette
        line, dots = palette.glyphs.axis_horizontal, palette.glyphs.ellipsis
        parts = (
            ("loss  ", palette.plain),
            (f"{line} {one}", palette.gate),
            ("  ", palette.plain),
            (f"{dots} {other}", palette.second),
        )
        return Content.assemble(*((transliterate(words, palette.glyphs), TextStyle.from_rich_style(ink)) for words, ink in parts))

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        runs = with_keys(self, "no batch finished yet: <step.batch> runs one")
        levels = baselines_of(snapshot) if len(self._series) else ()
        self._plot = plot(
            self.palette, self._series.envelope, width, height,
            scale=self.scale,
            current=snapshot.position.number + 1,
            pointed=None if self.pointed is None else self.pointed + 1,
            per_epoch=_batches_of_epoch(snapshot),
            second=self._other.envelope if snapshot.other is not None else None,
            levels=levels,
            placeholder=runs if snapshot.program.knows_loss else "this model ends without a loss",
        )  # fmt: skip
        return clip(self.palette, self._plot.box, width, height)

    # The batch under the mouse, and under the cursor

    def action_scale(self) -> None:
        """Switch to the next scale of the axis."""
        self.scale = self.scale.following
        self.show_again()

    def action_move(self, columns: int) -> None:
        """Move the cursor by columns, each time at least by one batch, within the batches. It starts at the current batch.

        A curve that is too small to be drawn, or is on another page, has no columns; the cursor moves by batches then.
        """
        count, step = len(self._series), 1 if columns > 0 else -1
        if not count:
            return
        self._ensure_built()
        at = min(self.snapshot.position.number, count - 1) if self._cursor is None else self._cursor
        for _ in range(min(abs(columns), count)):
            column, batch = self._plot.column(at) + step, at + step
            if self._plot.columns:
                batch = self._batch_in(column) if 0 <= column < self._plot.columns else column * count
            if (batch - at) * step <= 0:
                batch = at + step
            if not 0 <= batch < count:
                at = min(max(batch, 0), count - 1)
                break
            at = batch
        self._cursor = at
        self.show_again()

    def places(self) -> Sequence[LabelledPlace]:
        """Return batches at equal distances, in the first row."""
        columns, count = self._plot.columns, len(self._series)
        if not count or columns < 3:
            return ()
        apart = max(3, -(-columns // 26))
        return [LabelledPlace(self._plot.margin + 1 + x, 0) for x in range(0, columns, apart) if self._plot.points(x).start < count]

    def point_at(self, x: int, y: int) -> bool:
        column = x - self._plot.margin - 1
        hit = bool(len(self._series)) and 0 <= column < self._plot.columns
        if hit:
            self._cursor = self._batch_in(column)
            self.show_again()
        return hit

    def _batch_in(self, column: int) -> int:
        """Return the batch that stands for all batches of a column of the plot: the outlier, otherwise the middle one."""
        points = self._plot.points(column)
        first, after = max(points.start, 0), min(points.stop, len(self._series))
        if after <= first:
            return min(first, len(self._series) - 1)
        direction = self._plot.standing_out.get(column)
        if direction is None:
            return (first + after - 1) // 2
        return self._series.envelope.furthest(first, after, direction)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        offset = event.get_content_offset(self)
        column = -1 if offset is None else offset.x - self._plot.margin - 1
        hovered = self._batch_in(column) if len(self._series) and 0 <= column < self._plot.columns else None
        if hovered != self._hovered:
            self._hovered = hovered
            self.show_again()

    def on_leave(self, event: events.Leave) -> None:
        if self._hovered is not None:
            self._hovered = None
            self.show_again()

    def on_blur(self, event: events.Blur) -> None:
        if self._cursor is not None:
            self._cursor = None
            self.show_again()


def baselines_of(snapshot: Snapshot) -> tuple[tuple[str, float], ...]:
    """Return the names and values of the baselines of a cross-entropy, of classes that are no characters only a blind guess."""
    config = snapshot.config
    if not config.model.is_cross_entropy:
        return ()
    table = analysis.losses.baselines(snapshot.corpus.text if config.source.can(Ability.TEXT) else "", config.vocab_size)
    return tuple((name, value) for name, value in table.lines if math.isfinite(value))


def _batches_of_epoch(snapshot: Snapshot) -> int | None:
    """Return the batches of an epoch; None if an epoch is one batch, or the run was recorded and has no epochs."""
    count = snapshot.program.num_batches
    return count if count > 1 and snapshot.config.source.can(Ability.TRAIN) else None


def _names(snapshot: Snapshot) -> tuple[str, ...]:
    """Return the names of this branch and of the compared one; nothing if none is compared."""
    return () if snapshot.other is None else (snapshot.state.branch, snapshot.other.name)
