"""Computation of a captured call in a record of the compiled model."""

from __future__ import annotations

import numpy as np

from tui_gru.engine.running.batch import BatchRecord
from tui_gru.engine.running.computing import compute
from tui_gru.equations.compose import LIVE
from tui_gru.equations.names import with_word
from tui_gru.interop.capture.calls import GRUCall
from tui_gru.interop.recomputing.models import compiled_for, weights_of


def fill(record: BatchRecord, call: GRUCall) -> None:
    """Load the inputs, first states, weights and outside gradients of a call into a record of `compiled_for(call)`."""
    model = record.compiled.model
    record.array("x")[...] = call.x
    if call.lengths is not None:
        record.array(LIVE)[...] = np.arange(call.timesteps)[:, None] < call.lengths
    for number, mask in enumerate(call.masks):
        record.array(f"mask_l{number}")[...] = mask
    for state, h0 in zip(record.compiled.states, call.h0, strict=True):
        record.border(state, end=False)[...] = h0
    (output,) = model.page.outputs
    given = call.head.dlogits if call.head is not None and model.structure.head else call.dout
    record.array(with_word(f"d{output}", "given"))[...] = 0 if given is None else given
    for i, flow in enumerate(record.flows_in):
        flow[...] = 0 if call.dhn is None else call.dhn[i]
    record.before = weights_of(call, record.compiled)


def recompute(call: GRUCall, dtype: str | None = None, record: BatchRecord | None = None) -> BatchRecord:
    """Compute all inner values of a call: forward, and backward if it received a gradient. There is no update.

    The dtype is `dtype`, by default that of `compiled_for`. The values are written to `record`, or to a new record, which is
    returned. Raises `CaptureError`.
    """
    record = BatchRecord(compiled_for(call, dtype)) if record is None else record
    with np.errstate(all="ignore"):  # NaN and infinities are valid numbers here
        fill(record, call)
        compute(record, None, learn=call.learned)
    return record
