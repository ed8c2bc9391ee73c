"""The same equations in PyTorch: every number of a batch is computed again in float64 and compared."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.model import COUNT, GRADIENT, WEIGHT
from tui_gru.engine.weights import Array
from tui_gru.equations import syntax as e
from tui_gru.equations.axes import Axes, union
from tui_gru.equations.backward import NameRead, mixed, steps_of
from tui_gru.equations.functions import FUNCTIONS
from tui_gru.equations.page import Page
from tui_gru.equations.syntax import Expression, with_word
from tui_gru.errors import TuiGruError
from tui_gru.torch_loading import load_torch

if TYPE_CHECKING:
    from torch import Tensor

# ------------------------------------------------------------------------------
# Evaluation of formulas in PyTorch, on tensors with named axes, so that operands with fewer axes broadcast correctly.
#
# The axis N, always the first, counts copies of a batch that differ in a few numbers; a value without it is the same in all of
# them.


COPIES = "N"


class Value(NamedTuple):
    """A tensor and its axes."""

    tensor: Tensor
    axes: Axes

    @property
    def has_copies(self) -> bool:
        """True if the value has an axis of copies."""
        return self.axes[:1] == (COPIES,)

    def at(self, t: int) -> Value:
        """Return the value at one timestep; the value itself if it has no axis T."""
        if "T" not in self.axes:
            return self
        return Value(self.tensor.select(self.axes.index("T"), t), tuple(axis for axis in self.axes if axis != "T"))

    def in_copies(self, count: int) -> Value:
        """Return the value repeated for each copy, in new memory."""
        tensor = self.tensor if self.has_copies else self.tensor.expand(count, *self.tensor.shape)
        return Value(tensor.clone(), self.axes if self.has_copies else (COPIES, *self.axes))


Read = Callable[[str], Value]
KeepValue = Callable[[Expression, Value, bool], Value]  # the bool says whether it is the argument of a function


def evaluated(node: Expression, read: Read, softmaxes: Mapping[str, Expression], keep: KeepValue | None = None) -> Value:
    """Return the value of a formula.

    `read` is called for every name in it, from left to right. `softmaxes` has the argument of each name that is a softmax; the log
    of a softmax is computed from that argument, so that it stays finite where the softmax is 0. `keep` receives the value of every
    operation, operands first, then that of every argument of a function, and returns the value to continue with.
    """

    def value(part: Expression) -> Value:
        return evaluated(part, read, softmaxes, keep)

    def argument(part: Expression) -> Value:
        return value(part) if keep is None else keep(part, value(part), True)

    found = _applied(node, read, softmaxes, value, argument)
    return found if keep is None or isinstance(node, e.Name) else keep(node, found, False)


def _applied(
    node: Expression,
    read: Read,
    softmaxes: Mapping[str, Expression],
    value: Callable[[Expression], Value],
    argument_of: Callable[[Expression], Value],
) -> Value:
    match node:
        case e.Name(name=name):
            return read(name)
        case e.Number(value=number):
            return _number(float(number))
        case e.Sum(parts=parts):
            values = list(map(value, parts))
            return _elementwise(lambda *tensors: sum(tensors[1:], tensors[0]), values)
        case e.Negative(argument=argument):
            return _elementwise(lambda a: -a, [value(argument)])
        case e.Times(parts=parts):
            return _elementwise(_multiplied, list(map(value, parts)))
        case e.Quotient(left=left, right=right):
            return _elementwise(lambda a, b: a / b, [value(left), value(right)])
        case e.Power(left=left, right=right):
            return _elementwise(lambda a, b: a**b, [value(left), value(right)])
        case e.Product(left=left, right=right):
            return _product(value(left), value(right))
        case e.Transpose(argument=argument):
            tensor, axes = value(argument)
            return Value(tensor.mT, (*axes[:-2], axes[-1], axes[-2]))
        case e.Reduce(argument=argument, kind=kind, over=over):
            tensor, axes = value(argument)
            at = axes.index(over)
            return Value(tensor.sum(at) if kind == "sum" else tensor.mean(at), (*axes[:at], *axes[at + 1 :]))
        case e.Join(parts=parts):
            return _joined(list(map(value, parts)))
        case e.Apply(function="log", parts=(e.Name(name=name),)) if name in softmaxes:
            tensor, axes = argument_of(softmaxes[name])
            return Value(tensor.log_softmax(-1), axes)
        case e.Apply(function=function, parts=parts):
            return _elementwise(_function(function), list(map(value if function == "log" else argument_of, parts)))
    raise TypeError(node)


def stacked(values: Sequence[Value]) -> Value:
    """Return the values of all timesteps stacked, with the axis T after the axis of copies."""
    import torch

    if (count := next((value.tensor.shape[0] for value in values if value.has_copies), None)) is None:
        return Value(torch.stack([value.tensor for value in values]), ("T", *values[0].axes))
    values = [value if value.has_copies else value.in_copies(count) for value in values]
    return Value(torch.stack([value.tensor for value in values], 1), (COPIES, "T", *values[0].axes[1:]))


def _number(number: float) -> Value:
    import torch

    return Value(torch.tensor(number, dtype=torch.float64), ())


def _elementwise(function: Callable[..., Tensor], values: Sequence[Value]) -> Value:
    """Return an elementwise function of operands, each aligned with its axes in the result."""
    own = union([tuple(axis for axis in value.axes if axis != COPIES) for value in values])
    axes = (COPIES, *own) if any(value.has_copies for value in values) else own
    return Value(function(*(_along(value, axes) for value in values)), axes)


def _along(value: Value, axes: Axes) -> Tensor:
    tensor, own = value
    if own == axes[len(axes) - len(own) :]:
        return tensor
    assert own == tuple(axis for axis in axes if axis in own), f"{own} does not lie along {axes}"
    return tensor[tuple(slice(None) if axis in own else None for axis in axes)]


def _multiplied(first: Tensor, *others: Tensor) -> Tensor:
    for other in others:
        first = first * other
    return first


def _product(left: Value, right: Value) -> Value:
    axes = (*left.axes[:-1], right.axes[-1])
    if not right.has_copies:
        return Value(left.tensor @ right.tensor, axes)
    rows = left.tensor.shape[left.has_copies : -1]
    flat = left.tensor.reshape(left.tensor.shape[0] if left.has_copies else 1, -1, left.tensor.shape[-1])
    product = flat @ right.tensor
    return Value(product.reshape(product.shape[0], *rows, product.shape[-1]), axes if left.has_copies else (COPIES, *axes))


def _joined(values: Sequence[Value]) -> Value:
    import torch

    if (count := next((value.tensor.shape[0] for value in values if value.has_copies), None)) is not None:
        values = [value if value.has_copies else value.in_copies(count) for value in values]
    axes = *values[0].axes[:-1], "+".join(value.axes[-1] for value in values)
    return Value(torch.cat([value.tensor for value in values], -1), axes)


def _function(name: str) -> Callable[..., Tensor]:
    import torch

    return partial(FUNCTIONS[name].torch, torch)


# ------------------------------------------------------------------------------
# The forward pass of a batch in PyTorch, as a function of its weights and of numbers that are added to values.
#
# A number can be added to a value, or to one reading of it. Every computed value is corrected by the difference between the
# stored value and its formula at the stored operands, which is usually rounding. So each line is evaluated at the stored values,
# and autograd differentiates the batch as it was computed, without drift. For the earlier batches of carry `notebook`, whose
# values come from older weights, this gives the required gradient: at the stored values, through the current weights. There the
# parts of a line that have no name are corrected as well, to what they were with the older weights.


class PassedState(NamedTuple):
    """The place where a state passes to the timestep that reads it."""

    state: str


ReadPlace = (
    str | NameRead | PassedState
)  # where a number can be added: a value, one reading of it, or a state passing to the next timestep


class Task(NamedTuple):
    """A name to compute at one timestep, or at all timesteps at once (`t` is None)."""

    name: str
    t: int | None


class Additions(Protocol):
    """The weights that replace those of the record in a pass, and the numbers that are added at places.

    If only one row differs in each copy of the batch, `rows` has the index of this row in each copy; values then have no axis B.
    """

    @property
    def rows(self) -> Sequence[int] | None: ...

    def weight(self, name: str) -> Value | None:
        """Return the replacement of a parameter; None to use the record's."""

    def touches(self, task: Task) -> bool:
        """Return True if a number is added to the task's value, or to an operand of its formula."""

    def add(self, place: ReadPlace, t: int | None, value: Value) -> Value:
        """Return the value, at one timestep or at all of them (None), plus the number added at a place."""


