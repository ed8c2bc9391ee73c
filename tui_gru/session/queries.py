"""What can be asked of a run at its position: values, derivations, and analyses. Nothing of it changes the run."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tui_gru import analysis, arguments, errors
from tui_gru.debugger.edits import JournalEntry, as_index
from tui_gru.debugger.moment import read_only, value_before
from tui_gru.debugger.position import Level, Position, StepMemory, check_level, in_words, position_of
from tui_gru.debugger.program import Program, Spellings, unknown_name
from tui_gru.debugger.state import Notice, State, StopEvent
from tui_gru.debugger.timeline import Anchor, Timeline
from tui_gru.engine.config import Config, Text, index_of, tokenized
from tui_gru.engine.data import Corpus
from tui_gru.engine.numbers import counted
from tui_gru.engine.source import Ability
from tui_gru.engine.weights import Array
from tui_gru.equations.syntax import did_you_mean
from tui_gru.errors import TuiGruError
from tui_gru.session.travel import Run, SearchProgress

# The rest of the session takes the types of answers from here, so that only this file knows the analyses.
if TYPE_CHECKING:
    from pandas import DataFrame

    from tui_gru.analysis.check import Check, CheckWatch, Expected
    from tui_gru.analysis.check import CheckResult as CheckResult
    from tui_gru.analysis.check import CheckTotals as CheckTotals
    from tui_gru.analysis.examined import Finding as Finding
    from tui_gru.analysis.influence import ContextMemory, Influence, Jacobian, RowInfluence
    from tui_gru.analysis.influence import Flow as Flow
    from tui_gru.analysis.learning import LearningMap
    from tui_gru.analysis.live import LiveLoop
    from tui_gru.analysis.losses import TextLosses as TextLosses
    from tui_gru.analysis.measured import FactTable
    from tui_gru.analysis.report import RunComparison, RunReport
    from tui_gru.analysis.story import Story as Story
    from tui_gru.analysis.summaries import PrintedNumbers, Summary
    from tui_gru.analysis.tables import Columns
    from tui_gru.analysis.timesteps import TimestepPlace, Timesteps
    from tui_gru.analysis.trials import CureTrial, RateTrial, TriedOption
    from tui_gru.analysis.units import Activity as Activity
    from tui_gru.analysis.units import Feature
    from tui_gru.analysis.what_if import BranchComparison
    from tui_gru.analysis.what_if import SilentUnit as SilentUnit
    from tui_gru.analysis.what_if import WhatIf as WhatIf
    from tui_gru.debugger.derivation import Node, ValueRef
    from tui_gru.debugger.explain import Silenced
    from tui_gru.debugger.expressions import CompiledExpression
    from tui_gru.debugger.moment import Moment
    from tui_gru.engine.sampling import NextChances, Sample


MOST_POINTS = 100_000  # of a curve or a story
_OPERATOR, _CALL = re.compile(r"[(\[+*/<>=−-]"), re.compile(r"\w[(\[]")  # what an expression has, and what nothing else has


class Queries:
    """What can be asked of a run, without changing it. `Session` adds the verbs."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.live: LiveLoop | None = None  # the loop of a script whose steps these are, and which tries in the place of the run
        self._found: tuple[Timeline | None, tuple[Finding, ...]] = (None, ())
        self._rates: tuple[Timeline | None, tuple[RateTrial, ...]] = (None, ())
        self._story: Story | None = None
        self._features: dict[str, None] = {}  # the files and expressions that units may follow, as typed, the newest last
        self._silent: SilentUnit | None = None
        self._silenced: tuple[object, Moment] | None = None  # the last batch with the unit at 0, and what it was computed for

    # The run and its program

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
    def parameter_names(self) -> tuple[str, ...]:
        """The names of all parameters, in the order of the equations."""
        return self.program.parameters

    def program_text(self) -> str:
        """Return the listing as shown on screen, one row a line."""
        return "".join(f"{'  ' * row.indent}{row.text}\n" for row in self.program.rows)

    @property
    def steps(self) -> tuple[int, ...]:
        """The step numbers of a recording; each recorded step is a batch here. Empty for other sessions."""
        return self.config.source.steps

    # The position

    @property
    def position(self) -> Position:
        """The position in time: the line that has just been executed."""
        return self._run.position

    @property
    def newest(self) -> Position:
        """The newest position reached on this branch; of batches that were imported, the last one, since all are known."""
        if self._run.end is not None and not self.config.source.can(Ability.TRAIN):
            return self._run.end
        return self._run.timeline.position(self.state.branches.newest)

    @property
    def end(self) -> Position | None:
        """The last position of a run of `epochs`; None if the run has no end."""
        return self._run.end

    @property
    def left_at(self) -> str:
        """The position and the numbers of branches and changes, in one line, for the notice of a reopened session."""
        at, done = self.position, counted(len(self.state.branches.done), "change")
        place = in_words(at.epoch, at.batch, at.t, step=at.step, between=" · ")
        return f"{place} on {self.branch}, {counted(len(self.branches), 'branch')}, {done}"

    def batches_to(self, tick: int | None = None) -> int:
        """Return the most batches that are run or replayed on the way to a tick of this branch (None: to the position)."""
        timeline = self._run.timeline
        tick = self.position.tick if tick is None else arguments.integer("a tick", tick)
        batch = max(tick - 1, 0) // self.program.ticks
        ahead = batch - timeline.computed
        return ahead if ahead > 0 else batch - timeline.replay_start(batch) + 1

    def tick_after(self, level: Level, count: int) -> int:
        """Return the tick to which a first `step` from here goes if nothing stops it, to pass to `seek`, which ignores stops.

        Raises `TuiGruError` for an unknown level.
        """
        level = check_level(level)
        stride = StepMemory.begin(level, self.state.tick)
        return stride.target(self._run.timeline.step_index(level), arguments.integer("count", count))[0]

    def anchor(self, tick: int | None = None) -> Anchor:
        """Return a reference to this moment, or to another of this branch, to pass to `holds` later."""
        return Anchor(self._run.timeline, self.position.tick if tick is None else arguments.integer("a tick", tick))

    def holds(self, anchor: Anchor) -> bool:
        """Return True if the current branch contains the moment of an anchor with unchanged numbers.

        Raises `TuiGruError` if it is no anchor.
        """
        return self._run.timeline.still_has(arguments.instance("a moment", anchor, Anchor, "a result of `Session.anchor`"))

    # Branches

    @property
    def branch(self) -> str:
        """The name of the current branch."""
        return self.state.branch

    @property
    def branches(self) -> tuple[str, ...]:
        """The names of all branches; the first is `main`."""
        return self.state.branches.names

    def apart(self, name: str = "", *, progress: SearchProgress | None = None) -> BranchComparison:
        """Compare two branches: their first difference, and the differences of their losses and their samples at this moment.

        An empty name means the branch compared with, or else the default of `compare`. Raises `TuiGruError` if there is no such
        branch or it is interrupted.
        """
        run, state = self._run, self.state
        name = arguments.string("a branch", name) or state.comparing or self._relative
        if name not in state.branches.names or name == state.branch:
            raise TuiGruError(f"there is no other branch {name!r}; there are: {', '.join(state.others)}")

        stopped = "stopped before the branches had been compared"
        monitor, _ = run.interrupts.monitors(stopped, progress, lambda batch: f"batch {batch + 1:,} of {name}")
        return analysis.what_if.compare_branches(state.branches, name, run.moment, monitor)

    @property
    def _relative(self) -> str:
        return self.state.relative(self._run.tree.of(self.state.branches))

    # A unit held at 0

    @property
    def silent(self) -> SilentUnit | None:
        """The unit that `silence` holds at 0; None without one."""
        return self._silent

    def silence(self, name: str = "", unit: int | None = None) -> None:
        """Hold a unit (0-based) of a value at 0 after every character in all that is read from here on; without arguments, no unit.

        Values, gradients, the loss and snapshots are then those of the batch as the model computes it without the unit, from the
        weights and the first states that the run has there; `units` and `losses` read texts without it, derivations, what-ifs and
        checks have the mask as a factor. The run is not changed. What is not computed without the unit is refused: influence,
        memory, samples. `name` defaults to the state of the last layer. Raises `TuiGruError` if the unit cannot be held at 0.
        """
        before = self._silent
        if unit is None:
            self._silent = None
            return
        try:
            self._silent = analysis.what_if.checked_silent(self.program, self._code_name(name) or self.program.main_state, unit)
            _ = self._moment
        except TuiGruError:
            self._silent = before
            raise

    @property
    def _moment(self) -> Moment:
        """The moment of the position, with the silenced unit at 0."""
        current = self._run.moment
        if self._silent is None:
            return current
        key = self._run.timeline, current.position.number, current.learned, self._silent
        if self._silenced is None or self._silenced[0] != key:
            self._silenced = key, self._without_unit(current, self._silent)
        return replace(self._silenced[1], position=current.position)

    def _without_unit(self, moment: Moment, silent: SilentUnit) -> Moment:
        return analysis.what_if.without_unit(self._run.timeline, moment, silent)

    def _edit_of(self, what_if: WhatIf) -> tuple[str, int]:
        """Return the name to edit and the tick of the edit that make the run equal to a what-if."""
        what_if = arguments.instance("a what-if", what_if, analysis.what_if.WhatIf, "a result of `Session.what_if`")
        if what_if.silent is not None:
            unit = what_if.silent.written(self.program)
            raise TuiGruError(f"{unit} is held at 0 in this what-if, and not in the run; end that first (silence), then ask again")
        return analysis.what_if.place_of_edit(self.program, what_if)

    def _check_unsilenced(self, answer: str) -> None:
        """Raise `TuiGruError` while a unit is silenced, for what would be of the run."""
        if self._silent is not None:
            unit = self._silent.written(self.program)
            raise TuiGruError(f"{unit} is held at 0, and {answer} of the model with all units; end that first: silence")

    # Values

    def value(self, name: str, t: int | None = None) -> Array | Any:
        """Return the value of a name, in code or as on screen, at the position, or at timestep `t` (0-based) of this batch.

        It is an array (B, H) or (B, V), read-only, or None if it has not been computed yet; of a name without entries, such as
        `loss`, a number. Raises `TuiGruError` for an unknown name.
        """
        value = self._moment.value(self._code_name(name), self._timestep(t))
        return read_only(value.copy()) if isinstance(value, np.ndarray) else value

    def parameter(self, name: str) -> Array:
        """Return a parameter at the position, read-only, in the shape of its equation: Wz (V, H), Uz (H, H), bz (H), Wy (H, V).

        Raises `TuiGruError` for an unknown name.
        """
        value: Array = self._moment.value(self._parameter(name))
        return value

    def gradient(self, name: str) -> Array | None:
        """Return the gradient of the loss with respect to a parameter, in its shape, read-only; None if not computed yet.

        Raises `TuiGruError` for an unknown name.
        """
        return self._moment.gradient(self._parameter(name))

    @property
    def loss(self) -> float | None:
        """The loss of this batch, with the built-in loss the mean over its characters in nats; None until it has been computed."""
        value: float | None = self._moment.value("loss")
        return value

    def calculate(self, expression: str, t: int | None = None, numbers: Mapping[str, Any] = MappingProxyType({})) -> Any:
        """Return the value of an expression of the condition language at the position, with values of timestep `t` (0-based;
        default: the position's): an array, read-only, a number, a truth value or a character; None if a name in it is not computed
        yet.

        `numbers` are further names with their values. Raises `ConditionError`, with the column, for an expression that cannot be
        parsed or evaluated.
        """
        from tui_gru.debugger.expressions import compile_expression

        if not isinstance(numbers, Mapping):
            raise TuiGruError(f"numbers must be a mapping of names to numbers, not {errors.shown(numbers)}", option="numbers")
        if (other := next((name for name in numbers if not (isinstance(name, str) and name.isidentifier())), None)) is not None:
            raise TuiGruError(f"a name of a number must be a word, such as a, not {errors.shown(other)}", option="numbers")
        spellings = Spellings({**self.program.spellings, **{name: name for name in numbers}})
        spellings.program, spellings.tokens = self.program, self.program.spellings.tokens
        compiled = compile_expression(arguments.string("an expression", expression), spellings)
        t, moment, timeline = self._timestep(t), self._moment, self._run.timeline
        previous = timeline.before(moment.position.number) if compiled.previous else None

        def read(name: str) -> Any:
            return numbers[name] if name in numbers else moment.in_conditions(name, t)

        return compiled.value(read, lambda name: value_before(moment, previous, name))

    @property
    def expected(self) -> Expected | None:
        """The output of this batch compared with the output of the original model; None if the latter is not known."""
        return analysis.check.expected_of(self._moment.record, self.config.source, self.position.batch)

    def recorded_gradient(self, name: str) -> Array | None:
        """Return p.grad of a parameter as the script's optimizer used it, read-only, by our name and in our shape.

        None if it was not recorded. Raises `TuiGruError` for an unknown name.
        """
        name, batch = self._parameter(name), self.config.source.batch(self.position.batch)
        recorded = None if batch is None else batch.recorded
        return None if recorded is None or np.isnan(recorded[name]).all() else read_only(recorded[name])

    @property
    def remarks(self) -> str:
        """How p.grad of this batch relates to the derived gradients (equal, clipped, scaled), and other remarks on the batch."""
        batch = self.config.source.batch(self.position.batch)
        return "" if batch is None else batch.remarks()

    def summary(self, name: str, t: int | None = None) -> Summary | None:
        """Return statistics of a value, a parameter or a gradient: shares of saturated and near-zero entries, a histogram, …

        Takes the arguments of `value`; None if not computed yet. Raises `TuiGruError` for a single number.
        """
        name = self._code_name(name)
        value = self._moment.value(name, self._timestep(t))
        if value is None:
            return None
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            raise TuiGruError(f"{name} has no entries to summarise")
        return analysis.summaries.summary(value, analysis.summaries.limits_of(self.program, name))

    def printed(self, expression: str) -> PrintedNumbers:
        """Return the numbers of a value, a weight, a gradient, a row or unit of one, or an expression, as of the position: `W`,
        `h`, `dh t 2`, `W[row 1]`, `max(abs(W))`. A `PrintedNumbers` has `values`, and the names of its `rows` and `columns`.

        Raises `TuiGruError` for what cannot be parsed or is not computed yet.
        """
        run = self._run
        number = self._moment.position.number
        expression = arguments.string("an expression", expression)
        return analysis.summaries.printed(self.program, expression, self._moment, run.timeline.before(number))

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The samples drawn so far, the newest last."""
        return self.state.samples

    # Derivations

    def explain(self, name: str, index: Any = (), t: int | None = None) -> Node:
        """Return the derivation of entry `index` of `name` at timestep `t` (0-based; default: the position's), as of the position.

        The terms of the sum that it equals are in `explain("h", (1, 0)).terms`; each can be explained in turn. Raises
        `TuiGruError`.
        """
        from tui_gru.debugger.derivation import ValueRef
        from tui_gru.debugger.explain import Explainer

        number = ValueRef(self._code_name(name), as_index(index), self._timestep(t), self.state.tick)
        return Explainer(self._run.timeline, silenced=self._silenced_unit).explain(number)

    @property
    def _silenced_unit(self) -> Silenced | None:
        from tui_gru.debugger.explain import Silenced

        return None if self._silent is None else Silenced(self._moment, *self._silent)

    def derive(self, number: ValueRef, *, progress: SearchProgress | None = None) -> Node:
        """Return the derivation of a number anywhere on this branch. Raises `TuiGruError` if there is none or it is interrupted."""
        from tui_gru.debugger.derivation import ValueRef
        from tui_gru.debugger.explain import Explainer

        number = arguments.instance("a number", number, ValueRef, "the `number` of a term of a derivation")
        run, stopped = self._run, "stopped before the derivation was complete"
        monitor, _ = run.interrupts.monitors(
            stopped, progress, lambda batch: position_of(run.program, (batch + 1) * run.program.ticks)
        )
        return Explainer(run.timeline, monitor, self._silenced_unit).explain(number)

    def what_if(self, name: str, index: Any, value: Any, t: int | None = None) -> WhatIf:
        """Return the effect on this batch if a parameter, a value or delta of timestep `t`, or a gradient had another value.

        None in the index stands for all along its axis: `(None, 1)` is the second unit in every row, `None` alone the whole value.
        Changes neither the run nor a branch; a silenced unit is at 0 in both. Raises `TuiGruError` if the number cannot be changed
        or has not been computed yet.
        """
        code_name = self._code_name(name)
        named = self.program.names.get(code_name)
        if index is None and named is not None:
            index = (None,) * len(named.axes)
        parts = tuple(index) if isinstance(index, tuple | list) else (index,)
        edit = JournalEntry("edit", code_name, tuple(None if part is None else as_index(part)[0] for part in parts), value)
        return analysis.what_if.what_if(self._run.timeline, self._moment, edit, t, self._silent)

    def kept(self, name: str, default: Any = None) -> Any:
        """Return the value last saved under a name with `keep`; `default` if there is none."""
        return self.state.kept.get(arguments.string("the name of a saved value", name), default)

    # Analyses of the run

    def batch_check(self) -> Check:
        """Prepare the check of this batch; call its `run` in any thread. It only reads, and never changes the training."""
        run, record = self._run, None
        if self._silent is not None:
            if self.program.earlier:  # its gradient goes into batches that were computed with all units
                self._check_unsilenced("a check is")
            record = analysis.what_if.masked(run.timeline, run.moment, self._silent)
        return analysis.check.prepare_check(run.timeline, run.moment, record)

    def check(self, *, entries: int = 2, seed: int = 0) -> CheckResult:
        """Compare all numbers of this batch with PyTorch's autograd and with finite differences. Imports torch.

        If the batch does not learn, a copy of it gets a backward pass. Raises `TuiGruError` if a number is not finite.
        """
        return self.batch_check().run(entries=entries, seed=seed)

    @property
    def found(self) -> tuple[Finding, ...]:
        """The result of the last call of `findings` on this branch, with that of `gone` as `found.gone`; empty before the first."""
        timeline, found = self._found
        return found if timeline is self._run.timeline else ()

    @property
    def held_out(self) -> str:
        """The text of `hold_out`; empty without one."""
        return str(self.kept("held-out", ""))

    def findings(self, *, held_out: str = "", progress: SearchProgress | None = None) -> tuple[Finding, ...]:
        """Return training problems in the run up to the position, each with its numbers and the remedy; empty for a healthy run.

        `held_out` is a text that was not trained on, used to detect overfitting; by default that of `hold_out`. Replays the last
        batches. Raises `TuiGruError` if an argument is invalid or it is interrupted.
        """
        run, unseen = self._run, self._unseen(held_out)
        monitor, between = run.interrupts.monitors("stopped before the analysis was complete", progress)
        findings = analysis.examined.FoundProblems(
            analysis.findings.find_problems(
                run.timeline, run.moment, self.samples, held_out=unseen, monitor=monitor, progress=between
            )
        )
        self._found = (run.timeline, findings)
        return findings

    def diagnose(self, *, progress: SearchProgress | None = None) -> tuple[Finding, ...]:
        """Return the causes of what is wrong with the run, sorted by proof; empty if no fact shows any.

        Each has `.cause`, `.seen`, `.tried` and `.cure`, texts that are "" where there is none, and `.proof`: 3 for a fact and an
        experiment, 2 for an exact fact, 1 for an experiment alone, 0 for an observation. Their `.cause` is a text, unlike that of
        `findings`, whose results can follow from each other. In a live session of a script, and in a run of this program, cures are
        tried on copies; a recording has the facts of its steps alone. Raises `TuiGruError` if it is interrupted.
        """
        from tui_gru.analysis import diagnosis
        from tui_gru.analysis.examined import RunFacts, script_watch
        from tui_gru.engine.source import Imported

        run, source = self._run, self.config.source
        check = partial(run.interrupts.check, "stopped before the diagnosis was complete")
        monitor, between = run.interrupts.monitors("stopped before the diagnosis was complete", progress)
        findings = self.findings(progress=progress)
        if not isinstance(source, Imported):
            return diagnosis.diagnose_run(run.timeline, run.moment, findings, check=check, progress=between)
        if self.live is not None:
            causes = diagnosis.diagnose_loop(self.live, check=check, progress=between)
            return diagnosis.with_findings(causes, findings)
        facts = RunFacts(run.timeline, run.moment.position, monitor=monitor)
        watched = replace(facts.watched, losses=tuple(map(float, np.ma.filled(facts.losses_of_script, np.nan))))
        causes = diagnosis.diagnose_script(script_watch(source), watched, check=check, progress=between)
        return diagnosis.with_findings(causes, findings)

    def facts(self, part: str = "", *, progress: SearchProgress | None = None) -> tuple[FactTable, ...]:
        """Return what was measured of the training, without a judgement: `rate`, `targets`, `inputs`, `criterion`, `parameters` and
        `step`, or the one of these that `part` names. A `FactTable` has `name`, `sentences`, `columns` and `missing`.

        Of a script these are the facts of its watched steps, and the rate of every step; of a run of this program they are those of
        the position. Raises `TuiGruError` for another part.
        """
        from tui_gru.analysis import measured
        from tui_gru.analysis.examined import RunFacts
        from tui_gru.engine.source import Imported

        run, source = self._run, self.config.source
        parts = measured.chosen_part(arguments.string("part", part))
        arguments.callback("progress", progress)
        watched = RunFacts(run.timeline, run.moment.position).watched
        if isinstance(source, Imported) and (watched.steps or source.steps):
            return measured.facts_of_script(watched, source, parts)
        return measured.facts_of_run(run.timeline, run.moment, parts)

    def gone(self, *, held_out: str = "", progress: SearchProgress | None = None) -> tuple[Finding, ...]:
        """Return the findings that the run has shown and does not show at the position, with `first_seen` and `last_seen`.

        They are also kept as `found.gone`. Examines about ten earlier moments. Raises `TuiGruError` as `findings` does.
        """
        run, unseen, findings = self._run, self._unseen(held_out), analysis.examined.FoundProblems(self.found)
        monitor, between = run.interrupts.monitors("stopped before the earlier moments were examined", progress)
        findings.gone = analysis.findings.gone_again(
            run.timeline, run.moment, findings, held_out=unseen, monitor=monitor, progress=between
        )
        self._found = (run.timeline, findings)
        return findings.gone

    def history(
        self, expression: str, points: int = 40, *, at: Sequence[int] | None = None, masked: bool | None = None
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return the course of an expression, such as `loss` or `max(abs(dUh))`: batches (n,), and its values at their ends, (n,).

        Batches are counted through all epochs, 0-based, on a logarithmic scale up to the position; n is at most `points`. With `at`
        they are those of the run so far among the given ones. Replays one batch for each where it can.

        Where a batch does not have the value, such as the loss of a step for which a script gave none, it is NaN in a run of this
        program. In a recording, where a loss may have been NaN as well, the array is masked there, None as a list. `masked`
        decides it for both.

        Raises `ConditionError`, with the column, for an expression that cannot be parsed or evaluated, `TuiGruError` if it is not
        one number or it is interrupted.
        """
        run = self._run
        points = arguments.integer("points", points, least=1, most=MOST_POINTS)
        at = None if at is None else arguments.integers("at", at)
        check = partial(run.interrupts.check, "stopped before the curve was complete")
        expression = arguments.string("an expression", expression)
        trains = self.config.source.can(Ability.TRAIN)
        masked = not trains if masked is None else arguments.boolean("masked", masked)
        count = run.timeline.completed(run.position if at is None and trains else self.newest)
        batches, values = analysis.story.course(run.timeline, count, expression, points, at=at, check=check)
        return batches, values if masked else np.ma.filled(values, np.nan)

    def story(
        self, points: int = 40, *, also: Sequence[int] = (), held_out: str = "", progress: Callable[[Story], object] | None = None
    ) -> Story:
        """Return how gates, weights and gradients developed over the batches of this branch: at `points` that are chosen as by
        `history`, at as many that are evenly spaced, at those where the loss jumps, and at those in `also`.

        The batches are counted as by `history`. `held_out` is a text that was not trained on; by default that of
        `hold_out`. `progress` receives the story so far after each moment. What is known of an earlier call is not computed again.
        Raises `TuiGruError` if an argument is invalid or it is interrupted.
        """
        run, unseen = self._run, self._unseen(held_out)
        arguments.callback("progress", progress)

        def report(story: Story) -> None:
            if story.moments:
                self._story = story
            if progress is not None:
                progress(story)

        return analysis.story.tell(
            run.timeline,
            run.timeline.completed(self.newest),
            points=arguments.integer("points", points, least=1, most=MOST_POINTS),
            also=arguments.integers("also", also),
            held_out=unseen,
            earlier=self._story,
            check=partial(run.interrupts.check, "stopped before the story was complete"),
            progress=report,
        )

    def learned(self, points: int = 22, *, held_out: str = "", progress: SearchProgress | None = None) -> LearningMap:
        """Return what was learned when: the loss of each class of characters at some moments of this branch, and sentences on it.

        A class counts as learned once its loss stays below half of that of guessing by the frequencies of the characters. It is
        measured on `held_out`, by default the text of `hold_out`, or the beginning of the text that is trained on. Raises
        `TuiGruError` if an argument is invalid, the model has no loss of characters, or it is interrupted.
        """
        self.config.source.check(Ability.TEXT)
        run, unseen = self._run, self._unseen(held_out)
        _, between = run.interrupts.monitors("stopped before the map was complete", progress)
        return analysis.learning.learning_map(
            run.timeline,
            run.timeline.completed(run.position),
            unseen or self._corpus.text,
            unseen=bool(unseen),
            points=arguments.integer("points", points, least=2, most=MOST_POINTS),
            check=partial(run.interrupts.check, "stopped before the map was complete"),
            progress=between,
        )

    def rates(self, *, progress: Callable[[RateTrial], object] | None = None) -> tuple[RateTrial, ...]:
        """Return learning rates, each with the loss after 60 batches with it from here on, in nats; `progress` gets each at once.

        The rates are 1e-5 … 10 in steps of √10, and the run's own. The loss is the mean of the last 12 batches, infinite if one is
        not finite. The run is not changed. At a pause of `tui_gru.steps`, seven rates are tried in the script's loop, on its
        last steps. Raises `TuiGruError` for a run that cannot be trained, or if it is interrupted.
        """
        run, trials = self._run, []
        arguments.callback("progress", progress)
        check = partial(run.interrupts.check, "stopped before all rates were tried")
        if self.live is not None:
            of_loop = self.live.rates(progress=lambda trial: (check(), progress is not None and progress(trial)))
            self._rates = run.timeline, of_loop
            return of_loop
        for trial in analysis.trials.try_rates(run.timeline, run.moment, check=check):
            trials.append(trial)
            if progress is not None:
                progress(trial)
        self._rates = run.timeline, tuple(trials)
        return tuple(trials)

    @property
    def tried_rates(self) -> tuple[RateTrial, ...]:
        """The result of the last call of `rates` on this branch; empty before the first."""
        timeline, trials = self._rates
        return trials if timeline is self._run.timeline else ()

    def try_cures(
        self, finding: Finding, *, progress: Callable[[tuple[CureTrial, ...]], object] | None = None
    ) -> tuple[CureTrial, ...]:
        """Return the options that may remedy a finding, each as typed, with the loss without it and with it, the best one first.

        Each is tried from the batch `finding.since` on, over as many batches as the run has from there on, but 100 at least and
        500 at most; a loss is the mean of the last fifth, in nats. `progress` receives the trials so far after each one. The run
        is not changed. Empty if no option applies. Raises `TuiGruError` for a run that cannot be trained, or if it is interrupted.
        """
        better = analysis.trials.better
        arguments.callback("progress", progress)
        return better(self.tried_options(finding, progress=None if progress is None else lambda trials: progress(better(trials))))

    def tried_options(
        self, finding: Finding, *, progress: Callable[[tuple[TriedOption, ...]], object] | None = None
    ) -> tuple[TriedOption, ...]:
        """Return the losses of the run as it is, and those with each option that may remedy a finding, or why it cannot be tried.

        The trials are those of `try_cures`; another sampler is tried at the moment of the sample, with its random numbers. Raises
        `TuiGruError` as it does.
        """
        from tui_gru.analysis.examined import Finding

        finding = arguments.instance("finding", finding, Finding, "one of `Session.findings()`")
        arguments.callback("progress", progress)
        run = self._run
        if self.live is not None:
            return self.live.tried_options(finding, progress=progress)
        options: tuple[TriedOption, ...] = ()
        check = partial(run.interrupts.check, "stopped before all cures were tried")
        trials = analysis.trials.tried_options(run.timeline, run.moment, finding.cures, since=finding.since, check=check)
        if (
            finding.name == "sampler-without-feedback"
            and (drawn := analysis.findings_of_data.without_feedback(self.samples)) is not None
        ):
            moment = run.moment if drawn.tick is None else run.timeline.moment(drawn.tick)
            trials = analysis.trials.tried_samplers(self.config, moment.weights, drawn, *finding.cures)
        for option in trials:
            options = (*options, option)
            if progress is not None:
                progress(options)
        return options

    def compared(
        self, other: Queries, names: tuple[str, str] = ("this run", "the other run"), *, progress: SearchProgress | None = None
    ) -> RunComparison:
        """Compare this run with that of another session, of any model, each up to its position: what differs in options and
        results, both curves, the findings that only one has, and samples. Raises `TuiGruError` if it is interrupted.
        """
        if not isinstance(other, Queries):
            raise TuiGruError(f"a run is compared with another session, not {errors.shown(other)}; open it first")
        mine, theirs = (run.report(name, whole=False, progress=progress) for run, name in zip((self, other), names, strict=True))
        return analysis.report.RunComparison(mine, theirs)

    def report(
        self, title: str = "a run", *, held_out: str = "", whole: bool = True, progress: SearchProgress | None = None
    ) -> RunReport:
        """Return the contents of a report on the run up to the position, to pass to one of `analysis.report.WRITERS`.

        Without `whole`, it has what `compared` needs: options, facts, the curve, findings and samples. Raises
        `TuiGruError` if the held-out text does not fit or it is interrupted.
        """
        run, unseen = self._run, self._unseen(held_out)
        monitor, between = run.interrupts.monitors("stopped before the analysis was complete", progress)
        marks = run.state.marks.sorted
        return analysis.report.gather(
            run.timeline,
            run.moment,
            self.samples,
            marks,
            title=title,
            held_out=unseen,
            monitor=monitor,
            progress=between,
            is_complete=arguments.boolean("whole", whole),
        )

    def units(
        self,
        name: str = "",
        *,
        row: int | None = None,
        text: str | None = None,
        without: bool = False,
        features: object = None,
        progress: SearchProgress | None = None,
    ) -> Activity:
        """Return the value of every unit after every character of a text or of a row of this batch: `activity.values` (n, units).

        `name` defaults to the state of the last layer. With `row` (0-based) the values are those of the run, NaN if they have not
        been computed yet; without it, `text` is read with the current weights, by default the training text, and its start with
        those before training: `activity.before`. With `without`, its first 4,000 characters are also read without each unit:
        `activity.without` (units) is the loss in nats with the unit held at 0, and `activity.loss` the loss with all.

        A run that reads numbers has no text: then the values are those of the timesteps of this batch, row by row, and of the
        batches of a recording before it. Units are compared with the inputs, with the timestep, and with `features`: arrays by
        name, an array, or a .npy file, with one number for each timestep and row, (T, B), a batch like the other, or (batches, T,
        B); a last axis holds several. Raises `TuiGruError`.
        """
        name, without = self._code_name(name) or self.program.main_state, arguments.boolean("without", without)
        arguments.callback("progress", progress)
        if row is not None:
            return analysis.units.over_row(self._moment, name, row)
        if not self.config.source.can(Ability.TEXT) and text is None:
            if without:
                raise TuiGruError("the loss without each unit is that of a text, and this run reads numbers", option="without")
            return self._timesteps().activity(name, self._array_features(features))
        if features is not None:
            raise TuiGruError("features are of runs that read numbers; s.feature(…) adds one of a text", option="features")
        read = self._corpus.text if text is None else self._tokens(text)
        activity = analysis.units.values_of_text(name, self._read(read, [name], progress), read)
        if text is None:
            activity = replace(activity, own=tuple(self.feature(typed, progress=progress) for typed in self._features))
        before = self._run.timeline.record(0).before
        if self.position.tick and before is not self._run.moment.weights:
            part = read[: analysis.units.PROBED]
            values = analysis.units.values_after_characters(
                self.config, before, part, [name], stop=self._run.interrupts.is_requested
            )
            activity = replace(activity, before=analysis.units.values_of_text(name, values, part))
        if not without:
            return activity
        self._check_unsilenced("the loss without each unit is")

        def report(_: float, without: Array) -> None:
            if progress is not None:
                progress(f"the loss without {np.isfinite(without).sum():,} of {activity.units:,} units")

        weights, part, stop = self._run.moment.weights, read[: analysis.losses.ABLATED], self._run.interrupts.is_requested
        loss, losses = analysis.losses.without_each_unit(self.program, weights, part, name, progress=report, stop=stop)
        return replace(activity, loss=loss, without=losses)

    def _timesteps(self) -> Timesteps:
        source, run = self.config.source, self._run
        return analysis.timesteps.Timesteps.up_to(
            self.program,
            run.moment.position.number,
            run.timeline.record,
            lambda batch: source.step(batch) or f"batch {batch + 1:,}",
        )

    def _array_features(self, features: object = None) -> list[Feature]:
        """Return the features of the user's arrays: those given here, and of the files that were named before."""
        from tui_gru.files.tensors import array_of

        timesteps = self._timesteps()
        named: list[Feature] = []
        for source in (*self._features, *(() if features is None else (features,))):
            for name, array in analysis.timesteps.feature_arrays(source, lambda path: array_of(path, path.name)).items():
                named += timesteps.features_of(name, array)
        return named

    def largest_gradients(self, count: int = 10) -> list[tuple[TimestepPlace, float]]:
        """Return the rows of this batch, and of the batches of a recording before it, to which the head and the loss have given the
        largest gradients: the batch, the row and the timestep with the largest part of it, from 0, and the norm over the row.

        Raises `TuiGruError` if there is no gradient.
        """
        return self._timesteps().largest_gradients(arguments.integer("count", count, least=1, most=10_000, option="count"))

    def feature(self, typed: str, *, progress: SearchProgress | None = None) -> Feature:
        """Return a feature of the training text: by its name, a class of the characters typed, or a number for each character.

        The number comes from a file, .npy or text, or is that of an expression of conditions after each character, such as
        `max(abs(h))` or `h[0, 3] - prev(h)[0, 3]`, in which a value has one row. `units` compares each unit with all of these from
        then on. Of a run that reads numbers, it is one of the inputs, `x[input 2]`, `timestep`, or an array in a .npy file, as of
        `units`. Raises `TuiGruError`; `ConditionError` for an expression that cannot be evaluated.
        """
        typed, path = arguments.string("a feature", typed).strip(), Path(typed.strip()).expanduser()
        if not self.config.source.can(Ability.TEXT):
            return self._numeric_feature(typed, path)
        if path.suffix in (".npy", ".txt", ".csv") or (os.sep in typed and path.is_file()):
            feature = analysis.units.feature_of_file(path, self._corpus.text)
        elif typed[:1] != "[" and _OPERATOR.search(typed) and (compiled := self._compiled(typed)) is not None:
            feature = self._feature_of(compiled, progress)
        else:
            return analysis.units.feature_of(typed)
        self._features = {**{name: None for name in self._features if name != typed}, typed: None}
        return feature

    def _numeric_feature(self, typed: str, path: Path) -> Feature:
        """Return a feature of a run that reads numbers."""
        if path.suffix == ".npy":
            feature = self._array_features(typed)[-1]  # before it is kept, since it may be refused
            self._features = {**{name: None for name in self._features if name != typed}, typed: None}
            return feature
        by_name = {feature.name: feature for feature in (*self._timesteps().features(), *self._array_features())}
        if typed not in by_name:
            raise TuiGruError(f"there is no feature {typed!r}; they are {', '.join(by_name)}, or an array in a .npy file")
        return by_name[typed]

    def _compiled(self, typed: str) -> CompiledExpression | None:
        """Return an expression that reads a value; None for other characters, which are a class."""
        from tui_gru.debugger.expressions import ConditionError, compile_expression

        try:
            compiled = compile_expression(typed, self.program.spellings)
        except ConditionError:
            if _CALL.search(typed):
                raise
            return None
        return compiled if compiled.names else None

    def _feature_of(self, compiled: CompiledExpression, progress: SearchProgress | None) -> Feature:
        """Return the value of an expression after each character of the training text."""
        text, weights = self._corpus.text, self._run.moment.weights
        read = [name for name in compiled.names if name not in weights.layout.places]
        values = self._read(text, read, progress) if read else {}
        now = {name: values[name][:, None] if name in values else weights[name][None] for name in compiled.names}
        before = {name: np.concatenate([column[:1], column[:-1]]) if name in values else column for name, column in now.items()}
        evaluated = compiled.evaluate(compiled.moments(now, before, len(text)))
        if evaluated.shape[1:] not in ((), (1,)) or evaluated.dtype.kind not in "biuf":
            contents = f"{evaluated[0].size} numbers" if evaluated.dtype.kind in "biuf" else "a character"
            name = self.program.writer.name(self.program.main_state)
            hint = f"a feature is one number, as in max(abs({name})); write [{compiled.source}] for the set of these characters"
            raise TuiGruError(f"{compiled.source} is {contents} for each character; {hint}")
        numbers = np.broadcast_to(evaluated.reshape(len(evaluated), -1)[:, 0], len(text))
        return analysis.units.feature_of_numbers(compiled.source, "an expression", numbers, text)

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
        self._check_unsilenced("influence is")
        run, config = self._run, self.config
        indices = index_of(config.vocabulary)
        chosen = None if character is None else indices.get(arguments.string("the character", character))
        if character is not None and chosen is None:
            raise TuiGruError(f"{character!r} is not in the vocabulary {config.shown_vocabulary}")
        t = run.position.t if t is None else t
        back = analysis.influence.BACK if back is None else back
        stop = run.interrupts.is_requested
        return analysis.influence.influence(
            run.timeline,
            run.moment,
            t,
            row,
            character=chosen,
            back=back,
            occlusion=arguments.boolean("occlusion", occlusion),
            stop=stop,
        )

    def predict(self, text: str) -> NextChances:
        """Return the probabilities of what comes after a text, which is read from a zero state with the current weights.

        Raises `TuiGruError` for a text that is empty or does not fit the vocabulary, and for a model that predicts no characters.
        """
        self._check_unsilenced("predictions are")
        from tui_gru.engine.sampling import LONGEST_PRIMER, predict_after

        if len(arguments.string("the text", text, option="primer")) > LONGEST_PRIMER:
            raise TuiGruError(f"a text to predict after has at most {LONGEST_PRIMER:,} characters")
        return predict_after(self.config, self._run.moment.weights, text)

    def influence_of_rows(self, row: int = 0, t: int | None = None) -> RowInfluence:
        """Return how much the prediction of a row after timestep `t` (0-based; default: the position's) depends on each row.

        Computed by the gradient of each row, and by leaving out all other rows together. Both are 0 for other rows in a model
        that processes its rows independently. Raises `TuiGruError`.
        """
        self._check_unsilenced("influence is")
        t = self.position.t if t is None else t
        return analysis.influence.influence_of_rows(
            self._run.moment, t, row, one_by_one=False, stop=self._run.interrupts.is_requested
        )

    def jacobian(self, name: str = "", *, row: int = 0, t: int | None = None) -> Jacobian:
        """Return the derivative of the state of the layer that computes `name` by that before timestep `t` (0-based; default: the
        position's), in a row of this batch: `matrix` (N, N), with h and c of an LSTM one after the other.

        Its `eigenvalues` are time scales, in `timesteps`. `name` defaults to the state of the last layer. Raises `TuiGruError` if
        the timestep has not been computed yet, or its rows or timesteps depend on others.
        """
        name, t = self._code_name(name) or self.program.main_state, self.position.t if t is None else t
        return analysis.influence.jacobian_of_row(self._moment, name, row, t, self._silent)

    def memory(self, *, text: str | None = None) -> ContextMemory:
        """Return how far back the model remembers, with the current weights: the loss by the number of characters read, and the
        mean influence of a character by its distance.

        `text` is by default the start of the training text. Raises `TuiGruError` for a model without a loss of characters or one
        that does not read each row forwards.
        """
        self._check_unsilenced("the memory is")
        read = self._corpus.text[: analysis.units.PROBED] if text is None else self._tokens(text)
        return analysis.influence.memory(self.program, self._run.moment.weights, read, stop=self._run.interrupts.is_requested)

    def to_frame(self, what: str, *values: Any, **options: Any) -> DataFrame:
        """Return an answer as a pandas DataFrame: `history`, `story`, `losses`, `units` or `findings`.

        The other arguments are those of the method of this name: `s.to_frame("history", "norm(dUh)")`, whose expression is the
        loss by default, or `s.to_frame("units", "z", row=0)`. A row is a batch, a moment, a predicted character, a character that
        was read, a finding. Epochs, batches, rows, units and timesteps count from 1 in it. What a row
        does not have is missing (`NA`), which differs from NaN. Raises `TuiGruError` if pandas is not
        installed, or as the method does.
        """
        tables = self._tables()
        what = arguments.string("what", what)
        if what not in tables:
            raise TuiGruError(f"there is no table {what!r}; {did_you_mean(what, tables)}", option="what")
        try:
            from pandas import DataFrame
        except ImportError:
            raise TuiGruError("a data frame needs pandas, which is not installed: pip install pandas") from None
        return DataFrame(analysis.tables.of_pandas(tables[what](*values, **options)))

    def _tables(self) -> Mapping[str, Callable[..., Columns]]:
        steps, per_epoch = self.config.source.steps, self.program.num_batches

        def history(expression: str = "loss", *values: Any, **options: Any) -> Columns:
            return analysis.tables.of_history(
                *self.history(expression, *values, **{**options, "masked": True}), expression, per_epoch, steps
            )

        return {
            "history": history,
            "story": lambda *values, **options: analysis.tables.of_story(self.story(*values, **options), steps),
            "losses": lambda **options: analysis.tables.of_losses(self.losses(**options)),
            "units": lambda *values, **options: analysis.tables.of_units(self.units(*values, **options)),
            "findings": lambda **options: analysis.tables.of_findings(self.findings(**options)),
        }

    def trace(self, first: int = 0) -> dict[str, Array]:
        """Return every number of the finished batches up to the position, from batch `first` on, named as by `tui-gru trace`.

        Batches are counted through all epochs, 0-based, and are the first axis of the arrays: `timesteps/z` (batches, T, B, H),
        `gradients/Wz` (batches, V, H) if all of them learned, `loss` (batches). `numpy.savez(path, **s.trace())` writes them.
        Raises `TuiGruError` if there is no such batch or they do not fit into memory.
        """
        from tui_gru.storage.trace import Trace

        run = self._run
        count = run.timeline.completed(run.position)
        if not count:
            raise TuiGruError("no batch is finished yet; step to the end of one")
        first = arguments.integer("first", first, least=0, most=count - 1, option="first")
        return Trace.of_timeline(run.timeline, range(first, count)).arrays()

    def losses(self, *, text: Text | None = None, progress: SearchProgress | None = None) -> TextLosses:
        """Return the loss of each character in nats, `losses.values` (n): of this batch, as far as computed, or of `text` with the
        current weights.

        Raises `TuiGruError` if the text does not fit the vocabulary, or the model has no loss of characters.
        """
        self.config.source.check(Ability.TEXT)
        if text is None:
            return analysis.losses.of_batch(self._moment, self._corpus)
        read, name = self._tokens(text), self.program.loss_names.row
        if not name:
            raise TuiGruError("this model has no loss per character, so the loss cannot be divided")
        names = [name, *analysis.losses.read_states(self.program, read)]
        return analysis.losses.losses_of_text(self._read(read, names, progress), self.program, read)

    def _unseen(self, held_out: str) -> Text:
        """Return a held-out text, by default the text of `hold_out`."""
        return self._fitting_text(arguments.string("held_out", held_out) or self.held_out)

    def _fitting_text(self, held_out: str) -> Text:
        """Return a held-out text in the vocabulary. Raises `TuiGruError` if it does not fit."""
        return analysis.findings_of_course.held_out_text(self.config, held_out)

    def _timestep(self, t: int | None) -> int | None:
        return None if t is None else arguments.integer("the timestep t", t, least=0, most=self.config.seq_length - 1)

    def _code_name(self, name: str) -> str:
        """Return the code spelling of a name in code or as on screen: `h_tilde` for `h̃`. An unknown one is returned unchanged."""
        return self.program.code_name(arguments.string("a name", name))

    def _parameter(self, name: str) -> str:
        """Return the name of a parameter. Raises `TuiGruError` if it is not one."""
        names, name = self.parameter_names, self._code_name(name)
        if name not in names:
            raise TuiGruError(unknown_name(name, names).replace("value", "parameter"))
        return name

    @property
    def _corpus(self) -> Corpus:
        corpus = self._run.timeline.segment_at(self.state.tick).trainer.corpus
        self.config.source.check(Ability.TEXT)
        assert isinstance(corpus, Corpus)
        return corpus

    def _tokens(self, text: Text) -> Text:
        return (
            text
            if isinstance(text, tuple)
            else tokenized(arguments.string("the text", text, option="text"), self.config.vocabulary)
        )

    def _read(self, text: Text, names: Sequence[str], progress: SearchProgress | None) -> dict[str, Array]:
        config, weights, stop = self.config, self._run.moment.weights, self._run.interrupts.is_requested
        arguments.callback("progress", progress)
        done_of = None if progress is None else lambda done, total: progress(f"{done:,} of {total:,} characters")
        return analysis.what_if.read_with_silent(config, weights, text, names, self._silent, progress=done_of, stop=stop)


def flow_of_moment(moment: Moment, state: str, row: int | None) -> tuple[Flow | None, ...]:
    """Return the flow of the gradient of a state at each timestep, of all rows of the batch or of one (0-based)."""
    return analysis.influence.gradient_flow(moment, state, row)


# ------------------------------------------------------------------------------
# The question that is asked of every finished batch, if it is enabled.


class AutogradChecks:
    """The comparison of every finished batch with PyTorch's autograd. `totals` is None while it is disabled."""

    def __init__(self) -> None:
        self.totals: CheckTotals | None = None
        self._done: tuple[Timeline | None, range] = (None, range(0))  # the batches of this timeline that are checked already

    def turn(self, on: bool) -> None:
        """Enable or disable the checks; disabling discards the totals. Raises `TuiGruError` if PyTorch is not installed."""
        from tui_gru.torch_loading import is_installed, require_torch

        if on and not is_installed():  # said now, or every later run would stop with it
            require_torch("the check of every batch")
        self.totals = (self.totals or analysis.check.CheckTotals()) if on else None
        self._done = self._done if on else (None, range(0))

    def watch(self, timeline: Timeline, tick: int, last: int | None) -> CheckWatch | None:
        """Return an object that checks the batches from `tick` on up to `last` (None: no end); None if checks are disabled."""
        if self.totals is None:
            return None
        of, done = self._done
        done = done if of is timeline else range(0)
        return analysis.check.CheckWatch(timeline, tick // timeline.program.ticks, last, self.totals, done)

    def note(self, watch: CheckWatch, timeline: Timeline, tick: int) -> StopEvent | None:
        """Store the results of a watch up to `tick`. Returns the event that stops the run there, or None."""
        self.totals, self._done = watch.totals(tick), (timeline, watch.done(tick))
        if watch.problem and tick >= timeline.end_of(watch.stopped_at):
            return StopEvent(tick, "check", Notice(watch.problem, warning=True))
        return None
