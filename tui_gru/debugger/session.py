"""The one face of the debugger: verbs in (step, seek, edit, sample), values and immutable snapshots out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tui_gru.debugger import edits
from tui_gru.debugger.branches import Branches
from tui_gru.debugger.edits import Edit
from tui_gru.debugger.finite import FiniteWatch
from tui_gru.debugger.history import Budget
from tui_gru.debugger.moment import readable_names, unknown_name
from tui_gru.debugger.position import Position, position_of, tick_of
from tui_gru.debugger.program import Program, program_of
from tui_gru.debugger.records import Records
from tui_gru.debugger.segment import Action, Memory, Monitor, Settings
from tui_gru.debugger.snapshot import Snapshot
from tui_gru.debugger.state import State
from tui_gru.debugger.steps import Stride, check_level
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
        if epochs is not None:
            epochs = _whole("epochs", epochs, at_least=1)
        history_memory = _whole("history_memory", history_memory, at_least=0)
        memory = Memory(Budget(history_memory), Records(config.record_bytes))
        settings = Settings(Trainer(config, Corpus(config)), False, config.learning_rate)
        timeline = Timeline.begin(program_of(config), settings, initial_parameters(config), memory)
        self._begin(State(config, epochs, Branches.begin(timeline)))

    def _begin(self, state: State) -> None:
        self.config, self.epochs = state.config, state.epochs
        self.program: Program = program_of(state.config)
        self.stop_on_nan, self.samples, self.notice = state.stop_on_nan, state.samples, ""
        self._branches, self._stride = state.branches, state.stride
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
        ruler, here = self._timeline.ruler(check_level(level)), self.position.tick
        if isinstance(count, bool) or not hasattr(count, "__index__"):
            raise TuiGruError(f"a count is a whole number, not {count!r}")
        count = count.__index__()
        stride = self._stride.onwards(level, here, count)
        target, cut = stride.target(ruler, count)
        before, reached = self._stride, self._go(target, progress)
        cut = cut or reached.tick != target
        self._stride = before if cut and reached.tick == here else stride.gone(count, reached.tick, cut)
        return reached

    @recorded
    def seek(self, place: str | Position | int, *, progress: Progress | None = None) -> Position:
        """Go to `e3 b2 t1` (counted from 1: just after timestep 1 of batch 2 of epoch 3), to a `Position`, or to a tick.

        A moment not reached yet is run to.
        """
        return self._go(tick_of(place, self.position, self.program), progress)

    @recorded
    def sgd(self, *, progress: Progress | None = None) -> Position:
        """An SGD step: finish this batch from wherever one is in it, backward and update. Returns the position."""
        batch, end = self.position.tick // self.program.ticks, self.end
        if not self._timeline.learns(batch) and (end is None or batch <= end.number):
            self._change(replace(self._settings, once=batch), edits.nothing, Action("sgd"))
        return self._go((batch + 1) * self.program.ticks, progress)

    @recorded
    def run_to(self, line: str, *, progress: Progress | None = None) -> Position:
        """Run to where a line, named by what it computes, is executed next: in this timestep, a later one, or the next batch."""
        ticks = {self.program.tick_of(line, t) for t in range(self.program.seq_length)} - {None}
        if not ticks:
            raise TuiGruError(f"there is no line that computes {line!r}")
        here, N, place = self.position.tick, self.program.ticks, self._timeline.place
        all_ahead = [batch * N + k for batch in (here // N, here // N + 1) for k in ticks if k is not None]
        ahead = [tick for tick in all_ahead if tick > here and place(tick) == tick]
        if not ahead:
            raise TuiGruError("learning is off, so this line is stepped over; l turns learning on")
        return self._go(min(ahead), progress)

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
            losses=timeline.column("loss", 0, self._last_finished()),
            newest=self.newest,
            last=self.end,
            branch=branches.current,
            branches=branches.names,
            can_undo=bool(branches.done),
            can_redo=bool(branches.undone),
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
            settings = replace(self._settings, learning=bool(value), once=None)
            self._change(settings, edits.nothing, Action("learning", {"value": bool(value)}))

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
        """Change a cell of a parameter, of h or of h_prev, a character of the text (its 0-based place), or the rate (no index).

        In the past this forks a branch; the old future stays. Returns the position.
        """
        if value is None:
            index, value = None, index
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
        branches = self._branches.switched(name)
        self._stand(branches, branches.timeline.place(min(self.position.tick, branches.newest)))
        return self.position

    def _state(self) -> State:
        return State(
            self.config,
            self.epochs,
            self._branches,
            self.position.tick,
            self._stride,
            self.stop_on_nan,
            self.samples,
            self._kept,
        )

    # How it is done: what can take long comes before anything of the session changes, so that it can be broken off

    def _go(self, tick: int, progress: Progress | None) -> Position:
        """Go to the last place at or before `tick`, or to where the run ends or is stopped; stay where a way back is stopped."""
        here, end, timeline = self.position, self.end, self._timeline
        self._interrupted.clear()
        self.notice = ""
        tick = timeline.place(tick if end is None else min(tick, end.tick))
        ahead = tick > here.tick
        watch = self._watch(ahead)
        tick = self._stopped(watch, tick)
        reached = timeline.moment(tick, self._monitor(watch, progress)).position.tick
        if reached == tick or reached > here.tick:
            self._stand(self._branches, self._stopped(watch, reached))
        return self.position

    def _search(self, source: str, forwards: bool, progress: Progress | None) -> bool:
        from tui_gru.debugger.conditions import compile_condition  # late: a tenth of the start, for what comes later if at all
        from tui_gru.debugger.search import search_back, search_forward

        search = search_forward if forwards else search_back
        if not isinstance(source, str):
            raise TuiGruError(f"a condition is a text such as loss < 0.5, not {source!r}")
        condition = compile_condition(source, readable_names(self.config.reset))
        self._interrupted.clear()
        self.notice = ""
        watch = self._watch(forwards)
        found = search(condition, self._timeline, self.position.tick, self.end, self._monitor(watch, progress))
        tick = self._stopped(watch, found.tick)
        self._stand(self._branches, tick)
        if found.error is not None and tick == found.tick:
            raise found.error
        return found.matched and tick == found.tick

    def _stand(self, branches: Branches, tick: int) -> None:
        """Be at a place of a branch."""
        moment = branches.timeline.moment(tick)
        self._branches, self._moment, self._stride = branches.reached(tick), moment, Stride.begin("", tick)

    def _watch(self, ahead: bool) -> FiniteWatch | None:
        return FiniteWatch(self._timeline, self.position) if ahead and self.stop_on_nan else None

    def _stopped(self, watch: FiniteWatch | None, tick: int) -> int:
        """`tick`, or the place before it where the watch stops."""
        place = watch.place(tick) if watch is not None else None
        if place is None:
            return tick
        self.notice = "stopped here: the loss or a weight is not finite (NaN or infinite)"
        return place

    def _monitor(self, watch: FiniteWatch | None, progress: Progress | None) -> Monitor:
        ticks = self.program.ticks

        def monitor(batch: int, record: BatchRecord) -> bool:
            if progress is not None:
                progress(position_of(self.program, (batch + 1) * ticks))
            return self._interrupted.is_set() or (watch is not None and watch.sees(batch, record))

        return monitor

    def _change(self, settings: Settings, change: Change, action: Action) -> None:
        here = self.position
        timeline = self._timeline.changed(here, settings, change, action)
        self._stand(self._branches.changed(timeline, here.tick), here.tick)

    def _restore(self, restored: tuple[Branches, int] | None) -> bool:
        if restored is not None:
            self._stand(*restored)
        return restored is not None

    def _check_parameter(self, name: str) -> None:
        names = parameter_names(self.config.reset)
        if name not in names:
            raise TuiGruError(unknown_name(name, names).replace("value", "parameter"))


def _whole(option: str, value: Any, at_least: int) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or value.__index__() < at_least:
        raise TuiGruError(f"{option} must be a whole number, at least {at_least}, not {value!r}", option=option)
    return int(value.__index__())
