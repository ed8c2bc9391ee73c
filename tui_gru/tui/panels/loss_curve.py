"""The loss of every batch so far, as a curve."""

from __future__ import annotations

from textual.content import Content
from textual.style import Style as TextStyle

from tui_gru.debugger.analysis.baselines import baselines
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.engine import numbers
from tui_gru.engine.given import GivenCorpus
from tui_gru.tui.glyphs import transliterate
from tui_gru.tui.key_signs import with_keys
from tui_gru.tui.panels.loss_series import LossSeries
from tui_gru.tui.view import View
from tui_gru.tui.widgets.boxes import Box, clip
from tui_gru.tui.widgets.panel import Panel
from tui_gru.tui.widgets.plot import curve


class LossCurve(Panel):
    """Loss over batches, a mark at the present one, a rule after each epoch, the newest loss in the border.

    Dashed lines are, where the axis spans them, what guessing (log V), the frequencies of characters (unigram), and those of pairs
    (bigram) would lose.

    Where two branches are compared, both losses, and their names in the border.
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._series, self._other = LossSeries(), LossSeries()
        self._names: tuple[str, ...] = ()
        self._text, self._vocab_size = "", 1
        self._here: int | None = None
        self._has_loss = True
        self._epoch: int | None = None

    def show(self, snapshot: Snapshot, view: View) -> None:
        number, epoch = snapshot.position.number, snapshot.program.num_batches
        self._has_loss = snapshot.program.knows_loss
        corpus = snapshot.corpus
        self._text = "" if isinstance(corpus, GivenCorpus) else corpus.text
        self._vocab_size = snapshot.config.vocab_size
        other = snapshot.other
        names = () if other is None else (snapshot.branch, other.name)
        differs = self._series.follow(snapshot.losses, number, snapshot.branch)
        differs |= other is not None and self._other.follow(other.losses, number, other.name)
        if not differs and (number + 1, epoch, names) == (self._here, self._epoch, self._names):
            return
        self._here, self._epoch, self._names = number + 1, epoch, names
        self._caption()
        self.refresh_content()

    def _caption(self) -> None:
        count = len(self._series)
        note = None
        if count:
            newest = numbers.wide(self._series.envelope.values[-1]).strip().removeprefix("+")
            note = f"{newest} after {count:,} {'batch' if count == 1 else 'batches'}"
        self.set_titles(self._legend() if self._names else "loss so far", note)

    def _legend(self) -> Content:
        """Whose curve is which."""
        palette = self.palette
        (one, other), (line, dots) = self._names, (palette.glyphs.axis_horizontal, palette.glyphs.ellipsis)
        parts = (
            ("loss  ", palette.plain),
            (f"{line} {one}", palette.gate),
            ("  ", palette.plain),
            (f"{dots} {other}", palette.second),
        )
        return Content.assemble(*((transliterate(what, palette.glyphs), TextStyle.from_rich_style(ink)) for what, ink in parts))

    def build(self, width: int, height: int) -> Box:
        hint = (
            with_keys(self, "no batch finished yet: <step.batch> runs one") if self._has_loss else "this model ends without a loss"
        )
        plot = curve(
            self.palette, self._series.envelope, width, height,
            here=self._here,
            every=self._epoch,
            second=self._other.envelope if self._names else None,
            levels=baselines(self._text, self._vocab_size).lines if self._text and len(self._series) else (),
            placeholder=hint,
        )  # fmt: skip
        return clip(self.palette, plot, width, height)
