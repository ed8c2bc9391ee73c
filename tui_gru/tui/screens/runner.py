"""Executes verbs of a session: quick ones in the UI thread, others in a worker thread that can be interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from textual.message import Message

from tui_gru.debugger.program.position import Position
from tui_gru.debugger.session.guards import SearchProgress
from tui_gru.engine.errors import TuiGruError
from tui_gru.tui.verbs.verb import sign_of_key

if TYPE_CHECKING:
    from tui_gru.tui.screens.main import MainScreen

REPORT_EVERY = 0.1  # seconds between reports of progress
# Seconds. The worker thread sleeps this often and this long to let the UI thread run, which needs the interpreter a dozen
# times per key, and would otherwise wait each time for a thread of many small array operations.
YIELD_EVERY, YIELD_FOR = 0.01, 0.001

RunFunction = Callable[[SearchProgress | None], object]
Then = Callable[[Any], object]
AT_ONCE = 0.05  # seconds; verbs that take no longer run in the UI thread
FADING = 0.8  # the factor by which the estimate of the time of a batch decays, since a slow batch may be due to the machine
FEW = 8  # batches; more never run in the UI thread, since the estimate may be too low


@dataclass
class Progressed(Message):
    """Posted when a run has reached `place`, a position or a progress in words."""

    place: Position | str


@dataclass
class Finished(Message):
    """Posted when a run has ended, with the result of its verb, or with an error message as `problem`."""

    result: object = None
    problem: str = ""


@dataclass
class RunProgress:
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


class Runner:
    """Executes one verb at a time.

    `after_run` is called with the number of batches passed, in the thread of a run, when the run ends without an interrupt.
    `waiting` returns the number of keys that wait for the end of a run.
    """

    def __init__(self, screen: MainScreen, after_run: Callable[[int], None], waiting: Callable[[], int]) -> None:
        self._screen, self._after_run, self._waiting = screen, after_run, waiting
        self._run: RunProgress | None = None
        self._then: Then | None = None
        self._opens = False
        self._batch_seconds = 0.0  # the estimate of the time of a batch: a decaying maximum

    @property
    def running(self) -> bool:
        """True while a thread works on the session, which must not be used meanwhile."""
        return self._run is not None

    @property
    def expecting(self) -> bool:
        """True during a run that opens something that the next key may be meant for."""
        return self.running and self._opens

    def do(self, verb: RunFunction, *, batches: int | None = 1, then: Then | None = None, opens: bool = False) -> None:
        """Execute a verb of the session, unless another is running.

        `batches` is the approximate number of batches that it computes, 0 if it is quick, None if unknown. `then` is called with
        the result of the verb after the new snapshot has been shown, unless the verb failed. With `opens`, `then` opens something
        that keys typed meanwhile wait for.
        """
        if self.running:
            return
        screen = self._screen
        screen.say("")
        screen.forget_notice()
        screen.session.forget_interrupt()
        self._then, self._opens = then, opens
        if batches is not None and batches <= FEW and batches * self._batch_seconds <= AT_ONCE:
            self._do_at_once(verb, batches)
        else:
            self._run = RunProgress(screen.session.position.number, batches, time.monotonic())
            screen.refresh_bindings()
            screen.run_worker(partial(self._work, verb), thread=True, exclusive=True, exit_on_error=True)

    def expect(self, seconds: float) -> None:
        """Expect the next batch to take this many seconds."""
        self._batch_seconds = max(self._batch_seconds, seconds)

    def _do_at_once(self, verb: RunFunction, batches: int) -> None:
        begun, result = time.perf_counter(), None
        try:
            result = verb(None)
        except Exception as error:
            self._screen.failed(error, "a verb")
            self._then = None
        if batches:
            self._batch_seconds = max(self._batch_seconds * FADING, (time.perf_counter() - begun) / batches)
        self._show(result)

    def _work(self, verb: RunFunction) -> None:
        """Execute a verb in this thread, and post its progress and its end."""
        screen, session = self._screen, self._screen.session
        last = yielded = time.monotonic()

        def progress(place: Position | str) -> None:
            nonlocal last, yielded
            now = time.monotonic()
            if now - yielded >= YIELD_EVERY:
                time.sleep(YIELD_FOR)
                yielded = time.monotonic()
            if now - last >= REPORT_EVERY:
                last = now
                screen.post_message(Progressed(place))

        before, interrupts = session.position.number, session.interrupts
        try:
            result = verb(progress)
            if screen.session.interrupts == interrupts:
                self._after_run(screen.session.position.number - before)
        except Exception as error:
            screen.post_message(Finished(problem=problem_of(error, "a run")))
        except BaseException:
            screen.post_message(Finished(problem="stopped"))
            raise
        else:
            screen.post_message(Finished(result))

    def progressed(self, event: Progressed) -> None:
        if self._run is not None:
            waiting = self._waiting()
            behind = "" if not waiting else f" · {waiting} {'key waits' if waiting == 1 else 'keys wait'}"
            stop = sign_of_key(self._screen, "stop")
            self._screen.say(f"running · {self._run.describe(event.place)} · {stop} stops{behind}")

    def finished(self, event: Finished) -> None:
        self._run = None
        self._screen.session.forget_interrupt()
        self._batch_seconds *= FADING
        self._screen.say(event.problem, warning=bool(event.problem))
        self._screen.refresh_bindings()
        if event.problem:
            self._then = None
        self._show(event.result)

    def _show(self, result: object) -> None:
        then, self._then = self._then, None
        self._screen.show_now()
        if then is not None:
            then(result)
