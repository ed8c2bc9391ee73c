"""The list of breakpoints, watches and marks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from textual.binding import BindingType
from textual.message import Message

from tui_gru.debugger.program.position import as_typed, position_of
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.debugger.state.marks import Mark
from tui_gru.debugger.state.stops import Breakpoint, Watch
from tui_gru.engine.safe_text import safe_text
from tui_gru.tui.look.characters import cut, fitting
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.panels.program.listing import clauses, sign_of
from tui_gru.tui.panels.program.watches import just_changed, written_value
from tui_gru.tui.verbs.verb import sign_of_key, with_keys
from tui_gru.tui.widgets.boxes import Box, SegmentRow, clip, columns, pad, text, vstack
from tui_gru.tui.widgets.list_overlay import ListOverlay, ListRow
from tui_gru.tui.widgets.snapshot_panel import Titles, View

StopOrMark = Breakpoint | Watch | Mark

#: From this width on, a breakpoint shows its whole line, below only the name that the line computes.
_WIDE_STOPS = 90
#: From this width on, the columns of breakpoints, watches and marks are aligned.
_ALIGNED = 60
#: Cells: of the cursor's mark, of the mark and the sign, and of the gaps between columns.
_MARK, _LEAD, _GAP = 2, 4, 2
_FIRST_STEPS = (
    ("breakpoint", "a breakpoint on the current line"),
    (":break h if any(h > 0.9)", "stop where the condition holds"),
    (":break loss log {loss:.3f}", "write a line without stopping"),
    (":watch loss stop", "stop when the value changes"),
    ("mark", "mark this place with a letter"),
    (":mark a what to see here", "mark it with a text, for a tour"),
    ("mark.next", "go to the next mark"),
    ("jump", "with a letter: jump to its mark"),
)


class StopsList(ListOverlay):
    """The list with a cursor. Keys post `Chosen`, which the screen executes."""

    ABOUT = "Breakpoints, watches, log points and marks. space disables or enables one, e edits it, d deletes it."

    BINDINGS: ClassVar[list[BindingType]] = [
        ("space", "choose('toggled')"),
        ("e,enter", "choose('opened')"),
        ("d,delete", "choose('deleted')"),
    ]

    @dataclass
    class Chosen(Message):
        """Posted to execute a verb with an entry: `toggled`, `opened` or `deleted`."""

        verb: str
        entry: StopOrMark

    def __init__(self, *, at: int | str | None = None) -> None:
        """Create a list. `at` is the id of the stop, or the letter of the mark, at which the cursor starts."""
        super().__init__()
        self._entries: tuple[StopOrMark, ...] = ()
        self._at = at

    def show(self, snapshot: Snapshot, view: View) -> None:
        at = self._at if self.chosen is None else _key(self.chosen)
        self._at = None
        self._entries = (*snapshot.stops.breakpoints, *snapshot.stops.watches, *snapshot.marks)
        keys = [_key(entry) for entry in self._entries]
        self.cursor = keys.index(at) if at in keys else max(min(self.cursor, len(keys) - 1), 0)
        super().show(snapshot, view)
        self.move_to(self.cursor)

    @property
    def chosen(self) -> StopOrMark | None:
        """The entry under the cursor, None if the list is empty."""
        return self._entries[self.cursor] if self._entries else None

    # Drawing

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        return super().content(snapshot, width, height) if self._entries else self._first_steps(width)

    def lines(self, width: int) -> Sequence[ListRow]:
        width += _MARK
        palette, found = self.palette, list[ListRow]()
        id_column = max(len(str(_key(entry))) for entry in self._entries) + _GAP
        common = self._name_column(self._entries, width)
        for kind, title in ((Breakpoint, "breakpoints"), (Watch, "watches"), (Mark, "marks")):
            group = tuple(entry for entry in self._entries if isinstance(entry, kind))
            if group:
                column = common if width >= _ALIGNED else self._name_column(group, width)
                found += [ListRow(())] * bool(found)
                found.append(ListRow((Segment(title, palette.dim),)))
                found += [ListRow(self._row(entry, id_column, column, width), self._entries.index(entry)) for entry in group]
        return found

    def _name_column(self, entries: tuple[StopOrMark, ...], width: int) -> int:
        widest = max(cell_len(self._called(entry, width)) for entry in entries)
        return min(widest + _GAP, max(width * 2 // 5, 10))

    def _first_steps(self, width: int) -> Box:
        p = self.palette
        head = text(p, "no breakpoints, watches or marks yet", p.dim)
        keys = [text(p, key if key.startswith(":") else sign_of_key(self, key), p.keyword) for key, _ in _FIRST_STEPS]
        what = [text(p, words, p.plain) for _, words in _FIRST_STEPS]
        beside = columns(vstack(*keys), vstack(*what))
        if beside.width > width:
            under = (vstack(key, pad(words, left=2)) for key, words in zip(keys, what, strict=True))
            return clip(p, vstack(head, *under), width, 10**6)
        return vstack(head, beside, gap=1)

    def _called(self, entry: StopOrMark, width: int) -> str:
        if isinstance(entry, Watch):
            name = entry.expression
        elif isinstance(entry, Mark):
            name = as_typed(position_of(self.snapshot.program, entry.tick))
        elif not entry.line:
            name = "anywhere"
        else:
            whole = (row.line.text for row in self.snapshot.program.rows if row.line and row.line.target == entry.line)
            name = next(whole, entry.line) if width >= _WIDE_STOPS else self.snapshot.program.writer.name(entry.line)
        return transliterate(name, self.palette.glyphs)

    def _row(self, entry: StopOrMark, id_column: int, name_column: int, width: int) -> SegmentRow:
        palette, glyphs = self.palette, self.palette.glyphs
        here = entry is self.chosen
        sign = " " if isinstance(entry, Mark) else sign_of(entry, glyphs)
        enabled = isinstance(entry, Mark) or entry.enabled
        ink = palette.line if here else palette.plain if enabled else palette.dim
        name = cut(self._called(entry, width), name_column - _GAP, glyphs)
        room = width - _LEAD - id_column - name_column
        return (
            Segment(f"{sign} ", palette.warning if enabled else palette.dim),
            Segment(str(_key(entry)).ljust(id_column), palette.keyword if enabled else palette.dim),
            Segment(name, ink),
            Segment(" " * (name_column - cell_len(name))),
            *self._details(entry, max(room, 0), width >= _ALIGNED),
        )

    def _details(self, entry: StopOrMark, room: int, aligned: bool) -> SegmentRow:
        palette, snapshot = self.palette, self.snapshot
        if isinstance(entry, Mark):
            line = position_of(snapshot.program, entry.tick).line
            words = [f"after {snapshot.program.writer.name(line.target)}" if line is not None else "the beginning"]
            if entry.branch != snapshot.branch:
                words.append(f"on {entry.branch}")
            place, text = ", ".join(words), cut(safe_text(entry.text), max(room, 0), palette.glyphs)
            return (Segment(text, palette.plain),) if text else (Segment(transliterate(place, palette.glyphs), palette.dim),)
        if isinstance(entry, Watch):
            return self._watched(entry, room, aligned)
        row: list[Segment] = []
        for keyword, clause in clauses(entry):
            row += [Segment(f"{keyword} ", palette.keyword), Segment(f"{transliterate(clause, palette.glyphs)}  ", palette.plain)]
        return tuple(row)

    def _watched(self, watch: Watch, room: int, aligned: bool) -> SegmentRow:
        palette, snapshot = self.palette, self.snapshot
        lead: SegmentRow = (Segment("stop  ", palette.keyword),) if watch.stops else ()
        if not lead and aligned and any(other.stops for other in snapshot.stops.watches):
            lead = (Segment(" " * len("stop  ")),)
        room -= sum(len(segment.text) for segment in lead)
        if not watch.enabled:
            return lead
        found = snapshot.watched[snapshot.stops.watches.index(watch)]
        return (*lead, *written_value(palette, found, max(room, 0), fresh=just_changed(snapshot, found)))

    @property
    def above(self) -> int:
        """The number of lines kept in view above the cursor, for the title of its group."""
        return int(self.scrollable_content_region.height > 1)

    def move_to(self, entry: int) -> None:
        super().move_to(entry)
        self.caption()

    def titles(self, snapshot: Snapshot) -> Titles:
        entry, hints = self.chosen, [with_keys(self, "<stop> closes")]
        if isinstance(entry, Mark):
            hints = ["enter goes there", "d delete", *hints]
        elif entry is not None:
            hints = [f"space {'off' if entry.enabled else 'on'}", "e edit", "d delete", *hints]
        return "stops, watches and marks", fitting(hints, self.size.width - 6)

    def action_choose(self, verb: str = "opened") -> None:
        if (entry := self.chosen) is not None:
            self.post_message(self.Chosen(verb, entry))


def _key(entry: StopOrMark) -> int | str:
    return entry.letter if isinstance(entry, Mark) else entry.id
