"""The effect of another value: on the loss, on a prediction, on the values that change most, or on all values."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from textual.binding import BindingType
from textual.message import Message

from tui_gru.debugger.analysis.what_if import LargestDifference, WhatIf
from tui_gru.debugger.program.naming import spoken, spoken_index
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.engine import numbers
from tui_gru.tui.look.characters import cut, folded, written_char
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.verbs.verb import with_keys
from tui_gru.tui.widgets.bars import bar, bars
from tui_gru.tui.widgets.boxes import Box, clip, from_rows, hstack, text, vstack
from tui_gru.tui.widgets.snapshot_panel import SnapshotPanel, Titles, View

WHAT_IF_BAR = 12
#: Cells: the least and the most of a bar of the loss, and the most of a block of bars of a prediction.
_LOSS_BAR, _PREDICTION = (4, 48), 48
#: The number of changed values shown before unfolding, and of the classes of a prediction.
_MOST, _CLASSES = 5, 6
_GAP = 3


class WhatIfPanel(SnapshotPanel):
    """The effect of a supposed value. Enter applies it, `+` and `-` change it, space unfolds all differences."""

    ABOUT = "The effect of another value in this batch. Nothing has changed yet: enter applies it, + and - change it."

    ASKING = frozenset({"keep", "nudge"})
    BINDINGS: ClassVar[list[BindingType]] = [
        ("enter", "keep"),
        ("plus", "nudge(1)"),
        ("minus", "nudge(-1)"),
        ("space", "fold"),
    ]

    @dataclass
    class Kept(Message):
        """Posted to apply the change."""

        what_if: WhatIf

    @dataclass
    class Nudged(Message):
        """Posted to suppose a value some steps larger or smaller than the shown one."""

        what_if: WhatIf
        direction: int

    def __init__(self, what_if: WhatIf) -> None:
        super().__init__()
        self.what_if, self._program = what_if, what_if.now.program
        self._unfolded = False

    def reads(self, snapshot: Snapshot, view: View) -> Hashable:
        """Return None: the effect belongs to the batch in which it was computed."""
        return None

    def turn_to(self, what_if: WhatIf) -> None:
        """Show the effect of another value."""
        self.what_if = what_if
        self.show_again()

    def titles(self, snapshot: Snapshot) -> Titles:
        at = f" at t {self.what_if.t + 1}" if self.what_if.t is not None else ""
        named = spoken(self._program, self.what_if.name, self.what_if.index)
        value = numbers.short(self.what_if.value)
        title = f"what if {named}{at} were {value}?"
        hints = ["enter applies it", "+ - change it", with_keys(self, "<stop> cancels")]
        return title if cell_len(title) <= self.border_room else f"{named} = {value}?", hints

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        palette, what_if = self.palette, self.what_if
        since = " at the beginning of this batch" if what_if.t is None and not what_if.name.startswith("d") else ""
        lines = [self._line((part, palette.dim)) for part in folded(f"it is {numbers.short(what_if.was)}{since}", width)]
        lines += self._loss(width)
        if not what_if.differences:
            lines.append(self._line(("nothing else in this batch would differ", palette.dim)))
            return clip(palette, from_rows(lines), width, len(lines))
        parts = [from_rows(lines), *self._predicted(width), from_rows(self._changed(width))]
        written = vstack(*parts, gap=1)
        return clip(palette, written, width, written.height)

    def _loss(self, width: int) -> list[list[Segment]]:
        """Draw the loss before and after as bars; if the loss was computed elsewhere, its change to first order."""
        palette, (before, after) = self.palette, self.what_if.losses
        if (change := self.what_if.first_order) is not None:
            ink = palette.signed((change > 0) - (change < 0))
            return [self._line(("loss  ", palette.plain), (numbers.short(change), ink), (" to first order", palette.dim))]
        if not self._program.target:
            return []
        least, most = _LOSS_BAR
        by = numbers.wide(after - before).strip()
        length = min(max(width - len("loss  then  ") - numbers.WIDE - len(by) - 3, 0), most)
        full = max((x for x in (before, after) if math.isfinite(x)), default=0.0)
        rows = []
        for label, word, loss, ink in (("loss  ", "now ", before, palette.plain), ("      ", "then", after, palette.accent)):
            number = numbers.plain(loss).rjust(numbers.WIDE)
            drawn = bar(palette, loss / full if full > 0 else 0.0, length) if length >= least else ""
            parts = [(label, palette.plain), (f"{word}  ", palette.dim), (number, ink), (f" {drawn}", palette.gate)]
            if word == "then":
                parts += [("  ", palette.plain), (by, palette.signed((after > before) - (after < before)))]
            rows.append(self._line(*parts))
        return rows

    def _predicted(self, width: int) -> list[Box]:
        """Draw the prediction that changes most, before and after, side by side."""
        found, palette = self.what_if.prediction, self.palette
        if found is None:
            return []
        vocabulary = self._program.config.vocabulary
        shown = np.argsort(-np.abs(found.after - found.before), kind="stable")[:_CLASSES].tolist()
        if found.target not in shown:
            shown[-1] = found.target
        shown = sorted(shown)
        labels = [written_char(vocabulary[i], palette.glyphs) for i in shown]
        labels[0] = " " * (max(map(cell_len, labels)) - cell_len(labels[0])) + labels[0]
        each = min((width - _GAP) // 2, _PREDICTION)
        blocks = [
            vstack(
                text(palette, word, palette.dim),
                bars(
                    palette,
                    [float(values[i]) for i in shown],
                    labels,
                    each,
                    target=shown.index(found.target),
                    word=False,
                    fresh=new,
                ),
            )
            for word, values, new in (("now", found.before, False), ("then", found.after, True))
        ]
        name = self._program.writer.name(self._program.loss_names.prediction)
        some = "" if len(shown) == len(vocabulary) else f" · {len(shown)} of {len(vocabulary)}"
        title = f"{name} of row {found.row + 1} at t {found.t + 1}, where the target changes most{some}"
        head = from_rows([self._line((part, palette.plain)) for part in folded(title, width)])
        return [vstack(head, hstack(*blocks, gap=_GAP))]

    def _changed(self, width: int) -> list[list[Segment]]:
        """Draw the names that change most; unfolded, every array that differs at every timestep, in the order of the batch."""
        palette, what_if = self.palette, self.what_if
        chosen = what_if.differences if self._unfolded else what_if.most_changed[:_MOST]
        others = len(what_if.differences) - len(chosen)
        title = "all values that would differ, in the order of the batch" if self._unfolded else "values that would change most"
        rows = [self._described(difference) for difference in chosen]
        wide = [max((cell_len(row[column]) for row in rows), default=0) for column in range(3)]
        most = max((d.size for d in chosen if math.isfinite(d.size)), default=0.0)
        lines = [self._line((part, palette.plain)) for part in folded(title, width)]
        for difference, row in zip(chosen, rows, strict=True):
            lines += self._difference(difference, row, wide, most, width)
        if self._unfolded:
            lines.append(self._line(("▾ space folds the list", palette.dim)))
        elif others:
            lines.append(self._line((f"▸ {others} more: space unfolds all", palette.dim)))
        return lines

    def _described(self, d: LargestDifference) -> tuple[str, str, str]:
        """Return the name, its timestep, and the index of the largest difference in it."""
        glyphs = self.palette.glyphs
        where = spoken_index(self._program, d.name, d.index)
        return (
            transliterate(self._program.writer.name(d.name), glyphs),
            "" if d.t is None else f"t {d.t + 1}",
            transliterate(where + (f" and {d.entries - 1} more" if d.entries > 1 else ""), glyphs),
        )

    def _difference(
        self, d: LargestDifference, row: tuple[str, str, str], wide: list[int], most: float, width: int
    ) -> list[list[Segment]]:
        palette, glyphs = self.palette, self.palette.glyphs
        cells = [text + " " * (room - cell_len(text)) for text, room in zip(row, wide, strict=True)]
        line = [Segment(f"{cells[0]}  ", palette.accent), Segment(f"{cells[1]}  ", palette.plain)]
        change = numbers.wide(d.change)
        from_to = transliterate(f"  {numbers.wide(d.before)} → {numbers.wide(d.after)}", glyphs)
        ink = palette.signed(d.change / most if most else 0.0)
        tail = [
            Segment("  "),
            Segment(change, ink),
            Segment(" "),
            Segment(bar(palette, abs(d.change) / most if most else 0.0, WHAT_IF_BAR), palette.gate),
        ]
        room = width - sum(segment.cell_length for segment in (*line, *tail)) - cell_len(from_to)
        if room < 8:  # too narrow: the change comes first, and below it the index and both values
            under = folded(f"{row[2]} {from_to.strip()}", width - 2)
            return [[*line, *tail[:2]], *([Segment(f"  {part}", palette.dim)] for part in under)]
        where = cut(row[2], min(room, wide[2]), glyphs)
        return [[*line, Segment(where + " " * (min(room, wide[2]) - cell_len(where)), palette.dim), Segment(from_to), *tail]]

    def _line(self, *parts: tuple[str, object]) -> list[Segment]:
        return [Segment(transliterate(text, self.palette.glyphs), style) for text, style in parts]  # type: ignore[arg-type]

    def action_fold(self) -> None:
        self._unfolded = not self._unfolded
        self.refresh_content()

    def action_nudge(self, direction: int) -> None:
        self.post_message(self.Nudged(self.what_if, direction))

    def action_keep(self) -> None:
        self.post_message(self.Kept(self.what_if))
