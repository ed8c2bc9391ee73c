"""From formulas to a schedule: operations on arrays, their order, their memory, and the groups of lines executed together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from tui_gru.equations import syntax as e
from tui_gru.equations.axes import Axes, union
from tui_gru.equations.backward import Backward, of_each_timestep
from tui_gru.equations.functions import FUNCTIONS
from tui_gru.equations.page import OF_ALL_UNITS, SILENT, Equation, Page
from tui_gru.equations.syntax import EquationError, Expression, Reduce, with_word

# ------------------------------------------------------------------------------
# The operations of a compiled model, and the memory slots of their results.


#: The NumPy function of each elementwise operation.
ELEMENTWISE = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "div": "divide",
    "neg": "negative",
    "power": "power",
    "reciprocal": "reciprocal",
    "mask": "masked",
} | {function.numpy: function.numpy for function in FUNCTIONS.values() if function.numpy}
#: Functions that do not accept the result array as a positional argument, with the keyword for it.
OUT = {"maximum": "out=", "minimum": "out="}


@dataclass(eq=False)
class Slot:
    """The memory of one value, or of several values that are stored one after the other; the last one remains.

    `kind` is record, state (with memory for T + 1 timesteps), ids (the index of a one-hot row), or parameter. `line` is the number
    of the line, in its phase, that writes the remaining value. `for_all_timesteps` is True if there is memory for every timestep.
    """

    axes: Axes
    kind: str
    name: str = ""
    phase: str = ""
    line: int = -1
    for_all_timesteps: bool = True


@dataclass(eq=False)
class Operation:
    """A value: the operation that computes it, or a leaf without `args` (an input, a state, a parameter, a constant).

    `half` is 1 for a value in the memory of a state that is stored one timestep later. For a state that is read, `carried` is the
    operation that computes it; for a logarithm of a softmax, `log_of` is that softmax. `stage`, `loop` (−1 for none) and `depth`
    give the order of execution.
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
    crosses: bool = False  # True if another phase reads it
    half: int = 0
    carried: Operation | None = None
    log_of: Operation | None = None
    stage: int = 0
    loop: int = -1
    depth: int = 0

    @property
    def memory(self) -> Slot:
        """The slot. It is set when memory has been planned."""
        assert self.slot is not None
        return self.slot

    @property
    def timed(self) -> bool:
        """True if there is a value for every timestep."""
        return self.axes[:1] == ("T",)

    @property
    def when(self) -> tuple[int, int, int]:
        """The position in the order of execution."""
        return self.stage, self.loop, self.depth


# ------------------------------------------------------------------------------
# Segments of a model's lines: groups of lines that are executed together.
#
# A segment is a run of consecutive lines that a loop over t executes, from the first timestep to the last or in reverse, or lines
# that are executed once. A line that reads values of the other direction needs them at all timesteps, so it begins the next
# segment.


class LineGroup(NamedTuple):
    """Lines that are executed together. `direction` is 1 for timesteps from first to last, −1 from last to first, 0 for lines
    that are executed once."""

    direction: int
    lines: tuple[Equation, ...]


class Loop(NamedTuple):
    """A cycle through a state: the names of the lines and parts on it, and the direction in which it runs."""

    names: frozenset[str]
    direction: int


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
    loops: dict[str, Loop] = {}
    for group in sorted(groups):  # in the order of their first lines
        target, on = names[group[0]], {names[i] for i in group}
        if len(on) == 1 and target not in reads[target]:
            continue
        labels = {label for line in on for label in labels_in[line]}
        read = {name: states[name][1] for line in on for name in read_in[line]}
        directions = set(read.values())
        if len(directions) > 1:
            message = f"{target} depends on a state of the timestep before and on one of the timestep after"
            raise EquationError(message, by_target[target].span)
        loop = Loop(frozenset({*on, *labels, *read}), directions.pop())
        for line in (by_target[name] for name in sorted(on)):
            _check_sums(line, loop)
        loops |= dict.fromkeys(sorted(on), loop)
    return loops


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
    groups: list[tuple[int, ...]] = []
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
                    groups.append(tuple(sorted(members)))
    return groups


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

    def direction_of(line: Equation) -> int:
        if line.target in loops:
            return loops[line.target].direction
        if line.op == "+=":  # otherwise it reads only values of the whole batch
            return default if of_each_timestep(line.formula, axes.__getitem__) else 0
        return default if "T" in axes[line.target] else 0

    def place(target: str) -> tuple[int, int]:
        """Return the level of a line (the number of changes of direction before it) and its direction."""
        if target not in places:
            group = groups[id(loops[target])] if target in loops else [by_target[target]]
            names = {line.target for line in group}
            before = {inside.get(name, name) for line in group for name in line.formula.names()} & by_target.keys()
            levels = {name: place(name) for name in sorted(before - names)}
            direction = direction_of(by_target[target])
            if group[0].op == "+=" and levels and direction:  # a gradient is added up in the direction of its last operand
                direction = max(levels.values())[1] or default
            complete = {inside.get(name, name) for line in group for name in _needed_at_all_timesteps(line)}
            level = max((above + (other != direction or name in complete) for name, (above, other) in levels.items()), default=0)
            places.update(dict.fromkeys(sorted(names), (level, direction)))
        return places[target]

    order = sorted({place(line.target) for line in lines}, key=lambda at: (at[0], at[1] != default, at[1]))
    inside_of = defaultdict[tuple[int, int], list[Equation]](list)
    for line in lines:
        inside_of[places[line.target]].append(line)
    return tuple(LineGroup(at[1], tuple(inside_of[at])) for at in order)


