"""The values of one timestep side by side: gates, candidate and states, in the backward phase their gradients."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult

from tui_gru.debugger.analysis.saturation import limits_of
from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.equations.compose import Layer
from tui_gru.equations.names import split
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.panels.program.operands import kind_of
from tui_gru.tui.widgets.matrix import MatrixView
from tui_gru.tui.widgets.refs import refs_of
from tui_gru.tui.widgets.snapshot_panel import PanelGroup, View


def shown_names(program: Program, layer: Layer, *, backward: bool) -> list[str]:
    """Return the names of the values of a layer: its lines, then the states before the timestep.

    With `backward`, the gradients of the lines that have one, then the gradients that the states receive from other timesteps.
    """
    page = program.model.page
    if not backward:
        return [*layer.lines, *(page.before(state) for state in layer.states)]
    return [*(f"d{name}" for name in layer.lines if f"d{name}" in program.names), *(page.ahead(state) for state in layer.states)]


def word_for(program: Program, layer: Layer, name: str) -> str:
    """Return a word for a value: the label of its line (update, reset), or its role as a state; empty if there is none."""
    page = program.model.page
    if name in layer.states:
        return "state" if len(layer.states) == 1 else f"state {program.writer.name(name)}"
    if state := next((state for state in layer.states if name == page.before(state)), ""):
        return "after" if page.states[state].backwards else "before"
    if any(name == page.ahead(state) for state in layer.states):
        return "from later"
    return next((line.label for line in page.lines if line.target == name), "")


class ValueMatrix(MatrixView):
    """A recorded value of shape (B, H) at the current timestep; dots until its line has been executed."""

    ABOUT = "A value of the layer at this timestep: a row of the matrix for each row of the batch, a column for each unit."

    def __init__(self, value_name: str, *, id: str) -> None:
        super().__init__(id=id)
        self.value_name, self.minus, self._shown, self._word = value_name, "", value_name, ""

    def show(self, snapshot: Snapshot, view: View) -> None:
        program, name, self.minus = snapshot.program, self.value_name, snapshot.minus
        self._shown, self._word = program.writer.name(name), word_for(program, view.layer_of(snapshot), name)
        self.refs = refs_of(program, name)
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
            named=(self._shown, self._word, self.minus),
        )

    def _caption(self) -> None:
        """Set the title: the name, with a word or the compared branch if there is room."""
        name, word = self._shown, self._word
        if self.minus:
            titles = [f"{name} − {name} {self.minus}", f"{name} − {self.minus}", f"{name} −…"]
        else:
            without_layer = split(name)[0]  # all beside this one are of the same layer
            titles = [*([f"{name}  {word}"] if word else []), name, name.replace("_reverse", "←"), without_layer]
        glyphs = self.palette.glyphs
        self.title = next((title for title in titles if cell_len(transliterate(title, glyphs)) <= self.border_room), titles[-1])
        super()._caption()

    def name_cell(self, row: int, column: int) -> str:
        return f"row {row + 1}, unit {column + 1}"

    def name_row(self, row: int) -> str:
        return str(row + 1)

    def name_column(self, column: int) -> str:
        return str(column + 1)


class Gates(PanelGroup):
    """The values of one layer at this timestep: gates, candidate, states, and the previous states; or their gradients.

    All are in one row if it is wide enough, otherwise in as few rows as possible. `many` is True if there are too many values to
    show numbers in one row.
    """

    ABOUT = "The values of the layer at this timestep: a row for each row of the batch, a column for each unit."

    DEFAULT_CSS = """
    Gates {
        layout: grid;
        grid-size: 5;
        ValueMatrix { width: 1fr; height: 1fr; }
    }
    """

    #: The least outer width and height at which a panel shows something, in cells.
    LEAST: ClassVar[tuple[int, int]] = (13, 4)
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

    def show(self, snapshot: Snapshot, view: View) -> None:
        program = snapshot.program
        names = shown_names(program, view.layer_of(snapshot), backward=snapshot.position.phase == "backward")
        for number, matrix in enumerate(self.query_children(ValueMatrix)):
            matrix.display = number < len(names)
            if number < len(names):
                matrix.value_name = names[number]
                matrix.show(snapshot, view)

    def on_resize(self, event: events.Resize) -> None:
        columns = self._columns(event.size.width, event.size.height)
        if columns != self.styles.grid_size_columns:  # setting the same value again would cause a new layout
            self.styles.grid_size_columns = columns

    def _columns(self, width: int, height: int) -> int:
        least_width, least_height = self.LEAST
        for lines in range(min(2, height // least_height) if self.many else 1, self._count + 1):
            columns = -(-self._count // lines)
            if columns * least_width <= width and lines * least_height <= height:
                return columns
        return self._count
