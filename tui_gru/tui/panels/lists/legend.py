"""The legend: all colours and signs of the screen with their meanings."""

from __future__ import annotations

from collections.abc import Hashable

from rich.cells import cell_len
from rich.segment import Segment

from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.tui.explanations.signs import SIGNS, LegendSign
from tui_gru.tui.look.characters import folded
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.look.themes import Palette
from tui_gru.tui.verbs.verb import with_keys
from tui_gru.tui.widgets.boxes import Box, clip, from_rows, text, vstack
from tui_gru.tui.widgets.snapshot_panel import SnapshotPanel, Titles, View

#: Cells for a sign; a longer one is put on a separate line.
_SIGN = 16


class Legend(SnapshotPanel):
    """The legend. It is independent of the moment, so it stays until it is closed."""

    def reads(self, snapshot: Snapshot, view: View) -> Hashable:
        return None

    def titles(self, snapshot: Snapshot) -> Titles:
        return "colours and signs", [with_keys(self, "<help> explains what has the focus"), with_keys(self, "<stop> closes")]

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        palette = self.palette
        groups = []
        for title, signs in SIGNS:
            rows = [
                row for sign in signs for row in sign_rows(palette, sign._replace(meaning=with_keys(self, sign.meaning)), width)
            ]
            groups.append(vstack(text(palette, title, palette.strong), from_rows(rows)))
        return clip(palette, vstack(*groups, gap=1), width, 10**6)


def sign_rows(palette: Palette, sign: LegendSign, width: int) -> list[list[Segment]]:
    """Return the rows of a sign with its meaning beside it, or below if the sign is long."""
    shown, meaning = (transliterate(words, palette.glyphs) for words in (sign.sign, sign.meaning))
    ink = sign.ink(palette)
    if cell_len(shown) > _SIGN or width < 3 * _SIGN:
        return [
            *([Segment(part, ink)] for part in folded(shown, width)),
            *([Segment(f"  {part}", palette.plain)] for part in folded(meaning, max(width - 2, 1))),
        ]
    first, *others = folded(meaning, width - _SIGN - 2)
    return [
        [Segment(shown, ink), Segment(" " * (_SIGN - cell_len(shown) + 2)), Segment(first, palette.plain)],
        *([Segment(" " * (_SIGN + 2)), Segment(part, palette.plain)] for part in others),
    ]
