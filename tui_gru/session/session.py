"""`Session`, the public interface of the debugger: its verbs and its snapshots; `Queries` has what can be asked of it."""

from __future__ import annotations

import os
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self, Unpack

import numpy as np

from tui_gru import arguments, errors
from tui_gru.debugger import drafts
from tui_gru.debugger import state as by_branch
from tui_gru.debugger.edits import JournalEntry, as_index, plan
from tui_gru.debugger.position import FAR, Level, Position, check_level, in_words, tick_of
from tui_gru.debugger.possible import refuse_impossible
from tui_gru.debugger.state import Mark, Marks, Notice, Outcome, State, joined_notices, newest_samples
from tui_gru.debugger.stops import Breakpoint, S, Stops, Watch, changed, line_named
from tui_gru.debugger.timeline import Branch, Branches
from tui_gru.debugger.trouble import finite_answer, first_not_finite
from tui_gru.engine.config import Config, Options, Sampler, check_options, check_setting
from tui_gru.engine.data import ImportedConfig, config_from
from tui_gru.engine.numbers import mib, significant
from tui_gru.engine.source import Imported
from tui_gru.engine.weights import Weights
from tui_gru.errors import TuiGruError
from tui_gru.paths import FilePath, permitted
from tui_gru.session import pages, sources
from tui_gru.session.queries import AutogradChecks, Queries
from tui_gru.session.snapshot import Snapshot
from tui_gru.session.travel import Interrupts, Run, SearchProgress, beginning

if TYPE_CHECKING:
    from tui_gru.session.queries import CheckTotals, WhatIf
    from tui_gru.storage.recorder import SessionRecorder

# ------------------------------------------------------------------------------
# The public interface of the debugger: verbs (step, seek, edit, sample), values, and immutable snapshots.


LONGEST_SAMPLE = 10_000  # characters: a session stores the probabilities of each
ALIASES = {"lr": "learning_rate", "clip": "limit"}

HISTORY_MEMORY = 256 * 2**20
RECORDING_MEMORY = 64 * 2**20  # bytes; less than for other sessions, because any step can be recomputed from the recording
#: Public names that screens, pages and the files of sessions use, and nobody types.
OF_SCREENS = {
    "add_notice", "add_trial", "anchor", "batch_check", "batches_to", "by_module", "carry_over", "checked", "counts_first",
    "derive", "found", "gone", "held_out", "holds", "interrupts", "is_on_trial", "keep", "kept", "left_at", "memory_notice",
    "on", "outcome", "passing", "prefetch", "recorder", "remarks", "silent", "snapshot", "state", "step_each", "tick_after",
    "tried_options",
}  # fmt: skip
REOPENED, EARLIER = "reopened where it was left: ", "reopened at an earlier state: "


