"""Whether the line just executed has computed something that an expression reads, so that its value may be new."""

from __future__ import annotations

import re
from functools import lru_cache

from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.program.position import Position

_WORD = re.compile(r"[A-Za-z_]\w*")


def computed_here(expression: str, program: Program, position: Position, *, learns: bool) -> bool:
    """Whether `position` is where something that the expression reads is computed; `learns` says what its batch does."""
    return position.offset in _ticks(expression, program, learns)


@lru_cache(maxsize=256)
def _ticks(expression: str, program: Program, learns: bool) -> frozenset[int]:
    from tui_gru.debugger.search.probe import tested_ticks  # late: with it comes the compiler of conditions

    names = frozenset(_WORD.findall(expression)) & frozenset(program.readable)
    return frozenset(tested_ticks(program, names, learns))
