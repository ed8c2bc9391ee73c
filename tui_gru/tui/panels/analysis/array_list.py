"""The list of all arrays: for each its size, its saturated, dead and near-zero parts, its largest entry and a histogram."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import ClassVar

import numpy as np
from rich.segment import Segment
from textual.binding import Binding, BindingType

from tui_gru.debugger.analysis.saturation import limits_of, next_saturated_unit
from tui_gru.debugger.analysis.summaries import Summary, summary
from tui_gru.debugger.program.names import Kind
from tui_gru.debugger.program.naming import spoken_index
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.engine import numbers
from tui_gru.engine.running.weights import Array
from tui_gru.tui.look.characters import cut, fitting
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.look.key_signs import with_keys
from tui_gru.tui.look.palette import Palette
from tui_gru.tui.view import View
from tui_gru.tui.widgets.boxes import Row
from tui_gru.tui.widgets.cells import NumberAsked
from tui_gru.tui.widgets.list_overlay import Line, ListOverlay
from tui_gru.tui.widgets.refs import Ref
from tui_gru.tui.widgets.snapshot_panel import contents

_BINS = 16
_WIDE = 90  # cells; from this width, the smallest and the largest entry stand beside the histogram
_KINDS = (
    ("parameters", (Kind.PARAMETER,)),
    ("gradients", (Kind.GRADIENT,)),
    ("values at this timestep", (Kind.STATE, Kind.VALUE)),
    ("their gradients", (Kind.DELTA,)),
)
_CHANGES = "change of the last step"


class ArrayList(ListOverlay):
    """All arrays, one per row. Enter shows where the largest entry comes from, `>` where the next saturated unit comes from."""

    ABOUT = "Every array in one line: how much of it is saturated or near 0, its largest entry, and a histogram of its entries."

    ASKING = frozenset({"choose", "saturated"})
    BINDINGS: ClassVar[list[BindingType]] = [Binding("greater_than_sign", "saturated", "Next saturated unit", show=False)]

    def __init__(self) -> None:
        super().__init__()
        self._snapshot: Snapshot | None = None
        self._shown: list[tuple[Ref, Array, Summary]] = []
        self._summaries: dict[Ref, tuple[Hashable, Summary]] = {}  # with the contents of the array
        self._summed_up: set[Ref] = set()  # the arrays of this snapshot whose summaries are known
        self._after = -1  # the saturated unit shown last

    def show(self, snapshot: Snapshot, view: View) -> None:
        if self._snapshot is not None and snapshot.program is not self._snapshot.program:
            self._summaries = {}
        self._snapshot, self._summed_up = snapshot, set()
        self._set_titles()
        self.refresh_content()

    def on_resize(self) -> None:
        self._set_titles()

    def _set_titles(self) -> None:
        hints = ["enter: where the largest entry comes from", "> the next saturated unit", with_keys(self, "<stop> closes")]
        self.set_titles("all arrays", fitting(hints, max(self.outer_size.width - 6, 0) or 10**6))

    @property
    def names(self) -> list[str]:
        """The names of the arrays that are listed, in order."""
        self._ensure_built()
        return [ref.name for ref, _, _ in self._shown]

    # Drawing

    def lines(self, width: int) -> Sequence[Line]:
        if self._snapshot is None:
            return ()
        palette, found = self.palette, list[Line]()
        self._shown = []
        for title, arrays in self._groups(self._snapshot):
            rows = [Line(row, len(self._shown) - 1) for row in self._rows(palette, arrays, width)]
            if rows:
                found += [*([Line(())] if found else []), Line((Segment(title, palette.dim),)), *rows]
        return found

    def _groups(self, snapshot: Snapshot) -> Iterator[tuple[str, Iterator[tuple[Ref, Array | None]]]]:
        program = snapshot.program

        def read(kinds: Sequence[Kind]) -> Iterator[tuple[Ref, Array | None]]:
            for name in program.names_of(*kinds):
                if program.names[name].axes:
                    value = snapshot.value(name)
                    yield Ref(name), value

        def changes() -> Iterator[tuple[Ref, Array | None]]:
            for name in program.parameters:
                yield Ref(name, change=True), snapshot.last_step(name)

        for title, kinds in _KINDS:
            yield title, read(kinds)
            if kinds == (Kind.GRADIENT,):
                yield _CHANGES, changes()

    def _rows(self, palette: Palette, arrays: Iterator[tuple[Ref, Array | None]], width: int) -> Iterator[Row]:
        assert self._snapshot is not None
        program = self._snapshot.program
        for ref, array in arrays:
            if array is None or not array.size or array.dtype.kind != "f":
                continue
            what = self._summary(ref, array)
            self._shown.append((ref, array, what))
            name = f"{'Δ' if ref.change else ''}{program.writer.name(ref.name)}"
            yield tuple(self._row(palette, transliterate(name, palette.glyphs), ref, array, what, width))

    def _summary(self, ref: Ref, array: Array) -> Summary:
        """Return the summary of an array, the last one if the contents of the array are the same: a line changes few arrays."""
        assert self._snapshot is not None
        if ref not in self._summed_up:  # the rows are built again when the width changes
            self._summed_up.add(ref)
            content = contents(array)
            if ref not in self._summaries or self._summaries[ref][0] != content:
                limits = None if ref.change else limits_of(self._snapshot.program, ref.name)
                self._summaries[ref] = content, summary(array, limits, bins=_BINS)
        return self._summaries[ref][1]

    def _row(self, palette: Palette, name: str, ref: Ref, array: Array, what: Summary, width: int) -> Iterator[Segment]:
        assert self._snapshot is not None
        glyphs, program = palette.glyphs, self._snapshot.program
        shape = transliterate("×".join(map(str, array.shape)), glyphs)
        yield Segment(f"{cut(name, 10, glyphs):<10} ", palette.plain)
        yield Segment(f"{shape:<8} ", palette.dim)
        signs = glyphs.column
        tallest = int(what.counts.max(initial=0)) or 1
        columns = "".join(signs[min(-(-int(n) * (len(signs) - 1) // tallest), len(signs) - 1)] for n in what.counts)
        yield Segment(f"{columns} ", palette.gate)
        if what.peak is not None and width >= _WIDE:
            yield Segment(f"{numbers.compact(what.smallest)}{glyphs.ellipsis}{numbers.compact(what.largest)}", palette.plain)
        bad = what.entries - what.finite
        parts = [f"{bad} not finite"] if bad else []
        if what.peak is not None:
            where = spoken_index(program, ref.name, what.peak)
            parts.append(f"{numbers.compact(array[what.peak]).strip()} at {where}" if width < _WIDE else f"largest at {where}")
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
