"""Which modules can be hand-written cells, and how they are called: where x, the states and the parts of their weights are among
the tensors of a call."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tui_gru.capture.calls import COPIES, GivenCell, GRUModule, Looped, OneTimestep, Seen, Take, fresh, to_array
from tui_gru.errors import CaptureError, printable, shown
from tui_gru.files.arrays import AnyArray
from tui_gru.files.kinds import KINDS, Blocks, Cell, canonical, cell_step

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


# ------------------------------------------------------------------------------
# The modules that can be a hand-written cell.


MOST_MATRICES = 12  # of a module that is tried without being named


def candidates(root: Module, others: Mapping[Module, GRUModule], name: GivenCell | None) -> dict[Module, str]:
    """Return the modules that can be a cell, with their names: that called `name`, by default all of the script's own classes that
    have a few matrices. None of the `others` is in one of them, or has one of them.

    Raises `CaptureError` if there is none of this name, or it cannot be a cell.
    """
    modules = dict(root.named_modules())
    if name is not None:
        if not isinstance(name, str) or name not in modules:
            from difflib import get_close_matches

            near = get_close_matches(shown(name).strip("'"), modules) or [n for n, m in modules.items() if n and _is_own(m)][:8]
            hint = f"write one of {', '.join(map(printable, near))}" if near else "there is no other module in it"
            raise CaptureError(f"there is no module {shown(name)} in {type(root).__name__}; {hint}", option="cell")
        part = modules[name]
        if part in others:
            return {}
        if inside := next((other for other in part.modules() if other in others), None):
            raise CaptureError(
                f"{name} is no cell: it has {type(inside).__name__} inside, which is captured itself; leave cell out", option="cell"
            )
        if any(map(is_scripted, part.modules())):
            raise CaptureError(
                f"{name} is compiled by TorchScript, where no call is seen; run the script with PYTORCH_JIT=0, so that it is "
                "computed in Python",
                option="cell",
            )
        if not _matrices(part):
            raise CaptureError(
                f"{name} is no cell, since it has no matrix as a parameter; name the module that has them", option="cell"
            )
        return {part: name or "cell"}
    used = {inner for other in others for inner in other.modules()}
    return {
        part: part_name or "cell"
        for part_name, part in modules.items()
        if _is_own(part)
        and part not in used
        and not any(inner in others for inner in part.modules())
        and 1 <= _matrices(part) <= MOST_MATRICES
    }


def _is_own(part: Module) -> bool:
    """Return True for a module of a class that is not torch's, and in which nothing is compiled by TorchScript, which counts the
    calls of its copies too and then computes in another way."""
    return not type(part).__module__.startswith("torch.") and not any(map(is_scripted, part.modules()))


def _matrices(part: Module) -> int:
    most = 3 if sounds_recurrent(part) else 2  # a convolution has three dimensions as well
    return sum(2 <= parameter.dim() <= most for parameter in part.parameters())


def sounds_recurrent(part: Module) -> bool:
    """Return True if a class of a module is called a recurrent one: tanh of a sum of two products is computed by others, such as an
    attention."""
    names = " ".join(base.__name__.lower() for base in type(part).__mro__)
    return any(word in names for word in ("rnn", "cell", "recurrent"))


def is_scripted(part: Module) -> bool:
    """Return True for a module that is compiled by TorchScript."""
    return hasattr(part, "original_name")


# ------------------------------------------------------------------------------
# The weights of a hand-written cell: parts of its parameters, put together as torch's cells have them.


@dataclass(frozen=True)
class Block:
    """A part of a parameter: the name of the parameter in its module, and the shape, strides and offset of the part."""

    name: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    def of(self, parameter: Tensor) -> Tensor:
        """Return the part of a parameter, or of its gradient."""
        contiguous = parameter.detach().contiguous()
        return contiguous.as_strided(self.shape, self.stride, contiguous.storage_offset() + self.offset)

    def cut(self, axis: int, begin: int, size: int) -> Block:
        shape = tuple(size if k == axis else length for k, length in enumerate(self.shape))
        return replace(self, shape=shape, offset=self.offset + begin * self.stride[axis])

    def overlaps(self, other: Block, parameter: Tensor) -> bool:
        """Return True if a number of the parameter is in both parts."""
        marks = parameter.new_zeros(parameter.shape)
        self.of(marks).fill_(1)
        return self.name == other.name and bool(other.of(marks).any())


@dataclass(eq=False)
class ParameterProduct:
    """What a matrix was multiplied with, (B, K), and the matrix (K, N), a part of a parameter. `biases` has the parts of parameters
    that were added, by the first column."""

    operand: Tensor
    matrix: Block
    biases: dict[int, Block] = field(default_factory=dict)
    at: int = 0  # the place of the operation among those of a call


#: (product, column of the product), for each product that was added up in the columns of a tensor
SumTerms = list[tuple[ParameterProduct, int]]


@dataclass(frozen=True)
class GateBlocks:
    """One gate's matrix (I, H) or (H, H), its bias, and the place of the product, by which those of x and h belong together."""

    matrix: Block
    bias: Block | None
    place: tuple[int, int]


