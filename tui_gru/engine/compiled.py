"""Compiles a model for given sizes: writes the Python source of each pass, and lays out the memory that it uses."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import accumulate
from keyword import iskeyword
from typing import NamedTuple

import numpy as np

from tui_gru.engine.lowering import ELEMENTWISE, OUT, Operation, Schedule, Slot
from tui_gru.engine.model import CompiledUpdate, Model, Structure, model_of
from tui_gru.engine.weights import Array, ParameterLayout, Weights
from tui_gru.equations.functions import numpy_function
from tui_gru.equations.syntax import EquationError
from tui_gru.errors import TuiGruError

# ------------------------------------------------------------------------------
# Generation of Python source from a schedule: one function per pass, which calls NumPy on preallocated arrays.
#
# A function first unpacks the arrays that it uses as a whole; each round of a loop unpacks the views of its timestep. `guarded`
# functions continue from the middle of a batch: their loops begin at the steps in `start`, and after each operation they call
# `keep`, which restores the values from before that point.


#: The functions that the generated code can call.
FUNCTIONS = {name: numpy_function(name) for name in (*ELEMENTWISE.values(), "positive", "concatenate")} | {
    "dot": np.ndarray.dot,  # np.dot takes twice as long on small matrices, because it checks for other array types
    "total": np.add.reduce,
    "largest": np.maximum.reduce,
    "take": np.ndarray.take,
}
_CONSTANT = re.compile(r"c_(\d|minus|inf|nan)")
_RESERVED = frozenset({"R", "P", "G", "start", "keep", "first", "ones", "__debug__"})  # Python lets nothing assign to the last


class ArrayView(NamedTuple):
    """The array behind a local name of the generated code: the slot, the half of a state's slot, and the form in which it is
    viewed."""

    slot: Slot
    half: int
    form: str


@dataclass
class Code:
    """The source of one function and the views that it unpacks: `views` has those of whole arrays, `loops` those of each round, by
    the number of the loop."""

    name: str
    source: str = ""
    views: dict[str, list[ArrayView]] = field(default_factory=lambda: {"R": [], "P": [], "G": []})
    loops: dict[int, list[ArrayView]] = field(default_factory=dict)


class Emission:
    """The generation of one pass: its `code`, and the numbers that the code reads, `constants`, by name.

    Operations in `zero` have the value 0; they are omitted, also from sums.
    """

    def __init__(
        self, schedule: Schedule, phase: str, name: str, *, guarded: bool = False, zero: frozenset[Operation] = frozenset()
    ) -> None:
        self._zero = zero
        self.constants: dict[str, float] = {}
        self._locals: dict[tuple[str, ArrayView, int], str] = {}
        self._used_names: dict[str, int] = {}  # local names in use, with the number of numbered copies of each
        self.code = Code(name)
        body: list[str] = []
        loop = -1
        last = {(operation.memory, operation.loop): operation for operation in schedule.phases[phase].operations}
        for number, operation in enumerate(schedule.phases[phase].operations):
            if operation in zero:
                continue
            if operation.loop != loop:
                if guarded and loop >= 0:
                    body.append("        first = False")
                loop = operation.loop
                if loop >= 0:
                    at = len(self.code.loops)
                    self.code.loops[loop] = []
                    rounds = f"R.rounds[{name!r}][{at}]"
                    body += ["    first = True"] if guarded else []
                    body.append(f"    for %{loop}% in {rounds}{f'[start[{at}]:]' if guarded else ''}:")
            indent = "        " if loop >= 0 else "    "
            body.append(indent + self._call(operation))
            finished = last[operation.memory, operation.loop] is operation
            if guarded and operation.timed and operation.memory.for_all_timesteps and finished:
                body.append(f"{indent}{'if first: ' if loop >= 0 else ''}keep({number})")
        text = "\n".join(body)
        unpacked = defaultdict[int, list[str]](list)
        for (_, _, at), local in self._locals.items():
            unpacked[at].append(local)
        text = re.sub(r"for %(\d+)% in", lambda match: f"for {', '.join(unpacked[int(match[1])])}, in", text)
        head = []
        for source in self.code.views:
            in_views = [local for (view_source, _, at), local in self._locals.items() if view_source == source and at < 0]
            key = name if source == "R" else f"{name} {source}"
            head += [f"    {', '.join(in_views)}, = {source}.views[{key!r}]"] if in_views else []
        arguments = "R, P, G, start, keep" if guarded else "R, P, G"
        self.code.source = "\n".join((f"def {name}({arguments}):", *head, text or "    pass"))

    def _view(self, operation: Operation, form: str = "", loop: int = -1) -> str:
        """Return the local name of a value in a form: as rows, transposed, or with axes inserted for broadcasting."""
        if operation.kind == "constant":
            return self._constant(operation.number)
        slot = operation.memory
        source = ("G" if operation.args else "P") if slot.kind == "parameter" else "R"
        stepped = loop >= 0 and slot.for_all_timesteps and source == "R" and operation.timed
        key = source, ArrayView(slot, operation.half, form), loop if stepped else -1
        if key not in self._locals:
            self._locals[key] = self._free_name(operation, source, form, stepped)
            (self.code.loops[loop] if stepped else self.code.views[source]).append(key[1])
        return self._locals[key]

    def _free_name(self, operation: Operation, source: str, form: str, stepped: bool) -> str:
        name = operation.name or operation.memory.name or "part"
        name = ("d" if source == "G" and not operation.name else "") + name + (f"_{form}" if form else "")
        # Python normalizes some signs in names (ℎ to h) and refuses others (λ² or lambda).
        name = re.sub(r"[^A-Za-z0-9]", "_", name) + ("" if stepped or source != "R" else "_all")
        if name in FUNCTIONS or name in _RESERVED or iskeyword(name) or _CONSTANT.match(name) or not name.isidentifier():
            name = f"v_{name}"
        free = name
        while free in self._used_names:
            self._used_names[name] += 1
            free = f"{name}__{self._used_names[name]}"
        self._used_names[free] = 1
        return free

    def _constant(self, number: float) -> str:
        name = f"c_{number!r}".replace("-", "minus_").replace(".", "_").replace("+", "")
        self.constants[name] = number
        return name

    def _call(self, operation: Operation) -> str:
        loop, kind, args = operation.loop, operation.kind, operation.args
        out = self._view(operation, loop=loop)
        if kind in ("add", "sub") and self._zero.intersection(args):  # only the other term remains
            only = next(arg for arg in args if arg not in self._zero)
            return f"{'negative' if kind == 'sub' and only is args[1] else 'positive'}({self._view(only, loop=loop)}, {out})"
        if kind in ELEMENTWISE or kind == "copy":
            operands = [self._view(arg, self._operand_form(arg, operation), loop) for arg in args]
            return f"{ELEMENTWISE.get(kind, 'positive')}({', '.join(operands)}, {OUT.get(kind, '')}{out})"
        x = args[0]
        match kind:
            case "sum" | "max":
                axis = x.axes.index(operation.over) - len(x.axes)
                return f"{'total' if kind == 'sum' else 'largest'}({self._view(x, loop=loop)}, {axis}, None, {out})"
            case "join":
                return f"concatenate(({', '.join(self._view(arg, loop=loop) for arg in args)},), -1, {out})"
            case "slice":
                return f"positive({self._view(x, f'columns {operation.over}', loop)}, {out})"
            case "rows":  # four times as fast as a sum over the rows
                return f"dot(ones, {self._view(x, 'flat' if x.axes == ('T', 'B') else 'rows')}, {out})"
            case "turn":
                return f"positive({self._view(x, 'turned')}, {out})"
            case "take":
                return f"take({self._view(args[1])}, {self._view(x, loop=loop)}, 0, {out}, 'clip')"
            case "outer":
                return f"dot({self._view(x, 'rows turned')}, {self._view(args[1], 'rows')}, {out})"
        form = "" if loop >= 0 else "rows"
        right = self._view(args[1], "turned" if kind == "dot-turned" else "")
        return f"dot({self._view(x, form, loop)}, {right}, {self._view(operation, form, loop)})"

    @staticmethod
    def _operand_form(arg: Operation, operation: Operation) -> str:
        """Return the form of an operand whose axes are not the last axes of the result: `along 110` for (T, B) in (T, B, H).

        The view is cut from an array with all timesteps, unless the operand's memory holds a single timestep.
        """
        operand_axes, result = arg.axes, operation.axes
        if arg.timed and not arg.memory.for_all_timesteps:
            operand_axes, result = operand_axes[1:], result[1:]
        elif not arg.timed and operation.timed and operation.loop >= 0:
            result = result[1:]
        if operand_axes == result[len(result) - len(operand_axes) :]:
            return ""
        return "along " + "".join("1" if axis in operand_axes else "0" for axis in result)


def view_of(form: str, array: np.ndarray) -> np.ndarray:
    """Return a view of an array in the form of an `ArrayView`."""
    kind, _, rest = form.partition(" ")
    match kind:
        case "":
            return array
        case "rows":
            flat = array.reshape(-1, array.shape[-1])
            return flat.T if rest else flat
        case "flat":
            return array.reshape(-1)
        case "turned":
            return array.T
        case "columns":
            start, stop = map(int, rest.split(":"))
            return array[..., start:stop]
        case "along":
            return array[tuple(slice(None) if flag == "1" else None for flag in rest)]
    raise ValueError(form)


def flat_cutter(name: str, views: Sequence[ArrayView], places: Mapping[Slot, tuple[int, tuple[int, ...]]]) -> str:
    """Return the source of a function that cuts a flat vector of parameters into the views that a pass reads."""
    words = []
    for view in views:
        at, shape = places[view.slot]
        if len(shape) == 1 and view.form.startswith("rows"):
            shape = (1, *shape)
        word = f"flat[{at}:{at + int(np.prod(shape))}]" + (f".reshape{shape}" if len(shape) != 1 else "")
        words.append(word + (".T" if view.form.endswith("turned") else ""))
    return f"def {name}(flat):\n    return ({''.join(word + ', ' for word in words)})"


# ------------------------------------------------------------------------------
# A model compiled for given sizes: the functions that compute a batch, and the memory layout that they use.


PassFunction = Callable[..., None]

ALIGNED = 16  # entries, so that every float32 array begins at a multiple of 64 bytes
LARGEST_IDENTITY = 512  # rows: 1 MB in float32


class Sizes(dict[str, int]):
    """The size of each axis. The size of joined axes, such as H+H, is the sum of their sizes."""

    def __missing__(self, axis: str) -> int:
        if "+" not in axis:
            raise KeyError(axis)
        return sum(self[part] for part in axis.split("+"))


class CompiledPass(NamedTuple):
    """A compiled pass: its generated code and the Python function."""

    code: Code
    run: PassFunction


class RecordLayout(NamedTuple):
    """The places of a record's arrays in its one block of memory, `size` entries: of slots with their shapes, and of vectors.

    `ids` are the slots of integers, which have arrays of their own.
    """

    size: int
    slots: tuple[tuple[Slot, tuple[int, ...], slice], ...]
    vectors: tuple[tuple[str, slice], ...]
    ids: tuple[tuple[Slot, tuple[int, ...]], ...]


class Compiled:
    """A model for one set of sizes. `slots` lists the memory of a record in order; `layout` is the layout of the weights."""

    def __init__(self, model: Model, sizes: Mapping[str, int], dtype: str) -> None:
        self.model, self.sizes, self.dtype = model, Sizes(sizes), np.dtype(dtype)
        self._check_sizes()
        self.schedule = Schedule(model.page, model.axes, model.backward, self.sizes)
        self.layout = ParameterLayout({name: self.shape(model.axes[name]) for name in model.parameters}, model.rule.states)
        self.update = CompiledUpdate(model.rule, self.layout)
        operations = [o for phase in self.schedule.phases.values() for o in phase.operations]
        slots = dict.fromkeys(o.memory for o in (*self.schedule.named.values(), *operations))
        self.slots = [slot for slot in slots if slot.kind != "parameter"]
        self.slot_shapes = {slot: self._slot_shape(slot) for slot in self.slots}
        self.parameter_slots = {slot: self.layout.places[slot.name] for slot in slots if slot.kind == "parameter"}
        self.states = tuple(model.page.states)
        self._space: dict[str, object] = dict(FUNCTIONS)
        T, B = self.sizes["T"], self.sizes["B"]
        self._space["ones"] = np.ones(T * B, self.dtype)
        self.functions: dict[str, CompiledPass] = {}
        self._identities: dict[int, Array] = {}
        self._compile(Emission(self.schedule, "forward", "forward"), Emission(self.schedule, "backward", "backward"))

    def _check_sizes(self) -> None:
        for name, axes in self.model.axes.items():
            for axis in "+".join(axes).split("+") if axes else ():
                if axis not in self.sizes:
                    message = f"{name} has the axis {axis}, which has no size; axes with a size: {' '.join(self.sizes)}"
                    raise EquationError(message, self.model.page.places.get(name))

    def shape(self, axes: tuple[str, ...]) -> tuple[int, ...]:
        """Return the shape of a value with these axes."""
        return tuple(self.sizes[axis] for axis in axes)

    def _slot_shape(self, slot: Slot) -> tuple[int, ...]:
        """Return the shape of a slot's memory. A state has T + 1 timesteps; a value of one round of a loop has no time axis."""
        shape = self.shape(slot.axes)
        if slot.kind == "state":
            return (shape[0] + 1, *shape[1:])
        return shape if slot.for_all_timesteps else shape[1:]

    def _compile(self, *emissions: Emission) -> None:
        sources: list[str] = []
        for emission in emissions:
            code = emission.code
            roles = [role for role in "PG" if code.views[role]]
            sources += [
                code.source,
                *(flat_cutter(f"{code.name}_{role}", code.views[role], self.parameter_slots) for role in roles),
            ]
            for name, number in emission.constants.items():
                if abs(number) > float(np.finfo(self.dtype).max):
                    raise EquationError(f"{number:g} is larger than any number in {self.dtype}; write a smaller one")
                self._space[name] = np.array(number, self.dtype)  # NumPy computes with it twice as fast as with a Python number
        exec(compile("\n\n".join(sources), f"<{self.model.page.title}>", "exec"), self._space)
        for emission in emissions:
            name = emission.code.name
            self.functions[name] = CompiledPass(emission.code, self._space[name])  # type: ignore[arg-type]

    def function(self, name: str) -> CompiledPass:
        """Return a pass by name, compiled on first use: `forward` and `backward`; `forward_on` and `backward_on`, which continue
        from the middle of a batch; and `earlier`, which carries the gradient into an earlier batch."""
        if name == "earlier" and name not in self.functions:
            self._compile(Emission(self.schedule, "backward", name, zero=self.zero_in_earlier))
        if name not in self.functions:
            self._compile(Emission(self.schedule, name.removesuffix("_on"), name, guarded=True))
        return self.functions[name]

    def cut(self, weights: Weights, name: str, role: str = "P") -> None:
        """Create the views that a pass reads from weights (`role` P) or gradients (G), unless they exist."""
        if (key := f"{name} {role}") not in weights.views:
            self.function(name)
            cutter: Callable[[Array], tuple[Array, ...]] = self._space.get(f"{name}_{role}", lambda flat: ())  # type: ignore[assignment]
            weights.views[key] = cutter(weights.flat)
            weights.cut_views += len(weights.views[key])

    def identity(self, size: int) -> Array | None:
        """Return an identity matrix to copy one-hot rows from; None if it would be too large. Copying is ten times as fast as
        comparing indices."""
        if size > LARGEST_IDENTITY:
            return None
        if size not in self._identities:
            self._identities[size] = np.eye(size, dtype=self.dtype)
        return self._identities[size]

    @cached_property
    def zero_in_earlier(self) -> frozenset[Operation]:
        """The operations that are 0 in the backward pass of an earlier batch, which receives a gradient only from the batch
        after it.

        A derived line that this gradient does not reach is 0, and so is everything computed from zeros alone.
        """
        operations = self.schedule.phases["backward"].operations
        lines = {line.target for line in self.schedule.phases["backward"].lines}
        fed = {self.schedule.named[self.model.page.received(state)] for state in self.states}
        size = -1
        while size < len(fed):
            size = len(fed)
            fed |= {operation for operation in operations if fed.intersection(operation.args)}
        zero: set[Operation] = set()
        for operation in operations:
            are_zero = [arg in zero for arg in operation.args]
            is_zero = all(are_zero) if operation.kind in ("add", "sub") else any(are_zero)
            if (operation not in fed and operation.name in lines) or (operation.args and is_zero):
                zero.add(operation)
        return frozenset(zero)

    def is_zero_in_earlier(self, name: str) -> bool:
        """Return True if a delta or a parameter gradient receives nothing from later batches."""
        return self.schedule.named[name] in self.zero_in_earlier

    @cached_property
    def block(self) -> RecordLayout:
        """The memory of a record."""
        floats = {slot: shape for slot, shape in self.slot_shapes.items() if slot.kind != "ids"}
        vectors = {"gradient": self.layout.count, "after": self.layout.size}
        vectors |= dict.fromkeys(self.update.vectors, self.layout.count)
        vectors |= {f"scratch {i}": self.layout.count for i in range(self.update.scratch)}
        sizes = [*map(math.prod, floats.values()), *vectors.values()]
        starts = [0, *accumulate(-(-size // ALIGNED) * ALIGNED for size in sizes)]
        places = [slice(start, start + size) for start, size in zip(starts, sizes, strict=False)]
        return RecordLayout(
            starts[-1],
            tuple((slot, shape, place) for (slot, shape), place in zip(floats.items(), places, strict=False)),
            tuple(zip(vectors, places[len(floats) :], strict=True)),
            tuple((slot, shape) for slot, shape in self.slot_shapes.items() if slot.kind == "ids"),
        )

    @cached_property
    def views(self) -> int:
        """The number of views that a record creates for its two passes: whole arrays, and one per timestep of a loop."""
        codes = [self.functions[name].code for name in ("forward", "backward")]
        return sum(len(code.views["R"]) + self.sizes["T"] * sum(map(len, code.loops.values())) for code in codes)

    @cached_property
    def record_bytes(self) -> int:
        """The size of the arrays of one record, in bytes."""
        slot_bytes = sum(
            math.prod(shape) * (8 if slot.kind == "ids" else self.dtype.itemsize) for slot, shape in self.slot_shapes.items()
        )
        vectors = self.layout.size + self.layout.count * (1 + len(self.update.vectors) + self.update.scratch)
        return slot_bytes + vectors * self.dtype.itemsize


@lru_cache(maxsize=64)
def _compiled(structure: Structure, sizes: tuple[tuple[str, int], ...], dtype: str) -> Compiled:
    try:
        return Compiled(model_of(structure), dict(sizes), dtype)
    except EquationError as error:
        raise TuiGruError(str(error), option="cell") from error


def compiled(structure: Structure, sizes: Mapping[str, int], dtype: str) -> Compiled:
    """Return the model compiled for these sizes; cached. Raises `TuiGruError` if they do not fit the model."""
    return _compiled(structure, tuple(sorted(sizes.items())), dtype)
