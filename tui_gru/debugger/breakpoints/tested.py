"""The ticks of a batch at which an expression is tested: where a value that it reads is computed."""

from __future__ import annotations

import re
from functools import lru_cache

from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.program.names import Kind
from tui_gru.debugger.program.position import Position

_WORD = re.compile(r"[A-Za-z_]\w*")


def tested_ticks(program: Program, names: frozenset[str], learns: bool) -> tuple[int, ...]:
    """Return the ticks within a batch at which a value in `names` is computed, in order.

    Gradients are tested once they are complete; parameters at the end of a batch that does not learn; counters only if nothing
    else is read: `t` when a timestep begins, the others at the first line.
    """
    T, last = program.seq_length, program.ticks if learns else program.loss_tick
    begins = [program.there_at(next(iter(program.model.page.inputs)), t) for t in range(T)]
    ticks: set[int | None] = set()
    for name in names:
        match program.names[name].kind:
            case Kind.INPUT | Kind.CHARACTER:
                ticks.update(begins)
            case Kind.PARAMETER | Kind.KEPT if not learns or not program.update:
                ticks.add(last)
            case Kind.NUMBER if name == "max_weight":
                ticks.add(last)
            case Kind.NUMBER if name == "loss" and name not in program.lines:  # the loss is given, not computed
                ticks.add(program.loss_tick)
            case Kind.NUMBER if name == "grad_norm" and name not in program.lines:
                ticks.add(program.backward_end)
            case Kind.GRADIENT:
                ticks.add(program.complete_at(name))
            case Kind.COUNTER | Kind.SETTING:
                pass
            case Kind.STATE | Kind.DELTA:
                ticks.update(program.there_at(name, t) for t in range(T))
            case _:
                ticks.update(program.tick_of(name, t) for t in range(T))
    computed = ticks - {None}
    if not computed:
        computed = set(begins) if "t" in names else {1}
    return tuple(sorted(tick for tick in computed if tick is not None and tick <= last))


def computed_here(expression: str, program: Program, position: Position, *, learns: bool) -> bool:
    """Return True if a value that the expression reads is computed at `position`; `learns` is True if its batch learns."""
    return position.offset in _ticks(expression, program, learns)


@lru_cache(maxsize=256)
def _ticks(expression: str, program: Program, learns: bool) -> frozenset[int]:
    names = frozenset(_WORD.findall(expression)) & frozenset(program.readable)
    return frozenset(tested_ticks(program, names, learns))
