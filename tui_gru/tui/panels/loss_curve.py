"""The loss of every batch so far, as a curve."""

from __future__ import annotations

import numpy as np

from tui_gru.debugger.snapshot import Snapshot
from tui_gru.tui.view import View
from tui_gru.tui.widgets import numbers
from tui_gru.tui.widgets.boxes import Box, clip
from tui_gru.tui.widgets.envelope import Envelope
from tui_gru.tui.widgets.panel import Panel
from tui_gru.tui.widgets.plot import curve
from tui_gru.tui.widgets.written import Array

#: How many batches around the present one are compared to tell whether the past has changed. An edit changes it there.
_NEAR = 64


class LossCurve(Panel):
    """Loss over batches, a mark at the present one, a rule after each epoch, the newest loss in the border."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._series = Envelope()
        self._branch = ""
        self._here: int | None = None
        self._epoch: int | None = None

    def show(self, snapshot: Snapshot, view: View) -> None:
        number, epoch = snapshot.position.number, snapshot.program.num_batches
        if not self._follow(snapshot.losses, number, snapshot.branch) and (number + 1, epoch) == (self._here, self._epoch):
            return
        self._here, self._epoch = number + 1, epoch
        self._caption()
        self.refresh_content()

    def _caption(self) -> None:
        count = len(self._series)
        note = None
        if count:
            newest = numbers.wide(self._series.values[-1]).strip().removeprefix("+")
            note = f"{newest} after {count:,} {'batch' if count == 1 else 'batches'}"
        self.set_titles("loss so far", note)

    def build(self, width: int, height: int) -> Box:
        hint = "no batch finished yet: n runs one"
        plot = curve(self.palette, self._series, width, height, here=self._here, every=self._epoch, placeholder=hint)
        return clip(self.palette, plot, width, height)

    def _follow(self, losses: Array, near: int, branch: str) -> bool:
        """Take the losses over: what is new of them, where they go on from those shown, else all. Whether any differ."""
        shown = len(self._series)
        shared = min(len(losses), shown)
        known = self._series.values[:shared]
        around = slice(max(near - _NEAR, 0), near + _NEAR)
        same = _equal(losses[:shared][around], known[around]) and _equal(losses[:shared][-1:], known[-1:])
        if not same or branch != self._branch:
            self._series, self._branch = Envelope(losses), branch
            return True
        self._series.truncate(shared)
        self._series.extend(losses[shared:])
        return len(losses) != shown


def _equal(one: Array, other: Array) -> bool:
    return bool(np.array_equal(one, other, equal_nan=True))
