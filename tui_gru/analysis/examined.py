"""What findings are made of: the finding with its evidence, and the facts of a run that the rules read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tui_gru.analysis.causes import WatchedSteps
from tui_gru.analysis.check import Expected, expected_of
from tui_gru.analysis.influence import inputs_of, last_prediction_gradient
from tui_gru.analysis.losses import baselines
from tui_gru.analysis.trials import Cure, cured
from tui_gru.debugger.derivation import ValueRef
from tui_gru.debugger.history import ScalarRows
from tui_gru.debugger.moment import Moment
from tui_gru.debugger.position import Position, batch_in_words
from tui_gru.debugger.program import ValueKind, shown_char
from tui_gru.debugger.segment import Monitor
from tui_gru.debugger.timeline import Timeline
from tui_gru.debugger.trouble import Explosion, GrowthWatch
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.config import Text
from tui_gru.engine.data import AnyCorpus, Corpus
from tui_gru.engine.numbers import rounded
from tui_gru.engine.source import Ability, Imported, masked_where
from tui_gru.engine.weights import Array, Float64Array
from tui_gru.errors import safe_text
from tui_gru.imported.captured import CapturedBatch, RecordedBatches
from tui_gru.imported.convention import Fit, Port

if TYPE_CHECKING:
    from tui_gru.capture.facts import StepWatch
    from tui_gru.engine.sampling import Sample

# ------------------------------------------------------------------------------
# A finding, and the evidence for it.


@dataclass(frozen=True)
class Evidence:
    """One fact in words. `number` refers to a number of the run that shows it, with its `value`."""

    words: str
    number: ValueRef | None = None
    value: float | None = None


@dataclass(frozen=True)
class Finding:
    """A problem that a run shows. `name` is that of its row in the table; `meaning` is a sentence for a learner.

    `tick` is the place of the run that shows it best; None if the whole run does. `cures` are options that `Session.try_cures`
    tries, from the batch `since` on (0-based, over the run), where the trouble has not begun; `is_tried` is True if the cure in
    words was tried on a copy and lowers the loss. `cause` is the finding of which this one is a consequence, None for an
    independent one; `first_seen` is the position from which on the run shows it, `last_seen` the last one at which it does, None
    if it does now. `is_observation`: its numbers are true, and no fact decides what they mean.
    """

    name: str
    title: str
    meaning: str
    cure: str
    evidence: tuple[Evidence, ...]
    tick: int | None = None
    cures: tuple[Cure, ...] = ()
    since: int = 0
    is_tried: bool = False
    cause: Finding | None = None
    first_seen: Position | None = None
    last_seen: Position | None = None
    is_observation: bool = False

    @property
    def follows_from(self) -> Finding | None:
        """The finding of which this one is a consequence; None for an independent one, and for those of a diagnosis, whose `cause`
        is a text."""
        return self.cause if isinstance(self.cause, Finding) else None

    @property
    def cure_label(self) -> str:
        """The word before the cure, with the remark that none of its options was tried on a copy, if there are any."""
        return "cure, not tried" if self.cures and not self.is_tried and self.cure != NO_OPTION else "cure"

    def __repr__(self) -> str:
        because = "" if self.cause is None else f", because of {self.cause.name}"
        return f"<finding {self.name}: {self.title}{because}; cure: {self.cure}>"

    def _repr_html_(self) -> str:
        return finding_html(self)


#: A command; or an option, with its value if that is a number or the last word of a clause.
TYPED = re.compile(r"(^:.*|--[a-z-]+(?: (?:\d[\w.+-]*|\w+\b(?! \w)))?)")


def finding_html(finding: Finding) -> str:
    """Return a finding with its evidence and its cure as HTML."""
    facts = "".join(f"<li>{escape(safe_text(evidence.words))}</li>" for evidence in finding.evidence)
    return (
        f'<div class="finding"><h3>{escape(safe_text(finding.title))}</h3><p>{escape(safe_text(finding.meaning))}</p>'
        f"<ul>{facts}</ul><p>{finding.cure_label.capitalize()}: "
        f"{cure_written(safe_text(finding.cure), escape, '<code>{}</code>')}</p></div>"
    )


def cure_written(words: str, write: Callable[[str], str], code: str) -> str:
    """Return a cure with all that can be typed in the form `code`: a command, or an option with its value."""
    return "".join(code.format(write(part)) if i % 2 else write(part) for i, part in enumerate(TYPED.split(words)))


class FoundProblems(tuple[Finding, ...]):
    """The findings of a run, as a tuple that a notebook shows in full. `gone` are those that only earlier moments show."""

    gone: tuple[Finding, ...] = ()

    def _repr_html_(self) -> str:
        return "".join(finding._repr_html_() for finding in self) or "<p>no findings</p>"


def lettered(findings: Sequence[Finding]) -> Iterator[tuple[str, Finding]]:
    """Yield findings with capital letters in their order; observations have none, and those after the 26th are left out."""
    return zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", (f for f in findings if not f.is_observation), strict=False)


def enumerated(words: list[str], most: int = 4) -> str:
    """Return words in a list: `a, b and c`; if there are many more than `most`, `a, b and 3 others`."""
    if len(words) > most + 1:  # a single word takes no more room than "1 other"
        return f"{', '.join(words[:most])} and {len(words) - most} others"
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


_IN_PYTORCH = {
    "clip": "torch.nn.utils.clip_grad_norm_(model.parameters(), {}) before optimizer.step()",
    "learning_rate": "lr={}",
    "init": "the first weights that PyTorch draws (reset_parameters() of the module)",
    "cell": "{} in the place of the module",
    "dtype": "model.double()",
    "seed": "another torch.manual_seed before the model is made",
    "hidden_size": "hidden_size={}",
}


def in_pytorch(cure: Cure) -> str:
    """Return what a script writes for an option of this program; empty if that is nothing in PyTorch."""
    value = f"nn.{str(cure.value).upper()}" if cure.name == "cell" else str(cure.value)
    return _IN_PYTORCH.get(cure.name, "").format(value)


# ------------------------------------------------------------------------------
# The data that findings are computed from: the completed batches of a run up to a moment, and its samples.


RECENT = 8  # batches that are examined completely
RECENT_BYTES = 2**26  # of their records; fewer batches for a large model
SPACING = 64  # batches between those that are examined in the middle of a long run
NO_OPTION = "look at what was changed by hand, and at the data: the run has the usual options"
ENOUGH = 32  # entries of a unit that a finding needs


_BACK, _NATS = 1.2, 0.1  # times a loss, and nats, up to which a loss has come back to it


def is_back(now: float, before: float) -> bool:
    """Return True if a loss is as low as it was, but for its noise."""
    return now <= _BACK * before + _NATS


def script_watch(source: Imported) -> StepWatch | None:
    """Return what watches the script whose last step a run shows; None for other runs, and once its model has been given up."""
    batch = source.batch(0) if source.batches and not isinstance(source.batches, RecordedBatches) else None
    watch = batch.steps[0][0].watch if isinstance(batch, CapturedBatch) and batch.steps else None
    return None if watch is None else watch()


class RunFacts:
    """A run up to a position. Batches are counted through all epochs, 0-based.

    Only completed batches are examined; those of a recording, a script or a model file are all complete. Batches are replayed when
    a rule reads them; `monitor` sees them and may raise an error.
    """

    def __init__(
        self,
        timeline: Timeline,
        position: Position,
        samples: Sequence[Sample] = (),
        held_out: Text = "",
        monitor: Monitor | None = None,
    ) -> None:
        self.timeline, self.position, self.samples, self.held_out, self._monitor = timeline, position, samples, held_out, monitor
        self.program, self.config = timeline.program, timeline.program.config
        trains = self.config.source.can(Ability.TRAIN)
        self.count = timeline.completed(position) if trains else self.program.num_batches

    @classmethod
    def after(
        cls,
        timeline: Timeline,
        batches: int,
        samples: Sequence[Sample] = (),
        held_out: Text = "",
        monitor: Monitor | None = None,
    ) -> RunFacts:
        """Return the facts of a run after some batches, at least one."""
        return cls(timeline, timeline.position(timeline.end_of(batches - 1)), samples, held_out, monitor)

    @cached_property
    def moment(self) -> Moment:
        """The moment of the position."""
        if self.position.tick == self.end(self.count - 1):  # at the end of a batch that is replayed anyway
            return Moment(self.program, self.position, self.record(self.count - 1), self.config.vocabulary)
        return self.timeline.moment(self.position.tick)

    @property
    def corpus(self) -> AnyCorpus:
        """What is trained on at the position."""
        return self.timeline.segment_at(self.position.tick).trainer.corpus

    @cached_property
    def learned(self) -> NDArray[np.intp]:
        """The numbers of the batches that have learned, (n), in order."""
        return np.flatnonzero(self.timeline.learned(0, self.count - 1))

    def column(self, name: str, first: int = 0, last: int | None = None) -> ScalarRows:
        """Return loss, grad_norm or max_weight of the batches `first` … `last`, (n), by default of all completed ones."""
        last = self.count - 1 if last is None else last
        return np.concatenate([np.empty(0), *(self.timeline.column(name, *block) for block in self.timeline.blocks(first, last))])

    @cached_property
    def losses(self) -> ScalarRows:
        """The loss of every completed batch, (n)."""
        return self.column("loss")

    @cached_property
    def current(self) -> int | None:
        """The batch of the position if its loss is computed there and the batch is not complete; otherwise None."""
        at = self.position
        incomplete = self.config.source.can(Ability.TRAIN) and at.number >= self.count
        return at.number if incomplete and at.offset >= self.program.loss_tick else None

    @cached_property
    def explosion(self) -> Explosion | None:
        """The first place where a number of the run has grown a thousandfold and after which the loss has not come back; None if
        there is none, or the batches are not those of a training.

        The loss has come back if the last ones are as low as before the growth, but for their noise.
        """
        if not self.config.source.can(Ability.TRAIN):
            return None
        watch = GrowthWatch(self.timeline, self.timeline.position(0), self._monitor)
        places = (explosion for explosion in watch.explosions(self.position.tick) if np.isfinite(explosion.now))
        return next((explosion for explosion in places if not self._is_over(explosion)), None)

    def _is_over(self, explosion: Explosion) -> bool:
        batch = self.timeline.position(explosion.tick).number
        before = explosion.before if explosion.column == "loss" else float(self.column("loss", batch, batch)[0])
        after = self.column("loss", batch + 1, self.count - 1 if self.current is None else self.current)[-RECENT:]
        return len(after) > 0 and is_back(float(after.mean()), before)

    @cached_property
    def maybe_not_finite(self) -> NDArray[np.intp]:
        """The numbers of the completed batches in which something may be not finite, (n), in order, by their scalars.

        The scalars of a model file or of a captured batch do not depend on its inputs, so all of its batches are returned.
        """
        if not self.config.source.can(Ability.TRAIN) and self.timeline.memory.numbers is None:
            return np.arange(self.count)
        columns = ["max_weight"] if self.timeline.memory.numbers is None else ["grad_norm"]
        finite = [np.isfinite(self.column(name)) for name in (*columns, *(["loss"] if self.program.knows_loss else []))]
        return np.flatnonzero(~np.logical_and.reduce(finite))

    @cached_property
    def captured(self) -> tuple[tuple[int, CapturedBatch], ...]:
        """The first batches of a script and the last ones, in order; empty if the batches are of something else."""
        source = self.config.source
        if not isinstance(source, Imported) or not isinstance(source.batch(0), CapturedBatch):
            return ()
        most = min(RECENT, max(1, RECENT_BYTES // self.config.record_bytes))
        first, last = range(min(most, self.count)), range(max(self.count - most, 0), self.count)
        batches = []
        for number in sorted({*first, *last}):
            self.check()
            if isinstance(batch := source.batch(number), CapturedBatch):
                batches.append((number, batch))
        return tuple(batches)

    @cached_property
    def watched(self) -> WatchedSteps:
        """What was measured in the watched steps of a script; nothing for other runs."""
        source = self.config.source
        batches = source.batches if isinstance(source, Imported) else ()
        if isinstance(batches, RecordedBatches):
            return WatchedSteps(batches.recording.facts)
        watch = script_watch(source) if isinstance(source, Imported) else None
        return WatchedSteps(() if watch is None else watch.memory.steps)

    @cached_property
    def losses_of_script(self) -> ScalarRows:
        """The loss of every step of a script, recorded or not, (n), from step 0; masked if unknown."""
        source = self.config.source
        batches = source.batches if isinstance(source, Imported) else ()
        if isinstance(batches, RecordedBatches):
            return batches.recording.losses
        blank = (
            np.isin(np.arange(self.count), list(source.unknown_losses)) if self.program.knows_loss else np.ones(self.count, bool)
        )
        return masked_where(self.losses, blank)

    def check(self) -> None:
        """Let the monitor stop the examination, between two batches of a trial."""
        if self._monitor is not None:
            self._monitor(self.position.number, self.moment.record)

    def record(self, batch: int) -> BatchRecord:
        """Return the complete record of a batch."""
        # A replay on the way to one of the recent batches passes the others; batches of a recording are independent.
        if self.count - self._few <= batch < self.count and self.config.source.can(Ability.TRAIN):
            return self.recent[batch - self.count][1]
        return self.timeline.record(batch, self._monitor)

    @staticmethod
    def about(batch: int) -> int:
        """Return a batch at or not far before one, to which a replay is short: checkpoints are at multiples of powers of two."""
        return batch - batch % SPACING if batch >= 8 * SPACING else batch

    @property
    def _few(self) -> int:
        """The number of recent batches."""
        return min(RECENT, max(1, RECENT_BYTES // self.config.record_bytes), self.count)

    @cached_property
    def recent(self) -> tuple[tuple[int, BatchRecord], ...]:
        """The last batches with their records, in order."""
        return tuple((batch, self.timeline.record(batch, self._monitor)) for batch in range(self.count - self._few, self.count))

    @cached_property
    def recently_learned(self) -> tuple[tuple[int, BatchRecord], ...]:
        """The last batches that have learned."""
        return tuple((batch, record) for batch, record in self.recent if record.learned)

    def stacked(self, name: str) -> Array:
        """Return a value of every row at every timestep of the last batches, (entries, units)."""
        arrays = [record.array(name) for _, record in self.recent]
        return np.concatenate([array.reshape(-1, array.shape[-1]) for array in arrays])

    @cached_property
    def varied(self) -> bool:
        """True if the last batches have enough entries and different inputs."""
        inputs = [inputs_of(self.program, record) for _, record in self.recent]
        entries = sum(x.shape[0] * x.shape[1] for x in inputs)
        return entries >= ENOUGH and any((x != inputs[0][0, 0]).any() for x in inputs)

    @cached_property
    def knows_more_than_pairs(self) -> bool:
        """True if the recent losses are below that of a table of the pairs of characters of the text."""
        if not isinstance(self.corpus, Corpus) or not self.program.model.is_cross_entropy:
            return False
        return bool(self.losses[-RECENT:].mean() < baselines(self.corpus.text, self.config.vocab_size).bigram)

    @cached_property
    def last_finite(self) -> int | None:
        """The last completed batch with a finite loss; None if there is none."""
        finite = np.flatnonzero(np.isfinite(self.losses))
        return int(finite[-1]) if len(finite) else None

    @cached_property
    def last_prediction(self) -> dict[str, Float64Array]:
        """The norm, over rows and units, of the gradient of the last timestep's loss with respect to each state, by name, (T).

        It is that of the last batch with a finite loss, after each of its timesteps. Empty if there is none, or no character to be
        predicted.
        """
        return {} if self.last_finite is None else last_prediction_gradient(self.program, self.record(self.last_finite))

    @cached_property
    def expected(self) -> Expected | None:
        """The output of the current batch and the expected one; None if they agree or the expected one is unknown."""
        number = self.position.number
        expected = expected_of(self.record(number), self.config.source, number)
        return None if expected is None or expected.agrees else expected

    @cached_property
    def fit(self) -> Fit | None:
        """The variant of the computation that gives the expected output."""
        source = self.config.source
        if not isinstance(source, Imported) or self.expected is None:
            return None
        port = Port.of(source, self.position.number)
        return None if port is None else port.fit(self.expected.tolerance)

    # Words

    def offer(self, *cures: tuple[str, Cure]) -> str:
        """Return which of some cures apply, in words: without options that the run has already, or that its others exclude.

        The options of this program cure nothing in another: there, they are said in the words of PyTorch.
        """
        config = self.config
        if config.source.can(Ability.TRAIN):
            words = [phrase for phrase, cure in cures if cured(config, cure) is not None]
        else:
            words = [phrase for _, cure in cures if (phrase := in_pytorch(cure))]
        return ", or ".join(dict.fromkeys(words)) or NO_OPTION

    def at(self, batch: int) -> str:
        """Return a batch in words, counted from 1: `batch 3 of epoch 2`; a step of a recording by its number, `step 300`."""
        return self.config.source.step(batch) or batch_in_words(*divmod(batch, self.program.num_batches))

    def end(self, batch: int) -> int:
        """Return the last tick of a batch."""
        return self.timeline.end_of(batch)

    def entry(self, batch: int, name: str, index: tuple[int, ...], t: int | None = None) -> ValueRef:
        """Return a number as of the end of a batch."""
        return ValueRef(name, index, t, self.end(batch))

    def loss_of(self, batch: int) -> Evidence:
        """Return the loss of a batch as evidence."""
        loss = float(self.losses[batch])
        return Evidence(f"the loss of {self.at(batch)} is {rounded(loss)}", self.entry(batch, "loss", ()), loss)

    def unit_of(self, batch: int, name: str, unit: int) -> Evidence:
        """Return a unit of row 1 after the last timestep of a batch as evidence."""
        t = self.program.seq_length - 1
        value = float(self.record(batch).array(name)[t, 0, unit])
        words = f"{self.written(name)}[row 1, unit {unit + 1}] = {rounded(value)} at t {t + 1} of {self.at(batch)}"
        return Evidence(words, self.entry(batch, name, (0, unit), t), value)

    def written(self, name: str) -> str:
        """Return the on-screen spelling of a name."""
        return self.program.writer.name(name)

    @staticmethod
    def quoted(text: str) -> str:
        """Return a text in quotation marks, with signs for invisible characters."""
        return f"“{''.join(map(shown_char, text))}”"

    @property
    def values(self) -> tuple[str, ...]:
        """The values that the forward pass computes at every timestep."""
        return self.program.names_of(ValueKind.VALUE)
