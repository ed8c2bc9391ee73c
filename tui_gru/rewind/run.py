"""`tui_gru.steps`: the object that a script's loop iterates over, and that can rewind it and try."""

from __future__ import annotations

import contextlib
import html
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from tui_gru import analysis, errors
from tui_gru.analysis.trials import CureTrial, RateTrial, TriedOption, loss_after
from tui_gru.capture.hooks import name_of_head
from tui_gru.capture.record import NAMES, Recorder, Trigger
from tui_gru.capture.trial import in_trial
from tui_gru.errors import TuiGruError
from tui_gru.rewind import ends, recording, screens
from tui_gru.rewind.loop import Change, TrainingLoop, TrialOutcome, frame_of_script, modes_of_thread
from tui_gru.rewind.states import RewindError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch.nn import Linear, Module

    from tui_gru.analysis.examined import Finding
    from tui_gru.capture.calls import GivenCell
    from tui_gru.capture.facts import StepWatch
    from tui_gru.capture.hooks import Optimizers
    from tui_gru.session.session import Session

PAUSE = "TUI_GRU_PAUSE"  # a variable of the environment: where to pause, as `pause=` has it
RATES = tuple(10.0 ** (exponent / 2) for exponent in range(-3, 4))  # times the rate of the run
ON = "nan or loss > 3*mean(loss)"
OPTIONS = {"learning_rate": "lr", "clip": "clip", "weight_decay": "weight_decay", "seed": "seed"}  # of a cure, as `again` has them


@dataclass(frozen=True, eq=False)
class Trial:
    """Some steps of a loop, computed again: the losses of the trial and those of the run, one for each step from `since` on.

    A step without a loss, such as one that is skipped, has NaN. `why` says why the trial ended before the last step, "" if it did
    not; `left_out` lists the statements that would have written or sent something, with their lines.
    """

    losses: tuple[float, ...] = ()
    own: tuple[float, ...] = ()
    why: str = ""
    left_out: tuple[str, ...] = ()
    since: int = 1  # the number of the first step, from 1
    words: str = ""  # the changes, as they are typed
    is_equal: bool = False  # all losses and weights are those of the run, bit for bit
    _run: ScriptRun | None = field(default=None, repr=False)
    _change: Change = field(default_factory=Change, repr=False)
    _count: int = field(default=0, repr=False)

    @property
    def session(self) -> Session:
        """The steps of the trial as a recording, in a session; they are computed again for it.

        Raises `TuiGruError` if the script has gone on since.
        """
        run = self._standing_run()
        if not any(loss == loss for loss in self.losses) and len(self._change.skip) >= len(self.losses):
            raise TuiGruError("no step of this trial can be seen: all of them are left out")
        return run.recorded(self._change, words=self.words or "as it was")

    def _standing_run(self) -> ScriptRun:
        if self._run is None:
            raise TuiGruError("this trial was in a body that is being tried, where nothing is tried")
        if self._run.step != self._count:
            raise TuiGruError("the script has gone on since this trial; try it again")
        return self._run

    def __len__(self) -> int:
        return len(self.losses)

    def _repr_html_(self) -> str:
        """Return both curves for a notebook, with why the trial ended and what was left out of it."""
        from tui_gru.analysis.report import Figure, FigureLine, figure_svg

        curves = {"as it was": self.own, self.words or "unchanged": self.losses}
        lines = tuple(
            FigureLine(name, tuple((float(self.since + place), loss) for place, loss in enumerate(losses)))
            for name, losses in curves.items()
        )
        title = f"the loss of {len(self.losses)} steps from {self.since} on"
        notes = [self.why] if self.why else ["all losses and weights are equal bit for bit"] if self.is_equal else []
        notes += [f"left out: {', '.join(self.left_out)}"] if self.left_out else []
        said = "".join(f"<p>{html.escape(errors.printable(note, 400))}</p>" for note in notes)
        return f"<div><h3>{html.escape(title)}</h3>{figure_svg(Figure('trial', title, lines, of='steps'))}{said}</div>"


@dataclass(frozen=True, eq=False)
class ParameterEdit:
    """Sets parameters of a script at the beginning of a step of a trial."""

    values: Mapping[str, tuple[torch.Tensor, Any]]
    words: str

    def __call__(self, names: dict[str, Any]) -> None:
        with torch.no_grad():
            for parameter, value in self.values.values():
                parameter.copy_(torch.tensor(value, dtype=parameter.dtype).reshape(parameter.shape))


