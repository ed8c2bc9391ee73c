"""Findings about scripts whose steps were captured: how they call the module, and what their loss and optimizer do.

They read the captured steps, whose gradients and updates are those of the script. A rule is for a single step or for a recording.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tui_gru.analysis.examined import Evidence, Finding, RunFacts
from tui_gru.analysis.findings_of_training import LOOK_OUTSIDE
from tui_gru.capture.calls import CapturedStep, GRUCall, Note
from tui_gru.capture.format import EndKind
from tui_gru.debugger.history import ScalarRows
from tui_gru.debugger.program import flow_names
from tui_gru.debugger.trouble import not_finite_in
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.numbers import counted, rounded
from tui_gru.engine.source import Imported
from tui_gru.engine.weights import Float64Array, norms_over_time
from tui_gru.files.arrays import AnyArray
from tui_gru.imported.captured import (
    CapturedBatch,
    RecordedBatches,
    reads_padding,
)

# ------------------------------------------------------------------------------
# The steps that were captured, with the number of their batch. Of several ranks, the first is read: their scripts are the same.


def _steps(x: RunFacts) -> list[tuple[int, CapturedStep]]:
    return [(batch, captured.steps[0][0]) for batch, captured in x.captured]


def _calls(x: RunFacts) -> list[tuple[int, GRUCall]]:
    """Return the calls that learned."""
    return [(batch, call) for batch, captured in x.captured for call in captured.steps[0][1] if call.learned]


def _of_calls(x: RunFacts, holds: Callable[[GRUCall], bool]) -> int | None:
    """Return the first batch with a call for which something holds, if it holds in each batch that learned."""
    holds_in = dict[int, bool]()
    for batch, call in _calls(x):
        holds_in[batch] = holds_in.get(batch, False) or holds(call)
    return next(iter(holds_in)) if holds_in and all(holds_in.values()) else None


def _name(x: RunFacts) -> str:
    calls = _calls(x)
    return calls[0][1].module.name if calls else "the module"


# ------------------------------------------------------------------------------
# The end of the script.


def script_ended(x: RunFacts) -> Iterator[Finding]:
    """Find an error that ended the script. One that was stopped, by ctrl+c or a signal, has no finding."""
    batches = x.config.source.batches if isinstance(x.config.source, Imported) else ()
    recording = batches.recording if isinstance(batches, RecordedBatches) else None
    if recording is None or (end := recording.end) is None or end.kind is not EndKind.ERROR:
        return
    step = f"; step {end.step:,} has what was computed up to there" if end.step in x.config.source.steps else ""
    losses = recording.losses
    last = np.flatnonzero(np.isfinite(losses))
    yield Finding(
        "script-ended",
        end.sentence(recording.total),
        "The error ended the training. The recording has the last steps before it.",
        f"look at {end.place or 'the traceback of the script'}{step}",
        (
            *((Evidence(f"{end.place}: {end.code}"),) if end.code else ()),
            *(
                (Evidence(f"the last loss that is a number was {rounded(losses[last[-1]])}, in step {last[-1]:,}"),)
                if len(last)
                else ()
            ),
        ),
        x.end(x.count - 1),
    )


# ------------------------------------------------------------------------------
# What the loss reads of the output: rows in place of timesteps, padding, the wrong end of a backward direction.


def one_row_learns(x: RunFacts) -> Iterator[Finding]:
    """Find a gradient that reaches all timesteps of a single row of the batch, the same one in each step."""
    learned = [(batch, call, _only_row(call)) for batch, call in _calls(x)]
    rows = {row for _, _, row in learned}
    if len(rows) != 1 or None in rows:
        return
    batch, call, row = learned[0]
    assert row is not None
    T, B = call.timesteps, call.rows
    shape = f"({B}, {T}, ·)" if call.module.batch_first else f"({T}, {B}, ·)"
    steps = counted(len({of for of, _, _ in learned}), "recorded step")
    yield Finding(
        "one-row-learns",
        f"only row {row + 1} of {B} gets a gradient, at all {T} timesteps: the other rows teach nothing",
        "A loss that reads one timestep of every row gives a gradient to all rows. Where batch and time are mixed up, it reads one "
        "row at every timestep.",
        f"{call.module.name} has batch_first={call.module.batch_first}: "
        + (
            "its last timestep is output[:, -1], and its input must be (batch, time, ·)"
            if call.module.batch_first
            else "its last timestep is output[-1], and its input must be (time, batch, ·); or set batch_first=True"
        ),
        (
            Evidence(f"its output is {shape} in {x.at(batch)}, that is {counted(B, 'row')} of {counted(T, 'timestep')}"),
            Evidence(f"{B - 1} of {counted(B, 'row')} get the gradient 0 at every timestep, in {steps}"),
        ),
        x.end(batch),
    )


def _only_row(call: GRUCall) -> int | None:
    """Return the only row that gets a gradient, if it does at every timestep."""
    if call.dout is None or call.rows < 2 or call.timesteps < 2 or call.lengths is not None:
        return None
    if call.dhn is not None and call.dhn.any():
        return None
    reached = np.any(call.dout != 0, axis=2)
    rows = np.flatnonzero(reached.any(axis=0))
    return int(rows[0]) if len(rows) == 1 and reached[:, rows[0]].all() else None


def last_output_of_padded_rows(x: RunFacts) -> Iterator[Finding]:
    """Find packed rows of which only the longest get a gradient."""
    ragged = [(batch, call) for batch, call in _calls(x) if _is_ragged(call)]
    if not ragged or not all(reads_padding(call) for _, call in ragged):
        return
    batch, call = ragged[0]
    assert call.lengths is not None
    shorter = int((call.lengths < call.lengths.max()).sum())
    yield Finding(
        "last-output-is-padding",
        f"only the longest of the packed rows get a gradient: {shorter} of {call.rows} end before the last timestep, and get none",
        "After the end of a row its output is padding, 0 whatever the row was: a loss that reads output[-1] reads that.",
        "hn has the last state of each row; or output[lengths - 1, arange(rows)]",
        (Evidence(f"so it is in {counted(len({of for of, _ in ragged}), 'recorded step')} with rows of different lengths"),),
        x.end(batch),
    )


def _is_ragged(call: GRUCall) -> bool:
    return call.lengths is not None and bool((call.lengths != call.lengths.max()).any())


# ------------------------------------------------------------------------------
# The state between calls and timesteps.


def state_is_stale(x: RunFacts) -> Iterator[Finding]:
    """Find several steps that begin with one and the same last state of an earlier step, and not of the step before them.

    Where several streams take turns, each state is that of one step. A state that the call does not change says nothing: all states
    are equal that are NaN, or saturated.
    """
    ended: dict[bytes, int] = {}  # the batch that ended with a state
    began: dict[int, list[int]] = {}  # batches by the one with whose last state they begin
    calls = [(batch, call) for batch, captured in x.captured for call in captured.steps[0][1]]
    numbers = {batch: step.number for batch, step in _steps(x)}
    for batch in numbers:
        calls_of_batch = [call for of, call in calls if of == batch]
        for call in calls_of_batch:
            begins = call.h0.tobytes()
            moves = bool(np.isfinite(call.h0).all()) and begins != call.hn.tobytes()
            if call.h0_given and call.h0.any() and moves and ended.get(begins, batch) != batch:
                began.setdefault(ended[begins], []).append(batch)
        ended |= {call.hn.tobytes(): batch for call in calls_of_batch}
    stale = {
        of: [batch for batch in dict.fromkeys(batches) if numbers[of] < numbers[batch] - 1]
        for of, batches in began.items()
        if len(set(batches)) > 1
    }
    if not (of_steps := [(of, batches) for of, batches in stale.items() if batches]):
        return
    of, batches = max(of_steps, key=lambda entry: len(entry[1]))
    size = next(call.h0.size for batch, call in calls if batch == batches[0])
    yield Finding(
        "state-is-stale",
        f"{counted(len(set(began[of])), 'step')} begin with the state that {x.at(of)} ended with: it is not renewed",
        "A state that is carried on belongs to the batch that follows. A stale state has read another text.",
        "keep the new state after each step: out, h = gru(x, h); h = h.detach()",
        (
            Evidence(f"h0 of {x.at(batches[0])} is hn of {x.at(of)}, bit for bit in all {counted(size, 'entry')}"),
            Evidence(f"the last of them is {x.at(batches[-1])}"),
        ),
        x.end(batches[0]),
    )


def detached_at_every_timestep(x: RunFacts) -> Iterator[Finding]:
    """Find a loop that detaches the state at every timestep."""
    batch = _of_calls(x, _is_detached_everywhere)
    if batch is None:
        return
    T = next(call.timesteps for of, call in _calls(x) if of == batch)
    yield Finding(
        "detached-at-every-timestep",
        "the state is detached at every timestep: no gradient flows back through time",
        "Each timestep learns only from its own loss, so the model does not learn to remember anything.",
        "detach the state between batches, not between timesteps",
        (Evidence(f"in {x.at(batch)} the gradient of the state ends at each of {counted(T, 'timestep')}"),),
        x.end(batch),
    )


def _is_detached_everywhere(call: GRUCall) -> bool:
    if call.timesteps <= 3 or call.keep is None:
        return False
    return not call.keep[1:].any() if call.detached is None else len(call.detached) == call.timesteps - 1


_GROWTH = 1.2  # times a timestep
_GROWN = 30.0  # times, over all timesteps
_LEAST_TIMESTEPS = 8


def gradient_grows(x: RunFacts) -> Iterator[Finding]:
    """Find a gradient of the state that grows by a fifth a timestep on its way back, from the first captured step on, since large
    weights are a consequence of large steps as well."""
    if not x.captured:
        return
    if (fastest := _growth(x, batch := x.captured[0][0])) is None:
        return
    state, growth, timesteps = fastest
    norms = norms_over_time(x.record(batch).array(f"d{state}"))
    direction = flow_names(x.program, state).direction
    begins, ends = (norms[-1], norms[0]) if direction < 0 else (norms[0], norms[-1])
    yield Finding(
        "exploding-gradient",
        f"the gradient explodes: the norm of {x.written(f'd{state}')} grows ×{growth:.3g} a timestep"
        + ("" if math.isfinite(ends) else ", until it is not finite"),
        f"Over {counted(timesteps, 'timestep')} that is {rounded(growth**timesteps)} times. A small change early in the row "
        "changes the loss very much, so one update can move the weights far away.",
        "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0) before optimizer.step(); smaller recurrent weights",
        (
            Evidence(
                f"‖{x.written(f'd{state}')}‖ is {rounded(begins)} where the gradient enters {x.at(batch)}, "
                f"and {rounded(ends) if math.isfinite(ends) else 'not finite'} at its other end"
            ),
            Evidence(f"the norm of all gradients of {x.at(batch)} is {rounded(float(x.column('grad_norm', batch, batch)[0]))}"),
        ),
        x.end(batch),
    )


def _growth(x: RunFacts, batch: int) -> tuple[str, float, int] | None:
    """Return the state, the factor a timestep and the number of timesteps of the fastest growth in a batch, if it is too fast."""
    record = x.record(batch)
    if not record.learned:
        return None
    layers: dict[str, list[str]] = {}  # the states of a layer in one direction, h and c, hand the gradient to each other
    for state in record.compiled.states:
        layers.setdefault(state[1:], []).append(state)
    rates = [(states[0], _rate(x, record, states)) for states in layers.values()]
    growths = [(state, *rate) for state, rate in rates if rate is not None]
    best = max(growths, key=lambda growth: growth[1], default=None)
    return best if best is not None and best[1] > _GROWTH and best[1] ** best[2] > _GROWN else None


def _rate(x: RunFacts, record: BatchRecord, states: list[str]) -> tuple[float, int] | None:
    """Return the mean factor by which a timestep multiplies the gradient that it gets from the next one."""
    squares = []
    for state in states:
        names = flow_names(x.program, state)
        delta, received = (np.square(norms_over_time(record.array(name))) for name in (names.delta, names.received))
        squares.append((delta[1:], received[:-1]) if names.direction < 0 else (delta[:-1], received[1:]))
    with np.errstate(all="ignore"):
        delta, received = np.sqrt(np.sum(squares, axis=0))
        ratios = np.log(received / delta)
    ratios = ratios[np.isfinite(ratios)]
    return (float(np.exp(ratios.mean())), len(ratios)) if len(ratios) >= _LEAST_TIMESTEPS else None


# ------------------------------------------------------------------------------
# The course of the loss, with the size of the steps. The weights of a recorded step are those before its update.


_FEWEST = 16  # losses
_FEWEST_STAYING = 50  # losses
_VERY_FAR, _FAR_ABOVE, _HARDLY_BELOW, _STAYS = 10, 1.5, 0.95, 0.9  # times the first losses
_LARGE, _TINY = 0.03, 1e-4  # relative change of the weights by a step
_MOVED = 0.05  # relative change of the weights by all steps
_CUT_DOWN = 0.1  # the factor of a clip that leaves little of a gradient
_FEWEST_PAIRS = 3  # of recorded steps that follow each other


def _square(array: AnyArray) -> float:
    return float(np.square(array, dtype=np.float64).sum())


def _change(one: CapturedStep, other: CapturedStep) -> float:
    """Return ‖ΔW‖ / ‖W‖ between two steps, over all weights that both used."""
    first, second = ({call.module.name: call.weights.values for call in step.calls} for step in (one, other))
    pairs = [
        (values[name], second[part][name])
        for part, values in first.items()
        for name in values
        if part in second and name in second[part]
    ]
    with np.errstate(all="ignore"):
        change = sum(_square(new.astype(np.float64) - old) for old, new in pairs)
        size = sum(_square(old) for old, _ in pairs)
        return math.sqrt(change / size) if size > 0 and math.isfinite(change) else math.nan


def _step_change(x: RunFacts) -> float:
    """Return the median of ‖ΔW‖ / ‖W‖ a step between the captured steps, NaN if there are none; between steps that do not follow
    each other, it is at least that."""
    steps = [step for _, step in _steps(x)]
    changes = np.array([_change(one, other) / (other.number - one.number) for one, other in pairwise(steps)])
    changes = changes[np.isfinite(changes)]
    return float(np.median(changes)) if len(changes) else math.nan


def _largest_change(x: RunFacts, upto: int) -> float:
    """Return the largest ‖ΔW‖ / ‖W‖ a step between the captured steps up to one and the next, NaN if none is known."""
    pairs = [(one, other) for (_, one), (_, other) in pairwise(_steps(x)) if one.number <= upto]
    changes = [_change(one, other) / (other.number - one.number) for one, other in pairs]
    return max(filter(math.isfinite, changes), default=math.nan)


def _following(x: RunFacts) -> Iterator[tuple[int, CapturedStep, CapturedStep]]:
    """Yield the captured steps that updated the weights and are followed by a captured step: the batch, the step, the next one."""
    for (batch, one), (_, other) in pairwise(_steps(x)):
        if other.number == one.number + 1 and one.updated and one.gradients:
            yield batch, one, other


def _gradient_and_change(
    one: CapturedStep, other: CapturedStep, *, after: bool = False
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Return p.grad of a step, or of another one `after` it; the weights of the first, and the change of them until the other.

    They are of all weights that are parameters, each (n).
    """
    gradient_of = other.gradients if after else one.gradients
    gradients, weights, changes = list[Float64Array](), list[Float64Array](), list[Float64Array]()
    later = {(call.module.name, name): value for call in other.calls for name, value in call.weights.values.items()}
    for used in {id(call.weights): call.weights for call in one.calls}.values():
        for name, parameter in used.parameters.items():
            if parameter in gradient_of and (used.module.name, name) in later:
                gradients.append(gradient_of[parameter].astype(np.float64).ravel())
                weights.append(used.values[name].astype(np.float64).ravel())
                changes.append(later[used.module.name, name].astype(np.float64).ravel() - weights[-1])
    if not gradients:
        return np.empty(0), np.empty(0), np.empty(0)
    return np.concatenate(gradients), np.concatenate(weights), np.concatenate(changes)


