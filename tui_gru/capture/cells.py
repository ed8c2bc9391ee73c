"""Hand-written cells: how a module of a script computes the next state from x and h, or loops over all timesteps, found by
computing it with random numbers.

A copy of the module with random weights, in float64, is called once. The products in it show which parts of which parameters
multiply x and h; the formulas of all kinds of cells in all conventions are then tried on them. Of a cell whose equations the script
gives, they show how a parameter is stored; those of any other cell are read off its operations.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from itertools import permutations
from itertools import product as combined
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tui_gru.capture.call_tensors import (
    ABSENT,
    Block,
    GateBlocks,
    HandwrittenCell,
    InsideForm,
    LastState,
    LoopForm,
    ModuleCall,
    OneTimestepForm,
    Operations,
    ParameterProduct,
    ResultPlace,
    SumTerms,
    gates_of,
    same_numbers,
    set_apart,
    sounds_recurrent,
    tensors_in,
    torch_weights,
)
from tui_gru.capture.calls import COPIES, CellEquations, GRUModule, WrittenCell, fresh, in_float64
from tui_gru.capture.operations import (
    LoopInside,
    LoopReader,
    NoCellError,
    Observation,
    OperationReader,
    UnreadableError,
    WaitingError,
    call_of,
    error_of,
    observations,
)
from tui_gru.capture.pending import autocast_type, is_sharded, own_generators
from tui_gru.equations import syntax as e
from tui_gru.equations.axes import infer_axes
from tui_gru.equations.backward import derive
from tui_gru.equations.page import compose, read_page, shipped
from tui_gru.equations.syntax import EquationError
from tui_gru.equations.writing import equations_of
from tui_gru.errors import CaptureError, printable
from tui_gru.files.arrays import AnyArray
from tui_gru.files.kinds import BY_BLOCKS, KINDS, Blocks, Cell, CellKind, Convention, canonical, cell_step

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

# ------------------------------------------------------------------------------
# The readings of the products as a cell.


MOST_RESULTS = 12  # of a call that are tried as states: the first and the last
MOST_PRODUCTS = 64  # with parameters in one timestep; a module with more computes many timesteps
TOLERANCE, HALF_TOLERANCE = 1e-5, 1e-2  # relative to the largest state, or to 1
APART = 1e-3  # the least error of the next best reading


@dataclass(frozen=True)
class _Attempt:
    """The best reading of a call, and its error. `order` has the gates of the products with h for each gate of those with x."""

    error: float
    convention: Convention
    order: tuple[int, ...] = ()
    following: float = np.inf


#: The arguments of a module's call that are results of the call before, each with the position of the result.
Passed: TypeAlias = Sequence[tuple[int, int]]


def recognized(
    call: ModuleCall, name: str, *, is_named: bool, written: WrittenCell | None = None, passed: Passed | None = None
) -> list[HandwrittenCell]:
    """Return how a module computes one timestep, from a call; several cells if it has layers or directions. `given`: the script
    says that this module is a cell; `written`: it gives its equations; `passed`: what the call has of the one before, None if that
    is not seen yet.

    The module itself is not called. Raises `CaptureError`, with the reason, if it is none; `WaitingError` if `passed` is needed.
    """
    import torch

    # Checkpointing counts the tensors that autograd saves in a call, of which those of copies are none.
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor):
        try:
            return [_recognized(call, name, is_named=is_named, written=written, passed=passed)]
        except WaitingError:
            raise
        except CaptureError as refused:
            inputs = [value for value in call.arguments.values() if hasattr(value, "is_floating_point")]
            is_cell = len(inputs) > 1 and inputs[0].is_floating_point() and inputs[0].dim() < 3
            if written is not None or is_cell or is_sharded(call.part):
                raise
            if call.operations is None:
                raise NoCellError(f"{refused}; within torch.compile the states of a loop are not seen: debug it without") from None
            try:
                return _recognized_inside(call, name, reads_off=is_named or sounds_recurrent(call.part))
            except UnreadableError as why:
                raise NoCellError(f"{refused}; as a loop of a cell it cannot be read either: {why}") from None


def _recognized(
    call: ModuleCall, name: str, *, is_named: bool, written: WrittenCell | None, passed: Passed | None
) -> HandwrittenCell:
    """Return a module as a cell, or as a loop that returns its states. Raises `CaptureError`."""
    part, results = call.part, call.results
    if is_sharded(part):
        raise CaptureError("its parameters are shared among ranks")
    inputs = tensors_in(call.arguments)
    if inputs and inputs[0].dim() == 3:
        return _recognized_loop(call, name, written, reads_off=written is None and (is_named or sounds_recurrent(part)))
    absent = len(inputs) == 1 and bool(results) and _absent_state(call)
    if (not absent and next(_roles(inputs, results, is_named=is_named), None) is None) or any(
        tensor.dim() > 2 for tensor in inputs[:1]
    ):
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs) or "no tensor of floats"
        raise CaptureError(
            f"a cell computes one timestep, from x (rows, numbers) and h (rows, units), and was called with {shapes}; move what it "
            "does in a timestep into a module of its own"
        )
    attempts = list[_Attempt]()
    for observation in observations(part, call.arguments, results, absent or ""):
        if len(observation.products) > MOST_PRODUCTS and written is None:
            break
        for x, states, ends, takes, gives, joined in _roles(
            tensors_in(observation.called), tensors_in(observation.result), is_named=is_named
        ):
            if written is not None:
                if cell_as_written := _read_as_written(part, name, written, observation.products, x, ends, observation.parameters):
                    return _with_results(replace(cell_as_written, form=OneTimestepForm(takes, gives, joined)), observation, gives)
                continue
            gates = gates_of(observation.products, observation.added, x, states[0], ends[0])
            cell, attempt = _read(part, name, gates, _Timesteps.of([x], states, [ends]), observation.parameters)
            attempts.append(attempt)
            if cell is not None and (is_named or cell.module.family != "RNN" or sounds_recurrent(part)):
                observation.check_derivative(gives)
                cell_as_written = replace(cell, form=OneTimestepForm(takes, gives, joined))
                _check(cell_as_written, call)
                return _with_results(cell_as_written, observation, gives)
    if written is not None:
        raise NoCellError(f"it does not return as many states as {written.name} has")
    if not is_named and not sounds_recurrent(part):
        raise _refused(attempts, "; or name it with cell= to have its equations read off its operations")
    try:
        return _read_off(call, name, absent or "", passed)
    except UnreadableError as error:
        raise _refused(attempts, f"; its equations cannot be read off its operations: {error}") from None


def _refused(attempts: Sequence[_Attempt], more: str = "") -> NoCellError:
    """Return the reason why none of the attempts to read a module found a cell; `more` is about equations of its own."""
    finite = [attempt for attempt in attempts if attempt.error < np.inf]
    if not finite:
        return NoCellError(
            "its products with x and with h are not those of a cell: of each there are 3 in a GRU, 4 in an LSTM, 1 in a plain RNN, "
            f"as wide as h{more}"
        )
    best = min(finite, key=lambda attempt: attempt.error)
    if best.error <= TOLERANCE and best.following < APART:
        return NoCellError("it uses one part of a parameter for several gates, whose gradients cannot be told apart")
    if best.error <= TOLERANCE:
        return NoCellError(f"it computes {KINDS[best.convention.kind].words}, which other modules do as well; name it with cell=")
    kind = KINDS[best.convention.kind].words
    return NoCellError(
        f"it computes another function than a GRU, an LSTM or a plain RNN: the nearest, {kind} with {best.convention}, is off by "
        f'{best.error:.1g} on random numbers; give its equations, as in cell="mine.cell"{more}'
    )


def _read_as_written(
    part: Module,
    name: str,
    written: WrittenCell,
    products: Sequence[ParameterProduct],
    x: Tensor,
    ends: Sequence[Tensor],
    parameters: Mapping[str, Tensor],
) -> HandwrittenCell | None:
    """Return the cell with the equations in a file, None if they have another number of states.

    Raises `CaptureError` if a parameter has another shape than in the equations.
    """
    if isinstance(written.read_off, HandwrittenCell):
        return written.read_off if written.states == len(ends) else None
    equations = CellEquations.of(written.name, written.text, int(x.shape[-1]), int(ends[0].shape[-1]))
    if len(equations.states) != len(ends):
        return None
    names, _ = written.names_in(part)
    values = {
        weight: (_stored(names[weight], parameters[names[weight]], shape, products, f"{weight} of {written.name}"),)
        for weight, shape in equations.shapes
    }
    module = GRUModule(
        name,
        "Cell",
        int(x.shape[-1]),
        int(ends[0].shape[-1]),
        written_as=printable(type(part).__name__, 60),
        equations=equations,
    )
    return HandwrittenCell(module, OneTimestepForm((), ()), values, values)


def _stored(name: str, parameter: Tensor, shape: tuple[int, ...], products: Sequence[ParameterProduct], weight: str) -> Block:
    """Return how a parameter stores a weight: as it multiplied from the right, or else by its shape."""
    as_used = next((p.matrix for p in products if p.matrix.name == name and p.matrix.shape == shape), None)
    if as_used is not None:
        return as_used
    if tuple(parameter.shape) == shape[::-1] and tuple(parameter.shape) != shape:
        return Block(name, shape, parameter.stride()[::-1], 0)
    if tuple(size for size in parameter.shape if size != 1) == tuple(size for size in shape if size != 1):
        return Block(name, shape, parameter.reshape(shape).stride(), 0)
    raise CaptureError(f"{weight} has the shape {shape} with these inputs, and the parameter {name} {tuple(parameter.shape)}")


def _read_off(call: ModuleCall, name: str, absent: str, passed: Passed | None) -> HandwrittenCell:
    """Return a cell with the equations that the operations of a module are. Raises `UnreadableError` with the reason if they are
    none, `NoCellError` if its first call computed something else, `WaitingError` if several results can be its states and `passed`
    is not known."""
    import torch

    cells, in_place, why = dict[str, HandwrittenCell](), dict[str, HandwrittenCell](), list[tuple[int, str]]()
    for observation in observations(call.part, call.arguments, call.results, absent):
        if len(observation.products) > MOST_PRODUCTS:
            raise UnreadableError(f"it takes more than {MOST_PRODUCTS} products, as for many timesteps")
        leaves, results = (
            ModuleCall(observation.copied, (), observation.called, observation.result).leaves,
            tensors_in(observation.result),
        )
        if passed is None and _several_can_be_states(leaves, results):
            raise WaitingError(
                "it returns several tensors that can be its states, and which of them are is seen once it is called again with them"
            )
        states_passed = {(at, i) for at, i in passed or () if at in observation.leaves_read(leaves)}
        if len(states_passed) > 2:
            raise UnreadableError(f"it goes on with {len(states_passed)} states, and at most two can be shown")
        readers: dict[int, tuple[OperationReader, list[Tensor]]] = {}
        roles: Iterable[tuple[Any, ...]] = _roles(leaves, results, is_named=False)
        if states_passed:  # h before c, as the module takes them
            roles = sorted((role for role in roles if {*zip(role[3][1:], role[4], strict=True)} == states_passed), key=_takes)
        for x, states, _, takes, gives, _ in roles:
            if not states_passed and len(states) == 2 and (takes[1] < takes[2]) != (gives[0] < gives[1]):
                continue  # a state is returned in the place in which it is taken
            H = int(states[0].shape[-1])
            if H not in readers:
                reader = OperationReader(observation.copied, observation.numbers, leaves, H)
                without_autocast = torch.autocast("cpu", enabled=False)
                with own_generators(), torch.inference_mode(False), torch.no_grad(), without_autocast, reader.mode:
                    readers[H] = reader, tensors_in(call_of(observation.copied, observation.called))
            reader, ends = readers[H]
            try:
                cell = _cell_of(reader, call.part, name, observation, [x, *states], takes, [ends[i] for i in gives], gives)
            except (CaptureError, EquationError) as error:
                why.append((-len(states), str(error)))
                continue
            line = reader.line_of(ends[gives[0]])
            if len(states) == 2:  # a state of one alone is that of a memory, which the other one reads
                cells = {line: cell}
                break
            cells.setdefault(line, cell)
            together = any(isinstance(reason, tuple | list) and len(reason) == len(ends) for reason in observation.called.values())
            if together and takes[1] - (takes[0] < takes[1]) == gives[0]:
                in_place.setdefault(line, cell)
        if cells:
            break
    if not cells:
        raise UnreadableError(min(why, key=lambda reason: reason[0])[1] if why else "it takes no x and h, or returns no new h")
    if len(cells) > 1 and len(in_place) == 1:
        cells = in_place
    if len(cells) > 1:
        raise UnreadableError("it returns several tensors that can be its new state; let it return h alone")
    (cell,) = cells.values()
    assert isinstance(cell.form, OneTimestepForm)
    observation.check_derivative(cell.form.gives)
    _check_equations(cell, call)
    return _with_results(cell, observation, cell.form.gives)


def _takes(role: tuple[Any, ...]) -> tuple[int, ...]:
    """Return the positions of x and the states in one of the `_roles`."""
    takes: tuple[int, ...] = role[3]
    return takes


def _several_can_be_states(leaves: Sequence[Tensor], results: Sequence[Tensor]) -> bool:
    """Return True if unlike results have the shape of one argument."""
    unlike = [
        result.shape for i, result in enumerate(results) if not any(same_numbers(result, results[other]) for other in range(i))
    ]
    return any(unlike.count(leaf.shape) > 1 for leaf in leaves)


def _with_results(cell: HandwrittenCell, observation: Observation, states: Sequence[int]) -> HandwrittenCell:
    """Return a cell with what is known of its results besides its states, which are at some positions of the tensors."""
    other_results = observation.results_beside(states, (block for blocks in cell.values.values() for block in blocks))
    return replace(cell, other_results=other_results, results=len(tensors_in(observation.result)))


def _cell_of(
    reader: OperationReader,
    part: Module,
    name: str,
    observation: Observation,
    begins: Sequence[Tensor],
    takes: tuple[int, ...],
    ends: Sequence[Tensor],
    gives: tuple[int, ...],
) -> HandwrittenCell:
    """Return the cell whose equations are the operations that were read off, for x and the states before, `begins`, and after.

    Raises `UnreadableError`, `EquationError` or `CaptureError` for operations that are no equations, or not of a cell with these
    roles.
    """
    I, H = int(begins[0].shape[-1]), int(begins[1].shape[-1])  # noqa: E741
    names_before, lines = [f"leaf{i}" for i in takes], list(map(reader.line_of, ends))
    multiplied = {node.left for formula in reader.lines.values() for node in formula.walk() if isinstance(node, e.Product)}
    if len(ends) == 2 and e.Name(names_before[2]) in multiplied and e.Name(names_before[1]) not in multiplied:
        raise UnreadableError("its first state is its memory c")
    letters, title = ("h", "c")[: len(ends)], printable(type(part).__name__, 60)
    before, after = dict(zip(letters, names_before[1:], strict=True)), dict(zip(letters, lines, strict=True))
    shapes = {name: block.shape for name, block in reader.blocks.items()}
    # A variable may have a name that equations cannot have; sizes that cannot be inferred are given.
    for variables, sized in combined((reader.variables, {}), (False, True)):
        try:
            text, names = equations_of(
                reader.lines, shapes, names_before[0], before, after, variables, sizes={"I": I, "H": H}, sized=sized
            )
            equations = _derivable(title, text, I, H)
            break
        except (CaptureError, EquationError):
            if sized and not variables:
                raise
    blocks = {weight: reader.blocks[name] for weight, name in names.items()}
    reader.check_apart(blocks.values())
    module = GRUModule(name, "Cell", I, H, written_as=title, equations=equations)
    values = {weight: (blocks[weight],) for weight, _ in equations.shapes}
    # The gradient of a number that all units read is the sum of those of the units.
    gradients = {
        weight: names_before
        for weight, names_before in values.items()
        if names_before[0].name in observation.parameters and 0 not in names_before[0].stride
    }
    weights = {weight: block.of(observation.numbers[block.name]) for weight, block in blocks.items()}
    error = error_of(equations, weights, begins, ends)
    if not error <= TOLERANCE:
        raise UnreadableError(f"what is read off is off by {error:.1g} on random numbers")
    return HandwrittenCell(module, OneTimestepForm(takes, gives), values, gradients)


def _derivable(name: str, text: str, input_size: int, hidden_size: int) -> CellEquations:
    """Return the equations of a text. Raises `CaptureError` or `EquationError` if they, or their backward pass, are invalid."""
    equations = CellEquations.of(name, text, input_size, hidden_size)
    page = compose(shipped("input", "dense"), read_page(text, name)).page
    derive(page, infer_axes(page))
    return equations


def _check_equations(cell: HandwrittenCell, first_call: ModuleCall) -> None:
    """Compare what the first call computed, in its first timestep, with the equations. Raises `NoCellError`."""
    import torch

    (call, *_), module = cell.calls(first_call), cell.module
    assert module.equations is not None
    zero = torch.zeros_like(call.out)
    begins = [zero if state is None else state for state in (call.h0, call.c0)][: module.states]
    ends = [end for end in (call.out, call.cn) if end is not None]
    weights = {name: torch.from_numpy(value) for name, value in cell.weights(cell.tensors(first_call.part), fresh).items()}
    COPIES.wait()
    error = error_of(module.equations, weights, [call.x, *begins], ends)
    if error > HALF_TOLERANCE:  # a layer norm can amplify rounding
        raise NoCellError(
            f"its equations were read off its operations on random numbers, but its first call is off by {error:.1g}; it may draw "
            "numbers, or depend on more than x and h"
        )


MOST_CHECKED = 8  # timesteps of the first call: later, rounding can have been amplified


def _check(cell: HandwrittenCell, first_call: ModuleCall) -> None:
    """Compare what the first call computed with the formulas. Raises `NoCellError`, as where dropout draws in the cell."""
    calls, module = cell.calls(first_call), cell.module
    assert calls
    assert module.convention is not None
    first, last = calls[0], calls[-1]
    inputs, outputs = [call.layout.array(call.x, fresh) for call in calls], [call.layout.array(call.out, fresh) for call in calls]
    COPIES.wait()
    xs, outs = (np.concatenate(arrays).astype(np.float64) for arrays in (inputs, outputs))
    begins = [np.zeros_like(outs[0]) if begin is None else _rows(begin) for begin in (first.h0, first.c0)][: module.states]
    ends: list[tuple[AnyArray, ...]] = [(out,) for out in outs]
    if last.cn is not None:
        ends[-1] = outs[-1], _rows(last.cn)
    largest = max([1.0, *(float(np.abs(end).max(initial=0)) for states in ends for end in states)])
    checked = _Timesteps(tuple(xs[:MOST_CHECKED]), tuple(begins), tuple(ends[:MOST_CHECKED]))
    error = max(checked.errors(cell.formula_weights(first_call.part), module.convention)) / largest
    half = first.out.element_size() < 4 or bool(autocast_type(first.out.device.type))
    if error > (HALF_TOLERANCE if half else TOLERANCE):
        raise NoCellError(
            f"on random numbers it computes {KINDS[module.convention.kind].words}, {module.convention.without_order}, but its "
            f"first call is off by {error:.1g}; it may draw numbers, or depend on more than x and h"
        )


def _absent_state(call: ModuleCall) -> str:
    """Return the name of the argument by which a call could have been given a state; "" if there is none."""
    names = (name for name in inspect.signature(call.part.forward).parameters if call.arguments.get(name) is None)
    words = ("state", "prev", "carry")
    return next((name for name in names if name[0] in "hH" or any(word in name.lower() for word in words)), "")


def _roles(inputs: Sequence[Tensor], results: Sequence[Tensor], *, is_named: bool) -> Iterator[tuple[Any, ...]]:
    """Yield the ways to take the tensors of a call as x, states before and states after, with their positions."""
    positions = [i for i in range(len(results)) if min(i, len(results) - 1 - i) < MOST_RESULTS // 2]
    for count in (1, 2):
        for gives in [tuple(positions[-count:]), *permutations(positions, count)]:
            ends = [results[i] for i in gives]
            if len(ends) < count or any(end.shape != ends[0].shape for end in ends):
                continue
            for takes in permutations(range(min(len(inputs), 4)), 1 + count):
                x, *states = (inputs[i] for i in takes)
                if all(state.shape == ends[0].shape for state in states) and x.shape[:-1] == ends[0].shape[:-1]:
                    yield x, states, ends, takes, gives, ""
    if is_named and len(inputs) == 1:
        for i, end in ((i, results[i]) for i in positions):
            H = end.shape[-1] if end.dim() else 0
            if H and inputs[0].dim() and inputs[0].shape[-1] > H:
                for joined in ("xh", "hx"):
                    x, h = set_apart(inputs[0], joined, H)
                    yield x, [h], [end], (0,), (i,), joined


@dataclass(frozen=True)
class _Timesteps:
    """Consecutive timesteps: x of each, (B, I), the states before the first, and those after each as far as they are known, (B, H)
    each."""

    xs: tuple[AnyArray, ...]
    begins: tuple[AnyArray, ...]
    ends: tuple[tuple[AnyArray, ...], ...]

    @classmethod
    def of(cls, xs: Sequence[Tensor], begins: Sequence[Tensor], ends: Sequence[Sequence[Tensor]]) -> _Timesteps:
        return cls(tuple(map(_rows, xs)), tuple(map(_rows, begins)), tuple(tuple(map(_rows, states)) for states in ends))

    def errors(self, cell: Cell, convention: Convention) -> Iterator[float]:
        """Yield the largest difference of each known state from that which a cell computes; infinite if one is not finite."""
        states = self.begins
        with np.errstate(all="ignore"):
            for x, ends in zip(self.xs, self.ends, strict=True):
                states = cell_step(x, states, cell, convention)
                for state, end in zip(states, ends):  # noqa: B905 - c is not known at every timestep
                    yield float(np.nan_to_num(np.abs(state - end), nan=np.inf).max(initial=0))


def _read(
    part: Module,
    name: str,
    gates: tuple[list[GateBlocks], list[GateBlocks]] | None,
    timesteps: _Timesteps,
    parameters: Mapping[str, Tensor],
) -> tuple[HandwrittenCell | None, _Attempt]:
    """Return the cell that computes the timesteps, None if none does; and the best attempt. How it is called is left open."""
    none = _Attempt(np.inf, Convention("h"))
    if gates is None or len(gates[0]) != len(gates[1]) or len(gates[0]) not in BY_BLOCKS:
        return None, none
    kind = BY_BLOCKS[len(gates[0])]
    if len(kind.states) != len(timesteps.begins):
        return None, none
    attempt = _attempt(kind, gates, timesteps, parameters)
    if attempt.error > TOLERANCE or attempt.following < APART:
        return None, attempt
    module = GRUModule(
        name,
        f"{kind.name.upper()}Cell",
        timesteps.xs[0].shape[1],
        timesteps.begins[0].shape[1],
        bias=any(gate.bias is not None for side in gates for gate in side),
        convention=attempt.convention,
        written_as=printable(type(part).__name__, 60),
    )
    parts = [part for side in gates for gate in side for part in (gate.matrix, gate.bias) if part is not None]
    if len(set(parts)) < len(parts):
        return None, replace(attempt, following=0)
    torch_order = module.gates  # torch's order
    order = [attempt.convention.order.index(gate) for gate in torch_order]
    W, U = [gates[0][k] for k in order], [gates[1][attempt.order[k]] for k in order]
    values, gradients = torch_weights(module, W, U)
    convention = replace(attempt.convention, order=torch_order)
    return HandwrittenCell(replace(module, convention=convention), OneTimestepForm((), ()), values, gradients), attempt


def _attempt(
    kind: CellKind,
    gates: tuple[Sequence[GateBlocks], Sequence[GateBlocks]],
    timesteps: _Timesteps,
    parameters: Mapping[str, Tensor],
) -> _Attempt:
    """Try every convention, and every order of the products with h unless they are those with x, on the numbers of a call."""
    H = timesteps.begins[0].shape[1]

    def arrays(side: Sequence[GateBlocks]) -> tuple[AnyArray, AnyArray]:
        zero = np.zeros(H)
        matrices = [gate.matrix.of(parameters[gate.matrix.name]).numpy() for gate in side]
        biases = [zero if gate.bias is None else gate.bias.of(parameters[gate.bias.name]).numpy() for gate in side]
        return np.stack(matrices), np.stack(biases)

    (W, b), (U, b_h) = map(arrays, gates)
    identity = tuple(range(len(W)))
    # All gates in one product with x and one with h, or in the same ones, are in one order.
    together = all(len({place for place, _ in (gate.place for gate in side)}) == 1 for side in gates)
    together |= [gate.place for gate in gates[0]] == [gate.place for gate in gates[1]]
    best, following = _Attempt(np.inf, kind.conventions[0]), np.inf
    for order in [identity] if together else permutations(identity):
        blocks = Blocks(W, U[list(order)], b, b_h[list(order)])
        for convention in kind.conventions:
            error = 0.0
            for of_state in timesteps.errors(canonical(blocks, convention), convention):
                error = max(error, of_state)
                if error > following:
                    break
            if error < best.error:
                following, best = best.error, _Attempt(error, convention, order)
            else:
                following = min(following, error)
        if best.error <= TOLERANCE and len(W) > 3:
            break  # other orders of an LSTM are thousands of readings
    return replace(best, following=following)


def _rows(tensor: Tensor) -> AnyArray:
    return in_float64(tensor).reshape(-1, tensor.shape[-1]).numpy()


# ------------------------------------------------------------------------------
# Modules that loop over the timesteps themselves.


OBSERVED_TIMESTEPS, OBSERVED_ROWS, MOST_OBSERVED = 3, 4, 100


def _recognized_loop(
    call: ModuleCall, name: str, written: WrittenCell | None, *, reads_off: bool, axes: tuple[int, ...] = (0, 1)
) -> HandwrittenCell:
    """Return how a module computes all timesteps of x (T, B, I) or (B, T, I), on one of `axes`; with `reads_off`, also by equations
    that are read off its operations. Raises `CaptureError` if it is no loop of a cell."""
    import torch

    part, arguments, results = call.part, call.arguments, call.results
    x_name = next((key for key, value in arguments.items() if isinstance(value, torch.Tensor) and value.dim() == 3), None)
    if x_name is None:
        raise CaptureError("a loop over timesteps has x as a tensor, with the shape (T, B, numbers) or (B, T, numbers)")
    x, attempts, failure, more = arguments[x_name], list[_Attempt](), "", ""
    states = tensors_in(arguments)[1:]
    absent = "" if states else _absent_state(call)
    for axis in axes:
        rows = x.shape[1 - axis] if states else min(x.shape[1 - axis], OBSERVED_ROWS)
        for T in dict.fromkeys((OBSERVED_TIMESTEPS, x.shape[axis])):
            if not 2 <= T <= MOST_OBSERVED or any(state.numel() % rows for state in states):
                continue
            called = arguments | {x_name: x.new_zeros((T, rows, x.shape[2]) if axis == 0 else (rows, T, x.shape[2]))}
            try:
                for observation in observations(part, called, results, ""):
                    cell = _loop_in(observation, part, name, x_name, written, attempts, batch_first=axis == 1)
            except CaptureError:
                raise
            except Exception as error:  # in the module itself, which can know its number of timesteps
                failure = type(error).__name__
                continue
            if cell is None and reads_off:
                try:
                    equations = _loop_read_off(observation, part, name, x_name, batch_first=axis == 1)
                    return _recognized_loop(call, name, equations, reads_off=False, axes=(axis,))
                except (CaptureError, EquationError) as error:
                    more = more or f"; its equations cannot be read off its operations: {error}"
            if cell is None:
                break
            with suppress(Exception):  # where given states go is seen only if it takes some
                ends = [result[..., :rows, :] for result in results]
                for observation in observations(part, called, ends, absent) if absent else ():
                    with_states = _loop_in(observation, part, name, x_name, written, attempts, batch_first=axis == 1)
                    cell = with_states or cell
            if written is None or written.read_off is not None:
                assert isinstance(cell.form, LoopForm)
                observation.check_derivative(
                    range(observation.called[x_name].shape[axis]) if cell.form.out_is_list else cell.form.gives[:1]
                )
            if written is None:
                _check(cell, call)
            assert isinstance(cell.form, LoopForm)
            length, (out, *last) = int(observation.called[x_name].shape[axis]), cell.form.gives
            last = [at for at in last if at != ABSENT]
            return _with_results(
                cell, observation, [*range(length), *(length + at for at in last)] if cell.form.out_is_list else [out, *last]
            )
    if failure and not attempts:
        raise NoCellError(
            f"it takes only the sizes that the script gives: a copy, called with {OBSERVED_TIMESTEPS} timesteps to see how it "
            f"computes, raised {failure}; move what it does in a timestep into a module of its own, with x (rows, numbers) and "
            "h (rows, units)"
        )
    if written is not None:
        raise NoCellError(f"its output is not the states of {written.name} at all timesteps of x")
    raise _refused(attempts, more)


def _loop_in(
    observation: Observation,
    part: Module,
    name: str,
    x_name: str,
    written: WrittenCell | None,
    attempts: list[_Attempt],
    *,
    batch_first: bool,
) -> HandwrittenCell | None:
    """Return the cell whose timesteps a module computed, None if there is none; one with the equations in a file is not compared
    with its numbers. Adds its attempts to `attempts`.

    Raises `NoCellError` for a loop of which not all states are known.
    """
    (x, *states), results = tensors_in(observation.called), tensors_in(observation.result)
    xs = x.unbind(1 if batch_first else 0)
    T, B = len(xs), len(xs[0])
    for at, outs in _outputs(results, T, B, batch_first=batch_first):
        H = outs[0].shape[-1]
        if any(state.numel() != B * H for state in states):
            continue
        products, added = _of_timestep(observation.products, observation.added, xs, 1)
        gates = gates_of(products, added, xs[1], outs[0], outs[1])
        if written is not None:
            count = written.states if any(_has_columns(product.operand, xs[1]) for product in products) else 0
        else:
            count = 0 if gates is None or len(gates[0]) not in BY_BLOCKS else len(BY_BLOCKS[len(gates[0])].states)
        ends = [i for i, result in enumerate(results) if i not in at and result.numel() == B * H]
        h_end = next((i for i in reversed(ends) if same_numbers(results[i].reshape(B, H), outs[-1])), ABSENT)
        c_ends = [i for i in ends if i != h_end] if count == 2 else []
        for takes, c_end in combined(permutations(range(len(states))), [*c_ends, ABSENT]):
            state_values: list[tuple[Tensor, ...]] = [(out,) for out in outs]
            if c_end != ABSENT:
                state_values[-1] = outs[-1], results[c_end].reshape(B, H)
            begins = [states[i].reshape(B, H) for i in takes] or [outs[0].new_zeros(B, H)] * count
            if written is None:
                cell, attempt = _read(part, name, gates, _Timesteps.of(xs, begins, state_values), observation.parameters)
                attempts.append(attempt)
            else:
                fits = 0 < count == len(begins)
                cell = (
                    _read_as_written(part, name, written, products, xs[1], [outs[1]] * count, observation.parameters)
                    if fits
                    else None
                )
            if cell is None:
                continue
            if count == 2 and c_end == ABSENT:
                raise NoCellError("it has two states, h and c, and does not return c; let it return the output and (h, c)")
            if count == 2 and len(at) > 1 and written is not None:
                raise NoCellError(
                    "it has two states, and returns a list; let it return the output as one tensor, torch.stack(outputs)"
                )
            last = LastState.APART if h_end == ABSENT or len(at) > 1 else _last_state(observation, x_name, at[0], h_end)
            gives = (at[0], h_end, c_end)[: 1 + count]
            if len(at) > 1:  # the others are after the list
                gives = (0, ABSENT, c_end - T)[: 1 + count]
            return replace(cell, form=LoopForm((0, *(1 + i for i in takes)), gives, batch_first, len(at) > 1, last))
    return None


def _loop_read_off(observation: Observation, part: Module, name: str, x_name: str, *, batch_first: bool) -> WrittenCell:
    """Return the equations of the timesteps of a loop. Those of a memory c are what calls with fewer timesteps return. Raises
    `UnreadableError` or another `CaptureError` with the reason if there are none."""
    x, axis = observation.called[x_name], int(batch_first)
    xs, results, why = x.unbind(axis), tensors_in(observation.result), list[str]()
    for at, outs in _outputs(results, len(xs), len(xs[0]), batch_first=batch_first):
        shape, ends = outs[0].shape, [i for i, result in enumerate(results) if i not in at and result.numel() == outs[0].numel()]
        values_of_states = [list(outs)]  # of each state, the values after the timesteps
        for i in [i for i in ends if not same_numbers(results[i].reshape(shape), outs[-1])][:1] if len(at) == 1 else ():
            shorter = (
                observation.again(observation.called | {x_name: x.narrow(axis, 0, count)}) for count in range(1, len(xs) + 1)
            )
            values_of_states.append([result[i].detach().reshape(shape) for result in shorter])
        try:
            cell = _timestep_read_off(observation, part, name, xs, values_of_states, [x], [])
        except (CaptureError, EquationError) as refused:
            why.append(str(refused))
            continue
        equations = cell.module.equations
        assert equations is not None
        return WrittenCell(equations.name, equations.text, tuple(cell.values), {}, len(values_of_states), cell)
    raise UnreadableError(why[0] if why else "it does not return the states of all timesteps")


def _timestep_read_off(
    observation: Observation,
    part: Module,
    name: str,
    xs: Sequence[Tensor],
    values_of_states: Sequence[Sequence[Tensor]],
    leaves: Sequence[Tensor],
    begins: Sequence[Tensor],
) -> HandwrittenCell:
    """Return the cell whose equations are the operations of the second timestep, from the states after the first.

    `known` has the values of each state after the timesteps; x is an argument, in `leaves`, or a result, in `begins`. Raises
    `UnreadableError` or another `CaptureError` with the reason if there are none.
    """
    import torch

    before, after = ([values[t] for values in values_of_states] for t in (0, 1))
    reader = OperationReader(observation.copied, observation.numbers, leaves, int(before[0].shape[-1]), [*begins, *before], after)
    with own_generators(), torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False), reader.mode:
        call_of(observation.copied, observation.called)
    roles = tuple(range(1 + len(values_of_states)))
    if len(reader.ends) < len(values_of_states):
        raise UnreadableError("a state is not computed in one operation")
    cell = _cell_of(
        reader, part, name, observation, [xs[1], *before], roles, [reader.ends[k] for k in range(len(values_of_states))], roles[:-1]
    )
    equations, weights = cell.module.equations, {key: b.of(observation.numbers[b.name]) for key, (b,) in cell.values.items() if b}
    assert equations is not None
    for t in range(2, len(xs)):
        states = [xs[t], *(values[t - 1] for values in values_of_states)]
        if (error := error_of(equations, weights, states, [values[t] for values in values_of_states])) > TOLERANCE:
            raise UnreadableError(f"its timestep {t + 1} is off by {error:.1g} from its second; it depends on more than x and h")
    return cell


def _has_columns(operand: Tensor, x: Tensor) -> bool:
    """Return True if an operand is x, or x and something else side by side."""
    size = x.shape[1]
    return any(same_numbers(part, x) for part in (operand[:, :size], operand[:, -size:]))


def _outputs(results: Sequence[Tensor], T: int, B: int, *, batch_first: bool) -> Iterator[tuple[tuple[int, ...], Sequence[Tensor]]]:
    """Yield the results that can be the output: the positions, and the output (B, H) of each timestep."""
    for i, result in enumerate(results):
        if result.dim() == 3 and result.shape[:2] == ((B, T) if batch_first else (T, B)):
            yield (i,), result.unbind(1 if batch_first else 0)
    if len(results) >= T and all(result.dim() == 2 and len(result) == B for result in results[:T]):
        yield tuple(range(T)), results[:T]


def _of_timestep(
    products: Sequence[ParameterProduct], added: Sequence[tuple[Block, SumTerms]], xs: Sequence[Tensor], t: int
) -> tuple[list[ParameterProduct], list[tuple[Block, SumTerms]]]:
    """Return the products of timestep `t`, and what was added to them: of each matrix the product with that number, or the only
    one, if it multiplied x of all timesteps at once."""
    import torch

    by_matrix = dict[Block, list[ParameterProduct]]()
    for product in products:
        by_matrix.setdefault(product.matrix, []).append(product)
    of_t = [product[t] for product in by_matrix.values() if len(product) == len(xs)]
    in_time, in_rows = (torch.stack(list(xs), k).flatten(0, 1) for k in (0, 1))
    at_once = [
        product
        for product, *more in by_matrix.values()
        if not more and any(same_numbers(product.operand, x) for x in (in_time, in_rows))
    ]
    for product in at_once:
        product.operand = xs[t]
    return of_t + at_once, _added_to(of_t, at_once, added)


def _added_to(
    of_timestep: Sequence[ParameterProduct], at_once: Sequence[ParameterProduct], added: Sequence[tuple[Block, SumTerms]]
) -> list[tuple[Block, SumTerms]]:
    """Return what was added to the products of a timestep, and to those of all."""
    of_t = [
        (bias, terms)
        for bias, terms in added
        if any(term in of_timestep for term, _ in terms) or all(term in at_once for term, _ in terms)
    ]
    # A bias that is added to the product of all timesteps in each of them is the same every time.
    return list({(bias, tuple((id(term), at) for term, at in terms)): (bias, terms) for bias, terms in of_t}.values())


def _last_state(observation: Observation, x_name: str, out: int, h_end: int) -> LastState:
    """Return how the last state hangs together with the output, by the graph of autograd."""
    import torch

    called = observation.called | {x_name: observation.called[x_name].clone().requires_grad_()}
    results = observation.again(called)

    def leads(one: Tensor, to: Tensor) -> bool:
        with torch.enable_grad():
            return torch.autograd.grad(to.sum(), one, retain_graph=True, allow_unused=True)[0] is not None

    if leads(results[h_end], results[out]):
        return LastState.IN_OUTPUT
    return LastState.OF_OUTPUT if leads(results[out], results[h_end]) else LastState.APART


# ------------------------------------------------------------------------------
# Modules whose loops do not return their states, or that have several.


def _recognized_inside(call: ModuleCall, name: str, *, reads_off: bool) -> list[HandwrittenCell]:
    """Return the cells of the loops in a module, which two calls of its copy show, of different lengths; one that knows its length
    shows them in calls of that. With `reads_off`, also plain RNNs, and cells with equations of their own.

    Raises `CaptureError`, an `UnreadableError` with the reason, if there are none.
    """
    import torch

    arguments, why, fixed = call.arguments, list[str](), ""
    x = next((value for value in arguments.values() if isinstance(value, torch.Tensor) and value.dim() > 1), None)
    if x is None:
        raise UnreadableError("it is called without a sequence, (T, B, …) or (B, T, …)")
    for axis in (0, 1):
        rows = (
            OBSERVED_ROWS - 1
            if sum(isinstance(argument, torch.Tensor) for argument in arguments.values()) == 1
            else x.shape[1 - axis]
        )
        lengths = [T for T in (4, 5, 6) if rows != T][:2]
        for Ts in (lengths, [x.shape[axis]] * 2):
            if not 3 < Ts[0] <= MOST_OBSERVED:
                continue
            try:
                pairs = [_loops_seen(call, x, axis, rows, T) for T in Ts]
                cells = _cells_inside(call.part, name, axis, Ts, pairs, reads_off=reads_off)
            except CaptureError as error:
                why.append(str(error))
                continue
            except Exception as error:  # in the module itself, which can know its number of timesteps
                of = f"a copy, called with {' and '.join(map(str, Ts))} timesteps to see how it computes"
                fixed = f"it takes only the sizes that the script gives: {of}, raised {type(error).__name__}"
                continue
            for cell in cells:
                check = _check if cell.module.equations is None else _check_equations
                check(cell, call)
            return cells
    reason = next((argument for argument in why if argument != NO_LOOP), fixed or NO_LOOP)
    raise UnreadableError(reason if shows_indexing() else f"{reason}; a newer PyTorch also shows what is taken by an index")


@cache
def shows_indexing() -> bool:
    """Return True if PyTorch shows what a script takes from a tensor by its index, as 2.3 does not."""
    import torch

    operations = Operations()
    with operations.mode:
        torch.zeros(1)[0]
    return "__getitem__" in operations.names


NO_LOOP = "no matrix multiplies a state once in each timestep"


def _loops_seen(call: ModuleCall, x: Tensor, axis: int, rows: int, T: int) -> tuple[Observation, LoopReader, list[LoopInside]]:
    """Return the loops in a call of a copy with `T` timesteps, and `rows` rows."""
    import torch

    def sized(tensor: Tensor) -> Tensor:
        if tensor.dim() < 2 or tensor.shape[:2] != x.shape[:2]:
            return tensor
        for dim, size in ((axis, T), (1 - axis, rows)):
            tensor = tensor.index_select(dim, torch.arange(size, device=tensor.device) % tensor.shape[dim])
        return tensor

    called = {key: sized(argument) if isinstance(argument, torch.Tensor) else argument for key, argument in call.arguments.items()}
    (observation,) = observations(call.part, called, call.results, "")
    reader = LoopReader(observation, T)
    loops = reader.loops()
    if not loops:
        raise UnreadableError(NO_LOOP)
    return observation, reader, loops


def _cells_inside(
    part: Module,
    name: str,
    axis: int,
    Ts: Sequence[int],
    pairs: Sequence[tuple[Observation, LoopReader, list[LoopInside]]],
    *,
    reads_off: bool,
) -> list[HandwrittenCell]:
    """Return the cells of loops, from calls with two numbers of timesteps."""
    (observation, reader, loops), (other_seen, _, other_loops) = pairs
    if len(loops) != len(other_loops):
        raise UnreadableError("it has other loops in other calls")
    T, more = Ts[0], Ts[1] - Ts[0]

    def linear(count: int, of_other: int) -> tuple[int, int]:
        longer, rest = divmod(of_other - count, more) if more else (0, of_other - count)
        if rest:
            raise UnreadableError("its timesteps are not alike")
        return count - longer * T, longer

    def place(index: int, of_other: int, step: int = 0) -> ResultPlace:
        if index >= 0 and of_other >= 0:
            return ResultPlace(observation.operations.names[index], *linear(index, of_other), step)
        argument_index = next(
            (i for i, tensor in enumerate(tensors_in(observation.called)) if tensor is reader.tensor(index)), None
        )
        if argument_index is None:
            raise UnreadableError("it begins with numbers that are none of its arguments")
        return ResultPlace("", argument_index)

    count, cells = linear(len(observation.operations.results), len(other_seen.operations.results)), list[HandwrittenCell]()
    read = dict[str, Sequence[Any]]()  # the x of the loops before, by torch's suffixes
    for loop, twin in zip(loops, other_loops, strict=True):
        first, second, third = loop.x
        step = third - second
        sequence = None if step else reader.tensor(first)
        if first != second - 2 * step or (sequence is not None and sequence.shape[axis : axis + 1] != (T,)):
            raise UnreadableError("its first timestep is another than the following ones")
        xs = sequence.unbind(axis) if sequence is not None else [reader.tensor(first + t * step) for t in range(T)]
        leaves = [sequence] if sequence is not None and first < 0 else []
        forward = next((suffix for suffix, earlier_xs in read.items() if all(map(same_numbers, xs, reversed(earlier_xs)))), "")
        suffix = f"{forward}_reverse" if forward else f"_l{sum('reverse' not in earlier_suffix for earlier_suffix in read)}"
        read[suffix] = xs
        cell_name = f"{name}{suffix}" if len(loops) > 1 else name
        cell, order = _read_inside(observation, reader, part, cell_name, loop, xs, sequence, leaves, reads_off=reads_off)
        states = [(loop.states[i], twin.states[i]) for i in order]
        if any(one.step != two.step for one, two in states):
            raise UnreadableError("its timesteps are not alike")
        form = InsideForm(
            *count,
            T,
            place(first, twin.x[0], step),
            None if sequence is None else axis,
            tuple(place(one.first, two.first, one.step) for one, two in states),
            tuple(place(one.begin, two.begin) if reader.tensor(one.begin).any() else None for one, two in states),
        )
        observation.check_derivative([len(tensors_in(observation.result)) + state.at(T - 1) for state, _ in states])
        reader.check_apart(loop, [block for blocks in cell.values.values() for block in blocks if block is not None])
        cells.append(replace(cell, form=form))
    at = [len(tensors_in(observation.result)) + int(state.at(t)) for loop in loops for state in loop.states for t in range(T)]
    return [_with_results(cell, observation, at) for cell in cells]


def _read_inside(
    observation: Observation,
    reader: LoopReader,
    part: Module,
    name: str,
    loop: LoopInside,
    xs: Sequence[Tensor],
    sequence: Tensor | None,
    leaves: Sequence[Tensor],
    *,
    reads_off: bool,
) -> tuple[HandwrittenCell, tuple[int, ...]]:
    """Return the cell of a loop, as it is called left open, and the order of the states in it."""
    if len(loop.states) > 2:
        raise UnreadableError(f"a timestep passes on {len(loop.states)} states that depend on each other")
    T, xs = len(xs), [x.reshape(-1, x.shape[-1]) for x in xs]
    values_of_states = [[_flat(reader.tensor(state.at(t))) for t in range(T)] for state in loop.states]
    begins = [_flat(reader.tensor(state.begin)) for state in loop.states]
    shape = values_of_states[0][0].shape
    if any(value.shape != shape for states in values_of_states for value in states) or len(xs[0]) != len(values_of_states[0][0]):
        raise UnreadableError("its states are not all (rows, units), with the same number of units")
    begins = [begin if begin.any() else begin.new_zeros(shape) for begin in begins]
    if any(begin.shape != shape for begin in begins):
        raise UnreadableError("it begins with states of other shapes")
    products = [product for product in observation.products if product.at in loop.operations]
    at_once = [product for product in products if len(product.operand) == T * shape[0]]
    for product in at_once:
        product.operand = xs[2]
    added = _added_to([product for product in products if product not in at_once], at_once, observation.added)
    orders = list(permutations(range(len(values_of_states))))
    for order in orders:
        states = [values_of_states[i] for i in order]
        gates = gates_of(products, added, xs[2], states[0][1], states[0][2])
        timesteps = _Timesteps.of(xs, [begins[i] for i in order], list(zip(*states, strict=True)))
        cell = _read(part, name, gates, timesteps, observation.parameters)[0]
        if cell is not None and (reads_off or cell.module.family != "RNN"):
            return cell, order
    why = ["it is no GRU or LSTM; name it with cell= to have its equations read off its operations"][reads_off:]
    for order in orders if reads_off else ():
        try:
            first = [] if leaves else [xs[1] if sequence is None else sequence]
            return _timestep_read_off(observation, part, name, xs, [values_of_states[i] for i in order], leaves, first), order
        except (CaptureError, EquationError) as refused:
            why.append(str(refused))
    raise UnreadableError(why[0])


def _flat(tensor: Tensor) -> Tensor:
    """Return a state as (rows, units)."""
    return tensor.detach().reshape(-1, tensor.shape[-1])
