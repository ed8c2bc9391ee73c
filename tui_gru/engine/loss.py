"""Softmax and cross-entropy, term by term as the tutorial takes them.

    y_hat = softmax(o)
    term1 = y * log y_hat          element by element, (T, B, V)
    term2 = sum over the vocabulary, (T, B)
    term3 = - mean over the rows of the batch, (T)
    loss  = mean over the timesteps

log y_hat is computed as o - logsumexp(o), which stays finite where softmax underflows to 0.
"""

from __future__ import annotations

import numpy as np

from tui_gru.engine.parameters import Array
from tui_gru.engine.record import Activations


def softmax_and_terms(s: Activations, start: int = 0, done: int = 0) -> float:
    """Fill y_hat, log_p, term1, term2 and term3 of the timesteps from `start` on; return the batch's loss.

    Of timestep `start` the first `done` of the nine forward lines have been executed (y_hat is the sixth): what they wrote stays.
    """
    logits, y_hat, log_p = s.logits[start:], s.y_hat[start:], s.log_p[start:]
    arrays = ((6, s.y_hat), (6, s.log_p), (7, s.term1), (8, s.term2), (9, s.term3))
    kept = [(line, array, array[start].copy()) for line, array in arrays if line <= done]

    def keep(executed: int) -> None:
        for line, array, value in kept:
            if line == executed:
                array[start] = value

    np.subtract(logits, logits.max(-1, keepdims=True), out=log_p)
    np.exp(log_p, out=y_hat)
    total = y_hat.sum(-1, keepdims=True)
    y_hat /= total
    log_p -= np.log(total)
    keep(6)
    np.multiply(s.y[start:], log_p, out=s.term1[start:])
    keep(7)
    s.term1[start:].sum(-1, out=s.term2[start:])
    keep(8)
    T, B = s.term2.shape
    s.term2[start:].sum(-1, out=s.term3[start:])
    s.term3[start:] /= -B
    keep(9)
    return float(s.term3.sum() / T)


def tutorial_term1(y: Array, y_hat: Array) -> Array:
    """y * log(y_hat) as the tutorial's code takes it: NaN (0 * -inf) or -inf where y_hat has underflowed to 0. Any shape."""
    with np.errstate(divide="ignore", invalid="ignore"):
        term: Array = y * np.log(y_hat)
    return term


def dlogits(s: Activations, out: Array) -> None:
    """The gradient of the loss with respect to the logits, (y_hat - y) / (B T), for every timestep, into `out` (T, B, V)."""
    np.subtract(s.y_hat, s.y, out=out)
    out /= out.shape[0] * out.shape[1]
