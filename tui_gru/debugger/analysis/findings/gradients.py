"""Findings about gradients: not finite, exactly zero, vanishing, exploding, clipped away; and probabilities of exactly zero."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from tui_gru.debugger.analysis.checks.not_finite import not_finite_in
from tui_gru.debugger.analysis.findings.examined import RunFacts
from tui_gru.debugger.analysis.findings.finding import Evidence, Finding, counted, listed
from tui_gru.debugger.derivation.origin import ValueRef
from tui_gru.debugger.program.names import ValueKind
from tui_gru.debugger.program.naming import spoken
from tui_gru.debugger.timeline.recorded import recorded
from tui_gru.engine.numbers import percent, rounded
from tui_gru.engine.running.batch import BatchRecord
from tui_gru.engine.running.weights import Float64Array

_THOUSAND = 1e3
_SOON = 3  # timesteps within which a vanishing gradient falls below a thousandth; healthy runs take 5 or more
_CLIPPED = 0.1  # nearly all of a gradient is clipped away if the factor is smaller
_FEW_UNITS = 4  # units; a smaller model may have nothing to remember
_LEARNED_BATCHES = 8  # the number of learning batches that a finding needs
_MOST_CLIPPED = 0.5


def not_finite(x: RunFacts) -> Iterator[Finding]:
    """Find the first number that is NaN or infinite, and the line that computed it."""
    broken = ((batch, not_finite_in(x.program, batch, x.record(batch))) for batch in x.maybe_not_finite.tolist())
    batch, first = next(((batch, first) for batch, first in broken if first is not None), (0, None))
    if first is None:
        return
    record, name, t, index = x.record(batch), first.name, first.t, first.index
    read = x.program.names[name].kind is ValueKind.INPUT
    line = x.program.there_at(name, t) if read and t is not None else x.program.tick_of(name, t)
    tick = first.tick if first.given else batch * x.program.ticks + line if line is not None else x.end(batch)
    array = record.before[name] if first.given else recorded(x.program, record, name, t)
    value = float(np.asarray(array)[index])
    where = spoken(x.program, name, index) + ("" if t is None else f" at t {t + 1}")
    made = not first.given and (name in x.program.lines or name in x.program.parts)
    _, text = x.program.made_by(name) if made else ("", "")
    number = None if x.program.names[name].kind is ValueKind.GRADIENT else ValueRef(name, index, t, tick)
    if read:
        cure = "look for it in the data that the model reads"
    elif first.given or x.config.given is not None:
        cure = "look for it in the weights; in the program that trained them, use a smaller learning rate, or clip the gradient"
    else:
        cure = "step back to before it; then use a smaller --learning-rate, or --clip 1"
    last = x.losses[batch - 1] if batch else None
    before = f", after a loss of {rounded(last)} in the batch before" if last is not None and np.isfinite(last) else ""
    when = f"when {x.at(batch)} begins" if first.given else f"in {x.at(batch)}"
    yield Finding(
        "not-finite",
        f"{x.written(name)} {'is' if read or first.given else 'became'} {'NaN' if np.isnan(value) else 'infinite'} {when}",
        "Every number computed from it is not finite either, and after the update neither are the weights.",
        cure,
        (
            Evidence(f"the first number that is not finite: {where} = {value}{before}", number, value),
            *((Evidence(f"the line that computed it: {text}"),) if text else ()),
        ),
        tick,
    )


def zero_gradient(x: RunFacts) -> Iterator[Finding]:
    """Find parameters whose gradient is exactly 0 in all of the last batches, grouped by the source of the zeros."""
    learned = x.recently_learned
    if len(learned) < 2:
        return
    zero = [name for name in x.program.parameters if not any(record.own_gradients[name].any() for _, record in learned)]
    by_root: dict[str, list[str]] = defaultdict(list)
    for name in zero:
        by_root[_root_of_zeros(x, f"d{name}", learned[-1][1])].append(name)
    batch, record = learned[-1]
    for root, names in by_root.items():
        value = recorded(x.program, record, root)
        entry = (0,) * (value.ndim - x.program.names[root].timed)
        t = 0 if x.program.names[root].timed else None
        made = root in x.program.lines or root in x.program.parts
        _, text = x.program.made_by(root) if made else ("", "")
        yield Finding(
            "zero-gradient",
            f"the gradient of {listed([x.written(name) for name in names])} is exactly 0",
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


def _root_of_zeros(x: RunFacts, name: str, record: BatchRecord) -> str:
    """Return the first all-zero name on the way back from a gradient of zeros that reads no other all-zero name."""
    seen: set[str] = set()
    while True:
        seen.add(name)
        formula = x.program.lines[name].formula if name in x.program.lines else x.program.parts.get(name)
        parts = [node.label for node in formula.walk() if node.label] if formula is not None else []
        reads = [*parts, *formula.names()] if formula is not None else []
        for read in reads:
            known = x.program.names.get(read)
            if (
                read in seen
                or known is None
                or known.kind not in (ValueKind.VALUE_GRADIENT, ValueKind.VALUE, ValueKind.STATE)
                or not known.timed
            ):
                continue
            if not record.array(read).any() and x.program.state_ahead(read) is None:  # it is always 0 after the last timestep
                name = read
                break
        else:
            return name


def vanishing_gradient(x: RunFacts) -> Iterator[Finding]:
    """Find a gradient of the last loss that nearly vanishes within a few timesteps, through every state of every layer.

    In healthy runs a single layer may have such a gradient, if another layer remembers.
    """
    flows = _flows(x) if x.config.hidden_size >= _FEW_UNITS else {}
    gone = [next((d for d, norm in enumerate(norms) if norm * _THOUSAND < norms[0]), None) for norms in flows.values()]
    if not flows or any(d is None or d > _SOON for d in gone) or any(n[-1] * _THOUSAND >= n[0] for n in flows.values()):
        return
    state = x.program.main_state if x.program.main_state in flows else next(iter(flows))
    longest = max(d for d in gone if d is not None)
    begins = x.program.seq_length - int(np.argmax(flows[state] * _THOUSAND < flows[state][0]))
    yield _about_flow(
        x,
        state,
        flows[state],
        "vanishing-gradient",
        f"the gradient vanishes: {counted(longest, 'timestep')} earlier it is below a thousandth",
        "A later error hardly changes the weights for earlier timesteps, so the model cannot learn to remember that far.",
        "gates that are not saturated, initial weights that are not near 0 (--init torch), or another cell (gru, lstm)",
        Evidence(f"it is below a thousandth from t {begins} back"),
    )


def exploding_gradient(x: RunFacts) -> Iterator[Finding]:
    """Find states through which the gradient of the last loss grows a thousandfold."""
    for state, norms in _flows(x).items():
        last = norms[0]
        if not norms.max() > _THOUSAND * last:
            continue
        begins = int(np.argmax(norms > 10 * last))
        way = -1 if x.program.model.page.states[state].backwards else 1
        t = x.program.seq_length - begins if way > 0 else begins + 1
        yield _about_flow(
            x,
            state,
            norms,
            "exploding-gradient",
            f"the gradient of {x.written(state)} explodes: it is {rounded(norms.max() / last)} times as large at the other end",
            "A small change early in the row changes the last prediction very much, so one update step "
            "can move the weights far away.",
            "--clip 1, a smaller --learning-rate, or smaller initial weights (--init torch)",
            Evidence(f"it is over ten times as large from t {t} on"),
        )


def _flows(x: RunFacts) -> dict[str, Float64Array]:
    """Return the norms of each state from the end of its row to the start; empty for a sequence of one timestep."""
    if x.program.seq_length < 2:
        return {}
    found = {}
    for state, norms in x.last_prediction.items():
        if x.program.model.page.states[state].backwards:
            continue  # at the last timestep, a backward state is at its own beginning
        there = norms[::-1]
        if there[0] == 0 and len(there) > 2:  # a state that only the next timestep reads, such as the cell of an LSTM
            there = there[1:]
        if np.isfinite(there).all() and there[0] > 0:
            found[state] = there
    return found


def _about_flow(
    x: RunFacts, state: str, norms: Float64Array, name: str, title: str, meaning: str, cure: str, *more: Evidence
) -> Finding:
    T, B = x.program.seq_length, x.config.batch_size
    batch, record = x.recent[-1]
    evidence = [
        Evidence(
            f"‖∂ loss of t {T} / ∂ {x.written(state)}‖ over all rows: {rounded(norms[0])} at t {T}, "
            f"{rounded(norms[-1])} at t 1, in {x.at(batch)}"
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
    return Finding(name, title, meaning, cure, (*evidence, *more), x.end(batch))


def softmax_underflow(x: RunFacts) -> Iterator[Finding]:
    """Find probabilities that are exactly 0, whose logarithm the tutorial's loss takes."""
    name = x.program.loss_names.prediction
    if not x.program.target or name not in x.values:
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
            "compute log_softmax in one step instead of the log of a softmax, or use --dtype float64; smaller weights help as well",
            (
                Evidence(
                    f"{x.written(name)}[row {row + 1}, {x.quoted(x.config.vocabulary[char])}] = 0 at t {t + 1} of {x.at(batch)}",
                    x.entry(batch, name, (row, char), t),
                    0.0,
                ),
            ),
            x.end(batch),
        )
        return


def mostly_clipped(x: RunFacts) -> Iterator[Finding]:
    """Find a gradient that is nearly all clipped away in most steps."""
    if not x.config.clip or len(x.learned) < _LEARNED_BATCHES:
        return
    norms, limits = x.column("grad_norm")[x.learned], x.timeline.setting("limit", x.learned)
    clipped = limits < _CLIPPED * norms
    share = float(clipped.mean())
    if share <= _MOST_CLIPPED:
        return
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
                f"the median norm is {rounded(float(np.median(norms)))}, the limit {rounded(limits[-1])}"
            ),
            Evidence(f"the first is {x.at(first)}, with the factor {rounded(factor)}", x.entry(first, "clip", ()), factor),
        ),
        x.end(first),
    )
