"""The training loop's body: one batch, forward, and where it learns backward and the SGD update, into a record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tui_gru.engine import backward, cell, loss
from tui_gru.engine.config import Config
from tui_gru.engine.corpus import Corpus
from tui_gru.engine.parameters import Array, Parameters
from tui_gru.engine.record import Activations, BatchRecord, Deltas


class Resume(NamedTuple):
    """Where in a batch the computation goes on; what lies before is in the record already and stays.

    `phase` is forward, backward or update; `t` the timestep, of which `done` lines have been executed; `updated` names the
    parameters that the update has reached.
    """

    phase: str
    t: int = 0
    done: int = 0
    updated: frozenset[str] = frozenset()


class Trainer:
    """Runs batches of one config over one corpus. Holds no state of the training itself: that is the caller's."""

    def __init__(self, config: Config, corpus: Corpus) -> None:
        self.config, self.corpus = config, corpus
        self._indices = np.arange(config.vocab_size)
        self._scratch = Deltas(config) if config.carry == "notebook" else None

    def new_record(self) -> BatchRecord:
        """An empty record of the config's shapes."""
        return BatchRecord(Activations(self.config))

    def initial_state(self) -> Array:
        """h before the first timestep of an epoch: zero, (B, H)."""
        return np.zeros((self.config.batch_size, self.config.hidden_size), self.config.dtype)

    def carried(self, batch: int, state: Array) -> Array:
        """The state (B, H) that a batch begins with, given the one that the batch before it ended with."""
        return self.initial_state() if batch == 0 or self.config.carry == "reset" else state

    def run(
        self,
        record: BatchRecord,
        batch: int,
        parameters: Parameters,
        state: Array,
        *,
        learn: bool,
        learning_rate: float,
        earlier: Sequence[Activations] = (),
    ) -> None:
        """Compute batch `batch` (of the epoch) into `record`.

        `state` (B, H) is what the batch begins with, `earlier` the activations of the epoch's earlier batches, latest first
        (carry `notebook` only). Afterwards `record.updated` holds the parameters to go on with.
        """
        with _quiet():
            self.load(record, batch)
            s = record.activations
            s.states[0] = state
            record.parameters, record.learning_rate = parameters, learning_rate
            cell.embed(parameters, s)
            for timestep in s.timesteps:
                cell.forward_timestep(parameters, timestep)
            cell.output(parameters, s)
            record.loss = loss.softmax_and_terms(s)
            if learn:
                record.deltas = record.deltas or Deltas(self.config)
                backward.backward_batch(parameters, s, record.deltas)
                self._gradients(record, parameters, earlier)
                self._update(record, parameters)
            else:
                _leave(record)

    def resume(
        self,
        record: BatchRecord,
        parameters: Parameters,
        at: Resume,
        *,
        learn: bool,
        earlier: Sequence[Activations] = (),
    ) -> None:
        """Compute the rest of a batch with other parameters than it began with; what lies before `at` stays as it is.

        `record` is the caller's own copy, `parameters` are those of that moment.
        """
        with _quiet():
            s, d = record.activations, record.deltas
            record.parameters = parameters
            if at.phase == "forward":
                cell.forward_from(parameters, s, at.t, at.done)
                record.loss = loss.softmax_and_terms(s, at.t, at.done)
            if not learn:
                _leave(record)
                return
            if d is None or at.phase == "forward":
                d = record.deltas = d or Deltas(self.config)
                backward.backward_batch(parameters, s, d)
            elif at.phase == "backward":
                backward.backward_from(parameters, s, d, at.t, at.done)
            if record.gradients is None or at.phase != "update":
                self._gradients(record, parameters, earlier)
            self._update(record, parameters, at.updated)

    def load(self, record: BatchRecord, batch: int, t: int | slice = slice(None)) -> None:
        """Put the characters of a batch of the epoch into a record, one-hot; of one timestep only where `t` is given."""
        s, inputs, targets = record.activations, self.corpus.inputs[batch, t], self.corpus.targets[batch, t]
        s.inputs[t], s.targets[t] = inputs, targets
        np.equal(inputs[..., None], self._indices, out=s.x[t])
        np.equal(targets[..., None], self._indices, out=s.y[t])

    def _gradients(self, record: BatchRecord, parameters: Parameters, earlier: Sequence[Activations]) -> None:
        s, d = record.activations, record.deltas
        assert d is not None
        g = record.gradients or parameters.like(np.empty_like(parameters.flat))
        backward.recurrent_gradients(s, d, g)
        backward.output_gradients(s, d, g)
        if earlier and self._scratch is not None:
            backward.backward_into_earlier(parameters, d.flow[0], earlier, self._scratch, g)
        record.gradients = g
        record.grad_norm = math.sqrt(float(np.dot(g.flat, g.flat)))

    def _update(self, record: BatchRecord, parameters: Parameters, reached: frozenset[str] = frozenset()) -> None:
        """W <- W - lr dW, for every parameter that the update has not reached yet."""
        assert record.gradients is not None
        g = record.gradients.flat
        step = g * g.dtype.type(record.learning_rate)
        updated = parameters.like(np.subtract(parameters.flat, step, out=step))
        for name in reached:
            updated[name][...] = parameters[name]
        record.updated = updated


def _leave(record: BatchRecord) -> None:
    """A batch that does not learn ends with the parameters it had."""
    record.deltas = record.gradients = None
    record.updated, record.grad_norm = record.parameters, float("nan")


def _quiet() -> np.errstate:
    """Overflow to inf and NaN are results that the debugger shows, not warnings."""
    return np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore")
