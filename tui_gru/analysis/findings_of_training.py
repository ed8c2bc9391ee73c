"""Findings about gradients and units: not finite, zero, vanishing, exploding, clipped away; saturated gates and dead units."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tui_gru.analysis.examined import Evidence, Finding, RunFacts, enumerated
from tui_gru.analysis.summaries import ValueRange, dead_units, limits_of, saturating, unit_shares
from tui_gru.analysis.trials import LEAST_TRIED, Cure, smaller_rates
from tui_gru.debugger.derivation import ValueRef
from tui_gru.debugger.program import Program, Store, spoken
from tui_gru.debugger.trouble import not_finite_in
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.numbers import counted, percent, rounded
from tui_gru.engine.source import Ability
from tui_gru.engine.weights import Array, Float64Array
from tui_gru.equations import syntax as e

# ------------------------------------------------------------------------------
# Findings about gradients: not finite, exactly zero, vanishing, exploding, clipped away; and probabilities of exactly zero.


_THOUSAND = 1e3
_SOON = 3  # timesteps within which a vanishing gradient falls below a thousandth; healthy runs take 5 or more
_CLIPPED = 0.1  # nearly all of a gradient is clipped away if the factor is smaller
_FEW_UNITS = 4  # units; a smaller model may have nothing to remember
_LEARNED_BATCHES = 8  # the number of learning batches that a finding needs
_MOST_CLIPPED = 0.5
_LEARNED_LOSS = 0.1  # of log V


LOOK_OUTSIDE = (
    "look at head and loss in your script: a logarithm or a root of 0, a division by 0, an overflow in half precision; "
    "torch.autograd.set_detect_anomaly(True) names the line"
)


def of_steps(x: RunFacts) -> str:
    """Return the cures of weights or steps that are too large, in words."""
    rates = smaller_rates(x.moment.record.settings)
    smaller = [(f"a smaller learning rate ({rates[0].typed})", rates[0])] if rates else []
    clip, init = (
        ("a clipped gradient (--clip 1)", Cure("clip", 1.0)),
        ("smaller initial weights (--init torch)", Cure("init", "torch")),
    )
    return x.offer(*smaller, clip, init)


def not_finite(x: RunFacts) -> Iterator[Finding]:
    """Find the first number that is NaN or infinite, and the line that computed it."""
    broken = ((batch, not_finite_in(x.program, batch, x.record(batch))) for batch in x.maybe_not_finite.tolist())
    batch, first = next(((batch, first) for batch, first in broken if first is not None), (0, None))
    record = x.record(batch) if first is not None else x.moment.record
    if first is None and x.current is not None:  # the batch in which the run was stopped, up to the position
        batch, first = x.current, not_finite_in(x.program, x.current, record)
    if first is None or (batch == x.current and first.tick > x.position.tick):
        return
    name, t, index = first.name, first.t, first.index
    named, read = x.program.names[name], name in x.program.model.page.inputs
    line = x.program.readable_from(name, t) if read and t is not None else x.program.tick_of(name, t)
    tick = first.tick if first.initial else batch * x.program.ticks + line if line is not None else x.end(batch)
    array = record.before[name] if first.initial else named.complete(record, t)
    value = float(np.asarray(array)[index])
    where = spoken(x.program, name, index) + ("" if t is None else f" at t {t + 1}")
    made = not first.initial and (name in x.program.lines or name in x.program.parts)
    _, text = x.program.made_by(name) if made else ("", "")
    number = None if named.kind.store is Store.GRADIENTS else ValueRef(name, index, t, tick)
    if first.from_upstream:
        cure = LOOK_OUTSIDE
    elif read:
        cure = "look for it in the data that the model reads"
    elif first.initial or not x.config.source.can(Ability.TRAIN):
        cure = "look for it in the weights; in the program that trained them, use a smaller learning rate, or clip the gradient"
    else:
        cure = f"step back to before it; then use {of_steps(x)}"
    last = x.losses[batch - 1] if batch else None
    before = f", after a loss of {rounded(last)} in the batch before" if last is not None and np.isfinite(last) else ""
    when = f"when {x.at(batch)} begins" if first.initial else f"in {x.at(batch)}"
    nan_or_infinite = "NaN" if np.isnan(value) else "infinite"
    yield Finding(
        "not-finite",
        f"the gradient from your head and loss is {nan_or_infinite} {when}: the GRU is not the cause"
        if first.from_upstream
        else f"{x.written(name)} {'is' if read or first.initial else 'became'} {nan_or_infinite} {when}",
        "Every number computed from it is not finite either, and after the update neither are the weights.",
        cure,
        (
            Evidence(f"the first number that is not finite: {where} = {value}{before}", number, value),
            *((Evidence(f"the line that computed it: {text}"),) if text else ()),
        ),
        tick,
        (*smaller_rates(x.moment.record.settings), Cure("clip", 1.0), Cure("init", "torch")),
    )


def zero_gradient(x: RunFacts) -> Iterator[Finding]:
    """Find parameters whose gradient is exactly 0 in all of the last batches, grouped by the source of the zeros."""
    learned = x.recently_learned
    if len(learned) < 2:
        return
    zero = [name for name in x.program.parameters if not any(record.own_gradients[name].any() for _, record in learned)]
    if x.program.knows_loss and len(zero) == len(x.program.parameters) and not any(record.loss for _, record in learned):
        yield from _nothing_to_learn(x)
        return
    by_root: dict[str, list[str]] = defaultdict(list)
    for name in zero:
        by_root[_root_of_zeros(x, f"d{name}", learned[-1][1])].append(name)
    batch, record = learned[-1]
    for root, names in by_root.items():
        if x.program.seq_length == 1 and root in map(x.program.model.page.before, x.program.model.page.states):
            continue  # a single timestep from a state of zeros: nothing comes before it
        value = x.program.names[root].complete(record)
        entry = (0,) * (value.ndim - x.program.names[root].timed)
        t = 0 if x.program.names[root].timed else None
        made = root in x.program.lines or root in x.program.parts
        _, text = x.program.made_by(root) if made else ("", "")
        yield Finding(
            "zero-gradient",
            f"the gradient of {enumerated([x.written(name) for name in names])} is exactly 0",
            "These weights never change, however long the training is.",
            "find where the zeros come from: a function that is flat there (relu, clamp), or a state that is always 0",
            (
                Evidence(f"0 in every entry, in the last {counted(len(learned), 'batch')} that learned"),
                Evidence(
                    f"the zeros begin with {x.written(root)}" + (f", by the line {text}" if text else ""),
                    x.entry(batch, root, entry, t),
                    0.0,
                ),
            ),
            x.end(batch),
        )


def _nothing_to_learn(x: RunFacts) -> Iterator[Finding]:
    """Find that each prediction is right whatever the weights are, since there is one character or class only. Any other loss that
    is exactly 0 is what a training is for."""
    batch, record = x.recently_learned[-1]
    if not x.program.model.is_cross_entropy or record.array(x.program.model.prediction).shape[-1] > 1:
        return
    is_text = x.config.source.can(Ability.TEXT)
    yield Finding(
        "zero-gradient",
        f"nothing can be learned: {'the text has one character' if is_text else 'the targets have one class'} only",
        "Its probability is 1 whatever the weights are, so the loss and every gradient are exactly 0.",
        "a text with other characters" if is_text else "targets of more than one class",
        (x.loss_of(batch),),
        x.end(batch),
    )


def _root_of_zeros(x: RunFacts, name: str, record: BatchRecord) -> str:
    """Return the first all-zero name on the way back from a gradient of zeros that reads no other all-zero name."""
    visited: set[str] = set()
    while True:
        visited.add(name)
        formula = x.program.lines[name].formula if name in x.program.lines else x.program.parts.get(name)
        parts = [node.label for node in formula.walk() if node.label] if formula is not None else []
        reads = [*parts, *formula.names()] if formula is not None else []
        for read in reads:
            named = x.program.names.get(read)
            if read in visited or named is None or not (named.timed and named.kind.editable):
                continue
            if not record.array(read).any() and x.program.state_receiving(read) is None:  # it is always 0 after the last timestep
                name = read
                break
        else:
            return name


def vanishing_gradient(x: RunFacts) -> Iterator[Finding]:
    """Find a gradient of the last loss that nearly vanishes within a few timesteps, through every state of every layer.

    In healthy runs a single layer may have such a gradient, if another layer remembers.
    """
    if x.program.model.is_cross_entropy and x.count and x.losses[-1] < _LEARNED_LOSS * np.log(x.config.vocab_size):
        return  # what is predicted by heart has hardly any gradient
    flows = _flows(x) if x.config.hidden_size >= _FEW_UNITS else {}
    norms = [flow.norms for flow in flows.values()]
    distances = [next((d for d, norm in enumerate(norms_back) if norm * _THOUSAND < norms_back[0]), None) for norms_back in norms]
    if (
        not flows
        or any(d is None or d > _SOON for d in distances)
        or any(norms_back[-1] * _THOUSAND >= norms_back[0] for norms_back in norms)
    ):
        return
    state = x.program.main_state if x.program.main_state in flows else next(iter(flows))
    longest = max(d for d in distances if d is not None)
    begins = flows[state].last - int(np.argmax(flows[state].norms * _THOUSAND < flows[state].norms[0]))
    yield _about_flow(
        x,
        state,
        flows[state],
        "vanishing-gradient",
        f"the gradient vanishes: {counted(longest, 'timestep')} earlier it is below a thousandth",
        "A later error hardly changes the weights for earlier timesteps, so the model cannot learn to remember that far.",
        x.offer(
            ("gates that are not saturated, and initial weights that are not near 0 (--init torch)", Cure("init", "torch")),
            ("another cell (--cell gru)", Cure("cell", "gru")),
            ("another cell (--cell lstm)", Cure("cell", "lstm")),
        ),
        Evidence(f"it is below a thousandth from t {begins} back"),
        cures=(Cure("init", "torch"), Cure("cell", "gru"), Cure("cell", "lstm")),
    )


def exploding_gradient(x: RunFacts) -> Iterator[Finding]:
    """Find states through which the gradient of the last loss grows a thousandfold."""
    for state, flow in _flows(x).items():
        norms = flow.norms
        if not norms.max() > _THOUSAND * norms[0]:
            continue
        t = flow.last - int(np.argmax(norms > 10 * norms[0]))
        yield _about_flow(
            x,
            state,
            flow,
            "exploding-gradient",
            f"the gradient of {x.written(state)} explodes: it is {rounded(norms.max() / norms[0])} times as large at the other end",
            "A small change early in the row changes the last prediction very much, so one update step "
            "can move the weights far away.",
            of_steps(x),
            Evidence(f"it is over ten times as large from t {t} on"),
            cures=(Cure("clip", 1.0), *smaller_rates(x.moment.record.settings), Cure("init", "torch")),
        )


class _Flow(NamedTuple):
    """The norms of the gradient of the last prediction with respect to a state, from the timestep `last` (1-based) back to 1."""

    norms: Float64Array
    last: int


def _flows(x: RunFacts) -> dict[str, _Flow]:
    """Return the gradient of the last prediction through each state; empty for a sequence of one timestep."""
    if x.program.seq_length < 2:
        return {}
    flows = {}
    for state, norms in x.last_prediction.items():
        if x.program.model.page.states[state].backwards:
            continue  # at the last timestep, a backward state is at its own beginning
        last_norms = norms[::-1]
        if last_norms[0] == 0 and len(last_norms) > 2:  # a state that only the next timestep reads, such as the cell of an LSTM
            last_norms = last_norms[1:]
        if np.isfinite(last_norms).all() and last_norms[0] > 0:
            flows[state] = _Flow(last_norms, len(last_norms))
    return flows


def _about_flow(
    x: RunFacts,
    state: str,
    flow: _Flow,
    name: str,
    title: str,
    meaning: str,
    cure: str,
    *more: Evidence,
    cures: tuple[Cure, ...],
) -> Finding:
    T, B = x.program.seq_length, x.config.batch_size
    batch = x.last_finite
    assert batch is not None  # `x.last_prediction` is that of this batch
    record = x.record(batch)
    evidence = [
        Evidence(
            f"‖∂ loss of t {T} / ∂ {x.written(state)}‖ over all rows: {rounded(flow.norms[0])} at t {flow.last}, "
            f"{rounded(flow.norms[-1])} at t 1, in {x.at(batch)}"
        )
    ]
    handed_on = f"d{x.program.model.page.before(state)}"
    if record.learned:
        array = np.abs(record.array(handed_on)[-1])
        row, unit = map(int, np.unravel_index(np.argmax(array), (B, array.shape[-1])))
        value = float(record.array(handed_on)[-1, row, unit])
        evidence.append(
            Evidence(
                f"the largest entry passed on by t {T}: {x.written(handed_on)}[row {row + 1}, unit {unit + 1}] = {rounded(value)}",
                x.entry(batch, handed_on, (row, unit), T - 1),
                value,
            )
        )
    return Finding(name, title, meaning, cure, (*evidence, *more), x.end(batch), cures)


def softmax_underflow(x: RunFacts) -> Iterator[Finding]:
    """Find probabilities that are exactly 0, whose logarithm the tutorial's loss takes."""
    name = x.program.loss_names.prediction
    if not x.program.model.is_cross_entropy or name not in x.values:
        return
    for batch, record in x.recent:
        zeros = record.array(name) == 0
        if not zeros.any():
            continue
        t, row, char = map(int, np.unravel_index(np.argmax(zeros), zeros.shape))
        target = bool(record.array(x.program.target)[t, row, char])
        term = "1 · log 0 = −∞" if target else "0 · log 0 = NaN"
        yield Finding(
            "softmax-underflow",
            f"{x.written(name)} is exactly 0 for {counted(int(zeros.sum()), 'entry')}",
            f"The probability is too small for {x.config.dtype}. The loss written as in the tutorial, y ⊙ log ŷ, is then "
            f"{term}; here log and softmax are computed together, which stays finite.",
            "compute log_softmax in one step instead of the log of a softmax, or "
            + x.offer(
                ("use --dtype float64", Cure("dtype", "float64")), ("use smaller weights (--init torch)", Cure("init", "torch"))
            ),
            (
                Evidence(
                    f"{x.written(name)}[row {row + 1}, {x.quoted(x.config.vocabulary[char])}] = 0 at t {t + 1} of {x.at(batch)}",
                    x.entry(batch, name, (row, char), t),
                    0.0,
                ),
            ),
            x.end(batch),
            (Cure("dtype", "float64"), *smaller_rates(x.moment.record.settings), Cure("init", "torch")),
        )
        return


