"""The operations of a compiled model, and the memory slots of their results."""

from __future__ import annotations

from dataclasses import dataclass

from tui_gru.equations.axes import Axes

#: The NumPy function of each elementwise operation.
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
#: Functions that do not accept the result array as a positional argument, with the keyword for it.
OUT = {"maximum": "out=", "minimum": "out="}


@dataclass(eq=False)
class Slot:
    """The memory of one value, or of several values that are stored one after the other; the last one remains.

    `kind` is record, state (with memory for T + 1 timesteps), ids (the index of a one-hot row), or parameter. `line` is the number
    of the line, in its phase, that writes the remaining value. `whole` is True if there is memory for every timestep.
    """

    axes: Axes
    kind: str
    name: str = ""
    phase: str = ""
    line: int = -1
    whole: bool = True


@dataclass(eq=False)
class Operation:
    """A value: the operation that computes it, or a leaf without `args` (an input, a state, a parameter, a constant).

    `half` is 1 for a value in the memory of a state that is stored one timestep later. For a state that is read, `carried` is the
    operation that computes it; for a logarithm of a softmax, `log_of` is that softmax. `stage`, `loop` (−1 for none) and `depth`
    give the order of execution.
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
    crosses: bool = False  # True if another phase reads it
    half: int = 0
    carried: Operation | None = None
    log_of: Operation | None = None
    stage: int = 0
    loop: int = -1
    depth: int = 0

    @property
    def memory(self) -> Slot:
        """The slot. It is set when memory has been planned."""
        assert self.slot is not None
        return self.slot

    @property
    def timed(self) -> bool:
        """True if there is a value for every timestep."""
        return self.axes[:1] == ("T",)

    @property
    def when(self) -> tuple[int, int, int]:
        """The position in the order of execution."""
        return self.stage, self.loop, self.depth
