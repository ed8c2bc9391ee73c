"""The one face of the debugger: verbs in (step, seek, edit, sample), values and immutable snapshots out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from tui_gru.debugger import edits
from tui_gru.debugger.branches import Branches
from tui_gru.debugger.edits import Edit
from tui_gru.debugger.history import Budget
from tui_gru.debugger.moment import readable_names, unknown_name
from tui_gru.debugger.position import Position, parse_place
from tui_gru.debugger.program import Program, program_of
from tui_gru.debugger.segment import Action, Settings
from tui_gru.debugger.snapshot import Snapshot
from tui_gru.debugger.state import State, Stride
from tui_gru.debugger.steps import check_level
from tui_gru.debugger.surviving import Surviving, recorded
from tui_gru.debugger.timeline import Change, Timeline
from tui_gru.engine.config import Config, check_learning_rate
from tui_gru.engine.corpus import Corpus
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.initial import initial_parameters
from tui_gru.engine.parameters import Array, parameter_names
from tui_gru.engine.record import BatchRecord
from tui_gru.engine.sampling import sample
from tui_gru.engine.trainer import Trainer

HISTORY_MEMORY = 256 * 2**20
ALIASES = {"lr": "learning_rate"}

Progress = Callable[[Position], None]


class Session(Surviving):
    """A training run that can be stepped, forwards and backwards in time.

    Takes every option of `Config.of` by keyword; the defaults are the tutorial's. `epochs` ends the run there; without it a run
    has no end. `history_memory` bounds the checkpoints, in bytes. Raises `TuiGruError` for bad input.
    """

    def __init__(self, *, epochs: int | None = None, history_memory: int = HISTORY_MEMORY, **options: Any) -> None:
        config = Config.of(**options)
        if epochs is not None and (isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1):
            raise TuiGruError(f"epochs must be a whole number, at least 1, not {epochs!r}", option="epochs")
        settings, budget = Settings(Trainer(config, Corpus(config)), False, config.learning_rate), Budget(history_memory)
        timeline = Timeline.begin(program_of(config), settings, initial_parameters(config), budget)
        self._begin(State(config, epochs, budget, Branches(timeline)))

    def _begin(self, state: State) -> None:
        self.config, self.epochs = state.config, state.epochs
        self.program: Program = program_of(state.config)
        self.stop_on_nan, self.samples, self.notice = state.stop_on_nan, state.samples, ""
        self._budget, self._branches = state.budget, state.branches
        self._stride = state.stride
        self._interrupted = threading.Event()
        self._moment = self._timeline.moment(state.tick)
        super()._begin(state)

    # Where one is

    @property
    def position(self) -> Position:
        """The place in time: it says which line has just been executed."""
        return self._moment.position

    @property
    def newest(self) -> Position:
        """The furthest place reached on this branch."""
        return self._timeline.position(self._branches.newest)

    @property
    def end(self) -> Position | None:
        """The last place of a run of `epochs`; None where the run has no end."""
        if self.epochs is None:
            return None
        return self._timeline.position(self._timeline.ruler("epoch").tick(self.epochs))

    @property
    def _timeline(self) -> Timeline:
        return self._branches.timeline

    @property
    def _settings(self) -> Settings:
        return self._timeline.segment_at(self.position.tick).settings

    # Moving in time

    @recorded
    def step(self, level: str = "timestep", count: int = 1, *, progress: Progress | None = None) -> Position:
        """Step `count` ops, timesteps, phases, batches or epochs; a negative count goes back in time. Returns the position.

        A step ends where its level does: `batch` goes to the end of the batch. In reverse it leads back to where one was.
        """
        ruler = self._timeline.ruler(check_level(level))
        if isinstance(count, bool) or not hasattr(count, "__index__"):
            raise TuiGruError(f"a count is a whole number, not {count!r}")
        stride = self._stride
        if stride is None or stride.level != level or stride.at != self.position.tick:
            stride = Stride(level, self.position.tick, 0, self.position.tick)
        passed = ruler.count(stride.origin)
        net = stride.net + int(count)
        if net > 0:
            target = ruler.tick(passed + net)
        elif net == 0:
            target = stride.origin
        else:
            on_a_place = ruler.tick(passed) == stride.origin
            target = ruler.tick(passed + net + (0 if on_a_place else 1))
        reached = self._go(target, progress)
        whole = reached.tick == target or net <= 0
        self._stride = Stride(level, stride.origin, net, reached.tick) if whole else None
        return reached

    @recorded
    def seek(self, place: str | Position | int, *, progress: Progress | None = None) -> Position:
        """Go to `e3 b2 t1` (counted from 1: just after timestep 1 of batch 2 of epoch 3), to a `Position`, or to a tick.

        A moment not reached yet is run to.
        """
        self._stride = None
        return self._go(self._tick_of(place), progress)

    @recorded
    def sgd(self, *, progress: Progress | None = None) -> Position:
        """An SGD step: finish this batch from wherever one is in it, backward and update. Returns the position."""
        here = self.position
        batch = here.tick // self.program.ticks
        if not self._timeline_learns(batch):
            self._change(replace(self._settings, once=batch), edits.nothing, Action("sgd"))
        self._stride = None
        return self._go((batch + 1) * self.program.ticks, progress)

    @recorded
    def run_to(self, line: str, *, progress: Progress | None = None) -> Position:
        """Run to where a line, named by what it computes, is executed next: in this timestep, a later one, or the next batch."""
        if self.program.tick_of(line) is None:
            raise TuiGruError(f"there is no line that computes {line!r}")
        self._stride = None
        here, N = self.position, self.program.ticks
        batch = here.tick // N
        ahead = [
            (batch + i) * N + k
            for i in range(2)
            for t in range(self.program.seq_length)
            if (k := self.program.tick_of(line, t)) is not None
            and (k <= self.program.loss_tick or self._timeline_learns(batch + i))
        ]
        if not any(tick > here.tick for tick in ahead):
            raise TuiGruError("learning is off, so this line is stepped over; l turns learning on")
        return self._go(min(tick for tick in ahead if tick > here.tick), progress)

    @recorded
    def run_until(self, condition: str, *, progress: Progress | None = None) -> bool:
        """Run forwards until a condition holds at a place where something it reads is computed. True if it stopped there."""
        return self._search(condition, True, progress)

    @recorded
    def run_back_until(self, condition: str, *, progress: Progress | None = None) -> bool:
        """Go back to the last place before this one where a condition holds. True if it stopped there; else at the beginning."""
        return self._search(condition, False, progress)

    def interrupt(self) -> None:
        """Stop a run that another thread is in, at the end of the batch it is at."""
        self._interrupted.set()

    # Reading

    def value(self, name: str) -> Any:
        """A value by name as of the position: (B, H) or (B, V) read-only, a number, or None where it is not computed yet."""
        return self._moment.value(name)

    def parameter(self, name: str) -> Array:
        """A parameter as of the position, read-only."""
        self._check_parameter(name)
        value: Array = self._moment.value(name)
        return value

    def gradient(self, name: str) -> Array | None:
        """The gradient of a parameter as of the position, read-only; None where there is none yet."""
        self._check_parameter(name)
        return self._moment.gradient(name)

    @property
    def loss(self) -> float | None:
        """The loss of this batch; None until its line has been executed."""
        value: float | None = self._moment.value("loss")
        return value

    @recorded
    def sample(self, primer: str, length: int = 10, *, sampler: str = "fed-back", temperature: float = 1.0, seed: int = 0) -> str:
        """Sample text with the parameters of this moment: the primer and `length` characters. Never changes the training."""
        drawn = sample(self.config, self._moment.parameters, primer, length, sampler=sampler, temperature=temperature, seed=seed)
        self.samples = (*self.samples[-63:], drawn)
        return drawn.text

    def snapshot(self) -> Snapshot:
        """Everything a screen draws about this moment, immutable."""
        position, timeline, branches = self.position, self._timeline, self._branches
        settings = self._settings
        return Snapshot(
            config=self.config,
            program=self.program,
            corpus=settings.trainer.corpus,
            moment=self._moment,
            previous=timeline.record(position.number - 1) if position.number else None,
            learning=settings.learning,
            learning_rate=settings.learning_rate,
            losses=timeline.column("loss", self._last_finished()),
            newest=self.newest,
            last=self.end,
            branch=branches.current,
            branches=branches.names,
            can_undo=branches.can_undo,
            can_redo=branches.can_redo,
            samples=self.samples,
            notice=self.notice,
        )

    def _last_finished(self) -> int:
        """The newest batch whose loss has been reached; −1 if none."""
        number, k = divmod(self._branches.newest - 1, self.program.ticks)
        return number if k + 1 >= self.program.loss_tick else number - 1

    # Changing the future

    @property
    def learning(self) -> bool:
        """Whether batches end with backward and update. Setting it in the past forks a branch."""
        return self._settings.learning

    @learning.setter
    @recorded
    def learning(self, value: bool) -> None:
        if bool(value) != self._settings.learning:
            self._change(
                replace(self._settings, learning=bool(value), once=None), edits.nothing, Action("learning", {"value": bool(value)})
            )

    @property
    def learning_rate(self) -> float:
        """The learning rate. Setting it in the past forks a branch."""
        return self._settings.learning_rate

    @learning_rate.setter
    @recorded
    def learning_rate(self, value: float) -> None:
        rate = check_learning_rate("learning_rate", value)
        if rate != self._settings.learning_rate:
            self._change(replace(self._settings, learning_rate=rate), edits.nothing, Action("learning_rate", {"value": rate}))

    @recorded
    def edit(self, name: str, index: Any = None, value: Any = None) -> Position:
        """Change a cell of a parameter or of h, the learning rate (no index), or a character of the text (its 0-based place).

        In the past this forks a branch; the old future stays. Returns the position.
        """
        edit = Edit(ALIASES.get(name, name), edits.as_index(index), value)
        settings, change = edits.plan(edit, self._moment, self._settings)
        self._change(settings, change, edits.action(edit))
        return self.position

    @recorded
    def undo(self) -> bool:
        """Take back the last change, and go to where it was made. False if there is none."""
        return self._restore(self._branches.undo(self.position.tick))

    @recorded
    def redo(self) -> bool:
        """Make the change that was taken back again, and go to where one was then. False if there is none."""
        return self._restore(self._branches.redo())

    @property
    def branches(self) -> tuple[str, ...]:
        """The names of all branches; the first is `main`."""
        return self._branches.names

    @property
    def branch(self) -> str:
        """The name of the branch one is on."""
        return self._branches.current

    @recorded
    def switch(self, name: str) -> Position:
        """Go to another branch, to the same place in time, or its newest if it has not come so far."""
        self._branches.switch(name)
        self._stride = None
        return self._go(min(self.position.tick, self._branches.newest), None, force=True)

    # How it is done

    def _state(self) -> State:
        return State(
            self.config,
            self.epochs,
            self._budget,
            self._branches,
            self.position.tick,
            self._stride,
            self.stop_on_nan,
            self.samples,
            self._kept,
        )

    def _go(self, tick: int, progress: Progress | None, *, force: bool = False) -> Position:
        if tick == self.position.tick and not force:
            return self.position
        timeline = self._timeline
        end = self.end
        if end is not None:
            tick = min(tick, end.tick)
        places = timeline.ruler("op")
        tick = places.tick(places.count(tick))
        self._interrupted.clear()
        self.notice = ""
        monitor = self._monitor(timeline, progress)
        self._moment = timeline.moment(tick, monitor)
        self._branches.reach(self._moment.position.tick)
        return self._moment.position

    def _monitor(self, timeline: Timeline, progress: Progress | None) -> Callable[[int, BatchRecord], bool]:
        was_finite = self._moment.record.finite
        ticks = self.program.ticks

        def monitor(batch: int, record: BatchRecord) -> bool:
            if progress is not None:
                progress(timeline.position((batch + 1) * ticks))
            if self.stop_on_nan and was_finite and not record.finite:
                self.notice = "stopped here: the loss or a weight is not finite (NaN or infinite)"
                return True
            return self._interrupted.is_set()

        return monitor

    def _tick_of(self, place: str | Position | int) -> int:
        if isinstance(place, Position):
            return place.tick
        if isinstance(place, (int, np.integer)) and not isinstance(place, bool):
            return max(int(place), 0)
        if not isinstance(place, str):
            raise TuiGruError(f"a place is a text such as e3 b2 t1, a position, or a tick, not {place!r}")
        asked = parse_place(place, self.program)
        here = self.position
        program = self.program
        epoch = here.epoch if asked.epoch is None else asked.epoch
        if asked.batch is None and asked.t is None:
            return epoch * program.num_batches * program.ticks
        batch = (0 if asked.epoch is not None else here.batch) if asked.batch is None else asked.batch
        start = (epoch * program.num_batches + batch) * program.ticks
        return start if asked.t is None else start + (asked.t + 1) * len(program.forward)

    def _timeline_learns(self, batch: int) -> bool:
        ruler = self._timeline.ruler("batch")
        return ruler.tick(ruler.count((batch + 1) * self.program.ticks)) == (batch + 1) * self.program.ticks

    def _change(self, settings: Settings, change: Change, action: Action) -> None:
        timeline = self._timeline.changed(self.position, settings, change, self._budget, action)
        self._branches.change(timeline, self.position.tick)
        self._stride = None
        self._moment = timeline.moment(self.position.tick)

    def _restore(self, tick: int | None) -> bool:
        if tick is None:
            return False
        self._stride = None
        self._moment = self._timeline.moment(tick)
        return True

    def _search(self, source: str, forwards: bool, progress: Progress | None) -> bool:
        from tui_gru.debugger.conditions import compile_condition  # late: a tenth of the start, for what comes later if at all
        from tui_gru.debugger.search import search_back, search_forward

        condition = compile_condition(source, readable_names(self.config.reset))
        search = search_forward if forwards else search_back
        self._stride = None
        self._interrupted.clear()
        self.notice = ""
        monitor = self._monitor(self._timeline, progress)
        found = search(condition, self._timeline, self.position.tick, self.end, monitor)
        self._moment = self._timeline.moment(found.tick)
        self._branches.reach(found.tick)
        return bool(found.matched)

    def _check_parameter(self, name: str) -> None:
        names = parameter_names(self.config.reset)
        if name not in names:
            raise TuiGruError(unknown_name(name, names).replace("value", "parameter"))
