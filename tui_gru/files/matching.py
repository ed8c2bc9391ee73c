"""Finds recurrent layers among named arrays: families of names, names by shape, and weight normalization."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice, permutations, takewhile
from pathlib import Path
from typing import NoReturn

import numpy as np

from tui_gru.errors import ModelFileError, printable
from tui_gru.files.arrays import FLOATS, AnyArray, BlockSource, FileLayers, FoundGRU, Tensor, Tensors, not_float
from tui_gru.files.kinds import BY_BLOCKS, KINDS, LSTM, RNN, Blocks, CellKind, Convention

# ------------------------------------------------------------------------------
# Construction of one layer in one direction from the arrays in a file, by shape, and of a GRU from its layers and directions.


ONLY = "only GRUs, LSTMs and plain RNNs are opened"


@dataclass(frozen=True, eq=False)
class CellArrays:
    """The kind and the sizes of a layer in one direction. `read` returns its numbers."""

    kind: CellKind
    input_size: int
    hidden_size: int
    biases: str
    dtype: str
    read: BlockSource


class NotAGRUError(ModelFileError):
    """The arrays are not those of recurrent layers that can be opened, or do not fit together."""


def stacked_cell(
    W: Tensor, U: Tensor, b: Tensor | None, b_h: Tensor | None, b_hn: Tensor | None, order: str, *, by_rows: bool = True
) -> CellArrays:
    """Return a cell whose G gates are stacked by rows (GH, I) or by columns (I, GH).

    The shape of U decides which, and the number of gates the kind of cell. U of a plain RNN is square: then W decides, and if that
    is square as well, `by_rows`. b is (GH), (2, GH) or (2GH); b_h (GH); b_hn (H), in a GRU with its gates in `order`. Raises
    `NotAGRUError` if the shapes are not those of a known kind.
    """
    if len(W.shape) != 2 or len(U.shape) != 2:
        raise NotAGRUError(f"its weights have {len(W.shape)} and {len(U.shape)} axes, not 2")
    hidden, width = min(U.shape), max(U.shape)
    G = width // hidden if hidden and width % hidden == 0 else 0
    if (kind := BY_BLOCKS.get(G)) is None:
        raise NotAGRUError(
            f"it is a unit of two gates, and {ONLY}" if G == 2 else f"its recurrent weights {U.shape} are those of no known cell"
        )
    if G > 1 or W.shape[0] != W.shape[1]:
        by_rows = U.shape[0] == width if G > 1 else W.shape[0] == width
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
        bias, state_bias = np.zeros((2, G, hidden), np.float32)
        if b is not None:
            bias, *rest = b.read().reshape(-1, G, hidden)
            state_bias = rest[0] if rest else state_bias
        if b_h is not None:
            state_bias = b_h.read().reshape(G, hidden)
        if b_hn is not None:
            state_bias = np.stack([b_hn.read() if gate == "n" else np.zeros(hidden, np.float32) for gate in order])
        return Blocks(_blocks(W.read(), G, by_rows), _blocks(U.read(), G, by_rows), bias, state_bias)

    biases = "two" if both or b_h else "one and bhn" if b_hn else "one" if b else "none"
    return CellArrays(kind, input_size, hidden, biases, W.dtype, read)


def _blocks(matrix: AnyArray, G: int, by_rows: bool) -> AnyArray:
    """Convert (GH, K) or (K, GH) to (G, K, H)."""
    if by_rows:
        return matrix.reshape(G, -1, matrix.shape[1]).transpose(0, 2, 1)
    return matrix.reshape(matrix.shape[0], G, -1).transpose(1, 0, 2)


def separate_cell(
    W: Sequence[Tensor], U: Sequence[Tensor], b: Sequence[Tensor | None], b_h: Sequence[Tensor | None], *, by_rows: bool = False
) -> CellArrays:
    """Return a cell with a matrix for each gate: W (I, H) with x on the left, or (H, I) with x on the right; U (H, H).

    If W is square, `by_rows` says that x is on the right. The number of matrices decides the kind of cell. Raises `NotAGRUError` if
    the shapes do not fit.
    """
    hidden, shape = U[0].shape[0] if U[0].shape else 0, W[0].shape
    if not hidden or any(u.shape != (hidden, hidden) for u in U):
        raise NotAGRUError("its recurrent weights are not square and of one size")
    if len(shape) != 2 or hidden not in shape or not min(shape) or any(w.shape != shape for w in W):
        _refuse_fit(W[0], U[0])
    x_on_the_left = shape[1] == hidden and not (by_rows and shape[0] == hidden)
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
    biases_known = "none" if not biases else "one" if not any(b) or not count else "one and bhn" if count == 1 < len(W) else "two"
    return CellArrays(
        BY_BLOCKS[len(W)],
        shape[0 if x_on_the_left else 1],
        hidden,
        biases_known,
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
    """Return the layers made of `cells`, whose keys are the layer and True for the reverse direction. Raises `NotAGRUError` if they
    do not fit."""
    reverse = sorted({reverse for _, reverse in cells})
    layers = 1 + max(layer for layer, _ in cells)
    if layers * len(reverse) != len(cells):
        raise NotAGRUError("a layer or direction of it is missing; save all of them")
    first = cells[0, reverse[0]]
    for (layer, _), cell in sorted(cells.items()):
        expected = first.input_size if layer == 0 else first.hidden_size * len(reverse)
        if cell.kind is not first.kind:
            raise NotAGRUError(f"layer {layer} is {cell.kind.words}, and the first one {first.kind.words}; save each by itself")
        if (cell.input_size, cell.hidden_size) != (expected, first.hidden_size):
            raise NotAGRUError(
                f"layer {layer} reads {cell.input_size} values into {cell.hidden_size} units, where {expected} into "
                f"{first.hidden_size} fit; save each layer by itself"
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


# ------------------------------------------------------------------------------
# Tables of the names that libraries give to the weights of recurrent cells, with the convention of each library for each kind.


GRU = Convention("rzn", "after")
TORCH = (GRU, LSTM, RNN)


@dataclass(frozen=True)
class Stacked:
    """Names for gates stacked in one matrix: of W, U, the bias of the input, the bias of the state, and the state bias of n alone.

    `{}` in the label is the kind of cell. `conventions` has one for each kind that the library stores in this way; of a plain RNN
    `by_rows` says whether W has the units as rows. With `layered`, names can end with torch's layer and direction. A cell must have
    the parts in `required`; with `pairs`, it has both biases or none.
    """

    label: str
    W: str
    U: str
    b: str
    b_h: str
    b_hn: str
    conventions: tuple[Convention, ...]
    layered: bool = False
    by_rows: bool = True
    required: str = "WU"
    pairs: bool = False
    guess: str = ""  # the part of the convention that cannot be concluded from the names


@dataclass(frozen=True)
class SeparateGates:
    """Names for gates in separate matrices: of W, U, b and b_h, each for the gates in the order of the convention."""

    label: str
    W: tuple[str, ...]
    U: tuple[str, ...]
    b: tuple[str, ...]
    b_h: tuple[str, ...]
    convention: Convention
    guess: str = ""
    by_rows: bool = False  # a square W has the units as rows


#: In the order in which they are tried. For Keras, the shape of the bias decides whether the reset gate acts before or after.
STACKED = (
    Stacked("torch's nn.{}", "weight_ih", "weight_hh", "bias_ih", "bias_hh", "", TORCH, layered=True, pairs=True),
    Stacked("equinox's GRUCell", "weight_ih", "weight_hh", "bias", "", "bias_n", (GRU,), required="WUn"),
    Stacked("equinox's {}Cell", "weight_ih", "weight_hh", "bias", "", "", (LSTM, RNN), required="WUb"),
    Stacked("torch's {}Cell", "weight_ih", "weight_hh", "bias_ih", "bias_hh", "", TORCH, pairs=True),
    Stacked(
        "torch's {}_cell", "w_ih", "w_hh", "b_ih", "b_hh", "", TORCH, guess="the names are torch's, the program may be another"
    ),
    Stacked(
        "torch's {}_cell", "W_ih", "W_hh", "b_ih", "b_hh", "", TORCH, guess="the names are torch's, the program may be another"
    ),
    Stacked("MLX's LSTM", "Wx", "Wh", "bias", "", "", (LSTM,), required="WUb"),
    Stacked("MLX's GRU", "Wx", "Wh", "b", "", "bhn", (GRU, LSTM)),
    Stacked("MLX's RNN", "Wxh", "Whh", "bias", "", "", (RNN,)),
    Stacked("flax nnx's {}Cell", "dense_i/kernel", "dense_h/kernel", "dense_i/bias", "dense_h/bias", "", TORCH, by_rows=False),
    Stacked("Haiku's GRU", "w_i", "w_h", "b", "", "", (Convention("zrn", "before", "takes"),)),
    *(
        Stacked(
            "a hand-written {}",
            f"{W}{separator}weight",
            f"{U}{separator}weight",
            f"{W}{separator}bias",
            f"{U}{separator}bias",
            "",
            TORCH,
            guess="the names do not say in which order the gates are",
        )
        for W, U in (("x2h", "h2h"), ("i2h", "h2h"), ("xh", "hh"), ("ih", "hh"))
        for separator in "/_"
    ),
    Stacked("Keras's {}", "kernel", "recurrent_kernel", "bias", "", "", (Convention("zrn", ""), LSTM, RNN), by_rows=False),
)


def _gates(pattern: str, *letters: str) -> tuple[str, ...]:
    return tuple(pattern.format(letter) for letter in letters)


#: The beginnings of the names of the linear layers of hand-written cells, which end with the gate: of the input and of the state.
LINEARS = (("fc_i", "fc_h"), ("fc_x", "fc_h"), ("W_i", "W_h"), ("W_x", "W_h"), ("W_", "U_"), ("W", "U"))
ZRN = Convention("zrn", "")  # whose biases say where the reset gate acts
LASAGNE = ("updategate", "resetgate", "hidden_update")
APART = (
    SeparateGates(
        "flax linen's GRUCell",
        _gates("i{}/kernel", *"zrn"),
        _gates("h{}/kernel", *"zrn"),
        _gates("i{}/bias", *"zrn"),
        _gates("h{}/bias", *"zrn"),
        Convention("zrn", "after"),
    ),
    SeparateGates(
        "Lasagne's GRULayer",
        _gates("W_in_to_{}", *LASAGNE),
        _gates("W_hid_to_{}", *LASAGNE),
        _gates("b_{}", *LASAGNE),
        ("", "", ""),
        Convention("zrn", "after", "takes"),
    ),
    SeparateGates(
        "gates in matrices of their own",
        _gates("W{}", *"zrh"),
        _gates("U{}", *"zrh"),
        _gates("b{}", *"zrh"),
        _gates("bh{}", *"zrn"),
        Convention("zrn", ""),
        guess="the names do not say what z means",
    ),
    SeparateGates(
        "gates in matrices of their own",
        _gates("W_{}", *"zrh"),
        _gates("U_{}", *"zrh"),
        _gates("b_{}", *"zrh"),
        ("", "", ""),
        Convention("zrn", ""),
        guess="the names do not say what z means",
    ),
    SeparateGates(
        "flax linen's LSTMCell",
        _gates("i{}/kernel", *"ifgo"),
        _gates("h{}/kernel", *"ifgo"),
        _gates("i{}/bias", *"ifgo"),
        _gates("h{}/bias", *"ifgo"),
        LSTM,
    ),
    *(
        SeparateGates(
            "linear layers of their own",
            _gates(f"{W}{{}}/weight", *letters),
            _gates(f"{U}{{}}/weight", *letters),
            _gates(f"{W}{{}}/bias", *letters),
            _gates(f"{U}{{}}/bias", *letters),
            convention,
            guess="" if convention is LSTM else "the names do not say what z means",
            by_rows=True,
        )
        for letters, convention in (("zrn", ZRN), ("zrh", ZRN), ("ifgo", LSTM), ("ifco", LSTM))
        for W, U in LINEARS
    ),
    *(
        SeparateGates(
            "gates in matrices of their own",
            _gates("W_x{}", *letters),
            _gates("W_h{}", *letters),
            _gates("b_{}", *letters),
            ("", "", ""),
            ZRN,
            guess="the names do not say what z means",
        )
        for letters in ("zrh", "zrn")
    ),
    *(
        SeparateGates(
            "gates in matrices of their own",
            _gates(f"{W}{{}}", *letters),
            _gates(f"{U}{{}}", *letters),
            _gates(f"{b}{{}}", *letters),
            _gates(f"{b_h}{{}}", *letters) if b_h else ("",) * 4,
            LSTM,
        )
        for letters in ("ifgo", "ifco")
        for W, U, b, b_h in (
            ("W", "U", "b", ""),
            ("W_", "U_", "b_", ""),
            ("W_x", "W_h", "b_", ""),
            ("W_i", "W_h", "b_i", "b_h"),
        )
    ),
)


# ------------------------------------------------------------------------------
# Hand-written cells whose gates each have one matrix for the input and the state side by side: W_z of [x, h] or of [h, x].


CONCATENATED = re.compile(
    r"(?s)(?:(?P<prefix>.*?)[./])??(?P<start>W_?|w_?|fc_?|linear_?)(?P<gate>[zrnhifcgo])(?P<weight>[./]weight)?(?::0)?"
)
FIRST = {"xh": "x before h", "hx": "h before x"}


def concatenated(tensors: Tensors) -> FileLayers:
    """Find cells whose gates have a matrix (H, I + H), or (I + H, H), each. Each is found twice, since neither names nor shapes say
    whether x or h comes first."""
    groups: dict[tuple[str, str, str], dict[str, str]] = {}
    for name in tensors:
        if match := CONCATENATED.fullmatch(name):
            key = match["prefix"] or "", match["start"], match["weight"] or ""
            groups.setdefault(key, {})[match["gate"]] = name
    cells, refused = list[FoundGRU](), list[str]()
    for (prefix, start, weight), names in groups.items():
        letters = next((candidate for candidate in ("zrn", "zrh", "ifgo", "ifco") if set(candidate) == names.keys()), None)
        if letters is None:
            continue
        convention = LSTM if letters.startswith("if") else replace(ZRN, reset="before")
        name = printable(prefix) or convention.kind
        biases = [tensors.get(_bias_of(names[letter], start, weight)) for letter in letters]
        doubts = "whether x or h comes first" if convention is LSTM else "what z means, nor whether x or h comes first"
        try:
            for first, words in FIRST.items():
                cell = _concatenated_cell([tensors[names[letter]] for letter in letters], biases, first, bool(weight))
                evidence = f"gates by name, of one matrix for x and h each: read with {words}"
                warning = f"the names do not say {doubts}: give an input and its output to prove it"
                cells.append(stack(f"{name}.{first}", {(0, False): cell}, convention, evidence, warning))
        except NotAGRUError as error:
            refused.append(f"{name}: {error}")
    return FileLayers(tuple(cells), tuple(refused))


def _bias_of(name: str, start: str, weight: str) -> str:
    """Return the name of the bias of a gate: `W_z.bias` beside `W_z.weight`, `b_z` beside `W_z`."""
    if weight:
        return name.removesuffix("weight") + "bias"
    stem, gate = name.removesuffix(":0")[: -len(start) - 1], name.removesuffix(":0")[-1]
    return f"{stem}b{'_' * start.endswith('_')}{gate}"


def _concatenated_cell(matrices: Sequence[Tensor], biases: Sequence[Tensor | None], first: str, by_rows: bool) -> CellArrays:
    shape = matrices[0].shape
    if len(shape) != 2 or any(matrix.shape != shape for matrix in matrices):
        raise NotAGRUError("its gates have matrices of different shapes")
    present = [bias for bias in biases if bias is not None]
    by_rows = by_rows or bool(present and present[0].shape == shape[:1] != shape[1:])
    hidden, width = shape if by_rows else shape[::-1]
    if width <= hidden or not hidden or (present and (len(present) < len(matrices) or any(b.shape != (hidden,) for b in present))):
        raise NotAGRUError(f"its gates have matrices {shape}, which are not of the input and the state side by side")
    check_floats([*matrices, *present])

    def read() -> Blocks:
        both = np.stack([matrix.read().T if by_rows else matrix.read() for matrix in matrices])  # (G, I + H, H)
        at = width - hidden if first == "xh" else hidden
        parts = both[:, :at], both[:, at:]
        W, U = parts if first == "xh" else parts[::-1]
        bias = np.stack([b.read() for b in present]) if present else np.zeros((len(matrices), hidden), np.float32)
        return Blocks(W, U, bias, np.zeros_like(bias))

    biases_known = "one" if present else "none"
    return CellArrays(BY_BLOCKS[len(matrices)], width - hidden, hidden, biases_known, matrices[0].dtype, read)


# ------------------------------------------------------------------------------
# Detection of GRUs and LSTMs among arrays with unknown names, by shape. The user must give the order of the gates.


#: Names of arrays that are multiplied with, or added to, the state, not the input.
RECURRENT = re.compile(r"(?i)hh|rec|hid|(?:^|[./_])(?:u|r|wh|w_h|bh|b_h)\d*$")
#: Names of biases of gates; `by` and the like belong to other layers.
BIAS = re.compile(r"(?i)bias[^./]*$|(?:^|[./_])b(?:[_-]?(?:[ihxuzrn]|ih|hh|in|rec|gates?)|_?\d)?$")
MOST_MATRICES = 12
PAIRED = "fit together as a GRU or LSTM in more than one way; give them names as in torch: weight_ih, weight_hh, bias_ih, bias_hh"


def guessed(tensors: Tensors, order: str | None) -> FileLayers:
    """Find the arrays that fit together as a GRU or LSTM among those whose names are equal before the last point, slash or
    underscore.

    If that leaves biases out, as with W_ih and b_ih, among those whose names are equal before the last point or slash.
    """
    groups: dict[str, dict[str, Tensor]] = {}
    for prefix, group in _grouped(tensors, "./").items():
        finer, pairs = _grouped(group, "./_"), _pairs(group, order)
        groups |= finer if len(pairs) != 1 or _is_complete(finer, group, *pairs[0]) else {prefix: group}
    cells, refused = [], []
    for prefix, group in groups.items():
        if pairs := _pairs(group, order):
            W, U = pairs[0]
            name = printable(prefix) or "gru"
            try:
                cells.append(_guessed_gru(name, group, pairs, order))
            except NotAGRUError as error:
                both = f"{printable(W)} {group[W].shape} and {printable(U)} {group[U].shape}"
                refused.append(f"{name}: {both} {error}")
    return FileLayers(tuple(cells), tuple(refused))


def _guessed_gru(name: str, group: dict[str, Tensor], pairs: Sequence[tuple[str, str]], order: str | None) -> FoundGRU:
    """Return the layer of the only pair of matrices in a group. Raises `NotAGRUError` with what there is to say about the pair."""
    if len(pairs) > 1:
        raise NotAGRUError(PAIRED)
    kind = _kind(group, *pairs[0])
    if order is None:
        orders = "rzn as in torch, zrn as in Keras and ONNX"
        if kind.name == "lstm":
            orders = "ifgo as in torch and Keras, iofg as in ONNX"
        raise NotAGRUError(f"may be {kind.words}, but no name says in which order its gates are stacked; give the order: {orders}")
    try:
        cell = _guessed_cell(group, *pairs[0], order)
    except NotAGRUError as error:
        raise NotAGRUError(f"are {kind.words}'s, but {error}") from None
    evidence = f"gates {' '.join(order)}: as you said; found by its shapes"
    if kind.name == "lstm":
        return stack(name, {(0, False): cell}, replace(LSTM, order=order), evidence)
    reset = "after" if cell.biases == "two" or order == "rzn" else "before"
    warning = f"reset {reset} and z keeps are assumed: give an input and its output to prove them"
    return stack(name, {(0, False): cell}, Convention(order, reset), evidence, warning)


def _kind(group: dict[str, Tensor], W: str, U: str) -> CellKind:
    return stacked_cell(group[W], group[U], None, None, None, "").kind


def biases_of(width: int, names: Iterable[str], tensors: Tensors) -> list[str]:
    """Return those of the names whose arrays have the shape of the biases of gates of `width` GH, the input's first."""
    shapes = ((width,), (2, width), (2 * width,))
    biases = [name for name in names if tensors[name].shape in shapes]
    return sorted(biases, key=lambda name: bool(RECURRENT.search(name)))  # a stable sort: by default the first is the input's


