"""The influence on a prediction: the characters of its row, coloured by how much the prediction depends on each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.binding import BindingType
from textual.message import Message

from tui_gru.debugger.analysis.influence import Influence, Reach, RowInfluence
from tui_gru.debugger.program.naming import shown_char
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.engine.data.tokens import token_word
from tui_gru.engine.running.weights import Float64Array
from tui_gru.tui.look.characters import folded, one_cell, written_char
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.look.themes import Palette
from tui_gru.tui.verbs.verb import with_keys
from tui_gru.tui.widgets.bars import column_signs
from tui_gru.tui.widgets.boxes import Box, SegmentRow, clip, from_rows
from tui_gru.tui.widgets.cells import NumberAsked
from tui_gru.tui.widgets.refs import Ref
from tui_gru.tui.widgets.snapshot_panel import SnapshotPanel, Titles

_MEASURES = ("gradient", "occlusion")


class InfluenceMap(SnapshotPanel):
    """The influence on one prediction. Left and right go to the previous and next timestep, up and down to another row.

    Both measures are shown if there is room, otherwise the one chosen by tab.
    """

    ABOUT = (
        "What the prediction depends on: how much each earlier character changes it. The digit under a character is its "
        "influence in tenths of the largest."
    )

    ASKING = frozenset({"move", "choose"})
    BINDINGS: ClassVar[list[BindingType]] = [
        ("left", "move(0, -1)"),
        ("right", "move(0, 1)"),
        ("up", "move(-1, 0)"),
        ("down", "move(1, 0)"),
        ("tab", "measure"),
        ("enter", "choose"),
    ]

    @dataclass
    class Asked(Message):
        """Posted to show another prediction of this batch: of `row` after timestep `t`, both 0-based."""

        row: int
        t: int

    def __init__(self, influence: Influence, rows: RowInfluence) -> None:
        super().__init__()
        self.influence, self.rows = influence, rows
        self.measure = _MEASURES[0]

    def turn_to(self, influence: Influence, rows: RowInfluence) -> None:
        """Show another prediction."""
        self.influence, self.rows = influence, rows
        self.show_again()

    @property
    def t(self) -> int:
        """The timestep of the prediction, 0-based."""
        return int(self.influence.t[self.influence.at])

    @property
    def _predicted(self) -> str:
        """The name of the prediction, or of the output of a model without one."""
        return self.snapshot.program.loss_names.prediction or self.snapshot.program.model.page.output

    # Drawing

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        palette = self.palette
        pictures = {
            measure: [
                *(self._text(palette, width, measure) if self.influence.text else self._timesteps(palette, width, measure)),
                (),
            ]
            for measure in _MEASURES
        }
        captions = {
            measure: [*self._words(palette, f"by {measure}: {self._said(self.influence.reach(measure))}", width)]
            for measure in _MEASURES
        }
        rows: list[SegmentRow] = [*self._words(palette, self._prediction(), width), ()]
        rest = [*self._other_rows(palette, width), (), *self._states(palette, width)]
        both = [row for measure in _MEASURES for row in (*captions[measure], *pictures[measure])]
        if len(rows) + len(both) + len(rest) <= height:
            rows += both
        else:
            rows += [*pictures[self.measure], *captions[_MEASURES[0]], *captions[_MEASURES[1]]]
        rows += rest
        return clip(palette, from_rows(rows), width, len(rows))

    def _prediction(self) -> str:
        found, program = self.influence, self.snapshot.program
        name = program.writer.name(self._predicted)
        if found.text:
            char, last = shown_char(program.config.vocabulary[found.character]), shown_char(found.text[found.at])
            return f"after “{last}” {name} gives “{char}” {np.exp(found.value):.4f}"
        return f"entry {found.character + 1} of {name} is {found.value:+.4f}"

    def _parts(self, measure: str) -> Float64Array:
        """Return the absolute values of a measure, divided by the largest."""
        values = np.abs(np.nan_to_num(getattr(self.influence, measure)))
        parts: Float64Array = values / (values.max(initial=0.0) or 1.0)
        return parts

    def _text(self, palette: Palette, width: int, measure: str) -> Iterator[SegmentRow]:
        """Yield lines of characters, each with its influence below in tenths of the largest, such that colour is not needed."""
        found, parts = self.influence, self._parts(measure)
        tokens = not isinstance(found.text, str)
        signs = [(written_char if tokens else one_cell)(char, palette.glyphs) for char in found.text]
        cell = max(map(cell_len, signs)) + tokens
        across = max(width // cell, 1)
        for first in range(0, len(signs), across):
            chars, tenths = [], []
            for i in range(first, min(first + across, len(signs))):
                style = palette.unit(float(parts[i]))
                if i > found.at and not found.backwards:
                    style = palette.blank
                elif i == found.at:
                    style = style + Style(bold=True, underline=True)
                chars += [Segment(signs[i], style), Segment(" " * (cell - cell_len(signs[i])))]
                tenth = min(int(10 * parts[i]), 9)
                tenths.append((str(tenth) if tenth else " ").ljust(cell))
            yield tuple(chars)
            yield (Segment("".join(tenths), palette.dim),)

    def _timesteps(self, palette: Palette, width: int, measure: str) -> Iterator[SegmentRow]:
        """Yield the row for a model that reads numbers: a column per timestep."""
        yield (Segment(column_signs(palette, self._parts(measure))[-width:], palette.gate),)

    def _said(self, reach: Reach) -> str:
        what = token_word(self.influence.text) if self.influence.text else "timestep"
        many = f"{reach.steps} {what}{'' if reach.steps == 1 else 's'}"
        if not reach.falls:
            return f"it does not fall below a tenth of its maximum within {many}"
        beyond = [f"{steps} back: {part:.2f}" for steps, part in reach.beyond[:3]]
        return f"falls below a tenth of its maximum after {many}{', except ' + ', '.join(beyond) if beyond else ''}"

    def _other_rows(self, palette: Palette, width: int) -> Iterator[SegmentRow]:
        """Yield the influence of the other rows of the batch, which should be 0."""
        if len(self.rows.gradient) < 2:
            return
        gradient = float(np.delete(self.rows.gradient, self.rows.row).max())
        words = f"the other rows: by gradient {gradient:.3g}, by occlusion {abs(self.rows.together):.3g}"
        good = self.rows.others == 0
        for line in folded(words if good else f"{words}; they should be 0: rows influence each other", width):
            yield (Segment(transliterate(line, palette.glyphs), palette.dim if good else palette.warning),)

    def _states(self, palette: Palette, width: int) -> Iterator[SegmentRow]:
        """Yield the norm of the gradient with respect to each state after each input, as a row of columns with a description.

        The description is beside the columns, or above them if there is no room.
        """
        program, found = self.snapshot.program, self.influence
        for state, norms in found.states.items():
            reach = found.reach(state)
            fall = f"below a tenth after {reach.steps}" if reach.falls else f"not below a tenth in {reach.steps}"
            words = transliterate(f"∂/∂{program.writer.name(state)} {fall}", palette.glyphs)
            largest = float(np.nanmax(norms, initial=0.0)) or 1.0
            curve = Segment(column_signs(palette, norms / largest)[-max(width, 1) :], palette.gate)
            if len(curve.text) + cell_len(words) + 2 <= width:
                yield (curve, Segment(f"  {words}", palette.dim))
            else:
                yield (Segment(words, palette.dim),)
                yield (curve,)

    def _words(self, palette: Palette, words: str, width: int) -> Iterator[SegmentRow]:
        for line in folded(words, width):
            yield (Segment(transliterate(line, palette.glyphs), palette.plain),)

    def titles(self, snapshot: Snapshot) -> Titles:
        title = f"what the prediction of row {self.influence.row + 1} after t {self.t + 1} depends on · {self.measure}"
        hints = [
            "tab: gradient, occlusion",
            "← → timestep",
            "↑ ↓ row",
            "enter: where it comes from",
            with_keys(self, "<stop> closes"),
        ]
        return title, hints

    # Keys

    def action_measure(self) -> None:
        self.measure = _MEASURES[1 - _MEASURES.index(self.measure)]
        self.show_again()

    def action_move(self, rows: int, timesteps: int) -> None:
        config = self.snapshot.config
        row, t = self.influence.row + rows, self.t + timesteps
        if 0 <= row < config.batch_size and 0 <= t < config.seq_length:
            self.post_message(self.Asked(row, t))

    def action_choose(self) -> None:
        self.post_message(NumberAsked(Ref(self._predicted, (self.influence.row, self.influence.character), self.t)))
