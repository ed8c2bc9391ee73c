"""The computation of batches of one config on one corpus: load the inputs, run forward and, if the batch learns, backward and
update; and the training loop without a session."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, cast

import numpy as np

from tui_gru.engine.config import Config
from tui_gru.engine.data.corpus import Corpus
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.running.batch import BatchRecord, RecordPool
from tui_gru.engine.running.computing import NO_EARLIER, Earlier, Point, RuleSettings, compute, compute_from
from tui_gru.engine.running.initial import initial_weights
from tui_gru.engine.running.numpy_settings import NUMPY_SETTINGS
from tui_gru.engine.running.weights import Array, Weights

if TYPE_CHECKING:
    from tui_gru.engine.data.given import GivenCorpus


class Trainer:
    """Computes batches. The caller stores the state of the training. Trainers of the same model can share a pool of records."""

    def __init__(self, config: Config, corpus: Corpus | GivenCorpus, pool: RecordPool | None = None) -> None:
        self.config, self.corpus, self.compiled = config, corpus, config.compiled
        self.pool = pool or RecordPool(self.compiled)
        self._zero = np.zeros(
            sum(int(np.prod(self.compiled.shape(config.model.axes[s])[1:])) for s in self.compiled.states), config.dtype
        )

    def new_record(self) -> BatchRecord:
        """Return a free record with the shapes of the config."""
        return self.pool.take()

    def initial_state(self) -> Array:
        """Return all states before the first timestep of an epoch, flattened. They are zero."""
        return self._zero

    @property
    def is_given(self) -> bool:
        """True if each batch begins with its own given weights and states."""
        return self.config.given is not None

    def given(self, batch: int) -> tuple[Weights, Array] | None:
        """Return the given weights and flattened states of a batch of the epoch; None if they come from the batch before."""
        return self._given_corpus.begin(batch) if self.is_given else None

    @property
    def _given_corpus(self) -> GivenCorpus:
        return cast("GivenCorpus", self.corpus)

    def carried(self, batch: int, state: Array) -> Array:
        """Return the flattened states at the start of a batch of the epoch, given those at the end of the batch before it."""
        return self._zero if batch == 0 or self.config.carry == "reset" else state

    def run(
        self,
        record: BatchRecord,
        batch: int,
        weights: Weights,
        state: Array,
        *,
        learn: bool,
        settings: RuleSettings,
        earlier: Sequence[BatchRecord] = (),
    ) -> None:
        """Compute batch `batch` (of the epoch) into `record`.

        `state` has the flattened states at its start, `settings` those of the update rule, `earlier` the records of the epoch's
        earlier batches, latest first (carry `notebook` only). Afterwards `record.after` has the weights for the next batch.
        """
        with NUMPY_SETTINGS:  # inf and NaN are results that the debugger shows
            self.load(record, batch)
            record.begin_with(state)
            record.before = weights
            compute(record, None if self.is_given else settings, learn=learn, earlier=self._earlier(earlier))

    def run_given(self, record: BatchRecord, batch: int, *, learn: bool) -> BatchRecord:
        """Compute a given batch as it was given into `record`, and return `record`. It has no update."""
        weights, state = self._given_corpus.begin(batch)
        self.run(record, batch, weights, state, learn=learn, settings={})
        self._given_corpus.computed(record, batch)
        return record

    def resume(self, record: BatchRecord, at: Point, *, learn: bool, earlier: Sequence[BatchRecord] = ()) -> None:
        """Compute the rest of a batch, with the weights in `record.before`; everything before `at` is unchanged."""
        with NUMPY_SETTINGS:
            settings = None if self.is_given else record.settings
            compute_from(record, at, settings, learn=learn, earlier=self._earlier(earlier))

    def load(self, record: BatchRecord, batch: int, t: int | slice = slice(None)) -> None:
        """Load the inputs of a batch of the epoch into a record; with `t`, only those timesteps."""
        self.corpus.load(record, batch, t)

    def _earlier(self, records: Sequence[BatchRecord]) -> Earlier:
        return Earlier(records, self._scratch) if records else NO_EARLIER

    @cached_property
    def _scratch(self) -> BatchRecord:
        return BatchRecord(self.compiled)


def corpus_of(config: Config) -> Corpus | GivenCorpus:
    """Return the batches of a config: given ones, or those cut from its text."""
    if config.given is None:
        return Corpus(config)
    from tui_gru.engine.data.given import GivenCorpus  # imported late: only for models of other programs

    return GivenCorpus(config)


def check_epochs(epochs: int) -> None:
    """Raise `TuiGruError` for a negative number of epochs."""
    if epochs < 0:
        raise TuiGruError(f"epochs must be 0 or more, not {epochs}", option="epochs")


def train(
    config: Config, *, epochs: int, learn: bool = True, weights: Weights | None = None
) -> Iterator[tuple[int, int, BatchRecord]]:
    """Run `epochs` epochs from `weights`, by default the initial ones. Yield (epoch, batch, record) after each batch, both counts
    0-based.

    A record that the caller does not hold is reused for a later batch.
    """
    trainer = Trainer(config, corpus_of(config))
    weights, settings = initial_weights(config) if weights is None else weights, config.settings
    state = trainer.initial_state()
    for epoch in range(epochs):
        earlier: list[BatchRecord] = []  # of this epoch, latest first; for carry `notebook`
        for batch in range(config.num_batches):
            record = trainer.new_record()
            weights, state = trainer.given(batch) or (weights, trainer.carried(batch, state))
            trainer.run(
                record,
                batch,
                weights,
                state,
                learn=learn,
                settings=settings,
                earlier=earlier,
            )
            yield epoch, batch, record
            weights, state = record.after, record.states(end=True)
            if config.carry == "notebook":
                earlier.insert(0, record)