def _is_scale_free(x: RunFacts) -> bool:
    """Return True if an update divides by the size of the gradient, as Adam does, so that clipping hardly changes it."""
    rule = x.program.model.rule
    lines = [line for line in rule.lines if line.formula is not None and rule.is_vector(line.target)]
    nodes = (node for line in lines for node in line.formula.walk())
    return any(isinstance(node, e.Apply) and node.function == "sqrt" for node in nodes)


def _clipped(x: RunFacts) -> NDArray[np.bool_]:
    """Return for each step that has learned whether nearly all of its gradient was clipped away, (n); empty where that is usual."""
    if not x.config.clip or len(x.learned) < _LEARNED_BATCHES or _is_scale_free(x):
        return np.zeros(0, bool)
    return x.timeline.setting("limit", x.learned) < _CLIPPED * x.column("grad_norm")[x.learned]


def is_mostly_clipped(x: RunFacts) -> bool:
    """Return True if the gradient is nearly all clipped away in most steps."""
    clipped = _clipped(x)
    return len(clipped) > 0 and bool(clipped.mean() > _MOST_CLIPPED)


def mostly_clipped(x: RunFacts) -> Iterator[Finding]:
    """Find a gradient that is nearly all clipped away in most steps."""
    if not is_mostly_clipped(x):
        return
    clipped, norms = _clipped(x), x.column("grad_norm")[x.learned]
    share, limit = float(clipped.mean()), x.timeline.setting("limit", x.learned)[-1]
    first = int(x.learned[np.argmax(clipped)])
    factor = float(x.record(first).numbers["clip"])
    yield Finding(
        "mostly-clipped",
        f"the gradient is clipped to less than a tenth in {percent(share)} of all steps",
        "Clipping is meant for rare steps that are too large. If it acts on every step, the norm of the gradient has no "
        "effect, and the learning rate alone determines the size of a step.",
        f"--clip {rounded(float(np.median(norms)))} or more, or instead a smaller --learning-rate",
        (
            Evidence(
                f"in {int(clipped.sum()):,} of {counted(len(norms), 'step')} the factor is below {_CLIPPED}; "
                f"the median norm is {rounded(float(np.median(norms)))}, the limit {rounded(limit)}"
            ),
            Evidence(f"the first is {x.at(first)}, with the factor {rounded(factor)}", x.entry(first, "clip", ()), factor),
        ),
        x.end(first),
        (Cure("clip", float(f"{np.median(norms):.2g}")), *smaller_rates(x.moment.record.settings)),
    )


