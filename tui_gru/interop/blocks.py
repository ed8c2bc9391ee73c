"""One layer in one direction as stored in a file, and its conversion to the canonical form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np

from tui_gru.interop.tensors import AnyArray

#: One layer in one direction in canonical form. Inputs multiply from the left (x W), and z keeps the old state: Wz Wr Wh (I, H), Uz
#: Ur Uh (H, H), bz br bh (H). If the reset gate acts after the product, also bhz bhr bhn (H).
Cell: TypeAlias = Mapping[str, AnyArray]

GATES = "zrn"  # update, reset, candidate ("new"), with the letters of `order`
LETTERS = {"z": "z", "r": "r", "n": "h"}  # with the letters of the weights, whose candidate is h


@dataclass(frozen=True, eq=False)
class Blocks:
    """The gates in the order of the file, for inputs that multiply from the left: W (3, I, H), U (3, H, H), b and b_h (3, H).

    b_h is the bias of h_prev U; it is zero if the file has none.
    """

    W: AnyArray
    U: AnyArray
    b: AnyArray
    b_h: AnyArray


def canonical(blocks: Blocks, order: str, reset: str, z: str) -> dict[str, AnyArray]:
    """Return `blocks`, read in one convention, as a `Cell` of contiguous arrays.

    A z that takes the new state is 1 minus a z that keeps the old one. Since σ(−a) = 1 − σ(a) for every gate function, negating the
    weights of z converts one into the other.
    """
    cell: dict[str, AnyArray] = {}
    for k, gate in enumerate(order):
        sign = partial(np.negative if gate == "z" and z == "takes" else np.array, order="C")  # both calls copy
        letter = LETTERS[gate]
        cell[f"W{letter}"] = sign(blocks.W[k])
        cell[f"U{letter}"] = sign(blocks.U[k])
        if reset == "after":
            cell[f"b{letter}"] = sign(blocks.b[k])
            cell[f"bh{gate}"] = sign(blocks.b_h[k])
        else:  # both biases are added to the same sum
            cell[f"b{letter}"] = sign(blocks.b[k] + blocks.b_h[k])
    return cell
