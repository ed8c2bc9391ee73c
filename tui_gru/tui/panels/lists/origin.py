"""The derivation of a number as a tree whose terms can be opened and followed."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import BindingType
from textual.geometry import Size
from textual.message import Message

from tui_gru.debugger.derivation.latex import as_latex
from tui_gru.debugger.derivation.origin import Node, ValueRef
from tui_gru.debugger.derivation.written import DerivationRow, Path, as_text, first_opened, laid_out
from tui_gru.debugger.program.position import Position, in_words
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.debugger.timeline.timeline import Anchor
from tui_gru.tui.look.characters import cut, folded
from tui_gru.tui.look.glyphs import Glyphs, transliterate
from tui_gru.tui.look.themes import Palette
from tui_gru.tui.widgets.bars import bar
from tui_gru.tui.widgets.boxes import Box, from_rows
from tui_gru.tui.widgets.snapshot_panel import SnapshotPanel, Titles, View

BAR, MADE = 8, 40  # cells: of the bar of a share, and the least of the expression beside a bar
SHARE = 8  # cells of a share in per cent
HINTS = ["enter follows", "right opens", "backspace back", "> largest term", "d last changed", "y copies", "Y as LaTeX"]
ROOMY = 9  # rows; from this height, the number is also written above its tree


@dataclass(frozen=True)
class DerivationColumns:
    """The widths of the columns of a derivation, in cells."""

    width: int
    label: int
    digits: int

    @classmethod
    def of(cls, rows: Sequence[DerivationRow], width: int, glyphs: Glyphs) -> DerivationColumns:
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


def label_of(row: DerivationRow) -> str:
    """Return the label with its sign, after the guides of the tree."""
    joined = f"{row.sign or ' '} " if row.path else ""
    return f"{row.guides}{joined}{row.label}"


def line(palette: Palette, row: DerivationRow, columns: DerivationColumns, ink: Style) -> Iterable[Segment]:
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


def in_full(palette: Palette, row: DerivationRow, columns: DerivationColumns) -> list[str]:
    """Return label and expression in lines to be drawn below the row, without those that are not cut off in it."""
    glyphs = palette.glyphs
    label, made = transliterate(label_of(row), glyphs), transliterate(f"{opener(row)}{row.made}", glyphs)
    parts = [transliterate(row.label, glyphs)] if cell_len(label) > columns.label else []
    if cell_len(made) > columns.made:
        parts.append(transliterate(f"= {row.made}", glyphs))
    return folded(" ".join(parts), max(columns.width - 2, 1)) if parts else []


def opener(row: DerivationRow) -> str:
    """Return the sign that shows whether the row is open, can be opened, or neither."""
    if row.node is None:
        return "▸ " if row.path[-1:] == (-1,) else "  "
    if row.node.derivation.kind == "given":
        return "  "
    return "▾ " if row.opened else "▸ "


@dataclass(frozen=True, eq=False)
class Leaf:
    """A derivation with its view: the open nodes and the row of the cursor. The number was computed at `place`."""

    root: Node
    place: Position
    opened: frozenset[Path]
    cursor: int = 0
    anchor: Anchor | None = None

    @classmethod
    def of(cls, root: Node, place: Position, anchor: Anchor | None = None) -> Leaf:
        return cls(root, place, first_opened(root), anchor=anchor)


@dataclass
class AboutNumber(Message):
    """The base of messages about a number in a derivation."""

    number: ValueRef


class OriginPanel(SnapshotPanel):
    """Draws a `Leaf`. Posts messages to follow a number, and to compute the terms of a node in another batch."""

    ABOUT = (
        "Where a number comes from: its line, and the terms that add up to it. → opens a term, enter goes to where it was "
        "computed, backspace goes back."
    )

    ASKING = frozenset({"open", "follow", "back", "changes"})
    BINDINGS: ClassVar[list[BindingType]] = [
        ("up", "move(-1)"),
        ("down", "move(1)"),
        ("home", "move(-100000)"),
        ("end", "move(100000)"),
        ("right", "open"),
        ("left", "close"),
        ("enter", "follow"),
        ("backspace", "back"),
        ("greater_than_sign", "largest"),
        ("d", "changes"),
        ("y", "copy(False)"),
        ("Y", "copy(True)"),
    ]

    class Followed(AboutNumber):
        """Posted to go to where a number was computed and show its derivation."""

    class Left(Message):
        """Posted to return to the previous derivation."""

    @dataclass
    class Opened(Message):
        """Posted to compute and open the terms of the node at `path`, which belongs to another batch."""

        node: Node
        path: Path

    class ChangesAsked(AboutNumber):
        """Posted to search for the last change of a number."""

    @dataclass
    class Copied(Message):
        """Posted to copy the derivation: `text` in the format `kind`."""

        text: str
        kind: str

    def __init__(self, leaf: Leaf) -> None:
        super().__init__()
        self.leaf = leaf
        self.rows: tuple[DerivationRow, ...] = ()
        self._lay_out()

    def reads(self, snapshot: Snapshot, view: View) -> Hashable:
        """Return None: a derivation belongs to one moment."""
        return None

    def turn_to(self, leaf: Leaf) -> None:
        """Show another derivation."""
        self.leaf = leaf
        self._lay_out()
        self.show_again()
        self._keep_in_view()

    def open_at(self, path: Path) -> None:
        """Open the terms of the node at `path`."""
        self.turn_to(replace(self.leaf, opened=self.leaf.opened | {path}))

    @property
    def number(self) -> ValueRef | None:
        """The number under the cursor; that of the root if the cursor is at a part of a line."""
        node = self.rows[self.leaf.cursor].node
        return self.leaf.root.number if node is None or node.number is None else node.number

    def text(self, *, latex: bool = False) -> str:
        """The derivation as text, with the nodes that are open now."""
        return (as_latex if latex else as_text)(self.leaf.root, self.leaf.opened, _place(self.leaf.place))

    def _lay_out(self) -> None:
        self.read_at = self.leaf.anchor
        self.rows = laid_out(self.leaf.root, self.leaf.opened)
        self.leaf = replace(self.leaf, cursor=min(self.leaf.cursor, len(self.rows) - 1))

    def titles(self, snapshot: Snapshot) -> Titles:
        title = f"where does {self.leaf.root.label} come from?"
        fits = cell_len(transliterate(title, self.palette.glyphs)) <= self.border_room
        return title if fits else self.leaf.root.label, HINTS

    # Drawing

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        palette, root = self.palette, self.leaf.root
        columns = DerivationColumns.of(self.rows, width, self.palette.glyphs)
        lines: list[list[Segment]] = []
        if self.head:
            value = f"= {self.rows[0].written.removeprefix('+')}"
            lines.append(self._spread(root.label, value, _place(self.leaf.place), width))
            lines += [[Segment(transliterate(root.derivation.formula, palette.glyphs), palette.keyword)], []]
        for index, row in enumerate(self.rows):
            here = index == self.leaf.cursor
            lines.append(list(line(palette, row, columns, palette.cursor if here and self.has_focus else self._ink(row))))
            if here:
                lines += ([Segment(f"  {part}", palette.plain)] for part in in_full(palette, row, columns))
        return from_rows(lines)

    def _ink(self, row: DerivationRow) -> Style:
        if row.node is None:
            return self.palette.dim
        return self.palette.accent if row.node.number is not None else self.palette.plain

    def _spread(self, name: str, value: str, place: str, width: int) -> list[Segment]:
        palette, glyphs = self.palette, self.palette.glyphs
        left = transliterate(f"{name} ", glyphs), transliterate(value, glyphs)
        right = transliterate(place, glyphs)
        room = width - sum(map(cell_len, left)) - cell_len(right)
        named = [Segment(left[0], palette.accent), Segment(left[1], palette.strong)]
        return [*named, Segment(" " * room), Segment(right, palette.dim)] if room >= 2 else named

    # The cursor

    @property
    def head(self) -> int:
        """Return the rows above the tree: the number, its line, and a blank; none on a small screen."""
        return 3 if self.content_size.height >= ROOMY else 0

    @property
    def _in_full(self) -> int:
        """The number of lines below the row of the cursor, which show the parts cut off in it."""
        row, width = self.rows[self.leaf.cursor], self.scrollable_content_region.width
        return len(in_full(self.palette, row, DerivationColumns.of(self.rows, width, self.palette.glyphs)))

    def _keep_in_view(self) -> None:
        y = self.head + self.leaf.cursor
        self.scroll_to_rows(y if self.leaf.cursor else 0, y + self._in_full)

    def _set_virtual_size(self, size: Size) -> None:
        super()._set_virtual_size(size)
        self._keep_in_view()

    def watch_has_focus(self, has_focus: bool) -> None:
        super().watch_has_focus(has_focus)
        self.refresh_content()

    def action_move(self, by: int) -> None:
        self.turn_to(replace(self.leaf, cursor=min(max(self.leaf.cursor + by, 0), len(self.rows) - 1)))

    def action_open(self) -> None:
        """Open the node under the cursor; if it is open, go to its first term."""
        row = self.rows[self.leaf.cursor]
        if row.node is None:
            if row.path[-1:] == (-1,):
                self.open_at(row.path)
        elif row.opened:
            self.action_move(1)
        elif row.node.derivation.kind != "given":
            if row.node.derivation.near:
                self.open_at(row.path)
            else:
                self.post_message(self.Opened(row.node, row.path))

    def action_close(self) -> None:
        """Close the node under the cursor; if it is closed, go to its parent."""
        row = self.rows[self.leaf.cursor]
        if row.opened and row.path:
            self.turn_to(replace(self.leaf, opened=self.leaf.opened - {row.path}))
        elif row.path:
            paths = [each.path for each in self.rows]
            self.turn_to(replace(self.leaf, cursor=paths.index(row.path[:-1])))

    def action_follow(self) -> None:
        """Follow the number to where it was computed; open a node that is no number of the run."""
        row = self.rows[self.leaf.cursor]
        if row.node is None or row.node.number is None or not row.path:
            self.action_open()
        else:
            self.post_message(self.Followed(row.node.number))

    def action_back(self) -> None:
        self.post_message(self.Left())

    def action_largest(self) -> None:
        """Move the cursor to the largest term of the sum that it is in or at."""
        row = self.rows[self.leaf.cursor]
        below = [(i, each) for i, each in enumerate(self.rows) if each.path[:-1] == row.path and each.path and each.node]
        if not below:
            below = [(i, each) for i, each in enumerate(self.rows) if each.path and each.path[:-1] == row.path[:-1] and each.node]
        if below:
            largest = max(below, key=lambda item: abs(item[1].node.value) if item[1].node is not None else 0.0)
            self.turn_to(replace(self.leaf, cursor=largest[0]))

    def action_changes(self) -> None:
        if (number := self.number) is not None:
            self.post_message(self.ChangesAsked(number))

    def action_copy(self, latex: bool) -> None:
        self.post_message(self.Copied(self.text(latex=latex), "LaTeX" if latex else "text"))

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None:
            return
        index = offset.y + self.scroll_offset.y - self.head
        if index > self.leaf.cursor:
            index = max(index - self._in_full, self.leaf.cursor)
        if 0 <= index < len(self.rows):
            self.turn_to(replace(self.leaf, cursor=index))
            if event.chain == 2:
                self.action_follow()


def _place(position: Position) -> str:
    """Return a place as `epoch 1 · batch 2 · t 3 · backward`."""
    if position.tick == 0:
        return "before the first line"
    return in_words(position.epoch, position.batch, position.t, position.phase, between=" · ")