def gates_of(
    products: Sequence[ParameterProduct], added: Sequence[tuple[Block, SumTerms]], x: Tensor, h: Tensor, end: Tensor
) -> tuple[list[GateBlocks], list[GateBlocks]] | None:
    """Return the gates of the products with x, and of those with h; None if a bias belongs to none of them."""
    x, h, end = (tensor.reshape(-1, tensor.shape[-1]) for tensor in (x, h, end))
    I, H = x.shape[1], h.shape[1]  # noqa: E741
    reads = dict[Any, tuple[int | None, int | None]]()  # the first rows of the matrix that multiply x, and h
    for product in products:
        a, N = product.operand, product.matrix.shape[1]
        if N % H or a.shape[0] != x.shape[0] or same_numbers(a, end):
            continue  # such as the head, which reads the new state
        if same_numbers(a, x):
            reads[product] = 0, None
        elif a.shape[1] == I + H and same_numbers(a[:, :I], x):
            reads[product] = 0, I
        elif a.shape[1] == I + H and same_numbers(a[:, H:], x):
            reads[product] = H, 0
        elif a.shape[1] == H:  # h, or the part of it that a gate lets through
            reads[product] = None, 0
    biases = {product: dict(product.biases) for product in reads}
    for bias, terms in added:
        products_known = sorted(((p, at) for p, at in terms if p in reads), key=lambda term: reads[term[0]][0] is None)
        free = next(((p, at) for p, at in products_known if not _covering(biases[p], at, H)), None)
        if free is None:
            return None
        biases[free[0]][free[1]] = bias
    sides = list[GateBlocks](), list[GateBlocks]()
    for k, (product, starts) in enumerate(reads.items()):
        for column in range(0, product.matrix.shape[1], H):
            bias_ = _covering(biases[product], column, H)
            for side, start, size in zip(sides, starts, (I, H), strict=True):
                if start is not None:
                    matrix = product.matrix.cut(0, start, size).cut(1, column, H)
                    side.append(GateBlocks(matrix, bias_, (k, column)))
                    bias_ = None  # of x and h side by side, it is with x
    return sides


def _covering(biases: Mapping[int, Block], column: int, size: int) -> Block | None:
    return next(
        (b.cut(0, column - at, size) for at, b in biases.items() if at <= column and column + size <= at + b.shape[0]), None
    )