def _grouped(tensors: Mapping[str, Tensor], separators: str) -> dict[str, dict[str, Tensor]]:
    """Group arrays by the part of their names before the last separator."""
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        at = max(name.rfind(separator) for separator in separators)
        groups.setdefault(name[: max(at, 0)], {})[name] = tensor
    return groups


def _is_complete(finer: dict[str, dict[str, Tensor]], group: dict[str, Tensor], W: str, U: str) -> bool:
    """Return False if W and U, or all their biases, are in different groups of `finer`."""
    biased = bool(_biases(group, W, U))
    return any({W, U} <= names.keys() and (not biased or _biases(names, W, U)) for names in finer.values())


def _pairs(group: dict[str, Tensor], order: str | None) -> list[tuple[str, str]]:
    """Return the pairs of names (W, U) whose shapes fit: as a GRU, or as an LSTM if the order or their names say so."""
    matrices = [name for name, tensor in group.items() if len(tensor.shape) == 2 and tensor.shape[0] != 2]
    if len(matrices) > MOST_MATRICES:
        return []
    pairs = [(W, U) for W, U in permutations(matrices, 2) if _is_pair(group, W, U, order)]
    if len(pairs) == 2 and pairs[0] == pairs[1][::-1]:  # if I = H, both orders fit: the names or the order in the file decide
        pairs.sort(key=lambda pair: bool(RECURRENT.search(pair[0])))
        return pairs[:1]
    return pairs


