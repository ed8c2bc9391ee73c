"""What a model writes while it learns: samples with the same random numbers, after a few batches in every decade of a run."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tui_gru.engine.config import Config, Text, first_word
from tui_gru.engine.sampling import refused, sample_text
from tui_gru.engine.weights import NUMPY_SETTINGS, Weights
from tui_gru.errors import TuiGruError
from tui_gru.schema import Whole


class TextDraft(NamedTuple):
    """What a model wrote after `primer` with the weights at `tick`, and the norms of those weights, in order."""

    tick: Whole
    primer: str
    text: str
    norms: tuple[float, ...] = ()


LENGTH, TEMPERATURE, SEED = 100, 0.5, 0
_EARLY = 0, 1, 3, 10, 30  # batches; from 100 on the multiples of a power of ten below
_MULTIPLES = 1, 2, 3, 5, 7


def is_drafted(batches: int) -> bool:
    """Return True if a run keeps a draft after so many batches: 0, 1, 3, 10, 30, 100, 200, 300, 500, 700, 1,000, 2,000 …"""
    if batches < 100:
        return batches in _EARLY
    power = 10 ** (len(str(batches)) - 1)
    return batches % power == 0 and batches // power in _MULTIPLES


def can_draft(config: Config) -> bool:
    """Return True if a model can write."""
    return bool(config.text) and refused(config) is None


def draft_of(config: Config, text: Text, weights: Weights, tick: int) -> TextDraft | None:
    """Return what a model with these weights writes after the first word of its text; None if its numbers are not finite."""
    try:
        with NUMPY_SETTINGS:  # once, not for each character
            drawn = sample_text(config, weights, config.as_string(first_word(text)), LENGTH, temperature=TEMPERATURE, seed=SEED)
    except TuiGruError:
        return None
    primer = drawn.between.join(drawn.primer)
    return TextDraft(tick, primer, drawn.text[len(primer) :], weight_norms(weights))


def weight_norms(weights: Weights) -> tuple[float, ...]:
    """Return the norm of each parameter, in order."""
    return tuple(float(np.linalg.norm(np.asarray(weights[name], np.float64))) for name in weights.names)
