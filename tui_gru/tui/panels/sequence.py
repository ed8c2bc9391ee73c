"""The batch as text with its targets, the flow of the gradient back through time, and the samples that were drawn."""

from __future__ import annotations

import math
import re
from collections import abc
from collections.abc import Hashable, Iterable, Iterator, Mapping
from functools import partial
from itertools import cycle, pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size

from tui_gru import analysis
from tui_gru.debugger.position import place_name, position_of
from tui_gru.debugger.program import flow_names, shown_char
from tui_gru.engine import numbers
from tui_gru.engine.config import Text, token_word
from tui_gru.engine.data import Corpus
from tui_gru.engine.numbers import significant
from tui_gru.engine.source import Ability
from tui_gru.equations.syntax import split
from tui_gru.session.snapshot import Snapshot, View
from tui_gru.tui import panels
from tui_gru.tui.draw import (
    EMPTY,
    Box,
    Cell,
    Ref,
    SegmentRow,
    TableColumn,
    bar,
    clip,
    from_rows,
    row_width,
    styled_row,
    table,
    text_box,
    vstack,
)
from tui_gru.tui.keys import with_keys
from tui_gru.tui.panel import CellPanel, Compared, LabelledPlace, SnapshotPanel, Titles, contents
from tui_gru.tui.theme import Palette, folded, transliterate, visible_text, widest, written_char
from tui_gru.tui.written import ENTRIES, EntryFormat, named_rows, window

if TYPE_CHECKING:
    from tui_gru.analysis.influence import Flow
    from tui_gru.engine.sampling import Sample

# ------------------------------------------------------------------------------
# The batch as text: its rows by timestep, with the probability of each target and the flow of the gradient.


class Sequence(CellPanel):
    """Batch rows × timesteps, with marks around the current column. Targets are coloured by their predicted probability."""

    ABOUT = (
        "The rows of the batch over the timesteps: which character is read, which should be predicted, and under it the "
        "probability that the model gives it. In the backward pass: how large the gradient is at each timestep, and the paths "
        "it flows on."
    )

    _followed: int | None = None  # the timestep that was scrolled into view last

    def reads(self, snapshot: Snapshot, view: View) -> Hashable:
        position, program = snapshot.position, snapshot.program
        if snapshot.flowing or not predicts_characters(snapshot):
            return snapshot, view
        ids = (snapshot.record.ids(name) for name in (program.input, program.target))
        predicted = (snapshot.value(program.loss_names.prediction, t) for t in range(snapshot.config.seq_length))
        batch = id(snapshot.corpus), contents(*ids)  # as long as the panel has the corpus, no other has this id
        place = position.number, position.t, position.phase, snapshot.timestep, snapshot.moment.begun(position.t)
        fresh = snapshot.line is not None and snapshot.line.target == program.loss_names.prediction
        return batch, place, view, fresh, contents(*predicted)

    def titles(self, snapshot: Snapshot) -> Titles:
        on, legend = "", None
        if snapshot.flowing and predicts_characters(snapshot):
            state = _states(snapshot, self._view)[0]
            on = flow_into_earlier(snapshot, snapshot.flow(self._view.row, state))
            if len(snapshot.program.layers) == 1:
                on = on or self._wall(snapshot, state)
            else:
                layer = snapshot.program.layer_name(self._view.layer_of(snapshot))
                on = f"gradient of {layer} {on}".rstrip()
                on = on if cell_len(f"sequence · {on}") <= self.border_room else layer
            legend = flow_legend(snapshot, state, self.border_room if self.outer_size.width else 0) or None
        place = "" if snapshot.timestep is None else f"t {snapshot.timestep + 1} of {snapshot.config.seq_length}"
        ways = "sequence  batch ↓  time →"
        title = f"sequence · {on}" if on else ways if len(ways) + 14 <= self.border_room < 10**6 else "sequence"
        return Titles(title, legend or self._summed_up(snapshot), place)

    def places(self) -> abc.Sequence[LabelledPlace]:
        """Return the timesteps in the first row, and the numbers."""
        snapshot, numbered = self.snapshot, list[LabelledPlace]()
        begins = snapshot.position.number * snapshot.program.ticks if snapshot.position.tick else 0
        for match in re.finditer(r"(?:t )?(\d+)", self.drawn[0].text if self.drawn and not self.scroll_offset.y else ""):
            if 0 < int(match[1]) <= snapshot.config.seq_length:
                tick = begins + snapshot.program.end_of_timestep(int(match[1]) - 1)
                numbered.append(LabelledPlace(match.start() - self.scroll_offset.x, 0, tick=tick))
        return [*numbered, *(place for place in super().places() if place.y or self.scroll_offset.y)]

    def _wall(self, snapshot: Snapshot, state: str) -> str:
        """Return what the sign before the first timestep says; empty if it is not in view, or if there is no room."""
        size = self.content_size
        if snapshot.flows_into_earlier or len(_layout(snapshot, size.width, size.height).steps) < snapshot.config.seq_length:
            return ""
        words = (f"┃ {name} ends here" for name in ("gradient", _name(snapshot, f"d{state}")[1:-1]))
        return next((phrase for phrase in words if len(phrase) + 24 <= self.border_room < 10**6), "")

    def on_resize(self) -> None:
        self._followed = None
        super().on_resize()

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        if not predicts_characters(snapshot):
            width, height = self.canvas(width, height, partial(panels.imported.batch_size_in_cells, self.palette, snapshot))
            return panels.imported.imported_sequence(self.palette, snapshot, self._view.row, width, height)
        width, height = self.canvas(width, height, partial(sequence_size, snapshot))
        return clip(self.palette, sequence(self.palette, snapshot, self._view, width, height), width, height)

    def _summed_up(self, snapshot: Snapshot) -> list[str] | None:
        """Return the size of a batch that does not fit and its worst prediction so far, None if the batch fits."""
        size = self.content_size
        if not predicts_characters(snapshot) or self.zoomed or not size.height:
            return None
        layout = _full_layout(snapshot)
        rows, steps = snapshot.config.batch_size, snapshot.config.seq_length
        if layout.label + steps * (widest(snapshot.corpus.vocabulary) + 2) <= size.width and rows < size.height:
            return None
        parts = [f"{rows} rows × {steps}"]
        if (worst := _worst_predicted(snapshot)) is not None:
            t, row, p = worst
            char = shown_char(snapshot.corpus.vocabulary[snapshot.record.ids(snapshot.program.target)[t, row]])
            parts.append(f"worst so far “{char}” {numbers.unit(p).strip()} row {row + 1} t {t + 1}")
        return parts

    def _follow(self) -> None:
        """Scroll the current column into view if the panel is zoomed and the column has changed."""
        snapshot, scrolls = self._snapshot, self.virtual_size.width > self.size.width
        if snapshot is None or not scrolls or snapshot.timestep is None or snapshot.timestep == self._followed:
            return
        self._followed = snapshot.timestep
        layout = _full_layout(snapshot)
        column = Region(layout.label + snapshot.timestep * layout.column, self.scroll_offset.y, layout.column, 1)
        self.scroll_to_region(column, animate=False, immediate=True, force=True)


