"""The reading of other people's numbers: proved by a known output, or tried for the mistake in a port.

Every reading is evaluated one step at a time: a timestep starts from the state that the output records, so that rounding errors do
not grow, and a chaotic model can be judged. What is not recorded runs from its first state to its end: the layers below the last
one, and the cell of an LSTM, whose forget gate makes errors smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import product
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from tui_gru.engine.model import Structure, model_of
from tui_gru.engine.numbers import scientific, significant
from tui_gru.engine.source import Imported
from tui_gru.engine.weights import NUMPY_SETTINGS, Array
from tui_gru.equations.page import LIVE
from tui_gru.errors import ModelFileError
from tui_gru.files.arrays import AnyArray, FoundGRU, precision_of
from tui_gru.files.kinds import KINDS, Blocks, Cell, CellKind, Convention, States, canonical, cell_step, gates_of_gru
from tui_gru.imported.numbers import LayerInputs
from tui_gru.imported.recompute import cell_in

# ------------------------------------------------------------------------------
# Evaluation of a reading on an input and its output.


Pair = tuple[Array, Array]

#: The ways to use the two biases of a gate: the bias added to x W, and the bias added to h_prev U.
BIASES: Mapping[str, Callable[[Array, Array], Pair]] = {
    "": lambda b, b_h: (b, b_h),
    "first": lambda b, b_h: (b, 0 * b_h),
    "second": lambda b, b_h: (0 * b, b_h),
    "twice": lambda b, b_h: (2 * b, 2 * b_h),
    "merged": lambda b, b_h: (b + b_h, 0 * b_h),
}


@dataclass(frozen=True)
class Reading:
    """One way to compute with stored numbers: a convention, and keys of `BIASES` for the gates and for the candidate of a GRU."""

    convention: Convention
    gates: str = ""
    candidate: str = ""


@dataclass(frozen=True)
class Tried:
    """A reading and its largest difference from the output."""

    reading: Reading
    error: float

    @property
    def convention(self) -> Convention:
        return self.reading.convention


@dataclass(frozen=True, eq=False)
class Recorded:
    """An input x (T, B, I) and its output y, by direction (T, B, H), as float64.

    `starts` are the first states, (B, H), by layer, direction and state. `live` (T, B) is True at the timesteps of each row. The
    first timesteps are compared only if `known_start`; what follows the end of a row only if `to_the_end`, with 0.
    """

    x: AnyArray
    y: tuple[AnyArray, ...]
    starts: tuple[tuple[States, ...], ...]
    live: NDArray[np.bool_]
    known_start: bool = True
    to_the_end: bool = False

    def sample(self, rows: int, timesteps: int | None = None) -> Recorded:
        """Return the shortest and the longest rows, at most `rows`, and the first timesteps."""
        B = self.x.shape[1]
        order = np.argsort(self.live.sum(axis=0), kind="stable")
        chosen = np.arange(B) if rows >= B else order[[*range(rows // 2), *range(B - rows + rows // 2, B)]]
        starts = tuple(tuple(tuple(s[chosen] for s in states) for states in layer) for layer in self.starts)
        y = tuple(y[:timesteps, chosen] for y in self.y)
        return replace(self, x=self.x[:timesteps, chosen], y=y, starts=starts, live=self.live[:timesteps, chosen])


class ConventionTrial:
    """The stored numbers of a stack of cells, and a recorded input and output. `blocks` are by layer and direction."""

    def __init__(self, blocks: Sequence[Sequence[Blocks]], directions: Sequence[str], recorded: Recorded) -> None:
        self.blocks, self.directions, self.recorded = blocks, directions, recorded

    def shortened(self, rows: int, timesteps: int) -> Recorded:
        """Return a part of what is recorded, on which many readings are tried. A backward direction needs all timesteps."""
        return self.recorded.sample(rows, None if "reverse" in self.directions else timesteps)

    def error(self, reading: Reading, recorded: Recorded | None = None) -> float:
        """Return the largest difference of an output, computed one step at a time; infinite if it is not finite."""
        data, worst = recorded or self.recorded, 0.0
        for (h, first), y in zip(self.outputs(reading, data)[1], data.y, strict=True):
            later = data.live & ~first
            compared = later if not data.known_start and later.any() else data.live
            if data.to_the_end:
                h, compared = np.where(data.live[..., None], h, 0), compared | ~data.live
            worst = max(worst, float(np.nan_to_num(np.abs(h - y)[compared], nan=np.inf).max(initial=0.0)))
        return worst

    def outputs(self, reading: Reading, recorded: Recorded) -> tuple[AnyArray, list[tuple[AnyArray, AnyArray]]]:
        """Return what the last layer reads (T, B, ·); and, by direction, its outputs (T, B, H), one step at a time, with the
        timesteps at which a row begins (T, B)."""
        data, convention = recorded, reading.convention
        *lower, last = [[canonical(_with_biases(b, reading), convention) for b in layer] for layer in self.blocks]
        x = data.x
        for cells, starts in zip(lower, data.starts, strict=False):
            ways = zip(cells, self.directions, starts, strict=True)
            x = np.concatenate([_run(x, start, cell, direction, data.live, convention) for cell, direction, start in ways], axis=2)
        of_last = zip(last, self.directions, data.starts[-1], data.y, strict=True)
        return x, [one_step_at_a_time(x, y, start, cell, direction, data.live, convention) for cell, direction, start, y in of_last]

    def ranked(self, readings: Iterable[Reading], recorded: Recorded | None = None) -> list[Tried]:
        """Return the readings with their errors, the best first."""
        return sorted((Tried(reading, self.error(reading, recorded)) for reading in readings), key=lambda result: result.error)

    def best(self, conventions: Iterable[Convention], present: Convention) -> tuple[Tried, ...]:
        """Return all readings with their errors: first the best ones and the `present` one, tried on everything, the best first;
        then the others, tried on a part."""
        with np.errstate(all="ignore"):  # a wrong reading may overflow
            screened = self.ranked(map(Reading, conventions), self.shortened(*SCREENED))
            best = dict.fromkeys([*(result.reading for result in screened[:FINALISTS]), Reading(present)])
            return *self.ranked(best), *(result for result in screened if result.reading not in best)


def _with_biases(blocks: Blocks, reading: Reading) -> Blocks:
    if not reading.gates and not reading.candidate:
        return blocks
    kind = KINDS[reading.convention.kind]
    ways = [reading.candidate if kind.candidate == gate else reading.gates for gate in reading.convention.order]
    b, b_h = zip(*(BIASES[choice](b, b_h) for choice, b, b_h in zip(ways, blocks.b, blocks.b_h, strict=True)), strict=True)
    return replace(blocks, b=np.stack(b), b_h=np.stack(b_h))


def one_step_at_a_time(
    x: AnyArray, y: AnyArray, start: States, cell: Cell, direction: str, live: AnyArray, convention: Convention
) -> tuple[AnyArray, AnyArray]:
    """Return the outputs (T, B, H), each computed from the output recorded before it, and the timesteps that begin at `start`
    (T, B)."""
    previous, first = recorded_states_before(y, start[0], direction, live)
    if len(start) == 1:
        T, B, H = y.shape
        (h,) = cell_step(x.reshape(T * B, -1), (previous.reshape(T * B, H),), cell, convention)
        return h.reshape(y.shape), first
    out, memory = np.empty_like(y), start[1:]
    for t in range(len(x)) if direction == "forward" else reversed(range(len(x))):
        out[t], *after = cell_step(x[t], (previous[t], *memory), cell, convention)
        memory = tuple(np.where(live[t, :, None], new, old) for new, old in zip(after, memory, strict=True))
    return out, first


def _run(x: AnyArray, states: States, cell: Cell, direction: str, live: AnyArray, convention: Convention) -> AnyArray:
    """Return the outputs of all steps, each computed from the state before it, (T, B, H). After the end of a row, the output is 0
    and the state is unchanged."""
    out = np.zeros((*x.shape[:2], states[0].shape[1]))
    for t in range(len(x)) if direction == "forward" else reversed(range(len(x))):
        live_rows, new = live[t, :, None], cell_step(x[t], states, cell, convention)
        states = tuple(np.where(live_rows, after, before) for after, before in zip(new, states, strict=True))
        out[t] = np.where(live_rows, new[0], 0)
    return out


def recorded_states_before(y: AnyArray, h0: AnyArray, direction: str, live: AnyArray) -> tuple[AnyArray, NDArray[np.bool_]]:
    """Return the recorded state before each step (T, B, H), and the steps at which that is h0 (T, B)."""
    previous, first = np.empty_like(y), np.zeros(y.shape[:2], bool)
    if direction == "forward":
        previous[0], previous[1:] = h0, y[:-1]
        first[0] = True
    else:
        previous[-1], previous[:-1] = h0, y[1:]
        first[-1], first[:-1] = True, ~live[1:]
        previous[first] = np.broadcast_to(h0, y.shape)[first]
    return previous, first


# ------------------------------------------------------------------------------
# Proof of a convention: the reading of the numbers that computes a given output from its input.


#: The largest difference allowed for the right reading: of outputs in float32, in half precision, or of stacked layers. Of large
#: weights, rounding in float32 alone gives more.
TOLERANCE, HALF_TOLERANCE, STACK_TOLERANCE = 1e-5, 1e-2, 1e-3
MARGIN = 4  # how many times worse the next best reading must be
#: Of a reading that gives the output, but not to rounding: the largest difference, and how many times worse the next best must be.
NEAR, NEAR_MARGIN = 1e-2, 20
ROUNDINGS = 4  # random draws that show how far other roundings can differ
SCREENED = 2, 8  # rows and timesteps on which every reading is tried; the best readings are then tried on all
FINALISTS = 4


class ProofResult(StrEnum):
    EQUAL = "equal to rounding"
    NEAR = "this convention, but not to rounding"
    SEVERAL = "several readings give the output"
    NONE = "no reading gives the output"


@dataclass(frozen=True)
class Proof:
    """The readings, best first. `layers` are read in the proved one, or unchanged if none or several give the output."""

    layers: FoundGRU
    readings: tuple[Tried, ...]
    result: ProofResult
    message: str

    @property
    def decided(self) -> bool:
        return self.result in (ProofResult.EQUAL, ProofResult.NEAR)


def prove(layers: FoundGRU, numbers: LayerInputs, options: Mapping[str, str] = MappingProxyType({})) -> Proof:
    """Try every way to read the numbers of a file on inputs and their expected output; those with these `options`.

    Raises `ModelFileError` if the output is not finite, or there is none.
    """
    recorded = _recorded(layers, numbers)
    trial = ConventionTrial([[_wide(cell) for cell in layer] for layer in layers.blocks()], layers.directions, recorded)
    conventions = [c for c in layers.cell_kind.conventions if all(getattr(c, name) == value for name, value in options.items())]
    readings = trial.best(conventions, layers.convention)
    largest = max(1.0, *(float(np.abs(y[recorded.live]).max()) for y in recorded.y))
    return _proof(layers, readings, largest * max(_tolerance(layers, numbers.y), _rounding(trial)), largest * NEAR)


def _rounding(trial: ConventionTrial) -> float:
    """Return the difference that rounding in float32 explains in one step of the last layer, whose states are recorded.

    A gate sums up products. Each rounding is at most half an ε of the sum of their sizes, and the signs are independent.
    """
    largest, recorded = 0.0, trial.recorded
    for cell, y in zip(trial.blocks[-1], recorded.y, strict=True):
        states = np.abs(np.where(recorded.live[..., None], y, 0)).max(axis=(0, 1))
        reads, units = cell.W.shape[1:]
        # In a stack, the last layer reads states of the layer below, which are not recorded; they are at most 1.
        inputs = np.abs(recorded.x).max(axis=(0, 1), initial=0.0) if recorded.x.shape[2] == reads else np.ones(reads)
        sizes = inputs @ np.abs(cell.W) + states @ np.abs(cell.U) + np.abs(cell.b) + np.abs(cell.b_h)
        largest = max(largest, float(np.finfo(np.float32).eps / 2 * np.sqrt(reads + units + 2) * sizes.max()))
    return largest


def _wide(blocks: Blocks) -> Blocks:
    return Blocks(*(part.astype(np.float64) for part in (blocks.W, blocks.U, blocks.b, blocks.b_h)))


def _recorded(layers: FoundGRU, numbers: LayerInputs) -> Recorded:
    assert numbers.y is not None
    D, x = len(layers.directions), numbers.x if numbers.table is None else numbers.table[numbers.x]
    T, B = x.shape[:2]
    lengths = np.full(B, T) if numbers.lengths is None else numbers.lengths
    live = np.arange(T)[:, None] < lengths
    outs = tuple(np.asarray(part, np.float64) for part in np.split(numbers.y, D, axis=2))
    if not live.any() or not all(np.isfinite(out[live]).all() for out in outs):
        raise ModelFileError("the output is not finite everywhere, or has no step; give one that is")
    starts = _starts(numbers.states, layers.layers, D, len(layers.cell_kind.states))
    return Recorded(np.asarray(x, np.float64), outs, starts, live, numbers.given_h0)


def _starts(states: AnyArray, layers: int, directions: int, count: int) -> tuple[tuple[States, ...], ...]:
    """Return states (layers · directions · states, B, H) by layer, direction and state."""
    array = np.asarray(states, np.float64).reshape(layers, directions, count, *states.shape[-2:])
    return tuple(tuple(tuple(of_direction) for of_direction in layer) for layer in array)


def _tolerance(layers: FoundGRU, y: AnyArray | None) -> float:
    assert y is not None
    half = "16" in layers.dtype or "16" in precision_of(y)
    return HALF_TOLERANCE if half else TOLERANCE if layers.layers == 1 else STACK_TOLERANCE


def judged(readings: Sequence[Tried], tolerance: float, near: float) -> tuple[ProofResult, list[Tried]]:
    """Return the result for readings, best first, and those that fit. `near` is the largest difference of a reading that gives the
    output, but not to rounding."""
    best, *others = readings
    following = others[0].error if others else np.inf  # there is a single one if all options are given
    if best.error > tolerance:
        is_near = best.error <= near and following >= NEAR_MARGIN * best.error
        return (ProofResult.NEAR, [best]) if is_near else (ProofResult.NONE, [])
    fitting = [candidate for candidate in readings if candidate.error <= max(tolerance, MARGIN * best.error)]
    return ProofResult.SEVERAL if len(fitting) > 1 else ProofResult.EQUAL, fitting


def _proof(layers: FoundGRU, readings: tuple[Tried, ...], tolerance: float, near: float) -> Proof:
    best, following = (*readings, Tried(readings[0].reading, np.inf))[:2]
    result, fitting = judged(readings, tolerance, near)
    off = f"off by {scientific(best.error)}, the next best by {scientific(following.error)}"
    if result is ProofResult.NONE:
        message = (
            f"no reading gives this output: the best, {best.convention}, is off by {scientific(best.error)}; "
            f"check that x and y are of {layers.name}, timesteps first, and that h0 is given"
        )
        return Proof(layers, readings, result, message)
    if result is ProofResult.SEVERAL:
        message = (
            f"{len(fitting)} readings give this output to {significant(tolerance)}, among them {best.convention} and "
            f"{following.convention}; give more timesteps, or a start from a state that is not zero"
        )
        return Proof(layers, readings, result, message)
    evidence = f"proved by an input and its output: {off}"
    if result is ProofResult.NEAR:
        evidence = f"{result}: {off}; the other program may compute with fewer digits"
    c = best.convention
    return Proof(layers.proved_as(c, evidence), readings, result, f"{c}: {evidence}")


# ------------------------------------------------------------------------------
# Search for the mistake in porting a cell: the variant of the computation that gives the output of the original program.
#
# The proof compares conventions; this search also compares the biases, the axes of the input and the lengths of the rows.


_ROWS, _TIMESTEPS = 4, 6  # the part of the batch used for every variant; the best one is then computed for all timesteps
_MARGIN = 10  # how many times smaller than the present error the error of a variant must be
_ROUNDS = 12  # iterations of the search for two biases
_APART = 1e-2  # the relative error allowed for the sum of these two biases


@dataclass(frozen=True)
class Variant:
    """One variant of the computation of a batch.

    `axes` of the input: "swapped", "mixed" by a reshape, or "unmixed". `padded`: timesteps after the end of a row change its state.
    `separate`: two biases of the candidate with the sum of the present one.
    """

    reading: Reading
    axes: str = ""
    padded: bool = False
    separate: bool = False

    @property
    def convention(self) -> Convention:
        return self.reading.convention


@dataclass(frozen=True)
class Fit:
    """The variant that gives the expected output, with the error of the computation as it is (`now`) and of this variant (`then`),
    relative to the largest entry. `equal`: the two biases of every gate are equal."""

    variant: Variant
    present: Convention
    now: float
    then: float
    equal: bool = False

    def differs(self, field: str) -> bool:
        """Return True if a field of the convention differs."""
        return bool(getattr(self.variant.convention, field) != getattr(self.present, field))


class Port:
    """The numbers of one imported batch of a cell whose expected output is known, and its `present` convention."""

    def __init__(self, kind: CellKind, present: Convention, trial: ConventionTrial) -> None:
        self._kind, self.present, self._trial = kind, present, trial
        self._largest = max((float(np.abs(y).max(initial=0.0)) for y in trial.recorded.y), default=0.0) or 1.0

    @classmethod
    def of(cls, source: Imported, number: int) -> Port | None:
        """Return the port of batch `number` of a run; None if its cell is of no known kind or has dropout, or there is no expected
        output."""
        structure, batch, sizes = source.structure, source.batches[number], source.sizes
        convention = _convention(structure)
        if batch.expected is None or convention is None or structure.dropout or structure.resets:
            return None
        kind, T, B, H = KINDS[convention.kind], sizes["T"], sizes["B"], sizes["H"]
        directions = ("forward", "reverse") if structure.bidirectional else ("reverse",) if structure.backwards else ("forward",)
        if source.stored is None:
            blocks: Sequence[Sequence[Blocks]] = _blocks_of_run(structure, dict(batch.weights.items()), kind)
        else:
            convention, blocks = source.stored()
        read = np.asarray(batch.inputs[next(name for name in batch.inputs if name != LIVE)])
        x = batch.weights["E"][read] if structure.input == "embedding" else read
        live = np.ones((T, B), bool) if LIVE not in batch.inputs else np.asarray(batch.inputs[LIVE]).reshape(T, B).astype(bool)
        y = tuple(np.split(np.asarray(batch.expected, np.float64), len(directions), axis=2))
        starts = _starts(batch.states.reshape(-1, B, H), structure.layers, len(directions), len(kind.states))
        recorded = Recorded(np.asarray(x, np.float64), y, starts, live, to_the_end=True)
        return cls(kind, convention, ConventionTrial([[_wide(cell) for cell in layer] for layer in blocks], directions, recorded))

    @property
    def is_stack(self) -> bool:
        """True if there are layers below the last one, whose states are not recorded."""
        return len(self._trial.blocks) > 1

    def in_float64(self) -> tuple[AnyArray, AnyArray]:
        """Return what the last layer reads, and its outputs (T, B, directions · H), one step at a time, computed in float64."""
        with NUMPY_SETTINGS:
            x, outputs = self._trial.outputs(Reading(self.present), self._trial.recorded)
        return x, np.concatenate([np.where(self._trial.recorded.live[..., None], h, 0) for h, _ in outputs], axis=2)

    def rounded(self) -> float:
        """Return the largest difference that rounding in float32 makes in the outputs, one step at a time, in a few random draws.

        A sum of n products is off by about u·√n of each, with independent signs: so far every weight is changed.
        """
        noise = np.random.Generator(np.random.PCG64(0))
        _, exact = self.in_float64()

        def changed(array: AnyArray) -> AnyArray:
            terms = array.shape[-2] if array.ndim > 2 else 1
            signs = noise.choice((-1.0, 1.0), array.shape)
            return np.asarray(array * (1 + float(np.finfo(np.float32).eps) / 2 * np.sqrt(terms) * signs))

        largest = 0.0
        for _ in range(ROUNDINGS):
            blocks = [[Blocks(*map(changed, (c.W, c.U, c.b, c.b_h))) for c in layer] for layer in self._trial.blocks]
            other = Port(self._kind, self.present, ConventionTrial(blocks, self._trial.directions, self._trial.recorded))
            largest = max(largest, float(np.abs(other.in_float64()[1] - exact).max(initial=0)))
        return largest

    def next_best(self) -> tuple[float, float]:
        """Return the error of the present convention, and the error of the best other one."""
        readings = self._trial.best(self._kind.conventions, self.present)
        error = next(result.error for result in readings if result.convention == self.present)
        return error, min((result.error for result in readings if result.convention != self.present), default=np.inf)

    def fit(self, tolerance: float) -> Fit | None:
        """Return the variant that gives the expected output, with one difference or else two; None if there is none, or none is
        needed."""
        tolerance = max(tolerance, STACK_TOLERANCE) if self.is_stack else tolerance
        with NUMPY_SETTINGS:
            present = Reading(self.present)
            now = self._off(Variant(present))
            if now <= tolerance:
                return None
            enough = min(tolerance, now / _MARGIN)
            for variants in (self._one_mistake(), self._two_mistakes()):
                variant = min(variants, key=lambda variant: self._off(variant, _TIMESTEPS))
                if (best := self._off(variant)) <= enough:
                    return Fit(variant, self.present, now, best, self._equal)
            error = self._separated(enough)
        return None if error is None else Fit(Variant(present, separate=True), self.present, now, error)

    def _off(self, variant: Variant, timesteps: int | None = None) -> float:
        """Return the error of the output of a variant, relative to the largest entry; infinite if it does not apply.

        If the model has no backward direction, only the first `timesteps` are computed.
        """
        recorded = self._changed(variant)
        if recorded is None:
            return np.inf
        short = ConventionTrial(self._trial.blocks, self._trial.directions, recorded)
        return short.error(variant.reading, short.shortened(_ROWS, timesteps or len(recorded.x))) / self._largest

    # Variants

    def _one_mistake(self) -> Iterator[Variant]:
        present = Variant(Reading(self.present))
        if not self._trial.recorded.live.all():
            yield replace(present, padded=True)
        for axes in ("swapped", "mixed", "unmixed"):
            yield replace(present, axes=axes)
        yield from (Variant(Reading(convention)) for convention in (*self._conventions(), *self._orders(self.present)))
        yield from map(Variant, self._biases(self.present))

    def _two_mistakes(self) -> Iterator[Variant]:
        yield from (Variant(Reading(c)) for c in self._kind.conventions if c.order == self.present.order)
        for convention in self._conventions():
            yield from map(Variant, self._biases(convention))
            yield from (Variant(Reading(other)) for other in self._orders(convention))
            yield Variant(Reading(convention), axes="swapped")

    def _conventions(self) -> Iterator[Convention]:
        """Yield the conventions with another meaning of r and z, another function, or another forget bias."""
        present = self.present
        for c in self._kind.conventions:
            changes = (c.reset, c.z) != (present.reset, present.z), c.gate != present.gate, c.forget_bias != present.forget_bias
            if c.order == present.order and sum(changes) == 1:
                yield c

    def _orders(self, convention: Convention) -> Iterator[Convention]:
        yield from (replace(convention, order=order) for order in self._kind.orders if order != self.present.order)

    def _biases(self, convention: Convention) -> Iterator[Reading]:
        candidates = ("first", "", "second", "twice", "merged") if self._kind.candidate else ("",)
        for gates, candidate in product(("first", "", "second", "twice"), candidates):
            if gates or candidate:
                yield Reading(convention, gates, candidate)

    @property
    def _equal(self) -> bool:
        """True if the two biases of every gate are equal and not 0."""
        blocks = [blocks for layer in self._trial.blocks for blocks in layer]
        return all(np.allclose(b.b, b.b_h, rtol=1e-5) and b.b.any(axis=1).all() for b in blocks)

    def _changed(self, variant: Variant) -> Recorded | None:
        data, (T, B) = self._trial.recorded, self._trial.recorded.x.shape[:2]
        if variant.padded:
            data = replace(data, live=np.ones((T, B), bool))
        if variant.axes == "swapped":
            begins = any(state.any() for layer in data.starts for states in layer for state in states)
            if not data.live.all() or (begins and T != B):
                return None
            starts = tuple(tuple(tuple(np.zeros((T, s.shape[1])) for s in states) for states in layer) for layer in data.starts)
            y, live = tuple(y.swapaxes(0, 1) for y in data.y), data.live.swapaxes(0, 1)
            return replace(data, x=data.x.swapaxes(0, 1), y=y, live=live, starts=data.starts if T == B else starts)
        if variant.axes:
            x = data.x
            mixed = x.swapaxes(0, 1).reshape(x.shape) if variant.axes == "mixed" else x.reshape(B, T, *x.shape[2:]).swapaxes(0, 1)
            return None if np.array_equal(mixed, x) else replace(data, x=mixed)  # equal: one row, or one timestep
        return data

    def _separated(self, enough: float) -> float | None:
        """Return the error of the output with two biases of the candidate that have the sum of the present one; None if there are
        two already, or no two biases give the expected output.

        The biases are found by Gauss-Newton iteration, for all units in parallel.
        """
        convention, data = self.present, self._trial.recorded.sample(_ROWS)
        ((blocks, *others), *more) = self._trial.blocks
        at = convention.order.find(self._kind.candidate)
        if convention.reset != "after" or others or more or blocks.b_h[at].any() or self._trial.directions != ("forward",):
            return None
        b, b_h, total = blocks.b.copy(), blocks.b_h.copy(), blocks.b[at]
        previous, _ = recorded_states_before(data.y[0], data.starts[0][0][0], "forward", data.live)
        x, h_prev, expected = data.x[data.live], previous[data.live], data.y[0][data.live]
        for _ in range(_ROUNDS):
            z, r, n = gates_of_gru(x, h_prev, canonical(replace(blocks, b=b, b_h=b_h), convention), convention)
            slope = (1 - z) * (1 - n * n if convention.state_function == "tanh" else n > 0)  # dh / d(input of the candidate)
            errors = expected - (z * h_prev + (1 - z) * n)
            p, q, s = (np.sum(slope * slope * power, axis=0) for power in (1, r, r * r))
            u, v = np.sum(slope * errors, axis=0), np.sum(slope * errors * r, axis=0)
            determinant = p * s - q * q
            if not (determinant > 0).all():
                return None
            b[at] += (s * u - q * v) / determinant
            b_h[at] += (p * v - q * u) / determinant
        split = ConventionTrial([[replace(blocks, b=b, b_h=b_h)]], self._trial.directions, data)
        error = split.error(Reading(convention)) / self._largest
        is_sum = np.abs(b[at] + b_h[at] - total).max() <= _APART * max(np.abs(total).max(), enough)
        return error if error <= enough and is_sum else None


def _convention(structure: Structure) -> Convention | None:
    """Return the convention of the equations of a model; None if its cell is of no known kind."""
    conventions = (c for kind in KINDS.values() for c in kind.conventions if (c.order, c.forget_bias) == (kind.gates, 0))
    return next((c for c in conventions if cell_in(c) == (structure.cell, structure.cell_text)), None)


def _blocks_of_run(structure: Structure, values: Mapping[str, Array], kind: CellKind) -> list[list[Blocks]]:
    """Return the weights of a run by layer and direction. The second biases are 0 where only the sum is known."""
    blocks = []
    for suffix in (layer.suffix for layer in model_of(structure).composed.layers):
        named = [kind.letters[gate] + suffix for gate in kind.gates]
        W, U, b = (np.stack([values[part + name] for name in named]) for part in "WUb")
        b_h = np.stack([values.get(f"bh{gate}{suffix}", np.zeros_like(b[0])) for gate in kind.gates])
        blocks.append(Blocks(W, U, b, b_h))
    directions = 2 if structure.bidirectional else 1
    return [blocks[i : i + directions] for i in range(0, len(blocks), directions)]
