"""Remarks on how a script uses its GRU: the first state, half precision, and outputs that are easily misused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tui_gru.interop.capture.calls import GRUCall
from tui_gru.interop.recomputing.comparing import TOLERANCES

HALF = ("float16", "bfloat16")


def remarks(calls: Sequence[GRUCall]) -> Iterator[str]:
    """Yield sentences about the calls of one module in a step."""
    if any(map(_reads_last_output_of_both_directions, calls)):
        yield (
            "Only the output of the last timestep gets a gradient: its reverse half has read one input there; "
            "hn has the last state of both directions."
        )
    if any(map(_reads_padding, calls)):
        yield "The rows that are shorter than others get no gradient: their last output is padding; hn has their last state."
    for dtype in sorted({call.dtype for call in calls} & {*HALF}):
        yield f"The GRU computed in {dtype}, so its outputs agree only to about {TOLERANCES[dtype]:g} of the largest."
    if len(states := {_first_state(call) for call in calls}) == 1:
        yield states.pop()


def _first_state(call: GRUCall) -> str:
    if not call.h0_given:
        return "No h0 was given: it begins with 0, whatever the batch before ended with."
    if call.h0_attached:
        return "h0 was given with its graph: its gradient continues into the computation of h0."
    return "h0 was given without a graph, as after detach(): the gradient ends there."


def _reads_last_output_of_both_directions(call: GRUCall) -> bool:
    """Return True if only the last timestep gets a gradient, as with `output[-1]`, whose reverse half is the first state, not the
    last."""
    if (
        not call.module.bidirectional
        or call.dout is None
        or call.timesteps == 1
        or call.lengths is not None
        or call.dhn is not None
    ):
        return False
    return not call.dout[:-1].any() and bool(call.dout[-1, :, call.module.hidden_size :].any())


def _reads_padding(call: GRUCall) -> bool:
    """Return True if only the longest rows get a gradient, as with `output[-1]` of padded rows; the shorter rows then get none."""
    if call.lengths is None or call.dout is None or call.dhn is not None:
        return False
    reached, longest = call.dout.any(axis=(0, 2)), call.lengths == call.lengths.max()
    return not longest.all() and bool(np.array_equal(reached, longest)) and not call.dout[: int(call.lengths.max()) - 1].any()
