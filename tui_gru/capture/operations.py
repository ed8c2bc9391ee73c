"""The operations of a module, as a copy of it with random parameters shows them: its products with parameters, the equations that
they are, and the states of a loop in it."""

from __future__ import annotations

import copy
import inspect
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from tui_gru.capture.call_tensors import Block, Operations, ParameterProduct, SumTerms, tensors_in
from tui_gru.capture.calls import CellEquations, in_float64
from tui_gru.capture.pending import own_generators
from tui_gru.equations import syntax as e
from tui_gru.equations.functions import FUNCTIONS
from tui_gru.equations.page import read_page
from tui_gru.equations.syntax import Expression, Name
from tui_gru.errors import CaptureError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

# ------------------------------------------------------------------------------
# One computation of a copy, in which all products with parameters are seen.


def observed(
    compute: Callable[[], Any], parameters: Mapping[str, Tensor], operations: Operations
) -> tuple[list[ParameterProduct], list[tuple[Block, SumTerms]], Any]:
    """Return the products of a computation, the biases that were added apart from them with what they were added to, and the
    result; and collect its operations."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    owners = {tensor.untyped_storage().data_ptr(): (name, tensor) for name, tensor in parameters.items()}
    products, added, alive = list[ParameterProduct](), list[tuple[Block, SumTerms]](), list[Any]()
    sums = dict[int, tuple[int, SumTerms]]()  # by the memory of a tensor, its width and what was added up in it

    def block(tensor: Tensor) -> Block | None:
        name, parameter = owners.get(tensor.untyped_storage().data_ptr(), ("", tensor))
        offset = tensor.storage_offset() - parameter.storage_offset()
        return Block(name, tuple(tensor.shape), tensor.stride(), int(offset)) if name else None

    def bias(tensor: Any) -> Block | None:
        if not hasattr(tensor, "untyped_storage"):
            return None
        leading = zip(tensor.shape[:-1], tensor.stride()[:-1], strict=True)
        row = block(tensor) if all(size == 1 or not stride for size, stride in leading) else None  # also expanded to all rows
        return None if row is None else replace(row, shape=row.shape[-1:], stride=row.stride[-1:])

    def terms(tensor: Any) -> SumTerms:
        if not hasattr(tensor, "untyped_storage") or not tensor.dim():
            return []
        width, products_added = sums.get(tensor.untyped_storage().data_ptr(), (1, []))
        return [(product, column + tensor.storage_offset() % width) for product, column in products_added]

    def note(result: Tensor, products_added: SumTerms) -> None:
        if products_added:
            sums[result.untyped_storage().data_ptr()] = result.shape[-1], products_added

    def multiplied(operand: Tensor, matrix: Tensor, result: Tensor, plus: Tensor | None = None) -> None:
        if matrix.dim() == 3 and len(matrix) == 1:  # as einsum multiplies
            operand, matrix = operand[0], matrix[0]
        weight = block(matrix) if matrix.dim() == 2 else None
        if weight is not None:
            products.append(product := ParameterProduct(operand, weight, at=len(operations.results)))
            bias_block = None if plus is None else bias(plus)
            if bias_block is not None:
                product.biases[0] = bias_block
            note(result, [(product, 0), *(terms(plus) if bias_block is None else [])])

    def plus(first: Any, second: Any, result: Tensor) -> None:
        for one, other in ((first, second), (second, first)):
            if (bias_block := bias(one)) is not None and (to := terms(other)):
                added.append((bias_block, to))
        note(result, [*terms(first), *terms(second)])

    class Observer(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.is_floating_point() and result.dtype != torch.float64:
                result = result.double()  # such as a state of zeros that the module makes in its own type
            alive.append(result)  # so that no memory is used again
            name = function.name().removeprefix("aten::")
            if name in ("mm", "bmm"):
                multiplied(args[0], args[1], result)
            elif name == "addmm":
                multiplied(args[1], args[2], result, args[0])
            elif name == "mv":
                multiplied(args[1][None], args[0].T, result)
            elif name == "addmv":
                multiplied(args[2][None], args[1].T, result, args[0])
            elif name in ("add.Tensor", "add_.Tensor", "add__.Tensor") and (kwargs or {}).get("alpha", 1) == 1:
                plus(args[0], args[1], result)
            return result

    with Observer(), operations.mode:  # type: ignore[no-untyped-call]
        result = compute()
    return products, added, result


class NoCellError(CaptureError):
    """A module is called as a cell is, but computes something else."""


class WaitingError(CaptureError):
    """Which results of a module are its states is seen once it is called again with them."""


STEPS, NEARLY = (1e-7, 1e-4, 1e-3), 1e-3  # of the differences that a derivative is compared with; relative to its size


@dataclass(frozen=True)
class Observation:
    """A call of a copy of a module with random parameters, on random numbers: its arguments and result, and what is seen in it."""

    copied: Module
    called: dict[str, Any]
    result: Any
    products: list[ParameterProduct]
    added: list[tuple[Block, SumTerms]]
    parameters: dict[str, Tensor]
    constants: dict[str, Tensor]  # the buffers of numbers that the call did not change
    operations: Operations

    @property
    def numbers(self) -> dict[str, Tensor]:
        """The parameters and the constants."""
        return self.parameters | self.constants

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors of the result, and then those of the operations."""
        return tensors_in(self.result) + self.operations.results

    def again(self, called: dict[str, Any]) -> list[Tensor]:
        """Return the `tensors` of another call of the copy, with its graph."""
        import torch

        operations = Operations()
        with own_generators(), torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False):
            result = observed(lambda: call_of(self.copied, called), self.parameters, operations)[2]
        return tensors_in(result) + operations.results

    def check_derivative(self, gives: Sequence[int]) -> None:
        """Raise `NoCellError` if the backward pass from the `tensors` at `gives` does not compute their derivative, as equations
        do.

        It is compared with the difference of two calls, at several distances: rounding counts in a short one where the module
        computes in float32, corners of a relu in a long one.
        """
        import torch

        with torch.inference_mode(False), torch.enable_grad():
            if not self._is_derivative(gives):
                raise NoCellError(
                    "its backward pass is not the derivative of what it computes: something in it is detached, or has a backward "
                    "pass of its own"
                )

    def _is_derivative(self, gives: Sequence[int]) -> bool:
        import torch

        generator = torch.Generator().manual_seed(1)

        def drawn(like: Sequence[Tensor]) -> list[Tensor]:
            return [torch.randn(tensor.shape, generator=generator, dtype=torch.float64) for tensor in like]

        leaves, parameters = tensors_in(self.called), list(self.parameters.values())
        starts = [tensor.detach().clone() for tensor in (*leaves, *parameters)]
        weights = drawn([self.tensors[i] for i in gives])

        def total(moved: Sequence[Tensor]) -> Tensor:
            for parameter, value in zip(parameters, moved[len(leaves) :], strict=True):
                parameter.data.copy_(value)
            following = iter(moved)
            called = each_tensor(self.called, lambda tensor: next(following) if tensor.is_floating_point() else tensor)
            results = self.again(called)
            return sum(((results[i] * w).sum() for i, w in zip(gives, weights, strict=True)), start=torch.zeros(()))

        for parameter in parameters:
            parameter.requires_grad_()
        arguments = [start.clone().requires_grad_() for start in starts[: len(leaves)]]
        weighted_sum = total([*arguments, *starts[len(leaves) :]])
        slopes = (
            torch.autograd.grad(weighted_sum, [*arguments, *parameters], allow_unused=True) if weighted_sum.requires_grad else ()
        )
        for near in STEPS:
            directions = drawn(starts)
            before, after = (
                total([s + direction * size for s, direction in zip(starts, directions, strict=True)]) for size in (-near, near)
            )
            difference = float((after - before).detach()) / (2 * near)
            derived = sum(float((s * direction).sum()) for s, direction in zip(slopes, directions, strict=False) if s is not None)
            if abs(derived - difference) <= NEARLY * (abs(derived) + abs(difference)) + ALIKE:
                break
        else:
            return False
        total(starts)  # with the parameters as they were
        return True

    def leaves_read(self, leaves: Sequence[Tensor]) -> set[int]:
        """Return the positions of the tensors among the arguments that the results depend on."""
        import torch

        with torch.inference_mode(False), torch.enable_grad():
            ids = {id(leaf): i for i, leaf in enumerate(leaves)}
            copies = {i: leaf.clone().requires_grad_() for i, leaf in enumerate(leaves)}
            called = each_tensor(self.called, lambda tensor: copies[ids[id(tensor)]] if id(tensor) in ids else tensor)
            results = self.again(called)[: len(tensors_in(self.result))]
            sum_of_results = sum((result.sum() for result in results if result.requires_grad), start=torch.zeros(()))
            slopes = (
                torch.autograd.grad(sum_of_results, list(copies.values()), allow_unused=True)
                if sum_of_results.requires_grad
                else ()
            )
        return {i for i, slope in zip(copies, slopes, strict=False) if slope is not None}

    def results_beside(self, gives: Sequence[int], blocks: Iterable[Block | None]) -> tuple[int, ...]:
        """Return the positions of the results that parts of parameters, `blocks`, compute in another way than through the states,
        the `tensors` at `gives`: what comes to these parts from such a result, the gradients of the states do not have."""
        import torch

        with torch.inference_mode(False), torch.enable_grad():
            for parameter in self.parameters.values():
                parameter.requires_grad_()
            tensors, names = self.again(self.called), list(self.parameters)
            states = [tensors[i] for i in gives]
            for state in states:
                if state.requires_grad:
                    state.register_hook(torch.zeros_like)  # type: ignore[no-untyped-call]
            used, positions = [block for block in blocks if block is not None and block.name in names], list[int]()
            for i, result in enumerate(tensors[: len(tensors_in(self.result))]):
                if not result.requires_grad or any(result is state for state in states):
                    continue
                parameters = list(self.parameters.values())
                slopes = torch.autograd.grad(result.sum(), parameters, retain_graph=True, allow_unused=True)
                by_name = dict(zip(names, slopes, strict=True))
                if any((slope := by_name[block.name]) is not None and bool(block.of(slope).any()) for block in used):
                    positions.append(i)
        return tuple(positions)


