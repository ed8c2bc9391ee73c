"""One step of a GRU in NumPy, from weights in canonical form, to check a reading of a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from tui_gru.interop.blocks import Cell
from tui_gru.interop.tensors import Array

#: (x (B, I), h_prev (B, H), cell, reset, gate) -> h (B, H); the signature of `gru_step`. Another engine can be used in its place.
Step: TypeAlias = Callable[[Array, Array, Cell, str, str], Array]

GATES: dict[str, Callable[[Array], Array]] = {
    "sigmoid": lambda a: 0.5 + 0.5 * np.tanh(0.5 * a),  # this form does not overflow
    "hard_sigmoid": lambda a: np.clip(0.2 * a + 0.5, 0, 1),
    "hard_sigmoid_6": lambda a: np.clip(a / 6 + 0.5, 0, 1),
}


def gru_step(x: Array, h: Array, cell: Cell, reset: str, gate: str) -> Array:
    """Return the state after one timestep, h (B, H). x is (B, I), h is (B, H)."""
    σ = GATES[gate]
    if reset == "after":
        z = σ(x @ cell["Wz"] + h @ cell["Uz"] + cell["bz"] + cell["bhz"])
        r = σ(x @ cell["Wr"] + h @ cell["Ur"] + cell["br"] + cell["bhr"])
        n = np.tanh(x @ cell["Wh"] + cell["bh"] + r * (h @ cell["Uh"] + cell["bhn"]))
    else:
        z = σ(x @ cell["Wz"] + h @ cell["Uz"] + cell["bz"])
        r = σ(x @ cell["Wr"] + h @ cell["Ur"] + cell["br"])
        n = np.tanh(x @ cell["Wh"] + (r * h) @ cell["Uh"] + cell["bh"])
    new: Array = z * h + (1 - z) * n
    return new
