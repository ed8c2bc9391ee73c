"""Findings about units: saturated gates, gates that never open, and units that never change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tui_gru.debugger.analysis.findings.examined import RunFacts
from tui_gru.debugger.analysis.findings.finding import Evidence, Finding, listed
from tui_gru.debugger.analysis.saturation import ValueRange, limits_of, saturating, unit_shares
from tui_gru.debugger.analysis.summaries import dead_units
from tui_gru.debugger.program.line_table import Program
from tui_gru.engine.numbers import percent, rounded
from tui_gru.engine.running.weights import Array
from tui_gru.equations import expression as e

_FEW_STUCK_UNITS = 4  # units; in a smaller model, most of the units is not significant
_MOST_STUCK = 0.5  # of the units
_DEEP, _DEEPLY = 0.01, 0.75  # a share of the range, near a limit; a share of the units, which a trained network can reach
_ALWAYS = 0.9  # a unit is saturated if at least this share of its entries is
_SHUT = 0.99  # share of the old state that a shut gate keeps
_NEARLY_ALL = 0.99  # of the entries
_STILL = 0.05  # of the range of a state
_DEAD, _RARE = 1e-4, 0.2  # of the range; of the units: in a large healthy network a few units hardly vary for a while
_SHORT = 100  # batches; in a shorter run, the first batch is examined as well


def saturated_gate(x: RunFacts) -> Iterator[Finding]:
    """Find values of which most units are nearly always near a limit: with the initial weights, or, very near, in the last batches.

    A trained network uses the flat parts of its functions as well: in healthy runs up to 0.8 of the units of a gate are within a
    tenth of a limit, and up to 0.65 within a hundredth.
    """
    for name in saturating(x.program):
        limits = limits_of(x.program, name)
        made, _ = x.program.made_by(name)
        if limits is None or not isinstance(made, e.Apply) or not x.count:  # a state without a bounded function
            continue
        first, last, deep = x.record(0).array(name), x.stacked(name), replace(limits, edge=_DEEP)
        if (stuck := _stuck(first, limits, _MOST_STUCK)) is not None and first[..., 0].size >= _FEW_STUCK_UNITS:
            yield _saturated(x, name, limits, first, stuck, 0, 1)
        elif x.varied and made.function != "tanh" and (stuck := _stuck(last, deep, _DEEPLY)) is not None:  # a gate
            yield _saturated(x, name, deep, last, stuck, x.count - 1, len(x.recent))


def _stuck(values: Array, limits: ValueRange, most: float) -> NDArray[np.intp] | None:
    """Return the units that are nearly always saturated; None unless these are more than the share `most` of the units."""
    stuck = np.flatnonzero(unit_shares(values, limits) >= _ALWAYS)
    return stuck if values.shape[-1] >= _FEW_STUCK_UNITS and len(stuck) > most * values.shape[-1] else None


def _saturated(
    x: RunFacts, name: str, limits: ValueRange, values: Array, stuck: NDArray[np.intp], batch: int, batches: int
) -> Finding:
    low, high = limits.is_low(values).mean(), limits.is_high(values).mean()
    least, most = limits.low + limits.edge * limits.span, limits.high - limits.edge * limits.span
    written = x.written(name)
    return Finding(
        "saturated-gate",
        f"{written} is saturated in {len(stuck)} of {values.shape[-1]} units{', from the first batch on' if batch == 0 else ''}",
        f"There the function that computes {written} is flat: hardly any gradient passes, so these units hardly learn, and a "
        "gate that is always open or always closed has no function.",
        "smaller initial weights (--init torch), a smaller --learning-rate, or a clipped gradient (--clip 1)",
        (
            Evidence(
                f"in {x.at(batch) if batches == 1 else f'the last {batches} batches'}, {percent(low)} of its entries are below "
                f"{rounded(least)}, {percent(high)} above {rounded(most)}"
            ),
            x.unit_of(batch, name, int(stuck[0])),
        ),
        x.end(batch),
    )


def kept_by(program: Program) -> Mapping[str, str]:
    """Return, for each state, the value that says how much of the old state is kept: z for h = z ⊙ h_prev + …."""
    page, found = program.model.page, dict[str, str]()
    for state in page.states:
        formula = program.lines[state].formula
        for term in formula.terms if formula is not None else ():
            if isinstance(term, e.Times) and e.Name(page.before(state)) in term.parts and len(term.parts) == 2:
                (other,) = [part for part in term.parts if part != e.Name(page.before(state))] or [term.parts[0]]
                name = other.label or (other.name if isinstance(other, e.Name) else "")
                if name in program.names:
                    found[state] = name
    return found


def _shut_units(x: RunFacts, state: str, gate: str) -> NDArray[np.intp]:
    """Return the units that keep their old state in the first batch and in the last ones. In a healthy run there are a few."""
    kept, values = x.stacked(gate), x.stacked(state)
    low, high = x.program.ranges[state]
    span = high - low if np.isfinite(high - low) else float(np.abs(values).max())
    first = x.record(0).array(gate)
    shut = ((kept >= _SHUT).mean(axis=0) >= _NEARLY_ALL) & ((first >= _SHUT).mean(axis=(0, 1)) >= _NEARLY_ALL)
    still = values.max(axis=0) - values.min(axis=0) <= _STILL * span
    return np.flatnonzero(shut & still)


def gate_never_opens(x: RunFacts) -> Iterator[Finding]:
    """Find units that keep their old state at every timestep."""
    if not x.varied:
        return
    for state, gate in kept_by(x.program).items():
        shut = _shut_units(x, state, gate)
        if not len(shut):
            continue
        unit, kept, values = int(shut[0]), x.stacked(gate), x.stacked(state)
        batch = x.count - 1
        share = float((kept[:, unit] >= _SHUT).mean())
        least, largest = float(values[:, unit].min()), float(values[:, unit].max())
        written = x.written(gate)
        yield Finding(
            "gate-never-opens",
            f"{listed([f'unit {u + 1}' for u in shut.tolist()])} of {x.written(state)} never change"
            + ("s" if len(shut) == 1 else "")
            + f": {written} keeps the old state",
            f"A unit whose {written} is always near 1 ignores its input: it is a constant and does not help any prediction.",
            "initial weights and biases nearer to 0 (--init torch), or a smaller --learning-rate",
            (
                Evidence(f"{written} of unit {unit + 1} is {_SHUT} or more in {percent(share)} of the last {len(kept):,} entries"),
                Evidence(f"{x.written(state)} of it stays between {rounded(least)} and {rounded(largest)}"),
                x.unit_of(batch, gate, unit),
            ),
            x.end(batch),
        )


def dead_unit(x: RunFacts) -> Iterator[Finding]:
    """Find units of a state that hardly change, whatever the input is, and not because a gate is shut."""
    if not x.varied:
        return
    gates = kept_by(x.program)
    for state in x.program.model.page.states:
        values = x.stacked(state)
        low, high = x.program.ranges[state]
        scale = max(abs(low), abs(high)) if np.isfinite(high - low) else float(np.abs(values).max())
        shut = _shut_units(x, state, gates[state]) if state in gates else np.empty(0, np.intp)
        earlier = [x.record(x.count // 2), *([x.record(0)] if x.count < _SHORT else [])]  # dead there as well?
        whole = np.concatenate([values, *(record.array(state).reshape(-1, values.shape[-1]) for record in earlier)])
        dead = np.setdiff1d(dead_units(whole, scale, _DEAD), shut)
        if len(dead) <= _RARE * values.shape[-1]:
            continue
        unit, batch = int(dead[0]), x.count - 1
        yield Finding(
            "dead-unit",
            f"{listed([f'unit {u + 1}' for u in dead.tolist()])} of {x.written(state)} "
            + ("is dead" if len(dead) == 1 else "are dead"),
            "Its value does not depend on the input, so the layers above learn nothing from it, and it can be removed.",
            "other initial weights (--seed, --init torch), or fewer units (--hidden-size)",
            (
                Evidence(
                    f"in {len(values):,} entries it varies by {rounded(float(np.ptp(values[:, unit])))} at most, "
                    f"of a largest value of {rounded(scale)}"
                ),
                x.unit_of(batch, state, unit),
            ),
            x.end(batch),
        )
