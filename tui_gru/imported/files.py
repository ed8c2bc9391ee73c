"""Runs on the recurrent layers of a model file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from tui_gru import arguments, errors
from tui_gru.engine.config import Config
from tui_gru.engine.data import weights_for
from tui_gru.engine.source import Imported
from tui_gru.engine.weights import Weights
from tui_gru.equations.syntax import did_you_mean
from tui_gru.errors import ModelFileError, TuiGruError, printable
from tui_gru.files import tensors as npz
from tui_gru.files import tensors as safetensors
from tui_gru.files import torch as torch_checkpoint
from tui_gru.files.arrays import AnyArray, FoundGRU, OpenedFile, Tensor, open_file
from tui_gru.files.kinds import KINDS
from tui_gru.files.tensors import array_of
from tui_gru.imported.convention import prove
from tui_gru.imported.inspect import inspect, is_tar, unpacked
from tui_gru.imported.numbers import LayerInputs, file_run, in_order, read_vocabulary, values_of
from tui_gru.imported.recompute import cell_in
from tui_gru.paths import FilePath

# ------------------------------------------------------------------------------
# Recurrent layers from a file with their head and a text, as a normal run that begins with the weights of the file.


def character_run(
    layers: FoundGRU,
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
    if layers.directions == ("reverse",):
        raise ModelFileError(f"{layers.name} reads backwards only, so it cannot predict; remove the head", option="head")
    weight, bias = _head(head, len(layers.directions) * layers.hidden_size)
    tokens = _tokens(layers, weight.shape[1], table, text, vocabulary)
    cell, cell_text = cell_in(layers.convention)
    of_the_file: dict[str, Any] = {
        "hidden_size": layers.hidden_size,
        "layers": layers.layers,
        "bidirectional": layers.bidirectional,
        "embedding": 0 if table is None else layers.input_size,
        "cell": cell,
        "cell_text": cell_text,
        "init": "file",
        "dtype": "float64" if layers.dtype == "float64" else "float32",
    }
    if other := next((option for option in options if option in of_the_file), None):
        raise TuiGruError(f"{other} is given by the file; remove the option", option=other)
    config = Config.of(text=text if isinstance(text, str) else _named(text, tokens), vocabulary=tokens, **of_the_file, **options)
    values = {**values_of(layers, table), "Wy": weight, "by": bias}
    with np.errstate(all="ignore"):
        return config, weights_for(config.structure, config.sizes, config.dtype, values)


def _tokens(
    layers: FoundGRU, classes: int, table: AnyArray | None, text: str | AnyArray, vocabulary: str | Sequence[str] | None
) -> str | Sequence[str]:
    """Return the vocabulary of the model. Raises `TuiGruError` if it, the embedding and the head do not fit each other."""
    read = layers.input_size if table is None else len(table)
    if table is not None and table.shape[1] != layers.input_size:
        raise ModelFileError(
            f"the embedding has the shape {table.shape}; {layers.name} reads {layers.input_size} numbers", option="embedding"
        )
    if read != classes:
        cure = "name its table with embedding" if table is None else "they belong to other models"
        raise ModelFileError(f"{layers.name} reads {read} different tokens, and its head predicts {classes}; {cure}", option="head")
    tokens = vocabulary
    if tokens is None:
        tokens = sorted(set(text)) if isinstance(text, str) else [str(i) for i in range(classes)]
    if len(tokens) != classes:
        noun = "characters" if isinstance(tokens, str) or all(len(token) == 1 for token in tokens) else "tokens"
        raise TuiGruError(
            f"the vocabulary has {len(tokens)} {noun}, and the model {classes}; give those it was trained on, in its order",
            option="vocabulary",
        )
    return tokens


def _named(ids: AnyArray, tokens: Sequence[str]) -> list[str]:
    if ids.min() < 0 or ids.max() >= len(tokens):
        raise ModelFileError(
            f"the token ids go from {ids.min()} to {ids.max()}, and the model has 0 to {len(tokens) - 1}", option="inputs"
        )
    return [tokens[i] for i in ids.tolist()]


def _head(head: tuple[AnyArray, AnyArray | None], width: int) -> tuple[AnyArray, AnyArray]:
    """Return the matrix (directions · H, V) and the bias (V) of the head; the bias is zero if there is none."""
    weight, bias = head
    if weight.ndim != 2 or width not in weight.shape:
        raise ModelFileError(f"the head has the shape {weight.shape}, but the layers below output {width} numbers", option="head")
    weight = weight.T if weight.shape[1] == width else weight  # torch has (V, H)
    bias = np.zeros(weight.shape[1]) if bias is None else bias
    if bias.shape != (weight.shape[1],):
        raise ModelFileError(f"the bias of the head has the shape {bias.shape}, and its matrix {weight.shape}", option="head")
    return weight, bias


#: For the ending of a matrix's name, the ending of its bias's name.
_BIASES = {"weight": "bias", "kernel": "bias", "_w": "_b"}


def tensors_of(path: str | PathLike[str]) -> Mapping[str, Tensor]:
    """Return every tensor in a torch checkpoint, a safetensors or an npz file. Raises `ModelFileError`."""
    return _tensors_in(open_file(Path(os.path.expanduser(path))), path)


def _tensors_in(file: OpenedFile, path: str | PathLike[str]) -> Mapping[str, Tensor]:
    if is_tar(file):
        tensors = dict[str, Tensor]()
        for part in unpacked(file).values():
            with suppress(ModelFileError):
                tensors |= _tensors_in(part, path)
        return tensors
    if torch_checkpoint.is_torch_checkpoint(file):
        return torch_checkpoint.tensors(file)[0]
    if npz.is_npz(file):
        return npz.npz_tensors(file)
    if safetensors.is_safetensors(file):
        return safetensors.safetensors_tensors(file)
    raise ModelFileError(f"{printable(path, 250)}: tensors can be named in torch, safetensors and npz files only; give arrays")


def read_matrix(tensors: Mapping[str, Tensor], name: str, option: str) -> tuple[AnyArray, AnyArray | None]:
    """Return the matrix called `name` or `name.weight`, and its bias, None if there is none. Raises `ModelFileError`."""
    tensor_name = next((key for key in (name, f"{name}.weight") if key in tensors), None)
    if tensor_name is None:
        raise ModelFileError(f"there is no tensor {name!r} in the file; {did_you_mean(name, tuple(tensors))}", option=option)
    weight = tensors[tensor_name].read()
    if weight.ndim != 2:
        raise ModelFileError(f"{printable(tensor_name)} has the shape {weight.shape}, and a matrix is needed", option=option)
    bias = next(
        (
            tensors.get(tensor_name.removesuffix(weights) + biases)
            for weights, biases in _BIASES.items()
            if tensor_name.endswith(weights)
        ),
        None,
    )
    return weight, None if bias is None else bias.read()


# ------------------------------------------------------------------------------
# Recurrent layers from a file, run on numbers, or with their head on a text or token ids.


#: The convention of a file as the user gives it: order, reset, z and gate. Of what is None or missing, the file decides, or the
#: proof by its output.
ConventionOptions = Mapping[str, Any]


def on_numbers(path: FilePath, name: str | None, convention: ConventionOptions, arrays: Mapping[str, Any]) -> tuple[Imported, str]:
    """Return a run of the layers called `name` on `arrays` (inputs, h0, lengths, expect, embedding, batch_first), and the first
    message, "" if there is none.

    Raises `ModelFileError` if the file cannot be read or the arrays do not fit.
    """
    expect = arrays.get("expect")
    try:
        candidates = inspect(path, **convention)
    except ModelFileError:
        if expect is None or convention.get("order") is not None:
            raise
        candidates = _without_order(path, convention)
    layers = chosen(candidates, path, name)
    if arrays.get("embedding") is not None:
        arrays = {**arrays, "embedding": _table(path, arrays["embedding"])}
    numbers = LayerInputs.of(layers, **arrays)
    remark = layers.warning
    options = {option: value for option, value in convention.items() if value is not None}
    if numbers.y is not None and any(
        len(values) > 1 and option not in options for option, values in layers.cell_kind.options.items()
    ):
        layers, remark = _proved(layers, numbers, options)
    elif arrays.get("inputs") is None:
        remark = remark or f"the inputs are {numbers.source}"
    if arrays.get("inputs") is not None:
        remark = "; ".join(filter(None, (remark, f"the inputs are read as {numbers.read_as()}")))
    run = file_run(layers, numbers, Path(os.path.expanduser(path)))
    return run, "; ".join(filter(None, (remark, _not_finite(run.batches[0].weights))))


def run_with_expected(
    path: FilePath, name: str | None, convention: ConventionOptions, numbers: Mapping[str, Any]
) -> tuple[Imported, str]:
    """Return a run of the layers called `name` as the file and `convention` say, with an expected output; and the convention that
    gives this output in words, "" if that is none or the same.

    `numbers` has inputs, expect, h0, lengths. Raises `ModelFileError` if the file cannot be read or the arrays do not fit.
    """
    layers = chosen(inspect(path, **convention), path, name)
    arrays = LayerInputs.of(layers, **numbers)
    proof = prove(layers, arrays)
    other = proof.decided and proof.layers.convention != layers.convention
    words = f"the convention that fits: {proof.message}" if other else ""
    return file_run(layers, arrays, Path(os.path.expanduser(path))), words


def _without_order(path: FilePath, convention: ConventionOptions) -> list[FoundGRU]:
    """Return the layers of a file whose names do not say the order of the gates, in any order; the expected output proves it later.

    Raises `ModelFileError` if there is none.
    """
    *others, last = KINDS["gru"], KINDS["lstm"]
    for kind in others:
        with suppress(ModelFileError):
            return inspect(path, **{**convention, "order": kind.gates})
    return inspect(path, **{**convention, "order": last.gates})


def _not_finite(weights: Weights) -> str:
    """Return a message about the first matrix with NaN or infinities; "" if there is none."""
    for name, array in weights.items():
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            where, count = ",".join(map(str, bad[0])), "1 entry that is" if len(bad) == 1 else f"{len(bad):,} entries that are"
            return f"{name} of the file has {count} not finite, the first at [{where}]"
    return ""


def _proved(layers: FoundGRU, numbers: LayerInputs, options: Mapping[str, str]) -> tuple[FoundGRU, str]:
    """Return the layers in the reading that gives the expected output, of those that have the `options`, and a message or "".
    If no reading or several fit, the file and the options decide."""
    try:
        proof = prove(layers, numbers, options)
    except ModelFileError as error:
        return layers, f"the convention could not be proved: {error}"
    changed = proof.layers.convention != layers.convention
    return proof.layers, proof.message if changed or not (proof.decided or options) else ""


@dataclass(frozen=True)
class Reads:
    """The head of a model, and the text to predict: `text`, or `ids` (N), whole numbers.

    `vocabulary` has its characters, or its tokens, which may be longer, or is a mapping from each to its index; `tokens` is a file
    of them. Raises `TuiGruError` if the head or the text is missing, or two exclude each other.
    """

    head: Any
    embedding: Any = None
    text: str | None = None
    ids: Any = None
    vocabulary: Any = None
    tokens: FilePath | None = None

    def __post_init__(self) -> None:
        if self.text is not None:
            arguments.string("the text", self.text, option="text")
        if self.head is None or (self.text is None and self.ids is None):
            missing = "head" if self.head is None else "text"
            raise TuiGruError("predictions need a head of the file, and a text, or token ids as inputs", option=missing)
        for one, other in (("text", "ids"), ("vocabulary", "tokens")):
            if getattr(self, one) is not None and getattr(self, other) is not None:
                option = {"ids": "inputs"}.get(other, other)
                raise TuiGruError(f"{option} and {one} are both given; keep one of them", option=option)


def on_text(
    path: FilePath, name: str | None, convention: ConventionOptions, reads: Reads, options: dict[str, Any]
) -> tuple[Config, Weights, str]:
    """Return the config of a run on a text or on token ids, the initial weights, and the first message, "" if there is none.

    Raises `TuiGruError` if the file cannot be read or the parts do not fit.
    """
    layers = chosen(inspect(path, **convention), path, name)
    table = None if reads.embedding is None else _table(path, reads.embedding)
    head = (
        read_matrix(tensors_of(path), reads.head, "head") if isinstance(reads.head, str) else (array_of(reads.head, "head"), None)
    )
    vocabulary = reads.vocabulary if reads.tokens is None else read_vocabulary(reads.tokens)
    if vocabulary is not None and not isinstance(vocabulary, str):
        vocabulary = in_order(vocabulary)
    text = reads.text if reads.text is not None else _ids(reads.ids)
    config, weights = character_run(layers, head, table, text, vocabulary, options)
    assumed = ""
    if vocabulary is None and reads.text is not None:
        listed = printable("".join(config.vocabulary), 40)
        assumed = f"the vocabulary is assumed to be the characters of the text, in the order of their code points: {listed}"
    unbiased = " and ".join(
        filter(None, (f"the {layers.kind.upper()}" * (layers.biases == "none"), "the head" * (head[1] is None)))
    )
    added = unbiased and f"in the file there are no biases of {unbiased}; here they begin at 0, and training changes them"
    return config, weights, "; ".join(filter(None, (layers.warning, assumed, added, _not_finite(weights))))


def _table(path: FilePath, embedding: Any) -> AnyArray:
    """Return the table of an embedding: a tensor of the file by name, an array, or one in a .npy file."""
    by_name = isinstance(embedding, str) and not embedding.endswith(".npy")
    return read_matrix(tensors_of(path), embedding, "embedding")[0] if by_name else array_of(embedding, "embedding")


def _ids(value: Any) -> AnyArray:
    ids = array_of(value, "inputs")
    ids = ids[:, 0] if ids.ndim == 2 and ids.shape[1] == 1 else ids
    if ids.ndim != 1 or ids.dtype.kind not in "iu" or not ids.size:
        raise ModelFileError(
            f"with a head the inputs are token ids, whole numbers one after the other (N), not {ids.dtype} {ids.shape}",
            option="inputs",
        )
    return ids.astype(np.int64)


_SHOWN = 8


def chosen(candidates: Sequence[FoundGRU], path: str | PathLike[str], name: str | None) -> FoundGRU:
    """Return the layers of this name, by default the only ones. Raises a `ModelFileError` that lists the names."""
    names = [gru.name for gru in candidates]
    if name is None and len(candidates) == 1:
        return candidates[0]
    if name is None:
        listed = ", ".join(names[:_SHOWN]) + (f" … {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        raise ModelFileError(
            f"{printable(path, 250)}: there are {len(names)} {_kinds(candidates)} in it; name one of {listed}", option="name"
        )
    if not isinstance(name, str) or name not in names:
        near = did_you_mean(name if isinstance(name, str) else "", names)
        raise ModelFileError(
            f"{printable(path, 250)}: there is no {_kinds(candidates)[:-1]} {errors.shown(name)} in it; {near}", option="name"
        )
    return candidates[names.index(name)]


def _kinds(candidates: Sequence[FoundGRU]) -> str:
    """Return the kinds of the layers in words: `GRUs`; `layers` for different kinds."""
    kinds = {layers.kind for layers in candidates}
    return f"{kinds.pop().upper()}s" if len(kinds) == 1 else "recurrent layers"
