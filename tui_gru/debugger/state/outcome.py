"""What a verb of a session has led to: where the session is, what stopped the run, and what there is to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tui_gru.debugger.program.position import Position

Cause = Literal["breakpoint", "condition", "not finite", "growth", "check"]


@dataclass(frozen=True)
class Notice:
    """A message of one line. It answers what was asked for, or it is a `warning` that something is not as it should be."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class StopEvent:
    """What stopped a run just after `tick`.

    `cause` is a breakpoint or a watch; the condition of a search; a number that is not finite; one that grew a thousandfold; or a
    batch whose numbers differ from PyTorch's. `notice` says which, in words; a search for a condition says nothing.
    """

    tick: int
    cause: Cause
    notice: Notice | None = None


@dataclass(frozen=True)
class Outcome:
    """Where a session is after a verb, what stopped the run there (None: it ended or was interrupted), and its message."""

    position: Position
    stopped_by: StopEvent | None = None
    notice: Notice | None = None


def joined(*notices: Notice | None) -> Notice | None:
    """Several notices as one, which is a warning if any of them is; None where there is nothing to say."""
    there = [notice for notice in notices if notice is not None and notice.text]
    if len(there) < 2:
        return there[0] if there else None
    return Notice("; ".join(notice.text for notice in there), any(notice.warning for notice in there))
