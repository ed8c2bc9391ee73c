"""The weights with their gradients and changes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import lru_cache
from math import prod
from typing import ClassVar, NamedTuple

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.widget import Widget

from tui_gru.debugger.program import Program, number_along, spoken
from tui_gru.engine import numbers
from tui_gru.engine.numbers import exact
from tui_gru.engine.source import Ability
from tui_gru.session.answers import update_in_words
from tui_gru.session.snapshot import Snapshot, View
from tui_gru.tui.draw import (
    EMPTY,
    Box,
    CellRow,
    Refs,
    SegmentRow,
    TableColumn,
    clip,
    flow_size,
    from_rows,
    hstack,
    in_columns,
    refs_of,
    table,
    text_box,
    titled,
    vstack,
    wrapped_boxes,
)
from tui_gru.tui.keys import sign_of_key, with_keys
from tui_gru.tui.matrix import MatrixView
from tui_gru.tui.panel import CellPanel, PanelGroup, Request, Titles
from tui_gru.tui.theme import Palette, written_char
from tui_gru.tui.written import ENTRIES, AnyArray, bracketed_matrix, scale_of

# ------------------------------------------------------------------------------
# Sheets: all parameters of a small model, or their gradients, or their last changes, as matrices side by side.


#: The most numbers shown as a sheet.
MOST_ENTRIES = 400
#: Cells between the matrices of a sheet: as few as are needed, and as many as help to tell them apart.
_NEAR, _APART = 2, 12


class Sheet(NamedTuple):
    """A quantity of every parameter: `read` returns it from a snapshot, `sign` is written before the parameter's name."""

    name: str
    sign: str
    read: Callable[[Snapshot, str], AnyArray | None]

    def fresh(self, snapshot: Snapshot, parameter: str) -> bool:
        """Return True if the line just executed has computed the quantity of this parameter."""
        line = snapshot.line
        if line is None:
            return False
        return line.target == (f"d{parameter}" if self.sign == "d" else parameter)

    def refs(self, program: Program, parameter: str) -> Refs:
        """Return the function from row and column to the reference of that number."""
        if self.sign == "d" and program.goes_back:
            return refs_of(program, f"d{parameter}")
        return refs_of(program, parameter, change=self.sign == "Δ")

    def is_computed(self, snapshot: Snapshot) -> bool:
        """Return True if the quantity has been computed for any parameter."""
        return any(self.read(snapshot, name) is not None for name in snapshot.program.parameters)


WEIGHTS = Sheet("weights", "", lambda snapshot, name: snapshot.parameter(name))
GRADIENTS = Sheet("gradients", "d", lambda snapshot, name: snapshot.gradient(name))
RECORDED = Sheet("p.grad", "p.grad ", lambda snapshot, name: _recorded(snapshot, name))
CHANGES = Sheet("last change", "Δ", lambda snapshot, name: snapshot.last_step(name))


def computed_by(snapshot: Snapshot) -> Sheet:
    """Return the sheet with the result of the current line: the gradients, or the weights by default."""
    gradients = any(GRADIENTS.fresh(snapshot, parameter) for parameter in snapshot.program.parameters)
    return GRADIENTS if gradients else WEIGHTS


def _recorded(snapshot: Snapshot, name: str) -> AnyArray | None:
    """Return the recorded gradient that the optimizer used; None before the derived one is computed, or if not recorded."""
    batch = snapshot.config.source.batch(snapshot.position.batch)
    recorded = None if batch is None else batch.recorded
    is_known = recorded is not None and snapshot.gradient(name) is not None
    return recorded[name] if recorded is not None and is_known and not np.isnan(recorded[name]).all() else None


def fits(program: Program, names: Sequence[str], width: int) -> bool:
    """Return True if parameters can be shown as sheets: they have at most MOST_ENTRIES numbers, and none exceeds the width."""
    entry = ENTRIES["signed", True].width + 1
    all_shapes = program.config.compiled.layout.shapes
    shapes = {name: all_shapes[name] for name in names}
    widest = max(shape[-1] * entry + 1 + (len(f"{name} ") if len(shape) == 1 else 0) for name, shape in shapes.items())
    return sum(map(prod, shapes.values())) <= MOST_ENTRIES and widest <= width


class Spacing(NamedTuple):
    """How near the numbers of a sheet stand: short if `compact`, with `gap` cells between columns of matrices, and `leading` rows
    between the matrices of a column. Rows and columns are named if this takes no more rows, or at most `rows`."""

    compact: bool
    gap: int = _NEAR
    leading: int = 1
    rows: int = 0


