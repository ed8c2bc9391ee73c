"""A GRU from a file with its head and a text, as a normal run that begins with the weights of the file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from tui_gru.engine.config import Config
from tui_gru.engine.data.given import weights_for
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.running.weights import Weights
from tui_gru.equations.errors import did_you_mean
from tui_gru.interop.containers import safetensors
from tui_gru.interop.containers.opened import open_file
from tui_gru.interop.errors import ModelFileError, printable
from tui_gru.interop.formats import npz, torch_checkpoint
from tui_gru.interop.found import FoundGRU
from tui_gru.interop.opening.running import cell_in, values_of
from tui_gru.interop.tensors import AnyArray, Tensor


def character_run(
    found: FoundGRU,
    head: tuple[AnyArray, AnyArray | None],
    table: AnyArray | None,
    text: str | AnyArray,
    vocabulary: str | Sequence[str] | None,
    options: dict[str, Any],
) -> tuple[Config, Weights]:
    """Return the config of a run on `text`, a string or token ids (N), and the initial weights from the file.

    `head` is its matrix, (V, directions · H) or transposed, and its bias (V); `table` is the embedding (V, I), None for one-hot
    characters. `vocabulary` is in the order of the model's indices; without it, the names of the tokens are their ids. Raises
    `TuiGruError` if these do not fit each other or the vocabulary.
    """
    if found.directions == ("reverse",):
        raise ModelFileError(f"{found.name} reads backwards only, so it cannot predict; remove the head", option="head")
    weight, bias = _head(head, len(found.directions) * found.hidden_size)
    known = _tokens(found, weight.shape[1], table, text, vocabulary)
    cell, cell_text = cell_in(found.convention)
    of_the_file: dict[str, Any] = {
        "hidden_size": found.hidden_size,
        "layers": found.layers,
        "bidirectional": found.bidirectional,
        "embedding": 0 if table is None else found.input_size,
        "cell": cell,
        "cell_text": cell_text,
        "init": "file",
        "dtype": "float64" if found.dtype == "float64" else "float32",
    }
    if other := next((option for option in options if option in of_the_file), None):
        raise TuiGruError(f"{other} is given by the file; remove the option", option=other)
    config = Config.of(text=text if isinstance(text, str) else _named(text, known), vocabulary=known, **of_the_file, **options)
    values = {**values_of(found, table), "Wy": weight, "by": bias}
    with np.errstate(all="ignore"):
        return config, weights_for(config.structure, config.sizes, config.dtype, values)


def _tokens(
    found: FoundGRU, classes: int, table: AnyArray | None, text: str | AnyArray, vocabulary: str | Sequence[str] | None
) -> str | Sequence[str]:
    """Return the vocabulary of the model. Raises `TuiGruError` if it, the embedding and the head do not fit each other."""
    read = found.input_size if table is None else len(table)
    if table is not None and table.shape[1] != found.input_size:
        raise ModelFileError(
            f"the embedding has the shape {table.shape}; {found.name} reads {found.input_size} numbers", option="embedding"
        )
    if read != classes:
        cure = "name its table with embedding" if table is None else "they belong to other models"
        raise ModelFileError(f"{found.name} reads {read} different tokens, and its head predicts {classes}; {cure}", option="head")
    known = vocabulary
    if known is None:
        known = sorted(set(text)) if isinstance(text, str) else [str(i) for i in range(classes)]
    if len(known) != classes:
        what = "characters" if isinstance(known, str) or all(len(token) == 1 for token in known) else "tokens"
        raise TuiGruError(
            f"the vocabulary has {len(known)} {what}, and the model {classes}; give those it was trained on, in its order",
            option="vocabulary",
        )
    return known


def _named(ids: AnyArray, known: Sequence[str]) -> list[str]:
    if ids.min() < 0 or ids.max() >= len(known):
        raise ModelFileError(
            f"the token ids go from {ids.min()} to {ids.max()}, and the model has 0 to {len(known) - 1}", option="inputs"
        )
    return [known[i] for i in ids.tolist()]


def _head(head: tuple[AnyArray, AnyArray | None], width: int) -> tuple[AnyArray, AnyArray]:
    """Return the matrix (directions · H, V) and the bias (V) of the head; the bias is zero if there is none."""
    weight, bias = head
    if weight.ndim != 2 or width not in weight.shape:
        raise ModelFileError(f"the head has the shape {weight.shape}, but the GRU outputs {width} numbers", option="head")
    weight = weight.T if weight.shape[1] == width else weight  # torch has (V, H)
    bias = np.zeros(weight.shape[1]) if bias is None else bias
    if bias.shape != (weight.shape[1],):
        raise ModelFileError(f"the bias of the head has the shape {bias.shape}, and its matrix {weight.shape}", option="head")
    return weight, bias


#: For the ending of a matrix's name, the ending of its bias's name.
_BIASES = {"weight": "bias", "kernel": "bias", "_w": "_b"}


def tensors_of(path: str | PathLike[str]) -> Mapping[str, Tensor]:
    """Return every tensor in a torch checkpoint, a safetensors or an npz file. Raises `ModelFileError`."""
    file = open_file(Path(os.path.expanduser(path)))
    if torch_checkpoint.is_torch_checkpoint(file):
        return torch_checkpoint.tensors(file)[0]
    if npz.is_npz(file):
        return npz.npz_tensors(file)
    if safetensors.is_safetensors(file):
        return safetensors.safetensors_tensors(file)
    raise ModelFileError(f"{printable(path, 250)}: tensors can be named in torch, safetensors and npz files only; give arrays")


def matrix(tensors: Mapping[str, Tensor], name: str, option: str) -> tuple[AnyArray, AnyArray | None]:
    """Return the matrix called `name` or `name.weight`, and its bias, None if there is none. Raises `ModelFileError`."""
    found = next((known for known in (name, f"{name}.weight") if known in tensors), None)
    if found is None:
        raise ModelFileError(f"there is no tensor {name!r} in the file; {did_you_mean(name, tuple(tensors))}", option=option)
    weight = tensors[found].read()
    if weight.ndim != 2:
        raise ModelFileError(f"{printable(found)} has the shape {weight.shape}, and a matrix is needed", option=option)
    bias = next((tensors.get(found.removesuffix(own) + its) for own, its in _BIASES.items() if found.endswith(own)), None)
    return weight, None if bias is None else bias.read()
