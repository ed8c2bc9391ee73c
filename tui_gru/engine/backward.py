"""Backpropagation through time, written out, one timestep at a time.

The equations are the derivatives of `cell`, by hand; tests compare them with PyTorch's autograd and with finite differences.

    dh      = do Wy' + what the timestep after hands back
    dz      = dh * (h_prev - h~)        daz = dz * z * (1 - z)
    dh~     = dh * (1 - z)              dah = dh~ * (1 - h~^2)
    drh     = dah Uh'                   the gradient of r * h_prev
    dr      = drh * h_prev              dar = dr * r * (1 - r)
    dh_prev = dh * z + drh * r + daz Uz' + dar Ur'

With the reset gate after the product, m = h_prev Uh + bhn: dm = dah * r, dr = dah * m, and the second path is dm Uh'.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tui_gru.engine import loss
from tui_gru.engine.parameters import Array, Parameters
from tui_gru.engine.record import Activations, BatchRecord, Deltas, Timestep, rows


def backward_batch(parameters: Parameters, activations: Activations, deltas: Deltas) -> None:
    """Fill every delta of a batch: its loss is the only source, nothing comes from the future."""
    loss.dlogits(activations, out=deltas.dlogits)
    np.matmul(rows(deltas.dlogits), parameters.Wy_T, out=rows(deltas.dh_output))
    deltas.flow[-1] = 0
    _slopes(activations, deltas)
    _timesteps(parameters, activations, deltas, len(deltas.timesteps))


def backward_from(parameters: Parameters, activations: Activations, deltas: Deltas, t: int, done: int) -> None:
    """Go on from the middle of timestep `t`, of which `done` of the ten lines have been executed, down to timestep 0.

    dlogits is the first line; no parameter is in it, so it is there for all timesteps.
    """
    output = rows(deltas.dlogits) @ parameters.Wy_T  # over all timesteps, for the same bits
    ahead = t + 1 if done < 2 else t
    deltas.dh_output[:ahead] = output.reshape(deltas.dh_output.shape)[:ahead]
    _slopes(activations, deltas)  # the activations may have been edited
    backward_timestep(parameters, activations.timesteps[t], deltas.timesteps[t], done)
    _timesteps(parameters, activations, deltas, t)


def _timesteps(p: Parameters, s: Activations, d: Deltas, stop: int) -> None:
    """The deltas of the timesteps before `stop`, from the last to the first."""
    for t in range(stop - 1, -1, -1):
        backward_timestep(p, s.timesteps[t], d.timesteps[t])


def _slopes(s: Activations, d: Deltas) -> None:
    """The derivatives that need no gradient to be known, for all timesteps: z (1 - z), r (1 - r), 1 - h~^2, h_prev - h~."""
    np.subtract(1, s.zr, out=d.zr_slope)
    d.zr_slope *= s.zr
    np.multiply(s.h_tilde, s.h_tilde, out=d.h_tilde_slope)
    np.subtract(1, d.h_tilde_slope, out=d.h_tilde_slope)
    np.subtract(s.h_prev, s.h_tilde, out=d.dh_by_dz)


def backward_timestep(p: Parameters, s: Timestep, d: Timestep, done: int = 1) -> None:
    """The deltas of one timestep; dlogits, dh_output, dh_future and the slopes are there.

    The first `done` of the ten lines (dlogits is the first) have been executed, and what they wrote stays untouched.
    """
    if done < 2:
        np.add(d.dh_output, d.dh_future, out=d.dh)
    if done < 3:
        np.multiply(d.dh, d.dh_by_dz, out=d.dz)
    if done < 4:
        np.multiply(d.dz, d.z_slope, out=d.daz)
    if done < 5:
        np.multiply(d.dh, s.one_minus_z, out=d.dh_tilde)
    if done < 6:
        np.multiply(d.dh_tilde, d.h_tilde_slope, out=d.dah)
    if p.c is None:
        if done < 7:
            np.matmul(d.dah, p.Uh_T, out=d.drh)
        if done < 8:
            np.multiply(d.drh, s.h_prev, out=d.dr)
    else:
        if done < 7:
            np.multiply(d.dah, s.r, out=d.dm)
        if done < 8:
            np.multiply(d.dah, s.hUh, out=d.dr)
    if done < 9:
        np.multiply(d.dr, d.r_slope, out=d.dar)
    if done < 10:
        np.multiply(d.dh, s.z, out=d.dh_carry)
        if p.c is None:
            np.multiply(d.drh, s.r, out=d.dh_candidate)
        else:
            np.matmul(d.dm, p.Uh_T, out=d.dh_candidate)
        np.matmul(d.daz, p.Uz_T, out=d.dh_update)
        np.matmul(d.dar, p.Ur_T, out=d.dh_reset)
        np.add(d.dh_carry, d.dh_candidate, out=d.dh_prev)
        d.dh_prev += d.dh_update
        d.dh_prev += d.dh_reset


def backward_into_earlier(
    parameters: Parameters, flow: Array, earlier: Sequence[Activations], scratch: Deltas, gradients: Parameters
) -> None:
    """Carry `notebook`: run on into the earlier batches of the epoch, the latest first, adding to their shared gradients.

    Only the recurrent parameters gain: the earlier losses are not seeded, so Wy and by do not.
    """
    for gain in gains_of_earlier(parameters, flow, earlier, scratch):
        gradients.recurrent += gain.recurrent


def gains_of_earlier(parameters: Parameters, flow: Array, earlier: Sequence[Activations], scratch: Deltas) -> Iterator[Parameters]:
    """What each of the earlier batches of the epoch, the latest first, adds to the gradients; the same object every time.

    `flow` (B, H) is the gradient at the state that the batch began with. The earlier batches keep the activations that they were
    computed with, and the products use the weights of now, as the tutorial's code did on a PyTorch that let it.
    `scratch.dh_output` is 0 and stays so.
    """
    gain = parameters.like(np.zeros_like(parameters.flat))
    for activations in earlier:
        scratch.flow[-1] = flow
        _slopes(activations, scratch)
        _timesteps(parameters, activations, scratch, len(scratch.timesteps))
        recurrent_gradients(activations, scratch, gain)
        yield gain
        flow = scratch.flow[0]


def recurrent_gradients(s: Activations, d: Deltas, out: Parameters, start: int = 0) -> None:
    """The gradients of W, U, b (and c), summed over rows and over the timesteps from `start` on, into `out`."""
    H = out.hidden_size
    da = rows(d.da[start:])
    np.matmul(rows(s.x[start:]).T, da, out=out.W)
    da.sum(0, out=out.b)
    h_prev = rows(s.h_prev[start:])
    np.matmul(h_prev.T, da[:, : 2 * H], out=out.Uzr)
    if out.c is None:
        np.matmul(rows(s.rh[start:]).T, da[:, 2 * H :], out=out.Uh)
    else:
        dm = rows(d.dm[start:])
        np.matmul(h_prev.T, dm, out=out.Uh)
        out.c[: 2 * H] = out.b[: 2 * H]
        dm.sum(0, out=out.c[2 * H :])


def output_gradients(s: Activations, d: Deltas, out: Parameters, start: int = 0) -> None:
    """The gradients of Wy and by over the timesteps from `start` on, into `out`."""
    dlogits = rows(d.dlogits[start:])
    np.matmul(rows(s.h[start:]).T, dlogits, out=out.Wy)
    dlogits.sum(0, out=out.by)


def gradients_from(record: BatchRecord, start: int) -> Parameters:
    """The gradients as they stand when the backward pass has done the timesteps from `start` on.

    One product over those timesteps; from 0 on it is, to the bit, the gradient that the update uses (without what carry
    `notebook` adds from earlier batches). The timesteps' own shares add up to it to about 5e-7 relative in float32.
    """
    assert record.deltas is not None
    out = record.parameters.like(np.zeros_like(record.parameters.flat))
    if start < len(record.activations.timesteps):
        recurrent_gradients(record.activations, record.deltas, out, start)
        output_gradients(record.activations, record.deltas, out, start)
    return out
