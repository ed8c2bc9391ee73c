"""The inputs of an opened GRU: inputs, first state, row lengths and expected output, checked against its shape."""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from tui_gru.interop.errors import ModelFileError, printable
from tui_gru.interop.formats.npz import UNREADABLE, npy_header
from tui_gru.interop.found import FoundGRU
from tui_gru.interop.tensors import AnyArray

#: The size and the seed of the random inputs that are used if none are given.
TIMESTEPS, ROWS, SEED = 8, 2, 0


@dataclass(frozen=True, eq=False)
class LayerInputs:
    """The inputs of a GRU: x (T, B, I), or indices (T, B) into `table` (V, I); h0 (layers · directions, B, H); lengths (B), None if
    all rows have all timesteps; y (T, B, directions · H), the expected output, or None. `source` names the origin of x."""

    x: AnyArray
    h0: AnyArray
    lengths: AnyArray | None
    y: AnyArray | None
    table: AnyArray | None
    source: str
    given_h0: bool

    @classmethod
    def of(
        cls,
        found: FoundGRU,
        *,
        inputs: Any = None,
        h0: Any = None,
        lengths: Any = None,
        expect: Any = None,
        embedding: Any = None,
    ) -> LayerInputs:
        """Check arrays, or paths of .npy files. Missing values come from the model file or are zero; missing inputs are random.

        Raises a `ModelFileError` that names what does not fit, and what would fit.
        """
        table = None if embedding is None else _table(found, array_of(embedding, "embedding"))
        source = _named(inputs, "your inputs")
        x = _random(found, h0) if inputs is None else _inputs(found, array_of(inputs, "inputs"), table)
        if inputs is None:
            source, table = f"normal random numbers, seed {SEED}, since no inputs were given", None
        T, B = x.shape[:2]
        own = found.h0.read() if h0 is None and found.h0 is not None else None
        state = array_of(h0, "h0") if h0 is not None else own
        return cls(
            x,
            _states(found, state, B),
            _lengths(found, None if lengths is None else array_of(lengths, "lengths"), T, B),
            None if expect is None else _outputs(found, array_of(expect, "expect"), T, B),
            table,
            source,
            state is not None,
        )


def array_of(value: Any, option: str) -> AnyArray:
    """Return an array, or the array in a .npy file. Raises a `ModelFileError` about `option`."""
    if isinstance(value, (str, PathLike)):
        path = Path(os.path.expanduser(value))
        try:
            with path.open("rb") as file, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                shape, _, dtype = npy_header(file)
                if math.prod(shape) * dtype.itemsize > os.fstat(file.fileno()).st_size - file.tell():
                    raise ValueError("it is cut off")
                file.seek(0)
                array: AnyArray = np.lib.format.read_array(file, allow_pickle=False)
        except OSError as error:
            reason = error.strerror or "it cannot be read"
            raise ModelFileError(f"{printable(path, 250)}: {reason.lower()}; check the name", option=option) from None
        except (*UNREADABLE, EOFError) as error:
            raise ModelFileError(
                f"{printable(path, 250)}: it is not an array written by numpy.save: {printable(error, 100)}", option=option
            ) from None
    else:
        try:
            array = np.asarray(_without_graph(value))
        except (ValueError, TypeError, RuntimeError) as error:
            raise ModelFileError(f"{option} is not an array: {printable(error, 100)}", option=option) from None
    if array.dtype.kind not in "iufb":
        raise ModelFileError(f"{option} has the type {printable(array.dtype, 40)}; give real numbers", option=option)
    return array


def _without_graph(value: Any) -> Any:
    """Return a tensor of torch in a form that NumPy can read: without its graph, on the CPU, bfloat16 as float32."""
    if not hasattr(value, "detach"):
        return value
    tensor = value.detach().cpu()
    return tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor


def _named(value: Any, otherwise: str) -> str:
    return Path(value).name if isinstance(value, (str, PathLike)) else otherwise


def _random(found: FoundGRU, h0: Any) -> AnyArray:
    rows = ROWS
    state = found.h0 if h0 is None else array_of(h0, "h0")
    if state is not None and len(state.shape) > 1:
        rows = state.shape[-2]
    generator = np.random.default_rng(SEED)
    return generator.standard_normal((TIMESTEPS, rows, found.input_size)).astype(np.float32)


def _table(found: FoundGRU, table: AnyArray) -> AnyArray:
    if table.ndim != 2 or not len(table) or table.shape[1] != found.input_size:
        raise ModelFileError(
            f"the embedding has the shape {table.shape}; {found.name} reads rows of a table (tokens, {found.input_size})",
            option="embedding",
        )
    return table


def _inputs(found: FoundGRU, x: AnyArray, table: AnyArray | None) -> AnyArray:
    size = found.input_size
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
            f"the inputs have the shape {x.shape}; {found.name} reads (timesteps, rows, {size}){swapped}", option="inputs"
        )
    return x


def _states(found: FoundGRU, h0: AnyArray | None, rows: int) -> AnyArray:
    shape = found.layers * len(found.directions), rows, found.hidden_size
    if h0 is None:
        return np.zeros(shape)
    h0 = h0[None] if h0.ndim == 2 and shape[0] == 1 else h0
    if h0.shape != shape:
        raise ModelFileError(
            f"h0 has the shape {h0.shape}; {found.name} starts from {shape}: layers times directions, rows, units", option="h0"
        )
    return h0


def _lengths(found: FoundGRU, lengths: AnyArray | None, timesteps: int, rows: int) -> AnyArray | None:
    if lengths is None and found.lengths is not None and found.lengths.shape == (rows,):
        lengths = found.lengths.read()
    if lengths is None:
        return None
    fit = lengths.shape == (rows,) and lengths.dtype.kind in "iu"
    if not fit or not ((lengths >= 0) & (lengths <= timesteps)).all():
        raise ModelFileError(f"lengths must be {rows} whole numbers from 0 to {timesteps}, one for each row", option="lengths")
    return None if (lengths == timesteps).all() else lengths


def _outputs(found: FoundGRU, y: AnyArray, timesteps: int, rows: int) -> AnyArray:
    width = len(found.directions) * found.hidden_size
    if y.ndim == 4 and y.shape[1] == len(found.directions):  # as in ONNX: (T, directions, B, H)
        y = y.transpose(0, 2, 1, 3).reshape(y.shape[0], y.shape[2], -1)
    y = y[:, None] if y.ndim == 2 else y
    if y.shape != (timesteps, rows, width):
        turned = "; swap its first two axes: the timesteps come first" if y.shape == (rows, timesteps, width) else ""
        raise ModelFileError(
            f"the expected output has the shape {y.shape}; {found.name} gives {(timesteps, rows, width)} for these inputs{turned}",
            option="expect",
        )
    return y


def _type_and_shape(array: AnyArray) -> str:
    return f"{array.dtype} {array.shape}"
