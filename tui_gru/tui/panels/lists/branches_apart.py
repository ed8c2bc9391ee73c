"""The comparison of two branches: their first difference, their losses and their samples."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.message import Message

from tui_gru.debugger.analysis.branches_apart import BranchComparison, DifferingEntry
from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.program.naming import printable, spoken
from tui_gru.debugger.program.position import position_of
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.engine import numbers
from tui_gru.engine.data.tokens import Text, token_word
from tui_gru.tui.look.characters import folded
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.verbs.verb import with_keys
from tui_gru.tui.widgets.list_overlay import ListOverlay, ListRow
from tui_gru.tui.widgets.plots.time_scale import place_name
from tui_gru.tui.widgets.snapshot_panel import Titles, View

#: A part of a row and its style.
Part = tuple[str, Style]


class BranchesApart(ListOverlay):
    """The comparison. Enter goes to the place under the cursor: the first difference, or where the losses differ most."""

    ABOUT = "Where two branches first differ, and how much their losses and samples differ. enter goes to the place."

    @dataclass
    class Chosen(Message):
        """Posted to go to a place that both branches have."""

        tick: int

    def __init__(self, apart: BranchComparison, program: Program) -> None:
        super().__init__()
        self.apart, self._program = apart, program
        self._ticks: list[int] = []

    def reads(self, snapshot: Snapshot, view: View) -> Hashable:
        """Return None: the content stays that of the moment at which the comparison was computed."""
        return None

    def titles(self, snapshot: Snapshot) -> Titles:
        hints = ["enter goes there", with_keys(self, "<compare> minus in every matrix"), with_keys(self, "<stop> closes")]
        return f"{self.apart.name} beside {self.apart.other}", hints

    def choose(self) -> None:
        self.post_message(self.Chosen(self._ticks[self.cursor]))

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
        palette, apart, first = self.palette, self.apart, self.apart.first
        if first is None:
            yield from self._said("There is no difference up to where both have been run.", width)
            return
        yield from self._said("first difference", width, palette.strong)
        if first.found is not None:
            t = "" if first.found.t is None else f" t{first.found.t + 1}"
            yield from self._difference(first.found, f"before the first line of {self._batch(first.batch)}{t}", width)
        if first.computed is not None:
            place = place_name(position_of(self._program, first.computed.tick))
            yield from self._difference(first.computed, f"computed at {place}", width)
        if first.learns:
            learning = apart.name if first.learns == "mine" else apart.other
            words = f"only {learning} learns in {self._batch(first.batch)}; before that they are the same"
            yield from self._said(words, width)

    def _difference(self, entry: DifferingEntry, place: str, width: int) -> Iterator[ListRow]:
        """Yield the rows of an entry that differs: its place, its value on each branch, and the line that computed it."""
        palette, program, apart, first = self.palette, self._program, self.apart, self.apart.first
        number = self._entry(entry.tick)
        line = program.lines.get(entry.name) or program.lines.get(program.written_with.get(entry.name, ""))
        more = f" and {entry.entries - 1} more entries" if entry.entries > 1 else ""
        yield from self._said(f"{spoken(program, entry.name, entry.index)}{more} · {place}", width, palette.accent, number)
        shown = [numbers.wide(value).strip() for value in (entry.mine, entry.theirs)]
        words = f"  {shown[0]} on {apart.name} · {shown[1]} on {apart.other}"
        yield from self._said(words, width, palette.plain, number)
        if line is not None and first is not None and entry is first.computed:
            yield from self._said(f"  {line.text}", width, palette.dim, number)

    # Losses and samples

    def _losses(self, width: int) -> Iterator[ListRow]:
        rows = [("here", self.apart.here), ("largest difference", self.apart.furthest)]
        table = [(words, losses) for words, losses in rows if losses is not None]
        if not table:
            return
        if self.apart.furthest is not None and not self.apart.furthest.apart:
            yield from self._said("the losses of all batches that both have run are the same", width)
            return
        palette, apart = self.palette, self.apart
        first = max(cell_len(f"{words}, {self._batch(losses.batch)}") for words, losses in table)
        wide = [max(numbers.WIDE, cell_len(name)) for name in (apart.name, apart.other)]
        heads = "".join(f"  {name.rjust(size)}" for name, size in zip((apart.name, apart.other), wide, strict=True))
        yield ListRow(self._row(("loss".ljust(first), palette.strong), (f"{heads}  minus", palette.dim)))
        for words, losses in table:
            entry = self._entry(losses.batch * self._program.ticks + self._program.loss_tick)
            shown = [numbers.plain(value) for value in (losses.mine, losses.theirs)]
            values = "".join(f"  {value.rjust(size)}" for value, size in zip(shown, wide, strict=True))
            ink = palette.signed((losses.apart > 0) - (losses.apart < 0)) if losses.apart == losses.apart else palette.warning
            place = f"{words}, {self._batch(losses.batch)}".ljust(first)
            yield ListRow(
                self._row((place, palette.plain), (f"{values}  ", palette.plain), (numbers.wide(losses.apart).strip(), ink)),
                entry,
            )

    def _batch(self, number: int) -> str:
        epoch, batch = divmod(number, self._program.num_batches)
        return f"e{epoch + 1} b{batch + 1}"

    def _samples(self, width: int) -> Iterator[ListRow]:
        samples, palette, apart = self.apart.samples, self.palette, self.apart
        if samples is None:
            if not apart.reached:
                yield from self._said(f"{apart.other} has not reached this place, so it has no sample to compare", width)
            return
        names = apart.name, apart.other
        first = samples.first
        words = (
            "the same"
            if first is None
            else f"{samples.count} of {len(samples.mine)} differ, from {token_word(samples.mine)} {first + 1} on"
        )
        yield from self._said("samples, the likeliest character each time", width, palette.strong)
        room = max(map(cell_len, names))
        for name, text in zip(names, (samples.mine, samples.theirs), strict=True):
            same, other = (text, text[:0]) if first is None else (text[:first], text[first:])
            yield ListRow(
                self._row(
                    (f"{name.ljust(room)}  ", palette.dim),
                    (_shown(samples.primer), palette.dim),
                    (_shown(same), palette.plain),
                    (_shown(other), palette.second),
                )
            )
        yield from self._said(words, width)

    def _said(self, words: str, width: int, ink: Style | None = None, entry: int | None = None) -> Iterator[ListRow]:
        return (ListRow(self._row((part, ink or self.palette.plain)), entry) for part in folded(words, width))

    def _row(self, *parts: Part) -> tuple[Segment, ...]:
        return tuple(Segment(transliterate(words, self.palette.glyphs), ink) for words, ink in parts)


def _shown(text: Text) -> str:
    """Return a part of a sample as text; tokens that may be longer than a character are separated by blanks."""
    return "".join(printable(token) + ("" if isinstance(text, str) else " ") for token in text)
