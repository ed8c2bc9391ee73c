"""A GRU from a file, run on numbers, or with its head on a text or token ids."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from tui_gru.engine.arguments import FilePath
from tui_gru.engine.config import Config
from tui_gru.engine.data.given import Given
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.running.weights import Weights
from tui_gru.equations.errors import did_you_mean
from tui_gru.interop.errors import ModelFileError, printable
from tui_gru.interop.found import ORDERS, FoundGRU
from tui_gru.interop.inspection import inspect
from tui_gru.interop.opening.characters import character_run, matrix, tensors_of
from tui_gru.interop.opening.numbers import LayerInputs, array_of
from tui_gru.interop.opening.proof import prove
from tui_gru.interop.opening.running import given_run
from tui_gru.interop.opening.vocabulary import in_order, read_vocabulary
from tui_gru.interop.tensors import AnyArray

#: The convention of a file as the user gives it: order, reset, z and gate. Of what is None or missing, the file decides, or the
#: proof by its output.
ConventionOptions = Mapping[str, Any]


def on_numbers(path: FilePath, name: str | None, convention: ConventionOptions, given: Mapping[str, Any]) -> tuple[Given, str]:
    """Return a run of the GRU called `name` on `given` (inputs, h0, lengths, expect, embedding), and the first message, "" if there
    is none.

    Raises `ModelFileError` if the file cannot be read or the arrays do not fit.
    """
    expect = given.get("expect")
    try:
        every = inspect(path, **convention)
    except ModelFileError:
        if expect is None or convention.get("order") is not None:
            raise
        every = inspect(path, **{**convention, "order": ORDERS[0]})  # the expected output proves the order later
    found = chosen(every, path, name)
    if given.get("embedding") is not None:
        given = {**given, "embedding": _table(path, given["embedding"])}
    numbers = LayerInputs.of(found, **given)
    remark = found.warning
    if numbers.y is not None and not any(convention.values()):
        found, remark = _proved(found, numbers)
    elif given.get("inputs") is None:
        remark = remark or f"the inputs are {numbers.source}"
    run = given_run(found, numbers, Path(os.path.expanduser(path)))
    return run, "; ".join(filter(None, (remark, _not_finite(run.batches[0].weights))))


def _not_finite(weights: Weights) -> str:
    """Return a message about the first matrix with NaN or infinities; "" if there is none."""
    for name, array in weights.items():
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            where, count = ",".join(map(str, bad[0])), "1 entry that is" if len(bad) == 1 else f"{len(bad):,} entries that are"
            return f"{name} of the file has {count} not finite, the first at [{where}]"
    return ""


def _proved(found: FoundGRU, numbers: LayerInputs) -> tuple[FoundGRU, str]:
    """Return the GRU in the reading that gives the expected output, and a message or "". If no reading or several fit, the file
    decides."""
    try:
        proof = prove(found, numbers)
    except ModelFileError as error:
        return found, f"the convention could not be proved: {error}"
    return proof.found, proof.message if not proof.settled or proof.found.convention != found.convention else ""


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
    found = chosen(inspect(path, **convention), path, name)
    table = None if reads.embedding is None else _table(path, reads.embedding)
    head = matrix(tensors_of(path), reads.head, "head") if isinstance(reads.head, str) else (array_of(reads.head, "head"), None)
    vocabulary = reads.vocabulary if reads.tokens is None else read_vocabulary(reads.tokens)
    if vocabulary is not None and not isinstance(vocabulary, str):
        vocabulary = in_order(vocabulary)
    text = reads.text if reads.text is not None else _ids(reads.ids)
    config, weights = character_run(found, head, table, text, vocabulary, options)
    assumed = ""
    if vocabulary is None and reads.text is not None:
        listed = printable("".join(config.vocabulary), 40)
        assumed = f"the vocabulary is assumed to be the characters of the text, in the order of their code points: {listed}"
    unbiased = " and ".join(filter(None, ("the GRU" * (found.biases == "none"), "the head" * (head[1] is None))))
    added = unbiased and f"in the file there are no biases of {unbiased}; here they begin at 0, and training changes them"
    return config, weights, "; ".join(filter(None, (found.warning, assumed, added, _not_finite(weights))))


def _table(path: FilePath, embedding: Any) -> AnyArray:
    """Return the table of an embedding: a tensor of the file by name, an array, or one in a .npy file."""
    by_name = isinstance(embedding, str) and not embedding.endswith(".npy")
    return matrix(tensors_of(path), embedding, "embedding")[0] if by_name else array_of(embedding, "embedding")


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


def chosen(found: Sequence[FoundGRU], path: str | PathLike[str], name: str | None) -> FoundGRU:
    """Return the GRU of this name, by default the only one. Raises a `ModelFileError` that lists the names."""
    names = [gru.name for gru in found]
    if name is None and len(found) == 1:
        return found[0]
    if name is None:
        listed = ", ".join(names[:_SHOWN]) + (f" … {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        raise ModelFileError(f"{printable(path, 250)}: there are {len(names)} GRUs in it; name one of {listed}", option="name")
    if name not in names:
        near = did_you_mean(str(name), names)
        raise ModelFileError(f"{printable(path, 250)}: there is no GRU {name!r} in it; {near}", option="name")
    return found[names.index(name)]