class _Entry(NamedTuple):
    """All that the drawing of a parameter depends on, with the array as bytes, such that it is a cache key."""

    name: str
    shape: tuple[int, int]
    data: bytes | None
    dtype: str
    fresh: bool
    picked: bool


def sheet(palette: Palette, snapshot: Snapshot, names: Sequence[str], kind: Sheet, width: int, spacing: Spacing) -> Box:
    """Draw the parameters `names` as a sheet: the matrices of each gate in a column, then the matrices of the head, and the biases.

    The names that the line just executed reads are highlighted.
    """
    line = snapshot.line
    entries = []
    for name in names:
        parameter = snapshot.record.before[name]
        array = kind.read(snapshot, name)
        fresh = kind.fresh(snapshot, name)
        picked = fresh or (line is not None and kind.sign + name in line.reads)
        shape = (1, *parameter.shape)[-2:]
        data = None if array is None else array.tobytes()
        entries.append(_Entry(name, (shape[0], shape[1]), data, (parameter if array is None else array).dtype.str, fresh, picked))
    return _drawn(palette, kind, snapshot.program, tuple(entries), width, spacing)


@lru_cache(maxsize=16)
def _drawn(palette: Palette, kind: Sheet, program: Program, entries: tuple[_Entry, ...], width: int, spacing: Spacing) -> Box:
    named, index, _ = _arrangement(palette, kind, program, tuple(entry.name for entry in entries), width, spacing)
    return wrapped_boxes(
        _drawn_ways(palette, kind, program, entries, spacing._replace(gap=0, rows=0), named)[index], width, gap=spacing.gap
    )


@lru_cache(maxsize=16)
def _drawn_ways(
    palette: Palette, kind: Sheet, program: Program, entries: tuple[_Entry, ...], spacing: Spacing, named: bool
) -> Sequence[Sequence[Box]]:
    arrays = [None if e.data is None else np.frombuffer(e.data, e.dtype).reshape(e.shape) for e in entries]
    scale = max((scale_of(array) for array in arrays if array is not None), default=1.0)
    largest, place = _largest(entries, arrays) if kind.sign else ("", (0, 0))
    matrices = [
        _matrix(palette, kind, program, e._replace(picked=False), scale, place if e.name == largest else None, spacing.compact)
        for e in entries
    ]
    return _ways(palette, kind, program, entries, matrices, spacing, named=named)


@lru_cache(maxsize=128)
def _matrix(
    palette: Palette, kind: Sheet, program: Program, entry: _Entry, scale: float, marked: tuple[int, int] | None, compact: bool
) -> Box:
    """Draw the matrix of a parameter. A step changes few of them."""
    array = None if entry.data is None else np.frombuffer(entry.data, entry.dtype).reshape(entry.shape)
    refs = kind.refs(program, entry.name)
    return bracketed_matrix(
        palette, array, shape=entry.shape, scale=scale, fresh=entry.fresh, compact=compact, refs=refs, marked=marked
    )


def _ways(
    palette: Palette,
    kind: Sheet,
    program: Program,
    entries: Sequence[_Entry],
    matrices: Sequence[Box],
    spacing: Spacing,
    *,
    named: bool,
) -> Sequence[Sequence[Box]]:
    """Return the ways to put matrices side by side, with the names of rows and columns if `named`."""
    first = {name for names in program.matrices_by_gate[:1] for name in names} | set(program.of_head)
    boxes, compact = {}, spacing.compact
    for entry, box in zip(entries, matrices, strict=True):
        name = entry.name
        title = text_box(palette, kind.sign + name, palette.accent if entry.picked else palette.dim)
        of_matrix = len(program.names[name].axes) == 2
        if named and of_matrix:
            boxes[name] = _named(palette, program, entry, title, box, compact=compact, rows=name in first)
        else:
            above = of_matrix and name not in program.of_head
            boxes[name] = titled(title, box) if above else hstack(title, replace(box, axis=0))
    gates = [[boxes[name] for name in names] for names in program.matrices_by_gate if names[0] in boxes]
    columns = [_column(*gate, leading=spacing.leading) for gate in gates]
    vectors = [name for name in boxes if len(program.names[name].axes) != 2]
    head = [boxes[name] for name in program.of_head if name not in vectors]
    head_vectors, biases = ([boxes[name] for name in vectors if (name in program.of_head) is of_head] for of_head in (True, False))
    together = _column(*head_vectors, *biases)
    # Where numbers are short, rows are few: one more would move the names out of view when the vectors are scrolled to.
    roomy = not compact and sum(box.height for box in head) + together.height < max((c.height for c in columns), default=0)
    bias_columns = [_column(*biases)] if biases else []
    return (
        [*columns, _column(*head, together, leading=int(roomy))],
        [*columns, *bias_columns, _column(*head, *head_vectors)],
        [*columns, *bias_columns, *head, *head_vectors],
    )


