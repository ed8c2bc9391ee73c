"""Findings about models and runs of others: GRUs read in another convention than they were trained in, padding, and Adam.

They need what the other program computed: an expected output, or a recording.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from tui_gru.debugger.analysis.findings.examined import Examined
from tui_gru.debugger.analysis.findings.finding import Evidence, Finding, counted
from tui_gru.debugger.analysis.summaries import largest_entry
from tui_gru.debugger.program.naming import spoken
from tui_gru.engine.numbers import percent, rounded
from tui_gru.equations.compose import LIVE
from tui_gru.interop.recomputing.comparing import output_name

_GATE_NAMES = {"sigmoid": "σ(a)", "hard_sigmoid": "clip(a / 5 + 0.5)", "hard_sigmoid_6": "clip(a / 6 + 0.5)"}
_MOVED = 1e-6  # of a state, which has at most the magnitude 1
_BETAS = 0.9, 0.999  # of Adam, where a recording does not say them
_NEAR, _NEARLY_ALL = 0.05, 0.9  # of a step's length; of the entries
_TINY = 1e-3  # of the largest gradient: below it, Adam's ε and rounding shorten a step


def _about(
    x: Examined, name: str, title: str, meaning: str, cure: str, then: str, *, off: float | None = None
) -> Iterator[Finding]:
    """A finding that the output is not the expected one; `then`: the way in which it is off by `off` only."""
    expected, fit = x.expected, x.fit
    assert expected is not None
    number = x.moment.position.number
    output = output_name(x.record(number))
    apart = np.abs(expected.whole.ours - expected.whole.recorded)
    t, row, unit = np.unravel_index(int(np.argmax(np.nan_to_num(apart, nan=np.inf))), apart.shape)
    value, wanted = float(expected.whole.ours[t, row, unit]), rounded(float(expected.whole.recorded[t, row, unit]))
    evidence = [
        Evidence(
            f"{x.written(output)}[row {row + 1}, unit {unit + 1}] = {rounded(value)} at t {t + 1}, and {wanted} is expected",
            x.entry(number, output, (int(row), int(unit)), int(t)),
            value,
        ),
        Evidence(f"one step at a time, the output is off by {rounded(expected.one_step.error)} of its largest entry"),
    ]
    if fit is not None:
        evidence.append(Evidence(f"{then}, it is off by {rounded(fit.then if off is None else off)}"))
    yield Finding(name, title, meaning, cure, tuple(evidence), x.end(number))


def axes_swapped(x: Examined) -> Iterator[Finding]:
    """An input whose first two axes have changed places on the way from one program to the other."""
    axes = x.fit.way.axes if x.fit is not None else ""
    if axes == "swapped":
        yield from _about(
            x,
            "axes-swapped",
            "the batch axis and the time axis have changed places",
            "The other program read what are rows here as timesteps, so it carried its state from one row to the next. Both "
            "outputs have the same shape, and nothing complains.",
            "batch_first=True in the module, or give X.swapaxes(0, 1) and Y.swapaxes(0, 1)",
            "with the axes swapped",
        )
    elif axes:
        yield from _about(
            x,
            "axes-swapped",
            "the batch axis and the time axis were mixed by a reshape",
            "A reshape keeps the order of the numbers in memory, so every row gets timesteps of other rows. Only a transpose moves "
            "an axis.",
            "X.transpose(1, 0, 2) where the other program has X.reshape"
            if axes == "mixed"
            else "X.transpose(1, 0, 2) in the place of X.reshape",
            "with the input reshaped in the same way" if axes == "mixed" else "with the reshape taken back",
        )


def padding_moves_the_state(x: Examined) -> Iterator[Finding]:
    """Timesteps behind the end of a row that are computed as any other."""
    if x.fit is not None and x.fit.way.padded:
        yield from _about(
            x,
            "padding-moves-the-state",
            "the expected output was computed with the padding read as input",
            "Behind its end a row has nothing to say, but a GRU that reads zeros there still moves its state: the last state is "
            "that of the padding, and a backward direction begins with it.",
            "nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False) in the other program",
            "with all timesteps read",
        )
        return
    yield from _padded_without_lengths(x)


def _padded_without_lengths(x: Examined) -> Iterator[Finding]:
    given, number = x.config.given, x.moment.position.number
    if given is None or LIVE in given.batches[number].inputs or "x" not in given.batches[number].inputs:
        return
    batch, record = given.batches[number], x.record(number)
    T = x.program.seq_length
    read = (batch.inputs["x"].reshape(T, x.config.batch_size, -1) != 0).max(axis=2)
    lengths = np.where(read.any(axis=0), T - read[::-1].argmax(axis=0), 0)
    within = read.sum(axis=0) == lengths  # zeros are nowhere but behind the end
    if not within.all() or lengths.max() < T or lengths.min() == T or not lengths.min():
        return
    padded = np.arange(T)[:, None] >= lengths
    if batch.outside is not None and not x.config.bidirectional and not _gradient_at(x, padded, number):
        return
    state = x.program.main_state
    values = record.array(state)
    last = values[lengths - 1, np.arange(len(lengths))]
    found = largest_entry(values[-1] - last)
    if found is None or not abs(values[-1][found] - last[found]) > _MOVED:
        return
    row, unit = found
    length, value = int(lengths[row]), float(values[-1][found])
    written = x.written(state)
    yield Finding(
        "padding-moves-the-state",
        "padding moves the state",
        "The rows are of different lengths and were filled up with zeros. A GRU that reads zeros still moves its state, so its "
        "last state is that of the padding, not of the row; a backward direction even begins with the padding.",
        "nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False), or take the output at the end of each row",
        (
            Evidence(
                f"{counted(int((lengths < T).sum()), 'row')} of {len(lengths)} end before t {T}, and read zeros from there on"
            ),
            Evidence(f"{written}[row {row + 1}, unit {unit + 1}] = {rounded(float(last[found]))} at t {length}, where the row ends",
                     x.entry(number, state, (row, unit), length - 1), float(last[found])),
            Evidence(f"and {rounded(value)} at t {T}", x.entry(number, state, (row, unit), T - 1), value),
        ),
        x.end(number),
    )  # fmt: skip


def _gradient_at(x: Examined, padded: np.ndarray, number: int) -> bool:
    """Whether the loss of a script depends on what was computed at padding."""
    assert x.config.given is not None
    batch = x.config.given.batches[number]
    rows = padded.any(axis=0)
    outside = batch.outside is not None and bool(batch.outside[padded].any())
    return outside or any(bool(np.asarray(flow)[rows].any()) for flow in batch.flows or () if np.ndim(flow))


def gates_mixed_up(x: Examined) -> Iterator[Finding]:
    """Gates that are stacked in another order, or computed by another function."""
    fit = x.fit
    if fit is not None and fit.differs("order"):
        places = {"z": "update gate z", "r": "reset gate r", "n": "candidate"}
        moved = [
            f"what is read as the {places[own]} is the {places[is_]}"
            for is_, own in zip("zrn", fit.way.convention.order, strict=True)
            if is_ != own
        ]
        yield from _about(
            x,
            "gates-mixed-up",
            "the gates are stacked in another order: " + ", ".join(moved),
            "All three blocks have the same shape, so they can be exchanged without an error. torch stacks r z n; Keras and ONNX "
            "stack z r h.",
            "--order, with the gates as the other program stacks them",
            "with the blocks exchanged",
        )
    if fit is not None and fit.differs("gate"):
        name = _GATE_NAMES[fit.way.convention.gate]
        yield from _about(
            x,
            "gates-mixed-up",
            f"the gates are computed by {name}, not by {_GATE_NAMES[fit.here.gate]}",
            "The two functions are alike near 0 and apart further out, so such a model is a little wrong everywhere.",
            f"--gate {fit.way.convention.gate}",
            f"with gates by {name}",
        )


def reset_mixed_up(x: Examined) -> Iterator[Finding]:
    """The reset gate multiplies the state before its product with U, or the product after it."""
    fit = x.fit
    if fit is not None and fit.differs("reset"):
        after = fit.way.convention.reset == "after"
        yield from _about(
            x,
            "reset-mixed-up",
            f"the reset gate belongs {'after' if after else 'before'} the product with U",
            "Cho et al. (2014) take r ⊙ hₜ₋₁ before the product, torch and Keras the product first, since that is faster. The "
            "weights have the same shapes, and do not fit the other equation.",
            f"--reset {fit.way.convention.reset}",
            f"with reset {fit.way.convention.reset}",
        )


def z_flipped(x: Examined) -> Iterator[Finding]:
    """z lets the candidate in where it is read as keeping the old state, or the other way round."""
    fit = x.fit
    if fit is not None and fit.differs("z"):
        takes = fit.way.convention.z == "takes"
        yield from _about(
            x,
            "z-flipped",
            f"the update gate is the other way round: z near 1 {'takes the candidate' if takes else 'keeps the old state'}",
            "Papers and programs disagree on which of the two z multiplies. Read the other way, a unit forgets just when it should "
            "remember.",
            f"--z {fit.way.convention.z}, or negate all weights and biases of z",
            f"with z that {fit.way.convention.z}",
        )


def _changed_biases(x: Examined) -> set[str]:
    return {x.fit.way.gates, x.fit.way.candidate} - {""} if x.fit is not None else set()


def _whose(x: Examined) -> str:
    """Of which gates the biases are meant, in words."""
    assert x.fit is not None
    way = x.fit.way
    return " of z, r and the candidate" if way.gates and way.candidate else " of z and r" if way.gates else " of the candidate"


def biases_counted_twice(x: Examined) -> Iterator[Finding]:
    """Biases that were stored in both places that a gate has for one, or that the other program added twice."""
    changed = _changed_biases(x)
    if changed & {"first", "second"} and x.fit is not None and x.fit.equal:
        yield from _about(
            x,
            "biases-counted-twice",
            f"the biases{_whose(x)} are counted twice",
            "torch has two biases for each gate, one beside x W and one beside hₜ₋₁ U, which add up. The file has the same numbers "
            "in both: a bias of a program with one was copied into both places.",
            "put the bias into bias_ih, and 0 into bias_hh",
            "with one of the two",
        )
    elif "twice" in changed:
        yield from _about(
            x,
            "biases-counted-twice",
            f"the other program counts the biases{_whose(x)} twice",
            "Each gate has one sum to which its biases are added. The expected output has them in it twice, as if they had been "
            "added to x W and to hₜ₋₁ U.",
            "add each bias once in the other program, or double the biases here",
            "with the biases doubled",
        )


def bias_left_out(x: Examined) -> Iterator[Finding]:
    """One of the two biases of a gate that the other program does not add."""
    kept = _changed_biases(x) & {"first", "second"}
    if kept and x.fit is not None and not x.fit.equal:
        left_out = "hₜ₋₁ U" if "first" in kept else "x W"
        yield from _about(
            x,
            "bias-left-out",
            f"the other program leaves out the bias{_whose(x)} beside {left_out}",
            "torch has two biases for each gate, which add up; a program with one needs their sum.",
            f"add bias_{'hh' if 'first' in kept else 'ih'} to the other one in the port",
            "without it",
        )


def biases_merged(x: Examined) -> Iterator[Finding]:
    """The two biases of a candidate whose reset gate comes after the product, added into one."""
    changed = _changed_biases(x) & {"merged", "separate"}
    if not changed:
        return
    here = "separate" in changed
    yield from _about(
        x,
        "biases-merged",
        "the two biases of the candidate were merged into one" + ("" if here else " by the other program"),
        "With the reset gate after the product, r multiplies hₜ₋₁ U and the bias beside it, and not the one beside x W. Their "
        "sum is the same thing only where r is 1; for z and r it always is.",
        "keep bias_hh of the candidate inside the brackets: tanh(x W + bias_ih + r ⊙ (hₜ₋₁ U + bias_hh))",
        "with two biases of the same sum, one inside and one outside" if here else "with their sum outside",
    )


def output_not_expected(x: Examined) -> Iterator[Finding]:
    """An output that is not the expected one, whatever the convention."""
    if x.expected is not None and x.fit is None:
        yield from _about(
            x,
            "output-not-expected",
            "the output is not the expected one, in no convention",
            "No order of the gates, place of the reset, meaning of z, use of the biases or order of the axes gives the expected "
            "output with these weights and inputs.",
            "check that X, Y, h0 and the weights are of the same moment of the same module",
            "",
        )


def adam_uncorrected(x: Examined) -> Iterator[Finding]:
    """A first step of Adam by m / √v as they are, which begin at 0: (1 − β1) / √(1 − β2) times the learning rate, over three."""
    given = x.config.given
    if given is None or given.steps[:2] != (0, 1):
        return
    first, second = given.batches[0], given.batches[1]
    rate = first.settings.get("lr", math.nan)
    if first.recorded is None or not rate > 0:
        return
    beta_1, beta_2 = (first.settings.get(f"betas_{i}", usual) for i, usual in enumerate(_BETAS))
    gradient = np.asarray(first.recorded.parameters, np.float64)
    change = np.asarray(second.weights.parameters, np.float64) - np.asarray(first.weights.parameters, np.float64)
    used = np.abs(gradient) > _TINY * np.nanmax(np.abs(gradient), initial=0)
    if not used.any() or not 0 < beta_2 < 1:
        return
    lengths = -np.sign(gradient[used]) * change[used] / rate
    uncorrected = (1 - beta_1) / math.sqrt(1 - beta_2)
    share = float((np.abs(lengths / uncorrected - 1) < _NEAR).mean())
    if share < _NEARLY_ALL or abs(uncorrected - 1) < 2 * _NEAR:
        return
    name = x.program.parameters[0]
    gradients = np.abs(np.nan_to_num(first.recorded[name]))
    index = largest_entry(gradients)
    assert index is not None
    before, value = rounded(float(first.weights[name][index])), float(second.weights[name][index])
    yield Finding(
        "adam-uncorrected",
        f"the first step of Adam is {rounded(uncorrected)} times the learning rate: its means are not corrected",
        "m and v begin at 0, so at first they are far too small, and √v more so than m. With the correction the first step is as "
        "long as the learning rate; without it the first steps are too long, when the gradient is least reliable.",
        f"divide m by 1 − {beta_1:g}ⁿ and v by 1 − {beta_2:g}ⁿ (torch.optim.Adam does), or let the learning rate rise slowly",
        (
            Evidence(
                f"{percent(share)} of the weights moved by {rounded(float(np.median(lengths)))} learning rates in step 0, each "
                f"against its gradient; (1 − {beta_1:g}) / √(1 − {beta_2:g}) = {rounded(uncorrected)}, and 1 is right"
            ),
            Evidence(
                f"{spoken(x.program, name, index)} was {before}, and is {rounded(value)} after it; "
                f"the learning rate is {rounded(rate)}",
                x.entry(1, name, index),
                value,
            ),
        ),
        x.end(1),
    )
