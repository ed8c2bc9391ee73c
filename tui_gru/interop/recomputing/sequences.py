"""Joining of the calls of a GRUCell in a loop into one call with as many timesteps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tui_gru.engine.running.batch import BatchRecord
from tui_gru.interop.capture.calls import CapturedStep, GRUCall
from tui_gru.interop.recomputing.models import recompute
from tui_gru.interop.tensors import AnyArray

ROUNDING = 1e-6  # relative to the largest gradient; smaller gradients are rounding errors, not gradients from outside


def sequences(step: CapturedStep) -> tuple[GRUCall, ...]:
    """Return the calls of a step in order; calls of a GRUCell that pass the state to each other, with its gradient, are joined into
    one.

    `dout` of a joined call is the gradient from outside at each timestep: the captured gradient without the part from the next
    timestep. A joined call has the number of its first call.
    """
    runs: list[list[GRUCall]] = []
    for call in step.calls:
        run = next((run for run in runs if _continues(run[-1], call)), None)
        if run is None:
            runs.append([call])
        else:
            run.append(call)
    return tuple(run[0] if len(run) == 1 else _joined(run) for run in runs)


def _continues(before: GRUCall, call: GRUCall) -> bool:
    """Return True if a call of a cell continues from the last state of another call, in the same graph."""
    same = call.weights is before.weights and call.module.kind == "GRUCell" and call.rows == before.rows
    alike = (call.dtype, call.autocast, call.training) == (before.dtype, before.autocast, before.training)
    return same and alike and call.h0_attached and np.array_equal(call.h0, before.hn)


def _joined(run: Sequence[GRUCall]) -> GRUCall:
    first = run[0]
    learned = [call.dout is not None for call in run]
    return replace(
        first,
        x=np.concatenate([call.x for call in run]),
        out=np.concatenate([call.out for call in run]),
        hn=run[-1].hn,
        dout=_from_outside(run) if any(learned) else None,
        backward_passes=max(call.backward_passes for call in run),
        notes=tuple(dict.fromkeys(note for call in run for note in call.notes)),
    )


def _from_outside(run: Sequence[GRUCall]) -> AnyArray:
    """Return the captured gradients (T, B, H) without the part from the next timestep, computed for all timesteps at once, as
    rows."""
    whole = np.concatenate([np.zeros_like(call.out) if call.dout is None else call.dout for call in run])
    rows = replace(
        run[0],
        x=np.concatenate([call.x for call in run[1:]], axis=1),
        h0=np.concatenate([call.h0 for call in run[1:]], axis=1),
        out=np.concatenate([call.out for call in run[1:]], axis=1),
        hn=np.concatenate([call.hn for call in run[1:]], axis=1),
        dout=whole[1:].reshape(1, -1, whole.shape[2]),
        head=None,
    )
    record: BatchRecord = recompute(rows, "float64")
    outside = whole.copy()
    outside[:-1] -= record.array("dh_prev").reshape(whole[1:].shape)
    rounding = ROUNDING * np.abs(whole).max(initial=0)
    outside[np.abs(outside).max(axis=(1, 2)) <= rounding] = 0
    return outside
