"""The loss by place: bars by class of character, by timestep or by row, and the hardest places of the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.binding import BindingType
from textual.message import Message

from tui_gru.debugger.analysis.baselines import Baselines, bits, perplexity
from tui_gru.debugger.analysis.loss_places import Share, TextLosses, of_batch
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.engine.data.corpus import Corpus
from tui_gru.engine.data.tokens import token_word
from tui_gru.tui.look.characters import in_context
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.look.themes import Palette
from tui_gru.tui.verbs.verb import with_keys
from tui_gru.tui.widgets.bars import bar
from tui_gru.tui.widgets.boxes import SegmentRow
from tui_gru.tui.widgets.list_overlay import ListOverlay, ListRow
from tui_gru.tui.widgets.snapshot_panel import Titles

_GROUPS = ("class of character", "timestep", "row")
_HARDEST = 12
_BAR = 40  # cells at most


class LossPlaces(ListOverlay):
    """The loss of the text, read with the weights of one moment, by class; timesteps and rows are those of the current batch."""

    ABOUT = "The loss by class of character, timestep or row, and the hardest places."

    BINDINGS: ClassVar[list[BindingType]] = [("tab", "group")]

    @dataclass
    class Chosen(Message):
        """Posted to go to a character of the text; `at` is its index, 0-based."""

        at: int

    def __init__(self, losses: TextLosses, baselines: Baselines, *, of: str) -> None:
        """Create a panel. `of` is the moment at which the text was read, in words."""
        super().__init__()
        self._losses, self._baselines, self._of = losses, baselines, of
        self._hardest = losses.hardest(_HARDEST, apart=8)
        self._by_class = sorted((each for each in losses.by_class() if each.count), key=lambda each: -each.share)
        self._group = _GROUPS[0]

    def titles(self, snapshot: Snapshot) -> Titles:
        hints = [f"tab: by {self._group}", "enter goes to a hardest place", with_keys(self, "<stop> closes")]
        return f"loss by place · the text, {self._of}", hints

    def action_group(self) -> None:
        self._group = _GROUPS[(_GROUPS.index(self._group) + 1) % len(_GROUPS)]
        self.show_again()

    def choose(self) -> None:
        self.post_message(self.Chosen(self._hardest[self.cursor].at - 1))  # the place of the prediction

    # Drawing

    def lines(self, width: int) -> Sequence[ListRow]:
        palette, mean = self.palette, self._losses.mean
        text = f"{mean:.4f} nats, {bits(mean):.3f} bits a {token_word(self._losses.text)}, perplexity {perplexity(mean):.2f}"
        found = [self._line(text, palette.strong)]
        known = [f"{name} {value:.3f}" for name, value in self._baselines.lines if np.isfinite(value)]
        found += [self._line(f"for comparison: {', '.join(known)}", palette.dim), ListRow(())]
        shares = self._shares()
        if not shares:
            found.append(self._line("no loss of this batch has been computed yet", palette.dim))
        found += [ListRow(row) for row in self._bars(palette, shares, width)]
        found += [ListRow(()), self._line("hardest places", palette.strong)]
        for entry, place in enumerate(self._hardest):
            before, char, after = in_context(self._losses.text, place.at, 20, 12, palette.glyphs)
            row = (
                Segment(f"{place.value:7.3f}  ", palette.plain),
                Segment(" " * (20 - cell_len(before)) + before, palette.plain),
                Segment(char, palette.target + Style(reverse=True)),
                Segment(after, palette.dim),
            )
            found.append(ListRow(row, entry))
        return found

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
        return [
            (
                Segment(share.name.ljust(name_width), palette.plain),
                Segment(bar(palette, share.mean / largest, length), palette.gate),
                Segment(f" {share.mean:7.3f}", palette.plain),
                Segment(f"  {100 * share.share:3.0f} % of it, {share.count:,}", palette.dim),
            )
            for share in shares
        ]

    def _line(self, words: str, ink: Style) -> ListRow:
        return ListRow((Segment(transliterate(words, self.palette.glyphs), ink),))
