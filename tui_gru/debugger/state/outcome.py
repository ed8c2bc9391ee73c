"""The outcome of a verb of a session: the position, what stopped the run, and the message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tui_gru.debugger.program.position import Position

StopCause = Literal["breakpoint", "condition", "not finite", "growth", "check"]


@dataclass(frozen=True)
class Notice:
    """A one-line message: an answer to the user, or a `warning` that something is wrong."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class StopEvent:
    """What stopped a run just after `tick`.

    `cause` is a breakpoint or a watch; the condition of a search; a number that is not finite; one that grew a thousandfold; or a
    batch whose numbers differ from PyTorch's. `notice` says which, in words; a search for a condition says nothing.
    """

    tick: int
    cause: StopCause
    notice: Notice | None = None


@dataclass(frozen=True)
class Outcome:
    """The position of a session after a verb, what stopped the run there (None: it ended or was interrupted), and the message."""

    position: Position
    stopped_by: StopEvent | None = None
    notice: Notice | None = None


def joined(*notices: Notice | None) -> Notice | None:
    """Join notices into one, which is a warning if any of them is; None if all are empty."""
    there = [notice for notice in notices if notice is not None and notice.text]
    if len(there) < 2:
        return there[0] if there else None
    return Notice("; ".join(notice.text for notice in there), any(notice.warning for notice in there))