def observations(part: Module, arguments: dict[str, Any], results: Sequence[Tensor], absent: str) -> Iterator[Observation]:
    """Yield observations of a module. Where the state was not given, as the argument `absent`, there is one with one state, and
    one with two, unless the module does not take so many. Raises what the module raises if it takes neither."""
    import torch

    generator = torch.Generator().manual_seed(0)

    def drawn(tensor: Tensor) -> Tensor:
        return torch.randn(tensor.shape, generator=generator, dtype=torch.float64) if tensor.is_floating_point() else tensor.cpu()

    starts: list[Any] = [None]
    if absent:  # the first call of a loop often begins with no state
        sized = [tensor for tensor in results if tensor.shape == results[-1].shape]
        starts = [results[-1], tuple(sized[-2:])][: min(2, len(sized))]
    failure: Exception | None = None
    for start in list(starts):
        complete = arguments | {absent: start} if absent else arguments
        # In inference mode, an operation such as linear would not be seen as the products and sums in it.
        with own_generators(), torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
            # torch does not copy a tensor with a graph, such as a state that the module stores.
            tensors = (tensor for module in part.modules() for tensor in tensors_in(vars(module)) if not tensor.is_leaf)
            other = copy.deepcopy(part, {id(tensor): tensor.detach().clone() for tensor in tensors}).cpu().double()
            for module in other.modules():
                module._forward_hooks.clear()
                module._forward_pre_hooks.clear()
            parameters: dict[str, Tensor] = dict(other.named_parameters())
            for parameter in parameters.values():
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
            buffers = {key: buffer for key, buffer in other.named_buffers() if buffer.is_floating_point()}
            values = {key: buffer.clone() for key, buffer in buffers.items()}
            called = each_tensor(complete, drawn)
            operations = Operations()
            try:
                products, added, result = observed(partial(call_of, other, called), parameters, operations)
            except Exception as error:
                failure, starts = error, [other_start for other_start in starts if other_start is not start]
                continue
        after = dict(other.named_buffers())
        constants = {key: buffer for key, buffer in buffers.items() if torch.equal(after[key], values[key])}
        yield Observation(other, called, result, products, added, parameters, constants, operations)
    if failure is not None and not starts:
        raise failure


