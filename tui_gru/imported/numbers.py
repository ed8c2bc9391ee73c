"""The inputs of recurrent layers from another program, and the run that computes them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from tui_gru.engine.data import weights_for
from tui_gru.engine.model import Structure
from tui_gru.engine.numbers import counted
from tui_gru.engine.source import Imported, ImportedBatch
from tui_gru.equations.page import LIVE
from tui_gru.errors import ModelFileError, printable, shown
from tui_gru.files.arrays import AnyArray, FoundGRU, precision_of
from tui_gru.files.kinds import canonical
from tui_gru.files.tensors import array_of
from tui_gru.imported.recompute import TOLERANCES, cell_in

# ------------------------------------------------------------------------------
# The inputs of opened layers: inputs, first state, row lengths and expected output, checked against its shape.


#: The size and the seed of the random inputs that are used if none are given.
TIMESTEPS, ROWS, SEED = 8, 2, 0


@dataclass(frozen=True, eq=False)
class LayerInputs:
    """The inputs of recurrent layers: x (T, B, I), or indices (T, B) into `table` (V, I); the first states (layers · directions ·
    states, B, H), h or h and c of each layer and direction; lengths (B), None if all rows have all timesteps; y (T, B, directions ·
    H), the expected output, or None. `source` names the origin of x."""

    x: AnyArray
    states: AnyArray
    lengths: AnyArray | None
    y: AnyArray | None
    table: AnyArray | None
    source: str
    given_h0: bool

    @classmethod
    def of(
        cls,
        layers: FoundGRU,
        *,
        inputs: Any = None,
        h0: Any = None,
        lengths: Any = None,
        expect: Any = None,
        embedding: Any = None,
        batch_first: bool = False,
    ) -> LayerInputs:
        """Check arrays, or paths of .npy files. Missing values come from the model file or are zero; missing inputs are random.

        With `batch_first`, the first axis of inputs and of the expected output counts rows, the second timesteps. Raises a
        `ModelFileError` that names what does not fit, and what would fit.
        """
        table = None if embedding is None else _table(layers, array_of(embedding, "embedding"))
        source = _named(inputs, "your inputs")
        if inputs is None:
            x = _random(layers, h0)
            source, table = f"normal random numbers, seed {SEED}, since no inputs were given", None
        else:
            x = _inputs(layers, _time_first(array_of(inputs, "inputs"), 3 if table is None else 2, batch_first), table)
        T, B = x.shape[:2]
        stored = layers.h0.read() if h0 is None and layers.h0 is not None else None
        state = _first_states(h0) if h0 is not None else stored
        return cls(
            x,
            _states(layers, state, B),
            _lengths(layers, None if lengths is None else array_of(lengths, "lengths"), T, B),
            None if expect is None else _outputs(layers, _time_first(array_of(expect, "expect"), 3, batch_first), T, B),
            table,
            source,
            state is not None,
        )

    def read_as(self) -> str:
        """Return in words how the shape of the inputs was read."""
        axes = f"{counted(len(self.x), 'timestep')} of {counted(self.x.shape[1], 'row')}"
        return f"{axes} of {counted(self.x.shape[2], 'number')}" if self.table is None else f"{axes} of tokens"


def _time_first(array: AnyArray, axes: int, batch_first: bool) -> AnyArray:
    """Return an array with its first axis for timesteps; one with fewer than so many axes has no rows."""
    return array.swapaxes(0, 1) if batch_first and array.ndim == axes else array


def _first_states(h0: Any) -> AnyArray:
    """Return h0, or h0 and c0 of an LSTM as one array, (2, …)."""
    if not isinstance(h0, (tuple, list)) or len(h0) != 2 or np.ndim(h0[0]) < 2:
        return array_of(h0, "h0")
    h, c = (array_of(state, "h0") for state in h0)
    if h.shape != c.shape:
        raise ModelFileError(f"h0 has the shape {h.shape}, and c0 {c.shape}; they are equal in an LSTM", option="h0")
    return np.stack([h, c])


def _named(value: Any, otherwise: str) -> str:
    return Path(value).name if isinstance(value, (str, PathLike)) else otherwise


def _random(layers: FoundGRU, h0: Any) -> AnyArray:
    rows = ROWS
    state = layers.h0 if h0 is None else _first_states(h0)
    if state is not None and len(state.shape) > 1:
        rows = state.shape[-2]
    generator = np.random.default_rng(SEED)
    return generator.standard_normal((TIMESTEPS, rows, layers.input_size)).astype(np.float32)


def _table(layers: FoundGRU, table: AnyArray) -> AnyArray:
    if table.ndim != 2 or not len(table) or table.shape[1] != layers.input_size:
        raise ModelFileError(
            f"the embedding has the shape {table.shape}; {layers.name} reads rows of a table (tokens, {layers.input_size})",
            option="embedding",
        )
    return table


def _inputs(layers: FoundGRU, x: AnyArray, table: AnyArray | None) -> AnyArray:
    size = layers.input_size
    if table is not None:
        x = x[:, None] if x.ndim == 1 else x
        if x.ndim != 2 or not x.size or x.dtype.kind not in "iu":
            raise ModelFileError(
                f"with an embedding the inputs are whole numbers (timesteps, rows), not {_type_and_shape(x)}", option="inputs"
            )
        if x.min() < 0 or x.max() >= len(table):
            raise ModelFileError(
                f"the inputs go from {x.min()} to {x.max()}, and the embedding has the rows 0 to {len(table) - 1}", option="inputs"
            )
        return x.astype(np.intp)
    if x.ndim == 2 and x.dtype.kind in "iu" and x.shape[1] != size:
        raise ModelFileError(
            f"the inputs are whole numbers {x.shape}; give the embedding's table as well, or numbers (timesteps, rows, {size})",
            option="inputs",
        )
    x = x[:, None] if x.ndim == 2 else x
    if x.ndim != 3 or x.shape[2] != size or not x.size:
        swapped = "; the input size comes last" if size in x.shape[:2] else ""
        raise ModelFileError(
            f"the inputs have the shape {x.shape}; {layers.name} reads (timesteps, rows, {size}){swapped}", option="inputs"
        )
    return x


def _states(layers: FoundGRU, h0: AnyArray | None, rows: int) -> AnyArray:
    """Return the first states (layers · directions · states, B, H), those of one layer and direction after each other."""
    shape, count = (layers.layers * len(layers.directions), rows, layers.hidden_size), len(layers.cell_kind.states)
    expected = shape if count == 1 else (count, *shape)
    if h0 is None:
        return np.zeros((count * shape[0], *shape[1:]))
    if h0.ndim == len(expected) - 1 and shape[0] == 1:
        h0 = h0.reshape(*h0.shape[:-2], 1, *h0.shape[-2:])
    if h0.shape != expected:
        both = "" if count == 1 else "h0 and c0, each "
        raise ModelFileError(
            f"h0 has the shape {h0.shape}; {layers.name} starts from {expected}: {both}layers times directions, rows, units",
            option="h0",
        )
    return h0 if count == 1 else h0.swapaxes(0, 1).reshape(-1, *shape[1:])


def _lengths(layers: FoundGRU, lengths: AnyArray | None, timesteps: int, rows: int) -> AnyArray | None:
    if lengths is None and layers.lengths is not None and layers.lengths.shape == (rows,):
        lengths = layers.lengths.read()
    if lengths is None:
        return None
    fit = lengths.shape == (rows,) and lengths.dtype.kind in "iu"
    if not fit or not ((lengths >= 0) & (lengths <= timesteps)).all():
        raise ModelFileError(f"lengths must be {rows} whole numbers from 0 to {timesteps}, one for each row", option="lengths")
    return None if (lengths == timesteps).all() else lengths


def _outputs(layers: FoundGRU, y: AnyArray, timesteps: int, rows: int) -> AnyArray:
    width = len(layers.directions) * layers.hidden_size
    if y.ndim == 4 and y.shape[1] == len(layers.directions):  # as in ONNX: (T, directions, B, H)
        y = y.transpose(0, 2, 1, 3).reshape(y.shape[0], y.shape[2], -1)
    y = y[:, None] if y.ndim == 2 else y
    if y.shape != (timesteps, rows, width):
        turned = "; swap its first two axes: the timesteps come first" if y.shape == (rows, timesteps, width) else ""
        raise ModelFileError(
            f"the expected output has the shape {y.shape}; {layers.name} gives {(timesteps, rows, width)} for these inputs{turned}",
            option="expect",
        )
    return y


def _type_and_shape(array: AnyArray) -> str:
    return f"{array.dtype} {array.shape}"


# ------------------------------------------------------------------------------
# A run of layers from a file on their inputs, as one imported batch of a model.


NO_LOSS = (
    "this model was opened without a head and a loss, so it has no gradient and cannot be trained; "
    "tui_gru.debug(module) shows one that a script trains"
)


def file_run(layers: FoundGRU, numbers: LayerInputs, path: Path) -> Imported:
    """Return a run with the weights of the file and equations in the convention of the file. Raises `ModelFileError`."""
    cell, text = cell_in(layers.convention)
    structure = Structure(
        cell=cell,
        cell_text=text,
        layers=layers.layers,
        bidirectional=layers.bidirectional,
        backwards=layers.directions == ("reverse",),
        input="dense" if numbers.table is None else "embedding",
        head="",
        loss="",
        lengths=numbers.lengths is not None,
    )
    T, B = numbers.x.shape[:2]
    sizes = {"H": layers.hidden_size, "B": B, "T": T}
    sizes |= {"I": layers.input_size} if numbers.table is None else {"V": len(numbers.table), "D": layers.input_size}
    dtype = "float64" if layers.dtype == "float64" else "float32"
    with np.errstate(all="ignore"):  # NaN and infinities are allowed
        weights = weights_for(structure, sizes, dtype, values_of(layers, numbers.table))
        inputs = {"x" if numbers.table is None else "token": numbers.x}
        if numbers.lengths is not None:
            inputs[LIVE] = np.arange(T)[:, None] < numbers.lengths
        tolerance = None if numbers.y is None else max(TOLERANCES[dtype], TOLERANCES[precision_of(numbers.y)])
        batch = ImportedBatch(weights, inputs, numbers.states.astype(dtype).ravel(), expected=numbers.y, tolerance=tolerance)
    return Imported(
        title=f"{layers.name} of {path.name}",
        origin=path.name,
        inputs_from=numbers.source,
        structure=structure,
        sizes=sizes,
        dtype=dtype,
        batches=(batch,),
        fixed=NO_LOSS,
        reading=(layers.reset, layers.z),
        again=partial(_again, layers, numbers, path) if layers.kind == "gru" else None,
        stored=lambda: (layers.convention, layers.blocks()),
    )


def _again(
    layers: FoundGRU, numbers: LayerInputs, path: Path, reset: str | None, z: str | None, y: AnyArray
) -> tuple[Imported, str]:
    """Return the same inputs with another reading of the file, compared with the expected output or else with `y`, and a
    message."""
    other = layers.read_as(reset=reset, z=z)
    expected = y if numbers.y is None else numbers.y
    run = file_run(other, replace(numbers, y=expected), path)
    return run, f"read with reset {other.reset}, z {other.z}"


def values_of(layers: FoundGRU, table: AnyArray | None) -> Mapping[str, AnyArray]:
    """Return the parameters by our names. The meaning of z is unchanged, so no weights are negated."""
    values = {} if table is None else {"E": table}
    single = layers.layers == 1 and not layers.bidirectional
    convention = replace(layers.convention, z="keeps")
    for layer, cells in enumerate(layers.blocks()):
        for direction, blocks in zip(layers.directions, cells, strict=True):
            suffix = "" if single else f"_l{layer}{'_reverse' if direction == 'reverse' else ''}"
            arrays = canonical(blocks, convention)
            values |= {name + suffix: value for name, value in arrays.items()}
    return values


# ------------------------------------------------------------------------------
# The tokens of a model in the order of its indices, from a sequence, a mapping, or a file.


MOST_BYTES = 1 << 26
FILE = "give one token a line, or JSON: a list of them, or an object with their indices"


def read_vocabulary(path: str | PathLike[str]) -> list[str]:
    """Return the tokens in a UTF-8 file: one token per line, or a JSON list of them, or a JSON object with the index of each.

    Of a tokenizer.json, the vocabulary of its model is read. Raises `ModelFileError` that says what is wrong and where.
    """
    name = printable(path, 250)
    try:
        with Path(os.path.expanduser(path)).open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it cannot be read"
        raise ModelFileError(f"{name}: {reason.lower()}; check the name", option="tokens") from None
    if len(data) > MOST_BYTES:
        raise ModelFileError(f"{name} is longer than {MOST_BYTES >> 20} MiB; {FILE}", option="tokens")
    try:
        content = data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ModelFileError(
            f"{name} is not UTF-8 at byte {error.start}; convert it, for example with iconv", option="tokens"
        ) from None
    tokens = _of_json(content) if content.lstrip()[:1] in ("{", "[") else None
    if tokens is None and Path(path).suffix == ".json":
        raise ModelFileError(f"{name} is not JSON, or it is cut off; {FILE}", option="tokens")
    if tokens is None:
        lines = content.removesuffix("\n").split("\n")
        tokens = [line.removesuffix("\r") for line in lines]
    try:
        return in_order(tokens)
    except ModelFileError as error:
        raise ModelFileError(f"{name}: {error}", option="tokens") from None


def _of_json(content: str) -> Any:
    """Return the tokens or the mapping in JSON; None if the text is not JSON, for example a list of tokens that begins with a
    bracket."""
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        return None
    model = parsed.get("model") if isinstance(parsed, dict) else None
    if not isinstance(model, dict) or "vocab" not in model:
        return parsed
    added = parsed.get("added_tokens", [])
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict) and isinstance(added, list):
        ids = {token["content"]: token["id"] for token in added if isinstance(token, dict) and {"content", "id"} <= token.keys()}
        vocabulary = vocabulary | ids
    return vocabulary


def in_order(tokens: Any) -> list[str]:
    """Return the tokens in the order of their indices, from a sequence or a mapping to indices. Raises `ModelFileError`."""
    if isinstance(tokens, Mapping):
        tokens = _of_mapping(tokens)
    if isinstance(tokens, str) or not isinstance(tokens, Iterable):
        raise ModelFileError(f"{shown(tokens)} is not a list of tokens; {FILE}", option="vocabulary")
    texts = list(tokens)
    for i, token in enumerate(texts):
        if not isinstance(token, str) or not token:
            raise ModelFileError(f"token {i + 1} is {shown(token)}, and no text; {FILE}", option="vocabulary")
    _check_different(texts)
    return texts


def _of_mapping(tokens: Mapping[Any, Any]) -> Sequence[Any]:
    pairs = sorted(tokens.items(), key=lambda pair: pair[1] if type(pair[1]) is int else -1)
    for i, (token, index) in enumerate(pairs):
        if index != i or type(index) is not int:
            raise ModelFileError(
                f"token {printable(token, 40)} has the index {printable(index, 40)}, and {i} is expected: the indices are 0 to "
                f"{len(pairs) - 1}, each once",
                option="vocabulary",
            )
    return [token for token, _ in pairs]


def _check_different(tokens: Sequence[str]) -> None:
    numbers: dict[str, int] = {}
    for i, token in enumerate(tokens):
        if token in numbers:
            raise ModelFileError(
                f"{printable(token, 40)} occurs twice, as token {numbers[token] + 1} and {i + 1}", option="vocabulary"
            )
        numbers[token] = i