@dataclass(frozen=True, eq=False)
class Plan:
    """The names of a page in an order in which they can be computed, timestep by timestep on a cycle through a state.

    `formulas` has the formula of every line and labelled part, `states` the state for each name by which a state is read (h_prev),
    `softmaxes` the argument of each softmax, `reads` the operands of each name. The tasks in `leading` compute the states. Names in
    `mixed` are computed from several rows of a batch; a row of any other name depends only on the same row.
    """

    page: Page
    formulas: Mapping[str, e.Expression]
    states: Mapping[str, str]
    softmaxes: Mapping[str, e.Expression]
    reads: Mapping[str, Sequence[str]]
    length: int
    tasks: tuple[Task, ...]
    leading: tuple[Task, ...]
    mixed: frozenset[str]


def plan_of(page: Page, length: int) -> Plan:
    """Return the order for batches of `length` timesteps."""
    formulas = {step.name: step.formula for step in steps_of(page.lines)[0]}
    states = {page.before(state): state for state in page.states}
    softmaxes = {name: f.argument for name, f in formulas.items() if isinstance(f, e.Apply) and f.function == "softmax"}
    reads: dict[str, list[str]] = {name: [state] for name, state in states.items()}
    for name, formula in formulas.items():
        under = [under for read in formula.names() if read in softmaxes for under in softmaxes[read].names()]
        reads[name] = list(dict.fromkeys([*formula.names(), *under]))
    reads |= {name: [] for name in page.wanted}
    tasks = tuple(_ordered(page, length, states, reads))
    leading = _dependencies(page.states, reads)
    return Plan(
        page,
        formulas,
        states,
        softmaxes,
        reads,
        length,
        tasks,
        leading=tuple(task for task in tasks if task.name in leading),
        mixed=mixed(page, "B"),
    )