def each_tensor(value: Any, of: Callable[[Tensor], Tensor]) -> Any:
    """Return nested tuples, lists and dicts with another tensor in the place of each, in the order of `tensors_in`."""
    import torch

    if isinstance(value, torch.Tensor):
        return of(value)
    if isinstance(value, tuple | list):
        parts = [each_tensor(part, of) for part in value]
        return parts if isinstance(value, list) else tuple(parts)
    return {key: each_tensor(part, of) for key, part in value.items()} if isinstance(value, Mapping) else value


def call_of(part: Module, arguments: Mapping[str, Any]) -> Any:
    bound = inspect.signature(part.forward).bind_partial()
    bound.arguments.update(arguments)
    return part.forward(*bound.args, **bound.kwargs)


# ------------------------------------------------------------------------------
# The equations of a cell that is none of the known kinds, read off the operations of a call, from the products to the new states.


class UnreadableError(CaptureError):
    """The operations of a module are not those of equations."""


class _Columns(NamedTuple):
    """The columns of a tensor in groups: the name or number that each group has in the equations, and how many columns it has. A
    number for each row, or for all rows, has one group with 0 columns."""

    groups: tuple[Expression, ...]
    widths: tuple[int, ...]


#: torch's operations, element by element, with their formulas of their arguments x, y, z and w, also numbers, in their order.
_SAME_NAMES = ("sigmoid", "tanh", "relu", "silu", "exp", "log", "sqrt", "sin", "cos", "abs", "sign", "erf")
_FORMULAS = {name: f"{name}(x)" for name in _SAME_NAMES} | {
    "neg": "−x",
    "rsqrt": "1 / sqrt(x)",
    "reciprocal": "1 / x",
    "log1p": "log(1 + x)",
    "expm1": "exp(x) − 1",
    "gelu": "gelu(x)",
    "gelu tanh": "0.5 ⊙ x ⊙ (1 + tanh(0.7978845608028654 ⊙ (x + 0.044715 ⊙ x^3)))",
    "mish": "x ⊙ tanh(softplus(x))",
    "softplus": "softplus(y ⊙ x) / y",
    "log_sigmoid_forward": "−softplus(−x)",
    "hardsigmoid": "clamp(x / 6 + 0.5)",
    "hardswish": "x ⊙ clamp(x / 6 + 0.5)",
    "elu": "elu(x)",
    "elu scaled": "z ⊙ (max(x, 0) + y ⊙ (exp(min(w ⊙ x, 0)) − 1))",
    "celu": "max(x, 0) + y ⊙ (exp(min(x / y, 0)) − 1)",
    "leaky_relu": "max(x, 0) + y ⊙ min(x, 0)",
    "_prelu_kernel": "max(x, 0) + y ⊙ min(x, 0)",
    # Where a number is at a limit, torch's hardtanh has the slope 0, and its clamp 1.
    "hardtanh": "max(min(z, x), y)",
    "clamp": "min(max(y, x), z)",
    "clamp_min": "max(y, x)",
    "clamp_max": "min(x, y)",
    "maximum": "max(x, y)",
    "minimum": "min(x, y)",
    "add": "x + z ⊙ y",
    "sub": "x − z ⊙ y",
    "rsub": "y − z ⊙ x",
    "mul": "x ⊙ y",
    "div": "x / y",
    "pow": "x ^ y",
    "addcmul": "x + w ⊙ y ⊙ z",
    "addcdiv": "x + w ⊙ y / z",
    "lerp": "x + z ⊙ (y − x)",
    # What is compared is 1 or 0.
    "gt": "positive(x − y)",
    "lt": "positive(y − x)",
    "le": "1 − positive(x − y)",
    "ge": "1 − positive(y − x)",
    "logical_not": "1 − x",
    "bitwise_not": "1 − x",
    "where": "x ⊙ y + (1 − x) ⊙ z",
    "masked_fill": "(1 − y) ⊙ x + y ⊙ z",
}
#: Names of every run of the debugger, which no line of a cell can have, but a variable of a script.
NAMES_OF_RUNS = ("grad_norm", "max_weight", "epoch", "batch", "t", "char", "target")
#: Operations that leave the numbers of a row as they are, and those whose results are the same everywhere.
_SAME = re.compile(
    "view|_unsafe_view|_?reshape(_alias)?|(un)?squeeze|expand|clone|detach|alias|contiguous|_to_copy|lift(_fresh(_copy)?)?"
    "|select|unbind|transpose|permute"
)
_CONSTANT = re.compile("(new_)?(ones|zeros|full)(_like)?|scalar_tensor|fill|zero")
ALIKE = 1e-9  # the largest difference of the same numbers, computed with others in one product


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
        self._by_memory: dict[tuple[Any, ...], _Columns] = {}
        self._why: dict[tuple[Any, ...], str] = {}  # why a tensor is not known
        self._alive = list[Any]()  # so that no memory is used again
        self._names: dict[Expression, Name] = {}
        self._factors: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = {}  # of products of two parameters
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
        columns = self._columns(tensor)
        if len(columns.groups) != 1 or not isinstance(columns.groups[0], Name):
            raise UnreadableError("a new state is put together from several parts")
        return columns.groups[0].name

    def check_apart(self, blocks: Iterable[Block]) -> None:
        """Raise `UnreadableError` if a number of a parameter is in several weights, whose gradients cannot be told apart."""
        used: dict[str, Tensor] = {}
        parameters = dict(self._owners.values())
        for block in blocks:
            if 0 in block.stride:
                continue
            used.setdefault(block.name, parameters[block.name].new_zeros(parameters[block.name].shape))
            block.of(used[block.name]).add_(1)
        if twice := next((name for name, times in used.items() if (times > 1).any()), None):
            raise UnreadableError(f"it uses a part of {twice} in several ways, whose gradients cannot be told apart")

    def block_of(self, tensor: Tensor) -> Block | None:
        """Return the part of a parameter that a tensor is; None for any other tensor."""
        name, parameter = self._owners.get(tensor.untyped_storage().data_ptr(), ("", tensor))
        offset = tensor.storage_offset() - parameter.storage_offset()
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
            columns_of_results = self._read(name, function, args, kwargs, result)
        except (UnreadableError, LookupError, AttributeError, TypeError, ValueError) as error:
            why = str(error) if isinstance(error, UnreadableError) else f"torch.{name} has no equation"
            columns_of_results = []
            for tensor in tensors_in(result):
                self._by_memory.pop(_memory(tensor), None)
                self._why[_memory(tensor)] = why
        results = result if isinstance(result, tuple | list) else (result,)
        for tensor, columns in zip((r for r in results if isinstance(r, torch.Tensor)), columns_of_results, strict=False):
            if is_changed:
                storage = tensor.untyped_storage().data_ptr()
                self._by_memory = {key: value for key, value in self._by_memory.items() if key[0] != storage}
            self._keep(tensor, columns)
        for tensor in tensors_in(result) if self._begins else ():
            for name, state in self._begins.items():
                if _is_alike(tensor, state):
                    self._keep(tensor, _Columns((Name(name),), (state.shape[-1],)))
            for k, state in enumerate(self._until):
                if _is_alike(tensor, state):
                    self.ends.setdefault(k, tensor)
        self._note_variables()
        return result

    def _keep(self, tensor: Tensor, columns: _Columns) -> None:
        self._by_memory[_memory(tensor)] = columns

    def _note_variables(self) -> None:
        frame: Any = sys._getframe()
        while frame is not None:
            if frame.f_locals.get("self") is self._part:
                for variable, value in frame.f_locals.items():
                    columns = self._by_memory.get(_memory(value)) if hasattr(value, "untyped_storage") else None
                    named = columns.groups[0] if columns is not None and len(columns.groups) == 1 else None
                    if isinstance(named, Name) and variable not in NAMES_OF_RUNS:
                        self.variables[variable] = named.name
            frame = frame.f_back

    # Operands

    def _columns(self, value: Any) -> _Columns:
        """Return the columns of an operand. Raises `UnreadableError` with the reason if they are not known."""
        if isinstance(value, int | float):
            if not math.isfinite(value):
                raise UnreadableError("an operation has a number that is not finite")
            return _Columns((e.number(repr(value)) if value >= 0 else e.Negative(e.number(repr(-value))),), (0,))
        if (columns := self._by_memory.get(_memory(value))) is not None:
            return columns
        block = self.block_of(value)
        if block is None and not value.dim() and _memory(value) not in self._why:
            return self._columns(value.item())
        if block is None:
            why = "it reads numbers that are none of its arguments, states or parameters"
            raise UnreadableError(self._why.get(_memory(value), why))
        if math.prod(block.shape) == 1 and self._size > 1:  # as a vector whose entries are all this number
            return _Columns((self._parameter(replace(block, shape=(self._size,), stride=(0,))),), (0,))
        leading = zip(block.shape[:-1], block.stride[:-1], strict=True)
        if not block.shape or not all(size == 1 or not stride for size, stride in leading):
            raise UnreadableError(f"the parameter {block.name} is neither a matrix nor a vector of the units")
        vector = replace(block, shape=block.shape[-1:], stride=block.stride[-1:])
        width = self._width(vector.shape[0])
        parts = [vector.cut(0, at, width) for at in range(0, vector.shape[0], width)]
        return _Columns(tuple(map(self._parameter, parts)), (width,) * len(parts))

    def _width(self, columns: int) -> int:
        """Return the width of the groups of a number of columns: that of the units, unless they are no multiple of it."""
        return self._size if columns % self._size == 0 else columns

    def _parameter(self, block: Block) -> Name:
        name = next((name for name, earlier_block in self.blocks.items() if earlier_block == block), f"parameter{len(self.blocks)}")
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

    def _by_groups(self, text: str, **operands: _Columns) -> _Columns:
        """Return a formula of operands, group by group."""
        wide = {columns.widths for columns in operands.values() if columns.widths != (0,)}
        if len(wide) > 1:
            raise UnreadableError("an operation joins tensors of other columns than those of x and of the units")
        widths = next(iter(wide), (0,))
        groups = [
            self._line(
                e.filled(text, {name: operand.groups[k if operand.widths != (0,) else 0] for name, operand in operands.items()})
            )
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
            raise UnreadableError("it draws random numbers, as dropout does in training: set it to 0, or debug in evaluation mode")
        if name in _FORMULAS:
            return [self._elementwise(name, function, args, kwargs)]
        if _SAME.fullmatch(name):
            columns = self._columns(args[0])
            tensors = tensors_in(result)
            if columns.widths != (0,) and tensors[0].shape[-1] != sum(columns.widths):
                raise UnreadableError("it gives the columns of a tensor another shape")
            return [columns for _ in tensors]
        if name == "copy":
            return [self._columns(args[1])]
        if name in ("mm", "bmm", "addmm", "mv", "addmv"):
            return [self._product(name, args, result)]
        if name == "cat":
            parts = list(map(self._columns, args[0]))
            self._need_columns(result, args[1] if len(args) > 1 else kwargs.get("dim", 0))
            return [_Columns(tuple(g for group in parts for g in group.groups), tuple(w for group in parts for w in group.widths))]
        if name in ("split", "split_with_sizes", "slice"):
            return self._cut(name, args, result)
        if name in ("mean", "sum", "var", "std", "var_mean", "std_mean"):
            self._need_columns(args[0], args[1])
            correction = kwargs.get("correction")
            return self._statistics(name, self._columns(args[0]), 1.0 if correction is None else float(correction))
        if name == "native_layer_norm":
            return [self._layer_norm(*args)]
        if name == "native_group_norm":
            return [self._group_norm(self._columns(args[0]), args[1], args[2], args[6], args[7])]
        if "batch_norm" in name:
            return [self._batch_norm(*args)]
        if name == "_softmax":
            self._need_columns(args[0], args[1])
            columns = self._columns(args[0])
            if len(columns.groups) > 1:
                raise UnreadableError("it takes a softmax of several groups of units")
            return [self._by_groups("softmax(x)", x=columns)]
        raise UnreadableError(f"torch.{name} has no equation")

    def _elementwise(self, name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Columns:
        more = function._schema.arguments[len(args) :]  # with the values that are usual, torch leaves arguments out
        operands = dict(zip("xyzw", (*args, *(kwargs.get(letter.name, letter.default_value) for letter in more)), strict=False))
        if name == "gelu" and kwargs.get("approximate") == "tanh":
            name = "gelu tanh"
        elif name == "elu" and any(operands[letter] != 1 for letter in "yzw"):
            name = "elu scaled"
        elif name == "clamp" and operands["y"] is None:
            name, operands = "clamp_max", {"x": operands["x"], "y": operands["z"]}
        elif name == "clamp" and operands["z"] is None:
            name = "clamp_min"
        text = _FORMULAS[name]
        if name == "pow" and isinstance(operands["y"], int | float) and operands["y"] < 0:
            text, operands["y"] = "1 / x ^ y", -operands["y"]
        for letter, value in operands.items():
            if isinstance(value, int | float) and value == 1:
                text = text.replace(f"{letter} ⊙ ", "").replace(f" / {letter}", "")
        read = set(re.findall(r"\b[xyzw]\b", text))
        return self._by_groups(text, **{letter: self._columns(value) for letter, value in operands.items() if letter in read})

    def _need_columns(self, tensor: Tensor, dim: Any) -> None:
        dims = [dim] if isinstance(dim, int) else list(dim)
        if [axis % tensor.dim() for axis in dims] != [tensor.dim() - 1]:
            raise UnreadableError("an operation is taken along the rows")

    def _product(self, name: str, args: tuple[Any, ...], result: Any) -> _Columns:
        plus = args[0] if name.startswith("add") else None
        left, right = args[-2:] if name not in ("mv", "addmv") else (args[-1], args[-2].T)
        if name == "mm" and self.block_of(left) is not None and self.block_of(right) is not None:
            self._factors[_memory(result)], self._factors[_memory(result.T)] = (left, right), (right.T, left.T)
        columns = self._columns(left)
        for matrix in self._factors.get(_memory(right), (right,)):
            columns = self._times(columns, self.block_of(matrix), several=name == "bmm")
        return columns if plus is None else self._by_groups("x + y", x=columns, y=self._columns(plus))

    def _times(self, columns: _Columns, matrix: Block | None, *, several: bool) -> _Columns:
        if matrix is None:
            raise UnreadableError(
                "it multiplies by a matrix that is no part of a parameter, but computed, as by weight_norm or a parametrization; "
                "debug it without"
            )
        if several:
            if matrix.shape[0] != 1 and matrix.stride[0]:
                raise UnreadableError("it multiplies by several matrices at once")
            matrix = replace(matrix, shape=matrix.shape[1:], stride=matrix.stride[1:])
        groups, size = [], self._width(matrix.shape[1])
        for column in range(0, matrix.shape[1], size):
            terms, row = list[Expression](), 0
            for group, width in zip(columns.groups, columns.widths, strict=True):
                part = self._parameter(matrix.cut(0, row, width).cut(1, column, size))
                terms.append(self._line(e.Product(group, part)))
                row += width
            groups.append(terms[0] if len(terms) == 1 else self._line(e.Sum(tuple(terms))))
        return _Columns(tuple(groups), (size,) * len(groups))

    def _cut(self, name: str, args: tuple[Any, ...], result: Any) -> list[_Columns]:
        columns, tensors = self._columns(args[0]), tensors_in(result)
        if name == "slice" and tensors[0].shape == args[0].shape:
            return [columns]
        dim = args[1] if name == "slice" else args[2] if len(args) > 2 else 0
        self._need_columns(args[0], dim)
        cuts, at = list[_Columns](), (args[2] or 0) if name == "slice" else 0
        ends = dict(zip(accumulate(columns.widths, initial=0), range(len(columns.widths) + 1), strict=True))
        for tensor in tensors:
            begin, end = at % args[0].shape[-1] if at else 0, at % args[0].shape[-1] + tensor.shape[-1]
            if begin not in ends or end not in ends:
                raise UnreadableError("it cuts a tensor within x or within the units")
            cuts.append(_Columns(columns.groups[ends[begin] : ends[end]], columns.widths[ends[begin] : ends[end]]))
            at += tensor.shape[-1]
        return cuts

    def _total(self, columns: _Columns, kind: str) -> Expression:
        """Return the sum or the mean over all columns."""
        if len(set(columns.widths)) > 1 or columns.widths[0] != self._size:
            raise UnreadableError("it takes a sum or a mean of other columns than those of the units")
        reduced = [self._line(e.Reduce(group, kind, "H"), "m") for group in columns.groups]
        total = reduced[0] if len(reduced) == 1 else e.Sum(tuple(reduced))
        return self._line(total if kind == "sum" or len(reduced) == 1 else e.Quotient(total, e.number(len(reduced))), "m")

    def _statistics(self, name: str, columns: _Columns, correction: float) -> list[_Columns]:
        kind, _, and_mean = name.partition("_")
        if kind in ("mean", "sum"):
            return [_Columns((self._total(columns, kind),), (0,))]
        mean = _Columns((self._total(columns, "mean"),), (0,))
        squares = self._by_groups("x ^ 2", x=self._centred(columns, mean))
        count = e.number(repr(sum(columns.widths) - correction))
        variance = (
            self._total(squares, "mean") if not correction else self._line(e.Quotient(self._total(squares, "sum"), count), "v")
        )
        spread = variance if kind == "var" else self._line(e.Apply((variance,), "sqrt"), "s")
        return [_Columns((spread,), (0,)), mean][: 2 if and_mean else 1]

    def _centred(self, columns: _Columns, mean: _Columns) -> _Columns:
        centred = [self._line(e.Sum((group, e.Negative(mean.groups[0]))), "e") for group in columns.groups]
        return _Columns(tuple(centred), columns.widths)

    def _layer_norm(self, x: Any, shape: Any, weight: Any, bias: Any, epsilon: float) -> _Columns:
        columns = self._columns(x)
        if list(shape) != [sum(columns.widths)]:
            raise UnreadableError("a layer norm is taken over other columns than those of a tensor")
        return self._scaled(self._normed(columns, epsilon), weight, bias)

    def _group_norm(self, x: _Columns, weight: Any, bias: Any, groups: int, epsilon: float) -> _Columns:
        if groups not in (1, len(x.groups)):
            raise UnreadableError("a group norm has other groups than those of the units")
        parts = [x] if groups == 1 else [_Columns((group,), (width,)) for group, width in zip(x.groups, x.widths, strict=True)]
        normed = [group for part in parts for group in self._normed(part, epsilon).groups]
        return self._scaled(_Columns(tuple(normed), x.widths), weight, bias)

    def _batch_norm(
        self, x: Any, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, _: float, epsilon: float
    ) -> _Columns:
        if training:
            raise UnreadableError("a batch norm computes over the rows in training mode; in evaluation mode it can be read")
        x, y, z, w = map(self._columns, (x, mean, variance, epsilon))
        return self._scaled(self._by_groups("(x − y) / sqrt(z + w)", x=x, y=y, z=z, w=w), weight, bias)

    def _normed(self, columns: _Columns, epsilon: float) -> _Columns:
        mean = _Columns((self._total(columns, "mean"),), (0,))
        centred = self._centred(columns, mean)
        variance = self._total(self._by_groups("x ^ 2", x=centred), "mean")
        size = self._line(e.filled("sqrt(x + y)", {"x": variance, "y": e.number(repr(epsilon))}), "s")
        return self._by_groups("x / y", x=centred, y=_Columns((size,), (0,)))

    def _scaled(self, x: _Columns, weight: Any, bias: Any) -> _Columns:
        scaled = x if weight is None else self._by_groups("x ⊙ y", x=x, y=self._columns(weight))
        return scaled if bias is None else self._by_groups("x + y", x=scaled, y=self._columns(bias))


def _is_alike(tensor: Tensor, state: Tensor) -> bool:
    """Return True if a tensor has the numbers of a state, up to rounding."""
    if tensor.numel() != state.numel() or tensor.shape[-1:] != state.shape[-1:]:
        return False
    return bool((tensor.reshape(state.shape) - state).abs().max() < ALIKE)


def _memory(tensor: Tensor) -> tuple[Any, ...]:
    """Return what two tensors have in common that are the same numbers in the same place."""
    lengths = [(size, stride) for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size != 1]
    return (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), *lengths)


def error_of(equations: CellEquations, weights: Mapping[str, Tensor], begins: Sequence[Tensor], ends: Sequence[Tensor]) -> float:
    """Return the largest difference of new states from what equations compute of x and the states before, `begins`, relative to the
    largest, or to 1. All are (B, ·) or (·)."""
    import torch

    def rows(tensor: Tensor) -> Tensor:
        return in_float64(tensor).reshape(-1, tensor.shape[-1])

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
    values |= {name: in_float64(tensor) for name, tensor in weights.items()}
    for line in page.lines:
        values[line.target] = value(line.formula)
    theirs = dict(zip(equations.states, map(rows, ends), strict=True))
    errors = [float((values[state] - end).abs().nan_to_num(nan=math.inf).max()) for state, end in theirs.items()]
    return max(errors) / max([1.0, *(float(end.abs().max()) for end in theirs.values())])


# ------------------------------------------------------------------------------
# The loops in a module, found in its operations: what one timestep passes on to the next are the states. So they are known where
# the module does not return them, and of several layers or directions in one module.


@dataclass(eq=False)
class StateInside:
    """A state: where it is after the first timestep, how far that of the next timestep is, and what the loop begins with."""

    first: int
    step: int
    begin: int

    def at(self, t: int) -> int:
        return self.first + t * self.step


@dataclass(eq=False)
class LoopInside:
    """A loop over timesteps: its states, its x in three of them, the same place three times for one tensor of all; and the
    operations of timestep 2, with those before the loop that they need."""

    states: list[StateInside]
    x: Nodes
    operations: set[int]


Nodes: TypeAlias = tuple[int, int, int]  # places of results in three timesteps; below 0, of other tensors
SEEN_TIMESTEPS = 0, 2, 3  # those of which a loop is read


class LoopReader:
    """Finds the loops of a call with `T` timesteps, 4 or more."""

    def __init__(self, observation: Observation, T: int) -> None:
        self._observation, self._results, self._names = observation, observation.operations.results, observation.operations.names
        self._products = {product.at: product for product in observation.products}
        self._storages = {tensor.untyped_storage().data_ptr() for tensor in observation.numbers.values()}
        self._T, self._parents, places, self._arguments = T, list[list[int]](), dict[int, int](), list[Any]()
        for i, takes in enumerate(observation.operations.takes):
            for tensor in takes:
                if id(tensor) not in places:
                    self._arguments.append(tensor)
                    places[id(tensor)] = -len(self._arguments)
            self._parents.append([places[id(tensor)] for tensor in takes])
            places[id(self._results[i])] = i
        self._states = list[StateInside]()
        self._reads = dict[StateInside, dict[StateInside, None]]()

    def loops(self) -> list[LoopInside]:
        """Return the loops, in the order of their first timesteps. Raises `UnreadableError` if they are none of cells."""
        together = dict[Block, list[int]]()
        for at, product in self._products.items():
            together.setdefault(product.matrix, []).append(at)
        for places in (places for places in together.values() if len(places) == self._T):
            self._note_operands(places)
        for state in self._states:  # grows
            self._reads[state] = {}
            self._walk(self._after(state), state, set())
        reach = {state: self._reached(state) for state in self._states}
        groups = dict[StateInside, list[StateInside]]()
        for state in self._states:
            mutual = [other for other in self._states if other in reach[state] and state in reach[other]]
            if mutual:
                groups.setdefault(min(mutual, key=lambda member: member.first), mutual)
        return [self._loop(groups[first]) for first in sorted(groups, key=lambda state: state.first)]

    def tensor(self, place: int) -> Tensor:
        return self._results[place] if place >= 0 else self._arguments[-1 - place]

    def check_apart(self, loop: LoopInside, blocks: Sequence[Block]) -> None:
        """Raise `UnreadableError` if parts of parameters are used outside of a loop as well."""
        step = loop.states[0].step
        inside = loop.operations | {place + step * k for place in loop.operations for k in range(-2, self._T - 2)}
        others = [(entry.at, part) for entry in self._products.values() for part in (entry.matrix, *entry.biases.values())]
        others += [
            (terms[0][0].at, bias) for bias, terms in self._observation.added if not any(term.at in inside for term, _ in terms)
        ]
        for place, parents in enumerate(self._parents):
            for tensor in (self._arguments[-1 - parent] for parent in parents if self._is_in(parent, self._storages)):
                name = next(n for n, entry in self._observation.numbers.items() if _is_of(entry, tensor))
                if max(tensor.shape, default=1) == tensor.numel() and not _shares(self._results[place], tensor):
                    others.append((place, Block(name, tuple(tensor.shape), tensor.stride(), 0)))
        for place, part in others:
            if place not in inside and any(part.overlaps(block, self._observation.numbers[part.name]) for block in blocks):
                raise UnreadableError(f"it uses {part.name} outside of this loop as well, where gradients cannot be told apart")

    def _is_in(self, place: int, storages: set[int]) -> bool:
        return place < 0 and self.tensor(place).untyped_storage().data_ptr() in storages

    def _after(self, state: StateInside) -> Nodes:
        first, second, third = (state.at(t) for t in SEEN_TIMESTEPS)
        return first, second, third

    def _reached(self, state: StateInside) -> set[StateInside]:
        reached, new = set[StateInside](), [state]
        while new:
            more = [state_read for state_read in self._reads[new.pop()] if state_read not in reached]
            reached.update(more)
            new += more
        return reached

    def _note_operands(self, places: Sequence[int]) -> None:
        """Note what a matrix multiplies in each timestep as a state, if it comes from the timestep before."""
        step = places[2] - places[1]
        for places_in_time in zip(*(self._parts(place) for place in places), strict=False):
            first, second, *more = places_in_time
            is_same = first >= 0 and first == second - step and self._names[first] == self._names[second]
            if second >= 0 and not is_same and all(place == second + step * k for k, place in enumerate(more, 1)):
                self._note_state(StateInside(second, step, first))

    def _note_state(self, state: StateInside) -> StateInside:
        last = state.at(self._T - 1)
        same_state = next((other for other in self._states if (other.first, other.step) == (state.first, state.step)), None)
        if same_state is None and not (state.first >= 0 < state.step and last < len(self._names)):
            raise UnreadableError("its timesteps are not alike")
        if same_state is None and len({self._names[state.at(t)] for t in range(self._T)}) > 1:
            raise UnreadableError("its timesteps are not alike")
        if same_state is None:
            self._states.append(same_state := state)
        return same_state

    def _parts(self, place: int) -> list[int]:
        """Return what a product multiplies with a matrix: the parts that are side by side in it."""
        operand, parents = self._products[place].operand, self._parents[place]
        same = [parent for parent in parents if _is_of(operand, self.tensor(parent))]  # unless it was copied before
        parts, left = list[int](), (same or [parent for parent in parents if not self._is_parameter(parent)])[:1]
        while left:
            part = self._origin(left.pop(0))
            if part >= 0 and self._names[part] in ("cat", "concat", "hstack"):
                left = self._parents[part] + left
            else:
                parts.append(part)
        return parts

    def _origin(self, place: int) -> int:
        """Return the place of the tensor of which this one is a view of all numbers, or its own."""
        while place >= 0:
            same = [parent for parent in self._parents[place] if _shares(self._results[place], self.tensor(parent))]
            if not same:
                break
            place = same[0]
        return place

    def _is_parameter(self, place: int) -> bool:
        """Return True for parameters and what is computed of them alone."""
        if place >= 0:
            return bool(self._parents[place]) and all(map(self._is_parameter, self._parents[place]))
        return self._is_in(place, self._storages)

    def _carried(self, nodes: Nodes) -> StateInside | None:
        """Return the state that these nodes are, from the timestep before."""
        for state in self._states:
            if (nodes[1], nodes[2]) == (state.at(1), state.at(2)):
                return state
        return None

    def _walk(self, nodes: Nodes, of: StateInside, visited: set[Nodes]) -> None:
        """Note the states of the timestep before that a state reads."""
        if nodes in visited:
            return
        visited.add(nodes)
        first, second, third = nodes
        if second < 0:
            return
        state = self._carried(nodes)
        if state is None and third - second == of.step and second < of.at(1):
            state = self._note_state(StateInside(second - of.step, of.step, first))
        if state is not None:
            self._reads[of][state] = None
        elif third - second == of.step:
            for parents in self._before(nodes):
                self._walk(parents, of, visited)

    def _before(self, nodes: Nodes) -> list[Nodes]:
        first, second, third = (self._parents[place] if place >= 0 else [] for place in nodes)
        if not len(first) == len(second) == len(third):
            raise UnreadableError("its first timestep is another than the following ones")
        return list(zip(first, second, third, strict=True))

    def _loop(self, states: list[StateInside]) -> LoopInside:
        """Return the loop of states that depend on each other. Its x is what a matrix multiplies, of what does not depend on
        them."""
        depends, xs, inside, step = dict[Nodes, bool](), dict[Nodes, None](), set[int](), states[0].step

        def reads(nodes: Nodes) -> bool:
            """Return True if nodes are computed of the states."""
            if nodes not in depends:
                state, moves = self._carried(nodes), nodes[1] >= 0 and nodes[2] - nodes[1] == step
                before = [reads(border) for border in self._before(nodes)] if state is None and moves else []
                depends[nodes] = state in states if state is not None else any(before)
            return depends[nodes]

        def multiplied(nodes: Nodes) -> bool:
            """Note what matrices multiply in nodes, and before them; return False if nothing."""
            place = nodes[1]
            if place < 0 or self._is_parameter(place) or self._carried(nodes) is not None:
                return self._is_parameter(place)
            inside.add(place)
            if place in self._products:
                xs.update(dict.fromkeys(zip(*map(self._parts, nodes), strict=True)))
                return True
            is_multiplied = [multiplied(border) for border in self._before(nodes)]
            return any(is_multiplied)

        def collect(nodes: Nodes) -> None:
            """Note what the states are computed of, up to what does not depend on them, the `borders`."""
            if nodes[1] < 0 or nodes[1] in inside or self._carried(nodes) is not None:
                return
            inside.add(nodes[1])
            for border in self._before(nodes):
                if reads(border):
                    collect(border)
                else:
                    borders[border] = None

        borders = dict[Nodes, None]()
        for state in states:
            collect(self._after(state))
        for nodes in sorted(borders, key=lambda border: border[1] not in self._products):
            first, second, third = map(self._origin, nodes)
            varies = second != third and (second < 0 or bool(self._parents[second]))
            if (first, second, third) not in xs and not multiplied(nodes) and varies:
                xs[first, second, third] = None
        # Each time that a script writes x[t], it makes another view.
        distinct = {tuple(_memory(self.tensor(place)) for place in nodes): nodes for nodes in reversed(xs)}
        if len(distinct) != 1:
            raise UnreadableError(
                f"a timestep reads {len(distinct)} tensors besides its states, not x alone" if xs else "it reads no x"
            )
        (x,) = distinct.values()
        return LoopInside(states, x, inside)


def _is_of(storage_owner: Tensor, part: Tensor) -> bool:
    return storage_owner.untyped_storage().data_ptr() == part.untyped_storage().data_ptr()


def _shares(tensor: Tensor, other: Tensor) -> bool:
    """Return True if a tensor is a view of all numbers of another one."""
    return (
        _is_of(tensor, other) and tensor is not other and (tensor.numel(), tensor.shape[-1:]) == (other.numel(), other.shape[-1:])
    )
