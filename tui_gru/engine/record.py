"""Everything that is computed in one batch, in preallocated arrays, time first."""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Self

import numpy as np

from tui_gru.engine.config import Config
from tui_gru.engine.parameters import Array, Parameters


class Timestep:
    """One timestep's views of an `Activations` or a `Deltas`, without the time axis.

    Made once per record, so that the kernels do not index arrays in their inner loop.
    """

    h_prev: Array
    h: Array
    a: Array
    ah: Array
    a_zr: Array
    zr: Array
    z: Array
    r: Array
    h_tilde: Array
    hU: Array
    hU_zr: Array
    hUh: Array
    rh: Array
    one_minus_z: Array
    new: Array
    logits: Array
    dlogits: Array
    dh: Array
    dh_output: Array
    dh_future: Array
    dh_prev: Array
    dz: Array
    dr: Array
    dh_tilde: Array
    daz: Array
    dar: Array
    dah: Array
    drh: Array
    dm: Array
    dh_carry: Array
    dh_candidate: Array
    dh_update: Array
    dh_reset: Array
    dh_by_dz: Array
    z_slope: Array
    r_slope: Array
    h_tilde_slope: Array

    def __init__(self, arrays: dict[str, Array], t: int) -> None:
        self.__dict__.update({name: array[t] for name, array in arrays.items()})


def rows(array: Array) -> Array:
    """(T, B, n) as (T B, n), a view: the rows of all timesteps, for one product over them."""
    return array.reshape(-1, array.shape[-1])


class _Arrays:
    """Arrays over the timesteps of one batch. `owned` lists those with memory of their own; all others are views of them."""

    owned: tuple[str, ...]
    config: Config

    def __init__(self, config: Config) -> None:
        raise NotImplementedError

    def copy(self) -> Self:
        twin = type(self)(self.config)
        for name in self.owned:
            getattr(twin, name)[...] = getattr(self, name)
        return twin

    @property
    def nbytes(self) -> int:
        return sum(getattr(self, name).nbytes for name in self.owned)


class Activations(_Arrays):
    """The forward half of a record. B rows, T timesteps, H units, V characters.

    x y logits y_hat term1 (T, B, V); h_prev h z r h_tilde az ar ah (T, B, H), rh = r*h_prev for reset `before`;
    hU (T, B, 3H) the products with U; one_minus_z (T, B, H); term2 (T, B); term3 (T).
    """

    owned = (
        "inputs", "targets", "x", "y", "states", "a", "hU", "gates", "rh", "one_minus_z", "new",
        "logits", "y_hat", "log_p", "term1", "term2", "term3",
    )  # fmt: skip

    def __init__(self, config: Config) -> None:
        self.config = config
        T, B, H, V = config.seq_length, config.batch_size, config.hidden_size, config.vocab_size
        dtype = np.dtype(config.dtype)

        def zeros(*shape: int) -> Array:
            return np.zeros(shape, dtype)

        self.inputs = np.zeros((T, B), np.intp)
        self.targets = np.zeros((T, B), np.intp)
        self.x, self.y = zeros(T, B, V), zeros(T, B, V)
        self.states = zeros(T + 1, B, H)  # h_prev and h are the same array, one timestep apart
        self.h_prev, self.h = self.states[:-1], self.states[1:]
        self.a, self.hU, self.gates = zeros(T, B, 3 * H), zeros(T, B, 3 * H), zeros(T, B, 3 * H)
        self.rh = zeros(T, B, H)  # r*h_prev (reset before), r*m (reset after)
        self.one_minus_z, self.new = zeros(T, B, H), zeros(T, B, H)
        self.logits, self.y_hat, self.term1 = zeros(T, B, V), zeros(T, B, V), zeros(T, B, V)
        self.log_p = zeros(T, B, V)
        self.term2, self.term3 = zeros(T, B), zeros(T)
        zr, gate = slice(0, 2 * H), [slice(i * H, (i + 1) * H) for i in range(3)]
        self.az, self.ar, self.ah = (self.a[..., g] for g in gate)
        self.z, self.r, self.h_tilde = (self.gates[..., g] for g in gate)
        self.zr = self.gates[..., zr]
        self.hUz, self.hUr, self.hUh = (self.hU[..., g] for g in gate)
        arrays = {
            "h_prev": self.h_prev, "h": self.h, "a": self.a, "ah": self.ah, "a_zr": self.a[..., zr],
            "zr": self.zr, "z": self.z, "r": self.r, "h_tilde": self.h_tilde,
            "hU": self.hU, "hU_zr": self.hU[..., zr], "hUh": self.hUh,
            "rh": self.rh, "one_minus_z": self.one_minus_z, "new": self.new, "logits": self.logits,
        }  # fmt: skip
        self.timesteps = [Timestep(arrays, t) for t in range(T)]


