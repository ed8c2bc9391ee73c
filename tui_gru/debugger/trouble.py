"""Finds where a run explodes or has its first number that is not finite, and stops it there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.history import COLUMNS, ScalarRows
from tui_gru.debugger.moment import computed_in_order
from tui_gru.debugger.position import Position, batch_in_words
from tui_gru.debugger.program import Program, Store, flow_names, spoken
from tui_gru.debugger.segment import Monitor
from tui_gru.debugger.state import Notice, StopEvent
from tui_gru.debugger.timeline import Timeline
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.numbers import rounded
from tui_gru.engine.source import Ability
from tui_gru.engine.weights import Array, norms_over_time

# ------------------------------------------------------------------------------
# Detects a run that explodes: a norm or weight that grows a thousandfold within a batch, and where the growth began.


GROWTH = 1000.0
_NOTABLE = 10.0  # growth through the timesteps of a batch that explains the growth of its numbers
_LOSS, _GRADIENT, _WEIGHT = range(len(COLUMNS))
_WHAT = ("the loss", "the gradient's norm", "the largest weight")


class GrowthWatch:
    """Watches a run from `position` on for the first batch in which the loss, the gradient norm or the largest weight explodes: it
    grows a thousandfold.

    A weight is compared with its value before the batch. The loss and the norm are compared with those of the batch before and of
    the first batch, whichever is larger, since a small norm may well grow. If neither is known, the values within the batch are
    compared: its states with 1 and with the states before it, the gradients of its states with the contributions of its
    timesteps.
    """

    def __init__(self, timeline: Timeline, position: Position, monitor: Monitor | None = None) -> None:
        self._timeline, self._program, self._position, self._monitor = timeline, timeline.program, position, monitor
        self._last: tuple[int, Sequence[float]] = (-1, ())  # the last batch seen, and its numbers
        self._first: Sequence[float] = ()  # the numbers of the first batch

    def sees(self, batch: int, record: BatchRecord) -> bool:
        """Return True if a computed batch should stop the run."""
        if batch <= self._position.number:
            return False
        now = (record.loss, record.grad_norm, record.max_weight)
        (last, before), self._last = self._last, (batch, now)
        self._first = self._first or self._numbers(0)
        if last == batch - 1 and not any(map(_is_suspect, now, before, self._first)):
            return False
        suspected = self._suspected(batch, np.array([now]))
        return any(self._confirmed(batch, record, which, before_growth) for _, which, before_growth in suspected)

    def explosions(self, tick: int) -> Iterator[Explosion]:
        """Yield the places up to `tick` with such growth, in order."""
        ticks, number = self._program.ticks, self._position.number
        places = number * ticks + self._program.loss_tick, self._timeline.end_of(number)
        if tick <= (number + 1) * ticks and not any(self._position.tick < place <= tick for place in places):
            return  # a step within a batch
        for first, last in self._timeline.blocks(self._position.number, (tick - 1) // ticks):
            numbers = np.stack([self._timeline.column(name, first, last) for name in COLUMNS], axis=1)
            for batch, which, before in self._suspected(first, numbers):
                place = batch * ticks + self._program.loss_tick if which == _LOSS else self._timeline.end_of(batch)
                if self._position.tick < place <= tick:
                    record = self._timeline.record(batch, self._monitor)
                    if self._confirmed(batch, record, which, before):
                        yield self._explosion(place, record, which, before)

    def _suspected(self, first: int, numbers: ScalarRows) -> Iterator[tuple[int, int, float]]:
        """Yield the candidates among the batches from `first` on, with their scalars (n, 3): batch, column, and the size before.

        The size is NaN if unknown.
        """
        before = np.full_like(numbers, math.nan)
        before[1:] = numbers[:-1]
        largest_before = before
        if first:
            before[0] = self._numbers(first - 1)
            largest_before = np.fmax(before, self._numbers(0))
        else:
            largest_before[1:] = np.fmax(before[1:], numbers[0])
        with np.errstate(invalid="ignore", over="ignore"):
            grown = (numbers > GROWTH * largest_before) | (np.isnan(largest_before) & ~np.isnan(numbers))
        for i, which in np.argwhere(grown).tolist():
            yield first + i, which, float(largest_before[i, which])

    def _numbers(self, batch: int) -> Sequence[float]:
        return [float(self._timeline.column(name, batch, batch)[0]) for name in COLUMNS]

    def _confirmed(self, batch: int, record: BatchRecord, which: int, before: float) -> bool:
        if which == _WEIGHT:
            return (
                record.learned and record.max_weight > GROWTH * _largest(record) > 0 and not is_edited_within(self._timeline, batch)
            )
        if not math.isnan(before):
            return True
        within = _states(self._program, record) if which == _LOSS else _deltas(self._program, record)
        return any(max(course.norms) > GROWTH * course.least for course in within)

    def _explosion(self, place: int, record: BatchRecord, which: int, size_before: float) -> Explosion:
        """Return what grew, from which size to which, and at which timestep the growth began."""
        now = (record.loss, record.grad_norm, record.max_weight)[which]
        before = _largest(record) if which == _WEIGHT else size_before
        courses = [*_states(self._program, record), *(_deltas(self._program, record) if which != _LOSS else ())]
        course = next((c for c in courses if c.growth >= GROWTH), None) or max(courses, key=lambda c: c.growth)
        if course.growth >= _NOTABLE:
            began = course.words
        elif which == _WEIGHT:
            norm, rate = rounded(record.grad_norm), rounded(record.settings["learning_rate"])
            began = f"the cause is the update: the gradient's norm is {norm}, the learning rate {rate}"
        else:
            began = f"nothing in it grows from timestep to timestep; its largest weight was {rounded(_largest(record))} at first"
        return Explosion(place, COLUMNS[which], before, now, began, within=course.growth >= _NOTABLE)


def is_edited_within(timeline: Timeline, batch: int) -> bool:
    """Return True if a number was set by hand within a batch or at its end, so that its update is not what the rule makes it."""
    begin = batch * timeline.program.ticks
    return any(segment.edited for segment in timeline.segments[1:] if segment.first_batch == batch and segment.start > begin)


class Explosion(NamedTuple):
    """A number of a batch that has grown a thousandfold: `column` is loss, grad_norm or max_weight, `tick` where it is known.

    `before` is NaN if its size before is unknown. `began` says where the growth began, in words; `within` is True if that is at a
    timestep of the batch.
    """

    tick: int
    column: str
    before: float
    now: float
    began: str
    within: bool

    @property
    def is_of_update(self) -> bool:
        """True if a weight has grown in the update, whose gradient's norm `began` names."""
        return self.column == COLUMNS[_WEIGHT] and not self.within

    @property
    def growth(self) -> str:
        """What has grown from which size to which, in words."""
        size = f"is {rounded(self.now)}" if math.isnan(self.before) else f"grew from {rounded(self.before)} to {rounded(self.now)}"
        return f"{_WHAT[COLUMNS.index(self.column)]} {size}"

    @property
    def notice(self) -> str:
        """The message of a run that is stopped at it."""
        return f"stopped here: {self.growth} in this batch; {self.began}"


