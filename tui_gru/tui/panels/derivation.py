"""Where a number comes from, as a tree; and what another number would change."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.binding import BindingType

from tui_gru.analysis.what_if import LargestDifference, WhatIf
from tui_gru.debugger.derivation import DerivationRow, Node, Path, ValueRef, as_latex, derivation_text, first_opened, laid_out
from tui_gru.debugger.position import Position
from tui_gru.debugger.program import spoken, spoken_index
from tui_gru.debugger.timeline import Anchor
from tui_gru.engine import numbers
from tui_gru.session.answers import computed_in_words
from tui_gru.session.snapshot import Snapshot
from tui_gru.tui.draw import (
    Box,
    SegmentRow,
    TableColumn,
    bar,
    bars,
    clip,
    from_rows,
    hstack,
    row_width,
    styled_row,
    table,
    text_box,
    vstack,
)
from tui_gru.tui.keys import with_keys
from tui_gru.tui.panel import ListOverlay, ListRow, SnapshotPanel, Titles
from tui_gru.tui.theme import Glyphs, Palette, folded, transliterate, truncated, written_char

# ------------------------------------------------------------------------------
# The derivation of a number as a tree whose terms can be opened and followed.


BAR, MADE = 8, 40  # cells: of the bar of a share, and the least of the expression beside a bar
SHARE = 8  # cells of a share in per cent
HINTS = ["enter follows", "right opens", "backspace back", "> largest term", "d last changed", "y copies", "Y as LaTeX"]
ROOMY = 9  # rows; from this height, the number is also written above its tree
_SPACIOUS = 13  # rows; from this height, with a blank row between them


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


def derivation_row(palette: Palette, row: DerivationRow, columns: DerivationColumns, ink: Style) -> Iterator[Segment]:
    """Return the segments of the row; `ink` is the style of its label."""
    glyphs = palette.glyphs
    named = truncated(transliterate(label_of(row), glyphs), columns.label, glyphs)
    at = len(transliterate(row.guides, glyphs)) if named.startswith(transliterate(row.guides, glyphs)) else 0
    yield Segment(named[:at], palette.dim)
    yield Segment(named[at:] + " " * (columns.label - cell_len(named)), ink)
    yield Segment(transliterate(f"  {row.written:>{columns.digits}}", glyphs), palette.strong if row.opened else palette.plain)
    if row.share is None:
        yield Segment(" " * (columns.bar + SHARE))
    else:
        yield Segment(f" {numbers.short_percent(row.share):>4} ", palette.plain)
        yield Segment(bar(palette, row.share, columns.bar), palette.gate)
        yield Segment("  ")
    yield Segment(truncated(transliterate(f"{opener(row)}{row.made}", glyphs), columns.made, glyphs), palette.dim)


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


class DerivationPanel(ListOverlay):
    """A `Leaf` as a list of its rows. The screen follows numbers, and computes the terms of a node in another batch."""

    ABOUT = (
        "Where a number comes from: its line, and the terms that add up to it. → opens a term, enter goes to where it was "
        "computed, backspace goes back."
    )

    STAYS = True
    MARK = ""  # the style of its label shows the row under the cursor
    ASKING = frozenset({"open", "choose", "back", "changes"})
    BINDINGS: ClassVar[list[BindingType]] = [
        ("right", "open"),
        ("left", "close"),
        ("backspace", "back"),
        ("greater_than_sign", "largest"),
        ("d", "changes"),
        ("y", "copy(False)"),
        ("Y", "copy(True)"),
    ]

    def __init__(self, leaf: Leaf) -> None:
        super().__init__()
        self.leaf = leaf
        self.rows: tuple[DerivationRow, ...] = ()
        self._lay_out()

    def turn_to(self, leaf: Leaf) -> None:
        """Show another derivation."""
        self.leaf = leaf
        self._lay_out()
        self.caption()
        super().move_to(self.cursor)

    def move_to(self, entry: int) -> None:
        self.turn_to(replace(self.leaf, cursor=entry))

    def open_at(self, path: Path) -> None:
        """Open the terms of the node at `path`."""
        self.turn_to(replace(self.leaf, opened=self.leaf.opened | {path}))

    @property
    def number(self) -> ValueRef | None:
        """The number under the cursor; the root's number if the cursor is at a part of a line."""
        node = self.rows[self.cursor].node
        return self.leaf.root.number if node is None or node.number is None else node.number

    def text(self, *, latex: bool = False) -> str:
        """The derivation as text, with the nodes that are open now."""
        return (as_latex if latex else derivation_text)(self.leaf.root, self.leaf.opened, self._when)

    def plain_text(self) -> str:
        return self.text()

    @property
    def _when(self) -> str:
        return computed_in_words(self.snapshot.program, self.leaf.root)

    def _lay_out(self) -> None:
        self.read_at = self.leaf.anchor
        self.rows = laid_out(self.leaf.root, self.leaf.opened)
        self.cursor = min(self.leaf.cursor, len(self.rows) - 1)
        self.leaf = replace(self.leaf, cursor=self.cursor)

    def titles(self, snapshot: Snapshot) -> Titles:
        title = f"where does {self.leaf.root.label} come from?"
        fits = cell_len(transliterate(title, self.palette.glyphs)) <= self.border_room
        return Titles(title if fits else self.leaf.root.label, HINTS)

    # Drawing

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        return self.listed(width)

    def lines(self, width: int) -> Sequence[ListRow]:
        palette, root = self.palette, self.leaf.root
        columns = DerivationColumns.of(self.rows, width, palette.glyphs)
        list_rows: list[ListRow] = []
        if self.head:
            value = f"= {self.rows[0].written.removeprefix('+')}"
            list_rows = [
                ListRow(self._spread(root.label, value, self._when, width)),
                ListRow(styled_row(palette, (root.derivation.formula, palette.keyword))),
            ]
            list_rows += [ListRow(())] * (self.head - len(list_rows))
        for index, row in enumerate(self.rows):
            is_current = index == self.cursor
            ink = palette.dim if row.node is None else palette.plain if row.node.number is None else palette.second
            ink = palette.cursor if is_current and self.has_focus else ink
            list_rows.append(ListRow(tuple(derivation_row(palette, row, columns, ink)), index))
            below = in_full(palette, row, columns) if is_current else ()
            list_rows += (ListRow((Segment(f"  {part}", palette.plain),), index) for part in below)
        return list_rows

    def _spread(self, name: str, value: str, place: str, width: int) -> SegmentRow:
        """Return the number with its name, and its place at the right if there is room."""
        palette = self.palette
        left, right = (
            styled_row(palette, (f"{name} ", palette.second), (value, palette.strong)),
            styled_row(palette, (place, palette.dim)),
        )
        room = width - row_width(left) - row_width(right)
        return (*left, Segment(" " * room), *right) if room >= 2 else left

    # The cursor

    @property
    def head(self) -> int:
        """Return the rows above the tree: the number, its line, and a blank; none on a small screen."""
        height = self.content_size.height
        return 0 if height < ROOMY else 2 if height < _SPACIOUS else 3

    def action_open(self) -> None:
        """Open the node under the cursor; if it is open, go to its first term."""
        row = self.rows[self.cursor]
        if row.node is None:
            if row.path[-1:] == (-1,):
                self.open_at(row.path)
        elif row.opened:
            self.action_move(1)
        elif row.node.derivation.kind != "given":
            if row.node.derivation.near:
                self.open_at(row.path)
            else:
                self.request("derivation.open", row.node, row.path)

    def action_close(self) -> None:
        """Close the node under the cursor; if it is closed, go to its parent."""
        row = self.rows[self.cursor]
        if row.opened and row.path:
            self.turn_to(replace(self.leaf, opened=self.leaf.opened - {row.path}))
        elif row.path:
            self.move_to([other.path for other in self.rows].index(row.path[:-1]))

    def choose(self) -> None:
        """Follow the number to where it was computed; open a node that is no number of the run."""
        row = self.rows[self.cursor]
        if row.node is None or row.node.number is None or not row.path:
            self.action_open()
        else:
            self.request("derivation.follow", row.node.number)

    def action_back(self) -> None:
        self.request("derivation.leave")

    def action_largest(self) -> None:
        """Move the cursor to the largest term of the sum that it is in or at."""
        row = self.rows[self.cursor]
        below = [(i, other) for i, other in enumerate(self.rows) if other.path[:-1] == row.path and other.path and other.node]
        if not below:
            below = [
                (i, other) for i, other in enumerate(self.rows) if other.path and other.path[:-1] == row.path[:-1] and other.node
            ]
        if below:
            largest = max(below, key=lambda item: abs(item[1].node.value) if item[1].node is not None else 0.0)
            self.move_to(largest[0])

    def action_changes(self) -> None:
        if (number := self.number) is not None:
            self.request("changes", number)

    def action_copy(self, latex: bool) -> None:
        self.request("derivation.copy", self.text(latex=latex), "LaTeX" if latex else "text")


