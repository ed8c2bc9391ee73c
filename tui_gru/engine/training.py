"""The training loop from its beginning, batch after batch, for those who only want to watch it run."""

from __future__ import annotations

from collections.abc import Iterator

from tui_gru.engine.config import Config
from tui_gru.engine.corpus import Corpus
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.initial import initial_parameters
from tui_gru.engine.parameters import Parameters
from tui_gru.engine.record import BatchRecord
from tui_gru.engine.trainer import Trainer


def check_epochs(epochs: int) -> None:
    """Raise `TuiGruError` for a negative number of epochs."""
    if epochs < 0:
        raise TuiGruError(f"epochs must be 0 or more, not {epochs}", option="epochs")


def train(
    config: Config, *, epochs: int, learn: bool = True, parameters: Parameters | None = None
) -> Iterator[tuple[int, int, BatchRecord]]:
    """Run `epochs` epochs, from `parameters` or fresh ones; yield (epoch, batch, record), both 0-based, as each batch ends.

    A record is overwritten by a later batch, so use it before asking for the next, or copy it.
    """
    trainer = Trainer(config, Corpus(config))
    parameters = initial_parameters(config) if parameters is None else parameters
    # Carry `notebook` goes back through every earlier batch of the epoch; the other carries need only the last state.
    records = [trainer.new_record() for _ in range(config.num_batches if config.carry == "notebook" else 1)]
    state = trainer.initial_state()
    for epoch in range(epochs):
        for batch in range(config.num_batches):
            record = records[batch % len(records)]
            trainer.run(
                record,
                batch,
                parameters,
                trainer.carried(batch, state),
                learn=learn,
                learning_rate=config.learning_rate,
                earlier=[earlier.activations for earlier in reversed(records[:batch])] if config.carry == "notebook" else (),
            )
            yield epoch, batch, record
            parameters, state = record.updated, record.activations.h[-1]
