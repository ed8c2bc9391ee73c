"""Runs batches of one config over one corpus: loads the characters, then forward and, where it learns, backward and update."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from tui_gru.engine.batch import BatchRecord, RecordPool
from tui_gru.engine.computing import Earlier, Point, compute, compute_from
from tui_gru.engine.config import Config
from tui_gru.engine.corpus import Corpus
from tui_gru.engine.given import GivenCorpus
from tui_gru.engine.threads import ONE_THREAD
from tui_gru.engine.weights import Array, Weights


class Trainer:
    """Holds no state of the training itself: that is the caller's. Trainers of the same model can share a pool of records."""

    def __init__(self, config: Config, corpus: Corpus | GivenCorpus, pool: RecordPool | None = None) -> None:
        self.config, self.corpus, self.compiled = config, corpus, config.compiled
        self.pool = pool or RecordPool(self.compiled)
        self._settings = config.settings
        self._zero = np.zeros(
            sum(int(np.prod(self.compiled.shape(config.model.axes[s])[1:])) for s in self.compiled.states), config.dtype
        )

    def new_record(self) -> BatchRecord:
        """A record of the config's shapes, to be computed into."""
        return self.pool.take()

    def initial_state(self) -> Array:
        """All states before the first timestep of an epoch, flat: zero."""
        return self._zero

    @property
    def is_given(self) -> bool:
        """Whether each batch begins with weights and states of its own, whatever the one before it ended with."""
        return isinstance(self.corpus, GivenCorpus)

    def given(self, batch: int) -> tuple[Weights, Array] | None:
        """The weights and states (flat) that are given for a batch of the epoch; None where they come from the batch before."""
        return self.corpus.begin(batch) if isinstance(self.corpus, GivenCorpus) else None

    def carried(self, batch: int, state: Array) -> Array:
        """The states that a batch (of the epoch) begins with, given those that the batch before it ended with; flat."""
        return self._zero if batch == 0 or self.config.carry == "reset" else state

    def run(
        self,
        record: BatchRecord,
        batch: int,
        weights: Weights,
        state: Array,
        *,
        learn: bool,
        learning_rate: float,
        earlier: Sequence[BatchRecord] = (),
    ) -> None:
        """Compute batch `batch` (of the epoch) into `record`.

        `state` is what the batch begins with, `earlier` the records of the epoch's earlier batches, latest first (carry
        `notebook` only). Afterwards `record.after` holds the weights to go on with."""
        with ONE_THREAD, np.errstate(all="ignore"):  # overflow to inf and NaN are results that the debugger shows, not warnings
            self.load(record, batch)
            record.begin_with(state)
            record.before, record.learning_rate = weights, learning_rate
            compute(record, self._with(learning_rate), learn=learn, earlier=self._earlier(earlier))

    def resume(self, record: BatchRecord, at: Point, *, learn: bool, earlier: Sequence[BatchRecord] = ()) -> None:
        """Compute the rest of a batch, with the weights in `record.before`; what lies before `at` stays as it is."""
        with ONE_THREAD, np.errstate(all="ignore"):
            compute_from(record, at, self._with(record.learning_rate), learn=learn, earlier=self._earlier(earlier))

    def load(self, record: BatchRecord, batch: int, t: int | slice = slice(None)) -> None:
        """Put what a batch of the epoch reads into a record; of one timestep only where `t` is given."""
        self.corpus.load(record, batch, t)

    def _with(self, learning_rate: float) -> dict[str, float] | None:
        if self.is_given:  # there is no update
            return None
        self._settings["learning_rate"] = learning_rate
        return self._settings

    def _earlier(self, records: Sequence[BatchRecord]) -> Earlier:
        return Earlier(records, self._scratch) if records else _NONE

    @cached_property
    def _scratch(self) -> BatchRecord:
        return BatchRecord(self.compiled)


_NONE = Earlier()


def corpus_of(config: Config) -> Corpus | GivenCorpus:
    """What the batches of a config are: its text, cut, or those that are given."""
    return Corpus(config) if config.given is None else GivenCorpus(config)
