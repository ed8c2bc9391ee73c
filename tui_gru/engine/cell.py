"""One timestep of the GRU, forward.

    z  = sigmoid(x Wz + h_prev Uz + bz)
    r  = sigmoid(x Wr + h_prev Ur + br)
    h~ = tanh(x Wh + (r * h_prev) Uh + bh)              reset before the product (Cho et al. 2014; the tutorial)
    h~ = tanh(x Wh + bh + r * (h_prev Uh + bhn))        reset after the product (torch.nn.GRU)
    h  = z * h_prev + (1 - z) * h~
    o  = h Wy + by

z keeps the old state, as in torch.nn.GRU and Keras; Cho's paper has z and 1 - z the other way round.
"""

from __future__ import annotations

import numpy as np

from tui_gru.engine.parameters import Parameters
from tui_gru.engine.record import Activations, Timestep, rows


def embed(parameters: Parameters, activations: Activations, start: int = 0) -> None:
    """Put x W + b into the pre-activations of every timestep from `start` on.

    x is one-hot, so its product with W is a row of W: the same bits without the multiplications by zero, and without the NaN
    that a zero times an infinite weight in another row would make.
    """
    a = activations.a[start:]
    np.take(parameters.W, activations.inputs[start:], axis=0, out=a, mode="clip")
    a += parameters.b


def forward_timestep(parameters: Parameters, s: Timestep, done: int = 0) -> None:
    """Compute z, r, h~ and h of a timestep whose `a` holds x W + b and whose `h_prev` is set.

    The first `done` of the four are there already and stay untouched; z and r are one product, so it is both or neither.
    """
    if done < 2:
        _gates(parameters, s)
    if done < 3:
        _candidate(parameters, s)
    if done < 4:
        np.subtract(1, s.z, out=s.one_minus_z)
        np.multiply(s.z, s.h_prev, out=s.h)
        np.multiply(s.one_minus_z, s.h_tilde, out=s.new)
        s.h += s.new


def output(parameters: Parameters, activations: Activations, start: int = 0) -> None:
    """Compute o of the timesteps from `start` on.

    It is one product over all timesteps always, since a product over fewer rows differs in its last bits.
    """
    s = activations
    logits = s.logits if start == 0 else np.empty_like(s.logits)
    np.matmul(rows(s.h), parameters.Wy, out=rows(logits))
    logits += parameters.by
    if start:
        s.logits[start:] = logits[start:]


def forward_from(parameters: Parameters, activations: Activations, t: int, done: int) -> None:
    """Go on from the middle of timestep `t`, of which `done` lines have been executed, to the last timestep.

    What executed lines wrote stays as it is, whatever `parameters` have become since.
    """
    s, executed = activations, min(done, 3) * parameters.hidden_size
    kept = [(array[t, :, :executed], array[t, :, :executed].copy()) for array in (s.a, s.gates, s.hU)]
    embed(parameters, s, t)
    if done < 3:
        _gates(parameters, s.timesteps[t])
    for view, value in kept:
        view[...] = value
    forward_timestep(parameters, s.timesteps[t], max(done, 2))
    for step in s.timesteps[t + 1 :]:
        forward_timestep(parameters, step)
    output(parameters, s, t if done < 5 else t + 1)


def _gates(p: Parameters, s: Timestep) -> None:
    if p.c is None:
        np.matmul(s.h_prev, p.Uzr, out=s.hU_zr)
    else:
        np.matmul(s.h_prev, p.U, out=s.hU)
        s.hU += p.c
    s.a_zr += s.hU_zr
    np.negative(s.a_zr, out=s.zr)  # sigmoid(a) = 1 / (1 + exp(-a)); exp overflows to inf, which gives 0, as it should
    np.exp(s.zr, out=s.zr)
    s.zr += 1
    np.reciprocal(s.zr, out=s.zr)


def _candidate(p: Parameters, s: Timestep) -> None:
    if p.c is None:
        np.multiply(s.r, s.h_prev, out=s.rh)
        np.matmul(s.rh, p.Uh, out=s.hUh)
        s.ah += s.hUh
    else:
        np.multiply(s.r, s.hUh, out=s.rh)
        s.ah += s.rh
    np.tanh(s.ah, out=s.h_tilde)
