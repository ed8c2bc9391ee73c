"""Sampled texts, the newest first and with the numbers that chose each of its characters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

from tui_gru.debugger.naming import printable, shown_char
from tui_gru.debugger.snapshot import Snapshot
from tui_gru.tui.glyphs import transliterate
from tui_gru.tui.key_signs import with_keys
from tui_gru.tui.palette import Palette
from tui_gru.tui.view import View
from tui_gru.tui.widgets.boxes import Box, clip, from_rows, pad, text, vstack
from tui_gru.tui.widgets.panel import Panel
from tui_gru.tui.widgets.written import ENTRIES

if TYPE_CHECKING:
    from tui_gru.engine.sampling import Draw, Sample

_SAMPLERS = {"fed-back": "fed back"}
_LABEL = max(map(len, _SAMPLERS.values())) + 2
#: Cells before the columns of the table of draws, and how many older samples it leaves room for.
_LEAD, _OLDER = 2, 3


class Samples(Panel):
    """The samples drawn so far. Under the newest: the probability of each character, and the uniform number that chose it."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._samples: tuple[Sample, ...] | None = None

    def show(self, snapshot: Snapshot, view: View) -> None:
        if snapshot.samples is self._samples:
            return
        self._samples = snapshot.samples
        newest = self._samples[-1] if self._samples else None
        self.set_titles("samples", None if newest is None else f"temp {newest.temperature:g} · seed {newest.seed}")
        self.refresh_content()

    def build(self, width: int, height: int) -> Box:
        palette = self.palette
        if not self._samples:
            return clip(palette, text(palette, with_keys(self, "<sample> draws a sample"), palette.dim), width, height)
        *older, newest = self._samples
        lines = [_text(palette, newest, width, palette.strong, most=max(height // 2, 1))]
        if newest.draws:
            room = height - lines[0].height - min(len(older), _OLDER)
            lines.append(_draws(palette, newest.draws, width, room))
        lines += [_text(palette, sample, width, palette.plain, most=1) for sample in reversed(older)]
        return clip(palette, vstack(*lines), width, 10**6)


def _text(palette: Palette, sample: Sample, width: int, ink: Style, *, most: int) -> Box:
    """A sample's sampler and its text, the primer dim, in at most so many lines."""
    name = _SAMPLERS.get(sample.sampler, sample.sampler)
    label = name.ljust(_LABEL) if width >= _LABEL + 12 else ""
    rows: list[list[Segment]] = []
    row, used = [Segment(label, palette.dim)], len(label)
    for i, char in enumerate(sample.text):
        written = transliterate(printable(char), palette.glyphs)
        if used + cell_len(written) > width:
            if len(rows) + 1 == most:
                row.append(Segment(written, ink))  # too long: what cuts it marks it
                break
            rows.append(row)
            row, used = [Segment(" " * len(label))], len(label)
        row.append(Segment(written, palette.dim if i < len(sample.primer) else ink))
        used += cell_len(written)
    return from_rows([*rows, row])


def _draws(palette: Palette, draws: tuple[Draw, ...], width: int, height: int) -> Box:
    """A table of the draws: the character, its probability p, and the uniform number u where one chose it.

    As many lines of it as fit, each with a blank row after it; nothing where not even one does.
    """
    entry = ENTRIES["unit", len(draws) * (ENTRIES["unit", False].width + 1) + _LEAD > width]
    column = entry.width + 1
    across = max((width - _LEAD) // column, 1)
    lines = []
    for start in range(0, len(draws), across):
        shown = draws[start : start + across]
        rows = [
            _line(palette, " ", [transliterate(shown_char(draw.char), palette.glyphs) for draw in shown], palette.strong, column),
            _line(palette, "p", [entry.write(draw.y_hat[draw.index]) for draw in shown], palette.gate, column),
        ]
        uniforms = [entry.write(draw.uniform) for draw in shown if draw.uniform is not None]
        if uniforms:
            rows.append(_line(palette, "u", uniforms, palette.plain, column))
        lines.append(pad(from_rows(rows), bottom=1))
    return vstack(*lines[: max(height, 0) // lines[0].height])


def _line(palette: Palette, label: str, cells: list[str], ink: Style, column: int) -> list[Segment]:
    padded = (Segment(" " * (column - cell_len(cell)) + cell, ink) for cell in cells)
    return [Segment(label.ljust(_LEAD), palette.dim), *padded]
