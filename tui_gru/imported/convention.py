"""The convention of other people's numbers: proved by a known output, or tried for a mistake in a port."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.compiled import compiled
from tui_gru.engine.data import weights_for
from tui_gru.engine.model import Structure, model_of
from tui_gru.engine.numbers import given, scientific
from tui_gru.engine.source import Imported, ImportedBatch
from tui_gru.engine.training import compute
from tui_gru.engine.weights import NUMPY_SETTINGS, Array
from tui_gru.equations.functions import GATE_NAMES, GATES, MIDDLE
from tui_gru.equations.page import LIVE
from tui_gru.errors import ModelFileError
from tui_gru.files.arrays import (
    LETTERS,
    ORDERS,
    RESETS,
    Z_MEANINGS,
    AnyArray,
    Blocks,
    Cell,
    Convention,
    FoundGRU,
    canonical,
    precision_of,
)
from tui_gru.imported.numbers import LayerInputs, cell_in
from tui_gru.imported.recompute import single_steps, stepwise

# ------------------------------------------------------------------------------
# Search for the mistake in porting a GRU: the variant of the computation that gives the output of the original program.
#
# As in the proof of a convention, each step starts from the recorded state, so that rounding errors do not grow. The proof
# compares conventions; this search also compares the biases, the axes of the input and the lengths of the rows.


_ORDER = "zrn"  # the order of gates that are not swapped
_ROWS, _TIMESTEPS = 4, 6  # the part of the batch used for every variant; the best one is then computed for all timesteps
_MARGIN = 10  # how many times smaller than the present error the error of a variant must be
_ROUNDS = 12  # iterations of the search for two biases
_APART = 1e-2  # the relative error allowed for the sum of these two biases

Pair = tuple[Array, Array]

#: How a variant changes the two biases of a gate: the bias added to x W, and the bias added to h_prev U.
BIASES: Mapping[str, Callable[[Array, Array], Pair]] = {
    "": lambda b, b_h: (b, b_h),
    "first": lambda b, b_h: (b, 0 * b_h),
    "second": lambda b, b_h: (0 * b, b_h),
    "twice": lambda b, b_h: (2 * b, 2 * b_h),
    "merged": lambda b, b_h: (b + b_h, 0 * b_h),
}


@dataclass(frozen=True)
class Variant:
    """One variant of the computation of a batch. The order of `convention` lists the gates that are now used as z, r and n.

    `gates` and `candidate` are keys of `BIASES`, for the biases of z and r and for those of the candidate; `candidate` can also be
    "separate", two biases with the sum of the present one. `axes` of the input: "swapped", "mixed" by a reshape, or "unmixed".
    `padded`: timesteps after the end of a row change its state.
    """

    convention: Convention
    gates: str = ""
    candidate: str = ""
    axes: str = ""
    padded: bool = False


@dataclass(frozen=True)
class Fit:
    """The variant that gives the expected output, with the error of the present computation (`now`) and of this variant (`then`),
    relative to the largest entry. `equal`: the two biases of every gate are equal."""

    variant: Variant
    here: Convention
    now: float
    then: float
    equal: bool = False

    def differs(self, field: str) -> bool:
        """Return True if a field of the convention differs."""
        return bool(getattr(self.variant.convention, field) != getattr(self.here, field))


@dataclass(frozen=True, eq=False)
class _Numbers:
    """x (T, B, I) or tokens (T, B), first states (layers · directions, B, H), live (T, B) or None, and the output (T, B, D · H)."""

    x: Array
    states: Array
    live: NDArray[np.bool_] | None
    out: Array

    def rows(self) -> _Numbers:
        """Return the shortest and the longest rows."""
        B = self.x.shape[1]
        if B <= _ROWS:
            return self
        lengths = np.zeros(B) if self.live is None else self.live.sum(axis=0)
        kept = np.argsort(lengths, kind="stable")[[*range(_ROWS // 2), *range(B - _ROWS // 2, B)]]
        live = None if self.live is None else self.live[:, kept]
        return _Numbers(self.x[:, kept], self.states[:, kept], live, self.out[:, kept])

    def first(self, timesteps: int) -> _Numbers:
        """Return the first timesteps."""
        live = None if self.live is None else self.live[:timesteps]
        return _Numbers(self.x[:timesteps], self.states, live, self.out[:timesteps])


class Port:
    """The weights and the data of one imported batch of a GRU whose expected output is known."""

    def __init__(self, given: Imported, batch: ImportedBatch, here: Convention) -> None:
        assert batch.expected is not None
        self.here = here
        self._structure = replace(given.structure, head="", loss="", dropout=False, lengths=False)
        self._sizes, self._input = dict(given.sizes), next(name for name in batch.inputs if name != LIVE)
        T, B, H = (given.sizes[axis] for axis in "TBH")
        live = None if LIVE not in batch.inputs else np.asarray(batch.inputs[LIVE]).reshape(T, B).astype(bool)
        states = np.asarray(batch.states, np.float64).reshape(-1, B, H)
        self._numbers = _Numbers(np.asarray(batch.inputs[self._input]), states, live, np.asarray(batch.expected, np.float64))
        self._suffixes = _suffixes(given.structure)
        self._values = {name: np.asarray(value, np.float64) for name, value in _halves(given, batch, here).items()}

    @classmethod
    def of(cls, given: Imported, number: int) -> Port | None:
        """Return the port of batch `number` of a run; None if the model is not a GRU or has dropout, or there is no expected
        output."""
        batch, here = given.batches[number], _convention(given.structure)
        if batch.expected is None or here is None or given.structure.dropout:
            return None
        return cls(given, batch, here)

    def fit(self, tolerance: float) -> Fit | None:
        """Return the variant that gives the expected output, with one difference or else two; None if there is none, or none is
        needed."""
        with NUMPY_SETTINGS:
            now = self.off(Variant(self.here))
            if now <= tolerance:
                return None
            enough = min(tolerance, now / _MARGIN)
            for variants in (self._one_mistake(), self._two_mistakes()):
                variant = min(variants, key=lambda variant: self.off(variant, _TIMESTEPS))
                if (best := self.off(variant)) <= enough:
                    return Fit(variant, self.here, now, best, self._equal)
            apart = self._separated(enough)
        return None if apart is None else Fit(Variant(self.here, candidate="separate"), self.here, now, apart)

    def off(self, variant: Variant, timesteps: int | None = None) -> float:
        """Return the error of the output of a variant, one step at a time, relative to the largest entry; infinite if it does not
        apply.

        If the model has no backward direction, only the first `timesteps` are computed.
        """
        numbers = self._changed(variant)
        if numbers is None:
            return np.inf
        if timesteps is not None and not (self._structure.bidirectional or self._structure.backwards):
            numbers = numbers.first(timesteps)
        record = self._computed(variant.convention, self._weights(variant), numbers)
        error = stepwise(record, numbers.out, None if numbers.live is None else numbers.live.sum(axis=0)).error
        return float(np.nan_to_num(error, nan=np.inf))

    # Variants

    def _one_mistake(self) -> Iterator[Variant]:
        here = Variant(self.here)
        if self._numbers.live is not None:
            yield replace(here, padded=True)
        for axes in ("swapped", "mixed", "unmixed"):
            yield replace(here, axes=axes)
        yield from (replace(here, convention=convention) for convention in self._conventions())
        yield from (replace(here, convention=replace(self.here, order=order)) for order in ORDERS if order != _ORDER)
        yield from self._biases(self.here)

    def _two_mistakes(self) -> Iterator[Variant]:
        for reset, z, gate in product(RESETS, Z_MEANINGS, GATE_NAMES):
            yield Variant(replace(self.here, reset=reset, z=z, gate=gate))
        for convention in self._conventions():
            yield from self._biases(convention)
            yield from (Variant(replace(convention, order=order)) for order in ORDERS if order != _ORDER)
            yield Variant(convention, axes="swapped")

    def _conventions(self) -> Iterator[Convention]:
        for reset, z in product(RESETS, Z_MEANINGS):
            if (reset, z) != (self.here.reset, self.here.z):
                yield replace(self.here, reset=reset, z=z)
        yield from (replace(self.here, gate=gate) for gate in GATE_NAMES if gate != self.here.gate)

    @staticmethod
    def _biases(convention: Convention) -> Iterator[Variant]:
        for gates, candidate in product(("first", "", "second", "twice"), ("first", "", "second", "twice", "merged")):
            if gates or candidate:
                yield Variant(convention, gates, candidate)

    @property
    def _equal(self) -> bool:
        """True if the two biases of every gate are equal and not 0."""
        pairs = [(self._values[f"b{LETTERS[g]}{s}"], self._values[f"bh{g}{s}"]) for g in _ORDER for s in self._suffixes]
        return all(np.allclose(b, b_h, rtol=1e-5) and b.any() for b, b_h in pairs)

    # Computation

    def _changed(self, variant: Variant) -> _Numbers | None:
        found, (T, B) = self._numbers, self._numbers.x.shape[:2]
        if variant.padded:
            found = replace(found, live=None)
        if variant.axes == "swapped":
            if found.live is not None or (found.states.any() and T != B):
                return None
            states = found.states if T == B else np.zeros((len(found.states), T, found.states.shape[2]))
            found = replace(found, x=found.x.swapaxes(0, 1), out=found.out.swapaxes(0, 1), states=states)
        elif variant.axes:
            x = found.x
            mixed = x.swapaxes(0, 1).reshape(x.shape) if variant.axes == "mixed" else x.reshape(B, T, *x.shape[2:]).swapaxes(0, 1)
            if np.array_equal(mixed, x):  # one row, or one timestep
                return None
            found = replace(found, x=mixed)
        return found.rows()

    def _weights(self, variant: Variant) -> dict[str, Array]:
        """Return the parameters of a variant by their names in the cell of its convention."""
        own = self._values
        found: dict[str, Array] = {name: value for name, value in own.items() if name == "E"}
        for suffix, (gate, stored) in product(self._suffixes, zip(_ORDER, variant.convention.order, strict=True)):
            letter, from_ = LETTERS[gate], LETTERS[stored]
            found |= {f"{part}{letter}{suffix}": own[f"{part}{from_}{suffix}"] for part in "WU"}
            change = BIASES[variant.candidate if gate == "n" else variant.gates]
            b, b_h = change(own[f"b{from_}{suffix}"], own[f"bh{stored}{suffix}"])
            if variant.convention.reset == "after":
                found |= {f"b{letter}{suffix}": b, f"bh{gate}{suffix}": b_h}
            else:
                found[f"b{letter}{suffix}"] = b + b_h
        return found

    def _computed(self, convention: Convention, values: Mapping[str, Array], numbers: _Numbers) -> BatchRecord:
        """Return the record of a forward pass."""
        cell, text = cell_in(convention)
        structure = replace(self._structure, cell=cell, cell_text=text, lengths=numbers.live is not None)
        T, B = numbers.x.shape[:2]
        sizes = self._sizes | {"T": T, "B": B}
        record = BatchRecord(compiled(structure, sizes, "float64"))
        record.before = weights_for(structure, sizes, "float64", values)
        for name, source in record.compiled.model.page.inputs.items():
            if source.one_hot:
                record.ids(name)[...] = numbers.x
                record.array(name)[...] = numbers.x[..., None] == np.arange(record.array(name).shape[-1])
            else:
                record.array(name)[...] = numbers.x if name == self._input else numbers.live
        record.begin_with(numbers.states.ravel())
        compute(record, None, learn=False)
        return record

    def _separated(self, enough: float) -> float | None:
        """Return the error of the output with two biases of the candidate that have the sum of the present one; None if there are
        two already, or no two biases give the expected output.

        The biases are found by Gauss-Newton iteration, for all units in parallel.
        """
        (suffix, *others) = self._suffixes
        if self.here.reset != "after" or others or self._values[f"bhn{suffix}"].any() or self._structure.backwards:
            return None
        numbers, values = self._numbers.rows(), dict(self._values)
        lengths = None if numbers.live is None else numbers.live.sum(axis=0)
        there = np.ones(numbers.x.shape[:2], bool) if numbers.live is None else numbers.live
        values |= {name: value.copy() for name, value in values.items() if name in ("bh", "bhn")}
        for _ in range(_ROUNDS):
            record = self._computed(self.here, values, numbers)
            (one,) = single_steps(record, numbers.out, lengths)
            r, n, new, h = (one.array(name)[0][there.ravel()] for name in ("r", "h_tilde", "new", "h"))
            slope = np.divide(new, n, out=np.zeros_like(n), where=n != 0) * (1 - n * n)  # dh / d(input of tanh)
            apart = numbers.out.reshape(len(there.ravel()), -1)[there.ravel()] - h
            a, b, c = (np.sum(slope * slope * power, axis=0) for power in (1, r, r * r))
            p, q = np.sum(slope * apart, axis=0), np.sum(slope * apart * r, axis=0)
            determinant = a * c - b * b
            if not (determinant > 0).all():
                return None
            values["bh"] += (c * p - b * q) / determinant
            values["bhn"] += (a * q - b * p) / determinant
        error = stepwise(self._computed(self.here, values, numbers), numbers.out, lengths).error
        total = self._values["bh"]
        is_sum = np.abs(values["bh"] + values["bhn"] - total).max() <= _APART * max(np.abs(total).max(), enough)
        return float(error) if error <= enough and is_sum else None


def _convention(structure: Structure) -> Convention | None:
    """Return the convention of the equations of a model; None if it is not a GRU of a known convention."""
    for reset, z, gate in product(RESETS, Z_MEANINGS, GATE_NAMES):
        convention = Convention(_ORDER, reset, z, gate)
        if cell_in(convention) == (structure.cell, structure.cell_text):
            return convention
    return None


def _suffixes(structure: Structure) -> tuple[str, ...]:
    """Return the suffixes of the parameter names, by layer and direction."""
    return tuple(layer.suffix for layer in model_of(structure).composed.layers)


def _halves(given: Imported, batch: ImportedBatch, here: Convention) -> dict[str, Array]:
    """Return all parameters by their names with two biases for each gate. The second ones are 0 if only the sum is known."""
    weights = batch.weights
    if here.reset == "before" and given.again is not None and batch.expected is not None:
        weights = given.again("after", None, batch.expected)[0].batches[0].weights
    values = dict(weights.items())
    for suffix, gate in product(_suffixes(given.structure), _ORDER):
        values.setdefault(f"bh{gate}{suffix}", np.zeros_like(values[f"b{LETTERS[gate]}{suffix}"]))
    return values


# ------------------------------------------------------------------------------
# Proof of a convention: the search for the reading of the numbers that computes a given output from its input.
#
# A trained GRU can be chaotic, so that rounding grows over the timesteps; each step therefore starts from the state recorded in
# the output. Lower layers of a stack have no recorded states and run from their first step.


#: The largest difference allowed for the right reading: of outputs in float32, in half precision, or of stacked layers. Of large
#: weights, rounding in float32 alone gives more.
TOLERANCE, HALF_TOLERANCE, STACK_TOLERANCE = 1e-5, 1e-2, 1e-3
MARGIN = 4  # how many times worse the next best reading must be
SCREENED = 16  # steps on which every reading is tried; the best readings are then tried on all steps
STACK_ROWS = 2
FINALISTS = 4


def gru_step(x: AnyArray, h: AnyArray, cell: Cell, reset: str, gate: str) -> AnyArray:
    """Return the state after one timestep, h (B, H). x is (B, I), h is (B, H)."""
    slope = GATES[gate].slope

    def σ(a: AnyArray) -> AnyArray:
        return 0.5 + 0.5 * np.tanh(0.5 * a) if slope is None else np.clip(slope * a + MIDDLE, 0, 1)  # neither form overflows

    if reset == "after":
        z = σ(x @ cell["Wz"] + h @ cell["Uz"] + cell["bz"] + cell["bhz"])
        r = σ(x @ cell["Wr"] + h @ cell["Ur"] + cell["br"] + cell["bhr"])
        n = np.tanh(x @ cell["Wh"] + cell["bh"] + r * (h @ cell["Uh"] + cell["bhn"]))
    else:
        z = σ(x @ cell["Wz"] + h @ cell["Uz"] + cell["bz"])
        r = σ(x @ cell["Wr"] + h @ cell["Ur"] + cell["br"])
        n = np.tanh(x @ cell["Wh"] + (r * h) @ cell["Uh"] + cell["bh"])
    new: AnyArray = z * h + (1 - z) * n
    return new


@dataclass(frozen=True)
class TriedConvention:
    """One way to read the numbers, and its largest difference from the output."""

    convention: Convention
    error: float


@dataclass(frozen=True)
class Proof:
    """The readings, best first. `found` is the GRU in the proved reading, or unchanged if `settled` is False."""

    found: FoundGRU
    readings: tuple[TriedConvention, ...]
    settled: bool
    message: str


@dataclass(frozen=True, eq=False)
class Recorded:
    """An input and its output: x (T, B, I), y by direction (T, B, H), h0 by layer and direction (B, H), live (T, B)."""

    x: AnyArray
    y: tuple[AnyArray, ...]
    h0: tuple[tuple[AnyArray, ...], ...]
    live: AnyArray
    given_h0: bool

    def rows(self, count: int) -> Recorded:
        """Return the first `count` rows of the batch."""
        h0 = tuple(tuple(h[:count] for h in layer) for layer in self.h0)
        return Recorded(self.x[:, :count], tuple(y[:, :count] for y in self.y), h0, self.live[:, :count], self.given_h0)


def prove(found: FoundGRU, numbers: LayerInputs) -> Proof:
    """Try every order of gates, place of the reset gate, meaning of z and gate function on inputs and their expected output.

    Raises `ModelFileError` if the output is not finite, or there is none.
    """
    recorded = _recorded(found, numbers)
    blocks = [[_wide(cell) for cell in layer] for layer in found.blocks()]
    sample = recorded.rows(STACK_ROWS) if found.layers > 1 else recorded
    with np.errstate(all="ignore"):  # a wrong reading may overflow
        screened = sorted(_readings(found, blocks, sample, SCREENED), key=lambda reading: reading.error)
        best = {reading.convention for reading in screened[:FINALISTS]} | {found.convention}
        final = sorted(_readings(found, blocks, recorded, None, best), key=lambda reading: reading.error)
    readings = (*final, *(reading for reading in screened if reading.convention not in best))
    return _judged(found, readings, max(_tolerance(found, numbers.y), _rounding(blocks[-1], recorded)))


def _rounding(blocks: Sequence[Blocks], recorded: Recorded) -> float:
    """Return the difference that rounding in float32 explains in one step of the last layer, whose states are recorded.

    A gate sums up products. Each rounding is at most half an ε of the sum of their sizes, and the signs are independent.
    """
    found = 0.0
    for cell, y in zip(blocks, recorded.y, strict=True):
        states = np.abs(np.where(recorded.live[..., None], y, 0)).max(axis=(0, 1))
        reads, units = cell.W.shape[1:]
        # In a stack, the last layer reads states of the layer below, which are not recorded; they are at most 1.
        inputs = np.abs(recorded.x).max(axis=(0, 1), initial=0.0) if recorded.x.shape[2] == reads else np.ones(reads)
        sizes = inputs @ np.abs(cell.W) + states @ np.abs(cell.U) + np.abs(cell.b) + np.abs(cell.b_h)
        found = max(found, float(np.finfo(np.float32).eps / 2 * np.sqrt(reads + units + 2) * sizes.max()))
    return found


def _wide(blocks: Blocks) -> Blocks:
    return Blocks(*(part.astype(np.float64) for part in (blocks.W, blocks.U, blocks.b, blocks.b_h)))


def _readings(
    found: FoundGRU,
    blocks: list[list[Blocks]],
    recorded: Recorded,
    most: int | None,
    only: set[Convention] | None = None,
) -> Iterator[TriedConvention]:
    for order, reset, z in product(ORDERS, RESETS, Z_MEANINGS):
        wanted = [c for gate in GATE_NAMES if (c := Convention(order, reset, z, gate)) in (only or {c})]
        if not wanted:
            continue
        cells = [[canonical(cell, order, reset, z) for cell in layer] for layer in blocks]
        for convention in wanted:
            yield TriedConvention(convention, _error(found, cells, recorded, convention, most))


def _error(found: FoundGRU, cells: Sequence[Sequence[Cell]], recorded: Recorded, convention: Convention, most: int | None) -> float:
    x = recorded.x
    for layer, h0 in zip(cells[:-1], recorded.h0, strict=False):
        outs = [
            _run(x, h, cell, direction, recorded.live, convention)
            for cell, direction, h in zip(layer, found.directions, h0, strict=True)
        ]
        x = np.concatenate(outs, axis=2)
    errors = []
    for cell, direction, h0_, y in zip(cells[-1], found.directions, recorded.h0[-1], recorded.y, strict=True):
        previous, first = _previous(y, h0_, direction, recorded.live)
        compared = recorded.live & ~first if not recorded.given_h0 and (recorded.live & ~first).any() else recorded.live
        t, b = np.nonzero(compared)
        if most is not None and len(t) > most:
            chosen = np.linspace(0, len(t) - 1, most).astype(int)
            t, b = t[chosen], b[chosen]
        h = gru_step(x[t, b], previous[t, b], cell, convention.reset, convention.gate)
        errors.append(np.abs(h - y[t, b]).max(initial=0.0))
    return float(np.nan_to_num(max(errors), nan=np.inf))


def _run(x: AnyArray, h: AnyArray, cell: Cell, direction: str, live: AnyArray, convention: Convention) -> AnyArray:
    """Return the outputs of all steps, each computed from the state before it, (T, B, H). After the end of a row, the output is 0
    and the state is unchanged."""
    out = np.zeros((*x.shape[:2], h.shape[1]))
    for t in range(len(x)) if direction == "forward" else reversed(range(len(x))):
        new = gru_step(x[t], h, cell, convention.reset, convention.gate)
        h = np.where(live[t, :, None], new, h)
        out[t] = np.where(live[t, :, None], new, 0)
    return out


def _previous(y: AnyArray, h0: AnyArray, direction: str, live: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Return the recorded state before each step (T, B, H), and the steps at which that is h0 (T, B)."""
    previous, first = np.empty_like(y), np.zeros_like(live)
    if direction == "forward":
        previous[0], previous[1:] = h0, y[:-1]
        first[0] = True
    else:
        previous[-1], previous[:-1] = h0, y[1:]
        first[-1], first[:-1] = True, ~live[1:]
        previous[first] = np.broadcast_to(h0, y.shape)[first]
    return previous, first