@lru_cache(maxsize=64)
def _arrangement(
    palette: Palette, kind: Sheet, program: Program, names: tuple[str, ...], width: int, spacing: Spacing
) -> tuple[bool, int, Size]:
    """Return whether the rows and columns of a sheet of these parameters have names at this width, which of the ways takes the
    fewest rows, and the size of it: all that is the same for all numbers."""
    best = {}
    for named in (True, False):
        ways = _blank_ways(palette, kind, program, names, spacing._replace(gap=0, rows=0), named)
        sizes = [flow_size(boxes, width, gap=spacing.gap) for boxes in ways]
        fewest = min(sizes, key=lambda size: size.height)
        best[named] = sizes.index(fewest), fewest
    named = best[True][1].height <= max(best[False][1].height, spacing.rows) and best[True][1].width <= width
    return named, *best[named]


@lru_cache(maxsize=16)
def _blank_ways(
    palette: Palette, kind: Sheet, program: Program, names: tuple[str, ...], spacing: Spacing, named: bool
) -> Sequence[Sequence[Box]]:
    """Return the ways to put the matrices of these parameters side by side, without their numbers: the same at all widths and with
    all gaps."""
    all_shapes = program.config.compiled.layout.shapes
    shapes = {name: (1, *all_shapes[name])[-2:] for name in names}
    entries = [_Entry(name, (shape[0], shape[1]), None, "", False, False) for name, shape in shapes.items()]
    step, blank = ENTRIES["signed", spacing.compact].width + 1, Segment("")
    boxes = [Box(((blank,),) * rows, columns * step + 1, (rows - 1) // 2) for _, (rows, columns), *_ in entries]
    return _ways(palette, kind, program, entries, boxes, spacing, named=named)


def widest_spacing(
    palette: Palette, program: Program, names: tuple[str, ...], width: int, room: int, near: Spacing, kind: Sheet = WEIGHTS
) -> Spacing:
    """Return the spacing with the most cells between columns that takes no row and no name more than `near`, within `room` of this
    width."""
    named, _, least = _arrangement(palette, kind, program, names, width, near)
    for wider in (near._replace(gap=gap) for gap in range(_APART, near.gap, -1)):
        also, _, size = _arrangement(palette, kind, program, names, width, wider)
        if also == named and size.height <= least.height and size.width <= room:
            return wider
    return near


def sheet_size(palette: Palette, program: Program, names: tuple[str, ...], width: int, spacing: Spacing) -> Size:
    """Return the size of a sheet of these parameters at this width, whatever their numbers are."""
    return _arrangement(palette, WEIGHTS, program, names, width, spacing)[-1]


def _largest(entries: Sequence[_Entry], arrays: Sequence[AnyArray | None]) -> tuple[str, tuple[int, int]]:
    """Return the name and the place of the entry of the largest magnitude; an empty name if there is none."""
    sizes = [0.0 if array is None else float(np.nan_to_num(np.abs(array)).max(initial=0.0)) for array in arrays]
    at = int(np.argmax(sizes)) if sizes else 0
    array = arrays[at] if sizes and sizes[at] else None
    if array is None:
        return "", (0, 0)
    row, column = divmod(int(np.nan_to_num(np.abs(array)).argmax()), array.shape[1])
    return entries[at].name, (row, column)


def _named(palette: Palette, program: Program, entry: _Entry, title: Box, box: Box, *, compact: bool, rows: bool) -> Box:
    """Put the title of a matrix and the names of its columns above it, and with `rows` the names of its rows before it."""

    def short(axis: str, i: int) -> str:
        vocabulary, (counted, at) = program.config.vocabulary, number_along(program, axis, i)
        return written_char(vocabulary[at], palette.glyphs) if counted == "character" and vocabulary else str(at + 1)

    (down, across), (count, columns) = program.names[entry.name].axes, entry.shape
    lead = [text_box(palette, short(down, i), palette.dim) for i in range(count)] if rows else []
    width = max((label.width for label in lead), default=-1) + 1
    head = CellRow(width + box.width)
    for part in title.rows[0]:
        head.put(width, part.text, part.style or palette.plain)
    step = ENTRIES["signed", compact].width + 1
    for j in range(columns):
        name = short(across, j)
        x = width + (j + 1) * step - cell_len(name)
        if head.free(x - 1, cell_len(name) + 1):
            head.put(x, name, palette.dim)
    body = hstack(replace(vstack(*lead), axis=box.axis), box, gap=1) if lead else box
    return titled(from_rows([tuple(head.strip())]), body)


def _column(*boxes: Box, leading: int = 0) -> Box:
    """Stack boxes to a column; columns side by side are aligned at their tops."""
    return replace(vstack(*boxes, gap=leading), axis=0)


# ------------------------------------------------------------------------------
# The parameters with gradients and changes: all at once for a small model, otherwise one at a time.


_SHEETS = {
    "weights": (WEIGHTS,),
    "gradients": (GRADIENTS,),
    "p.grad": (RECORDED,),
    "changes": (CHANGES,),
    "all": (WEIGHTS, GRADIENTS, CHANGES),
}
#: Cells between two sheets side by side, of a column of norms, and of all of these at most.
_GAP, _NORM, _NORMS = 4, 7, 60

_FULL, _SHORT = Spacing(compact=False), Spacing(compact=True)

MODES = ("all", "weights", "gradients", "changes")


class Overview(CellPanel):
    """All parameters of a small model as compact matrices, in as many sheets as fit."""

    ABOUT = (
        "Every weight and bias. <weights> switches to their gradients and to their changes in the last update; W lists every array."
    )

    def __init__(self) -> None:
        super().__init__()
        self.mode = "all"
        self.left_out = ""  # the mode of the first sheet that has no room, which the border names
        self._titled = "", ""
        #: What the last norms depend on, these, and their snapshot, as long as which no other batch has its id.
        self._normed: tuple[Hashable, Box, Snapshot | None] = None, EMPTY, None

    def reads(self, snapshot: Snapshot, view: View) -> Hashable:
        """Return what the numbers depend on, and the names that the line reads."""
        names = () if snapshot.line is None else (*snapshot.line.reads, snapshot.line.target)
        marked = tuple(name for name in names if name.removeprefix("d") in snapshot.program.parameters)
        return self._numbers_of(snapshot, view), marked, snapshot.settings.learning, self.mode

    @staticmethod
    def _numbers_of(snapshot: Snapshot, view: View) -> Hashable:
        """Return the batch and the last one, the lines that compute gradients or weights, and the layer."""
        computed = snapshot.position.tick if snapshot.position.phase in ("backward", "update") else None
        batches = id(snapshot.record), id(snapshot.previous)  # as long as the panel has them, no others have these ids
        return batches, computed, snapshot.changed, view.layer_of(snapshot)

    def titles(self, snapshot: Snapshot) -> Titles:
        title, note = self._titled
        if len(snapshot.program.layers) > 1:
            title += f" · {snapshot.program.layer_name(self._view.layer_of(snapshot))}"
        return Titles(f"{title} − {snapshot.minus}" if snapshot.minus else title, note or None)

    def _follow(self) -> None:
        """Scroll the result of the current line into view if not all parameters are visible."""
        line = None if self._snapshot is None else self._snapshot.line
        if line is None or not self.region or self.virtual_size.height <= self.size.height:
            return
        rows = [spot.y for spot in self.spots if spot.ref.name == line.target and not spot.ref.change]
        if rows:
            heading = self.scrollable_content_region.height > 1  # a single row is for the result itself
            self.scroll_to_rows(max(rows[0] - heading, 0), rows[-1])

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        self.left_out = ""
        norms, spare = len(_SHEETS["all"]) * (_NORM + 2), width - self._sheet_size(snapshot, width, _SHORT).width
        groups = self._groups(snapshot) if spare > _GAP + norms else []
        norms_width = norms + max(cell_len(" ".join(group)) for group in groups) if groups else 0
        shown = self._all(snapshot, width, height, norms_width) if self.mode == "all" else self._one(snapshot, width, height)
        if groups and shown.width + _GAP + norms_width <= width and len(groups) < max(shown.height, height):
            shown = in_columns(shown, self._norms(snapshot, groups), gap=_GAP)
        return clip(self.palette, shown, width, shown.height)

    def _one(self, snapshot: Snapshot, width: int, height: int) -> Box:
        """Draw one sheet, with full numbers if they fit."""
        kind = _SHEETS[self.mode][0]
        self._caption(kind.name)
        full = self._sheet_size(snapshot, width, _FULL)
        spacing = self._in_rows(snapshot, width, height, _SHORT if full.width > width or full.height > height else _FULL)
        return self._with_largest(snapshot, kind, self._sheet(snapshot, kind, width, spacing._replace(rows=height)), height)

    def _with_largest(self, snapshot: Snapshot, kind: Sheet, shown: Box, height: int) -> Box:
        """Return a sheet, below it in words which of its numbers is the largest, which is underlined, if there is room."""
        arrays = {name: array for name in self._names(snapshot) if (array := kind.read(snapshot, name)) is not None}
        sizes = {name: float(np.abs(array).max()) for name, array in arrays.items() if array.size and np.isfinite(array).all()}
        if not kind.sign or not any(sizes.values()) or shown.height + 2 > height:
            return shown
        name = max(sizes, key=lambda name: sizes[name])
        index = tuple(int(at) for at in np.unravel_index(np.abs(arrays[name]).argmax(), arrays[name].shape))
        place = spoken(snapshot.program, name, index)
        words = f"the largest: {kind.sign}{place} = {numbers.plain(arrays[name][index])}"
        return vstack(shown, text_box(self.palette, words, self.palette.dim), gap=1)

    def _sheet_size(self, snapshot: Snapshot, width: int, spacing: Spacing) -> Size:
        return sheet_size(self.palette, snapshot.program, self._names(snapshot), width, spacing)

    def _in_rows(self, snapshot: Snapshot, width: int, height: int, spacing: Spacing) -> Spacing:
        """Return a spacing without rows between matrices where they would not fit into the height."""
        return spacing._replace(leading=int(self._sheet_size(snapshot, width, spacing).height <= height))

    def _names(self, snapshot: Snapshot) -> tuple[str, ...]:
        return snapshot.program.parameters_with(self._view.layer_of(snapshot))

    def _all(self, snapshot: Snapshot, width: int, height: int, norms_width: int) -> Box:
        """Draw the weights, with full numbers if they fit, and as many of the other sheets as fit. If only one fits, it is the one
        being computed, with its matrices further apart in the room that `norms_width` leaves."""
        full, fewest = self._sheet_size(snapshot, width, _FULL), self._sheet_size(snapshot, 10**6, _SHORT).height
        spacing = self._in_rows(snapshot, width, height, _SHORT if full.width > width or full.height > fewest else _FULL)
        least = self._sheet_size(snapshot, width, spacing).width
        across = max((width + _GAP) // (least + _GAP), 1)
        room, names = width - (norms_width + _GAP if least + _GAP + norms_width <= width else 0), self._names(snapshot)
        kind = GRADIENTS if computed_by(snapshot) is GRADIENTS else WEIGHTS
        alone = widest_spacing(self.palette, snapshot.program, names, width, room, spacing._replace(rows=height), kind)
        spacing = spacing if across > 1 else widest_spacing(self.palette, snapshot.program, names, width, room, spacing)
        first = shown = self._sheet(snapshot, WEIGHTS, width, spacing)
        height = self.canvas(width, height, lambda: Size(0, 4 * first.height)).height
        room = across * ((height + 1) // (first.height + 1))  # the number of sheets that fit
        others = left_out = [kind for kind in (GRADIENTS, RECORDED, CHANGES) if kind.is_computed(snapshot)]
        for count in range(1, min(room, 1 + len(others))):
            together = wrapped_boxes(
                [first, *(self._sheet(snapshot, kind, width, spacing) for kind in others[:count])], width, gap=_GAP
            )
            if together.height <= height:
                shown, left_out = together, others[count:]
        if shown is first:
            spacing = alone if across == 1 else spacing._replace(rows=height)
            shown = self._sheet(snapshot, WEIGHTS, width, spacing)
        if GRADIENTS in left_out and computed_by(snapshot) is GRADIENTS:
            self._leave_out(GRADIENTS.name, WEIGHTS)
            return self._with_largest(snapshot, GRADIENTS, self._sheet(snapshot, GRADIENTS, width, spacing), height)
        self._leave_out("weights", *left_out[:1])
        if GRADIENTS not in others and snapshot.program.goes_back and not snapshot.minus and shown.height + 1 < height:
            words = snapshot.moment.why_missing() or f"no gradients yet: {_how_gradients_come(self, snapshot)}"
            shown = vstack(shown, text_box(self.palette, words, self.palette.dim), gap=1)
        return shown

    def _groups(self, snapshot: Snapshot) -> list[tuple[str, ...]]:
        """Return the weights of each gate, the weights of the head, and the biases; nothing of a model that is not trained here."""
        if snapshot.minus or not snapshot.config.source.can(Ability.TRAIN):
            return []
        program, names = snapshot.program, self._names(snapshot)
        groups = [tuple(name for name in group if name in names) for group in (*program.matrices_by_gate, program.of_head)]
        return [group for group in (*groups, tuple(name for name in names if not any(name in group for group in groups))) if group]

    def _norms(self, snapshot: Snapshot, groups: Sequence[tuple[str, ...]]) -> Box:
        """Draw the norms of each group of weights, of their gradients and of their last changes."""
        palette = self.palette
        key = palette, snapshot.program, self._numbers_of(snapshot, self._view)
        if key == self._normed[0]:
            return self._normed[1]
        norms_by_kind = {
            kind: [_norm([kind.read(snapshot, name) for name in group]) for group in groups] for kind in _SHEETS["all"]
        }
        rows: list[list[SegmentRow]] = [[text_box(palette, " ".join(group), palette.dim).rows[0]] for group in groups]
        for norms in norms_by_kind.values():
            most = max((norm for norm in norms if norm is not None), default=None)
            for row, norm in zip(rows, norms, strict=True):
                ink = palette.blank if norm is None else palette.strong if norm == most else palette.plain
                row.append((Segment(palette.glyphs.blank if norm is None else numbers.plain(norm), ink),))
        heads = [TableColumn("sizes", gap=0), *(TableColumn(f"‖{kind.sign}W‖", right=True, size=_NORM) for kind in norms_by_kind)]
        self._normed = key, from_rows(table(palette, rows, heads, _NORMS)), snapshot
        return self._normed[1]

    def _sheet(self, snapshot: Snapshot, kind: Sheet, width: int, spacing: Spacing) -> Box:
        return sheet(self.palette, snapshot, self._names(snapshot), kind, width, spacing)

    def _leave_out(self, title: str, *left_out: Sheet) -> None:
        """Set the title, and name the first sheet that is left out in the border."""
        self.left_out = next((mode for mode, kinds in _SHEETS.items() if kinds == left_out), "")
        self._caption(title, "".join(f"{sign_of_key(self, 'weights')}: {kind.name}" for kind in left_out))

    def _caption(self, title: str, note: str = "") -> None:
        """Set the title after drawing: it is known only when the content is built, and must not change during that."""
        self._titled = title, note
        self.call_next(self.caption)


def _norm(arrays: Sequence[AnyArray | None]) -> float | None:
    """Return the norm of all numbers of these arrays, None if one is not computed yet."""
    norms = [np.linalg.norm(array.astype(np.float64)) for array in arrays if array is not None]
    return float(np.linalg.norm(norms)) if norms and len(norms) == len(arrays) else None


def _how_gradients_come(panel: Widget, snapshot: Snapshot) -> str:
    if snapshot.settings.learning:
        return "the backward phase computes them"
    return with_keys(panel, f"<learn.sgd> takes {update_in_words(snapshot)}, <learn.toggle> turns learning on")


class ParameterMatrix(MatrixView):
    """One parameter, its gradient or its last change."""

    ABOUT = (
        "One weight matrix: a row for each input, a column for each unit. <weights> switches to its gradient and its change; "
        "W lists every array."
    )

    def __init__(self) -> None:
        super().__init__()
        self.parameter, self._sign, self._minus = "", "", ""
        self._program: Program  # of the parameter, as soon as there is one

    def show(self, snapshot: Snapshot, kind: Sheet, name: str) -> None:
        if (name, kind.sign) != (self.parameter, self._sign):
            self.unsort()
        self.parameter, self._sign = name, kind.sign
        self._program, self._minus = snapshot.program, snapshot.minus
        self.refs = kind.refs(snapshot.program, name)
        shape = snapshot.record.before[name].shape
        self.show_array(
            kind.read(snapshot, name),
            shape=(shape[0], shape[1]) if len(shape) == 2 else (1, shape[0]),
            fresh=kind.fresh(snapshot, name),
            named=(name, kind.sign, snapshot.program, snapshot.minus),
        )

    def caption(self) -> None:
        """Set the title to the list of all parameters with the shown one marked, cut off at its start if it is too long."""
        if not self.parameter:
            return
        minus = f"− {self._minus}:  " if self._minus else ""
        room = self.border_room - cell_len(minus)
        parameters = self._program.parameters
        names = [f"‹{self._sign}{name}›" if name == self.parameter else name for name in parameters]
        shown = parameters.index(self.parameter)
        first = next((i for i in range(shown) if len("  ".join(names[i : shown + 1])) <= room), shown)
        self.title = minus + "  ".join(names[first:])
        super().caption()

    def name_cell(self, row: int, column: int) -> str:
        return f"{self._sign}{self.parameter}, {self.place_of(row, column)}"

    def place_of(self, row: int, column: int) -> str:
        axes = self._program.names[self.parameter].axes
        index = (row, column)[2 - len(axes) :]
        words = [(number_along(self._program, axis, i)[0], self._short(axis, i)) for axis, i in zip(axes, index, strict=True)]
        return " → ".join(f"“{word}”" if counted == "character" else f"{counted} {word}" for counted, word in words)

    def name_row(self, row: int) -> str:
        axes = self._program.names[self.parameter].axes
        return self._short(axes[0], row) if len(axes) > 1 else ""

    def name_column(self, column: int) -> str:
        return self._short(self._program.names[self.parameter].axes[-1], column)

    def _short(self, axis: str, i: int) -> str:
        """Return a character, or the 1-based number of a unit."""
        vocabulary, (counted, at) = self._program.config.vocabulary, number_along(self._program, axis, i)
        return written_char(vocabulary[at], self.palette.glyphs) if counted == "character" and vocabulary else str(at + 1)


@lru_cache(maxsize=512)
def parameter_of(program: Program, target: str) -> str:
    """Return the parameter that a line computes or reads, or, if it has none, the one of the nearest line above it that has one."""
    parameter = ""
    for line in program.lines.values():
        names = (line.target, line.target.removeprefix("d"), *line.reads)
        parameter = next((name for name in names if name in program.parameters), parameter)
        if line.target == target:
            break
    return parameter


_AROUND_MATRIX = 2  # rows: the range of a large matrix, and the names of its columns


class WeightsPanel(PanelGroup):
    """All parameters: values, gradients and the changes of the last SGD step.

    `mode` is the kind shown: weights, gradients, changes, or all that fit. Of a large model, one parameter is shown at a time: that
    which the current line computes or reads, until `<` and `>` choose another.
    """

    #: The weight that `go_to_largest` has found, and its entry; None before, and if it has found none.
    largest: tuple[str, tuple[int, ...]] | None = None

    DEFAULT_CSS = "WeightsPanel > * { width: 1fr; height: 1fr; }"

    BINDINGS: ClassVar[list[BindingType]] = [
        ("less_than_sign", "choose(-1)"),
        Binding("greater_than_sign", "choose(1)", "Parameter", key_display="< >"),
        ("W", "list_arrays"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.mode = "all"
        self.chosen = ""
        self._overview, self._matrix = Overview(), ParameterMatrix()

    def compose(self) -> ComposeResult:
        yield self._overview
        yield self._matrix

    def wanted_height(self, snapshot: Snapshot, width: int) -> int:
        """Return the outer height at which all weights of a small model are shown, or a summary of one of a large model."""
        program, room = snapshot.program, width - self._overview.gutter.width
        names = program.parameters_with(self._view.layer_of(snapshot))
        if not fits(program, names, room):
            return 5
        return sheet_size(self._overview.palette, program, names, room, _SHORT).height + 2

    def height_in_full(self, snapshot: Snapshot, width: int) -> int:
        """Return the outer height at which all weights are shown, of a large model all rows of its tallest matrix."""
        program, gutter = snapshot.program, self._overview.gutter
        names = program.parameters_with(self._view.layer_of(snapshot))
        if fits(program, names, width - gutter.width):
            return self.wanted_height(snapshot, width)
        shapes = program.config.compiled.layout.shapes
        return max(shapes[name][0] for name in names if len(shapes[name]) > 1) + _AROUND_MATRIX + gutter.height

    def show(self, snapshot: Snapshot, view: View) -> None:
        super().show(snapshot, view)
        self._update()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return False for the choice of a parameter if all are shown at once."""
        return False if action == "choose" and self._roomy else super().check_action(action, parameters)

    def action_list_arrays(self) -> None:
        """List every array of the model in one line."""
        self.post_message(Request("run", "arrays"))

    def action_cycle_mode(self) -> None:
        """Switch to the next mode: weights, gradients, changes, and all if more than one fits; from all, to what has no room."""
        modes: Sequence[str] = MODES if self._roomy else MODES[1:]
        if not self.snapshot.config.source.can(Ability.TRAIN):
            modes = (*modes[:-2], "gradients", "p.grad") if self.snapshot.program.goes_back else MODES[1:2]
        shown = self.mode if self.mode in modes else modes[0]
        following = modes[(modes.index(shown) + 1) % len(modes)]
        left_out = self._overview.left_out if shown == "all" and self._overview.display else ""
        self.mode = left_out if left_out in modes else following
        self._update()

    def action_choose(self, by: int) -> None:
        names = self.snapshot.program.parameters
        self.chosen = names[(names.index(self._one) + by) % len(names)]
        self._update()

    @property
    def matrix(self) -> MatrixView | None:
        """The matrix of a large model; None if all parameters are shown at once."""
        return None if self._roomy else self._matrix

    def go_to_largest(self, mode: str) -> str:
        """Show gradients or changes with the cursor on the largest entry of all parameters. Return a message about it."""
        snapshot, (kind,) = self.snapshot, _SHEETS[mode]
        self.largest = self.largest_of(mode)
        if self.largest is None:
            return snapshot.moment.why_missing() or f"there are no {mode} yet: {_how_gradients_come(self, snapshot)}"
        name, index = self.largest
        if self.region:  # if the panel is on another page, only the message is shown
            self.mode, self.chosen = mode, name
            self._update()
            self._point_at(kind, index)
        value = kind.read(snapshot, name)
        assert value is not None
        return f"the largest: {kind.sign}{spoken(snapshot.program, name, index)} = {exact(value[index])}"

    def largest_of(self, mode: str) -> tuple[str, tuple[int, ...]] | None:
        """Return the parameter and the entry with the largest gradient or change of all, None if there are none."""
        from tui_gru.analysis.summaries import largest_entry

        (kind,), sizes = _SHEETS[mode], dict[str, tuple[float, tuple[int, ...]]]()
        for name in self.snapshot.program.parameters:
            array = kind.read(self.snapshot, name)
            if array is not None and (index := largest_entry(array)) is not None:
                sizes[name] = abs(float(array[index])), index
        largest = max(sizes, key=lambda name: sizes[name][0], default=None)
        return None if largest is None else (largest, sizes[largest][1])

    def _point_at(self, kind: Sheet, index: tuple[int, ...]) -> None:
        """Move the cursor to an entry of the chosen parameter, and give the panel the focus."""
        row, column = (0, *index)[-2:]
        if self._roomy:
            self._overview.pointed = kind.refs(self.snapshot.program, self.chosen)(row, column)
            self.screen.set_focus(self._overview)
            ref = self._overview.pointed
            rows = [spot.y for spot in self._overview.spots if ref is not None and replace(spot.ref, index=ref.index) == ref]
            if rows:  # the whole matrix
                self._overview.scroll_to_rows(max(rows[0] - 1, 0), rows[-1])
        else:
            self._matrix.cursor = (row, column)
            self.screen.set_focus(self._matrix)

    def on_resize(self) -> None:
        self._update()

    @property
    def _one(self) -> str:
        """The parameter that is shown if there is room for only one: the chosen one, otherwise the one of the current line."""
        snapshot = self.snapshot
        names, line = snapshot.program.parameters, snapshot.line
        candidates = (self.chosen, "" if line is None else parameter_of(snapshot.program, line.target))
        return next((name for name in candidates if name in names), next(iter(names), ""))

    @property
    def _roomy(self) -> bool:
        """True if all parameters can be shown at once."""
        if self._snapshot is None:
            return True
        program, layer = self._snapshot.program, self._view.layer_of(self._snapshot)
        width = self.size.width or self.app.size.width // 2  # before the first layout, the guess that is right on most screens
        return fits(program, program.parameters_with(layer), width - self._overview.gutter.width)

    def _update(self) -> None:
        snapshot, single = self._snapshot, not self._roomy
        focused = self._overview.has_focus or self._matrix.has_focus
        self._overview.display, self._matrix.display = not single, single
        if snapshot is None:
            return
        if single:
            kind = computed_by(snapshot) if self.mode == "all" else _SHEETS[self.mode][0]
            self._matrix.show(snapshot, kind, self._one)
        else:
            self._overview.mode = self.mode
            self._overview.show(snapshot, self._view)
        if focused:
            self.screen.set_focus(self._matrix if single else self._overview)
