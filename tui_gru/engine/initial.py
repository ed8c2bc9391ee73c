"""Initial weights, as the tutorial draws them: standard normal after `torch.manual_seed`, biases zero."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tui_gru.engine.config import Config
from tui_gru.engine.parameters import Array, Parameters

DRAWN = ("Wz", "Wr", "Wh", "Uz", "Ur", "Uh", "Wy")  # in this order
TUTORIAL_SIZES = (4, 2, 1)  # V, H, seed: these draws ship with the package, so that the tutorial starts without torch


def initial_parameters(config: Config) -> Parameters:
    """Fresh parameters of a config. Imports torch unless sizes and seed are the tutorial's (about a second)."""
    parameters = Parameters.zeros(config)
    sizes = (config.vocab_size, config.hidden_size, config.seed)
    draws = shipped() if sizes == TUTORIAL_SIZES else draw(config.vocab_size, config.hidden_size, config.seed)
    for name in DRAWN:
        parameters[name][...] = draws[name]
    return parameters


def shipped() -> dict[str, Array]:
    """The tutorial's initial weights from the package's data, float32, by name."""
    data = Path(__file__).with_name("tutorial_weights.bin").read_bytes()
    V, H, _ = TUTORIAL_SIZES
    flat = np.frombuffer(data, "<f4").astype(np.float32)
    draws, start = {}, 0
    for name in DRAWN:
        shape = shape_of(name, V, H)
        draws[name] = flat[start : start + shape[0] * shape[1]].reshape(shape)
        start += shape[0] * shape[1]
    return draws


def draw(vocab_size: int, hidden_size: int, seed: int) -> dict[str, Array]:
    """The weights that `torch.manual_seed(seed)` and one `torch.randn` each give, float32, by name."""
    import torch

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(*shape_of(name, vocab_size, hidden_size), generator=generator).numpy() for name in DRAWN}


def shape_of(name: str, vocab_size: int, hidden_size: int) -> tuple[int, int]:
    """The shape of a drawn weight: W (V, H), U (H, H), Wy (H, V)."""
    if name == "Wy":
        return hidden_size, vocab_size
    return (vocab_size if name[0] == "W" else hidden_size), hidden_size
