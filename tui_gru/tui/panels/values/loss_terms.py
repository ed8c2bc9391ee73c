"""The terms of the loss of this batch, as far as they are computed."""

from __future__ import annotations

import math
from collections.abc import Hashable
from functools import partial

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from textual.geometry import Size

from tui_gru.debugger.program.line_table import LossNames
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.engine import numbers
from tui_gru.tui.look.characters import widest, written_char
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.look.themes import Palette
from tui_gru.tui.widgets.boxes import EMPTY, Box, bracket, clip, from_rows, hstack, spans, text, vstack
from tui_gru.tui.widgets.cells import CellPanel
from tui_gru.tui.widgets.refs import Cell, Ref, refs_of
from tui_gru.tui.widgets.snapshot_panel import Compared, Titles, View, contents
from tui_gru.tui.widgets.written import ENTRIES, entry_style, kept, matrix, scale_of

_TERM_GAP = 2


class LossTerms(CellPanel):
    """① and ② of this timestep, ③ of every timestep, and the loss. Terms that are not computed yet are blank."""

    ABOUT = "How the loss is computed from the predictions, term by term: only the target of each row counts."

    COMPARED = Compared.DIFFERENCES

    def reads(self, snapshot: Snapshot, view: View) -> Hashable:
        names, position = snapshot.program.loss_names, snapshot.position
        if not (names.entry and names.row and names.timestep):
            return snapshot, view
        here = (snapshot.value(name) for name in (names.entry, names.row, names.prediction, "loss"))
        terms = (snapshot.value(names.timestep, t) for t in range(snapshot.config.seq_length))
        fresh = snapshot.line is not None and snapshot.line.target if self.is_fresh(snapshot) else None
        targets = snapshot.record.ids(snapshot.program.target)[position.t]
        return position.t, view.row, fresh, contents(targets, *here, *terms)

    def titles(self, snapshot: Snapshot) -> Titles:
        title = f"terms of the loss − {snapshot.minus}" if snapshot.minus else "loss, term by term"
        if not snapshot.program.target:
            from tui_gru.tui.panels.values import given  # imported late: only for models of other programs

            title = given.loss_title(snapshot)
        return title, f"t {snapshot.position.t + 1}"

    def is_fresh(self, snapshot: Snapshot) -> bool:
        return snapshot.line is not None and snapshot.line.target in (*snapshot.program.loss_names[1:], "loss")

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        width, height = self.canvas(width, height, partial(whole_size, snapshot))
        return clip(self.palette, terms(self.palette, snapshot, self._view.row, width, height), width, height)


def whole_size(snapshot: Snapshot) -> Size:
    """Return the size of ① with all its zeros, ② beside it, and ③ of all timesteps below, in cells."""
    config, cell = snapshot.config, max(numbers.WIDE, widest(snapshot.corpus.vocabulary)) + 1
    first = config.vocab_size * cell + numbers.WIDE + 4 * _TERM_GAP + 5  # brackets, ②, and the labels of both
    third = config.seq_length * (len(f"t {config.seq_length} ") + numbers.WIDE + _TERM_GAP) + _TERM_GAP
    return Size(max(first, third), config.batch_size + 6)


def terms(palette: Palette, snapshot: Snapshot, row: int | None, width: int, height: int) -> Box:
    names = snapshot.program.loss_names
    if not names.entry or not names.row or not names.timestep:
        from tui_gru.tui.panels.values import given  # imported late: the shipped losses have all three terms

        return given.about_gradients(palette, snapshot, width, height)
    below = [_term3(palette, snapshot, width), _loss(palette, snapshot), _badge(palette, snapshot)]
    room = height - 2  # for ③ and the loss
    above = _full(palette, snapshot, row, width, room) or _picked(palette, snapshot, row, width, max(room, 1))
    rest = vstack(*below)
    return vstack(above, rest, gap=1 if above.height + rest.height < height else 0)


def _full(palette: Palette, snapshot: Snapshot, row: int | None, width: int, height: int) -> Box | None:
    """Draw ① with all its zeros and ② beside it. Return None if they do not fit."""
    rows, columns = snapshot.config.batch_size, snapshot.config.vocab_size
    if rows > height or columns > width:
        return None
    sign = _sign(palette, snapshot, 0).width
    labels = [written_char(char, palette.glyphs) for char in snapshot.corpus.vocabulary] if rows < height else None
    for compact in (False, True):
        entry = ENTRIES["signed", compact].width
        cells = max(entry, widest(snapshot.corpus.vocabulary)) + 1
        if columns * cells + 1 + entry + 2 + 3 * _TERM_GAP + 2 * sign <= width:
            first = matrix(
                palette, snapshot.value(_names(snapshot).entry), shape=(rows, columns), fresh=_fresh(snapshot,
                _names(snapshot).entry), row=row, compact=compact, column_labels=labels, refs=refs_of(snapshot.program,
                _names(snapshot).entry),
            )  # fmt: skip
            return _beside(palette, snapshot, first, _second(palette, snapshot, row, None, compact))
    return None


