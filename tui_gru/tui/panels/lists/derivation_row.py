"""Draws a row of a derivation: label, value, share of the sum, and expression."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

from tui_gru.debugger.derivation.written import Row
from tui_gru.tui.look.characters import cut, folded
from tui_gru.tui.look.glyphs import Glyphs, transliterate
from tui_gru.tui.look.palette import Palette
from tui_gru.tui.widgets.bars import bar

BAR, MADE = 8, 40  # cells: of the bar of a share, and the least of the expression beside a bar
SHARE = 8  # cells of a share in per cent


@dataclass(frozen=True)
class Columns:
    """The widths of the columns of a derivation, in cells."""

    width: int
    label: int
    digits: int

    @classmethod
    def of(cls, rows: Sequence[Row], width: int, glyphs: Glyphs) -> Columns:
        label = min(max(cell_len(transliterate(label_of(row), glyphs)) for row in rows), max(width - 34, 12))
        return cls(width, label, max(len(row.written) for row in rows))

    @property
    def bar(self) -> int:
        """The width of the bar, 0 if there is no room for it."""
        return BAR if self.width - self._used > MADE + BAR else 0

    @property
    def made(self) -> int:
        """The width of the expression."""
        return max(self.width - self._used - SHARE - self.bar, 0)

    @property
    def _used(self) -> int:
        return self.label + 2 + self.digits


def label_of(row: Row) -> str:
    """Return the label with its sign, after the guides of the tree."""
    joined = f"{row.sign or ' '} " if row.path else ""
    return f"{row.guides}{joined}{row.label}"


def line(palette: Palette, row: Row, columns: Columns, ink: Style) -> Iterable[Segment]:
    """Return the segments of the row; `ink` is the style of its label."""
    glyphs = palette.glyphs
    named = cut(transliterate(label_of(row), glyphs), columns.label, glyphs)
    at = len(transliterate(row.guides, glyphs)) if named.startswith(transliterate(row.guides, glyphs)) else 0
    yield Segment(named[:at], palette.dim)
    yield Segment(named[at:] + " " * (columns.label - cell_len(named)), ink)
    yield Segment(transliterate(f"  {row.written:>{columns.digits}}", glyphs), palette.strong if row.opened else palette.plain)
    if row.share is None:
        yield Segment(" " * (columns.bar + SHARE))
    else:
        yield Segment(f" {row.share:>4.0%} ", palette.plain)
        yield Segment(bar(palette, row.share, columns.bar), palette.gate)
        yield Segment("  ")
    yield Segment(cut(transliterate(f"{opener(row)}{row.made}", glyphs), columns.made, glyphs), palette.dim)


def in_full(palette: Palette, row: Row, columns: Columns) -> list[str]:
    """Return label and expression in lines to be drawn below the row, without those that are not cut off in it."""
    glyphs = palette.glyphs
    label, made = transliterate(label_of(row), glyphs), transliterate(f"{opener(row)}{row.made}", glyphs)
    parts = [transliterate(row.label, glyphs)] if cell_len(label) > columns.label else []
    if cell_len(made) > columns.made:
        parts.append(transliterate(f"= {row.made}", glyphs))
    return folded(" ".join(parts), max(columns.width - 2, 1)) if parts else []


def opener(row: Row) -> str:
    """Return the sign that shows whether the row is open, can be opened, or neither."""
    if row.node is None:
        return "▸ " if row.path[-1:] == (-1,) else "  "
    if row.node.derivation.kind == "given":
        return "  "
    return "▾ " if row.opened else "▸ "
