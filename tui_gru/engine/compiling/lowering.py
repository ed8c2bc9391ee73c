"""Translation of formula lines into operations on arrays.

Equal expressions become one operation, unless a value between them can be edited. In a sum or product on a cycle through a state,
the parts off the cycle are combined first, so that they are computed for all timesteps at once. A product with a one-hot row picks
a row; log(softmax(o)) is o − max − log Σ exp(o − max), which stays finite.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from tui_gru.engine.compiling.operations import Operation, Slot
from tui_gru.engine.compiling.segments import Loop
from tui_gru.equations import expression as e
from tui_gru.equations.axes import Axes, union
from tui_gru.equations.errors import EquationError
from tui_gru.equations.expression import Expression
from tui_gru.equations.page import Equation

LEAST_TURNED = 8  # the number of timesteps from which transposing a matrix once is faster
_FUNCTIONS = {"tanh", "log", "exp", "sqrt"}


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
        operation = self._lowered(node)
        if self._phase == "forward" and node.children:
            self._computed.append((node, operation))
        if node.label:
            self._parts[node.label] = node
            if operation.kind in ("leaf", "constant") or self._is_of_other_line(operation):
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
        found = self._activations[e.written_out(part, self._parts)]
        return next((operation for operation in found if not operation.name), found[0])

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
        if kind != "copy" and (known := self._known.get(key)) is not None:
            known.crosses |= known.phase != self._phase
            return known
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
            case e.Quotient(left=left, right=right):
                return self._made("div", self._value(left), self._value(right))
            case e.Power(left=left, right=right):
                return self._made("power", self._value(left), self._value(right))
            case e.Product(left=left, right=right):
                return self._product(left, right)
            case e.Reduce(argument=argument, over="B", all_timesteps=True):
                each = self._value(argument)
                return self._made("rows", each, axes=tuple(axis for axis in each.axes if axis not in ("T", "B")))
            case e.Reduce(argument=argument, kind=kind, over=over):
                total = self._reduced("sum", self._value(argument), over)
                return total if kind == "sum" else self._made("div", total, self._size((over,)))
            case e.Join(parts=parts):
                joined = [self._value(part) for part in parts]
                return self._made("join", *joined, axes=(*joined[0].axes[:-1], "+".join(part.axes[-1] for part in joined)))
            case e.Slice(argument=argument, before=before, axes=axes):
                whole = self._value(argument)
                start = sum(self._sizes[axis] for axis in before)
                stop = start + sum(self._sizes[axis] for axis in axes)
                return self._made("slice", whole, axes=(*whole.axes[:-1], "+".join(axes)), over=f"{start}:{stop}")
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
        factors, off = self._off_cycle_first(parts)
        values = [self._value(factor) for factor in factors]
        product = values[0]
        for i, value in enumerate(values[1:], 1):
            product = self._made("mul", value, product) if i == off else self._made("mul", product, value)
        return product

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
        values = [self._value(part) for part in node.parts]
        value, zero, one = values[0], self._constant(0), self._constant(1)
        match function:
            case "sigmoid":  # 1 / (1 + exp(−a)); exp overflows to inf, which correctly gives 0
                return made("reciprocal", made("add", made("exp", made("neg", value)), one))
            case "softmax":
                _, powers, total = self._powers(value)
                result = made("div", powers, total)
                self._softmax[result] = value
                return result
            case "relu":
                return made("maximum", value, zero)
            case "clamp":
                return made("minimum", made("maximum", value, zero), one)
            case "positive":
                return made("greater", value, zero)
            case "within":
                return made("mul", made("greater", value, zero), made("less", value, one))
            case "min" | "max":
                return made("minimum" if function == "min" else "maximum", *values)
        if function in _FUNCTIONS:
            return made(function, value)
        raise EquationError(f"{function} cannot be computed here", span=node.span)

    def _powers(self, value: Operation) -> tuple[Operation, Operation, Operation]:
        """Return o − max, its exp, and the sum of the exp."""
        along = value.axes[-1]
        shifted = self._made("sub", value, self._reduced("max", value, along))
        powers = self._made("exp", shifted)
        return shifted, powers, self._reduced("sum", powers, along)
