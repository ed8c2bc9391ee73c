"""The training loop, batch by batch, without a session."""

from __future__ import annotations

from collections.abc import Iterator

from tui_gru.engine.config import Config
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.running.batch import BatchRecord
from tui_gru.engine.running.initial import initial_weights
from tui_gru.engine.running.trainer import Trainer, corpus_of
from tui_gru.engine.running.weights import Weights


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