def predicts_characters(snapshot: Snapshot) -> bool:
    """Return True if every timestep reads a character and predicts the next one."""
    return snapshot.config.source.can(Ability.TEXT) and snapshot.program.model.classifies


def _worst_predicted(snapshot: Snapshot) -> tuple[int, int, float] | None:
    """Return timestep and row (0-based) of the worst prediction so far, and the probability of its target."""
    name, target = snapshot.program.loss_names.prediction, snapshot.program.target
    computed = [t for t in range(snapshot.config.seq_length) if snapshot.moment.is_readable(name, t)] if name and target else []
    if not computed:
        return None
    p = np.take_along_axis(snapshot.record.array(name)[computed], snapshot.record.ids(target)[computed][..., None], axis=2)[..., 0]
    t, row = np.unravel_index(int(np.argmin(np.nan_to_num(p, nan=-1.0))), p.shape)
    return computed[int(t)], int(row), float(p[t, row])


class _Layout(NamedTuple):
    """The layout of a batch.

    `form` is pair (M→a), over (the target below the input) or input (without the target). A row takes `lines`; with pairs, the
    second line is the probability of the target. A column is `cell` wide between its marks and has `gap` after it. The name of a
    row begins with `word` and is `label` wide. With `text`, the whole row is written as text at the right. Widths are in cells.
    """

    form: str
    lines: int
    cell: int
    gap: int
    word: str
    label: int
    steps: range
    text: bool

    @property
    def marked(self) -> int:
        """The width of a cell with its marks."""
        return self.cell + 2

    @property
    def column(self) -> int:
        return self.marked + self.gap

    @property
    def numbered(self) -> bool:
        """True if there is room for a number below a cell."""
        return self.marked >= NARROW


_NAMED = 30  # cells; the least width for the word `row`


def _layout(snapshot: Snapshot, width: int, height: int, *, numbered: bool = False) -> _Layout:
    """Return the most detailed layout that fits. If none fits all timesteps, return one of those around the current timestep.

    `numbered` is True if numbers are drawn below the columns. The names of rows have their word where that costs no number and
    not the last timesteps.
    """
    named, bare = (_layout_with(snapshot, width, height, word, numbered) for word in ("row ", ""))
    alike = (named.form, named.cell) == (bare.form, bare.cell)
    costs_no_steps = len(bare.steps) == len(named.steps) or len(bare.steps) < snapshot.config.seq_length
    return named if width >= _NAMED and alike and costs_no_steps else bare


def _layout_with(snapshot: Snapshot, width: int, height: int, word: str, numbered: bool) -> _Layout:
    """Return the most detailed layout that fits, with this word in the names of rows."""
    rows, steps = snapshot.config.batch_size, snapshot.config.seq_length
    char = widest(snapshot.corpus.vocabulary)
    label = len(f"{word}{rows}") + 1
    roomy = 2 * rows <= height
    text = 2 * steps * _spaced(snapshot.corpus.vocabulary) + 5
    wide = max(2 * char + 1, numbers.UNIT - 1)
    forms = (
        ("pair", 2, wide, 2),
        *((("pair", 1, wide, 2),) if numbered else ()),
        ("pair", 1, 2 * char + 1, 1),
        ("over", 2, char, 0),
        ("input", 1, char, 0),
    )
    for form, lines, cell, gap in forms:
        used = label + steps * (cell + 2 + gap)
        if (lines == 1 or roomy) and used <= width:
            return _Layout(form, lines, cell, gap, word, label, range(steps), form == "pair" and used + text <= width)
    form, lines = ("over", 2) if roomy else ("input", 1)
    count = (width - label - 1) // (char + 2)
    return _Layout(form, lines, char, 0, word, label, window(steps, count, snapshot.position.t), False)


def _spaced(vocabulary: Text) -> int:
    """Return the width of a token in a text, with the blank that separates tokens longer than a character, in cells."""
    return widest(vocabulary) + (not isinstance(vocabulary, str))


def _states(snapshot: Snapshot, view: View) -> tuple[str, ...]:
    """Return the states of the layer shown, whose gradients are drawn, with its output first."""
    layer = view.layer_of(snapshot)
    return tuple(sorted(layer.states, key=lambda state: state != layer.output))


def _full_layout(snapshot: Snapshot) -> _Layout:
    """Return the layout with all timesteps and probabilities."""
    return _layout(snapshot, 10**6, 10**6)


