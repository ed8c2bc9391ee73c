"""Segments of a model's lines: groups of lines that are executed together.

A segment is a run of consecutive lines that a loop over t executes, from the first timestep to the last or in reverse, or lines
that are executed once. A line that reads values of the other direction needs them at all timesteps, so it begins the next segment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tui_gru.equations.axes import Axes
from tui_gru.equations.errors import EquationError
from tui_gru.equations.expression import Reduce
from tui_gru.equations.page import Line


@dataclass(frozen=True)
class Segment:
    """Lines that are executed together. `way` is 1 for timesteps from first to last, −1 from last to first, 0 for lines that are
    executed once."""

    way: int
    lines: tuple[Line, ...]

    def timestep(self, step: int, length: int) -> int:
        """Return the timestep of a step, both 0-based, in a batch of `length` timesteps; the last one if the lines are executed
        once."""
        return step if self.way > 0 else length - 1 - step if self.way else length - 1

    def steps(self, length: int) -> int:
        """Return the number of times that the lines are executed in a batch of `length` timesteps."""
        return length if self.way else 1


@dataclass(frozen=True)
class Loop:
    """A cycle through a state: the names of the lines and parts on it, and the direction in which it runs."""

    names: frozenset[str]
    way: int


def loops_of(lines: Sequence[Line], states: Mapping[str, tuple[str, int]]) -> dict[str, Loop]:
    """Return the loop of each line on a cycle through a state.

    `states` maps the name by which a state is read to the line that computes it for the next timestep, and to the direction. Raises
    `EquationError` for a cycle through states of both directions.
    """
    inside = {node.label: line.target for line in lines for node in line.formula.walk() if node.label}
    by_target = {line.target: line for line in lines}
    targets = by_target.keys()

    def source(name: str) -> str:
        name = states[name][0] if name in states else name
        return inside.get(name, name)

    reads = {line.target: {source(name) for name in line.formula.names()} & targets for line in lines}
    reached = {target: _reached(target, reads) for target in reads}
    found: dict[str, Loop] = {}
    for target in (target for target in reads if target in reached[target]):
        if target in found:
            continue
        on = {other for other in reached[target] if target in reached[other]}
        labels = {label for label, line in inside.items() if line in on}
        read = {name: way for name, (line, way) in states.items() if inside.get(line, line) in on}
        ways = set(read.values())
        if len(ways) > 1:
            message = f"{target} depends on a state of the timestep before and on one of the timestep after"
            raise EquationError(message, by_target[target].span)
        loop = Loop(frozenset({*on, *labels, *read}), ways.pop())
        for line in (by_target[name] for name in sorted(on)):
            _check_sums(line, loop)
        found |= dict.fromkeys(sorted(on), loop)
    return found


def _check_sums(line: Line, loop: Loop) -> None:
    """Raise `EquationError` for a sum over the timesteps of a value that the loop computes timestep by timestep: each timestep
    would need the complete sum."""
    for node in line.formula.walk():
        if isinstance(node, Reduce) and node.over == "T" and loop.names.intersection(node.names()):
            message = f"{line.target} takes a sum over the timesteps, but the timesteps need {line.target}"
            raise EquationError(message, node.span or line.span)


def _reached(start: str, reads: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        new = reads[waiting.pop()] - seen
        seen |= new
        waiting += new
    return seen


def segments_of(lines: Sequence[Line], loops: Mapping[str, Loop], axes: Mapping[str, Axes], default: int) -> tuple[Segment, ...]:
    """Return the lines of one phase as segments, in the order of execution.

    `default` is the direction of lines on no cycle. `axes` has the axes of every target; a line without T is executed once.
    """
    inside = {node.label: line.target for line in lines for node in line.formula.walk() if node.label}
    by_target = {line.target: line for line in lines}
    places: dict[str, tuple[int, int]] = {}

    def way_of(line: Line) -> int:
        if line.target in loops:
            return loops[line.target].way
        return default if line.op == "+=" or "T" in axes[line.target] else 0

    def place(target: str) -> tuple[int, int]:
        """Return the level of a line (the number of changes of direction before it) and its direction."""
        if target not in places:
            loop = loops.get(target)
            group = [line for line in lines if loop is not None and loops.get(line.target) == loop] or [by_target[target]]
            names = {line.target for line in group}
            before = {inside.get(name, name) for line in group for name in line.formula.names()} & by_target.keys()
            found = [place(name) for name in sorted(before - names)]
            way = way_of(by_target[target])
            if group[0].op == "+=" and found:  # a gradient is added up in the direction of its last operand
                way = max(found)[1] or default
            level = max((above + (other != way) for above, other in found), default=0)
            places.update(dict.fromkeys(sorted(names), (level, way)))
        return places[target]

    order = sorted({place(line.target) for line in lines}, key=lambda at: (at[0], at[1] != default, at[1]))
    return tuple(Segment(at[1], tuple(line for line in lines if places[line.target] == at)) for at in order)
