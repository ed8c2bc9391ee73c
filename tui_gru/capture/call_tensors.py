"""The tensors of a call of a recurrent module: where they are among its arguments and results, what weights it used, and the
equations that its operations are."""

from __future__ import annotations

import inspect
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from itertools import accumulate, count
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import numpy as np

from tui_gru.capture.calls import CellEquations, GRUModule, Take, fresh
from tui_gru.equations import syntax as e
from tui_gru.equations.functions import FUNCTIONS, WRITTEN
from tui_gru.equations.page import read_page
from tui_gru.equations.syntax import Expression, Name, Symbols
from tui_gru.equations.writing import Writer
from tui_gru.errors import CaptureError
from tui_gru.files.arrays import AnyArray
from tui_gru.files.kinds import Blocks, Cell, canonical, step

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from torch.nn.utils.rnn import PackedSequence


# ------------------------------------------------------------------------------
# The tensors of a call as its hook receives them, and their conversion to arrays, time first: from batch first, without a batch,
# or packed sequences.


SMALL = 1 << 14  # entries; memory for larger arrays is worth reusing


def to_array(tensor: Tensor, take: Take) -> AnyArray:
    """Return a copy of the numbers. Float64 is unchanged; everything else becomes float32, which represents half precision
    exactly."""
    import torch

    tensor = tensor.detach()
    if tensor.is_cpu and tensor.dtype in (torch.float32, torch.float64) and tensor.numel() < SMALL:
        # A copy by torch takes half the time of one into an array. The tensor itself must not become an array: FSDP frees weights
        # by resizing their memory, which torch refuses once NumPy has it.
        return tensor.clone(memory_format=torch.contiguous_format).numpy()
    array = take(tensor.shape, np.float64 if tensor.dtype == torch.float64 else np.float32)
    torch.from_numpy(array).copy_(tensor)
    return array


@dataclass(frozen=True)
class Padded:
    """A padded sequence: (T, B, ·), or (B, T, ·) or (T, ·) according to `turned`."""

    turned: str = ""  # "", "batch first", "no batch"
    lengths: AnyArray | None = None

    def array(self, tensor: Tensor, take: Take) -> AnyArray:
        """Return the numbers (T, B, ·)."""
        if self.turned == "batch first":
            tensor = tensor.transpose(0, 1)
        elif self.turned == "no batch":
            tensor = tensor.unsqueeze(1)
        return to_array(tensor, take)

    def state(self, tensor: Tensor, take: Take) -> AnyArray:
        """Return a state (layers · directions, B, H)."""
        return to_array(tensor.unsqueeze(1) if self.turned == "no batch" else tensor, take)


@dataclass(frozen=True)
class OneTimestep(Padded):
    """The input or output of a cell, (B, ·) or (·)."""

    no_batch: bool = False

    def array(self, tensor: Tensor, take: Take) -> AnyArray:
        """Return the numbers (1, B, ·)."""
        return to_array(tensor[None, None] if self.no_batch else tensor[None], take)

    def state(self, tensor: Tensor, take: Take) -> AnyArray:
        """Return the state (1, B, H), which a cell outputs."""
        return self.array(tensor, take)


@dataclass(frozen=True)
class Looped(Padded):
    """The sequences of a module that loops over the timesteps itself: its states are (B, H) or (1, B, H)."""

    def state(self, tensor: Tensor, take: Take) -> AnyArray:
        """Return the state (1, B, H)."""
        return to_array(tensor.reshape(1, *tensor.shape[-2:]), take)


@dataclass(frozen=True, eq=False)
class Packed:
    """A PackedSequence. Its rows are sorted by length, and its data is stored timestep by timestep."""

    batch_sizes: AnyArray  # batch sizes (T)
    order: AnyArray  # (B): the script's row at each place

    @cached_property
    def lengths(self) -> AnyArray:
        """The row lengths (B), in the script's order of rows."""
        lengths = np.empty(len(self.order), np.int64)
        lengths[self.order] = (self.batch_sizes[:, None] > np.arange(len(self.order))).sum(axis=0)
        return lengths

    @cached_property
    def _places(self) -> tuple[AnyArray, AnyArray]:
        t = np.repeat(np.arange(len(self.batch_sizes)), self.batch_sizes)
        return t, self.order[np.concatenate([np.arange(size) for size in self.batch_sizes])]

    def array(self, tensor: Tensor, take: Take) -> AnyArray:
        """Return the numbers (T, B, ·) of packed data, 0 after the end of a row."""
        data = to_array(tensor, take)
        array = take((len(self.batch_sizes), len(self.order), *data.shape[1:]), data.dtype)
        array[...] = 0
        array[self._places] = data
        return array

    def state(self, tensor: Tensor, take: Take) -> AnyArray:
        """Return a state (layers · directions, B, H), which is already in the script's order of rows."""
        return to_array(tensor, take)


def packed_layout(sequence: PackedSequence) -> Packed:
    """Return the layout of a PackedSequence."""
    sizes = sequence.batch_sizes.numpy().astype(np.int64)
    order = sequence.sorted_indices
    return Packed(sizes, np.arange(int(sizes[0])) if order is None else order.cpu().numpy().astype(np.int64))


