"""A stretch of training with the same settings throughout: from one change of the future to the next."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tui_gru.debugger.history import Budget, History
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.parameters import Parameters
from tui_gru.engine.record import Activations, BatchRecord
from tui_gru.engine.trainer import Trainer

CACHE_BYTES = 32 * 2**20
KEPT_RECORDS = 16  # records kept on the way to a batch, so that the steps back from there are at hand

# Sees every batch that is computed on the way, and stops the run by returning True.
Monitor = Callable[[int, BatchRecord], bool]


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
    """What a person did that began a stretch: `begin`, `learning`, `learning_rate`, `sgd` or `edit`, with its arguments."""

    kind: str
    args: Mapping[str, Any] = field(default_factory=dict)


class DivergedError(TuiGruError):
    """A replay computed something else than the original run did."""


class Segment:
    """Batches from `first_batch` on, run from that batch's record. Batches are counted through all epochs.

    `start` is the tick at which it takes over; `earlier` (carry `notebook`) holds the activations of the epoch's batches before
    the first, the latest first. What it has computed never changes. `machine` names the one that computed it, if it was another run
    of this program.
    """

    def __init__(
        self,
        start: int,
        first_batch: int,
        first: BatchRecord,
        settings: Settings,
        budget: Budget,
        action: Action,
        earlier: Sequence[Activations] = (),
    ) -> None:
        config = settings.trainer.config
        self.start, self.first_batch, self.first, self.settings, self.earlier = start, first_batch, first, settings, earlier
        self.action, self.machine = action, ""
        self._num_batches, self._notebook = config.num_batches, config.carry == "notebook"
        row = config.parameter_count + config.batch_size * config.hidden_size
        stride = config.num_batches if self._notebook else 1
        self.history = History(first_batch, row, config.dtype, budget, stride)
        self.history.add(first_batch, first, _max_weight(first))
        self._cache_size = max(4, min(64, CACHE_BYTES // config.record_bytes))
        self._cache: OrderedDict[int, BatchRecord] = OrderedDict()

    @property
    def computed(self) -> int:
        """The newest batch that has been run."""
        return self.first_batch + self.history.length - 1

    def record(self, batch: int, monitor: Monitor | None = None) -> tuple[int, BatchRecord]:
        """The record of `batch`, run or replayed as needed; with its number, which is less if `monitor` stopped the run.

        `monitor` sees every batch computed on the way; the record that it is given is only good until it returns False.
        """
        at, record = self._nearest(batch)
        if at == batch and record is not None:
            return batch, record
        return self._run(at, record, batch, monitor)

    def walk(self, first: int, last: int, visit: Monitor) -> bool:
        """Show `visit` the records of the batches `first` … `last` in order, until it returns True. Whether it did."""
        batch, stopped = first, False

        def see(at: int, record: BatchRecord) -> bool:
            nonlocal stopped
            stopped = at >= batch and visit(at, record)
            return stopped

        while batch <= last and not stopped:
            at, record = self._nearest(batch)
            if at == batch and record is not None:
                stopped = visit(batch, record)
                batch += 1
            else:
                batch = self._run(at, record, last, see)[0] + 1
        return stopped

    def _nearest(self, batch: int) -> tuple[int, BatchRecord | None]:
        """Where to go on from to get to `batch`: a record of it or of a batch before, or (None) the checkpoint before `at`."""
        if batch == self.first_batch:
            return batch, self.first
        cached = max((b for b in self._cache if b <= batch), default=self.first_batch)
        checkpoint = self.history.before(batch)
        if checkpoint is not None and checkpoint[0] > cached:
            return checkpoint[0], None
        if cached == self.first_batch:
            return cached, self.first
        self._cache.move_to_end(cached)
        return cached, self._cache[cached]

    def _run(self, at: int, last: BatchRecord | None, to: int, monitor: Monitor | None) -> tuple[int, BatchRecord]:
        trainer, settings, history = self.settings.trainer, self.settings, self.history
        if last is None:
            parameters, state = self._restore(at)
            batch = at
        else:
            parameters, state = last.updated, last.activations.states[-1]
            batch = at + 1
        epoch = self._epoch_before(batch) if self._notebook else []
        pool: list[BatchRecord] = []
        while True:
            in_epoch = batch % self._num_batches
            if in_epoch == 0:
                epoch.clear()
            fresh = self._notebook or to - batch < KEPT_RECORDS or len(pool) < 2
            record = trainer.new_record() if fresh else pool.pop(0)
            state = trainer.carried(in_epoch, state)
            if history.is_due(batch):
                history.keep(batch, parameters.flat, state)
            trainer.run(
                record,
                in_epoch,
                parameters,
                state,
                learn=settings.learns(batch),
                learning_rate=settings.learning_rate,
                earlier=epoch,
            )
            self._note(batch, record)
            parameters, state = record.updated, record.activations.states[-1]
            if self._notebook:
                epoch.insert(0, record.activations)
            stop = monitor is not None and monitor(batch, record)
            if stop or to - batch < KEPT_RECORDS:
                self._remember(batch, record)
            else:
                pool.append(record)
            if stop or batch == to:
                return batch, record
            batch += 1

    def _restore(self, batch: int) -> tuple[Parameters, np.ndarray[tuple[int, ...], np.dtype[np.floating]]]:
        found = self.history.before(batch)
        assert found is not None
        row, size = found[1], self.first.parameters.flat.size
        return self.first.parameters.like(row[:size]), row[size:].reshape(self.first.activations.states[0].shape)

    def _epoch_before(self, batch: int) -> list[Activations]:
        """The activations of the epoch's batches before `batch`, the latest first (carry `notebook`)."""
        begin = batch - batch % self._num_batches
        own = [self.record(b)[1].activations for b in range(batch - 1, max(begin, self.first_batch) - 1, -1)]
        return own + (list(self.earlier) if begin < self.first_batch else [])

    def _note(self, batch: int, record: BatchRecord) -> None:
        if batch > self.computed:
            self.history.add(batch, record, _max_weight(record))
            return
        noted = self.history.column("loss")[batch - self.first_batch]
        if noted != record.loss and not (math.isnan(noted) and math.isnan(record.loss)):
            recorded = f"it was recorded with {self.machine}, and this machine does not compute the same numbers"
            why = recorded if self.machine else "this machine does not compute the same way twice"
            raise DivergedError(
                f"the replay of batch {batch % self._num_batches + 1} of epoch {batch // self._num_batches + 1} has the loss "
                f"{record.loss!r}, but the run had {float(noted)!r}: {why}"
            )

    def _remember(self, batch: int, record: BatchRecord) -> None:
        self._cache[batch] = record
        self._cache.move_to_end(batch)
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)


def _max_weight(record: BatchRecord) -> float:
    return float(np.abs(record.updated.flat).max())