def _is_pair(group: dict[str, Tensor], W: str, U: str, order: str | None) -> bool:
    try:
        kind = _kind(group, W, U)
    except NotAGRUError:
        return False
    if order is None:  # many other layers have a matrix of four blocks
        return kind.name == "gru" or (kind.name == "lstm" and bool(RECURRENT.search(U)) and not RECURRENT.search(W))
    return order in kind.orders


def _biases(group: dict[str, Tensor], W: str, U: str) -> list[str]:
    return biases_of(max(group[U].shape), (name for name in group if name not in (W, U)), group)


def _guessed_cell(group: dict[str, Tensor], W: str, U: str, order: str) -> CellArrays:
    """Return the cell of W and U with the biases of the group. Raises `NotAGRUError` if one is missing that does not fit them."""
    biases = _biases(group, W, U)
    if len(biases) > 2:
        raise NotAGRUError(f"{', '.join(map(printable, biases[:4]))} fit as biases, and it has two at most: leave the others out")
    if len(biases) < 2:
        _check_biases({name: tensor for name, tensor in group.items() if name not in (W, U, *biases)}, max(group[U].shape))
    b, b_h, *_ = [*(group[name] for name in biases), None, None]
    return stacked_cell(group[W], group[U], b, b_h, None, order)


def _check_biases(others: dict[str, Tensor], width: int) -> None:
    """Raise `NotAGRUError` for an array that is a bias by its name, and not one of another layer in `others`."""
    sizes = {size for tensor in others.values() if len(tensor.shape) == 2 for size in tensor.shape}
    for name, tensor in others.items():
        of_another_layer = len(tensor.shape) == 1 and tensor.shape[0] in sizes
        if tensor.shape and BIAS.search(name) and not of_another_layer:
            raise NotAGRUError(
                f"the bias {printable(name)!r} has the shape {tensor.shape}, which does not fit: "
                f"make it {(width,)}, or {(2, width)} for two biases, or leave it out"
            )


