"""Generation of Python source from a schedule: one function per pass, which calls NumPy on preallocated arrays.

A function first unpacks the arrays that it uses as a whole; each round of a loop unpacks the views of its timestep. `guarded`
functions continue from the middle of a batch: their loops begin at the steps in `start`, and after each operation they call `keep`,
which restores the values from before that point.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from keyword import iskeyword

import numpy as np

from tui_gru.engine.compiling.operations import ELEMENTWISE, OUT, Operation, Slot
from tui_gru.engine.compiling.scheduling import Schedule

#: The functions that the generated code can call.
FUNCTIONS = {name: getattr(np, name) for name in (*ELEMENTWISE.values(), "positive", "concatenate")} | {
    "dot": np.ndarray.dot,  # np.dot takes twice as long on small matrices, because it checks for other array types
    "total": np.add.reduce,
    "largest": np.maximum.reduce,
    "take": np.ndarray.take,
}
_CONSTANT = re.compile(r"c_(\d|minus|inf|nan)")
_RESERVED = frozenset({"R", "P", "G", "start", "keep", "first", "ones", "__debug__"})  # Python lets nothing assign to the last


@dataclass(frozen=True)
class ArrayView:
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
        self._taken: dict[str, int] = {}  # local names in use, with the number of numbered copies of each
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
            if guarded and operation.timed and operation.memory.whole and finished:
                body.append(f"{indent}{'if first: ' if loop >= 0 else ''}keep({number})")
        text = "\n".join(body)
        unpacked = defaultdict[int, list[str]](list)
        for (_, _, at), local in self._locals.items():
            unpacked[at].append(local)
        text = re.sub(r"for %(\d+)% in", lambda found: f"for {', '.join(unpacked[int(found[1])])}, in", text)
        head = []
        for source in self.code.views:
            whole = [local for (own, _, at), local in self._locals.items() if own == source and at < 0]
            key = name if source == "R" else f"{name} {source}"
            head += [f"    {', '.join(whole)}, = {source}.views[{key!r}]"] if whole else []
        arguments = "R, P, G, start, keep" if guarded else "R, P, G"
        self.code.source = "\n".join((f"def {name}({arguments}):", *head, text or "    pass"))

    def _view(self, operation: Operation, form: str = "", loop: int = -1) -> str:
        """Return the local name of a value in a form: as rows, transposed, or with axes inserted for broadcasting."""
        if operation.kind == "constant":
            return self._constant(operation.number)
        slot = operation.memory
        source = ("G" if operation.args else "P") if slot.kind == "parameter" else "R"
        stepped = loop >= 0 and slot.whole and source == "R" and operation.timed
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
        while free in self._taken:
            self._taken[name] += 1
            free = f"{name}__{self._taken[name]}"
        self._taken[free] = 1
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
            operands = [self._view(arg, self._beside(arg, operation), loop) for arg in args]
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
    def _beside(arg: Operation, operation: Operation) -> str:
        """Return the form of an operand whose axes are not the last axes of the result: `along 110` for (T, B) in (T, B, H).

        The view is cut from an array with all timesteps, unless the operand's memory holds a single timestep.
        """
        own, result = arg.axes, operation.axes
        if arg.timed and not arg.memory.whole:
            own, result = own[1:], result[1:]
        elif not arg.timed and operation.timed and operation.loop >= 0:
            result = result[1:]
        if own == result[len(result) - len(own) :]:
            return ""
        return "along " + "".join("1" if axis in own else "0" for axis in result)


def cut(form: str, array: np.ndarray) -> np.ndarray:
    """Return a view of an array in the form of a `View`."""
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