def same_numbers(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool((one == other).all())


def torch_weights(
    module: GRUModule, W: Sequence[GateBlocks], U: Sequence[GateBlocks]
) -> tuple[dict[str, tuple[Block | None, ...]], dict[str, tuple[Block, ...]]]:
    """Return the blocks of the values and of the gradients, by torch's names. A bias that is alone in its sum is that of x."""
    assert module.convention is not None
    values: dict[str, tuple[Block | None, ...]] = {
        "weight_ih": tuple(gate.matrix for gate in W),
        "weight_hh": tuple(gate.matrix for gate in U),
    }
    gradients: dict[str, tuple[Block | None, ...]] = dict(values)
    if module.bias:
        candidate = KINDS[module.convention.kind].candidate if module.convention.reset == "after" else ""
        pairs = [(w.bias, u.bias) for w, u in zip(W, U, strict=True)]
        is_candidate = [gate == candidate for gate in module.gates]  # r is between the two biases
        pairs = [
            (u, None) if w is None and not of_candidate else (w, u)
            for (w, u), of_candidate in zip(pairs, is_candidate, strict=True)
        ]
        values["bias_ih"], values["bias_hh"] = (tuple(side) for side in zip(*pairs, strict=True))
        filled = [(w, u) if of_candidate else (w or u, u or w) for (w, u), of_candidate in zip(pairs, is_candidate, strict=True)]
        gradients["bias_ih"], gradients["bias_hh"] = (tuple(side) for side in zip(*filled, strict=True))
    complete = {role: blocks for role, blocks in gradients.items() if any(values[role])}
    return values, {role: tuple(filter(None, blocks)) for role, blocks in complete.items() if all(blocks)}


@dataclass(frozen=True)
class OneTimestepForm:
    """How a module that computes one timestep is called: `takes` has the positions of x, h (and c) among the tensors of its
    arguments, `gives` those of h (and c) among its results. `joined` is "xh" or "hx" if x and h are one argument, side by side."""

    takes: tuple[int, ...]
    gives: tuple[int, ...]
    joined: str = ""

    def calls(self, module: GRUModule, arguments: Sequence[Tensor], results: Sequence[Tensor]) -> list[Seen]:
        """Return the call as a list; an empty one if it is a call of another kind, as with other arguments."""
        states = self._states(module, arguments)
        if states is None or max(self.gives) >= len(results):
            return []
        x, *begins = states
        ends = [results[i] for i in self.gives]
        sized = all(end.shape[-1] == module.hidden_size for end in (*ends, *(state for state in begins if state is not None)))
        if not sized or x.shape[-1] != module.input_size or ends[0].dim() > 2:
            return []
        layout = OneTimestep(no_batch=ends[0].dim() == 1)
        return [Seen(x, begins[0], ends[0], ends[0], layout, *((begins[1], ends[1]) if len(ends) > 1 else ()))]

    def _states(self, module: GRUModule, arguments: Sequence[Tensor]) -> tuple[Tensor, *tuple[Tensor | None, ...]] | None:
        """Return x, and the states that a call begins with; None where it was given none."""
        if self.joined:
            if len(arguments) <= self.takes[0]:
                return None
            return set_apart(arguments[self.takes[0]], self.joined, module.hidden_size)
        x, *states = (arguments[i] if i < len(arguments) else None for i in self.takes)
        return None if x is None else (x, *states)


ABSENT = -1  # the position of a state that a module does not return


class LastState(StrEnum):
    """How the last state that a module returns hangs together with its output, by the graph of autograd."""

    APART = ""
    IN_OUTPUT = "in the output"  # the output was put together from it and the states before it
    OF_OUTPUT = "of the output"  # it was taken from the output, whose gradient has that of it


@dataclass(frozen=True)
class LoopForm:
    """How a module that loops over all timesteps itself is called.

    x and the output are (T, B, ·), or (B, T, ·) if `batch_first`; states are (B, H) or (1, B, H). `takes` has the positions of x,
    h (and c) among the tensors of its arguments, as far as they are known; `gives` those of the output, and of the last h (and c)
    among its results. If `out_is_list`, the states are a list, with which the results begin, and the others are counted after it.
    """

    takes: tuple[int, ...]
    gives: tuple[int, ...]
    batch_first: bool
    out_is_list: bool
    last: LastState

    def calls(self, module: GRUModule, arguments: Sequence[Tensor], results: Sequence[Tensor]) -> list[Seen]:
        """Return the call as a list, of each timestep where the output is a list; an empty one if it is a call of another kind."""
        tensors = [arguments[i] if i < len(arguments) else None for i in self.takes]
        x, begins = tensors[0], tensors[1:] + [None] * (module.states + 1 - len(tensors))
        if x is None or x.dim() != 3 or len(arguments) > len(self.takes) or x.shape[-1] != module.input_size or not x.numel():
            return []
        in_time = x.detach().transpose(0, 1) if self.batch_first else x.detach()
        T, B, _ = in_time.shape
        state = B, module.hidden_size
        out_at, *end_at = self.gives
        if any(i >= len(results) for i in self.gives):
            return []
        ends = [None if i == ABSENT or self.out_is_list else results[i] for i in end_at]
        if any(end is not None and end.numel() != math.prod(state) for end in (*begins, *ends)):
            return []
        if self.out_is_list:
            outs = list(results[:T])
            if len(outs) < T or any(out.shape != state for out in outs):
                return []
            # Each is a state that the next timestep reads, as in the calls of a cell.
            calls = [Seen(x_t, h, out, out, OneTimestep()) for x_t, h, out in zip(in_time, [begins[0], *outs], outs, strict=False)]
            if module.states == 1:
                return calls
            at = T + end_at[1]
            if at >= len(results) or results[at].numel() != math.prod(state):
                return []
            calls[0] = replace(calls[0], c0=begins[1], memory_inside=True)
            calls[-1] = replace(calls[-1], cn=results[at])
            return calls
        out = results[out_at]
        if out.shape != (*x.shape[:2], module.hidden_size):
            return []
        hn = ends[0]
        if hn is None or self.last is LastState.OF_OUTPUT:
            hn = (out[:, -1] if self.batch_first else out[-1]).detach()
        layout = Looped("batch first" if self.batch_first else "")
        c0, cn = (begins[1], ends[1]) if module.states == 2 else (None, None)
        return [Seen(x, begins[0], out, hn, layout, c0, cn, out_has_hn=self.last is LastState.IN_OUTPUT)]


class Operations:
    """The functions of torch that are called while `mode` is entered, until `end`: the tensors that they give, `results`, in their
    order; and for each the name of its function, and the tensors that it takes."""

    def __init__(self) -> None:
        from torch._ops import OpOverload
        from torch.overrides import TorchFunctionMode

        self.results: list[Tensor] = []
        self.names: list[str] = []
        self.takes: list[list[Tensor]] = []
        self._ended = False
        log = self

        class Mode(TorchFunctionMode):
            def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                result = function(*args, **(kwargs or {}))
                if isinstance(function, OpOverload):
                    return result  # of an index with PyTorch 2.3, which shows it only to who observes operations as well
                if not log._ended and (outputs := tensors_in(result)):
                    log.results += outputs
                    log.names += [getattr(function, "__name__", "")] * len(outputs)
                    log.takes += [tensors_in([args, kwargs], whole_numbers=True)] * len(outputs)
                return result

        self.mode: Any = Mode()

    def end(self) -> None:
        """Leave the mode. Of two captures of one call, the one that begins first also ends first, and leaves the mode of the other
        one: so what is noted does not end with the mode."""
        self._ended = True
        self.mode.__exit__(None, None, None)


@dataclass(frozen=True)
class ResultPlace:
    """Where a tensor of each timestep is among the results of a module's operations: `first` + `longer` · T + `step` · t, by a
    function called `name`. Without a name, `first` is a place among the tensors of its arguments."""

    name: str
    first: int
    longer: int = 0
    step: int = 0

    def of(self, T: int, t: int, arguments: Sequence[Tensor], operations: Operations) -> Tensor | None:
        """Return the tensor; None if there is another one, in a call of another kind."""
        place = self.first + self.longer * T + self.step * t
        if not self.name:
            return arguments[place] if place < len(arguments) else None
        fits = 0 <= place < len(operations.names) and operations.names[place] == self.name
        return operations.results[place] if fits else None


@dataclass(frozen=True)
class InsideForm:
    """Where the timesteps of a loop are among the operations of a module, which does not return their states.

    There are `count` + `longer` · T results; without `longer`, only calls with `timesteps` are of this kind. `x` is the tensor of
    each timestep, or with an `axis` that of all; `begins` has None for a state that begins with zeros.
    """

    count: int
    longer: int
    timesteps: int
    x: ResultPlace
    axis: int | None
    states: tuple[ResultPlace, ...]
    begins: tuple[ResultPlace | None, ...]

    def calls(self, module: GRUModule, arguments: Sequence[Tensor], operations: Operations | None) -> list[Seen]:
        """Return a call for each timestep; an empty list if it is a call of another kind."""
        if operations is None:
            return []
        T, rest = divmod(len(operations.results) - self.count, self.longer) if self.longer else (self.timesteps, 0)
        if rest or T < 1 or (not self.longer and len(operations.results) != self.count):
            return []
        befores: list[Tensor | None] = []
        for begin in self.begins:
            befores.append(None if begin is None else begin.of(T, 0, arguments, operations))
            if begin is not None and befores[-1] is None:
                return []
        calls = list[Seen]()
        for t in range(T):
            x = self.x.of(T, t, arguments, operations)
            states = [place.of(T, t, arguments, operations) for place in self.states]
            values = [state for state in states if state is not None]
            if x is None or len(values) < len(states) or (self.axis is not None and x.shape[self.axis : self.axis + 1] != (T,)):
                return []
            x = x.detach() if self.axis is None else x.detach().select(self.axis, t)
            end = values[0]
            if any(value.shape != end.shape for value in values) or x.numel() * end.shape[-1] != end.numel() * x.shape[-1]:
                return []
            if end.shape[-1] != module.hidden_size or x.shape[-1] != module.input_size or math.prod(end.shape[:-2]) != 1:
                return []
            layout = OneTimestep() if end.dim() == 2 else Looped()
            memory = (befores[1], values[1]) if len(values) > 1 else ()
            calls.append(Seen(x.reshape(*end.shape[:-1], -1), befores[0], end, end, layout, *memory))
            befores = [*values]
        return calls


@dataclass(frozen=True, eq=False)
class ModuleCall:
    """A call of a module that can be a hand-written cell, as a hook sees it; with its operations if they were collected."""

    part: Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Any
    operations: Operations | None = None

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """The arguments by name, in the order of the signature. Raises `TypeError` if the signature does not fit."""
        return dict(inspect.signature(self.part.forward).bind(*self.args, **self.kwargs).arguments)

    @property
    def inputs(self) -> list[Tensor]:
        """The tensors of the arguments, in the order of the signature."""
        return tensors_in(self.arguments if self.kwargs else self.args)

    @property
    def results(self) -> list[Tensor]:
        """The tensors of the output."""
        return tensors_in(self.output)

    @property
    def leaves(self) -> list[Tensor]:
        """The arguments that x and the states of one timestep can be."""
        return [tensor for tensor in tensors_in(self.arguments) if 0 < tensor.dim() < 3]


MOST_WALKED = 10_000  # nodes of a graph


def passed_on(before: ModuleCall, call: ModuleCall) -> tuple[tuple[int, int], ...]:
    """Return which of the `leaves` of a call are results of the call before, each with the position of the result: with its memory,
    or computed from that result alone, by the graph of autograd. Where one is computed from several, nothing is returned."""
    results, matches = before.results, dict[int, int]()
    ends = {(result.grad_fn, result.output_nr): i for i, result in enumerate(results) if result.grad_fn is not None}
    leaves, others = call.leaves, list[int]()
    for at, leaf in enumerate(leaves):
        alike = [
            i for i, candidate in enumerate(results) if candidate.data_ptr() == leaf.data_ptr() and candidate.shape == leaf.shape
        ]
        if alike:
            matches[at] = alike[0]
        else:
            others.append(at)
    for at in others:
        reached = {i for i in _reached(leaves[at], ends) if results[i].shape == leaves[at].shape}
        if len(reached) > 1:
            return ()
        if reached and (i := reached.pop()) not in matches.values():
            matches[at] = i
    if len(matches) == len(leaves):  # its output is the next x as well
        del matches[0]
    return tuple(matches.items())


def _reached(tensor: Tensor, ends: Mapping[tuple[Any, int], int]) -> set[int]:
    """Return the results from which a tensor is computed, and not from others of them. Numbers of a graph fall along every edge."""
    lowest = min((node._sequence_nr() for node, _ in ends), default=0)
    waiting, walked, reached = [(tensor.grad_fn, tensor.output_nr)], set[Any](), set[int]()
    while waiting and len(walked) < MOST_WALKED:
        node, number = waiting.pop()
        if (end := ends.get((node, number))) is not None:
            reached.add(end)
        elif node is not None and node not in walked and node._sequence_nr() >= lowest:
            walked.add(node)
            waiting += node.next_functions
    return reached


@dataclass(frozen=True)
class HandwrittenCell:
    """A module that computes as a GRU, an LSTM or a plain RNN does, or as equations of its own say, and how it is called.

    `values` has the blocks of each weight of torch's cells, gate by gate in torch's order, None for zeros: matrices (I, H) or
    (H, H) that multiply from the right, and biases (H). `gradients` has, for each weight whose gradient is known, the blocks whose
    gradients make it up: two biases that are added have the same gradient, so that of an absent one is the gradient of the other.
    Of a cell with equations, both have one block a weight, in the shape of the equations. `other_results` has the positions of the
    results besides its states that these weights compute in another way than from the states, among as many `results`.
    """

    module: GRUModule
    form: OneTimestepForm | LoopForm | InsideForm
    values: Mapping[str, tuple[Block | None, ...]]
    gradients: Mapping[str, tuple[Block, ...]]
    other_results: tuple[int, ...] = ()
    results: int = 0

    def tensors_beside(self, call: ModuleCall, states: Sequence[Seen]) -> list[Tensor]:
        """Return the results of a call besides its states that its weights compute as well; of a call with another number of
        results, all that are no states."""
        if not self.other_results:
            return []
        results = call.results
        if len(results) == self.results:
            return [results[i] for i in self.other_results]
        ends = [end for timestep in states for end in (timestep.out, timestep.hn, timestep.cn)]
        return [result for result in results if not any(result is end for end in ends)]

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of its parameters in its module."""
        return tuple(dict.fromkeys(block.name for blocks in self.values.values() for block in blocks if block is not None))

    def tensors(self, part: Module) -> list[Tensor]:
        """Return its parameters, in the order of their names."""
        tensors = []
        for name in self.parameters:
            *path, last = name.split(".")
            owner = part
            for block in path:
                owner = owner._modules[block]  # type: ignore[assignment]
            tensors.append(getattr(owner, last))
        return tensors

    def weights(self, tensors: Sequence[Tensor], take: Take) -> dict[str, AnyArray]:
        """Return its weights under the names and in the shapes of torch's cells, (G · H, I), or of its equations."""
        by_name = dict(zip(self.parameters, tensors, strict=True))
        return {role: to_array(self._together(blocks, by_name), take) for role, blocks in self.values.items()}

    def gradient(self, role: str, gradients: Mapping[str, Tensor | None]) -> Tensor | None:
        """Return the gradient of a weight from those of the parameters, by name; None if one of them has none."""
        blocks = self.gradients[role]
        parts = {block.name: gradient for block in blocks if (gradient := gradients[block.name]) is not None}
        return self._together(blocks, parts) if len(parts) == len({block.name for block in blocks}) else None

    def _together(self, blocks: Sequence[Block | None], tensors: Mapping[str, Tensor]) -> Tensor:
        import torch

        like = next(iter(tensors.values()))
        zero = like.new_zeros(self.module.hidden_size)
        parts = (zero if block is None else block.of(tensors[block.name]) for block in blocks)
        if self.module.equations is not None:
            (weight,) = parts
            return weight
        return torch.cat([part.t() for part in parts])  # t() of a vector is the vector

    def calls(self, call: ModuleCall) -> list[Seen]:
        """Return the tensors of a call of the module, as one call or one for each timestep; an empty list if it is a call of
        another kind, as with other arguments."""
        if isinstance(self.form, InsideForm):
            return self.form.calls(self.module, call.inputs, call.operations)
        calls = self.form.calls(self.module, call.inputs, call.results)
        return self._with_memory(call.part, calls) if calls and calls[0].memory_inside else calls

    def _with_memory(self, part: Module, calls: Sequence[Seen]) -> list[Seen]:
        """Return calls with the c of each timestep, which the formulas give."""
        convention, cell, first = self.module.convention, self.formula_weights(part), calls[0]
        assert convention is not None
        h, c = (
            np.zeros(first.out.shape) if s is None else to_array(s, fresh).reshape(first.out.shape) for s in (first.h0, first.c0)
        )
        with_memory, begin = list[Seen](), first.c0
        for call in calls:
            x, next_h = to_array(call.x, fresh), to_array(call.out, fresh)
            COPIES.wait()
            _, c = cell_step(x.astype(np.float64), (h, c), cell, convention)
            h = next_h
            end = call.out.detach().new_tensor(c) if call.cn is None else call.cn
            with_memory.append(replace(call, c0=begin, cn=end))
            begin = end
        return with_memory

    def formula_weights(self, part: Module) -> Cell:
        """Return its weights in float64 for `files.kinds.step`."""
        values, H, G = self.weights(self.tensors(part), fresh), self.module.hidden_size, len(self.module.gates)
        COPIES.wait()
        W, U = (values[f"weight_{side}"].reshape(G, H, -1).transpose(0, 2, 1).astype(np.float64) for side in ("ih", "hh"))
        b, b_h = (np.asarray(values.get(f"bias_{side}", np.zeros(G * H)), np.float64).reshape(G, H) for side in ("ih", "hh"))
        assert self.module.convention is not None
        return canonical(Blocks(W, U, b, b_h), self.module.convention)


def set_apart(both: Tensor, joined: str, hidden_size: int) -> tuple[Tensor, Tensor]:
    """Return x and h, which are side by side."""
    at = hidden_size if joined == "hx" else both.shape[-1] - hidden_size
    first, second = both[..., :at], both[..., at:]
    return (first, second) if joined == "xh" else (second, first)


class LayerPart:
    """A module in the place of which one of its layers is captured: it has what the module has, and is another key."""

    def __init__(self, part: Module) -> None:
        self._part = part

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)