def _is_suspect(number: float, before: float, first: float) -> bool:
    return not number <= GROWTH * max(before, first) and number == number


class _Course(NamedTuple):
    """The norms of a value at each timestep, in the order of computation, whose `direction` is 1 or −1.

    `least` is the smallest size from which growth counts.
    """

    name: str
    norms: Sequence[float]
    direction: int
    least: float

    @property
    def growth(self) -> float:
        """The ratio of the largest norm to the smallest one before it."""
        low = self._smallest
        return max(self.norms) / low if 0 < low < math.inf else 1.0

    @property
    def words(self) -> str:
        """The timesteps between which it grows, in words; the first is the last one with at most twice the smallest norm."""
        peak, low = self.norms.index(max(self.norms)), self._smallest
        start = max(i for i in range(peak + 1) if self.norms[i] <= 2 * low)
        (first, was), (last, became) = ((self._timestep(i) + 1, self.norms[i]) for i in (start, peak))
        return f"it began at t {first}, from where {self.name} grows from {rounded(was)} to {rounded(became)} at t {last}"

    @property
    def _smallest(self) -> float:
        """The smallest norm up to the largest."""
        return min(self.norms[: self.norms.index(max(self.norms)) + 1])

    def _timestep(self, i: int) -> int:
        return i if self.direction > 0 else len(self.norms) - 1 - i


def _largest(record: BatchRecord) -> float:
    """Return the largest absolute weight at the start of the batch."""
    return float(np.abs(record.before.parameters).max())


def _states(program: Program, record: BatchRecord) -> list[_Course]:
    """Return the root mean square of each state over rows and units, through the batch."""
    courses = []
    for name, state in program.model.page.states.items():
        border = record.border(name, end=False)
        size = math.sqrt(max(border.size, 1))
        norms = [norm / size for norm in _norms(record.array(name))]
        direction = -1 if state.backwards else 1
        least = max(1.0, _norms(border[None])[0] / size)
        courses.append(_Course(f"the size of {program.writer.name(name)}", norms[::direction], direction, least))
    return courses


def _deltas(program: Program, record: BatchRecord) -> list[_Course]:
    """Return the norms of the gradients of the states, back through time."""
    if not record.learned:
        return []
    courses = []
    for state in program.model.page.states:
        names = flow_names(program, state)
        delta, received = record.array(names.delta), record.array(names.received)
        with np.errstate(all="ignore"):
            local = max(_norms(record.array(names.local) if names.local else delta - received))
        norms = _norms(delta)[:: names.direction]
        courses.append(_Course(f"‖{program.writer.name(names.delta)}‖", norms, names.direction, local or math.inf))
    return courses