def _ordered(page: Page, length: int, states: Mapping[str, str], reads: Mapping[str, Sequence[str]]) -> Iterator[Task]:
    """Yield each name as soon as its operands are computed: as a whole if it is on no cycle, otherwise timestep by timestep in its
    direction."""
    on_cycle = {name for name in reads if name in _dependencies(reads[name], reads)}
    waiting = {name: deque(range(length)) for name in reads}
    done: set[Task] = set()

    def is_ready(name: str, t: int) -> bool:
        if name in states:
            t = _earlier(page, states[name], t)
            return not 0 <= t < length or Task(states[name], t) in done
        return all(read not in waiting or Task(read, t) in done for read in reads[name])

    while waiting:
        left = sum(map(len, waiting.values()))
        for name, timesteps in list(waiting.items()):
            if name not in on_cycle:
                if not any(read in waiting for read in reads[name]):
                    timesteps.clear()
                    yield Task(name, None)
            else:
                while timesteps and (is_ready(name, timesteps[0]) or is_ready(name, timesteps[-1])):
                    t = timesteps.popleft() if is_ready(name, timesteps[0]) else timesteps.pop()
                    done.add(Task(name, t))
                    yield Task(name, t)
            if not timesteps:
                del waiting[name]
        assert sum(map(len, waiting.values())) < left, f"{', '.join(waiting)} wait for each other"


