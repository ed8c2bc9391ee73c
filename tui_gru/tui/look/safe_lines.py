"""The last look at a line before the terminal gets it."""

from __future__ import annotations

import re

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

# Control characters, halves of surrogate pairs, and what turns the direction of writing.
_UNSAFE = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class SafeLines(LineFilter):
    """Takes out of every segment what could command the terminal. Panels write such characters as escapes, where they show them."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        if all(segment.text.isprintable() for segment in segments):
            return segments
        return [Segment(_UNSAFE.sub(_instead, text), style, control) for text, style, control in segments]


def _instead(unsafe: re.Match[str]) -> str:
    """As many cells as the character takes: none, or one."""
    return "\ufffd" * cell_len(unsafe[0])