# ------------------------------------------------------------------------------
# Reversal of torch's weight_norm: the weight is computed from its direction v and length g.


#: The name of a weight's g in torch.nn.utils.parametrizations; v has 1 in the place of 0. The older names end with _g and _v.
PARAMETRIZED = re.compile(r"(?s)(.*?)parametrizations\.(.+)\.original0")
#: Other parametrizations (spectral_norm, orthogonal) store one original, which is not the weight itself.
OTHER = re.compile(r"(?s)(?:(.*?)parametrizations\.(.+)\.original|(.*)_orig)")


def composed(tensors: Tensors) -> dict[str, Tensor]:
    """Return, by name, the weights for which `tensors` has g and v."""
    weights = {}
    for name, g in tensors.items():
        if match := PARAMETRIZED.fullmatch(name):
            weight, v = match[1] + match[2], tensors.get(name[:-1] + "1")
        elif name.endswith("_g"):
            weight, v = name[:-2], tensors.get(name[:-1] + "v")
        else:
            continue
        if v is not None and weight not in tensors and _fit(g, v):
            weights[weight] = Tensor(v.shape, v.dtype, partial(_compose, g, v))
    return weights


def _without_dropout(tensors: Tensors) -> dict[str, Tensor]:
    """Return, by name, the weights that are stored with the ending _raw, since training draws a dropout for them."""
    raw = {name.removesuffix("_raw"): tensor for name, tensor in tensors.items() if re.search(r"weight_[ih]h(_l\d+)?_raw$", name)}
    return {name: tensor for name, tensor in raw.items() if name not in tensors}


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


