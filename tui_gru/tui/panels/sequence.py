"""The batch as text with its targets, and the flow of the gradient back through time."""

from __future__ import annotations

import math
from collections import abc
from collections.abc import Hashable, Iterable, Iterator, Mapping
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size

from tui_gru.debugger.program import shown_char
from tui_gru.engine import numbers
from tui_gru.engine.config import Text
from tui_gru.engine.data import Corpus
from tui_gru.engine.source import Ability
from tui_gru.equations.syntax import split
from tui_gru.session.snapshot import Snapshot, View
from tui_gru.tui.draw import Box, Cell, Ref, SegmentRow, bar, clip, from_rows
from tui_gru.tui.panel import CellPanel, Titles, contents
from tui_gru.tui.theme import Palette, transliterate, visible_text, widest, written_char
from tui_gru.tui.written import named_rows, shown_indices

if TYPE_CHECKING:
    from tui_gru.analysis.influence import Flow

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
        here = position.number, position.t, position.phase, snapshot.timestep, snapshot.moment.begun(position.t)
        fresh = snapshot.line is not None and snapshot.line.target == program.loss_names.prediction
        return batch, here, view, fresh, contents(*predicted)

    def titles(self, snapshot: Snapshot) -> Titles:
        on, legend = "", None
        if snapshot.flowing and predicts_characters(snapshot):
            state = _states(snapshot, self._view)[0]
            on = flow_into_earlier(snapshot, snapshot.flow(self._view.row, state))
            if len(snapshot.program.layers) > 1:
                layer = snapshot.program.layer_name(self._view.layer_of(snapshot))
                on = f"gradient of {layer} {on}".rstrip()
                on = on if cell_len(f"sequence · {on}") <= self.border_room else layer
            legend = flow_legend(snapshot, state, self.size.width) or None
        place = "" if snapshot.timestep is None else f"t {snapshot.timestep + 1} of {snapshot.config.seq_length}"
        ways = "sequence  batch ↓  time →"
        title = f"sequence · {on}" if on else ways if len(ways) + 14 <= self.border_room < 10**6 else "sequence"
        return Titles(title, legend or self._summed_up(snapshot), place)

    def on_resize(self) -> None:
        self._followed = None
        super().on_resize()

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        if not predicts_characters(snapshot):
            from tui_gru.tui.panels import imported

            width, height = self.canvas(width, height, partial(imported.whole_size, self.palette, snapshot))
            return imported.imported_sequence(self.palette, snapshot, self._view.row, width, height)
        width, height = self.canvas(width, height, partial(whole_size, snapshot))
        return clip(self.palette, sequence(self.palette, snapshot, self._view, width, height), width, height)

    def _summed_up(self, snapshot: Snapshot) -> list[str] | None:
        """Return the size of a batch that does not fit and its worst prediction so far, None if the batch fits."""
        size = self.content_size
        if not predicts_characters(snapshot) or self.zoomed or not size.height:
            return None
        whole = _whole(snapshot)
        rows, steps = snapshot.config.batch_size, snapshot.config.seq_length
        if whole.label + steps * (widest(snapshot.corpus.vocabulary) + 2) <= size.width and rows < size.height:
            return None
        found = [f"{rows} rows × {steps}"]
        if (worst := _worst_predicted(snapshot)) is not None:
            t, row, p = worst
            char = shown_char(snapshot.corpus.vocabulary[snapshot.record.ids(snapshot.program.target)[t, row]])
            found.append(f"worst so far “{char}” {numbers.unit(p).strip()} row {row + 1} t {t + 1}")
        return found

    def _follow(self) -> None:
        """Scroll the current column into view if the panel is zoomed and the column has changed."""
        snapshot, scrolls = self._snapshot, self.virtual_size.width > self.size.width
        if snapshot is None or not scrolls or snapshot.timestep is None or snapshot.timestep == self._followed:
            return
        self._followed = snapshot.timestep
        layout = _whole(snapshot)
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