# ------------------------------------------------------------------------------
# Findings about units: saturated gates, gates that never open, and units that never change.


_FEW_STUCK_UNITS = 4  # units; in a smaller model, most of the units is not significant
_MOST_STUCK = 0.5  # of the units
_DEEP, _DEEPLY = 0.01, 0.75  # a share of the range, near a limit; a share of the units, which a trained network can reach
_ALWAYS = 0.9  # a unit is saturated if at least this share of its entries is
_SHUT = 0.99  # share of the old state that a shut gate keeps
_NEARLY_ALL = 0.99  # of the entries
_STILL = 0.05  # of the range of a state
_DEAD, _RARE = 1e-4, 0.2  # of the range; of the units: in a large healthy network a few units hardly vary for a while
_TINY, _TINY_AT_FIRST = 5e-3, 2e-3  # the largest entry of a state
_EQUAL = 1e-5  # of the largest value: rounding may differ between equal units
_SHORT = 100  # batches; in a shorter run, the first batch is examined as well


def saturated_gate(x: RunFacts) -> Iterator[Finding]:
    """Find values of which most units are nearly always near a limit: with the initial weights, or, very near, in the last batches.

    A trained network uses the flat parts of its functions as well: in healthy runs up to 0.8 of the units of a gate are within a
    tenth of a limit, and up to 0.65 within a hundredth; in a large GRU that predicts well, nearly all reset gates may be shut.
    """
    for name in saturating(x.program):
        limits = limits_of(x.program, name)
        made, _ = x.program.made_by(name)
        if limits is None or not isinstance(made, e.Apply) or not x.count:  # a state without a bounded function
            continue
        first, last, deep = x.record(0).array(name), x.stacked(name), limits._replace(edge=_DEEP)
        if (stuck := _stuck(first, limits, _MOST_STUCK)) is not None and first[..., 0].size >= _FEW_STUCK_UNITS:
            yield _saturated(x, name, limits, first, stuck, 0, 1)
        elif (
            x.varied
            and made.function != "tanh"  # a gate
            and not x.knows_more_than_pairs
            and (stuck := _stuck(last, deep, _DEEPLY)) is not None
            and _stuck(x.record(x.about(x.count * 3 // 4)).array(name), deep, _DEEPLY) is not None  # not for a moment only
        ):
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
        of_steps(x),
        (
            Evidence(
                f"in {x.at(batch) if batches == 1 else f'the last {batches} batches'}, {percent(low)} of its entries are below "
                f"{rounded(least)}, {percent(high)} above {rounded(most)}"
            ),
            x.unit_of(batch, name, int(stuck[0])),
        ),
        x.end(batch),
        (Cure("init", "torch"), *smaller_rates(x.moment.record.settings), Cure("clip", 1.0)),
    )


def keep_gates(program: Program) -> Mapping[str, str]:
    """Return, for each state, the value that says how much of the old state is kept: z for h = z ⊙ h_prev + …."""
    page, gates = program.model.page, dict[str, str]()
    for state in page.states:
        formula = program.lines[state].formula
        for term in formula.terms if formula is not None else ():
            if isinstance(term, e.Times) and e.Name(page.before(state)) in term.parts and len(term.parts) == 2:
                (other,) = [part for part in term.parts if part != e.Name(page.before(state))] or [term.parts[0]]
                name = other.label or (other.name if isinstance(other, e.Name) else "")
                if name in program.names:
                    gates[state] = name
    return gates


def _shut_units(x: RunFacts, state: str, gate: str) -> NDArray[np.intp]:
    """Return the units that keep their old state in the first batch and in the last ones. In a healthy run there are a few."""
    gate_values, values = x.stacked(gate), x.stacked(state)
    low, high = x.program.ranges[state]
    span = high - low if np.isfinite(high - low) else float(np.abs(values).max())
    first = x.record(0).array(gate)
    shut = ((gate_values >= _SHUT).mean(axis=0) >= _NEARLY_ALL) & ((first >= _SHUT).mean(axis=(0, 1)) >= _NEARLY_ALL)
    still = values.max(axis=0) - values.min(axis=0) <= _STILL * span
    return np.flatnonzero(shut & still)


def gate_never_opens(x: RunFacts) -> Iterator[Finding]:
    """Find units that keep their old state at every timestep."""
    if not x.varied:
        return
    for state, gate in keep_gates(x.program).items():
        shut = _shut_units(x, state, gate)
        if not len(shut):
            continue
        unit, gate_values, values = int(shut[0]), x.stacked(gate), x.stacked(state)
        batch = x.count - 1
        share = float((gate_values[:, unit] >= _SHUT).mean())
        least, largest = float(values[:, unit].min()), float(values[:, unit].max())
        written = x.written(gate)
        yield Finding(
            "gate-never-opens",
            f"{enumerated([f'unit {u + 1}' for u in shut.tolist()])} of {x.written(state)} never change"
            + ("s" if len(shut) == 1 else "")
            + f": {written} keeps the old state",
            f"A unit whose {written} is always near 1 ignores its input: it is a constant and does not help any prediction.",
            of_steps(x),
            (
                Evidence(
                    f"{written} of unit {unit + 1} is {_SHUT} or more in {percent(share)} of the last {len(gate_values):,} entries"
                ),
                Evidence(f"{x.written(state)} of it stays between {rounded(least)} and {rounded(largest)}"),
                x.unit_of(batch, gate, unit),
            ),
            x.end(batch),
            (Cure("init", "torch"), *smaller_rates(x.moment.record.settings)),
        )


def dead_unit(x: RunFacts) -> Iterator[Finding]:
    """Find units of a state that hardly change, whatever the input is, and not because a gate is shut."""
    if not x.varied:
        return
    gates = keep_gates(x.program)
    for state in x.program.model.page.states:
        values = x.stacked(state)
        low, high = x.program.ranges[state]
        scale = max(abs(low), abs(high)) if np.isfinite(high - low) else float(np.abs(values).max())
        shut = _shut_units(x, state, gates[state]) if state in gates else np.empty(0, np.intp)
        few = _RARE * values.shape[-1]
        if len(np.setdiff1d(dead_units(values, scale, _DEAD), shut)) <= few:
            continue
        earlier = [x.record(x.about(x.count // 2)), *([x.record(0)] if x.count < _SHORT else [])]  # dead there as well?
        with_earlier = np.concatenate([values, *(record.array(state).reshape(-1, values.shape[-1]) for record in earlier)])
        dead = np.setdiff1d(dead_units(with_earlier, scale, _DEAD), shut)
        if len(dead) <= few:
            continue
        unit, batch = int(dead[0]), x.count - 1
        yield Finding(
            "dead-unit",
            f"{enumerated([f'unit {u + 1}' for u in dead.tolist()])} of {x.written(state)} "
            + ("is dead" if len(dead) == 1 else "are dead"),
            "Its value does not depend on the input, so the layers above learn nothing from it, and it can be removed.",
            x.offer(
                ("smaller initial weights (--init torch)", Cure("init", "torch")),
                ("other ones (--seed)", Cure("seed", x.config.seed + 1)),
                ("fewer units (--hidden-size)", Cure("hidden_size", max(1, x.config.hidden_size // 2))),
            ),
            (
                Evidence(
                    f"in {len(values):,} entries it varies by {rounded(float(np.ptp(values[:, unit])))} at most, "
                    f"of a largest value of {rounded(scale)}"
                ),
                x.unit_of(batch, state, unit),
            ),
            x.end(batch),
            (Cure("init", "torch"), Cure("seed", x.config.seed + 1), Cure("hidden_size", max(1, x.config.hidden_size // 2))),
        )


def state_stays_small(x: RunFacts) -> Iterator[Finding]:
    """Find an output whose entries are near 0 in the first batch or in the last ones, where the model has learned no more than
    pairs of characters.

    With weights that are drawn for a thousand units, the largest entry of the first batch of an LSTM is 0.01; others are larger.
    """
    if not x.varied or len(x.learned) < LEAST_TRIED or not x.config.source.can(Ability.TRAIN) or x.knows_more_than_pairs:
        return
    state, batch, where = x.program.main_state, x.count - 1, f"the last {counted(len(x.recent), 'batch')}"
    values, least = x.stacked(state), _TINY
    if not np.abs(values).max() < least:
        values, batch, where, least = x.record(0).array(state), 0, "the first batch", _TINY_AT_FIRST
        values = values.reshape(-1, values.shape[-1])
    largest = float(np.abs(values).max())
    if not 0 < largest < least:
        return
    unit = int(np.argmax(np.abs(values).max(axis=0)))
    yield Finding(
        "state-stays-small",
        f"{x.written(state)} {'stays' if batch else 'begins'} near 0: its largest entry is {rounded(largest)}",
        "The scores hardly depend on numbers that are so small, and the gradients behind them are as small, so the model learns "
        "little more than how frequent each prediction is.",
        x.offer(
            (
                "initial weights that are not near 0 (--init torch)",
                Cure("init", "torch"),
            )
        ),
        (
            Evidence(f"the largest of {values.size:,} entries of {where}; it is usually nearer to 1"),
            x.unit_of(batch, state, unit),
        ),
        x.end(batch),
        (Cure("init", "torch"),),
    )


def _with_equal_weights(x: RunFacts, state: str) -> NDArray[np.bool_]:
    """Return for each unit of a state whether it is computed with the weights of the one before it, (H); False for the first."""
    weights, suffix = x.record(x.count - 1).before, e.split(state)[1]
    names = [name for name in x.program.parameters if e.split(name)[1] == suffix and x.program.names[name].axes[-1:] == ("H",)]
    alike = np.ones(x.config.hidden_size, bool)
    for name in names:
        columns = np.asarray(weights[name]).reshape(-1, x.config.hidden_size)
        alike[1:] &= (columns[:, 1:] == columns[:, :-1]).all(axis=0)
    alike[0] = False
    return alike & bool(names)


def units_are_identical(x: RunFacts) -> Iterator[Finding]:
    """Find units of a state that always have the same value, because their weights are the same."""
    if not x.varied or not x.count:
        return
    for state in x.program.model.page.states:
        values = x.stacked(state)
        order = np.argsort(values[0], kind="stable")  # equal units are neighbours
        scale = np.abs(values[:, order]).max(axis=0)  # of each unit, since small units are not equal because they are small
        alike = np.abs(np.diff(values[:, order], axis=1)).max(axis=0) <= _EQUAL * scale[1:]
        low, high = x.program.ranges[state]
        inside = np.minimum(values - low, high - values)[:, order].max(axis=0) > _DEEP * (high - low)
        # Units that are always 0 are dead; those that are only at the limits are saturated, whatever their weights are.
        alike &= (scale[1:] > 0) & (inside[1:] | ~np.isfinite(high - low))
        if (equal := _with_equal_weights(x, state)).any():
            order, alike = np.arange(len(equal)), equal[1:]
        if not alike.any():
            continue
        start = int(np.argmax(alike))
        more = alike[start:]
        same = np.sort(order[start : start + 1 + (len(more) if more.all() else int(np.argmin(more)))])
        batch = x.count - 1
        yield Finding(
            "units-are-identical",
            f"{enumerated([f'unit {u + 1}' for u in same.tolist()])} of {x.written(state)} are identical",
            "Units that begin with the same weights get the same gradient, so they stay the same and count as one.",
            x.offer(
                ("initial weights that are drawn (--init torch), not constant", Cure("init", "torch")),
                ("initial weights that are drawn, not constant (--seed)", Cure("seed", x.config.seed + 1)),
            ),
            (
                Evidence(f"equal in all {len(values):,} entries of the last {counted(len(x.recent), 'batch')}"),
                x.unit_of(batch, state, int(same[0])),
                x.unit_of(batch, state, int(same[1])),
            ),
            x.end(batch),
            (Cure("init", "torch"), Cure("seed", x.config.seed + 1)),
        )
