"""The weights of a model: one flat vector, and every parameter by name as a view of it. Gradients lie alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[np.floating]
COUNT_BYTES = 8  # of the number of updates, in what `tobytes` writes


class Layout:
    """Where each parameter lies in a flat vector, (start, shape), and the states of the update rule behind them (m, then v).

    `count` is the number of weights (P); a vector with the states of an update rule has `size` = P · (1 + states) entries.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], states: tuple[str, ...]) -> None:
        self.shapes, self.states = dict(shapes), states
        self.places: dict[str, tuple[int, tuple[int, ...]]] = {}
        at = 0
        for name, shape in shapes.items():
            self.places[name] = at, shape
            at += int(np.prod(shape))
        self.count = at
        for i, state in enumerate(states, 1):
            for name in shapes:
                start, shape = self.places[name]
                self.places[f"{state}_{name}"] = start + i * at, shape
        self.size = at * (1 + len(states))

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters, in the order of the equations."""
        return tuple(self.shapes)

    @cached_property
    def state_names(self) -> tuple[str, ...]:
        """The states of the update rule, one for each parameter: m_Wz."""
        return tuple(f"{state}_{name}" for state in self.states for name in self.shapes)


class Weights:
    """All parameters, with what the update rule keeps between updates, and how many updates there have been.

    `weights["Wz"]` is a view, and so is `weights["m_Wz"]` with Adam. `flat` is the vector of all of it, `parameters` its part
    without the states of the update rule, (P). Nothing changes one that is in a record; `copy` gives one to be changed.
    """

    def __init__(self, layout: Layout, flat: Array, updates: int = 0) -> None:
        self.layout, self.flat, self.updates = layout, flat, updates
        self.parameters = flat[: layout.count]
        self.views: dict[str, tuple[Array, ...]] = {}  # what each pass reads, cut once
        self.cut_views = 0  # how many those are

    @classmethod
    def zeros(cls, layout: Layout, dtype: str) -> Weights:
        """Weights of a layout, all zero."""
        return cls(layout, np.zeros(layout.size, dtype))

    @property
    def names(self) -> tuple[str, ...]:
        return self.layout.names

    def copy(self) -> Weights:
        """Weights of its own with the same numbers."""
        return Weights(self.layout, self.flat.copy(), self.updates)

    def __getitem__(self, name: str) -> Array:
        """A parameter, or a state of the update rule, by name; a view. `KeyError` if there is none of that name."""
        at, shape = self.layout.places[name]
        return self.flat[at : at + int(np.prod(shape))].reshape(shape)

    def items(self) -> Iterator[tuple[str, Array]]:
        """Every parameter with its name, in the order of the equations."""
        return ((name, self[name]) for name in self.layout.names)

    def tobytes(self) -> bytes:
        """Everything in it as bytes: the count of updates, then the vector."""
        return self.updates.to_bytes(COUNT_BYTES, "little") + self.flat.tobytes()

    @classmethod
    def from_bytes(cls, layout: Layout, data: bytes, dtype: DTypeLike) -> tuple[Weights, Array]:
        """What `tobytes` wrote, read-only, and the numbers behind it."""
        numbers = np.frombuffer(data, dtype, offset=COUNT_BYTES)
        return cls(layout, numbers[: layout.size], int.from_bytes(data[:COUNT_BYTES], "little")), numbers[layout.size :]
