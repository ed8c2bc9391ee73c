"""Reversal of torch's weight_norm: the weight is computed from its direction v and length g."""

from __future__ import annotations

import re
from functools import partial

import numpy as np

from tui_gru.interop.tensors import AnyArray, Tensor, Tensors

#: The name of a weight's g in torch.nn.utils.parametrizations; v has 1 in the place of 0. The older names end with _g and _v.
PARAMETRIZED = re.compile(r"(?s)(.*?)parametrizations\.(.+)\.original0")
#: Other parametrizations (spectral_norm, orthogonal) store one original, which is not the weight itself.
OTHER = re.compile(r"(?s)(?:(.*?)parametrizations\.(.+)\.original|(.*)_orig)")


def composed(tensors: Tensors) -> dict[str, Tensor]:
    """Return, by name, the weights for which `tensors` has g and v."""
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
    """Return the names of the weights for which `tensors` has only an original of another parametrization."""
    matches = [match for name in tensors if (match := OTHER.fullmatch(name))]
    return [match[3] if match[3] is not None else match[1] + match[2] for match in matches]


def _fit(g: Tensor, v: Tensor) -> bool:
    """Return True if g has one entry for every slice of v along one axis, or one entry for all of v."""
    return not g.shape or (len(g.shape) == len(v.shape) and all(a in (1, b) for a, b in zip(g.shape, v.shape, strict=True)))


def _compose(length: Tensor, direction: Tensor) -> AnyArray:
    g, v = length.read(), direction.read()
    axes = tuple(axis for axis in range(v.ndim) if g.ndim == 0 or g.shape[axis] == 1)
    return np.asarray(v * (g / np.sqrt(np.square(v).sum(axis=axes, keepdims=True, dtype=v.dtype))))
