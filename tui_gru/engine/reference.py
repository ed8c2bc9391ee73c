"""The same equations in PyTorch: every number of a batch is computed again in float64 and compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.model import COUNT, GRADIENT, WEIGHT
from tui_gru.engine.rounding import Analysis, Bounded
from tui_gru.engine.weights import Array, Float64Array
from tui_gru.equations import syntax as e
from tui_gru.equations.axes import Axes, union
from tui_gru.equations.backward import NameRead, steps_of
from tui_gru.equations.functions import FUNCTIONS
from tui_gru.equations.page import Page, of_all_units
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
        return applied(part) if keep is None or isinstance(part, e.Name) else keep(part, applied(part), False)

    def argument_of(part: Expression) -> Value:
        return value(part) if keep is None else keep(part, value(part), True)

    def applied(node: Expression) -> Value:
        match node:
            case e.Name(name=name):
                return read(name)
            case e.Number(value=number):
                return _number(float(number))
            case e.Sum() | e.Negative() | e.Times() | e.Quotient() | e.Power():
                return _elementwise(lambda *tensors: e.combined(node, tensors), list(map(value, node.children)))
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
                return _elementwise(FUNCTIONS[function].in_torch, list(map(value if function == "log" else argument_of, parts)))
        raise TypeError(node)

    return value(node)


def stacked_timesteps(values: Sequence[Value]) -> Value:
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
    operand_axes = union([tuple(axis for axis in value.axes if axis != COPIES) for value in values])
    axes = (COPIES, *operand_axes) if any(value.has_copies for value in values) else operand_axes
    return Value(function(*(_expanded(value, axes) for value in values)), axes)


def _expanded(value: Value, axes: Axes) -> Tensor:
    tensor, own_axes = value
    if own_axes == axes[len(axes) - len(own_axes) :]:
        return tensor
    assert own_axes == tuple(axis for axis in axes if axis in own_axes), f"{own_axes} does not lie along {axes}"
    return tensor[tuple(slice(None) if axis in own_axes else None for axis in axes)]


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


# ------------------------------------------------------------------------------
# The forward pass of a batch in PyTorch.
#
# Every computed value is corrected by the difference between the stored value and its formula at the stored operands, which is
# usually rounding. So each line is evaluated at the stored values, and autograd differentiates the batch as it was computed,
# without drift. For the earlier batches of carry `notebook`, whose values come from older weights, this gives the required
# gradient: at the stored values, through the current weights. There the parts of a line that have no name are corrected as well, to
# what they were with the older weights.


class PassedState(NamedTuple):
    """The place where a state passes to the timestep that reads it."""

    state: str


Place = str | NameRead | PassedState  # where a gradient is taken: a value, one reading of it, or a state passing to a timestep


class Tap:
    """What a pass calls at each place, in one timestep or in all at once (`t` is None), to add a number; this one adds none."""

    def add(self, place: Place, t: int | None, value: Value) -> Value:
        """Return the value plus the number added at a place."""
        return value

    def touches(self, name: str, t: int | None) -> bool:
        """Return True if a number is added to the value of a name, or to an operand of its formula."""
        return False


@dataclass(frozen=True, eq=False)
class Plan:
    """A page, and the order in which its names can be computed for batches of `length` timesteps.

    `formulas` has the formula of every line and labelled part, `states` the state for each name by which a state is read (h_prev),
    `softmaxes` the argument of each softmax, `reads` the operands of each name. Names in `on_cycle` depend on themselves through a
    state; `steps` has them timestep by timestep, in an order in which they can be computed. All other names are computed for all
    timesteps at once.
    """

    page: Page
    length: int
    formulas: Mapping[str, Expression]
    states: Mapping[str, str]
    softmaxes: Mapping[str, Expression]
    reads: Mapping[str, Sequence[str]]
    on_cycle: frozenset[str]
    steps: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, page: Page, length: int) -> Plan:
        """Return the order for batches of `length` timesteps."""
        formulas = {step.name: step.formula for step in steps_of(page.lines)[0]}
        states = {page.before(state): state for state in page.states}
        softmaxes = {name: f.argument for name, f in formulas.items() if isinstance(f, e.Apply) and f.function == "softmax"}
        reads: dict[str, list[str]] = {name: [state] for name, state in states.items()}
        for name, formula in formulas.items():
            under = [under for read in formula.names() if read in softmaxes for under in softmaxes[read].names()]
            reads[name] = list(dict.fromkeys([*formula.names(), *under]))
        reads |= {name: [] for name in page.differentiated}
        needs = {name: _dependencies(reads[name], reads) for name in reads}
        on_cycle = frozenset(name for name in reads if name in needs[name])
        steps: dict[tuple[str, int], None] = {}
        # A state that reads another one, which does not read it, depends on more states, so it comes later.
        for state in sorted(page.states, key=lambda state: len(needs[state].intersection(page.states))):
            ts = range(length)
            for t in reversed(ts) if page.states[state].backwards else ts:
                steps |= {(name, t): None for name in reads if name in on_cycle and (name in needs[state] or name == state)}
        return cls(page, length, formulas, states, softmaxes, reads, on_cycle, tuple(steps))

    def source(self, state: str, t: int) -> int | None:
        """Return the timestep whose state timestep `t` reads; None for the state at the start of the batch."""
        source = t + 1 if self.page.states[state].backwards else t - 1
        return source if 0 <= source < self.length else None

    def last(self, state: str) -> int:
        """Return the timestep that is computed last of a state."""
        return 0 if self.page.states[state].backwards else self.length - 1


def _dependencies(names: Iterable[str], reads: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the names and everything that they depend on."""
    reached: set[str] = set()
    waiting = list(names)
    while waiting:
        if (name := waiting.pop()) not in reached:
            reached.add(name)
            waiting += reads.get(name, ())
    return reached


