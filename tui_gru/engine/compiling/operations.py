"""The operations of a compiled model, and the memory of their results."""

from __future__ import annotations

from dataclasses import dataclass

from tui_gru.equations.axes import Axes

#: Elementwise operations, and the NumPy function of each.
ELEMENTWISE = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "div": "divide",
    "neg": "negative",
    "power": "power",
    "exp": "exp",
    "log": "log",
    "sqrt": "sqrt",
    "tanh": "tanh",
    "reciprocal": "reciprocal",
    "maximum": "maximum",
    "minimum": "minimum",
    "greater": "greater",
    "less": "less",
}
#: Functions that do not accept the result array as a positional argument, and the keyword for it.
OUT = {"maximum": "out=", "minimum": "out="}


@dataclass(eq=False)
class Slot:
    """Memory of one value, or of several values in turn, of which the last one remains.

    `kind` is record, state (with memory for T + 1 timesteps), ids (the index of a one-hot row), or parameter. `line` is the
    number of the line, in its phase, that writes the remaining value. `whole` says that it has memory for every timestep.
    """

    axes: Axes
    kind: str
    name: str = ""
    phase: str = ""
    line: int = -1
    whole: bool = True


@dataclass(eq=False)
class Operation:
    """A value: the operation that computes it, or a leaf (an input, a state, a parameter, a constant), which has no `args`.

    `half` is 1 for a value in the memory of a state that is stored one timestep later. `carried`, for a state that is read, is
    the operation that computes it; `log_of`, for a logarithm, is the softmax it is applied to. `stage`, `loop` (−1 for none) and
    `depth` give the order of execution.
    """

    kind: str
    args: tuple[Operation, ...] = ()
    axes: Axes = ()
    phase: str = ""
    line: int = -1
    over: str = ""
    number: float = 0.0
    name: str = ""
    slot: Slot | None = None
    crosses: bool = False  # whether another phase reads it
    half: int = 0
    carried: Operation | None = None
    log_of: Operation | None = None
    stage: int = 0
    loop: int = -1
    depth: int = 0

    @property
    def memory(self) -> Slot:
        """The slot; set once memory has been planned."""
        assert self.slot is not None
        return self.slot

    @property
    def timed(self) -> bool:
        """Whether it has a value for every timestep."""
        return self.axes[:1] == ("T",)

    @property
    def when(self) -> tuple[int, int, int]:
        """Its place in the order of execution."""
        return self.stage, self.loop, self.depth
