"""The losses of one branch, kept from one snapshot to the next, so that showing one more of them costs next to nothing."""

from __future__ import annotations

import numpy as np

from tui_gru.tui.widgets.plots.envelope import Envelope, Values

#: How many batches around the present one are compared to tell whether the past has changed. An edit changes it there.
_NEAR = 64


class LossSeries:
    """Follows the losses that snapshots bring; `envelope` is what plots draw."""

    def __init__(self) -> None:
        self.envelope = Envelope()
        self._branch = ""

    def __len__(self) -> int:
        return len(self.envelope)

    def follow(self, losses: Values, near: int, branch: str) -> bool:
        """Take the losses over: what is new of them, where they go on from those kept, else all. Whether any differ.

        `near` is the batch one is at. A past that has changed has changed there, or is another branch's.
        """
        shown = len(self.envelope)
        shared = min(len(losses), shown)
        known = self.envelope.values
        parts = slice(max(near - _NEAR, 0), min(near + _NEAR, shared)), slice(max(shared - 1, 0), shared)
        same = all(np.array_equal(losses[part], known[part], equal_nan=True) for part in parts)
        if not same or branch != self._branch:
            self.envelope, self._branch = Envelope(losses), branch
            return True
        self.envelope.follow(losses)
        return len(losses) != shown