@dataclass(frozen=True, eq=False)
class Seen:
    """The tensors of a call. For a PackedSequence, `x` and `out` are its data, and `layout` is `Packed`."""

    x: Tensor
    h0: Tensor | None
    out: Tensor
    hn: Tensor
    layout: Padded | Packed
    c0: Tensor | None = None
    cn: Tensor | None = None
    memory_inside: bool = False  # True if c is computed here, since the module returns that of its last timestep only
    out_has_hn: bool = False  # True if the output was put together from hn and others, so that the gradient of hn has that of it

    @property
    def has_graph(self) -> bool:
        """True if the call can receive a gradient."""
        return self.out.requires_grad or self.hn.requires_grad


def has_numbers(tensor: Tensor) -> bool:
    """Return True if there are numbers to copy; there are none in a call that is traced, shared among ranks, or freed."""
    import torch

    wrapped = torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    if tensor.is_meta or wrapped or type(tensor).__name__ in ("FakeTensor", "DTensor"):
        return False
    reach = tensor.storage_offset() + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return not tensor.numel() or reach * tensor.element_size() < tensor.untyped_storage().nbytes()


def seen(module: GRUModule, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Seen | None:
    """Return the tensors of a call; None unless it is a call of a GRU's own forward. Subclasses differ, and a call can have raised
    an error."""
    import torch
    from torch.nn.utils.rnn import PackedSequence

    x = args[0] if args else kwargs.get("input")
    given = args[1] if len(args) > 1 else kwargs.get("hx")
    h0, c0 = given if module.states == 2 and given is not None else (given, None)
    if module.is_cell:
        last = output
        out = last[0] if module.states == 2 and type(last) is tuple else last
    elif type(output) is tuple and len(output) == 2:
        out, last = output
    else:
        return None
    hn, cn = last if module.states == 2 and type(last) is tuple and len(last) == 2 else (last, None)
    if isinstance(x, PackedSequence) and isinstance(out, PackedSequence):
        return Seen(x.data, h0, out.data, hn, packed_layout(x), c0, cn)
    if not (isinstance(x, torch.Tensor) and isinstance(out, torch.Tensor) and isinstance(hn, torch.Tensor)):
        return None
    if module.is_cell:
        layout: Padded = OneTimestep(no_batch=out.dim() == 1)
    else:
        layout = Padded("no batch" if out.dim() == 2 else "batch first" if module.batch_first else "")
    return Seen(x, h0, out, hn, layout, c0, cn)


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
        whole = parameter.detach().contiguous()
        return whole.as_strided(self.shape, self.stride, whole.storage_offset() + self.offset)

    def cut(self, axis: int, begin: int, size: int) -> Block:
        shape = tuple(size if k == axis else length for k, length in enumerate(self.shape))
        return replace(self, shape=shape, offset=self.offset + begin * self.stride[axis])


@dataclass(frozen=True)
class OneTimestepForm:
    """How a module that computes one timestep is called: `takes` has the positions of x, h (and c) among the tensors of its
    arguments, `gives` those of h (and c) among its results. `beside` is "xh" or "hx" if x and h are one argument, side by side."""

    takes: tuple[int, ...]
    gives: tuple[int, ...]
    beside: str = ""

    def calls(self, module: GRUModule, given: Sequence[Tensor], results: Sequence[Tensor]) -> list[Seen]:
        """Return the call as a list; an empty one if it is a call of another kind, as with other arguments."""
        states = self._states(module, given)
        if states is None or max(self.gives) >= len(results):
            return []
        x, *begins = states
        ends = [results[i] for i in self.gives]
        sized = all(each.shape[-1] == module.hidden_size for each in (*ends, *(state for state in begins if state is not None)))
        if not sized or x.shape[-1] != module.input_size or ends[0].dim() > 2:
            return []
        layout = OneTimestep(no_batch=ends[0].dim() == 1)
        return [Seen(x, begins[0], ends[0], ends[0], layout, *((begins[1], ends[1]) if len(ends) > 1 else ()))]

    def _states(self, module: GRUModule, given: Sequence[Tensor]) -> tuple[Tensor, *tuple[Tensor | None, ...]] | None:
        """Return x, and the states that a call begins with; None where it was given none."""
        if self.beside:
            if len(given) <= self.takes[0]:
                return None
            return set_apart(given[self.takes[0]], self.beside, module.hidden_size)
        x, *states = (given[i] if i < len(given) else None for i in self.takes)
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

    def calls(self, module: GRUModule, given: Sequence[Tensor], results: Sequence[Tensor]) -> list[Seen]:
        """Return the call as a list, of each timestep where the output is a list; an empty one if it is a call of another kind."""
        tensors = [given[i] if i < len(given) else None for i in self.takes]
        x, begins = tensors[0], tensors[1:] + [None] * (module.states + 1 - len(tensors))
        if x is None or x.dim() != 3 or len(given) > len(self.takes) or x.shape[-1] != module.input_size or not x.numel():
            return []
        in_time = x.detach().transpose(0, 1) if self.batch_first else x.detach()
        T, B, _ = in_time.shape
        state = B, module.hidden_size
        out_at, *end_at = self.gives
        if any(i >= len(results) for i in self.gives):
            return []
        ends = [None if i == ABSENT or self.out_is_list else results[i] for i in end_at]
        if any(each is not None and each.numel() != math.prod(state) for each in (*begins, *ends)):
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


@dataclass(frozen=True)
class HandwrittenCell:
    """A module that computes as a GRU, an LSTM or a plain RNN does, or as equations of its own say, and how it is called.

    `values` has the blocks of each weight of torch's cells, gate by gate in torch's order, None for zeros: matrices (I, H) or
    (H, H) that multiply from the right, and biases (H). `gradients` has, for each weight whose gradient is known, the blocks whose
    gradients make it up: two biases that are added have the same gradient, so that of an absent one is the gradient of the other.
    Of a cell with equations, both have one block a weight, in the shape of the equations.
    """

    module: GRUModule
    form: OneTimestepForm | LoopForm
    values: Mapping[str, tuple[Block | None, ...]]
    gradients: Mapping[str, tuple[Block, ...]]

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of its parameters in its module."""
        return tuple(dict.fromkeys(block.name for blocks in self.values.values() for block in blocks if block is not None))

    def tensors(self, part: Module) -> list[Tensor]:
        """Return its parameters, in the order of their names."""
        found = []
        for name in self.parameters:
            *path, last = name.split(".")
            owner = part
            for each in path:
                owner = owner._modules[each]  # type: ignore[assignment]
            found.append(getattr(owner, last))
        return found

    def weights(self, tensors: Sequence[Tensor], take: Take) -> dict[str, AnyArray]:
        """Return its weights under the names and in the shapes of torch's cells, (G · H, I), or of its equations."""
        by_name = dict(zip(self.parameters, tensors, strict=True))
        return {role: to_array(self._together(blocks, by_name), take) for role, blocks in self.values.items()}

    def gradient(self, role: str, by_name: Mapping[str, Tensor]) -> Tensor | None:
        """Return the gradient of a weight from p.grad of the parameters; None if one of them has none."""
        blocks = self.gradients[role]
        grads = {block.name: by_name[block.name].grad for block in blocks}
        found = {name: grad for name, grad in grads.items() if grad is not None}
        return self._together(blocks, found) if len(found) == len(grads) else None

    def _together(self, blocks: Sequence[Block | None], tensors: Mapping[str, Tensor]) -> Tensor:
        import torch

        like = next(iter(tensors.values()))
        zero = like.new_zeros(self.module.hidden_size)
        parts = (zero if block is None else block.of(tensors[block.name]) for block in blocks)
        if self.module.equations is not None:
            (own,) = parts
            return own
        return torch.cat([part.t() for part in parts])  # t() of a vector is the vector

    def calls(self, part: Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> list[Seen]:
        """Return the tensors of a call of the module, as one call or one for each timestep; an empty list if it is a call of
        another kind, as with other arguments."""
        calls = self.form.calls(self.module, inputs_of(part, args, kwargs), tensors_in(output))
        return self._with_memory(part, calls) if calls and calls[0].memory_inside else calls

    def _with_memory(self, part: Module, calls: Sequence[Seen]) -> list[Seen]:
        """Return calls with the c of each timestep, which the formulas give."""
        convention, cell, first = self.module.convention, self.formula_weights(part), calls[0]
        assert convention is not None
        h, c = (
            np.zeros(first.out.shape) if s is None else to_array(s, fresh).reshape(first.out.shape) for s in (first.h0, first.c0)
        )
        found, begin = list[Seen](), first.c0
        for call in calls:
            _, c = step(to_array(call.x, fresh).astype(np.float64), (h, c), cell, convention)
            h = to_array(call.out, fresh)
            end = call.out.detach().new_tensor(c) if call.cn is None else call.cn
            found.append(replace(call, c0=begin, cn=end))
            begin = end
        return found

    def formula_weights(self, part: Module) -> Cell:
        """Return its weights in float64 for `files.kinds.step`."""
        found, H, G = self.weights(self.tensors(part), fresh), self.module.hidden_size, len(self.module.gates)
        W, U = (found[f"weight_{side}"].reshape(G, H, -1).transpose(0, 2, 1).astype(np.float64) for side in ("ih", "hh"))
        b, b_h = (np.asarray(found.get(f"bias_{side}", np.zeros(G * H)), np.float64).reshape(G, H) for side in ("ih", "hh"))
        assert self.module.convention is not None
        return canonical(Blocks(W, U, b, b_h), self.module.convention)


def set_apart(both: Tensor, beside: str, hidden_size: int) -> tuple[Tensor, Tensor]:
    """Return x and h, which are side by side."""
    at = hidden_size if beside == "hx" else both.shape[-1] - hidden_size
    first, second = both[..., :at], both[..., at:]
    return (first, second) if beside == "xh" else (second, first)


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
        return self._cell.gradient(self._role, self.parameters)


def tensors_in(values: Any) -> list[Tensor]:
    """Return the tensors of numbers in nested tuples, lists and dicts, in their order."""
    import torch

    if isinstance(values, torch.Tensor):
        return [values] if values.is_floating_point() else []
    inner = values.values() if isinstance(values, Mapping) else values if isinstance(values, tuple | list) else ()
    return [tensor for value in inner for tensor in tensors_in(value)]


def inputs_of(part: Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """Return the tensors of a call's arguments, in the order of the signature."""
    return tensors_in(arguments_of(part, args, kwargs)) if kwargs else tensors_in(args)


def arguments_of(part: Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return dict(inspect.signature(part.forward).bind(*args, **kwargs).arguments)


# ------------------------------------------------------------------------------
# The equations of a cell that is none of the known kinds, read off the operations of a call, from the products to the new states.


class UnreadableError(CaptureError):
    """The operations of a module are not those of equations."""


class _Columns(NamedTuple):
    """The columns of a tensor in groups: the name or number that each group has in the equations, and how many columns it has. A
    number for each row, or for all rows, has one group with 0 columns."""

    groups: tuple[Expression, ...]
    widths: tuple[int, ...]


#: torch's operations of one tensor, element by element, with their formulas of x.
_UNARY = {name: f"{name}(x)" for name in ("sigmoid", "tanh", "relu", "exp", "log", "sqrt")} | {
    "neg": "−x",
    "rsqrt": "1 / sqrt(x)",
    "reciprocal": "1 / x",
    "silu": "x ⊙ sigmoid(x)",
    "hardsigmoid": "clamp(x / 6 + 0.5)",
}
#: Those of several operands, also of numbers; c is the factor `alpha` or `value`.
_SEVERAL = {
    "add": "x + c ⊙ y",
    "sub": "x − c ⊙ y",
    "rsub": "y − c ⊙ x",
    "mul": "x ⊙ y",
    "div": "x / y",
    "pow": "x ^ y",
    "addcmul": "x + c ⊙ y ⊙ z",
    "lerp": "x + z ⊙ (y − x)",
}
#: Operations that leave the numbers of a row as they are, and those whose results are the same everywhere.
_SAME = re.compile(
    "view|_unsafe_view|_?reshape(_alias)?|(un)?squeeze|expand|clone|detach|alias|contiguous|_to_copy|lift(_fresh(_copy)?)?"
    "|select|unbind|transpose|permute"
)
_CONSTANT = re.compile("(new_)?(ones|zeros|full)(_like)?|scalar_tensor|fill|zero")
ALIKE = 1e-9  # the largest difference of the same numbers, computed with others in one product
DEEPEST = 12  # operations in one another in a line
LONGEST_LOCAL = 12  # characters in the name of a variable of the script that becomes the name of a line


class OperationReader:
    """Reads off the operations of a module in the `with` block, on tensors that are known: `leaves`, (B, ·) or (·), and parameters.

    `lines` has the formula of each operation, of names alone, and `blocks` the part of a parameter that each name among them
    stands for. Groups of columns are as wide as `leaves`, or `size` units wide. The states in `begins`, (B, size), become leaves as
    well, once they are computed, and nothing is read after those in `until`: so a timestep of a loop is read off. `ends` has the
    tensors that are the latter.
    """

    def __init__(
        self,
        part: Module,
        parameters: Mapping[str, Tensor],
        leaves: Sequence[Tensor],
        size: int,
        begins: Sequence[Tensor] = (),
        until: Sequence[Tensor] = (),
    ) -> None:
        from torch.utils._python_dispatch import TorchDispatchMode

        self.lines: dict[str, Expression] = {}
        self.blocks: dict[str, Block] = {}
        self.variables: dict[str, str] = {}  # the line that a variable of the script had last
        self._part, self._size = part, size
        self._owners = {tensor.untyped_storage().data_ptr(): (name, tensor) for name, tensor in parameters.items()}
        self._known: dict[tuple[Any, ...], _Columns] = {}
        self._why: dict[tuple[Any, ...], str] = {}  # why a tensor is not known
        self._alive = list[Any]()  # so that no memory is used again
        self._names: dict[Expression, Name] = {}
        for i, leaf in enumerate(leaves):
            self._keep(leaf, _Columns((Name(f"leaf{i}"),), (leaf.shape[-1],)))
        self._begins, self._until = {f"leaf{i}": begin for i, begin in enumerate(begins, len(leaves))}, until
        self.ends: dict[int, Tensor] = {}
        reader = self

        class Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
            def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                return reader._operation(function, args, kwargs or {})

        self.mode: Any = Mode()  # type: ignore[no-untyped-call]

    def line_of(self, tensor: Tensor) -> str:
        """Return the name of a tensor with one group of columns. Raises `UnreadableError`."""
        found = self._columns(tensor)
        if len(found.groups) != 1 or not isinstance(found.groups[0], Name):
            raise UnreadableError("a new state is put together from several parts")
        return found.groups[0].name

    def check_apart(self, blocks: Iterable[Block]) -> None:
        """Raise `UnreadableError` if a number of a parameter is in several weights, whose gradients cannot be told apart."""
        used: dict[str, Tensor] = {}
        whole = dict(self._owners.values())
        for block in blocks:
            used.setdefault(block.name, whole[block.name].new_zeros(whole[block.name].shape))
            block.of(used[block.name]).add_(1)
        if twice := next((name for name, times in used.items() if (times > 1).any()), None):
            raise UnreadableError(f"it uses a part of {twice} in several ways, whose gradients cannot be told apart")

    def block_of(self, tensor: Tensor) -> Block | None:
        """Return the part of a parameter that a tensor is; None for any other tensor."""
        name, whole = self._owners.get(tensor.untyped_storage().data_ptr(), ("", tensor))
        offset = tensor.storage_offset() - whole.storage_offset()
        return Block(name, tuple(tensor.shape), tensor.stride(), int(offset)) if name else None

    def _operation(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        import torch

        result = function(*args, **kwargs)
        if isinstance(result, torch.Tensor) and result.is_floating_point() and result.dtype != torch.float64:
            result = result.double()
        self._alive.append((args, result))
        if self._until and len(self.ends) == len(self._until):
            return result
        name = function.name().removeprefix("aten::").partition(".")[0].rstrip("_")
        is_changed = function.name().partition(".")[0].endswith("_")
        try:
            found = self._read(name, function, args, kwargs, result)
        except (UnreadableError, LookupError, AttributeError, TypeError, ValueError) as error:
            why = str(error) if isinstance(error, UnreadableError) else f"torch.{name} has no equation"
            found = []
            for tensor in tensors_in(result):
                self._known.pop(_memory(tensor), None)
                self._why[_memory(tensor)] = why
        for tensor, columns in zip(tensors_in(result), found, strict=False):
            if is_changed:
                storage = tensor.untyped_storage().data_ptr()
                self._known = {key: value for key, value in self._known.items() if key[0] != storage}
            self._keep(tensor, columns)
        for tensor in tensors_in(result) if self._begins else ():
            for name, state in self._begins.items():
                if _is_alike(tensor, state):
                    self._keep(tensor, _Columns((Name(name),), (self._size,)))
            for k, state in enumerate(self._until):
                if _is_alike(tensor, state):
                    self.ends.setdefault(k, tensor)
        self._note_variables()
        return result

    def _keep(self, tensor: Tensor, columns: _Columns) -> None:
        self._known[_memory(tensor)] = columns

    def _note_variables(self) -> None:
        frame: Any = sys._getframe()
        while frame is not None:
            if frame.f_locals.get("self") is self._part:
                for variable, value in frame.f_locals.items():
                    columns = self._known.get(_memory(value)) if hasattr(value, "untyped_storage") else None
                    if columns is not None and len(columns.groups) == 1 and isinstance(columns.groups[0], Name):
                        self.variables[variable] = columns.groups[0].name
            frame = frame.f_back

    # Operands

    def _columns(self, value: Any) -> _Columns:
        """Return the columns of an operand. Raises `UnreadableError` with the reason if they are not known."""
        if isinstance(value, int | float):
            if not math.isfinite(value):
                raise UnreadableError("an operation has a number that is not finite")
            return _Columns((e.number(repr(value)) if value >= 0 else e.Negative(e.number(repr(-value))),), (0,))
        if (found := self._known.get(_memory(value))) is not None:
            return found
        block = self.block_of(value)
        if block is None and not value.dim() and _memory(value) not in self._why:
            return self._columns(value.item())
        if block is None:
            why = "it reads numbers that are none of its arguments, states or parameters"
            raise UnreadableError(self._why.get(_memory(value), why))
        leading = zip(block.shape[:-1], block.stride[:-1], strict=True)
        if not block.shape or not all(size == 1 or not stride for size, stride in leading) or block.shape[-1] % self._size:
            raise UnreadableError(f"the parameter {block.name} is neither a matrix nor a vector of the units")
        vector = replace(block, shape=block.shape[-1:], stride=block.stride[-1:])
        parts = [vector.cut(0, at, self._size) for at in range(0, vector.shape[0], self._size)]
        return _Columns(tuple(map(self._parameter, parts)), (self._size,) * len(parts))

    def _parameter(self, block: Block) -> Name:
        name = next((name for name, known in self.blocks.items() if known == block), f"parameter{len(self.blocks)}")
        self.blocks[name] = block
        return Name(name)

    def _line(self, formula: Expression, hint: str = "a") -> Expression:
        """Return the name of the line with this formula, a new one with a hint of its name if there is none."""
        if not any(True for _ in formula.names()) or isinstance(formula, Name):
            return formula
        if formula not in self._names:
            self._names[formula] = Name(f"{hint}_{len(self.lines)}")
            self.lines[self._names[formula].name] = formula
        return self._names[formula]

    def _each(self, text: str, **operands: _Columns) -> _Columns:
        """Return a formula of operands, group by group."""
        wide = {columns.widths for columns in operands.values() if columns.widths != (0,)}
        if len(wide) > 1:
            raise UnreadableError("an operation joins tensors of other columns than those of x and of the units")
        widths = next(iter(wide), (0,))
        groups = [
            self._line(e.filled(text, {name: each.groups[k if each.widths != (0,) else 0] for name, each in operands.items()}))
            for k in range(len(widths))
        ]
        return _Columns(tuple(groups), widths)

    # Operations

    def _read(self, name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> list[_Columns]:
        """Return the columns of each tensor of a result. Raises `UnreadableError`, or any error for other arguments than usual."""
        if _CONSTANT.fullmatch(name):
            tensor = tensors_in(result)[0]
            return [self._columns(float(tensor.reshape(-1)[0]))]
        if any(word in name for word in ("rand", "bernoulli", "dropout", "normal_", "uniform")):
            raise UnreadableError("it draws random numbers")
        if name in _UNARY:
            return [self._each(_UNARY[name], x=self._columns(args[0]))]
        if name in _SEVERAL:
            operands = dict(zip("xyz", map(self._columns, args[: 3 if name in ("lerp", "addcmul") else 2]), strict=False))
            factor = kwargs.get("alpha", kwargs.get("value", args[2] if name == "rsub" and len(args) > 2 else 1))
            text = _SEVERAL[name]
            if name == "pow" and isinstance(args[1], int | float) and args[1] < 0:
                text, operands["y"] = "1 / x ^ y", self._columns(-args[1])
            return [
                self._each(text, **operands, c=self._columns(factor))
                if factor != 1
                else self._each(text.replace("c ⊙ ", ""), **operands)
            ]
        if _SAME.fullmatch(name):
            found = self._columns(args[0])
            tensors = tensors_in(result)
            if found.widths != (0,) and tensors[0].shape[-1] != sum(found.widths):
                raise UnreadableError("it gives the columns of a tensor another shape")
            return [found for _ in tensors]
        if name == "copy":
            return [self._columns(args[1])]
        if name in ("mm", "bmm", "addmm", "mv", "addmv"):
            return [self._product(name, args)]
        if name == "cat":
            parts = list(map(self._columns, args[0]))
            self._need_columns(result, args[1] if len(args) > 1 else kwargs.get("dim", 0))
            return [_Columns(tuple(g for each in parts for g in each.groups), tuple(w for each in parts for w in each.widths))]
        if name in ("split", "split_with_sizes", "slice"):
            return self._cut(name, args, result)
        if name in ("mean", "sum", "var", "std", "var_mean", "std_mean"):
            self._need_columns(args[0], args[1])
            correction = kwargs.get("correction")
            return self._statistics(name, self._columns(args[0]), 1.0 if correction is None else float(correction))
        if name == "native_layer_norm":
            return [self._layer_norm(*args)]
        if name == "_softmax":
            self._need_columns(args[0], args[1])
            found = self._columns(args[0])
            if len(found.groups) > 1:
                raise UnreadableError("it takes a softmax of several groups of units")
            return [self._each("softmax(x)", x=found)]
        raise UnreadableError(f"torch.{name} has no equation")

    def _need_columns(self, tensor: Tensor, dim: Any) -> None:
        dims = [dim] if isinstance(dim, int) else list(dim)
        if [each % tensor.dim() for each in dims] != [tensor.dim() - 1]:
            raise UnreadableError("an operation is taken along the rows")

    def _product(self, name: str, args: tuple[Any, ...]) -> _Columns:
        plus = args[0] if name.startswith("add") else None
        left, right = args[-2:] if name not in ("mv", "addmv") else (args[-1], args[-2].T)
        matrix = self.block_of(right)
        if matrix is None:
            raise UnreadableError("it multiplies by a matrix that is no part of a parameter")
        if name == "bmm":
            if matrix.shape[0] != 1 and matrix.stride[0]:
                raise UnreadableError("it multiplies by several matrices at once")
            matrix = replace(matrix, shape=matrix.shape[1:], stride=matrix.stride[1:])
        columns = self._columns(left)
        if matrix.shape[1] % self._size:
            raise UnreadableError(f"{matrix.name} gives {matrix.shape[1]} numbers, no multiple of its {self._size} units")
        groups = []
        for column in range(0, matrix.shape[1], self._size):
            terms, row = list[Expression](), 0
            for group, width in zip(columns.groups, columns.widths, strict=True):
                part = self._parameter(matrix.cut(0, row, width).cut(1, column, self._size))
                terms.append(self._line(e.Product(group, part)))
                row += width
            groups.append(terms[0] if len(terms) == 1 else self._line(e.Sum(tuple(terms))))
        found = _Columns(tuple(groups), (self._size,) * len(groups))
        return found if plus is None else self._each("x + y", x=found, y=self._columns(plus))

    def _cut(self, name: str, args: tuple[Any, ...], result: Any) -> list[_Columns]:
        found, tensors = self._columns(args[0]), tensors_in(result)
        if name == "slice" and tensors[0].shape == args[0].shape:
            return [found]
        dim = args[1] if name == "slice" else args[2] if len(args) > 2 else 0
        self._need_columns(args[0], dim)
        cuts, at = list[_Columns](), (args[2] or 0) if name == "slice" else 0
        ends = dict(zip(accumulate(found.widths, initial=0), range(len(found.widths) + 1), strict=True))
        for tensor in tensors:
            begin, end = at % args[0].shape[-1] if at else 0, at % args[0].shape[-1] + tensor.shape[-1]
            if begin not in ends or end not in ends:
                raise UnreadableError("it cuts a tensor within x or within the units")
            cuts.append(_Columns(found.groups[ends[begin] : ends[end]], found.widths[ends[begin] : ends[end]]))
            at += tensor.shape[-1]
        return cuts

    def _total(self, columns: _Columns, kind: str) -> Expression:
        """Return the sum or the mean over all columns."""
        if len(set(columns.widths)) > 1 or columns.widths[0] != self._size:
            raise UnreadableError("it takes a sum or a mean of other columns than those of the units")
        each = [self._line(e.Reduce(group, kind, "H"), "m") for group in columns.groups]
        total = each[0] if len(each) == 1 else e.Sum(tuple(each))
        return self._line(total if kind == "sum" or len(each) == 1 else e.Quotient(total, e.number(len(each))), "m")

    def _statistics(self, name: str, columns: _Columns, correction: float) -> list[_Columns]:
        kind, _, and_mean = name.partition("_")
        if kind in ("mean", "sum"):
            return [_Columns((self._total(columns, kind),), (0,))]
        mean = _Columns((self._total(columns, "mean"),), (0,))
        squares = self._each("x ^ 2", x=self._centred(columns, mean))
        count = e.number(repr(sum(columns.widths) - correction))
        variance = (
            self._total(squares, "mean") if not correction else self._line(e.Quotient(self._total(squares, "sum"), count), "v")
        )
        found = variance if kind == "var" else self._line(e.Apply((variance,), "sqrt"), "s")
        return [_Columns((found,), (0,)), mean][: 2 if and_mean else 1]

    def _centred(self, columns: _Columns, mean: _Columns) -> _Columns:
        found = [self._line(e.Sum((group, e.Negative(mean.groups[0]))), "e") for group in columns.groups]
        return _Columns(tuple(found), columns.widths)

    def _layer_norm(self, x: Any, shape: Any, weight: Any, bias: Any, epsilon: float) -> _Columns:
        columns = self._columns(x)
        if list(shape) != [sum(columns.widths)]:
            raise UnreadableError("a layer norm is taken over other columns than those of a tensor")
        mean = _Columns((self._total(columns, "mean"),), (0,))
        centred = self._centred(columns, mean)
        variance = self._total(self._each("x ^ 2", x=centred), "mean")
        size = self._line(e.filled("sqrt(x + y)", {"x": variance, "y": e.number(repr(epsilon))}), "s")
        found = self._each("x / y", x=centred, y=_Columns((size,), (0,)))
        found = found if weight is None else self._each("x ⊙ y", x=found, y=self._columns(weight))
        return found if bias is None else self._each("x + y", x=found, y=self._columns(bias))


def _is_alike(tensor: Tensor, state: Tensor) -> bool:
    """Return True if a tensor has the numbers of a state, up to rounding."""
    if tensor.numel() != state.numel() or tensor.shape[-1:] != state.shape[-1:]:
        return False
    return bool((tensor.reshape(state.shape) - state).abs().max() < ALIKE)


def _memory(tensor: Tensor) -> tuple[Any, ...]:
    """Return what two tensors have in common that are the same numbers in the same place."""
    lengths = [(size, stride) for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size != 1]
    return (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), *lengths)


def equations_of(
    reader: OperationReader,
    x: str,
    states: Mapping[str, str],
    ends: Mapping[str, str],
    variables: Mapping[str, str],
    *,
    sized: bool = False,
) -> tuple[str, dict[str, Block]]:
    """Return the text of a cell, and the part of a parameter that each of its parameters is.

    `x` and `states` name the leaves, by the names h and c of the states; `ends` the lines of the new states. `variables` of the
    script name the lines that they had last. With `sized`, matrices have their axes. Raises `UnreadableError` if the states depend
    on other leaves.
    """
    before = {x: "x", **{leaf: f"{state}_prev" for state, leaf in states.items()}}
    needed, waiting = set[str](), list(ends.values())
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += reader.lines[name].names() if name in reader.lines else ()
    if others := [name for name in needed if name.startswith("leaf") and name not in before]:
        raise UnreadableError(
            f"its new state depends on {len(others)} more argument{'s' if len(others) > 1 else ''} besides x and h"
        )
    if missing := [leaf for leaf in before if leaf not in needed]:
        raise UnreadableError(f"its new state does not depend on {'x' if missing[0] == x else 'a state'}")
    lines = {name: formula for name, formula in reader.lines.items() if name in needed}
    reads = Counter(read for formula in lines.values() for read in formula.names())
    targets = _targets(lines, reads, ends, variables)

    inlined = dict[str, Expression]()
    written, parameters = list[tuple[str, Expression]](), dict[str, str]()
    for name, formula in lines.items():
        whole = _with_names(formula, lambda read: inlined.get(read) or Name(before.get(read) or targets.get(read, read)))
        if name in targets:
            written.append((targets[name], whole))
        else:
            inlined[name] = whole
    for state, end in ends.items():
        if targets.get(end) != state:
            written.append((state, Name(targets.get(end) or before[end])))
    taken, declared = {*targets.values(), *ends, *before.values()}, list[str]()
    for target, formula in written:
        for name, role in _roles_of_parameters(formula, reader.blocks):
            if name not in parameters:
                joint = "_" if len(target) > 2 else ""
                candidates = (f"{role}{joint}{target}{number or ''}" for number in (0, *range(2, 1000)))
                parameters[name] = next(each for each in candidates if each not in taken)
                taken.add(parameters[name])
                axes = f"({'I' if role == 'W' else 'H'} H)" if sized and len(reader.blocks[name].shape) == 2 else ""
                declared.append(parameters[name] + axes)
    first = next(iter(ends))
    if written[-1][0] != first:
        at = next(i for i, (target, _) in enumerate(written) if target == first)
        target, formula = written.pop(at)
        if any(first in later.names() for _, later in written[at:]):
            new = next(each for each in (f"{first}_new", f"{first}_new2") if each not in taken)
            written = [(t, _with_names(f, lambda read: Name(new if read == first else read))) for t, f in written]
            written.insert(at, (new, formula))
            formula = Name(new)
        written.append((target, formula))
    writer = Writer(Symbols())
    texts = [
        writer.line(target, "=", _with_names(formula, lambda read: Name(parameters.get(read, read)))) for target, formula in written
    ]
    head = f"reads x\nstate {', '.join(f'{state} : H' for state in ends)}\nparameters {' '.join(declared)}\n\n"
    return head + "\n".join(texts) + "\n", {parameters[name]: reader.blocks[name] for name in parameters}


def _targets(
    lines: Mapping[str, Expression], reads: Mapping[str, int], ends: Mapping[str, str], variables: Mapping[str, str]
) -> dict[str, str]:
    """Return the names of the operations that get a line: new states, variables of the script, gates, what is read more than once,
    and parts of long formulas. Those without a name of their own are called by the only line that they lead to."""
    found = dict[str, str]()
    for state, end in ends.items():
        if end in lines:
            found.setdefault(end, state)
    gates = {formula.argument: name for name, formula in lines.items() if _is_gate(formula)}
    taken = {"x", *ends, *(f"{state}_prev" for state in ends), *WRITTEN, *e.REDUCTIONS, "over"}
    for variable, line in variables.items():
        if reads[line] == 1 and gates.get(Name(line), line) not in found:  # the argument of a gate has its name
            line = gates.get(Name(line), line)
        fits = variable not in taken and len(variable) <= LONGEST_LOCAL and e.code_name(variable) == variable
        if line in lines and line not in found and fits and not e.split(variable)[1]:
            found[line] = variable
            taken.add(variable)
    readers: dict[str, set[str]] = {name: set() for name in lines}
    for name in reversed(list(lines)):
        leads_to = {found[name]} if name in found else readers[name]
        for read in lines[name].names():
            if read in readers:
                readers[read] |= leads_to
    depths = dict[str, int]()  # of what is written in one line
    for name, formula in lines.items():
        depths[name] = 1 + max((depths[read] for read in formula.names() if read in lines and read not in found), default=0)
        is_squeezed = _is_gate(formula) and formula.function == "sigmoid"
        if name not in found and (reads[name] > 1 or is_squeezed or depths[name] > DEEPEST):
            hint = name.partition("_")[0]
            only = next(iter(readers[name])) if len(readers[name]) == 1 else ""
            base = f"{hint}{'_' if len(only) > 1 else ''}{only}"
            found[name] = next(each for k in count(1) if (each := base if only and k == 1 else f"{base}{k}") not in taken)
            taken.add(found[name])
    return found


def _is_gate(formula: Expression) -> TypeGuard[e.Apply]:
    return isinstance(formula, e.Apply) and formula.function in ("sigmoid", "tanh")


def _with_names(node: Expression, of: Callable[[str], Expression]) -> Expression:
    """Return a tree with another expression in the place of each name; a sum of sums is written as one."""
    if isinstance(node, Name):
        return of(node.name)
    parts = tuple(_with_names(child, of) for child in node.children)
    if isinstance(node, e.Sum):
        return e.Sum(tuple(term for part in parts for term in part.terms))
    return node.with_children(parts) if parts else node


def _roles_of_parameters(node: Expression, blocks: Mapping[str, Block]) -> Iterator[tuple[str, str]]:
    """Yield each parameter that a formula reads, with the letter of what it does: W multiplies x, U what the cell computes, g
    scales units, b is added."""
    for child in node.children:
        if isinstance(child, Name) and child.name in blocks:
            if isinstance(node, e.Product):
                yield child.name, "W" if node.left == Name("x") else "U"
            else:
                yield child.name, "b" if isinstance(node, e.Sum | e.Negative) else "g"
        yield from _roles_of_parameters(child, blocks)


def error_of(equations: CellEquations, weights: Mapping[str, Tensor], begins: Sequence[Tensor], ends: Sequence[Tensor]) -> float:
    """Return the largest difference of new states from what equations compute of x and the states before, `begins`, relative to the
    largest, or to 1. All are (B, ·) or (·)."""
    import torch

    def rows(tensor: Tensor) -> Tensor:
        return tensor.detach().reshape(-1, tensor.shape[-1]).double().cpu()

    def value(node: Expression) -> Any:
        match node:
            case Name(name=name):
                return values[name]
            case e.Number(value=number):
                return torch.tensor(float(number), dtype=torch.float64)
            case e.Product(left=left, right=right):
                return value(left) @ value(right)
            case e.Reduce(argument=argument, kind=kind):  # over units, whose axis stays, for the broadcast
                return value(argument).sum(-1, keepdim=True) if kind == "sum" else value(argument).mean(-1, keepdim=True)
            case e.Apply(function=function):
                return FUNCTIONS[function].in_torch(*map(value, node.children))
        return e.combined(node, list(map(value, node.children)))

    page = read_page(equations.text, equations.name)
    values = dict(zip(("x", *map(page.before, equations.states)), map(rows, begins), strict=True))
    values |= {name: tensor.detach().double().cpu() for name, tensor in weights.items()}
    for line in page.lines:
        values[line.target] = value(line.formula)
    theirs = dict(zip(equations.states, map(rows, ends), strict=True))
    errors = [float((values[state] - end).abs().nan_to_num(nan=math.inf).max()) for state, end in theirs.items()]
    return max(errors) / max([1.0, *(float(end.abs().max()) for end in theirs.values())])
