"""The loss curve: the loss of every batch so far."""

from __future__ import annotations

from collections.abc import Hashable
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.style import Style as TextStyle

from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.engine import numbers
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.verbs.verb import with_keys
from tui_gru.tui.widgets.boxes import Box, clip
from tui_gru.tui.widgets.plots.axis import Scale
from tui_gru.tui.widgets.plots.envelope import LossSeries
from tui_gru.tui.widgets.plots.plot import EMPTY_PLOT, Plot, plot
from tui_gru.tui.widgets.snapshot_panel import Compared, SnapshotPanel, Titles, View


class LossCurve(SnapshotPanel):
    """The loss over batches, with a mark at the current batch, a rule after each epoch, and the newest loss in the border.

    With the focus, the arrows move a cursor from batch to batch. The border shows the number and the loss of the batch under the
    cursor or the mouse. If a column has several batches, that is the outlier among them, otherwise the middle one.

    Dashed lines show, if the axis spans them, the losses of guessing (log V), of character frequencies (unigram), and of pair
    frequencies (bigram).

    If two branches are compared, both losses are drawn, and the border names the branches.
    """

    ABOUT = (
        "The loss of every batch so far. Dashed lines: the losses of guessing and of counting characters. ← → go from batch to "
        "batch, , changes the scale."
    )

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move(-1)", "Batch", key_display="← →"),
        ("right", "move(1)"),
        ("home", "move(-1000000)"),
        ("end", "move(1000000)"),
        Binding("comma", "scale", "Scale"),
    ]

    COMPARED = Compared.BOTH

    def __init__(self) -> None:
        super().__init__()
        self._series, self._other = LossSeries(), LossSeries()
        self._versions = 0  # of both series
        self.scale = Scale.AUTO
        self._plot: Plot = EMPTY_PLOT  # the plot of the last drawing
        self._cursor: int | None = None  # the batch under the cursor, 0-based
        self._hovered: int | None = None  # the batch under the mouse, 0-based

    def reads(self, snapshot: Snapshot, view: View) -> Hashable:
        return self._versions, snapshot.position.number, _names(snapshot)

    def titles(self, snapshot: Snapshot) -> Titles:
        count, note = len(self._series), None
        if self.pointed is not None:
            note = self._described(snapshot, self.pointed)
        elif count:
            note = f"{numbers.plain(self._series.envelope.values[-1])} after {count:,} {'batch' if count == 1 else 'batches'}"
            if self.scale is not Scale.AUTO:
                note = f"{self.scale.value} · {note}"
        return self._legend(*_names(snapshot)) if snapshot.other is not None else "loss so far", note

    def show(self, snapshot: Snapshot, view: View) -> None:
        number, other = snapshot.position.number, snapshot.other
        self._versions += self._series.follow(snapshot.losses, number, snapshot.branch)
        if other is not None:
            self._versions += self._other.follow(other.losses, number, other.name)
        super().show(snapshot, view)

    @property
    def pointed(self) -> int | None:
        """The batch under the mouse, otherwise under the cursor, counted from 0 over the run; None if there is neither."""
        batch = self._cursor if self._hovered is None else self._hovered
        return batch if batch is not None and batch < len(self._series) else None

    def _described(self, snapshot: Snapshot, batch: int) -> str:
        """Return `loss 0.1234 · e3 b2 · batch 8`, in a comparison with the loss of the other branch."""
        epoch, number = divmod(batch, snapshot.program.num_batches)
        losses = f"loss {numbers.plain(self._series.envelope.values[batch])}"
        if snapshot.other is not None and batch < len(self._other):
            losses += f" ({numbers.plain(self._other.envelope.values[batch])} on {snapshot.other.name})"
        return f"{losses} · e{epoch + 1:,} b{number + 1:,} · batch {batch + 1:,}"

    def _legend(self, one: str, other: str) -> Content:
        """Return the legend of the curves of two branches."""
        palette = self.palette
        line, dots = palette.glyphs.axis_horizontal, palette.glyphs.ellipsis
        parts = (
            ("loss  ", palette.plain),
            (f"{line} {one}", palette.gate),
            ("  ", palette.plain),
            (f"{dots} {other}", palette.second),
        )
        return Content.assemble(*((transliterate(what, palette.glyphs), TextStyle.from_rich_style(ink)) for what, ink in parts))

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        runs = with_keys(self, "no batch finished yet: <step.batch> runs one")
        self._plot = plot(
            self.palette, self._series.envelope, width, height,
            scale=self.scale,
            here=snapshot.position.number + 1,
            pointed=None if self.pointed is None else self.pointed + 1,
            every=snapshot.program.num_batches,
            second=self._other.envelope if snapshot.other is not None else None,
            levels=_baselines(snapshot) if len(self._series) else (),
            placeholder=runs if snapshot.program.knows_loss else "this model ends without a loss",
        )  # fmt: skip
        return clip(self.palette, self._plot.box, width, height)

    # The batch under the mouse, and under the cursor

    def action_scale(self) -> None:
        """Switch to the next scale of the axis."""
        self.scale = self.scale.following
        self.show_again()

    def action_move(self, columns: int) -> None:
        """Move the cursor by columns, at least by one batch, within the batches. It starts at the current batch.

        A curve that is too small to be drawn, or is on another page, has no columns; the cursor moves by batches then.
        """
        count = len(self._series)
        if not count:
            return
        self._ensure_built()
        at = min(self.snapshot.position.number, count - 1) if self._cursor is None else self._cursor
        column, batch = self._plot.column(at) + columns, at + columns
        if self._plot.columns:
            batch = self._batch_in(column) if 0 <= column < self._plot.columns else column * count
        if (batch - at) * columns <= 0:
            batch = at + (1 if columns > 0 else -1)
        self._cursor = min(max(batch, 0), count - 1)
        self.show_again()

    def _batch_in(self, column: int) -> int:
        """Return the batch that represents those of a column of the plot: the outlier, otherwise the middle one."""
        points = self._plot.points(column)
        first, after = max(points.start, 0), min(points.stop, len(self._series))
        if after <= first:
            return min(first, len(self._series) - 1)
        way = self._plot.standing_out.get(column)
        if way is None:
            return (first + after - 1) // 2
        return self._series.envelope.furthest(first, after, way)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        offset = event.get_content_offset(self)
        column = -1 if offset is None else offset.x - self._plot.margin - 1
        hovered = self._batch_in(column) if len(self._series) and 0 <= column < self._plot.columns else None
        if hovered != self._hovered:
            self._hovered = hovered
            self.show_again()

    def on_leave(self, event: events.Leave) -> None:
        if self._hovered is not None:
            self._hovered = None
            self.show_again()

    def on_blur(self, event: events.Blur) -> None:
        if self._cursor is not None:
            self._cursor = None
            self.show_again()


def _baselines(snapshot: Snapshot) -> tuple[tuple[str, float], ...]:
    """Return the names and values of the baselines of the text; nothing without a text."""
    from tui_gru.debugger.analysis.baselines import baselines  # imported late: not drawn before the first loss
    from tui_gru.engine.data.given import GivenCorpus

    corpus = snapshot.corpus
    return () if isinstance(corpus, GivenCorpus) else baselines(corpus.text, snapshot.config.vocab_size).lines


def _names(snapshot: Snapshot) -> tuple[str, ...]:
    """Return the names of this branch and of the compared one; nothing if none is compared."""
    return () if snapshot.other is None else (snapshot.branch, snapshot.other.name)