def _norms(array: Array) -> list[float]:
    """Return the norm at each timestep; infinite if an entry is NaN."""
    return [math.inf if math.isnan(norm) else norm for norm in norms_over_time(array)]


# ------------------------------------------------------------------------------
# Finds the first number of a run that is not finite: its line, timestep and entry.


@dataclass(frozen=True)
class NotFinite:
    """A number that is not finite: entry `index` of `name`, at timestep `t` (0-based) or None; `tick` is where it exists.

    `initial` is True for a weight that is not finite when the batch begins, `from_upstream` for the gradient that the head and the
    loss of a script gave, after a forward pass whose numbers are all finite.
    """

    name: str
    t: int | None
    index: tuple[int, ...]
    tick: int
    initial: bool = False
    from_upstream: bool = False

    def sentence(self, program: Program) -> str:
        """Return the number and its place in words."""
        when = " when the batch begins" if self.initial else "" if self.t is None else f" at t {self.t + 1}"
        why = ", from your head and loss: the forward pass is finite" if self.from_upstream else ""
        return f"the first number that is not finite is {spoken(program, self.name, self.index)}{when}{why}"


def first_not_finite(timeline: Timeline, last: int, monitor: Monitor) -> NotFinite | None:
    """Return the first number that is not finite in the batches up to `last`.

    None if there is none, or `monitor` stopped the search.
    """
    first_bad: NotFinite | None = None
    stopped = False

    def visit(batch: int, record: BatchRecord) -> bool:
        nonlocal first_bad, stopped
        first_bad = not_finite_in(timeline.program, batch, record)
        stopped = first_bad is not None or monitor(batch, record)
        return stopped

    for first, upto in _suspected(timeline, last):
        timeline.walk(first, upto, visit)
        if stopped:
            break
    return first_bad


def finite_answer(timeline: Timeline, last: int) -> str:
    """Return the answer to a search up to batch `last` in which every entry is finite. The loss that a script gave to a recording
    may not be, nor the norm of a gradient, which overflows where the squares of its entries do."""
    source = timeline.program.config.source
    if source.numbers is not None and source.can(Ability.LOSS):
        finite = np.isfinite(source.numbers[:, 0])
        finite[list(source.unknown_losses)] = True
        if not finite.all():
            return (
                f"every number of the GRU is finite, but the loss of {source.step(int(np.argmin(finite)))} is not: "
                "look at the head and the loss in your script"
            )
    overflows = np.flatnonzero(np.isposinf(timeline.column("grad_norm", 0, last)))
    if overflows.size:
        batch = int(overflows[0])
        where = source.step(batch) or batch_in_words(*divmod(batch, timeline.program.num_batches))
        return f"every value, gradient and weight is finite, but the norm of the gradient of {where} overflows"
    return "every number so far is finite"


def _suspected(timeline: Timeline, last: int) -> Iterator[tuple[int, int]]:
    """Yield the first and the last of the batches that may have such a number, in order.

    If weights are carried on, the scalars of all later batches show it. The steps of a recording are independent, but a number that
    is not finite makes the norm of the gradients so, which was judged while recording; a step without a norm is read.
    """
    if timeline.memory.numbers is not None:
        steps = timeline.memory.numbers[: last + 1]
        suspected = ~np.isfinite(steps[:, 1])
        if timeline.program.knows_loss:
            suspected |= ~np.isfinite(steps[:, 0])
        suspected[[segment.first_batch for segment in timeline.segments[1:] if segment.first_batch <= last]] = True  # edited
        yield from ((batch, batch) for batch in np.flatnonzero(suspected).tolist())
        return
    finite = [np.isfinite(timeline.column(name, 0, last)) for name in ("loss", "max_weight")]
    if not timeline.program.knows_loss:
        finite = finite[1:]
    # The norm of a gradient may overflow where all of its entries are numbers. Without a backward pass there is none, which is NaN.
    finite.append(~np.isinf(timeline.column("grad_norm", 0, last)))
    broken = np.flatnonzero(~np.logical_and.reduce(finite))
    yield int(broken[0]) if broken.size else last if timeline.program.config.source.can(Ability.TRAIN) else 0, last


def not_finite_in(program: Program, batch: int, record: BatchRecord) -> NotFinite | None:
    """Return the first number in a batch that is not finite: a weight with which it begins, or a number that it computes."""
    begin = batch * program.ticks
    for name in program.parameters:
        if not (finite := np.isfinite(record.before[name])).all():
            return NotFinite(name, None, _first(finite), begin + 1, initial=True)
    steps = list(computed_in_order(program, learned=record.learned))
    names = dict.fromkeys(name for name, _ in steps)
    broken = {name for name in names if not np.isfinite(program.names[name].complete(record)).all()}
    for name, t in steps if broken else ():
        if name in broken and not (finite := np.isfinite(program.names[name].complete(record, t))).all():
            upstream = program.names[name].kind.is_derivative and _is_upstream_broken(program, batch)
            return NotFinite(name, t, _first(finite), begin + _offset(program, name, t), from_upstream=upstream)
    return None


