"""What a compiled model does: operations on arrays, and the memory that their results lie in."""

from __future__ import annotations

from dataclasses import dataclass

from tui_gru.equations.axes import Axes

#: Operations of every element, and the NumPy function that does each.
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
#: Of the functions that do not take their result by its place in the call, what comes before it.
OUT = {"maximum": "out=", "minimum": "out="}


@dataclass(eq=False)
class Slot:
    """Memory of one value, or of several one after the other, of which the last one stays.

    `kind` is record, state (with memory for one timestep more), ids (the index of a one-hot row), or parameter. `line` is the
    number of the line, in its phase, that writes the value that stays. `whole`: it has memory for every timestep.
    """

    axes: Axes
    kind: str
    name: str = ""
    phase: str = ""
    line: int = -1
    whole: bool = True


@dataclass(eq=False)
class Operation:
    """A value: what computes it, or a leaf (an input, a state, a parameter, a constant), which has no `args`.

    `half` says, of a value in the memory of a state, whether it lies one timestep later in it. `carried` is, of a state that is
    read, the operation that computes it; `log_of`, of a logarithm, the softmax that it is of. `stage` and `loop` say when it is
    done: before a loop, in it (−1: in none), or after.
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
    crosses: bool = False  # read in another phase than its own
    half: int = 0
    carried: Operation | None = None
    log_of: Operation | None = None
    stage: int = 0
    loop: int = -1
    depth: int = 0

    @property
    def memory(self) -> Slot:
        """The slot, once memory has been planned."""
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
