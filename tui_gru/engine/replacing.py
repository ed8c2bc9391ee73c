"""Another number in the place of one that was computed: what is left of its line is done, and the batch can go on from there."""

from __future__ import annotations

import math

import numpy as np

from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.parameters import Parameters
from tui_gru.engine.record import BatchRecord
from tui_gru.engine.trainer import Resume

# The line that writes each name, counted from 1; its other names are written by the same line, before the one that it is called by.
_FORWARD = {
    "h_prev": 0, "az": 1, "z": 1, "ar": 2, "r": 2, "ah": 3, "h_tilde": 3, "h": 4,
    "logits": 5, "y_hat": 6, "term1": 7, "term2": 8, "term3": 9,
}  # fmt: skip
_BACKWARD = {
    "dlogits": 1, "dh_output": 2, "dh": 2, "dz": 3, "daz": 4, "dh_tilde": 5, "dah": 6, "drh": 7, "dm": 7, "dr": 8, "dar": 9,
    "dh_carry": 10, "dh_candidate": 10, "dh_update": 10, "dh_reset": 10, "dh_prev": 10,
}  # fmt: skip

REPLACEABLE = (*_FORWARD, *_BACKWARD, "dh_future")


def replace_value(record: BatchRecord, name: str, t: int, index: tuple[int, ...], value: float) -> Resume:
    """Put `value` at `index` of what `name` is in timestep `t`, in a record of the caller's own; where the batch goes on.

    `name` is one of `REPLACEABLE`. The value that is there already changes nothing at all, not a bit. Raises `TuiGruError` for
    dh_future of the last timestep, which no later one hands back.
    """
    if name == "dh_future":
        if t + 1 == len(record.activations.timesteps):
            raise TuiGruError("dh_future of the last timestep is 0: nothing comes after it; change dh there")
        replace_value(record, "dh_prev", t + 1, index, value)
        return Resume("backward", t, 1)
    at = Resume("backward", t, _BACKWARD[name]) if name in _BACKWARD else Resume("forward", t, _FORWARD[name])
    array = record.array(name)[t : t + 1]  # so that term3, a number a timestep, has an entry to be set as well
    if array[(0, *index)] != value:
        array[(0, *index)] = value
        with np.errstate(all="ignore"):
            _finish(record, name, t, index)
    return at


def replace_gradient(record: BatchRecord, name: str, index: tuple[int, ...], value: float) -> Resume:
    """Put `value` at `index` of the complete gradient of parameter `name`; the update goes on with it."""
    assert record.gradients is not None
    if record.gradients[name][index] != value:
        record.gradients[name][index] = value
        flat = record.gradients.flat
        with np.errstate(over="ignore"):
            record.grad_norm = math.sqrt(float(np.dot(flat, flat)))
    return Resume("update")


def replace_parameter(parameters: Parameters, name: str, index: tuple[int, ...], value: float) -> Resume:
    """Put `value` at `index` of a parameter (a copy of the caller's own); the whole batch goes on with it."""
    parameters[name][index] = value
    return Resume("forward")


def _finish(record: BatchRecord, name: str, t: int, index: tuple[int, ...]) -> None:
    """Do what is left of a line in the middle of which a number has been replaced; only the entry that belongs to it."""
    s, d = record.activations, record.deltas
    where = (t, *index)
    if name in ("az", "ar"):
        (s.z if name == "az" else s.r)[where] = 1 / (1 + np.exp(-record.array(name)[where]))
    elif name == "ah":
        s.h_tilde[where] = np.tanh(s.ah[where])
    elif name == "y_hat":
        s.log_p[where] = np.log(s.y_hat[where])
    elif name == "dh_output" and d is not None:
        d.dh[where] = d.dh_output[where] + d.dh_future[where]
    elif name in ("dh_carry", "dh_candidate", "dh_update", "dh_reset") and d is not None:
        d.dh_prev[where] = d.dh_carry[where] + d.dh_candidate[where] + d.dh_update[where] + d.dh_reset[where]
