"""The flow of the gradient back through time: its norm at each timestep, and the share of each path."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import cycle
from typing import NamedTuple

from rich.segment import Segment
from rich.style import Style

from tui_gru.debugger.analysis.flow import Flow, flow_names, paths_of
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.engine import numbers
from tui_gru.equations.names import split
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.look.themes import Palette
from tui_gru.tui.widgets.bars import bar
from tui_gru.tui.widgets.boxes import SegmentRow

#: The range of the bars in powers of ten: a full bar is the largest norm.
DECADES = 4
NARROW = 7  # cells; a narrower column has no room for a number


def inks(palette: Palette) -> tuple[Style, ...]:
    """Return the styles of the paths: solid colours, with letters in the colour of the background."""
    reverse = Style(reverse=True)
    return tuple(ink + reverse for ink in (palette.gate, palette.positive, palette.negative, palette.second))


def _paths(snapshot: Snapshot, state: str) -> Sequence[tuple[str, str]]:
    """Return the paths between which the gradient of a state is divided; empty if there is only one."""
    paths = paths_of(snapshot.program, state)
    return paths if len(paths) > 1 else ()


def flow_into_earlier(snapshot: Snapshot, flows: Sequence[Flow | None]) -> str:
    """Return the gradient that flows into the earlier batches, in words; empty if none does or it is not computed yet."""
    first = flows[0]
    if not snapshot.flows_into_earlier or first is None or first.handed_on is None:
        return ""
    return f"← {numbers.unit(first.handed_on).strip()} flows into the earlier batches"


def flow_legend(snapshot: Snapshot, state: str, width: int) -> str:
    """Return what the letters mean, as detailed as the width of the border allows; empty if there is only one path."""
    paths = _paths(snapshot, state)
    if not paths:
        return ""
    whole = " · ".join(_both(letter, word) for letter, word in paths)
    short = (" ".join(_both(letter, _short(word, length)) for letter, word in paths) for length in (4, 3))
    forms = (f"shares by norm: {whole}", whole, *short)
    return next((words for words in forms if len(words) + 6 <= width), ", ".join(letter for letter, _ in paths))


def _both(letter: str, word: str) -> str:
    return letter if word == letter else f"{letter} {word}"


def _short(word: str, width: int) -> str:
    return word if len(word) <= width + 1 else f"{word[:width]}."


class SequenceColumns(NamedTuple):
    """The columns of the sequence, in cells: `label` before the first, `cell` for each, and `gap` after each."""

    label: int
    cell: int
    gap: int
    steps: range

    @property
    def wide(self) -> bool:
        """True if there is room for numbers."""
        return self.cell >= NARROW


def columns(
    palette: Palette, snapshot: Snapshot, flows: Mapping[str, Sequence[Flow | None]], at: SequenceColumns, *, lines: int
) -> list[SegmentRow]:
    """Draw the flow below the columns of the sequence, in two `lines` or more.

    The lines are the norm of the gradient of each state, as a number or a bar (both if there is only one state), for as many
    states as fit, then the shares of the paths of the first state.
    """
    first, *others = flows
    paths = _paths(snapshot, first)
    lines -= bool(paths)
    rows: list[SegmentRow] = []
    for state in (first, *others[: lines - 1]):
        rows += _norms(palette, snapshot, state, flows[state], at, tall=lines > 1 and not others)
    if not paths:
        return rows
    inner = at.cell - 2 if at.wide else max(at.cell - 1, 1)
    spare = at.cell - inner
    cells = []
    for t in at.steps:
        here = flows[first][t]
        parts = stacked(palette, paths, None if here is None else here.shares, inner)
        cells.append((Segment(" " * (spare // 2)), *parts, Segment(" " * (spare - spare // 2))))
    return [*rows, _line(palette, snapshot, first, "paths", cells, at)]


def _norms(
    palette: Palette, snapshot: Snapshot, state: str, flows: Sequence[Flow | None], at: SequenceColumns, *, tall: bool
) -> Iterator[SegmentRow]:
    """Draw the norm of the gradient of a state at each timestep, with `tall` in two lines."""
    delta, most = f"d{state}", _most(flows)
    norms, bars = [], []
    for t in at.steps:
        here = flows[t]
        fresh = t == snapshot.timestep and snapshot.line is not None and snapshot.line.target == delta
        ink = palette.accent if fresh else palette.plain
        part = 0.0 if here is None else _part(here.dh, most)
        if here is None:
            norms.append((Segment(palette.glyphs.blank.center(at.cell), palette.blank),))
        elif at.wide:
            norms.append((_number(palette, here.dh, at.cell, ink),))
        else:
            norms.append((Segment(_column(palette, 2 * part - 1 if tall else part).center(at.cell), ink),))
        drawn = bar(palette, part, at.cell - 2) if at.wide else _column(palette, 2 * part)
        bars.append((Segment(drawn.center(at.cell), palette.dim if at.wide else ink),))
    yield _line(palette, snapshot, state, _name(snapshot, delta), norms, at)
    if tall:
        yield _line(palette, snapshot, state, "", bars, at)


def _name(snapshot: Snapshot, delta: str) -> str:
    """Return the label of a norm, `‖dh‖`, without the layer, which is in the title."""
    return f"‖{snapshot.program.writer.name(split(delta)[0])}‖"


def _line(
    palette: Palette, snapshot: Snapshot, state: str, name: str, cells: Sequence[SegmentRow], at: SequenceColumns
) -> SegmentRow:
    """Draw a line below the columns, with a sign where the gradient leaves the batch or is cut."""
    sign, ink = ("←", palette.accent) if snapshot.flows_into_earlier else ("┃", palette.strong)
    end, nothing = Segment(transliterate(sign, palette.glyphs), ink), Segment(" ", ink)
    left = snapshot.program.way_of(f"d{state}") < 0
    named = name.ljust(at.label - 1) if at.label > len(name) else " " * (at.label - 1)
    row = [Segment(transliterate(named, palette.glyphs), palette.dim), end if left and at.steps.start == 0 else nothing]
    for cell in cells:
        row += [*cell, Segment(" " * at.gap)]
    if not left and at.steps.stop == snapshot.config.seq_length:
        row[-1] = end
    return tuple(row)


def table(
    palette: Palette, snapshot: Snapshot, state: str, flows: Sequence[Flow | None], width: int, height: int
) -> list[SegmentRow]:
    """Draw a row with all numbers per timestep, in the order in which the gradient flows; the last row says where it ends."""
    steps = _shown(snapshot, len(flows), height - 3)
    most, label = _most(flows), len(f"t {len(flows)}") + 1
    names, paths = flow_names(snapshot.program, state), _paths(snapshot, state)
    fixed = label + 3 * 8 + 8 + len(paths) * 8 + 6
    rest = max(width - fixed, 12)
    stack = rest - rest // 2 - 1 if paths else 0
    bar_length = rest - 2 - stack
    scale = f"a full bar: {DECADES} powers of ten"
    scale = scale if len(scale) < bar_length else ""
    on_to, ahead = ("t−1", "future") if names.way < 0 else ("t+1", "past")
    head = f"{'':{label}}{_name(snapshot, names.delta):>7} {scale:<{bar_length}}"
    own = "output" if any(state == layer.output for layer in snapshot.program.layers) else "here"
    head += f"{own:>8}{ahead:>8}{f'on to {on_to}':>11} {'':{stack}}"
    heading = [Segment(transliterate(head, palette.glyphs), palette.dim)]
    for (letter, word), ink in zip(paths, cycle(inks(palette)), strict=False):
        word = "" if word == letter else word if len(word) <= 6 else _short(word, 4)
        heading += [Segment(" "), Segment(letter, ink), Segment(f" {word:<6}", palette.dim)]
    rows: list[SegmentRow] = [tuple(heading)]
    for t in steps[:: names.way]:
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
            for share in (here.shares or ()) if paths else ():
                row.append(Segment(f" {share * 100:5.1f} %".ljust(9), palette.plain))
        rows.append(tuple(row))
    if (0 if names.way < 0 else len(flows) - 1) in steps:
        rows.append(_end(palette, snapshot, state, flows, label, width))
    return rows


def stacked(palette: Palette, paths: Sequence[tuple[str, str]], shares: Sequence[float] | None, width: int) -> list[Segment]:
    """Draw a bar of `width` cells divided by the shares, each part in its colour and letter; blank without shares."""
    if shares is None:
        return [Segment(" " * width)]
    cells = _divided(shares, width)
    parts = zip(paths, cells, cycle(inks(palette)), strict=False)
    return [Segment(letter * count, ink) for (letter, _), count, ink in parts if count]


def _divided(shares: Sequence[float], width: int) -> list[int]:
    """Divide `width` cells by the shares into whole cells; cells left over go to the largest remainders."""
    whole = [int(share * width) for share in shares]
    order = sorted(range(len(shares)), key=lambda i: whole[i] - shares[i] * width)
    for i in order[: width - sum(whole)]:
        whole[i] += 1
    return whole


def _shown(snapshot: Snapshot, count: int, room: int) -> range:
    """Return the timesteps around the current one that fit."""
    room = max(min(room, count), 1)
    current = snapshot.timestep if snapshot.timestep is not None else 0
    start = min(max(current - room // 2, 0), count - room)
    return range(start, start + room)


def _end(palette: Palette, snapshot: Snapshot, state: str, flows: Sequence[Flow | None], label: int, width: int) -> SegmentRow:
    on = flow_into_earlier(snapshot, flows)
    if snapshot.flows_into_earlier:
        words = on or "← flows into the earlier batches"
        return (Segment(transliterate(f"{'':{label}}{words}", palette.glyphs), palette.accent),)
    name = snapshot.program.writer.name(state)
    why = {"reset": f"{name} is reset with every batch", "notebook": "the epoch starts here"}
    words = why.get(snapshot.config.carry, "the state is carried over by value")
    wall = transliterate("━" * max(min(width - label - len(words) - 3, 24), 4), palette.glyphs)
    return (Segment(" " * label), Segment(wall, palette.strong), Segment(f" {words}", palette.dim))


def _number(palette: Palette, value: float, width: int, ink: Style, *, left: bool = True) -> Segment:
    written = numbers.unit(value)
    return Segment(written.center(width) if left else written.rjust(width), ink if math.isfinite(value) else palette.warning)


def _most(flows: Iterable[Flow | None]) -> float:
    return max((flow.dh for flow in flows if flow is not None and math.isfinite(flow.dh)), default=0.0)


def _part(norm: float, most: float) -> float:
    """Return the length of the bar of a norm, from 0 to 1, on a logarithmic scale."""
    if not math.isfinite(norm):
        return 1.0
    if norm <= 0 or most <= 0:
        return 0.0
    return max(1 + math.log10(norm / most) / DECADES, 1e-9)


def _column(palette: Palette, part: float) -> str:
    glyphs = palette.glyphs.column
    return glyphs[math.ceil(min(max(part, 0), 1) * (len(glyphs) - 1))]
