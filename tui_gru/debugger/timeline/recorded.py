"""Lists everything that a batch computes, in order; reads it from a complete record; and compares it with another."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tui_gru.debugger.program.line_table import Program, ProgramLine
from tui_gru.debugger.program.names import ValueKind
from tui_gru.engine.numbers import same
from tui_gru.engine.running.batch import BatchRecord
from tui_gru.engine.running.weights import Array


def computed_in_order(program: Program, *, learned: bool) -> Iterator[tuple[str, int | None]]:
    """Yield every name with its timestep (0-based; None for values of the whole batch), in the order of computation.

    Inputs and initial states come with the timestep that reads them, gradients of parameters at the end of the backward pass.
    """
    page, names = program.model.page, program.names
    begins = {page.before(state): state for state in page.states}
    loaded: set[tuple[str, int]] = set()
    gradients = [(f"d{name}", None) for name in program.parameters]
    for block in program.blocks:
        if block.phase in ("backward", "update") and not learned:
            return
        if block.phase == "update":
            yield from gradients
        for step in range(block.steps):
            t = block.timestep(step) if block.way else None
            for line in block.lines:
                for name in line.reads if t is not None else ():
                    first = name in begins and step == 0
                    if (name in page.inputs or first) and (name, t) not in loaded:
                        assert t is not None
                        loaded.add((name, t))
                        yield name, t
                yield from ((name, t if names[name].timed else None) for name in _computed(line, program))
    if learned and not program.update:
        yield from gradients


def _computed(line: ProgramLine, program: Program) -> Iterator[str]:
    """Yield the names that a line computes: its labelled parts, inner ones first, and its target. Omits gradients of parameters."""
    if line.formula is None:
        return
    for node in reversed(tuple(line.formula.walk())):
        if node.label and program.written_with[node.label] == line.target:
            yield node.label
    if line.target in program.names and program.names[line.target].kind is not ValueKind.GRADIENT:
        yield line.target


def recorded(program: Program, record: BatchRecord, name: str, t: int | None = None) -> Array:
    """Return the value of a name in a complete record: of one timestep, (B, ·), or of the whole batch; () for a scalar."""
    match program.names[name].kind:
        case ValueKind.PARAMETER | ValueKind.OPTIMIZER_STATE:
            return record.after[name]
        case ValueKind.GRADIENT:
            return record.own_gradients[name[1:]]
        case ValueKind.UPDATE_VALUE:
            target, parameter = program.update_step(name)
            return record.vector(target)[parameter]
        case ValueKind.NUMBER:
            own = {"loss": record.loss, "grad_norm": record.grad_norm, "max_weight": record.max_weight}
            return np.float64(own[name] if name in own else record.numbers[name])  # type: ignore[return-value]
    array = record.array(name)
    return np.asarray(array if t is None else array[t])


def largest_difference(one: Array, other: Array) -> tuple[tuple[int, ...], int] | None:
    """Return the index of the largest difference of two arrays, and the number of entries that differ; None if they are equal.

    NaN equals NaN; a difference that is NaN counts as the largest.
    """
    differs = ~np.asarray(same(one, other))
    if not differs.any():
        return None
    with np.errstate(all="ignore"):
        apart = np.abs(other.astype(np.float64) - one.astype(np.float64))
    apart = np.where(differs, np.where(np.isnan(apart), np.inf, apart), -1)
    index = np.unravel_index(int(np.argmax(apart)), apart.shape)
    return tuple(map(int, index)), int(differs.sum())
