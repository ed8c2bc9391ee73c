"""Repeated steps: repeats the last step once, or several times a second (play)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.timer import Timer

from tui_gru.tui import answers
from tui_gru.tui.verbs.verb import with_keys

if TYPE_CHECKING:
    from tui_gru.debugger.program.steps import Level
    from tui_gru.tui.screens.main import MainScreen

SPEEDS = (1, 2, 5, 10, 20, 50)  # steps per second
_MANY = {"op": "lines", "timestep": "timesteps", "phase": "phases", "batch": "batches", "epoch": "epochs"}


class Play:
    """Step, repeat and play. `speed` is an index of `SPEEDS`."""

    def __init__(self, screen: MainScreen) -> None:
        self._screen = screen
        self._last: tuple[Level, int] = ("timestep", 1)  # the level and direction of the last step
        self._timer: Timer | None = None
        self.speed = 2

    @property
    def playing(self) -> bool:
        """True while steps are repeated automatically."""
        return self._timer is not None

    def walk(self, level: Level, count: int) -> None:
        """Step `count` times. `repeat` and play take single steps of the same level and direction afterwards."""
        self._last = (level, 1 if count > 0 else -1)
        session, snapshot = self._screen.session, self._screen.snapshot
        per = {"epoch": snapshot.program.num_batches, "batch": 1}.get(level, 1 / snapshot.program.seq_length)
        batches = max(1, round(abs(count) * per))
        if count < 0:
            batches = session.batches_to(max(snapshot.position.tick - batches * snapshot.program.ticks, 0))
        expected = None if session.counts_first else batches

        def say(_: object) -> None:
            """Say which end of the run this is, if there was no step to take."""
            if self._screen.snapshot.position == snapshot.position and self._screen.notice is None:
                self._screen.answer(answers.place_in_words(snapshot))

        self._screen.do(lambda progress: session.step(level, count, progress=progress), batches=expected, then=say)

    def repeat(self, times: int) -> None:
        """Repeat the last step."""
        level, count = self._last
        self.walk(level, count * times)

    def toggle(self) -> None:
        if self._timer is not None:
            self.pause()
        else:
            self._timer = self._screen.set_interval(1 / SPEEDS[self.speed], self._step)
            self._screen.say(self._pace)

    def change_speed(self, change: int) -> None:
        self.set_speed(self.speed + change)
        if self._timer is not None:
            self.pause()
            self.toggle()
        else:
            self._screen.say(f"play takes {SPEEDS[self.speed]} steps a second")

    def set_speed(self, speed: int) -> None:
        """Set the index of `SPEEDS`, clipped to the valid range."""
        self.speed = min(max(speed, 0), len(SPEEDS) - 1)

    @property
    def _pace(self) -> str:
        steps = f"playing · {SPEEDS[self.speed]} {_MANY[self._last[0]]} a second"
        return with_keys(self._screen, f"{steps} · <play.faster> <play.slower> speed · <play> pauses")

    def _step(self) -> None:
        screen = self._screen
        if screen.running:
            return
        before = screen.snapshot.position
        self.walk(*self._last)
        outcome = screen.session.outcome
        stopped = outcome.stopped_by is not None or outcome.notice is not None
        if not screen.running and (stopped or screen.snapshot.position == before):
            self.pause()
        else:
            screen.say(self._pace)

    def pause(self) -> None:
        """Stop playing."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        self._screen.say_notice()