class Session(Queries):
    """A training run that can be stepped forwards and backwards in time.

    Takes every option of `Config.of` by keyword; the defaults are the tutorial's. In the place of a text, `input` and `target` are
    series of numbers (`engine.data.series_of`). `epochs` ends the run after so many epochs; without it, the run has no end.
    `history_memory` limits the memory of the stored past, in bytes (`Budget`). With `state`, the session continues from that state,
    and takes no options. Raises `TuiGruError` for invalid arguments. What it tells of the run is in `Queries`.
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
            check_options(options, "input", "target", "epochs", "history_memory")
            epochs = _checked_epochs(epochs)
            state = beginning(config_from(options), epochs, history_memory)
        elif not isinstance(state, State):
            raise TuiGruError(f"state must be `Session.state` of another session, not {errors.shown(state)}")
        elif options or epochs is not None:
            raise TuiGruError("a session that continues from a state takes its options from it; leave out any others")
        super().__init__(Run(state, AutogradChecks()))
        self.by_module: dict[str, Session] = {}  # those opened on modules of the same batch or recording, this one among them

    def __repr__(self) -> str:
        config, at = self.config, self.position
        sizes = " ".join(f"{axis} {size}" for axis, size in config.sizes.items())
        place = in_words(at.epoch, at.batch, at.t, at.phase, step=at.step) if at.tick else "at the start"
        loss = ""
        with suppress(TuiGruError):  # a recording that cannot be read any more
            loss = "" if self.loss is None else f", loss {self.loss:.6g}"
        return f"<Session on {config.cell} ({sizes}): {place}, on {self.branch}{loss}>"

    def __dir__(self) -> list[str]:
        """The names that a user of Python looks for; those that only screens and pages read are left out."""
        return sorted(name for name in super().__dir__() if name not in OF_SCREENS)

    def __reduce__(self) -> NoReturn:
        raise TuiGruError("a session has threads and files, so it cannot be copied or pickled; save it, and open the file")

    @classmethod
    def on(cls, config: Config, *, weights: Weights | None = None, history_memory: int = HISTORY_MEMORY) -> Self:
        """Create a session on a checked config; `weights` default to its initial weights.

        A run on imported batches ends with the last.
        """
        config = arguments.instance("config", config, Config, "a result of `Config.of`")
        weights = None if weights is None else arguments.instance("weights", weights, Weights, "those of another session")
        return cls(state=beginning(config, config.source.epochs, history_memory, weights))

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
        folder = permitted(path) if isinstance(path, str | os.PathLike) else None
        if folder is not None and os.path.isdir(folder) and sources.is_recording(Path(folder)):
            source, notice = sources.recorded_steps(Path(folder))
            memory = RECORDING_MEMORY if history_memory is None else history_memory
            session = cls.on(ImportedConfig.of_source(source), history_memory=memory)
            session.notice = notice
            return session
        from tui_gru.storage.store import RecordedFile, read_session

        file = RecordedFile.resume(path, sources.recording_of, history_memory) if arguments.boolean("record", record) else None
        opened = read_session(path, sources.recording_of, history_memory) if file is None else file.begun
        session = cls(state=opened.state)
        session._run.recorder.resume(opened, file)
        begins = EARLIER if opened.is_earlier else REOPENED
        notices = Notice(f"{begins}{session.left_at}"), Notice(opened.trouble, warning=True), session._run.on_machines()
        session._run.notice = joined_notices(*notices)
        return session

    # Run and program

    @property
    def epochs(self) -> int | None:
        """The number of epochs after which the run ends; None if it has no end. Less than 1 raises `TuiGruError`."""
        return self._run.state.epochs

    @epochs.setter
    def epochs(self, value: int | None) -> None:
        self._run.update(epochs=_checked_epochs(value))

    def snapshot(self) -> Snapshot:
        """Return everything that a screen draws of this moment, immutable."""
        snapshot = Snapshot.of(self._run, self.found)
        if self._silent is None:
            return snapshot
        try:
            return snapshot.without(self._silent, self._moment, self._run)
        except TuiGruError as error:
            self.add_notice(f"{self._silent.written(self.program)} is no longer held at 0: {error}", warning=True)
            self.silence()
            return Snapshot.of(self._run, self.found)

    def passing(self, *, writes: bool = False) -> Snapshot | None:
        """Return the snapshot of the batch that a run forwards has just finished. To be called by its `progress`.

        None at any other time, and for a batch that is only replayed, which is not on the way of the run. With `writes`, it has
        what the model writes now (`Snapshot.draft`).
        """
        writes = arguments.boolean("writes", writes)
        snapshot = Snapshot.of_passing(self._run, self.found)
        if writes and snapshot is not None and snapshot.has_arrays:
            snapshot = snapshot.with_draft()
        if self._silent is None or snapshot is None or not snapshot.has_arrays:
            return snapshot
        with suppress(TuiGruError):  # said by `snapshot`, once the run has ended
            moment = self._without_unit(snapshot.moment, self._silent)
            return snapshot.without(self._silent, moment, self._run)
        return snapshot

    def keep_draft(self) -> bool:
        """Keep what the model writes at first, and after the batch that a run forwards has just finished, if there is to be a draft
        (`debugger.drafts`). To be called at the start, and by the `progress` of a run with each batch.

        Return True if there was one to draw. Drafts stay in the session: `state.drafts`. They never change the training.
        """
        run = self._run
        if not run.settings.learning:
            return False
        weights: dict[int, Weights] = {}
        if run.state.tick == 0 and not run.state.drafts:
            weights[0] = run.moment.weights
        if run.passing is not None:
            batch, record = run.passing
            for count, after in ((batch, record.before), (batch + 1, record.after)):
                if count and drafts.is_drafted(count):
                    weights[run.timeline.end_of(count - 1)] = after
        if not weights or not drafts.can_draft(self.config):
            return False
        text = run.timeline.segment_at(run.state.tick).trainer.corpus.text
        earlier = {draft.tick for draft in run.state.drafts.get(run.state.branch, ())}
        due = sorted(weights.keys() - earlier)
        for tick in due:
            if (draft := drafts.draft_of(self.config, text, weights[tick], tick)) is not None:
                run.update(**by_branch.with_draft(run.state, draft))
        return bool(due)

    def carry_over(self, state: State, marks: Marks) -> None:
        """Take breakpoints, watches, and what a front end has saved from the state of another session, and these marks."""
        state = arguments.instance("state", state, State, "`Session.state` of another session")
        marks = arguments.instance("marks", marks, Marks, "the marks of a state")
        self._run.update(stops=state.stops, marks=marks, stop_on_nan=state.stop_on_nan, kept=state.kept)
        self._run.update(last_condition=state.last_condition)

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
        self._run.notice = Notice(text) if arguments.string("a notice", text) else None

    def add_notice(self, text: str, *, warning: bool = False, first: bool = False) -> None:
        """Append a message to the message of the last verb, or prepend it if `first` is True."""
        one = Notice(arguments.string("a notice", text), arguments.boolean("warning", warning))
        first = arguments.boolean("first", first)
        self._run.notice = joined_notices(one, self._run.notice) if first else joined_notices(self._run.notice, one)

    @property
    def memory_notice(self) -> str:
        """What the stored past takes, if that is much more than `history_memory`; otherwise an empty string."""
        budget, batch = self.state.timeline.memory.budget, self.config.record_bytes
        if budget.is_enough:
            return ""
        return (
            f"a batch of this model takes {mib(batch)}: its history takes up to {mib(budget.most_bytes)}, not {mib(budget.limit)}"
        )

    # Moving in time

    def step(self, level: Level = "timestep", count: int = 1, *, progress: SearchProgress | None = None) -> Position:
        """Step `count` lines (`line` or `op`), timesteps, phases, batches or epochs, back in time if `count` is negative.

        Returns the position.

        A step goes to the end of its level: `batch` to the end of the batch. Stepping back returns to the positions before the
        steps forward. Stops at breakpoints. Raises `TuiGruError` for an unknown level.
        """
        run = self._run
        with run.verb():
            before, start, level = run.state.stride, run.state.tick, check_level(level)
            index = run.timeline.step_index(level)
            count = max(-FAR, min(FAR, arguments.integer("count", count)))
            stride = before.onwards(level, start, count)
            target, cut = stride.target(index, count)
            memory = before if cut and target == start else stride.with_steps(count, target, cut)
            with run.under_way():
                if run.stops.active(run.state.stops):
                    run.walk(target, progress)
                else:
                    run.go(target, progress, memory)
            reached = run.state.tick
            if reached != target:
                memory = before if reached == start else stride.with_steps(count, reached, True)
            if run.state.stride is not memory:
                run.update(stride=memory)
        return run.position

    def step_each(self, level: Level = "timestep", count: int = 1, *, progress: SearchProgress | None = None) -> Position:
        """Take `count` steps one after another, back in time if `count` is negative, as many calls of `step` would.

        Other than in one call of `step`, a breakpoint or watch ends only the step in which it stops. The steps up to there are one
        walk. Ends early if interrupted. Returns the position. Raises `TuiGruError` for an unknown level.
        """
        run, level, count = self._run, check_level(level), arguments.integer("count", count)
        direction, left, interrupts = 1 if count > 0 else -1, min(abs(count), FAR), run.interrupts.count
        with run.verb():
            while left and run.interrupts.count == interrupts:
                start, before = run.state.tick, run.state.stride
                index, stride = run.timeline.step_index(level), before.onwards(level, start, direction)
                many = 1 if before.cut else max(1, stride.uncut_steps(index, direction, left))
                target, _ = stride.target(index, direction * many)
                self.step(level, direction * many, progress=progress)
                reached = run.state.tick
                if many > 1 and reached not in (start, target):  # a stop, at the end of one of these steps or inside one
                    many = stride.steps_to(index, direction, many, reached)
                    at, _ = stride.target(index, direction * many)
                    memory = stride.with_steps(direction * many, at, False)
                    if at != reached:
                        many, memory = many + 1, memory.with_steps(direction, reached, True)
                    run.update(stride=memory)
                elif (reached, run.state.stride) == (start, before):  # nor would the others lead anywhere
                    break
                left -= many
        return run.position

    def seek(self, place: str | Position | int, *, progress: SearchProgress | None = None, along: bool = False) -> Position:
        """Go to `e3 b2 t1` (counted from 1: just after timestep 1 of batch 2 of epoch 3), to a `Position`, or to a tick.

        Runs to a position that has not been reached yet; ignores breakpoints. If `along` is True, the place that `'` jumps back
        to stays that of the jump before. Raises `TuiGruError` for an invalid place.
        """
        run = self._run
        with run.verb():
            tick, along = tick_of(place, run.position, run.program), arguments.boolean("along", along)
            with nullcontext() if along else run.leaving(), run.under_way():
                run.go(tick, progress)
        return run.position

    def sgd(self, count: int = 1, *, progress: SearchProgress | None = None) -> Position:
        """Do `count` SGD steps: finish the current batch, with backward and update even if learning is off. Ignores breakpoints.

        Raises `TuiGruError` if `count` is negative, or the run cannot be trained.
        """
        run = self._run
        with run.verb():
            count = arguments.integer("count", count, least=0)
            run.check_trains()
            with run.writing(progress), run.under_way():
                for _ in range(count):
                    before, end = run.position, run.end
                    batch = before.tick // run.program.ticks
                    if not run.timeline.learns(batch) and (end is None or batch <= end.number):
                        run.change(replace(run.settings, once=batch), JournalEntry("sgd"))
                    run.go((batch + 1) * run.program.ticks, progress)
                    if run.interrupts.is_requested() or run.stopped_by is not None or run.position == before:
                        break
        return run.position

    def run_to(self, line: str, *, progress: SearchProgress | None = None) -> Position:
        """Run to the next execution of a line, named by its target, in this timestep, a later one, or the next batch.

        Raises `TuiGruError` if there is no such line, or it is not executed because learning is off.
        """
        run, program = self._run, self.program
        with run.verb():
            line = self.program.code_name(arguments.string("a line", line))
            ticks = {program.tick_of(line, t) for t in range(program.seq_length)} - {None}
            if not ticks:
                raise TuiGruError(f"there is no line that computes {line!r}")
            current, N, place = run.state.tick, program.ticks, run.timeline.place
            following = current // N + 1
            while following in program.config.source.without_gradients:
                following += 1
            executions = [batch * N + k for batch in (current // N, following) for k in ticks if k is not None]
            later = [tick for tick in executions if tick > current and place(tick) == tick]
            if not later:
                raise TuiGruError("learning is off, so this line is not executed; turn learning on first")
            with run.writing(progress), run.under_way():
                run.go(min(later), progress)
        return run.position

    def continue_(self, progress: SearchProgress | None = None) -> bool:
        """Run until a breakpoint, a watch or a guard stops the run: True. False at the end of the run, or if interrupted.

        Raises `ConditionError` at the place where a condition cannot be evaluated.
        """
        run = self._run
        with run.verb():
            return run.run_on(run.timeline.place(FAR) if run.end is None else run.end.tick, progress)

    def reverse_continue(self, progress: SearchProgress | None = None) -> bool:
        """Go back to the last place before the position where a breakpoint or a watch stops the run: True. False at the beginning.

        Also False if interrupted. Raises `ConditionError` at the place where a condition cannot be evaluated.
        """
        with self._run.verb():
            return self._run.run_on(0, progress)

    def run_until(self, condition: str, *, progress: SearchProgress | None = None) -> bool:
        """Run forward to where a condition holds, tested whenever a value that it reads is computed. True if it stopped there.

        In a condition, `epoch`, `batch` and `t` count as the screen does. Raises `ConditionError`, with the column, for a text that
        cannot be parsed, and at the place where it cannot be evaluated.
        """
        with self._run.verb():
            return self._run.search(condition, True, progress)

    def run_back_until(self, condition: str, *, progress: SearchProgress | None = None) -> bool:
        """Go back to the last place before the position where a condition holds: True. Otherwise go to the beginning: False.

        Raises `ConditionError` as `run_until` does.
        """
        with self._run.verb():
            return self._run.search(condition, False, progress)

    def run_to_first(self, condition: str, *, progress: SearchProgress | None = None) -> bool:
        """Go to the first place of what has been run of this branch at which a condition holds: True. If there is none, the
        position stays: False. Raises `ConditionError` as `run_until` does."""
        run = self._run
        with run.verb(), run.leaving():
            start, newest, interrupts = run.state.tick, run.state.branches.newest, run.interrupts.count
            with run.under_way():
                run.move_to(run.state.branches, 0)
                try:
                    is_met = run.search(condition, True, progress, newest)
                except BaseException:
                    run.move_to(run.state.branches, start)
                    raise
                if not is_met and run.interrupts.count == interrupts:
                    run.move_to(run.state.branches, start)
        return is_met

    def next_match(self, forwards: bool = True, progress: SearchProgress | None = None, *, limit: int | None = None) -> bool:
        """Search for the last condition again, up to a tick if `limit` is one. True if it stopped there.

        Raises `TuiGruError` if there was no search before.
        """
        with self._run.verb():
            if not self.state.last_condition:
                raise TuiGruError("no condition has been searched for yet; t searches for one")
            forwards = arguments.boolean("forwards", forwards)
            limit = None if limit is None else arguments.integer("limit", limit)
            return self._run.search(self.state.last_condition, forwards, progress, limit)

    def run_to_not_finite(self, *, progress: SearchProgress | None = None) -> bool:
        """Go to the first number that is not finite in the batches run so far; in a recording, in all its steps.

        True if there is one; `notice` says which it is.
        """
        run, timeline = self._run, self._run.timeline
        with run.verb():
            last = timeline.computed if timeline.memory.numbers is not None else self.newest.number
            with run.under_way():
                first = first_not_finite(timeline, last, run.monitor(None, progress))
                if first is not None:
                    run.move_to(run.state.branches, timeline.place(first.tick))
            words = finite_answer(timeline, last) if first is None else first.sentence(run.program)
            run.notice = Notice(words, warning=first is not None)
        return first is not None

    def prefetch(self) -> None:
        """In a recording, compute the next step in a thread while the user looks at the current one, after steps forward.

        A front end calls it when everything is drawn. The next step is then there at once, with the same numbers.
        """
        self._run.timeline.prefetch(self.position.number)

    def interrupt(self) -> None:
        """Stop the run of another thread, or the run that it is about to start, at the end of the current batch."""
        self._run.interrupts.interrupt()

    @property
    def interrupts(self) -> Interrupts:
        """The requests of `interrupt`: their `count`; `forget` withdraws one that was meant for a run that has already ended."""
        return self._run.interrupts

    @property
    def stop_on_nan(self) -> bool:
        """True if a run stops when the loss or a weight is not finite, or when the loss, the gradient norm or a weight grows
        a thousandfold within a batch.
        """
        return self.state.stop_on_nan

    @stop_on_nan.setter
    def stop_on_nan(self, value: bool) -> None:
        self._run.update(stop_on_nan=arguments.boolean("stop_on_nan", value))

    @property
    def check_every_batch(self) -> bool:
        """True if every finished batch is compared with PyTorch's autograd; a run stops at a batch that differs.

        The totals are in `checked`. A check takes ten to twenty times as long as training the batch.
        """
        return self._run.checks.totals is not None

    @check_every_batch.setter
    def check_every_batch(self, value: bool) -> None:
        self._run.checks.turn(arguments.boolean("check_every_batch", value))

    @property
    def checked(self) -> CheckTotals | None:
        """The totals of the batch checks; None while they are disabled."""
        totals: CheckTotals | None = self._run.checks.totals
        return totals

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
        stop = Breakpoint(self.stops.last_id + 1)
        return self._set_stop(changed(stop, {"line": line, "condition": condition, "hits": hits, "log": log}))

    def watch(self, expression: str, *, stops: bool = False) -> Watch:
        """Add a watch that shows the value of an expression; with `stops`, runs stop when it changes.

        Raises `ConditionError`.
        """
        return self._set_stop(changed(Watch(self.stops.last_id + 1, ""), {"expression": expression, "stops": stops}))

    def change_stop(self, id: int, /, **changes: Any) -> Breakpoint | Watch:
        """Change fields of a breakpoint or a watch, except its id. Raises `TuiGruError` if the id or a field does not exist."""
        return self._set_stop(changed(self.stops.get(id), changes), check=set(changes) != {"enabled"})

    def delete_stop(self, id: int) -> None:
        """Delete a breakpoint or a watch. Raises `TuiGruError` if there is none with that id."""
        self._set_stops(self.stops.without(id))

    def _set_stop(self, stop: S, *, check: bool = True) -> S:
        """Add a stop, or change the one with its id. With `check`, its texts are refused if they cannot be evaluated."""
        if isinstance(stop, Breakpoint) and stop.line:
            stop = changed(stop, {"line": line_named(self.program, stop.line)})
        resolved = self._run.stops.resolved(stop)
        if check:
            resolved.check(self.program)
            if isinstance(stop, Breakpoint) and stop.condition:
                refuse_impossible(stop.condition, self.program, epochs=self.state.epochs)
        self._set_stops(self.stops.with_stop(stop))
        return stop

    def _set_stops(self, stops: Stops) -> None:
        self._run.update(stops=stops)
        self._run.stops.keep_only(stops)
        self._run.recorder.record_kept()

    @property
    def counts_first(self) -> bool:
        """True if the next step must test earlier batches first, because a breakpoint stops only at some of its hits."""
        run, stops = self._run, self.stops
        batch = max(run.state.tick - 1, 0) // run.program.ticks
        counters = [run.stops.counter(stop, run.timeline) for stop in run.stops.active(stops) if stop.count is not None]
        return any(not counter.scalar and counter.hits.before(batch) is None for counter in counters)

    @property
    def marks(self) -> tuple[Mark, ...]:
        """All marks, a to z and then A to Z."""
        return self.state.marks.sorted

    def mark(self, letter: str, text: str = "") -> Mark:
        """Set a mark at the position; the letter is a to z or A to Z. The lines of the text are kept, without blanks around them.

        Raises `TuiGruError` for anything else.
        """
        lines = (" ".join(line.split()) for line in arguments.string("a text", text).strip().split("\n"))
        mark = Mark(letter, self.branch, self.state.tick, "\n".join(lines))
        self._set_marks(self.state.marks.with_mark(mark))
        return mark

    def delete_mark(self, letter: str) -> None:
        """Delete a mark. Raises `TuiGruError` if there is none."""
        self._set_marks(self.state.marks.without(letter))

    def jump(self, letter: str, *, progress: SearchProgress | None = None) -> Position:
        """Go to a mark on any branch; `'` goes to the position before the last jump, search or switch. Raises `TuiGruError`."""
        return self._jump(*self.state.destination(letter), progress)

    def next_mark(self, forwards: bool = True, *, progress: SearchProgress | None = None) -> Position:
        """Go to the next mark, or to the one before: in time, then on the next branch. Raises `TuiGruError` if there is none."""
        mark = self.state.next_mark(arguments.boolean("forwards", forwards))
        return self._jump(mark.branch, mark.tick, progress)

    def _jump(self, branch: str, tick: int, progress: SearchProgress | None) -> Position:
        run = self._run
        with run.verb(), run.leaving(), run.under_way():
            if branch != self.branch:
                self._switch(branch, tick)
            run.go(tick, progress)
        return run.position

    def _set_marks(self, marks: Marks) -> None:
        self._run.update(marks=marks)
        self._run.recorder.record_kept()

    # Changing the future

    @property
    def learning(self) -> bool:
        """True if batches end with backward and update. Setting it in the past forks a branch.

        Raises `TuiGruError` for anything but True and False.
        """
        return self._run.settings.learning

    @learning.setter
    def learning(self, value: bool) -> None:
        run = self._run
        with run.verb():
            value = arguments.boolean("learning", value)
            if value and not run.program.goes_back:
                run.check_trains()
            if value != run.settings.learning:
                run.change(replace(run.settings, learning=value, once=None), JournalEntry("learning", value=value))

    @property
    def learning_rate(self) -> float:
        """The learning rate. Setting it in the past forks a branch.

        Raises `TuiGruError` if it is negative or not finite.
        """
        return self._run.settings.rule["learning_rate"]

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        run = self._run
        with run.verb():
            rate = check_setting("learning_rate", value)
            run.check_trains()
            if rate != run.settings.rule["learning_rate"]:
                run.change(run.settings.with_rule("learning_rate", rate), JournalEntry("learning_rate", value=rate))

    def edit(self, name: str, index: Any = None, value: Any = None) -> Position:
        """Edit a number of a parameter, a value or a gradient, a character of the text (0-based index), or a setting of the update
        rule, such as learning_rate, limit (of the norm of the gradient) or beta1.

        h and h_prev can be edited until they are used, a weight at any time, other values only just after their line. In the
        past, this forks a branch; the old future stays. Returns the position. Raises `TuiGruError` if the edit is not possible.
        """
        run = self._run
        if value is None:
            index, value = None, index
        with run.verb():
            name = self._code_name(name)
            edit = JournalEntry("edit", ALIASES.get(name, name), as_index(index), value)
            settings, _ = plan(edit, run.moment, run.settings)
            run.notice = None
            if edit.name in settings.rule and settings == run.settings:
                run.say(f"{edit.name} is {significant(settings.rule[edit.name])} already")
            else:
                run.change(settings, edit if edit.name == "text" else replace(edit, value=float(edit.value)))
        return run.position

    def adopt(self, what_if: WhatIf) -> Position:
        """Apply a what-if: go to just after the line that computed the number, and edit it there.

        In the past, this forks a branch. Raises `TuiGruError` if the number cannot be edited there, or if a unit was held at 0.
        """
        run = self._run
        with run.verb():
            name, tick = self._edit_of(what_if)
            target = run.timeline.moment(run.timeline.place(tick))
            now = target.record.array(name)[target.position.t] if run.program.names[name].timed else target.value(name)
            if now is None or not np.array_equal(np.asarray(now)[what_if.index], what_if.was, equal_nan=True):
                raise TuiGruError("the run has been changed since the what-if was computed; compute it again")
            with run.leaving(), run.under_way():
                run.go(tick, None)
            return self.edit(name, what_if.index, what_if.value)

    def undo(self) -> bool:
        """Undo the last change, and go to where it was made. False if there is none."""
        with self._run.verb():
            return self._restore(self.state.branches.undo(self.state.tick))

    def redo(self) -> bool:
        """Redo the last undone change, and go to the position at which it was undone. False if there is none."""
        with self._run.verb():
            return self._restore(self.state.branches.redo())

    def _restore(self, restored: tuple[Branches, int] | None) -> bool:
        if restored is None:
            return False
        branches, tick = restored
        self._run.move_to(branches, branches.timeline.place(tick))
        return True

    # Branches

    def switch(self, name: str) -> Position:
        """Go to the same place in time on another branch, or to its newest place if that is earlier. Raises `TuiGruError`."""
        with self._run.verb(), self._run.leaving():
            self._switch(name, self.state.tick)
        return self.position

    def _switch(self, name: str, tick: int) -> None:
        branches = self.state.branches.switched(name)
        self._run.move_to(branches, branches.timeline.place(min(tick, branches.newest)))

    def rename_branch(self, old: str, new: str) -> None:
        """Rename a branch; the new name is one word. Raises `TuiGruError` if it is invalid or taken."""
        with self._run.verb():
            branches = self.state.branches.renamed(old, new)
            self._run.update(branches=branches, **by_branch.moved_branch(self.state, old, new))

    def delete_branch(self, name: str) -> None:
        """Delete a branch other than the current one, with its marks. This cannot be undone.

        Branches that forked from it keep their shared past. Raises `TuiGruError` for the current branch or an unknown name.
        """
        with self._run.verb():
            branches = self.state.branches.without(name)
            if all(map(self._run.is_trial, branches.names)):
                raise TuiGruError(f"{name} is the run of the script, of which the others are trials; delete those")
            self._run.update(branches=branches, **by_branch.moved_branch(self.state, name, None))

    @property
    def is_on_trial(self) -> bool:
        """True if the current branch is a trial in the loop of a script, or goes on from one."""
        return self._run.is_trial(self.branch)

    def add_trial(self, trial: Session, since: int, name: str) -> bool:
        """Go to a trial in the loop of a script, which becomes a branch with this name beside the run of its last steps.

        It shares what was before the step `since`, and can be compared with the run. The place is that of the same step, or the
        last one of the trial. Returns False if the trial is not of the same model and sizes, so that it is no branch.
        """
        run = self._run
        trial = arguments.instance("trial", trial, Session, "that of a trial of `tui_gru.steps`")
        since, name = arguments.integer("since", since), "-".join(arguments.string("name", name).replace(",", " ").split())
        source, of_trial = run.own_timeline.program.config.source, trial.config.source
        if not isinstance(source, Imported) or not isinstance(of_trial, Imported):
            return False
        if of_trial.module != source.module and source.module in of_trial.modules and of_trial.of_module is not None:
            of_trial, _ = of_trial.of_module(source.module)
        joined = sources.with_trial(source, of_trial, since, trial)
        if joined is None:
            return False
        with run.verb(), run.leaving():
            config, batch = ImportedConfig.of_source(joined[0]), joined[1]
            timeline = run.own_timeline.going_on_with(config, batch)
            newest = timeline.end_of(config.num_batches - 1)
            branches = run.state.branches.with_branch(name, Branch(timeline, newest))
            run.move_to(branches, timeline.place(min(max(run.state.tick, batch * self.program.ticks + 1), newest)))
        return True

    def compare(self, name: str | None = "") -> str | None:
        """Compare this branch with another from now on; None ends the comparison. Returns the name of the other branch.

        An empty name means the branch that this one forked from, or else the newest that forked from this one. After a switch to
        a third branch, that is compared with `name`; after a switch to `name`, it is compared with this one. Raises `TuiGruError`
        if there is no such branch.
        """
        with self._run.verb():
            state = self.state
            if name is not None:
                name = arguments.string("a branch", name) or self._relative
                if name == state.branch:
                    raise TuiGruError(f"{name} is the branch you are on; compare it with another: {', '.join(state.others)}")
                if name not in state.branches.names:
                    raise TuiGruError(f"there is no branch {name!r}; there are: {', '.join(state.branches.names)}")
            self._run.update(compared=() if name is None else (state.branch, name))
        return name

    # Samples

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
        self._check_unsilenced("samples are")
        arguments.callback("progress", progress)
        from tui_gru.engine.sampling import LONGEST_PRIMER, sample_text

        run = self._run
        with run.verb():
            length = arguments.integer("the length of a session's sample", length, least=0, most=LONGEST_SAMPLE, option="length")
            if len(arguments.string("the primer", primer, option="primer")) > LONGEST_PRIMER:
                raise TuiGruError(f"the primer of a session's sample has at most {LONGEST_PRIMER:,} characters", option="primer")

            def stop(done: int) -> bool:
                if progress is not None:
                    progress(f"{done:,} of {length:,} characters")
                return run.interrupts.is_requested()

            with run.under_way():
                drawn = sample_text(
                    self.config, run.moment.weights, primer, length,
                    sampler=sampler, temperature=temperature, seed=seed, stop=stop,
                )  # fmt: skip
            if len(drawn.draws) < length:
                run.say(f"stopped after {len(drawn.draws):,} of {length:,} characters")
            drawn = replace(drawn, tick=self.state.tick)
            run.update(samples=newest_samples((*self.samples, drawn), run.timeline.memory.budget.share("samples")))
        return drawn.text

    def hold_out(self, text: str) -> None:
        """Keep a text that is not trained on with the session, for `findings` and `report` to detect overfitting with.

        Only its first 10,000 characters are used. Raises `TuiGruError` if it does not fit the vocabulary, or the run has no text.
        """
        self.keep("held-out", self.config.as_string(self._fitting_text(text)), begin=False)

    # Pages

    def player(
        self,
        path: FilePath,
        by: Level = "timestep",
        last: int | None = None,
        *,
        size: tuple[int, int] = (120, 36),
        theme: str | None = None,
        force: bool = False,
    ) -> Path:
        """Write the walk to here as one HTML file that a browser steps as the debugger does, and return its path.

        A moment is where a step `by` this level ends; `last` keeps the newest moments. The screen has `size` (columns, rows) and
        a theme, by default a dark or a light one, as the reader prefers. The session is not changed. Raises `TuiGruError` if the
        file exists, unless `force`, if it cannot be written, or if the walk is too large.
        """
        return pages.page_writer().play(self, path, by=by, last=last, size=size, theme=theme, force=force)

    def _repr_html_(self) -> str:
        """Return the last moments of the walk to here, for a notebook."""
        return pages.page_writer().embedded(self)

    # Files

    @property
    def recorder(self) -> SessionRecorder:
        """What writes the session to its file: it tells whether that is `undecided`, and can begin to record later."""
        return self._run.recorder

    def save(self, path: FilePath) -> None:
        """Write the session to a file, completely or not at all. Overwrites only session files. Raises `SessionFileError`."""
        self._run.recorder.save(path)

    def record_to(self, path: FilePath) -> None:
        """Save the session to a file, and update the file after every verb from now on, so that the session survives a crash.

        If the file cannot be written later, the session continues in memory only, and `notice` says so. Raises `SessionFileError`
        if the file cannot be created.
        """
        self._run.recorder.record_to(path)

    @property
    def recording(self) -> Path | None:
        """The file that the session is recorded to; None if there is none."""
        return self._run.recorder.path

    def close(self) -> None:
        """Stop recording; the session continues in memory."""
        self._run.recorder.close()

    def keep(self, name: str, value: Any, *, begin: bool = True) -> None:
        """Save a JSON value with the session, under a name that the front end chooses: its layout, its commands.

        During a verb, it is written together with the verb's other changes. If `begin` is False, the value does not start a
        recording that waits for its first change (`record_later`). Raises `TuiGruError` if JSON cannot represent the value.
        """
        from tui_gru.storage import state as stored
        from tui_gru.storage.file import from_json, to_json

        name, begin = arguments.string("the name of a saved value", name), arguments.boolean("begin", begin)
        if name in stored.ENTRIES:
            raise TuiGruError(f"{name} is a reserved name; choose another")
        try:
            value = from_json(to_json(value))
        except (TypeError, ValueError, RecursionError) as error:
            raise TuiGruError(f"{name} cannot be saved with a session: {error}; use strings, numbers, lists and dicts") from None
        self._run.keep(name, value, begin=begin)


def _checked_epochs(epochs: int | None) -> int | None:
    return None if epochs is None else arguments.integer("epochs", epochs, least=1, most=FAR, option="epochs")
