"""The list of branches as a tree: for each the place where it left its source, its newest place and its last loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.binding import BindingType
from textual.message import Message

from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.program.position import as_typed, position_of
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.debugger.timeline.branches import BranchInfo
from tui_gru.tui.look.characters import cut
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.look.themes import Palette
from tui_gru.tui.widgets.boxes import SegmentRow
from tui_gru.tui.widgets.list_overlay import ListOverlay, ListRow
from tui_gru.tui.widgets.snapshot_panel import Titles, View

HEAD = ("branch", "left its source at", "newest", "loss")
SHORT_HEAD = ("branch", "left at", "newest", "loss")
HINTS = ["enter goes there", "a compares", "r renames", "d deletes"]
_GAP, _SHORT_GAP = 3, 2
_FULL = 62  # cells; from this width, a place is shown with its phase
_MARK = 2  # cells of the sign before the current branch
_LEAST = 8  # cells of a name at least


@dataclass(frozen=True)
class Twig:
    """A branch in the tree; `stem` is the part of the tree drawn before its name."""

    fork: BranchInfo
    stem: str


def tree(forks: Sequence[BranchInfo], source: str | None = None, stem: str = "") -> list[Twig]:
    """Return the branches that left `source` in the order of time, each followed by those that left it."""
    twigs: list[Twig] = []
    children = sorted((fork for fork in forks if fork.source == source), key=lambda fork: fork.tick)
    for fork in children:
        last = fork is children[-1]
        own, under = ("", "") if source is None else (f"{stem}{'└─ ' if last else '├─ '}", f"{stem}{'   ' if last else '│  '}")
        twigs += [Twig(fork, own), *tree(forks, fork.name, under)]
    return twigs


class BranchList(ListOverlay):
    """The branches. Keys post `Chosen`, which the screen executes: enter switches, `a` compares, `r` renames, `d` deletes."""

    ABOUT = "The branches of the run: a change in the past starts one. enter goes to a branch, a compares it with this one."

    @dataclass
    class Chosen(Message):
        """Posted to execute a verb with a branch: `switch`, `apart`, `rename` or `delete`."""

        verb: str
        name: str

    BINDINGS: ClassVar[list[BindingType]] = [
        ("enter", "choose('switch')"),
        ("a", "choose('apart')"),
        ("r", "choose('rename')"),
        ("d", "choose('delete')"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._twigs: list[Twig] = []

    def show(self, snapshot: Snapshot, view: View) -> None:
        at = self.chosen or snapshot.branch
        self._twigs = tree(snapshot.forks)
        super().show(snapshot, view)
        names = [twig.fork.name for twig in self._twigs]
        # If the branch under the cursor was renamed or deleted, the cursor stays on the same row.
        self.move_to(names.index(at) if at in names else min(self.cursor, len(names) - 1))

    @property
    def chosen(self) -> str:
        """The name of the branch under the cursor, empty before the first snapshot."""
        return self._twigs[self.cursor].fork.name if self._twigs else ""

    def action_choose(self, verb: str = "switch") -> None:
        if self.chosen:
            self.post_message(self.Chosen(verb, self.chosen))

    def titles(self, snapshot: Snapshot) -> Titles:
        return "branches", HINTS

    def lines(self, width: int) -> Sequence[ListRow]:
        snapshot, palette = self.snapshot, self.palette
        short = width < _FULL
        table = [SHORT_HEAD if short else HEAD, *(_cells(snapshot.program, twig, short) for twig in self._twigs)]
        widths = [max(cell_len(row[i]) for row in table) for i in range(4)]
        gap = _SHORT_GAP if short else _GAP
        if _MARK + sum(widths) + 3 * gap > width:  # too narrow: leave out the newest place
            table, widths = [(*row[:2], row[3]) for row in table], [*widths[:2], widths[3]]
        widths[0] = max(min(widths[0], width - _MARK - sum(widths[1:]) - gap * (len(widths) - 1)), _LEAST)
        found = [ListRow(_line(palette, " " * _MARK, table[0], widths, gap, palette.dim, palette.dim))]
        for i, (twig, cells) in enumerate(zip(self._twigs, table[1:], strict=True)):
            here, chosen = twig.fork.name == snapshot.branch, i == self.cursor
            name = palette.cursor if chosen and self.has_focus else palette.strong if here else palette.plain
            found.append(ListRow(_line(palette, f"{'▶' if here else ' '} ", cells, widths, gap, name, palette.plain), i))
        return found

    def watch_has_focus(self, has_focus: bool) -> None:
        super().watch_has_focus(has_focus)
        self.refresh_content()


def _cells(program: Program, twig: Twig, short: bool) -> tuple[str, ...]:
    fork = twig.fork
    left = "" if fork.source is None else _place(program, fork.tick, short)
    return f"{twig.stem}{fork.name}", left, _place(program, fork.newest, short), "" if fork.loss is None else f"{fork.loss:.4f}"


def _place(program: Program, tick: int, short: bool) -> str:
    """Return a place as typed in `:go`, with its phase unless `short`."""
    at = position_of(program, tick)
    if not tick:
        return "the start"
    return as_typed(at) if short else f"{as_typed(at)} {at.phase}"


def _line(
    palette: Palette, marks: str, cells: Sequence[str], widths: Sequence[int], gap: int, name: Style, ink: Style
) -> SegmentRow:
    """Return a row of the table: the stem dim, the name in the style `name`, the loss aligned to the right."""
    glyphs = palette.glyphs
    first, *others = (cut(transliterate(cell, glyphs), width, glyphs) for cell, width in zip(cells, widths, strict=True))
    bare = first.lstrip(transliterate("│├└─ ", glyphs)) or first
    filled = [other + " " * (width - cell_len(other)) for other, width in zip(others, widths[1:], strict=True)]
    filled[-1] = others[-1].rjust(widths[-1])
    return (
        Segment(transliterate(marks, glyphs), palette.accent),
        Segment(first[: len(first) - len(bare)], palette.dim),
        Segment(bare, name),
        Segment(" " * (widths[0] - cell_len(first))),
        *(Segment(" " * gap + other, ink) for other in filled),
    )