def _cosine(one: Float64Array, other: Float64Array) -> float:
    """Return the cosine of the angle of two vectors; NaN if it is not known."""
    with np.errstate(all="ignore"):
        size = float(np.linalg.norm(one) * np.linalg.norm(other))
        cosine = float(one @ other) / size if size > 0 else math.nan
    return cosine if math.isfinite(cosine) else math.nan


def _moved(x: RunFacts) -> float:
    """Return ‖ΔW‖ / ‖W‖ from the first captured step to the last."""
    steps = [step for _, step in _steps(x)]
    return _change(steps[0], steps[-1]) if len(steps) > 1 else math.nan


def _ends(losses: ScalarRows) -> tuple[float, float]:
    """Return the mean of the first losses, and that of the last ones."""
    count = _window(losses)
    return float(losses[:count].mean()), float(losses[-count:].mean())


def _window(losses: ScalarRows) -> int:
    return max(3, len(losses) // 5)


def _noise(losses: ScalarRows) -> float:
    """Return twice the standard error of the difference of the two means of `_ends`, if the loss has no trend."""
    return 2 * float(losses.std()) * math.sqrt(2 / _window(losses))


def _finite_losses(x: RunFacts) -> tuple[NDArray[np.intp], ScalarRows]:
    """Return the steps with a finite loss, and these losses."""
    losses = x.losses_of_script if x.captured else np.empty(0)
    steps = np.flatnonzero(np.isfinite(np.ma.filled(losses, np.nan)))
    return steps, np.ma.getdata(losses)[steps]


def _has_loss(x: RunFacts, batch: int) -> bool:
    """Return True if the script has given the loss of a batch; it is NaN if it has not."""
    source = x.config.source
    read = source.batch(batch) if isinstance(source, Imported) else None
    return isinstance(read, CapturedBatch) and any(step.loss is not None for step, _ in read.steps)


def _rate_of(x: RunFacts) -> float:
    return next((step.settings["lr"] for _, step in reversed(_steps(x)) if "lr" in step.settings), math.nan)


def gradient_ascent(x: RunFacts) -> Iterator[Finding]:
    """Find an optimizer that moves the weights along p.grad, where each should move them against it.

    Momentum can lead along the gradient of a single step, and weight decay moves weights by itself: each pair of steps must show
    it, with the decay and without.
    """
    cosines = dict[int, float]()
    for batch, one, other in _following(x):
        if Note.CLOSURE in one.notes:
            return
        gradient, weights, change = _gradient_and_change(one, other)
        decay, rate = one.settings.get("weight_decay", 0.0), one.settings.get("lr", 0.0)
        both = _cosine(change, gradient + decay * weights), _cosine(change + rate * decay * weights, gradient)
        cosines[batch] = min(both) if all(map(math.isfinite, both)) else math.nan
    finite = {batch: cosine for batch, cosine in cosines.items() if math.isfinite(cosine)}
    if len(finite) < _FEWEST_PAIRS or min(finite.values()) <= 0:
        return
    batch = next(iter(finite))
    yield Finding(
        "gradient-ascent",
        "the optimizer moves the weights along the gradient, not against it: the loss rises",
        "A step against the gradient lowers the loss; one along it raises the loss.",
        "maximize=False, the default of every optimizer; to raise something on purpose, give backward() its negative",
        (
            Evidence(f"the update of {x.at(batch)} has the cosine {finite[batch]:+.2f} with p.grad; against it, it is negative"),
            Evidence(f"so have all {counted(len(finite), 'update')} between recorded steps, at least {min(finite.values()):+.2f}"),
        ),
        x.end(batch),
    )


class _Rise(NamedTuple):
    """A loss that has risen far above the first one, by `step`: the usual change by a step, and the largest so far."""

    start: float
    end: float
    rate: float
    change: float
    largest: float
    step: int
    batch: int
    evidence: tuple[Evidence, ...]


def _rise(x: RunFacts) -> _Rise | None:
    steps, losses = _finite_losses(x)
    rate = _rate_of(x)
    if len(losses) < 3 or not losses[0] > 0 or rate <= 0:
        return None
    start, end = float(losses[0]), float(np.median(losses[-max(1, len(losses) // 5) :]))
    broken = max(end, losses[-3:].max()) > _FAR_ABOVE * start and _breaks(x)
    if not (broken or end > (_FAR_ABOVE if len(losses) >= _FEWEST else _VERY_FAR) * start):
        return None
    above = int(steps[int(np.argmax(losses > _FAR_ABOVE * start))])
    batch = _batch_near(x, above)
    words = f"the loss was {rounded(start)} in step {steps[0]:,}, and above {rounded(_FAR_ABOVE * start)} in step {above:,}"
    loss_above = () if batch in x.config.source.unknown_losses else (x.loss_of(batch),)
    return _Rise(start, end, rate, _step_change(x), _largest_change(x, above), above, batch, (Evidence(words), *loss_above))


def loss_rises(x: RunFacts) -> Iterator[Finding]:
    """Find a loss that has risen far above the first one, which the steps of the module do not explain."""
    rise = _rise(x)
    if rise is None or not rise.end > _FAR_ABOVE * rise.start:
        return
    moves = (Evidence(f"‖ΔW‖ / ‖W‖ of {_name(x)} is {rounded(rise.change)} a step"),) if rise.change > 0 else ()
    yield Finding(
        "loss-rises",
        f"the loss rises: it is {rounded(rise.end)}, and was {rounded(rise.start)} at first",
        f"The recording does not decide why: up to there, no recorded step of {_name(x)} is so large that it explains it.",
        f"lr={rounded(rise.rate / 10)}, as a trial; look at the head, and whether backward() is called on the loss that is "
        "reported",
        (*rise.evidence, *moves),
        x.end(rise.batch),
        is_observation=True,
    )


def _breaks(x: RunFacts) -> bool:
    """Return True if a loss that the script had, or a number of the module, is not finite.

    The norm of the gradient does not say so: the step in which a script dies has none, and NaN stands for it.
    """
    if np.isinf(x.losses_of_script).any():
        return True
    return any(
        (not np.isfinite(x.losses[at]) and _has_loss(x, at)) or not_finite_in(x.program, at, x.record(at)) is not None
        for at in x.maybe_not_finite.tolist()
    )


def _batch_near(x: RunFacts, step: int) -> int:
    """Return the last batch up to a step, or the first one."""
    steps = x.config.source.steps
    return max(int(np.searchsorted(steps, step, side="right")) - 1, 0) if steps else 0


def loss_not_finite(x: RunFacts) -> Iterator[Finding]:
    """Find a loss that is not finite, of a step in which every number of the module is."""
    broken = np.flatnonzero(~np.isfinite(x.losses)).tolist() if x.captured and x.program.knows_loss else []
    outside = (at for at in broken if _has_loss(x, at) and not_finite_in(x.program, at, x.record(at)) is None)
    batch = next(outside, None)
    if batch is None:
        return
    yield Finding(
        "loss-not-finite",
        f"the loss of {x.at(batch)} is {float(x.losses[batch])}, although every number of {_name(x)} is finite",
        "The module is not the cause: head and loss computed it from finite outputs.",
        LOOK_OUTSIDE,
        (x.loss_of(batch),),
        x.end(batch),
    )


class _TinySteps(NamedTuple):
    """A loss that is flat for the whole recording, by steps that hardly change the weights."""

    losses: int
    start: float
    end: float
    change: float
    rate: float
    norm: float

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        return (
            Evidence(f"‖ΔW‖ / ‖W‖ is {rounded(self.change)} a step"),
            Evidence(f"the first losses are {rounded(self.start)} on average, the last ones {rounded(self.end)}"),
            Evidence(f"the norm of p.grad is at most {rounded(self.norm)}"),
        )


def _tiny_steps(x: RunFacts) -> _TinySteps | None:
    _, losses = _finite_losses(x)
    change, rate = _step_change(x), _rate_of(x)
    if len(losses) < _FEWEST or not losses[0] > 0 or not change < _TINY:
        return None
    start, end = _ends(losses)
    norm = float(np.nanmax(x.column("grad_norm"), initial=0))
    if not _HARDLY_BELOW * start - _noise(losses) < end < _FAR_ABOVE * start or not norm > 0:
        return None
    return _TinySteps(len(losses), start, end, change, rate, norm)


_ROUNDED = {"bfloat16": (16, 1 / 256), "float16": (13, 1 / 2048)}  # bits of a float32 that it has not; its relative precision


def weights_are_rounded(x: RunFacts) -> Iterator[Finding]:
    """Find weights that are numbers of half precision after every update, where steps are too small for it."""
    tiny, steps = _tiny_steps(x), _steps(x)
    if tiny is None or len(steps) < 2:
        return
    values = [value.ravel() for _, step in steps for call in step.calls for value in call.weights.values.values()]
    if not values or any(value.dtype != np.float32 for value in values):
        return
    bits = np.concatenate(values).view(np.uint32)
    half = next((name for name, (lost, _) in _ROUNDED.items() if not (bits & ((1 << lost) - 1)).any()), None)
    if half is None:
        return
    yield Finding(
        "weights-are-rounded",
        f"the weights of {_name(x)} are rounded to {half}: a step that is smaller than their last digit is lost",
        f"Two neighbours in {half} differ by about 1/{round(1 / _ROUNDED[half][1])} of the number. An update by less than half of "
        "that leaves the weight as it was, however many there are.",
        "keep the weights in float32, and compute in half precision with torch.autocast",
        (Evidence(f"every weight in {counted(len(steps), 'recorded step')} is a number of {half}"), *tiny.evidence),
        x.end(0),
    )


def mostly_clipped(x: RunFacts) -> Iterator[Finding]:
    """Find a clip that leaves so little of the gradient that the steps hardly change the weights.

    Adam and its like divide by the size of the gradient, so that a common factor changes nothing.
    """
    tiny = _tiny_steps(x)
    if tiny is None or tiny.change == 0 or _divides_by_size(x):
        return
    factors = {batch: factor for batch, captured in x.captured if (factor := _factor_of(x, batch, captured)) is not None}
    if (
        not factors
        or max(factors.values()) > _CUT_DOWN
        or any(math.log2(clipped_to).is_integer() for clipped_to in factors.values())
    ):
        return  # a power of 2 is the scale of a GradScaler, which it takes back
    batch = max(factors, key=factors.__getitem__)
    yield Finding(
        "mostly-clipped",
        f"the gradient is clipped to {rounded(factors[batch])} of itself or less: the steps hardly change the weights",
        "A clip takes the length of a gradient that is longer than its limit. A limit that is far below the usual norm makes every "
        "step tiny.",
        "a larger limit: torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)",
        (
            Evidence(f"p.grad of {x.at(batch)} is {rounded(factors[batch])} times the derived gradient, one common factor"),
            *tiny.evidence,
        ),
        x.end(batch),
    )


def _divides_by_size(x: RunFacts) -> bool:
    """Return True for Adam and other rules that divide the gradient by its own size."""
    settings = next((step.settings for _, step in _steps(x) if step.settings), {})
    return "betas_1" in settings or "alpha" in settings or "rho" in settings


def _factor_of(x: RunFacts, batch: int, captured: CapturedBatch) -> float | None:
    """Return the common factor of p.grad and the derived gradient; None if there is none."""
    record = x.record(batch)
    if captured.recorded is None or not record.learned:
        return None
    recorded, derived = captured.recorded.flat.astype(np.float64), record.own_gradients.flat.astype(np.float64)
    finite = np.isfinite(recorded) & np.isfinite(derived)
    recorded, derived = recorded[finite], derived[finite]
    size = float(derived @ derived)
    if not size > 0:
        return None
    factor = float(recorded @ derived) / size
    off = float(np.abs(recorded - factor * derived).max(initial=0)), float(np.abs(recorded).max(initial=0))
    return factor if factor > 0 and captured.tolerance is not None and off[0] <= captured.tolerance * off[1] else None


def steps_are_tiny(x: RunFacts) -> Iterator[Finding]:
    """Find a loss that is flat for the whole recording, by steps that hardly change the weights, for whichever reason."""
    tiny = _tiny_steps(x)
    if tiny is None or not tiny.change:
        return  # where nothing moves, it is not in the optimizer, or a GradScaler skips
    yield Finding(
        "steps-are-tiny",
        f"a step changes the weights of {_name(x)} by {rounded(tiny.change)} of their size, and in {counted(tiny.losses, 'step')} "
        "the loss has not fallen",
        "A step is the learning rate times the gradient. The recording does not decide which of the two is too small.",
        f"lr={rounded(100 * tiny.rate)}, as a trial; look for what makes the gradient small between the module and the loss, such "
        "as a sigmoid or softmax that the loss applies itself",
        (Evidence(f"the learning rate is {rounded(tiny.rate)}"), *tiny.evidence),
        x.end(0),
        is_observation=True,
    )


_LEAST_OF_RATE, _MOST_OF_RATE = 0.05, 3.0  # by which a step of Adam moves a weight, root mean square, times its lr


def _is_staying(x: RunFacts) -> tuple[ScalarRows, float] | None:
    """Return the losses, and how far the weights, which were fresh, have moved, if the last losses are near the first ones."""
    _, losses = _finite_losses(x)
    moved = _moved(x)
    if len(losses) < _FEWEST_STAYING or not losses[0] > 0 or not moved > _MOVED or not _is_fresh(_steps(x)[0][1]):
        return None
    start, end = _ends(losses)
    return (losses, moved) if _STAYS * start < end < _FAR_ABOVE * start else None


_VANISHED = 1e-3  # of the gradient that enters a row at its end


def gradient_vanishes(x: RunFacts) -> Iterator[Finding]:
    """Find a gradient that enters at the end of long rows and hardly reaches their beginning, where the loss stays as it was."""
    if _is_staying(x) is None:
        return
    batch, captured = x.captured[-1]
    record, upstream = x.record(batch), captured.upstream
    if not record.learned:
        return
    # A gradient that enters at every timestep reaches the early ones directly.
    if upstream is not None and np.any(upstream != 0, axis=(1, 2))[:-1].any():
        return
    reaches = list[tuple[str, Float64Array]]()
    for state, declared in x.program.model.page.states.items():
        norms = np.array(norms_over_time(record.array(f"d{state}")))
        if declared.backwards or not np.isfinite(norms).all() or not norms.max() > 0:
            return
        reaches.append((state, norms))
    state, norms = max(reaches, key=lambda reach: float(reach[1][0] / reach[1].max()))
    share, T = float(norms[0] / norms.max()), x.program.seq_length
    if T < _LEAST_TIMESTEPS or share >= _VANISHED:
        return
    yield Finding(
        "vanishing-gradient",
        f"the gradient vanishes on its way back: of that at the end of a row, {rounded(share)} arrives at its beginning",
        f"The loss reads the end of rows of {counted(T, 'timestep')}. What was read at their beginning hardly changes the weights, "
        "so the model cannot learn to remember it.",
        "shorter rows, at first; nn.LSTM with a bias of the forget gate of 1 or more, or nn.GRU with a bias of z above 0; a loss "
        "at more timesteps",
        (
            Evidence(
                f"‖{x.written(f'd{state}')}‖ is {rounded(float(norms.max()))} where it is largest in {x.at(batch)}, and "
                f"{rounded(float(norms[0]))} at t 1"
            ),
        ),
        x.end(batch),
        is_observation=True,
    )


def _is_fresh(step: CapturedStep) -> bool:
    """Return True if the weights of a first step are as torch draws them: uniform, at most 1 / √H."""
    sets = [(call.weights.values, 1 / math.sqrt(call.module.hidden_size)) for call in step.calls]
    return step.number == 0 and all(np.abs(value).max(initial=0) <= 1.001 * most for used, most in sets for value in used.values())