def _recorded(found: FoundGRU, numbers: LayerInputs) -> Recorded:
    assert numbers.y is not None
    D, x = len(found.directions), numbers.x if numbers.table is None else numbers.table[numbers.x]
    T, B = x.shape[:2]
    whole = np.full(B, T) if numbers.lengths is None else numbers.lengths
    live = np.arange(T)[:, None] < whole
    outs = tuple(np.asarray(part, np.float64) for part in np.split(numbers.y, D, axis=2))
    if not live.any() or not all(np.isfinite(out[live]).all() for out in outs):
        raise ModelFileError("the output is not finite everywhere, or has no step; give one that is")
    states = np.asarray(numbers.h0, np.float64)
    by_layer = tuple(tuple(states[layer * D : layer * D + D]) for layer in range(found.layers))
    return Recorded(np.asarray(x, np.float64), outs, by_layer, live, numbers.given_h0)


def _tolerance(found: FoundGRU, y: AnyArray | None) -> float:
    assert y is not None
    half = "16" in found.dtype or "16" in precision_of(y)
    return HALF_TOLERANCE if half else TOLERANCE if found.layers == 1 else STACK_TOLERANCE


def _judged(found: FoundGRU, readings: tuple[TriedConvention, ...], tolerance: float) -> Proof:
    best, following = readings[:2]
    fitting = [reading for reading in readings if reading.error <= max(tolerance, MARGIN * best.error)]
    if best.error > tolerance:
        message = (
            f"no reading gives this output: the best, {_text(best.convention)}, is off by {scientific(best.error)}; "
            f"check that x and y are of {found.name}, timesteps first, and that h0 is given"
        )
        return Proof(found, readings, False, message)
    if len(fitting) > 1:
        message = (
            f"{len(fitting)} readings give this output to {given(tolerance)}, among them {_text(best.convention)} and "
            f"{_text(following.convention)}; give more timesteps, or a start from a state that is not zero"
        )
        return Proof(found, readings, False, message)
    evidence = f"proved by an input and its output: off by {scientific(best.error)}, the next best by {scientific(following.error)}"
    c = best.convention
    return Proof(found.read_as(c.order, c.reset, c.z, c.gate, evidence), readings, True, f"{_text(c)}: {evidence}")


def _text(convention: Convention) -> str:
    return f"gates {' '.join(convention.order)}, reset {convention.reset}, z {convention.z}, {convention.gate}"