def _dependencies(names: Iterable[str], reads: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the names and everything that they depend on."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        if (name := waiting.pop()) not in found:
            found.add(name)
            waiting += reads.get(name, ())
    return found


def _earlier(page: Page, state: str, t: int) -> int:
    """Return the timestep whose state timestep `t` reads."""
    return t + 1 if page.states[state].backwards else t - 1


class Stored:
    """A record as float64 tensors, and the difference between each stored value and its formula with given weights.

    `is_earlier` says that the record was computed with other weights, its own `before`.
    """

    def __init__(self, record: BatchRecord, plan: Plan, weights: Mapping[str, Value], *, is_earlier: bool) -> None:
        self.plan, self._record, self._axes = plan, record, record.compiled.model.axes
        self._values, self._is_earlier = dict(weights), is_earlier

    def value(self, name: str, t: int | None = None) -> Value:
        """Return the recorded value, at one timestep or at all of them; or a parameter."""
        if name not in self._values:
            self._values[name] = Value(tensor_of(self._record.array(name)), self._axes[name])
        return self._values[name] if t is None else self._values[name].at(t)

    @cached_property
    def computed(self) -> dict[str, Value]:
        """Every value, computed by its formula from the stored operands."""
        return {
            name: evaluated(formula, self.value, self.plan.softmaxes, self.keeper(name))
            for name, formula in self.plan.formulas.items()
        }

    def keeper(self, name: str, t: int | None = None) -> KeepValue | None:
        """Return what corrects the parts of the formula of a name in one evaluation, at one timestep or at all of them; None where
        nothing is to be corrected."""
        if not self._is_earlier:
            return None
        corrections = iter(self._corrections[name])

        def keep(part: Expression, value: Value, is_argument: bool) -> Value:
            correction = next(corrections)
            if correction is None:
                return value
            return Value(value.tensor + (correction if t is None else correction.at(t)).tensor, value.axes)

        return keep

    @cached_property
    def _corrections(self) -> dict[str, list[Value | None]]:
        """For each formula, its operations in the order of their evaluation: the value with the weights of that batch minus the
        value with today's; None for what reads no weight, and for a weight, also negated or transposed, which is today's.

        A weight that is the argument of a function is that of the batch: derivatives of functions are read off their results, which
        are stored.
        """
        weights = {name: Value(tensor_of(value), self._axes[name]) for name, value in self._record.before.items()}
        return {name: self._corrections_of(formula, weights) for name, formula in self.plan.formulas.items()}

    def _corrections_of(self, formula: Expression, weights: Mapping[str, Value]) -> list[Value | None]:
        values: list[Value] = []

        def kept(_: Expression, value: Value, is_argument: bool) -> Value:
            values.append(value)
            return value

        evaluated(formula, lambda name: weights.get(name) or self.value(name), self.plan.softmaxes, kept)
        found: list[Value | None] = []

        def correct(part: Expression, value: Value, is_argument: bool) -> Value:
            then, inner = values[len(found)], part
            while isinstance(inner, e.Negative | e.Transpose):
                inner = inner.argument
            is_weight = isinstance(inner, e.Name) and not is_argument
            reads_weights = any(name in weights for name in part.names())
            found.append(Value(then.tensor - value.tensor, then.axes) if reads_weights and not is_weight else None)
            return then if found[-1] is not None else value

        evaluated(formula, self.value, self.plan.softmaxes, correct)
        return found

    @cached_property
    def _missing(self) -> dict[str, Value]:
        return {name: Value(self.value(name).tensor - tensor, axes) for name, (tensor, axes) in self.computed.items()}

    def missing(self, name: str, t: int | None) -> Value:
        """Return the stored value of a name minus its formula at the stored operands."""
        return self._missing[name] if t is None else self._missing[name].at(t)

    def border(self, state: str, *, end: bool) -> Value:
        """Return a state at the start of the batch, or at its end, (B, ·)."""
        return Value(tensor_of(self._record.border(state, end=end)), self._axes[state][1:])


def tensor_of(array: NDArray) -> Tensor:  # type: ignore[type-arg]
    """Return a float64 copy of an array as a tensor."""
    import torch

    return torch.tensor(array, dtype=torch.float64)


class Evaluation:
    """One evaluation of a batch. Values that do not depend on an added number or a replaced weight keep their stored numbers.

    `borders` has those states at the start of the batch that differ from the stored ones.
    """

    def __init__(self, stored: Stored, additions: Additions, borders: Mapping[str, Value]) -> None:
        self._stored, self._additions, self._borders = stored, additions, borders
        self._plan, self._page = stored.plan, stored.plan.page
        self._found: dict[Task, Value] = {}  # values that differ from the stored ones
        self._names: set[str] = set()

    def run(self, tasks: Iterable[Task]) -> Evaluation:
        """Compute tasks in order, and return the pass itself."""
        for task in tasks:
            if self._additions.touches(task) or self._reads_what_differs(task):
                self._found[task] = self._additions.add(task.name, task.t, self._computed(task))
                self._names.add(task.name)
        return self

    def _computed(self, task: Task) -> Value:
        if task.name in self._plan.states:
            return self._state_before(task)
        return self._by_formula(task) if task.name in self._plan.formulas else self.row(task.name, self._stored.value(*task))

    def value(self, name: str, t: int | None = None) -> Value:
        """Return a value at one timestep or at all of them, or a parameter."""
        if (weight := self._additions.weight(name)) is not None:
            return weight
        if (found := self._found.get(Task(name, t))) is not None:
            return found
        if name not in self._names:
            return self._stored.value(name, t)
        if t is not None:
            whole = self._found.get(Task(name, None))
            return self._stored.value(name, t) if whole is None else whole.at(t)
        self._found[Task(name, t)] = stacked([self.row(name, self.value(name, t)) for t in range(self._plan.length)])
        return self._found[Task(name, t)]

    def row(self, name: str, value: Value) -> Value:
        """Return, from a value that is the same in all copies, the row that differs in each copy. Only for names that are not
        mixed."""
        rows = self._additions.rows
        if rows is None or value.has_copies or name in self._plan.mixed or "B" not in value.axes:
            return value
        at = value.axes.index("B")
        axes = tuple(axis for axis in value.axes if axis != "B")
        return Value(value.tensor[(slice(None),) * at + (rows,)].movedim(at, 0), (COPIES, *axes))

    def whole(self, name: str, t: int | None, value: Value) -> Value:
        """Return the computed row of each copy together with the stored other rows."""
        rows, stored = self._additions.rows, self._stored.value(name, t)
        if rows is None or not value.has_copies or "B" not in stored.axes or "B" in value.axes:
            return value
        whole = stored.in_copies(len(rows))
        whole.tensor.movedim(1 + stored.axes.index("B"), 1)[range(len(rows)), rows] = value.tensor
        return whole

    def border(self, state: str) -> Value | None:
        """Return a state at the end of the batch; None if it equals the stored one."""
        if state not in self._names:
            return None
        return self.value(state, 0 if self._page.states[state].backwards else self._plan.length - 1)

    def _reads_what_differs(self, task: Task) -> bool:
        state = self._plan.states.get(task.name)
        if state in self._borders and task.t in (None, self._first(state)):
            return True
        return any(self._differs(read, task) for read in self._plan.reads[task.name])

    def _differs(self, name: str, task: Task) -> bool:
        t = task.t if task.t is None or task.name not in self._plan.states else _earlier(self._page, name, task.t)
        if name in self._names:
            return t is None or Task(name, t) in self._found or Task(name, None) in self._found
        return self._additions.weight(name) is not None

    def _first(self, state: str | None) -> int:
        return self._plan.length - 1 if state is not None and self._page.states[state].backwards else 0

    def _by_formula(self, task: Task) -> Value:
        name, t = task
        nth: Counter[str] = Counter()

        def read(other: str) -> Value:
            reading = NameRead(other, name, nth[other])
            nth[other] += 1
            value = self.value(other, t)
            value = self.whole(other, t, value) if name in self._plan.mixed else self.row(other, value)
            return self._additions.add(reading, t, value)

        tensor, axes = evaluated(self._plan.formulas[name], read, self._plan.softmaxes, self._stored.keeper(name, t))
        missing = self.row(name, self._stored.missing(name, t)).tensor
        return Value(tensor + missing, axes)

    def _state_before(self, task: Task) -> Value:
        """Return the state that a timestep reads, or the states of all timesteps."""
        if task.t is None:
            return stacked([self._state_before(Task(task.name, t)) for t in range(self._plan.length)])
        state = self._plan.states[task.name]
        t = _earlier(self._page, state, task.t)
        if 0 <= t < self._plan.length:
            return self._additions.add(PassedState(state), t, self.row(state, self.value(state, t)))
        return self.row(state, self._borders.get(state) or self._stored.value(task.name, task.t))


# ------------------------------------------------------------------------------
# Gradients of a batch in PyTorch, by autograd and by finite differences.
#
# dz is the gradient with respect to a zero added to z; dh_carry, to a zero added to one reading of a state; dh_future, to a zero
# added to the state where it passes to the next timestep.


AT_ONCE = 1 << 13  # entries of a value in all copies; more would not fit into the cache


class Slopes:
    """The loss of a batch as a function of its weights and of numbers added at places.

    For a model without a loss, it is Σ output ⊙ (its gradient from outside). `earlier` has the batches before it that its gradient
    continues into, latest first.
    """

    def __init__(self, record: BatchRecord, earlier: Sequence[BatchRecord] = ()) -> None:
        model = record.compiled.model
        self._page, self._paths = model.page, model.backward.paths
        self._plan, self._rows = plan_of(self._page, record.compiled.sizes["T"]), record.compiled.sizes["B"]
        self._position = {task: i for i, task in enumerate(self._plan.tasks)}
        self._weights = {name: Value(tensor_of(value), model.axes[name]) for name, value in record.before.items()}
        self._chain = [
            Stored(each, self._plan, self._weights, is_earlier=each is not record) for each in (*reversed(earlier), record)
        ]
        self._given = {name: tensor_of(record.array(with_word(f"d{name}", "given"))) for name in self._page.outputs}
        self._axes = {name: operation.axes for name, operation in record.compiled.schedule.named.items()}
        self._ahead = {self._page.ahead(state): state for state in self._page.states}
        self._flows = dict(zip(self._page.states, map(tensor_of, record.flows_in), strict=True))

    @property
    def values(self) -> Mapping[str, Value]:
        """Every value of the forward pass, computed by its formula from stored operands, in the order of the lines."""
        return self._chain[-1].computed

    def gradients(self, slopes: Mapping[str, Array]) -> dict[str, NDArray[np.float64]]:
        """Return gradients by autograd, for names and arrays of their shapes; zero if the loss does not depend on a place."""
        import torch

        places = {name: self._place(name) for name in slopes}
        leaves: dict[ReadPlace, Value] = {}
        for name, place in places.items():
            weight = self._weights.get(place) if isinstance(place, str) else None
            start = torch.zeros(slopes[name].shape, dtype=torch.float64) if weight is None else weight.tensor.clone()
            leaves[place] = Value(start.requires_grad_(), self._axes[name])
        loss = self._loss(_Probes(self._weights, leaves))
        tensors = [leaf.tensor for leaf in leaves.values()]
        found = torch.autograd.grad(loss.tensor, tensors, allow_unused=True, materialize_grads=True)
        # Of a place without influence, older versions return zeros that require a gradient themselves.
        return {name: gradient.detach().numpy() for name, gradient in zip(places, found, strict=True)}

    def measured(self, where: Mapping[str, Sequence[tuple[int, ...]]], steepest: float) -> dict[str, NDArray[np.float64]]:
        """Return entries of gradients by central finite differences: for each entry the slope and its expected error.

        `steepest` is the largest gradient, at least 1. The step changes the loss by about `change`, chosen so that the truncation
        error (change² relative to the slope) equals the rounding error (1e-15 · steepest / change).
        """
        change = (1e-15 * steepest) ** (1 / 3)
        step = change / steepest
        nudges = [
            Nudge(self._place(name), index, steps * step, self._axes[name])
            for name, indices in where.items()
            for index in indices
            for steps in (-1, 1, 2)
        ]
        middle = float(self._loss(_Nudges(self._weights, [])).tensor)
        down, up, far = self._losses(nudges).reshape(-1, 3).T
        third = far - 3 * up + 3 * middle - down  # step³ times the third derivative
        found = np.stack([(up - down) / (2 * step), 4 * np.abs(third) / step + 100 * change**2 * steepest], 1)
        ends = np.cumsum([len(indices) for indices in where.values()])
        return dict(zip(where, np.split(found, ends[:-1]), strict=True))

    def _losses(self, nudges: Sequence[Nudge]) -> NDArray[np.float64]:
        """Return the loss of each copy of the batch; each copy has one changed number."""
        import torch

        tasks = [nudge.tasks(self._plan) for nudge in nudges]
        begin = [min((self._position[task] for task in own if task in self._position), default=-1) for own in tasks]
        entries = max(value.at(0).tensor.numel() for value in self.values.values())
        losses = np.empty(len(nudges))
        by_row: dict[bool, list[int]] = {True: [], False: []}
        for i in sorted(range(len(nudges)), key=begin.__getitem__):  # the later a change, the less there is to compute
            by_row[nudges[i].row is not None and not any(task.name in self._plan.mixed for task in tasks[i])].append(i)
        with torch.no_grad():
            for in_a_row, order in by_row.items():
                together = max(1, AT_ONCE // entries) * (self._rows if in_a_row else 1)
                for start in range(0, len(order), together):
                    group = order[start : start + together]
                    touched = {task for i in group for task in tasks[i]}
                    additions = _Nudges(self._weights, [nudges[i] for i in group], touched, in_a_row=in_a_row)
                    losses[group] = self._loss(additions).tensor.expand(len(group)).numpy()
        return losses

    def _place(self, name: str) -> ReadPlace:
        """Return the place whose gradient has this name in the backward pass."""
        if name in self._paths:
            return self._paths[name]
        return PassedState(self._ahead[name]) if name in self._ahead else name[1:]

    def _loss(self, additions: Additions) -> Value:
        borders: dict[str, Value] = {}
        for stored, later in pairwise(self._chain):
            run = Evaluation(stored, _OnlyWeights(additions), borders).run(self._plan.leading)
            ends = {state: run.border(state) for state in self._page.states}
            borders = {
                state: Value(end.tensor + (later.border(state, end=False).tensor - stored.border(state, end=True).tensor), end.axes)
                for state, end in ends.items()
                if end is not None
            }
        run = Evaluation(self._chain[-1], additions, borders).run(self._plan.tasks)
        if not self._given:
            return run.value(self._page.output)
        terms = [(run.whole(name, None, run.value(name)), given) for name, given in self._given.items()]
        for state, flow in self._flows.items():
            t = 0 if self._page.states[state].backwards else self._plan.length - 1
            end = additions.add(PassedState(state), t, run.row(state, run.value(state, t)))
            terms.append((run.whole(state, t, end), flow))
        totals = [(value.tensor * given).flatten(int(value.has_copies)).sum(-1) for value, given in terms]
        return Value(sum(totals[1:], totals[0]), ())


class Nudge(NamedTuple):
    """A number added, in one copy of a batch, to one entry at a place whose value has the axes `axes`."""

    place: ReadPlace
    entry: tuple[int, ...]
    amount: float
    axes: Axes

    @property
    def timestep(self) -> int | None:
        """The timestep of the entry; None if the value has no axis T."""
        return self.entry[0] if self.axes[:1] == ("T",) else None

    @property
    def row(self) -> int | None:
        """The row of the entry; None if the value has no axis B."""
        return self.entry[1] if self.axes[:2] == ("T", "B") else None

    def tasks(self, plan: Plan) -> set[Task]:
        """Return the tasks that it changes directly; none for a weight, whose readers detect the change."""
        steps = 0
        if isinstance(self.place, PassedState):
            name, steps = plan.page.before(self.place.state), -1 if plan.page.states[self.place.state].backwards else 1
        else:
            name = self.place.step if isinstance(self.place, NameRead) else self.place
        if self.timestep is not None:
            return {Task(name, self.timestep + steps), Task(name, None)}
        return {Task(name, t) for t in (None, *range(plan.length))} if name in plan.formulas else set()


class _Probes:
    """Additions for autograd: leaves that replace weights, and leaves that are added at places."""

    rows = None

    def __init__(self, weights: Mapping[str, Value], leaves: Mapping[ReadPlace, Value]) -> None:
        self._weights, self._leaves = weights, leaves

    def weight(self, name: str) -> Value | None:
        return self._leaves.get(name) if name in self._weights else None

    def touches(self, task: Task) -> bool:
        return True

    def add(self, place: ReadPlace, t: int | None, value: Value) -> Value:
        if (leaf := self._leaves.get(place)) is None:
            return value
        return Value(value.tensor + (leaf if t is None else leaf.at(t)).tensor, value.axes)


class _Nudges:
    """Additions that change one number in each copy of the batch. With `in_a_row`, only the row of each nudge is computed."""

    def __init__(
        self, weights: Mapping[str, Value], nudges: Sequence[Nudge], touched: Collection[Task] = (), *, in_a_row: bool = False
    ) -> None:
        self._touched, self._count = touched, len(nudges)
        self.rows = [nudge.row or 0 for nudge in nudges] if in_a_row else None
        self._at: dict[ReadPlace, list[tuple[int, Nudge]]] = {}
        for copy, nudge in enumerate(nudges):
            self._at.setdefault(nudge.place, []).append((copy, nudge))
        self._weights = {name: self.add(name, None, weight) for name, weight in weights.items() if name in self._at}

    def weight(self, name: str) -> Value | None:
        return self._weights.get(name)

    def touches(self, task: Task) -> bool:
        return task in self._touched

    def add(self, place: ReadPlace, t: int | None, value: Value) -> Value:
        nudges_here = [(copy, nudge) for copy, nudge in self._at.get(place, ()) if t is None or nudge.timestep in (None, t)]
        if not nudges_here:
            return value
        value = value.in_copies(self._count)
        for copy, nudge in nudges_here:
            index = [i for axis, i in zip(nudge.axes, nudge.entry, strict=True) if axis in value.axes]
            value.tensor[(copy, *index)] += nudge.amount
        return value


class _OnlyWeights:
    """The part of another `Additions` that also affects the batches before: its weights."""

    rows = None

    def __init__(self, additions: Additions) -> None:
        self._additions = additions

    def weight(self, name: str) -> Value | None:
        return self._additions.weight(name)

    def touches(self, task: Task) -> bool:
        return False

    def add(self, place: ReadPlace, t: int | None, value: Value) -> Value:
        return value


# ------------------------------------------------------------------------------
# The check of a batch: PyTorch computes it again from the same equations in float64, and every number is compared.
#
# There are four comparisons, name by name, in the order of the listing. `forward pass`: each value, from the values that its
# formula reads. `autograd`: every gradient of a parameter, and every delta with its labelled terms, at every timestep. `finite
# differences`: a sample of the same entries as (loss(+e) − loss(−e)) / 2e, which uses no derivatives. `update`: the result of
# each line of the update rule, from the values that it reads.


TOLERANCE = {"float32": 1e-3, "float64": 1e-11}  # relative to the largest entry of an array
OF_UPDATE = {"float32": 1e-5, "float64": 1e-13}  # relative, for lines of the update, which do not sum over timesteps


@dataclass(frozen=True)
class Comparison:
    """One array compared with a reference; `against` is forward pass, autograd, finite differences, or update.

    `checked` entries were compared. The largest difference, `absolute`, is at `index`, where the engine has `ours` and the
    reference `theirs`; `relative` is that difference over the reference's largest entry. Differences up to `allowed` are rounding.
    """

    name: str
    against: str
    checked: int
    absolute: float
    relative: float
    index: tuple[int, ...]
    ours: float
    theirs: float
    allowed: float

    @property
    def agrees(self) -> bool:
        return self.absolute <= self.allowed


def check_batch(
    record: BatchRecord, *, earlier: Sequence[BatchRecord] = (), entries: int = 2, seed: int = 0
) -> tuple[Comparison, ...]:
    """Compare everything in a batch that has learned with PyTorch. Imports torch.

    `earlier` has the records that the batch was computed with (for carry `notebook`, the epoch's earlier batches, latest first).
    Finite differences take four forward passes per entry: of each array they check the largest entry and `entries` − 1 others,
    drawn with `seed`; 0 omits them. In a batch whose weights were edited halfway, values and deltas from before the edit do not
    agree. Raises `TuiGruError` for a batch that did not learn, or that has a number that is not finite.
    """
    if record.gradients is None:
        raise TuiGruError("this batch did not learn, so it has no gradients to check: turn learning on, or take an SGD step")
    model = record.compiled.model
    has_loss = not model.page.outputs
    if not (np.isfinite(record.loss) or not has_loss) or not np.isfinite(record.gradients.flat).all():
        raise TuiGruError("this batch has NaN or Inf in its loss or gradients, so nothing can be checked; step back to before it")
    load_torch()
    reference = Slopes(record, earlier)
    found = [_compare(name, "forward pass", record.array(name), value.tensor.numpy()) for name, value in reference.values.items()]
    slopes = slopes_of(record)
    gradients = reference.gradients(slopes)
    found += [_compare(name, "autograd", array, gradients[name]) for name, array in slopes.items()]
    if entries:
        generator = np.random.Generator(np.random.PCG64(seed))
        where = {name: _sample(array, entries, generator) for name, array in slopes.items()}
        steepest = max(1.0, *(float(np.abs(gradient).max()) for gradient in gradients.values()))
        for name, measured in reference.measured(where, steepest).items():
            mine = np.array([slopes[name][index] for index in where[name]])
            found.append(_compare(name, "finite differences", mine, measured[:, 0], where[name], float(measured[:, 1].max())))
    if record.settings:  # otherwise there was no update
        found += [_compare(name, "update", ours, theirs) for name, ours, theirs in updated(record)]
    return tuple(found)


def slopes_of(record: BatchRecord) -> dict[str, Array]:
    """Return every delta and its labelled terms, and the gradient of every parameter, in the order of the listing."""
    model, gradients = record.compiled.model, record.gradients
    assert gradients is not None
    found: dict[str, Array] = {}
    ahead = {model.page.ahead(state) for state in model.page.states}
    for line in (*model.backward.deltas, *model.backward.gradients):
        terms = [node.label for node in line.formula.walk() if node.label in model.backward.paths]
        for name in (*terms, *(name for name in line.formula.names() if name in ahead)):
            found[name] = record.array(name)
        parameter = line.target[1:]
        found[line.target] = gradients[parameter] if parameter in gradients.names else record.array(line.target)
    return found


def updated(record: BatchRecord) -> Iterator[tuple[str, Array, NDArray[np.float64]]]:
    """Yield each line of the update rule with its stored result, and its result in float64 from the stored values that it reads."""
    rule, names, count = record.compiled.model.rule, record.before.names, record.compiled.layout.count
    values = {name: Value(tensor_of(np.array(number)), ()) for name, number in record.settings.items()}
    values[COUNT] = Value(tensor_of(np.array(record.before.updates + 1)), ())
    values[GRADIENT] = Value(tensor_of(record.own_gradients.flat), ("P",))
    for i, name in enumerate((WEIGHT, *rule.states)):
        values[name] = Value(tensor_of(record.before.flat[i * count : (i + 1) * count]), ("P",))
    found: dict[str, tuple[Array, NDArray[np.float64]]] = {}
    for line in rule.lines:
        tensor, _ = evaluated(line.formula, values.__getitem__, {})
        theirs = (values[line.target].tensor - tensor if line.op == "-=" else tensor).numpy()
        if rule.is_vector(line.target):
            ours = record.update_vector(line.target)
            for name in names:
                start, shape = record.compiled.layout.places[name]
                own = slice(start, start + int(np.prod(shape)))
                found[rule.name_for(line.target, name)] = ours[own].reshape(shape), theirs[own].reshape(shape)
        else:
            ours = np.array(record.numbers[line.target], record.compiled.dtype)
            found[line.target] = ours, theirs
        values[line.target] = Value(tensor_of(ours), ("P",) if rule.is_vector(line.target) else ())
    for line in rule.lines_of(names):
        yield (line.target, *found[line.target])


def _sample(array: Array, entries: int, generator: np.random.Generator) -> list[tuple[int, ...]]:
    """Return the index of the largest entry and of others drawn without replacement, `entries` in total."""
    largest = int(np.argmax(np.abs(array)))
    others = [i for i in generator.permutation(array.size)[:entries].tolist() if i != largest]
    return [tuple(map(int, np.unravel_index(i, array.shape))) for i in (largest, *others[: entries - 1])]


def _compare(
    name: str,
    against: str,
    ours: Array,
    theirs: NDArray[np.float64],
    where: Sequence[tuple[int, ...]] | None = None,
    error: float = 0.0,
) -> Comparison:
    """Compare two arrays, or the sample of entries at `where`; `error` is the error of the reference itself."""
    mine = ours.astype(np.float64)
    difference = np.abs(mine - theirs)
    worst = np.unravel_index(int(np.argmax(difference)), difference.shape)
    absolute, scale = float(difference[worst]), float(np.abs(theirs).max())
    tolerance = (OF_UPDATE if against == "update" else TOLERANCE)[str(ours.dtype)]
    # Rounding error that remains where large numbers cancel: a few units in the last place of numbers around 1.
    allowed = tolerance * scale + error + (0 if against == "update" else 64 * float(np.finfo(ours.dtype).eps))
    return Comparison(
        name=name,
        against=against,
        checked=mine.size,
        absolute=absolute,
        relative=absolute / scale if scale else float("inf") if absolute else 0.0,
        index=tuple(map(int, worst)) if where is None else where[int(worst[0])],
        ours=float(mine[worst]),
        theirs=float(theirs[worst]),
        allowed=allowed,
    )
