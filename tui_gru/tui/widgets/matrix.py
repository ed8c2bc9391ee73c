"""A matrix on screen: written out where it fits, a scrolling heat map where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.reactive import reactive
from textual.strip import Strip

from tui_gru.engine.numbers import exact
from tui_gru.tui.widgets.boxes import Box
from tui_gru.tui.widgets.cells import NumberAsked
from tui_gru.tui.widgets.heatmap import CELL, heat_row
from tui_gru.tui.widgets.panel import Panel
from tui_gru.tui.widgets.refs import Ref, Refs
from tui_gru.tui.widgets.written import ENTRIES, Array, Kind, matrix, scale_of


class MatrixView(Panel):
    """Shows one two-dimensional array (a vector is one row), or the dots of one that is not computed yet.

    Arrow keys move a cursor while the view has the focus; the border says the exact number under it.
    """

    ASKING = frozenset({"choose"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1, 0)", "Up", show=False, id="matrix.up"),
        Binding("down", "move(1, 0)", "Down", show=False, id="matrix.down"),
        Binding("left", "move(0, -1)", "Left", show=False, id="matrix.left"),
        Binding("right", "move(0, 1)", "Right", show=False, id="matrix.right"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="matrix.page_up"),
        Binding("pagedown", "page(1)", "Page down", show=False, id="matrix.page_down"),
        Binding("home", "edge(-1)", "First column", show=False, id="matrix.home"),
        Binding("end", "edge(1)", "Last column", show=False, id="matrix.end"),
        Binding("enter", "choose", "Explain", show=False, id="matrix.choose"),
    ]

    cursor: reactive[tuple[int, int]] = reactive((0, 0))

    def __init__(self, name: str = "", *, id: str | None = None, classes: str | None = None) -> None:
        """`name` is the title in the border. `refs`, once it is set, says which number of the run each entry is."""
        super().__init__(id=id, classes=classes)
        self.title = name
        self.refs: Refs | None = None
        self.values: Array | None = None
        self.shape = (1, 1)
        self.kind: Kind = "signed"
        self.row: int | None = None
        self.scale = 1.0
        self._captioned: bool | None = None

    def show_array(
        self,
        values: Array | None,
        *,
        kind: Kind = "signed",
        shape: tuple[int, int] | None = None,
        scale: float | None = None,
        fresh: bool = False,
        row: int | None = None,
    ) -> None:
        """Show this array; None is what is not computed yet, drawn as dots in `shape` (by default the last one shown).

        `scale`: the |x| with the strongest colour, by default the array's largest, rounded up. `fresh`: just computed.
        `row`: singled out, the others turn quiet.
        """
        self.values = None if values is None else np.atleast_2d(values)
        if self.values is not None:
            self.shape = (self.values.shape[0], self.values.shape[1])
        elif shape is not None:
            self.shape = shape
        self.kind, self.row = kind, row
        self.scale = scale_of(self.values) if scale is None else scale
        self.set_class(fresh, "-fresh")
        self.set_reactive(MatrixView.cursor, self.validate_cursor(self.cursor))
        self._caption()
        self.refresh_content()

    @property
    def as_numbers(self) -> bool:
        """Whether the numbers fit as they are; otherwise it is a heat map."""
        return self._entry_form(self.content_size) is not None

    def name_cell(self, row: int, column: int) -> str:
        """What the border calls an entry; a subclass may know better names than two 0-based indices."""
        return f"[{row}, {column}]"

    def shown(self) -> Sequence[tuple[Ref, Any]]:
        return [] if self.values is None or self.refs is None else [(self.refs(0, 0), self.values)]

    # Drawing

    def _entry_form(self, room: Size) -> bool | None:
        """Whether to write entries compactly; None where not even these fit."""
        rows, columns = self.shape
        for compact in (False, True):
            width = columns * (ENTRIES[self.kind, compact].width + 1) + 1
            if rows <= room.height and width <= room.width:
                return compact
        return None

    def build(self, width: int, height: int) -> Box:
        compact = self._entry_form(Size(width, height)) or False
        return matrix(
            self.palette,
            self.values,
            kind=self.kind,
            shape=self.shape,
            scale=self.scale,
            fresh=self.has_class("-fresh"),
            row=self.row,
            cursor=self.cursor if self.has_focus else None,
            compact=compact,
        )

    def _ensure_built(self) -> None:
        if self.as_numbers is not self._captioned:
            self.call_next(self._caption)  # the room inside may change without that of the whole
        if self.as_numbers:
            super()._ensure_built()
            return
        # A heat map is drawn line by line as it is looked at: there is nothing to build.
        self._built_for = ()
        rows, columns = self.shape
        width, height = self.content_size
        room = width - (self.styles.scrollbar_size_vertical if rows > height else 0)
        wide = CELL * columns
        # Half an entry is never shown, so the last one may need to be scrolled a cell further.
        wanted = Size(wide + CELL - 1 if wide > room else wide, rows)
        if wanted != self.virtual_size:
            self.call_next(self._set_virtual_size, wanted)

    def render_line(self, y: int) -> Strip:
        if self.as_numbers:
            return super().render_line(y)
        self._ensure_built()
        width = self.scrollable_content_region.width
        row = self.scroll_offset.y + y
        if row >= self.shape[0]:
            return Strip.blank(width, self._ground)
        first = self.scroll_offset.x // CELL
        last = min(first + width // CELL, self.shape[1])
        strip = heat_row(
            self.palette,
            None if self.values is None else self.values[row, first:last],
            last - first,
            kind=self.kind,
            scale=self.scale,
            cursor=self.cursor[1] - first if self.has_focus and row == self.cursor[0] else None,
            quiet=self.row is not None and row != self.row,
        )
        return strip.extend_cell_length(width).apply_style(self._ground)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return self.shape[0]

    def get_content_width(self, container: Size, viewport: Size) -> int:
        columns = self.shape[1]
        return min(columns * (ENTRIES[self.kind, False].width + 1) + 1, max(container.width, CELL))

    def plain_text(self) -> str:
        """All entries in full, a row a line."""
        rows = [] if self.values is None else [" ".join(exact(x) for x in row) for row in self.values]
        return "".join(f"{line}\n" for line in (self.heading, "", *rows))

    # The cursor

    def validate_cursor(self, cursor: tuple[int, int]) -> tuple[int, int]:
        rows, columns = self.shape
        return min(max(cursor[0], 0), max(rows - 1, 0)), min(max(cursor[1], 0), max(columns - 1, 0))

    def watch_cursor(self, old: tuple[int, int], new: tuple[int, int]) -> None:
        if self.as_numbers:
            self.refresh_content()
        else:
            self.refresh_line(old[0])
            self.refresh_line(new[0])
            self.scroll_to_region(Region(CELL * new[1], new[0], 2 * CELL - 1, 1), animate=False, force=True)
        self._caption()

    def _caption(self) -> None:
        """Title and, in the border below, the number under the cursor; without the focus, what a heat map lacks."""
        if not self.is_attached:
            return
        note, self._captioned = None, self.as_numbers
        if self.has_focus and self.shape[0] and self.shape[1]:
            value = self.palette.glyphs.blank if self.values is None else exact(self.values[self.cursor])
            note = f"{self.name_cell(*self.cursor)} = {value}"
            if len(note) > self.outer_size.width - 6:  # corners, and the gaps around a border's text
                note = value  # the digits matter more than where they are: that is in view
        elif not self.as_numbers:
            note = f"{self.shape[0]}{self.palette.glyphs.by}{self.shape[1]}"
            if self.kind != "onehot" and self.values is not None:
                note += f" {self.palette.glyphs.blank} tenths"
                note += f" of {self.scale:g}" if self.kind == "signed" else ""
                if len(note) > self.outer_size.width - 6:
                    note = note.partition(" ")[0]
        self.set_titles(self.title, note)

    def watch_has_focus(self, has_focus: bool) -> None:
        super().watch_has_focus(has_focus)
        self._caption()
        self.refresh_content()

    def on_resize(self) -> None:
        self._caption()

    def action_move(self, rows: int, columns: int) -> None:
        self.cursor = (self.cursor[0] + rows, self.cursor[1] + columns)

    def action_page(self, direction: int) -> None:
        self.cursor = (self.cursor[0] + direction * max(self.content_size.height - 1, 1), self.cursor[1])

    def action_edge(self, direction: int) -> None:
        self.cursor = (self.cursor[0], 0 if direction < 0 else self.shape[1] - 1)

    def action_choose(self) -> None:
        if self.refs is not None:
            self.post_message(NumberAsked(self.refs(*self.cursor)))

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        cell = None if offset is None else self._cell_at(offset.x, offset.y)
        if cell is None:
            return
        self.cursor = cell
        if event.chain == 2:
            self.action_choose()

    def _cell_at(self, x: int, y: int) -> tuple[int, int] | None:
        """The entry at a place in the panel, None beside it."""
        form = self._entry_form(self.content_size)
        if form is None:
            row, column = y + self.scroll_offset.y, x // CELL + self.scroll_offset.x // CELL
        else:
            row, column = y, (x - 1) // (ENTRIES[self.kind, form].width + 1)  # after the bracket
        inside = 0 <= row < self.shape[0] and 0 <= column < self.shape[1]
        return (row, column) if inside else None
