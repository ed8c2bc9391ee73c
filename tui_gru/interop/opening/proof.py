"""Proof of a convention: the search for the reading of the numbers that computes a given output from its input.

A trained GRU can be chaotic, so that rounding grows over the timesteps; each step therefore starts from the state recorded in the
output. Lower layers of a stack have no recorded states and run from their first step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from tui_gru.engine.numbers import given, scientific
from tui_gru.interop.blocks import Blocks, Cell, canonical
from tui_gru.interop.errors import ModelFileError
from tui_gru.interop.found import GATE_FUNCTIONS, ORDERS, RESETS, Z_MEANINGS, Convention, FoundGRU
from tui_gru.interop.opening.numbers import LayerInputs
from tui_gru.interop.tensors import AnyArray, precision_of

#: The largest difference allowed for the right reading: of outputs in float32, in half precision, or of stacked layers. Of large
#: weights, rounding in float32 alone gives more.
TOLERANCE, HALF_TOLERANCE, STACK_TOLERANCE = 1e-5, 1e-2, 1e-3
MARGIN = 4  # how many times worse the next best reading must be
SCREENED = 16  # steps on which every reading is tried; the best readings are then tried on all steps
STACK_ROWS = 2
FINALISTS = 4

GATES: dict[str, Callable[[AnyArray], AnyArray]] = {
    "sigmoid": lambda a: 0.5 + 0.5 * np.tanh(0.5 * a),  # this form does not overflow
    "hard_sigmoid": lambda a: np.clip(0.2 * a + 0.5, 0, 1),
    "hard_sigmoid_6": lambda a: np.clip(a / 6 + 0.5, 0, 1),
}


def gru_step(x: AnyArray, h: AnyArray, cell: Cell, reset: str, gate: str) -> AnyArray:
    """Return the state after one timestep, h (B, H). x is (B, I), h is (B, H)."""
    σ = GATES[gate]
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
        wanted = [c for gate in GATE_FUNCTIONS if (c := Convention(order, reset, z, gate)) in (only or {c})]
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
