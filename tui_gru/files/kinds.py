"""The kinds of recurrent cells, with all ways to read the numbers of their weights, the canonical form, and their formulas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import permutations, product
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from tui_gru import errors
from tui_gru.equations.functions import GATE_NAMES, GATES, MIDDLE, STATE_FUNCTIONS
from tui_gru.errors import ModelFileError

Kind = Literal["gru", "lstm", "rnn"]
ResetPlace = Literal["after", "before"]
ZMeaning = Literal["keeps", "takes"]
RESETS: tuple[ResetPlace, ...] = get_args(ResetPlace)
Z_MEANINGS: tuple[ZMeaning, ...] = get_args(ZMeaning)
NONE = ("",)  # of what a kind does not have


@dataclass(frozen=True)
class Convention:
    """The convention of the numbers in a file.

    order: the order of the stacked gates, with the letters of their kind. reset, of a GRU: the reset gate multiplies h_prev
    "before" its product with U, or the product "after" it. z, of a GRU: it "keeps" the old state, or "takes" the new one. gate: the
    function of the gates; of an RNN, which has none, that of the state. forget_bias, of an LSTM: what the program adds to the bias
    of the forget gate, which is not in the file. state_function, of a GRU or an LSTM: the function of the candidate, and of the
    cell of an LSTM in its hidden state.
    """

    order: str
    reset: str = ""
    z: str = "keeps"
    gate: str = "sigmoid"
    kind: str = "gru"
    forget_bias: int = 0
    state_function: str = "tanh"

    def __str__(self) -> str:
        return f"gates {' '.join(self.order)}, {self.without_order}" if len(self.order) > 1 else self.without_order

    @property
    def without_order(self) -> str:
        """The convention in words, without the order of the gates."""
        added = f"{self.forget_bias} added to the bias of the forget gate" if self.forget_bias else ""
        parts = self.reset and f"reset {self.reset}", self.z and f"z {self.z}", self.functions, added
        return ", ".join(filter(None, parts))

    @property
    def functions(self) -> str:
        """The function of the gates, and that of the state if it is not tanh, in words."""
        return self.gate if self.state_function == "tanh" else f"{self.gate}, {self.state_function} in place of tanh"


@dataclass(frozen=True)
class CellKind:
    """A kind of cell. `gates` has the letters of its blocks in our order, `letters` those of its weights: Wz, Uz, bz … `states` are
    the states that a timestep passes on; the first one is the output. The other fields have the values of a `Convention`."""

    name: Kind
    words: str
    gates: str
    letters: Mapping[str, str]
    functions: tuple[str, ...]
    states: str = "h"
    candidate: str = ""  # the gate of a GRU that the reset gate acts on
    resets: tuple[str, ...] = NONE
    z_meanings: tuple[str, ...] = NONE
    forget_biases: tuple[int, ...] = (0,)
    state_functions: tuple[str, ...] = STATE_FUNCTIONS

    @cached_property
    def orders(self) -> tuple[str, ...]:
        return tuple(sorted("".join(order) for order in permutations(self.gates)))

    @property
    def options(self) -> Mapping[str, tuple[str, ...]]:
        """The values of each option that a user can give."""
        return {"order": self.orders, "reset": self.resets, "z": self.z_meanings, "gate": self.functions}

    @cached_property
    def conventions(self) -> tuple[Convention, ...]:
        """All ways to read the numbers of a cell of this kind."""
        choices = product(self.state_functions, self.orders, self.resets, self.z_meanings, self.functions, self.forget_biases)
        return tuple(Convention(order, reset, z, gate, self.name, bias, state) for state, order, reset, z, gate, bias in choices)


KINDS: Mapping[str, CellKind] = {
    kind.name: kind
    for kind in (
        CellKind("gru", "a GRU", "zrn", {"z": "z", "r": "r", "n": "h"}, GATE_NAMES, "h", "n", RESETS, Z_MEANINGS),
        CellKind("lstm", "an LSTM", "ifgo", {gate: gate for gate in "ifgo"}, GATE_NAMES, "hc", forget_biases=(0, 1)),
        CellKind("rnn", "a plain RNN", "h", {"h": "h"}, STATE_FUNCTIONS, state_functions=("tanh",)),
    )
}
LSTM, RNN = Convention("ifgo", z="", kind="lstm"), Convention("h", z="", gate="tanh", kind="rnn")  # as torch stores them
#: For the number of blocks that are stacked in a matrix, the kind of cell.
BY_BLOCKS = {len(kind.gates): kind for kind in KINDS.values()}


def checked_convention(order: str | None, reset: str | None, z: str | None, gate: str | None) -> dict[str, str]:
    """Return the given options, checked for some kind of cell. Raises a `ModelFileError` that names the option."""
    if order is not None:
        order = order.lower() if isinstance(order, str) else errors.shown(order)
        order = order.replace("c", "g") if len(order) == 4 else order.replace("h", "n").replace("u", "z")
        if not any(order in kind.orders for kind in KINDS.values()):
            raise ModelFileError(
                f"order is {order!r}; write the gates as they are stacked: r, z and n of a GRU, for example rzn, or i, f, g and o "
                "of an LSTM, for example ifgo",
                option="order",
            )
    choices = {"reset": (reset, RESETS), "z": (z, Z_MEANINGS), "gate": (gate, (*GATE_NAMES, *STATE_FUNCTIONS))}
    options = {} if order is None else {"order": order}
    for option, (value, allowed) in choices.items():
        if value is not None and (not isinstance(value, str) or value not in allowed):
            raise ModelFileError(f"{option} is {errors.shown(value)}; write one of {', '.join(allowed)}", option=option)
        if value is not None:
            options[option] = value
    return options


def options_of(kind: CellKind, options: Mapping[str, str]) -> dict[str, str]:
    """Return the same options, checked for one kind. Raises a `ModelFileError` about an option that this kind does not have."""
    for option, value in options.items():
        if value not in kind.options[option]:
            allowed = ", ".join(kind.options[option])
            cure = f"; write one of {allowed}, as this is {kind.words}" if allowed else f", and this is {kind.words}: leave it out"
            raise ModelFileError(f"{option} is {value!r}{cure}", option=option)
    return dict(options)


# ------------------------------------------------------------------------------
# One layer in one direction as stored in a file, and its conversion to the canonical form.


#: One layer in one direction in canonical form. Inputs multiply from the left (x W), and z keeps the old state: W (I, H), U (H, H)
#: and b (H) of each gate by its letter, Wz Wr Wh … If the reset gate of a GRU acts after the product, also bhz bhr bhn (H).
Cell: TypeAlias = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Blocks:
    """The gates in the order of the file, for inputs that multiply from the left: W (G, I, H), U (G, H, H), b and b_h (G, H).

    b_h is the bias of h_prev U; it is zero if the file has none.
    """

    W: NDArray[Any]
    U: NDArray[Any]
    b: NDArray[Any]
    b_h: NDArray[Any]


def canonical(blocks: Blocks, convention: Convention) -> dict[str, NDArray[Any]]:
    """Return `blocks`, read in one convention, as a `Cell` of contiguous arrays.

    A z that takes the new state is 1 minus a z that keeps the old one. Since σ(−a) = 1 − σ(a) for every gate function, negating the
    weights of z converts one into the other.
    """
    cell: dict[str, NDArray[Any]] = {}
    for k, gate in enumerate(convention.order):
        negated = convention.kind == "gru" and gate == "z" and convention.z == "takes"
        letter, copied = KINDS[convention.kind].letters[gate], np.negative if negated else np.array
        cell[f"W{letter}"] = copied(blocks.W[k], order="C")
        cell[f"U{letter}"] = copied(blocks.U[k], order="C")
        if convention.reset == "after":
            cell[f"b{letter}"] = copied(blocks.b[k])
            cell[f"bh{gate}"] = copied(blocks.b_h[k])
        else:  # both biases are added to the same sum
            added = convention.forget_bias if convention.kind == "lstm" and gate == "f" else 0
            cell[f"b{letter}"] = copied(blocks.b[k] + blocks.b_h[k] + blocks.b.dtype.type(added))
    return cell


# ------------------------------------------------------------------------------
# The formulas of all kinds of cells, without the engine, so that a mistake in it cannot prove a convention.


def gate_function(name: str, a: NDArray[Any]) -> NDArray[Any]:
    """Return a function of gates or of the state, by the name that a `Convention` has for it."""
    if name in STATE_FUNCTIONS:
        state: NDArray[Any] = np.tanh(a) if name == "tanh" else np.maximum(a, 0)
        return state
    slope = GATES[name].slope
    gate: NDArray[Any] = 0.5 + 0.5 * np.tanh(0.5 * a) if slope is None else np.clip(slope * a + MIDDLE, 0, 1)  # neither overflows
    return gate


States = tuple[NDArray[Any], ...]


def gates_of_gru(
    x: NDArray[Any], h: NDArray[Any], cell: Cell, convention: Convention
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return z, r and the candidate, each (B, H), for x (B, I) and h (B, H)."""
    function, candidate = partial(gate_function, convention.gate), partial(gate_function, convention.state_function)
    if convention.reset == "after":
        z = function(x @ cell["Wz"] + h @ cell["Uz"] + cell["bz"] + cell["bhz"])
        r = function(x @ cell["Wr"] + h @ cell["Ur"] + cell["br"] + cell["bhr"])
        return z, r, candidate(x @ cell["Wh"] + cell["bh"] + r * (h @ cell["Uh"] + cell["bhn"]))
    z = function(x @ cell["Wz"] + h @ cell["Uz"] + cell["bz"])
    r = function(x @ cell["Wr"] + h @ cell["Ur"] + cell["br"])
    return z, r, candidate(x @ cell["Wh"] + (r * h) @ cell["Uh"] + cell["bh"])


def _gru(x: NDArray[Any], states: States, cell: Cell, convention: Convention) -> States:
    (h,) = states
    z, _, n = gates_of_gru(x, h, cell, convention)
    return (z * h + (1 - z) * n,)


def _lstm(x: NDArray[Any], states: States, cell: Cell, convention: Convention) -> States:
    (h, c), functions = states, {"g": convention.state_function}
    i, f, g, q = (
        gate_function(functions.get(gate, convention.gate), x @ cell[f"W{gate}"] + h @ cell[f"U{gate}"] + cell[f"b{gate}"])
        for gate in KINDS["lstm"].gates
    )
    c = f * c + i * g
    return q * gate_function(convention.state_function, c), c


def _rnn(x: NDArray[Any], states: States, cell: Cell, convention: Convention) -> States:
    return (gate_function(convention.gate, x @ cell["Wh"] + states[0] @ cell["Uh"] + cell["bh"]),)


_STEPS = {"gru": _gru, "lstm": _lstm, "rnn": _rnn}


def cell_step(x: NDArray[Any], states: States, cell: Cell, convention: Convention) -> States:
    """Return the states after one timestep, each (B, H), the output first. x is (B, I), `states` are those before it."""
    return _STEPS[convention.kind](x, states, cell, convention)