# ------------------------------------------------------------------------------
# Detection of recurrent layers among named arrays, by the names of torch, flax, equinox, MLX, Haiku and Keras.


#: A name can have a prefix, which is as short as possible, so that recurrent_kernel is not read as a prefix of kernel. The
#: separator of a library may have been replaced by another one.
PREFIX = r"(?s)(?:(?P<prefix>.*?)[./_])??"
LAYER = r"_l(?P<layer>\d{1,3})(?P<reverse>_reverse)?"


@dataclass
class Group:
    """The arrays of one GRU, LSTM or RNN: for each layer and direction, the names of the arrays by role."""

    family: Stacked | SeparateGates
    prefix: str
    cells: dict[tuple[int, bool], dict[str, str]] = field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        return {name for cell in self.cells.values() for name in cell.values()}


class NamesByPrefix:
    """The names of the arrays of a file, found by what they begin with; a file can have thousands of layers."""

    def __init__(self, names: Iterable[str]) -> None:
        self._places = {name: place for place, name in enumerate(names)}
        self._sorted = sorted(self._places)

    def beginning(self, prefix: str) -> list[str]:
        """Return the names that begin with a prefix, in the order of the file."""
        begin = bisect_left(self._sorted, prefix)
        matches = takewhile(lambda name: name.startswith(prefix), islice(self._sorted, begin, None))
        return sorted(matches, key=self._places.__getitem__)


