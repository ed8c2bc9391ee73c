"""What is drawn, as a text to read and compare: the characters, and below them a sign for the style of each cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from string import ascii_letters, digits

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

#: Signs of styles in the order in which they are met; the last are Greek and Cyrillic. The style of most cells has a blank.
SIGNS = ascii_letters + digits + "".join(map(chr, [*range(0x3B1, 0x3CA), *range(0x430, 0x450), *range(0x410, 0x430)]))


def described(rows: Iterable[Sequence[Segment]]) -> str:
    """Return the text of rows, then the sign of the style of each of their cells, then the styles by their signs."""
    drawn = [[segment for segment in row if not segment.control] for row in rows]
    cells = [[(_seen(segment), cell_len(segment.text)) for segment in row] for row in drawn]
    counts: Counter[str] = Counter()
    for row in cells:
        for style, width in row:
            counts[style] += width
    ground = max(counts, key=counts.__getitem__, default="")
    signs = {ground: " "} | dict(zip((style for style in counts if style != ground), SIGNS, strict=False))
    texts = ["".join(segment.text for segment in row) for row in drawn]
    styles = ["".join(signs[style] * width for style, width in row) for row in cells]
    return "\n".join(line.rstrip() for line in (*texts, "", *styles, "", *(f"{sign} {style}" for style, sign in signs.items())))


def _seen(segment: Segment) -> str:
    """Return what is seen of the style of a segment: of blanks, only what lies behind and below them."""
    style = segment.style or Style()
    if not segment.text.strip():
        style = Style(bgcolor=style.bgcolor, underline=style.underline, reverse=style.reverse)
    return str(style)