def _layout(snapshot: Snapshot, width: int, height: int, *, numbered: bool = False) -> _Layout:
    """Return the most detailed layout that fits. If none fits all timesteps, return one of those around the current timestep.

    `numbered` is True if numbers are drawn below the columns.
    """
    rows, steps = snapshot.config.batch_size, snapshot.config.seq_length
    char = widest(snapshot.corpus.vocabulary)
    word = "row " if width >= 30 else ""
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
    count = min(max((width - label - 1) // (char + 2), 1), steps)
    start = min(max(snapshot.position.t - count // 2, 0), steps - count)
    return _Layout(form, lines, char, 0, word, label, range(start, start + count), False)


def _spaced(vocabulary: Text) -> int:
    """Return the width of a token in a text, with the blank that separates tokens longer than a character, in cells."""
    return widest(vocabulary) + (not isinstance(vocabulary, str))


def _states(snapshot: Snapshot, view: View) -> tuple[str, ...]:
    """Return the states of the layer shown, whose gradients are drawn, with its output first."""
    layer = view.layer_of(snapshot)
    return tuple(sorted(layer.states, key=lambda state: state != layer.output))


def _whole(snapshot: Snapshot) -> _Layout:
    """Return the layout with all timesteps and probabilities."""
    return _layout(snapshot, 10**6, 10**6)


def whole_size(snapshot: Snapshot) -> Size:
    """Return the size of the batch with all rows, all timesteps and the full flow of the gradient, in cells."""
    layout, steps = _whole(snapshot), snapshot.config.seq_length
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
    shown, mark = shown_indices(snapshot.config.batch_size, max(room // layout.lines, 1), row), palette.glyphs.vertical_ellipsis
    for i, name in zip(shown, named_rows(shown, snapshot.config.batch_size, mark, layout.word), strict=True):
        if i is None:
            lines.append((Segment(" " * (layout.label + 1)), Segment(mark, palette.dim)))
        else:
            lines += _row(palette, snapshot, layout, columns, i, row, name)
    if below:
        lines += _flow(palette, snapshot, view, layout, below, width, height - len(lines))
    if note and len(lines) < height:
        lines += [(), note] if len(lines) + 1 < height else [note]
    return from_rows(lines)


#: The most lines of the flow below the columns; if there is room for many more, it is drawn as a table.
_MOST_LINES = 3
_TABLE = 96  # cells; the least width of the table


def _flow_lines(snapshot: Snapshot, width: int, height: int) -> int:
    """Return the number of lines for the flow of the gradient, 0 if there is no room for it."""
    rows, steps = snapshot.config.batch_size, snapshot.config.seq_length
    table = min(steps, 8) + 4
    if width >= _TABLE and height >= min(rows, 8) + 1 + table:
        return max(height - 1 - 2 * rows, table) if 2 * rows + 1 + table <= height else table
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
                rows += [(), *table(palette, snapshot, state, flow, width, room - len(rows) - 1)]
        return rows
    return columns(palette, snapshot, flows, layout, lines=lines)


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
    given: list[int]
    wanted: list[int]
    probabilities: list[float] | None
    ink: Style
    fresh: bool
    marks: tuple[str, str]


def _columns(palette: Palette, snapshot: Snapshot, steps: range) -> list[_Column]:
    program, vocabulary = snapshot.program, snapshot.corpus.vocabulary
    given, wanted = (snapshot.record.ids(name) for name in (program.input, program.target))
    prediction = program.loss_names.prediction
    current, line = snapshot.timestep, snapshot.line
    columns = []
    for t in steps:
        inputs, targets = ([written_char(vocabulary[i], palette.glyphs) for i in ids[t].tolist()] for ids in (given, wanted))
        y_hat = snapshot.value(prediction, t)
        probabilities = None if y_hat is None else y_hat[np.arange(len(y_hat)), wanted[t]].tolist()
        here = t == current
        marks = ("‹" if snapshot.position.phase == "backward" else "▐", "▌") if here else (" ", " ")
        columns.append(
            _Column(
                t,
                inputs,
                targets,
                given[t].tolist(),
                wanted[t].tolist(),
                probabilities,
                ink=palette.accent if here else palette.plain if snapshot.moment.begun(t) else palette.dim,
                fresh=here and line is not None and line.target == prediction,
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
        tint = ink if p is None else _tint(palette, p, quiet, column.fresh)
        read = Ref(snapshot.program.input, (index, column.given[index]), column.t)
        sought = Ref(snapshot.program.target, (index, column.wanted[index]), column.t)
        if layout.form == "pair":
            arrow = transliterate("→", palette.glyphs)
            pair = Cell.of(char, ink, read), Segment(arrow, ink), Cell.of(target, tint, sought)
            first += _marked(palette, column, layout.cell, *pair)
            first.append(gap)
            ref = Ref(snapshot.program.loss_names.prediction, (index, column.wanted[index]), column.t)
            number = Segment(palette.glyphs.blank, palette.blank) if p is None else Cell.of(numbers.unit(p), tint, ref)
            second += [*_centred(layout.cell + 2, number), gap]
        else:
            first += _marked(palette, column, layout.cell, Cell.of(char, ink if layout.lines == 2 else tint, read))
            second += _marked(palette, column, layout.cell, Cell.of(target, tint, sought))
    if layout.text:
        program, vocabulary = snapshot.program, snapshot.corpus.vocabulary
        every = (snapshot.record.ids(name) for name in (program.input, program.target))
        given, wanted = (visible_text((vocabulary[i] for i in ids[:, index]), palette.glyphs) for ids in every)
        words = transliterate(f"  {given} → {wanted}", palette.glyphs)
        first.append(Segment(words, palette.dim if singled is None or quiet else palette.strong))
    return [tuple(first), tuple(second)][: layout.lines]


def _tint(palette: Palette, p: float, quiet: bool, fresh: bool) -> Style:
    style = palette.unit(p)
    return palette.quiet(style) if quiet else palette.fresh(style) if fresh else style


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
    here, before = (corpus.row_text(corpus.inputs, b, row) for b in (batch, batch - 1))
    room = max((width - len(" row 10 “” does not follow “”")) // (2 * _spaced(corpus.vocabulary)) - 1, 1)
    glyphs = palette.glyphs
    here = visible_text(here, glyphs) if len(here) <= room else f"{visible_text(here[:room], glyphs)}…"
    before = visible_text(before, glyphs) if len(before) <= room else f"…{visible_text(before[-room:], glyphs)}"
    note = transliterate(f" row {row + 1} “{here}” does not follow “{before}”", palette.glyphs)
    return Segment(palette.glyphs.here, palette.warning), Segment(note, palette.dim)


# ------------------------------------------------------------------------------
# The flow of the gradient back through time: its norm at each timestep, and the share of each path.


#: The range of the bars in powers of ten: a full bar is the largest norm.
DECADES = 4
NARROW = 7  # cells; a narrower column has no room for a number


def inks(palette: Palette) -> tuple[Style, ...]:
    """Return the styles of the paths: solid colours, with letters in the colour of the background."""
    reverse = Style(reverse=True)
    return tuple(ink + reverse for ink in palette.paths)


def _paths(snapshot: Snapshot, state: str) -> abc.Sequence[tuple[str, str]]:
    """Return the paths between which the gradient of a state is divided; empty if there is only one."""
    from tui_gru.analysis.influence import paths_of

    paths = paths_of(snapshot.program, state)
    return paths if len(paths) > 1 else ()


def flow_into_earlier(snapshot: Snapshot, flows: abc.Sequence[Flow | None]) -> str:
    """Return the gradient that flows into the earlier batches, in words; empty if none does or it is not computed yet."""
    first = flows[0]
    if not snapshot.flows_into_earlier or first is None or first.handed_on is None:
        return ""
    return f"← {numbers.unit(first.handed_on).strip()} flows into the earlier batches"


def flow_legend(snapshot: Snapshot, state: str, width: int) -> str:
    """Return what the letters mean, as detailed as the width of the border allows; empty if there is only one path."""
    paths = _paths(snapshot, state)
    if not paths:
        return ""
    whole = " · ".join(_both(letter, word) for letter, word in paths)
    short = (" ".join(_both(letter, _short(word, length)) for letter, word in paths) for length in (4, 3))
    forms = (f"shares by norm: {whole}", whole, *short)
    return next((words for words in forms if len(words) + 6 <= width), ", ".join(letter for letter, _ in paths))


def _both(letter: str, word: str) -> str:
    return letter if word == letter else f"{letter} {word}"


def _short(word: str, width: int) -> str:
    return word if len(word) <= width + 1 else f"{word[:width]}."


def columns(
    palette: Palette, snapshot: Snapshot, flows: Mapping[str, abc.Sequence[Flow | None]], at: _Layout, *, lines: int
) -> list[SegmentRow]:
    """Draw the flow below the columns of the sequence, in two `lines` or more.

    The lines are the norm of the gradient of each state, as a number or a bar (both if there is only one state), for as many
    states as fit, then the shares of the paths of the first state: in percent, two in a line, if there is room for all.
    """
    first, *others = flows
    paths = _paths(snapshot, first)
    pairs = -(-len(paths) // 2)
    in_percent = at.numbered and bool(paths) and lines >= pairs + len(flows)
    lines -= pairs if in_percent else bool(paths)
    rows: list[SegmentRow] = []
    for state in (first, *others[: lines - 1]):
        rows += _norms(palette, snapshot, state, flows[state], at, tall=lines > 1 and not others)
    if not paths:
        return rows
    if in_percent:
        for pair in range(pairs):
            shares = [() if (here := flows[first][t]) is None else here.shares or () for t in at.steps]
            numbered = [_percent(palette, paths, each, 2 * pair, at.marked) for each in shares]
            rows.append(_line(palette, snapshot, first, "" if pair else "share", numbered, at))
        return rows
    inner = at.marked - 2 if at.numbered else max(at.marked - 1, 1)
    spare = at.marked - inner
    cells = []
    for t in at.steps:
        here = flows[first][t]
        parts = stacked(palette, paths, None if here is None else here.shares, inner)
        cells.append((Segment(" " * (spare // 2)), *parts, Segment(" " * (spare - spare // 2))))
    return [*rows, _line(palette, snapshot, first, "paths", cells, at)]


def _percent(palette: Palette, paths: abc.Sequence[tuple[str, str]], shares: abc.Sequence[float], i: int, width: int) -> SegmentRow:
    """Draw the shares of two paths from the i-th on, `c 48 h 22`, each in its colour; blank without shares."""
    row, each = list[Segment](), (width + 1) // 2
    for k in range(i, min(i + 2, len(shares))):
        number = f"{round(100 * shares[k])}".rjust(min(3, each - 2))
        row.append(Segment(f"{paths[k][0]}{number}".ljust(each if k == i else width - each), palette.path(k)))
    return (*row, Segment(" " * (width - sum(segment.cell_length for segment in row))))


def _norms(
    palette: Palette, snapshot: Snapshot, state: str, flows: abc.Sequence[Flow | None], at: _Layout, *, tall: bool
) -> Iterator[SegmentRow]:
    """Draw the norm of the gradient of a state at each timestep, with `tall` in two lines."""
    delta, most = f"d{state}", _most(flows)
    norms, bars = [], []
    for t in at.steps:
        here = flows[t]
        fresh = t == snapshot.timestep and snapshot.line is not None and snapshot.line.target == delta
        ink = palette.accent if fresh else palette.plain
        part = 0.0 if here is None else _part(here.dh, most)
        if here is None:
            norms.append((Segment(palette.glyphs.blank.center(at.marked), palette.blank),))
        elif at.numbered:
            norms.append((_number(palette, here.dh, at.marked, ink),))
        else:
            norms.append((Segment(_column(palette, 2 * part - 1 if tall else part).center(at.marked), ink),))
        drawn = bar(palette, part, at.marked - 2) if at.numbered else _column(palette, 2 * part)
        bars.append((Segment(drawn.center(at.marked), palette.dim if at.numbered else ink),))
    yield _line(palette, snapshot, state, _name(snapshot, delta), norms, at)
    if tall:
        yield _line(palette, snapshot, state, "", bars, at)


def _name(snapshot: Snapshot, delta: str) -> str:
    """Return the label of a norm, `‖dh‖`, without the layer, which is in the title."""
    return f"‖{snapshot.program.writer.name(split(delta)[0])}‖"


def _line(palette: Palette, snapshot: Snapshot, state: str, name: str, cells: abc.Sequence[SegmentRow], at: _Layout) -> SegmentRow:
    """Draw a line below the columns, with a sign where the gradient leaves the batch or is cut."""
    sign, ink = ("←", palette.accent) if snapshot.flows_into_earlier else ("┃", palette.strong)
    end, nothing = Segment(transliterate(sign, palette.glyphs), ink), Segment(" ", ink)
    left = snapshot.program.way_of(f"d{state}") < 0
    named = name.ljust(at.label - 1) if at.label > len(name) else " " * (at.label - 1)
    row = [Segment(transliterate(named, palette.glyphs), palette.dim), end if left and at.steps.start == 0 else nothing]
    for cell in cells:
        row += [*cell, Segment(" " * at.gap)]
    if not left and at.steps.stop == snapshot.config.seq_length:
        row[-1] = end
    return tuple(row)


def table(
    palette: Palette, snapshot: Snapshot, state: str, flows: abc.Sequence[Flow | None], width: int, height: int
) -> list[SegmentRow]:
    """Draw a row with all numbers per timestep, in the order in which the gradient flows; the last row says where it ends."""
    from tui_gru.analysis.influence import flow_names

    steps = _shown(snapshot, len(flows), height - 3)
    most, label = _most(flows), len(f"t {len(flows)}") + 1
    names, paths = flow_names(snapshot.program, state), _paths(snapshot, state)
    fixed = label + 3 * 8 + 8 + len(paths) * 8 + 6
    rest = max(width - fixed, 12)
    stack = rest - rest // 2 - 1 if paths else 0
    bar_length = rest - 2 - stack
    scale = f"a full bar: {DECADES} powers of ten"
    scale = scale if len(scale) < bar_length else ""
    on_to, from_side = ("t−1", "future") if names.way < 0 else ("t+1", "past")
    head = f"{'':{label}}{_name(snapshot, names.delta):>7} {scale:<{bar_length}}"
    own = "output" if any(state == layer.output for layer in snapshot.program.layers) else "here"
    head += f"{own:>8}{from_side:>8}{f'on to {on_to}':>11} {'':{stack}}"
    heading = [Segment(transliterate(head, palette.glyphs), palette.dim)]
    for (letter, word), ink in zip(paths, cycle(inks(palette)), strict=False):
        word = "" if word == letter else word if len(word) <= 6 else _short(word, 4)
        heading += [Segment(" "), Segment(letter, ink), Segment(f" {word:<6}", palette.dim)]
    rows: list[SegmentRow] = [tuple(heading)]
    for t in steps[:: names.way]:
        here, current = flows[t], t == snapshot.timestep
        name = Segment(f"t {t + 1}".ljust(label), palette.accent if current else palette.dim)
        if here is None:
            rows.append((name, Segment(palette.glyphs.blank.rjust(7), palette.blank)))
            continue
        row = [name, _number(palette, here.dh, 7, palette.plain, left=False), Segment(" ")]
        row.append(Segment(bar(palette, _part(here.dh, most), bar_length), palette.dim))
        row += [_number(palette, norm, 8, palette.dim, left=False) for norm in (here.from_output, here.from_future)]
        if here.handed_on is None:
            row.append(Segment(palette.glyphs.blank.rjust(11), palette.blank))
        else:
            row += [_number(palette, here.handed_on, 11, palette.plain, left=False), Segment(" ")]
            row += stacked(palette, paths, here.shares, stack)
            for share in (here.shares or ()) if paths else ():
                row.append(Segment(f" {share * 100:5.1f} %".ljust(9), palette.plain))
        rows.append(tuple(row))
    if (0 if names.way < 0 else len(flows) - 1) in steps:
        rows.append(_end(palette, snapshot, state, flows, label, width))
    return rows


def stacked(
    palette: Palette, paths: abc.Sequence[tuple[str, str]], shares: abc.Sequence[float] | None, width: int
) -> list[Segment]:
    """Draw a bar of `width` cells divided by the shares, each part in its colour and letter; blank without shares."""
    if shares is None:
        return [Segment(" " * width)]
    cells = _divided(shares, width)
    parts = zip(paths, cells, cycle(inks(palette)), strict=False)
    return [Segment(letter * count, ink) for (letter, _), count, ink in parts if count]


def _divided(shares: abc.Sequence[float], width: int) -> list[int]:
    """Divide `width` cells by the shares into whole cells; cells left over go to the largest remainders."""
    whole = [int(share * width) for share in shares]
    order = sorted(range(len(shares)), key=lambda i: whole[i] - shares[i] * width)
    for i in order[: width - sum(whole)]:
        whole[i] += 1
    return whole


def _shown(snapshot: Snapshot, count: int, room: int) -> range:
    """Return the timesteps around the current one that fit."""
    room = max(min(room, count), 1)
    current = snapshot.timestep if snapshot.timestep is not None else 0
    start = min(max(current - room // 2, 0), count - room)
    return range(start, start + room)


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
