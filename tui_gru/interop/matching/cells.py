"""Construction of one layer in one direction from the arrays in a file, by shape, and of a GRU from its layers and directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from tui_gru.interop.blocks import Blocks
from tui_gru.interop.errors import ModelFileError
from tui_gru.interop.found import BlockSource, Convention, FoundGRU
from tui_gru.interop.tensors import FLOATS, AnyArray, Tensor, not_float

KINDS = {1: "a plain RNN", 2: "a unit of two gates", 4: "an LSTM"}


@dataclass(frozen=True, eq=False)
class CellArrays:
    """The sizes of a layer in one direction. `read` returns its numbers."""

    input_size: int
    hidden_size: int
    biases: str
    dtype: str
    read: BlockSource


class NotAGRUError(ModelFileError):
    """The arrays are not those of a GRU, or do not fit together."""


def stacked_cell(W: Tensor, U: Tensor, b: Tensor | None, b_h: Tensor | None, b_hn: Tensor | None, order: str) -> CellArrays:
    """Return a cell whose gates are stacked by rows (3H, I) or by columns (I, 3H); the shape of U decides.

    b is (3H), (2, 3H) or (6H); b_h (3H); b_hn (H). Raises `NotAGRUError` if the shapes are not those of a GRU.
    """
    if len(W.shape) != 2 or len(U.shape) != 2:
        raise NotAGRUError(f"its weights have {len(W.shape)} and {len(U.shape)} axes, not 2")
    hidden, width = min(U.shape), max(U.shape)
    if not hidden or width % hidden or width // hidden != 3:
        kind = KINDS.get(width // hidden if hidden and width % hidden == 0 else 0)
        raise NotAGRUError(
            f"it is {kind}, and only GRUs are opened" if kind else f"its recurrent weights {U.shape} are not those of a GRU"
        )
    by_rows = U.shape[0] == width
    if W.shape[0 if by_rows else 1] != width:
        _refuse_fit(W, U)
    input_size = W.shape[1 if by_rows else 0]
    if not input_size:
        raise NotAGRUError("it reads no input")
    both = b is not None and b_h is None and b.shape in ((2, width), (2 * width,))
    for tensor, shape in ((b, (width,)), (b_h, (width,)), (b_hn, (hidden,))):
        if tensor is not None and tensor.shape != shape and not (both and tensor is b):
            _refuse_fit(tensor, U)
    check_floats([W, U, b, b_h, b_hn])

    def read() -> Blocks:
        bias, state_bias = np.zeros((2, 3, hidden), np.float32)
        if b is not None:
            bias, *rest = b.read().reshape(-1, 3, hidden)
            state_bias = rest[0] if rest else state_bias
        if b_h is not None:
            state_bias = b_h.read().reshape(3, hidden)
        if b_hn is not None:
            state_bias = np.stack([b_hn.read() if gate == "n" else np.zeros(hidden, np.float32) for gate in order])
        return Blocks(_blocks(W.read(), by_rows), _blocks(U.read(), by_rows), bias, state_bias)

    biases = "two" if both or b_h else "one and bhn" if b_hn else "one" if b else "none"
    return CellArrays(input_size, hidden, biases, W.dtype, read)


def _blocks(matrix: AnyArray, by_rows: bool) -> AnyArray:
    """Convert (3H, K) or (K, 3H) to (3, K, H)."""
    if by_rows:
        return matrix.reshape(3, -1, matrix.shape[1]).transpose(0, 2, 1)
    return matrix.reshape(matrix.shape[0], 3, -1).transpose(1, 0, 2)


def apart_cell(W: Sequence[Tensor], U: Sequence[Tensor], b: Sequence[Tensor | None], b_h: Sequence[Tensor | None]) -> CellArrays:
    """Return a cell with a matrix for each gate: W (I, H) with x on the left, or (H, I) with x on the right; U (H, H).

    Raises `NotAGRUError` if the shapes are not those of a GRU.
    """
    hidden, shape = U[0].shape[0] if U[0].shape else 0, W[0].shape
    if not hidden or any(u.shape != (hidden, hidden) for u in U):
        raise NotAGRUError("its recurrent weights are not square and of one size")
    if len(shape) != 2 or hidden not in shape or not min(shape) or any(w.shape != shape for w in W):
        _refuse_fit(W[0], U[0])
    x_on_the_left = shape[1] == hidden
    biases = [tensor for tensor in (*b, *b_h) if tensor is not None]
    for tensor in biases:
        if tensor.shape not in ((hidden,), (1, hidden), (hidden, 1)):
            _refuse_fit(tensor, U[0])
    check_floats([*W, *U, *biases])

    def matrices(tensors: Sequence[Tensor]) -> AnyArray:
        return np.stack([tensor.read() if x_on_the_left else tensor.read().T for tensor in tensors])

    def vectors(tensors: Sequence[Tensor | None]) -> AnyArray:
        return np.stack([np.zeros(hidden, np.float32) if tensor is None else tensor.read().reshape(hidden) for tensor in tensors])

    count = sum(tensor is not None for tensor in b_h)
    kind = "none" if not biases else "one" if not count else "one and bhn" if count == 1 else "two"
    return CellArrays(
        shape[0 if x_on_the_left else 1],
        hidden,
        kind,
        W[0].dtype,
        lambda: Blocks(matrices(W), matrices(U), vectors(b), vectors(b_h)),
    )


def _refuse_fit(tensor: Tensor, U: Tensor) -> NoReturn:
    raise NotAGRUError(f"an array of shape {tensor.shape} does not fit its recurrent weights {U.shape}")


def check_floats(tensors: Sequence[Tensor | None]) -> None:
    """Raise `NotAGRUError` for numbers of another type than weights have."""
    for tensor in tensors:
        if tensor is not None and tensor.dtype not in FLOATS:
            raise NotAGRUError(not_float(tensor.dtype))


def stack(
    name: str,
    cells: Mapping[tuple[int, bool], CellArrays],
    convention: Convention,
    evidence: str,
    warning: str = "",
    batch_first: bool | None = None,
) -> FoundGRU:
    """Return one GRU made of `cells`, whose keys are the layer and True for the reverse direction. Raises `NotAGRUError` if they do
    not fit."""
    reverse = sorted({reverse for _, reverse in cells})
    layers = 1 + max(layer for layer, _ in cells)
    if layers * len(reverse) != len(cells):
        raise NotAGRUError("a layer or direction of it is missing; save all of them")
    first = cells[0, reverse[0]]
    for (layer, _), cell in sorted(cells.items()):
        expected = first.input_size if layer == 0 else first.hidden_size * len(reverse)
        if (cell.input_size, cell.hidden_size) != (expected, first.hidden_size):
            raise NotAGRUError(
                f"layer {layer} reads {cell.input_size} values into {cell.hidden_size} units, where {expected} into "
                f"{first.hidden_size} fit; save each layer as a GRU of its own"
            )
    return FoundGRU(
        name=name,
        format="",
        layers=layers,
        directions=tuple("reverse" if r else "forward" for r in reverse),
        input_size=first.input_size,
        hidden_size=first.hidden_size,
        convention=convention,
        biases=first.biases,
        dtype=first.dtype,
        evidence=evidence,
        warning=warning,
        batch_first=batch_first,
        sources=tuple(tuple(cells[layer, r].read for r in reverse) for layer in range(layers)),
    )
