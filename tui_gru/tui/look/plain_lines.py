"""The filter of all drawn lines for a terminal that can show only ASCII."""

from __future__ import annotations

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from tui_gru.tui.look.glyphs import flattened


class PlainLines(LineFilter):
    """Translates text that panels do not draw themselves: scroll bars, Textual's own screens, typed commands."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        if all(segment.text.isascii() for segment in segments):
            return segments
        return [Segment(flattened(text), style, control) for text, style, control in segments]
