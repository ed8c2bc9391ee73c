"""Stops resolved in a program: the ticks at which each is tested, and its compiled texts."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from tui_gru.debugger.breakpoints.hit_count import HitCount
from tui_gru.debugger.breakpoints.log_points import LogPoint
from tui_gru.debugger.expressions.conditions import Condition, compile_condition
from tui_gru.debugger.expressions.parser import CompiledExpression, compile_expression
from tui_gru.debugger.expressions.text import ConditionError
from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.program.names import ValueKind
from tui_gru.debugger.program.position import Position
from tui_gru.debugger.state.stops import Breakpoint, Stop, Watch
from tui_gru.engine.errors import TuiGruError
from tui_gru.equations.errors import did_you_mean


@dataclass(frozen=True, eq=False)
class ResolvedStop:
    """A breakpoint or watch in one program.

    `ticks` are the ticks within a batch at which it is tested, by whether the batch learns. It is hit at each of them if it has
    no condition; where the condition holds; or where the value of `watched` differs from the one computed before. Stops with the
    same `key` are hit at the same places.
    """

    stop: Stop
    key: tuple[str, ...]
    ticks: Mapping[bool, tuple[int, ...]]
    condition: Condition | None = None
    watched: CompiledExpression | None = None
    count: HitCount | None = None
    log: LogPoint | None = None

    @property
    def id(self) -> int:
        return self.stop.id

    def check(self, program: Program) -> None:
        """Raise `ConditionError` if one of its texts cannot be evaluated in the program, whatever the values are."""
        for text in (self.condition, self.watched, self.log):
            if text is not None:
                text.check(program.shapes)

    def tested_between(self, after: int, upto: int, batch_ticks: int) -> bool:
        """Return True if it may be tested at one of the ticks after `after`, up to `upto`."""
        places = self._places
        if not places or upto - after >= batch_ticks:
            return bool(places) and after < upto
        batch, k = divmod(after, batch_ticks)
        i = bisect_right(places, k)
        return (batch * batch_ticks + places[i] if i < len(places) else (batch + 1) * batch_ticks + places[0]) <= upto

    @cached_property
    def _places(self) -> list[int]:
        return sorted({*self.ticks[False], *self.ticks[True]})

    @property
    def plain(self) -> bool:
        """True if it is hit at each of its ticks."""
        return self.condition is None and self.watched is None


def resolve(stop: Stop, program: Program) -> ResolvedStop:
    """Resolve a stop in a program.

    Raises `TuiGruError` if it does not fit, `ConditionError`, with the column, for invalid texts.
    """
    names = program.spellings
    if isinstance(stop, Watch):
        watched = compile_expression(stop.expression, names)
        ticks = _tested(program, watched.names) if watched.names else {False: (), True: ()}  # a constant never changes
        return ResolvedStop(stop, ("watch", stop.expression), ticks, watched=watched)
    return _of_breakpoint(stop, program, names)


def _of_breakpoint(stop: Breakpoint, program: Program, names: Mapping[str, str]) -> ResolvedStop:
    condition = compile_condition(stop.condition, names) if stop.condition else None
    if stop.line:
        ticks = _executed(program, stop.line)
    elif condition is None:
        raise TuiGruError("a breakpoint needs a line to stop at, or a condition such as loss < 0.5")
    else:
        ticks = _tested(program, condition.names)
    constant = None if condition is None else _constant(condition)
    if constant is not None:
        condition, ticks = None, ticks if constant else {False: (), True: ()}
    return ResolvedStop(
        stop,
        ("breakpoint", stop.line, stop.condition),
        ticks,
        condition=condition,
        count=HitCount.parse(stop.hits) if stop.hits else None,
        log=LogPoint.parse(stop.log, names) if stop.log else None,
    )


def line_named(program: Program, name: str) -> str:
    """Return the target of the line with a name, in code or as on screen (`h̃`). Raises `TuiGruError` if there is no such line."""
    known = program.code_name(name) if isinstance(name, str) else ""
    if known in program.targets:
        return known
    raise TuiGruError(f"there is no line that computes {name!r}; {did_you_mean(str(name), program.targets)}")


def _executed(program: Program, line: str) -> dict[bool, tuple[int, ...]]:
    target = line_named(program, line)
    ticks = {program.tick_of(target, t) for t in range(program.seq_length)}
    executed = tuple(sorted(tick for tick in ticks if tick is not None))
    return {True: executed, False: tuple(tick for tick in executed if tick <= program.loss_tick)}


def _tested(program: Program, names: frozenset[str]) -> dict[bool, tuple[int, ...]]:
    return {learns: tested_ticks(program, names, learns) for learns in (False, True)}


def _constant(condition: Condition) -> bool | None:
    """Return the truth value of a condition without names; None if it has names or cannot be evaluated."""
    if condition.names:
        return None
    try:
        return condition.test(lambda name: None)
    except ConditionError:
        return None


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
            case ValueKind.INPUT | ValueKind.CHARACTER:
                ticks.update(begins)
            case ValueKind.PARAMETER | ValueKind.OPTIMIZER_STATE if not learns or not program.update:
                ticks.add(last)
            case ValueKind.NUMBER if name == "max_weight":
                ticks.add(last)
            case ValueKind.NUMBER if name == "loss" and name not in program.lines:  # the loss is given, not computed
                ticks.add(program.loss_tick)
            case ValueKind.NUMBER if name == "grad_norm" and name not in program.lines:
                ticks.add(program.backward_end)
            case ValueKind.GRADIENT:
                ticks.add(program.complete_at(name))
            case ValueKind.COUNTER | ValueKind.SETTING:
                pass
            case ValueKind.STATE | ValueKind.VALUE_GRADIENT:
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
