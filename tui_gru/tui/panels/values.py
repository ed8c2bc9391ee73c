"""The values of a timestep: gates, prediction, terms of the loss; and the samples."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from itertools import pairwise
from textwrap import fill
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import ComposeResult
from textual.content import Content
from textual.geometry import Size

from tui_gru.analysis.summaries import limits_of
from tui_gru.debugger.position import place_name, position_of
from tui_gru.debugger.program import LossNames, Program
from tui_gru.engine import numbers
from tui_gru.engine.config import token_word
from tui_gru.engine.numbers import given
from tui_gru.equations.page import Layer
from tui_gru.equations.syntax import Name, Reduce, split
from tui_gru.session.snapshot import Snapshot, View
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
    columns,
    from_rows,
    hstack,
    line,
    quieted,
    refs_of,
    row_width,
    table,
    text,
    vstack,
)
from tui_gru.tui.keys import with_keys
from tui_gru.tui.matrix import LEAST_CELLS, NAME, MatrixView
from tui_gru.tui.panel import CellPanel, Compared, PanelGroup, SnapshotPanel, Titles, contents
from tui_gru.tui.theme import ASCII, Palette, folded, palette_of, transliterate, widest, written_char
from tui_gru.tui.written import ENTRIES, AnyArray, EntryFormat, entry_style, kind_of, named_rows, scale_of, shown_indices

if TYPE_CHECKING:
    from tui_gru.engine.sampling import Sample

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
    found: dict[str, None] = {}

    def visit(target: str) -> None:
        for name in sorted(dict.fromkeys(reads.get(target, ())), key=lambda name: -depths[name]):
            visit(name)
        found[target] = None

    for target in reversed(layer.lines):
        if target not in found:
            visit(target)
    return list(found)


def word_for(program: Program, layer: Layer, name: str) -> str:
    """Return a word for a value: the label of its line (update, reset), or its role as a state; empty if there is none."""
    page = program.model.page
    if name in layer.states:
        return "state" if len(layer.states) == 1 else f"state {program.writer.name(name)}"
    if state := next((state for state in layer.states if name == page.before(state)), ""):
        return "after" if page.states[state].backwards else "before"
    if any(name == page.received(state) for state in layer.states):
        return "from later"
    return next((line.label for line in page.lines if line.target == name), "")


class ValueMatrix(MatrixView):
    """A recorded value of shape (B, H) at the current timestep; dots until its line has been executed."""

    ABOUT = "A value of the layer at this timestep: a row of the matrix for each row of the batch, a column for each unit."

    def __init__(self, value_name: str, *, id: str) -> None:
        super().__init__(id=id)
        self.value_name, self.minus, self._shown, self._word = value_name, "", value_name, ""
        self.after = False  # True for a value after another one in its row

    def show(self, snapshot: Snapshot, view: View, order: tuple[int, ...] | None = None) -> None:
        """Show the value; `order` is that of its units if it is mapped."""
        program, name, self.minus = snapshot.program, self.value_name, snapshot.minus
        self._shown, self._word = program.writer.name(name), word_for(program, view.layer_of(snapshot), name)
        self.refs = refs_of(program, name)
        self._ordering.follow(order)
        bounded = program.ranges.get(name) == (-1, 1)  # a common scale, such that colours are comparable
        limits = None if self.minus else limits_of(program, name)
        self.show_array(
            snapshot.value(name),
            kind="signed" if self.minus else kind_of(program, name),
            shape=(snapshot.config.batch_size, snapshot.config.hidden_size),
            scale=1.0 if bounded and not self.minus else None,
            fresh=snapshot.line is not None and snapshot.line.target == name,
            row=view.row,
            limits=limits,
            named=(self._shown, self._word, self.minus, order, self.mapped),
        )

    def caption(self) -> None:
        """Set the title: the name, with a word or the compared branch if there is room."""
        name, word = self._shown, self._word
        if self.minus:
            titles = [f"{name} − {name} {self.minus}", f"{name} − {self.minus}", f"{name} −…"]
        else:
            without_layer = split(name)[0]  # all beside this one are of the same layer
            words = (f"  {word}", f" {word}", f" {word[:4]}.", f" {word[:3]}.") if word else ()
            titles = [*(f"{name}{each}" for each in words), name, name.replace("_reverse", "←"), without_layer]
        arrow, glyphs = "→ " if self.after else "", self.palette.glyphs
        titles, room = [f"{arrow}{title}" for title in titles], NAME - 1 if self.form == "cells" else self.border_room
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
        return self.outer_size.width - 4 if self.outer_size.width else 10**6

    def name_cell(self, row: int, column: int) -> str:
        return f"row {row + 1}, unit {column + 1}"

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
        ValueMatrix, ValueMatrix:focus { width: 1fr; height: 1fr; padding: 0; border: none; border-top: blank $background; }
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
        what, way = ("gradients of the gates", "after") if snapshot.position.phase == "backward" else ("gates", "before")
        other = "before" if way == "after" else "after"
        titles = [f"{what} — from the state {way} to the state {other}", what, ""]
        if self._mapped and (notes := self._cells_words(snapshot)):
            titles = [*(f"{title}, {', '.join(each)}" for title in titles[:2] for each in (notes, notes[:1])), *titles[1:]]
        room = self.outer_size.width - 6 if self.outer_size.width else 10**6
        title = transliterate(next(title for title in titles if cell_len(title) <= max(room, 0)), glyphs)
        matrices = self._matrices
        focused = next((each for each in matrices if each.has_focus), None)
        note = (focused or matrices[0]).subheading if matrices else ""
        if self._mapped and focused is None:
            note = self._changed_most(snapshot, room) or note
        note = transliterate(note, glyphs) if cell_len(note) <= room else ""
        if str(self.border_title or "") != title:
            self.border_title = Content(title)
        if str(self.border_subtitle or "") != note:
            self.border_subtitle = Content(note)

    def wanted(self, snapshot: Snapshot, width: int) -> int:
        """Return the outer height at which every value is shown with all its rows, at this outer width.

        Values that are too wide for numbers are summarized, in two rows below their names.
        """
        width -= self.gutter.width
        columns = self._columns(width, 10**6)
        numbers_fit = self._numbers_fit(snapshot, width // columns)
        if not numbers_fit and self._cells_fit(width, self._count):
            return self._count * min(-(-snapshot.config.batch_size // 2), 2 if self.app.size.height >= _TALL else 1) + 2
        return -(-self._count // columns) * (1 + (snapshot.config.batch_size if numbers_fit else 2)) + 2

    # Values in cells

    _mapped = False
    _sorted_by = ""  # the gate, as it is written

    @staticmethod
    def _numbers_fit(snapshot: Snapshot, width: int) -> bool:
        return snapshot.config.hidden_size * (ENTRIES["signed", True].width + 1) < width

    def _cells_fit(self, width: int, height: int) -> bool:
        """Return True if there are colours, and a row of cells for each value."""
        matrices = self._matrices
        return bool(matrices) and matrices[0].coloured and height >= self._count and width >= NAME + LEAST_CELLS

    def _map(self, snapshot: Snapshot, count: int) -> None:
        """Draw the values in cells if there is no room for their numbers; otherwise side by side."""
        width, height = self.content_size
        columns = self._columns(width, height)
        mapped = width > 0 and not self._numbers_fit(snapshot, width // columns) and self._cells_fit(width, height)
        columns = 1 if mapped else columns
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

        Before it is computed, that of the timestep before decides. None if there is no gate.
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
        what = "this input"
        if program.input and kind_of(program, program.input) == "onehot" and (vocabulary := snapshot.corpus.vocabulary):
            read = vocabulary[snapshot.record.ids(program.input)[snapshot.position.t, row]]
            what = f"“{written_char(read, palette_of(self.app).glyphs)}”"
        note = ""
        for unit in np.argsort(-change, kind="stable")[:4].tolist():
            was, now = (numbers.compact(x[row, unit]).strip() for x in (before, after))
            longer = f"{f'{note},' if note else f'{what} changed most in row {row + 1}:'} unit {unit + 1} {was} → {now}"
            if cell_len(longer) > room:
                break
            note = longer
        return note

    def on_resize(self, event: events.Resize) -> None:
        if self._snapshot is not None:
            self.show(self._snapshot, self._view)  # the form of the values may be another
        else:
            self.styles.grid_size_columns = self._columns(*self.content_size)

    def _columns(self, width: int, height: int) -> int:
        least_width, least_height = self.LEAST
        for lines in range(max(min(2, height // least_height), 1) if self.many else 1, self._count + 1):
            columns = -(-self._count // lines)
            if columns * (least_width + 1) - 1 <= width and lines * least_height <= height:
                return columns
        return self._count


# ------------------------------------------------------------------------------
# The prediction of one timestep: a bar for every possible next character, with the target marked.


_GAP = 2
#: The least width of rows side by side: with bars, and with numbers only.
_BLOCKS = (26, 17)
#: From this width on, rows are side by side where they could also stand below each other.
_BESIDE = 60
#: The least number of characters shown of a row: the likeliest and the target.
_FEWEST = 2
#: Of more characters than these, rows of which only two have room are lines of numbers; their cells before the likeliest ones.
_MANY = 12
_SAID = 3 + 2 + 5 + 2 + 6 + 2 + 8


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
        values = (snapshot.value(name) for name in (snapshot.program.loss_names.prediction, "target"))
        return snapshot.position.t, view.row, self.is_fresh(snapshot), contents(*values)

    def titles(self, snapshot: Snapshot) -> Titles:
        if not snapshot.program.model.classifies:
            from tui_gru.tui.panels import imported

            return Titles(imported.title(snapshot), place=f"t {snapshot.position.t + 1}" if snapshot.program.target else "")
        plan = self._plan(snapshot, self.content_size.width, self.content_size.height)
        note = None
        if self._in_rows(snapshot, plan, self.content_size.width):
            note = f"surprise: −log chance, of {snapshot.config.vocab_size} possible"
        elif plan.count < snapshot.config.vocab_size:
            which = f"the {plan.count} that differ most" if snapshot.minus else f"the likeliest {plan.count}"
            note = f"{which} of {snapshot.config.vocab_size}"
        name = snapshot.program.writer.name(snapshot.program.loss_names.prediction)
        title = f"{name} − {name} {snapshot.minus}" if snapshot.minus else f"{name}  softmax"
        return Titles(title, note, f"t {snapshot.position.t + 1}")

    def wanted(self, snapshot: Snapshot, width: int) -> int:
        lines = -(-snapshot.config.batch_size // max(min((width - 4 + _GAP) // (_BLOCKS[1] + _GAP), 2), 1))
        return min(lines * (snapshot.config.vocab_size + 1) + 1, 12)

    def is_fresh(self, snapshot: Snapshot) -> bool:
        target, line = snapshot.program.target, snapshot.line
        return bool(target) and line is not None and line.target == snapshot.program.loss_names.prediction

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        palette = self.palette
        if not snapshot.program.model.classifies:
            from tui_gru.tui.panels import imported

            return imported.beside_targets(palette, snapshot, width, height)
        plan = self._plan(snapshot, width, height)
        if self._in_rows(snapshot, plan, width):
            return from_rows(self._rows(snapshot, width, height))
        self._full = scale_of(snapshot.value(snapshot.program.loss_names.prediction)) if snapshot.minus else 1.0
        lines = [plan.rows[i : i + plan.across] for i in range(0, len(plan.rows), plan.across)]
        tall = plan.count + plan.leading
        values, targets = snapshot.value(snapshot.program.loss_names.prediction), snapshot.value("target")

        @cache
        def drawn(line: int) -> Box:
            each = (width - _GAP * (plan.across - 1)) // plan.across
            blocks = (
                self._block(
                    snapshot,
                    row,
                    None if values is None else values[row],
                    None if targets is None else targets[row],
                    plan.count,
                    each,
                    alone=plan.across == 1,
                )
                for row in lines[line]
            )
            return clip(palette, columns(*blocks, gap=_GAP), width, tall)

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
        said = max(min((width - _SAID) // (widest(vocabulary) + 9), 3), 0)
        heads = (TableColumn("row", gap=0, size=4), TableColumn("wants", gap=1, size=5), TableColumn("chance", fill=True, size=6))
        columns = (*heads, TableColumn("surprise", right=True), *(TableColumn("" if k else "it says") for k in range(said)))
        shown, rows = shown_indices(batch, max(height - 1, 1), self._view.row), list[list[SegmentRow]]()
        for i, number in zip(shown, named_rows(shown, batch, palette.glyphs.vertical_ellipsis, ""), strict=True):
            ink = palette.dim if self._view.row not in (None, i) else palette.plain
            rows.append([line(palette, (number, palette.dim))])
            if i is not None:
                rows[-1].append(line(palette, (written_char(targets[i], palette.glyphs), palette.target)))
            if i is not None and y_hat is not None:
                target = vocabulary.index(targets[i])
                chance = float(y_hat[i, target])
                tint = ink if ink is palette.dim else palette.unit(chance)
                rows[-1].append((Cell.of(numbers.unit(chance), tint, Ref(name, (i, target))),))
                rows[-1].append(line(palette, (numbers.plain(-math.log(chance) if chance > 0 else math.inf), ink)))
                for k in np.argsort(-np.nan_to_num(y_hat[i]), kind="stable")[:said].tolist():
                    char = Segment(f"{written_char(vocabulary[k], palette.glyphs)} ", palette.strong if k == target else ink)
                    rows[-1].append((char, Cell.of(numbers.unit(y_hat[i, k]), ink, Ref(name, (i, k)))))
            elif i is not None:
                rows[-1].append(line(palette, (palette.glyphs.blank, palette.blank)))
            rows[-1] += [()] * (len(columns) - len(rows[-1]))
        return table(palette, rows, columns, width)

    def _block(
        self, snapshot: Snapshot, row: int, y_hat: AnyArray | None, char: str | None, count: int, width: int, *, alone: bool
    ) -> Box:
        """Draw a row of the batch: its number and its bars, with the target `char`."""
        palette, vocabulary = self.palette, snapshot.config.vocabulary
        target = None if char is None else vocabulary.index(char)
        shown = _shown(y_hat, target, count, len(vocabulary))
        labels = [palette.glyphs.blank if i is None else written_char(vocabulary[i], palette.glyphs) for i in shown]
        labels[0] = " " * (widest(vocabulary) - cell_len(labels[0])) + labels[0]  # such that bars are aligned in all rows
        number = str(row + 1).rjust(len(str(snapshot.config.batch_size)))
        name = text(palette, f"row {number}" if width >= _BLOCKS[0] else number, palette.dim)
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
        for across in most:
            lines = -(-len(rows) // across)
            count = (height + 1) // lines - 1
            leading = int(count >= _FEWEST)
            count = count if leading else height // lines
            if count >= _FEWEST:
                return _Plan(rows, across, count, leading)
        if self._view.row is not None:
            return _Plan((self._view.row,), 1, min(max(height, 1), vocabulary), 0)
        return _Plan(rows, max(most), min(_FEWEST, vocabulary), 0)


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


#: Cells for a timestep and before the first, as many as the name of a row needs, and the least for words beside the table.
_TERM, _NAMES, _WORDS = 8, 6, 14
#: Rows of the table besides those of the batch: its heads and ③.
_FIXED = 2


class LossTerms(CellPanel):
    """① of this timestep, ② and ③ of every timestep as a table, and the loss. Terms that are not computed yet are blank."""

    ABOUT = "How the loss is computed from the predictions, term by term. In a cross-entropy, only the target of each row counts."

    COMPARED = Compared.DIFFERENCES

    def reads(self, snapshot: Snapshot, view: View) -> Hashable:
        names, position = snapshot.program.loss_names, snapshot.position
        if not (names.entry and names.row and names.timestep):
            return snapshot, view
        here = (snapshot.value(name) for name in (names.entry, names.prediction, "loss"))
        terms = (snapshot.value(name, t) for t in range(snapshot.config.seq_length) for name in (names.row, names.timestep))
        fresh = snapshot.line is not None and snapshot.line.target if self.is_fresh(snapshot) else None
        targets = snapshot.record.array(snapshot.program.target)[position.t]
        return position.t, view.row, fresh, contents(targets, *here, *terms)

    def titles(self, snapshot: Snapshot) -> Titles:
        title = f"terms of the loss − {snapshot.minus}" if snapshot.minus else "loss, term by term"
        if not snapshot.program.target:
            from tui_gru.tui.panels import imported

            title = imported.loss_title(snapshot)
            return Titles(title, place=f"t {snapshot.position.t + 1}")
        loss = snapshot.value("loss")
        return Titles(title, "loss · not yet" if loss is None else f"loss {numbers.plain(loss)}", f"t {snapshot.position.t + 1}")

    def is_fresh(self, snapshot: Snapshot) -> bool:
        return snapshot.line is not None and snapshot.line.target in (*snapshot.program.loss_names[1:], "loss")

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        width, height = self.canvas(width, height, partial(whole_size, snapshot))
        return clip(self.palette, terms(self.palette, snapshot, self._view.row, width, height), width, height)


def whole_size(snapshot: Snapshot) -> Size:
    """Return the size of the table with all timesteps and rows, of ① above it and the loss below it, in cells."""
    config = snapshot.config
    return Size(_NAMES + 2 + _TERM * config.seq_length + 3 * _WORDS, config.batch_size + _FIXED + 4)


def terms(palette: Palette, snapshot: Snapshot, row: int | None, width: int, height: int) -> Box:
    """Draw the terms of the loss in this size, with a batch row singled out; of a model without them, what is known instead."""
    names = snapshot.program.loss_names
    if not names.entry or not names.row or not names.timestep:
        from tui_gru.tui.panels import imported

        return imported.about_gradients(palette, snapshot, width, height)
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
        rows = shown_indices(config.batch_size, max(room - _FIXED, 0), self.row) if heads else []
        names = named_rows(rows, config.batch_size, palette.glyphs.vertical_ellipsis)
        label = max([_NAMES, len(f"row {config.batch_size}"), *map(len, names)])
        steps = shown_indices(config.seq_length, max((width - label) // _TERM, 1), t)
        if None not in steps:  # too few to keep the first and the last
            first, last = steps[0] != 0, steps[-1] != config.seq_length - 1
            steps = [None] * first + steps[first : len(steps) - last] + [None] * last if len(steps) > 2 else steps
        written = [
            self._line(
                (name, palette.dim if i is None or i != self.row else palette.strong), [self._row_term(i, t) for t in steps], label
            )
            for i, name in zip(rows, names, strict=True)
        ]
        words = width - label - _TERM * len(steps)
        if words >= _WORDS and written:
            written[0] = (*written[0], *line(palette, (f"   {self._written(self.names.row)}", palette.dim)))
        third = self._line((self._written(self.names.timestep), palette.strong), [self._timestep_term(t) for t in steps], label)
        if words >= _WORDS:
            third = (*third, *line(palette, ("   −their mean" if self._log else "   their mean", palette.dim)))
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
        [head] = line(self.palette, name)
        blank = Segment(" " * (label - cell_len(head.text)))
        return (head, blank, *(segment for cell in cells for segment in (Segment(" " * (_TERM - row_width(cell))), *cell)))

    def _heads(self, steps: list[int | None], label: int) -> SegmentRow:
        palette, current = self.palette, self.snapshot.timestep
        cells = [
            line(palette, (palette.glyphs.ellipsis, palette.dim))
            if t is None
            else line(palette, (f"t {t + 1}", palette.accent if t == current else palette.dim))
            for t in steps
        ]
        few = None not in steps and len(steps) < self.snapshot.config.seq_length  # no place for an ellipsis among them
        return self._line((palette.glyphs.ellipsis if few else "", palette.dim), cells, label)

    def _row_term(self, i: int | None, t: int | None) -> SegmentRow:
        """Draw ② of a row at a timestep, on a colour that says its size."""
        palette, name = self.palette, self.names.row
        if i is None or t is None:
            return ()
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
        """The size of the strongest colour: twice the loss of a guess, or that of a value where there is no guess."""
        if self._log and not self.snapshot.minus:
            return 2 * math.log(max(self.snapshot.config.sizes["V"], 2))
        return scale_of(self.snapshot.value(self.names.row))

    def _timestep_term(self, t: int | None) -> SegmentRow:
        if t is None:
            return ()
        number = self._number(self.names.timestep, t, fresh=t == self.snapshot.position.t)
        return (number,) if isinstance(number, Cell) else (number, Segment("  "))

    # ① above the table, and the loss below it

    def _entries(self, width: int, label: int) -> SegmentRow:
        """Draw the entries of ① that count, of as many rows as fit: in a cross-entropy those of the targets."""
        palette, name, snapshot = self.palette, self.names.entry, self.snapshot
        values, t, row = snapshot.value(name), snapshot.position.t, self.row or 0
        head = line(
            palette, (f"{self._written(name)} t {t + 1}".ljust(label), palette.accent if self._fresh(name) else palette.dim)
        )
        if self._log:
            targets, vocabulary = snapshot.record.ids(snapshot.program.target)[t].tolist(), snapshot.corpus.vocabulary
            every = [(i, targets[i], written_char(vocabulary[targets[i]], palette.glyphs)) for i in range(len(targets))]
            every = every[row:] + every[:row]
        else:
            every = [(row, j, "") for j in range(snapshot.config.sizes["V"])]
        cells, used = list[Segment](), row_width(head)
        for i, j, char in every:
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
        found = line(palette, name, (f" = {words} = ", palette.dim), self._number("loss", None, fresh=fresh))
        if not self._log or self.snapshot.minus:
            return found
        guess = numbers.plain(math.log(max(self.snapshot.config.sizes["V"], 2)))
        more = line(palette, (f"   a blind guess costs {guess}", palette.dim))
        return (*found, *more) if row_width((*found, *more)) <= width else found

    def _badge(self) -> Box:
        """Return a warning if the code of the tutorial would compute another value than ①."""
        term, program = self.snapshot.tutorial_term1, self.snapshot.program
        if term is None or np.isfinite(term).all():
            return EMPTY
        entry, prediction = program.lines[self.names.entry], program.writer.name(self.names.prediction)
        words = f"{entry.text.partition(' = ')[2]} is not finite: {prediction} is 0"
        return text(self.palette, f"{self.palette.glyphs.not_finite} {words}", self.palette.warning)

    def _fresh(self, name: str) -> bool:
        """Return True if the line just executed has computed the term."""
        return self.snapshot.line is not None and self.snapshot.line.target == name

    def _number(self, name: str, t: int | None, *, fresh: bool) -> Segment:
        palette, value = self.palette, self.snapshot.value(name, t)
        if value is None:
            return Segment(palette.glyphs.blank, palette.blank)
        style = palette.accent if fresh and self._fresh(name) else palette.strong if value else palette.dim
        return Cell.of(numbers.plain(value), style if math.isfinite(value) else palette.warning, Ref(name, (), t))


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


class Samples(SnapshotPanel):
    """The samples drawn so far: the newest, and that of the other sampler with the same dice, with what was read before each
    character and, if there is room, its probability and the random number. Of older ones, the texts."""

    ABOUT = (
        "Texts drawn from the model. Under each character what the model had read just before; p, the probability that the "
        "character had; and u, the random number from 0 to 1 that chose it: the range from 0 to 1 is divided by the probabilities "
        "of the characters, and u falls into the part of one of them."
    )

    COMPARED = Compared.BOTH

    def reads(self, snapshot: Snapshot, view: View) -> Hashable:
        return id(snapshot.state.samples), _explained(snapshot)  # as long as the panel has them, no others have this id

    def titles(self, snapshot: Snapshot) -> Titles:
        """Return the title; the place, the temperature and the seed of the newest sample; and the keys."""
        if not snapshot.state.samples:
            return Titles("samples")
        newest = snapshot.state.samples[-1]
        data = [f"temp {given(newest.temperature)}", *([f"seed {newest.seed}"] if newest.temperature else ["always the likeliest"])]
        keys = "<sample> draw  <findings> why they differ" if _explained(snapshot) else "<sample> draw"
        return Titles("samples", data[:1] if _explained(snapshot) else data, _place(snapshot, newest), with_keys(self, keys))

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        palette, samples = self.palette, snapshot.state.samples[::-1]
        if not samples:
            reason = _refused(snapshot.program)
            words = f"no samples: {reason}" if reason else with_keys(self, "<sample> draws a sample")
            lines = fill(transliterate(words, palette.glyphs), max(width, 1)) if reason else words
            return clip(palette, text(palette, lines, palette.dim), width, height)
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
            shown = vstack(shown, *([text(palette, place, palette.dim)] if place else []), older)
        return clip(palette, shown, width, 10**6)


def _explained(snapshot: Snapshot) -> bool:
    """Return True if a finding says why the two samplers differ."""
    return any(finding.name == "sampler-without-feedback" for finding in snapshot.findings)


@lru_cache(maxsize=4)
def _refused(program: Program) -> str:
    """Return why nothing can be drawn from a model, empty if samples can."""
    from tui_gru.engine.sampling import refused

    reason = refused(program.config)
    return "" if reason is None else reason.words


def _place(snapshot: Snapshot, sample: Sample) -> str:
    """Return where a sample was drawn as `e12 b3 t2`, or as `e12 b3` outside of the loops over t; empty if that is unknown."""
    if sample.tick is None:
        return ""
    position = position_of(snapshot.program, sample.tick)
    return place_name(position).removesuffix(f" {position.phase}")


def _same_dice(one: Sample, other: Sample) -> bool:
    """Return True if two samples differ only in the sampler."""
    drawn = [(each.primer, each.temperature, each.seed, each.tick) for each in (one, other)]
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
    draws, (entry, size, across) = sample.draws, _columns(sample, width, rows)
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
            for each in cells.values():
                each[-1] = transliterate("…", palette.glyphs), palette.dim
        lined = [[line(palette, (name, palette.dim)), *((Segment(*each),) for each in cells[name])] for name in names]
        of_draw = TableColumn(gap=1, right=True, size=size - 1)
        lines.append(from_rows(table(palette, lined, (TableColumn(gap=0, size=_LEAD - 1), *[of_draw] * len(shown)), width)))
    return vstack(*lines, gap=1)


def _names(sample: Sample, rows: int) -> tuple[str, ...]:
    """Return the rows of a table; the likeliest character needs no random number."""
    return _ROWS[: min(rows, 4 if any(draw.uniform is not None for draw in sample.draws) else 3)]


def _columns(sample: Sample, width: int, rows: int) -> tuple[EntryFormat, int, int]:
    """Return the format of the numbers in a table of draws, the width of a draw with the blank before it, and how many are side by
    side."""
    read = _MOST_READ - 1 if isinstance(sample.primer, str) and len(sample.primer) == 2 else 1
    chars = max(read, widest((*sample.primer, *(draw.char for draw in sample.draws))))
    sizes = {each: 1 + max(chars, each.width if rows > 2 else 0) for each in (ENTRIES["unit", False], ENTRIES["unit", True])}
    entry = next((each for each, size in sizes.items() if len(sample.draws) * size + _LEAD - 1 <= width), ENTRIES["unit", True])
    return entry, sizes[entry], max((width - _LEAD + 1) // sizes[entry], 1)


def _height(sample: Sample, width: int, rows: int) -> int:
    """Return the rows of the whole table."""
    lines = -(-len(sample.draws) // _columns(sample, width, rows)[2])
    return max(lines * (len(_names(sample, rows)) + 1) - 1, 0)


def _parted(palette: Palette, samples: Sequence[Sample], width: int, word: str) -> Box:
    """Say at which character two samples with the same dice differ, and what was read there."""
    one, other = samples
    at = next((i for i, pair in enumerate(zip(one.draws, other.draws, strict=False)) if pair[0].index != pair[1].index), None)
    if at is None:
        return text(palette, "\n".join(folded("Both have said the same.", width)), palette.dim)
    reads = [_read(palette, sample, at)[0] for sample in sorted(samples, key=lambda sample: sample.sampler != "tutorial")]
    words = f"They part at {word} {at + 1}: one has read {reads[0]} again, the other {reads[1]}."
    return text(palette, "\n".join(folded(transliterate(words, palette.glyphs), width)), palette.dim)