class TogetherParameter:
    """A weight of a hand-written cell as if it were a parameter: what its parameters have for it."""

    def __init__(self, cell: HandwrittenCell, role: str, part: Module) -> None:
        self._cell, self._role, self._part = cell, role, part

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The parameters by name."""
        names = {block.name for block in self._cell.gradients[self._role]}
        return {n: p for n, p in zip(self._cell.parameters, self._cell.tensors(self._part), strict=True) if n in names}

    @property
    def requires_grad(self) -> bool:
        return all(parameter.requires_grad for parameter in self.parameters.values())

    @property
    def grad(self) -> Tensor | None:
        return self._cell.gradient(self._role, {name: parameter.grad for name, parameter in self.parameters.items()})

    def put_together(self, values: Mapping[int, Tensor]) -> Tensor | None:
        """Return the weight of values in the shapes of the parameters, by the ids of these; None if one is not known."""
        return self._cell.gradient(self._role, {name: values.get(id(parameter)) for name, parameter in self.parameters.items()})


def tensors_in(values: Any, *, whole_numbers: bool = False) -> list[Tensor]:
    """Return the tensors of floats in nested tuples, lists and dicts, in their order; with `whole_numbers`, others as well."""
    import torch

    if isinstance(values, torch.Tensor):
        return [values] if whole_numbers or values.is_floating_point() else []
    inner = values.values() if isinstance(values, Mapping) else values if isinstance(values, tuple | list) else ()
    return [tensor for value in inner for tensor in tensors_in(value, whole_numbers=whole_numbers)]
