"""What another number would come to: the loss, and all that would differ in the batch, name by name."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.message import Message

from tui_gru.debugger.analysis.what_if import Difference, WhatIf
from tui_gru.debugger.program.naming import spoken, spoken_index
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.engine import numbers
from tui_gru.tui.characters import cut, fitting, folded
from tui_gru.tui.glyphs import transliterate
from tui_gru.tui.key_signs import with_keys
from tui_gru.tui.view import View
from tui_gru.tui.widgets.bars import bar
from tui_gru.tui.widgets.boxes import Box, clip, from_rows
from tui_gru.tui.widgets.overlay import Overlay

BAR = 12


class WhatIfPanel(Overlay):
    """Nothing of it has happened, until enter keeps it."""

    ASKING = frozenset({"keep"})
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "keep", "Keep", show=False, id="what_if.keep")]

    class Kept(Message):
        """A person wants the change to be made."""

        def __init__(self, what_if: WhatIf) -> None:
            super().__init__()
            self.what_if = what_if

    def __init__(self, what_if: WhatIf) -> None:
        super().__init__()
        self.what_if, self._program = what_if, what_if.now.program

    def show(self, snapshot: Snapshot, view: View) -> None:
        """It is of the batch that it was asked in, and stays as it is."""

    def on_resize(self) -> None:
        at = f" at t {self.what_if.t + 1}" if self.what_if.t is not None else ""
        named = spoken(self._program, self.what_if.name, self.what_if.index)
        room, value = self.outer_size.width - 6, numbers.short(self.what_if.value)
        title = f"what if {named}{at} were {value}?"
        hints = "enter keeps it", with_keys(self, "<stop> leaves all as it is")
        self.set_titles(title if cell_len(title) <= room else f"{named} = {value}?", fitting(hints, room))

    def build(self, width: int, height: int) -> Box:
        palette, what_if = self.palette, self.what_if
        since = (
            " at the beginning of this batch, where this would change it"
            if what_if.t is None and not what_if.name.startswith("d")
            else ""
        )
        lines = [
            *(self._line((part, palette.dim)) for part in folded(f"it is {numbers.short(what_if.was)}{since}", width)),
            *self._loss(),
        ]
        if not what_if.differences:
            lines.append(self._line(("nothing else in this batch would differ", palette.dim)))
        rows = [self._told(difference) for difference in what_if.differences]
        wide = [max((cell_len(row[column]) for row in rows), default=0) for column in range(3)]
        most = max((abs(d.change) for d in what_if.differences if d.change == d.change), default=0.0)
        for difference, row in zip(what_if.differences, rows, strict=True):
            lines += self._difference(difference, row, wide, most, width)
        written = from_rows(lines)
        return clip(palette, written, width, written.height)

    def _loss(self) -> list[list[Segment]]:
        """The loss, before and after; of one that was computed elsewhere the change to first order."""
        palette, (before, after) = self.palette, self.what_if.losses
        if (change := self.what_if.first_order) is not None:
            ink = palette.signed((change > 0) - (change < 0))
            return [
                self._line(("loss  ", palette.plain), (numbers.short(change), ink), (" or so, to first order", palette.dim)),
                [],
            ]
        if not self._program.target:
            return [[]]
        arrow = (" → ", palette.dim)
        values = ("loss  ", palette.plain), (numbers.short(before), palette.strong), arrow, (numbers.short(after), palette.accent)
        by = numbers.wide(after - before).strip(), palette.signed((after > before) - (after < before))
        return [self._line(*values, ("   ", palette.plain), by), []]

    def _told(self, d: Difference) -> tuple[str, str, str]:
        """The name, its timestep, and where in it the largest difference is."""
        glyphs = self.palette.glyphs
        where = spoken_index(self._program, d.name, d.index)
        return (
            transliterate(self._program.writer.name(d.name), glyphs),
            "" if d.t is None else f"t {d.t + 1}",
            transliterate(where + (f" and {d.entries - 1} more" if d.entries > 1 else ""), glyphs),
        )

    def _difference(
        self, d: Difference, row: tuple[str, str, str], wide: list[int], most: float, width: int
    ) -> list[list[Segment]]:
        palette, glyphs = self.palette, self.palette.glyphs
        cells = [text + " " * (room - cell_len(text)) for text, room in zip(row, wide, strict=True)]
        line = [Segment(f"{cells[0]}  ", palette.accent), Segment(f"{cells[1]}  ", palette.plain)]
        change = numbers.wide(d.change)
        told = transliterate(f"  {numbers.wide(d.before)} → {numbers.wide(d.after)}", glyphs)
        ink = palette.signed(d.change / most if most else 0.0)
        tail = [
            Segment("  "),
            Segment(change, ink),
            Segment(" "),
            Segment(bar(palette, abs(d.change) / most if most else 0.0, BAR), palette.gate),
        ]
        room = width - sum(segment.cell_length for segment in (*line, *tail)) - cell_len(told)
        if room < 8:  # then the change comes first, and under it where it is, and from what to what
            under = folded(f"{row[2]} {told.strip()}", width - 2)
            return [[*line, *tail[:2]], *([Segment(f"  {part}", palette.dim)] for part in under)]
        where = cut(cells[2], min(room, wide[2]), glyphs)
        return [[*line, Segment(where + " " * (min(room, wide[2]) - cell_len(where)), palette.dim), Segment(told), *tail]]

    def _line(self, *parts: tuple[str, object]) -> list[Segment]:
        return [Segment(transliterate(text, self.palette.glyphs), style) for text, style in parts]  # type: ignore[arg-type]

    def action_keep(self) -> None:
        self.post_message(self.Kept(self.what_if))
