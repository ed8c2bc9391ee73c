"""Findings about the course of the training: the first loss, the size of the steps, and the last loss."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from tui_gru.debugger.analysis.baselines import baselines
from tui_gru.debugger.analysis.findings.examined import RunFacts
from tui_gru.debugger.analysis.findings.finding import Evidence, Finding, counted
from tui_gru.debugger.analysis.loss_places import loss_of_rows
from tui_gru.debugger.analysis.reading import read_text
from tui_gru.debugger.program.naming import spoken
from tui_gru.engine.numbers import rounded
from tui_gru.engine.running.batch import BatchRecord
from tui_gru.engine.running.weights import Float64Array, Weights

_FAR = 1.0  # nats above log V
_FEW_CHARACTERS = 8  # with fewer, half of log V can be chance
_WINDOW = 8  # the number of batches of a mean
_LARGE, _SMALL = 1e-1, 1e-5  # relative changes of the weights by a step
_UP, _DOWN = 1.2, 0.9
_FREQUENT, _SHARE = 0.1, 0.1  # frequency among the targets; probability relative to it
_EPOCHS, _BATCHES = 20, 500  # the least amount of learning after which a loss counts as settled
HELD_OUT = 10_000  # characters of a held-out text that are read
_PLACES = 6  # places of the run at which the held-out text is read
_RISEN = 0.1  # nats


def initial_loss(x: RunFacts) -> Iterator[Finding]:
    """Find a first loss that is far from the loss of guessing."""
    if not x.count or not x.program.target:
        return
    loss, guess = float(x.losses[0]), math.log(x.config.vocab_size)
    above = loss > guess + _FAR
    below = loss < guess / 2 and x.config.vocab_size >= _FEW_CHARACTERS
    if not (above or below):
        return
    yield Finding(
        "initial-loss",
        f"the first loss is far {'above' if above else 'below'} log V",
        "A model that knows nothing should give every character the same probability, which is a loss of log V. "
        + (
            "This model begins with confident wrong predictions, and the first steps only undo them."
            if above
            else "It knows something before the first step: its weights are not fresh, or its input gives the target away."
        ),
        "smaller initial weights (--init torch)" if above else "new weights; targets that are one character after the input",
        (
            Evidence(f"the loss of the first batch is {rounded(loss)}", x.entry(0, "loss", ()), loss),
            Evidence(f"log {x.config.vocab_size} = {rounded(guess)}"),
        ),
        x.end(0),
    )


def _step_ratio(records: Iterable[BatchRecord]) -> float:
    """Return the median of ‖ΔW‖ / ‖W‖ of some updates, over all weights together; NaN if there are none."""
    found = []
    with np.errstate(all="ignore"):
        for record in records:
            before, after = (np.asarray(w.parameters, np.float64) for w in (record.before, record.after))
            found.append(float(np.linalg.norm(after - before) / np.linalg.norm(before)))
    return float(np.median(found)) if found else math.nan


def _windows(x: RunFacts) -> Float64Array:
    """Return the mean loss of consecutive windows of `_STEPS` batches that have learned, ending with the last batch."""
    losses = x.losses[x.learned]
    windows: Float64Array = losses[len(losses) % _WINDOW :].reshape(-1, _WINDOW).mean(axis=1)
    return windows


def rate_too_large(x: RunFacts) -> Iterator[Finding]:
    """Find steps, among the first or last, that change the weights by more than a tenth while the loss rises."""
    windows = _windows(x)
    if len(windows) < 2:
        return
    first, last = int(x.learned[0]), int(x.learned[-1])
    began = float(x.losses[first])
    ratio = _step_ratio(record for _, record in x.recently_learned)
    batch, best = (last, min(began, float(windows[:-1].min()))) if ratio > _LARGE else (first, began)
    if not windows[-1] > _UP * best + 0.1:
        return
    ratio = ratio if batch == last else _step_ratio([x.record(first)])
    if not ratio > _LARGE:
        return
    yield Finding(
        "rate-too-large",
        f"the learning rate is too large: a step changes the weights by {rounded(100 * ratio)} %",
        "Such large steps overshoot the minimum, and the loss rises.",
        f"--learning-rate {rounded(x.moment.record.settings['learning_rate'] / 10)} or less",
        (
            Evidence(f"the last {_WINDOW} batches lose {rounded(windows[-1])} on average; it has been {rounded(best)}"),
            Evidence(f"‖ΔW‖ / ‖W‖ over all weights is {rounded(ratio)} in {x.at(batch)}; about 1e-3 is usual"),
            _grad_norm(x, batch),
        ),
        x.end(batch),
    )


def rate_too_small(x: RunFacts) -> Iterator[Finding]:
    """Find steps that hardly change the weights, while the loss has hardly fallen."""
    if not x.program.update:  # in a recording, each step has its weights before the update only
        return
    windows, ratio = _windows(x), _step_ratio(record for _, record in x.recently_learned)
    if not len(windows) or not ratio < _SMALL:
        return
    batch, record = x.recently_learned[-1]
    norm = x.column("grad_norm", batch, batch)[0]
    if not norm > 0 or not windows[-1] > _DOWN * windows[0] or not windows[-1] > _DOWN * x.losses[x.learned[0]]:
        return
    yield Finding(
        "rate-too-small",
        f"the learning rate is too small: a step changes the weights by {rounded(ratio)} of their size",
        "At this rate it takes a hundred thousand steps to change the weights noticeably.",
        "a --learning-rate that is not 0" if not record.settings["learning_rate"] else "a --learning-rate a hundred times as large",
        (
            Evidence(f"‖ΔW‖ / ‖W‖ over all weights is {rounded(ratio)}, the median of the last steps; about 1e-3 is usual"),
            Evidence(
                f"the loss was {rounded(windows[0])} in the first {_WINDOW} batches, and is {rounded(windows[-1])} in the last"
            ),
            _grad_norm(x, batch),
        ),
        x.end(batch),
    )


def _grad_norm(x: RunFacts, batch: int) -> Evidence:
    norm = float(x.column("grad_norm", batch, batch)[0])
    rate = x.record(batch).settings["learning_rate"]
    parameter = x.program.parameters[0]
    index = (0,) * len(x.program.names[parameter].axes)
    value = float(x.record(batch).after[parameter][index])
    words = (
        f"the gradient of {x.at(batch)} has the norm {rounded(norm)}, the learning rate is {rounded(rate)}; "
        f"{spoken(x.program, parameter, index)} is {rounded(value)} after it"
    )
    return Evidence(words, x.entry(batch, parameter, index), value)


def worse_than_a_table(x: RunFacts) -> Iterator[Finding]:
    """Find a loss that has settled above that of a unigram or bigram table."""
    N = x.program.num_batches
    epochs = len(x.learned) // N
    if epochs < _EPOCHS or len(x.learned) < _BATCHES or not x.program.target:
        return
    losses = x.losses[x.learned][-epochs * N :].reshape(epochs, N).mean(axis=1)
    quarter = epochs // 4
    now, before = float(losses[-quarter:].mean()), float(losses[-2 * quarter : -quarter].mean())
    if not (now > 0.99 * before and np.isfinite(now)):
        return
    table = baselines(x.corpus.text, x.config.vocab_size)
    worse = [
        (words, value) for words, value in (("single characters", table.unigram), ("pairs", table.bigram)) if now > 1.05 * value
    ]
    if not worse:
        return
    words, value = worse[0]
    batch = int(x.learned[-1])
    yield Finding(
        "worse-than-a-table",
        f"the loss has settled above that of a table of {words}",
        f"Counting the {words} of this text and predicting by their frequencies would do better, so the model makes little use of "
        "what it has read.",
        "more units (--hidden-size), another --learning-rate, or longer rows (--seq-length)",
        (
            Evidence(f"the last {counted(quarter, 'epoch')} lose {rounded(now)} on average, those before {rounded(before)}"),
            Evidence(f"a table of {words} loses {rounded(value)} on this text"),
            x.loss_of(batch),
        ),
        x.end(batch),
    )


def never_predicted(x: RunFacts) -> Iterator[Finding]:
    """Find a frequent character that the model never predicts after an epoch of learning."""
    name = x.program.loss_names.prediction
    if not x.program.target or name not in x.values or len(x.learned) < max(x.program.num_batches, 50):
        return
    learned = x.recently_learned
    targets = np.concatenate([record.ids(x.program.target).ravel() for _, record in learned]) if learned else np.empty(0, np.intp)
    if len(targets) < 32:
        return
    predicted = np.concatenate([record.array(name).reshape(len(targets) // len(learned), -1) for _, record in learned])
    frequency = np.bincount(targets, minlength=x.config.vocab_size) / len(targets)
    mean, ever = predicted.mean(axis=0), np.bincount(predicted.argmax(axis=1), minlength=x.config.vocab_size) > 0
    found = np.flatnonzero((frequency >= _FREQUENT) & (mean < _SHARE * frequency) & ~ever)
    for char in found.tolist():
        batch, record = learned[-1]
        t, row = 0, 0
        value = float(record.array(name)[t, row, char])
        shown = x.quoted(x.config.vocabulary[char])
        yield Finding(
            "never-predicted",
            f"{shown} is never predicted, although it is frequent",
            "A trained model predicts each character about as often as it occurs.",
            f"check its entry of the last bias ({', '.join(map(x.written, x.program.of_head))}), and what was edited",
            (
                Evidence(f"{shown} is {rounded(100 * frequency[char])} % of what was to be predicted in the last batches"),
                Evidence(f"its probability was {rounded(mean[char])} on average, and never the largest"),
                Evidence(
                    f"{x.written(name)}[row 1, {shown}] = {rounded(value)} at t 1 of {x.at(batch)}",
                    x.entry(batch, name, (row, char), t),
                    value,
                ),
            ),
            x.end(batch),
        )


def overfitting(x: RunFacts) -> Iterator[Finding]:
    """Find a loss on a held-out text that has risen again while the training loss fell."""
    if len(x.held_out) < 2 or len(x.learned) < _PLACES or not x.program.loss_names.row:
        return
    places = x.learned[np.linspace(0, len(x.learned) - 1, _PLACES).astype(int)].tolist()
    held = [held_out_loss(x, x.record(batch).after) for batch in places]
    best = int(np.argmin(held))
    span = x.losses[x.learned]
    if best == len(held) - 1 or not held[-1] > held[best] + _RISEN:
        return
    then, now = (
        float(span[max(0, at - _WINDOW) : at + 1].mean()) for at in (np.searchsorted(x.learned, places[best]), len(span) - 1)
    )
    if not now < then:
        return
    batch = places[-1]
    yield Finding(
        "overfitting",
        "the loss on the held-out text has risen again",
        "The model memorises this text: what it learns now does not apply to other texts.",
        f"go back to {x.at(places[best])}; then more text, or fewer units (--hidden-size)",
        (
            Evidence(f"held out: {rounded(held[best])} nats at {x.at(places[best])}, {rounded(held[-1])} now"),
            Evidence(f"training: {rounded(then)} then, {rounded(now)} now"),
            x.loss_of(batch),
        ),
        x.end(places[best]),
    )


def held_out_loss(x: RunFacts, weights: Weights) -> float:
    """Return the mean loss on the first 10,000 characters of the held-out text, in nats. Raises `TuiGruError`."""
    text = x.held_out[:HELD_OUT]
    name = x.program.loss_names.row
    values = loss_of_rows(x.program, read_text(x.config, weights, text, [name])[name])
    return float(values[:-1].mean())