def tensor_of(array: NDArray) -> Tensor:  # type: ignore[type-arg]
    """Return a float64 copy of an array as a tensor."""
    import torch

    return torch.tensor(array, dtype=torch.float64)


class Stored:
    """A record as float64 tensors. `old_weights` are those that it was computed with, if they are not those of the pass."""

    def __init__(self, record: BatchRecord, *, is_earlier: bool) -> None:
        self._record, self._axes = record, record.compiled.model.axes
        self._values: dict[str, Value] = {}
        weights = {name: Value(tensor_of(value), self._axes[name]) for name, value in record.before.items()}
        self.old_weights = weights if is_earlier else None

    def value(self, name: str, t: int | None = None) -> Value:
        """Return the recorded value, at one timestep or at all of them."""
        if name not in self._values:
            self._values[name] = Value(tensor_of(self._record.array(name)), self._axes[name])
        return self._values[name] if t is None else self._values[name].at(t)

    def border(self, state: str, *, end: bool) -> Value:
        """Return a state at the start of the batch, or at its end, (B, ·)."""
        return Value(tensor_of(self._record.border(state, end=end)), self._axes[state][1:])


class Forward:
    """One forward pass of a stored batch with some weights; `starts` has the states at its start, and `tap` adds numbers at places.

    With `base`, another pass of the same batch, what depends on no added number and on no other weight is taken from it.
    """

    def __init__(
        self, stored: Stored, plan: Plan, weights: Mapping[str, Value], starts: Mapping[str, Value], tap: Tap, base: Forward | None
    ) -> None:
        self._stored, self._plan, self._weights, self._tap, self._base = stored, plan, weights, tap, base
        self.starts = starts
        self._values: dict[tuple[str, int | None], Value] = {}
        # Of a pass without a base: what the value of each formula at the stored operands lacks to the stored value, preceded in an
        # earlier batch by what each part of the formula lacks.
        self.missing: dict[tuple[str, int | None], list[Tensor | None]] = {}

    def ends(self) -> dict[str, Value]:
        """Return the states at the end of the batch."""
        for name, t in self._plan.steps:  # in this order no value waits for those of other timesteps, so no recursion is deep
            self.value(name, t)
        return {state: self.value(state, self._plan.last(state)) for state in self._plan.page.states}

    def run(self) -> Forward:
        """Compute everything, and return the pass itself."""
        self.ends()
        for name in self._plan.formulas:
            if name not in self._plan.on_cycle:
                self.value(name)
        return self

    def value(self, name: str, t: int | None = None) -> Value:
        """Return a value at one timestep or at all of them, or a parameter."""
        if name in self._weights:
            return self._weights[name]
        if (name, t) not in self._values:
            base = None if self._base is None or self._differs(name, t) else self._base.value(name, t)
            self._values[name, t] = self._computed(name, t) if base is None else base
        return self._values[name, t]

    def differs(self, name: str, t: int | None = None) -> bool:
        """Return True if a value is not that of the base."""
        return self._base is None or self.value(name, t) is not self._base.value(name, t)

    def _differs(self, name: str, t: int | None) -> bool:
        assert self._base is not None
        plan = self._plan
        if t is None and name in plan.on_cycle:
            return any(self.differs(name, t) for t in range(plan.length))
        if t is not None and name not in plan.on_cycle:
            return name in plan.reads and self.differs(name)
        if self._tap.touches(name, t):
            return True
        if (state := plan.states.get(name)) is not None:
            sources = [plan.source(state, at) for at in (range(plan.length) if t is None else (t,))]
            at_start = None in sources and self.starts[state] is not self._base.starts[state]
            return at_start or any(self.differs(state, source) for source in sources if source is not None)
        return any(self.differs(read, t) for read in plan.reads.get(name, ()))

    def _computed(self, name: str, t: int | None) -> Value:
        plan = self._plan
        if name not in plan.reads:
            return self._stored.value(name, t)
        if t is None and name in plan.on_cycle:
            return stacked_timesteps([self.value(name, t) for t in range(plan.length)])
        if t is not None and name not in plan.on_cycle:
            return self.value(name).at(t)
        if name in plan.formulas:
            return self._tap.add(name, t, self._by_formula(name, t))
        if name not in plan.states:
            return self._tap.add(name, t, self._stored.value(name, t))
        before = [self._state_before(plan.states[name], at) for at in (range(plan.length) if t is None else (t,))]
        return self._tap.add(name, t, stacked_timesteps(before) if t is None else before[0])

    def _state_before(self, state: str, t: int) -> Value:
        """Return the state that a timestep reads."""
        source = self._plan.source(state, t)
        if source is None:
            return self.starts[state]
        return self._tap.add(PassedState(state), source, self.value(state, source))

    def _by_formula(self, name: str, t: int | None) -> Value:
        plan, nth = self._plan, Counter[str]()

        def read(other: str) -> Value:
            reading = NameRead(other, name, nth[other])
            nth[other] += 1
            return self._tap.add(reading, t, self.value(other, t))

        if self._base is not None:
            missing = iter(self._base.missing[name, t])
            keep = None if self._stored.old_weights is None else lambda _, value, __: _plus(value, next(missing))
            return _plus(evaluated(plan.formulas[name], read, plan.softmaxes, keep), next(missing))
        parts: list[Tensor | None] = []
        keep = None if self._stored.old_weights is None else self._to_old_weights(name, t, parts)
        result = evaluated(plan.formulas[name], read, plan.softmaxes, keep)
        self.missing[name, t] = [*parts, (self._stored.value(name, t).tensor - result.tensor).detach()]
        return _plus(result, self.missing[name, t][-1])

    def _to_old_weights(self, name: str, t: int | None, missing: list[Tensor | None]) -> KeepValue:
        """Return what corrects each operation of a formula to its value with the weights of that batch, and notes the differences.

        What reads no weight is not corrected, and a weight itself, also negated or transposed, is today's. But a weight that is the
        argument of a function is that of the batch: derivatives of functions are read off their results, which are stored.
        """
        plan, stored, weights = self._plan, self._stored, self._stored.old_weights
        assert weights is not None
        then: list[Tensor] = []

        def note(_: Expression, value: Value, is_argument: bool) -> Value:
            then.append(value.tensor)
            return value

        evaluated(plan.formulas[name], lambda other: weights.get(other) or stored.value(other, t), plan.softmaxes, note)

        def keep(part: Expression, value: Value, is_argument: bool) -> Value:
            inner = part
            while isinstance(inner, e.Negative | e.Transpose):
                inner = inner.argument
            is_weight = isinstance(inner, e.Name) and not is_argument
            corrected = not is_weight and any(other in weights for other in part.names())
            missing.append((then[len(missing)] - value.tensor).detach() if corrected else None)
            return _plus(value, missing[-1])

        return keep


