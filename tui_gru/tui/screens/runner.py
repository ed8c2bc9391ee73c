"""Verbs of a session, carried out at once where they are quick, else in a thread that the screen can stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from tui_gru.tui.look.key_signs import sign_of_key
from tui_gru.tui.runs import Finished, Progressed, Run, Verb, carry_out

if TYPE_CHECKING:
    from tui_gru.debugger.session.guards import Progress
    from tui_gru.tui.screens.main import MainScreen

AT_ONCE = 0.05  # seconds: what takes no longer than this is done at once, without a thread
FADING = 0.8  # how fast it is forgotten that a batch was slow: it may have been the machine
FEW = 8  # batches: more are never done at once, since what they cost may not have been seen yet


class Runner:
    """Runs one verb at a time. `after_run` is called in the thread of a run that nobody has stopped, at its end, with how many
    batches it went on; `waiting` says how many keys wait for the end of a run."""

    def __init__(self, screen: MainScreen, after_run: Callable[[int], None], waiting: Callable[[], int]) -> None:
        self._screen, self._after_run, self._waiting = screen, after_run, waiting
        self._run: Run | None = None
        self._then: Callable[[], None] | None = None
        self._opens = False
        self._batch_seconds = 0.0  # the most that a batch has cost lately

    @property
    def running(self) -> bool:
        """Whether a thread is at work on the session, which then is not to be touched."""
        return self._run is not None

    @property
    def expecting(self) -> bool:
        """Whether the run opens something that the next key may be for."""
        return self.running and self._opens

    def do(self, verb: Verb, *, batches: int | None = 1, then: Callable[[], None] | None = None, opens: bool = False) -> None:
        """Carry out a verb of the session. `batches` is about how many it runs, 0 of what is quick; None where that is not known.

        Once it is done, and shown, `then` is called, unless it could not be done. With `opens`, that opens something for the keys
        typed meanwhile, and they wait for it.
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
            self._run = Run(screen.session.position.number, batches, time.monotonic())
            screen.refresh_bindings()
            screen.run_worker(partial(self._work, verb), thread=True, exclusive=True, exit_on_error=True)

    def expect(self, seconds: float) -> None:
        """The next batch may take this long."""
        self._batch_seconds = max(self._batch_seconds, seconds)

    def _do_at_once(self, verb: Verb, batches: int) -> None:
        begun = time.perf_counter()
        try:
            verb(None)
        except Exception as error:
            self._screen.failed(error, "a verb")
            self._then = None
        if batches:
            self._batch_seconds = max(self._batch_seconds * FADING, (time.perf_counter() - begun) / batches)
        self._show()

    def _work(self, verb: Verb) -> None:
        screen = self._screen

        def whole(progress: Progress | None) -> None:
            before, interrupts = screen.session.position.number, screen.session.interrupts
            verb(progress)
            if screen.session.interrupts == interrupts:
                self._after_run(screen.session.position.number - before)

        carry_out(whole, screen.post_message)

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
        self._screen.say(event.problem, warning=True)
        self._screen.refresh_bindings()
        if event.problem:
            self._then = None
        self._show()

    def _show(self) -> None:
        then, self._then = self._then, None
        self._screen.show_now()
        if then is not None:
            then()
