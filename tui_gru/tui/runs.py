"""Long runs in a worker thread, which only posts messages, so that the screen stays responsive and can stop them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from textual.message import Message

from tui_gru.debugger.program.position import Position
from tui_gru.debugger.session.guards import Progress
from tui_gru.engine.errors import TuiGruError

REPORT_EVERY = 0.1  # seconds between reports of progress
# Seconds. The worker thread sleeps this often and this long to let the UI thread run, which needs the interpreter a dozen
# times per key, and would otherwise wait each time for a thread of many small array operations.
YIELD_EVERY, YIELD_FOR = 0.01, 0.001

Verb = Callable[[Progress | None], object]


class Progressed(Message):
    """Posted when a run has reached `place`, a position or a progress in words."""

    def __init__(self, place: Position | str) -> None:
        super().__init__()
        self.place = place


class Finished(Message):
    """Posted when a run has ended; `problem` is the error message, empty without an error."""

    def __init__(self, problem: str = "") -> None:
        super().__init__()
        self.problem = problem


@dataclass
class Run:
    """The progress of a run: its first batch, its number of batches (None if unknown), and the time of its start."""

    first: int
    batches: int | None
    begun: float

    def describe(self, place: Position | str) -> str:
        """Return the progress as `epoch 120 · 41 % · 3 s left`."""
        if isinstance(place, str):
            return place
        done = place.number - self.first
        words = [f"epoch {place.epoch + 1:,}"]
        if self.batches:
            part = min(max(done / self.batches, 1e-9), 1)
            left = (time.monotonic() - self.begun) * (1 - part) / part
            words += [f"{part:.0%}".replace("%", " %"), f"{_duration(left)} left"]
        else:
            words.append(f"{done:,} batches" if done >= 0 else f"{-done:,} batches back")
        return " · ".join(words)


def carry_out(verb: Verb, post: Callable[[Message], object]) -> None:
    """Execute a verb in this thread, and post its progress and its end."""
    last = yielded = time.monotonic()

    def progress(place: Position | str) -> None:
        nonlocal last, yielded
        now = time.monotonic()
        if now - yielded >= YIELD_EVERY:
            time.sleep(YIELD_FOR)
            yielded = time.monotonic()
        if now - last >= REPORT_EVERY:
            last = now
            post(Progressed(place))

    try:
        verb(progress)
    except Exception as error:
        post(Finished(problem_of(error, "a run")))
    except BaseException:
        post(Finished("stopped"))
        raise
    else:
        post(Finished())


def problem_of(error: Exception, doing: str) -> str:
    """Return the message of an error: its text if it is a `TuiGruError`, otherwise a notice of an internal error.

    For an internal error, a report is written; `doing` is what failed, in words.
    """
    if isinstance(error, TuiGruError):
        return str(error)
    from tui_gru.debugger.storage.error_reports import reported  # imported late: rarely needed

    return reported(error, doing)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