# ------------------------------------------------------------------------------
# The effect of another value: on the loss, on a prediction, on the values that change most, or on all values.


WHAT_IF_BAR = 12
#: Cells: the least and the most of a bar of the loss, and the most of a block of bars of a prediction.
_LOSS_BAR, _PREDICTION = (4, 48), 48
#: The number of changed values shown before unfolding, and of the classes of a prediction.
_MOST, _CLASSES = 5, 6
_GAP = 3
#: The least cells of an index; and the columns of the changed values, as in `_described`.
_PLACE = 8
_CHANGED = (TableColumn(gap=0), TableColumn(), TableColumn(least=_PLACE), TableColumn(), TableColumn(), TableColumn(gap=1))


def _as_it_is(what_if: WhatIf) -> str:
    """Return the number that would be another; of several, how many there are and their range."""
    if what_if.is_one:
        return f"it is {numbers.short(float(what_if.was))}"
    was = np.asarray(what_if.was)
    return f"{numbers.counted(was.size, 'number')}, now from {numbers.short(float(was.min()))} to {numbers.short(float(was.max()))}"


class WhatIfPanel(SnapshotPanel):
    """The effect of a supposed value. Enter applies it, `+` and `-` change it, space unfolds all differences."""

    ABOUT = "The effect of another value in this batch. Nothing has changed yet: enter applies it, + and - change it."

    STAYS = True
    ASKING = frozenset({"keep", "nudge"})
    BINDINGS: ClassVar[list[BindingType]] = [
        ("enter", "keep"),
        ("plus", "nudge(1)"),
        ("minus", "nudge(-1)"),
        ("space", "fold"),
    ]

    def __init__(self, what_if: WhatIf) -> None:
        super().__init__()
        self.what_if, self._program = what_if, what_if.now.program
        self._unfolded = False

    def turn_to(self, what_if: WhatIf) -> None:
        """Show the effect of another value."""
        self.what_if = what_if
        self.show_again()

    def titles(self, snapshot: Snapshot) -> Titles:
        at = f" at t {self.what_if.t + 1}" if self.what_if.t is not None else ""
        named = spoken(self._program, self.what_if.name, self.what_if.index)
        value = numbers.short(self.what_if.value)
        title = f"what if {named}{at} were {value}?"
        applies = ["enter applies it"] if self.what_if.silent is None and self.what_if.is_one else []  # else it is not of the run
        hints = [*applies, "+ - change it", with_keys(self, "<stop> cancels")]
        return Titles(title if cell_len(title) <= self.border_room else f"{named} = {value}?", hints)

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        palette, what_if = self.palette, self.what_if
        since = " at the beginning of this batch" if what_if.t is None and not what_if.name.startswith("d") else ""
        lines = [styled_row(palette, (part, palette.dim)) for part in folded(f"{_as_it_is(what_if)}{since}", width)]
        if what_if.remark:
            lines += (
                styled_row(palette, (part, palette.dim)) for part in folded(transliterate(what_if.remark, palette.glyphs), width)
            )
        lines += self._loss(width)
        if not what_if.differences:
            lines.append(styled_row(palette, ("nothing else in this batch would differ", palette.dim)))
            return clip(palette, from_rows(lines), width, len(lines))
        parts = [from_rows(lines), *self._predicted(width), from_rows(self._changed(width))]
        written = vstack(*parts, gap=1)
        return clip(palette, written, width, written.height)

    def _loss(self, width: int) -> list[SegmentRow]:
        """Draw the loss before and after as bars; if the loss was computed elsewhere, its change to first order."""
        palette, (before, after) = self.palette, self.what_if.losses
        if (change := self.what_if.first_order) is not None:
            ink = palette.signed((change > 0) - (change < 0))
            return [styled_row(palette, ("loss  ", palette.plain), (numbers.short(change), ink), (" to first order", palette.dim))]
        if not self._program.target:
            return []
        least, most = _LOSS_BAR
        by = numbers.wide(after - before).strip()
        length = min(max(width - len("loss  then  ") - numbers.WIDE - len(by) - 3, 0), most)
        full = max((x for x in (before, after) if math.isfinite(x)), default=0.0)
        rows = []
        for label, word, loss, ink in (("loss  ", "now ", before, palette.plain), ("      ", "then", after, palette.strong)):
            number = numbers.plain(loss).rjust(numbers.WIDE)
            drawn = bar(palette, loss / full if full > 0 else 0.0, length) if length >= least else ""
            parts = [(label, palette.plain), (f"{word}  ", palette.dim), (number, ink), (f" {drawn}", palette.gate)]
            if word == "then":
                parts += [("  ", palette.plain), (by, palette.signed((after > before) - (after < before)))]
            rows.append(styled_row(palette, *parts))
        return rows

    def _predicted(self, width: int) -> list[Box]:
        """Draw the prediction that changes most, before and after, side by side."""
        prediction, palette = self.what_if.prediction, self.palette
        if prediction is None:
            return []
        vocabulary = self._program.config.vocabulary
        shown = np.argsort(-np.abs(prediction.after - prediction.before), kind="stable")[:_CLASSES].tolist()
        if prediction.target not in shown:
            shown[-1] = prediction.target
        shown = sorted(shown)
        labels = [written_char(vocabulary[i], palette.glyphs) for i in shown]
        labels[0] = " " * (max(map(cell_len, labels)) - cell_len(labels[0])) + labels[0]
        block_width = min((width - _GAP) // 2, _PREDICTION)
        blocks = [
            vstack(
                text_box(palette, word, palette.dim),
                bars(
                    palette,
                    [float(values[i]) for i in shown],
                    labels,
                    block_width,
                    target=shown.index(prediction.target),
                    word=False,
                    fresh=new,
                ),
            )
            for word, values, new in (("now", prediction.before, False), ("then", prediction.after, True))
        ]
        name = self._program.writer.name(self._program.loss_names.prediction)
        some = "" if len(shown) == len(vocabulary) else f" · {len(shown)} of {len(vocabulary)}"
        title = f"{name} of row {prediction.row + 1} at t {prediction.t + 1}, where the target changes most{some}"
        head = from_rows([styled_row(palette, (part, palette.plain)) for part in folded(title, width)])
        return [vstack(head, hstack(*blocks, gap=_GAP))]

    def _changed(self, width: int) -> list[SegmentRow]:
        """Draw the names that change most; unfolded, every array that differs at every timestep, in the order of the batch."""
        palette, what_if = self.palette, self.what_if
        chosen = what_if.differences if self._unfolded else what_if.most_changed[:_MOST]
        others = len(what_if.differences) - len(chosen)
        title = "all values that would differ, in the order of the batch" if self._unfolded else "values that would change most"
        most = max((d.size for d in chosen if math.isfinite(d.size)), default=0.0)
        cells = [self._described(difference, most) for difference in chosen]
        lines = [styled_row(palette, part) for part in folded(title, width)]
        roomy = sum(max((row_width(row[i]) for row in cells), default=0) for i in (0, 1, 3, 4, 5)) + 9 + _PLACE <= width
        if roomy:
            lines += table(palette, cells, _CHANGED, width)
        else:  # the change comes first, and below it the index and both values
            narrow = table(palette, [(*row[:2], row[4]) for row in cells], (*_CHANGED[:2], TableColumn()), width)
            for row, (_, _, where, values, *_) in zip(narrow, cells, strict=True):
                words = " ".join(segment.text for segment in (*where, *values))
                lines += [row, *(styled_row(palette, (f"  {part}", palette.dim)) for part in folded(words, width - 2))]
        if self._unfolded:
            lines.append(styled_row(palette, ("▾ space folds the list", palette.dim)))
        elif others:
            lines.append(styled_row(palette, (f"▸ {others} more: space unfolds all", palette.dim)))
        return lines

    def _described(self, d: LargestDifference, most: float) -> list[SegmentRow]:
        """Return the name, its timestep, the index of its largest difference, both values there, the change, and its bar."""
        palette, part = self.palette, d.change / most if most else 0.0
        more = f" and {d.entries - 1} more" if d.entries > 1 else ""
        return [
            styled_row(palette, (self._program.writer.name(d.name), palette.second)),
            styled_row(palette, "" if d.t is None else f"t {d.t + 1}"),
            styled_row(palette, (spoken_index(self._program, d.name, d.index) + more, palette.dim)),
            styled_row(palette, f"{numbers.wide(d.before)} → {numbers.wide(d.after)}"),
            styled_row(palette, (numbers.wide(d.change), palette.signed(part))),
            (Segment(bar(palette, abs(part), WHAT_IF_BAR), palette.gate),),
        ]

    def action_fold(self) -> None:
        self._unfolded = not self._unfolded
        self.refresh_content()

    def action_nudge(self, direction: int) -> None:
        self.request("what-if.nudge", self.what_if, direction)

    def action_keep(self) -> None:
        self.request("what-if.keep", self.what_if)
