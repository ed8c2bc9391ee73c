"""The gradient on its way back through time: how large it is at each timestep, and which share goes on by which path."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import cycle

from rich.segment import Segment
from rich.style import Style

from tui_gru.debugger.flow import Flow
from tui_gru.debugger.snapshot import Snapshot
from tui_gru.tui.glyphs import transliterate
from tui_gru.tui.palette import Palette
from tui_gru.tui.widgets import numbers
from tui_gru.tui.widgets.bars import bar
from tui_gru.tui.widgets.boxes import Row

#: A bar of full length is the largest norm, an empty one is this many powers of ten below it.
DECADES = 4
NARROW = 7  # cells: a column that is narrower has no room for a number


def inks(palette: Palette) -> tuple[Style, ...]:
    """The solid colours of the paths, with their letters in the colour of the ground."""
    reverse = Style(reverse=True)
    return tuple(ink + reverse for ink in (palette.gate, palette.positive, palette.negative, palette.second))


def _paths(snapshot: Snapshot, state: str) -> Sequence[tuple[str, str]]:
    return snapshot.program.paths_of(state)


def going_on(snapshot: Snapshot, flows: Sequence[Flow | None]) -> str:
    """What carry `notebook` hands on to the earlier batches, in words; empty where nothing goes on, or not yet."""
    first = flows[0]
    if not snapshot.goes_on or first is None or first.handed_on is None:
        return ""
    return f"← {numbers.unit(first.handed_on).strip()} goes on into the batches before"


def legend(snapshot: Snapshot, state: str, width: int) -> str:
    """What the letters stand for, in as many words as a border of this width has room for."""
    paths = _paths(snapshot, state)
    whole = " · ".join(f"{letter} {word}" for letter, word in paths)
    short = (" ".join(f"{letter} {_short(word, length)}" for letter, word in paths) for length in (4, 3))
    forms = (f"shares by norm: {whole}", whole, *short)
    return next((words for words in forms if len(words) + 6 <= width), ", ".join(letter for letter, _ in paths))


def _short(word: str, width: int) -> str:
    return word if len(word) <= width + 1 else f"{word[:width]}."


def columns(
    palette: Palette,
    snapshot: Snapshot,
    state: str,
    flows: Sequence[Flow | None],
    *,
    label: int,
    cell: int,
    gap: int,
    steps: range,
    lines: int,
) -> list[Row]:
    """Under the columns of the sequence: the norm of dh, as a number with a bar or as a bar alone, then the shares.

    There are two or three `lines`; `label` cells are before the first column; a column is `cell` wide, `gap` more to the next.
    """
    wide = cell >= NARROW
    end = "←" if snapshot.goes_on else "┃"
    most = _most(flows)
    rows: list[list[Segment]] = []

    def row(name: str) -> list[Segment]:
        at_the_end = end if steps.start == 0 else " "
        named = name.ljust(label - 1) if label > len(name) else " " * (label - 1)
        rows.append(
            [
                Segment(transliterate(named, palette.glyphs), palette.dim),
                Segment(transliterate(at_the_end, palette.glyphs), palette.accent if end == "←" else palette.strong),
            ]
        )
        return rows[-1]

    delta = snapshot.program.flow_of(state).delta
    norms = row(f"‖{snapshot.program.writer.name(delta)}‖")
    bars = row("") if lines > 2 else None
    tall = bars is not None and not wide
    shares = row("paths")
    for t in steps:
        here, space = flows[t], Segment(" " * gap)
        fresh = t == snapshot.timestep and snapshot.line is not None and snapshot.line.target == delta
        ink = palette.accent if fresh else palette.plain
        part = 0.0 if here is None else _part(here.dh, most)
        if here is None:
            norms.append(Segment(palette.glyphs.blank.center(cell), palette.blank))
        elif wide:
            norms.append(_number(palette, here.dh, cell, ink))
        else:
            norms.append(Segment(_column(palette, 2 * part - 1 if tall else part).center(cell), ink))
        norms.append(space)
        if bars is not None:
            drawn = bar(palette, part, cell - 2) if wide else _column(palette, 2 * part)
            bars += [Segment(drawn.center(cell), palette.dim if wide else ink), space]
        inner = cell - 2 if wide else max(cell - 1, 1)
        spare = cell - inner
        parts = stacked(palette, _paths(snapshot, state), None if here is None else here.shares, inner)
        shares += [Segment(" " * (spare // 2)), *parts, Segment(" " * (spare - spare // 2)), space]
    return [tuple(each) for each in rows]


def table(palette: Palette, snapshot: Snapshot, state: str, flows: Sequence[Flow | None], width: int, height: int) -> list[Row]:
    """A row a timestep, the last one first, as the gradient flows, with every number; below them what becomes of it."""
    steps = _shown(snapshot, len(flows), height - 3)
    most, label = _most(flows), len(f"t {len(flows)}") + 1
    paths, delta = _paths(snapshot, state), snapshot.program.flow_of(state).delta
    fixed = label + 3 * 8 + 8 + len(paths) * 8 + 6
    rest = max(width - fixed, 12)
    bar_length, stack = rest // 2 - 1, rest - rest // 2 - 1
    scale = f"a full bar: {DECADES} powers of ten"
    scale = scale if len(scale) < bar_length else ""
    norm = f"‖{snapshot.program.writer.name(delta)}‖"
    head = f"{'':{label}}{norm:>7} {scale:<{bar_length}}{'output':>8}{'future':>8}{'on to t−1':>11} {'':{stack}}"
    heading = [Segment(transliterate(head, palette.glyphs), palette.dim)]
    for (letter, word), ink in zip(paths, cycle(inks(palette)), strict=False):
        heading += [Segment(" "), Segment(letter, ink), Segment(f" {word if len(word) <= 6 else _short(word, 4):<6}", palette.dim)]
    rows: list[Row] = [tuple(heading)]
    for t in reversed(steps):
        here, current = flows[t], t == snapshot.timestep
        name = Segment(f"t {t + 1}".ljust(label), palette.accent if current else palette.dim)
        if here is None:
            rows.append((name, Segment(palette.glyphs.blank.rjust(7), palette.blank)))
            continue
        row = [name, _number(palette, here.dh, 7, palette.plain, left=False), Segment(" ")]
        row.append(Segment(bar(palette, _part(here.dh, most), bar_length), palette.dim))
        row += [_number(palette, norm, 8, palette.dim, left=False) for norm in (here.from_output, here.from_future)]
        if here.handed_on is None:
            row.append(Segment(palette.glyphs.blank.rjust(11), palette.blank))
        else:
            row += [_number(palette, here.handed_on, 11, palette.plain, left=False), Segment(" ")]
            row += stacked(palette, paths, here.shares, stack)
            for share in here.shares or ():
                row.append(Segment(f" {share * 100:5.1f} %".ljust(9), palette.plain))
        rows.append(tuple(row))
    if 0 in steps:
        rows.append(_end(palette, snapshot, flows, label, width))
    return rows


def stacked(palette: Palette, paths: Sequence[tuple[str, str]], shares: Sequence[float] | None, width: int) -> list[Segment]:
    """A bar of `width` cells divided by the shares, each part in its colour and of its letter; blank without shares."""
    if shares is None:
        return [Segment(" " * width)]
    cells = _divided(shares, width)
    parts = zip(paths, cells, cycle(inks(palette)), strict=False)
    return [Segment(letter * count, ink) for (letter, _), count, ink in parts if count]


def _divided(shares: Sequence[float], width: int) -> list[int]:
    """Whole cells for each share, `width` in all: what is left over goes to the largest remainders."""
    whole = [int(share * width) for share in shares]
    order = sorted(range(len(shares)), key=lambda i: whole[i] - shares[i] * width)
    for i in order[: width - sum(whole)]:
        whole[i] += 1
    return whole


def _shown(snapshot: Snapshot, count: int, room: int) -> range:
    """The timesteps around the current one that there is room for."""
    room = max(min(room, count), 1)
    current = snapshot.timestep if snapshot.timestep is not None else 0
    start = min(max(current - room // 2, 0), count - room)
    return range(start, start + room)


def _end(palette: Palette, snapshot: Snapshot, flows: Sequence[Flow | None], label: int, width: int) -> Row:
    on = going_on(snapshot, flows)
    if snapshot.goes_on:
        words = on or "← goes on into the batches before"
        return (Segment(transliterate(f"{'':{label}}{words}", palette.glyphs), palette.accent),)
    why = {"reset": "h starts anew with every batch", "notebook": "the epoch begins here"}
    words = why.get(snapshot.config.carry, "the state is carried over by value")
    wall = transliterate("━" * max(min(width - label - len(words) - 3, 24), 4), palette.glyphs)
    return (Segment(" " * label), Segment(wall, palette.strong), Segment(f" {words}", palette.dim))


def _number(palette: Palette, value: float, width: int, ink: Style, *, left: bool = True) -> Segment:
    written = numbers.unit(value)
    return Segment(written.center(width) if left else written.rjust(width), ink if math.isfinite(value) else palette.warning)


def _most(flows: Iterable[Flow | None]) -> float:
    return max((flow.dh for flow in flows if flow is not None and math.isfinite(flow.dh)), default=0.0)


def _part(norm: float, most: float) -> float:
    """How long the bar of a norm is, 0 to 1, on a logarithmic scale."""
    if not math.isfinite(norm):
        return 1.0
    if norm <= 0 or most <= 0:
        return 0.0
    return max(1 + math.log10(norm / most) / DECADES, 1e-9)


def _column(palette: Palette, part: float) -> str:
    glyphs = palette.glyphs.column
    return glyphs[math.ceil(min(max(part, 0), 1) * (len(glyphs) - 1))]
