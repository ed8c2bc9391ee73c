"""Segments of a model's lines: groups of lines that are executed together.

A segment is a run of consecutive lines that a loop over t executes, from the first timestep to the last or in reverse, or lines
that are executed once. A line that reads values of the other direction needs them at all timesteps, so it begins the next segment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tui_gru.equations.axes import Axes
from tui_gru.equations.backward import of_each_timestep
from tui_gru.equations.errors import EquationError
from tui_gru.equations.expression import Reduce
from tui_gru.equations.page import Equation


@dataclass(frozen=True)
class LineGroup:
    """Lines that are executed together. `way` is 1 for timesteps from first to last, −1 from last to first, 0 for lines that are
    executed once."""

    way: int
    lines: tuple[Equation, ...]

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


def loops_of(lines: Sequence[Equation], states: Mapping[str, tuple[str, int]]) -> dict[str, Loop]:
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
    number = {target: i for i, target in enumerate(reads)}
    names = list(reads)
    groups = components([sorted(number[name] for name in reads[target]) for target in reads])
    labels_in, read_in = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)  # by the line that computes them
    for label, target in inside.items():
        labels_in[target].append(label)
    for name in states:
        read_in[source(name)].append(name)
    found: dict[str, Loop] = {}
    for group in sorted(groups):  # in the order of their first lines
        target, on = names[group[0]], {names[i] for i in group}
        if len(on) == 1 and target not in reads[target]:
            continue
        labels = {label for line in on for label in labels_in[line]}
        read = {name: states[name][1] for line in on for name in read_in[line]}
        ways = set(read.values())
        if len(ways) > 1:
            message = f"{target} depends on a state of the timestep before and on one of the timestep after"
            raise EquationError(message, by_target[target].span)
        loop = Loop(frozenset({*on, *labels, *read}), ways.pop())
        for line in (by_target[name] for name in sorted(on)):
            _check_sums(line, loop)
        found |= dict.fromkeys(sorted(on), loop)
    return found


def _check_sums(line: Equation, loop: Loop) -> None:
    """Raise `EquationError` for a sum over the timesteps of a value that the loop computes timestep by timestep: each timestep
    would need the complete sum."""
    for node in line.formula.walk():
        if isinstance(node, Reduce) and node.over == "T" and loop.names.intersection(node.names()):
            message = f"{line.target} takes a sum over the timesteps, but the timesteps need {line.target}"
            raise EquationError(message, node.span or line.span)


def components(reads: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Return the strongly connected components (Tarjan), each after the components that it reads."""
    indices: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    found: list[tuple[int, ...]] = []
    for root in range(len(reads)):
        if root in indices:
            continue
        work = [(root, iter(reads[root]))]
        indices[root] = low[root] = len(indices)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, rest = work[-1]
            for child in rest:
                if child not in indices:
                    indices[child] = low[child] = len(indices)
                    stack.append(child)
                    on_stack.add(child)
                    work.append((child, iter(reads[child])))
                    break
                if child in on_stack:
                    low[node] = min(low[node], indices[child])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == indices[node]:
                    members = []
                    while True:
                        member = stack.pop()
                        on_stack.discard(member)
                        members.append(member)
                        if member == node:
                            break
                    found.append(tuple(sorted(members)))
    return found


def _needed_at_all_timesteps(line: Equation) -> set[str]:
    """Return the names in the sums over the timesteps that a line contains."""
    sums = (node for node in line.formula.walk() if isinstance(node, Reduce) and node.over == "T" and not node.all_timesteps)
    return {name for node in sums for name in node.names()}


def segments_of(
    lines: Sequence[Equation], loops: Mapping[str, Loop], axes: Mapping[str, Axes], default: int
) -> tuple[LineGroup, ...]:
    """Return the lines of one phase as segments, in the order of execution.

    `default` is the direction of lines on no cycle. `axes` has the axes of every target; a line without T is executed once.
    """
    inside = {node.label: line.target for line in lines for node in line.formula.walk() if node.label}
    by_target = {line.target: line for line in lines}
    groups = defaultdict[int, list[Equation]](list)  # the lines of each loop, by its identity: loops are compared by their names
    for line in lines:
        if line.target in loops:
            groups[id(loops[line.target])].append(line)
    places: dict[str, tuple[int, int]] = {}

    def way_of(line: Equation) -> int:
        if line.target in loops:
            return loops[line.target].way
        if line.op == "+=":  # otherwise it reads only values of the whole batch
            return default if of_each_timestep(line.formula, axes.__getitem__) else 0
        return default if "T" in axes[line.target] else 0

    def place(target: str) -> tuple[int, int]:
        """Return the level of a line (the number of changes of direction before it) and its direction."""
        if target not in places:
            group = groups[id(loops[target])] if target in loops else [by_target[target]]
            names = {line.target for line in group}
            before = {inside.get(name, name) for line in group for name in line.formula.names()} & by_target.keys()
            found = {name: place(name) for name in sorted(before - names)}
            way = way_of(by_target[target])
            if group[0].op == "+=" and found and way:  # a gradient is added up in the direction of its last operand
                way = max(found.values())[1] or default
            complete = {inside.get(name, name) for line in group for name in _needed_at_all_timesteps(line)}
            level = max((above + (other != way or name in complete) for name, (above, other) in found.items()), default=0)
            places.update(dict.fromkeys(sorted(names), (level, way)))
        return places[target]

    order = sorted({place(line.target) for line in lines}, key=lambda at: (at[0], at[1] != default, at[1]))
    inside_of = defaultdict[tuple[int, int], list[Equation]](list)
    for line in lines:
        inside_of[places[line.target]].append(line)
    return tuple(LineGroup(at[1], tuple(inside_of[at])) for at in order)