def find_by_name(tensors: Tensors, format_name: str, path: Path, order: str | None, *, by_shape: bool = True) -> FileLayers:
    """Find every GRU, LSTM and RNN in `tensors`. If the names match no library, the shapes are tried, unless `by_shape` is False; a
    layer is then found only if `order` is given."""
    normed, raw = composed(tensors), _without_dropout(tensors)
    tensors = {**tensors, **normed, **raw}
    names, claimed = NamesByPrefix(tensors), set[str]()
    layers, refused = [], []
    families: tuple[Stacked | SeparateGates, ...] = (*STACKED, *APART)
    for family in families:
        for group in _groups(family, tensors, claimed):
            other_names, unread = _add_biases(group, tensors, names, claimed)
            claimed |= group.names
            name = printable(group.prefix) or _kind_by_name(group, tensors)
            try:
                _check_no_more(group, names)
                gru = _named_gru(group, tensors, name)
                if not other_names:
                    _check_pairs(group)
            except NotAGRUError as error:
                refused.append(f"{name}: {error}")
                continue
            composed_here = "; weight_norm is composed" if group.names & set(normed) else ""
            composed_here += "; weights stored as _raw, before a dropout of weights" if group.names & set(raw) else ""
            evidence, warning = gru.evidence + other_names + composed_here, "; ".join(filter(None, (unread, gru.warning)))
            layers.append(replace(gru, format=format_name, path=path, evidence=evidence, warning=warning))
    refused.extend(
        f"{printable(weight)} has a parametrization other than weight_norm: save it after "
        f"torch.nn.utils.parametrize.remove_parametrizations"
        for weight in otherwise_parametrized(tensors)
        if weight not in tensors and re.search(r"(?:weight|bias)_[ih]h", weight)
    )
    if not layers and not refused:
        more = concatenated(tensors)
        layers, refused = [replace(gru, format=format_name, path=path) for gru in more.layers], list(more.refused)
    if not layers and not refused and by_shape:
        more = guessed({name: tensor for name, tensor in tensors.items() if name not in claimed}, order)
        layers, refused = [replace(gru, format=format_name, path=path) for gru in more.layers], list(more.refused)
    return FileLayers(tuple(layers), tuple(refused))


