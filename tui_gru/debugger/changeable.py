"""Which computed numbers can be changed, and where in a batch a change of one is made."""

from __future__ import annotations

from functools import cache

from tui_gru.debugger.program import Program
from tui_gru.engine.parameters import parameter_names
from tui_gru.engine.replacing import REPLACEABLE


@cache
def values_of(reset: str) -> tuple[str, ...]:
    """The values and deltas, of which every timestep has its own."""
    foreign = "dm" if reset == "before" else "drh"
    return tuple(name for name in REPLACEABLE if name != foreign)


@cache
def gradients_of(reset: str) -> tuple[str, ...]:
    """The gradients of the parameters, of which a batch has one each."""
    return tuple(f"d{name}" for name in parameter_names(reset))


def offset_of(program: Program, name: str, t: int | None) -> int:
    """The tick within a batch after which the number is there, and nothing that reads it has been executed.

    A parameter is there from the beginning, a gradient once it is complete; `t` is None for those.
    """
    if t is None:
        return program.backward_end if name in gradients_of(program.config.reset) else 0
    if name == "h_prev":
        return t * len(program.forward)
    offset = program.tick_of(name, t)
    assert offset is not None
    return offset
