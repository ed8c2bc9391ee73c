"""The weights of a model: one flat vector with a view for every parameter. Gradients have the same layout."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[np.floating]
Float64Array = NDArray[np.float64]
COUNT_BYTES = 8  # size of the number of updates in `tobytes`


class ParameterLayout:
    """The places of the parameters in a flat vector, (start, shape), followed by the states of the update rule (m, then v).

    `count` is the number of weights (P); a vector with the states of an update rule has `size` = P · (1 + states) entries.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], states: tuple[str, ...]) -> None:
        self.shapes, self.states = dict(shapes), states
        self.places: dict[str, tuple[int, tuple[int, ...]]] = {}
        at = 0
        for name, shape in shapes.items():
            self.places[name] = at, shape
            at += math.prod(shape)
        self.count = at
        for i, state in enumerate(states, 1):
            for name in shapes:
                start, shape = self.places[name]
                self.places[f"{state}_{name}"] = start + i * at, shape
        self.size = at * (1 + len(states))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parameters, in the order of the equations."""
        return tuple(self.shapes)

    @cached_property
    def state_names(self) -> tuple[str, ...]:
        """The states of the update rule, one per parameter: m_Wz."""
        return tuple(f"{state}_{name}" for state in self.states for name in self.shapes)


class Weights:
    """All parameters, the states of the update rule, and the number of updates so far.

    `weights["Wz"]` is a view, as is `weights["m_Wz"]` with Adam. `flat` is the complete vector, `vectors` its parts, (P) each: the
    `parameters`, and each state of the update rule. Weights in a record are never changed; change a `copy`.
    """

    def __init__(self, layout: ParameterLayout, flat: Array, updates: int = 0) -> None:
        self.layout, self.flat, self.updates = layout, flat, updates
        self.vectors = tuple(flat[i * layout.count : (i + 1) * layout.count] for i in range(1 + len(layout.states)))
        self.parameters = self.vectors[0]
        self.views: dict[str, tuple[Array, ...]] = {}  # the views that each pass reads
        self.cut_views = 0  # the number of those views

    @classmethod
    def zeros(cls, layout: ParameterLayout, dtype: str) -> Weights:
        """Return zero weights of a layout."""
        return cls(layout, np.zeros(layout.size, dtype))

    @property
    def names(self) -> tuple[str, ...]:
        return self.layout.names

    def copy(self) -> Weights:
        """Return a copy with its own memory."""
        return Weights(self.layout, self.flat.copy(), self.updates)

    def __getitem__(self, name: str) -> Array:
        """Return a parameter, or a state of the update rule, by name, as a view. Raises `KeyError` for an unknown name."""
        at, shape = self.layout.places[name]
        return self.flat[at : at + math.prod(shape)].reshape(shape)

    def items(self) -> Iterator[tuple[str, Array]]:
        """Return an iterator over the parameters and their names, in the order of the equations."""
        return ((name, self[name]) for name in self.layout.names)

    def tobytes(self, more: bytes | memoryview = b"") -> bytes:
        """Return the number of updates, the vector and `more` as bytes."""
        return b"".join((self.updates.to_bytes(COUNT_BYTES, "little"), self.flat.data, more))

    @classmethod
    def from_bytes(cls, layout: ParameterLayout, data: bytes, dtype: DTypeLike) -> tuple[Weights, Array]:
        """Return read-only weights from the bytes of `tobytes`, and the numbers after them."""
        numbers = np.frombuffer(data, dtype, offset=COUNT_BYTES)
        return cls(layout, numbers[: layout.size], int.from_bytes(data[:COUNT_BYTES], "little")), numbers[layout.size :]
