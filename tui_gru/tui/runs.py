"""Runs that may take long: done in a thread that only posts, so that the screen lives on and can stop them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from textual.message import Message

from tui_gru.debugger.program.position import Position
from tui_gru.debugger.session.guards import Progress
from tui_gru.engine.errors import TuiGruError

REPORT_EVERY = 0.1  # seconds
# Seconds. The screen's thread, which needs the interpreter a dozen times for a key, is let in this often and for this long:
# against a thread of many small array operations it would otherwise wait for each turn.
YIELD_EVERY, YIELD_FOR = 0.01, 0.001

Verb = Callable[[Progress | None], object]


class Progressed(Message):
    """A run has come to `place`, or as far as that says in words."""

    def __init__(self, place: Position | str) -> None:
        super().__init__()
        self.place = place


class Finished(Message):
    """A run has ended; `problem` says why, where it could not go on."""

    def __init__(self, problem: str = "") -> None:
        super().__init__()
        self.problem = problem


@dataclass
class Run:
    """How far a run of `batches` batches from batch `first` has come, and how long the rest will take."""

    first: int
    batches: int | None
    begun: float

    def describe(self, place: Position | str) -> str:
        """`epoch 120 · 41 % · 3 s left`."""
        if isinstance(place, str):
            return place
        done = place.number - self.first
        words = [f"epoch {place.epoch + 1}"]
        if self.batches:
            part = min(max(done / self.batches, 1e-9), 1)
            left = (time.monotonic() - self.begun) * (1 - part) / part
            words += [f"{part:.0%}".replace("%", " %"), f"{_duration(left)} left"]
        else:
            words.append(f"{done} batches")
        return " · ".join(words)


def carry_out(verb: Verb, post: Callable[[Message], object]) -> None:
    """Do a verb in this thread; post its progress and its end."""
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
    """What to say of an error: what is wrong with what was asked for; else that it is an internal one, with a report of it.

    `doing` says what was being done.
    """
    if isinstance(error, TuiGruError):
        return str(error)
    from tui_gru.debugger.storage.error_reports import reported  # late: it is hardly ever needed

    return reported(error, doing)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
