"""What executes verbs: a runner with worker threads, and repeated steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from threading import Event
from typing import Any, Protocol

from textual.message import Message
from textual.timer import Timer

from tui_gru.debugger.position import Position
from tui_gru.engine.numbers import duration
from tui_gru.errors import TuiGruError
from tui_gru.session.answers import place_in_words
from tui_gru.session.snapshot import RunPace, Snapshot
from tui_gru.session.travel import SearchProgress
from tui_gru.tui.keys import Step, sign_of_key, with_keys
from tui_gru.tui.session_screen import SessionScreen, problem_of

# ------------------------------------------------------------------------------
# Executes verbs of a session: quick ones in the UI thread, others in a worker thread that can be interrupted.


# Seconds between the pictures of a run; how many times as long as the last picture took the run computes before the next one;
# the most seconds for which it waits for a picture; seconds between reports in words where there are no pictures for so long.
SHOW_EVERY, SHOW_SHARE, LONGEST_WAIT, REPORT_EVERY = 0.31, 20, 0.1, 1.0
SILENT = 0.3  # seconds after which a run that has not reported yet is said to go on
LOOK_EVERY = 0.01  # seconds between two looks at whether a picture is due; a small batch takes less time than the look


class RunFunction(Protocol):
    """A verb of the session, which reports its progress."""

    def __call__(self, *, progress: SearchProgress | None) -> object:
        raise NotImplementedError


Then = Callable[[Any], object]
AT_ONCE = 0.05  # seconds; verbs that take no longer run in the UI thread
FADING = 0.8  # the factor by which the estimate of the time of a batch decays, since a slow batch may be due to the machine
LARGE = 2**22  # bytes of records; batches that compute more never run in the UI thread, also before a time has been measured
FEW = 8  # batches; more never run in the UI thread, since the estimate may be too low


@dataclass
class Progressed(Message):
    """Posted when a run has reached `place`, a position or a progress in words; with what is to be drawn of it, if anything, and
    how fast the run is."""

    place: Position | str
    passing: Snapshot | None = None
    pace: RunPace | None = None


@dataclass
class Finished(Message):
    """Posted when a run has ended, with the result of its verb, or with an error message as `problem`."""

    result: object = None
    problem: str = ""


@dataclass
class RunProgress:
    """The progress of a run: its first batch, its number of batches (None if unknown), the time of its start, and whether it has
    said how far it is."""

    first: int
    batches: int | None
    begun: float
    reported: bool = False

    def describe(self, place: Position | str) -> str:
        """Return the progress as `epoch 120 · 41 % · 3 s left`."""
        if isinstance(place, str):
            return place
        done = place.number - self.first
        words = [f"epoch {place.epoch + 1:,}"]
        if self.batches:
            part = min(max(done / self.batches, 1e-9), 1)
            left = (time.monotonic() - self.begun) * (1 - part) / part
            words += [f"{part:.0%}".replace("%", " %"), f"{duration(left)} left"]
        else:
            words.append(f"{done:,} batches" if done >= 0 else f"{-done:,} batches back")
        return " · ".join(words)


class Runner:
    """Executes one verb at a time.

    `after_run` is called with the number of batches passed, in the thread of a run, when the run ends without an interrupt.
    `waiting` returns the number of keys that wait for the end of a run.
    """

    def __init__(self, screen: SessionScreen, after_run: Callable[[int], None], waiting: Callable[[], int]) -> None:
        self._screen, self._after_run, self._waiting = screen, after_run, waiting
        self._run: RunProgress | None = None
        self._then: Then | None = None
        self._opens = False
        self.result: object = None  # of the last verb
        self._shown, self._drawing_seconds = Event(), 0.0  # set while no picture is being drawn; seconds the last one took
        self._shown.set()
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
        screen.session.interrupts.forget()
        self._then, self._opens = then, opens
        screen.session.keep_draft()
        if batches is None or not self.is_quick(batches):
            self._run = RunProgress(screen.session.position.number, batches, time.monotonic())
            screen.refresh_bindings()
            screen.run_worker(partial(self._work, verb), thread=True, exclusive=True, exit_on_error=True)
            screen.set_timer(SILENT, partial(self._say_that_it_runs, self._run))  # the first batch may take seconds
            return

        def keep_draft(_: Position | str) -> None:
            screen.session.keep_draft()

        begun, result = time.perf_counter(), None
        try:
            result = verb(progress=keep_draft)
        except Exception as error:
            screen.failed(error, "a verb")
            self._then = None
        if batches:
            self._batch_seconds = max(self._batch_seconds * FADING, (time.perf_counter() - begun) / batches)
        self._show(result)

    def is_quick(self, batches: int | None) -> bool:
        """Return True if a verb that computes this number of batches, None if it is unknown, runs in the UI thread."""
        if batches is None or batches > FEW or batches * self._batch_seconds > AT_ONCE:
            return False
        return batches * self._screen.session.config.record_bytes <= LARGE

    def expect(self, seconds: float) -> None:
        """Expect the next batch to take this many seconds."""
        self._batch_seconds = max(self._batch_seconds, seconds)

    def _work(self, verb: RunFunction) -> None:
        """Execute a verb in this thread, and post its progress and its end."""
        screen, session = self._screen, self._screen.session
        reported = shown = due = begun = time.monotonic()
        computed = time.thread_time()
        pictures, drafting = False, 0.0  # seconds of drafts since the last picture, which wait for one as pictures do
        before, interrupts = session.position.number, session.interrupts.count
        ticks = session.program.ticks
        done = session.position.tick // ticks

        def progress(place: Position | str) -> None:
            nonlocal reported, shown, due, computed, pictures, drafting
            begun_draft = time.thread_time()
            if session.keep_draft():
                drafting += time.thread_time() - begun_draft
            now = time.monotonic()
            if now < due:
                return
            due, picture = now + LOOK_EVERY, None
            if (
                self._shown.is_set()
                and now - shown >= SHOW_EVERY
                and time.thread_time() - computed >= SHOW_SHARE * (self._drawing_seconds + drafting)
            ):
                picture = session.passing(writes=True)
            if picture is not None:
                self._shown.clear()
                pictures, shown, computed, drafting = True, now, time.thread_time(), 0.0
            # The words come with the pictures, so that both are about one batch, unless pictures are seldom.
            if picture is not None or now - reported >= (REPORT_EVERY if pictures else SHOW_EVERY):
                reported = now
                pace = None if isinstance(place, str) else RunPace(place.tick // ticks - done, now - begun)
                screen.post_message(Progressed(place, picture, pace))
                if picture is not None:  # beside a thread that computes, drawing takes twice its time
                    self._shown.wait(LONGEST_WAIT)

        try:
            result = verb(progress=progress)
            if screen.session.interrupts.count == interrupts:
                self._after_run(screen.session.position.number - before)
        except Exception as error:
            screen.post_message(Finished(problem=problem_of(error, "a run")))
        except BaseException:
            screen.post_message(Finished(problem="stopped"))
            raise
        else:
            screen.post_message(Finished(result))

    def _say_that_it_runs(self, run: RunProgress) -> None:
        """Say that a run goes on, until it reports how far it is."""
        if self._run is run and not run.reported:
            self._screen.say(f"running · {sign_of_key(self._screen, 'stop')} stops")

    def progressed(self, event: Progressed) -> None:
        if self._run is not None:
            self._run.reported = True
            waiting = self._waiting()
            behind = "" if not waiting else f" · {waiting} {'key waits' if waiting == 1 else 'keys wait'}"
            stop = sign_of_key(self._screen, "stop")
            self._screen.say(f"running · {self._run.describe(event.place)} · {stop} stops{behind}")
            if event.passing is not None:
                self._screen.when_drawn(partial(self._drawn, time.thread_time()))
                self._screen.show_passing(event.passing, event.pace)

    def _drawn(self, begun: float) -> None:
        self._drawing_seconds = time.thread_time() - begun
        self._shown.set()

    def finished(self, event: Finished) -> None:
        run, self._run = self._run, None
        self._shown.set()
        self._screen.session.interrupts.forget()
        self._batch_seconds *= FADING
        self._screen.say(event.problem, warning=bool(event.problem))
        self._screen.refresh_bindings()
        if event.problem:
            self._then = None
        if run is not None:
            batches = self._screen.session.position.number - run.first
            self._screen.follow_on(batches, RunPace(batches, time.monotonic() - run.begun))
        self._show(event.result)

    def _show(self, result: object) -> None:
        then, self._then, self.result = self._then, None, result
        self._screen.show_now()
        if then is not None:
            then(result)


# ------------------------------------------------------------------------------
# Findings after a long run.


MANY_BATCHES = 250  # findings are searched after runs of this length: the search takes about as long as 24 batches, 10 % of it


def look_after_run(screen: SessionScreen, batches: int) -> None:
    """Look for findings after a long run, such that the header can show their number. Called in the thread of the run."""
    if batches >= MANY_BATCHES:
        with suppress(TuiGruError):  # it was interrupted
            screen.session.findings()


# ------------------------------------------------------------------------------
# Repeated steps: repeats the last step once, or several times a second (play).


SPEEDS = (1, 2, 5, 10, 20, 50)  # steps per second
# Of a run that learns, the steps of play are batches, more each time: with 29 % more a thousand batches take nine seconds.
GROWTH, GROWING_PACE = 1.29, 3  # steps per second
_MANY = {"op": "lines", "timestep": "timesteps", "phase": "phases", "batch": "batches", "epoch": "epochs"}


def growing_step(batches: int) -> int:
    """Return how many more batches the next step of play takes after so many."""
    return max(math.ceil(GROWTH * batches) - batches, 1)


class Play:
    """Step, repeat and play. `speed` is an index of `SPEEDS`.

    Play repeats the last step. If that was a batch or an epoch forwards, or there was none, and the model learns a text or numbers
    of one's own, it takes more batches each time.
    """

    def __init__(self, screen: SessionScreen, runner: Runner) -> None:
        self._screen, self._runner = screen, runner
        self._last, self._is_first = Step("timestep", 1), True
        self._timer: Timer | None = None
        self._grows = False  # True if each step takes more batches than the one before
        self._interrupts = 0  # the number of interrupts when the timer was started
        self.speed = 2

    @property
    def playing(self) -> bool:
        """True while steps are repeated automatically."""
        return self._timer is not None

    def walk(self, step: Step, times: int = 1) -> None:
        """Step so many times. `repeat` and play take single steps like this one afterwards."""
        self._last, self._is_first = step, False
        session, snapshot = self._screen.session, self._screen.snapshot

        def say(_: object) -> None:
            """Say which end of the run this is, if there was no step to take."""
            if self._screen.snapshot.position == snapshot.position and self._screen.notice is None:
                self._screen.answer(place_in_words(snapshot))

        self._runner.do(partial(session.step, step.level, step.direction * times), batches=step.batches(session, times), then=say)

    def is_quick(self, step: Step) -> bool:
        """Return True if a step from here would not need a thread."""
        return self._runner.is_quick(step.batches(self._screen.session))

    def walk_each(self, steps: Sequence[Step]) -> None:
        """Take steps as if one were typed after the other, but show only where they end."""
        session = self._screen.session

        def run(progress: SearchProgress | None) -> None:
            interrupts = session.interrupts.count
            for step, same in groupby(steps):
                session.step_each(step.level, step.direction * len(list(same)), progress=progress)
                if session.interrupts.count != interrupts:
                    return
                if progress is not None:
                    progress(session.position)

        self._runner.do(run, batches=None)

    def repeat(self, times: int) -> None:
        """Repeat the last step."""
        self.walk(self._last, times)

    def toggle(self) -> None:
        if self._timer is not None:
            self.pause()
        else:
            self._interrupts = self._screen.session.interrupts.count
            self._grows = self._screen.follows_runs and (self._is_first or self._last.level in ("batch", "epoch"))
            self._grows = self._grows and self._last.direction > 0
            if self._grows:
                self._last = Step("batch", 1)
            self._timer = self._screen.set_interval(1 / (GROWING_PACE if self._grows else SPEEDS[self.speed]), self.step)
            self._screen.say(self.in_words)

    def change_speed(self, change: int) -> None:
        self.set_speed(self.speed + change)
        if self._timer is not None:
            self.pause()
            self.toggle()
        else:
            self._screen.say(f"play takes {SPEEDS[self.speed]} steps a second")

    def set_pace(self, steps: int) -> None:
        """Take the pace of `SPEEDS` that is nearest to so many steps a second."""
        self.change_speed(min(range(len(SPEEDS)), key=lambda i: abs(SPEEDS[i] - steps)) - self.speed)

    def set_speed(self, speed: int) -> None:
        """Set the index of `SPEEDS`, clipped to the valid range."""
        self.speed = min(max(speed, 0), len(SPEEDS) - 1)

    @property
    def in_words(self) -> str:
        """What play does, and the keys that change it."""
        if self._grows:
            return with_keys(self._screen, f"playing · {GROWTH - 1:.0%} more batches each time · <play> pauses").replace("%", " %")
        steps = f"playing · {SPEEDS[self.speed]} {_MANY[self._last.level]} a second"
        return with_keys(self._screen, f"{steps} · + - speed · <play> pauses")

    def step(self) -> None:
        """Take the next step, unless play has been paused or a step is under way."""
        screen = self._screen
        if not self.playing or self._runner.running:  # after a pause, a call of the timer may still be on its way
            return
        if screen.session.interrupts.count != self._interrupts:  # a key has stopped the step before
            self.pause()
            return
        before = screen.snapshot.position
        self.walk(self._last, growing_step(before.tick // screen.snapshot.program.ticks) if self._grows else 1)
        if self._grows:
            screen.follow()
        outcome = screen.session.outcome
        stopped = outcome.stopped_by is not None or outcome.notice is not None
        if not self._runner.running and (stopped or screen.snapshot.position == before):
            self.pause()
        else:
            screen.say(self.in_words)

    def pause(self) -> None:
        """Stop playing."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        self._screen.say_notice()
