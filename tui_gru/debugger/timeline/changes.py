"""The numbers of a run that can be changed, the place in the batch of such a change, and how the batch continues from there."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from tui_gru.debugger.program.line_table import Program
from tui_gru.debugger.program.names import ValueKind
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.running.batch import BatchRecord
from tui_gru.engine.running.computing import Point
from tui_gru.equations import expression as e
from tui_gru.equations.expression import Expression, Name

Index = tuple[int, ...]
_PER_BATCH = (ValueKind.PARAMETER, ValueKind.OPTIMIZER_STATE, ValueKind.GRADIENT, ValueKind.UPDATE_VALUE)


@lru_cache(maxsize=8)
def changeable(program: Program) -> tuple[str, ...]:
    """Return the names whose numbers can be changed, in the order of the equations."""
    own = program.names_of(ValueKind.STATE, ValueKind.VALUE, ValueKind.VALUE_GRADIENT, *_PER_BATCH)
    given = program.names_of(ValueKind.INPUT) if program.config.given is not None else ()
    numbers = tuple(name for name in given if not program.model.page.inputs[name].one_hot)
    return numbers + tuple(name for name in own if name in _settable_parts(program) or name not in program.parts)


def is_per_batch(program: Program, name: str) -> bool:
    """Return True if a name has one value per batch instead of one per timestep."""
    return program.names[name].kind in _PER_BATCH


@lru_cache(maxsize=8)
def _settable_parts(program: Program) -> frozenset[str]:
    """Return the labelled parts from which the rest of their line can be computed without reading a weight."""
    found = set[str]()
    for line in program.lines.values():
        for node in line.formula.walk() if line.formula is not None else ():
            if node.label and line.formula is not None and _rest_is_free(line.formula, node.label, program):
                found.add(node.label)
    return frozenset(found)


def _rest_is_free(node: Expression, label: str, program: Program) -> bool:
    """Return True if nothing between a part and its complete line reads a weight, except in other recorded parts."""
    if node.label == label:
        return True
    inside = [child for child in node.children if any(part.label == label for part in child.walk())]
    beside = [child for child in node.children if child not in inside]
    if isinstance(node, e.Product) or not inside:
        return False
    free = all(
        child.label or not any(program.names[n].kind is ValueKind.PARAMETER for n in child.names() if n in program.names)
        for child in beside
    )
    return free and all(_rest_is_free(child, label, program) for child in inside)


def offset_of(program: Program, name: str, t: int | None) -> int:
    """Return the tick within a batch at which a number exists and no line that reads it has been executed.

    A parameter exists from the start, a gradient once it is complete; `t` is None for both. A value that comes from another
    timestep exists before the line that reads it.
    """
    named = program.names[name]
    match named.kind:
        case ValueKind.PARAMETER | ValueKind.OPTIMIZER_STATE:
            return 0
        case ValueKind.GRADIENT:
            return program.backward_end
    offset = program.there_at(name, t)
    assert offset is not None
    first, _ = program.line_at(offset)
    return offset - 1 if named.kind is ValueKind.STATE or name in first.reads else offset


def replace_number(record: BatchRecord, program: Program, name: str, t: int | None, index: Index, value: float) -> Point:
    """Set entry `index` of `name` (of timestep `t`) to `value` in a record that the caller owns. Returns where the batch continues.

    Setting the existing value changes no bit. Raises `TuiGruError` for a gradient from after the last timestep, which is always 0.
    """
    named = program.names[name]
    if named.kind in (ValueKind.PARAMETER, ValueKind.OPTIMIZER_STATE):
        record.before = record.before.copy()
        record.before[name][index] = value
        return Point("forward")
    if named.kind is ValueKind.GRADIENT:
        record.own_gradients[name[1:]][index] = value
        return Point("update")
    if named.kind is ValueKind.UPDATE_VALUE:
        target, parameter = program.update_step(name)
        record.vector(target)[parameter][index] = value
        return program.point_after(offset_of(program, name, None))
    assert t is not None
    page = program.model.page
    state = program.state_ahead(name)
    if state is not None:
        way = -1 if page.states[state].backwards else 1
        if not 0 <= t + way < program.seq_length:
            edge = "last" if way > 0 else "first"
            raise TuiGruError(f"{name} of the {edge} timestep is 0: nothing comes after it; change {name.rpartition('_')[0]} there")
    array = record.array(name)
    array = array[t : t + 1] if named.timed else array[np.newaxis]  # so that a scalar has an entry to set as well
    array[(0, *index)] = value
    return _rest_of_line(program, name, t)


def _rest_of_line(program: Program, name: str, t: int) -> Point:
    """Return the point from which a batch continues after an edit of `name`: after its line, or inside it after an edited part."""
    offset = offset_of(program, name, t)
    if name in program.lines or name not in program.parts:
        return program.point_after(offset)
    line = program.lines[program.written_with[name]]
    assert line.formula is not None
    point = program.point_after(offset - 1)
    return replace(point, parts=frozenset(part.label for part in line.formula.walk() if part.label and not _contains(part, name)))


def _contains(node: Expression, label: str) -> bool:
    return any(_contains(child, label) or child.label == label for child in node.children) if not isinstance(node, Name) else False