def _picked(palette: Palette, snapshot: Snapshot, row: int | None, width: int, height: int) -> Box:
    """Draw the entries of ① that are not 0, each with its character, and ② beside them."""
    shape = (snapshot.config.batch_size, snapshot.config.vocab_size)
    targets = snapshot.record.ids(snapshot.program.target)[snapshot.position.t].tolist()
    values = snapshot.value(_names(snapshot).entry)
    scale = scale_of(values)
    cell = widest(snapshot.corpus.vocabulary) + 1 + numbers.WIDE
    lines: list[tuple[Segment, ...]] = []
    for i in kept(shape[0], height, row):
        if i is None:
            lines.append((Segment(palette.glyphs.vertical_ellipsis.center(cell), palette.dim),))
        elif values is None:
            lines.append((Segment(palette.glyphs.blank.center(cell), palette.blank),))
        else:
            value = values[i, targets[i]]
            style = entry_style(palette, "signed", value, scale)
            style = palette.quiet(style) if row not in (None, i) else style
            style = palette.fresh(style) if _fresh(snapshot, _names(snapshot).entry) and row in (None, i) else style
            char = written_char(snapshot.corpus.vocabulary[targets[i]], palette.glyphs)
            label = Segment(char + " " * (cell - numbers.WIDE - cell_len(char)), palette.dim)
            lines.append((label, Cell.of(numbers.wide(value), style, Ref(_names(snapshot).entry, (i, targets[i])))))
    box = bracket(palette, from_rows(lines, axis=max(len(lines) - 1, 0) // 2))
    note = Segment(f" {shape[0]}{palette.glyphs.by}{shape[1]}", palette.dim)
    box = from_rows((*box.rows[:-1], (*box.rows[-1], note)), box.axis)
    for compact in (False, True):
        both = _beside(palette, snapshot, box, _second(palette, snapshot, row, height, compact))
        if both.width <= width:
            break
    return both


def _second(palette: Palette, snapshot: Snapshot, row: int | None, height: int | None, compact: bool) -> Box:
    values = snapshot.value(_names(snapshot).row)
    column = None if values is None else values[:, np.newaxis]
    shape = (snapshot.config.batch_size, 1)
    fresh = _fresh(snapshot, _names(snapshot).row)
    refs = refs_of(snapshot.program, _names(snapshot).row)
    return matrix(palette, column, shape=shape, fresh=fresh, row=row, compact=compact, elide=(height, None), refs=refs)


def _beside(palette: Palette, snapshot: Snapshot, first: Box, second: Box) -> Box:
    one, two = (_sign(palette, snapshot, index) for index in (0, 1))
    return hstack(hstack(one, first), hstack(two, second), gap=_TERM_GAP)


def _term3(palette: Palette, snapshot: Snapshot, width: int) -> Box:
    """Draw ③ of as many timesteps as fit, including the current one."""
    t = snapshot.position.t
    sign = _sign(palette, snapshot, 2).width
    limit = max((width - sign - 1) // (len(f"t {snapshot.config.seq_length} ") + numbers.WIDE + _TERM_GAP), 1)
    shown = kept(snapshot.config.seq_length, limit, t)
    if None not in shown:  # too few to keep the first and the last
        shown = [None] * (shown[0] != 0) + shown + [None] * (shown[-1] != snapshot.config.seq_length - 1)
    parts = []
    for i in shown:
        if i is None:
            parts.append(text(palette, palette.glyphs.ellipsis, palette.dim))
            continue
        label = (f"t {i + 1} ", palette.dim)
        fresh = _fresh(snapshot, _names(snapshot).timestep) and i == t
        parts.append(
            spans(
                palette,
                label,
                _number(palette, snapshot.value(_names(snapshot).timestep, i), fresh, Ref(_names(snapshot).timestep, (), i)),
            )
        )
    return hstack(_sign(palette, snapshot, 2), hstack(*parts, gap=_TERM_GAP))


def _loss(palette: Palette, snapshot: Snapshot) -> Box:
    fresh = _fresh(snapshot, "loss")
    name = ("loss", palette.accent if fresh else palette.plain)
    return spans(
        palette,
        name,
        (f" = mean of {snapshot.program.writer.name(_names(snapshot).timestep)} = ", palette.dim),
        _number(palette, snapshot.value("loss"), fresh, Ref("loss")),
    )


def _badge(palette: Palette, snapshot: Snapshot) -> Box:
    """Return a warning if the code of the tutorial would compute another value than ①."""
    term = snapshot.tutorial_term1
    if term is None or np.isfinite(term).all():
        return EMPTY
    entry, prediction = snapshot.program.lines[_names(snapshot).entry], snapshot.program.writer.name(_names(snapshot).prediction)
    words = f"{entry.text.partition(' = ')[2]} is not finite: {prediction} is 0"
    return text(palette, f"{palette.glyphs.not_finite} {transliterate(words, palette.glyphs)}", palette.warning)


def _names(snapshot: Snapshot) -> LossNames:
    return snapshot.program.loss_names


def _fresh(snapshot: Snapshot, target: str) -> bool:
    return snapshot.line is not None and snapshot.line.target == target


def _sign(palette: Palette, snapshot: Snapshot, index: int) -> Box:
    target = _names(snapshot)[1 + index]
    ink = palette.accent if _fresh(snapshot, target) else palette.dim
    return text(palette, transliterate(snapshot.program.writer.name(target), palette.glyphs), ink)


def _number(palette: Palette, value: float | None, fresh: bool, ref: Ref) -> Segment:
    if value is None:
        return Segment(palette.glyphs.blank.ljust(numbers.WIDE), palette.blank)
    style = palette.accent if fresh else palette.strong if value else palette.dim
    return Cell.of(numbers.wide(value), style if math.isfinite(value) else palette.warning, ref)
