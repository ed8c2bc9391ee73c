"""Findings about models from other programs: cells read in the wrong convention, padding, and Adam without bias correction.

They need a result of the other program: an expected output or a recording.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from tui_gru.analysis.examined import Evidence, Finding, RunFacts
from tui_gru.analysis.summaries import largest_entry
from tui_gru.debugger.program import spoken
from tui_gru.engine.numbers import counted, percent, rounded
from tui_gru.engine.source import ImportedBatch
from tui_gru.equations.functions import GATES
from tui_gru.equations.page import LIVE
from tui_gru.files.kinds import KINDS
from tui_gru.imported.convention import ProofResult
from tui_gru.imported.recompute import output_name

_PLACES = {
    "z": "update gate z",
    "r": "reset gate r",
    "n": "candidate",
    "i": "input gate i",
    "f": "forget gate f",
    "g": "candidate g",
    "o": "output gate q",
}
_MOVED = 1e-6  # smaller changes of a state do not count; states are between −1 and 1
_BETAS = 0.9, 0.999  # of Adam, if the recording does not contain them
_NEAR, _NEARLY_ALL = 0.05, 0.9  # relative difference of step lengths; share of the entries
_TINY = 1e-3  # of the largest gradient; below it, ε and rounding change the step length


def _about(x: RunFacts, name: str, title: str, meaning: str, cure: str, variant: str) -> Iterator[Finding]:
    """Yield a finding about an output that differs from the expected one. `variant` describes the variant that gives it."""
    expected, fit = x.expected, x.fit
    assert expected is not None
    number = x.position.number
    output = output_name(x.record(number))
    difference = np.abs(expected.whole.ours - expected.whole.recorded)
    t, row, unit = np.unravel_index(int(np.argmax(np.nan_to_num(difference, nan=np.inf))), difference.shape)
    value, recorded = float(expected.whole.ours[t, row, unit]), rounded(float(expected.whole.recorded[t, row, unit]))
    evidence = [
        Evidence(
            f"{x.written(output)}[row {row + 1}, unit {unit + 1}] = {rounded(value)} at t {t + 1}; expected: {recorded}",
            x.entry(number, output, (int(row), int(unit)), int(t)),
            value,
        ),
        Evidence(f"one step at a time, the output differs by {rounded(expected.one_step.error)} of its largest entry"),
    ]
    if fit is not None:
        evidence.append(Evidence(f"{variant}, it differs by {rounded(fit.then)}"))
    yield Finding(name, title, meaning, cure, tuple(evidence), x.end(number))


def axes_swapped(x: RunFacts) -> Iterator[Finding]:
    """Find an input whose batch and time axes were swapped or mixed."""
    axes = x.fit.variant.axes if x.fit is not None else ""
    if axes == "swapped":
        yield from _about(
            x,
            "axes-swapped",
            "the batch and time axes are swapped",
            "The other program used the rows as timesteps, so it carried its state from one row to the next. The shapes are the "
            "same, so there is no error message.",
            "set batch_first=True in the module, or pass X.swapaxes(0, 1) and Y.swapaxes(0, 1)",
            "with the axes swapped",
        )
    elif axes:
        yield from _about(
            x,
            "axes-swapped",
            "a reshape has mixed the batch and time axes",
            "A reshape keeps the order of the numbers in memory, so every row gets timesteps of other rows. A transpose swaps "
            "axes; a reshape does not.",
            "replace X.reshape by X.transpose(1, 0, 2) in the other program"
            if axes == "mixed"
            else "replace X.reshape by X.transpose(1, 0, 2) for this input",
            "with the same reshape" if axes == "mixed" else "with the reshape undone",
        )


def padding_moves_the_state(x: RunFacts) -> Iterator[Finding]:
    """Find timesteps after the end of a row that change its state."""
    if x.fit is not None and x.fit.variant.padded:
        yield from _about(
            x,
            "padding-moves-the-state",
            "the expected output was computed with padding as input",
            "A GRU that reads zeros after the end of a row still changes its state: the last state is the state after the padding, "
            "and a backward direction starts in the padding.",
            "use nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False) in the other program",
            "without lengths",
        )
        return
    yield from _padded_without_lengths(x)


def _ragged(x: RunFacts, lengths: np.ndarray) -> str:
    T = x.program.seq_length
    return f"{counted(int((lengths < T).sum()), 'row')} of {len(lengths)} end before t {T} and continue with one and the same input"


def _lengths_without_padding(x: RunFacts) -> np.ndarray | None:
    """Return the lengths (B) of the rows of the current batch without their padding: zeros, or another input that occurs nowhere
    else, such as the embedding of a padding token. None if there are no rows of different lengths, or the model knows them."""
    number = x.position.number
    batch = x.config.source.batch(number)
    if batch is None or LIVE in batch.inputs or "x" not in batch.inputs:
        return None
    T = x.program.seq_length
    read = batch.inputs["x"].reshape(T, x.config.batch_size, -1)
    candidates, counts = np.unique(read[-1], axis=0, return_counts=True)
    for padding in (np.zeros_like(read[0, 0]), candidates[counts.argmax()]):
        other = (read != padding).any(axis=2)
        lengths = np.where(other.any(axis=0), T - other[::-1].argmax(axis=0), 0)
        within = other.sum(axis=0) == lengths  # only after the end
        ends_once = padding.any() and lengths.min() > T - 2  # as two sentences end with the same character
        if within.all() and 0 < lengths.min() < lengths.max() == T and not ends_once:
            return lengths
    return None


def _padded_without_lengths(x: RunFacts) -> Iterator[Finding]:
    number = x.position.number
    batch, lengths = x.config.source.batch(number), _lengths_without_padding(x)
    if batch is None or lengths is None:
        return
    record, T = x.record(number), x.program.seq_length
    padded = np.arange(T)[:, None] >= lengths
    if batch.upstream is not None and not x.config.bidirectional and not _gradient_at(batch, padded):
        return
    reached = np.zeros_like(padded) if batch.upstream is None else np.any(batch.upstream != 0, axis=2)
    if reached[:-1][padded[:-1]].any():  # not the last timestep alone, where the output of the end was meant
        yield Finding(
            "padding-moves-the-state",
            "the padding gets a gradient: the loss has no mask",
            "The rows have different lengths and are padded, and the loss includes what is predicted after their end. The model "
            "learns to predict padding, and the mean loss is lower than that of the rows.",
            "multiply the loss of each timestep by a mask, or use ignore_index of the loss; or pack_padded_sequence",
            (
                Evidence(_ragged(x, lengths)),
                Evidence(
                    f"{int((reached & padded).sum())} of {counted(int(reached.sum()), 'output')} with a gradient are at padding"
                ),
            ),
            x.end(number),
        )
        return
    backwards = x.config.bidirectional and batch.upstream is not None and not _gradient_at(batch, padded)
    state = f"{x.program.main_state}_reverse" if backwards else x.program.main_state
    values, rows = record.array(state), np.arange(len(lengths))
    if backwards:  # nothing reads the states at padding but the rows, which begin there
        starts = np.minimum(lengths, T - 1)
        moved = np.where((lengths < T)[:, None], values[starts, rows], 0)
    else:
        moved = values[-1] - values[lengths - 1, rows]
    entry = largest_entry(moved)
    if entry is None or not abs(moved[entry]) > _MOVED:
        return
    row, unit = entry
    length, written = int(lengths[row]), f"{x.written(state)}[row {row + 1}, unit {unit + 1}]"

    def at(t: int, before: str, after: str) -> Evidence:
        value = float(values[t - 1, row, unit])
        return Evidence(f"{before} {rounded(value)} at t {t}{after}", x.entry(number, state, (row, unit), t - 1), value)

    if backwards:
        shown = [at(length + 1, f"{written} =", ", with which the backward direction comes to the row, is not 0")]
    else:
        shown = [at(length, f"{written} =", ", where the row ends"), at(T, "and", "")]
    yield Finding(
        "padding-moves-the-state",
        "the backward direction begins each row in its padding" if backwards else "padding changes the state",
        "The rows have different lengths and are padded. A GRU that reads padding still changes its state, so its last state is "
        "the state after the padding, not after the row; a backward direction starts in the padding.",
        "use nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False), or read the output at the end of each row",
        (Evidence(_ragged(x, lengths)), *shown),
        x.end(number),
        is_observation=backwards,  # the states of the rows are others with packed rows; whether the model learns less is not known
    )


def _gradient_at(batch: ImportedBatch, padded: np.ndarray) -> bool:
    """Return True if the loss of a script depends on the output at padding."""
    rows = padded.any(axis=0)
    upstream = batch.upstream is not None and bool(batch.upstream[padded].any())
    return upstream or any(bool(np.asarray(flow)[rows].any()) for flow in batch.flows or () if np.ndim(flow))


def gates_mixed_up(x: RunFacts) -> Iterator[Finding]:
    """Find gates in another order, or with another activation function."""
    fit = x.fit
    if fit is not None and fit.differs("order"):
        orders = "torch stacks r z n; Keras and ONNX stack z r h."
        if fit.present.kind == "lstm":
            orders = "torch and Keras stack i f g o; ONNX stacks i o f g."
        theirs, ours = fit.variant.convention.order, fit.present.order
        places = {gate: ours[theirs.index(gate)] for gate in KINDS[fit.present.kind].gates}
        moved = [f"the {_PLACES[place]} here is the {_PLACES[gate]} there" for gate, place in places.items() if place != gate]
        yield from _about(
            x,
            "gates-mixed-up",
            "the gates are in another order: " + ", ".join(moved),
            f"All blocks have the same shape, so a wrong order causes no error message. {orders}",
            "--order with the order of the other program",
            "with the gates in the other order",
        )
    if fit is not None and fit.differs("gate"):
        name, ours = (
            GATES[gate].written if gate in GATES else f"{gate}(a)" for gate in (fit.variant.convention.gate, fit.present.gate)
        )
        yield from _about(
            x,
            "gates-mixed-up",
            f"the activation function of the {'state' if fit.present.kind == 'rnn' else 'gates'} is {name}, not {ours}",
            "The two functions are similar near 0 and differ elsewhere, so every value of such a model is slightly wrong.",
            f"--gate {fit.variant.convention.gate}",
            f"with {name}",
        )


def reset_mixed_up(x: RunFacts) -> Iterator[Finding]:
    """Find a reset gate that is applied before the product with U instead of after it, or the reverse."""
    fit = x.fit
    if fit is not None and fit.differs("reset"):
        after = fit.variant.convention.reset == "after"
        yield from _about(
            x,
            "reset-mixed-up",
            f"the reset gate is applied {'after' if after else 'before'} the product with U",
            "Cho et al. (2014) multiply r ⊙ hₜ₋₁ by U; torch and Keras multiply hₜ₋₁ by U first, which is faster. The weights have "
            "the same shapes, but they were trained for one of the two equations.",
            f"--reset {fit.variant.convention.reset}",
            f"with reset {fit.variant.convention.reset}",
        )


def z_flipped(x: RunFacts) -> Iterator[Finding]:
    """Find an update gate whose values 0 and 1 have the opposite meaning."""
    fit = x.fit
    if fit is not None and fit.differs("z"):
        takes = fit.variant.convention.z == "takes"
        yield from _about(
            x,
            "z-flipped",
            f"the update gate has the opposite meaning: z near 1 {'takes the candidate' if takes else 'keeps the old state'}",
            "Papers and programs differ in whether z multiplies the old state or the candidate. With the wrong meaning, a unit "
            "forgets when it should remember.",
            f"--z {fit.variant.convention.z}, or negate all weights and biases of z",
            f"with --z {fit.variant.convention.z}",
        )


def forget_bias_mixed_up(x: RunFacts) -> Iterator[Finding]:
    """Find a number that the other program adds to the bias of the forget gate of an LSTM."""
    fit = x.fit
    if fit is not None and fit.differs("forget_bias"):
        yield from _about(
            x,
            "forget-bias-mixed-up",
            f"the other program adds {fit.variant.convention.forget_bias} to the bias of the forget gate",
            "TensorFlow's old LSTM cells add forget_bias, 1 by default, when they compute; it is not in their weights. Keras only "
            "begins with a bias of 1 (unit_forget_bias), which is in the weights.",
            f"add {fit.variant.convention.forget_bias} to the bias of the forget gate when you convert the weights",
            f"with {fit.variant.convention.forget_bias} added",
        )


def _changed_biases(x: RunFacts) -> set[str]:
    if x.fit is None:
        return set()
    variant = x.fit.variant
    return {variant.reading.gates, variant.reading.candidate, "separate" * variant.separate} - {""}


def _whose(x: RunFacts) -> str:
    """Return the gates whose biases are meant, in words."""
    assert x.fit is not None
    variant = x.fit.variant.reading
    if x.fit.present.kind != "gru":
        return ""
    return (
        " of z, r and the candidate"
        if variant.gates and variant.candidate
        else " of z and r"
        if variant.gates
        else " of the candidate"
    )


def biases_counted_twice(x: RunFacts) -> Iterator[Finding]:
    """Find biases that the file stores twice, or that the other program adds twice."""
    changed = _changed_biases(x)
    if changed & {"first", "second"} and x.fit is not None and x.fit.equal:
        yield from _about(
            x,
            "biases-counted-twice",
            f"the biases{_whose(x)} are counted twice",
            "torch has two biases for each gate, one added to x W and one added to hₜ₋₁ U. The file has the same numbers in both: "
            "the bias of a program with one bias was copied into both.",
            "store the bias in bias_ih, and 0 in bias_hh",
            "with one of the two biases",
        )
    elif "twice" in changed:
        yield from _about(
            x,
            "biases-counted-twice",
            f"the other program adds the biases{_whose(x)} twice",
            "In the expected output each bias is counted twice, as if it had been added to x W and to hₜ₋₁ U.",
            "add each bias once in the other program, or double the biases here",
            "with twice the biases",
        )


def bias_left_out(x: RunFacts) -> Iterator[Finding]:
    """Find a bias that the other program leaves out, one of the two of a gate."""
    left_out_of = _changed_biases(x) & {"first", "second"}
    if left_out_of and x.fit is not None and not x.fit.equal:
        left_out = "hₜ₋₁ U" if "first" in left_out_of else "x W"
        yield from _about(
            x,
            "bias-left-out",
            f"the other program omits the bias{_whose(x)} that is added to {left_out}",
            "torch has two biases for each gate; a program with one bias needs their sum.",
            f"add bias_{'hh' if 'first' in left_out_of else 'ih'} to the other bias when you convert the weights",
            "without this bias",
        )


def biases_merged(x: RunFacts) -> Iterator[Finding]:
    """Find two biases of a candidate, with the reset gate after the product, that were added up."""
    changed = _changed_biases(x) & {"merged", "separate"}
    if not changed:
        return
    is_separate = "separate" in changed
    yield from _about(
        x,
        "biases-merged",
        "the two biases of the candidate were merged" + ("" if is_separate else " by the other program"),
        "With the reset gate after the product, r multiplies hₜ₋₁ U and its bias, but not the bias of x W. Their sum has the same "
        "effect only if r is 1. For z and r, the sum always has the same effect.",
        "keep the two biases apart: tanh(x W + bias_ih + r ⊙ (hₜ₋₁ U + bias_hh))",
        "with two biases that have the same sum" if is_separate else "with the sum in place of the bias of x W",
    )


def output_not_expected(x: RunFacts) -> Iterator[Finding]:
    """Find an output that differs from the expected one in all conventions."""
    if x.expected is not None and x.fit is None and x.expected.result is ProofResult.NEAR:
        yield from _about(
            x,
            "output-not-expected",
            "the output is that of this convention, but not to rounding",
            f"No other order of the gates, place of the reset gate or meaning of z comes as near: {x.expected.why}.",
            "compare with a tolerance for it, or compute both programs with the same functions and in float32",
            "",
        )
    elif x.expected is not None and x.fit is None:
        yield from _about(
            x,
            "output-not-expected",
            "the output differs from the expected one in all conventions",
            "No order of the gates, place of the reset gate, meaning of z, use of the biases or order of the axes gives the "
            "expected output with these weights and inputs.",
            "check that X, Y, h0 and the weights come from the same state of the same module",
            "",
        )


def adam_uncorrected(x: RunFacts) -> Iterator[Finding]:
    """Find a first step of Adam without bias correction: (1 − β1) / √(1 − β2) times the learning rate, which is more than 3."""
    if x.config.source.steps[:2] != (0, 1):
        return
    first, second = x.config.source.batch(0), x.config.source.batch(1)
    assert first is not None
    assert second is not None
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
        f"Adam has no bias correction: its first step is {rounded(uncorrected)} times the learning rate",
        "m and v start at 0, so at first they are too small, and m / √v is too large. With bias correction, the first step is as "
        "long as the learning rate; without it, the first steps are too long.",
        f"divide m by 1 − {beta_1:g}ⁿ and v by 1 − {beta_2:g}ⁿ (torch.optim.Adam does), or warm up the learning rate",
        (
            Evidence(
                f"{percent(share)} of the weights moved by {rounded(float(np.median(lengths)))} times the learning rate in step 0; "
                f"(1 − {beta_1:g}) / √(1 − {beta_2:g}) = {rounded(uncorrected)}; it should be 1"
            ),
            Evidence(
                f"{spoken(x.program, name, index)} was {before} before step 0 and is {rounded(value)} after it; "
                f"the learning rate is {rounded(rate)}",
                x.entry(1, name, index),
                value,
            ),
        ),
        x.end(1),
    )