def sequence_size(snapshot: Snapshot) -> Size:
    """Return the size of the batch with all rows, all timesteps and the full flow of the gradient, in cells."""
    layout, steps = _full_layout(snapshot), snapshot.config.seq_length
    states = max(len(layer.states) for layer in snapshot.program.layers)
    flow = states * (steps + 4) if snapshot.flowing else 2  # or a note, and a blank before it
    return Size(layout.label + steps * layout.column, 1 + layout.lines * snapshot.config.batch_size + flow)


def sequence(palette: Palette, snapshot: Snapshot, view: View, width: int, height: int) -> Box:
    """Draw the batch, and during the backward phase the flow of the gradient below it."""
    row = view.row
    note = _break(palette, snapshot, row, width)
    headed = height > 2
    below = _flow_lines(snapshot, width, height) if snapshot.flowing else 0
    if below:
        note = ()
    room = max(height - headed - below - (1 if note and height > 4 else 0), 1)
    layout = _layout(snapshot, width, room, numbered=below > 0)
    columns = _columns(palette, snapshot, layout.steps)
    lines: list[SegmentRow] = [_heading(palette, snapshot, layout)] if headed else []
    shown = window(snapshot.config.batch_size, room // layout.lines, row)
    for i, name in zip(
        shown, named_rows(shown, snapshot.config.batch_size, palette.glyphs.vertical_ellipsis, layout.word), strict=True
    ):
        lines += _row(palette, snapshot, layout, columns, i, row, name)
    if below:
        lines += _flow(palette, snapshot, view, layout, below, width, height - len(lines))
    if note and len(lines) < height:
        lines += [(), note] if len(lines) + 1 < height else [note]
    return from_rows(lines)


#: The most lines of the flow below the columns; if there is room for many more, it is drawn as a table.
_MOST_LINES = 3
_TABLE = 96  # cells; the least width of the table
_SHARE, _LEAST_REST = 9, 24  # cells of a column of shares, and of the two bars beside one another


def _flow_lines(snapshot: Snapshot, width: int, height: int) -> int:
    """Return the number of lines for the flow of the gradient, 0 if there is no room for it."""
    rows, steps = snapshot.config.batch_size, snapshot.config.seq_length
    table_height = min(steps, 8) + 4
    if width >= _TABLE and height >= 2 * rows + 1 + table_height:
        return max(height - 1 - 2 * rows, table_height)
    with_probabilities = height - 1 - 2 * rows
    if with_probabilities >= 2:
        return min(with_probabilities, _MOST_LINES)
    return _MOST_LINES if height >= 6 else 2 if height >= 4 else 0


def _flow(palette: Palette, snapshot: Snapshot, view: View, layout: _Layout, lines: int, width: int, room: int) -> list[SegmentRow]:
    """Draw the flow of the gradient in `lines` lines below the columns, as a table if there are many."""

    flows = {state: snapshot.flow(view.row, state) for state in _states(snapshot, view)}
    if lines > _MOST_LINES:
        rows: list[SegmentRow] = []
        for state, flow in flows.items():
            if not rows or room - len(rows) >= len(flow) + 4:
                rows += [(), *flow_table(palette, snapshot, state, flow, width, room - len(rows) - 1)]
        return rows
    return flow_columns(palette, snapshot, flows, layout, width, lines=lines)


def _heading(palette: Palette, snapshot: Snapshot, layout: _Layout) -> SegmentRow:
    """Draw the numbers of the columns, as many as fit. The current one is highlighted and shows a backward direction."""
    current = snapshot.timestep
    word = "t " if layout.column > len(f"t {snapshot.config.seq_length}") else ""
    places: dict[int, str] = {}
    for t in sorted(layout.steps, key=lambda t: t != current):  # the current one first
        sign = "‹" if t == current and snapshot.position.phase == "backward" else ""
        content = f"{sign}{word}{t + 1}"
        column = layout.label + (t - layout.steps.start) * layout.column
        start = max(column + 1 + (layout.cell - len(content) + len(sign)) // 2 - len(sign), 0)
        if not any(start <= at + len(other) and at <= start + len(content) for at, other in places.items()):
            places[start] = content
            if t == current:
                marked = start
    segments: list[Segment] = []
    used, ellipsis = 0, palette.glyphs.ellipsis
    if layout.steps.start > 0 and len(ellipsis) <= layout.label < min(places):
        segments, used = [Segment(ellipsis.rjust(layout.label), palette.dim)], layout.label
    for start, content in sorted(places.items()):
        style = palette.accent if current in layout.steps and start == marked else palette.dim
        segments += [Segment(" " * (start - used)), Segment(transliterate(content, palette.glyphs), style)]
        used = start + len(content)
    more = layout.steps.stop < snapshot.config.seq_length
    return (*segments, Segment(f" {ellipsis}" if more else "", palette.dim))


class _Column(NamedTuple):
    """A timestep of the batch: inputs and targets of its rows, as characters and as indices, and the targets' probabilities."""

    t: int
    inputs: list[str]
    targets: list[str]
    input_ids: list[int]
    target_ids: list[int]
    probabilities: list[float] | None
    ink: Style
    fresh: bool
    marks: tuple[str, str]


def _columns(palette: Palette, snapshot: Snapshot, steps: range) -> list[_Column]:
    program, vocabulary = snapshot.program, snapshot.corpus.vocabulary
    input_ids, target_ids = (snapshot.record.ids(name) for name in (program.input, program.target))
    prediction = program.loss_names.prediction
    current, line = snapshot.timestep, snapshot.line
    columns = []
    for t in steps:
        inputs, targets = (
            [written_char(vocabulary[i], palette.glyphs) for i in ids[t].tolist()] for ids in (input_ids, target_ids)
        )
        y_hat = snapshot.value(prediction, t)
        probabilities = None if y_hat is None else y_hat[np.arange(len(y_hat)), target_ids[t]].tolist()
        is_current = t == current
        marks = ("‹" if snapshot.position.phase == "backward" else "▐", "▌") if is_current else (" ", " ")
        columns.append(
            _Column(
                t,
                inputs,
                targets,
                input_ids[t].tolist(),
                target_ids[t].tolist(),
                probabilities,
                ink=palette.accent if is_current else palette.plain if snapshot.moment.begun(t) else palette.dim,
                fresh=is_current and line is not None and line.target == prediction,
                marks=(transliterate(marks[0], palette.glyphs), transliterate(marks[1], palette.glyphs)),
            )
        )
    return columns


def _row(
    palette: Palette, snapshot: Snapshot, layout: _Layout, columns: list[_Column], index: int, singled: int | None, name: str
) -> list[SegmentRow]:
    """Draw a row of the batch, in as many lines as the layout gives it."""
    quiet = singled is not None and index != singled
    first: list[Segment] = [Segment(name.ljust(layout.label), palette.strong if index == singled else palette.dim)]
    second: list[Segment] = [Segment(" " * layout.label)]
    gap = Segment(" " * layout.gap)
    for column in columns:
        char, target = column.inputs[index], column.targets[index]
        p = None if column.probabilities is None else column.probabilities[index]
        ink = palette.dim if quiet else column.ink
        tint = ink if p is None else palette.unit(p)
        if p is not None and (quiet or column.fresh):
            tint = palette.quiet(tint) if quiet else palette.fresh(tint)
        read = Ref(snapshot.program.input, (index, column.input_ids[index]), column.t)
        sought = Ref(snapshot.program.target, (index, column.target_ids[index]), column.t)
        if layout.form == "pair":
            arrow = transliterate("→", palette.glyphs)
            pair = Cell.of(char, ink, read), Segment(arrow, ink), Cell.of(target, tint, sought)
            first += _marked(palette, column, layout.cell, *pair)
            first.append(gap)
            ref = Ref(snapshot.program.loss_names.prediction, (index, column.target_ids[index]), column.t)
            number = Segment(palette.glyphs.blank, palette.blank) if p is None else Cell.of(numbers.unit(p), tint, ref)
            second += [*_centred(layout.cell + 2, number), gap]
        else:
            first += _marked(palette, column, layout.cell, Cell.of(char, ink if layout.lines == 2 else tint, read))
            second += _marked(palette, column, layout.cell, Cell.of(target, tint, sought))
    if layout.text:
        program, vocabulary = snapshot.program, snapshot.corpus.vocabulary
        both_ids = (snapshot.record.ids(name) for name in (program.input, program.target))
        input_text, target_text = (visible_text((vocabulary[i] for i in ids[:, index]), palette.glyphs) for ids in both_ids)
        words = transliterate(f"  {input_text} → {target_text}", palette.glyphs)
        first.append(Segment(words, palette.dim if singled is None or quiet else palette.strong))
    return [tuple(first), tuple(second)][: layout.lines]


def _marked(palette: Palette, column: _Column, width: int, *content: Segment) -> list[Segment]:
    """Draw centred content between the marks of its column."""
    opening, closing = (Segment(mark, palette.accent) for mark in column.marks)
    return [opening, *_centred(width, *content), closing]


def _centred(width: int, *content: Segment) -> list[Segment]:
    spare = max(width - sum(cell_len(segment.text) for segment in content), 0)
    return [Segment(" " * (spare // 2)), *content, Segment(" " * (spare - spare // 2))]


def _break(palette: Palette, snapshot: Snapshot, singled: int | None, width: int) -> SegmentRow:
    """Return a note if a row starts with the state of a row whose text it does not continue; empty otherwise."""
    corpus, batch = snapshot.corpus, snapshot.position.batch
    if not isinstance(corpus, Corpus) or not snapshot.config.carried_batches(batch):
        return ()
    torn = [i for i in range(snapshot.config.batch_size) if not corpus.continues(batch, i)]
    if not torn:
        return ()
    row = singled if singled in torn else torn[0]
    text, before = (corpus.row_text(corpus.inputs, b, row) for b in (batch, batch - 1))
    room = max((width - len(" row 10 “” does not follow “”")) // (2 * _spaced(corpus.vocabulary)) - 1, 1)
    glyphs = palette.glyphs
    text = visible_text(text, glyphs) if len(text) <= room else f"{visible_text(text[:room], glyphs)}…"
    before = visible_text(before, glyphs) if len(before) <= room else f"…{visible_text(before[-room:], glyphs)}"
    note = transliterate(f" row {row + 1} “{text}” does not follow “{before}”", palette.glyphs)
    return Segment(palette.glyphs.here, palette.warning), Segment(note, palette.dim)


# ------------------------------------------------------------------------------
# The flow of the gradient back through time: its norm at each timestep, and the share of each path.


#: The range of the bars in powers of ten: a full bar is the largest norm.
DECADES = 4
_SCALE = f"bar: {DECADES} powers of ten"
NARROW = 7  # cells; a narrower column has no room for a number


def path_styles(palette: Palette) -> tuple[Style, ...]:
    """Return the styles of the paths: solid colours, with letters in the colour of the background."""
    reverse = Style(reverse=True)
    return tuple(ink + reverse for ink in palette.paths)


def _paths(snapshot: Snapshot, state: str) -> abc.Sequence[tuple[str, str]]:
    """Return the paths between which the gradient of a state is divided; empty if there is only one."""
    paths = analysis.influence.paths_of(snapshot.program, state)
    return paths if len(paths) > 1 else ()


def flow_into_earlier(snapshot: Snapshot, flows: abc.Sequence[Flow | None]) -> str:
    """Return the gradient that flows into the earlier batches, in words; empty if none does or it is not computed yet."""
    first = flows[0]
    if not snapshot.flows_into_earlier or first is None or first.handed_on is None:
        return ""
    return f"← {numbers.unit(first.handed_on).strip()} flows into the earlier batches"


def flow_legend(snapshot: Snapshot, state: str, width: int) -> str:
    """Return what the letters mean, of all of them, as this `width` of a border allows; empty if there is only one path.

    Words alone are in the order of the letters in the bars.
    """
    paths = _paths(snapshot, state)
    if not paths:
        return ""
    letters, words = zip(*paths, strict=True)
    both = [_both(*path) for path in paths]
    joined = " · ".join(both)
    forms = f"shares by size: {joined}", joined, "  ".join(both), " ".join(both), " ".join(words)
    return next((form for form in forms if len(form) <= width), ", ".join(letters))


def _both(letter: str, word: str) -> str:
    return letter if word == letter else f"{letter} {word}"


def flow_columns(
    palette: Palette, snapshot: Snapshot, flows: Mapping[str, abc.Sequence[Flow | None]], at: _Layout, width: int, *, lines: int
) -> list[SegmentRow]:
    """Draw the flow below the columns of the sequence, in two `lines` or more, with what they are where `width` has room for it.

    The lines are the norm of the gradient of each state, as a number or a bar (both if there is only one state), for as many
    states as fit, then the shares of the paths of the first state: in percent, two in a line, if there is room for all.
    """
    first, *others = flows
    paths = _paths(snapshot, first)
    pairs = -(-len(paths) // 2)
    in_percent = at.numbered and bool(paths) and lines >= pairs + len(flows)
    lines -= pairs if in_percent else bool(paths)
    rows: list[SegmentRow] = []
    for state in (first, *others)[:lines]:
        rows += _norms(palette, snapshot, state, flows[state], at, width, tall=lines > 1 and not others)
    if not paths:
        return rows
    if in_percent:
        for pair in range(pairs):
            shares = [() if (flow := flows[first][t]) is None else flow.shares or () for t in at.steps]
            numbered = [_percent(palette, paths, step_shares, 2 * pair, at.marked) for step_shares in shares]
            forms = () if pair else ("% of each path", "percent")
            rows.append(_line(palette, snapshot, first, "" if pair else "share", numbered, at, width, forms))
        return rows
    inner = at.marked - 2 if at.numbered else max(at.marked - 1, 1)
    spare = at.marked - inner
    cells = []
    for t in at.steps:
        flow = flows[first][t]
        parts = stacked_bar(palette, paths, None if flow is None else flow.shares, inner)
        cells.append((Segment(" " * (spare // 2)), *parts, Segment(" " * (spare - spare // 2))))
    return [*rows, _line(palette, snapshot, first, "paths", cells, at, width, ("share of each path", "shares"))]


def _percent(palette: Palette, paths: abc.Sequence[tuple[str, str]], shares: abc.Sequence[float], i: int, width: int) -> SegmentRow:
    """Draw the shares of two paths from the i-th on, `c 48 h 22`, each in its colour; blank without shares."""
    row, half = list[Segment](), (width + 1) // 2
    for k in range(i, min(i + 2, len(shares))):
        number = f"{round(100 * shares[k])}".rjust(min(3, half - 2))
        row.append(Segment(f"{paths[k][0]}{number}".ljust(half if k == i else width - half), palette.path(k)))
    return (*row, Segment(" " * (width - sum(segment.cell_length for segment in row))))


def _norms(
    palette: Palette, snapshot: Snapshot, state: str, flows: abc.Sequence[Flow | None], at: _Layout, width: int, *, tall: bool
) -> Iterator[SegmentRow]:
    """Draw the norm of the gradient of a state at each timestep, with `tall` in two lines."""
    delta, most = f"d{state}", _most(flows)
    norms, bars = [], []
    for t in at.steps:
        flow = flows[t]
        fresh = t == snapshot.timestep and snapshot.line is not None and snapshot.line.target == delta
        ink = palette.accent if fresh else palette.plain
        part = 0.0 if flow is None else _part(flow.dh, most)
        if flow is None:
            norms.append((Segment(palette.glyphs.blank.center(at.marked), palette.blank),))
        elif at.numbered:
            norms.append((_number(palette, flow.dh, at.marked, ink),))
        else:
            norms.append((Segment(_column(palette, 2 * part - 1 if tall else part).center(at.marked), ink),))
        drawn = bar(palette, part, at.marked - 2) if at.numbered else _column(palette, 2 * part)
        bars.append((Segment(drawn.center(at.marked), palette.dim if at.numbered else ink),))
    name = _name(snapshot, delta)
    yield _line(palette, snapshot, state, name, norms, at, width, ("size of gradient", f"size of {name[1:-1]}", "size"))
    if tall:
        yield _line(palette, snapshot, state, "", bars, at, width, (_SCALE, "log scale"))


def _name(snapshot: Snapshot, delta: str) -> str:
    """Return the label of a norm, `‖dh‖`, without the layer, which is in the title."""
    return f"‖{snapshot.program.writer.name(split(delta)[0])}‖"


def _line(
    palette: Palette,
    snapshot: Snapshot,
    state: str,
    name: str,
    cells: abc.Sequence[SegmentRow],
    at: _Layout,
    width: int,
    forms: Iterable[str],
) -> SegmentRow:
    """Draw a line below the columns, with a sign where the gradient leaves the batch or is cut, and the first of the `forms`
    that there is room for."""
    sign, ink = ("←", palette.accent) if snapshot.flows_into_earlier else ("┃", palette.strong)
    end, nothing = Segment(transliterate(sign, palette.glyphs), ink), Segment(" ", ink)
    left = snapshot.program.direction_of(f"d{state}") < 0
    named = name.ljust(at.label - 1) if at.label > len(name) else " " * (at.label - 1)
    row = [Segment(transliterate(named, palette.glyphs), palette.dim), end if left and at.steps.start == 0 else nothing]
    for cell in cells:
        row += [*cell, Segment(" " * at.gap)]
    if not left and at.steps.stop == snapshot.config.seq_length:
        row[-1] = end
    gap = 2 if row[-1] is end else 2 - at.gap
    words = next((words for words in forms if len(words) <= width - row_width(tuple(row)) - gap), "")
    return (*row, Segment(" " * gap + words, palette.dim)) if words else tuple(row)


def flow_table(
    palette: Palette, snapshot: Snapshot, state: str, flows: abc.Sequence[Flow | None], width: int, height: int
) -> list[SegmentRow]:
    """Draw a row with all numbers per timestep, in the order in which the gradient flows; the last row says where it ends."""
    steps = window(len(flows), height - 3, snapshot.timestep)
    most, label = _most(flows), len(f"t {len(flows)}") + 1
    names, paths = flow_names(snapshot.program, state), _paths(snapshot, state)
    fixed = label + 3 * 8 + 8 + 6
    wide = max([_SHARE, *(len(f" {_both(*path)} ") for path in paths)])  # a share with its word above it
    wide = wide if fixed + len(paths) * wide + _LEAST_REST <= width else _SHARE
    rest = max(width - fixed - len(paths) * (wide - 1), 12)
    stack = rest - rest // 2 - 1 if paths else 0
    bar_length = rest - 2 - stack
    scale = _SCALE if len(_SCALE) < bar_length else ""
    on_to, from_side = ("t−1", "future") if names.direction < 0 else ("t+1", "past")
    head = f"{'':{label}}{_name(snapshot, names.delta):>7} {scale:<{bar_length}}"
    source = "output" if any(state == layer.output for layer in snapshot.program.layers) else "here"
    head += f"{source:>8}{from_side:>8}{f'on to {on_to}':>11} {'':{stack}}"
    heading = [Segment(transliterate(head, palette.glyphs), palette.dim)]
    for (letter, word), ink in zip(paths, cycle(path_styles(palette)), strict=False):
        word = "" if word == letter or len(word) > wide - 3 else word  # the border has all of them
        heading += [Segment(" "), Segment(letter, ink), Segment(f" {word}".ljust(wide - 2), palette.dim)]
    rows: list[SegmentRow] = [tuple(heading)]
    for t in steps[:: names.direction]:
        flow, current = flows[t], t == snapshot.timestep
        name = Segment(f"t {t + 1}".ljust(label), palette.accent if current else palette.dim)
        if flow is None:
            rows.append((name, Segment(palette.glyphs.blank.rjust(7), palette.blank)))
            continue
        row = [name, _number(palette, flow.dh, 7, palette.plain, left=False), Segment(" ")]
        row.append(Segment(bar(palette, _part(flow.dh, most), bar_length), palette.dim))
        row += [_number(palette, norm, 8, palette.dim, left=False) for norm in (flow.from_output, flow.from_future)]
        if flow.handed_on is None:
            row.append(Segment(palette.glyphs.blank.rjust(11), palette.blank))
        else:
            row += [_number(palette, flow.handed_on, 11, palette.plain, left=False), Segment(" ")]
            row += stacked_bar(palette, paths, flow.shares, stack)
            for share in (flow.shares or ()) if paths else ():
                row.append(Segment(f" {share * 100:5.1f} %".ljust(wide), palette.plain))
        rows.append(tuple(row))
    if (0 if names.direction < 0 else len(flows) - 1) in steps:
        rows.append(_end(palette, snapshot, state, flows, label, width))
    return rows


def stacked_bar(
    palette: Palette, paths: abc.Sequence[tuple[str, str]], shares: abc.Sequence[float] | None, width: int
) -> list[Segment]:
    """Draw a bar of `width` cells divided by the shares, each part in its colour and letter; blank without shares."""
    if shares is None:
        return [Segment(" " * width)]
    cells = _divided(shares, width)
    parts = zip(paths, cells, cycle(path_styles(palette)), strict=False)
    return [Segment(letter * count, ink) for (letter, _), count, ink in parts if count]


def _divided(shares: abc.Sequence[float], width: int) -> list[int]:
    """Divide `width` cells by the shares into whole cells; cells left over go to the largest remainders."""
    cells = [int(share * width) for share in shares]
    order = sorted(range(len(shares)), key=lambda i: cells[i] - shares[i] * width)
    for i in order[: width - sum(cells)]:
        cells[i] += 1
    return cells


def _end(palette: Palette, snapshot: Snapshot, state: str, flows: abc.Sequence[Flow | None], label: int, width: int) -> SegmentRow:
    on = flow_into_earlier(snapshot, flows)
    if snapshot.flows_into_earlier:
        words = on or "← flows into the earlier batches"
        return (Segment(transliterate(f"{'':{label}}{words}", palette.glyphs), palette.strong),)
    name = snapshot.program.writer.name(state)
    why = {"reset": f"{name} is reset with every batch", "notebook": "the epoch starts here"}
    words = why.get(snapshot.config.carry, "the state is carried over by value")
    wall = transliterate("━" * max(min(width - label - len(words) - 3, 24), 4), palette.glyphs)
    return (Segment(" " * label), Segment(wall, palette.strong), Segment(f" {words}", palette.dim))


def _number(palette: Palette, value: float, width: int, ink: Style, *, left: bool = True) -> Segment:
    written = numbers.unit(value)
    return Segment(written.center(width) if left else written.rjust(width), ink if math.isfinite(value) else palette.warning)


def _most(flows: Iterable[Flow | None]) -> float:
    return max((flow.dh for flow in flows if flow is not None and math.isfinite(flow.dh)), default=0.0)


def _part(norm: float, most: float) -> float:
    """Return the length of the bar of a norm, from 0 to 1, on a logarithmic scale."""
    if not math.isfinite(norm):
        return 1.0
    if norm <= 0 or most <= 0:
        return 0.0
    return max(1 + math.log10(norm / most) / DECADES, 1e-9)


def _column(palette: Palette, part: float) -> str:
    glyphs = palette.glyphs.column
    return glyphs[math.ceil(min(max(part, 0), 1) * (len(glyphs) - 1))]


# ------------------------------------------------------------------------------
# The samples, newest first: what the model said, what it had read before each character, and what chose the character.


_SAMPLERS = {"fed-back": "fed back"}
_LABEL = max(map(len, _SAMPLERS.values())) + 2
#: What a sampler reads, `{0}` the primer and `{1}` the word for a character; the longest that there is room for is shown.
_READS = {
    "tutorial": ("reads “{0}” again before every {1}", "reads “{0}” before each {1}", "reads “{0}” again"),
    "fed-back": ("reads the {1} that it has just said", "reads what it has just said", "reads what it said"),
}
#: The rows of a table of draws, the most needed first; the cells before its columns; and the most cells of what was read.
_ROWS = ("says", "read", "p", "u")
_LEAD, _MOST_READ = 5, 3
_WIDE = 30  # cells of the border; with less room, the temperature is named shortly beside the keys


class Samples(SnapshotPanel):
    """The samples drawn so far: the newest, and the one that the other sampler drew with the same dice, with what was read before
    each character and, if there is room, its probability and the random number. Of older ones, the texts."""

    ABOUT = (
        "Texts drawn from the model. Under each character what the model had read just before; p, the probability that the "
        "character had; and u, the random number from 0 to 1 that chose it: the range from 0 to 1 is divided by the probabilities "
        "of the characters, and u falls into the part of one of them."
    )

    COMPARED = Compared.BOTH
    _within: tuple[abc.Sequence[Sample], Size, int] = (), Size(), 0  # samples, an inner size, and what `within` returned for them

    def reads(self, snapshot: Snapshot, view: View) -> Hashable:
        return id(snapshot.state.samples), _explained(snapshot)  # as long as the panel has them, no others have this id

    def titles(self, snapshot: Snapshot) -> Titles:
        """Return the title; the place, the temperature and the seed of the newest sample; and the keys."""
        if not snapshot.state.samples:
            return Titles("samples")
        newest = snapshot.state.samples[-1]
        word = "temperature" if self.border_room >= _WIDE else "temp"
        data = [
            f"{word} {significant(newest.temperature)}",
            *([f"seed {newest.seed}"] if newest.temperature else ["always the likeliest"]),
        ]
        keys = "<sample> draw  <findings> why they differ" if _explained(snapshot) else "<sample> draw"
        return Titles("samples", data[:1] if _explained(snapshot) else data, _place(snapshot, newest), with_keys(self, keys))

    def within(self, snapshot: Snapshot, width: int, height: int) -> int:
        """Return the outer height that the content takes of this outer width and height; 0 without samples."""
        samples, inner = snapshot.state.samples, Size(width, height) - Size(self.gutter.width, self.gutter.height)
        if samples is not self._within[0] or inner != self._within[1]:
            rows = min(self.content(snapshot, *inner).height, inner.height) + self.gutter.height if samples else 0
            self._within = samples, inner, rows
        return self._within[2]

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        palette, samples = self.palette, snapshot.state.samples[::-1]
        if not samples:  # the others have its room
            return EMPTY
        word = token_word(snapshot.config.vocabulary)
        newest = samples[: 2 if len(samples) > 1 and _same_dice(*samples[:2]) else 1]
        detailed, room = (samples, 10**6) if self.zoomed else (newest, height)
        most = room if self.zoomed else max(room // (1 + len(newest)), 1)
        texts = [_text(palette, sample, width, word, most=most) for sample in detailed]
        room -= sum(box.height + 1 for box in texts) - 1
        needs = {n: sum(_height(sample, width, n) for sample in detailed) for n in (4, 3, 2)}
        rows = next((n for n, need in needs.items() if need <= room), 2)
        share = room if needs[rows] <= room else room // len(detailed)  # as many of both, so that they can be compared
        tables = [_draws(palette, sample, width, share, rows) for sample in detailed]
        blocks = [vstack(*block) for block in zip(texts, tables, strict=True)]
        room -= sum(box.height for box in tables)
        if len(newest) == 2 and (parted := _parted(palette, newest, width, word)).height < room:
            blocks.insert(2, parted)
        shown = vstack(*blocks, gap=1)
        for after, sample in pairwise(samples[len(detailed) - 1 :]):
            place = _place(snapshot, sample) if sample.tick != after.tick else ""
            older = _text(palette, sample, width, word, most=1, newest=False)
            shown = vstack(shown, *([text_box(palette, place, palette.dim)] if place else []), older)
        return clip(palette, shown, width, 10**6)


def _explained(snapshot: Snapshot) -> bool:
    """Return True if a finding says why the two samplers differ."""
    return any(finding.name == "sampler-without-feedback" for finding in snapshot.findings)


def _place(snapshot: Snapshot, sample: Sample) -> str:
    """Return where a sample was drawn as `e12 b3 t2`, or as `e12 b3` outside of the loops over t; empty if that is unknown."""
    if sample.tick is None:
        return ""
    position = position_of(snapshot.program, sample.tick)
    return place_name(position).removesuffix(f" {position.phase}")


def _same_dice(one: Sample, other: Sample) -> bool:
    """Return True if two samples differ only in the sampler."""
    drawn = [(sample.primer, sample.temperature, sample.seed, sample.tick) for sample in (one, other)]
    return drawn[0] == drawn[1] and one.sampler != other.sampler


def _text(palette: Palette, sample: Sample, width: int, word: str, *, most: int, newest: bool = True) -> Box:
    """Draw the sampler and the text of a sample, with the primer dimmed, in at most `most` lines; of a new one, in what room is
    left, what the sampler reads."""
    name, ink = _SAMPLERS.get(sample.sampler, sample.sampler), palette.strong if newest else palette.plain
    label = name.ljust(_LABEL) if width >= _LABEL + 12 else ""
    rows: list[list[Segment]] = []
    row, used = [Segment(label, palette.plain if newest else palette.dim)], len(label)
    for i, char in enumerate(sample.tokens):
        written = (sample.between if i else "") + (char if char == " " else written_char(char, palette.glyphs))
        if used + cell_len(written) > width:
            if len(rows) + 1 == most:
                row.append(Segment(written, ink))  # too long: the box is clipped, and marked as cut off
                break
            rows.append(row)
            row, used = [Segment(" " * len(label))], len(label)
        row.append(Segment(written, palette.dim if i < len(sample.primer) else ink))
        used += cell_len(written)
    if newest and sample.draws and not rows:
        primer = sample.between.join(written_char(char, palette.glyphs) for char in sample.primer)
        sentences = (transliterate(words, palette.glyphs).format(primer, word) for words in _READS.get(sample.sampler, ()))
        row.append(Segment(next((f"  {words}" for words in sentences if used + 2 + cell_len(words) <= width), ""), palette.dim))
    return from_rows([*rows, row])


def _read(palette: Palette, sample: Sample, i: int) -> tuple[str, Style]:
    """Return what the model read just before it said a character: the primer, of a long one the end, or what it had said."""
    if i and sample.sampler != "tutorial":
        return written_char(sample.draws[i - 1].char, palette.glyphs), palette.gate
    if isinstance(sample.primer, str):
        written = [written_char(char, palette.glyphs) for char in sample.primer]
        if sum(map(cell_len, written)) <= _MOST_READ:
            return "".join(written), palette.dim
    return written_char(sample.primer[-1], palette.glyphs), palette.dim


def _draws(palette: Palette, sample: Sample, width: int, height: int, rows: int) -> Box:
    """Draw a table of the draws: each character, what was read before it, its probability p, and the uniform random number u if one
    was used; as many `rows` of these.

    Only the lines that fit are drawn, with a blank row between them, and an ellipsis at the end if there are more.
    """
    draws, (entry, size, across) = sample.draws, _fields(sample, width, rows)
    names, lines = _names(sample, rows), list[Box]()
    fit = max(height + 1, 0) // (len(names) + 1)
    cut = fit * across if fit * across < len(draws) else None
    for start in range(0, min(len(draws), fit * across), across):
        shown = range(start, min(start + across, len(draws)))
        cells = {
            "says": [(written_char(draws[i].char, palette.glyphs), palette.strong) for i in shown],
            "read": [_read(palette, sample, i) for i in shown],
            "p": [(entry.write(draws[i].y_hat[draws[i].index]), palette.gate) for i in shown],
            "u": [(entry.write(draws[i].uniform or 0.0), palette.plain) for i in shown],
        }
        if cut is not None and shown[-1] + 1 == cut:
            for row in cells.values():
                row[-1] = transliterate("…", palette.glyphs), palette.dim
        lined = [[styled_row(palette, (name, palette.dim)), *((Segment(*cell),) for cell in cells[name])] for name in names]
        of_draw = TableColumn(gap=1, right=True, size=size - 1)
        lines.append(from_rows(table(palette, lined, (TableColumn(gap=0, size=_LEAD - 1), *[of_draw] * len(shown)), width)))
    return vstack(*lines, gap=1)


def _names(sample: Sample, rows: int) -> tuple[str, ...]:
    """Return the rows of a table; the likeliest character needs no random number."""
    return _ROWS[: min(rows, 4 if any(draw.uniform is not None for draw in sample.draws) else 3)]


def _fields(sample: Sample, width: int, rows: int) -> tuple[EntryFormat, int, int]:
    """Return the format of the numbers in a table of draws, the width of a draw with the blank before it, and how many are side by
    side."""
    read = _MOST_READ - 1 if isinstance(sample.primer, str) and len(sample.primer) == 2 else 1
    chars = max(read, widest((*sample.primer, *(draw.char for draw in sample.draws))))
    sizes = {form: 1 + max(chars, form.width if rows > 2 else 0) for form in (ENTRIES["unit", False], ENTRIES["unit", True])}
    entry = next((form for form, size in sizes.items() if len(sample.draws) * size + _LEAD - 1 <= width), ENTRIES["unit", True])
    return entry, sizes[entry], max((width - _LEAD + 1) // sizes[entry], 1)


def _height(sample: Sample, width: int, rows: int) -> int:
    """Return the rows of the whole table."""
    lines = -(-len(sample.draws) // _fields(sample, width, rows)[2])
    return max(lines * (len(_names(sample, rows)) + 1) - 1, 0)


def _parted(palette: Palette, samples: abc.Sequence[Sample], width: int, word: str) -> Box:
    """Say at which character two samples with the same dice differ, and what was read there."""
    one, other = samples
    at = next((i for i, pair in enumerate(zip(one.draws, other.draws, strict=False)) if pair[0].index != pair[1].index), None)
    if at is None:
        return text_box(palette, "\n".join(folded("Both have said the same.", width)), palette.dim)
    reads = [_read(palette, sample, at)[0] for sample in sorted(samples, key=lambda sample: sample.sampler != "tutorial")]
    words = f"They part at {word} {at + 1}: one has read {reads[0]} again, the other {reads[1]}."
    return text_box(palette, "\n".join(folded(transliterate(words, palette.glyphs), width)), palette.dim)
