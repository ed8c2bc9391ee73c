"""Captured calls computed again in float64, and compared with what the script recorded."""

import numpy as np

from tui_gru.capture.calls import CapturedStep
from tui_gru.imported import recompute as gradients
from tui_gru.imported.recompute import array_difference, output_name, recompute, stepwise, torch_gradients


def compare_outputs(call, record=None):
    """Compare the outputs and last states of a call, run from its first state to its end; from `record`, or computed in float64."""
    record = recompute(call, "float64") if record is None else record
    states = np.stack([record.border(state, end=True) for state in record.compiled.states])
    found = [
        array_difference("out", record.array(output_name(record)), call.out, timed=True),
        array_difference("hn", states, call.hn),
    ]
    if record.compiled.model.structure.head and call.head is not None:
        found.append(array_difference("logits", record.array("logits"), call.head.logits, timed=True))
    return found


def one_step_at_a_time(call):
    """Compare the outputs of a call, each computed from the recorded state before it, so that rounding does not accumulate."""
    return stepwise(recompute(call, "float64"), call.out, call.lengths)


def derived(call):
    """Return the gradients of a call under torch's names."""
    record = recompute(call, "float64")
    return torch_gradients(call, record.own_gradients, record.compiled)


def compare_gradients(steps, derive=derived):
    """Compare the gradients of a step, or of the same step of all ranks, with those that `derive` computes."""
    return gradients.compare_gradients([steps] if isinstance(steps, CapturedStep) else steps, derive)
