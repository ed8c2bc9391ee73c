"""The list of all arrays: for each its size, its saturated, dead and near-zero parts, its largest entry and a histogram."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Sequence
from typing import ClassVar

import numpy as np
from rich.segment import Segment
from textual.binding import BindingType

from tui_gru.debugger.analysis.saturation import limits_of, next_saturated_unit
from tui_gru.debugger.analysis.summaries import Summary, summary
from tui_gru.debugger.program.names import ValueKind
from tui_gru.debugger.program.naming import spoken_index
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.engine import numbers
from tui_gru.engine.running.weights import Array
from tui_gru.tui.look.characters import cut
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.look.themes import Palette
from tui_gru.tui.verbs.verb import with_keys
from tui_gru.tui.widgets.cells import NumberAsked
from tui_gru.tui.widgets.heat_frame import histogram
from tui_gru.tui.widgets.list_overlay import ListOverlay, ListRow
from tui_gru.tui.widgets.refs import Ref
from tui_gru.tui.widgets.snapshot_panel import Titles, View, contents

_BINS = 16
_WIDE_ARRAYS = 90  # cells; from this width, the smallest and the largest entry stand beside the histogram
_KINDS = (
    ("parameters", (ValueKind.PARAMETER,)),
    ("gradients", (ValueKind.GRADIENT,)),
    ("values at this timestep", (ValueKind.STATE, ValueKind.VALUE)),
    ("their gradients", (ValueKind.VALUE_GRADIENT,)),
)
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
        return "all arrays", hints

    @property
    def names(self) -> list[str]:
        """The names of the arrays that are listed, in order."""
        self._ensure_built()
        return [ref.name for ref, _, _ in self._shown]

    # Drawing

    def lines(self, width: int) -> Sequence[ListRow]:
        if not self._groups:
            self._groups = [(title, list(self._listed(arrays))) for title, arrays in self._arrays(self.snapshot)]
            self._shown = [each for _, listed in self._groups for each in listed]
        palette, wide = self.palette, width >= _WIDE_ARRAYS
        if self._rows_for == (palette, wide):  # a list that is scrolled asks twice, with and without the scroll bar
            return self._rows
        found, count = list[ListRow](), itertools.count()
        for title, listed in self._groups:
            if listed:
                found += [*([ListRow(())] if found else []), ListRow((Segment(title, palette.dim),))]
            found += [ListRow(tuple(self._row(palette, *each, wide)), next(count)) for each in listed]
        self._rows, self._rows_for = found, (palette, wide)
        return found

    def _arrays(self, snapshot: Snapshot) -> Iterator[tuple[str, Iterator[tuple[Ref, Array | None]]]]:
        program = snapshot.program

        def read(kinds: Sequence[ValueKind]) -> Iterator[tuple[Ref, Array | None]]:
            for name in program.names_of(*kinds):
                if program.names[name].axes:
                    value = snapshot.value(name)
                    yield Ref(name), value

        def changes() -> Iterator[tuple[Ref, Array | None]]:
            for name in program.parameters:
                yield Ref(name, change=True), snapshot.last_step(name)

        for title, kinds in _KINDS:
            yield title, read(kinds)
            if kinds == (ValueKind.GRADIENT,):
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

    def _row(self, palette: Palette, ref: Ref, array: Array, what: Summary, wide: bool) -> Iterator[Segment]:
        glyphs, program = palette.glyphs, self.snapshot.program
        name = transliterate(f"{'Δ' if ref.change else ''}{program.writer.name(ref.name)}", glyphs)
        shape = transliterate("×".join(map(str, array.shape)), glyphs)
        yield Segment(f"{cut(name, 10, glyphs):<10} ", palette.plain)
        yield Segment(f"{shape:<8} ", palette.dim)
        yield Segment(f"{histogram(palette, what, _BINS).text} ", palette.gate)
        if what.peak is not None and wide:
            yield Segment(f"{numbers.compact(what.smallest)}{glyphs.ellipsis}{numbers.compact(what.largest)}", palette.plain)
        bad = what.entries - what.finite
        parts = [f"{bad} not finite"] if bad else []
        if what.peak is not None:
            where = spoken_index(program, ref.name, what.peak)
            parts.append(f"{numbers.compact(array[what.peak]).strip()} at {where}" if not wide else f"largest at {where}")
        if what.limits is not None:
            parts.append(f"saturated {100 * what.share(what.saturated):.0f} %")
        parts.append(f"near 0 {100 * what.share(what.near_zero):.0f} %")
        if what.dead and array.ndim > 1:
            parts.append(f"{what.dead} dead")
        yield Segment(transliterate("  " + " · ".join(parts), glyphs), palette.warning if bad else palette.dim)

    # Keys

    def choose(self) -> None:
        ref, _, what = self._shown[self.cursor]
        index = what.first_bad or what.peak
        if index is not None:
            self.post_message(NumberAsked(Ref(ref.name, index)))

    def action_saturated(self) -> None:
        """Show where the first entry of the next nearly always saturated unit comes from; do nothing if there is none."""
        self._ensure_built()
        if not self._shown:
            return
        ref, array, what = self._shown[self.cursor]
        unit = next_saturated_unit(array, what.limits, self._after) if what.limits is not None else None
        if unit is None:
            return
        self._after = unit
        self.post_message(NumberAsked(Ref(ref.name, (*(0,) * (np.ndim(array) - 1), unit))))
