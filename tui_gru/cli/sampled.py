"""The output of `tui-gru sample`."""

from __future__ import annotations

import numpy as np

from tui_gru.engine.config import Config, machine_memory
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.numbers import gib
from tui_gru.engine.running import sampling
from tui_gru.engine.running.initial import initial_weights
from tui_gru.engine.running.training import check_epochs, train
from tui_gru.engine.safe_text import safe_text

DRAW_BYTES = 400  # for one sampled character, without its distribution


def sampled_line(config: Config, epochs: int, primer: str, length: int, sampler: str, temperature: float, seed: int) -> str:
    """Train for `epochs`, then sample. Return the primer and the sampled characters on one line. Raises `TuiGruError`."""
    check_epochs(epochs)
    sampling.check(config, primer, length, sampler, temperature, seed)
    _check_memory(config, length)
    weights = initial_weights(config)
    for _, _, record in train(config, epochs=epochs, weights=weights):
        weights = record.after
    if not np.isfinite(weights.parameters).all():
        raise TuiGruError(f"the training overflowed within {epochs} epochs; use a smaller rate", option="learning_rate")
    text = sampling.sample(config, weights, primer, length, sampler=sampler, temperature=temperature, seed=seed).text
    return safe_text(text)


def _check_memory(config: Config, length: int) -> None:
    needed = length * (DRAW_BYTES + 8 * config.vocab_size)
    if needed > machine_memory() // 2:
        raise TuiGruError(
            f"{length} characters would take {gib(needed)}, more than half of this machine's memory; sample fewer",
            option="length",
        )
