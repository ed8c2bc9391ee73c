"""Detection of GRUs among arrays with unknown names, by shape. The user must give the order of the gates."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations

from tui_gru.interop.errors import printable
from tui_gru.interop.found import Convention, Findings, FoundGRU
from tui_gru.interop.matching.cells import CellArrays, NotAGRUError, stack, stacked_cell
from tui_gru.interop.tensors import Tensor, Tensors

#: Names of arrays that are multiplied with, or added to, the state, not the input.
RECURRENT = re.compile(r"(?i)hh|rec|hid|(?:^|[./_])(?:u|r|wh|w_h|bh|b_h)\d*$")
#: Names of biases of gates; `by` and the like belong to other layers.
BIAS = re.compile(r"(?i)bias[^./]*$|(?:^|[./_])b(?:[_-]?(?:[ihxuzrn]|ih|hh|in|rec|gates?)|_?\d)?$")
MOST_MATRICES = 12
PAIRED = "fit together as a GRU in more than one way; give them names as in torch: weight_ih, weight_hh, bias_ih, bias_hh"


def guessed(tensors: Tensors, order: str | None) -> Findings:
    """Find the arrays that fit together as one GRU among those whose names are equal before the last point, slash or underscore.

    If that leaves biases out, as with W_ih and b_ih, among those whose names are equal before the last point or slash.
    """
    groups: dict[str, dict[str, Tensor]] = {}
    for prefix, group in _grouped(tensors, "./").items():
        finer, pairs = _grouped(group, "./_"), _pairs(group)
        groups |= finer if len(pairs) != 1 or _is_complete(finer, group, *pairs[0]) else {prefix: group}
    found, refused = [], []
    for prefix, group in groups.items():
        if pairs := _pairs(group):
            W, U = pairs[0]
            name = printable(prefix) or "gru"
            try:
                found.append(_guessed_gru(name, group, pairs, order))
            except NotAGRUError as error:
                both = f"{printable(W)} {group[W].shape} and {printable(U)} {group[U].shape}"
                refused.append(f"{name}: {both} {error}")
    return Findings(tuple(found), tuple(refused))


def _guessed_gru(name: str, group: dict[str, Tensor], pairs: Sequence[tuple[str, str]], order: str | None) -> FoundGRU:
    """Return the GRU of the only pair of matrices in a group. Raises `NotAGRUError` with what there is to say about the pair."""
    if len(pairs) > 1:
        raise NotAGRUError(PAIRED)
    if order is None:
        raise NotAGRUError(
            "may be a GRU, but no name says in which order its gates are stacked; "
            "give the order: rzn as in torch, zrn as in Keras and ONNX"
        )
    try:
        cell = _guessed_cell(group, *pairs[0], order)
    except NotAGRUError as error:
        raise NotAGRUError(f"are a GRU's, but {error}") from None
    reset = "after" if cell.biases == "two" or order == "rzn" else "before"
    warning = f"reset {reset} and z keeps are assumed: give an input and its output to prove them"
    evidence = f"gates {' '.join(order)}: as you said; found by its shapes"
    return stack(name, {(0, False): cell}, Convention(order, reset), evidence, warning)


def biases_of(width: int, names: Iterable[str], tensors: Tensors) -> list[str]:
    """Return those of the names whose arrays have the shape of the biases of a GRU of `width` 3H, the input's first."""
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


def _pairs(group: dict[str, Tensor]) -> list[tuple[str, str]]:
    """Return the pairs of names (W, U) whose shapes fit."""
    matrices = [name for name, tensor in group.items() if len(tensor.shape) == 2 and tensor.shape[0] != 2]
    if len(matrices) > MOST_MATRICES:
        return []
    pairs = [(W, U) for W, U in permutations(matrices, 2) if _is_pair(group[W], group[U])]
    if len(pairs) == 2 and pairs[0] == pairs[1][::-1]:  # if I = H, both orders fit: the names or the order in the file decide
        pairs.sort(key=lambda pair: bool(RECURRENT.search(pair[0])))
        return pairs[:1]
    return pairs


def _is_pair(W: Tensor, U: Tensor) -> bool:
    try:
        stacked_cell(W, U, None, None, None, "rzn")
    except NotAGRUError:
        return False
    return True


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
