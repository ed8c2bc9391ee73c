"""Runs layers found in a file on an input, in float64, for comparison with its framework."""

import numpy as np

from tui_gru.files.kinds import cell_step
from tui_gru.imported.convention import Proof
from tui_gru.imported.convention import prove as prove_numbers
from tui_gru.imported.numbers import LayerInputs


def run(found, x, h0=None, lengths=None):
    """Run x (T, B, I), and return y (T, B, H · directions). h0 is (layers · directions, B, H), of an LSTM (2, …), h and c; y is 0
    after the end of a row."""
    weights = found.weights()
    T, B = x.shape[:2]
    D = len(found.directions)
    h0 = weights.h0 if h0 is None else h0
    count = len(found.cell_kind.states)
    states = np.zeros((count, found.layers * D, B, found.hidden_size)) if h0 is None else np.asarray(h0, np.float64)
    states = states.reshape(count, found.layers * D, B, found.hidden_size)
    lengths = weights.lengths if lengths is None else lengths
    live = np.arange(T)[:, None] < (np.full(B, T) if lengths is None else np.asarray(lengths))
    x = x.astype(np.float64)
    for layer, cells in enumerate(weights.cells):
        outs = []
        for d, (cell, direction) in enumerate(zip(cells, found.directions, strict=True)):
            own, y = tuple(states[:, layer * D + d]), np.zeros((T, B, found.hidden_size))
            for t in range(T) if direction == "forward" else range(T)[::-1]:
                new = cell_step(x[t], own, cell, found.convention)
                own = tuple(np.where(live[t, :, None], *pair) for pair in zip(new, own, strict=True))
                y[t] = np.where(live[t, :, None], own[0], 0)
            outs.append(y)
        x = np.concatenate(outs, axis=2)
    return x


def prove(found, x, y, h0=None, lengths=None) -> Proof:
    """Prove the convention of a GRU by an input and its output."""
    return prove_numbers(found, LayerInputs.of(found, inputs=x, expect=y, h0=h0, lengths=lengths))


def named(found, name):
    """Return the GRU of that name."""
    (gru,) = (gru for gru in found if gru.name == name)
    return gru
