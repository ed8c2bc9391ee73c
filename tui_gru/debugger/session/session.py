"""The one face of the debugger: verbs in (step, seek, edit, sample), values and immutable snapshots out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tui_gru.debugger.program.names import unknown_name
from tui_gru.debugger.program.position import Position
from tui_gru.debugger.session.comparing import Comparing
from tui_gru.debugger.session.explaining import Explaining
from tui_gru.debugger.session.surviving import recorded
from tui_gru.debugger.session.travelling import Progress
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.debugger.state.state import State
from tui_gru.debugger.timeline.branches import Branches
from tui_gru.debugger.timeline.journal import JournalEntry, Settings
from tui_gru.debugger.timeline.moment import frozen
from tui_gru.debugger.timeline.segment import Memory
from tui_gru.debugger.timeline.series import Series
from tui_gru.debugger.timeline.timeline import Timeline
from tui_gru.engine import arguments
from tui_gru.engine.config import Config, check_learning_rate
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.initial import initial_weights
from tui_gru.engine.weights import Array, Weights

if TYPE_CHECKING:
    from tui_gru.debugger.analysis.checking import Check, Report
    from tui_gru.debugger.analysis.expected import Expected
    from tui_gru.debugger.analysis.what_if import WhatIf
    from tui_gru.debugger.storage.store import FilePath
    from tui_gru.debugger.timeline.anchor import Anchor
    from tui_gru.engine.sampling import Sample

HISTORY_MEMORY = 256 * 2**20
RECORDING_MEMORY = 64 * 2**20  # any of its steps is computed again from what was recorded
MOST_SAMPLES, LEAST_SAMPLES = 64, 2**16  # how many at most, and bytes that they may take whatever the limit
DRAW_BYTES = 320  # memory of a sampled character besides its distribution
LONGEST_SAMPLE, LONGEST_PRIMER = 10_000, 1000  # characters: a session keeps its samples with the probabilities of each
ALIASES = {"lr": "learning_rate"}


class Session(Explaining, Comparing):
    """A training run that can be stepped, forwards and backwards in time.

    Takes every option of `Config.of` by keyword; the defaults are the tutorial's. `epochs` ends the run there; without it a run
    has no end. `history_memory` bounds what is kept of the past, in bytes (`Budget`). Raises `TuiGruError` for bad input.
    """

    def __init__(self, *, epochs: int | None = None, history_memory: int = HISTORY_MEMORY, **options: Any) -> None:
        if epochs is not None:
            epochs = arguments.whole("epochs", epochs, least=1, option="epochs")
        self._begin_with(Config.of(**options), epochs, history_memory)

    @classmethod
    def on(cls, config: Config, *, weights: Weights | None = None, history_memory: int = HISTORY_MEMORY) -> Self:
        """A session on a checked config, from its own initial weights unless others are given. Given batches end with the last."""
        session = cls.__new__(cls)
        session._begin_with(config, None if config.given is None else 1, history_memory, weights)
        return session

    @classmethod
    def _on_recording(cls, folder: FilePath, history_memory: int | None) -> Self:
        from tui_gru.debugger.session.recordings import opened  # late: few sessions are on one

        config, said = opened(folder)
        session = cls.on(config, history_memory=RECORDING_MEMORY if history_memory is None else history_memory)
        session.notice = said
        return session

    def _begin_with(self, config: Config, epochs: int | None, history_memory: int, weights: Weights | None = None) -> None:
        memory = Memory(config, arguments.whole("history_memory", history_memory, least=0, option="history_memory"))
        learning = config.given is not None and config.given.learns
        weights = initial_weights(config) if weights is None else weights
        timeline = Timeline.begin(Settings(learning, config.learning_rate), weights, memory)
        self._begin(State(config, epochs, Branches.begin(timeline)))

    def _begin(self, state: State) -> None:
        self.samples = state.samples
        super()._begin(state)

    # Reading

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """The names of all parameters, in the order of the equations."""
        return self.program.parameters

    def program_text(self) -> str:
        """The listing, a line a row, as it stands on screen."""
        return "".join(f"{'  ' * row.indent}{row.text}\n" for row in self.program.rows)

    def value(self, name: str, t: int | None = None) -> Any:
        """A value by name as of the position, or of timestep `t` (0-based) of this batch: (B, H) or (B, V) read-only, a number,
        or None where it is not computed yet."""
        name = arguments.text("a name", name)
        if t is not None:
            t = arguments.whole("the timestep t", t, least=0, most=self.config.seq_length - 1)
        value = self._moment.value(name, t)
        return frozen(value.copy()) if isinstance(value, np.ndarray) else value

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
    def expected(self) -> Expected | None:
        """The output of this batch beside the one that the model gave elsewhere; None where that is not known."""
        given = self.config.given
        if given is None:
            return None
        from tui_gru.debugger.analysis.expected import expected_of

        return expected_of(self._moment.record, given.batches[self.position.batch])

    def recorded_gradient(self, name: str) -> Array | None:
        """p.grad of a parameter as the script's optimizer used it, under our name and in our shape, read-only; None where it
        is not known."""
        self._check_parameter(name)
        given = self.config.given
        recorded = None if given is None else given.batches[self.position.batch].recorded
        return None if recorded is None or np.isnan(recorded[name]).all() else frozen(recorded[name])

    @property
    def said(self) -> str:
        """How p.grad of this batch came from the derived gradients (equal, clipped, scaled), and what else is to be said of it."""
        given = self.config.given
        return "" if given is None else given.batches[self.position.batch].said()

    @property
    def loss(self) -> float | None:
        """The loss of this batch; None until its line has been executed."""
        value: float | None = self._moment.value("loss")
        return value

    @recorded
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
        from tui_gru.engine.sampling import sample  # late, as the other things that a session is asked for now and then

        length = arguments.whole("the length of a session's sample", length, least=0, most=LONGEST_SAMPLE, option="length")
        if len(arguments.text("the primer", primer, option="primer")) > LONGEST_PRIMER:
            raise TuiGruError(f"the primer of a session's sample has at most {LONGEST_PRIMER:,} characters", option="primer")

        def stop(done: int) -> bool:
            if progress is not None:
                progress(f"{done:,} of {length:,} characters")
            return self._interrupted.is_set()

        with self._under_way():
            drawn = sample(
                self.config, self._moment.weights, primer, length,
                sampler=sampler, temperature=temperature, seed=seed, stop=stop,
            )  # fmt: skip
        if len(drawn.draws) < length:
            self.notice = f"stopped after {len(drawn.draws):,} of {length:,} characters"
        drawn = replace(drawn, tick=self.position.tick)
        self.samples = _newest((*self.samples, drawn), self._timeline.memory.budget.share("samples"))
        return drawn.text

    def snapshot(self) -> Snapshot:
        """Everything a screen draws about this moment, immutable."""
        position, timeline, branches = self.position, self._timeline, self._branches
        segment = timeline.segment_at(position.tick)
        return Snapshot(
            config=self.config,
            program=self.program,
            corpus=segment.trainer.corpus,
            moment=self._moment,
            previous=timeline.record(position.number - 1) if position.number else None,
            learning=segment.settings.learning,
            learning_rate=segment.settings.learning_rate,
            losses=Series(timeline, "loss", self._losses_known),
            newest=self.newest,
            last=self.end,
            branch=branches.current,
            branches=branches.names,
            can_undo=bool(branches.done),
            can_redo=bool(branches.undone),
            samples=self.samples,
            changed=timeline.changed_at(position.tick),
            notice=self.notice,
            forks=self._forks.of(branches),
            other=self._other(),
            stops=self.stops,
            watched=self._watched(),
            log=self._log,
            marks=self.marks,
            hits=self._hits,
            checked=self.checked,
            unrecorded=self.unrecorded or self.undecided,
            findings=self.found,
        )

    @property
    def _losses_known(self) -> int:
        """Of how many batches, from the first on, the loss is known."""
        given = self.config.given
        if given is not None and (given.numbers is not None or not given.knows_loss):
            return len(given.batches) if given.knows_loss else 0
        return self.program.last_loss(self._branches.newest) + 1

    @property
    def steps(self) -> tuple[int, ...]:
        """The numbers of the steps that a recording has kept, each of which is a batch here; none for any other session."""
        return () if self.config.given is None else self.config.given.steps

    def anchor(self, tick: int | None = None) -> Anchor:
        """This moment, or another of this branch: something to ask `holds` about later."""
        from tui_gru.debugger.timeline.anchor import Anchor  # late, too

        return Anchor(self._timeline, self.position.tick if tick is None else tick)

    def holds(self, anchor: Anchor) -> bool:
        """Whether the branch one is on has that moment, and nothing in it has been changed since."""
        if not hasattr(anchor, "holds_in"):
            raise TuiGruError(f"an anchor is what `anchor` gave, not {arguments.shown(anchor)}")
        return anchor.holds_in(self._timeline)

    def batch_check(self) -> Check:
        """The check of the batch one is in, taken up now; `run` it in any thread. It reads only, and never changes the training."""
        from tui_gru.debugger.analysis.checking import prepare_check

        return prepare_check(self._timeline, self._moment)

    def check(self, *, entries: int = 2, seed: int = 0) -> Report:
        """Compare everything in the batch one is in with PyTorch's autograd, and with finite differences; imports torch.

        Of a batch that does not learn a copy is given a backward pass. Raises `TuiGruError` where a number is not finite.
        """
        return self.batch_check().run(entries=entries, seed=seed)

    # Changing the future

    @property
    def learning(self) -> bool:
        """Whether batches end with backward and update. Setting it in the past forks a branch."""
        return self._settings.learning

    @learning.setter
    @recorded
    def learning(self, value: bool) -> None:
        value = arguments.truth("learning", value)
        self._check_trains(value and not self.program.goes_back)
        if value != self._settings.learning:
            settings = replace(self._settings, learning=value, once=None)
            self._change(settings, JournalEntry("learning", value=value))

    @property
    def learning_rate(self) -> float:
        """The learning rate. Setting it in the past forks a branch."""
        return self._settings.learning_rate

    @learning_rate.setter
    @recorded
    def learning_rate(self, value: float) -> None:
        rate = check_learning_rate("learning_rate", value)
        self._check_trains(True)
        if rate != self._settings.learning_rate:
            self._change(replace(self._settings, learning_rate=rate), JournalEntry("learning_rate", value=rate))

    @recorded
    def edit(self, name: str, index: Any = None, value: Any = None) -> Position:
        """Change a number of a parameter, a value or a gradient, a character of the text (its 0-based place), or the rate.

        h and h_prev can be changed as long as they are not used, a weight at any time, another value only just after its line.
        In the past this forks a branch; the old future stays. Returns the position.
        """
        from tui_gru.debugger.timeline import edits

        if value is None:
            index, value = None, index
        name = arguments.text("a name", name)
        edit = edits.Edit(ALIASES.get(name, name), edits.as_index(index), value)
        settings, _ = edits.plan(edit, self._moment, self._settings)
        self._change(settings, edits.action(edit))
        return self.position

    def what_if(self, name: str, index: Any, value: Any, t: int | None = None) -> WhatIf:
        """What would come of another number in this batch: a parameter, a value or delta of timestep `t`, or a gradient.

        Neither the run nor a branch is touched. Raises `TuiGruError` for what cannot be changed or is not computed yet.
        """
        from tui_gru.debugger.analysis.what_if import what_if
        from tui_gru.debugger.timeline import edits

        edit = edits.Edit(arguments.text("a name", name), edits.as_index(index), value)
        return what_if(self._timeline, self._moment, edit, t)

    @recorded
    def adopt(self, what: WhatIf) -> Position:
        """Make a what-if so: go to just after the line that wrote the number, and edit it there, which forks in the past."""
        from tui_gru.debugger.analysis.what_if import place_of_edit

        name, tick = place_of_edit(self.program, what)
        there = self._timeline.moment(self._timeline.place(tick))
        now = there.record.array(name)[there.position.t] if self.program.names[name].timed else there.value(name)
        if now is None or not np.array_equal(np.asarray(now)[what.index], what.was, equal_nan=True):
            raise TuiGruError("the run has been changed since this was asked; ask again")
        self.seek(tick)
        return self.edit(name, what.index, what.value)

    @recorded
    def undo(self) -> bool:
        """Take back the last change, and go to where it was made. False if there is none."""
        return self._restore(self._branches.undo(self.position.tick))

    @recorded
    def redo(self) -> bool:
        """Make the change that was taken back again, and go to where one was then. False if there is none."""
        return self._restore(self._branches.redo())

    @property
    def last_change(self) -> JournalEntry | None:
        """The change that `undo` would take back."""
        return self._branches.last_change

    @property
    def next_change(self) -> JournalEntry | None:
        """The change that `redo` would do again."""
        return self._branches.next_change

    @property
    def branches(self) -> tuple[str, ...]:
        """The names of all branches; the first is `main`."""
        return self._branches.names

    @recorded
    def rename_branch(self, old: str, new: str) -> None:
        """Give a branch another name, of one word."""
        self._branches = self._branches.renamed(old, new)
        self._rename_compared(old, new)
        self._move_marks(old, new)
        self._move_written(old, new)

    @recorded
    def delete_branch(self, name: str) -> None:
        """Delete a branch that one is not on, for good. Branches that have left it keep the past that they share with it.

        The marks on it go, too.
        """
        self._branches = self._branches.without(name)
        self._move_marks(name, None)
        self._move_written(name, None)

    def _restore(self, restored: tuple[Branches, int] | None) -> bool:
        if restored is None:
            return False
        branches, tick = restored
        self._stand(branches, branches.timeline.place(tick))
        return True

    def _state(self, *, counts: bool = False) -> State:
        return State(
            self.config,
            self.epochs,
            self._branches,
            self.position.tick,
            self._stride,
            self.stop_on_nan,
            self.samples,
            self._kept,
            self._hit_counts() if counts else {},
        )

    def _check_parameter(self, name: str) -> None:
        names = self.program.parameters
        if arguments.text("a name", name) not in names:
            raise TuiGruError(unknown_name(name, names).replace("value", "parameter"))


def _newest(samples: tuple[Sample, ...], memory: int) -> tuple[Sample, ...]:
    """The newest samples, as many as fit into so many bytes: `MOST_SAMPLES` at most, and one at least."""
    kept, used = 0, 0
    for sample in reversed(samples[-MOST_SAMPLES:]):
        used += sum(DRAW_BYTES + draw.y_hat.nbytes for draw in sample.draws)
        if kept and used > max(memory, LEAST_SAMPLES):
            break
        kept += 1
    return samples[-kept:]
