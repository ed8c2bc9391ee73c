"""Corrects exported SVG pictures: the places of texts, combining characters and clipping."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from rich.cells import cell_len

_LOW = "ₜ₋₁"  # subscripts reach below their line
_TEXT_ELEMENT = re.compile(r'<text ([^>]*?)x="([\d.]+)" y="([\d.]+)" textLength="([\d.]+)"( clip-path="[^"]*")?>([^<]*)</text>')
# ASCII words with single spaces between them, lines of a frame, or one other character
_ASCII = r"[!-~](?![\u0300-\u036f])"
_PIECE = re.compile(rf"{_ASCII}(?:\xa0?{_ASCII})*|[\u2500-\u259f]{{1,16}}|\S[\u0300-\u036f]*")


def mend(svg: str) -> str:
    """Return the exported picture with each text in its cells, and with h̃ and subscripts drawn correctly.

    Rich (15, `Console.export_svg`) relies on `textLength` for the places of all characters of a line in one style, which some
    programs ignore (librsvg, which drops spaces at both ends as well). It stretches a text to one cell per code point, although
    combining characters have no width, and clips it to its line, which cuts off a tilde above a tall letter and the foot of a
    subscript.
    """
    return _TEXT_ELEMENT.sub(lambda text: "".join(_pieces(text)), svg)


def _pieces(text: re.Match[str]) -> Iterator[str]:
    attributes, left, y, length, clip, content = text.groups()
    written = html.unescape(content)
    cell = float(length) / len(written)
    for piece in _PIECE.finditer(written):
        sign = piece[0]
        cells = cell_len(sign)
        clipped = clip if clip and sign not in _LOW and cells == len(sign) else ""
        x = float(left) + cell * cell_len(written[: piece.start()])
        fitted = ' lengthAdjust="spacingAndGlyphs"' if cells == 1 and not sign.isascii() else ""  # some, as ①, are wider
        shown = html.escape(sign).replace("\xa0", "&#160;")
        yield f'<text {attributes}x="{x:g}" y="{y}" textLength="{cell * cells:g}"{fitted}{clipped}>{shown}</text>'
