"""The weights of a model in one flat vector, and the settings of NumPy under which they are computed."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator, Mapping
from functools import cached_property
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

# ------------------------------------------------------------------------------
# The weights of a model: one flat vector with a view for every parameter. Gradients have the same layout.


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


def norms_over_time(array: Array) -> list[float]:
    """Return the norm of each timestep, (T), computed in float64, since squares of large numbers would overflow float32."""
    wide = array.reshape(len(array), -1).astype(np.float64)
    norms: list[float] = np.sqrt(np.einsum("tn,tn->t", wide, wide)).tolist()
    return norms


# ------------------------------------------------------------------------------
# A context manager for computations with NumPy: in one thread, whatever number of threads NumPy was loaded with, and without
# warnings.
#
# The matrices are small: a second thread costs more time than it saves, and the last bits of a product may depend on the number
# of threads. NaN and infinities are results that the debugger shows.


class _Entered(threading.local):
    """How often a thread is inside, and the settings that it had before."""

    times = 0
    before: np.errstate


class NumPySettings:
    """Inside `with NUMPY_SETTINGS:`, the BLAS library of this process computes in one thread, and NumPy does not warn of numbers
    that are not finite. The context can be nested, which takes almost no time, and entered by several threads.

    Does not limit the threads if OPENBLAS_NUM_THREADS is 1, as for the command `tui-gru`.
    """

    def __init__(self) -> None:
        self._lock, self._threads, self._limit = threading.Lock(), 0, None
        self._entered, self._is_one = _Entered(), os.environ.get("OPENBLAS_NUM_THREADS") == "1"
        self._pools: Any = None

    def __enter__(self) -> None:
        state = self._entered
        state.times += 1
        if state.times > 1:
            return
        state.before = np.errstate(all="ignore")
        state.before.__enter__()
        with self._lock:
            self._threads += 1
            if self._threads == 1:
                self._limit = self._limited()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        state = self._entered
        state.times -= 1
        if state.times:
            return
        state.before.__exit__(kind, error, trace)
        with self._lock:
            self._threads -= 1
            if self._threads == 0 and self._limit is not None:
                self._release_pools()
                self._limit.restore_original_limits()
                self._release_pools()
                self._limit = None

    def _limited(self) -> Any:
        if self._is_one:
            return None
        if self._pools is None:
            from threadpoolctl import ThreadpoolController  # imported late: the command line does not need it

            self._pools = ThreadpoolController().select(user_api="blas")
        self._release_pools()
        return self._pools.limit(limits=1)

    def _release_pools(self) -> None:
        """Let any thread set the limits next. threadpoolctl 3.8 ignores all threads but the one that has set them last."""
        for pool in self._pools.lib_controllers:
            if hasattr(pool, "clear_controlling_thread"):
                pool.clear_controlling_thread(force=True)


NUMPY_SETTINGS = NumPySettings()
