"""Tables of the names that libraries give to the weights of a GRU, with the convention of each library."""

from __future__ import annotations

from dataclasses import dataclass

from tui_gru.interop.found import Convention

TORCH = Convention("rzn", "after")


@dataclass(frozen=True)
class Stacked:
    """Names for gates stacked in one matrix: of W, U, the bias of the input, the bias of the state, and the state bias of n alone.

    With `layered`, names can end with torch's layer and direction. A GRU must have the parts in `required`; with `pairs`,
    it has both biases or none.
    """

    label: str
    W: str
    U: str
    b: str
    b_h: str
    b_hn: str
    convention: Convention
    layered: bool = False
    required: str = "WU"
    pairs: bool = False
    guess: str = ""  # the part of the convention that cannot be concluded from the names


@dataclass(frozen=True)
class SeparateGates:
    """Names for gates in separate matrices: of W, U, b and b_h, each for the gates z, r and n in this order."""

    label: str
    W: tuple[str, str, str]
    U: tuple[str, str, str]
    b: tuple[str, str, str]
    b_h: tuple[str, str, str]
    convention: Convention
    guess: str = ""


#: In the order in which they are tried. For Keras, the shape of the bias decides whether the reset gate acts before or after.
STACKED = (
    Stacked("torch's nn.GRU", "weight_ih", "weight_hh", "bias_ih", "bias_hh", "", TORCH, layered=True, pairs=True),
    Stacked("equinox's GRUCell", "weight_ih", "weight_hh", "bias", "", "bias_n", TORCH, required="WUn"),
    Stacked("torch's GRUCell", "weight_ih", "weight_hh", "bias_ih", "bias_hh", "", TORCH, pairs=True),
    Stacked(
        "torch's gru_cell", "w_ih", "w_hh", "b_ih", "b_hh", "", TORCH, guess="the names are torch's, the program may be another"
    ),
    Stacked(
        "torch's gru_cell", "W_ih", "W_hh", "b_ih", "b_hh", "", TORCH, guess="the names are torch's, the program may be another"
    ),
    Stacked("MLX's GRU", "Wx", "Wh", "b", "", "bhn", TORCH),
    Stacked("flax nnx's GRUCell", "dense_i/kernel", "dense_h/kernel", "dense_i/bias", "dense_h/bias", "", TORCH),
    Stacked("Haiku's GRU", "w_i", "w_h", "b", "", "", Convention("zrn", "before", "takes")),
    Stacked("Keras's GRU", "kernel", "recurrent_kernel", "bias", "", "", Convention("zrn", "")),
)


def _gates(pattern: str, z: str, r: str, n: str) -> tuple[str, str, str]:
    return pattern.format(z), pattern.format(r), pattern.format(n)


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
)
