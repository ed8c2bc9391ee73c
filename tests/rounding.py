"""How far rounding alone takes two computations apart. The bounds of tests follow from the arithmetic, not from a processor.

A number of a network is a sum of products, computed from numbers of the step before it and of the layer below. Each rounding
changes it by at most half an ε of the sizes that are summed up. Which sums a processor takes together, and in which order, decides
the signs, so the errors add up like random ones, to the root of their count.
"""

import numpy as np


def rounding(dtype="float32", *, summands, steps=1, size=1.0):
    """Return the largest difference between two computations in `dtype`, or of one in `dtype` from the exact result.

    `summands` numbers whose sizes sum up to `size` are added in each of `steps` steps, which are timesteps times layers.
    """
    return float(np.finfo(dtype).eps / 2 * size * np.sqrt(summands * steps))


def _largest_sum(weights, largest):
    """Return the largest sum of sizes in a gate. `weights` are those of its inputs, of its states, and biases, units first."""
    W, U, *biases = (np.abs(value) for value in weights)
    return float((W.sum(axis=1) * largest[0] + U.sum(axis=1) * largest[1] + sum(biases)).max())


def of_found(found, x, h0=None):
    """Return the bound for the outputs of a GRU in a file, run on x (T, B, I) from h0."""
    weights = found.weights()
    state = max(1.0, *(np.abs(h).max(initial=0.0) for h in (h0, weights.h0) if h is not None), 0.0)
    sizes = []
    for layer, cells in enumerate(weights.cells):
        reads = np.abs(x).max(initial=0.0) if layer == 0 else state
        for cell in cells:
            letters = found.cell_kind.letters
            names = ((f"W{letter}", f"U{letter}", f"b{letter}", f"bh{gate}") for gate, letter in letters.items())
            by_gate = [[cell[name] for name in own if name in cell] for own in names]
            sizes += [_largest_sum([value.T for value in gate], (reads, state)) for gate in by_gate]
    summands = found.input_size + found.hidden_size + 2
    return rounding(summands=summands, steps=len(x) * found.layers, size=max(1.0, *sizes) * state)


def of_call(call):
    """Return the bound for the outputs of a captured call, and for its gradients relative to the largest.

    A gradient goes back through the same steps, and that of a weight sums over all timesteps and rows.
    """
    module, values = call.module, call.weights.values
    reads, state = np.abs(call.x).max(initial=0.0), max(1.0, np.abs(call.h0).max(initial=0.0))
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    sizes = [
        _largest_sum([values[name + suffix] for name in names if name + suffix in values], (max(reads, state), state))
        for suffix in module.suffixes
        if module.equations is None
    ]
    if module.equations is not None:  # at most all of them in one sum
        largest = [np.abs(value).reshape(-1, value.shape[-1]).sum(axis=0).max() for value in values.values()]
        sizes = [max(reads, state) * float(sum(largest))]
    if call.head is not None:
        sizes.append(float(np.abs(call.head.weight).sum(axis=1).max()) * state)
    dtype = call.dtype if call.dtype in ("float32", "float64") else "float32"
    summands = module.input_size + module.hidden_size + 2 + call.timesteps * call.rows
    return rounding(dtype, summands=summands, steps=2 * call.timesteps * module.layers, size=max(1.0, *sizes))


def of_step(step):
    """Return the bound for all calls of a captured step, or of the same step of all ranks; a loop over a cell is one sequence."""
    steps = step if isinstance(step, (list, tuple)) else [step]
    calls = [call for each in steps for call in each.calls]
    return max(map(of_call, calls)) * np.sqrt(max(len(calls), 1))


def of_session(session):
    """Return the bound for the current batch of a session: for its values, and for its gradients relative to the largest."""
    config, names = session.config, session.parameter_names
    matrices = [np.abs(session.parameter(name)) for name in names if session.parameter(name).ndim == 2]
    biases = [np.abs(session.parameter(name)).max() for name in names if session.parameter(name).ndim == 1]
    read = [np.abs(x).max() for name in ("x", "h_prev") if name in session.program.names and (x := session.value(name)) is not None]
    *_, second, first = sorted(matrix.sum(axis=0).max() for matrix in matrices)
    *_, less, most = sorted(len(matrix) for matrix in matrices)
    dtype, T = config.dtype, config.seq_length
    summands, size = most + less + 2 + T * config.batch_size, (first + second) * max(1.0, *read, 0.0) + 2 * max(biases, default=0.0)
    return rounding(dtype, summands=summands, steps=2 * T * config.layers, size=float(max(1.0, size)))
