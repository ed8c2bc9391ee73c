"""A run that reads or predicts numbers: what is shown in the place of the sequence, the prediction and the loss of characters."""

from __future__ import annotations

from math import log10
from textwrap import fill
from typing import NamedTuple

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size

from tui_gru.debugger.program import spoken, spoken_index
from tui_gru.engine import numbers
from tui_gru.engine.numbers import four
from tui_gru.engine.source import Ability
from tui_gru.engine.weights import NUMPY_SETTINGS, Array
from tui_gru.equations.page import LIVE
from tui_gru.session.snapshot import Snapshot
from tui_gru.tui.draw import Box, Cell, Ref, SegmentRow, bars, clip, from_rows, hstack, in_columns, text_box, vstack
from tui_gru.tui.theme import Palette, transliterate, written_char
from tui_gru.tui.written import named_rows, window

_CELL, _APART = 5, 4  # cells of a timestep, and between rows of the batch side by side
_OFF = "off by"
_COLUMN = numbers.WIDE + 2  # cells of a number beside its target
_LEAST, _DECADES = 1e-8, 8  # the bars show differences from 1e-8 (empty) to 1 (full), that is 8 powers of ten
_BARS, _NAME, _NUMBER = 32, 26, 12  # cells: of the bars beside numbers, of a name, of a number
_ENTRY = _NAME + 3 * _NUMBER


class _Line(NamedTuple):
    """A line of a row of the batch: its name, and a text per timestep, empty if not computed yet."""

    name: str
    cells: list[str]


def batch_size_in_cells(palette: Palette, snapshot: Snapshot) -> Size:
    """Return the size of the batch with all rows and timesteps, in cells."""
    lines = len(_lines(palette, snapshot, 0, range(1)))
    return Size(_label(snapshot) + _CELL * snapshot.config.seq_length, 1 + lines * snapshot.config.batch_size)


