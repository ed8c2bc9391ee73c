"""The forward pass of a batch in PyTorch, as a function of its weights and of numbers that are added to values.

A number can be added to a value, or to one reading of it. Every computed value is corrected by the difference between the stored
value and its formula at the stored operands, which is usually rounding. So each line is evaluated at the stored values, and
autograd differentiates the batch as it was computed, without drift. For the earlier batches of carry `notebook`, whose values come
from older weights, this gives the required gradient: at the stored values, through the current weights. There the parts of a line
that have no name are corrected as well, to what they were with the older weights.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Protocol

from numpy.typing import NDArray

from tui_gru.engine.reference.torch_formulas import COPIES, KeepValue, Value, evaluated, stacked
from tui_gru.engine.running.batch import BatchRecord
from tui_gru.equations import expression as e
from tui_gru.equations.backward import NameRead, mixed, steps_of
from tui_gru.equations.expression import Expression
from tui_gru.equations.page import Page

if TYPE_CHECKING:
    from torch import Tensor


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
