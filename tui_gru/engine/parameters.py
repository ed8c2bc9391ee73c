"""The weights and biases of a GRU: one flat vector, and every matrix by name as a view of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tui_gru.engine.config import Config

Array = NDArray[np.floating]

GATES = ("z", "r", "h")
BEFORE_NAMES = ("Wz", "Wr", "Wh", "Uz", "Ur", "Uh", "bz", "br", "bh", "Wy", "by")
AFTER_NAMES = ("Wz", "Wr", "Wh", "Uz", "Ur", "Uh", "bz", "br", "bh", "bhz", "bhr", "bhn", "Wy", "by")


def parameter_names(reset: str) -> tuple[str, ...]:
    """The names of all parameters; reset `after` has recurrent biases of its own (bhz, bhr, bhn)."""
    return AFTER_NAMES if reset == "after" else BEFORE_NAMES


class Parameters:
    """Parameters of one model, or their gradients, which have the same shapes.

    Fused, as the products use them: W (V, 3H) is [Wz|Wr|Wh], U (H, 3H) is [Uz|Ur|Uh], b (3H), c (3H) the recurrent bias of
    reset `after`, Wy (H, V), by (V). All are views of `flat` (P), so that an SGD step, a copy and a hash are each one operation;
    `recurrent` is the part of it without Wy and by.
    """

    __slots__ = (
        "U",
        "Uh",
        "Uh_T",
        "Ur_T",
        "Uz_T",
        "Uzr",
        "W",
        "Wy",
        "Wy_T",
        "b",
        "by",
        "c",
        "flat",
        "hidden_size",
        "recurrent",
        "reset",
    )

    def __init__(self, flat: Array, vocab_size: int, hidden_size: int, reset: str = "before") -> None:
        V, H = vocab_size, hidden_size
        self.flat, self.hidden_size, self.reset = flat, H, reset
        sizes = (V * 3 * H, H * 3 * H, 3 * H, 3 * H if reset == "after" else 0, H * V, V)
        ends = np.cumsum(sizes).tolist()
        W, U, b, c, Wy, by = (flat[end - size : end] for size, end in zip(sizes, ends, strict=True))
        self.W, self.U, self.b = W.reshape(V, 3 * H), U.reshape(H, 3 * H), b
        self.c = c if reset == "after" else None
        self.recurrent = flat[: ends[3]]
        self.Wy, self.by = Wy.reshape(H, V), by
        self.Uzr, self.Uh = self.U[:, : 2 * H], self.U[:, 2 * H :]
        self.Uz_T, self.Ur_T, self.Uh_T = self.U[:, :H].T, self.U[:, H : 2 * H].T, self.Uh.T
        self.Wy_T = self.Wy.T

    @classmethod
    def zeros(cls, config: Config) -> Parameters:
        """Parameters of the config's shapes, all zero."""
        flat = np.zeros(config.parameter_count, config.dtype)
        return cls(flat, config.vocab_size, config.hidden_size, config.reset)

    def like(self, flat: Array) -> Parameters:
        """The same shapes over another flat vector (P)."""
        return Parameters(flat, self.by.size, self.hidden_size, self.reset)

    def copy(self) -> Parameters:
        return self.like(self.flat.copy())

    @property
    def names(self) -> tuple[str, ...]:
        return parameter_names(self.reset)

    def __getitem__(self, name: str) -> Array:
        """A parameter by name, a view: Wz Wr Wh (V, H), Uz Ur Uh (H, H), bz br bh (H), Wy (H, V), by (V). `KeyError` if unknown."""
        if name not in self.names:
            raise KeyError(name)
        if name == "Wy":
            return self.Wy
        if name == "by":
            return self.by
        fused = self.c if len(name) == 3 else {"W": self.W, "U": self.U, "b": self.b}[name[0]]
        assert fused is not None
        gate = "zrn".index(name[2]) if len(name) == 3 else GATES.index(name[1])
        H = self.hidden_size
        view: Array = fused[..., gate * H : (gate + 1) * H]
        return view

    def items(self) -> Iterator[tuple[str, Array]]:
        """Every parameter with its name, in the order in which initial weights are drawn, then the biases."""
        return ((name, self[name]) for name in self.names)