def imported_sequence(palette: Palette, snapshot: Snapshot, row: int | None, width: int, height: int) -> Box:
    """Draw as many rows as fit, with the timesteps around the current one; side by side where not all fit below each other."""
    T, label, batch = snapshot.config.seq_length, _label(snapshot), snapshot.config.batch_size
    steps = window(T, (width - label) // _CELL, snapshot.position.t)
    current = snapshot.timestep
    heads = ((f"t {t + 1}".rjust(_CELL)[-_CELL:], palette.accent if t == current else palette.dim) for t in steps)
    before, after = (palette.glyphs.ellipsis if cut else "" for cut in (steps.start > 0, steps.stop < T))
    ends = Segment(before.rjust(label), palette.dim), Segment(f" {after}" if after else "", palette.dim)
    head: list[SegmentRow] = [(ends[0], *(Segment(*head) for head in heads), ends[1])] if height > 2 else []
    below = max((height - len(head)) // len(_lines(palette, snapshot, 0, steps)), 1)
    across = max(min((width + _APART) // (label + _CELL * T + _APART), -(-batch // below)), 1)
    shown = window(batch, below * across, row)
    names = dict(zip(shown, named_rows(shown, batch, palette.glyphs.vertical_ellipsis), strict=True))
    blocks = [list(head) for _ in shown[::below]]
    for place, i in enumerate(shown):
        ink = palette.plain if row in (None, i) else palette.dim
        for number, line in enumerate(_lines(palette, snapshot, i, steps)):
            name = f"{names[i] if not number else '':<8}{line.name}".ljust(label)
            style = palette.dim if line.name != _OFF else palette.second
            cells = (Segment(cell.rjust(_CELL), ink if line.name != _OFF else style) for cell in line.cells)
            blocks[place // below].append((Segment(name, style), *cells))
    return in_columns(*map(from_rows, blocks), gap=_APART)


def _label(snapshot: Snapshot) -> int:
    target = (snapshot.program.target,) if snapshot.program.target else ()
    shown = snapshot.program.input, _output(snapshot), _gradient(snapshot), *target
    names = (f"|{snapshot.program.writer.name(name)}|" for name in shown)
    return 9 + max(len(_OFF), *map(len, names))


def _output(snapshot: Snapshot) -> str:
    return snapshot.program.model.prediction


def _gradient(snapshot: Snapshot) -> str:
    """Return the name of the gradient of the main state."""
    return f"d{snapshot.program.main_state}"


def _lines(palette: Palette, snapshot: Snapshot, row: int, steps: range) -> list[_Line]:
    """Return the lines of a row: |x| or the token, the output or its size, |dh| once it is computed, and the difference if an
    output is expected; for a model that predicts classes, the class and its probability."""
    program, read, output = snapshot.program, snapshot.program.input, _output(snapshot)
    live = snapshot.record.array(LIVE)[:, row] if LIVE in program.names else np.ones(snapshot.config.seq_length)
    write = program.writer.name
    vocabulary = snapshot.corpus.vocabulary
    if program.model.page.inputs[read].one_hot:
        ids = snapshot.record.ids(read)[:, row].tolist()
        tokens = [written_char(vocabulary[i], palette.glyphs) if vocabulary else str(i) for i in ids]
        first = _Line(write(read), [tokens[t] if live[t] else "" for t in steps])
    else:
        x = snapshot.record.array(read)[:, row]
        first = _Line(_sized(write(read), x), [_size(x[t]) if live[t] else "" for t in steps])
    values = [snapshot.value(output, t) if live[t] else None for t in steps]
    if program.model.classifies:
        classes = snapshot.record.ids(program.target)[:, row].tolist()
        chances = ["" if value is None else four(float(value[row, classes[t]])) for value, t in zip(values, steps, strict=True)]
        lines = [first, _Line(write(program.target), [vocabulary[classes[t]] for t in steps]), _Line("p", chances)]
    else:
        shown = snapshot.record.array(output)[:, row]
        lines = [first, _Line(_sized(write(output), shown), ["" if value is None else _size(value[row]) for value in values])]
        if program.target:
            targets = snapshot.record.array(program.target)[:, row]
            lines.append(_Line(_sized(write(program.target), targets), [_size(targets[t]) for t in steps]))
    if snapshot.moment.learned:
        name = _gradient(snapshot)
        gradients = [snapshot.value(name, t) if live[t] else None for t in steps]
        lines.append(
            _Line(
                _sized(write(name), snapshot.record.array(name)[:, row]),
                ["" if value is None else _size(value[row]) for value in gradients],
            )
        )
    if (expected := expected_output(snapshot)) is not None and not program.model.classifies:
        pairs = zip(values, steps, strict=True)
        lines.append(
            _Line(
                _OFF,
                ["" if value is None else difference_shown(worst_difference(value[row], expected[t, row])) for value, t in pairs],
            )
        )
    return lines


def expected_output(snapshot: Snapshot) -> Array | None:
    """Return the targets of the batch, or the output that was imported as expected, (T, B, ·); None if there are none, or their
    shape is not that of the shown output."""
    if snapshot.program.target:
        return snapshot.record.array(snapshot.program.target)
    batch = snapshot.config.source.batch(snapshot.position.batch)
    expected = None if batch is None else batch.expected
    fits = expected is not None and expected.shape == snapshot.record.array(_output(snapshot)).shape
    return expected if fits else None


def _sized(name: str, values: Array) -> str:
    """Return the name of a vector as its size is written; of a single number, its name alone."""
    return name if values.shape[-1] == 1 else f"|{name}|"


def _size(vector: Array) -> str:
    """Format the Euclidean norm, in four cells unless it is very large; a single number with its sign."""
    return four(float(vector[0])) if len(vector) == 1 else four(float(np.linalg.norm(vector.astype(np.float64))))


def _difference(value: Array, expected: Array) -> Array:
    """Return the differences; 0 where both are NaN, or the same infinity."""
    with NUMPY_SETTINGS:
        return np.where(numbers.same(value, expected), 0, value - expected)


def worst_difference(value: Array, expected: Array) -> float:
    """Return the largest absolute difference; NaN if it is not known, as where all that is not equal is NaN on both sides."""
    largest = float(np.abs(_difference(value, expected)).max(initial=0))
    return np.nan if largest == 0 and not np.isfinite(value).all() else largest


def difference_shown(largest: float) -> str:
    """Format the largest absolute difference in four cells; below 1e-9 it is `~0`."""
    return "~0" if 0 < largest < 9.5e-10 else f"{largest:.0e}".replace("e-0", "e-").replace("0e+00", "0")


def loss_title(snapshot: Snapshot) -> str:
    """Return the title in the place of the loss."""
    if snapshot.program.target:
        return "loss terms"
    return "gradient of the loss" if snapshot.program.goes_back else "loss"


def title(snapshot: Snapshot) -> str:
    """Return the title in the place of the prediction."""
    if snapshot.program.target:
        names = (snapshot.program.writer.name(name) for name in (_output(snapshot), snapshot.program.target))
        return " and ".join(names)
    return "difference from the expected output" if expected_output(snapshot) is not None else "output"


def beside_targets(palette: Palette, snapshot: Snapshot, width: int, height: int) -> Box:
    """Draw the predictions of this timestep beside their targets; without a target, the difference from the expected output.

    If not all predictions fit, those that are furthest from their targets come first.
    """
    program, t = snapshot.program, snapshot.position.t
    if not program.target:
        return difference_over_time(palette, snapshot, width, height)
    name, target = _output(snapshot), snapshot.record.array(program.target)[t]
    value = snapshot.value(name)
    off = None if value is None else value - target
    order = np.arange(target.size)
    if off is not None and target.size > height - 1:
        order = np.argsort(-np.abs(np.nan_to_num(off, nan=np.inf)).ravel(), kind="stable")[: max(height - 1, 1)]
    places = [divmod(i, target.shape[1]) for i in order[: max(height - 1, 1)].tolist()]
    alone = target.shape[1] == 1
    names = [f"row {row + 1}" if alone else spoken_index(program, name, (row, unit)) for row, unit in places]
    across = max(map(cell_len, names), default=0)
    numbers_fit = max((width - across) // _COLUMN, 1)
    write = program.writer.name
    heads = (write(name), write(program.target), _OFF)[:numbers_fit]
    head = " " * across + "".join(transliterate(column_head, palette.glyphs).rjust(_COLUMN) for column_head in heads)
    rows: list[SegmentRow] = [(Segment(head, palette.dim),)]
    for (row, unit), words in zip(places, names, strict=True):
        blank = Segment(palette.glyphs.blank.rjust(_COLUMN), palette.blank)
        ours = blank if value is None else _cell(value[row, unit], palette.plain, Ref(name, (row, unit), t))
        target_cell = _cell(target[row, unit], palette.target, Ref(program.target, (row, unit), t))
        error = blank if off is None else _cell(off[row, unit], palette.second, None)
        label = Segment(transliterate(words, palette.glyphs).ljust(across), palette.dim)
        rows.append((label, *(ours, target_cell, error)[:numbers_fit]))
    return clip(palette, from_rows(rows), width, height)


def _cell(value: float, style: Style, ref: Ref | None) -> Segment:
    words = numbers.wide(value).rjust(_COLUMN)
    return Segment(words, style) if ref is None else Cell.of(words, style, ref)


def difference_over_time(palette: Palette, snapshot: Snapshot, width: int, height: int) -> Box:
    """Draw the largest difference from the expected output at each computed timestep, as bars on a logarithmic scale.

    If there is room, as in a zoomed panel, the numbers of this timestep are drawn beside it, the largest difference first.
    """
    expected, output = expected_output(snapshot), snapshot.program.model.page.output
    if expected is None:
        words = "this model ends at its states; if an expected output is given, it is compared here"
        return _words(palette, words, width, height)
    if width >= _BARS + _ENTRY:
        table = _number_by_number(palette, snapshot, expected, height)
        return hstack(difference_over_time(palette, snapshot, min(width - _ENTRY, _BARS), height), table)
    T, current = snapshot.config.seq_length, snapshot.position.t
    start = min(max(current - height // 2, 0), max(T - height, 0))
    values, labels = [], []
    for t in range(start, min(start + height, T)):
        value = snapshot.value(output, t)
        difference = np.nan if value is None else worst_difference(value, expected[t])
        values.append(max(log10(difference / _LEAST), 0) / _DECADES if difference > 0 else 0.0)
        labels.append(f"t {t + 1}".rjust(len(f"t {T}")) + ("      " if value is None else f" {difference:5.0e}"))
    return clip(palette, bars(palette, values, labels, width, word=False, write=lambda value: ""), width, height)


def _number_by_number(palette: Palette, snapshot: Snapshot, expected: Array, height: int) -> Box:
    """Draw the entries of the output at this timestep: computed, expected, and the difference."""
    output, t = snapshot.program.model.page.output, snapshot.position.t
    value = snapshot.value(output, t)
    head = f"  at t {t + 1}".ljust(_NAME) + "".join(words.rjust(_NUMBER) for words in ("here", "expected", "off by"))
    rows: list[SegmentRow] = [(Segment(head, palette.dim),)]
    off = np.zeros((0, 0)) if value is None else _difference(value, expected[t])
    furthest = np.argsort(-np.abs(np.nan_to_num(off, nan=np.inf)).ravel(), kind="stable")[: max(height - 1, 0)]
    for row, unit in zip(*map(np.ndarray.tolist, np.unravel_index(furthest, off.shape)), strict=True):
        assert value is not None
        name = f"  {spoken(snapshot.program, output, (row, unit))}"
        ours = Cell.of(numbers.wide(value[row, unit]).rjust(_NUMBER), palette.plain, Ref(output, (row, unit), t))
        others = (
            numbers.wide(expected[t, row, unit]).rjust(_NUMBER),
            f"{off[row, unit]:+.1e}".rjust(_NUMBER),
        )
        rows.append((Segment(name.ljust(_NAME), palette.dim), ours, *(Segment(words, palette.second) for words in others)))
    return from_rows(rows)


def about_gradients(palette: Palette, snapshot: Snapshot, width: int, height: int) -> Box:
    """Draw how the gradients that the optimizer used result from the derived ones, once the backward phase has begun."""
    batch, why = snapshot.config.source.batch(snapshot.position.batch), snapshot.config.source.refusals.get(Ability.BACKWARD)
    why = why or snapshot.moment.why_missing()
    if batch is None or why:
        return _words(palette, why, width, height)
    if snapshot.position.phase != "backward":
        return _words(palette, "the gradient of the loss is given: your script's head and loss computed it", width, height)
    return _words(palette, batch.remarks(), width, height)


def _words(palette: Palette, words: str, width: int, height: int) -> Box:
    lines = fill(transliterate(words, palette.glyphs), max(width, 1))
    return clip(palette, vstack(text_box(palette, lines, palette.dim)), width, height)
