"""Corrects exported SVG pictures: combining characters and clipping."""

from __future__ import annotations

import html
import re
import unicodedata

from rich.cells import cell_len

_LOW = "ₜ₋₁"  # subscripts reach below their line
_TEXT = re.compile(r'(<text [^>]*?)textLength="([\d.]+)"( clip-path="[^"]*")?([^>]*>)([^<]*)(</text>)')


def mend(svg: str) -> str:
    """Return the exported picture with h̃ and subscripts drawn correctly.

    Rich (15, `Console.export_svg`) stretches a text to one cell per code point, although combining characters have no width, and
    clips it to its line, which cuts off a tilde above a tall letter and the foot of a subscript.
    """

    def correct(match: re.Match[str]) -> str:
        start, length, _clip, rest, content, end = match.groups()
        written = html.unescape(content)
        if not any(unicodedata.combining(sign) or sign in _LOW for sign in written):
            return match[0]
        cell = float(length) / len(written)
        return f'{start}textLength="{cell * cell_len(written):g}"{rest}{content}{end}'

    return _TEXT.sub(correct, svg)