def _groups(family: Stacked | SeparateGates, tensors: Tensors, claimed: set[str]) -> Iterator[Group]:
    roles = _roles(family)
    spelled = "|".join(re.escape(name).replace("/", "[./]") for name in roles)
    layered = isinstance(family, Stacked) and family.layered
    pattern = re.compile(f"{PREFIX}(?P<role>{spelled}){LAYER if layered else ''}(?::0)?")
    groups: dict[str, Group] = {}
    for name in tensors:
        if name not in claimed and (match := pattern.fullmatch(name)):
            group = groups.setdefault(match["prefix"] or "", Group(family, match["prefix"] or ""))
            key = (int(match["layer"]), bool(match["reverse"])) if layered else (0, False)
            group.cells.setdefault(key, {})[roles[match["role"].replace(".", "/")]] = name
    required = set(family.required) if isinstance(family, Stacked) else {role for role in roles.values() if role[0] in "WU"}
    for group in groups.values():
        if any(required <= set(cell) for cell in group.cells.values()):
            yield group


def _kind_by_name(group: Group, tensors: Tensors) -> str:
    """Return the name of a layer without a prefix: that of its kind."""
    shape = tensors[next(name for cell in group.cells.values() for role, name in cell.items() if role[0] == "U")].shape
    blocks = max(shape) // min(shape) if len(shape) == 2 and min(shape) else 0
    kind = KINDS[group.family.convention.kind] if isinstance(group.family, SeparateGates) else BY_BLOCKS.get(blocks)
    return ("lstm" if any(map(PROJECTION.fullmatch, tensors)) else "gru") if kind is None else kind.name


#: Names of the weights of parts that are not opened: the projection of torch's LSTM, and peepholes of other programs.
PROJECTION, PEEPHOLE = re.compile(r"weight_hr(?:_l\d+|$)"), re.compile(r"(?i)peep|w_[ifo]_diag|W_cell_to_|(?:^|[._/])[Wp]_?c[ifo]$")


def _check_no_more(group: Group, names: NamesByPrefix) -> None:
    """Raise `NotAGRUError` for an LSTM with a projection or with peepholes, whose other weights have the usual names."""
    endings = [name[len(group.prefix) :] for name in names.beginning(group.prefix)]
    if any(PROJECTION.search(name) for name in endings):
        raise NotAGRUError("it is an LSTM with a projection (proj_size), which is not supported; an LSTM without one is opened")
    if any(PEEPHOLE.search(name) for name in endings):
        raise NotAGRUError("it has peepholes, from the cell to the gates, which are not supported; an LSTM without them is opened")


def _add_biases(group: Group, tensors: Tensors, names: NamesByPrefix, claimed: AbstractSet[str]) -> tuple[str, str]:
    """Add biases that have other names than those of the family, by their shapes, among the names that are not claimed.

    Return what to add to the evidence, and a warning if there are too many to tell which are the biases.
    """
    roles, *more = group.cells.values()
    if more or isinstance(group.family, SeparateGates) or set(roles) != {"W", "U"} or len(tensors[roles["U"]].shape) != 2:
        return "", ""
    start = group.prefix and roles["W"][: len(group.prefix) + 1]
    neighbours = [name for name in names.beginning(start) if name not in claimed and not re.search("[./]", name[len(start) :])]
    biases = biases_of(max(tensors[roles["U"]].shape), (name for name in neighbours if name not in group.names), tensors)
    if len(biases) > 2:
        return "", f"{', '.join(map(printable, biases))} have the shape of a bias and are not read, as a cell has two at most"
    roles.update(zip("bh", biases, strict=False))
    return f"; biases {' and '.join(map(printable, biases))} by their shapes" if biases else "", ""


