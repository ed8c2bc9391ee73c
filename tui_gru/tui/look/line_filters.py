"""The filters of all drawn lines: no characters with an effect on the terminal, and only ASCII where it can show no others."""

from __future__ import annotations

import re

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from tui_gru.tui.look.glyphs import flattened

# Control characters, surrogates, and characters that change the direction of writing.
_UNSAFE = "[\0-\x1f\x7f-\x9f\ud800-\udfff\u200e\u200f\u202a-\u202e\u2066-\u2069]"


class SafeLines(LineFilter):
    """Replaces unsafe characters in every segment. Panels that show such characters write them as escapes."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        if all(segment.text.isprintable() for segment in segments):
            return segments
        return [Segment(re.sub(_UNSAFE, _instead, text), style, control) for text, style, control in segments]


def _instead(unsafe: re.Match[str]) -> str:
    """Return a replacement of the same width, no or one cell."""
    return "\ufffd" * cell_len(unsafe[0])


class PlainLines(LineFilter):
    """Translates text that panels do not draw themselves: scroll bars, Textual's own screens, typed commands."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        if all(segment.text.isascii() for segment in segments):
            return segments
        return [Segment(flattened(text), style, control) for text, style, control in segments]
