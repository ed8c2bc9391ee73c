"""Scalars of a step: the norm of its gradients, and whether everything in it is finite."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from tui_gru.interop.capture.calls import CapturedStep
from tui_gru.interop.tensors import Array


def norm_of(step: CapturedStep) -> float | None:
    """Return the Euclidean norm of all gradients that the step recorded; None if it recorded none."""
    gradients = list(_gradients(step))
    if not gradients:
        return None
    square = sum(_square(array) for array in gradients)
    return math.sqrt(square)


def is_finite(step: CapturedStep, norm: float | None) -> bool:
    """Return True if the loss, the gradients, and all outputs of the GRUs and their gradients are finite."""
    if step.loss is not None and not math.isfinite(step.loss):
        return False
    if norm is not None and not math.isfinite(norm) and not all(np.isfinite(array).all() for array in _gradients(step)):
        return False
    outside = (array for call in step.calls for array in (call.out, call.hn, call.dout, call.dhn) if array is not None)
    return all(math.isfinite(_square(array)) or bool(np.isfinite(array).all()) for array in outside)


def _gradients(step: CapturedStep) -> Iterator[Array]:
    yield from step.gradients.values()
    yield from (
        gradient
        for used in {id(call.weights): call.weights for call in step.calls}.values()
        for gradient in used.gradients.values()
    )


def _square(array: Array) -> float:
    """Return the sum of squares; not finite if an entry is not finite, or if it overflows."""
    flat = array.reshape(-1)
    with np.errstate(all="ignore"):
        square = float(np.dot(flat, flat))
    return square if math.isfinite(square) or flat.dtype == np.float64 else float(np.square(flat, dtype=np.float64).sum())