class Deltas(_Arrays):
    """The backward half of a record: the gradient of the loss with respect to each name, (T, B, ·).

    dh is dh_output (from this timestep's output) plus dh_future (from the timestep after); dh_prev, handed to the timestep
    before, is the sum of four paths: dh_carry, dh_candidate, dh_update, dh_reset. drh belongs to r*h_prev (reset `before`), dm
    to m = h_prev Uh + bhn (reset `after`); they share memory, since a record has one of the two.

    The slopes are the derivatives that depend on nothing but the activations: of z, r and h~ by their pre-activations, and
    dh_by_dz = h_prev - h~.
    """

    owned = (
        "dlogits", "flow", "dh", "dh_output", "dz", "dr", "dh_tilde", "drh", "da",
        "dh_carry", "dh_candidate", "dh_update", "dh_reset", "slopes", "dh_by_dz",
    )  # fmt: skip

    def __init__(self, config: Config) -> None:
        self.config = config
        T, B, H, V = config.seq_length, config.batch_size, config.hidden_size, config.vocab_size
        dtype = np.dtype(config.dtype)

        def zeros(*shape: int) -> Array:
            return np.zeros(shape, dtype)

        self.dlogits = zeros(T, B, V)
        self.flow = zeros(T + 1, B, H)  # dh_prev and dh_future are the same array, one timestep apart
        self.dh_prev, self.dh_future = self.flow[:-1], self.flow[1:]
        self.dh, self.dh_output = zeros(T, B, H), zeros(T, B, H)
        self.dz, self.dr, self.dh_tilde, self.drh = (zeros(T, B, H) for _ in range(4))
        self.dm = self.drh
        self.da = zeros(T, B, 3 * H)
        self.daz, self.dar, self.dah = (self.da[..., i * H : (i + 1) * H] for i in range(3))
        self.dh_carry, self.dh_candidate, self.dh_update, self.dh_reset = (zeros(T, B, H) for _ in range(4))
        self.slopes, self.dh_by_dz = zeros(T, B, 3 * H), zeros(T, B, H)
        self.z_slope, self.r_slope, self.h_tilde_slope = (self.slopes[..., i * H : (i + 1) * H] for i in range(3))
        self.zr_slope = self.slopes[..., : 2 * H]
        slopes = ("dh_by_dz", "z_slope", "r_slope", "h_tilde_slope")
        arrays = {name: getattr(self, name) for name in (*BACKWARD_NAMES, *slopes)}
        self.timesteps = [Timestep(arrays, t) for t in range(T)]


FORWARD_NAMES = (
    "x", "y", "h_prev", "az", "ar", "ah", "z", "r", "h_tilde", "h", "logits", "y_hat", "term1", "term2", "term3",
)  # fmt: skip
BACKWARD_NAMES = (
    "dlogits", "dh", "dh_output", "dh_future", "dz", "dr", "dh_tilde", "daz", "dar", "dah", "drh", "dm",
    "dh_prev", "dh_carry", "dh_candidate", "dh_update", "dh_reset",
)  # fmt: skip
PART_NAMES = ("rh", "one_minus_z", "new", "hUz", "hUr", "hUh", "log_p")  # parts of the forward lines, kept for those that need them
_FOREIGN = {"before": "dm", "after": "drh"}  # the delta that a reset convention does not have


@cache
def delta_names(reset: str) -> tuple[str, ...]:
    """The deltas that a record of this reset convention has: drh or dm, and all others."""
    return tuple(name for name in BACKWARD_NAMES if name != _FOREIGN[reset])


@dataclass(eq=False)
class BatchRecord:
    """One batch: what went in, everything computed, and what came out.

    `parameters` are those that the batch began with, `updated` those after it (the same object where it did not learn); a
    record has neither until it is run. `deltas` and `gradients` are None where it did not learn. `grad_norm` is the Euclidean
    norm of all gradients, NaN without learning.
    """

    activations: Activations
    deltas: Deltas | None = None
    parameters: Parameters = field(init=False)
    updated: Parameters = field(init=False)
    gradients: Parameters | None = None
    learning_rate: float = 0.0
    loss: float = float("nan")
    grad_norm: float = float("nan")

    def copy(self) -> BatchRecord:
        """A record of its own with the same contents; parameters are shared, since nothing changes them in place."""
        twin = copy(self)
        twin.activations = self.activations.copy()
        twin.deltas = self.deltas and self.deltas.copy()
        twin.gradients = self.gradients and self.gradients.copy()
        return twin

    @property
    def finite(self) -> bool:
        """Whether the loss and all parameters after the batch are finite."""
        return math.isfinite(self.loss) and bool(np.isfinite(self.updated.flat).all())

    def array(self, name: str) -> Any:
        """Any recorded array by its name, (T, …), a view. `KeyError` where the batch has none of that name."""
        if name in FORWARD_NAMES or name in PART_NAMES:
            return getattr(self.activations, name)
        if self.deltas is not None and name in delta_names(self.activations.config.reset):
            return getattr(self.deltas, name)
        raise KeyError(name)
