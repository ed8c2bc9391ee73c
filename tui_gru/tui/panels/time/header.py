"""The top line: text, position, settings and loss."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style

from tui_gru.debugger.program.naming import printable
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.engine import numbers
from tui_gru.engine.compiling.update import UPDATES
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.look.themes import Palette
from tui_gru.tui.widgets.boxes import Box, from_rows
from tui_gru.tui.widgets.snapshot_panel import SnapshotPanel

_GAP = "  "
_DOT = " · "
_NAME = "tui-gru"
#: An excerpt of the text shorter than this is left out.
_EXCERPT = 8


class _Item(NamedTuple):
    """A piece of the line, with `value` emphasized. Pieces that do not fit are dropped, the least needed first."""

    content: str
    style: Style
    need: int
    value: str = ""

    @property
    def width(self) -> int:
        return cell_len(self.content + self.value)


class Header(SnapshotPanel, can_focus=False):
    """One row: the text, the position, and the settings and the loss at that position."""

    ABOUT = "Where the run is, its settings, and its newest loss."

    DEFAULT_CSS = "Header { height: 1; border: none !important; padding: 0; background: $panel; }"

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        return from_rows([header(self.palette, snapshot, width)])


def header(palette: Palette, snapshot: Snapshot, width: int) -> list[Segment]:
    """Draw the line for a screen of this width."""
    middle, right = (
        [item._replace(content=transliterate(item.content, palette.glyphs)) for item in items]
        for items in (_position(palette, snapshot), _facts(palette, snapshot))
    )
    name = _Item(_NAME, palette.strong + palette.gate, 2)
    pieces: list[_Item] = []
    for item in sorted([name, *middle, *right], key=lambda item: -item.need):
        if _used([*pieces, item], middle, right) <= width:
            pieces.append(item)
    left = [name] if name in pieces else []
    middle, right = [[item for item in part if item in pieces] for part in (middle, right)]
    room = width - _used(pieces, middle, right) - len(_GAP)
    if left and room >= _EXCERPT:
        left.append(
            _Item(
                _excerpt(
                    palette,
                    snapshot.config.as_string(snapshot.corpus.text[:LONGEST]),
                    min(room, width // (4 if snapshot.config.given is None else 2)),
                ),
                palette.dim,
                0,
            )
        )
    parts = [_joined(palette, left, "  "), _joined(palette, middle, _DOT), _joined(palette, right, _GAP)]
    return _spread([part for part in parts if part], width)


def _used(pieces: list[_Item], middle: list[_Item], right: list[_Item]) -> int:
    """Return the width of these pieces with the gaps between them, in cells."""
    used, gaps = sum(item.width for item in pieces), 0
    for part, gap in ((middle, _DOT), (right, _GAP)):
        count = sum(item in pieces for item in part)
        gaps += max(count - 1, 0) * len(gap) + (len(_GAP) if count and count < len(pieces) else 0)
    return used + gaps


def _position(palette: Palette, snapshot: Snapshot) -> list[_Item]:
    """Return the pieces of the position: epoch 1/100 · batch 1/3 · t 2/3 · forward; t only if there is a current timestep."""
    at, program = snapshot.position, snapshot.program
    last = "" if snapshot.last is None else f"/{snapshot.last.epoch + 1:,}"
    items = [
        _Item(f"epoch {at.epoch + 1:,}{last}", palette.plain, 8),
        _Item(f"batch {at.batch + 1:,}/{program.num_batches:,}", palette.plain, 9),
    ]
    if (given := snapshot.config.given) is not None:
        items = [_Item(given.places[at.batch], palette.plain, 9)] if given.places else []
    in_a_loop = at.phase in ("forward", "backward") and (at.line is None or at.line.formula is not None)
    if in_a_loop:
        items.append(_Item(f"t {at.t + 1:,}/{program.seq_length:,}", palette.accent, 10))
    items.append(_Item(at.phase, palette.plain, 7))
    return items


def _facts(palette: Palette, snapshot: Snapshot) -> list[_Item]:
    """Return the other pieces, from left to right."""
    items = []
    if snapshot.unrecorded:
        items.append(_Item("unrecorded", palette.warning, 9))
    if (machine := snapshot.machine) is not None:
        items.append(_Item(machine.short, palette.warning if machine.warning else palette.accent, 9 if machine.warning else 6))
    behind = snapshot.newest.tick - snapshot.position.tick
    if not snapshot.finite:
        items.append(_Item(f"{palette.glyphs.not_finite} not finite", palette.warning, 11))
    if count := len(snapshot.findings):
        items.append(_Item(f"▲ {count} {'finding' if count == 1 else 'findings'}", palette.warning, 5))
    if 0 < behind < 100:
        items.append(_Item(f"{palette.glyphs.target_end} {behind} {'tick' if behind == 1 else 'ticks'} back", palette.accent, 5))
    elif behind:
        part = int(100 * snapshot.position.tick / snapshot.newest.tick)
        items.append(_Item(f"{palette.glyphs.target_end} at {part} % of the run", palette.accent, 5))
    if snapshot.checked is not None:
        items.append(_Item(f"✓ {snapshot.checked.batches:,} checked", palette.gate, 3))
    learns = snapshot.learning
    if snapshot.config.given is None:
        items.append(_Item("learning on" if learns else "learning off", palette.plain if learns else palette.dim, 4))
        items += [_Item(fact, palette.dim, 0) for fact in _rule(snapshot)]
        if snapshot.config.carry != "detach":
            items.append(_Item(f"carry {snapshot.config.carry}", palette.dim, 1))
    if len(snapshot.branches) > 1:
        items.append(_Item(f"branch {snapshot.branch}", palette.plain, 3))
    if snapshot.other is not None:
        items.append(_Item(f"compared with {snapshot.other.name}", palette.second, 5))
        if snapshot.other.moment is None:
            items.append(_Item("which has not reached this place", palette.second, 1))
        elif snapshot.position.tick < snapshot.other.parted:
            items.append(_Item("which has no differences so far", palette.second, 1))
    label, loss = _loss(snapshot)
    if loss is not None:
        items.append(_Item(f"{label} ", palette.dim, 6, numbers.plain(loss)))
    return items


def _rule(snapshot: Snapshot) -> list[str]:
    """Return the update rule unless it is plain SGD, with learning rate, clipping limit and number of updates."""
    config, program, settings = snapshot.config, snapshot.program, snapshot.settings
    rule = "" if config.optimizer == "sgd" else f"{config.optimizer} "
    facts = [f"{rule}{program.writer.name('learning_rate')} {numbers.given(settings['learning_rate'])}"]
    if "limit" in settings:
        facts.append(f"clip {numbers.given(settings['limit'])}")
    if any(UPDATES in line.reads for line in program.update):
        count = snapshot.record.before.updates + (snapshot.position.phase == "update")
        facts.append(f"{count:,} update{'' if count == 1 else 's'}")
    return facts


def _loss(snapshot: Snapshot) -> tuple[str, float | None]:
    """Return the newest loss and its label: that of this batch, of a timestep, or of the previous batch."""
    loss = snapshot.value("loss")
    if loss is not None:
        return "loss", loss
    name = snapshot.program.loss_names.timestep
    for t in range(snapshot.position.t, -1, -1) if name else ():
        term = snapshot.value(name, t)
        if term is not None:
            return f"{snapshot.program.writer.name(name)} t {t + 1}:", term
    if snapshot.previous is not None:
        return "last batch’s loss", snapshot.previous.loss
    return "", None


LONGEST = 1000  # characters or tokens; more than fit into a line


def _excerpt(palette: Palette, content: str, width: int) -> str:
    """Return the beginning of the text in at most `width` cells, with an ellipsis if it is longer."""
    written, used = "", 0
    for char in content:
        shown = printable(char)
        if used + cell_len(shown) > width:
            return transliterate(set_cell_size(written, width - 1).rstrip() + "…", palette.glyphs)
        written, used = written + shown, used + cell_len(shown)
    return written


def _joined(palette: Palette, items: Iterable[_Item], gap: str) -> list[Segment]:
    segments: list[Segment] = []
    for item in items:
        if segments:
            segments.append(Segment(transliterate(gap, palette.glyphs), palette.dim))
        segments.append(Segment(transliterate(item.content, palette.glyphs), item.style))
        if item.value:
            segments.append(Segment(item.value, palette.strong))
    return segments


def _spread(parts: list[list[Segment]], width: int) -> list[Segment]:
    """Put the first part at the left, the last at the right, and one between them in the middle if there is room."""
    lengths = [sum(cell_len(segment.text) for segment in part) for part in parts]
    if len(parts) < 2:
        return parts[0] if parts else []
    line, at = [*parts[0]], lengths[0]
    if len(parts) == 3:
        start = max(min((width - lengths[1]) // 2, width - lengths[2] - len(_GAP) - lengths[1]), at + len(_GAP))
        line += [Segment(" " * (start - at)), *parts[1]]
        at = start + lengths[1]
    return [*line, Segment(" " * max(width - lengths[-1] - at, 0)), *parts[-1]]