def _check_pairs(group: Group) -> None:
    """Raise `NotAGRUError` for one bias of a pair. The other would be read as zeros, which gives other states than the model."""
    family = group.family
    if isinstance(family, SeparateGates) or not family.pairs:
        return
    for roles in group.cells.values():
        if ("b" in roles) != ("h" in roles):
            role, present, missing = ("b", family.b, family.b_h) if "b" in roles else ("h", family.b_h, family.b)
            name = printable(roles[role])
            other = missing.join(name.rsplit(present, 1))
            raise NotAGRUError(f"it has {name} without {other}; save both, with zeros for one that is not used")


def _roles(family: Stacked | SeparateGates) -> dict[str, str]:
    """Return the role of each name of a family: W U b h n for stacked gates, Wz … hn, or Wi … ho, for separate gates."""
    if isinstance(family, Stacked):
        named = {family.W: "W", family.U: "U", family.b: "b", family.b_h: "h", family.b_hn: "n"}
    else:
        parts, order = {"W": family.W, "U": family.U, "b": family.b, "h": family.b_h}, family.convention.order
        named = {name: part + gate for part, names in parts.items() for gate, name in zip(order, names, strict=True)}
    return {name: role for name, role in named.items() if name}


def _named_gru(group: Group, tensors: Tensors, name: str) -> FoundGRU:
    family = group.family
    cells = {key: _named_cell(family, cell, tensors) for key, cell in group.cells.items()}
    for spelled, role in _roles(family).items():
        if len({role in names for names in group.cells.values()}) > 1:
            raise NotAGRUError(f"{spelled} of one layer or direction is missing; save all of them")
    first = next(iter(cells.values()))
    convention, doubt = _convention(family, first)
    label = family.label.format(first.kind.name.upper())
    gates = f"gates {' '.join(convention.order) if isinstance(family, Stacked) else 'by name'}" if len(convention.order) > 1 else ""
    parts = gates, convention.reset and f"reset {convention.reset}", convention.z and f"z {convention.z}"
    evidence = f"named as {label}: {', '.join(filter(None, parts)) or convention.gate}"
    warning = "; ".join(filter(None, (family.guess, doubt)))
    if warning:
        warning += ": give an input and its output to prove it"
    return stack(name, cells, convention, evidence, warning)


def _named_cell(family: Stacked | SeparateGates, names: dict[str, str], tensors: Tensors) -> CellArrays:
    def of(role: str) -> Tensor | None:
        return tensors[names[role]] if role in names else None

    if isinstance(family, Stacked):
        W, U = of("W"), of("U")
        if W is None or U is None:
            raise NotAGRUError(f"{family.W if W is None else family.U} of one layer or direction is missing")
        return stacked_cell(W, U, of("b"), of("h"), of("n"), family.conventions[0].order, by_rows=family.by_rows)
    matrices = {part: [of(part + gate) for gate in family.convention.order] for part in "WUbh"}
    Ws, Us = ([tensor for tensor in matrices[part] if tensor] for part in "WU")
    return separate_cell(Ws, Us, matrices["b"], matrices["h"], by_rows=family.by_rows)


def _convention(family: Stacked | SeparateGates, cell: CellArrays) -> tuple[Convention, str]:
    """Return the convention of a cell, and what neither the family nor the biases determine.

    Raises `NotAGRUError` for a kind that the library stores in another way.
    """
    conventions = family.conventions if isinstance(family, Stacked) else (family.convention,)
    convention = next((c for c in conventions if c.kind == cell.kind.name), None)
    if convention is None:
        label = family.label.format(cell.kind.name.upper())
        raise NotAGRUError(f"it is {cell.kind.words}, which is not stored as {label} is; {ONLY} under known names")
    if convention.kind == "rnn":
        return convention, "tanh is assumed, and the names do not say that it is not relu"
    if convention.kind == "lstm" or convention.reset:
        return convention, ""
    if cell.biases in ("two", "one and bhn"):  # two biases make a difference only if reset acts after the product
        return replace(convention, reset="after"), ""
    return replace(convention, reset="before"), "" if cell.biases == "one" else "the place of the reset gate is not known"