def _plus(value: Value, missing: Tensor | None) -> Value:
    return value if missing is None else Value(value.tensor + missing, value.axes)


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
        self._page = model.page
        self._plan = Plan.of(self._page, record.compiled.sizes["T"])
        self._chain = [Stored(one_record, is_earlier=one_record is not record) for one_record in (*reversed(earlier), record)]
        self._outer_gradients = {name: tensor_of(record.array(with_word(f"d{name}", "given"))) for name in self._page.outputs}
        self._flows = dict(zip(self._page.states, map(tensor_of, record.flows_in), strict=True))
        self._axes = {name: operation.axes for name, operation in record.compiled.schedule.named.items()}
        received = {self._page.received(state): PassedState(state) for state in self._page.states}
        self.slopes = slopes_of(record)
        # The place whose gradient has each name in the backward pass.
        self._places: dict[str, Place] = {
            name: model.backward.paths.get(name) or received.get(name) or name[1:] for name in self.slopes
        }
        self._weights = {name: Value(tensor_of(value).requires_grad_(), model.axes[name]) for name, value in record.before.items()}
        self._zeros = _Zeros(set(self._places.values()))
        self._base: list[Forward] = []
        self._loss = self._loss_of(self._weights, self._zeros)

    def gradients(self) -> dict[str, NDArray[np.float64]]:
        """Return the gradients by autograd, by name; zero if the loss does not depend on a place."""
        import torch

        tensors = {(name, None): weight.tensor for name, weight in self._weights.items()} | self._zeros.tensors
        slopes = torch.autograd.grad(self._loss.tensor, list(tensors.values()), allow_unused=True, materialize_grads=True)
        # Of a place without influence, older versions return zeros that require a gradient themselves.
        arrays = {at: gradient.detach().numpy() for at, gradient in zip(tensors, slopes, strict=True)}
        gradients = {}
        for name, place in self._places.items():
            gradients[name] = np.zeros(self.slopes[name].shape)
            for t in (None, *range(self._plan.length)):
                if (place, t) in arrays:  # a weight that is read at each timestep has the sum over all of them
                    gradients[name][... if t is None or "T" not in self._axes[name] else t] += arrays[place, t]
        return gradients

    def of_earlier(self, flows: Mapping[str, Array]) -> dict[str, NDArray[np.float64]]:
        """Return what earlier batches add to the gradient of each parameter, by name, if the states at the start of the batch have
        the gradients `flows`."""
        import torch

        starts = self._base[-1].starts
        states = [state for state in flows if starts[state].tensor.requires_grad]
        added = torch.autograd.grad(
            [starts[state].tensor for state in states],
            [weight.tensor for weight in self._weights.values()],
            [tensor_of(flows[state]) for state in states],
            allow_unused=True,
            materialize_grads=True,
            retain_graph=True,
        )
        return {f"d{name}": gradient.detach().numpy() for name, gradient in zip(self._weights, added, strict=True)}

    def measured(self, where: Mapping[str, Sequence[tuple[int, ...]]], steepest: float) -> dict[str, NDArray[np.float64]]:
        """Return entries of gradients by central finite differences, (entries, 2) by name: for each entry the slope and its error.

        `steepest` is the largest gradient, at least 1. The step changes the loss by about `change`, chosen so that the truncation
        error (change² relative to the slope) equals the rounding error (1e-15 · steepest / change).
        """
        change = (1e-15 * steepest) ** (1 / 3)
        step = change / steepest
        nudges = [
            Nudge(self._places[name], index, steps * step, self._axes[name])
            for name, indices in where.items()
            for index in indices
            for steps in (-1, 1, 2)
        ]
        down, up, far = self._losses(nudges).reshape(-1, 3).T
        third = far - 3 * up + 3 * float(self._loss.tensor.detach()) - down  # step³ times the third derivative
        slopes = np.stack([(up - down) / (2 * step), 4 * np.abs(third) / step + 100 * change**2 * steepest], 1)
        ends = np.cumsum([len(indices) for indices in where.values()])
        return dict(zip(where, np.split(slopes, ends[:-1]), strict=True))

    def _losses(self, nudges: Sequence[Nudge]) -> NDArray[np.float64]:
        """Return the loss of each copy of the batch; each copy has one changed number."""
        import torch

        tasks = [nudge.tasks(self._plan) for nudge in nudges]
        position: dict[tuple[str, int | None], int] = {task: i for i, task in enumerate(self._plan.steps)}
        begin = [min((position.get(task, len(position)) for task in own_tasks), default=-1) for own_tasks in tasks]
        entries = max(self._base[-1].value(name, 0).tensor.numel() for name in self._plan.formulas)
        losses = np.empty(len(nudges))
        order = sorted(range(len(nudges)), key=begin.__getitem__)  # the later a change, the less there is to compute
        together = max(1, AT_ONCE // entries)
        with torch.no_grad():
            for group in (order[start : start + together] for start in range(0, len(order), together)):
                tap = _Nudges([nudges[i] for i in group], {task for i in group for task in tasks[i]})
                weights = {name: tap.add(name, None, weight) for name, weight in self._weights.items()}
                losses[group] = self._loss_of(weights, tap).tensor.expand(len(group)).numpy()
        return losses

    def _loss_of(self, weights: Mapping[str, Value], tap: Tap) -> Value:
        """Return the loss. The first call, whose passes are the base of all later ones, adds nothing but zeros."""
        bases = tuple(self._base)
        starts = bases[0].starts if bases else {state: self._chain[0].border(state, end=False) for state in self._page.states}
        for i, stored in enumerate(self._chain[:-1]):
            base = bases[i] if bases else None
            run = Forward(stored, self._plan, weights, starts, Tap(), base)
            starts = {}
            for state, end in run.ends().items():
                if base is not None and not run.differs(state, self._plan.last(state)):
                    starts[state] = bases[i + 1].starts[state]
                else:  # the notebook's next batch begins with this one's end, up to an edit between them
                    moved = self._chain[i + 1].border(state, end=False).tensor - stored.border(state, end=True).tensor
                    starts[state] = Value(end.tensor + moved, end.axes)
            self._base += [] if bases else [run]
        run = Forward(self._chain[-1], self._plan, weights, starts, tap, bases[-1] if bases else None).run()
        self._base += [] if bases else [run]
        if not self._outer_gradients:
            return run.value(self._page.output)
        terms = [(run.value(name), seed) for name, seed in self._outer_gradients.items()]
        for state, flow in self._flows.items():
            t = self._plan.last(state)
            terms.append((tap.add(PassedState(state), t, run.value(state, t)), flow))
        totals = [(value.tensor * seed).flatten(int(value.has_copies)).sum(-1) for value, seed in terms]
        return Value(sum(totals[1:], totals[0]), ())


class _Zeros(Tap):
    """Adds a zero at some places, for autograd: `found` has them by place and timestep."""

    def __init__(self, places: Collection[Place]) -> None:
        self._places = places
        self.tensors: dict[tuple[Place, int | None], Tensor] = {}

    def add(self, place: Place, t: int | None, value: Value) -> Value:
        import torch

        if place not in self._places:
            return value
        if (place, t) not in self.tensors:
            self.tensors[place, t] = torch.zeros_like(value.tensor, requires_grad=True)
        return Value(value.tensor + self.tensors[place, t], value.axes)


class Nudge(NamedTuple):
    """A number added, in one copy of a batch, to one entry at a place whose value has the axes `axes`."""

    place: Place
    entry: tuple[int, ...]
    amount: float
    axes: Axes

    @property
    def timestep(self) -> int | None:
        """The timestep of the entry; None if the value has no axis T."""
        return self.entry[0] if self.axes[:1] == ("T",) else None

    def tasks(self, plan: Plan) -> set[tuple[str, int | None]]:
        """Return the names and timesteps that it changes directly; none for a weight, whose readers detect the change."""
        steps = 0
        if isinstance(self.place, PassedState):
            name, steps = plan.page.before(self.place.state), -1 if plan.page.states[self.place.state].backwards else 1
        else:
            name = self.place.step if isinstance(self.place, NameRead) else self.place
        if self.timestep is not None:
            return {(name, self.timestep + steps), (name, None)}
        return {(name, t) for t in (None, *range(plan.length))} if name in plan.formulas else set()


class _Nudges(Tap):
    """Changes one number in each copy of the batch."""

    def __init__(self, nudges: Sequence[Nudge], touched: Collection[tuple[str, int | None]]) -> None:
        self._touched, self._count = touched, len(nudges)
        self._at: dict[Place, list[tuple[int, Nudge]]] = {}
        for copy, nudge in enumerate(nudges):
            self._at.setdefault(nudge.place, []).append((copy, nudge))

    def touches(self, name: str, t: int | None) -> bool:
        return (name, t) in self._touched

    def add(self, place: Place, t: int | None, value: Value) -> Value:
        nudges_here = [(copy, nudge) for copy, nudge in self._at.get(place, ()) if t is None or nudge.timestep in (None, t)]
        if not nudges_here:
            return value
        value = value.in_copies(self._count)
        for copy, nudge in nudges_here:
            index = [i for axis, i in zip(nudge.axes, nudge.entry, strict=True) if axis in value.axes]
            value.tensor[(copy, *index)] += nudge.amount
        return value


# ------------------------------------------------------------------------------
# Each line by itself, at the stored values and gradients of all timesteps at once.


class LineByLine:
    """Every value from the stored values that its formula reads, and every gradient, by autograd, from the stored gradients of the
    lines that read its value; each with the difference that rounding explains in the type of the record."""

    def __init__(self, record: BatchRecord) -> None:
        self._record, self._model = record, record.compiled.model
        page, sizes = self._model.page, record.compiled.sizes
        plan = Plan.of(page, sizes["T"])
        self._page, self._formulas, self._softmaxes = page, plan.formulas, plan.softmaxes
        self._stored = Stored(record, is_earlier=False)
        self._analysis = Analysis(record.compiled.dtype, sizes, plan.softmaxes)
        self._slopes = slopes_of(record)
        self._results: dict[str, Bounded] = {
            name: self._analysis.bounded(formula, self._exact) for name, formula in plan.formulas.items()
        }
        self._weights = {name: Value(tensor_of(value), self._model.axes[name]) for name, value in record.before.items()}
        self._leaves: dict[Place, Value] = {}

    @property
    def values(self) -> dict[str, tuple[Float64Array, Float64Array]]:
        """Every value of the forward pass, in the order of the lines."""
        return {
            name: (evaluated(formula, self._stored_value, self._softmaxes).tensor.numpy(), self._results[name].error)
            for name, formula in self._formulas.items()
        }

    def gradients(self) -> dict[str, tuple[Float64Array, Float64Array]]:
        """Return every delta with its labelled terms, and every gradient of a parameter, by name."""
        import torch

        page, paths = self._page, self._model.backward.paths
        has_gradient = {name[1:] for name in self._slopes if name not in paths and name[1:] in self._record.compiled.schedule.named}
        self._leaves = {
            name: Value(self._stored_value(name).tensor.clone().requires_grad_(), self._stored_value(name).axes)
            for name in has_gradient
        }
        outputs = {name: self._slopes[f"d{name}"] for name in self._formulas if name in has_gradient}
        results = [self._by_formula(name).tensor for name in outputs]
        seeds = list(map(tensor_of, outputs.values()))
        if not page.outputs and page.output not in outputs:
            results, seeds = [*results, self._value(page.output).tensor], [*seeds, torch.ones((), dtype=torch.float64)]
        leaves = [place for place, value in self._leaves.items() if value.tensor.requires_grad]
        tensors = [self._leaves[place].tensor for place in leaves]
        slopes = torch.autograd.grad(results, tensors, seeds, allow_unused=True, materialize_grads=True)
        of_place = {place: slope.detach().numpy() for place, slope in zip(leaves, slopes, strict=True)}
        readings: dict[str, list[Float64Array]] = {}
        for place, slope in of_place.items():
            if isinstance(place, NameRead):
                readings.setdefault(f"d{place.name}", []).append(np.abs(slope))
        states = {page.received(state): state for state in page.states}
        lines = {line.target: line.formula for line in (*self._model.backward.deltas, *self._model.backward.gradients)}
        terms = {node.label: e.without_label(node) for formula in lines.values() for node in formula.walk() if node.label in paths}
        # The terms of a gradient come first: it reads them with the rounding that they have.
        bounds = {name: self._analysis.bounded(formula, self._read) for name, formula in terms.items()}
        self._results |= bounds
        bounds |= {name: self._analysis.bounded(formula, self._read) for name, formula in lines.items()}
        compared = {}
        for name, array in self._slopes.items():
            if name in states:
                compared[name] = self._received(states[name], array)
                continue
            theirs = of_place.get(paths.get(name, name[1:]), np.zeros(array.shape))
            if name[1:] in page.states:
                theirs = theirs + self._record.array(page.received(name[1:]))
            if name[1:] in page.outputs:
                theirs = theirs + self._record.array(with_word(name, "given"))
            of_reference = sum(readings.get(name, [])) * self._analysis.gamma_of_reference(len(self._formulas))
            compared[name] = theirs.reshape(array.shape), np.broadcast_to(bounds[name].error + of_reference, array.shape)
        return compared

    def _received(self, state: str, array: Array) -> tuple[Float64Array, Float64Array]:
        """Return the gradient that a state receives from the timestep that reads it, a copy; at the end, the one that is given."""
        theirs, read = array.astype(np.float64), self._record.array(f"d{self._page.before(state)}")
        if self._page.states[state].backwards:
            theirs[1:] = read[:-1]
        else:
            theirs[:-1] = read[1:]
        return theirs, np.zeros(array.shape)

    # In PyTorch

    def _stored_value(self, name: str) -> Value:
        return self._weights[name] if name in self._weights else self._stored.value(name)

    def _value(self, name: str) -> Value:
        """Return a value as the lines that read it receive it; one without a gradient of its own is differentiated through."""
        if name in self._leaves:
            return self._leaves[name]
        if name not in self._formulas:
            return self._stored_value(name)
        computed = self._by_formula(name)
        self._leaves[name] = Value(computed.tensor + (self._stored.value(name).tensor - computed.tensor).detach(), computed.axes)
        return self._leaves[name]

    def _by_formula(self, name: str) -> Value:
        import torch

        nth = Counter[str]()

        def read(other: str) -> Value:
            reading, value = NameRead(other, name, nth[other]), self._value(other)
            nth[other] += 1
            if reading not in self._leaves:
                self._leaves[reading] = Value(torch.zeros_like(value.tensor, requires_grad=True), value.axes)
            return Value(value.tensor + self._leaves[reading].tensor, value.axes)

        return evaluated(self._formulas[name], read, self._softmaxes)

    # The bounds of rounding

    def _exact(self, name: str) -> Bounded:
        before = self._record.before
        array = before[name] if name in before.names else self._record.array(name)
        return Bounded.exact(array, self._model.axes.get(name) or self._record.compiled.schedule.named[name].axes)

    def _read(self, name: str) -> Bounded:
        """Return a number that a derived line reads. Autograd reads the result of a line without its rounding instead."""
        exact = self._exact(name)
        return exact._replace(error=self._results[name].error) if name in self._results else exact


def _from_earlier(
    record: BatchRecord, earlier: Sequence[BatchRecord], slopes: Slopes
) -> dict[str, tuple[Float64Array, Float64Array]]:
    """Return what earlier batches add to the gradient of each parameter, by autograd from the stored gradients of the states at the
    start of this one, and how far rounding can change it.

    That is the rounding of one operation after the other on the longest path through these batches, of the largest gradient that
    goes into them, once for every row and timestep: near a limit of a function, its slope is off by u of 1, not of itself.
    """
    if not earlier:
        return {}
    sizes, page, lines = record.compiled.sizes, record.compiled.model.page, record.compiled.model.backward
    longest = max(size for axis, size in sizes.items() if axis != "T")
    operations = max(sum(1 for _ in line.formula.walk()) for line in (*lines.deltas, *lines.gradients))
    relative = Analysis(record.compiled.dtype, sizes, {}).gamma((longest + operations) * (sizes["T"] * len(earlier) + 1))
    flows = {
        state: record.array(f"d{page.before(state)}")[-1 if variable.backwards else 0] for state, variable in page.states.items()
    }
    flow = max(float(np.abs(array).max()) for array in flows.values())
    gradients = {}
    for name, added in slopes.of_earlier(flows).items():
        largest = float(np.abs(added).max()) + flow * sizes["T"] * sizes["B"] * len(earlier) if added.any() else 0.0
        gradients[name] = added, np.full(added.shape, relative * largest)
    return gradients


# ------------------------------------------------------------------------------
# The check of a batch: PyTorch computes it again from the same equations in float64, and every number is compared.
#
# There are four comparisons, name by name, in the order of the listing. `forward pass`: each value, from the values that its
# formula reads. `autograd`: every gradient of a parameter, and every delta with its labelled terms, at every timestep, from the
# gradients of the lines that read its value. `finite differences`: a sample of the same entries as (loss(+e) − loss(−e)) / 2e,
# which uses no derivatives. `update`: the result of each line of the update rule, from the values that it reads.
#
# So no rounding builds up from line to line in what is compared, and a difference is allowed as far as the rounding of this one
# line can explain it (`rounding`). If every line agrees, so does the gradient as a whole, by the chain rule: what it differs from
# one without rounding, as finite differences measure it, is then rounding.


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
    silent = model.structure.silent
    if silent and not np.isfinite(record.array(of_all_units(silent))).all():  # in PyTorch it would be multiplied by 0
        raise TuiGruError(f"{silent} has NaN or Inf in units that are held at 0, so nothing can be checked; step back to before it")
    load_torch()
    lines, slopes = LineByLine(record), slopes_of(record)
    comparisons = [_compare(name, "forward pass", record.array(name), *value) for name, value in lines.values.items()]
    reference = Slopes(record, earlier) if entries or earlier else None
    of_lines, of_earlier = lines.gradients(), {} if reference is None else _from_earlier(record, earlier, reference)
    for name, array in slopes.items():
        theirs, allowed = of_lines[name]
        if name in of_earlier:
            theirs, allowed = theirs + of_earlier[name][0], allowed + of_earlier[name][1]
        comparisons.append(_compare(name, "autograd", array, theirs, allowed))
    if entries and reference is not None:
        gradients = reference.gradients()
        explained = all(comparison.agrees for comparison in comparisons if comparison.against == "autograd")
        generator = np.random.Generator(np.random.PCG64(seed))
        where = {name: _sample(array, entries, generator) for name, array in slopes.items()}
        steepest = max(1.0, *(float(np.abs(gradient).max()) for gradient in gradients.values()))
        most_built_up = len(slopes) * max(float(np.max(allowed)) for _, allowed in of_lines.values())
        for name, measured in reference.measured(where, steepest).items():
            mine, exact, bound = (
                np.array([array[index] for index in where[name]]) for array in (slopes[name], gradients[name], of_lines[name][1])
            )
            # Roundings build up from line to line. Beside a wrong line, no more is allowed than all lines together can round.
            distance = np.abs(mine - exact)
            built_up = distance if explained else np.where(distance <= most_built_up, distance, 0.0)
            comparisons.append(
                _compare(name, "finite differences", mine, measured[:, 0], bound + built_up + measured[:, 1], where[name])
            )
    if record.settings:  # otherwise there was no update
        comparisons += [_compare(name, "update", ours, theirs, allowed) for name, ours, theirs, allowed in updated(record)]
    return tuple(comparisons)


def slopes_of(record: BatchRecord) -> dict[str, Array]:
    """Return every delta and its labelled terms, and the gradient of every parameter, in the order of the listing."""
    model, gradients = record.compiled.model, record.gradients
    assert gradients is not None
    slopes: dict[str, Array] = {}
    received = {model.page.received(state) for state in model.page.states}
    for line in (*model.backward.deltas, *model.backward.gradients):
        terms = [node.label for node in line.formula.walk() if node.label in model.backward.paths]
        for name in (*terms, *(name for name in line.formula.names() if name in received)):
            slopes[name] = record.array(name)
        parameter = line.target[1:]
        slopes[line.target] = gradients[parameter] if parameter in gradients.names else record.array(line.target)
    return slopes


def updated(record: BatchRecord) -> Iterator[tuple[str, Array, Float64Array, Float64Array]]:
    """Yield each line of the update rule with its stored result, its result in float64 from the stored values that it reads, and
    the difference that rounding explains."""
    rule, names, count = record.compiled.model.rule, record.before.names, record.compiled.layout.count
    analysis = Analysis(record.compiled.dtype, {"P": count}, {}, wide_numbers=True)
    values = {name: Bounded.exact(np.array(number), ()) for name, number in record.settings.items()}
    values[COUNT] = Bounded.exact(np.array(record.before.updates + 1), ())
    values[GRADIENT] = Bounded.exact(record.own_gradients.flat, ("P",))
    for i, name in enumerate((WEIGHT, *rule.states)):
        values[name] = Bounded.exact(record.before.flat[i * count : (i + 1) * count], ("P",))
    results: dict[str, tuple[Array, Float64Array, Float64Array]] = {}
    for line in rule.lines:
        formula = line.formula
        if line.op == "-=":
            formula = e.Sum((e.Name(line.target), e.Negative(formula)))
        theirs, allowed, _ = analysis.bounded(formula, values.__getitem__)
        if rule.is_vector(line.target):
            ours = record.update_vector(line.target)
            for name in names:
                start, shape = record.compiled.layout.places[name]
                place = slice(start, start + int(np.prod(shape)))
                arrays = (array[place].reshape(shape) for array in np.broadcast_arrays(ours, theirs, allowed))
                results[rule.name_for(line.target, name)] = tuple(arrays)  # type: ignore[assignment]
        else:
            ours = np.array(record.numbers[line.target])
            results[line.target] = ours, theirs, allowed
        values[line.target] = Bounded.exact(ours, ("P",) if rule.is_vector(line.target) else ())
    for line in rule.lines_of(names):
        yield (line.target, *results[line.target])


def _sample(array: Array, entries: int, generator: np.random.Generator) -> list[tuple[int, ...]]:
    """Return the index of the largest entry and of others drawn without replacement, `entries` in total."""
    largest = int(np.argmax(np.abs(array)))
    others = [i for i in generator.permutation(array.size)[:entries].tolist() if i != largest]
    return [tuple(map(int, np.unravel_index(i, array.shape))) for i in (largest, *others[: entries - 1])]


def _compare(
    name: str,
    against: str,
    ours: Array,
    theirs: Float64Array,
    allowed: Float64Array,
    where: Sequence[tuple[int, ...]] | None = None,
) -> Comparison:
    """Compare two arrays, or the sample of entries at `where`, whose entries differ by up to `allowed` for rounding.

    The entry with the largest difference is returned; if any differs by more than that, the one that does so most.
    """
    mine = ours.astype(np.float64)
    difference = np.abs(mine - theirs)
    with np.errstate(over="ignore"):
        unexplained = np.where(difference > allowed, difference / np.maximum(allowed, np.finfo(np.float64).tiny), 0)
    worst = np.unravel_index(int(np.argmax(unexplained if unexplained.any() else difference)), difference.shape)
    absolute, scale = float(difference[worst]), float(np.abs(theirs).max())
    return Comparison(
        name=name,
        against=against,
        checked=mine.size,
        absolute=absolute,
        relative=absolute / scale if scale else float("inf") if absolute else 0.0,
        index=tuple(map(int, worst)) if where is None else where[int(worst[0])],
        ours=float(mine[worst]),
        theirs=float(theirs[worst]),
        allowed=float(allowed[worst]),
    )