# ------------------------------------------------------------------------------
# Translation of formula lines into operations on arrays.
#
# Equal expressions become one operation, unless a value between them can be edited. In a sum or product on a cycle through a
# state, the parts off the cycle are combined first, so that they are computed for all timesteps at once. A product with a one-hot
# row picks a row; log(softmax(o)) is o − max − log Σ exp(o − max), which stays finite.


LEAST_TURNED = 8  # the number of timesteps from which transposing a matrix once is faster


@dataclass(frozen=True)
class Computed(Expression):
    """The operand of a function in its formula: a value whose operation is known."""

    operation: Operation


class Lowering:
    """The operations of a model: `every` in the order of creation, `named` by name."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes = sizes
        self.every: list[Operation] = []
        self.named: dict[str, Operation] = {}
        self._known: dict[tuple[object, ...], Operation] = {}
        self._key: dict[Operation, tuple[object, ...]] = {}
        self._of_states: set[Operation] = set()  # unnamed operations that read a state
        self._of_weights: set[Operation] = set()  # unnamed operations that read a weight
        self._softmax: dict[Operation, Operation] = {}  # softmax → its argument
        self._parts: dict[str, Expression] = {}  # by label
        self._computed: list[tuple[Expression, Operation]] = []  # the parts of the forward lines
        self._activations: dict[Expression, list[Operation]] = defaultdict(list)  # the same, by the part written out
        self._phase, self._line, self._on_cycle, self._is_gradient = "", 0, frozenset[str](), False

    def leaf(self, name: str, kind: str, axes: Axes) -> Operation:
        """Add a value that is not computed by a line, with its own memory."""
        leaf = self.named[name] = Operation("leaf", axes=axes, name=name, slot=Slot(axes, kind, name))
        return leaf

    def lines(
        self,
        phase: str,
        lines: Iterable[Equation],
        loops: Mapping[str, Loop],
        carried: Mapping[str, str],
        gradients: frozenset[str],
    ) -> None:
        """Lower the lines of one phase.

        `carried` maps the target of a state's line to the name by which the next timestep reads it; `gradients` has the targets
        that sum over the timesteps.
        """
        for number, line in enumerate(lines):
            loop = loops.get(line.target)
            self._phase, self._line, self._is_gradient = phase, number, line.target in gradients
            self._on_cycle = loop.names if loop is not None else frozenset()
            operation = self._value(line.formula)
            if operation.name or not operation.args or self._is_of_other_line(operation):  # the line only copies another value
                operation = self._made("copy", operation)
            operation.name = line.target
            self._keep(line.target, operation)
            if line.target in carried:
                read = self.named[carried[line.target]]
                read.carried, operation.slot, operation.half = operation, read.slot, 1 - read.half
                read.memory.name = line.target

    def _value(self, node: Expression) -> Operation:
        if node.label and node.label in self.named:
            return self._read(node.label)
        made = len(self.every)
        operation = self._lowered(node)
        if self._phase == "forward" and node.children:
            self._computed.append((node, operation))
        if node.label:
            self._parts[node.label] = node
            # What the line has computed before without this name, as in v⊙v⊙(p: v⊙v), must not change when the name is edited.
            is_earlier = not any(each is operation for each in self.every[made:])
            if operation.kind in ("leaf", "constant") or is_earlier:
                operation = self._made("copy", operation)
            operation.name = operation.name or node.label
            self._keep(node.label, operation)
        return operation

    def _is_of_other_line(self, operation: Operation) -> bool:
        """Return True for an operation of a line before, whose value must not change when the name of this one is edited."""
        return bool(operation.args) and (operation.phase, operation.line) != (self._phase, self._line)

    def activation(self, part: Expression) -> Operation:
        """Return the operation of the forward pass that computed a part without a name."""
        if not self._activations:
            for node, operation in self._computed:
                self._activations[e.written_out(node, self._parts)].append(operation)
        operations = self._activations[e.written_out(part, self._parts)]
        return next((operation for operation in operations if not operation.name), operations[0])

    def _keep(self, name: str, operation: Operation) -> None:
        """Name an operation. A named value can be edited, so other lines must read it by name."""
        self.named[name] = operation
        self._known.pop(self._key.get(operation, ()), None)
        self._of_states.discard(operation)
        self._of_weights.discard(operation)

    def _read(self, name: str) -> Operation:
        operation = self.named[name]
        operation.crosses |= bool(operation.args) and operation.phase != self._phase
        return operation

    def _made(self, kind: str, *args: Operation, axes: Axes | None = None, over: str = "") -> Operation:
        reads_state = any(arg in self._of_states or (arg.slot is not None and arg.slot.kind == "state") for arg in args)
        reads_weight = any(
            arg in self._of_weights or (not arg.args and arg.slot is not None and arg.slot.kind == "parameter") for arg in args
        )
        # A state can be edited between two lines that read it, and a weight can change between two passes (carry `notebook`).
        key = (kind, args, over, *((self._phase, self._line) if reads_state else (self._phase,) if reads_weight else ()))
        if kind != "copy" and (existing := self._known.get(key)) is not None:
            existing.crosses |= existing.phase != self._phase
            return existing
        axes = union([arg.axes for arg in args]) if axes is None else axes
        operation = Operation(kind, args, axes, self._phase, self._line, over)
        self._known[key], self._key[operation] = operation, key
        if reads_state:
            self._of_states.add(operation)
        if reads_weight:
            self._of_weights.add(operation)
        self.every.append(operation)
        return operation

    def _constant(self, number: float) -> Operation:
        key = ("constant", number)
        if key not in self._known:
            self._known[key] = Operation("constant", number=number)
        return self._known[key]

    def _size(self, axes: Sequence[str]) -> Operation:
        count = 1
        for axis in axes:
            count *= self._sizes[axis]
        return self._constant(count)

    def _lowered(self, node: Expression) -> Operation:
        match node:
            case e.Name(name=name):
                return self._read(name)
            case e.Number(value=value):
                return self._constant(float(value))
            case e.Size(axes=axes):
                return self._size(axes)
            case e.Sum(parts=parts):
                return self._sum(parts)
            case e.Negative(argument=e.Reduce(argument=argument, kind="mean", over=over)):  # one division
                return self._made("div", self._reduced("sum", self._value(argument), over), self._constant(-self._sizes[over]))
            case e.Activation(argument=argument):
                if argument.label:
                    return self._value(argument)
                operation = self.activation(argument)
                operation.crosses = True
                return operation
            case e.Spread(argument=argument, axes=axes):
                narrow = self._value(argument)
                return narrow if narrow.axes == axes else self._made("copy", narrow, axes=axes)
            case e.Negative(argument=argument):
                return self._made("neg", self._value(argument))
            case e.Times(parts=parts):
                return self._times(parts)
            case Computed(operation=operation):
                return operation
            case e.Quotient(left=e.Number(value=1), right=right):
                return self._made("reciprocal", self._value(right))
            case e.Quotient(left=left, right=right):
                return self._made("div", self._value(left), self._value(right))
            case e.Power(left=left, right=right):
                return self._made("power", self._value(left), self._value(right))
            case e.Product(left=left, right=right):
                return self._product(left, right)
            case e.Reduce(argument=argument, over="B", all_timesteps=True):
                summand = self._value(argument)
                return self._made("rows", summand, axes=tuple(axis for axis in summand.axes if axis not in ("T", "B")))
            case e.Reduce(argument=argument, kind=kind, over=over):
                total = self._reduced("sum", self._value(argument), over)
                return total if kind == "sum" else self._made("div", total, self._size((over,)))
            case e.Join(parts=parts):
                joined = [self._value(part) for part in parts]
                return self._made("join", *joined, axes=(*joined[0].axes[:-1], "+".join(part.axes[-1] for part in joined)))
            case e.Slice(argument=argument, before=before, axes=axes):
                joined_value = self._value(argument)
                start = sum(self._sizes[axis] for axis in before)
                stop = start + sum(self._sizes[axis] for axis in axes)
                return self._made("slice", joined_value, axes=(*joined_value.axes[:-1], "+".join(axes)), over=f"{start}:{stop}")
            case e.Apply():
                return self._applied(node)
        raise EquationError(f"{type(node).__name__.lower()} cannot be computed here", span=node.span)

    def _sum(self, parts: tuple[Expression, ...]) -> Operation:
        first, *rest = self._off_cycle_first(parts)[0]
        if isinstance(first, e.Negative) and (plus := next((p for p in rest if not isinstance(p, e.Negative)), None)) is not None:
            rest.remove(plus)
            first, rest = plus, [first, *rest]
        total = self._value(first)
        for part in rest:
            if isinstance(part, e.Negative) and not part.label:
                total = self._made("sub", total, self._value(part.argument))
            else:
                total = self._made("add", total, self._value(part))
        return total

    def _times(self, parts: tuple[Expression, ...]) -> Operation:
        is_mask = [isinstance(part, e.Name) and part.name == SILENT for part in parts]
        if any(is_mask) and not all(is_mask):  # also where a unit is inf or NaN, it is held at 0
            others = tuple(part for part, mask in zip(parts, is_mask, strict=True) if not mask)
            return self._made("mask", self._read(SILENT), self._times(others))
        factors, off = self._off_cycle_first(parts)
        values = [self._value(factor) for factor in factors]
        product = values[0]
        for i, value in enumerate(values[1:], 1):
            product = self._made("mul", value, product) if i == off else self._made("mul", product, value)
        # No gradient goes back through a unit that is held at 0, whatever its slope.
        masked = next((value for value in values if value.kind == "mask" and OF_ALL_UNITS in value.name), product)
        return product if masked is product or masked.phase != "backward" else self._made("mask", masked.args[0], product)

    def _off_cycle_first(self, parts: tuple[Expression, ...]) -> tuple[list[Expression], int]:
        """Return the parts, with those off the cycle first, and the number of those; the number is 0 if the line is not on a
        cycle."""
        if not self._on_cycle:
            return list(parts), 0
        on = [any(name in self._on_cycle for name in part.names()) for part in parts]
        off = [part for part, is_on in zip(parts, on, strict=True) if not is_on]
        return off + [part for part, is_on in zip(parts, on, strict=True) if is_on], len(off)

    def _reduced(self, kind: str, value: Operation, over: str) -> Operation:
        return self._made(kind, value, axes=tuple(axis for axis in value.axes if axis != over), over=over)

    def _product(self, left: Expression, right: Expression) -> Operation:
        if isinstance(left, e.Transpose) and self._is_gradient:  # a sum over rows and timesteps
            x, d = self._value(left.argument), self._value(right)
            return self._made("outer", x, d, axes=(x.axes[-1], d.axes[-1]))
        if isinstance(right, e.Transpose):
            d, matrix = self._value(left), self._value(right.argument)
            if self._on_cycle.intersection(left.names()) and self._sizes["T"] >= LEAST_TURNED:
                # In a loop, BLAS takes 1.5 times as long with a transposed view, so transpose the matrix once before.
                turned = self._made("turn", matrix, axes=matrix.axes[::-1])
                return self._made("dot", d, turned, axes=(*d.axes[:-1], turned.axes[1]))
            return self._made("dot-turned", d, matrix, axes=(*d.axes[:-1], matrix.axes[0]))
        x, matrix = self._value(left), self._value(right)
        if (ids := self.named.get(f"{x.name} ids")) is not None:
            return self._made("take", ids, matrix, axes=(*x.axes[:-1], matrix.axes[1]))
        return self._made("dot", x, matrix, axes=(*x.axes[:-1], matrix.axes[1]))

    def _applied(self, node: e.Apply) -> Operation:
        made, function = self._made, node.function
        if function == "log" and isinstance(node.argument, e.Name) and self.named.get(node.argument.name) in self._softmax:
            softmax = self._read(node.argument.name)
            shifted, _, total = self._powers(self._softmax[softmax])
            result = made("sub", shifted, made("log", total))
            result.log_of = softmax
            return result
        row, values = FUNCTIONS[function], [self._value(part) for part in node.parts]
        if function == "softmax":
            _, powers, total = self._powers(values[0])
            result = made("div", powers, total)
            self._softmax[result] = values[0]
            return result
        if (formula := e.formula_of(function, Computed(values[0]))) is not None:
            return self._lowered(formula)
        return made(row.numpy, *values, *(() if row.second is None else (self._constant(row.second),)))

    def _powers(self, value: Operation) -> tuple[Operation, Operation, Operation]:
        """Return o − max, its exp, and the sum of the exp."""
        axis = value.axes[-1]
        shifted = self._made("sub", value, self._reduced("max", value, axis))
        powers = self._made("exp", shifted)
        return shifted, powers, self._reduced("sum", powers, axis)


# ------------------------------------------------------------------------------
# The execution order of a model's operations and the plan of their memory.
#
# Operations on a cycle through a state (z needs h_prev, h needs z) run timestep by timestep in a loop. Every other operation runs
# once for all timesteps, as soon as its operands are computed. A second layer is a second cycle, so it has its own loop.


@dataclass(frozen=True)
class Phase:
    """One pass: its lines and segments in order, its operations in the order of execution, and the direction of each loop."""

    lines: tuple[Equation, ...]
    segments: tuple[LineGroup, ...]
    operations: tuple[Operation, ...]
    directions: Mapping[int, int]

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

        flows = {
            page.received(state): (f"d{page.before(state)}", 1 if page.states[state].backwards else -1) for state in page.states
        }
        for state in page.states:
            leaf = lowering.leaf(page.received(state), "state", axes[state])
            leaf.half = 0 if page.states[state].backwards else 1
        for output in page.outputs:
            lowering.leaf(with_word(f"d{output}", "given"), "record", axes[output])
        gradients = frozenset(f"d{name}" for name in page.parameters)
        lines = (*backward.deltas, *backward.gradients)
        loops["backward"] = loops_of(lines, flows)
        lowering.lines("backward", lines, loops["backward"], {target: name for name, (target, _) in flows.items()}, gradients)

        of_names = {name: operation.axes for name, operation in self.named.items()}
        self.phases: dict[str, Phase] = {}
        for phase, phase_lines, default in (("forward", forward, 1), ("backward", lines, -1)):
            operations = [operation for operation in lowering.every if operation.phase == phase]
            _order(operations)
            segments = segments_of(phase_lines, loops[phase], of_names, default)
            self.phases[phase] = Phase(
                phase_lines, segments, tuple(sorted(operations, key=lambda o: o.when)), _directions(operations, phase)
            )
        _plan_memory(lowering.every, self.named, frozenset(page.parameters))

    @staticmethod
    def _leaves(lowering: Lowering, page: Page, axes: Mapping[str, Axes]) -> None:
        for name, variable in page.inputs.items():
            lowering.leaf(name, "record", axes[name])
            if variable.one_hot:  # a product with it picks rows of the matrix
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
        stage = max((stages[j] for i in group for j in reads[i] if j not in group), default=0)
        for i in group:
            operation = operations[i]
            operation.stage, operation.loop = stage, loop_of.get(i, -1)
            stages[i] = stage + (i in loop_of)
            # In a loop, a carried value was computed in the round before.
            before = [index[a] for a in operation.args if a in index] if i in loop_of else reads[i]
            same = (operations[j] for j in before if (operations[j].stage, operations[j].loop) == (stage, operation.loop))
            operation.depth = max((other.depth + 1 for other in same), default=0)


def _directions(operations: Sequence[Operation], phase: str) -> dict[int, int]:
    """Return the direction of each loop, which is the direction in which its states are read."""
    directions: dict[int, int] = {}
    for operation in operations:
        for arg in operation.args:
            if operation.loop >= 0 and arg.carried is not None and (arg.carried.phase, arg.carried.loop) == (phase, operation.loop):
                directions[operation.loop] = -1 if arg.half else 1
    return directions


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
            slot.for_all_timesteps = any(_lasts(operation, users[operation]) for operation in inside)


def _lasts(operation: Operation, users: Sequence[Operation]) -> bool:
    """Return True if a value is read outside of the loop round that computes it."""
    elsewhere = any((user.stage, user.loop) != (operation.stage, operation.loop) for user in users)
    return bool(operation.name) or operation.crosses or operation.loop < 0 or elsewhere
