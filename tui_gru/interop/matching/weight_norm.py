"""Undoes torch's weight_norm: computes the weight from its direction v and length g, in both spellings."""

from __future__ import annotations

import re
from functools import partial

import numpy as np

from tui_gru.interop.tensors import Array, Tensor, Tensors

#: How the two are named: (g, v) by the name of the weight. The first is torch.nn.utils.parametrizations', the second the older.
PARAMETRIZED = re.compile(r"(?s)(.*?)parametrizations\.(.+)\.original0")
#: Other parametrizations (spectral_norm, orthogonal) keep one original, which is not the weight.
OTHER = re.compile(r"(?s)(?:(.*?)parametrizations\.(.+)\.original|(.*)_orig)")


def composed(tensors: Tensors) -> dict[str, Tensor]:
    """The weights that `tensors` holds as g and v, by name."""
    found = {}
    for name, g in tensors.items():
        if match := PARAMETRIZED.fullmatch(name):
            weight, v = match[1] + match[2], tensors.get(name[:-1] + "1")
        elif name.endswith("_g"):
            weight, v = name[:-2], tensors.get(name[:-1] + "v")
        else:
            continue
        if v is not None and weight not in tensors and _fit(g, v):
            found[weight] = Tensor(v.shape, v.dtype, partial(_compose, g, v))
    return found


def otherwise_parametrized(tensors: Tensors) -> list[str]:
    """The weights of which `tensors` holds only an original that something else has to be done to."""
    matches = [match for name in tensors if (match := OTHER.fullmatch(name))]
    return [match[3] if match[3] is not None else match[1] + match[2] for match in matches]


def _fit(g: Tensor, v: Tensor) -> bool:
    """g has one entry for every slice of v along one axis, or one for all of v."""
    return not g.shape or (len(g.shape) == len(v.shape) and all(a in (1, b) for a, b in zip(g.shape, v.shape, strict=True)))


def _compose(length: Tensor, direction: Tensor) -> Array:
    g, v = length.read(), direction.read()
    axes = tuple(axis for axis in range(v.ndim) if g.ndim == 0 or g.shape[axis] == 1)
    return np.asarray(v * (g / np.sqrt(np.square(v).sum(axis=axes, keepdims=True, dtype=v.dtype))))
