"""The influence of characters on a prediction, and the places where the loss comes from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.binding import BindingType

from tui_gru.analysis import tables
from tui_gru.analysis.influence import ContextMemory, Influence, RowInfluence, takes_softmax
from tui_gru.analysis.losses import Baselines, Share, TextLosses, bits, of_batch, perplexity
from tui_gru.analysis.tables import Columns
from tui_gru.debugger.program import shown_char
from tui_gru.engine.config import token_word
from tui_gru.engine.data import Corpus
from tui_gru.engine.numbers import counted, decimals
from tui_gru.engine.sampling import NextChances
from tui_gru.engine.weights import Float64Array
from tui_gru.session.snapshot import Snapshot
from tui_gru.tui.draw import Box, Ref, SegmentRow, TableColumn, bar, clip, column_signs, from_rows, styled_row, table
from tui_gru.tui.keys import with_keys
from tui_gru.tui.panel import ListOverlay, ListRow, SnapshotPanel, Titles
from tui_gru.tui.theme import Palette, folded, in_context, one_cell, transliterate, written_char

# ------------------------------------------------------------------------------
# The influence on a prediction: the characters of its row, coloured by how much the prediction depends on each.


_MEASURES = ("gradient", "occlusion")
_MEMORY = "memory"
_LEAD = 11  # cells of the name of a measure before its digits; without room for it, only its first letter is there


class InfluenceMap(SnapshotPanel):
    """The influence on one prediction. Left and right go to the previous and next timestep, up and down to another row.

    Both measures are shown if there is room, and how far back the model remembers, otherwise what is chosen by tab. `waiting` is
    True while the latter is computed.
    """

    ABOUT = (
        "What the prediction depends on: how much each earlier character changes it. The digit under a character is its "
        "influence in tenths of the largest. Below, how far back the model remembers: the loss by the characters that it has read."
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

    def __init__(self, influence: Influence, rows: RowInfluence) -> None:
        super().__init__()
        self.influence, self.rows = influence, rows
        self.measure = _MEASURES[0]
        self.memory: ContextMemory | None = None
        self.waiting = False

    def tell(self, memory: ContextMemory | None) -> None:
        """Show how far back the model remembers; None if that is not known."""
        self.memory, self.waiting = memory, False
        self.show_again()

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
        rows: list[SegmentRow] = [*self._words(palette, self._prediction(), width), ()]
        for measure in _MEASURES:
            rows += self._words(palette, f"by {measure}: {self._reach_in_words(measure)}", width)
        rows += [(), *(self._text if self.influence.text else self._timesteps)(palette, width), ()]
        rows += [*self._other_rows(palette, width), (), *self._states(palette, width)]
        memory = [] if self.memory is None else list(self._remembers(palette, self.memory, width))
        if memory and len(rows) + len(memory) + 1 <= height:
            rows += [(), *memory]
        elif self.measure == _MEMORY:
            rows = memory
        return clip(palette, from_rows(rows), width, len(rows))

    def _remembers(self, palette: Palette, memory: ContextMemory, width: int) -> Iterator[SegmentRow]:
        """Yield the sentences that say how far back the model remembers, and which measure to believe; then the loss by the number
        of characters read, beside that of pairs, and the mean influence by distance."""
        noun = token_word(self.influence.text)
        i = memory.contexts.index(memory.characters)
        many = counted(memory.characters, noun)
        above = [decimals(loss - memory.whole, 3) for loss in memory.losses[: i + 1]]
        less = f"; with {memory.contexts[i - 1]} it is {above[i - 1]} higher" if i else ""
        if memory.ends:
            loss, whole = decimals(memory.losses[i], 4), decimals(memory.whole, 4)
            words = f"remembers {many}: with these alone the loss is {loss}, with all {whole}{less}"
        else:
            words = f"remembers more than {many}: with these alone the loss is {above[i]} higher"
        yield from self._words(palette, words, width)
        reaches = {of: memory.reach(of) for of in _MEASURES}
        far = " and ".join(f"{reach.steps} back by {of}" for of, reach in reaches.items())
        words = f"a character has a tenth of the largest influence, on average, up to {far}"
        if not memory.agree:
            words += f"; believe {memory.believed}, with which the loss by {noun}s read agrees"
        yield from self._words(palette, words, width)

        losses = [(counted(context, noun), loss) for context, loss in zip(memory.contexts, memory.losses, strict=True)]
        losses += [("all before", memory.whole), *([("bigram", memory.bigram)] if np.isfinite(memory.bigram) else [])]
        largest = max((loss for _, loss in losses if np.isfinite(loss)), default=1.0) or 1.0
        label, length = max(len(name) for name, _ in losses), max(min(width - 30, _BAR), 0)
        cells = [
            (
                styled_row(palette, (name, palette.dim)),
                styled_row(palette, decimals(loss, 4)),
                (Segment(bar(palette, loss / largest, length), palette.second if name == "bigram" else palette.gate),),
            )
            for name, loss in losses
        ]
        yield from table(palette, cells, (TableColumn(gap=0, right=True), TableColumn(gap=2), TableColumn(gap=1)), width)
        yield ()
        cell = max(min((width - label - 2) // len(memory.gradient), 3), 1)
        shown = (width - label - 2) // cell
        ruler = "".join(f"{back:<{8 * cell}}" for back in range(0, len(memory.gradient), 8))
        yield (Segment("back".rjust(label) + "  ", palette.dim), Segment(ruler[: shown * cell], palette.dim))
        for of in _MEASURES:
            values = getattr(memory, of)
            parts = np.abs(values) / (np.abs(values).max(initial=0.0) or 1.0)
            yield (Segment(of.rjust(label) + "  ", palette.dim), Segment(column_signs(palette, parts[:shown], cell), palette.gate))

    def _prediction(self) -> str:
        influence, program = self.influence, self.snapshot.program
        name = program.writer.name(self._predicted)
        value = float(np.exp(influence.value)) if takes_softmax(program) else influence.value
        if influence.text:
            char, last = shown_char(program.config.vocabulary[influence.character]), shown_char(influence.text[influence.at])
            return f"after “{last}” {name} gives “{char}” {decimals(value, 4)}"
        return f"entry {influence.character + 1} of {name} is {decimals(value, 4)}"

    def _parts(self, measure: str) -> Float64Array:
        """Return the absolute values of a measure, divided by the largest."""
        values = np.abs(np.nan_to_num(getattr(self.influence, measure)))
        parts: Float64Array = values / (values.max(initial=0.0) or 1.0)
        return parts

    def _lead(self, width: int) -> int:
        """Return the cells before the text and before all that stands under its characters."""
        return _LEAD if width >= 3 * _LEAD else 2

    def _text(self, palette: Palette, width: int) -> Iterator[SegmentRow]:
        """Yield lines of characters in the colours of the chosen measure, each with its influence by both measures below it, in
        tenths of the largest, such that colour is not needed."""
        influence, parts_by_measure = self.influence, {measure: self._parts(measure) for measure in _MEASURES}
        parts = parts_by_measure.get(self.measure, parts_by_measure[_MEASURES[0]])
        tokens = not isinstance(influence.text, str)
        signs = [(written_char if tokens else one_cell)(char, palette.glyphs) for char in influence.text]
        cell = max(map(cell_len, signs)) + tokens
        lead = self._lead(width)
        across = max((width - lead) // cell, 1)
        for first in range(0, len(signs), across):
            shown, chars = range(first, min(first + across, len(signs))), [Segment(" " * lead)]
            for i in shown:
                style = palette.unit(float(parts[i]))
                if i > influence.at and not influence.backwards:
                    style = palette.blank
                elif i == influence.at:
                    style = style + Style(bold=True, underline=True)
                chars += [Segment(signs[i], style), Segment(" " * (cell - cell_len(signs[i])))]
            yield tuple(chars)
            for measure in _MEASURES:
                tenths = (min(int(10 * parts_by_measure[measure][i]), 9) for i in shown)
                digits = "".join((str(tenth) if tenth else " ").ljust(cell) for tenth in tenths)
                yield (
                    Segment(measure[: lead - 1].ljust(lead) + digits, palette.plain if measure == self.measure else palette.dim),
                )

    def _timesteps(self, palette: Palette, width: int) -> Iterator[SegmentRow]:
        """Yield the rows for a model that reads numbers: for each measure a column per timestep."""
        lead = self._lead(width)
        for measure in _MEASURES:
            curve = column_signs(palette, self._parts(measure))[-max(width - lead, 1) :]
            yield (Segment(measure[: lead - 1].ljust(lead), palette.dim), Segment(curve, palette.gate))

    def _reach_in_words(self, measure: str) -> str:
        reach, last = self.influence.reach(measure), getattr(self.influence, measure)[self.influence.at]
        noun = token_word(self.influence.text) if self.influence.text else "timestep"
        many = counted(reach.steps, noun)
        if not reach.part:
            return f"no {noun} has an influence: it is 0 for each" if np.isfinite(last) else "it is not a number"
        if not reach.steps and not reach.falls:
            return f"only one {noun} has been read"
        if not reach.steps:
            return f"only the {noun} read last has more than a tenth of its maximum"
        if not reach.falls:
            return f"reaches at least {many} back, the farthest examined, with {reach.part:.2f} of its maximum"
        return f"reaches {many} back, with {reach.part:.2f} of its maximum"

    def _other_rows(self, palette: Palette, width: int) -> Iterator[SegmentRow]:
        """Yield the influence of the other rows of the batch, which should be 0."""
        if len(self.rows.gradient) < 2:
            return
        gradient = float(np.delete(self.rows.gradient, self.rows.row).max())
        words = f"the other rows: by gradient {gradient:.3g}, by occlusion {abs(self.rows.together):.3g}"
        good = self.rows.others == 0
        for part in folded(words if good else f"{words}; they should be 0: rows influence each other", width):
            yield styled_row(palette, (part, palette.dim if good else palette.warning))

    def _states(self, palette: Palette, width: int) -> Iterator[SegmentRow]:
        """Yield the norm of the gradient with respect to each state after each input, as a row of columns with a description.

        The description is beside the columns, or above them if there is no room.
        """
        program, influence, lead = self.snapshot.program, self.influence, self._lead(width)
        for state, norms in influence.states.items():
            reach = influence.reach(state)
            far = f"reaches {'' if reach.falls else 'at least '}{reach.steps}" if reach.steps or reach.falls else ""
            far = far if reach.part else "is 0"
            words = transliterate(f"∂/∂{program.writer.name(state)} {far}".rstrip(), palette.glyphs)
            largest = float(np.nanmax(norms, initial=0.0)) or 1.0
            curve = Segment(" " * lead + column_signs(palette, norms / largest)[-max(width - lead, 1) :], palette.gate)
            if len(curve.text) + cell_len(words) + 2 <= width:
                yield (curve, Segment(f"  {words}", palette.dim))
            else:
                yield (Segment(words, palette.dim),)
                yield (curve,)

    def _words(self, palette: Palette, words: str, width: int) -> Iterator[SegmentRow]:
        return (styled_row(palette, part) for part in folded(words, width))

    def titles(self, snapshot: Snapshot) -> Titles:
        title = f"what the prediction of row {self.influence.row + 1} after t {self.t + 1} depends on · {self.measure}"
        hints = [
            "tab: gradient, occlusion, memory" if self.memory is not None else "tab: gradient, occlusion",
            "← → timestep",
            "↑ ↓ row",
            "enter: where it comes from",
            with_keys(self, "<stop> closes"),
        ]
        return Titles(title, hints)

    # Keys

    def action_measure(self) -> None:
        shown = [*_MEASURES, *([_MEMORY] if self.memory is not None else [])]
        self.measure = shown[(shown.index(self.measure) + 1) % len(shown)]
        self.show_again()

    def action_move(self, rows: int, timesteps: int) -> None:
        config = self.snapshot.config
        row, t = self.influence.row + rows, self.t + timesteps
        if 0 <= row < config.batch_size and 0 <= t < config.seq_length:
            self.request("influence", row, t)

    def action_choose(self) -> None:
        self.request("number", Ref(self._predicted, (self.influence.row, self.influence.character), self.t))


# ------------------------------------------------------------------------------
# What comes after a text.


class NextCharacter(SnapshotPanel):
    """The probability of every character to come after a text, the likeliest first."""

    ABOUT = "What comes after a text, which the model reads from a zero state: the probability of every character."
    STAYS = True

    def __init__(self, prediction: NextChances) -> None:
        super().__init__()
        self._prediction = prediction

    def titles(self, snapshot: Snapshot) -> Titles:
        read = self._prediction.text
        shown = read if len(read) <= _BAR else f"…{read[-_BAR:]}"
        return Titles(f"what comes after “{shown}”", with_keys(self, "<stop> closes"))

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        palette = self.palette
        length = max(min(width - 14, _BAR), 0)
        cells = [
            (
                styled_row(palette, (shown_char(char), palette.strong)),
                styled_row(palette, decimals(chance, 4)),
                (Segment(bar(palette, chance, length), palette.gate),),
            )
            for char, chance in self._prediction.likeliest
        ]
        rows = table(palette, cells, (TableColumn(gap=0), TableColumn(right=True), TableColumn()), width)
        return clip(palette, from_rows(rows), width, len(rows))


# ------------------------------------------------------------------------------
# The loss by place: bars by class of character, by timestep or by row, and the hardest places of the text.


_GROUPS = ("class of character", "timestep", "row")
_HARDEST = 12
_BAR = 40  # cells at most


class LossPlaces(ListOverlay):
    """The loss of the text, read with the weights of one moment, by class; timesteps and rows are those of the current batch."""

    ABOUT = "The loss by class of character, timestep or row, and the hardest places."

    BINDINGS: ClassVar[list[BindingType]] = [("tab", "group")]

    def __init__(self, losses: TextLosses, baselines: Baselines, *, of: str) -> None:
        """Create a panel. `of` is the moment at which the text was read, in words."""
        super().__init__()
        self._losses, self._baselines, self._of = losses, baselines, of
        self._hardest = losses.hardest(_HARDEST, apart=8)
        classes = dict[tuple[int, float], Share]()
        for share in losses.by_class():
            if share.count:  # of two with the same targets, such as letters and letters after a letter, the first is shown
                classes.setdefault((share.count, share.share), share)
        self._by_class = sorted(classes.values(), key=lambda share: -share.share)
        self._group = _GROUPS[0]

    def columns(self) -> Columns | None:
        return tables.of_losses(self._losses)

    def titles(self, snapshot: Snapshot) -> Titles:
        hints = [f"tab: by {self._group}", "enter goes to a hardest place", with_keys(self, "<stop> closes")]
        return Titles(f"loss by place · the text, {self._of}", hints)

    def action_group(self) -> None:
        self._group = _GROUPS[(_GROUPS.index(self._group) + 1) % len(_GROUPS)]
        self.show_again()

    def choose(self) -> None:
        self.request("character", self._hardest[self.cursor].at - 1)  # the place of the prediction

    # Drawing

    def lines(self, width: int) -> Sequence[ListRow]:
        palette, mean = self.palette, self._losses.mean
        noun = token_word(self._losses.text)
        if self.snapshot.program.model.is_cross_entropy:
            text = f"{decimals(mean, 4)} nats, {decimals(bits(mean), 3)} bits a {noun}"
            if np.isfinite(choices := perplexity(mean)):
                text += f", perplexity {decimals(choices, 2)}"
            comparisons = [f"{name} {value:.3f}" for name, value in self._baselines.lines if np.isfinite(value)]
            rows = [self._line(text, palette.strong), self._line(f"for comparison: {', '.join(comparisons)}", palette.dim)]
        else:
            rows = [self._line(f"{decimals(mean, 4)} on average for a {noun}", palette.strong)]
        if (still := self._losses.standstill) is not None:
            rows += [self._line(words, palette.warning) for words in folded(still.sentence(noun), width)]
        if shares := self._shares():
            rows += map(ListRow, self._bars(palette, shares, width))
            if math.fsum(share.share for share in shares if np.isfinite(share.share)) > 1 + 1e-9:
                rows.append(self._line("a character can be in several classes, so the shares overlap", palette.dim))
        else:
            rows += [ListRow(()), self._line("no loss of this batch has been computed yet", palette.dim)]
        rows += [ListRow(()), self._line("hardest places", palette.strong)]
        for entry, place in enumerate(self._hardest):
            before, char, after = in_context(self._losses.text, place.at, 20, 12, palette.glyphs)
            row = (
                Segment(f"{decimals(place.value, 3):>7}  ", palette.plain),
                Segment(" " * (20 - cell_len(before)) + before, palette.plain),
                Segment(char, palette.cursor),
                Segment(after, palette.dim),
            )
            rows.append(ListRow(row, entry))
        return rows

    def _shares(self) -> list[Share]:
        if self._group == _GROUPS[0]:
            return self._by_class
        corpus = self.snapshot.corpus
        if not isinstance(corpus, Corpus):
            return []
        losses = of_batch(self.snapshot.moment, corpus)
        if not len(losses.values):
            return []
        return losses.by_timestep() if self._group == "timestep" else losses.by_row()

    def _bars(self, palette: Palette, shares: Sequence[Share], width: int) -> list[SegmentRow]:
        largest = max((share.mean for share in shares if np.isfinite(share.mean)), default=1.0) or 1.0
        name_width = max((len(share.name) for share in shares), default=0) + 1
        length = max(min(width - name_width - 32, _BAR), 0)
        cells = [
            (
                styled_row(palette, share.name),
                (Segment(bar(palette, share.mean / largest, length), palette.gate),),
                styled_row(palette, decimals(share.mean, 3)),
                styled_row(palette, (f"{100 * share.share:.0f} %", palette.dim)),
                styled_row(palette, (f"{share.count:,}", palette.dim)),
            )
            for share in shares
        ]
        needs = {"mean": None, "of the sum": 2, "places": 1}
        heads = (TableColumn(heading, right=True, need=need) for heading, need in needs.items())
        return table(palette, cells, (TableColumn(gap=0), TableColumn(gap=1), *heads), width)

    def _line(self, words: str, ink: Style) -> ListRow:
        return ListRow(styled_row(self.palette, (words, ink)))
