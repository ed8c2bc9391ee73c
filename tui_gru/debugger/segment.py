"""A stretch of training with the same settings throughout: from one change of the future to the next."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.divergence import different, diverged
from tui_gru.debugger.history import Budget, History
from tui_gru.debugger.records import Kept, Records
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.trainer import Trainer
from tui_gru.engine.weights import COUNT_BYTES, Array, Weights

# Sees every batch that is computed on the way, and stops the run by returning True. A record that it is given is only good until
# it has been given the next but one.
Monitor = Callable[[int, BatchRecord], bool]


SETTINGS = ("text", "learning_rate")  # what can be edited and is no number of a batch


@dataclass(frozen=True)
class Settings:
    """What a stretch of training runs under. `once` names the batch that learns although learning is off (an SGD step)."""

    trainer: Trainer
    learning: bool
    learning_rate: float
    once: int | None = None

    def learns(self, batch: int) -> bool:
        """Whether a batch, counted through all epochs, ends with backward and update."""
        return self.learning or self.once == batch


@dataclass(frozen=True)
class Action:
    """What a person did that began a stretch: `begin`, `learning`, `learning_rate`, `sgd` or `edit`, with its arguments.

    The argument `after` of any kind names the numbers that had been changed at the same tick before.
    """

    kind: str
    args: Mapping[str, Any] = field(default_factory=dict)

    @property
    def edited(self) -> tuple[str, ...]:
        """The numbers that have been changed where it begins: weights, values and gradients, the last one last."""
        own = (str(self.args["name"]),) if self.kind == "edit" and self.args["name"] not in SETTINGS else ()
        return (*self.args.get("after", ()), *own)

    def following(self, before: Action) -> Action:
        """It, done at the tick at which `before` was done, whose place it takes."""
        return replace(self, args={**self.args, "after": list(before.edited)}) if before.edited else self


@dataclass(frozen=True, eq=False)
class Memory:
    """What all stretches of a session share."""

    budget: Budget
    records: Records


class Segment:
    """Batches from `first_batch` on, run from that batch's record. Batches are counted through all epochs.

    `start` is the tick at which it takes over; `earlier` (carry `notebook`) holds the records of the epoch's batches before
    the first, the latest first. What it has computed never changes: a replay that passes a checkpoint is compared with it.
    """

    def __init__(
        self,
        start: int,
        first_batch: int,
        first: BatchRecord,
        settings: Settings,
        memory: Memory,
        action: Action,
        earlier: Sequence[BatchRecord] = (),
    ) -> None:
        config = settings.trainer.config
        self.start, self.first_batch, self.settings = start, first_batch, settings
        self.action, self.machine, self._unproven = action, "", set[int]()
        self._first = Kept(first, earlier)
        self._num_batches, self._notebook = config.num_batches, config.carry == "notebook"
        self.history = History(first_batch, memory.budget, config.num_batches if self._notebook else 1)
        self.history.add(first)
        self._records, self._stretch = memory.records, memory.records.new_stretch()

    def restore(self, columns: Mapping[str, NDArray[np.float64]], spacing: int, rows: Sequence[bytes], machine: str) -> None:
        """Take over what this segment computed in another run of this program, on `machine`; `columns` and `rows` as in `History`.

        No replay begins at one of these checkpoints until another has passed it.
        """
        self.history.restore(columns, spacing, rows)
        self.machine, self._unproven = machine, set(self.history.checkpoints()[0])

    @property
    def first(self) -> BatchRecord:
        """The record of the first batch, whose computation was changed at `start`."""
        return self._first.record

    @property
    def computed(self) -> int:
        """The newest batch that has been run."""
        return self.first_batch + self.history.length - 1

    def record(self, batch: int, monitor: Monitor | None = None) -> tuple[int, BatchRecord]:
        """The record of `batch`, run or replayed as needed; with its number, which is less if `monitor` stopped the run.

        The batch before it is at hand afterwards, too.
        """
        at, found = self._nearest(batch, self._proven(batch - 1))
        if at == batch and isinstance(found, Kept):
            return at, found.record
        return self._run(at, found, batch, self._records.run, monitor)

    def walk(self, first: int, last: int, visit: Monitor) -> bool:
        """Show `visit` the records of the batches `first` … `last` in order, until it returns True. Whether it did."""
        stopped = False

        def see(batch: int, record: BatchRecord) -> bool:
            nonlocal stopped
            stopped = batch >= first and visit(batch, record)
            return stopped

        at, found = self._nearest(first, self._proven(first))
        if isinstance(found, Kept) and (see(at, found.record) or at == last):
            return stopped
        self._run(at, found, last, 0, see)
        return stopped

    def replay_start(self, batch: int) -> int:
        """The first batch that is replayed on the way to `batch` when nothing is at hand."""
        checkpoint = self.history.before(batch)
        return self.first_batch if checkpoint is None else checkpoint[0]

    def _proven(self, batch: int) -> tuple[int, bytes] | None:
        """The checkpoint at or before `batch` to begin at: the one before it, where it has not been proven yet."""
        checkpoint = self.history.before(batch)
        unproven = checkpoint is not None and checkpoint[0] in self._unproven
        return self.history.before(checkpoint[0] - 1) if checkpoint is not None and unproven else checkpoint

    def _nearest(self, batch: int, checkpoint: tuple[int, bytes] | None) -> tuple[int, Kept | bytes]:
        """What to go on from to get to `batch`: the end of batch `at`, kept at hand, or the checkpoint before `at`."""
        at, kept = self._records.nearest(self._stretch, batch) or (self.first_batch, self._first)
        return checkpoint if checkpoint is not None and checkpoint[0] > at else (at, kept)

    def _run(self, at: int, start: Kept | bytes, to: int, keep: int, monitor: Monitor | None) -> tuple[int, BatchRecord]:
        """Run on from what `_nearest` gave to the end of batch `to`, and return that; or as far as `monitor` lets it.

        The last `keep` + 2 batches stay at hand; the records of those before are used again.
        """
        trainer, settings, history = self.settings.trainer, self.settings, self.history
        if isinstance(start, Kept):
            batch, weights, state = at + 1, start.record.after, start.record.states(end=True)
            earlier = self._with(start, batch)
        else:
            batch, (weights, state), earlier = at, self._restored(start), ()
        recent: deque[tuple[int, Kept]] = deque(maxlen=keep + 2)
        while True:
            in_epoch = batch % self._num_batches
            record = kept = None  # so that the trainer can use them again
            record = trainer.new_record()
            state = trainer.carried(in_epoch, state)
            if history.is_due(batch):
                history.keep(batch, weights, state)
            elif (checkpoint := history.at(batch)) is not None:
                self._prove(batch, checkpoint, weights, state)
            trainer.run(
                record,
                in_epoch,
                weights,
                state,
                learn=settings.learns(batch),
                learning_rate=settings.learning_rate,
                earlier=earlier,
            )
            self._note(batch, record)
            kept = Kept(record, earlier)
            recent.append((batch, kept))
            if (monitor is not None and monitor(batch, record)) or batch == to:
                break
            batch, weights, state = batch + 1, record.after, record.states(end=True)
            earlier = self._with(kept, batch)
        if (checkpoint := history.at(batch + 1)) is not None:
            state = trainer.carried((batch + 1) % self._num_batches, record.states(end=True))
            self._prove(batch + 1, checkpoint, record.after, state)
        for number, one in recent:
            self._records.keep(self._stretch, number, one)
        return batch, record

    def _with(self, kept: Kept, batch: int) -> tuple[BatchRecord, ...]:
        """Carry `notebook`: the records of the epoch before `batch`, which follows on `kept`, the latest first."""
        goes_on = self._notebook and batch % self._num_batches
        return (kept.record, *kept.earlier) if goes_on else ()

    def _restored(self, checkpoint: bytes) -> tuple[Weights, Array]:
        """The weights and the states of a checkpoint, read-only."""
        compiled = self.settings.trainer.compiled
        return Weights.from_bytes(compiled.layout, checkpoint, compiled.dtype)

    def _note(self, batch: int, record: BatchRecord) -> None:
        """Write down the numbers of a batch, or compare them where it has been run before."""
        if batch > self.computed:
            self.history.add(record)
            return
        for name, now in (("loss", record.loss), ("grad_norm", record.grad_norm)):
            noted = float(self.history.column(name)[batch - self.first_batch])
            if noted != now and not (math.isnan(noted) and math.isnan(now)):
                raise diverged(self._epoch_and_batch(batch), f"has the {name} {now!r}, but the run had {noted!r}", self.machine)

    def _prove(self, batch: int, checkpoint: bytes, weights: Weights, state: Array) -> None:
        """Compare the state with which a replay comes to a batch with the checkpoint there."""
        if checkpoint != weights.tobytes() + state.tobytes():
            now = np.concatenate((weights.flat, state))
            differ = different(np.frombuffer(checkpoint, now.dtype, offset=COUNT_BYTES), now)
            if differ.any():
                what = f"begins with {int(differ.sum())} of {now.size} numbers other than those of the checkpoint there"
                raise diverged(self._epoch_and_batch(batch), what, self.machine)
        self._unproven.discard(batch)

    def _epoch_and_batch(self, batch: int) -> tuple[int, int]:
        return divmod(batch, self._num_batches)
