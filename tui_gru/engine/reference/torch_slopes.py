"""Gradients of a batch in PyTorch, by autograd and by finite differences.

dz is the gradient with respect to a zero added to z; dh_carry, to a zero added to one reading of a state; dh_future, to a zero
added to the state where it passes to the next timestep.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tui_gru.engine.reference.torch_batch import (
    Additions,
    Evaluation,
    PassedState,
    Plan,
    ReadPlace,
    Stored,
    Task,
    plan_of,
    tensor_of,
)
from tui_gru.engine.reference.torch_formulas import Value
from tui_gru.engine.running.batch import BatchRecord
from tui_gru.engine.running.weights import Array
from tui_gru.equations.axes import Axes
from tui_gru.equations.backward import NameRead
from tui_gru.equations.names import with_word

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
