"""Reading of tensors in a file by name, for the head and the embedding of a GRU."""

from __future__ import annotations

import os
from collections.abc import Mapping
from os import PathLike
from pathlib import Path

from tui_gru.equations.errors import did_you_mean
from tui_gru.interop.containers import safetensors
from tui_gru.interop.containers.opened import open_file
from tui_gru.interop.errors import ModelFileError, printable
from tui_gru.interop.formats import npz, torch_checkpoint
from tui_gru.interop.tensors import Array, Tensor

#: For the ending of a matrix's name, the ending of its bias's name.
_BIASES = {"weight": "bias", "kernel": "bias", "_w": "_b"}


def tensors_of(path: str | PathLike[str]) -> Mapping[str, Tensor]:
    """Return every tensor in a torch checkpoint, a safetensors or an npz file. Raises `ModelFileError`."""
    file = open_file(Path(os.path.expanduser(path)))
    if torch_checkpoint.fits(file):
        return torch_checkpoint.tensors(file)[0]
    if npz.fits(file):
        return npz.tensors(file)
    if safetensors.fits(file):
        return safetensors.tensors(file)
    raise ModelFileError(f"{printable(path, 1000)}: tensors can be named in torch, safetensors and npz files only; give arrays")


def matrix(tensors: Mapping[str, Tensor], name: str, option: str) -> tuple[Array, Array | None]:
    """Return the matrix called `name` or `name.weight`, and its bias, None if there is none. Raises `ModelFileError`."""
    found = next((known for known in (name, f"{name}.weight") if known in tensors), None)
    if found is None:
        raise ModelFileError(f"there is no tensor {name!r} in the file; {did_you_mean(name, tuple(tensors))}", option=option)
    weight = tensors[found].read()
    if weight.ndim != 2:
        raise ModelFileError(f"{printable(found)} has the shape {weight.shape}, and a matrix is needed", option=option)
    bias = next((tensors.get(found.removesuffix(own) + its) for own, its in _BIASES.items() if found.endswith(own)), None)
    return weight, None if bias is None else bias.read()
