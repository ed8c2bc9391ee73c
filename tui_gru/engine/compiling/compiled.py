"""A model compiled for given sizes: the functions that compute a batch, and the memory layout that they use."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate

import numpy as np

from tui_gru.engine.compiling.emission import FUNCTIONS, Code, Emission, flat_cutter
from tui_gru.engine.compiling.operations import Operation, Slot
from tui_gru.engine.compiling.scheduling import Schedule
from tui_gru.engine.compiling.update import CompiledUpdate
from tui_gru.engine.errors import TuiGruError
from tui_gru.engine.model import Model, Structure, model_of
from tui_gru.engine.running.weights import Array, ParameterLayout, Weights
from tui_gru.equations.errors import EquationError

PassFunction = Callable[..., None]

ALIGNED = 16  # entries, so that every float32 array begins at a multiple of 64 bytes
LARGEST_IDENTITY = 512  # rows: 1 MB in float32


class Sizes(dict[str, int]):
    """The size of each axis. The size of joined axes, such as H+H, is the sum of their sizes."""

    def __missing__(self, axis: str) -> int:
        if "+" not in axis:
            raise KeyError(axis)
        return sum(self[part] for part in axis.split("+"))


@dataclass(frozen=True)
class CompiledPass:
    """A compiled pass: its generated code and the Python function."""

    code: Code
    run: PassFunction


@dataclass(frozen=True)
class RecordLayout:
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
        return shape if slot.whole else shape[1:]

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
            cutter: Callable[[Array], tuple[Array, ...]] = self._space.get(f"{name}_{role}", _nothing)  # type: ignore[assignment]
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
        fed = {self.schedule.named[self.model.page.ahead(state)] for state in self.states}
        size = -1
        while size < len(fed):
            size = len(fed)
            fed |= {operation for operation in operations if fed.intersection(operation.args)}
        zero: set[Operation] = set()
        for operation in operations:
            are_zero = [arg in zero for arg in operation.args]
            given = all(are_zero) if operation.kind in ("add", "sub") else any(are_zero)
            if (operation not in fed and operation.name in lines) or (operation.args and given):
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
        own = sum(math.prod(shape) * (8 if slot.kind == "ids" else self.dtype.itemsize) for slot, shape in self.slot_shapes.items())
        vectors = self.layout.size + self.layout.count * (1 + len(self.update.vectors) + self.update.scratch)
        return own + vectors * self.dtype.itemsize


def _nothing(flat: Array) -> tuple[Array, ...]:
    return ()


@lru_cache(maxsize=64)
def _compiled(structure: Structure, sizes: tuple[tuple[str, int], ...], dtype: str) -> Compiled:
    try:
        return Compiled(model_of(structure), dict(sizes), dtype)
    except EquationError as error:
        raise TuiGruError(str(error), option="cell") from error


def compiled(structure: Structure, sizes: Mapping[str, int], dtype: str) -> Compiled:
    """Return the model compiled for these sizes; cached. Raises `TuiGruError` if they do not fit the model."""
    return _compiled(structure, tuple(sorted(sizes.items())), dtype)
