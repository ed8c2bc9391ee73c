"""Units over time: a heat map of units by characters with their correlations, and the curve of the unit under the cursor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from itertools import zip_longest
from textwrap import wrap
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.binding import BindingType

from tui_gru.analysis import tables
from tui_gru.analysis.influence import Jacobian, jacobian, jacobian_of_row, states_before
from tui_gru.analysis.tables import Columns
from tui_gru.analysis.units import PROBED, Activity, Correlated, Feature, Probe, TextSpan, indices_of, over_row
from tui_gru.debugger.program import shown_char
from tui_gru.engine import numbers
from tui_gru.engine.numbers import WIDE, correlation, counted, decimals
from tui_gru.engine.weights import Array, Float64Array, Weights
from tui_gru.errors import TuiGruError
from tui_gru.session.snapshot import Snapshot, View
from tui_gru.tui.draw import Box, CellRow, Ref, SegmentRow, bar, clip, column_signs, from_rows, merged_segments, styled_row
from tui_gru.tui.keys import with_keys
from tui_gru.tui.matrix import levels
from tui_gru.tui.panel import SnapshotPanel, Titles
from tui_gru.tui.theme import LEVELS, Palette, in_context, one_cell, transliterate, truncated

SORTS = ("by feature", "by variation", "by number", "like this one", "by loss without")
_WIDE, _NARROW = 100, 60  # least width of the panel for names of features beside units, and for what is at the right of the map
_FEATURE = 18  # cells of the name of a feature
_OTHERS = "other units"  # those that follow no feature
_TURNED = "opposite"  # said of units that are drawn with the opposite sign
_WIDEST = 6  # cells of a character at most
_FOOT = 4  # rows below the map: the curve of the unit, and excerpts
_HIGHEST = 10  # the most rows of a curve
_PICKED = 4  # the most units whose curves are pinned
_HALF = 0.5  # of the scale; from this part on, a cell has a sign where there are no colours
_WEAK = 0.1  # weaker correlations are not shown
_NOT_FINITE = LEVELS * 3
_TRAIL = 12  # states before the one at the cursor that are marked in the plane
_SCALES = 36  # cells of the time scales beside the plane
_LETTERS = "aeiou"  # vowels, which have a colour of their own in the plane
_COLUMNS = (("r untrained", 13), ("r now", 9), ("loss without", 14))  # at the right of a wide map
_FEW_COLUMNS = (("r now", 9), ("without", 9))


class UnitsMap(SnapshotPanel):
    """The units of a layer over time. Over a row of the batch, it follows the snapshot; over a whole text, it is fixed.

    `ablating` is True while the loss without each unit is computed.
    """

    ABOUT = (
        "A value of every unit over the text: where each is active, the feature of the text that it follows, and how "
        "much the loss rises if the unit is held at 0."
    )

    ASKING = frozenset({"choose", "row", "silence"})
    MOVING = frozenset({"unit", "character", "page"})
    BINDINGS: ClassVar[list[BindingType]] = [
        ("up", "unit(-1)"),
        ("down", "unit(1)"),
        ("left", "character(-1)"),
        ("right", "character(1)"),
        ("pageup", "page(-1)"),
        ("pagedown", "page(1)"),
        ("home", "character(-999999999)"),
        ("end", "character(999999999)"),
        ("greater_than_sign", "place(1)"),
        ("less_than_sign", "place(-1)"),
        ("slash", "class"),
        ("tab", "sort"),
        ("space", "pick"),
        ("minus", "silence"),
        ("w", "span"),
        ("left_square_bracket", "threshold(-1)"),
        ("right_square_bracket", "threshold(1)"),
        ("p", "plane"),
        ("r", "row"),
        ("enter", "choose"),
    ]

    def __init__(self, activity: Activity, notes: Sequence[Correlated], probes: Sequence[Probe] = (), *, of: str = "") -> None:
        """Create a map. `notes` has for each unit what it follows, `probes` what all together say; `of` is the moment at which a
        whole text was read, in words.
        """
        super().__init__()
        self.activity, self._of = activity, of
        self.notes, self.probes = list(notes), list(probes)
        self._chosen: Feature | None = None
        self.unit, self.at = 0, 0
        self.ablating = False
        self._estimate: Float64Array | None = None
        self._first, self._top = 0, 0
        self._room, self._cell = (1, 1), 1  # the numbers of rows and characters in view, and the cells of a character
        self._left = 0  # the cells before the map
        self._places: list[int] = []
        self.picked: list[int] = []
        self.span: TextSpan | None = None
        self._is_off = False  # True after a selection at a character at which the unit is not on
        self.threshold = 5  # tenths of the scale, from which on a unit is on
        self.in_plane = False
        self._drawn: tuple[object, list[CellRow], NDArray[np.intp]] | None = None  # the plane, and what it was drawn for
        self._scales: tuple[object, Jacobian | str] | None = None  # of which state, and what they are or why there are none
        self._deriving = False  # True while a thread computes them
        self._read_with: Weights | None = None  # the weights with which a whole text was read
        self._states: dict[str, Array] = {}  # before each character of it
        self._also: list[TextSpan] = []  # the other places where all units of the selection are on
        self._sort = SORTS[0] if self.notes else SORTS[1]
        self._order: list[int] = []
        self._lines: list[int | str] = []  # units, with the feature above those that follow it
        self._arrange()
        self.unit = self._order[0]

    def show(self, snapshot: Snapshot, view: View) -> None:
        activity = self.activity
        if activity.row is not None and (self._snapshot is None or snapshot.moment is not self._snapshot.moment):
            self.activity, self.span = over_row(snapshot.moment, activity.name, activity.row), None
            self.at = min(snapshot.position.t, len(self.activity.values) - 1)
        self._read_with = self._read_with or snapshot.moment.weights
        super().show(snapshot, view)

    def show_again(self) -> None:
        super().show_again()
        if self.in_plane and not self._deriving and self.is_attached and (self._scales is None or self._scales[0] != self._state):
            self._deriving = True
            work = partial(self._derive, self._state, self.snapshot)
            self.run_worker(work, thread=True, group="time scales", exit_on_error=True)

    @property
    def waiting(self) -> bool:
        """True while a thread computes something for the map."""
        return self.ablating or self._deriving

    @property
    def _state(self) -> tuple[Activity, int]:
        """The state under the cursor, for which time scales are computed."""
        return self.activity, self.at

    def _derive(self, state: tuple[Activity, int], snapshot: Snapshot) -> None:
        """Compute the time scales at a state, in a thread, and tell the panel; of many units, that takes longer than a key."""
        scales: Jacobian | str
        try:
            scales = self._jacobian(*state, snapshot)
            _ = scales.eigenvalues
        except TuiGruError as error:
            scales = str(error)
        self.request("show", self, partial(self._tell_scales, state, scales))

    def _jacobian(self, activity: Activity, at: int, snapshot: Snapshot) -> Jacobian:
        program, silent, weights = snapshot.program, snapshot.silent, self._read_with
        if activity.words_at is not None:
            raise TuiGruError("the Jacobian is shown over a row of the batch: press r")
        if activity.row is not None or weights is None:
            return jacobian_of_row(snapshot.moment, activity.name, activity.row or 0, at, silent)
        if at >= len(next(iter(self._states.values()), ())):  # the text is read as far as is needed
            self._states = states_before(program, weights, activity.text[: (at // PROBED + 1) * PROBED], silent)
        inputs = {program.input: indices_of(program.config, activity.text[at : at + 1])[0]}
        return jacobian(
            program, weights, activity.name, inputs, {name: values[at] for name, values in self._states.items()}, silent
        )

    def _tell_scales(self, state: tuple[Activity, int], scales: Jacobian | str) -> None:
        self._scales, self._deriving = (state, scales), False
        self.show_again()

    def go_with(self, chosen: Feature) -> None:
        """Sort by the correlation with a feature and show it for each unit.

        Raises `TuiGruError` if the correlation cannot be computed.
        """
        self.notes, self.probes = self.activity.goes_with([chosen]), self.activity.probes([chosen])
        self._chosen, self._sort = chosen, SORTS[0]
        self._arrange()
        self.unit = self._order[0]
        self.show_again()

    def tell(self, loss: float, without: Float64Array, *, exact: bool = True, done: bool = False) -> None:
        """Show the loss with all units and that without each, (units), NaN where it is not known yet.

        Without `exact`, they are an estimate, which is shown until they are known. With `done`, all are known.
        """
        if exact:
            self.activity = replace(self.activity, loss=loss, without=without)
        else:
            self._estimate = without - loss
        self.ablating = not done
        if self._sort == "by loss without":
            self._arrange()
        self.show_again()

    @property
    def _added(self) -> Float64Array | None:
        """What holding each unit at 0 adds to the loss, (units); an estimate where it is not computed yet."""
        if self.activity.without is None:
            return self._estimate
        added = self.activity.without - self.activity.loss
        return added if self._estimate is None else np.where(np.isfinite(added), added, self._estimate)

    def _arrange(self) -> None:
        units, added = range(self.activity.units), self._added
        if self._sort == "by feature":
            self._arrange_by_feature()
            return
        if self._sort == "by variation":
            key = [-float(d) for d in self.activity.deviations]
        elif self._sort == "like this one":
            key = [-abs(float(r)) for r in self.activity.correlations(self.unit)]
            key[self.unit] = -2.0
        elif self._sort == "by loss without" and added is not None:
            key = np.nan_to_num(-added, nan=np.inf).tolist()
        else:
            key = [float(unit) for unit in units]
        self._order = sorted(units, key=lambda unit: (key[unit], unit))
        self._lines = list(self._order)

    def _arrange_by_feature(self) -> None:
        """Put the units under the features that they follow, those first that have gained most; with a feature that was typed, all
        under it, the strongest first."""
        groups: dict[str, list[int]] = {}
        strength = [abs(note.r) if self._chosen else note.gained for note in self.notes]
        for unit in sorted(range(self.activity.units), key=lambda unit: (-strength[unit], unit)):
            name = str(self.notes[unit].what) if self._chosen or self._is_followed(unit) else _OTHERS
            groups.setdefault(name, []).append(unit)
        groups[_OTHERS] = groups.pop(_OTHERS, [])
        self._lines = []
        for name, units in groups.items():
            self._lines += [name, *units] if units else []
        self._order = [unit for units in groups.values() for unit in units]

    def _is_followed(self, unit: int) -> bool:
        """Return True if the correlation of a unit is not weak, and larger than before training, unless its feature was typed."""
        return abs(self.notes[unit].r) >= _WEAK and (self._chosen is not None or self.notes[unit].gained > 0)

    # Drawing

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        palette, wide = self.palette, width >= _WIDE and bool(self.notes)
        if self.in_plane:
            return clip(palette, from_rows(self._plane(palette, max(width, 1), height)), width, height)
        label = self._label + (self._beside_names if wide else 0)
        columns = [*(_COLUMNS if wide else _FEW_COLUMNS if self.notes and width >= _NARROW else ())]
        if self._added is None:
            columns = columns[:-1]
        room = max(width - label - sum(cells for _, cells in columns), 1)
        down = max(min(height - 1 - _FOOT - len(self._other_pins), len(self._lines)), 1)
        self._cell = min(max(room // max(len(self.activity.values), 1), 1), _WIDEST)
        if (spare := room - self._cell * len(self.activity.values)) > 0 and self.notes and not wide:
            more = min(spare, self._beside_names)  # of a short text, the names have the room
            label, room = label + more, room - more
        self._left, across = label, room // self._cell
        self._room = (down, across)
        self._keep_in_view()
        visible = slice(self._first, self._first + across)
        heads = Segment("".join(f"{head:>{cells}}" for head, cells in columns), palette.dim)
        gap = Segment(" " * (room - len(self.activity.values[visible]) * self._cell))
        rows: list[SegmentRow] = [(Segment(" " * label), *self._characters(palette, visible), gap, heads)]
        shown = self._lines[self._top : self._top + down]
        scale, bounded = self._scale()
        values = self.activity.values[visible][:, [line for line in shown if isinstance(line, int)]].T
        signs = np.array([[-1 if self._is_turned(line) else 1] for line in shown if isinstance(line, int)])
        codes = iter(_codes(values * signs, scale, signed=bounded != (0, 1)))
        table = _table(palette, self._cell, bounded == (0, 1), self.coloured)
        for line in shown:
            if isinstance(line, str):
                rows.append((*self._heading(palette, line, label, visible), gap, *self._probed(palette, line, columns, wide=wide)))
                continue
            drawn = [table[code] for code in next(codes).tolist()]
            cells = merged_segments((segment.text for segment in drawn), (segment.style for segment in drawn))
            rows.append((*self._named(palette, line, label), *cells, gap, *self._note_cells(palette, line, columns)))
        rows += self._foot(palette, label, visible, width, height - len(rows))
        return clip(palette, from_rows(rows), width, height)

    @property
    def _label(self) -> int:
        """The cells before the map and its curves, without the name of a feature."""
        return len(f"unit {self.activity.units}:") + 1

    @property
    def _beside_names(self) -> int:
        """The cells beside the names of units: for what each follows, or for the names of features above the units."""
        if self._sort != SORTS[0]:
            return _FEATURE
        names = [len(line) for line in self._lines if isinstance(line, str)]
        return min(max(len(_TURNED), max(names, default=0) - self._label) + 1, _FEATURE)

    def _called(self, unit: int) -> str:
        return f"unit {unit + 1}"

    def _is_turned(self, unit: int) -> bool:
        """Return True if a unit is drawn with the opposite sign: it stands under a feature that it follows in reverse."""
        return self._sort == SORTS[0] and self._scale()[1][0] < 0 and self.notes[unit].r < 0 and self._is_followed(unit)

    def _named(self, palette: Palette, unit: int, label: int) -> Iterator[Segment]:
        """Draw the name of a unit; beside it, if there is room, what it follows, or that it is turned if that stands above it."""
        ink = palette.strong if unit == self.unit else palette.gate if unit in self._on else palette.plain
        yield Segment(self._called(unit).ljust(self._label), ink)
        if room := label - self._label:
            feature = str(self.notes[unit].what) if self._is_followed(unit) else ""
            words = feature if self._sort != SORTS[0] else _TURNED if self._is_turned(unit) else ""
            yield Segment(truncated(words, room - 1, palette.glyphs).ljust(room), palette.dim)

    def _heading(self, palette: Palette, name: str, label: int, visible: slice) -> Iterator[Segment]:
        """Draw a feature over the text, above the units that follow it; its name comes after it where the label is narrow."""
        values: NDArray[np.floating] = np.zeros(len(self.activity.values[visible]))
        if name != _OTHERS:
            feature = self._chosen or next(candidate for candidate in self.activity.known if candidate.name == name)
            all_of = self.activity.over_text(feature)
            values = all_of[visible] / (all_of.max(initial=0.0) or 1.0)
        yield Segment(truncated(name, label - 1, palette.glyphs).ljust(label), palette.gate + Style(bold=True))
        yield Segment(column_signs(palette, values, self._cell), palette.gate)

    def _probed(self, palette: Palette, name: str, columns: Sequence[tuple[str, int]], *, wide: bool) -> Iterator[Segment]:
        """Draw R² of all units together for a feature in the columns of r, before training and now."""
        probe = next((candidate for candidate in self.probes if candidate.feature == name), None)
        by_head = {"r untrained": np.nan if probe is None else probe.before, "r now": np.nan if probe is None else probe.r2}
        for head, cells in columns:
            value = by_head.get(head, np.nan)
            words = "" if not np.isfinite(value) else f"R² {value:.2f}" if value >= 0 else "R² < 0"
            yield Segment(transliterate(words, palette.glyphs).rjust(cells), palette.gate)

    def _note_cells(self, palette: Palette, unit: int, columns: Sequence[tuple[str, int]]) -> Iterator[Segment]:
        """Draw r of a unit before training and now, and what the loss rises by without it."""
        note, added = self.notes[unit] if self.notes else Correlated("", 0.0), self._added
        for head, cells in columns:
            words, ink = "", palette.dim
            if head == "r untrained" and self.activity.before is not None:
                words = (
                    correlation(note.before) if note.before else ""
                )  # 0 where there is no correlation, of values that do not vary
            elif head == "r now":
                words, ink = correlation(note.r) if note.r else "", palette.plain
            elif head.endswith("without") and added is not None and np.isfinite(added[unit]):
                computed = self.activity.without is not None and np.isfinite(self.activity.without[unit])
                about = "" if computed else transliterate("≈", palette.glyphs)
                words = decimals(added[unit], 3, signed=True)
                words = about + (
                    words if len(words) <= WIDE else numbers.wide(added[unit]).strip()
                )  # with a gap to the column before
                ink = palette.plain
            yield Segment(words.rjust(cells), ink)

    def _note(self, unit: int) -> str:
        """Return what a unit follows, in words; empty if it follows nothing."""
        note = self.notes[unit] if self.notes else Correlated("", 0.0)
        if abs(note.r) < _WEAK:
            return ""
        untrained = f" (untrained {correlation(note.before)})" if self.activity.before is not None else ""
        return f"{note.what} {correlation(note.r)}{untrained}"

    def _scale(self) -> tuple[float, tuple[float, float]]:
        low, high = self.snapshot.program.ranges.get(self.activity.name, (-np.inf, np.inf))
        if np.isfinite(high - low):
            return max(abs(low), abs(high)), (low, high)
        finite = self.activity.values[np.isfinite(self.activity.values)]
        return float(np.abs(finite).max(initial=0.0)) or 1.0, (low, high)

    def _characters(self, palette: Palette, visible: slice) -> Iterator[Segment]:
        """Draw the characters over their cells, with the one under the cursor highlighted."""
        text = self.activity.text[visible] if self.activity.text else "·" * len(self.activity.values[visible])
        row, chosen = CellRow(len(text) * self._cell), self.span
        for i, char in enumerate(text):
            at = self._first + i
            ink = palette.gate + Style(reverse=True) if chosen is not None and chosen.first <= at <= chosen.last else palette.dim
            row.put(i * self._cell, one_cell(char, palette.glyphs).center(self._cell), palette.cursor if at == self.at else ink)
        yield from row.strip()

    @property
    def _other_pins(self) -> list[int]:
        """The pinned units without the one under the cursor, whose curve is always shown."""
        return [unit for unit in self.picked if unit != self.unit]

    def _curve(self, palette: Palette, unit: int, label: int, visible: slice, rows: int) -> Iterator[SegmentRow]:
        """Draw the curve of a unit as columns of so many rows below the characters; of a tall one, with the ends of its scale."""
        scale, (low, _) = self._scale()
        values = self.activity.unit(unit)[visible] / scale
        parts = np.nan_to_num(values if low == 0 else np.maximum((values + 1) / 2, 0.125 / rows))  # −1 is not blank, as NaN is
        ink = palette.strong if unit == self.unit else palette.plain
        name, ends = f"unit {unit + 1}:", {0: f"{-scale if low else 0:+.3g} ", rows - 1: f"{scale:+.3g} "}
        ends = ends if rows > 2 and len(name) + max(map(len, ends.values())) < label else {}
        for below in reversed(range(rows)):
            curve = column_signs(palette, np.clip(np.clip(parts, 0, 1) * rows - below, 0, 1), self._cell)
            shown = "" if below else name
            end = ends.get(below, "").rjust(label - len(shown))
            yield Segment(shown, ink), Segment(end, palette.dim), Segment(curve, palette.gate)

    def _foot(self, palette: Palette, label: int, visible: slice, width: int, height: int) -> Iterator[SegmentRow]:
        """Draw the curves of the unit under the cursor and of those pinned, of a small model also of the others, as high as there
        is room; and where in the text the unit is highest and lowest."""
        activity, unit = self.activity, self.unit
        curves, room = [*self._other_pins, unit], height - _FOOT + 1
        if room >= activity.units and len(self._lines) <= self._room[0]:
            curves = [*range(activity.units)]
        high, more = divmod(room, len(curves))  # the first have a row more of what cannot be shared
        for i, shown_unit in enumerate(curves):
            yield from self._curve(palette, shown_unit, label, visible, min(max(high + (i < more), 1), _HIGHEST))
        now = activity.unit(unit)[self.at]
        pending = np.isnan(now) and activity.row is not None  # of a text, every value is computed: a NaN is one
        words = "not computed yet" if pending else decimals(now, 4, signed=True)
        char = f" after “{shown_char(activity.text[self.at])}”" if activity.text else f" at {activity.place_words(self.at)}"
        like = [
            f"{self._called(int(other.what))} ({correlation(other.r)})" for other in activity.like(unit, 3) if abs(other.r) >= _WEAK
        ]
        goes = f" · correlates with {note}" if (note := self._note(unit)) else ""
        char += f": not on here, less than {self._limit:.2g} in magnitude" if self._is_off else ""
        yield _line(palette, f"{words}{char}{goes}", width, f"similar: {', '.join(like)}" if like else "")
        if self.span is not None:
            yield from self._selected(palette, self.span, width)
            return
        for head, places in (("highest at  ", activity.most(unit, 4)), ("lowest at   ", activity.least(unit, 4))):
            yield tuple(self._excerpts(palette, head, [place.at for place in places], width))

    @property
    def _limit(self) -> float:
        """The value from which on a unit is on."""
        return self._scale()[0] * self.threshold / 10

    @property
    def _on(self) -> frozenset[int]:
        """The units that are on through the selected characters."""
        return frozenset(signed.unit for signed in self.span.on) if self.span is not None else frozenset()

    def _selected(self, palette: Palette, span: TextSpan, width: int) -> Iterator[SegmentRow]:
        """Draw which units are on through the selected characters, and the other places where all of them are."""
        units = ", ".join(f"{'−' if signed.sign < 0 else ''}{signed.unit + 1}" for signed in span.on)
        count = counted(span.length, "character")
        yield _line(palette, f"on from {self._limit:.2g} through {count}: unit{'s' if len(span.on) > 1 else ''} {units}", width, "")
        head = f"all also at {counted(len(self._also), 'other place')}  "
        yield tuple(self._excerpts(palette, head, [place.first for place in self._also], width))

    def _plane(self, palette: Palette, width: int, height: int) -> Iterator[SegmentRow]:
        """Draw the states in the plane of their two main directions: in each cell the character that was read most often there."""
        activity, plane = self.activity, self.activity.plane
        below = 1 if width >= _WIDE else 2  # rows of the sentence
        map_height = max(height - 1 - below, 1)
        scales = self._time_scales(palette, map_height) if width >= _WIDE else []
        map_width = width - _SCALES - 2 if scales else width
        shares = " and ".join(f"{100 * share:.0f} %" for share in plane.shares)
        noun = "timestep" if self.activity.words_at is not None else "character"
        heads = f"the state after each {noun}, in its two main directions:", "the states in their two main directions:"
        head = next((head for head in heads if len(f"{head} {shares} of the variance") <= width), heads[-1])
        yield styled_row(palette, (f"{head} {shares} of the variance", palette.dim))
        key = activity, palette, map_width, map_height
        if self._drawn is None or self._drawn[0] != key:
            self._drawn = key, *self._all_states(palette, map_width, map_height)
        _, rows, places = self._drawn
        drawn = [row.copy() for row in rows]
        for at in range(max(self.at - _TRAIL, 0), self.at + 1):
            if np.isfinite(plane.at[at]).all():
                x, y = places[at].tolist()
                drawn[y].put(x, one_cell(self._char(at), palette.glyphs), palette.cursor if at == self.at else palette.strong)
        for row, scale in zip_longest(drawn, scales):
            yield tuple(row.strip()) + ((Segment("  "), Segment(*scale)) if scale is not None else ())
        place = f"after “{shown_char(self._char(self.at))}”" if activity.text else activity.place_words(self.at)
        matrix_or_error = self._scales[1] if self._scales is not None and self._scales[0] == self._state else None
        words = matrix_or_error.words if isinstance(matrix_or_error, Jacobian) else matrix_or_error or "…"
        right = f"bright: the {_TRAIL} states before; colours: vowels, letters, blanks, others"
        wrapped = wrap(f"{place}: {words}", width, max_lines=below, placeholder=" …")
        for row in (*wrapped, *[""] * (below - len(wrapped))):
            yield _line(palette, row, width, right)
            right = ""

    def _time_scales(self, palette: Palette, height: int) -> list[tuple[str, Style]]:
        """Return the rows beside the plane: the modulus of each eigenvalue, the slowest first, and what is left when."""
        if self._scales is None or isinstance(matrix := self._scales[1], str):
            return []
        ink = palette.plain if self._scales[0] == self._state else palette.dim  # dim: still of the last state
        writer = self.snapshot.program.writer
        names = ", ".join(map(writer.name, matrix.states))
        names = f"({names})" if len(matrix.states) > 1 else names
        before = ", ".join(map(writer.name, map(self.snapshot.program.model.page.before, matrix.states)))
        before = f"({before})" if len(matrix.states) > 1 else before
        heads = "   |λ|  timesteps to 37 %" + ("   turns in" if matrix.eigenvalues.imag.any() else "")
        rows = [(f"eigenvalues of ∂{names}/∂{before}", palette.dim), (heads, palette.dim)]
        longest = max(matrix.timesteps[np.isfinite(matrix.timesteps)], default=0.0) or 1.0
        for value, lasts in zip(matrix.eigenvalues.tolist(), matrix.timesteps.tolist(), strict=True):
            if value.imag < 0:  # one of a pair
                continue
            drawn = bar(palette, min(lasts / longest, 1.0), 8)
            written = f"{lasts:7.1f}" if np.isfinite(lasts) else "no end"
            turns = f"{2 * np.pi / abs(np.angle(value)):.1f} ×2" if value.imag else ""
            rows.append((f"{abs(value):6.3f}  {drawn:<8}{written:>7}   {turns:>8}", ink))
        return [(truncated(transliterate(words, palette.glyphs), _SCALES, palette.glyphs), style) for words, style in rows[:height]]

    def _char(self, at: int) -> str:
        return self.activity.text[at] if self.activity.text else "·"

    def _all_states(self, palette: Palette, width: int, height: int) -> tuple[list[CellRow], NDArray[np.intp]]:
        """Return the rows of the plane, and the column and row of each state, (n, 2)."""
        plane, at = self.activity.plane, self.activity.plane.at
        computed = np.flatnonzero(np.isfinite(at).all(axis=1))
        low = at[computed].min(axis=0, initial=np.inf)
        extent = at[computed].max(axis=0, initial=-np.inf) - low
        parts = (plane.at[computed] - low) / np.where(extent > 0, extent, 1.0)
        places = np.zeros((len(at), 2), np.intp)
        places[computed] = np.rint(np.stack([parts[:, 0] * (width - 1), (1 - parts[:, 1]) * (height - 1)], axis=1))
        chars = dict.fromkeys(self.activity.text or "·")
        codes = self._codes_of(chars)[computed]
        cells = places[computed, 1] * width + places[computed, 0]
        keys, counts = np.unique(cells * len(chars) + codes, return_counts=True)
        cell, code = np.divmod(keys[np.argsort(counts, kind="stable")], len(chars))
        shown = np.full(height * width, len(chars))
        shown[cell] = code  # the most frequent one is written last
        signs = [*(one_cell(char, palette.glyphs) for char in chars), " "]
        inks = [*(self._ink_of(palette, char) for char in chars), None]
        drawn = shown.reshape(height, width).tolist()
        rows = [CellRow.of([signs[code] for code in row], [inks[code] for code in row]) for row in drawn]
        return rows, places

    def _codes_of(self, chars: Mapping[str, object]) -> NDArray[np.intp]:
        """Return the place of each character of the text among `chars`, (n)."""
        text = self.activity.text
        if not text:
            return np.zeros(len(self.activity.values), np.intp)
        code_of = {char: code for code, char in enumerate(chars)}
        return np.fromiter(map(code_of.__getitem__, text), np.intp, len(text))

    def _ink_of(self, palette: Palette, char: str) -> Style:
        if char.lower() in _LETTERS:
            return palette.gate
        return palette.plain if char.isalpha() else palette.dim if char.isspace() else palette.second

    def _excerpts(self, palette: Palette, head: str, places: Sequence[int], width: int) -> Iterator[Segment]:
        """Draw excerpts of the text at these places, each with its character highlighted, as many as fit."""
        yield Segment(head, palette.dim)
        room = width - len(head)
        for at in places if self.activity.text else ():
            parts = in_context(self.activity.text, at, 10, 6, palette.glyphs)
            used = sum(map(cell_len, parts)) + 3
            if used > room:
                return
            room -= used
            yield from (Segment(parts[0], palette.plain), Segment(parts[1], palette.cursor))
            yield Segment(f"{parts[2]}   ", palette.plain)
        if not self.activity.text:
            yield Segment(", ".join(map(self.activity.place_words, places)), palette.plain)

    def _keep_in_view(self) -> None:
        down, across = self._room
        length = len(self.activity.values)
        self._first = max(min(self._first, length - across), 0)
        self._first = min(max(self._first, self.at + 1 - across), self.at)
        place = self._lines.index(self.unit)
        heading = place and isinstance(self._lines[place - 1], str) and down > 1
        self._top = max(min(self._top, len(self._lines) - down), 0)
        self._top = min(max(self._top, place + 1 - down), place - bool(heading))

    def columns(self) -> Columns | None:
        return tables.of_units(self.activity)

    def titles(self, snapshot: Snapshot) -> Titles:
        activity, name = self.activity, snapshot.program.writer.name(self.activity.name)
        of = f"row {activity.row + 1}, live" if activity.row is not None else f"the text, {self._of}"
        of = "the timesteps of the batches" if activity.words_at is not None else of
        sort = f"with {self._chosen.name}" if self._chosen and self._sort == SORTS[0] else self._sort
        closes, count = with_keys(self, "<stop> closes"), f"{self.at + 1:,} of {len(activity.values):,}"
        if self.in_plane:
            return Titles(f"{name} over {of} · {count}", ["p map", "enter goes there", closes])
        hints = [
            f"tab: {sort}",
            "/ feature",
            "< > highest" if self.span is None else "< > places",
            "w on" if self.span is None else "[ ] threshold",
            "p plane",
            "r row",
            "- silences",
            "enter goes there",
            closes,
            "space pins",
        ]
        return Titles(f"{name} over {of} · {count}", hints)

    # Keys

    def action_unit(self, by: int) -> None:
        place = self._order.index(self.unit) + by
        self._choose_unit(self._order[min(max(place, 0), len(self._order) - 1)])

    def _choose_unit(self, unit: int) -> None:
        if unit != self.unit:
            self.unit, self._places, self._is_off = unit, [], False
        self.show_again()

    def action_character(self, by: int) -> None:
        self.at, self._is_off = min(max(self.at + by, 0), len(self.activity.values) - 1), False
        self.show_again()

    def action_page(self, by: int) -> None:
        self.action_character(by * self._room[1])

    def action_place(self, by: int) -> None:
        """Go to the next of the places where the unit is highest, or where the units of the selection are on, in the order of the
        text."""
        self._places = self._places or sorted(place.at for place in self.activity.most(self.unit, 20))
        further = [at for at in self._places if (at - self.at) * by > 0]
        if further:
            self.at = min(further, key=lambda at: abs(at - self.at))
            self.show_again()

    def action_sort(self) -> None:
        unknown = {"by feature": not self.notes, "by loss without": self._added is None}
        sorts = [sort for sort in SORTS if not unknown.get(sort)]
        self._sort = sorts[(sorts.index(self._sort) + 1) % len(sorts)]
        self._arrange()
        self.show_again()

    def action_pick(self) -> None:
        """Pin or unpin the curve of the unit under the cursor; the oldest is unpinned if there are too many."""
        if self.unit in self.picked:
            self.picked.remove(self.unit)
        else:
            self.picked = [*self.picked, self.unit][-_PICKED:]
        self.show_again()

    def action_silence(self) -> None:
        self.request("run", "silence")

    def action_span(self) -> None:
        """Select the characters around the cursor through which the unit is on; none if it is off here, or they are selected."""
        chosen = self.activity.span_at(self.unit, self.at, self._limit)
        self._is_off = chosen is None
        self._select(None if chosen == self.span else chosen)

    def action_threshold(self, by: int) -> None:
        """Select with a threshold that is a tenth of the scale higher or lower."""
        self.threshold = min(max(self.threshold + by, 1), 10)
        self._select(self.activity.span_at(self.unit, self.at, self._limit))

    def _select(self, span: TextSpan | None) -> None:
        self.span, self._places, self._also = span, [], []
        if span is not None:
            places = self.activity.spans_of(span.on, self._limit)
            self._places = [place.first for place in places]
            self._also = sorted((place for place in places if place.first != span.first), key=lambda place: -place.length)
        self.show_again()

    def action_plane(self) -> None:
        self.in_plane = not self.in_plane
        self.show_again()

    def action_class(self) -> None:
        self.request("type", "class ")

    def action_row(self) -> None:
        """Switch to the next row of the batch; after the last row, to the whole text."""
        after = 0 if self.activity.row is None else self.activity.row + 1
        self.request("units", self.activity.name, after if after < self.snapshot.config.batch_size else None)

    def action_choose(self) -> None:
        if self.activity.row is not None:
            self.request("number", Ref(self.activity.name, (self.activity.row, self.unit), self.at))
        elif self.activity.moment_at is not None:
            self.request("go", self.activity.moment_at(self.at))
        else:
            self.request("character", self.at)

    def point_at(self, x: int, y: int) -> bool:
        if self.in_plane or not 1 <= y <= self._room[0]:
            return False
        self.at = min(max(self._first + (x - self._left) // self._cell, 0), len(self.activity.values) - 1)
        line = self._lines[min(self._top + y - 1, len(self._lines) - 1)]
        self._choose_unit(line if isinstance(line, int) else self.unit)
        return True


def _codes(values: Array, scale: float, *, signed: bool) -> Array:
    """Return the index into `_table` for each entry: its colour, with its sign if it is large."""
    finite, part, level = levels(values, scale, signed=signed)
    sign = np.where(part >= _HALF, 1, np.where(part <= -_HALF, 2, 0))
    return np.where(finite, level * 3 + sign, _NOT_FINITE)


@lru_cache(maxsize=8)
def _table(palette: Palette, width: int, unit: bool, coloured: bool) -> tuple[Segment, ...]:
    """Return a segment for every code: the colours of the scale times three signs, then the one for missing values.

    Where cells are coloured, they have no signs.
    """
    scale = palette.unit_scale if unit else palette.signed_scale
    segments = [Segment((" " if coloured else sign).center(width), tint) for tint in scale for sign in (" ", "+", "-")]
    return (*segments, Segment(palette.glyphs.blank.center(width), palette.blank))


def _line(palette: Palette, words: str, width: int, right: str) -> SegmentRow:
    words, right = transliterate(words, palette.glyphs), transliterate(right, palette.glyphs)
    words = truncated(words, width, palette.glyphs)
    room = width - cell_len(words) - 2
    right = right if cell_len(right) <= room else ""
    return (Segment(words, palette.plain), Segment(" " * (room + 2 - cell_len(right))), Segment(right, palette.dim))
