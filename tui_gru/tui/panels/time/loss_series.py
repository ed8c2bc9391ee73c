"""The losses of a branch for plots, updated incrementally from snapshot to snapshot."""

from __future__ import annotations

import numpy as np

from tui_gru.tui.widgets.plots.envelope import Envelope, Values

#: The number of batches on each side of the current one that are compared to detect edits of the past, which happen there.
_NEAR = 64


class LossSeries:
    """Follows the losses of snapshots; plots draw `envelope`."""

    def __init__(self) -> None:
        self.envelope = Envelope()
        self._branch = ""

    def __len__(self) -> int:
        return len(self.envelope)

    def follow(self, losses: Values, near: int, branch: str) -> bool:
        """Append the new losses, or replace all if the past has changed or the branch is another. Return True if any differ.

        `near` is the current batch: a changed past is detected near it.
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
