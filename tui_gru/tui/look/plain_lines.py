"""The last look at a line for a terminal that knows only ASCII."""

from __future__ import annotations

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from tui_gru.tui.look.glyphs import flattened


class PlainLines(LineFilter):
    """Replaces what panels do not draw themselves: scroll bars, Textual's own screens, what is typed on the command line."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        if all(segment.text.isascii() for segment in segments):
            return segments
        return [Segment(flattened(text), style, control) for text, style, control in segments]
