"""Computation of one batch of a compiled model: forward pass, backward pass and update, or the rest of a batch from a given
point."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tui_gru.engine.compiling.compiled import Compiled
from tui_gru.engine.compiling.operations import ELEMENTWISE, Operation, Slot
from tui_gru.engine.compiling.update import KeepNumber
from tui_gru.engine.running.batch import BatchRecord
from tui_gru.engine.running.weights import Array

RuleSettings = Mapping[str, float]  # settings of the update rule: learning_rate, beta1 …; never changed in place


@dataclass(frozen=True)
class Earlier:
    """The earlier batches of an epoch that the gradient continues into (carry `notebook`), latest first.

    `scratch` receives their deltas, because the records keep the deltas of their own losses.
    """

    records: Sequence[BatchRecord] = ()
    scratch: BatchRecord | None = None


NO_EARLIER = Earlier()


@dataclass(frozen=True)
class Point:
    """A point in the computation of a batch.

    `phase` is forward, backward or update; `segment` and `step` are the segment of the phase and the step of the segment (0-based);
    `done` is the number of lines executed in this step. The update has one segment with one step. `parts` has the labelled parts
    that have been computed as well.
    """

    phase: str
    segment: int = 0
    step: int = 0
    done: int = 0
    parts: frozenset[str] = field(default=frozenset())


def compute(record: BatchRecord, settings: RuleSettings | None, *, learn: bool, earlier: Earlier = NO_EARLIER) -> None:
    """Compute a batch whose inputs, first states and `before` are set.

    A model without a loss also needs the gradients from outside to be set: those of its outputs (`dh_given`, named after
    `Page.outputs`), and in `flows_in` those of the last states. Without `settings` the weights are not updated.
    """
    _forward(record)
    if learn:
        _backward(record, earlier)
    _finish(record, settings, learn)


def compute_from(
    record: BatchRecord, at: Point, settings: RuleSettings | None, *, learn: bool, earlier: Earlier = NO_EARLIER
) -> None:
    """Compute the rest of a batch from `at`, with the weights in `before`. Everything before `at` is unchanged.

    The passes run completely, with the same calls on the same shapes, so that they give the same bits; every value from before `at`
    is then restored.
    """
    keep: KeepNumber | None = None
    if at.phase == "forward":
        _go_on(record, at)
        if learn:
            _backward(record, earlier)
    elif learn and not record.learned:
        _backward(record, earlier)
    elif learn and at.phase == "backward":
        _go_on(record, at)
        _run_into_earlier(record, earlier)
    elif learn:
        keep = _executed_updates(record, at.done)
    _finish(record, settings, learn, keep)


def _forward(record: BatchRecord) -> None:
    compiled = record.compiled
    record.cut("forward")
    compiled.cut(record.before, "forward")
    compiled.functions["forward"].run(record, record.before, None)


def _backward(record: BatchRecord, earlier: Earlier) -> None:
    compiled = record.compiled
    record.cut("backward")
    compiled.cut(record.before, "backward")
    compiled.cut(record.own_gradients, "backward", "G")
    for flow in record.flows_in if compiled.model.structure.loss else ():  # without a loss they are set from outside
        flow.fill(0)
    compiled.functions["backward"].run(record, record.before, record.own_gradients)
    _run_into_earlier(record, earlier)


def _finish(record: BatchRecord, settings: RuleSettings | None, learn: bool, keep: KeepNumber | None = None) -> None:
    """Compute the update and the scalars of the batch."""
    record.learned, record.settings, record.own_results = learn, settings or {}, None
    if record.loss_array is not None:
        record.loss = float(record.loss_array)
    record.grad_norm, record.numbers = math.nan, {}
    if learn:
        gradient = record.own_gradients.flat
        if settings is None:
            record.own_after.flat[...], record.own_after.updates = record.before.flat, record.before.updates
        else:
            update = record.compiled.update
            record.numbers = update.run(record.before, record.own_after, record.of_update, settings, keep)
        norm = record.numbers.get("grad_norm")
        record.grad_norm = math.sqrt(float(gradient.dot(gradient))) if norm is None else norm
    weights = record.after.parameters
    # Both argmax and argmin find the first NaN. On a small model they take a fifth of the time of max and min.
    record.max_weight = max(float(weights[weights.argmax()]), -float(weights[weights.argmin()]))


def flow_out_of(record: BatchRecord, state: str) -> Array:
    """Return the gradient of a state that a batch passes to the batch before it, (B, ·), as a view."""
    page = record.compiled.model.page
    found: Array = record.array(f"d{page.before(state)}")[-1 if page.states[state].backwards else 0]
    return found


def flows_out_of(record: BatchRecord) -> list[Array]:
    """Return copies of the gradients of all states that a batch passes to the batch before it, each (B, ·)."""
    return [flow_out_of(record, state).copy() for state in record.compiled.states]


# Into earlier batches


def _run_into_earlier(record: BatchRecord, earlier: Earlier) -> None:
    if earlier.records:
        for gain in gains_of_earlier(record, flows_out_of(record), earlier):
            record.own_gradients.flat += gain


def gains_of_earlier(record: BatchRecord, flows: Sequence[Array], earlier: Earlier) -> Iterator[Array]:
    """Yield the contribution of each earlier batch to the gradients, (P). Every batch yields the same array; its deltas are in
    `earlier.scratch`.

    `flows` has, for each state, the gradient that enters the latest of these batches, (B, ·). The pass uses the recorded values of
    each batch and the current weights. The losses of these batches are not differentiated again.
    """
    if not earlier.records:
        return
    compiled, scratch = record.compiled, earlier.scratch
    assert scratch is not None
    compiled.cut(record.before, "earlier")
    gain = scratch.own_gradients
    compiled.cut(gain, "earlier", "G")
    gain.flat[...] = 0
    for before in earlier.records:
        for into, flow in zip(scratch.flows_in, flows, strict=True):
            into[...] = flow
        compiled.function("earlier").run(before.beside(scratch), record.before, gain)
        yield gain.flat
        flows = flows_out_of(scratch)


# From the middle of a batch


def _go_on(record: BatchRecord, at: Point) -> None:
    """Compute the rest of a pass from a point in it."""
    compiled, phase = record.compiled, record.compiled.schedule.phases[at.phase]
    name = f"{at.phase}_on"
    function = compiled.function(name)
    record.cut(name)
    compiled.cut(record.before, name)
    compiled.cut(record.own_gradients, name, "G")
    T = compiled.sizes["T"]
    starts: dict[int, int] = {}  # by loop: the number of complete steps
    kept: dict[Slot, tuple[Array, Array]] = {}
    for operation in phase.operations:
        segment = phase.place(operation.line)[0]
        if operation.loop >= 0:
            starts[operation.loop] = T if segment < at.segment else at.step if segment == at.segment else 0
        slot = operation.memory
        if operation.timed and slot.whole and slot not in kept:
            part = record.slot(slot, operation.half)
            way = phase.ways.get(operation.loop) or phase.segments[segment].way
            done = _executed(record, at, slot)
            part = part[:done] if way > 0 else part[T - done :]
            kept[slot] = part, part.copy()
        elif not operation.timed and slot.kind == "record" and slot not in kept and _executed(record, at, slot):
            array = record.slot(slot)
            kept[slot] = array, array.copy()

    softmaxes = {operation.log_of for operation in phase.operations} - {None}
    by_hand: dict[Operation, NDArray[np.bool_]] = {}  # entries of a softmax that differ from the computed ones

    def keep(number: int) -> None:
        operation = phase.operations[number]
        array = record.slot(operation.memory, operation.half)
        if operation.log_of in by_hand:  # log(softmax) is computed from the argument of the softmax, not from the edited softmax
            where = by_hand[operation.log_of]
            array[where] = np.log(record.array(operation.log_of.name)[where])
        if operation.memory in kept:
            part, value = kept[operation.memory]
            computed = array.copy() if operation in softmaxes else array
            part[...] = value
            if operation in softmaxes:
                by_hand[operation] = array != computed

    order = list(dict.fromkeys(operation.loop for operation in phase.operations if operation.loop >= 0))
    function.run(record, record.before, record.own_gradients, [starts[loop] for loop in order], keep)


def _executed(record: BatchRecord, at: Point, slot: Slot) -> int:
    """Return the number of timesteps whose value in a slot is computed at `at`; 0 or 1 for a value computed once."""
    segment, line = record.compiled.schedule.phases[at.phase].place(slot.line)
    if segment != at.segment:
        return record.compiled.sizes["T"] if segment < at.segment else 0
    return at.step + (line < at.done or slot.name in at.parts)


def _executed_updates(record: BatchRecord, done: int) -> KeepNumber:
    """Return a callback that restores the result of each executed line of the update rule, for the parameters it was executed
    for."""
    compiled = record.compiled
    rule, layout = compiled.model.rule, compiled.layout
    executed = rule.lines_of(layout.names)[:done]
    targets = {line.target for line in executed}
    numbers, vectors = dict(record.numbers), {}
    for number, line in enumerate(rule.lines):
        pieces = []
        for name in layout.names if rule.is_vector(line.target) else ():
            if rule.name_for(line.target, name) in targets:
                flat = record.update_vector(line.target)
                at, shape = layout.places[name]
                pieces.append((flat[at : at + math.prod(shape)], flat[at : at + math.prod(shape)].copy()))
        vectors[number] = pieces

    def keep(number: int, value: float = math.nan) -> float:
        for part, before in vectors[number]:
            part[...] = before
        target = rule.lines[number].target
        return numbers[target] if target in targets and target in numbers else value

    return keep


def gradients_so_far(record: BatchRecord, at: Point, names: Sequence[str] | None = None) -> dict[str, Array]:
    """Return the gradients of all parameters, or of those in `names`, at a point in the backward pass, each in the shape of its
    parameter. Each is one product over the timesteps whose deltas are computed.

    At the end of the pass they equal, bit for bit, the gradients that the update uses, without those that carry `notebook` adds
    from earlier batches. A sum of the contributions of single timesteps would differ by about 5e-7 relative in float32.
    """
    phase, T = record.compiled.schedule.phases["backward"], record.compiled.sizes["T"]
    values: dict[Operation, Array] = {}

    def part(operation: Operation, line: int) -> Array:
        """Return the timesteps of a value for which a line has been executed, (·, B, ·)."""
        array = record.slot(operation.memory, operation.half)
        segment, k = phase.place(line)
        done = (
            T
            if segment < at.segment or not phase.segments[segment].way
            else at.step + (k < at.done)
            if segment == at.segment
            else 0
        )
        return array[:done] if phase.segments[segment].way > 0 else array[T - done :]

    def value(operation: Operation, line: int) -> Array:
        if operation.timed:
            return part(operation, line)
        if operation.kind == "constant":
            return np.asarray(operation.number, record.compiled.dtype)
        if operation.phase != "backward" and operation.memory.kind == "parameter":
            return record.before[operation.memory.name]
        if operation.phase != "backward":
            return record.slot(operation.memory, operation.half)
        if operation not in values:  # a path of a parameter that is read twice; the record has its sum over all timesteps
            values[operation] = _once(operation, [value(arg, operation.line) for arg in operation.args], record.compiled)
        return values[operation]

    named = record.compiled.schedule.named
    targets = [(name, named[f"d{name}"]) for name in names or record.before.names]
    with np.errstate(all="ignore"):  # NaN and infinities are shown like other numbers
        return {name: value(operation, operation.line) for name, operation in targets}


def _once(operation: Operation, args: Sequence[Array], compiled: Compiled) -> Array:
    """Return the value of an operation that runs once for all timesteps, computed with the calls of the compiled code."""
    x, found = args[0], args[0]
    match operation.kind:
        case "outer":
            found = np.dot(x.reshape(-1, x.shape[-1]).T, args[1].reshape(-1, args[1].shape[-1]))
        case "rows":
            rows = x.reshape(-1, *x.shape[2:])
            found = np.dot(np.ones(len(rows), rows.dtype), rows)
        case "dot" | "dot-turned":
            found = np.dot(x, args[1].T if operation.kind == "dot-turned" else args[1])
        case "sum":
            axes = operation.args[0].axes
            found = np.add.reduce(x, axes.index(operation.over) - len(axes))
        case "turn":
            found = x.T
        case "copy":
            found = np.broadcast_to(x, compiled.shape(operation.axes))
        case kind:
            found = getattr(np, ELEMENTWISE[kind])(*args)
    return found
