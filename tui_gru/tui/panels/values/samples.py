"""The samples, newest first, with the probabilities and random numbers that chose their characters."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import pairwise
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

from tui_gru.debugger.program.position import position_of
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.engine.numbers import given
from tui_gru.tui.look.characters import widest, written_char
from tui_gru.tui.look.themes import Palette
from tui_gru.tui.verbs.verb import with_keys
from tui_gru.tui.widgets.boxes import Box, clip, from_rows, pad, text, vstack
from tui_gru.tui.widgets.plots.time_scale import place_name
from tui_gru.tui.widgets.snapshot_panel import Compared, SnapshotPanel, Titles, View
from tui_gru.tui.widgets.written import ENTRIES, EntryFormat

if TYPE_CHECKING:
    from tui_gru.engine.running.sampling import Draw, Sample

_SAMPLERS = {"fed-back": "fed back"}
_LABEL = max(map(len, _SAMPLERS.values())) + 2
#: Cells before the columns of the table of draws, and the number of older samples for which it leaves room.
_LEAD, _OLDER = 2, 3


class Samples(SnapshotPanel):
    """The samples drawn so far. Below each, if there is room, the probability of each character and the random number."""

    ABOUT = (
        "Texts drawn from the model. Under each character p, the probability that it had, and u, the random number from 0 to 1 "
        "that chose it: the range from 0 to 1 is divided by the probabilities of the characters, and u falls into the part of "
        "one of them."
    )

    COMPARED = Compared.BOTH

    def reads(self, snapshot: Snapshot, view: View) -> Hashable:
        return id(snapshot.samples)  # as long as the panel has them, no others have this id

    def titles(self, snapshot: Snapshot) -> Titles:
        """Return the title, and the place, the temperature and the seed of the newest sample."""
        if not snapshot.samples:
            return "samples", None
        newest = snapshot.samples[-1]
        hints = [_place(snapshot, newest), f"temp {given(newest.temperature)}", f"seed {newest.seed}"]
        return "samples", [hint for hint in hints if hint]

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        palette = self.palette
        if not snapshot.samples:
            return clip(palette, text(palette, with_keys(self, "<sample> draws a sample"), palette.dim), width, height)
        newest, *older = reversed(snapshot.samples)
        most = 10**6 if self.zoomed else max(height // 2, 1)
        blocks = [[_text(palette, newest, width, palette.strong, most=most)]]
        for after, sample in pairwise(reversed(snapshot.samples)):
            drawn = _text(palette, sample, width, palette.plain, most=most if self.zoomed else 1)
            place = _place(snapshot, sample) if sample.tick != after.tick else ""
            blocks.append([text(palette, place, palette.dim), drawn] if place else [drawn])
        room = 10**6 if self.zoomed else height - sum(box.height for block in blocks[: 1 + _OLDER] for box in block)
        for block, sample in zip(blocks, (newest, *older), strict=True):
            if sample is newest or _height(sample.draws, width) <= room:
                block.append(_draws(palette, sample.draws, width, room))
                room -= block[-1].height
        return clip(palette, vstack(*(box for block in blocks for box in block)), width, 10**6)


def _place(snapshot: Snapshot, sample: Sample) -> str:
    """Return where a sample was drawn as `e12 b3 t2`, or as `e12 b3` outside of the loops over t; empty if that is unknown."""
    if sample.tick is None:
        return ""
    position = position_of(snapshot.program, sample.tick)
    return place_name(position).removesuffix(f" {position.phase}")


def _text(palette: Palette, sample: Sample, width: int, ink: Style, *, most: int) -> Box:
    """Draw the sampler and the text of a sample, with the primer dimmed, in at most `most` lines."""
    name = _SAMPLERS.get(sample.sampler, sample.sampler)
    label = name.ljust(_LABEL) if width >= _LABEL + 12 else ""
    rows: list[list[Segment]] = []
    row, used = [Segment(label, palette.dim)], len(label)
    for i, char in enumerate(sample.tokens):
        written = (sample.between if i else "") + (char if char == " " else written_char(char, palette.glyphs))
        if used + cell_len(written) > width:
            if len(rows) + 1 == most:
                row.append(Segment(written, ink))  # too long: the box is clipped, and marked as cut off
                break
            rows.append(row)
            row, used = [Segment(" " * len(label))], len(label)
        row.append(Segment(written, palette.dim if i < len(sample.primer) else ink))
        used += cell_len(written)
    return from_rows([*rows, row])


def _draws(palette: Palette, draws: tuple[Draw, ...], width: int, height: int) -> Box:
    """Draw a table of the draws: the character, its probability p, and the uniform random number u if one was used.

    Only the lines that fit are drawn, each with a blank row after it.
    """
    entry, across = _columns(draws, width)
    column = _column(entry, draws)
    fit = max(height, 0) // _rows_of_line(draws)
    lines = []
    for start in range(0, min(len(draws), fit * across), across):
        shown = draws[start : start + across]
        rows = [
            _line(palette, " ", [written_char(draw.char, palette.glyphs) for draw in shown], palette.strong, column),
            _line(palette, "p", [entry.write(draw.y_hat[draw.index]) for draw in shown], palette.gate, column),
        ]
        uniforms = [entry.write(draw.uniform) for draw in shown if draw.uniform is not None]
        if uniforms:
            rows.append(_line(palette, "u", uniforms, palette.plain, column))
        lines.append(pad(from_rows(rows), bottom=1))
    return vstack(*lines)


def _columns(draws: tuple[Draw, ...], width: int) -> tuple[EntryFormat, int]:
    """Return the format of the numbers in the table of draws, and the number of draws side by side."""
    entry = ENTRIES["unit", len(draws) * _column(ENTRIES["unit", False], draws) + _LEAD > width]
    return entry, max((width - _LEAD) // _column(entry, draws), 1)


def _column(entry: EntryFormat, draws: tuple[Draw, ...]) -> int:
    """Return the width of a draw with the blank before it, in cells."""
    return 1 + max(entry.width, widest(tuple(draw.char for draw in draws)))


def _rows_of_line(draws: tuple[Draw, ...]) -> int:
    """Return the rows of one line of the table: characters, p, u if there is one, and a blank."""
    return 3 + any(draw.uniform is not None for draw in draws)


def _height(draws: tuple[Draw, ...], width: int) -> int:
    """Return the rows of the whole table."""
    return -(-len(draws) // _columns(draws, width)[1]) * _rows_of_line(draws)


def _line(palette: Palette, label: str, cells: list[str], ink: Style, column: int) -> list[Segment]:
    padded = (Segment(" " * (column - cell_len(cell)) + cell, ink) for cell in cells)
    return [Segment(label.ljust(_LEAD), palette.dim), *padded]
