"""Where a number comes from, as a tree; and what another number would change."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import BindingType
from textual.geometry import Size
from textual.message import Message

from tui_gru.analysis.what_if import LargestDifference, WhatIf
from tui_gru.debugger.derivation_text import DerivationRow, Path, as_latex, as_text, first_opened, laid_out
from tui_gru.debugger.evaluate import Node, ValueRef
from tui_gru.debugger.position import Position, in_words
from tui_gru.debugger.program import spoken, spoken_index
from tui_gru.debugger.timeline import Anchor
from tui_gru.engine import numbers
from tui_gru.session.snapshot import Snapshot
from tui_gru.tui.draw import Box, bar, bars, clip, from_rows, hstack, text, vstack
from tui_gru.tui.keys import with_keys
from tui_gru.tui.panel import SnapshotPanel, Titles, View
from tui_gru.tui.theme import Glyphs, Palette, cut, folded, transliterate, written_char

# ------------------------------------------------------------------------------
# The derivation of a number as a tree whose terms can be opened and followed.


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
    MOVING = frozenset({"move"})
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


# ------------------------------------------------------------------------------
# The effect of another value: on the loss, on a prediction, on the values that change most, or on all values.


WHAT_IF_BAR = 12
#: Cells: the least and the most of a bar of the loss, and the most of a block of bars of a prediction.
_LOSS_BAR, _PREDICTION = (4, 48), 48
#: The number of changed values shown before unfolding, and of the classes of a prediction.
_MOST, _CLASSES = 5, 6
_GAP = 3


class WhatIfPanel(SnapshotPanel):
    """The effect of a supposed value. Enter applies it, `+` and `-` change it, space unfolds all differences."""

    ABOUT = "The effect of another value in this batch. Nothing has changed yet: enter applies it, + and - change it."

    ASKING = frozenset({"keep", "nudge"})
    BINDINGS: ClassVar[list[BindingType]] = [
        ("enter", "keep"),
        ("plus", "nudge(1)"),
        ("minus", "nudge(-1)"),
        ("space", "fold"),
    ]

    @dataclass
    class Kept(Message):
        """Posted to apply the change."""

        what_if: WhatIf

    @dataclass
    class Nudged(Message):
        """Posted to suppose a value some steps larger or smaller than the shown one."""

        what_if: WhatIf
        direction: int

    def __init__(self, what_if: WhatIf) -> None:
        super().__init__()
        self.what_if, self._program = what_if, what_if.now.program
        self._unfolded = False

    def reads(self, snapshot: Snapshot, view: View) -> Hashable:
        """Return None: the effect belongs to the batch in which it was computed."""
        return None

    def turn_to(self, what_if: WhatIf) -> None:
        """Show the effect of another value."""
        self.what_if = what_if
        self.show_again()

    def titles(self, snapshot: Snapshot) -> Titles:
        at = f" at t {self.what_if.t + 1}" if self.what_if.t is not None else ""
        named = spoken(self._program, self.what_if.name, self.what_if.index)
        value = numbers.short(self.what_if.value)
        title = f"what if {named}{at} were {value}?"
        hints = ["enter applies it", "+ - change it", with_keys(self, "<stop> cancels")]
        return title if cell_len(title) <= self.border_room else f"{named} = {value}?", hints

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        palette, what_if = self.palette, self.what_if
        since = " at the beginning of this batch" if what_if.t is None and not what_if.name.startswith("d") else ""
        lines = [self._line((part, palette.dim)) for part in folded(f"it is {numbers.short(what_if.was)}{since}", width)]
        lines += self._loss(width)
        if not what_if.differences:
            lines.append(self._line(("nothing else in this batch would differ", palette.dim)))
            return clip(palette, from_rows(lines), width, len(lines))
        parts = [from_rows(lines), *self._predicted(width), from_rows(self._changed(width))]
        written = vstack(*parts, gap=1)
        return clip(palette, written, width, written.height)

    def _loss(self, width: int) -> list[list[Segment]]:
        """Draw the loss before and after as bars; if the loss was computed elsewhere, its change to first order."""
        palette, (before, after) = self.palette, self.what_if.losses
        if (change := self.what_if.first_order) is not None:
            ink = palette.signed((change > 0) - (change < 0))
            return [self._line(("loss  ", palette.plain), (numbers.short(change), ink), (" to first order", palette.dim))]
        if not self._program.target:
            return []
        least, most = _LOSS_BAR
        by = numbers.wide(after - before).strip()
        length = min(max(width - len("loss  then  ") - numbers.WIDE - len(by) - 3, 0), most)
        full = max((x for x in (before, after) if math.isfinite(x)), default=0.0)
        rows = []
        for label, word, loss, ink in (("loss  ", "now ", before, palette.plain), ("      ", "then", after, palette.accent)):
            number = numbers.plain(loss).rjust(numbers.WIDE)
            drawn = bar(palette, loss / full if full > 0 else 0.0, length) if length >= least else ""
            parts = [(label, palette.plain), (f"{word}  ", palette.dim), (number, ink), (f" {drawn}", palette.gate)]
            if word == "then":
                parts += [("  ", palette.plain), (by, palette.signed((after > before) - (after < before)))]
            rows.append(self._line(*parts))
        return rows

    def _predicted(self, width: int) -> list[Box]:
        """Draw the prediction that changes most, before and after, side by side."""
        found, palette = self.what_if.prediction, self.palette
        if found is None:
            return []
        vocabulary = self._program.config.vocabulary
        shown = np.argsort(-np.abs(found.after - found.before), kind="stable")[:_CLASSES].tolist()
        if found.target not in shown:
            shown[-1] = found.target
        shown = sorted(shown)
        labels = [written_char(vocabulary[i], palette.glyphs) for i in shown]
        labels[0] = " " * (max(map(cell_len, labels)) - cell_len(labels[0])) + labels[0]
        each = min((width - _GAP) // 2, _PREDICTION)
        blocks = [
            vstack(
                text(palette, word, palette.dim),
                bars(
                    palette,
                    [float(values[i]) for i in shown],
                    labels,
                    each,
                    target=shown.index(found.target),
                    word=False,
                    fresh=new,
                ),
            )
            for word, values, new in (("now", found.before, False), ("then", found.after, True))
        ]
        name = self._program.writer.name(self._program.loss_names.prediction)
        some = "" if len(shown) == len(vocabulary) else f" · {len(shown)} of {len(vocabulary)}"
        title = f"{name} of row {found.row + 1} at t {found.t + 1}, where the target changes most{some}"
        head = from_rows([self._line((part, palette.plain)) for part in folded(title, width)])
        return [vstack(head, hstack(*blocks, gap=_GAP))]

    def _changed(self, width: int) -> list[list[Segment]]:
        """Draw the names that change most; unfolded, every array that differs at every timestep, in the order of the batch."""
        palette, what_if = self.palette, self.what_if
        chosen = what_if.differences if self._unfolded else what_if.most_changed[:_MOST]
        others = len(what_if.differences) - len(chosen)
        title = "all values that would differ, in the order of the batch" if self._unfolded else "values that would change most"
        rows = [self._described(difference) for difference in chosen]
        wide = [max((cell_len(row[column]) for row in rows), default=0) for column in range(3)]
        most = max((d.size for d in chosen if math.isfinite(d.size)), default=0.0)
        lines = [self._line((part, palette.plain)) for part in folded(title, width)]
        for difference, row in zip(chosen, rows, strict=True):
            lines += self._difference(difference, row, wide, most, width)
        if self._unfolded:
            lines.append(self._line(("▾ space folds the list", palette.dim)))
        elif others:
            lines.append(self._line((f"▸ {others} more: space unfolds all", palette.dim)))
        return lines

    def _described(self, d: LargestDifference) -> tuple[str, str, str]:
        """Return the name, its timestep, and the index of the largest difference in it."""
        glyphs = self.palette.glyphs
        where = spoken_index(self._program, d.name, d.index)
        return (
            transliterate(self._program.writer.name(d.name), glyphs),
            "" if d.t is None else f"t {d.t + 1}",
            transliterate(where + (f" and {d.entries - 1} more" if d.entries > 1 else ""), glyphs),
        )

    def _difference(
        self, d: LargestDifference, row: tuple[str, str, str], wide: list[int], most: float, width: int
    ) -> list[list[Segment]]:
        palette, glyphs = self.palette, self.palette.glyphs
        cells = [text + " " * (room - cell_len(text)) for text, room in zip(row, wide, strict=True)]
        line = [Segment(f"{cells[0]}  ", palette.accent), Segment(f"{cells[1]}  ", palette.plain)]
        change = numbers.wide(d.change)
        from_to = transliterate(f"  {numbers.wide(d.before)} → {numbers.wide(d.after)}", glyphs)
        ink = palette.signed(d.change / most if most else 0.0)
        tail = [
            Segment("  "),
            Segment(change, ink),
            Segment(" "),
            Segment(bar(palette, abs(d.change) / most if most else 0.0, WHAT_IF_BAR), palette.gate),
        ]
        room = width - sum(segment.cell_length for segment in (*line, *tail)) - cell_len(from_to)
        if room < 8:  # too narrow: the change comes first, and below it the index and both values
            under = folded(f"{row[2]} {from_to.strip()}", width - 2)
            return [[*line, *tail[:2]], *([Segment(f"  {part}", palette.dim)] for part in under)]
        where = cut(row[2], min(room, wide[2]), glyphs)
        return [[*line, Segment(where + " " * (min(room, wide[2]) - cell_len(where)), palette.dim), Segment(from_to), *tail]]

    def _line(self, *parts: tuple[str, object]) -> list[Segment]:
        return [Segment(transliterate(text, self.palette.glyphs), style) for text, style in parts]  # type: ignore[arg-type]

    def action_fold(self) -> None:
        self._unfolded = not self._unfolded
        self.refresh_content()

    def action_nudge(self, direction: int) -> None:
        self.post_message(self.Nudged(self.what_if, direction))

    def action_keep(self) -> None:
        self.post_message(self.Kept(self.what_if))
