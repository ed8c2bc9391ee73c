"""The story of the run: charts of what developed over all its batches, with one cursor through all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.binding import BindingType

from tui_gru.analysis import tables
from tui_gru.analysis.examined import Finding, lettered
from tui_gru.analysis.story import Story, StoryMoment, matrices_of
from tui_gru.analysis.tables import Columns
from tui_gru.analysis.trials import RATES, RateTrial, fastest_rate
from tui_gru.debugger.position import Position, position_of
from tui_gru.debugger.program import in_line
from tui_gru.engine import numbers
from tui_gru.session.snapshot import Snapshot, View
from tui_gru.tui.draw import Box, CellRow, SegmentRow, TableColumn, clip, from_rows, styled_row, table
from tui_gru.tui.keys import with_keys
from tui_gru.tui.panel import SnapshotPanel, Titles
from tui_gru.tui.panels.time import baselines_of
from tui_gru.tui.plots import Axis, Dots, Envelope, Scale, at_steps, axis_of, interpolated, label, ticks
from tui_gru.tui.theme import Palette, folded, transliterate, truncated
from tui_gru.tui.written import AnyArray

if TYPE_CHECKING:
    from tui_gru.analysis.report import RunComparison

# ------------------------------------------------------------------------------
# The scale of all charts: batches on a logarithmic or a linear axis.


class BatchScale(NamedTuple):
    """Batches 0 … `batches` − 1 on `width` columns, counted from 1 on a logarithmic axis if `logarithmic`."""

    batches: int
    width: int
    logarithmic: bool

    def at(self, batches: AnyArray) -> AnyArray:
        """Return the places of batches (n) between the middle of the first column, 0, and the middle of the last, 1."""
        if self.batches < 2:
            return np.zeros(len(batches))
        places: AnyArray = (
            np.log1p(batches) / math.log(self.batches) if self.logarithmic else np.asarray(batches) / (self.batches - 1)
        )
        return places

    def column(self, batch: int) -> int:
        """Return the column of a batch."""
        return round(float(self.at(np.array([batch]))[0]) * (self.width - 1))

    def edges(self, columns: int) -> AnyArray:
        """Return the edges of so many columns over the whole width as batches, (columns + 1), not rounded."""
        return self._inverse((np.arange(columns + 1) - 0.5) / max(columns - 1, 1))

    def _inverse(self, places: AnyArray) -> AnyArray:
        """Return the batches at these places (n), not rounded."""
        batches: AnyArray = self.batches**places - 1 if self.logarithmic else places * (self.batches - 1)
        return batches

    def between(self, batches: AnyArray, values: AnyArray, columns: int) -> AnyArray:
        """Return the values at so many columns, (columns), on straight lines between the values of batches; NaN outside of them."""
        if not len(batches):
            return np.full(columns, np.nan)
        return np.interp(np.linspace(0, 1, columns), self.at(batches), values, left=np.nan, right=np.nan)

    def nearest(self, batches: AnyArray) -> AnyArray:
        """Return for each column the index of the nearest of these batches, (width)."""
        indices: AnyArray = np.abs(np.linspace(0, 1, self.width)[:, None] - self.at(batches)).argmin(axis=1)
        return indices

    def shown(self, batches: AnyArray) -> AnyArray:
        """Return for each column the index of the one of these batches that is in it, nearest to its middle, (width); −1 where none
        is. A column that is a part of one batch belongs to that batch."""
        nearest, edges = self.nearest(batches), self.edges(self.width)
        batch, places = batches[nearest], np.linspace(0, 1, self.width)
        before = np.floor(self._inverse(places) + 1e-9)
        containing = np.where(places - self.at(before) <= self.at(before + 1) - places, before, before + 1)
        inside = (edges[:-1] <= batch) & (batch < edges[1:]) | (containing == batch)
        indices: AnyArray = np.where(inside, nearest, -1)
        return indices

    def joins(self, batches: AnyArray, columns: int) -> AnyArray:
        """Return at which of so many columns both the batch before and the one after are among these batches, (columns)."""
        middles = self._inverse(np.linspace(0, 1, columns))
        neighbours = (np.rint(middles - 0.5), np.rint(middles + 0.5))
        joined: AnyArray = np.logical_and(*(np.isin(neighbour, batches) for neighbour in neighbours))
        return joined


# ------------------------------------------------------------------------------
# The charts: rows of cells with a name and a number at the left, and the values at the cursor at the right.


class CursorValue(NamedTuple):
    """A value at the cursor, and what it is."""

    value: str
    words: str = ""


class ChartRow(NamedTuple):
    """A row of a chart: its name, the number of the axis there, its cells, and a value at the cursor."""

    name: str
    number: str
    cells: CellRow
    reading: CursorValue = CursorValue("")
    is_title: bool = False


class Chart(NamedTuple):
    """A chart that can be drawn in `least` … `most` rows."""

    least: int
    most: int
    draw: Callable[[int], list[ChartRow]]


def fixed(rows: list[ChartRow]) -> Chart:
    """Return a chart that always has these rows."""
    return Chart(len(rows), len(rows), lambda height: rows)


class Curve(NamedTuple):
    """Values of some batches, drawn as a line, or of every batch, drawn as the range in each column; faint without an ink.

    If `sampled`, the batches between were not computed: values are drawn as points, and only those of successive batches joined.
    """

    values: AnyArray | Envelope
    ink: Style | None = None
    batches: AnyArray | None = None
    sampled: bool = False


def line_chart(
    palette: Palette,
    scale: BatchScale,
    title: str,
    height: int,
    axis: Axis,
    curves: Sequence[Curve],
    levels: Iterable[tuple[str, float]] = (),
) -> list[ChartRow]:
    """Draw curves on an axis with its ends named, and the levels, each a name and a value, as dashed lines."""
    dots = Dots(palette, height, scale.width)
    for curve in curves:
        if isinstance(curve.values, Envelope):
            edges = scale.edges(dots.across)
            drawn = curve.values.columns(edges)
            low, high = interpolated(curve.values, axis, axis.parts(drawn.low), axis.parts(drawn.high), edges)
            if curve.ink is None:
                nothing = np.full(dots.across, np.nan)
                dots.draw_long(low, high, nothing, np.zeros(dots.across), palette.faint, 1, faint=True)
            else:
                dots.draw(low, high, curve.ink, 1)
        else:
            assert curve.batches is not None
            assert curve.ink is not None
            values = axis.parts(curve.values)
            parts = np.clip(scale.between(curve.batches, values, dots.across), 0, 1)
            if curve.sampled:
                parts = np.where(scale.joins(curve.batches, dots.across), parts, np.nan)
                dots.draw_points(values, scale.at(curve.batches) * (dots.across - 1), curve.ink)
            dots.draw_thin(parts, curve.ink)
    step = (axis.high - axis.low) / 4
    spans = [Envelope(curve.values).span if isinstance(curve.values, np.ndarray) else curve.values.span for curve in curves]
    least = min((span.low for span in spans if span is not None), default=0.0)
    lowest = axis.low if least < 0 else max(axis.low, 0.0)  # the margin below values that are never negative is not named
    ends = [label(end, min(step, abs(end)) or step) for end in (lowest, axis.high)]
    cells, names = dots.rows(), {0: (title, ends[1])}
    for name, value in levels:
        part = float(axis.parts(np.array(value)))
        row = round((height - 1) * (1 - part)) if 0 <= part <= 1 else 0
        if row not in names:
            names[row] = name, numbers.short(value)
        if 0 <= part <= 1:
            for column in range(scale.width):
                if cells[row].free(column, 1):
                    cells[row].put(column, transliterate("╌", palette.glyphs), palette.dim)
    if height > 1:
        names.setdefault(height - 1, ("", ends[0]))
    return [ChartRow(*names.get(y, ("", "")), row, is_title=y == 0) for y, row in enumerate(cells)]


def bar_row(
    palette: Palette, scale: BatchScale, name: str, values: AnyArray, at: AnyArray, full: float, reading: CursorValue
) -> ChartRow:
    """Draw the value of the moment of each cell, −1 for none, as a column; what is not 0 fills an eighth at least."""
    signs, row = palette.glyphs.column, CellRow(scale.width)
    parts = np.where(at < 0, 0.0, np.nan_to_num(values / full if full else values, posinf=1)[at]) * (len(signs) - 1)
    heights = np.where(parts > 0, np.clip(np.rint(parts), 1, len(signs) - 1), 0).astype(int)
    row.fill(0, [signs[height] for height in heights.tolist()], palette.gate)
    return ChartRow(f" {name}", "", row, reading)


_FAINTEST = 0.01  # of the largest: this and less has no colour
_TENTH = 0.1


def heat_rows(palette: Palette, shares: AnyArray, dotted: AnyArray) -> Iterator[CellRow]:
    """Draw shares of the largest (columns, rows) as a map with a logarithmic colour, and a dot where `dotted` is True."""
    for values, marks in zip(shares.T.tolist(), dotted.T.tolist(), strict=True):
        row = CellRow(len(values))
        for column, (value, mark) in enumerate(zip(values, marks, strict=True)):
            if math.isfinite(value):
                part = 1 - math.log(max(value, _FAINTEST)) / math.log(_FAINTEST)
                row.put(column, palette.glyphs.blank if mark else " ", palette.unit(part))
        yield row


def grouped(length: int, rows: int, *, log: bool) -> list[range]:
    """Return 0 … `length` − 1 in at most so many ranges, equally long, or with `log` longer and longer."""
    ends = np.geomspace(1, length + 1, rows + 1) - 1 if log else np.linspace(0, length, rows + 1)
    edges = np.unique(np.rint(ends).astype(int)).tolist()
    return [range(first, after) for first, after in pairwise(edges)]


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}–{last}"


# ------------------------------------------------------------------------------
# The panel.


class PlottedExpression(NamedTuple):
    """An expression with its values at some batches, (n)."""

    expression: str
    batches: AnyArray
    values: AnyArray


class StoryPanel(SnapshotPanel):
    """The story of the run. It shows what is known of it at once, and the rest as it is computed (`tell`)."""

    ABOUT = (
        "How loss, gradients, gates and weights developed over all batches, with one cursor through all charts. Loss, ‖∇‖ and the "
        "largest weight are those of every batch, everything else of some; :story adds an expression."
    )

    COVERS_ALL = True
    ASKING = frozenset({"choose"})
    MOVING = frozenset({"cursor"})
    BINDINGS: ClassVar[list[BindingType]] = [
        ("left", "cursor(-1)"),
        ("right", "cursor(1)"),
        ("home", "cursor(-999999999)"),
        ("end", "cursor(999999999)"),
        ("left_square_bracket", "finding(-1)"),
        ("right_square_bracket", "finding(1)"),
        ("comma", "scale"),
        ("enter", "choose"),
    ]

    def __init__(self, *, at: int) -> None:
        """Create a panel; the cursor starts at the moment nearest to batch `at`."""
        super().__init__()
        self.story: Story | None = None
        self.told_at: Position | None = None  # the newest moment of the run when the story was told
        self.plotted: tuple[PlottedExpression, ...] = ()
        self.logarithmic = True
        self.at_batch = at  # the batch under the cursor, as soon as its moment is known
        self._envelopes: dict[str, Envelope] = {}
        self.margin, self.scale = 0, BatchScale(0, 1, True)  # the cells before the charts at the last drawing, and their scale

    def tell(self, story: Story, plotted: Sequence[PlottedExpression] = ()) -> None:
        """Show more of the story."""
        if self.story is None or self.story.columns is not story.columns:
            self._envelopes = {name: Envelope(values) for name, values in story.columns.items()}
        self.story, self.plotted = story, tuple(plotted)
        self.show_again()

    def reads(self, snapshot: Snapshot, view: View) -> Hashable:
        return snapshot.findings, snapshot.state.marks.sorted, snapshot.position.number

    @property
    def moment(self) -> StoryMoment | None:
        """The moment under the cursor; None if none is known yet."""
        return None if self.story is None else self.story.nearest(self.at_batch)

    def place(self, batch: int) -> str:
        """Return a batch as it is typed, counted from 1: `e5 b82`."""
        epoch, number = divmod(batch, self.snapshot.program.num_batches)
        return self.snapshot.config.source.step(batch) or f"e{epoch + 1} b{number + 1}"

    @property
    def _counted(self) -> str:
        """What the axis counts: the steps of a recording, otherwise batches."""
        return "step" if self.snapshot.config.source.steps else "batch"

    def titles(self, snapshot: Snapshot) -> Titles:
        story, moment = self.story, self.moment
        if story is None or not story.count:
            return Titles("story of the run", with_keys(self, "<stop> closes"))
        at = "" if moment is None else f" · {self.place(moment.batch)}"
        progress = "" if len(story.moments) == story.planned else f" · {len(story.moments)} of {story.planned} moments"
        hints = [
            "← → cursor",
            "enter goes there",
            *(["[ ] finding"] if snapshot.findings else []),
            f", {'linear' if self.logarithmic else 'logarithmic'}",
            ":story any number",
            ":export story.csv",
            with_keys(self, "<stop> closes"),
        ]
        title = f"story of the run{at} · {numbers.counted(story.count, self._counted)}{progress}"
        return Titles(title, hints)

    # Drawing

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        story, palette = self.story, self.palette
        if story is None or not story.count:
            words = "no batch has been finished yet" if story is not None else "reading what is stored of every batch"
            return clip(palette, from_rows([styled_row(palette, (words, palette.dim))]), width, height)
        margin, reading_width = next((columns for least, *columns in _COLUMNS if width >= least), (0, 0))
        self.margin, self.scale = margin, BatchScale(story.count, max(width - margin - reading_width, 1), self.logarithmic)
        charts = list(self._charts(snapshot, story))
        rows = [chart_row for drawn in _heights(charts, height - 1) for chart_row in drawn]
        drawn = [self._drawn(row, margin, reading_width, y) for y, row in enumerate((self._top(), *rows))]
        return clip(palette, from_rows(drawn), width, len(drawn))

    def _top(self) -> ChartRow:
        """Return the first row, with the place of the cursor above its column."""
        row, moment = CellRow(self.scale.width), self.moment
        if moment is not None:
            words = f" {self.place(moment.batch)} "
            column = self.scale.column(moment.batch) - len(words) // 2
            row.put(min(max(column, 0), max(row.width - len(words), 0)), words, self.palette.cursor)
        return ChartRow("", "", row, CursorValue("", "at the cursor" if moment is not None else ""))

    def _drawn(self, row: ChartRow, margin: int, reading_width: int, y: int) -> SegmentRow:
        """Return a row as segments, with the cursor through its cells."""
        palette, cells, moment = self.palette, row.cells, self.moment
        if moment is not None and y:
            column = self.scale.column(moment.batch)
            under = cells.at(column)
            cells.put(
                column, transliterate("│", palette.glyphs) if under in (" ", "╌", palette.glyphs.blank) else under, palette.strong
            )
        name = truncated(transliterate(row.name, palette.glyphs), max(margin - len(row.number) - 2, 0), palette.glyphs)
        gap = " " * max(margin - cell_len(name) - len(row.number) - 1, 0)
        number = f"{gap}{row.number} "[-max(margin - cell_len(name), 0) :] if margin else ""
        value, words = (transliterate(part, palette.glyphs) for part in row.reading)
        words = truncated(words, max(reading_width - _VALUE - 2, 0), palette.glyphs) if reading_width > _VALUE + 2 else ""
        return (
            Segment(name, palette.strong if row.is_title else palette.plain),
            Segment(number, palette.dim),
            *cells.strip(),
            Segment(value.rjust(_VALUE) if reading_width else "", palette.strong),
            Segment(f" {words}", palette.dim),
        )

    def _charts(self, snapshot: Snapshot, story: Story) -> Iterator[Chart]:
        scale, program = self.scale, snapshot.program
        if program.knows_loss:
            yield Chart(4, 12, partial(self._loss, snapshot, story))
        if np.isfinite(story.columns["grad_norm"]).any():
            yield Chart(3, 5, partial(self._gradient, snapshot, story))
        if story.recorded["max_weight"].any():
            yield Chart(2, 3, partial(self._of_every_batch, story, "max_weight", "max |W|"))
        elif story.moments:
            yield Chart(2, 3, partial(self._largest_weight, story))
        for plotted in self.plotted:
            yield Chart(3, 5, partial(self._plotted, plotted))
        if (moment := self.moment) is not None:
            at = scale.shown(story.batches)
            at[scale.column(moment.batch)] = story.moments.index(moment)
            if story.shares:
                rows = self._shares(story, moment, at)
                yield fixed(rows)
            norms = self._norms(story, moment, at)
            if norms:
                yield fixed(norms)
            if np.isfinite(story.of(lambda other: other.step)).any():
                yield Chart(2, 3, partial(self._steps, story, moment))
            for rows in (self._reach(story, moment, at), self._deltas(snapshot, story, moment, at)):
                if rows:
                    yield fixed(rows)
        below = [self._axis(), *self._findings(snapshot), *self._marks(snapshot), *self._samples(snapshot, story)]
        yield fixed(below)

    def _loss(self, snapshot: Snapshot, story: Story, height: int) -> list[ChartRow]:
        palette, held_out = self.palette, story.of(lambda moment: moment.held_out)
        ends, means = story.epoch_means
        axis = axis_of([self._envelopes["loss"], *([Envelope(held_out)] if np.isfinite(held_out).any() else [])])
        curves = [Curve(self._envelopes["loss"]), Curve(means, palette.gate, ends)]
        if np.isfinite(held_out).any():
            curves.append(Curve(held_out, palette.second, story.batches, sampled=True))
        rows = line_chart(palette, self.scale, "loss", height, axis, curves, baselines_of(snapshot))
        broken = np.flatnonzero(story.recorded["loss"] & ~np.isfinite(story.columns["loss"]))
        for column in np.unique(np.rint(self.scale.at(broken) * (self.scale.width - 1)).astype(int)).tolist():
            rows[-1].cells.put(column, palette.glyphs.not_finite, palette.warning)
        if (moment := self.moment) is None:
            return rows
        epoch = moment.batch // snapshot.program.num_batches
        values = [_value(story.number("loss", moment.batch), "this batch")]
        if story.recorded["loss"][epoch * snapshot.program.num_batches : ends[epoch] + 1].any():
            values.append(CursorValue(numbers.plain(means[epoch]), f"mean of epoch {epoch + 1}"))
        if math.isfinite(moment.held_out):
            values.append(CursorValue(numbers.plain(moment.held_out), "held-out text"))
            best = story.moments[int(np.nanargmin(held_out))]
            values.append(CursorValue("", f"lowest at {self.place(best.batch)}"))
        return _with_readings(rows, values)

    def _gradient(self, snapshot: Snapshot, story: Story, height: int) -> list[ChartRow]:
        norms, limit = story.columns["grad_norm"], snapshot.settings.rule.get("limit", 0.0)
        rows = self._of_every_batch(story, "grad_norm", "‖∇‖", height, [("clip limit", limit)] if limit else [])
        if (moment := self.moment) is None:
            return rows
        readings = [rows[0].reading]
        if limit:
            count = int((norms[: moment.batch + 1] > limit).sum())
            readings.append(CursorValue(f"{count:,}", "clipped so far"))
        most = int(np.nanargmax(np.where(np.isfinite(norms), norms, -np.inf)))
        return _with_readings(rows, [*readings, CursorValue(numbers.plain(norms[most]), f"largest, {self.place(most)}")])

    def _of_every_batch(
        self, story: Story, column: str, title: str, height: int, levels: Sequence[tuple[str, float]] = ()
    ) -> list[ChartRow]:
        envelope = self._envelopes[column]
        rows = line_chart(
            self.palette, self.scale, title, height, axis_of([envelope]), [Curve(envelope, self.palette.gate)], levels
        )  # fmt: skip
        moment = self.moment
        return rows if moment is None else _with_readings(rows, [_value(story.number(column, moment.batch), "this batch")])

    def _largest_weight(self, story: Story, height: int) -> list[ChartRow]:
        """Draw the largest weight at the moments, of a run that does not have it for every batch."""
        values = story.of(lambda other: other.max_weight)
        curve = Curve(values, self.palette.gate, story.batches, sampled=True)
        rows = line_chart(self.palette, self.scale, "max |W|", height, axis_of([Envelope(values)]), [curve])
        moment = self.moment
        return rows if moment is None else _with_readings(rows, [CursorValue(numbers.plain(moment.max_weight), "this batch")])

    def _plotted(self, plotted: PlottedExpression, height: int) -> list[ChartRow]:
        values = np.ma.filled(plotted.values, np.nan)
        axis = axis_of([Envelope(values)])
        curve = Curve(values, self.palette.gate, plotted.batches, sampled=True)
        rows = line_chart(self.palette, self.scale, plotted.expression, height, axis, [curve])
        moment = self.moment
        at = np.flatnonzero(plotted.batches == moment.batch) if moment is not None else np.empty(0, int)
        return _with_readings(rows, [_value(plotted.values.tolist()[at[0]], plotted.expression)]) if len(at) else rows

    def _head(self, title: str, full: str) -> ChartRow:
        return ChartRow(title, "", CellRow(self.scale.width), CursorValue("", f"a full cell is {full}"), is_title=True)

    def _shares(self, story: Story, moment: StoryMoment, at: AnyArray) -> list[ChartRow]:
        all_shares = np.array([other.shares for other in story.moments])
        full = float(np.nanmax(all_shares, initial=0.0))
        written = self.snapshot.program.writer.name
        return [self._head("gates and states", numbers.percent(full))] + [
            bar_row(
                self.palette, self.scale, share.written(written(share.name)), all_shares[:, i], at, full,
                CursorValue(
                    "" if math.isnan(moment.shares[i]) else numbers.percent(moment.shares[i]), share.written(written(share.name))
                ),
            )
            for i, share in enumerate(story.shares)
        ]  # fmt: skip

    def _norms(self, story: Story, moment: StoryMoment, at: AnyArray) -> list[ChartRow]:
        names = matrices_of(self.snapshot.program)
        norms = {name: np.array([other.norms[name] for other in story.moments]) for name in names}
        finite = [values[np.isfinite(values)].max(initial=0.0) for values in norms.values()]
        full, written = max(finite, default=0.0), self.snapshot.program.writer.name
        rows = [
            bar_row(
                self.palette, self.scale, f"‖{written(name)}‖", values, at, full,
                CursorValue(_size(moment.norms[name]), f"{written(name)}, first {_size(values[0])}"),
            )
            for name, values in norms.items()
        ]  # fmt: skip
        return [self._head("size of the weights", _size(full)), *rows] if rows else []

    def _steps(self, story: Story, moment: StoryMoment, height: int) -> list[ChartRow]:
        steps = story.of(lambda other: other.step)
        curve = Curve(steps, self.palette.gate, story.batches, sampled=True)
        rows = line_chart(self.palette, self.scale, "‖ΔW‖/‖W‖ a step", height, axis_of([Envelope(steps)]), [curve])
        if not moment.steps:
            return rows
        values = [CursorValue(numbers.significant(moment.step, 3), "all weights")]
        most = max(moment.steps, key=lambda name: moment.steps[name])
        if moment.steps[most] > 0:  # not NaN
            moves = f"{self.snapshot.program.writer.name(most)} moves most"
            values.append(CursorValue(numbers.significant(moment.steps[most], 3), moves))
        return _with_readings(rows, values)

    def _reach(self, story: Story, moment: StoryMoment, at: AnyArray) -> list[ChartRow]:
        """Draw the gradient of the last prediction by distance, as a share of its largest."""
        shares = _of_largest(story.map_of(lambda other: other.reach))
        if not shares.shape[1]:
            return []
        rows = []
        groups = grouped(shares.shape[1], min(shares.shape[1], _MAP_ROWS), log=True)
        means = self._grouped(shares, groups, at)
        far = means >= _TENTH
        far[:, :-1] &= ~np.logical_or.accumulate(far[:, :0:-1], axis=1)[:, ::-1]  # the furthest only
        for distances, cells in zip(groups, heat_rows(self.palette, means, far), strict=True):
            rows.append(ChartRow("", _span(distances[0], distances[-1]), cells))
        rows[0] = rows[0]._replace(name="gradient reaches", is_title=True)
        if len(rows) > 1:
            rows[1] = rows[1]._replace(name=" timesteps back")
        shares_now = shares[story.moments.index(moment)]
        felt = np.flatnonzero(shares_now >= _TENTH)
        last = int(felt[-1]) if len(felt) else 0
        more = "or more" if last + 1 == len(shares_now) else "back: a tenth"
        return _with_readings(rows, [CursorValue(str(last), more), CursorValue("", "of the last prediction")])

    def _deltas(self, snapshot: Snapshot, story: Story, moment: StoryMoment, at: AnyArray) -> list[ChartRow]:
        """Draw the norm of the gradient of the state by timestep, as a share of its largest."""
        shares = _of_largest(story.map_of(lambda other: other.deltas))
        if not shares.shape[1]:
            return []
        name = f"‖{snapshot.program.writer.name(f'd{snapshot.program.main_state}')}‖"
        rows = []
        groups = grouped(shares.shape[1], min(shares.shape[1], _MAP_ROWS), log=False)
        means = self._grouped(shares, groups, at)
        for steps, cells in zip(groups, heat_rows(self.palette, means, means < _TENTH), strict=True):
            rows.append(ChartRow("", _span(steps[0] + 1, steps[-1] + 1), cells))
        rows[0] = rows[0]._replace(name=f"{name} by timestep", is_title=True)
        deltas = moment.deltas
        readings = (
            []
            if not len(deltas)
            else [
                CursorValue(_size(float(deltas[0])), f"{name} at t 1"),
                CursorValue(_size(deltas.max()), "the largest"),
            ]
        )
        return _with_readings(rows, readings)

    def _grouped(self, shares: AnyArray, groups: Sequence[range], at: AnyArray) -> AnyArray:
        """Return the mean share of each group at each column, (columns, groups); NaN where the moment is not known yet."""
        means = np.stack([shares[:, group.start : group.stop].mean(axis=1) for group in groups], axis=1)
        by_column: AnyArray = np.where(at[:, None] < 0, np.nan, means[at])
        return by_column

    # Below the charts: the axis, findings, marks and samples

    def _axis(self) -> ChartRow:
        """Draw batches within the first epoch, then epochs; of a linear axis, epochs only; of a recording, its steps."""
        scale, palette, epoch_batches = self.scale, self.palette, self.snapshot.program.num_batches
        row, epochs = CellRow(scale.width), -(-scale.batches // epoch_batches)
        batches = [digit * 10**power for power in range(9) for digit in (1, 2, 5)] if scale.logarithmic else []
        if epochs == 1 and not scale.logarithmic:
            batches = [round(tick) for tick in ticks(1, scale.batches, max(scale.width // 12, 2), integers=True)]
        places = [(batch - 1, f"{batch:,}") for batch in batches if batch <= min(epoch_batches, scale.batches)]
        if scale.logarithmic:
            places += [(n * epoch_batches, f"e{n + 1}") for n in (d * 10**p for p in range(9) for d in (1, 2, 5)) if n < epochs]
        elif epochs > 1:
            places += [
                (round(n - 1) * epoch_batches, f"e{round(n)}") for n in ticks(1, epochs, max(scale.width // 12, 2), integers=True)
            ]
        if steps := self.snapshot.config.source.steps[: scale.batches]:
            rounds = batches if scale.logarithmic else ticks(steps[0], steps[-1], max(scale.width // 12, 2), integers=True)
            places = [(batch, f"{steps[batch]:,}") for batch in at_steps(steps, rounds)]
        last = scale.batches - 1
        for batch, words in [(last, self.place(last)), *places]:
            column = min(scale.column(batch), scale.width - len(words))
            if row.free(max(column - 1, 0), min(len(words) + 2, scale.width - max(column - 1, 0))):
                row.put(column, words, palette.dim)
        words = "batch, then epoch" if scale.logarithmic and epochs > 1 else "epoch" if epochs > 1 else self._counted
        return ChartRow(words, "", row)

    def _findings(self, snapshot: Snapshot) -> Iterator[ChartRow]:
        """Draw a letter where each finding is first seen, with the titles for which there is room."""
        pairs = [(letter, finding) for letter, finding in lettered(snapshot.findings) if finding.first_seen is not None]
        yield from self._gone_findings(getattr(snapshot.findings, "gone", ()))
        if not pairs:
            return
        row, palette = CellRow(self.scale.width), self.palette
        places = [(self.scale.column(self._batch_of(finding)), letter, finding) for letter, finding in pairs]
        for column, letter, _ in places:
            if row.free(column, 1):
                row.put(column, letter, palette.warning)
        for column, _, finding in places:
            words = transliterate(finding.title, palette.glyphs)
            for start in (column + 2, column - 1 - cell_len(words)):
                if row.free(start - 1, cell_len(words) + 2):
                    row.put(start, words, palette.plain)
                    break
        letters = [letter for letter, finding in pairs if self.moment is not None and self._batch_of(finding) == self.moment.batch]
        yield ChartRow("findings", "", row, CursorValue("".join(letters), "first seen here" if letters else ""), True)

    def _gone_findings(self, findings: Sequence[Finding]) -> Iterator[ChartRow]:
        """Draw a line over the batches in which each finding was seen that has gone again, with its title."""
        palette, scale = self.palette, self.scale
        for i, finding in enumerate(
            finding for finding in findings if finding.first_seen is not None and finding.last_seen is not None
        ):
            row = CellRow(scale.width)
            first, last = (scale.column(at.number) for at in (finding.first_seen, finding.last_seen) if at is not None)
            row.put(first, transliterate("─" * (last - first + 1), palette.glyphs), palette.dim)
            title = transliterate(finding.title, palette.glyphs)
            width = cell_len(title) + 2
            # Behind the line, before it, or on it: the first place that has room, else the widest, where it is cut.
            places = [(last + 1, scale.width - last - 1), (max(first - width, 0), first), (first + 2, last - first - 2)]
            start, room = next((place for place in places if place[1] >= width), max(places, key=lambda place: place[1]))
            row.put(start, f" {truncated(title, room - 2, palette.glyphs)} ", palette.dim)
            yield ChartRow("" if i else "gone again", "", row)

    def _batch_of(self, finding: Finding) -> int:
        assert finding.first_seen is not None
        return min(finding.first_seen.number, (self.story.count if self.story is not None else 1) - 1)

    def _marks(self, snapshot: Snapshot) -> Iterator[ChartRow]:
        marks = [mark for mark in snapshot.state.marks.sorted if mark.branch == snapshot.state.branch]
        if not marks:
            return
        row, palette = CellRow(self.scale.width), self.palette
        for mark in marks:
            batch = position_of(snapshot.program, mark.tick).number
            if batch < self.scale.batches:
                row.put(self.scale.column(batch), mark.letter, palette.keyword)
        yield ChartRow("marks", "", row, is_title=True)

    def _samples(self, snapshot: Snapshot, story: Story) -> Iterator[ChartRow]:
        """Write the sample of the moment under the cursor, and the newest sample."""
        if (moment := self.moment) is None or not story.moments[-1].sample:
            return
        shown = dict.fromkeys((moment, story.moments[-1]))
        for sampled in shown:
            row, palette = CellRow(self.scale.width), self.palette
            row.put(
                0,
                transliterate("".join(map(in_line, sampled.sample)), palette.glyphs),
                palette.strong if sampled is moment else palette.plain,
            )
            name = "sample" if sampled is moment else "at the end"
            yield ChartRow(name, self.place(sampled.batch), row, is_title=sampled is moment)

    # Moving

    def action_cursor(self, by: int) -> None:
        """Move the cursor by so many columns that have a moment."""
        if self.story is not None and (moment := self.moment) is not None:
            ahead = [other.batch for other in self.story.moments[:: 1 if by > 0 else -1] if (other.batch - moment.batch) * by > 0]
            column = self.scale.column if self.scale.batches == self.story.count else int  # it has not been drawn yet
            columns = {column(batch): batch for batch in ahead}  # in order; of a column, the furthest
            if len(columns) > 1:
                columns.pop(column(moment.batch), None)
            if columns:
                self.at_batch = list(columns.values())[min(abs(by), len(columns)) - 1]
                self.show_again()

    def action_finding(self, by: int) -> None:
        """Move the cursor to the next place where a finding is first seen."""
        if (moment := self.moment) is not None:
            batches = [self._batch_of(finding) for finding in self.snapshot.findings if finding.first_seen is not None]
            further = [batch for batch in batches if (batch - moment.batch) * by > 0]
            if further:
                self.at_batch = min(further, key=lambda batch: abs(batch - moment.batch))
                self.show_again()

    def action_scale(self) -> None:
        self.logarithmic = not self.logarithmic
        self.show_again()

    def choose(self) -> None:
        if (moment := self.moment) is not None:
            self.request("batch", moment.batch)

    def point_at(self, x: int, y: int) -> bool:
        """Move the cursor to the moment nearest to a column."""
        column = x + self.scroll_offset.x - self.margin
        if self.story is None or not self.story.moments or not 0 <= column < self.scale.width:
            return False
        self.at_batch = self.story.moments[int(self.scale.nearest(self.story.batches)[column])].batch
        self.show_again()
        return True

    # Exporting

    def columns(self) -> Columns | None:
        """Return the numbers of all moments, with epoch and batch counted from 1, or the step of a recording."""
        if self.story is None:
            return None
        plotted = [(curve.expression, curve.batches, curve.values) for curve in self.plotted]
        return tables.of_story(self.story, self.snapshot.config.source.steps, plotted)


_COLUMNS = ((130, 28, 34), (100, 28, 10), (60, 21, 10), (0, 0, 0))  # least width, cells of the names and of the values
_VALUE, _MAP_ROWS = 9, 4


def _value(value: float | None, words: str) -> CursorValue:
    """Return a value at the cursor; blank if the run does not have it."""
    return CursorValue("" if value is None else numbers.plain(value), words)


def _size(value: float) -> str:
    """Format a size for the column of values, which has room for seven cells of a large number."""
    return numbers.short(value) if value < 1e6 else numbers.plain(value)


def _with_readings(rows: list[ChartRow], readings: Sequence[CursorValue]) -> list[ChartRow]:
    """Return the rows with values beside the first of them, as many as there are rows."""
    return [row._replace(reading=readings[i]) if i < len(readings) else row for i, row in enumerate(rows)]


def _framed(
    palette: Palette, scale: BatchScale, rows: Sequence[ChartRow], names: Iterable[tuple[int, str]], margin: int
) -> Iterator[SegmentRow]:
    """Yield the rows of a chart beside the numbers of its axis, and below them the names of places for which there is room."""
    below = CellRow(scale.width)
    for at, words in names:
        column = min(max(scale.column(at) - len(words) // 2, 0), scale.width - len(words))
        if below.free(max(column - 1, 0), min(len(words) + 1, scale.width - max(column - 1, 0))):
            below.put(column, words, palette.dim)
    for row in (*rows, ChartRow("", "", below)):
        number = truncated(transliterate(row.number, palette.glyphs), margin, palette.glyphs)
        yield (Segment(number.rjust(margin), palette.dim), Segment(" "), *row.cells.strip())


def _of_largest(values: AnyArray) -> AnyArray:
    """Return values (n, T) as shares of the largest of each row; NaN where that is 0 or not finite."""
    if not values.shape[1]:
        return values
    with np.errstate(all="ignore"):
        shares: AnyArray = values / values.max(axis=1, keepdims=True)
    return shares


def _heights(charts: Sequence[Chart], height: int) -> Iterator[list[ChartRow]]:
    """Draw charts in so many rows: each with the least if there is not more room, otherwise with blank rows between, and higher."""
    spare = max(height - sum(chart.least for chart in charts), 0)
    spaced = spare >= len(charts) - 1
    spare -= (len(charts) - 1) * spaced
    for i, chart in enumerate(charts):
        more = min(spare, chart.most - chart.least)
        spare -= more
        drawn = chart.draw(chart.least + more)
        yield drawn if i == 0 or not spaced else [ChartRow("", "", CellRow(drawn[0].cells.width)), *drawn]


# ------------------------------------------------------------------------------
# Which learning rate: the loss after trials on copies, over the rate.


_CLOSE = 2.0  # a rate within this factor of the best one is as good
_LEAST_CHART, _MOST_CHART, _LIST = 4, 14, 24  # rows of the chart; cells of the list


class RatesPanel(SnapshotPanel):
    """The loss after some batches with each learning rate, as the trials end, with the rate of the run marked."""

    ABOUT = (
        "The loss after 60 batches with each learning rate, tried on copies from this moment on. The run is not changed; esc stops "
        "the trials."
    )
    STAYS = True

    def __init__(self, run_rate: float, *, live: bool = False) -> None:
        """Create a panel; `run_rate` is the learning rate of the run. `live`: the rates are tried in a script's own loop."""
        super().__init__()
        self.live = live
        self.run_rate, self.trials, self.done = run_rate, tuple[RateTrial, ...](), False

    def tell(self, trials: Sequence[RateTrial], *, done: bool) -> None:
        """Show the trials so far, in ascending order of their rates."""
        self.trials, self.done = tuple(trials), done
        self.show_again()

    @property
    def best(self) -> RateTrial | None:
        """The trial with the lowest loss; None if none has a finite one."""
        return fastest_rate(self.trials)

    @property
    def sentence(self) -> str:
        """Which rate is best, and how the rate of the run compares."""
        best, run_trial = self.best, next((trial for trial in self.trials if trial.rate == self.run_rate), None)
        if not self.done:
            return "each rate is tried on the last steps of your loop" if self.live else "each rate is tried from this moment on"
        if best is None:
            return "with none of these rates the loss stays finite"
        times = self.run_rate / best.rate
        if run_trial is not None and (run_trial.loss == best.loss or 1 / _CLOSE < times < _CLOSE):
            return f"yours, {numbers.significant(self.run_rate)}, is as good as any"
        much = "larger" if times > 1 else "smaller"
        ratio = max(times, 1 / times) if times else math.inf
        written = f"{ratio:.1f}" if ratio < 10 else numbers.rounded(float(f"{ratio:.2g}"))
        size = f"{written} times {much}" if times else "0, so nothing is learned"
        equals = [trial for trial in self.trials if trial.loss == best.loss]
        if len(equals) > 1:
            return f"{len(equals)} rates reach the same lowest loss; yours, {numbers.significant(self.run_rate)}, does not"
        return f"{numbers.significant(best.rate)} falls fastest; yours, {numbers.significant(self.run_rate)}, is {size}"

    def titles(self, snapshot: Snapshot) -> Titles:
        count = f"{len(self.trials)} rates" + ("" if self.done else " so far")
        hints = [":rates again, from here", with_keys(self, "<stop> closes")]
        if self.live:
            return Titles(f"which learning rate? · {count}, your last steps with each", hints[1:])
        return Titles(f"which learning rate? · {count}, 60 batches each", hints)

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        palette = self.palette
        rows = [styled_row(palette, (self.sentence, palette.strong)), ()]
        listed, chart = list(self._listed()), list(self._chart(width - _LIST, height - 4))
        for i in range(max(len(listed), len(chart))):
            left = listed[i] if i < len(listed) else ()
            gap = Segment(" " * max(_LIST - sum(segment.cell_length for segment in left), 0))
            rows.append((*left, gap, *(chart[i] if i < len(chart) else ())))
        return clip(palette, from_rows(rows), width, len(rows))

    def _listed(self) -> Iterator[SegmentRow]:
        palette, best = self.palette, self.best
        yield styled_row(palette, ("    rate       loss", palette.dim))
        for trial in self.trials:
            is_best = best is not None and trial.loss == best.loss
            ink = palette.warning if trial.rate == self.run_rate else palette.strong if is_best else palette.plain
            loss = numbers.plain(trial.loss) if math.isfinite(trial.loss) else "not finite"
            words = " yours" if trial.rate == self.run_rate else " best" if is_best and self.done else ""
            yield styled_row(palette, (f"{numbers.significant(trial.rate):>8} {loss:>10}", ink), (words, palette.dim))

    def _chart(self, width: int, height: int) -> Iterator[SegmentRow]:
        """Yield the loss over the rate, both on logarithmic scales, and an axis with the rates that are powers of ten."""
        palette, finite = self.palette, [trial for trial in self.trials if math.isfinite(trial.loss) and trial.rate > 0]
        margin = 8
        if width - margin < 20 or len(finite) < 2:
            return
        scale = BatchScale(10_000, width - margin - 1, logarithmic=False)

        def at(rate: float) -> float:
            low, high = math.log10(RATES[0]), math.log10(RATES[-1])
            return (math.log10(rate) - low) / (high - low) * (scale.batches - 1)

        losses = np.array([trial.loss for trial in finite])
        axis, height = axis_of([Envelope(losses)], Scale.LOG), min(max(height, _LEAST_CHART), _MOST_CHART)
        curve = Curve(losses, palette.gate, np.array([at(trial.rate) for trial in finite]))
        rows = line_chart(palette, scale, "loss", height, axis, [curve], baselines_of(self.snapshot))
        dots = Dots(palette, height, scale.width)  # the grid of the curve, on which the mark stands as well
        for trial in self.trials:
            if trial.rate == self.run_rate and RATES[0] <= trial.rate <= RATES[-1]:
                row = dots.row_of(float(axis.parts(np.array(trial.loss)))) if math.isfinite(trial.loss) else 0
                rows[row].cells.put(scale.column(round(at(trial.rate))), "●", palette.warning)
            elif not math.isfinite(trial.loss):
                rows[0].cells.put(scale.column(round(at(trial.rate))), palette.glyphs.not_finite, palette.warning)
        names = ((round(at(10.0**power)), numbers.significant(10.0**power)) for power in range(-5, 2))
        yield from _framed(palette, scale, rows, names, margin)


