"""A screen on which one walks through time: steps with counts, the last one again, and play."""

from __future__ import annotations

from textual.timer import Timer

from tui_gru.debugger.session.session import Session
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.tui.key_signs import with_keys
from tui_gru.tui.screens.running import RunningScreen

SPEEDS = (1, 2, 5, 10, 20, 50)  # steps a second
LARGEST_COUNT = 10**9
_MANY = {"op": "lines", "timestep": "timesteps", "phase": "phases", "batch": "batches", "epoch": "epochs"}


class WalkingScreen(RunningScreen):
    """Subclasses also say how the count typed so far is shown (`show_count`)."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.snapshot: Snapshot = session.snapshot()
        self._count = 0
        self._last_walk = ("timestep", 1)
        self._play: Timer | None = None
        self.speed = 2

    def show_count(self, count: int) -> None:
        """Show the count typed so far; 0 is none."""
        raise NotImplementedError

    @property
    def counting(self) -> bool:
        """Whether a count has been typed for the next step."""
        return self._count > 0

    @property
    def playing(self) -> bool:
        """Whether it steps by itself."""
        return self._play is not None

    def take_count(self) -> int:
        """The count typed for this step, 1 if none was; the next begins anew."""
        count, self._count = self._count or 1, 0
        self.show_count(0)
        return count

    def action_digit(self, digit: int) -> None:
        self._count = min(self._count * 10 + digit, LARGEST_COUNT)
        self.show_count(self._count)

    def walk(self, level: str, count: int) -> None:
        """Step; its level and direction are remembered for `.` and for play, which take one of them at a time."""
        self._last_walk = (level, 1 if count > 0 else -1)
        per = {"epoch": self.snapshot.program.num_batches, "batch": 1}.get(level, 1 / self.snapshot.program.seq_length)
        batches = max(1, round(abs(count) * per))
        if count < 0:
            batches = self.session.batches_to(max(self.snapshot.position.tick - batches * self.snapshot.program.ticks, 0))
        self.do(lambda progress: self.session.step(level, count, progress=progress), batches=batches)

    def action_step(self, level: str, direction: int) -> None:
        self.walk(level, direction * self.take_count())

    def action_repeat(self) -> None:
        level, count = self._last_walk
        self.walk(level, count * self.take_count())

    def action_play(self) -> None:
        if self._play is not None:
            self.pause()
        else:
            self._play = self.set_interval(1 / SPEEDS[self.speed], self._play_on)
            self.say(self._pace)

    def action_speed(self, change: int) -> None:
        self.set_speed(self.speed + change)
        if self._play is not None:
            self.pause()
            self.action_play()
        else:
            self.say(f"play takes {SPEEDS[self.speed]} steps a second")

    def set_speed(self, speed: int) -> None:
        """Which of `SPEEDS` play takes, the nearest there is."""
        self.speed = min(max(speed, 0), len(SPEEDS) - 1)

    @property
    def _pace(self) -> str:
        steps = f"playing · {SPEEDS[self.speed]} {_MANY[self._last_walk[0]]} a second"
        return with_keys(self, f"{steps} · <play.faster> <play.slower> speed · <play> pauses")

    def _play_on(self) -> None:
        if self.running:
            return
        before = self.snapshot.position
        self.walk(*self._last_walk)
        outcome = self.session.outcome
        stopped = outcome.stopped_by is not None or outcome.notice is not None
        if not self.running and (stopped or self.snapshot.position == before):
            self.pause()
        else:
            self.say(self._pace)

    def pause(self) -> None:
        """Play no more."""
        if self._play is not None:
            self._play.stop()
            self._play = None
        self.say_notice()
