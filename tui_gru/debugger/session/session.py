"""The public interface of the debugger: verbs (step, seek, edit, sample), values, and immutable snapshots."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, Unpack

from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.program.position import Position, in_words
from tui_gru.debugger.program.steps import Level
from tui_gru.debugger.session import picture
from tui_gru.debugger.session.guards import SearchProgress
from tui_gru.debugger.session.questions import Queries
from tui_gru.debugger.session.run import Run, beginning
from tui_gru.debugger.session.verbs import changes, comparison, places, sampling, stops, travel
from tui_gru.debugger.session.verbs.stops import add_watch
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.debugger.state.marks import Mark
from tui_gru.debugger.state.outcome import Notice, Outcome, joined
from tui_gru.debugger.state.state import State
from tui_gru.debugger.state.stops import Breakpoint, Stops, Watch
from tui_gru.debugger.timeline.journal import JournalEntry
from tui_gru.debugger.timeline.timeline import Anchor
from tui_gru.engine import arguments
from tui_gru.engine.config import Config, Options, Sampler, check_options
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.numbers import mib
from tui_gru.engine.running.weights import Array, Weights

if TYPE_CHECKING:
    from tui_gru.debugger.analysis.activity import Activity
    from tui_gru.debugger.analysis.branches_apart import BranchComparison
    from tui_gru.debugger.analysis.checks.checked_run import CheckTotals
    from tui_gru.debugger.analysis.checks.checking import Check
    from tui_gru.debugger.analysis.checks.checking import CheckResult as CheckReport
    from tui_gru.debugger.analysis.checks.expected import Expected
    from tui_gru.debugger.analysis.findings.finding import Finding
    from tui_gru.debugger.analysis.influence import Influence, RowInfluence
    from tui_gru.debugger.analysis.loss_places import TextLosses
    from tui_gru.debugger.analysis.report.report import RunReport
    from tui_gru.debugger.analysis.summaries import Summary
    from tui_gru.debugger.analysis.what_if import WhatIf
    from tui_gru.debugger.derivation.origin import Node, ValueRef
    from tui_gru.engine.arguments import FilePath
    from tui_gru.engine.data.tokens import Text
    from tui_gru.engine.running.sampling import Sample

HISTORY_MEMORY = 256 * 2**20
RECORDING_MEMORY = 64 * 2**20  # bytes; less than for other sessions, because any step can be recomputed from the recording
REOPENED, EARLIER = "reopened where it was left: ", "reopened at an earlier state: "

P = ParamSpec("P")
R = TypeVar("R")


def verb(method: Callable[Concatenate[Session, P], R]) -> Callable[Concatenate[Session, P], R]:
    """Decorate a verb: after it returns or raises, write its changes to the file that the session is recorded to.

    Its message says as well if it is the first to meet numbers that differ more from those of another machine than by rounding.
    """

    @wraps(method)
    def record(session: Session, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return session._run.recorder.verb(lambda: method(session, *args, **kwargs))
        finally:
            session._run.tell_of_machines()

    return record


class Session:
    """A training run that can be stepped forwards and backwards in time.

    Takes every option of `Config.of` by keyword; the defaults are the tutorial's. `epochs` ends the run after so many epochs;
    without it, the run has no end. `history_memory` limits the memory of the stored past, in bytes (`Budget`). With `state`, the
    session continues from that state, and takes no options. Raises `TuiGruError` for invalid arguments.
    """

    def __init__(
        self,
        *,
        epochs: int | None = None,
        history_memory: int = HISTORY_MEMORY,
        state: State | None = None,
        **options: Unpack[Options],
    ) -> None:
        if state is None:
            check_options(options, "epochs", "history_memory")
            epochs = _checked_epochs(epochs)
            state = beginning(Config.of(**options), epochs, history_memory)
        elif options or epochs is not None:
            raise TuiGruError("a session that continues from a state takes its options from it; leave out any others")
        self._run = Run(state)
        self._questions = Queries(self._run)

    def __repr__(self) -> str:
        config, at = self.config, self.position
        sizes = " ".join(f"{axis} {size}" for axis, size in config.sizes.items())
        place = in_words(at.epoch, at.batch, at.t, at.phase) if at.tick else "at the start"
        loss = ""
        with suppress(TuiGruError):  # a recording that cannot be read any more
            loss = "" if self.loss is None else f", loss {self.loss:.6g}"
        return f"<Session on {config.cell} ({sizes}): {place}, on {self.branch}{loss}>"

    @classmethod
    def on(cls, config: Config, *, weights: Weights | None = None, history_memory: int = HISTORY_MEMORY) -> Self:
        """Create a session on a checked config; `weights` default to its initial weights.

        A run on given batches ends with the last.
        """
        return cls(state=beginning(config, None if config.given is None else 1, history_memory, weights))

    @classmethod
    def open(cls, path: FilePath, *, record: bool = False, history_memory: int | None = None) -> Self:
        """Open the session in a file, at the position where it was saved; with `record`, changes are recorded to the same file.

        Without `record` the file does not change, and `notice` says after the first change that the session is in memory only,
        unless `record_to` or `record_later` has been called.

        The path of a recording's folder opens the recording at its first recorded step; each step is a batch.

        `history_memory` limits the memory of the stored past, in bytes; by default the saved limit is used. Raises
        `SessionFileError` if the file cannot be read.

        A session that another machine recorded is opened as well: its losses, hit counts, marks and samples stay as recorded, and
        its arrays are computed here from the recorded checkpoints (`machine_difference`).
        """
        from tui_gru.debugger.storage.confinement import permitted

        if isinstance(path, str | os.PathLike):
            permitted(path)
        if isinstance(path, str | os.PathLike) and os.path.isdir(os.path.expanduser(path)) and _holds_a_recording(path):
            from tui_gru.debugger.session.loading import recorded  # imported late: rarely needed
            from tui_gru.engine.data.given import GivenConfig

            given, notice = recorded(path)
            memory = RECORDING_MEMORY if history_memory is None else history_memory
            session = cls.on(GivenConfig.of_given(given), history_memory=memory)
            session.notice = notice
            return session
        from tui_gru.debugger.storage.store import RecordedFile, read_session

        file = RecordedFile.resume(path, history_memory) if record else None
        opened = read_session(path, history_memory) if file is None else file.begun
        session = cls(state=opened.state)
        session._run.recorder.resume(opened, file)
        begins = EARLIER if opened.is_earlier else REOPENED
        notices = Notice(f"{begins}{session.left_at}"), Notice(opened.trouble, warning=True), session._run.on_machines()
        session._run.notice = joined(*notices)
        return session

    # Run and program

    @property
    def state(self) -> State:
        """Everything that is saved of the session. Immutable: each verb replaces it."""
        return self._run.state

    @property
    def machine_difference(self) -> float | None:
        """The largest difference met so far between numbers computed here and those that another machine recorded, relative to the
        largest entry of each array; infinite if a number is finite on one of the two only. None if all are equal bit for bit."""
        return self._run.timeline.memory.by_size.largest or None

    @property
    def config(self) -> Config:
        """The options of the run."""
        return self._run.state.config

    @property
    def program(self) -> Program:
        """The lines and the names of the model."""
        return self._run.program

    @property
    def epochs(self) -> int | None:
        """The number of epochs after which the run ends; None if it has no end. Less than 1 raises `TuiGruError`."""
        return self._run.state.epochs

    @epochs.setter
    def epochs(self, value: int | None) -> None:
        self._run.update(epochs=_checked_epochs(value))

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """The names of all parameters, in the order of the equations."""
        return self.program.parameters

    def program_text(self) -> str:
        """Return the listing as shown on screen, one row a line."""
        return "".join(f"{'  ' * row.indent}{row.text}\n" for row in self.program.rows)

    def snapshot(self) -> Snapshot:
        """Return everything that a screen draws of this moment, immutable."""
        return picture.snapshot(self._run, self._questions.found)

    @property
    def steps(self) -> tuple[int, ...]:
        """The step numbers of a recording; each recorded step is a batch here. Empty for other sessions."""
        return () if self.config.given is None else self.config.given.steps

    # The outcome of the last verb

    @property
    def outcome(self) -> Outcome:
        """The position, the event that stopped the last run, and the message."""
        return self._run.outcome

    @property
    def notice(self) -> str:
        """The message of the last verb, or an empty string; `outcome.notice` says whether it is a warning."""
        return "" if self._run.notice is None else self._run.notice.text

    @notice.setter
    def notice(self, text: str) -> None:
        self._run.notice = Notice(text) if text else None

    def add_notice(self, text: str, *, warning: bool = False, first: bool = False) -> None:
        """Append a message to that of the last verb, or prepend it if `first` is True."""
        one = Notice(text, warning)
        self._run.notice = joined(one, self._run.notice) if first else joined(self._run.notice, one)

    @property
    def memory_notice(self) -> str:
        """What the stored past takes, if that is much more than `history_memory`; otherwise an empty string."""
        budget, batch = self.state.timeline.memory.budget, self.config.record_bytes
        if budget.is_enough:
            return ""
        return f"a batch of this model takes {mib(batch)}: its history takes up to {mib(budget.needed)}, not {mib(budget.limit)}"

    # Position

    @property
    def position(self) -> Position:
        """The position in time: the line that has just been executed."""
        return self._run.position

    @property
    def newest(self) -> Position:
        """The newest position reached on this branch."""
        return self._run.timeline.position(self.state.branches.newest)

    @property
    def end(self) -> Position | None:
        """The last position of a run of `epochs`; None if the run has no end."""
        return self._run.end

    @property
    def left_at(self) -> str:
        """The position and the numbers of branches and changes, in one line, for the notice of a reopened session."""
        at, branches, changes = self.position, len(self.branches), len(self.state.branches.done)
        return (
            f"{in_words(at.epoch, at.batch, at.t, between=' · ')} on {self.branch}, "
            f"{branches} {'branch' if branches == 1 else 'branches'}, {changes} {'change' if changes == 1 else 'changes'}"
        )

    def batches_to(self, tick: int | None = None) -> int:
        """Return the most batches that are run or replayed on the way to a tick of this branch (None: to the position)."""
        timeline = self._run.timeline
        batch = max((self.position.tick if tick is None else tick) - 1, 0) // self.program.ticks
        ahead = batch - timeline.computed
        return ahead if ahead > 0 else batch - timeline.replay_start(batch) + 1

    def tick_after(self, level: Level, count: int) -> int:
        """Return the tick to which `step` would go if nothing stopped it, to pass to `seek`, which ignores stops.

        Raises `TuiGruError` for an unknown level.
        """
        return travel.tick_after(self._run, level, count)

    def anchor(self, tick: int | None = None) -> Anchor:
        """Return a reference to this moment, or to another of this branch, to pass to `holds` later."""
        return Anchor(self._run.timeline, self.position.tick if tick is None else tick)

    def holds(self, anchor: Anchor) -> bool:
        """Return True if the current branch contains the moment of an anchor with unchanged numbers.

        Raises `TuiGruError` if it is no anchor.
        """
        if not isinstance(anchor, Anchor):
            raise TuiGruError(f"expected a result of `Session.anchor`, not {arguments.shown(anchor)}")
        return self._run.timeline.still_has(anchor)

    # Moving in time

    @verb
    def step(self, level: Level = "timestep", count: int = 1, *, progress: SearchProgress | None = None) -> Position:
        """Step `count` lines (`line` or `op`), timesteps, phases, batches or epochs, back in time if `count` is negative.

        Returns the position.

        A step goes to the end of its level: `batch` to the end of the batch. Stepping back returns to the positions before the
        steps forward. Stops at breakpoints. Raises `TuiGruError` for an unknown level.
        """
        return travel.step(self._run, level, count, progress).position

    @verb
    def seek(self, place: str | Position | int, *, progress: SearchProgress | None = None, along: bool = False) -> Position:
        """Go to `e3 b2 t1` (counted from 1: just after timestep 1 of batch 2 of epoch 3), to a `Position`, or to a tick.

        Runs to a position that has not been reached yet; ignores breakpoints. If `along` is True, the place that `'` jumps back
        to stays that of the jump before. Raises `TuiGruError` for an invalid place.
        """
        return places.seek(self._run, place, progress, along=along).position

    @verb
    def sgd(self, count: int = 1, *, progress: SearchProgress | None = None) -> Position:
        """Do `count` SGD steps: finish the current batch, with backward and update even if learning is off. Ignores breakpoints.

        Raises `TuiGruError` if `count` is negative, or the run cannot be trained.
        """
        return travel.sgd(self._run, count, progress).position

    @verb
    def run_to(self, line: str, *, progress: SearchProgress | None = None) -> Position:
        """Run to the next execution of a line, named by its target, in this timestep, a later one, or the next batch.

        Raises `TuiGruError` if there is no such line, or it is not executed because learning is off.
        """
        return travel.run_to(self._run, line, progress).position

    @verb
    def continue_(self, progress: SearchProgress | None = None) -> bool:
        """Run until a breakpoint, a watch or a guard stops the run: True. False at the end of the run, or if interrupted.

        Raises `ConditionError` at the place where a condition cannot be evaluated.
        """
        return travel.continue_(self._run, progress).stopped_by is not None

    @verb
    def reverse_continue(self, progress: SearchProgress | None = None) -> bool:
        """Go back to the last place before the position where a breakpoint or a watch stops the run: True. False at the beginning.

        Also False if interrupted. Raises `ConditionError` at the place where a condition cannot be evaluated.
        """
        return travel.reverse_continue(self._run, progress).stopped_by is not None

    @verb
    def run_until(self, condition: str, *, progress: SearchProgress | None = None) -> bool:
        """Run forward to where a condition holds, tested whenever a value that it reads is computed. True if it stopped there.

        In a condition, `epoch`, `batch` and `t` count as the screen does. Raises `ConditionError`, with the column, for a text that
        cannot be parsed, and at the place where it cannot be evaluated.
        """
        return _matched(places.search(self._run, condition, True, progress))

    @verb
    def run_back_until(self, condition: str, *, progress: SearchProgress | None = None) -> bool:
        """Go back to the last place before the position where a condition holds: True. Otherwise go to the beginning: False.

        Raises `ConditionError` as `run_until` does.
        """
        return _matched(places.search(self._run, condition, False, progress))

    @verb
    def next_match(self, forwards: bool = True, progress: SearchProgress | None = None) -> bool:
        """Search for the last condition again. True if it stopped there. Raises `TuiGruError` if there was none."""
        return _matched(places.next_match(self._run, forwards, progress))

    @property
    def last_condition(self) -> str:
        """The condition of the last search, in either direction; empty if there was none."""
        return self.state.last_condition

    @verb
    def run_to_not_finite(self, *, progress: SearchProgress | None = None) -> bool:
        """Go to the first number that is not finite in the batches run so far; in a recording, in all its steps.

        True if there is one; `notice` says which it is.
        """
        return places.first_not_finite(self._run, progress)

    def work_ahead(self) -> None:
        """In a recording, compute the next step in a thread while the user looks at the current one, after steps forward.

        A front end calls it when everything is drawn. The next step is then there at once, with the same numbers.
        """
        self._run.timeline.work_ahead(self.position.number)

    def interrupt(self) -> None:
        """Stop the run of another thread, or the run that it is about to start, at the end of the current batch."""
        self._run.interrupts.interrupt()

    def forget_interrupt(self) -> None:
        """Withdraw a pending interrupt, which would stop the next run although it was meant for one that has already ended."""
        self._run.interrupts.forget()

    @property
    def interrupts(self) -> int:
        """The number of calls of `interrupt`."""
        return self._run.interrupts.count

    @property
    def stop_on_nan(self) -> bool:
        """True if a run stops when the loss or a weight is not finite, or when the loss, the gradient norm or a weight grows
        a thousandfold within a batch.
        """
        return self.state.stop_on_nan

    @stop_on_nan.setter
    def stop_on_nan(self, value: bool) -> None:
        self._run.update(stop_on_nan=arguments.truth("stop_on_nan", value))

    @property
    def check_every_batch(self) -> bool:
        """True if every finished batch is compared with PyTorch's autograd; a run stops at a batch that differs.

        The totals are in `checked`. A check takes ten to twenty times as long as training the batch.
        """
        return self._run.checks.totals is not None

    @check_every_batch.setter
    def check_every_batch(self, value: bool) -> None:
        self._run.checks.turn(arguments.truth("check_every_batch", value))

    @property
    def checked(self) -> CheckTotals | None:
        """The totals of the batch checks; None while they are disabled."""
        return self._run.checks.totals

    # Breakpoints, watches and marks

    @property
    def stops(self) -> Stops:
        """All breakpoints and watches of the session. They apply to every branch."""
        return self.state.stops

    def break_at(self, line: str = "", *, condition: str = "", hits: str = "", log: str = "") -> Breakpoint:
        """Add a breakpoint after a line, named by its target, or on a condition, or both; `hits` selects the hits that stop.

        With `log`, a template such as `loss {loss:.3f}`, it writes to the log instead of stopping. Raises `TuiGruError` if there
        is no such line, `ConditionError`, with the column, if a text cannot be parsed.
        """
        return stops.break_at(self._run, line, condition, hits, log)

    def watch(self, expression: str, *, stops: bool = False) -> Watch:
        """Add a watch that shows the value of an expression; with `stops`, runs stop when it changes.

        Raises `ConditionError`.
        """
        return add_watch(self._run, expression, stops)

    def change_stop(self, id: int, /, **changes: Any) -> Breakpoint | Watch:
        """Change fields of a breakpoint or a watch, except its id. Raises `TuiGruError` if the id or a field does not exist."""
        return stops.change(self._run, id, changes)

    def delete_stop(self, id: int) -> None:
        """Delete a breakpoint or a watch. Raises `TuiGruError` if there is none with that id."""
        stops.delete(self._run, id)

    @property
    def counts_first(self) -> bool:
        """True if the next step must test earlier batches first, because a breakpoint stops only at some of its hits."""
        return stops.counts_first(self._run)

    @property
    def marks(self) -> tuple[Mark, ...]:
        """All marks, a to z and then A to Z."""
        return self.state.marks.sorted

    def mark(self, letter: str, text: str = "") -> Mark:
        """Set a mark at the position; the letter is a to z or A to Z. Raises `TuiGruError` for anything else."""
        return places.mark(self._run, letter, text)

    def delete_mark(self, letter: str) -> None:
        """Delete a mark. Raises `TuiGruError` if there is none."""
        places.delete_mark(self._run, letter)

    def jump(self, letter: str, *, progress: SearchProgress | None = None) -> Position:
        """Go to a mark on any branch; `'` goes to the position before the last jump, search or switch. Raises `TuiGruError`."""
        return self._jump(*places.destination(self._run, letter), progress)

    def next_mark(self, forwards: bool = True, *, progress: SearchProgress | None = None) -> Position:
        """Go to the next mark, or to the one before: in time, then on the next branch. Raises `TuiGruError` if there is none."""
        mark = places.next_mark(self._run, forwards)
        return self._jump(mark.branch, mark.tick, progress)

    @verb
    def _jump(self, branch: str, tick: int, progress: SearchProgress | None) -> Position:
        return places.jump(self._run, branch, tick, progress).position

    # Changing the future

    @property
    def learning(self) -> bool:
        """True if batches end with backward and update. Setting it in the past forks a branch.

        Raises `TuiGruError` for anything but True and False.
        """
        return self._run.settings.learning

    @learning.setter
    @verb
    def learning(self, value: bool) -> None:
        changes.learning(self._run, value)

    @property
    def learning_rate(self) -> float:
        """The learning rate. Setting it in the past forks a branch.

        Raises `TuiGruError` if it is negative or not finite.
        """
        return self._run.settings.rule["learning_rate"]

    @learning_rate.setter
    @verb
    def learning_rate(self, value: float) -> None:
        changes.learning_rate(self._run, value)

    @verb
    def edit(self, name: str, index: Any = None, value: Any = None) -> Position:
        """Edit a number of a parameter, a value or a gradient, a character of the text (0-based index), or a setting of the update
        rule, such as learning_rate, limit (of the norm of the gradient) or beta1.

        h and h_prev can be edited until they are used, a weight at any time, other values only just after their line. In the
        past, this forks a branch; the old future stays. Returns the position. Raises `TuiGruError` if the edit is not possible.
        """
        if value is None:
            index, value = None, index
        return changes.edit(self._run, name, index, value).position

    @verb
    def adopt(self, what: WhatIf) -> Position:
        """Apply a what-if: go to just after the line that computed the number, and edit it there.

        In the past, this forks a branch. Raises `TuiGruError` if the number cannot be edited there.
        """
        return changes.adopt(self._run, what).position

    @verb
    def undo(self) -> bool:
        """Undo the last change, and go to where it was made. False if there is none."""
        return changes.undo(self._run)

    @verb
    def redo(self) -> bool:
        """Redo the last undone change, and go to the position at which it was undone. False if there is none."""
        return changes.redo(self._run)

    @property
    def last_change(self) -> JournalEntry | None:
        """The change that `undo` would revert; None if there is none."""
        return self.state.branches.last_change

    @property
    def next_change(self) -> JournalEntry | None:
        """The change that `redo` would apply again; None if there is none."""
        return self.state.branches.next_change

    # Branches

    @property
    def branch(self) -> str:
        """The name of the current branch."""
        return self.state.branch

    @property
    def branches(self) -> tuple[str, ...]:
        """The names of all branches; the first is `main`."""
        return self.state.branches.names

    @verb
    def switch(self, name: str) -> Position:
        """Go to the same place in time on another branch, or to its newest place if that is earlier. Raises `TuiGruError`."""
        return places.switch(self._run, name).position

    @verb
    def rename_branch(self, old: str, new: str) -> None:
        """Rename a branch; the new name is one word. Raises `TuiGruError` if it is invalid or taken."""
        changes.rename_branch(self._run, old, new)

    @verb
    def delete_branch(self, name: str) -> None:
        """Delete a branch other than the current one, with its marks. This cannot be undone.

        Branches that forked from it keep their shared past. Raises `TuiGruError` for the current branch or an unknown name.
        """
        changes.delete_branch(self._run, name)

    @property
    def comparing(self) -> str | None:
        """The branch that the current one is compared with; None if there is no comparison or that branch no longer exists."""
        return comparison.comparing(self._run)

    @verb
    def compare(self, name: str | None = "") -> str | None:
        """Compare this branch with another from now on; None ends the comparison. Returns the name of the other branch.

        An empty name means the branch that this one forked from, or else the newest that forked from this one. After a switch to
        a third branch, that is compared with `name`; after a switch to `name`, it is compared with this one. Raises `TuiGruError`
        if there is no such branch.
        """
        return comparison.compare(self._run, name)

    def apart(self, name: str = "", *, progress: SearchProgress | None = None) -> BranchComparison:
        """Compare two branches: their first difference, and the differences of their losses and their samples at this moment.

        An empty name means the branch compared with, or else the default of `compare`. Raises `TuiGruError` if there is no such
        branch or it is interrupted.
        """
        return comparison.apart(self._run, name, progress)

    # Values

    def value(self, name: str, t: int | None = None) -> Any:
        """Return the value of a name at the position, or at timestep `t` (0-based) of this batch.

        It is an array (B, H) or (B, V), read-only, or a number, or None if it has not been computed yet. Raises `TuiGruError` for
        an unknown name.
        """
        return self._questions.value(name, t)

    def parameter(self, name: str) -> Array:
        """Return a parameter at the position, read-only, in the shape of its equation: Wz (V, H), Uz (H, H), bz (H), Wy (H, V).

        Raises `TuiGruError` for an unknown name.
        """
        return self._questions.parameter(name)

    def gradient(self, name: str) -> Array | None:
        """Return the gradient of the loss with respect to a parameter, in its shape, read-only; None if not computed yet.

        Raises `TuiGruError` for an unknown name.
        """
        return self._questions.gradient(name)

    @property
    def loss(self) -> float | None:
        """The loss of this batch, with the built-in loss the mean over its characters in nats; None until it has been computed."""
        value: float | None = self._run.moment.value("loss")
        return value

    @property
    def expected(self) -> Expected | None:
        """The output of this batch compared with the output of the original model; None if the latter is not known."""
        return self._questions.expected()

    def recorded_gradient(self, name: str) -> Array | None:
        """Return p.grad of a parameter as the script's optimizer used it, read-only, by our name and in our shape.

        None if it was not recorded. Raises `TuiGruError` for an unknown name.
        """
        return self._questions.recorded_gradient(name)

    @property
    def remarks(self) -> str:
        """How p.grad of this batch relates to the derived gradients (equal, clipped, scaled), and other remarks on the batch."""
        given = self.config.given
        return "" if given is None else given.batches[self.position.batch].remarks()

    def summary(self, name: str, t: int | None = None) -> Summary | None:
        """Return statistics of a value, a parameter or a gradient: shares of saturated and near-zero entries, a histogram, …

        Takes the arguments of `value`; None if not computed yet. Raises `TuiGruError` for a single number.
        """
        return self._questions.summary(name, t)

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The samples drawn so far, the newest last."""
        return self.state.samples

    @verb
    def sample(
        self,
        primer: str,
        length: int = 10,
        *,
        sampler: Sampler = "fed-back",
        temperature: float = 1.0,
        seed: int = 0,
        progress: SearchProgress | None = None,
    ) -> str:
        """Sample text with the current parameters. Returns the primer and `length` characters. Never changes the training.

        The sample is stored in the session; if interrupted, the characters drawn so far. Raises `TuiGruError` for invalid
        arguments, such as more than `LONGEST_SAMPLE` characters.
        """
        return sampling.sample(self._run, primer, length, sampler, temperature, seed, progress).text

    # Queries

    def explain(self, name: str, index: Any = (), t: int | None = None) -> Node:
        """Return the derivation of entry `index` of `name` at timestep `t` (0-based; default: the position's), as of the position.

        The terms of the sum that it equals are in `explain("h", (1, 0)).terms`; each can be explained in turn. Raises
        `TuiGruError`.
        """
        return self._questions.explain(name, index, t)

    def origin(self, number: ValueRef, *, progress: SearchProgress | None = None) -> Node:
        """Return the derivation of a number anywhere on this branch. Raises `TuiGruError` if there is none or it is interrupted."""
        return self._questions.origin(number, progress)

    def what_if(self, name: str, index: Any, value: Any, t: int | None = None) -> WhatIf:
        """Return the effect on this batch if a parameter, a value or delta of timestep `t`, or a gradient had another value.

        Changes neither the run nor a branch. Raises `TuiGruError` if the number cannot be changed or has not been computed yet.
        """
        return self._questions.what_if(name, index, value, t)

    def batch_check(self) -> Check:
        """Prepare the check of this batch; call its `run` in any thread. It only reads, and never changes the training."""
        return self._questions.check()

    def check(self, *, entries: int = 2, seed: int = 0) -> CheckReport:
        """Compare all numbers of this batch with PyTorch's autograd and with finite differences. Imports torch.

        If the batch does not learn, a copy of it gets a backward pass. Raises `TuiGruError` if a number is not finite.
        """
        return self.batch_check().run(entries=entries, seed=seed)

    @property
    def found(self) -> tuple[Finding, ...]:
        """The result of the last call of `findings` on this branch; empty before the first."""
        return self._questions.found

    @property
    def held_out(self) -> str:
        """The text of `hold_out`; empty without one."""
        return str(self.kept("held-out", ""))

    def hold_out(self, text: str) -> None:
        """Keep a text that is not trained on with the session, for `findings` and `report` to detect overfitting with.

        Only its first 10,000 characters are used. Raises `TuiGruError` if it does not fit the vocabulary, or the run has no text.
        """
        self.keep("held-out", self._questions.held_out(text), begin=False)

    def findings(self, *, held_out: str = "", progress: SearchProgress | None = None) -> tuple[Finding, ...]:
        """Return training problems in the run up to the position, each with its numbers and the remedy; empty for a healthy run.

        `held_out` is a text that was not trained on, used to detect overfitting; by default that of `hold_out`. Replays the last
        batches. Raises `TuiGruError` if an argument is invalid or it is interrupted.
        """
        return self._questions.findings(held_out or self.held_out, progress)

    def report(self, title: str = "a run", *, held_out: str = "", progress: SearchProgress | None = None) -> RunReport:
        """Return the contents of a report on the run up to the position, to pass to `analysis.report.written`.

        Raises `TuiGruError` if the held-out text does not fit or it is interrupted.
        """
        return self._questions.report(title, held_out or self.held_out, progress)

    def units(
        self, name: str = "", *, row: int | None = None, text: str | None = None, progress: SearchProgress | None = None
    ) -> Activity:
        """Return the value of every unit after every character of a text or of a row of this batch: `activity.values` (n, units).

        `name` defaults to the state of the last layer. With `row` (0-based) the values are those of the run, NaN if they have not
        been computed yet; without it, `text` is read with the current weights, by default the training text. Raises
        `TuiGruError`.
        """
        return self._questions.units(name, row, text, progress)

    def influence(
        self,
        row: int = 0,
        t: int | None = None,
        *,
        character: str | None = None,
        back: int | None = None,
        occlusion: bool = True,
    ) -> Influence:
        """Return how much the prediction of a row after timestep `t` (0-based; default: the position's) depends on earlier inputs.

        `character` is the one whose probability is explained, by default the most likely; at least `back` earlier inputs are
        included. Without `occlusion`, which takes most of the time, only the gradient is computed. Raises `TuiGruError`.
        """
        return self._questions.influence(row, t, character, back, occlusion)

    def influence_of_rows(self, row: int = 0, t: int | None = None) -> RowInfluence:
        """Return how much the prediction of a row after timestep `t` (0-based; default: the position's) depends on each row.

        Computed by the gradient of each row, and by leaving out all other rows together. Both are 0 for other rows in a model
        that processes its rows independently. Raises `TuiGruError`.
        """
        return self._questions.influence_of_rows(row, t)

    def losses(self, *, text: Text | None = None, progress: SearchProgress | None = None) -> TextLosses:
        """Return the loss of each character in nats, `losses.values` (n): of this batch, as far as computed, or of `text` with the
        current weights.

        Raises `TuiGruError` if the text does not fit the vocabulary, or the model has no loss of characters.
        """
        return self._questions.losses(text, progress)

    # Files

    def save(self, path: FilePath) -> None:
        """Write the session to a file, completely or not at all. Overwrites only session files. Raises `SessionFileError`."""
        self._run.recorder.save(path)

    def record_to(self, path: FilePath) -> None:
        """Save the session to a file, and update the file after every verb from now on, so that the session survives a crash.

        If the file cannot be written later, the session continues in memory only, and `notice` says so. Raises `SessionFileError`
        if the file cannot be created.
        """
        self._run.recorder.record_to(path)

    def record_later(self, place: Callable[[], FilePath | None]) -> None:
        """Like `record_to`, but create the file only when there is something to record; `place` is then called for its path.

        If the file cannot be created, the session continues in memory only, and `notice` says so. If it is in use, `place` is
        called for another path. If `place` returns None, the session is `undecided`, and `place` is called again after the next
        verb.
        """
        self._run.recorder.record_later(place)

    @property
    def undecided(self) -> bool:
        """True if there are changes that are not recorded yet, until `record_to` or `stay_in_memory` is called."""
        return self._run.recorder.undecided

    @property
    def unrecorded(self) -> bool:
        """True if the session is in memory only, although it was to be recorded or its owner was asked."""
        return self._run.recorder.unrecorded

    @property
    def opened_from(self) -> Path | None:
        """The file that the session was opened from and is not recorded to; None if there is none."""
        return self._run.recorder.opened_from

    def stay_in_memory(self, why: str = "") -> None:
        """Stop recording, and say so in the notice; `why` is the reason."""
        self._run.recorder.stay_in_memory(why)

    @property
    def recording(self) -> Path | None:
        """The file that the session is recorded to; None if there is none."""
        return self._run.recorder.path

    def owns(self, path: FilePath) -> bool:
        """Return True if the session was read from the file `path`, saved to it, or is recorded to it."""
        return self._run.recorder.owns(path)

    def records_to(self, path: FilePath) -> bool:
        """Return True if `path`, or the target of a link, is the file that the session is recorded to."""
        return self._run.recorder.records_to(path)

    def record(self) -> None:
        """Write changes to the file that the session is recorded to, if there is one. Every verb does this at its end."""
        self._run.recorder.record()

    def close(self) -> None:
        """Stop recording; the session continues in memory."""
        self._run.recorder.close()

    def keep(self, name: str, value: Any, *, begin: bool = True) -> None:
        """Save a JSON value with the session, under a name that the front end chooses: its layout, its commands.

        During a verb, it is written together with the verb's other changes. If `begin` is False, the value does not start a
        recording that waits for its first change (`record_later`). Raises `TuiGruError` if JSON cannot represent the value.
        """
        from tui_gru.debugger.storage.contents import kept
        from tui_gru.debugger.storage.encoding import from_json, to_json

        name = arguments.text("the name of a saved value", name)
        if name in kept.ENTRIES:
            raise TuiGruError(f"{name} is a reserved name; choose another")
        try:
            value = from_json(to_json(value))
        except (TypeError, ValueError, RecursionError) as error:
            raise TuiGruError(f"{name} cannot be saved with a session: {error}; use strings, numbers, lists and dicts") from None
        self._run.keep(name, value, begin=begin)

    def kept(self, name: str, default: Any = None) -> Any:
        """Return the value last saved under a name with `keep`; `default` if there is none."""
        return self.state.kept.get(arguments.text("the name of a saved value", name), default)


def _checked_epochs(epochs: int | None) -> int | None:
    if epochs is None:
        return None
    from tui_gru.debugger.program.typed import LARGEST  # imported late: few runs have an end

    return arguments.whole("epochs", epochs, least=1, most=LARGEST, option="epochs")


def _matched(outcome: Outcome) -> bool:
    return outcome.stopped_by is not None and outcome.stopped_by.cause == "condition"


def _holds_a_recording(folder: FilePath) -> bool:
    from tui_gru.interop.recording.folder import holds_a_recording  # imported late: most sessions are files

    return holds_a_recording(Path(os.path.expanduser(folder)))
