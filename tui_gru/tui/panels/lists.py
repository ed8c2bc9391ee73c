"""The lists that cover the blackboard: branches and their comparison, stops and marks, findings, arrays."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import ClassVar

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.binding import BindingType

from tui_gru.analysis import tables
from tui_gru.analysis.examined import Evidence, Finding, lettered
from tui_gru.analysis.measured import FactTable, written_cell
from tui_gru.analysis.summaries import PrintedNumbers, Summary, limits_of, next_saturated_unit, summary
from tui_gru.analysis.tables import Columns
from tui_gru.analysis.trials import Cure, RateTrial, TriedOption, fastest_rate
from tui_gru.analysis.what_if import BranchComparison, DifferingEntry
from tui_gru.debugger.position import as_typed, batch_in_words, place_name, position_of
from tui_gru.debugger.program import Program, ValueKind, in_line, spoken, spoken_index
from tui_gru.debugger.state import Mark
from tui_gru.debugger.stops import Breakpoint, Watch, clauses
from tui_gru.debugger.timeline import BranchInfo
from tui_gru.engine import numbers
from tui_gru.engine.config import Text, token_word
from tui_gru.engine.source import Ability
from tui_gru.engine.weights import Array
from tui_gru.errors import safe_text
from tui_gru.session.answers import mark_names
from tui_gru.session.snapshot import Snapshot, View
from tui_gru.tui.draw import (
    Box,
    Ref,
    SegmentRow,
    TableColumn,
    bar,
    clip,
    explained,
    from_rows,
    row_width,
    shortened_row,
    styled_row,
    table,
    text_box,
    vstack,
)
from tui_gru.tui.keys import sign_of_key, with_keys
from tui_gru.tui.matrix import histogram
from tui_gru.tui.panel import ListOverlay, ListRow, Titles, contents
from tui_gru.tui.panels.listing import just_changed, sign_of, written_value
from tui_gru.tui.plots import plot
from tui_gru.tui.theme import Palette, fitting, folded, transliterate, truncated, visible_text
from tui_gru.tui.written import shown_indices

# ------------------------------------------------------------------------------
# The list of branches as a tree: for each the place where it left its source, its newest place and its last loss.


HINTS = ["enter goes there", "a compares", "r renames", "d deletes"]
PRINTED_ROWS = 60  # of an array
FACT_ROWS = 6  # of a table among all parts of the facts
_FULL = 62  # cells; from this width, a place is shown with its phase
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
        prefix, under = ("", "") if source is None else (f"{stem}{'└─ ' if last else '├─ '}", f"{stem}{'   ' if last else '│  '}")
        twigs += [Twig(fork, prefix), *tree(forks, fork.name, under)]
    return twigs


class BranchList(ListOverlay):
    """The branches. Enter switches, `a` compares, `r` renames, `d` deletes."""

    ABOUT = "The branches of the run: a change in the past starts one. enter goes to a branch, a compares it with this one."

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
        at = self.chosen or snapshot.state.branch
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
            self.request("branch", verb, self.chosen)

    def titles(self, snapshot: Snapshot) -> Titles:
        return Titles("branches", HINTS)

    def lines(self, width: int) -> Sequence[ListRow]:
        snapshot, palette = self.snapshot, self.palette
        short = width < _FULL
        gap = 2 if short else 3
        shown = (
            TableColumn(gap=0),
            TableColumn("branch", gap=0, size=_LEAST, least=_LEAST),
            TableColumn("left at" if short else "left its source at", gap),
            TableColumn("newest", gap, need=0),
            TableColumn("loss", gap, right=True),
        )
        rows = []
        for i, twig in enumerate(self._twigs):
            fork, current = twig.fork, twig.fork.name == snapshot.state.branch
            name = palette.cursor if i == self.cursor and self.has_focus else palette.strong if current else palette.plain
            places = (
                "" if fork.source is None else _place(snapshot.program, fork.tick, short),
                _place(snapshot.program, fork.newest, short),
            )
            rows.append(
                [
                    styled_row(palette, (f"{'▶' if current else ' '} ", palette.accent)),
                    styled_row(palette, (twig.stem, palette.dim), (fork.name, name)),
                    *(
                        styled_row(palette, words)
                        for words in (*places, "" if fork.loss is None else numbers.decimals(fork.loss, 4))
                    ),
                ]
            )
        head, *drawn = table(palette, rows, shown, width)
        return [ListRow(head), *(ListRow(row, i) for i, row in enumerate(drawn))]


def _place(program: Program, tick: int, short: bool) -> str:
    """Return a place as typed in `:go`, with its phase unless `short`."""
    at = position_of(program, tick)
    if not tick:
        return "the start"
    return as_typed(at) if short else f"{as_typed(at)} {at.phase}"


# ------------------------------------------------------------------------------
# The comparison of two branches: their first difference, their losses and their samples.


class BranchesApart(ListOverlay):
    """The comparison. Enter goes to the place under the cursor: the first difference, or where the losses differ most."""

    ABOUT = "Where two branches first differ, and how much their losses and samples differ. enter goes to the place."
    STAYS = True

    def __init__(self, comparison: BranchComparison, program: Program) -> None:
        super().__init__()
        self.comparison, self._program = comparison, program
        self._ticks: list[int] = []

    def titles(self, snapshot: Snapshot) -> Titles:
        hints = ["enter goes there", with_keys(self, "<compare> minus in every matrix"), with_keys(self, "<stop> closes")]
        return Titles(f"{self.comparison.name} beside {self.comparison.other}", hints)

    def choose(self) -> None:
        self.request("apart.go", self._ticks[self.cursor])

    def lines(self, width: int) -> Sequence[ListRow]:
        self._ticks = []
        lines: list[ListRow] = []
        for part in (self._first(width), self._losses(width), self._samples(width)):
            rows = list(part)
            lines += [ListRow(()), *rows] if lines and rows else rows
        return lines

    def _entry(self, tick: int) -> int:
        """Add a place that enter goes to, and return its number."""
        self._ticks.append(tick)
        return len(self._ticks) - 1

    # The first difference

    def _first(self, width: int) -> Iterator[ListRow]:
        palette, comparison, first = self.palette, self.comparison, self.comparison.first
        if first is None:
            yield from self._folded_rows("There is no difference up to where both have been run.", width)
            return
        yield from self._folded_rows("first difference", width, palette.strong)
        if first.found is not None:
            t = "" if first.found.t is None else f" t{first.found.t + 1}"
            yield from self._difference(first.found, f"before the first line of {self._batch(first.batch)}{t}", width)
        if first.computed is not None:
            place = place_name(position_of(self._program, first.computed.tick))
            yield from self._difference(first.computed, f"computed at {place}", width)
        if first.learns:
            learning = comparison.name if first.learns == "mine" else comparison.other
            words = f"only {learning} learns in {self._batch(first.batch)}; before that they are the same"
            yield from self._folded_rows(words, width)

    def _difference(self, entry: DifferingEntry, place: str, width: int) -> Iterator[ListRow]:
        """Yield the rows of an entry that differs: its place, its value on each branch, and the line that computed it."""
        palette, program, comparison, first = self.palette, self._program, self.comparison, self.comparison.first
        number = self._entry(entry.tick)
        computed = program.lines.get(entry.name) or program.lines.get(program.written_with.get(entry.name, ""))
        more = f" and {entry.entries - 1} more entries" if entry.entries > 1 else ""
        yield from self._folded_rows(f"{spoken(program, entry.name, entry.index)}{more} · {place}", width, palette.strong, number)
        shown = [numbers.wide(value).strip() for value in (entry.mine, entry.theirs)]
        words = f"  {shown[0]} on {comparison.name} · {shown[1]} on {comparison.other}"
        yield from self._folded_rows(words, width, palette.plain, number)
        if computed is not None and first is not None and entry is first.computed:
            yield from self._folded_rows(f"  {computed.text}", width, palette.dim, number)

    # Losses and samples

    def _losses(self, width: int) -> Iterator[ListRow]:
        pairs = [("here", self.comparison.here), ("largest difference", self.comparison.furthest)]
        named_losses = [(words, losses) for words, losses in pairs if losses is not None]
        if not named_losses:
            return
        if self.comparison.furthest is not None and not self.comparison.furthest.difference:
            yield from self._folded_rows("the losses of all batches that both have run are the same", width)
            return
        palette, comparison = self.palette, self.comparison
        heads = ("loss", palette.strong), *((words, palette.dim) for words in (comparison.name, comparison.other, "minus"))
        rows = [[styled_row(palette, head) for head in heads]]
        for words, losses in named_losses:
            minus = losses.difference
            ink = palette.signed((minus > 0) - (minus < 0)) if minus == minus else palette.warning
            shown = f"{words}, {self._batch(losses.batch)}", numbers.plain(losses.mine), numbers.plain(losses.theirs)
            rows.append([*(styled_row(palette, cell) for cell in shown), styled_row(palette, (numbers.wide(minus).strip(), ink))])
        value = TableColumn(right=True, size=numbers.WIDE)
        head, *drawn = table(palette, rows, (TableColumn(gap=0), value, value, TableColumn()), width)
        yield ListRow(head)
        for (_, losses), row in zip(named_losses, drawn, strict=True):
            yield ListRow(row, self._entry(losses.batch * self._program.ticks + self._program.loss_tick))

    def _batch(self, number: int) -> str:
        epoch, batch = divmod(number, self._program.num_batches)
        return f"e{epoch + 1} b{batch + 1}"

    def _samples(self, width: int) -> Iterator[ListRow]:
        samples, palette, comparison = self.comparison.samples, self.palette, self.comparison
        if samples is None:
            if not comparison.reached:
                yield from self._folded_rows(
                    f"{comparison.other} has not reached this place, so it has no sample to compare", width
                )
            return
        names = comparison.name, comparison.other
        first = samples.first
        words = (
            "the same"
            if first is None
            else f"{samples.count} of {len(samples.mine)} differ, from {token_word(samples.mine)} {first + 1} on"
        )
        yield from self._folded_rows("samples, the likeliest character each time", width, palette.strong)
        room = max(map(cell_len, names))
        for name, sample in zip(names, (samples.mine, samples.theirs), strict=True):
            same, other = (sample, sample[:0]) if first is None else (sample[:first], sample[first:])
            primer = f"{name.ljust(room)}  {_shown(samples.primer)}"
            yield ListRow(styled_row(palette, (primer, palette.dim), _shown(same), (_shown(other), palette.second)))
        yield from self._folded_rows(words, width)

    def _folded_rows(self, words: str, width: int, ink: Style | None = None, entry: int | None = None) -> Iterator[ListRow]:
        return (ListRow(styled_row(self.palette, (part, ink or self.palette.plain)), entry) for part in folded(words, width))


def _shown(text: Text) -> str:
    """Return a part of a sample as text; tokens that may be longer than a character are separated by blanks."""
    return "".join(in_line(token) + ("" if isinstance(text, str) else " ") for token in text)


# ------------------------------------------------------------------------------
# The facts of a training: what was measured, in sentences and tables.


class FactList(ListOverlay):
    """Parts of the facts. Enter on a part shows the whole of it, on a row of a step goes there."""

    ABOUT = "What was measured in the training: learning rate, targets, inputs, criterion, parameters, and what step() did."
    STAYS = True

    def __init__(self, parts: Sequence[FactTable]) -> None:
        super().__init__()
        self._parts = tuple(parts)
        self._commands: list[str] = []  # what enter types, by its entries

    def titles(self, snapshot: Snapshot) -> Titles:
        what = self._parts[0].name if len(self._parts) == 1 else "all parts in short"
        hints = [with_keys(self, "<stop> closes")]
        if len(self._parts) > 1:
            hints.insert(0, "enter shows all of a part")
        elif any(_is_of_steps(part) for part in self._parts):
            hints.insert(0, "enter goes to the step")
        return Titles(f"facts: {what}", hints)

    def columns(self) -> Columns | None:
        return self._parts[0].columns if len(self._parts) == 1 else None

    def choose(self) -> None:
        if command := self._commands[self.cursor]:
            self.request("run", command)

    def lines(self, width: int) -> Sequence[ListRow]:
        palette, listed = self.palette, list[ListRow]()
        self._commands = []
        is_short = len(self._parts) > 1
        for part in self._parts:
            if is_short:
                listed += [ListRow(())] * bool(listed)
                listed.append(ListRow(styled_row(palette, (part.name, palette.strong)), self._entry(f"facts {part.name}")))
            for sentence in part.sentences:
                rows = folded(sentence, max(width - 2, 1))
                listed += (
                    ListRow(styled_row(palette, ("  " if i else "· ", palette.dim), (words, palette.plain)))
                    for i, words in enumerate(rows)
                )
            listed += self._table(part, width, FACT_ROWS if is_short else None)
            listed += (ListRow(styled_row(palette, (words, palette.dim))) for words in folded(part.missing, width) if words)
        return listed

    def _table(self, part: FactTable, width: int, most: int | None) -> Iterator[ListRow]:
        """Yield the first and the last rows of a table, of columns in which something is known."""
        palette, columns = self.palette, {name: values for name, values in part.columns.items() if any(map(written_cell, values))}
        rows = list(zip(*columns.values(), strict=True))
        if not rows:
            return
        shown = [*range(len(rows))] if most is None else [i for i in shown_indices(len(rows), most) if i is not None]
        is_number = [not any(isinstance(row[k], str) for row in rows) for k in range(len(columns))]
        heads = [
            TableColumn(name, 2 if k else 0, right=is_number[k], need=None if k < 2 else -k, least=None if k else 12)
            for k, name in enumerate(columns)
        ]
        drawn = table(
            palette,
            [[styled_row(palette, (written_cell(cell), palette.plain)) for cell in rows[i]] for i in shown],
            heads,
            width,
        )
        yield ListRow(drawn[0])
        for i, row in zip(shown, drawn[1:], strict=True):
            goes = f"go step {rows[i][0]}" if _is_of_steps(part) and not most else ""
            yield ListRow(row, self._entry(goes) if goes else None)
        if len(shown) < len(rows):
            more = f"{len(rows) - len(shown):,} rows more: facts {part.name}"
            yield ListRow(styled_row(palette, (more, palette.dim)))

    def _entry(self, command: str) -> int:
        self._commands.append(command)
        return len(self._commands) - 1


def _is_of_steps(part: FactTable) -> bool:
    """Return True if the rows of a part are steps of a recording, to which one can go."""
    return next(iter(part.columns), "") in ("step", "from step")


class NumberList(ListOverlay):
    """The numbers of an array in rows, as many columns as there is room for; of a long one, the first and the last."""

    ABOUT = "The numbers of a value, a weight or a gradient, with its shape, range and mean."
    MARK = ""

    def __init__(self, shown: PrintedNumbers) -> None:
        super().__init__()
        self._printed = shown

    def titles(self, snapshot: Snapshot) -> Titles:
        return Titles("numbers", [with_keys(self, "<stop> closes")])

    def lines(self, width: int) -> Sequence[ListRow]:
        palette, shown = self.palette, self._printed
        listed = [ListRow(styled_row(palette, (words, palette.plain))) for words in folded(shown.sentence, width)]
        if not shown.values.ndim:
            return listed
        values = np.atleast_2d(shown.values)
        names = shown.rows or tuple(f"[{i}]" for i in range(len(values))) if shown.values.ndim == 2 else ("",)
        heads = shown.columns or tuple(f"[{j}]" for j in range(values.shape[1]))
        size = max(numbers.WIDE, max(map(cell_len, heads), default=0))
        room = max((width - max(map(cell_len, names), default=0) - 1) // (size + 1) - 1, 1)
        rows, columns = shown_indices(len(values), PRINTED_ROWS), shown_indices(values.shape[1], max(room, 3))
        dots = palette.glyphs.ellipsis
        drawn = [
            [
                styled_row(palette, (dots if i is None else names[i], palette.dim)),
                *(
                    styled_row(palette, (dots if i is None or j is None else numbers.wide(values[i, j]), palette.plain))
                    for j in columns
                ),
            ]
            for i in rows
        ]
        cells = (TableColumn(dots if j is None else heads[j], 1, right=True, size=0 if j is None else size) for j in columns)
        return [*listed, *map(ListRow, table(palette, drawn, (TableColumn(gap=0), *cells), width))]


# ------------------------------------------------------------------------------
# The list of breakpoints, watches and marks.


StopOrMark = Breakpoint | Watch | Mark

#: From this width on, a breakpoint shows its whole line, below only the name that the line computes.
_WIDE_STOPS = 90
#: From this width on, the columns of breakpoints, watches and marks are aligned.
_ALIGNED = 60
#: Cells: of the cursor's mark, of the mark and the sign, and of the gaps between columns.
_STOP_MARK, _LEAD, _STOP_GAP = 2, 4, 2
_FIRST_STEPS = (
    ("breakpoint", "a breakpoint on the current line"),
    (":break h if any(h > 0.9)", "stop where the condition holds"),
    (":break loss log {loss:.3f}", "write a line without stopping"),
    (":watch loss stop", "stop when the value changes"),
    ("mark", "mark this place with a letter"),
    (":mark a what to see here", "mark it with a text, for a tour"),
    ("match.next", "go to the next mark"),
    (":go a", "go to the mark of a letter"),
)


class StopsList(ListOverlay):
    """The list with a cursor."""

    ABOUT = "Breakpoints, watches, log points and marks. space disables or enables one, e edits it, d deletes it."

    BINDINGS: ClassVar[list[BindingType]] = [
        ("space", "choose('toggled')"),
        ("e,enter", "choose('opened')"),
        ("d,delete", "choose('deleted')"),
    ]

    def __init__(self, *, at: int | str | None = None) -> None:
        """Create a list. `at` is the id of the stop, or the letter of the mark, at which the cursor starts."""
        super().__init__()
        self._entries: tuple[StopOrMark, ...] = ()
        self._at = at

    def show(self, snapshot: Snapshot, view: View) -> None:
        at = self._at if self.chosen is None else _key(self.chosen)
        self._at = None
        self._entries = (*snapshot.state.stops.breakpoints, *snapshot.state.stops.watches, *snapshot.state.marks.sorted)
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
        palette, list_rows, aligned = self.palette, list[ListRow](), width + _STOP_MARK >= _ALIGNED
        named = [self._named(entry, width + _STOP_MARK) for entry in self._entries]
        most = max((width + _STOP_MARK) * 2 // 5, 10) - _STOP_GAP
        keys = max(len(str(_key(entry))) for entry in self._entries)
        for kind, title in ((Breakpoint, "breakpoints"), (Watch, "watches"), (Mark, "marks")):
            group = [(entry, cells) for entry, cells in zip(self._entries, named, strict=True) if isinstance(entry, kind)]
            if group:
                among = named if aligned else [cells for _, cells in group]
                name = min(max(row_width(cells[-1]) for cells in among), most)
                shown = (TableColumn(gap=0), TableColumn(gap=0, size=keys), TableColumn(gap=_STOP_GAP, size=name))
                rows = table(palette, [(*cells[:2], shortened_row(palette, cells[2], name)) for _, cells in group], shown, width)
                room = max(width - row_width(rows[0]) - _STOP_GAP, 0)
                details = (styled_row(palette, " " * _STOP_GAP, *self._details(entry, room, aligned)) for entry, _ in group)
                list_rows += [*[ListRow(())] * bool(list_rows), ListRow(styled_row(palette, (title, palette.dim)))]
                drawn = zip(group, rows, details, strict=True)
                list_rows += (ListRow((*row, *more), self._entries.index(entry)) for (entry, _), row, more in drawn)
        return list_rows

    def _first_steps(self, width: int) -> Box:
        """Say how the first ones are made: each key with what it does beside it, or below if there is no room."""
        p = self.palette
        steps = [(key if key.startswith(":") else sign_of_key(self, key), words) for key, words in _FIRST_STEPS]
        column, longest = (max(cell_len(step[i]) for step in steps) + 2 for i in (0, 1))
        side_by_side = column + longest - 2 <= width
        rows = (explained(p, key, p.keyword, words, width, column=column if side_by_side else 0) for key, words in steps)
        head = text_box(p, "no breakpoints, watches or marks yet", p.dim)
        return clip(p, vstack(head, from_rows(chain.from_iterable(rows)), gap=int(side_by_side)), width, 10**6)

    def _called(self, entry: StopOrMark, width: int) -> str:
        if isinstance(entry, Watch):
            name = entry.expression
        elif isinstance(entry, Mark):
            name = mark_names(self.snapshot.state.marks.sorted, self.snapshot.program)[entry.letter]
        elif not entry.line:
            name = "anywhere"
        else:
            texts = (row.line.text for row in self.snapshot.program.rows if row.line and row.line.target == entry.line)
            name = next(texts, entry.line) if width >= _WIDE_STOPS else self.snapshot.program.writer.name(entry.line)
        return name

    def _named(self, entry: StopOrMark, width: int) -> tuple[SegmentRow, SegmentRow, SegmentRow]:
        """Return the sign of an entry, its number or letter, and its name."""
        palette, enabled = self.palette, isinstance(entry, Mark) or entry.enabled
        sign = " " if isinstance(entry, Mark) else sign_of(entry, palette.glyphs)
        ink = palette.line if entry is self.chosen else palette.plain if enabled else palette.dim
        inks = palette.warning if enabled else palette.dim, palette.keyword if enabled else palette.dim, ink
        words = f"{sign} ", str(_key(entry)), self._called(entry, width)
        first, second, third = (styled_row(palette, part) for part in zip(words, inks, strict=True))
        return first, second, third

    def _details(self, entry: StopOrMark, room: int, aligned: bool) -> SegmentRow:
        palette, snapshot = self.palette, self.snapshot
        if isinstance(entry, Mark):
            after = position_of(snapshot.program, entry.tick).line
            words = [f"after {snapshot.program.writer.name(after.target)}" if after is not None else "the beginning"]
            if entry.branch != snapshot.state.branch:
                words.append(f"on {entry.branch}")
            text = truncated(safe_text(entry.on_one_line), room, palette.glyphs)
            return (Segment(text, palette.plain),) if text else styled_row(palette, (", ".join(words), palette.dim))
        if isinstance(entry, Watch):
            return self._watched(entry, room, aligned)
        parts = [part for keyword, clause in clauses(entry) for part in ((f"{keyword} ", palette.keyword), f"{clause}  ")]
        return styled_row(palette, *parts)

    def _watched(self, watch: Watch, room: int, aligned: bool) -> SegmentRow:
        palette, snapshot = self.palette, self.snapshot
        lead: SegmentRow = (Segment("stop  ", palette.keyword),) if watch.stops else ()
        if not lead and aligned and any(other.stops for other in snapshot.state.stops.watches):
            lead = (Segment(" " * len("stop  ")),)
        room -= sum(len(segment.text) for segment in lead)
        if not watch.enabled:
            return lead
        value = snapshot.watched[snapshot.state.stops.watches.index(watch)]
        return (*lead, *written_value(palette, value, max(room, 0), fresh=just_changed(snapshot, value)))

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
        return Titles("stops, watches and marks", fitting(hints, self.size.width - 6))

    def action_choose(self, verb: str = "opened") -> None:
        if (entry := self.chosen) is not None:
            self.request("stop", verb, entry)


def _key(entry: StopOrMark) -> int | str:
    return entry.letter if isinstance(entry, Mark) else entry.id


# ------------------------------------------------------------------------------
# The list of findings: what is wrong with the run, why it matters, the evidence, and how to fix it.


_NONE = (
    "Nothing was found of what is looked for in the sampler, rows, gradients, units and loss up to here. That is no proof that "
    "nothing is wrong."
)
_RATES_NOT_TRIED = ":rates tries learning rates from here on."
_EARLY = "No batch has been finished yet, so there is little to look at."
_CURVES, _LEAST_CURVES, _MOST_CURVES = 9, 40, 100  # rows of the curves of a trial; cells that they need, and that they take


_PROOFS = ("observed", "shown by an experiment", "seen exactly", "seen, and shown by an experiment")  # of a diagnosis, by its level


class FindingsList(ListOverlay):
    """The findings. Enter on a number shows where it comes from, on a finding goes to the place in the run that shows it; `t` tries
    its cures on copies, whose losses are listed below it as they are known."""

    ABOUT = (
        "What is wrong with the run: the numbers that show it, why it matters, and how to fix it. Enter on a cure, or t, trains "
        "copies of the run with each option; enter on one of these keeps it as a branch, y copies its command line. e makes "
        "experiments with all of them, and sorts them by their proof."
    )

    ASKING = frozenset({"choose", "attempt", "keep", "diagnose"})
    BINDINGS: ClassVar[list[BindingType]] = [("t", "attempt"), ("y", "copy"), ("b", "keep"), ("e", "diagnose")]

    def __init__(self, findings: Sequence[Finding], *, at: str = "", rates: Sequence[RateTrial] = ()) -> None:
        """Create a list. `at` is the name of the finding at which the cursor starts, by default the first. `rates` are the learning
        rates that were tried, of which a run without findings says which falls fastest."""
        super().__init__()
        self.findings, self.rates = tuple(findings), tuple(rates)
        self.earlier: tuple[Finding, ...] = getattr(findings, "gone", ())
        self.waiting = False  # True while earlier moments are examined
        self._letters = {id(finding): letter for letter, finding in lettered(self.findings)}
        self._trials_by_id: dict[int, tuple[TriedOption, ...]] = {}  # the trials of its cures, by the `id` of a finding
        self.cursor = next((i for i, (finding, _) in enumerate(self._entries) if finding.name == at), 0)

    @property
    def _entries(self) -> list[tuple[Finding, Evidence | TriedOption | str | None]]:
        """What the cursor can stand on, in order: a finding, the numbers that show it, its cure, and each option that was tried."""
        entries: list[tuple[Finding, Evidence | TriedOption | str | None]] = []
        for finding in self.findings:
            entries += [(finding, None), *((finding, evidence) for evidence in finding.evidence if evidence.number is not None)]
            if finding.cures and finding.follows_from is None:
                entries += [
                    (finding, finding.cure),
                    *((finding, trial) for trial in self._ranked(finding) if trial.cure is not None),
                ]
        return [*entries, *((finding, None) for finding in self.earlier)]

    def _ranked(self, finding: Finding) -> list[TriedOption]:
        """The trials of a finding, the run as it is among them, the lowest loss first; without what could not be tried."""
        return sorted(
            (trial for trial in self._trials_by_id.get(id(finding), ()) if not trial.refused), key=lambda trial: trial.loss
        )

    def columns(self) -> Columns | None:
        return tables.of_findings(self.findings)

    def titles(self, snapshot: Snapshot) -> Titles:
        count = len(self.findings)
        effects = sum(finding.follows_from is not None for finding in self.findings)
        words = f"{count - effects}, with {effects} that follow" if effects else f"{count or 'none'}"
        hints = [with_keys(self, "<findings> looks again"), with_keys(self, "<stop> closes")]
        if count:
            hints.insert(0, "enter goes there")
        if any(finding.cures for finding in self.findings):
            hints.insert(1, "enter or t tries a cure")
        if count and not any(hasattr(finding, "proof") for finding in self.findings):
            hints.insert(-1, "e experiments")
        if self._trials_by_id:
            hints.insert(1, "y copies the command")
            hints.insert(2, "b keeps it as a branch")
        return Titles(f"findings: {words}", hints)

    def lines(self, width: int) -> Sequence[ListRow]:
        palette = self.palette
        if not self.findings:
            trains = self.snapshot.config.source.can(Ability.TRAIN)
            early = trains and self.snapshot.position.tick < self.snapshot.program.loss_tick
            fastest, words = fastest_rate(self.rates), _RATES_NOT_TRIED if trains else ""
            if fastest is not None:
                count = len(self.rates)
                words = f"Of the {count} learning rates that were tried, {numbers.significant(fastest.rate)} falls fastest."
            none = [self._line(line, palette.plain) for line in folded(_EARLY if early else f"{_NONE} {words}".rstrip(), width)]
            return [*none, *self._earlier_rows(0, width)]
        rows: list[ListRow] = []
        entry, follows = 0, False
        for finding in self.findings:
            effect = finding.follows_from is not None
            if effect and not follows:
                rows.append(self._line("because of it", palette.dim, None, "  "))
            elif rows and not effect:
                rows.append(ListRow(()))
            follows = effect
            rows += self._titled(finding, entry, width)
            if not effect:  # a consequence goes with its cause: its own meaning and cure would lead away from it
                rows += [self._line(words, palette.plain, entry, "  ") for words in folded(finding.meaning, width - 2) if words]
            for evidence in finding.evidence:
                entry += evidence.number is not None
                row_entry = entry if evidence.number is not None else None
                ink = palette.plain if row_entry is None else palette.keyword
                lead = " " * (4 if effect else 2)
                for i, words in enumerate(folded(evidence.words, width - len(lead) - 2)):
                    rows.append(self._line(words, ink, row_entry, f"{lead}{'  ' if i else '· '}"))
            if not effect:
                row_entry = entry + 1 if finding.cures else None
                cure = f"{finding.cure_label}: {finding.cure}" if finding.cure else ""
                rows += [self._line(words, palette.gate, row_entry, "  ") for words in folded(cure, width - 2) if words]
                rows += self._trials(finding, (row_entry or 0) + 1, width)
                entry += bool(finding.cures) + sum(trial.cure is not None for trial in self._ranked(finding))
            entry += 1
        return [*rows, *self._earlier_rows(entry, width)]

    def _earlier_rows(self, entry: int, width: int) -> Iterator[ListRow]:
        """Yield the findings that earlier moments show and this one does not, with when each was seen; the first is at `entry`."""
        palette = self.palette
        if self.earlier:
            yield ListRow(())
            yield self._line("gone again", palette.dim)
        for finding in self.earlier:
            places = " – ".join(
                f"e{at.epoch + 1} b{at.batch + 1}" for at in (finding.first_seen, finding.last_seen) if at is not None
            )
            place = transliterate(f"seen {places}", palette.glyphs)
            rows = folded(finding.title, width - 2)
            if len(rows[-1]) + len(place) + 4 > width:
                rows.append("")
            for i, words in enumerate(rows):
                ending = place.rjust(width - 2 - len(words)) if i == len(rows) - 1 else ""
                yield self._line(f"{words}{ending}", palette.dim, entry, "  ")
            entry += 1

    def show_gone(self, findings: tuple[Finding, ...]) -> None:
        """Show what has gone again, once it is known."""
        self.earlier, self.waiting = findings, False
        self.show_again()

    def _titled(self, finding: Finding, entry: int, width: int) -> Iterator[ListRow]:
        """Yield the rows of a title, with the place where the run shows it first behind it."""
        palette, effect = self.palette, finding.follows_from is not None
        letter = self._letters.get(id(finding), "▲")
        lead, ink = (f"  └ {letter} ", palette.plain) if effect else (f"{letter} ", palette.warning)
        moment = finding.first_seen
        step = "" if moment is None else self.snapshot.config.source.step(moment.number)
        place = "" if moment is None else f"from {step or f'e{moment.epoch + 1} b{moment.batch + 1}'} on"
        if (proof := 0 if finding.is_observation else getattr(finding, "proof", None)) is not None:
            place = _PROOFS[proof]
            lead, ink = (lead, ink) if proof else ("· ", palette.plain)
        rows = folded(finding.title, width - len(lead))
        if len(lead) + len(rows[-1]) + 2 + len(place) > width:
            rows.append("")
        for i, words in enumerate(rows):
            row = self._line(words, ink, entry, lead if i == 0 else " " * len(lead))
            room = " " * (width - len(lead) - len(words) - len(place))
            ending = (Segment(f"{room}{place}", palette.dim),) if place and i == len(rows) - 1 else ()
            yield ListRow((*row.row, *ending), entry)

    def _trials(self, finding: Finding, entry: int, width: int) -> Iterator[ListRow]:
        """Yield the options that were tried and the run without them, the best first: the loss of each, a bar, and what it sampled;
        the first is at `entry`. Then what could not be tried, and the curves of the run and of the option under the cursor."""
        ranked, palette = self._ranked(finding), self.palette
        if not ranked:
            return
        most = max((trial.loss for trial in ranked if np.isfinite(trial.loss)), default=1.0) or 1.0
        rows = []
        for trial in ranked:
            is_baseline = trial.cure is None
            ink = palette.warning if is_baseline else palette.strong if trial is ranked[0] else palette.plain
            drawn = bar(palette, trial.loss / most if np.isfinite(trial.loss) else 1.0, min(max(width // 4, 4), 30))
            shown = numbers.plain(trial.loss) if np.isfinite(trial.loss) else "not finite"
            words = (trial.option or "as it is", ink), (shown, ink), (drawn, palette.warning if is_baseline else palette.gate)
            rows.append([styled_row(palette, cell) for cell in words])
        count = (
            len(ranked[0].losses) if np.isfinite(ranked[0].loss) else len(max(ranked, key=lambda trial: len(trial.losses)).losses)
        )
        since = batch_in_words(*divmod(ranked[0].since, self.snapshot.program.num_batches))
        batches = f"{count} batches from {since} on" if ranked[0].since else f"the first {count} batches"
        head = f"tried on copies, {batches}; the loss at the end"
        if ranked[0].text:
            head = f"sampled with the same weights and random numbers; the loss of {count} characters when the model reads them"
        yield from (self._line(words, palette.dim, None, "  ") for words in folded(head, width - 2))
        shown_columns = TableColumn(gap=2, least=8), TableColumn(right=True), TableColumn(need=0)
        for trial, row in zip(ranked, table(palette, rows, shown_columns, width), strict=True):
            yield ListRow(row, None if trial.cure is None else entry)
            sampled = folded(visible_text(trial.text, palette.glyphs), width - 4)
            yield from (self._line(words, palette.plain, None if trial.cure is None else entry, "    ") for words in sampled)
            entry += trial.cure is not None
        if len(ranked) > 1 and ranked[0].cure is None:
            yield self._line("none of the options that were tried lowers the loss", palette.dim, None, "  ")
        for trial in self._trials_by_id[id(finding)]:
            if trial.refused:
                notes = folded(f"not tried: {trial.option}: {trial.refused}", width - 2)
                yield from (self._line(words, palette.dim, None, "  ") for words in notes)
        yield from self._curves(finding, width)

    def _curves(self, finding: Finding, width: int) -> Iterator[ListRow]:
        """Yield the losses of the run as it is, dotted, and of the option under the cursor, by default the best one."""
        palette, chosen = self.palette, self._chosen(finding)
        baseline = next((trial for trial in self._ranked(finding) if trial.cure is None), None)
        if baseline is None or chosen is None or baseline.text or width < _LEAST_CURVES:
            return
        drawn = plot(palette, chosen.losses, min(width - 2, _MOST_CURVES), _CURVES, second=baseline.losses)
        heads = ("loss  ", palette.dim), (chosen.option, palette.gate), ("  as it is", palette.second)
        yield ListRow(styled_row(palette, "  ", *heads))
        yield from (ListRow((Segment("  "), *row)) for row in drawn.box.rows)

    def _chosen(self, finding: Finding) -> TriedOption | None:
        """The option of a finding under the cursor, or the best one; None if none was tried."""
        under = self._entries[self.cursor][1] if self.cursor < len(self._entries) else None
        if isinstance(under, TriedOption) and under in self._trials_by_id.get(id(finding), ()):
            return under
        return next((trial for trial in self._ranked(finding) if trial.cure is not None), None)

    def show_trials(self, finding: Finding, trials: tuple[TriedOption, ...]) -> None:
        """Show the options that have been tried so far for a finding."""
        self._trials_by_id[id(finding)] = trials
        self.show_again()

    @property
    def chosen(self) -> str:
        """The name of the finding under the cursor, or of that which it follows from; "" without findings."""
        return "" if self._cause is None else self._cause.name

    @property
    def _cause(self) -> Finding | None:
        """The finding under the cursor, or the one that it follows from; None without findings."""
        if not self._entries:
            return None
        finding, _ = self._entries[self.cursor]
        cause = finding.follows_from
        return finding if cause is None else next(other for other in self.findings if other.name == cause.name)

    def action_attempt(self) -> None:
        if (finding := self._cause) is not None:
            self.request("cures", finding)

    def action_diagnose(self) -> None:
        self.request("run", "diagnose")

    def action_keep(self) -> None:
        if (finding := self._cause) is not None:
            self.request("cure.keep", finding, self._cure_of(finding))

    def action_copy(self) -> None:
        if (finding := self._cause) is not None:
            self.request("cure.copy", finding, self._cure_of(finding))

    def _cure_of(self, finding: Finding) -> Cure | None:
        chosen = self._chosen(finding)
        return None if chosen is None else chosen.cure

    def choose(self) -> None:
        finding, entry = self._entries[self.cursor]
        match entry:
            case TriedOption():
                self.request("cure.keep", finding, entry.cure)
            case str():
                self.request("cures", finding)
            case _:
                self.request("finding", finding, entry)

    def _line(self, words: str, ink: Style, entry: int | None = None, lead: str = "") -> ListRow:
        return ListRow(styled_row(self.palette, (f"{lead}{words}", ink)), entry)


# ------------------------------------------------------------------------------
# The list of all arrays: for each its size, its saturated, dead and near-zero parts, its largest entry and a histogram.


_BINS = 16
_WIDE_ARRAYS = 90  # cells; from this width, the smallest and the largest entry stand beside the histogram
_GROUPS = dict.fromkeys(kind.title for kind in (ValueKind.PARAMETER, ValueKind.GRADIENT, *ValueKind) if kind.title)
_CHANGES = "change of the last step"

ListedArray = tuple[Ref, Array, Summary]


class ArrayList(ListOverlay):
    """All arrays, one per row. Enter shows where the largest entry comes from, `>` where the next saturated unit comes from."""

    ABOUT = "Every array in one line: how much of it is saturated or near 0, its largest entry, and a histogram of its entries."

    ASKING = frozenset({"choose", "saturated"})
    BINDINGS: ClassVar[list[BindingType]] = [("greater_than_sign", "saturated")]

    def __init__(self) -> None:
        super().__init__()
        self._groups: list[
            tuple[str, list[ListedArray]]
        ] = []  # the arrays of this snapshot by their titles; empty if not known yet
        self._shown: list[ListedArray] = []
        self._rows: list[ListRow] = []
        self._rows_for: tuple[Palette, bool] | None = None  # what they were drawn for
        self._summaries: dict[Ref, tuple[Hashable, Summary]] = {}  # with the contents of the array
        self._after = -1  # the saturated unit shown last

    def show(self, snapshot: Snapshot, view: View) -> None:
        if self._snapshot is not None and snapshot.program is not self._snapshot.program:
            self._summaries = {}
        self._groups, self._rows_for = [], None
        super().show(snapshot, view)

    def titles(self, snapshot: Snapshot) -> Titles:
        hints = ["enter: where the largest entry comes from", "> the next saturated unit", with_keys(self, "<stop> closes")]
        return Titles("all arrays", hints)

    @property
    def names(self) -> list[str]:
        """The names of the arrays that are listed, in order."""
        self._ensure_built()
        return [ref.name for ref, _, _ in self._shown]

    # Drawing

    def lines(self, width: int) -> Sequence[ListRow]:
        if not self._groups:
            self._groups = [(title, list(self._listed(arrays))) for title, arrays in self._arrays(self.snapshot)]
            self._shown = [entry for _, listed in self._groups for entry in listed]
        palette, wide = self.palette, width >= _WIDE_ARRAYS
        if self._rows_for == (palette, wide):  # a list that is scrolled asks twice, with and without the scroll bar
            return self._rows
        list_rows = list[ListRow]()
        sized = TableColumn(gap=0, size=10), TableColumn(gap=1, size=8), TableColumn(gap=1), TableColumn(gap=1), TableColumn()
        rows = enumerate(table(palette, [self._cells(*entry, wide=wide) for entry in self._shown], sized, width))
        for title, listed in self._groups:
            if listed:
                list_rows += [*[ListRow(())] * bool(list_rows), ListRow(styled_row(palette, (title, palette.dim)))]
                list_rows += (ListRow(row, i) for i, row in islice(rows, len(listed)))
        self._rows, self._rows_for = list_rows, (palette, wide)
        return list_rows

    def _arrays(self, snapshot: Snapshot) -> Iterator[tuple[str, Iterator[tuple[Ref, Array | None]]]]:
        program = snapshot.program

        def read(title: str) -> Iterator[tuple[Ref, Array | None]]:
            for name, named in program.names.items():
                if named.kind.title == title and named.axes:
                    yield Ref(name), snapshot.value(name)

        def changes() -> Iterator[tuple[Ref, Array | None]]:
            for name in program.parameters:
                yield Ref(name, change=True), snapshot.last_step(name)

        for title in _GROUPS:
            yield title, read(title)
            if title == ValueKind.GRADIENT.title:
                yield _CHANGES, changes()

    def _listed(self, arrays: Iterator[tuple[Ref, Array | None]]) -> Iterator[ListedArray]:
        """Yield the arrays of numbers with their summaries."""
        for ref, array in arrays:
            if array is not None and array.size and array.dtype.kind == "f":
                yield ref, array, self._summary(ref, array)

    def _summary(self, ref: Ref, array: Array) -> Summary:
        """Return the summary of an array, the last one if the contents of the array are the same: a line changes few arrays."""
        content = contents(array)
        if ref not in self._summaries or self._summaries[ref][0] != content:
            limits = None if ref.change else limits_of(self.snapshot.program, ref.name)
            self._summaries[ref] = content, summary(array, limits, bins=_BINS)
        return self._summaries[ref][1]

    def _cells(self, ref: Ref, array: Array, statistics: Summary, *, wide: bool) -> list[SegmentRow]:
        """Return the name, the shape, the histogram, with `wide` the range, and the remarks."""
        palette, program = self.palette, self.snapshot.program
        name = truncated(
            transliterate(f"{'Δ' if ref.change else ''}{program.writer.name(ref.name)}", palette.glyphs), 10, palette.glyphs
        )
        bad = statistics.entries - statistics.finite
        parts = [f"{bad} not finite"] if bad else []
        if statistics.peak is not None:
            where = spoken_index(program, ref.name, statistics.peak)
            parts.append(f"largest at {where}" if wide else f"{numbers.compact(array[statistics.peak]).strip()} at {where}")
        if statistics.limits is not None:
            parts.append(f"saturated {100 * statistics.share(statistics.saturated):.0f} %")
        parts.append(f"near 0 {100 * statistics.share(statistics.near_zero):.0f} %")
        if statistics.dead and array.ndim > 1:
            parts.append(f"{statistics.dead} dead")
        span = (
            f"{numbers.compact(statistics.smallest)}⋯{numbers.compact(statistics.largest)}"
            if statistics.peak is not None and wide
            else ""
        )
        return [
            styled_row(palette, name),
            styled_row(palette, ("×".join(map(str, array.shape)), palette.dim)),
            (histogram(palette, statistics, _BINS),),
            styled_row(palette, span),
            styled_row(palette, (" · ".join(parts), palette.warning if bad else palette.dim)),
        ]

    # Keys

    def choose(self) -> None:
        ref, _, statistics = self._shown[self.cursor]
        index = statistics.first_bad or statistics.peak
        if index is not None:
            self.request("number", Ref(ref.name, index))

    def action_saturated(self) -> None:
        """Show where the first entry of the next nearly always saturated unit comes from; do nothing if there is none."""
        self._ensure_built()
        if not self._shown:
            return
        ref, array, statistics = self._shown[self.cursor]
        unit = next_saturated_unit(array, statistics.limits, self._after) if statistics.limits is not None else None
        if unit is None:
            return
        self._after = unit
        self.request("number", Ref(ref.name, (*(0,) * (np.ndim(array) - 1), unit)))
