"""Initial weights, drawn as in the tutorial or as in PyTorch's modules."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tui_gru.engine.config import FROM_FILE, Config
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.model import shipped
from tui_gru.engine.running.weights import Array, Weights

#: Draws stored in the package, so that the tutorial starts without torch: V 4, H 2, seed 1.
_SHIPPED_SEED, _SHIPPED_SHAPES = 1, [(4, 2)] * 3 + [(2, 2)] * 3 + [(2, 4)]
_DRAWN_24_BITS, _DRAWN_53_BITS = 2.0**-24, 2.0**-53
_BLOCK = 16  # numbers that PyTorch draws together; a matrix with fewer is drawn one by one


def initial_weights(config: Config) -> Weights:
    """Return the initial weights of a config. With `init` tutorial this imports torch (about a second), unless sizes and seed are
    the tutorial's, or torch is not installed."""
    if config.given is not None:
        return config.given.batches[0].weights
    if config.init == FROM_FILE:
        raise TuiGruError(f"init {FROM_FILE} needs a model file: tui_gru.load(path, head=…, text=…)", option="init")
    weights = Weights.zeros(config.compiled.layout, config.dtype)
    if config.init == "torch":
        _as_torch_modules(config, weights)
    elif config.seed == _SHIPPED_SEED and [weights[name].shape for name in drawn_names(weights)] == _SHIPPED_SHAPES:
        at = 0
        data = np.frombuffer(Path(__file__).with_name("tutorial_weights.bin").read_bytes(), "<f4")
        for name in drawn_names(weights):
            weights[name][...] = data[at : at + weights[name].size].reshape(weights[name].shape)
            at += weights[name].size
    else:
        _standard_normal(config, weights)
    return weights


def drawn_names(weights: Weights) -> tuple[str, ...]:
    """Return the parameters that `init` tutorial draws: all matrices, in the order of the equations. Biases are zero."""
    return tuple(name for name, array in weights.items() if array.ndim == 2)


def is_drawn(config: Config, name: str) -> bool:
    """Return True if the initial value of a parameter is drawn at random."""
    return config.init == "torch" or len(config.model.axes[name]) == 2


def _standard_normal(config: Config, weights: Weights) -> None:
    """Draw as in the tutorial: `torch.manual_seed(seed)` and one `torch.randn` per matrix.

    Without torch, the same uniform numbers go through the same formulas. The last bits can differ, as they do in torch itself
    between processors.
    """
    from tui_gru.engine.reference.torch_loading import is_installed  # imported late: the tutorial's own weights need no draw

    if not is_installed():
        twister, spare = np.random.RandomState(config.seed % 2**32), list[float]()
        for name in drawn_names(weights):
            weights[name][...] = _normal(twister, weights[name].size, spare).reshape(weights[name].shape)
        return
    import torch

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(config.seed)
    for name in drawn_names(weights):
        weights[name][...] = torch.randn(*weights[name].shape, generator=generator).numpy()


def _normal(generator: np.random.RandomState, count: int, spare: list[float]) -> Array:
    """Return (count) standard normal float32 numbers, by the method of Box and Muller in the order in which torch applies it.

    Fewer than a block are drawn in pairs, one from two uniform numbers of 53 bits each; the second of a pair waits in `spare` for
    the next draw. Otherwise the first half of each block has the cosines and the second half the sines, and an incomplete last
    block is replaced by a new one that overlaps the block before.
    """
    if count < _BLOCK:
        while len(spare) < count:
            high, low = np.frombuffer(generator.bytes(16), "<u4").astype(np.uint64).reshape(2, 2).T
            angle, radius = ((high << np.uint64(32) | low) & np.uint64(2**53 - 1)) * _DRAWN_53_BITS
            spare += map(float, _circle(1 - radius, angle))
        drawn, spare[:] = spare[:count], spare[count:]
        return np.array(drawn, np.float32)
    found = np.empty(count, np.float32)
    whole = count - count % _BLOCK
    found[:whole] = _blocks(_uniform(generator, count)[:whole])
    if whole < count:
        found[-_BLOCK:] = _blocks(_uniform(generator, _BLOCK))
    return found


def _blocks(uniform: Array) -> Array:
    radius, angle = uniform.reshape(-1, 2, _BLOCK // 2).swapaxes(0, 1)
    return np.stack(_circle(1 - radius, angle), axis=1).ravel()


def _circle(radius: Array, angle: Array) -> tuple[Array, Array]:
    """Return two independent normal numbers for two uniform ones."""
    radius, angle = np.sqrt(-2 * np.log(radius)), 2 * np.pi * angle
    return radius * np.cos(angle), radius * np.sin(angle)


def _as_torch_modules(config: Config, weights: Weights) -> None:
    """Draw uniformly within ±1/√n, where n is H for the cell (torch.nn.GRU) and the number of inputs for the head
    (torch.nn.Linear); an embedding is standard normal (torch.nn.Embedding).

    The uniform numbers equal those of torch's generator, which is not imported.
    """
    generator = np.random.RandomState(config.seed % 2**32)
    head = shipped("head", config.structure.head).parameters
    table = shipped("input", config.structure.input).parameters
    rows = next((weights[name].shape[0] for name in head if weights[name].ndim == 2), config.hidden_size)
    for name, array in weights.items():
        if name in table:
            array[...] = generator.standard_normal(array.shape)
        else:
            bound = (rows if name in head else config.hidden_size) ** -0.5
            array[...] = (2 * _uniform(generator, array.size).reshape(array.shape) - 1) * bound


def _uniform(generator: np.random.RandomState, count: int) -> Array:
    """Return numbers in [0, 1) with 24 bits each, as torch draws them from the same Mersenne Twister."""
    words = np.frombuffer(generator.bytes(4 * count), "<u4")
    return (words & np.uint32(2**24 - 1)).astype(np.float64) * _DRAWN_24_BITS
