"""Comparison of recomputed outputs with recorded ones, end to end and one step at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tui_gru.engine.compiling.compiled import compiled
from tui_gru.engine.numbers import same
from tui_gru.engine.running.batch import BatchRecord
from tui_gru.engine.running.computing import compute
from tui_gru.engine.running.weights import Weights
from tui_gru.interop.capture.calls import GRUCall
from tui_gru.interop.tensors import AnyArray

#: The largest rounding error, relative to the largest number, by the type in which the numbers were computed.
TOLERANCES = {"float64": 1e-10, "float32": 1e-5, "float16": 5e-3, "bfloat16": 2e-2}


def tolerance_of(call: GRUCall) -> float:
    """Return the tolerance for a call: that of its type, or of the type that autocast used."""
    return max(TOLERANCES.get(call.dtype, 0.0), TOLERANCES.get(call.autocast, 0.0))


@dataclass(frozen=True, eq=False)
class ArrayDifference:
    """Two arrays that should be equal, `ours` and the `recorded` one.

    `worst` is their largest difference, `largest` the largest finite recorded number. `over_time` (T) has the largest difference at
    each timestep, if they have timesteps.
    """

    name: str
    ours: AnyArray
    recorded: AnyArray
    worst: float
    largest: float
    over_time: AnyArray | None = None

    @property
    def error(self) -> float:
        """The largest difference over the largest recorded number."""
        return self.worst / self.largest if self.worst and self.largest else self.worst


def difference(name: str, ours: AnyArray, recorded: AnyArray, *, timed: bool = False) -> ArrayDifference:
    """Compare two arrays. NaN equals NaN, and infinities equal themselves."""
    with np.errstate(all="ignore"):
        apart = np.where(same(ours, recorded), 0, np.abs(ours - recorded))
    apart = np.nan_to_num(apart, nan=np.inf)
    largest = np.abs(recorded).max(initial=0, where=np.isfinite(recorded))
    over_time = apart.reshape(len(apart), -1).max(axis=1, initial=0) if timed else None
    return ArrayDifference(name, ours, recorded, float(apart.max(initial=0)), float(largest), over_time)


def output_name(record: BatchRecord) -> str:
    """Return the name of the GRU's output in a model."""
    structure = record.compiled.model.structure
    return (
        "out"
        if structure.lengths
        else record.compiled.model.composed.layers[-1].output
        if not structure.bidirectional
        else (f"out_l{structure.layers - 1}")
    )


def stepwise(record: BatchRecord, out: AnyArray, lengths: AnyArray | None = None) -> ArrayDifference:
    """Compare outputs (T, B, directions · H) from elsewhere with those of a record, each computed from the recorded state before
    it, and the first ones from the initial states of the record. `lengths` (B) are the row lengths.

    Layers below the last have no recorded states, so they run from their first state to their end.
    """
    T, B = (record.compiled.sizes[axis] for axis in "TB")
    live = _live(T, B, lengths)
    ours = [np.where(live[..., None], one.array("h").reshape(T, B, -1), 0) for one in single_steps(record, out, lengths)]
    return difference("out, one step at a time", np.concatenate(ours, axis=2), out, timed=True)


def single_steps(record: BatchRecord, out: AnyArray, lengths: AnyArray | None = None) -> list[BatchRecord]:
    """Return a record that computes every timestep of every row from the state before it, for each direction of the last layer.

    The states before are those that `out` (T, B, directions · H) records. The record has one timestep and T · B rows, the rows of
    timestep 1 first. `lengths` is as in `stepwise`.
    """
    compiled_, model = record.compiled, record.compiled.model
    T, B, H = (compiled_.sizes[axis] for axis in "TBH")
    live = _live(T, B, lengths)
    directions = 2 if model.structure.bidirectional else 1
    found = []
    for layer, out_ in zip(model.composed.layers[-directions:], np.split(out, directions, axis=2), strict=True):
        x = record.array(layer.reads)
        one = replace(model.structure, layers=1, bidirectional=False, backwards=False, input="dense", head="", loss="",
                      lengths=False, dropout=False)  # fmt: skip
        step = compiled(one, {"I": x.shape[2], "H": H, "B": T * B, "T": 1}, str(compiled_.dtype))
        single, weights = BatchRecord(step), Weights.zeros(step.layout, str(step.dtype))
        for name, value in weights.items():
            value[...] = record.before[name + layer.suffix]
        single.before = weights
        single.array("x")[...] = x.reshape(1, T * B, -1)
        h0 = record.border(layer.output, end=False)
        single.border("h", end=False)[...] = _states_before(out_, h0, live, backwards=layer.backwards).reshape(T * B, H)
        with np.errstate(all="ignore"):
            compute(single, None, learn=False)
        found.append(single)
    return found


def _live(T: int, B: int, lengths: AnyArray | None) -> AnyArray:
    """Return (T, B), True at the timesteps that each row has."""
    return np.ones((T, B), bool) if lengths is None else np.arange(T)[:, None] < lengths


def _states_before(out: AnyArray, h0: AnyArray, live: AnyArray, *, backwards: bool) -> AnyArray:
    """Return the recorded state (T, B, H) before each timestep; h0 at the start of a row."""
    if not backwards:
        return np.concatenate([h0[None], out[:-1]])
    later = np.concatenate([out[1:], h0[None]])
    first = live & ~np.concatenate([live[1:], np.zeros_like(live[:1])])  # its last timestep, the first one backwards
    return np.where(first[..., None], h0, later)