# ------------------------------------------------------------------------------
# This run beside another: what differs, both curves, findings that only one has, samples.


_CURVES = 12  # rows of the chart of both losses


class RunsCompared(SnapshotPanel):
    """Two runs beside each other."""

    ABOUT = "This run beside another one: options and results that differ, both curves, findings that only one has, samples."
    STAYS = True

    def __init__(self, compared: RunComparison) -> None:
        super().__init__()
        self.compared = compared

    def titles(self, snapshot: Snapshot) -> Titles:
        return Titles(" beside ".join(self.compared.names), [with_keys(self, "<stop> closes")])

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        palette, compared = self.palette, self.compared
        one, other = compared.names
        rows = [
            [styled_row(palette, (name, palette.dim)), styled_row(palette, mine), styled_row(palette, theirs)]
            for name, mine, theirs in compared.differing
        ]
        heads = (TableColumn("what differs", gap=0), TableColumn(one, size=max((width - 24) // 2, 8), least=8), TableColumn(other))
        lines: list[SegmentRow] = [*table(palette, rows, heads, width), ()]
        lines.append((Segment("loss   "), Segment(f"{one}   ", palette.gate), Segment(other, palette.second)))
        lines += [*self._chart(width), ()]
        for name, findings in zip(compared.names, compared.findings, strict=True):
            lines.append(styled_row(palette, (f"findings of {name} alone: {len(findings) or 'none'}", palette.strong)))
            lines += [
                styled_row(palette, part) for finding in findings for part in folded(f"{finding.title}: {finding.meaning}", width)
            ]
        lines += [(), styled_row(palette, ("samples", palette.strong))]
        for samples in compared.samples:
            for (when, drawn), ink in zip(samples, (palette.gate, palette.second), strict=True):
                shown = truncated(drawn.replace("\n", "⏎"), width - len(when) - 2, palette.glyphs)
                lines += [(Segment(f"{when}  ", palette.dim), Segment(shown, ink))] if when else []
        return clip(palette, from_rows(lines), width, len(lines))

    def _chart(self, width: int) -> Iterator[SegmentRow]:
        """Yield both losses over the batches, on a logarithmic scale."""
        palette, margin = self.palette, 8
        drawn = [np.array([point for point in line.finite if point[1] > 0]) for line in self.compared.loss.lines]
        positive = [(points, ink) for points, ink in zip(drawn, (palette.gate, palette.second), strict=True) if len(points) > 1]
        if not positive or width < margin + 20:
            return
        last = round(max(points[-1, 0] for points, _ in positive))
        scale = BatchScale(last, width - margin - 1, logarithmic=False)
        axis = axis_of([Envelope(points[:, 1]) for points, _ in positive], Scale.LOG)
        curves = [Curve(points[:, 1], ink, points[:, 0] - 1) for points, ink in positive]
        rows = line_chart(palette, scale, "loss", _CURVES, axis, curves, self.compared.loss.levels)
        names = ((round(batch) - 1, f"{batch:,.0f}") for batch in ticks(1, last, 6, integers=True))
        yield from _framed(palette, scale, rows, names, margin)
