"""What is found in a file: GRUs, each with its shape, its convention, the evidence for it and its weights; and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import permutations
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np

from tui_gru.interop.blocks import GATES, Blocks, Cell, canonical
from tui_gru.interop.containers.opened import OpenedFile
from tui_gru.interop.errors import ModelFileError, printable
from tui_gru.interop.tensors import AnyArray, Tensor

ORDERS = tuple("".join(order) for order in permutations("rzn"))
ResetPlace = Literal["after", "before"]
ZMeaning = Literal["keeps", "takes"]
Gate = Literal["sigmoid", "hard_sigmoid", "hard_sigmoid_6"]
RESETS: tuple[ResetPlace, ...] = get_args(ResetPlace)
Z_MEANINGS: tuple[ZMeaning, ...] = get_args(ZMeaning)
#: The gate functions: σ; clip(0.2 a + 0.5), of Keras 1 and 2 and of ONNX; clip(a/6 + 0.5), of Keras 3 and torch.
GATE_FUNCTIONS: tuple[Gate, ...] = get_args(Gate)

BlockSource: TypeAlias = Callable[[], Blocks]


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """The weights of a GRU in canonical form, and the initial state and row lengths if the file has them."""

    cells: tuple[tuple[Cell, ...], ...]  # by layer, then by direction
    h0: AnyArray | None = None  # (layers · directions, B, H)
    lengths: AnyArray | None = None  # (B)


@dataclass(frozen=True)
class Convention:
    """The convention of the numbers in a file.

    order: the order of the stacked gates, r reset, z update, n candidate. reset: the reset gate multiplies h_prev "before" its
    product with U, or the product "after" it. z: it "keeps" the old state, or "takes" the new one. gate: see GATE_FUNCTIONS.
    """

    order: str
    reset: str
    z: str = "keeps"
    gate: str = "sigmoid"


@dataclass(frozen=True)
class FoundGRU:
    """A GRU of one or more layers of the same width, in one or two directions."""

    name: str
    format: str
    layers: int
    directions: tuple[str, ...]  # "forward", "reverse", or both
    input_size: int
    hidden_size: int
    convention: Convention
    biases: str  # "none", "one", "two", or "one and bhn"
    dtype: str  # as stored; weights() gives float32, or float64 for float64
    evidence: str  # what the convention is concluded from
    warning: str = ""  # a reason to doubt the convention
    batch_first: bool | None = None  # None if the file does not say
    path: Path = Path()
    sources: tuple[tuple[BlockSource, ...], ...] = field(default=(), repr=False, compare=False)  # by layer, then by direction
    h0: Tensor | None = field(default=None, repr=False, compare=False)
    lengths: Tensor | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        ways = "both directions" if self.bidirectional else self.directions[0]
        sizes = f"{self.layers} layer{'s' * (self.layers > 1)}, {ways}, {self.input_size} inputs, {self.hidden_size} units"
        return f"<GRU {self.name!r} of {self.path.name}: {sizes}; reset {self.reset}, z {self.z}, {self.gate}>"

    @property
    def bidirectional(self) -> bool:
        return len(self.directions) == 2

    @property
    def order(self) -> str:
        return self.convention.order

    @property
    def reset(self) -> str:
        return self.convention.reset

    @property
    def z(self) -> str:
        return self.convention.z

    @property
    def gate(self) -> str:
        return self.convention.gate

    def blocks(self) -> tuple[tuple[Blocks, ...], ...]:
        """Return the numbers as stored, by layer and direction. Raises `ModelFileError` if the file has changed."""
        try:
            with np.errstate(all="ignore"):  # NaN and infinities are allowed
                return tuple(tuple(source() for source in layer) for layer in self.sources)
        except ModelFileError as error:
            raise ModelFileError(f"{printable(self.path, 250)}: {self.name}: {error}") from None
        except OSError as error:
            raise ModelFileError(
                f"{printable(self.path, 250)}: it cannot be read: {error.strerror or error}; open it again"
            ) from None

    def weights(self) -> LayerWeights:
        """Return the weights in canonical form. Raises `ModelFileError`."""
        blocks = self.blocks()
        with np.errstate(all="ignore"):
            cells = tuple(tuple(canonical(b, self.order, self.reset, self.z) for b in layer) for layer in blocks)
        return LayerWeights(cells, self.h0.read() if self.h0 else None, self.lengths.read() if self.lengths else None)

    def read_as(
        self,
        order: str | None = None,
        reset: str | None = None,
        z: str | None = None,
        gate: str | None = None,
        evidence: str | None = None,
    ) -> FoundGRU:
        """Return the same GRU read in another convention; options that are None are unchanged. Raises `ModelFileError` for an
        invalid value."""
        given = checked_convention(order, reset, z, gate)
        if not given:
            return self
        convention = replace(self.convention, **given)
        if evidence is None:
            changes = ", ".join(f"{option} {value}" for option, value in given.items())
            evidence = self.evidence if convention == self.convention else f"{changes}: as you said; otherwise {self.evidence}"
        warning = self.warning if set(given) == {"order"} else ""  # the warning was about the convention that the file suggests
        return replace(self, convention=convention, evidence=evidence, warning=warning)


def checked_convention(order: str | None, reset: str | None, z: str | None, gate: str | None) -> dict[str, str]:
    """Return the given options, checked. Raises a `ModelFileError` that names the option."""
    if order is not None:
        order = str(order).lower().replace("h", "n").replace("u", "z")
        if sorted(order) != sorted(GATES):
            raise ModelFileError(
                f"order is {order!r}; write the gates r, z and n as they are stacked, for example rzn", option="order"
            )
    choices = {"order": (order, ORDERS), "reset": (reset, RESETS), "z": (z, Z_MEANINGS), "gate": (gate, GATE_FUNCTIONS)}
    given = {}
    for option, (value, allowed) in choices.items():
        if value is not None and value not in allowed:
            raise ModelFileError(f"{option} is {value!r}; write one of {', '.join(allowed)}", option=option)
        if value is not None:
            given[option] = value
    return given


@dataclass(frozen=True)
class Findings:
    """The GRUs found in a file. `refused` has one line for each network that cannot be opened, which says what to do."""

    found: tuple[FoundGRU, ...] = ()
    refused: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileFormat:
    """A file format: `fits` recognises it by its content, and `find` finds the GRUs in it.

    `find(file, order)` raises `ModelFileError` if it refuses the file; `order` is the order of gates given by the user, or None.
    """

    name: str
    fits: Callable[[OpenedFile], bool]
    find: Callable[[OpenedFile, str | None], Findings]
