"""The values of a timestep: gates, prediction, terms of the loss."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from typing import ClassVar, NamedTuple

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import ComposeResult
from textual.content import Content
from textual.geometry import Size

from tui_gru.analysis.summaries import limits_of
from tui_gru.debugger.program import LossNames, Program
from tui_gru.engine import numbers
from tui_gru.engine.source import Ability
from tui_gru.equations.page import Layer
from tui_gru.equations.syntax import Apply, Name, Reduce, split
from tui_gru.session.snapshot import Snapshot, View
from tui_gru.tui import panels
from tui_gru.tui.draw import (
    EMPTY,
    Box,
    Cell,
    Ref,
    RowsOnDemand,
    SegmentRow,
    TableColumn,
    bars,
    clip,
    from_rows,
    hstack,
    in_columns,
    quieted,
    refs_of,
    row_width,
    styled_row,
    table,
    text_box,
    vstack,
)
from tui_gru.tui.matrix import CELL, LEAST_CELLS, NAME, MatrixView
from tui_gru.tui.panel import CellPanel, Compared, PanelGroup, Titles, contents, edge_alone
from tui_gru.tui.theme import ASCII, Palette, palette_of, transliterate, widest, written_char
from tui_gru.tui.written import ENTRIES, AnyArray, entry_style, kind_of, named_rows, scale_of, window

# ------------------------------------------------------------------------------
# The values of one timestep side by side: gates, candidate and states, in the backward phase their gradients.


def shown_names(program: Program, layer: Layer, *, backward: bool) -> list[str]:
    """Return the names of the values of a layer in the order of the data: the states before the timestep, then its lines.

    With `backward`, the gradients of the lines that have one, in the opposite order, after those that the states receive from
    other timesteps.
    """
    page = program.model.page
    lines = _in_order(program, layer)
    if not backward:
        return [*(page.before(state) for state in layer.states), *lines]
    received = (page.received(state) for state in layer.states)
    return [*received, *(f"d{name}" for name in reversed(lines) if f"d{name}" in program.names)]


@lru_cache(maxsize=32)
def _in_order(program: Program, layer: Layer) -> list[str]:
    """Return the lines of a layer such that each follows what it reads, the longest way first: r, h̃, z, h."""
    formulas = {line.target: line.formula for line in program.model.page.lines if line.target in layer.lines}
    reads = {
        target: [node.name for node in formula.walk() if isinstance(node, Name) and node.name in formulas]
        for target, formula in formulas.items()
    }
    depths: dict[str, int] = {}
    for target in layer.lines:  # a line reads only lines above it
        depths[target] = 1 + max((depths[name] for name in reads.get(target, ())), default=0)
    ordered: dict[str, None] = {}

    def visit(target: str) -> None:
        for name in sorted(dict.fromkeys(reads.get(target, ())), key=lambda name: -depths[name]):
            visit(name)
        ordered[target] = None

    for target in reversed(layer.lines):
        if target not in ordered:
            visit(target)
    return list(ordered)


def word_for(program: Program, layer: Layer, name: str) -> str:
    """Return a word for a value: the label of its line (update, reset), or its role as a state; empty if there is none."""
    page = program.model.page
    if name in layer.states:
        return "state" if len(layer.states) == 1 else f"state {program.writer.name(name)}"
    if state := next((state for state in layer.states if name == page.before(state)), ""):
        return "after" if page.states[state].backwards else "before"
    if any(name == page.received(state) for state in layer.states):
        return "from later"
    if name[:1] == "d" and (value := name[1:]) in (*layer.states, *layer.lines):  # a gradient has the word of its value
        return word_for(program, layer, value)
    return next((line.label for line in page.lines if line.target == name), "")


_ARROWED = 5  # cells of a title with an arrow; one of fewer cells is the name alone, rather than cut


class ValueMatrix(MatrixView):
    """A recorded value of shape (B, H) at the current timestep; dots until its line has been executed."""

    ABOUT = "A value of the layer at this timestep: a row of the matrix for each row of the batch, a column for each unit."

    def __init__(self, value_name: str, *, id: str) -> None:
        super().__init__(id=id)
        self.value_name, self.minus, self._shown, self._word = value_name, "", value_name, ""
        self.after = False  # True for a value after another one in its row
        self.narrowest = 10**6  # the width of the narrowest value beside it: all are shown in the same form

    def show(self, snapshot: Snapshot, view: View, order: tuple[int, ...] | None = None) -> None:
        """Show the value; `order` is the order of its units if it is mapped."""
        program, name, self.minus = snapshot.program, self.value_name, snapshot.minus
        self._shown, self._word = program.writer.name(name), word_for(program, view.layer_of(snapshot), name)
        self.refs = refs_of(program, name)
        bounded = program.ranges.get(name) == (-1, 1)  # a common scale, such that colours are comparable
        limits, value = None if self.minus else limits_of(program, name), snapshot.value(name)
        column = program.names[name].axes == ("B",)  # a number for each row of the batch
        self._ordering.follow(None if column else order)
        self.show_array(
            value[:, np.newaxis] if value is not None and column else value,
            kind="signed" if self.minus else kind_of(program, name),
            shape=(snapshot.config.batch_size, 1 if column else snapshot.config.hidden_size),
            scale=1.0 if bounded and not self.minus else None,
            fresh=snapshot.line is not None and snapshot.line.target == name,
            row=view.row,
            limits=limits,
            named=(self._shown, self._word, self.minus, order, self.mapped, self.narrowest),
        )

    def caption(self) -> None:
        """Set the title: the name, with a word or the compared branch if there is room."""
        name, word = self._shown, self._word
        without_layer = split(name)[0]  # all beside this one are of the same layer
        if self.minus:
            titles = [f"{name} − {name} {self.minus}", f"{name} − {self.minus}", f"{name} −…"]
        else:
            words = (f"  {word}", f" {word}") if word else ()
            titles = [*(f"{name}{ending}" for ending in words), name, name.replace("_reverse", "←"), without_layer]
        glyphs = self.palette.glyphs
        # columns differ by a cell, and all leave out the layer or none
        room = NAME - 1 if self.form == "cells" else self.border_room - (name != without_layer)
        arrow = self.after and room >= _ARROWED
        titles = [f"→ {title}" for title in titles] if arrow else titles
        if arrow and len(titles) > 1 and self._word:  # rather without a blank than without its word
            titles.insert(2, titles[1].replace(" ", "", 1))
        self.title = next((title for title in titles if cell_len(transliterate(title, glyphs)) <= room), titles[-1])
        before = self.subheading
        super().caption()
        if isinstance(self.parent, Gates) and self.subheading != before:
            self.parent.caption()

    @property
    def heading(self) -> str:
        """The whole title, for what is exported."""
        return super().heading if self.minus or not self._word else f"{self._shown}  {self._word}"

    @property
    def border_room(self) -> int:
        """The cells for the title, which is above the matrix without a border around it."""
        return self.outer_size.width - 2 if self.outer_size.width else 10**6

    @property
    def note_room(self) -> int:
        return max(self.parent.outer_size.width - 6, 0) if isinstance(self.parent, Gates) else super().note_room

    @property
    def in_view(self) -> range:
        """The rows that are shown as numbers: as many as there is room for, from that under the cursor or singled out on."""
        rows, most = self.shape[0], max(self.content_size.height, 1)
        first = self.cursor[0] if self.has_focus else self.row or 0
        first = min(max(first - (most - 1) // 2, 0), max(rows - most, 0))
        return range(first, min(first + most, rows))

    def _entry_form(self, room: Size) -> bool | None:
        return super()._entry_form(room if self.zoomed else Size(min(room.width, self.narrowest), room.height))

    def name_cell(self, row: int, column: int) -> str:
        return f"row {row + 1}, unit {column + 1}" if self.refs is None or len(self.refs(0, 0).index) > 1 else f"row {row + 1}"

    def name_row(self, row: int) -> str:
        return str(row + 1)

    def name_column(self, column: int) -> str:
        return str(column + 1)


#: The rows of a screen on which a value in cells wants two rows, each with two rows of the batch.
_TALL = 56


class Gates(PanelGroup):
    """The values of one layer at this timestep in the order of the data: the state before, gates, candidate, the state; or their
    gradients.

    All are in one row if it is wide enough, otherwise in as few rows as possible. `many` is True if there are too many values to
    show numbers in one row. Values of more units than there is room for numbers are drawn in cells, one below the other, with the
    units sorted by the gate that keeps the old state.
    """

    ABOUT = (
        "The values of the layer at this timestep, in the order in which they are computed: a row for each row of the batch, a "
        "column for each unit."
    )

    BLANK = False  # Textual's name: it has a border

    DEFAULT_CSS = """
    Gates {
        layout: grid;
        grid-size: 5;
        grid-gutter: 0 1;
        border: round $border-blurred;
        border-title-color: $foreground;
        border-subtitle-color: $foreground-muted;
        padding: 0 1;
        &:focus-within { border: round $border; }
        &.-ascii { border: ascii $border-blurred; }
        &.-ascii:focus-within { border: ascii $border; }
        ValueMatrix, ValueMatrix:focus, ValueMatrix.-ascii, ValueMatrix.-ascii:focus {
            width: 1fr; height: 1fr; padding: 0; border: none; border-top: blank $background;
        }
        &.-mapped ValueMatrix, &.-mapped ValueMatrix:focus { border: none; }
    }
    """

    #: The least width and height of a value with its name, in cells.
    LEAST: ClassVar[tuple[int, int]] = (11, 2)
    #: More values than this are put in two rows if the height allows, since one row has no room for their numbers.
    MOST_IN_A_ROW: ClassVar[int] = 6

    def __init__(self, program: Program) -> None:
        super().__init__()
        self._program = program
        self._count = max(
            len(shown_names(program, layer, backward=backward)) for layer in program.layers for backward in (False, True)
        )
        self.many = self._count > self.MOST_IN_A_ROW

    def compose(self) -> ComposeResult:
        names = shown_names(self._program, self._program.main_layer, backward=False)
        for number in range(self._count):
            name = names[min(number, len(names) - 1)]
            yield ValueMatrix(name, id=f"value-{number}")

    @property
    def _matrices(self) -> list[ValueMatrix]:
        return [child for child in self.children if isinstance(child, ValueMatrix)]

    def on_mount(self) -> None:
        self.set_class(palette_of(self.app).glyphs is ASCII, "-ascii")

    def show(self, snapshot: Snapshot, view: View) -> None:
        super().show(snapshot, view)
        names = shown_names(snapshot.program, view.layer_of(snapshot), backward=snapshot.position.phase == "backward")
        self._map(snapshot, len(names))
        order = self._order(snapshot, view) if self._mapped else None
        for number, shown in enumerate(self._matrices):
            shown.display = number < len(names)
            if number < len(names):
                shown.value_name, shown.after, shown.mapped = names[number], number > 0, self._mapped
                shown.show(snapshot, view, order)
        self.caption()

    def caption(self) -> None:
        """Set the texts of the border: what is shown, and the number under the cursor or the notes of heat maps."""
        if self._snapshot is None or not self.is_attached:
            return
        snapshot, glyphs = self._snapshot, palette_of(self.app).glyphs
        noun, start = ("gradients of the gates", "after") if snapshot.position.phase == "backward" else ("gates", "before")
        other = "before" if start == "after" else "after"
        titles = [f"{noun} — from the state {start} to the state {other}", noun, ""]
        if self._mapped and (notes := self._cells_words(snapshot)):
            titles = [
                *(f"{title}, {', '.join(some_notes)}" for title in titles[:2] for some_notes in (notes, notes[:1])),
                *titles[1:],
            ]
        room = self.outer_size.width - 6 if self.outer_size.width else 10**6
        title = transliterate(next(title for title in titles if cell_len(title) <= max(room, 0)), glyphs)
        matrices = self._matrices
        focused = next((matrix for matrix in matrices if matrix.has_focus), None)
        note = (focused or matrices[0]).subheading if matrices else ""
        if self._mapped and focused is None:
            note = self._changed_most(snapshot, room) or note
        note = transliterate(note, glyphs) if cell_len(note) <= room else ""
        if str(self.border_title or "") != title:
            with edge_alone(self):
                self.border_title = Content(title)
        if str(self.border_subtitle or "") != note:
            with edge_alone(self, below=True):
                self.border_subtitle = Content(note)

    def wanted_height(self, snapshot: Snapshot, width: int, *, digits: bool = False, height: int = 0) -> int:
        """Return the outer height at which every value is shown with all its rows, with `digits` also with all its digits, at this
        outer width.

        Values that are too wide for numbers in two lines are summarized, in two rows below their names, unless all their lines
        fit into `height`.
        """
        rows, units, width = snapshot.config.batch_size, snapshot.config.hidden_size, width - self.gutter.width
        across = self._across(width)
        numbered = [count for count in across if self._numbers(units, count, width, compact=not digits)]
        numbered = numbered or [count for count in across if self._numbers(units, count, width, compact=True)]
        fitting = [count for count in across if self._numbers(units, count, width, compact=True, height=height - 2)]
        if not numbered and fitting:
            return -(-self._count // fitting[0]) * (1 + rows) + 2
        if not numbered and self._cells_fit(width, self._count):
            return self._count * min(-(-rows // 2), 2 if self.app.size.height >= _TALL else 1) + 2
        return -(-self._count // (numbered or across)[0]) * (1 + (rows if numbered else 2)) + 2

    # Values in cells

    _mapped = False
    _sorted_by = ""  # the gate, as it is written

    def _cells_fit(self, width: int, height: int) -> bool:
        """Return True if there are colours, and a row of cells for each value."""
        matrices = self._matrices
        return bool(matrices) and matrices[0].coloured and height >= self._count and width >= NAME + LEAST_CELLS

    def _map(self, snapshot: Snapshot, count: int) -> None:
        """Draw the values in cells if there is no room for their numbers; otherwise side by side."""
        width, height = self.content_size
        columns = self._columns(width, height)
        mapped = (
            width > 0
            and not self._numbers(snapshot.config.hidden_size, columns, width, compact=True, height=height)
            and self._cells_fit(width, height)
        )
        columns = 1 if mapped else columns
        units = snapshot.config.hidden_size
        touching, spaced = (
            self._numbers(units, columns, room, compact=True, height=height) for room in (width, width - columns + 1)
        )
        gap = int(spaced or not touching)
        for matrix in self._matrices:
            matrix.narrowest = (width - gap * (columns - 1)) // columns
        if gap != self.styles.grid_gutter_vertical:
            self.styles.grid_gutter_vertical = gap
        if mapped != self._mapped:
            self._mapped = mapped
            self.set_class(mapped, "-mapped")
        if columns != self.styles.grid_size_columns:  # setting the same value again would cause a new layout
            self.styles.grid_size_columns = columns

    def _cells_words(self, snapshot: Snapshot) -> list[str]:
        """Return which rows of the batch are in the cells if not all are, and by what the units are sorted."""
        rows, count = (
            self._matrices[0].rows_in_cells(max(self.content_size.height // max(self._count, 1), 1)),
            snapshot.config.batch_size,
        )
        part = [f"rows {rows[0] + 1}–{rows[-1] + 1} of {count}"] if 1 < len(rows) < count else []
        return [*part, *([f"units sorted by {self._sorted_by}"] if self._sorted_by else [])]

    def _order(self, snapshot: Snapshot, view: View) -> tuple[int, ...] | None:
        """Return the units in the order of the gate that keeps the old state, on average over the rows, the largest first.

        Before it is computed, the gate of the timestep before decides. None if there is no gate.
        """
        program, layer = snapshot.program, view.layer_of(snapshot)
        gates = [name for name in layer.lines if kind_of(program, name) == "unit"]
        named = {word_for(program, layer, name): name for name in gates}
        gate = named.get("update") or named.get("forget") or next(iter(gates), "")
        t, values = snapshot.position.t, None
        for at in (t, t - 1):
            values = snapshot.value(gate, at) if gate and at >= 0 and values is None else values
        self._sorted_by = program.writer.name(gate) if values is not None else ""
        if values is None:
            return None
        return tuple(np.argsort(-np.nan_to_num(np.asarray(values, np.float64)).mean(0), kind="stable").tolist())

    def _changed_most(self, snapshot: Snapshot, room: int) -> str:
        """Return which units the input has changed most in a row, as many as fit; empty before the state is known."""
        program, layer, row = snapshot.program, self._view.layer_of(snapshot), self._view.row or 0
        if snapshot.position.phase != "forward" or not layer.states or snapshot.timestep is None:
            return ""
        state = layer.states[0]
        before, after = snapshot.value(program.model.page.before(state)), snapshot.value(state)
        if before is None or after is None or snapshot.minus:
            return ""
        change = np.nan_to_num(np.abs(np.asarray(after[row], np.float64) - before[row]))
        read, note = read_char(snapshot, row, palette_of(self.app)), ""
        cause = f"“{read}”" if read else "this input"
        for unit in np.argsort(-change, kind="stable")[:4].tolist():
            was, now = (numbers.compact(x[row, unit]).strip() for x in (before, after))
            longer = f"{f'{note},' if note else f'{cause} changed most in row {row + 1}:'} unit {unit + 1} {was} → {now}"
            if cell_len(longer) > room:
                break
            note = longer
        return note

    def on_resize(self, event: events.Resize) -> None:
        if self._snapshot is not None:
            self.show(self._snapshot, self._view)  # the form of the values may be another
        else:
            self.styles.grid_size_columns = self._columns(*self.content_size)

    def _across(self, width: int) -> Sequence[int]:
        """Return how many values can be side by side, the most first."""
        counts = dict.fromkeys(-(-self._count // lines) for lines in range(2 if self.many else 1, self._count + 1))
        return [count for count in counts if count * (self.LEAST[0] + 1) - 1 <= width] or [1]

    def _numbers(self, units: int, across: int, width: int, *, compact: bool, height: int = 0) -> bool:
        """Return True if there is room for the numbers of a row, with so many values side by side without a gap in at most two
        lines, or in as many as fit into `height` with all rows."""
        lines, rows = -(-self._count // across), self._matrices[0].shape[0] if self._matrices else 1
        fits = units * (ENTRIES["signed", compact].width + 1) + 1 <= width // across
        return fits and (lines <= 2 or lines * (1 + rows) <= height)

    def _columns(self, width: int, height: int) -> int:
        """Return how many values are side by side: the most with which all digits, the numbers or at least the names are shown."""
        rows, units = self._matrices[0].shape if self._matrices else (1, 1)
        tall = [count for count in self._across(width) if -(-self._count // count) * self.LEAST[1] <= height]
        for compact in (False, True):
            for count in tall:
                fits = -(-self._count // count) * (1 + rows) <= height
                if fits and self._numbers(units, count, width, compact=compact, height=height):
                    return count
        for count in tall:
            if self._numbers(units, count, width, compact=True):
                return count
        most = max(tall, default=self._count)
        if -(-self._count // most) * (1 + rows) > height > rows and CELL * units < width // self._count:
            return self._count  # rather the tenths of all rows than the shares of a few
        return most


# ------------------------------------------------------------------------------
# The prediction of one timestep: a bar for every possible next character, with the target marked.


_GAP = 2
#: The least width of rows side by side: with bars, and with numbers only.
_BLOCKS = (26, 17)
#: From this width on, the number of a row has its word.
_NAMED = 22
#: From this width on, rows are side by side where they could also stand below each other.
_BESIDE = 60
#: The least number of characters shown of a row: the likeliest and the target.
_FEWEST = 2
_TALLEST = 12  # rows of the panel of many predictions
#: Of more characters than these, rows of which only two have room are lines of numbers; their cells before the likeliest ones.
_MANY = 12
_SAID = 3 + 2 + 5 + 2 + 6 + 2 + 8
#: Rows for what a row of the batch reads and wants, and for the blank before it.
_TOLD = 2


@dataclass(frozen=True)
class _Plan:
    """The layout: the rows shown, how many side by side, the number of characters of each, and blank lines between rows."""

    rows: tuple[int, ...]
    across: int
    count: int
    leading: int


class Softmax(CellPanel):
    """ŷ at the current timestep, a block of bars for each row of the batch.

    If the vocabulary does not fit, only the likeliest characters and the target are shown. If even those do not fit for all rows,
    only the row that is singled out is shown.
    """

    ABOUT = (
        "The prediction at this timestep: the probability of every character to come next, in each row of the batch. The target"
        " is marked. A model without a softmax predicts numbers, which are shown beside their targets."
    )

    COMPARED = Compared.DIFFERENCES

    _full = 1.0

    def reads(self, snapshot: Snapshot, view: View) -> Hashable:
        if not snapshot.program.model.classifies:
            return snapshot, view
        names = snapshot.program.loss_names.prediction, snapshot.program.input, "target"
        values = (snapshot.value(name) for name in names if name)
        return snapshot.position.t, view.row, self.is_fresh(snapshot), contents(*values)

    def titles(self, snapshot: Snapshot) -> Titles:
        if not snapshot.program.model.classifies:
            return Titles(panels.imported.title(snapshot), place=f"t {snapshot.position.t + 1}" if snapshot.program.target else "")
        plan = self._plan(snapshot, self.content_size.width, self.content_size.height)
        note = None
        if self._in_rows(snapshot, plan, self.content_size.width):
            note = f"surprise: −log chance, of {snapshot.config.vocab_size} possible"
        elif plan.count < snapshot.config.vocab_size:
            which = f"the {plan.count} that differ most" if snapshot.minus else f"the likeliest {plan.count}"
            note = f"{which} of {snapshot.config.vocab_size}"
        elif plan.across > 1 and snapshot.value("target") is not None:  # one beside another has no room for the word at its bar
            noun = "what the text has next" if snapshot.config.source.can(Ability.TEXT) else "the target"
            note = f"{self.palette.glyphs.target_end} {noun}"
        name = snapshot.program.writer.name(snapshot.program.loss_names.prediction)
        title = f"{name} − {name} {snapshot.minus}" if snapshot.minus else f"{name} — what comes next"
        return Titles(title, note, f"t {snapshot.position.t + 1}")

    def wanted_height(self, snapshot: Snapshot, width: int) -> int:
        if not snapshot.program.target:  # the difference from the expected output, of this timestep and the one before
            return min(snapshot.config.seq_length, 2) + 2
        lines = -(-snapshot.config.batch_size // max(min((width - 4 + _GAP) // (_BLOCKS[1] + _GAP), 2), 1))
        tallest = min(lines * (snapshot.config.vocab_size + 1) + 1, _TALLEST)
        room = width - self.gutter.width
        if tallest == _TALLEST and self._in_rows(snapshot, self._plan(snapshot, room, tallest - 2), room):
            return min(snapshot.config.batch_size + 3, tallest)  # the heads of its columns, and a border
        return tallest

    def is_fresh(self, snapshot: Snapshot) -> bool:
        target, line = snapshot.program.target, snapshot.line
        return bool(target) and line is not None and line.target == snapshot.program.loss_names.prediction

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        palette = self.palette
        if not snapshot.program.model.classifies:
            return panels.imported.beside_targets(palette, snapshot, width, height)
        plan = self._plan(snapshot, width, height)
        if self._in_rows(snapshot, plan, width):
            return from_rows(self._rows(snapshot, width, height))
        self._full = scale_of(snapshot.value(snapshot.program.loss_names.prediction)) if snapshot.minus else 1.0
        lines = [plan.rows[i : i + plan.across] for i in range(0, len(plan.rows), plan.across)]
        values, targets = snapshot.value(snapshot.program.loss_names.prediction), snapshot.value("target")
        captioned = targets is not None and len(lines) * (plan.count + _TOLD + 1) - 1 <= height  # in rows that would be blank
        tall = plan.count + plan.leading + _TOLD * captioned

        @cache
        def drawn(line: int) -> Box:
            block_width = (width - _GAP * (plan.across - 1)) // plan.across
            blocks = (
                self._block(
                    snapshot,
                    row,
                    None if values is None else values[row],
                    None if targets is None else targets[row],
                    plan.count,
                    block_width,
                    alone=plan.across == 1,
                    captioned=captioned,
                )
                for row in lines[line]
            )
            return clip(palette, in_columns(*blocks, gap=_GAP), width, tall)

        def draw(index: int) -> SegmentRow:
            line, row = divmod(index, tall)
            return drawn(line).rows[row] if row < drawn(line).height else ()

        return Box(RowsOnDemand(len(lines) * tall - plan.leading, draw), width)

    def _in_rows(self, snapshot: Snapshot, plan: _Plan, width: int) -> bool:
        """Return True if there is no room for more than two bars a row of the batch, and numbers in a line for each say more."""
        few = plan.count <= _FEWEST and snapshot.config.vocab_size > _MANY and width >= _SAID and len(plan.rows) > 1
        return few and snapshot.program.model.is_cross_entropy and not snapshot.minus and snapshot.value("target") is not None

    def _rows(self, snapshot: Snapshot, width: int, height: int) -> list[SegmentRow]:
        """Draw a line for each row of the batch: the target, its chance and its surprise, and the likeliest characters."""
        palette, vocabulary, name = self.palette, snapshot.config.vocabulary, snapshot.program.loss_names.prediction
        y_hat, targets, batch = snapshot.value(name), snapshot.value("target"), snapshot.config.batch_size
        # The chance of a character may be 0 in its type where the logarithm that the loss takes is a number.
        log_chances = snapshot.value(snapshot.program.loss_names.row)
        guesses = max(min((width - _SAID) // (widest(vocabulary) + 9), 3), 0)
        heads = (TableColumn("row", gap=0, size=4), TableColumn("wants", gap=1, size=5), TableColumn("chance", fill=True, size=6))
        columns = (*heads, TableColumn("surprise", right=True), *(TableColumn("" if k else "it says") for k in range(guesses)))
        shown, rows = window(batch, height - 1, self._view.row), list[list[SegmentRow]]()
        for i, number in zip(shown, named_rows(shown, batch, palette.glyphs.vertical_ellipsis, ""), strict=True):
            ink = palette.dim if self._view.row not in (None, i) else palette.plain
            rows.append([styled_row(palette, (number, palette.dim))])
            if i is not None:
                rows[-1].append(styled_row(palette, (written_char(targets[i], palette.glyphs), palette.target)))
            if i is not None and y_hat is not None:
                target = vocabulary.index(targets[i])
                chance = float(y_hat[i, target])
                tint = ink if ink is palette.dim else palette.unit(chance)
                rows[-1].append((Cell.of(numbers.unit(chance), tint, Ref(name, (i, target))),))
                surprise = -log_chances[i] if log_chances is not None else -math.log(chance) if chance else None
                rows[-1].append(styled_row(palette, (palette.glyphs.blank if surprise is None else numbers.plain(surprise), ink)))
                for k in np.argsort(-np.nan_to_num(y_hat[i]), kind="stable")[:guesses].tolist():
                    char = Segment(f"{written_char(vocabulary[k], palette.glyphs)} ", palette.strong if k == target else ink)
                    rows[-1].append((char, Cell.of(numbers.unit(y_hat[i, k]), ink, Ref(name, (i, k)))))
            elif i is not None:
                rows[-1].append(styled_row(palette, (palette.glyphs.blank, palette.blank)))
            rows[-1] += [()] * (len(columns) - len(rows[-1]))
        above, *body = table(palette, rows, columns, width)
        if 2 * len(body) > height:
            return [above, *body]
        return [above, *body[:1], *(row for drawn in body[1:] for row in ((), drawn))]  # a blank row between them

    def _block(
        self,
        snapshot: Snapshot,
        row: int,
        y_hat: AnyArray | None,
        char: str | None,
        count: int,
        width: int,
        *,
        alone: bool,
        captioned: bool,
    ) -> Box:
        """Draw a row of the batch: its number and its bars, with the target `char`; below, if `captioned`, what it reads and
        wants."""
        palette, vocabulary = self.palette, snapshot.config.vocabulary
        target = None if char is None else vocabulary.index(char)
        shown = _shown(y_hat, target, count, len(vocabulary))
        labels = [palette.glyphs.blank if i is None else written_char(vocabulary[i], palette.glyphs) for i in shown]
        labels[0] = " " * (widest(vocabulary) - cell_len(labels[0])) + labels[0]  # such that bars are aligned in all rows
        number = str(row + 1).rjust(len(str(snapshot.config.batch_size)))
        name = text_box(palette, f"row {number}" if width >= _NAMED else number, palette.dim)
        drawn = bars(
            palette,
            None if y_hat is None else [float(y_hat[i]) for i in shown if i is not None],
            labels,
            width - name.width - 1,
            target=None if target is None else shown.index(target),
            fresh=self.is_fresh(snapshot),
            word=alone,
            refs=[Ref(snapshot.program.loss_names.prediction, (row, i)) for i in shown if i is not None],
            full=self._full,
            write=numbers.wide if snapshot.minus else numbers.unit,
            signed=bool(snapshot.minus),
        )
        if captioned and char is not None:
            read = read_char(snapshot, row, palette)
            wants = f"wants {written_char(char, palette.glyphs)}"
            forms = (f"reads {read}, {wants}" if read else wants), wants, ""
            words = next(words for words in forms if cell_len(words) <= max(width - name.width - 1, 0))
            drawn = replace(vstack(drawn, text_box(palette, words, palette.dim), gap=_TOLD - 1), axis=drawn.axis)
        block = hstack(name, drawn)
        return quieted(palette, block) if self._view.row not in (None, row) else block

    def _plan(self, snapshot: Snapshot, width: int, height: int) -> _Plan:
        rows, vocabulary = tuple(range(snapshot.config.batch_size)), snapshot.config.vocab_size
        across = max(min(len(rows), (width + _GAP) // (_BLOCKS[0] + _GAP)), 1)
        height = self.canvas(width, height, lambda: Size(0, -(-len(rows) // across) * (vocabulary + 1))).height
        most = [max(min(len(rows), (width + _GAP) // (block + _GAP)), 1) for block in _BLOCKS]
        for across in range(min(2, most[0]) if width >= _BESIDE else 1, max(most) + 1):
            lines = -(-len(rows) // across)
            if lines * vocabulary <= height:
                return _Plan(rows, across, vocabulary, leading=int(lines * (vocabulary + 1) - 1 <= height))
        plans = [_Plan(rows, across, *_fitting(height, -(-len(rows) // across))) for across in most]
        if self._view.row is None and self._in_rows(snapshot, plans[0], width):
            return plans[0]
        if (plan := max(plans, key=lambda plan: plan.count)).count >= _FEWEST:  # with bars where that costs no character
            return plan
        if self._view.row is not None:
            return _Plan((self._view.row,), 1, min(max(height, 1), vocabulary), 0)
        return _Plan(rows, max(most), min(_FEWEST, vocabulary, max(height, 1)), 0)


def _fitting(height: int, lines: int) -> tuple[int, int]:
    """Return how many characters of each row fit in so many lines of rows, and the blank rows between the lines."""
    count = (height + 1) // lines - 1
    return (count, 1) if count >= max(height // lines, _FEWEST) else (height // lines, 0)


def _shown(y_hat: AnyArray | None, target: int | None, count: int, vocabulary: int) -> list[int | None]:
    """Return the indices of the characters to show: all, or the likeliest (largest if differences) including the target.

    Before ŷ is computed, the target alone stands for the likeliest; None if it is not known either.
    """
    if count >= vocabulary:
        return list(range(vocabulary))
    if y_hat is None:
        return [target]
    likeliest: list[int | None] = np.argsort(-np.abs(y_hat), kind="stable")[:count].tolist()
    if target is not None and target not in likeliest:
        likeliest[-1] = target
    return likeliest


# ------------------------------------------------------------------------------
# The terms of the loss of this batch, as far as they are computed.


def read_char(snapshot: Snapshot, row: int, palette: Palette) -> str:
    """Return the character that a row of the batch reads at this timestep; empty if the model reads none."""
    name, vocabulary = snapshot.program.input, snapshot.corpus.vocabulary if snapshot.config.source.can(Ability.TEXT) else ""
    if not name or not vocabulary:
        return ""
    return written_char(vocabulary[snapshot.record.ids(name)[snapshot.position.t, row]], palette.glyphs)


#: Cells for a timestep and before the first, as many as the name of a row needs, and the least for words beside the table.
_TERM, _NAMES, _WORDS = 8, 6, 14
#: Rows of the table besides the rows of the batch: its heads and ③.
_FIXED = 2


class LossTerms(CellPanel):
    """① of this timestep, ② and ③ of every timestep as a table, and the loss. Terms that are not computed yet are blank."""

    ABOUT = "How the loss is computed from the predictions, term by term. In a cross-entropy, only the target of each row counts."

    COMPARED = Compared.DIFFERENCES

    def reads(self, snapshot: Snapshot, view: View) -> Hashable:
        names, position = snapshot.program.loss_names, snapshot.position
        if not (names.entry and names.row and names.timestep):
            return snapshot, view
        values = (snapshot.value(name) for name in (names.entry, names.prediction, "loss"))
        row_terms = (snapshot.value(name, t) for t in range(snapshot.config.seq_length) for name in (names.row, names.timestep))
        fresh = snapshot.line is not None and snapshot.line.target if self.is_fresh(snapshot) else None
        targets = snapshot.record.array(snapshot.program.target)[position.t]
        return position.t, view.row, fresh, contents(targets, *values, *row_terms)

    def titles(self, snapshot: Snapshot) -> Titles:
        title = f"terms of the loss − {snapshot.minus}" if snapshot.minus else "loss, term by term"
        if not snapshot.program.target:
            title = panels.imported.loss_title(snapshot)
            return Titles(title, place=f"t {snapshot.position.t + 1}")
        loss = snapshot.value("loss")
        return Titles(title, "loss · not yet" if loss is None else f"loss {numbers.plain(loss)}", f"t {snapshot.position.t + 1}")

    def is_fresh(self, snapshot: Snapshot) -> bool:
        return snapshot.line is not None and snapshot.line.target in (*snapshot.program.loss_names[1:], "loss")

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        width, height = self.canvas(width, height, partial(table_size, snapshot))
        return clip(self.palette, terms(self.palette, snapshot, self._view.row, width, height), width, height)


def table_size(snapshot: Snapshot) -> Size:
    """Return the size of the table with all timesteps and rows, of ① above it and the loss below it, in cells."""
    config = snapshot.config
    return Size(_NAMES + 2 + _TERM * config.seq_length + 3 * _WORDS, config.batch_size + _FIXED + 4)


def terms(palette: Palette, snapshot: Snapshot, row: int | None, width: int, height: int) -> Box:
    """Draw the terms of the loss in this size, with a batch row singled out; of a model without them, what is known instead."""
    names = snapshot.program.loss_names
    if not names.entry or not names.row or not names.timestep:
        return panels.imported.about_gradients(palette, snapshot, width, height)
    return TermWriter(palette, snapshot, row).drawn(width, height)


class TermWriter(NamedTuple):
    """Draws ② of every row and timestep as a table with ③ below; if there is room, also ① of this timestep and the loss."""

    palette: Palette
    snapshot: Snapshot
    row: int | None

    @property
    def names(self) -> LossNames:
        return self.snapshot.program.loss_names

    def drawn(self, width: int, height: int) -> Box:
        palette, config, t = self.palette, self.snapshot.config, self.snapshot.position.t
        badge = self._badge()
        room = max(height - badge.height, 1)
        heads = room >= _FIXED + 1
        rows = window(config.batch_size, room - _FIXED, self.row) if heads else range(0)
        names = named_rows(rows, config.batch_size, palette.glyphs.vertical_ellipsis)
        label = max([_NAMES, len(f"row {config.batch_size}"), *map(len, names)])
        steps = window(config.seq_length, (width - label) // _TERM, t)
        if len(steps) < config.seq_length:  # with an ellipsis at the end
            steps = window(config.seq_length, (width - label - 2) // _TERM, t)
        written = []
        for i, name in zip(rows, names, strict=True):
            ink = palette.strong if i == self.row else palette.dim
            written.append(self._line((name, ink), [self._row_term(i, t) for t in steps], label))
        words = width - label - _TERM * len(steps)
        if words >= _WORDS and written:
            suffix = " log chance" if self._log and words > _WORDS else ""
            written[0] = (*written[0], *styled_row(palette, (f"   {self._written(self.names.row)}{suffix}", palette.dim)))
        third = self._line((self._written(self.names.timestep), palette.strong), [self._timestep_term(t) for t in steps], label)
        if words >= _WORDS:
            third = (*third, *styled_row(palette, ("   −their mean" if self._log else "   their mean", palette.dim)))
        lines = [self._heads(steps, label), *written, third] if heads else [third]
        spare = room - len(lines)
        if spare > 0:
            lines.append(self._loss(width))
        if spare > 1:
            lines.insert(0, self._entries(width, label))
        if spare > 2:
            lines.insert(1, ())
        return vstack(from_rows(lines), badge)

    # The table

    @property
    def _log(self) -> bool:
        """True if ② is the logarithm of a probability, which is negative."""
        return self.snapshot.program.model.is_cross_entropy

    def _written(self, name: str) -> str:
        return self.snapshot.program.writer.name(name)

    def _line(self, name: tuple[str, Style], cells: list[SegmentRow], label: int) -> SegmentRow:
        """Draw a row of the table: each cell at the right of its column."""
        [head] = styled_row(self.palette, name)
        blank = Segment(" " * (label - cell_len(head.text)))
        return (head, blank, *(segment for cell in cells for segment in (Segment(" " * (_TERM - row_width(cell))), *cell)))

    def _heads(self, steps: range, label: int) -> SegmentRow:
        palette, current = self.palette, self.snapshot.timestep
        cells = [styled_row(palette, (f"t {t + 1}", palette.accent if t == current else palette.dim)) for t in steps]
        ends = steps.start > 0, steps.stop < self.snapshot.config.seq_length
        before, after = (palette.glyphs.ellipsis if cut else "" for cut in ends)
        return (*self._line((before, palette.dim), cells, label), *styled_row(palette, (f" {after}" if after else "", palette.dim)))

    def _row_term(self, i: int, t: int) -> SegmentRow:
        """Draw ② of a row at a timestep, on a colour that says its size."""
        palette, name = self.palette, self.names.row
        values = self.snapshot.value(name, t)
        if values is None:
            return (Cell.of(palette.glyphs.blank.rjust(3), palette.blank, Ref(name, (i,), t)), Segment("  "))
        value = float(values[i])
        style = entry_style(palette, "signed", value, self._scale)
        if self.row not in (None, i):
            style = palette.quiet(style)
        elif self._fresh(name) and t == self.snapshot.position.t:
            style = palette.fresh(style)
        return (Cell.of(numbers.plain(value).rjust(_TERM - 2), style, Ref(name, (i,), t)),)

    @property
    def _scale(self) -> float:
        """The size of the strongest colour: twice the loss of a guess, or the scale of the values where there is no guess."""
        if self._log and not self.snapshot.minus:
            return 2 * math.log(max(self.snapshot.config.sizes["V"], 2))
        return scale_of(self.snapshot.value(self.names.row))

    def _timestep_term(self, t: int) -> SegmentRow:
        number = self._number(self.names.timestep, t, fresh=t == self.snapshot.position.t)
        return (number,) if isinstance(number, Cell) else (number, Segment("  "))

    # ① above the table, and the loss below it

    def _entries(self, width: int, label: int) -> SegmentRow:
        """Draw the entries of ① that count, of as many rows as fit: in a cross-entropy those of the targets."""
        palette, name, snapshot = self.palette, self.names.entry, self.snapshot
        values, t, row = snapshot.value(name), snapshot.position.t, self.row or 0
        head = styled_row(
            palette, (f"{self._written(name)} t {t + 1}".ljust(label), palette.accent if self._fresh(name) else palette.dim)
        )
        if self._log:
            targets, vocabulary = snapshot.record.ids(snapshot.program.target)[t].tolist(), snapshot.corpus.vocabulary
            entries = [(i, targets[i], written_char(vocabulary[targets[i]], palette.glyphs)) for i in range(len(targets))]
            entries = entries[row:] + entries[:row]
        else:
            entries = [(row, j, "") for j in range(snapshot.config.sizes["V"])]
        cells, used = list[Segment](), row_width(head)
        for i, j, char in entries:
            shown = palette.glyphs.blank if values is None else numbers.plain(values[i, j])
            used += 2 + cell_len(f"{char} {shown}")
            if used > width:
                break
            ink = palette.blank if values is None else palette.accent if self._fresh(name) else palette.plain
            cells += [Segment(f"  {char} ", palette.dim), Cell.of(shown, ink, Ref(name, (i, j)))]
        return (*head, *cells)

    def _loss(self, width: int) -> SegmentRow:
        palette, writer, fresh = self.palette, self.snapshot.program.writer, self._fresh("loss")
        match self.snapshot.program.lines["loss"].formula:
            case Reduce(argument=Name(name=timestep), kind="mean"):
                words = f"mean of {writer.name(timestep)}"
            case formula:
                words = writer.text(formula) if formula is not None else ""
        name = ("loss", palette.accent if fresh else palette.plain)
        row = styled_row(palette, name, (f" = {words} = ", palette.dim), self._number("loss", None, fresh=fresh))
        if not self._log or self.snapshot.minus:
            return row
        guess = numbers.plain(math.log(max(self.snapshot.config.sizes["V"], 2)))
        more = styled_row(palette, (f"   a blind guess costs {guess}", palette.dim))
        return (*row, *more) if row_width((*row, *more)) <= width else row

    def _badge(self) -> Box:
        """Return a warning if the code of the tutorial would compute another value than ①.

        ① comes from the argument of the softmax, and stays finite with it.
        """
        predicted = self.snapshot.value(self.names.prediction)
        if predicted is not None and predicted.all() and np.isfinite(predicted).all():
            return EMPTY  # the logarithm of such numbers is finite
        term, program = self.snapshot.tutorial_term1, self.snapshot.program
        if term is None or np.isfinite(term).all():
            return EMPTY
        entry, prediction = program.lines[self.names.entry], program.writer.name(self.names.prediction)
        values = self.snapshot.value(self.names.entry)
        if values is not None and np.isfinite(values).all():
            formula = program.lines[self.names.prediction].formula
            argument = program.writer.text(formula.argument) if isinstance(formula, Apply) else "what softmax reads"
            words = f"{prediction} is 0: {program.writer.name(self.names.entry)} comes from {argument}, not {prediction}"
        else:
            cause = f"{prediction} is 0" if predicted is not None and np.isfinite(predicted).all() else f"nor is {prediction}"
            words = f"{entry.text.partition(' = ')[2]} is not finite: {cause}"
        return text_box(self.palette, f"{self.palette.glyphs.not_finite} {words}", self.palette.warning)

    def _fresh(self, name: str) -> bool:
        """Return True if the line just executed has computed the term."""
        return self.snapshot.line is not None and self.snapshot.line.target == name

    def _number(self, name: str, t: int | None, *, fresh: bool) -> Segment:
        palette, value = self.palette, self.snapshot.value(name, t)
        if value is None:
            return Segment(palette.glyphs.blank, palette.blank)
        style = palette.accent if fresh and self._fresh(name) else palette.strong if value else palette.dim
        return Cell.of(numbers.plain(value), style if math.isfinite(value) else palette.warning, Ref(name, (), t))
