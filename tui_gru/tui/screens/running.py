"""A screen that carries out the verbs of a session: at once where they are quick, else in a thread that it can stop."""

from __future__ import annotations

import time
from collections.abc import Callable

from textual import work
from textual.message import Message
from textual.screen import Screen

from tui_gru.debugger.session.guards import Progress
from tui_gru.debugger.session.session import Session
from tui_gru.tui.key_signs import sign_of_key
from tui_gru.tui.runs import Finished, Progressed, Run, Verb, carry_out, problem_of

AT_ONCE = 0.05  # seconds: what takes no longer than this is done at once, without a thread
FADING = 0.8  # how fast it is forgotten that a batch was slow: it may have been the machine
FEW = 8  # batches: more are never done at once, since what they cost may not have been seen yet


class RunningScreen(Screen[None]):
    """Subclasses say how to speak (`say`) and how to show what has come about (`show_now`)."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._run: Run | None = None
        self._then: Callable[[], None] | None = None
        self._opens = False
        self._batch_seconds = 0.0  # the most that a batch has cost lately

    def say(self, message: str, *, warning: bool = False) -> None:
        """Say something, until the next key."""
        raise NotImplementedError

    def say_problem(self, error: Exception, doing: str) -> None:
        """Say what is wrong. Of an error that nothing expects a report is written; `doing` says what was being done."""
        problem = problem_of(error, doing)
        if self.is_attached:  # else the program is about to end
            self.say(problem, warning=True)

    def say_notice(self) -> None:
        """Say what the session has to say: an answer in plain ink, what is wrong as a warning."""
        notice = self.session.outcome.notice
        self.say(self.session.notice, warning=notice is not None and notice.warning)

    def answer(self, words: str) -> None:
        """Say what a verb has done, and what the session has to say besides."""
        self.session.add_notice(words, first=True)
        self.say_notice()

    def show_now(self) -> None:
        """Show the session as it is now."""
        raise NotImplementedError

    @property
    def running(self) -> bool:
        """Whether a thread is at work on the session, which then is not to be touched."""
        return self._run is not None

    @property
    def expecting(self) -> bool:
        """Whether something that was asked for is still to come, which the next key may be for."""
        return self.running and self._opens

    @property
    def waiting(self) -> int:
        """How many keys wait for the end of a run."""
        return 0

    def do(self, verb: Verb, *, batches: int | None = 1, then: Callable[[], None] | None = None, opens: bool = False) -> None:
        """Carry out a verb of the session. `batches` is about how many it runs, 0 of what is quick; None where that is not known.

        Once it is done, and shown, `then` is called, unless it could not be done. With `opens`, that opens something for the keys
        typed meanwhile, and they wait for it.
        """
        if self.running:
            return
        self.say("")
        self.session.notice = ""
        self.session.forget_interrupt()
        self._then, self._opens = then, opens
        if batches is not None and batches <= FEW and batches * self._batch_seconds <= AT_ONCE:
            self._do_at_once(verb, batches)
        else:
            self._run = Run(self.session.position.number, batches, time.monotonic())
            self.refresh_bindings()
            self._work(verb)

    def _do_at_once(self, verb: Verb, batches: int) -> None:
        begun = time.perf_counter()
        try:
            verb(None)
        except Exception as error:
            self.say_problem(error, "a verb")
            self._then = None
        if batches:
            self._batch_seconds = max(self._batch_seconds * FADING, (time.perf_counter() - begun) / batches)
        self._shown_and_done()

    async def _dispatch_message(self, message: Message) -> None:
        """Say what goes wrong while a message is dealt with: one error must end neither the screen nor the session."""
        try:
            await super()._dispatch_message(message)
        except Exception as error:
            if not self.is_mounted:
                raise
            self.say_problem(error, f"dealing with {type(message).__qualname__}")

    @work(thread=True, exclusive=True, exit_on_error=True)
    def _work(self, verb: Verb) -> None:
        def whole(progress: Progress | None) -> None:
            before, interrupts = self.session.position.number, self.session.interrupts
            verb(progress)
            if self.session.interrupts == interrupts:
                self.after_run(self.session.position.number - before)

        carry_out(whole, self.post_message)

    def after_run(self, batches: int) -> None:
        """Called in the thread of a run that nobody has stopped, at its end, with how many batches it went on."""

    def on_progressed(self, event: Progressed) -> None:
        if self._run is not None:
            waiting = self.waiting
            behind = "" if not waiting else f" · {waiting} {'key waits' if waiting == 1 else 'keys wait'}"
            self.say(f"running · {self._run.describe(event.place)} · {sign_of_key(self, 'stop')} stops{behind}")

    def on_finished(self, event: Finished) -> None:
        self._run = None
        self.session.forget_interrupt()
        self._batch_seconds *= FADING
        self.say(event.problem, warning=True)
        self.refresh_bindings()
        if event.problem:
            self._then = None
        self._shown_and_done()

    def _shown_and_done(self) -> None:
        then, self._then = self._then, None
        self.show_now()
        if then is not None:
            then()