def _is_upstream_broken(program: Program, batch: int) -> bool:
    """Return True if the gradient that a script gave to the output or to the last states of a batch is not finite."""
    imported = program.config.source.batch(batch)
    if imported is None:
        return False
    arrays = (imported.upstream, *(imported.flows or ()), *imported.inner.values())
    return not all(np.isfinite(array).all() for array in arrays if array is not None)


def _first(finite: np.ndarray) -> tuple[int, ...]:
    """Return the index of the first entry that is False."""
    return tuple(map(int, np.unravel_index(int(np.argmin(finite)), finite.shape)))


def _offset(program: Program, name: str, t: int | None) -> int:
    """Return the tick within a batch from which on a number exists."""
    if program.names[name].kind.store is Store.GRADIENTS:
        return program.complete_at(name)
    offset = program.readable_from(name, t)
    return offset if offset is not None else program.ticks


# ------------------------------------------------------------------------------
# Watches a run for numbers that are not finite or explode, at which it stops.


class FiniteWatch:
    """Watches a run from `position` on for the first loss or update that is not finite. Inactive if one already is not finite."""

    def __init__(self, timeline: Timeline, position: Position) -> None:
        self._timeline, self._program, self._position = timeline, timeline.program, position
        lost = position.number - (position.offset < self._program.loss_tick)  # the last batch with a loss
        updated = position.number - (position.offset < self._program.ticks)
        self._awake = bool(self._finite("loss", lost, lost).all() and self._finite("max_weight", updated, updated).all())

    def sees(self, batch: int, record: BatchRecord) -> bool:
        """Return True if a computed batch should stop the run."""
        loss_is_known = batch not in self._program.config.source.unknown_losses
        finite = record.finite if loss_is_known else math.isfinite(record.max_weight)
        return self._awake and batch > self._position.number and not finite

    def place(self, tick: int) -> int | None:
        """Return the tick of the first loss or update up to `tick` that is not finite; None if all computed so far are finite."""
        if not self._awake:
            return None
        for first, last in self._timeline.blocks(self._position.number, (tick - 1) // self._program.ticks):
            losses = first + np.flatnonzero(~self._finite("loss", first, last))[:2]
            updates = first + np.flatnonzero(~self._finite("max_weight", first, last))[:2]
            places: list[int] = [batch * self._program.ticks + self._program.loss_tick for batch in losses.tolist()]
            places += [self._timeline.end_of(batch) for batch in updates.tolist()]
            if bad_places := [place for place in places if self._position.tick < place <= tick]:
                return min(bad_places)
        return None

    def _finite(self, name: str, first: int, last: int) -> NDArray[np.bool_]:
        """Return which of the losses or largest weights of the batches `first` … `last` are finite, or not known, (n).

        The largest weights of the steps of a recording are not known; where one is not finite, the norm is not finite either.
        """
        first = max(first, 0)
        if name == "max_weight" and self._timeline.memory.numbers is not None:
            finite = np.isfinite(self._timeline.column("grad_norm", first, last))
            for at in np.flatnonzero(~finite).tolist():
                finite[at] = math.isfinite(self._timeline.record(first + at).max_weight)
            return finite
        finite = np.isfinite(self._timeline.column(name, first, last))
        unknown = self._program.config.source.unknown_losses if name == "loss" else ()
        finite[[batch - first for batch in unknown if first <= batch < first + len(finite)]] = True
        return finite


_NOT_FINITE = "stopped here: the loss or a weight is not finite (NaN or infinite)"


class TroubleWatch:
    """Watches a run from `position` on for the first number that is not finite or explodes."""

    def __init__(self, timeline: Timeline, position: Position) -> None:
        self._finite, self._growth = FiniteWatch(timeline, position), GrowthWatch(timeline, position)

    def sees(self, batch: int, record: BatchRecord) -> bool:
        """Return True if a computed batch should stop the run."""
        return self._finite.sees(batch, record) or self._growth.sees(batch, record)

    def event(self, tick: int) -> StopEvent | None:
        """Return the first event up to `tick` that stops the run; None if no computed batch has one."""
        lost = self._finite.place(tick)
        grown = next(self._growth.explosions(tick if lost is None else lost - 1), None)
        if grown is not None:
            return StopEvent(grown.tick, "growth", Notice(grown.notice, warning=True))
        return None if lost is None else StopEvent(lost, "not finite", Notice(_NOT_FINITE, warning=True))
