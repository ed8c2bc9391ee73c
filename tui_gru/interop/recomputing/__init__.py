"""Recomputation of captured calls with the compiled equations, and comparison of the results."""

from tui_gru.interop.recomputing.comparing import Difference, compare_outputs, one_step_at_a_time
from tui_gru.interop.recomputing.gradients import Cause, GradientComparison, compare_gradients
from tui_gru.interop.recomputing.models import (
    compiled_for,
    fill,
    recompute,
    recorded_gradients,
    structure_of,
    torch_gradients,
    weights_of,
)
from tui_gru.interop.recomputing.sequences import sequences

__all__ = [
    "Cause",
    "Difference",
    "GradientComparison",
    "compare_gradients",
    "compare_outputs",
    "compiled_for",
    "fill",
    "one_step_at_a_time",
    "recompute",
    "recorded_gradients",
    "sequences",
    "structure_of",
    "torch_gradients",
    "weights_of",
]
