"""The public face of the debugger: verbs in (step, seek, edit, sample), values and immutable snapshots out."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.program.position import Position, in_words
from tui_gru.debugger.session import changes, comparison, picture, places, sampling, stops, travel
from tui_gru.debugger.session.guards import Progress
from tui_gru.debugger.session.questions import Questions
from tui_gru.debugger.session.run import Run, beginning
from tui_gru.debugger.session.stops import add_watch
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.debugger.state.marks import Mark
from tui_gru.debugger.state.outcome import Notice, Outcome, joined
from tui_gru.debugger.state.state import State
from tui_gru.debugger.state.stops import Breakpoint, Stops, Watch
from tui_gru.debugger.timeline.journal import JournalEntry
from tui_gru.engine import arguments
from tui_gru.engine.config import Config
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.running.weights import Array, Weights

if TYPE_CHECKING:
    from tui_gru.debugger.analysis.activity import Activity
    from tui_gru.debugger.analysis.branches_apart import Apart
    from tui_gru.debugger.analysis.checks.checked_run import CheckTotals
    from tui_gru.debugger.analysis.checks.checking import Check
    from tui_gru.debugger.analysis.checks.checking import Report as CheckReport
    from tui_gru.debugger.analysis.checks.expected import Expected
    from tui_gru.debugger.analysis.findings.finding import Finding
    from tui_gru.debugger.analysis.influence import Influence, RowInfluence
    from tui_gru.debugger.analysis.loss_places import Losses
    from tui_gru.debugger.analysis.report.report import Report
    from tui_gru.debugger.analysis.summaries import Summary
    from tui_gru.debugger.analysis.what_if import WhatIf
    from tui_gru.debugger.derivation.origin import Node, ValueRef
    from tui_gru.debugger.storage.store import FilePath
    from tui_gru.debugger.timeline.anchor import Anchor
    from tui_gru.engine.data.tokens import Text
    from tui_gru.engine.running.sampling import Sample

HISTORY_MEMORY = 256 * 2**20
RECORDING_MEMORY = 64 * 2**20  # any of its steps is computed again from what was recorded
REOPENED = "reopened where it was left: "

P = ParamSpec("P")
R = TypeVar("R")


def verb(method: Callable[Concatenate[Session, P], R]) -> Callable[Concatenate[Session, P], R]:
    """A method after which, however it ends, what has changed is written to the file that the session is recorded to."""

    @wraps(method)
    def record(session: Session, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return session._run.recorder.verb(lambda: method(session, *args, **kwargs))

    return record


class Session:
    """A training run that can be stepped, forwards and backwards in time.

    Takes every option of `Config.of` by keyword; the defaults are the tutorial's. `epochs` ends the run there; without it a run
    has no end. `history_memory` bounds what is kept of the past, in bytes (`Budget`). With `state`, the session goes on from that,
    and takes no options. Raises `TuiGruError` for bad input.
    """

    def __init__(
        self, *, epochs: int | None = None, history_memory: int = HISTORY_MEMORY, state: State | None = None, **options: Any
    ) -> None:
        if state is None:
            epochs = _checked_epochs(epochs)
            state = beginning(Config.of(**options), epochs, history_memory)
        elif options or epochs is not None:
            raise TuiGruError("a session that goes on from a state has its options from there; leave out any others")
        self._run = Run(state)
        self._questions = Questions(self._run)

    @classmethod
    def on(cls, config: Config, *, weights: Weights | None = None, history_memory: int = HISTORY_MEMORY) -> Self:
        """A session on a checked config, from its own initial weights unless others are given. Given batches end with the last."""
        return cls(state=beginning(config, None if config.given is None else 1, history_memory, weights))

    @classmethod
    def open(cls, path: FilePath, *, record: bool = False, history_memory: int | None = None) -> Self:
        """The session in a file, where it was left, paused; with `record`, what is done from here on goes to the same file.

        Without it the file stays as it is, and the first change says in `notice` that it is in memory only, unless `record_to` or
        `record_later` has said where it goes.

        The folder of a recording opens on its first kept step, each of which is a batch.

        `history_memory` bounds what is kept of the past, in bytes, from here on; without it, what bounded them before does. Raises
        `SessionFileError` where there is none that can be read, `DivergedError` where this machine computes other numbers.
        """
        if isinstance(path, str | os.PathLike) and os.path.isdir(path) and _holds_a_recording(path):
            from tui_gru.debugger.session.recordings import opened as opened_recording  # late: few sessions are on one

            config, said = opened_recording(path)
            session = cls.on(config, history_memory=RECORDING_MEMORY if history_memory is None else history_memory)
            session.notice = said
            return session
        from tui_gru.debugger.storage.store import RecordedFile, load

        file = RecordedFile.resume(path, history_memory) if record else None
        opened = load(path, history_memory) if file is None else file.begun
        session = cls(state=opened.state)
        session._run.recorder.resume(opened, file)
        session._run.notice = joined(Notice(f"{REOPENED}{session.left_at}"), Notice(opened.trouble, warning=True))
        return session

    # What it is

    @property
    def state(self) -> State:
        """Everything of it that survives the process. Immutable: each verb leads to another."""
        return self._run.state

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
        """After how many epochs the run ends; None where it has no end."""
        return self._run.state.epochs

    @epochs.setter
    def epochs(self, value: int | None) -> None:
        self._run.update(epochs=_checked_epochs(value))

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """The names of all parameters, in the order of the equations."""
        return self.program.parameters

    def program_text(self) -> str:
        """The listing, a line a row, as it stands on screen."""
        return "".join(f"{'  ' * row.indent}{row.text}\n" for row in self.program.rows)

    def snapshot(self) -> Snapshot:
        """Everything a screen draws about this moment, immutable."""
        return picture.snapshot(self._run, self._questions.found)

    @property
    def steps(self) -> tuple[int, ...]:
        """The numbers of the steps that a recording has kept, each of which is a batch here; none for any other session."""
        return () if self.config.given is None else self.config.given.steps

    # What the last verb has come to

    @property
    def outcome(self) -> Outcome:
        """Where the session is, what stopped its last run, and the message."""
        return self._run.outcome

    @property
    def notice(self) -> str:
        """The message of the last verb, empty where there is none; `outcome.notice` says whether it is a warning."""
        return "" if self._run.notice is None else self._run.notice.text

    @notice.setter
    def notice(self, text: str) -> None:
        self._run.notice = Notice(text) if text else None

    def add_notice(self, text: str, *, warning: bool = False, first: bool = False) -> None:
        """Say something after the message of the last verb, or, with `first`, before it."""
        one = Notice(text, warning)
        self._run.notice = joined(one, self._run.notice) if first else joined(self._run.notice, one)

    # Where it is

    @property
    def position(self) -> Position:
        """The place in time: it says which line has just been executed."""
        return self._run.position

    @property
    def newest(self) -> Position:
        """The furthest place reached on this branch."""
        return self._run.timeline.position(self.state.branches.newest)

    @property
    def end(self) -> Position | None:
        """The last place of a run of `epochs`; None where the run has no end."""
        return self._run.end

    @property
    def left_at(self) -> str:
        """Where the session is, how many branches and changes it has: one line for the notice of a session that is reopened."""
        at, branches, changes = self.position, len(self.branches), len(self.state.branches.done)
        return (
            f"{in_words(at.epoch, at.batch, at.t, between=' · ')} on {self.branch}, "
            f"{branches} {'branch' if branches == 1 else 'branches'}, {changes} {'change' if changes == 1 else 'changes'}"
        )

    def batches_to(self, tick: int | None = None) -> int:
        """At most how many batches are run, or run again, on the way to a tick of this branch; None: to where it stands."""
        timeline = self._run.timeline
        batch = max((self.position.tick if tick is None else tick) - 1, 0) // self.program.ticks
        ahead = batch - timeline.computed
        return ahead if ahead > 0 else batch - timeline.replay_start(batch) + 1

    def anchor(self, tick: int | None = None) -> Anchor:
        """This moment, or another of this branch: something to ask `holds` about later."""
        from tui_gru.debugger.timeline.anchor import Anchor  # late: nothing is asked about the first picture

        return Anchor(self._run.timeline, self.position.tick if tick is None else tick)

    def holds(self, anchor: Anchor) -> bool:
        """Whether the current branch has that moment, and nothing in it has been changed since."""
        from tui_gru.debugger.timeline.anchor import Anchor

        if not isinstance(anchor, Anchor):
            raise TuiGruError(f"an anchor is what `anchor` gave, not {arguments.shown(anchor)}")
        return self._run.timeline.still_has(anchor)

    # Moving in time

    @verb
    def step(self, level: str = "timestep", count: int = 1, *, progress: Progress | None = None) -> Position:
        """Step `count` ops, timesteps, phases, batches or epochs; a negative count goes back in time. Returns the position.

        A step ends where its level does: `batch` goes to the end of the batch. In reverse it leads back to where the session was.
        """
        return travel.step(self._run, level, count, progress).position

    @verb
    def seek(self, place: str | Position | int, *, progress: Progress | None = None, along: bool = False) -> Position:
        """Go to `e3 b2 t1` (counted from 1: just after timestep 1 of batch 2 of epoch 3), to a `Position`, or to a tick.

        A moment not reached yet is run to. `along` goes on with the jump before it, so that `'` leads back to where that began.
        """
        return places.seek(self._run, place, progress, along=along).position

    @verb
    def sgd(self, count: int = 1, *, progress: Progress | None = None) -> Position:
        """An SGD step: finish this batch from wherever in it the session is, backward and update; `count` of them."""
        return travel.sgd(self._run, count, progress).position

    @verb
    def run_to(self, line: str, *, progress: Progress | None = None) -> Position:
        """Run to where a line, named by what it computes, is executed next: in this timestep, a later one, or the next batch."""
        return travel.run_to(self._run, line, progress).position

    @verb
    def continue_(self, progress: Progress | None = None) -> bool:
        """Run until something stops it: True; else to the end of the run, or to where it was interrupted.

        Raises `ConditionError` where a condition cannot be evaluated, and stops there.
        """
        return travel.continue_(self._run, progress).stopped_by is not None

    @verb
    def reverse_continue(self, progress: Progress | None = None) -> bool:
        """Go back to the last place before this one where something stops: True; else to the beginning, or until interrupted.

        Raises `ConditionError` where a condition cannot be evaluated, and stops there.
        """
        return travel.reverse_continue(self._run, progress).stopped_by is not None

    @verb
    def run_until(self, condition: str, *, progress: Progress | None = None) -> bool:
        """Run forwards until a condition holds at a place where something it reads is computed. True if it stopped there."""
        return _matched(places.search(self._run, condition, True, progress))

    @verb
    def run_back_until(self, condition: str, *, progress: Progress | None = None) -> bool:
        """Go back to the last place before this one where a condition holds. True if it stopped there; else at the beginning."""
        return _matched(places.search(self._run, condition, False, progress))

    @verb
    def next_match(self, forwards: bool = True, progress: Progress | None = None) -> bool:
        """Search again for the last condition. True if it stopped there."""
        return _matched(places.next_match(self._run, forwards, progress))

    @property
    def last_condition(self) -> str:
        """The condition of the last search, in either direction; empty if there was none."""
        return self.state.last_condition

    @verb
    def run_to_not_finite(self, *, progress: Progress | None = None) -> bool:
        """Go to the first number of the run that is not finite, as far as it has been run; of a recording, of all its steps.

        True if there is one; `notice` says which it is.
        """
        return places.first_not_finite(self._run, progress)

    def interrupt(self) -> None:
        """Stop a run that another thread is in, or is about to begin, at the end of the batch it is at."""
        self._run.interrupts.interrupt()

    def forget_interrupt(self) -> None:
        """Let no interrupt that has come until now stop what is begun next: it came as the run before had ended by itself."""
        self._run.interrupts.forget()

    @property
    def interrupts(self) -> int:
        """How often `interrupt` was called."""
        return self._run.interrupts.count

    @property
    def stop_on_nan(self) -> bool:
        """Whether a run stops where the loss or a weight is not finite, or where the loss, the gradient's norm or a weight grows
        a thousandfold within a batch."""
        return self.state.stop_on_nan

    @stop_on_nan.setter
    def stop_on_nan(self, value: bool) -> None:
        self._run.update(stop_on_nan=arguments.truth("stop_on_nan", value))

    @property
    def check_every_batch(self) -> bool:
        """Whether each batch that a run finishes is compared with PyTorch's autograd; a run stops where they do not agree.

        What has come of it is in `checked`. It takes ten to twenty times as long as training the batch.
        """
        return self._run.checks.totals is not None

    @check_every_batch.setter
    def check_every_batch(self, value: bool) -> None:
        self._run.checks.turn(arguments.truth("check_every_batch", value))

    @property
    def checked(self) -> CheckTotals | None:
        """What has come of checking every batch; None where that is off."""
        return self._run.checks.totals

    # Breakpoints, watches and marks

    @property
    def stops(self) -> Stops:
        """All breakpoints and watches. They are the session's: going to another branch changes nothing of them."""
        return self.state.stops

    def break_at(self, line: str = "", *, condition: str = "", hits: str = "", log: str = "") -> Breakpoint:
        """Stop after a line, named by what it computes; where a condition holds, or both; at some of the hits if `hits` says so.

        With `log`, a template such as `loss {loss:.3f}`, write instead of stopping. Raises `TuiGruError` for a line that there is
        not, `ConditionError`, with the column, for texts that are none.
        """
        return stops.break_at(self._run, line, condition, hits, log)

    def watch(self, expression: str, *, stops: bool = False) -> Watch:
        """Show the value of an expression; with `stops`, stop where it changes. Raises `ConditionError`."""
        return add_watch(self._run, expression, stops)

    def change_stop(self, id: int, /, **changes: Any) -> Breakpoint | Watch:
        """Change anything of a breakpoint or a watch but its id. Raises `TuiGruError`."""
        return stops.change(self._run, id, changes)

    def delete_stop(self, id: int) -> None:
        """Delete a breakpoint or a watch. Raises `TuiGruError` where there is none with that id."""
        stops.delete(self._run, id)

    @property
    def marks(self) -> tuple[Mark, ...]:
        """All marks, a to z and then A to Z."""
        return self.state.marks.sorted

    def mark(self, letter: str) -> Mark:
        """Keep this place under a letter, a to z or A to Z."""
        return places.mark(self._run, letter)

    def delete_mark(self, letter: str) -> None:
        """Forget a mark. Raises `TuiGruError` where there is none."""
        places.delete_mark(self._run, letter)

    def jump(self, letter: str, *, progress: Progress | None = None) -> Position:
        """Go to a mark, on whatever branch it is; with `'`, to where the session was before the last jump, search or switch."""
        return self._jump(*places.destination(self._run, letter), progress)

    @verb
    def _jump(self, branch: str, tick: int, progress: Progress | None) -> Position:
        return places.jump(self._run, branch, tick, progress).position

    # Changing the future

    @property
    def learning(self) -> bool:
        """Whether batches end with backward and update. Setting it in the past forks a branch."""
        return self._run.settings.learning

    @learning.setter
    @verb
    def learning(self, value: bool) -> None:
        changes.learning(self._run, value)

    @property
    def learning_rate(self) -> float:
        """The learning rate. Setting it in the past forks a branch."""
        return self._run.settings.learning_rate

    @learning_rate.setter
    @verb
    def learning_rate(self, value: float) -> None:
        changes.learning_rate(self._run, value)

    @verb
    def edit(self, name: str, index: Any = None, value: Any = None) -> Position:
        """Change a number of a parameter, a value or a gradient, a character of the text (its 0-based place), or the rate.

        h and h_prev can be changed as long as they are not used, a weight at any time, another value only just after its line.
        In the past this forks a branch; the old future stays. Returns the position.
        """
        if value is None:
            index, value = None, index
        return changes.edit(self._run, name, index, value).position

    @verb
    def adopt(self, what: WhatIf) -> Position:
        """Make a what-if so: go to just after the line that wrote the number, and edit it there, which forks in the past."""
        return changes.adopt(self._run, what).position

    @verb
    def undo(self) -> bool:
        """Take back the last change, and go to where it was made. False if there is none."""
        return changes.undo(self._run)

    @verb
    def redo(self) -> bool:
        """Make the change that was taken back again, and go to where the session was then. False if there is none."""
        return changes.redo(self._run)

    @property
    def last_change(self) -> JournalEntry | None:
        """The change that `undo` would take back."""
        return self.state.branches.last_change

    @property
    def next_change(self) -> JournalEntry | None:
        """The change that `redo` would do again."""
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
        """Go to another branch, to the same place in time, or its newest if it has not come so far."""
        return places.switch(self._run, name).position

    @verb
    def rename_branch(self, old: str, new: str) -> None:
        """Give a branch another name, of one word."""
        changes.rename_branch(self._run, old, new)

    @verb
    def delete_branch(self, name: str) -> None:
        """Delete a branch other than the current one, and the marks on it. This cannot be undone.

        Branches that have left it keep the past that they share with it.
        """
        changes.delete_branch(self._run, name)

    @property
    def comparing(self) -> str | None:
        """The branch that this one is compared with; None if there is no comparison, or that branch is gone."""
        return comparison.comparing(self._run)

    @verb
    def compare(self, name: str | None = "") -> str | None:
        """Compare this branch with another, from here on; None ends it. Returns the name of the other.

        With no name it is the branch that this one has left, or the last that has left this one. A branch switched to later is
        compared with `name`; and when that is switched to, it with this one. Raises `TuiGruError` where there is no such branch.
        """
        return comparison.compare(self._run, name)

    def apart(self, name: str = "", *, progress: Progress | None = None) -> Apart:
        """Where this branch and another first differ, and how far apart their losses and their samples of this moment are.

        With no name the other is the one compared with, else as in `compare`. Raises `TuiGruError`, also where it is interrupted.
        """
        return comparison.apart(self._run, name, progress)

    # Values

    def value(self, name: str, t: int | None = None) -> Any:
        """A value by name as of the position, or of timestep `t` (0-based) of this batch: (B, H) or (B, V) read-only, a number,
        or None where it is not computed yet."""
        return self._questions.value(name, t)

    def parameter(self, name: str) -> Array:
        """A parameter as of the position, read-only."""
        return self._questions.parameter(name)

    def gradient(self, name: str) -> Array | None:
        """The gradient of a parameter as of the position, read-only; None where there is none yet."""
        return self._questions.gradient(name)

    @property
    def loss(self) -> float | None:
        """The loss of this batch; None until its line has been executed."""
        value: float | None = self._run.moment.value("loss")
        return value

    @property
    def expected(self) -> Expected | None:
        """The output of this batch beside the one that the model gave elsewhere; None where that is not known."""
        return self._questions.expected()

    def recorded_gradient(self, name: str) -> Array | None:
        """p.grad of a parameter as the script's optimizer used it, under our name and in our shape, read-only; None where it
        is not known."""
        return self._questions.recorded_gradient(name)

    @property
    def said(self) -> str:
        """How p.grad of this batch came from the derived gradients (equal, clipped, scaled), and what else is to be said of it."""
        given = self.config.given
        return "" if given is None else given.batches[self.position.batch].said()

    def summary(self, name: str, t: int | None = None) -> Summary | None:
        """What is in a value, a parameter or a gradient: shares of saturated and near-zero entries, the largest, a histogram.

        As `value` reads it; None where it is not computed yet. Raises `TuiGruError` for what is one number.
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
        sampler: str = "fed-back",
        temperature: float = 1.0,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> str:
        """Sample text with the parameters of this moment: the primer and `length` characters. Never changes the training.

        The sample is kept with the session; where it is interrupted, as far as it has come. Raises `TuiGruError`, also for more
        than `LONGEST_SAMPLE` characters.
        """
        return sampling.sample(self._run, primer, length, sampler, temperature, seed, progress).text

    # Questions

    def explain(self, name: str, index: Any = (), t: int | None = None) -> Node:
        """Where entry `index` of `name` comes from, at timestep `t` (0-based; default: the position's), as of the position.

        `explain("h", (1, 0)).terms` are what it is the sum of, and each can be asked in turn. Raises `TuiGruError`.
        """
        return self._questions.explain(name, index, t)

    def origin(self, number: ValueRef, *, progress: Progress | None = None) -> Node:
        """Where a number of this branch comes from, wherever in time it is. Raises `TuiGruError`, also where it is interrupted."""
        return self._questions.origin(number, progress)

    def what_if(self, name: str, index: Any, value: Any, t: int | None = None) -> WhatIf:
        """What would come of another number in this batch: a parameter, a value or delta of timestep `t`, or a gradient.

        Neither the run nor a branch is touched. Raises `TuiGruError` for what cannot be changed or is not computed yet.
        """
        return self._questions.what_if(name, index, value, t)

    def batch_check(self) -> Check:
        """The check of this batch, prepared now; `run` it in any thread. It reads only, and never changes the training."""
        return self._questions.check()

    def check(self, *, entries: int = 2, seed: int = 0) -> CheckReport:
        """Compare everything in this batch with PyTorch's autograd, and with finite differences; imports torch.

        Of a batch that does not learn a copy is given a backward pass. Raises `TuiGruError` where a number is not finite.
        """
        return self.batch_check().run(entries=entries, seed=seed)

    @property
    def found(self) -> tuple[Finding, ...]:
        """What `findings` has found last, on this branch; nothing before it was asked."""
        return self._questions.found

    def findings(self, *, held_out: str = "", progress: Progress | None = None) -> tuple[Finding, ...]:
        """The mistakes that the run shows up to the position, each with its numbers and the cure; none in a healthy run.

        `held_out` is a text that was not trained on, to look for overfitting. Replays the last batches. Raises `TuiGruError`, also
        where it is interrupted.
        """
        return self._questions.findings(held_out, progress)

    def report(self, title: str = "a run", *, held_out: str = "", progress: Progress | None = None) -> Report:
        """Everything that a report says of the run up to the position, to be written by `analysis.report.written`."""
        return self._questions.report(title, held_out, progress)

    def units(
        self, name: str = "", *, row: int | None = None, text: str | None = None, progress: Progress | None = None
    ) -> Activity:
        """A value of every unit after every character, `activity.values` (n, units): of a whole text, or of a row of this batch.

        `name` is the state of the last layer unless it is given. With `row` (0-based) the values are those of the run, NaN where
        they are not computed yet; without, `text` is read with the weights of now, by default the text that is trained on. Raises
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
        """What the prediction of a row after timestep `t` (0-based; default: the position's) depends on: every earlier input.

        `character` is the one whose probability is looked at, the likeliest without it; `back` how many inputs before it are looked
        at, at least. Without `occlusion`, which takes most of the time, there is the gradient alone. Raises `TuiGruError`.
        """
        return self._questions.influence(row, t, character, back, occlusion)

    def influence_of_rows(self, row: int = 0, t: int | None = None) -> RowInfluence:
        """How every row of the batch affects the prediction of one after timestep `t` (0-based; default: the position's).

        By the gradient of each, and by leaving out all others together. Both are 0 for other rows in a model that keeps its rows
        apart. Raises `TuiGruError`.
        """
        return self._questions.influence_of_rows(row, t)

    def losses(self, *, text: Text | None = None, progress: Progress | None = None) -> Losses:
        """The loss of every character of this batch, as far as it is computed, or of a text read with the weights of now, nats."""
        return self._questions.losses(text, progress)

    # Files

    def save(self, path: FilePath) -> None:
        """Write the session to a file, all of it or nothing. Raises `SessionFileError`; only a session is ever overwritten."""
        self._run.recorder.save(path)

    def record_to(self, path: FilePath) -> None:
        """Save the session and bring the file up to it after every verb from here on, so that it survives the end of the process.

        Where the file cannot be written any more, the session goes on in memory, and `notice` says so. Raises `SessionFileError`
        where it cannot be begun.
        """
        self._run.recorder.record_to(path)

    def record_later(self, place: Callable[[], FilePath | None]) -> None:
        """As `record_to`, but from the first thing on that is done or kept: until then there is no file. `place` names it then.

        Where the file cannot be begun, the session goes on in memory, and `notice` says so. Where it is in use, `place`
        is asked for another. Where it is None, the session is `undecided`, and `place` is asked again after the next verb.
        """
        self._run.recorder.record_later(place)

    @property
    def undecided(self) -> bool:
        """Whether something was done that is recorded nowhere yet: `record_to` or `stay_in_memory` decides."""
        return self._run.recorder.undecided

    @property
    def unrecorded(self) -> bool:
        """Whether the session is in memory only, though it was to be recorded or its owner was asked."""
        return self._run.recorder.unrecorded

    @property
    def opened_from(self) -> Path | None:
        """The file that it was read from and is not recorded to."""
        return self._run.recorder.opened_from

    def stay_in_memory(self, why: str = "") -> None:
        """Record no more, and say so."""
        self._run.recorder.stay_in_memory(why)

    @property
    def recording(self) -> Path | None:
        """The file that is recorded to."""
        return self._run.recorder.path

    def records_to(self, path: FilePath) -> bool:
        """Whether a file, or what a link leads to, is the one that is recorded to."""
        return self._run.recorder.records_to(path)

    def record(self) -> None:
        """Write what has changed to the file that is recorded to, if there is one. Every verb does, once, at its end."""
        self._run.recorder.record()

    def close(self) -> None:
        """End the recording; the session goes on in memory."""
        self._run.recorder.close()

    def keep(self, name: str, value: Any, *, begin: bool = True) -> None:
        """Have a value of JSON saved with the session, under a name of a front end's own: its layout, its commands.

        Within a verb it is written with what else that changes. Without `begin` it is no reason to begin a recording that was put
        off; it will be there when that begins. Raises `TuiGruError` for what JSON does not have.
        """
        from tui_gru.debugger.storage import kept
        from tui_gru.debugger.storage.encoding import from_json, to_json

        name = arguments.text("a name to keep a value under", name)
        if name in kept.NAMES:
            raise TuiGruError(f"{name} is a name that the session keeps something of its own under; choose another")
        try:
            value = from_json(to_json(value))
        except (TypeError, ValueError, RecursionError) as error:
            raise TuiGruError(
                f"{name} cannot be kept with a session: {error}; make it of texts, numbers, lists and dicts"
            ) from None
        self._run.keep(name, value, begin=begin)

    def kept(self, name: str, default: Any = None) -> Any:
        """What was last kept under a name."""
        return self.state.kept.get(arguments.text("the name of a kept value", name), default)


def _checked_epochs(epochs: int | None) -> int | None:
    return None if epochs is None else arguments.whole("epochs", epochs, least=1, option="epochs")


def _matched(outcome: Outcome) -> bool:
    return outcome.stopped_by is not None and outcome.stopped_by.cause == "condition"


def _holds_a_recording(folder: FilePath) -> bool:
    from tui_gru.interop.recording.folder import holds_a_recording  # late: most sessions are files

    return holds_a_recording(Path(folder))
