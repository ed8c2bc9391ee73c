"""The execution order of a model's operations and the plan of their memory.

Operations on a cycle through a state (z needs h_prev, h needs z) run timestep by timestep in a loop. Every other operation runs
once for all timesteps, as soon as its operands are computed. A second layer is a second cycle, so it has its own loop.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from tui_gru.engine.compiling.lowering import Lowering
from tui_gru.engine.compiling.operations import ELEMENTWISE, Operation, Slot
from tui_gru.engine.compiling.segments import LineGroup, components, loops_of, segments_of
from tui_gru.equations.axes import Axes
from tui_gru.equations.backward import Backward
from tui_gru.equations.names import with_word
from tui_gru.equations.page import Equation, Page


@dataclass(frozen=True)
class Phase:
    """One pass: its lines and segments in order, its operations in the order of execution, and the direction of each loop."""

    lines: tuple[Equation, ...]
    segments: tuple[LineGroup, ...]
    operations: tuple[Operation, ...]
    ways: Mapping[int, int]

    def place(self, line: int) -> tuple[int, int]:
        """Return the segment of a line, and its index in the segment."""
        return self._places[line]

    @cached_property
    def _places(self) -> dict[int, tuple[int, int]]:
        number = {line.target: i for i, line in enumerate(self.lines)}
        return {number[line.target]: (s, k) for s, segment in enumerate(self.segments) for k, line in enumerate(segment.lines)}


class Schedule:
    """All operations of a model: `named` by name, `phases` by pass; `activation` gives that of a part without a name."""

    def __init__(self, page: Page, axes: Mapping[str, Axes], backward: Backward, sizes: Mapping[str, int]) -> None:
        self.page = page
        lowering = Lowering(sizes)
        self.named, self.activation = lowering.named, lowering.activation
        self._leaves(lowering, page, axes)
        states = {page.before(state): (state, -1 if page.states[state].backwards else 1) for state in page.states}
        forward = page.lines
        loops = {"forward": loops_of(forward, states)}
        carried = {state: name for name, (state, _) in states.items()}
        lowering.lines("forward", forward, loops["forward"], carried, frozenset())

        flows = {page.ahead(state): (f"d{page.before(state)}", 1 if page.states[state].backwards else -1) for state in page.states}
        for state in page.states:
            leaf = lowering.leaf(page.ahead(state), "state", axes[state])
            leaf.half = 0 if page.states[state].backwards else 1
        for output in page.outputs:
            lowering.leaf(with_word(f"d{output}", "given"), "record", axes[output])
        gradients = frozenset(f"d{name}" for name in page.parameters)
        lines = (*backward.deltas, *backward.gradients)
        loops["backward"] = loops_of(lines, flows)
        lowering.lines("backward", lines, loops["backward"], {target: name for name, (target, _) in flows.items()}, gradients)

        of_names = {name: operation.axes for name, operation in self.named.items()}
        self.phases: dict[str, Phase] = {}
        for phase, own, default in (("forward", forward, 1), ("backward", lines, -1)):
            operations = [operation for operation in lowering.every if operation.phase == phase]
            _order(operations)
            segments = segments_of(own, loops[phase], of_names, default)
            self.phases[phase] = Phase(own, segments, tuple(sorted(operations, key=lambda o: o.when)), _ways(operations, phase))
        _plan_memory(lowering.every, self.named, frozenset(page.parameters))

    @staticmethod
    def _leaves(lowering: Lowering, page: Page, axes: Mapping[str, Axes]) -> None:
        for name, given in page.inputs.items():
            lowering.leaf(name, "record", axes[name])
            if given.one_hot:  # a product with it picks rows of the matrix
                lowering.leaf(f"{name} ids", "ids", axes[name][:-1])
        for name in page.parameters:
            lowering.leaf(name, "parameter", axes[name])
        for state in page.states:
            leaf = lowering.leaf(page.before(state), "state", axes[state])
            leaf.half = 1 if page.states[state].backwards else 0


def _order(operations: Sequence[Operation]) -> None:
    """Set the stage, the loop and the depth of each operation."""
    index = {operation: i for i, operation in enumerate(operations)}
    reads = [sorted({index[r] for a in o.args for r in (a.carried or a,) if r in index}) for o in operations]
    groups = components(reads)
    loops = sorted(group for group in groups if len(group) > 1 or group[0] in reads[group[0]])
    loop_of = {i: number for number, group in enumerate(loops) for i in group}
    stages: dict[int, int] = {}  # the first stage in which a reader of the operation can run
    for group in groups:  # operands before their readers
        own = max((stages[j] for i in group for j in reads[i] if j not in group), default=0)
        for i in group:
            operation = operations[i]
            operation.stage, operation.loop = own, loop_of.get(i, -1)
            stages[i] = own + (i in loop_of)
            # In a loop, a carried value was computed in the round before.
            before = [index[a] for a in operation.args if a in index] if i in loop_of else reads[i]
            same = (operations[j] for j in before if (operations[j].stage, operations[j].loop) == (own, operation.loop))
            operation.depth = max((other.depth + 1 for other in same), default=0)


def _ways(operations: Sequence[Operation], phase: str) -> dict[int, int]:
    """Return the direction of each loop, which is the direction in which its states are read."""
    ways: dict[int, int] = {}
    for operation in operations:
        for arg in operation.args:
            if operation.loop >= 0 and arg.carried is not None and (arg.carried.phase, arg.carried.loop) == (phase, operation.loop):
                ways[operation.loop] = -1 if arg.half else 1
    return ways


def _plan_memory(operations: Sequence[Operation], named: Mapping[str, Operation], parameters: frozenset[str]) -> None:
    """Give every operation a slot. An operation that is the last reader of an unnamed value writes into that value's memory; a
    gradient has the memory layout of its weight."""
    users: dict[Operation, list[Operation]] = defaultdict(list)
    for operation in operations:
        for arg in operation.args:
            users[arg].append(operation)
    in_slot: dict[Slot, list[Operation]] = defaultdict(list)
    for operation in reversed(operations):
        if operation.slot is None:
            is_gradient = operation.phase == "backward" and operation.name[1:] in parameters
            operation.slot = named[operation.name[1:]].slot if is_gradient else Slot(operation.axes, "record")
        slot = operation.memory
        in_slot[slot].append(operation)
        if slot.kind == "parameter":
            continue
        if operation.name or slot.line < 0:
            slot.name, slot.line, slot.phase = operation.name, operation.line, operation.phase
        for arg in operation.args if operation.kind in ELEMENTWISE else ():
            free = arg.args and arg.slot is None and not arg.name and not arg.crosses
            alike = arg.axes == operation.axes and arg.phase == operation.phase
            if free and alike and all(user is operation or user.when < operation.when for user in users[arg]):
                arg.slot, arg.half = slot, operation.half
                break
    for slot, inside in in_slot.items():
        if slot.kind == "record" and inside[0].timed:
            slot.whole = any(_lasts(operation, users[operation]) for operation in inside)


def _lasts(operation: Operation, users: Sequence[Operation]) -> bool:
    """Return True if a value is read outside of the loop round that computes it."""
    elsewhere = any((user.stage, user.loop) != (operation.stage, operation.loop) for user in users)
    return bool(operation.name) or operation.crosses or operation.loop < 0 or elsewhere