class ScriptRun:
    """A loop of a script; created by `tui_gru.steps`. Iterating over it gives the batches."""

    def __init__(
        self,
        loader: Iterable[Any],
        model: Module | None,
        optimizer: Optimizers,
        *,
        pause: int | str | Iterable[int] | None,
        record: Any,
        every: int,
        on: str,
        keep: int,
        also: Sequence[Any],
        body: Callable[[Any], object] | None,
        head: Linear | None,
        cell: GivenCell | None,
        screen: bool | Callable[[ScriptRun], object],
    ) -> None:
        self._loader, self._model, self._optimizer = loader, model, optimizer
        self._pauses, self._pause_trigger = _pauses(pause, "pause")
        if (variable := os.environ.get(PAUSE, "").strip()) and screen is not False:
            steps, trigger = _pauses(_read_variable(variable), PAUSE)
            self._pauses |= steps
            self._pause_trigger = trigger or self._pause_trigger
        self._record, self._every, self._on = record, every, Trigger(on)
        self._keep, self._also, self._body = _whole_number("keep", keep, 1, 100_000), tuple(also), body
        self._head, self._cell, self._screen = head, cell, screen
        self._loop: TrainingLoop | None = None
        self._trials: list[Trial] = []
        self._repeated = -1, 0  # after which step the steps from which one on were computed again, and were the same
        self._interrupted = False  # ctrl+c was pressed once
        self._old_handler: Any = None

    def __repr__(self) -> str:
        return f"<loop of a script after {self.step} steps>"

    def __len__(self) -> int:
        return len(self._loader)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        if in_trial():
            return iter(self._loader)
        return _Iteration(self)

    @property
    def step(self) -> int:
        """The number of steps that have ended; in a body that is computed again, what it was there."""
        if self._loop is None:
            return 0
        return self._loop.count if self._loop.repeated is None else self._loop.repeated

    @property
    def rate(self) -> float | None:
        """The learning rate of the first optimizer; None if the loop reaches none."""
        return None if self._loop is None else self._loop.rate

    # What can be asked at a pause, or after the loop

    def again(
        self,
        since: int | None = None,
        lr: float | None = None,
        rate: float | None = None,
        clip: float | None = None,
        skip: int | Iterable[int] = (),
        seed: int | None = None,
        weight_decay: float | None = None,
        edit: Callable[[dict[str, Any]], object] | None = None,
        lines: Mapping[int, str] | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> Trial:
        """Run the last steps of the loop again, by default as they were, and put everything back as it is now.

        since: the step (from 1) from which on something is changed; by default the first of the last `keep`. lr: the learning rate;
        rate: a factor of it, so that a schedule stays. clip: the largest norm of the gradient at each update. skip: steps that are
        left out. seed: of all generators, from `since` on. weight_decay: of the optimizers. edit: a function that gets the names of
        the body at the beginning of `since`, and may change what is in them. lines: other texts of lines of the body, by number.
        progress: called after each step with its number.

        Before the first change at a pause, the steps run as they were. Raises `TuiGruError` if these are not the steps of the run,
        bit for bit, with the first one that differs; before anything runs if the loop cannot be rewound, with the reason. An error
        of the body ends the trial, whose `why` says it. Within a body that is being tried it does nothing.
        """
        if in_trial():
            return Trial()
        change = _checked(since, lr, rate, clip, skip, seed, weight_decay, edit, lines)
        loop, on_step = self._standing(), _numbers_from_one(progress)
        if change == Change(change.since):
            trial = self._replayed(change.since, on_step, whole=False)
        else:
            loop.check_change(change)
            if not self._repeats(change.since):
                self._replayed(change.since, on_step, whole=False)
            trial = self._trial(change, loop.run_again(change, on_step=on_step))
        self._trials = [*self.trials, trial]
        return trial

    @property
    def trials(self) -> tuple[Trial, ...]:
        """The results of `again` since the loop stands where it does."""
        return tuple(trial for trial in self._trials if trial._count == self.step)

    def with_parameters(self, values: Mapping[str, Any], words: str) -> Callable[[dict[str, Any]], object]:
        """Return an `edit` for `again` that sets parameters of the module, by their names in it; `words` say it. Raises
        `RewindError` if the module has none of such a name."""
        states = self._standing().states
        if self._model is None and not states:
            raise RewindError("no step is kept yet; let the loop run for a step")
        model = self._model if self._model is not None else recording.recurrent_module(next(reversed(states.values())))
        parameters = dict(model.named_parameters(remove_duplicate=False))
        if (head := self._head) is not None:
            parameters |= {f"{name_of_head(model, head)}.{name}": parameter for name, parameter in head.named_parameters()}
        if absent := sorted(values.keys() - parameters.keys()):
            raise RewindError(f"the module has no parameter {absent[0]} now, so it cannot be changed")
        return ParameterEdit({name: (parameters[name], values[name]) for name in values}, words)

    def edited_lines(self) -> dict[int, str]:
        """Return the lines of the body that are others in its file now, by number, for `again`.

        Raises `TuiGruError` if nothing has changed, or more than single lines."""
        body = self._standing().body
        if body is None:
            raise RewindError("the body is a function that was given, so no file is read again")
        lines = body.lines_of_file_now()
        if lines is None:
            raise RewindError(f"{body.file} has other statements in the loop now; only single lines can be tried")
        if not lines:
            raise RewindError(f"the loop in {body.file} is the one that was started; change a line of it and save it first")
        return lines

    def rates(self, *, progress: Callable[[RateTrial], object] | None = None) -> tuple[RateTrial, ...]:
        """Try seven learning rates over the last steps, √10 apart around that of the run; each with the loss after them, infinite
        if one is not finite. `progress` gets each at once. Raises `TuiGruError` as `again` does, and if the steps cannot be
        computed again bit for bit."""
        if in_trial():
            return ()
        loop = self._standing()
        loop.check_can_try()
        if not loop.rate:
            raise TuiGruError("this loop reaches no optimizer with a learning rate; give it: steps(loader, model, optimizer)")
        # From a kept state on, so that no step is computed only to come to the first one.
        since = min((number for number in loop.states if number > loop.count - self._keep), default=loop.first_kept)
        rate, trials = loop.rate, list[RateTrial]()
        unchanged = self._replayed(since)
        for factor in RATES:
            tried_rate = rate if factor == 1 else float(f"{rate * factor:.2g}")
            change = Change(since, rate=tried_rate / rate)
            trial = unchanged if factor == 1 else self._trial(change, loop.run_again(change))
            trials.append(RateTrial(tried_rate, _loss_after(trial)))
            if progress is not None:
                progress(trials[-1])
        return tuple(trials)

    def try_cures(
        self, finding: Finding, *, progress: Callable[[tuple[CureTrial, ...]], object] | None = None
    ) -> tuple[CureTrial, ...]:
        """Try the cures of a finding that are options of `again` on the last steps; return those with a lower loss, best first."""
        better = analysis.trials.better
        if in_trial():
            return ()
        return better(self.tried_options(finding, progress=None if progress is None else lambda trials: progress(better(trials))))

    def tried_options(
        self, finding: Finding, *, progress: Callable[[tuple[TriedOption, ...]], object] | None = None
    ) -> tuple[TriedOption, ...]:
        """Return the losses of the last steps as they were, and those with each cure of a finding, or why it cannot be tried."""
        loop = self._standing()
        loop.check_can_try()
        options: tuple[TriedOption, ...] = (TriedOption(None, _finite_part(self._replayed(None))),)
        for cure in finding.cures:
            option = OPTIONS.get(cure.name)
            if option is None:
                tried_option = TriedOption(cure, refused="it needs a new run")
            else:
                trial = self._trial(change := Change(**{option: cure.value}), loop.run_again(change))
                tried_option = TriedOption(cure, _finite_part(trial), refused="" if not trial.why else trial.why)
            options = (*options, tried_option)
            if progress is not None:
                progress(options)
        return options

    def session(self) -> Session | None:
        """Return a session on the last steps, which are computed again with a recorder; its `rates` and `try_cures` are those of
        this loop. Raises `TuiGruError` as `again` does, and if they cannot be computed again bit for bit."""
        if in_trial():
            return None
        loop = self._standing()
        loop.check_can_try()
        return self.recorded(Change(), words="")

    def adopt(self, trial: Trial) -> None:
        """Let the script go on from the end of a trial, as if it had been written so: its weights, its objects, the names of its
        frame. Raises `TuiGruError` if the trial ended with an error, or the script has gone on since."""
        if in_trial():
            return
        if not isinstance(trial, Trial):
            raise TuiGruError(f"trial must be a result of again, not {errors.shown(trial)}")
        run = trial._standing_run()
        if run is not self:
            raise TuiGruError("this trial is one of another loop")
        if trial.why:
            raise TuiGruError(f"this trial cannot be gone on with: {trial.why}")
        loop = self._standing()
        outcome = loop.run_again(trial._change, stays=True)
        if outcome.why:
            raise TuiGruError(f"this trial cannot be gone on with: {outcome.why}")

    def recorded(self, change: Change, *, words: str, error: BaseException | None = None) -> Session:
        """Return a session on the recording of a trial, or of the last steps as they were, which must be the same bit for bit."""
        loop = self._standing()
        recorder = self._step_recorder(recording.new_folder(), error)
        outcome = loop.run_again(change, recorder=recorder.begin)
        if not words and error is None:
            self._check_equal(self._trial(change, outcome), outcome)
        assert recorder.folder is not None
        session = recording.opened(recorder.folder, self)
        if error is None:
            session.add_notice(f"your loop stands after step {self.step}; :again and :rates try in it")
        return session

    def _step_recorder(self, target: Any, error: BaseException | None = None) -> recording.StepRecorder:
        losses = () if self._loop is None else tuple(self._loop.all_losses)
        return recording.StepRecorder(
            target, self._model, self._optimizer, head=self._head, cell=self._cell, losses=losses, error=error
        )

    def watched(self) -> tuple[StepWatch | None, tuple[float, ...]]:
        """Run the last steps again while their facts are measured, and put everything back. Returns these, and the losses of all
        steps. Raises `TuiGruError` as `again` does."""
        loop = self._standing()
        watcher = recording.StepWatcher(self._model, self._optimizer)
        loop.run_again(Change(), recorder=watcher.begin)
        return watcher.watch, tuple(loop.all_losses)

    # Inside

    def _standing(self) -> TrainingLoop:
        if self._loop is None:
            raise RewindError("the loop has not begun; iterate over it first")
        return self._loop

    def _replayed(self, since: int | None, on_step: Callable[[int], object] | None = None, *, whole: bool = True) -> Trial:
        """Return an unchanged trial. Raises `RewindError` if it is not the run bit for bit; with `whole`, also if it ends early."""
        loop, change = self._standing(), Change(since)
        outcome = loop.run_again(change, on_step=on_step)
        trial = self._trial(change, outcome)
        if whole or not trial.why or outcome.losses_differ(loop.steps):
            self._check_equal(trial, outcome)
        return trial

    def _repeats(self, since: int | None) -> bool:
        """Return True if the steps from `since` on have been computed again at this pause, and were those of the run."""
        count, first = self._repeated
        return count == self.step and first <= self._standing().beginning_of(since)

    def _check_equal(self, trial: Trial, outcome: TrialOutcome) -> None:
        if trial.is_equal:
            first = min(outcome.since, self._repeated[1]) if self._repeated[0] == self.step else outcome.since
            self._repeated = self.step, first
            return
        why = trial.why
        if not why:
            own = {step.number: step.losses for step in self._standing().steps}
            number = next((number for number, losses in outcome.losses.items() if not losses.equals(own[number])), None)
            why = "the weights after them differ"
            if number is not None:
                why = f"the loss of step {number + 1} is {outcome.losses[number].total:.6g} and was {own[number].total:.6g}"
        elif not outcome.losses_differ(self._standing().steps):
            raise RewindError(f"the last steps cannot be computed again: {why}")
        reads = self._standing().reason_to_differ()
        raise RewindError(
            f"the last steps cannot be computed again: {why}; {reads or 'something that the body reads is not kept'}, so from here "
            "on the script may differ from an untouched run"
        )

    def _trial(self, change: Change, outcome: TrialOutcome) -> Trial:
        loop = self._standing()
        steps = {step.number: step.losses for step in loop.steps if step.number >= outcome.since}
        equal = not outcome.why and all(losses.equals(steps[number]) for number, losses in outcome.losses.items())
        return Trial(
            tuple(losses.total for losses in outcome.losses.values()),
            tuple(losses.total for losses in steps.values()),
            outcome.why,
            outcome.left_out,
            outcome.since + 1,
            _in_words(change),
            equal and outcome.same_weights and len(outcome.losses) == len(steps),
            self,
            change,
            loop.count,
        )

    # Pauses

    def attach(self, frame: Any, more: Sequence[Any] = ()) -> TrainingLoop:
        """Find the loop that this run is an epoch of, or begin a new one; `more` are objects that its steps change."""
        optimizers = self._optimizer if isinstance(self._optimizer, (list, tuple)) else [self._optimizer]
        stateful = [member for member in (self._model, *optimizers, *more) if member is not None]
        self._loop = loop_at(frame, stateful, keep=self._keep, also=self._also, body=self._body)
        if self._record is not None:
            self._begin_record(self._loop)
        self._loop.run = self
        if self._screen is not False or self._record is not None:
            ends.remember(self, signals=self._record is not None)
        return self._loop

    def _begin_record(self, loop: TrainingLoop) -> None:
        if loop.recorder is None or loop.recorder.closed:
            if self._model is None:
                raise TuiGruError("record needs the module: tui_gru.steps(loader, model, optimizer, record=…)", option="record")
            loop.recorder = Recorder(
                self._record, self._model, self._optimizer, self._head, every=self._every, last=0, on="", cell=self._cell
            )
            loop.recorder.begin_at(1)  # the first step is step 1, as in `pause`

    def take_step(self) -> None:
        """A step has ended: record it, and keep the last ones if something is wrong with it."""
        loop = self._loop
        if loop is None or loop.recorder is None:
            return
        losses = loop.last_losses
        loop.recorder.step(losses.total if losses.count else None)
        if self._on.source.strip() and self._on.fires(self._values(loop)):
            loop.keep_for_later()

    # The end of the script

    def write_last(self, error: BaseException | None = None, *, always: bool = False) -> None:
        """Record the last steps by computing them again: those at the first trouble, and after an error those before it."""
        loop = self._loop
        if loop is None or loop.recorder is None or loop.recorder.closed:
            return
        loop.end_step(ended=False)  # the half one, whose iterator may live a while longer
        try:
            if loop.trouble is not None and not loop.refused:
                with loop.at_trouble():
                    loop.run_again(Change(), recorder=self._step_recorder(loop.recorder).begin)
            if error is not None or always:
                outcome = loop.run_again(Change(), recorder=self._step_recorder(loop.recorder, error).begin)
                if outcome.why and type(outcome.error) is not type(error):  # it should end as the script did
                    print(f"tui_gru.steps: the last steps are not recorded whole: {outcome.why}", file=sys.stderr)
        except TuiGruError as refusal:
            print(f"tui_gru.steps: the last steps are not recorded: {refusal}", file=sys.stderr)

    def ended(self, error: BaseException | None = None) -> None:
        """The script ends: record the last steps, if there was trouble, and end the recording."""
        loop = self._loop
        if loop is not None and loop.recorder is not None and not loop.recorder.closed:
            self.write_last(error)
            loop.recorder.__exit__(None if error is None else type(error), error, None)

    def died(self, error: BaseException) -> None:
        """An error has ended the script: record the last steps; in a terminal, open the debugger on them."""
        loop = self._loop
        if loop is None or in_trial():
            return
        if loop.recorder is not None:
            self.ended(error)
            print(f"tui_gru: the last steps are in {loop.recorder.folder}: tui-gru open {loop.recorder.folder}", file=sys.stderr)
        elif self._screen is True and not isinstance(error, KeyboardInterrupt):
            _open_on(self, error)

    def is_in(self, trace: Any) -> bool:
        """Return True if an error has come through the frame of the loop."""
        frame = None if self._loop is None else self._loop.epoch.frame
        while trace is not None and frame is not None:
            if trace.tb_frame is frame:
                return True
            trace = trace.tb_next
        return False

    def pause_here(self) -> None:
        """Pause if this is the place: after a step, with the loop standing between two of them."""
        loop = self._loop
        if loop is None or self._screen is False or not loop.count:
            return
        condition = self._pause_trigger is not None and self._pause_trigger.fires(self._values(loop))
        if not (self._interrupted or condition or loop.count in self._pauses):
            return
        self._interrupted = False
        self._pauses.discard(loop.count)
        loop.thread_modes = modes_of_thread()
        try:
            if callable(self._screen):
                self._screen(self)
            else:
                _open_on(self)
        finally:
            loop.thread_modes = None

    def _values(self, loop: TrainingLoop) -> dict[str, float]:
        loss = loop.last_losses.total
        rate = loop.rate
        return dict.fromkeys(NAMES, math.nan) | {
            "loss": loss, "step": loop.count, "lr": math.nan if rate is None else rate, "nan": float(_is_not_finite(loop)),
        }  # fmt: skip

    def interrupt(self, number: int, frame: Any) -> None:
        """Ctrl+c: pause after this step; a second time, end as always."""
        if self._interrupted:
            signal.default_int_handler(number, frame)
        self._interrupted = True
        sys.stderr.write("\ntui_gru: pausing after this step; ctrl+c again ends the script\n")

    def take_signals(self) -> None:
        if self._screen is False or threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            return
        if not callable(self._screen):
            try:
                screens.terminal().require_terminal()
            except TuiGruError:
                return
        self._old_handler = signal.signal(signal.SIGINT, self.interrupt)

    def return_signals(self) -> None:
        is_main = threading.current_thread() is threading.main_thread()
        if self._old_handler is not None and is_main and signal.getsignal(signal.SIGINT) == self.interrupt:
            signal.signal(signal.SIGINT, self._old_handler)
        self._old_handler = None


class _Iteration:
    """One pass over the loader. It ends with the loop, also by `break` or an error: the loop alone holds it."""

    def __init__(self, run: ScriptRun) -> None:
        self._run, self._index, self._is_over = run, -1, False
        self._loop: TrainingLoop | None = None
        run.take_signals()
        try:
            self._source = iter(run._loader)
        except BaseException:
            run.return_signals()
            raise

    def __iter__(self) -> _Iteration:
        return self

    def __len__(self) -> int:
        return len(self._run)

    def __next__(self) -> Any:
        if in_trial():
            return next(self._source)
        first = self._loop is None
        if self._loop is None:
            frame = frame_of_script(sys._getframe(1)) if self._run._body is None else None
            self._loop = self._run.attach(frame)
            self._loop.begin_epoch(frame)
        else:
            self._loop.end_step()
            self._run.take_step()
            self._run.pause_here()
        try:
            batch = next(self._source)
        except BaseException:
            self._end()
            raise
        self._index += 1
        self._loop.start_step(batch, self._index, first=first)
        return batch

    def _end(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._run.return_signals()
            if self._loop is not None:
                self._loop.end_epoch()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self._end()


last_loops: list[tuple[Any, TrainingLoop]] = []  # the last ones, of which a script may run another epoch
_MOST_LOOPS = 2


def loop_at(
    frame: Any, stateful: Sequence[Any], *, keep: int, also: Sequence[Any], body: Callable[[Any], object] | None
) -> TrainingLoop:
    """Return the loop at a place of a script, as it was left by the epoch before; a new one for another model."""
    # Codes of two files can be equal.
    place = (None, 0, "", body) if frame is None else (frame.f_code, frame.f_lasti, frame.f_code.co_filename, body)
    key = (*place, keep, *map(id, stateful))
    for other, loop in last_loops:
        if other == key and not loop.watch.is_running:
            return loop
    loop = TrainingLoop(stateful, keep=keep, also=also, body=body)
    last_loops.append((key, loop))
    del last_loops[:-_MOST_LOOPS]
    return loop


def _pauses(pause: Any, option: str) -> tuple[set[int], Trigger | None]:
    """Return the steps after which to pause, and the condition."""
    if pause is None:
        return set(), None
    if isinstance(pause, str):
        try:
            return set(), Trigger(pause)
        except TuiGruError as error:
            raise TuiGruError(str(error).replace("on: ", f"{option}: ", 1), option=option) from None
    numbers = [pause] if isinstance(pause, int) else list(pause) if hasattr(pause, "__iter__") else [pause]
    return {_whole_number(option, number, 1, 10**15) for number in numbers}, None


def _read_variable(text: str) -> Any:
    parts = text.replace(",", " ").split()
    return [int(part) for part in parts] if all(part.isdigit() for part in parts) else text


def _whole_number(option: str, value: Any, least: int, most: int) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or not least <= value.__index__() <= most:
        raise TuiGruError(f"{option} must be a whole number, {least} or more, not {errors.shown(value)}", option=option)
    return int(value.__index__())


def _number(option: str, value: Any, *, positive: bool = False) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TuiGruError(f"{option} must be a number, not {errors.shown(value)}", option=option) from None
    if not math.isfinite(number) or number < 0 or (positive and not number):
        raise TuiGruError(
            f"{option} must be a number{' above 0' if positive else ', 0 or more'}, not {errors.shown(value)}",
            option=option,
        )
    return number


def _checked(since: Any, lr: Any, rate: Any, clip: Any, skip: Any, seed: Any, weight_decay: Any, edit: Any, lines: Any) -> Change:
    if lr is not None and rate is not None:
        raise TuiGruError("lr and rate are both given; keep one of them", option="rate")
    if edit is not None and not callable(edit):
        raise TuiGruError(f"edit must be a function of the names of the body, not {errors.shown(edit)}", option="edit")
    if lines is not None and not isinstance(lines, Mapping):
        raise TuiGruError(f"lines must be texts by the numbers of lines, {{31: '…'}}, not {errors.shown(lines)}", option="lines")
    for number, text in (lines or {}).items():
        _whole_number("lines", number, 1, 10**9)
        if not isinstance(text, str):
            raise TuiGruError(f"lines: line {number} must be a text, not {errors.shown(text)}", option="lines")
    skipped = [skip] if isinstance(skip, int) else list(skip) if hasattr(skip, "__iter__") else [skip]
    return Change(
        None if since is None else _whole_number("since", since, 1, 10**15) - 1,
        _number("lr", lr),
        _number("rate", rate),
        _number("clip", clip, positive=True),
        frozenset(_whole_number("skip", number, 1, 10**15) - 1 for number in skipped),
        None if seed is None else _whole_number("seed", seed, 0, 2**63 - 1),
        _number("weight_decay", weight_decay),
        edit,
        dict(lines or {}),
    )


def _in_words(change: Change) -> str:
    words = [
        f"{name}={value:.6g}"
        for name, value in (("lr", change.lr), ("rate", change.rate), ("clip", change.clip), ("weight_decay", change.weight_decay))
        if value is not None
    ]
    words += [f"seed={change.seed}"] if change.seed is not None else []
    words += [f"skip {number + 1}" for number in sorted(change.skip)]
    words += [f"line {number} {text.strip()}" for number, text in sorted(change.lines.items())]
    words += [str(getattr(change.edit, "words", "edit"))] if change.edit is not None else []
    return ", ".join(words)


def _numbers_from_one(progress: Callable[[int], object] | None) -> Callable[[int], object] | None:
    return None if progress is None else lambda number: progress(number + 1)


def _finite_part(trial: Trial) -> tuple[float, ...]:
    """Return the losses of a trial; infinite at the end if it ended with an error."""
    losses = tuple(loss for place, loss in enumerate(trial.losses) if loss == loss or trial.own[place] == trial.own[place])
    return (*losses, math.inf) if trial.why else losses


def _loss_after(trial: Trial) -> float:
    return loss_after(_finite_part(trial))


def _is_not_finite(loop: TrainingLoop) -> bool:
    return any(not math.isfinite(number) for number in loop.last_losses.numbers)


def _open_on(run: ScriptRun, error: BaseException | None = None) -> None:
    """Open the debugger on the last steps, in this terminal; say why if that is not possible, and let the script go on."""
    try:
        screens.terminal().require_terminal()
    except TuiGruError:
        if error is None:
            print(
                f"tui_gru.steps: step {run.step}: no screen opens, since this is no terminal; screen=f calls f(run)",
                file=sys.stderr,
            )
        return
    then = "q lets the script go on" if error is None else "q ends"
    print(f"tui_gru: the last steps are computed again, to be seen; {then}", file=sys.stderr)
    try:
        session = run.session() if error is None else run.recorded(Change(), words="", error=error)
    except TuiGruError as refusal:
        print(f"tui_gru.steps: step {run.step}: no screen opens: {refusal}", file=sys.stderr)
        return
    if session is not None:
        threads = torch.get_num_threads()
        try:
            screens.terminal().open_debugger(lambda: session)
        finally:
            torch.set_num_threads(threads)
