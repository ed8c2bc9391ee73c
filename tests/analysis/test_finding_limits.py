"""The limits of the findings: just beyond a limit there is a finding, just within it there is none.

The models are so simple that the number that a limit is compared with follows from a formula, and the update multiplies every
weight by the same number, whatever its gradient is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from tui_gru import Session
from tui_gru.debugger.position import batch_in_words
from tui_gru.engine.numbers import rounded

LETTERS = "abcdefghij"
#: After an update, every weight is 1 + η times what it was.
GROWTH = "symbol learning_rate η\nsetting η = 0\nW = W + η ⊙ W"
#: The state is 0, so that the logits are the last bias.
SILENT = "reads x\nstate h : H\nparameters Wh\nh = 0 ⊙ (h_prev + x Wh)"
#: A gate, and a candidate that is the same at all timesteps.
GATED = "reads x\nstate h : H\nparameters Wz bz bh\nz = σ(x Wz + bz)\nh = z ⊙ h_prev + (1 − z) ⊙ tanh(bh)"
#: A state that depends on the last character alone.
FORGETFUL = "reads x\nstate h : H\nparameters Wh\nh = tanh(x Wh + 0 ⊙ h_prev)"
Weights = Mapping[str, object]


def still(text: str, batches: int = 1, weights: Weights | None = None, **options) -> Session:
    """Return a session of one row on a text, whose batches are consecutive parts of it, after so many batches.

    Its first weights are drawn, except those that are given.
    """
    plain = {"cell": "own.cell", "cell_text": SILENT, "optimizer": "mine.update", "optimizer_text": GROWTH, "learning_rate": 0.0}
    plain |= {"hidden_size": 4, "batch_size": 1, "dtype": "float64", "layout": "contiguous", "init": "torch", "clip": 0.0}
    session = Session(**{"text": text, **plain, **options})
    session.learning = True
    set_weights(session, **(weights or {}))
    session.step("batch", batches)
    return session


def set_weights(session: Session, **weights: object) -> None:
    """Set whole parameters; a value is broadcast to the shape of its parameter."""
    for name, value in weights.items():
        shape = session.parameter(name).shape
        for index, entry in zip(np.ndindex(shape), np.broadcast_to(value, shape).flat, strict=True):
            session.edit(name, index, float(entry))


def cycle(length: int, letters: str = LETTERS) -> str:
    """Return a text in which the letters follow each other in the same order, with one more at the end."""
    return (letters * (length // len(letters) + 2))[: length + 1]


def first_bias(value: float, count: int) -> list[float]:
    return [value] + [0.0] * (count - 1)


def losing(bias: float, V: int, share: float) -> float:
    """Return the loss where the first of V characters has this logit, the others 0, and it is this share of the targets."""
    return float(np.logaddexp(math.log(V - 1), bias)) - bias * share


def solved(rising: Callable[[float], float], goal: float, low: float, high: float) -> float:
    """Return where a rising function reaches a goal."""
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < goal else (low, middle)
    return low


def titles(session: Session, name: str, held_out: str = "") -> list[str]:
    return [found.title for found in session.findings(held_out=held_out) if found.name == name]


def words(session: Session, name: str, held_out: str = "") -> str:
    """Return the title, the cure and the evidence of the only finding of this name."""
    (found,) = [found for found in session.findings(held_out=held_out) if found.name == name]
    return " | ".join((found.title, found.cure, *(evidence.words for evidence in found.evidence)))


# The loss of the first batch


@pytest.mark.parametrize(
    ("V", "share", "loss", "title"),
    [
        (8, 1 / 8, math.log(8) + 1.02, ["the first loss is far above log V"]),
        (8, 1 / 8, math.log(8) + 0.98, []),
        (3, 1 / 3, math.log(3) + 1.02, ["the first loss is far above log V"]),
        (8, 1.0, math.log(8) / 2 - 0.02, ["the first loss is far below log V"]),
        (8, 1.0, math.log(8) / 2 + 0.02, []),
        (7, 1.0, math.log(7) / 2 - 0.02, []),
    ],
)
def test_the_first_loss(V, share, loss, title):
    letters = LETTERS[:V]
    bias = solved(lambda b: losing(b, V, share) * (1 if share < 1 else -1), loss if share < 1 else -loss, 0.0, 50.0)
    text = cycle(V, letters) if share < 1 else "a" * (V + 1)
    session = still(text, weights={"by": first_bias(bias, V)}, vocabulary=letters, seq_length=V)
    assert session.loss == pytest.approx(loss, abs=1e-9)
    assert titles(session, "initial-loss") == title


# The size of the steps


def rising(bias: float, rate: float, batches: int = 16) -> Session:
    """Every update makes the weights `rate` larger, and with them the loss; each of the eight characters is equally frequent."""
    text = cycle(8 * 16, LETTERS[:8])
    return still(text, batches, {"by": first_bias(bias, 8)}, learning_rate=rate, seq_length=8)


def risen_by(bias: float, rate: float) -> float:
    """Return the mean loss of the batches 9 … 16, relative to the first loss and a tenth."""
    losses = [losing(bias * (1 + rate) ** k, 8, 1 / 8) for k in range(16)]
    return (np.mean(losses[8:]) - 0.1) / losses[0]


def test_a_rate_is_too_large_from_a_tenth_of_the_weights_on():
    found = words(rising(3.0, 0.105), "rate-too-large")
    assert "a step changes the weights by 10.5 %" in found
    assert "--learning-rate 0.0105 or less" in found
    assert not titles(rising(3.0, 0.095), "rate-too-large")
    assert not titles(rising(3.0, 0.105, 15), "rate-too-large")


@pytest.mark.parametrize(("times", "found"), [(1.21, True), (1.19, False)])
def test_a_rate_is_too_large_only_if_the_loss_rises(times, found):
    bias = solved(lambda b: risen_by(b, 0.105), times, 0.5, 5.0)
    assert risen_by(bias, 0.105) == pytest.approx(times)
    assert bool(titles(rising(bias, 0.105), "rate-too-large")) == found


@pytest.mark.parametrize(("rates", "step", "batch"), [((0.2, 0.0), 20, 1), ((0.0, 0.2), 20, 16), ((0.0, 0.09), None, None)])
def test_a_rate_is_too_large_in_the_first_steps_or_in_the_last(rates, step, batch):
    """The loss rises with the weights; where they no longer change, the first step has raised it."""
    session = rising(3.0, rates[0], 8)
    session.learning_rate = rates[1]
    session.step("batch", 8)
    assert bool(titles(session, "rate-too-large")) == (step is not None)
    if step is not None:
        found = words(session, "rate-too-large")
        assert f"a step changes the weights by {step} %" in found
        assert f"‖ΔW‖ / ‖W‖ over all weights is 0.2 in batch {batch} of epoch 1" in found


@pytest.mark.parametrize(("last", "saved", "error", "found"), [("bbbbbbbb", 0.965, 0.131, True), ("bbbabbbb", 0.717, 0.282, False)])
def test_another_rate_is_better_if_the_losses_of_the_same_batches_say_so_surely(last, saved, error, found):
    """One character a batch. The logit of a grows, which suits the first characters, and not the last eight."""
    text = "a" * 17 + last
    session = still(text, 24, {"by": first_bias(0.5, 8)}, vocabulary=LETTERS[:8], seq_length=1, learning_rate=0.09)
    losses = [
        [losing(0.5 * (1 + rate) ** k, 8, float(char == "a")) for k, char in enumerate(text[1:])][16:] for rate in (0.09, 0.009)
    ]
    differences = np.subtract(*losses)
    assert differences.mean() == pytest.approx(saved, abs=1e-3)
    assert differences.std() / math.sqrt(8) == pytest.approx(error, abs=1e-3)
    assert bool(titles(session, "rate-too-large")) == found


def test_a_rate_with_which_the_last_loss_is_not_finite_is_too_large():
    """The logit of a grows beyond the largest float64; a tenth of the rate would have kept it below."""
    session = still("a" * 25, 24, {"by": first_bias(0.5, 8)}, vocabulary=LETTERS[:8], seq_length=1, learning_rate=1e14)
    assert not math.isfinite(session.loss)
    assert "with --learning-rate 1e+13 the first 24 batches end at 0, without it, the loss is not finite" in words(
        session, "rate-too-large"
    )


@pytest.mark.parametrize(
    ("rate", "batches", "then", "found"),
    [
        (0.95e-5, 16, 1.0, True),
        (1.05e-5, 16, 1.0, False),
        (0.95e-5, 7, 1.0, False),
        (0.95e-5, 16, 0.91, True),
        (0.95e-5, 16, 0.89, False),
        (0.0, 16, 1.0, True),
    ],
)
def test_a_rate_is_too_small_if_the_loss_hardly_falls(rate, batches, then, found):
    session = rising(5.0, rate, min(batches, 8))
    lower = solved(lambda b: losing(b, 8, 1 / 8), then * losing(5.0, 8, 1 / 8), 0.0, 9.0)
    if batches > 8:
        set_weights(session, by=first_bias(lower, 8))
        session.step("batch", batches - 8)
    assert bool(titles(session, "rate-too-small")) == found
    if found:
        assert ("a --learning-rate that is not 0" in words(session, "rate-too-small")) == (rate == 0)


def test_one_huge_weight_does_not_make_the_rate_too_small():
    """The change of all weights together is tiny beside it; that of the other matrices is as before."""
    options = {"text": "the cat sat on the mat and the dog sat on the log " * 4, "hidden_size": 8, "batch_size": 2, "seq_length": 5}
    session = Session(**options, cell="lstm", optimizer="sgd", learning_rate=0.01, init="torch")
    session.learning = True
    session.edit("Wi", (0, 0), 1e23)
    session.step("batch", 10)
    for finding in session.findings():
        for number in re.findall(r"--learning-rate ([\d.e+]+)", finding.cure):
            assert float(number) < 10


# How the loss goes on


def jumping(text: str, batches: int, height: float) -> Session:
    """One character a batch: a has the logit 1 and the others 0, so that the losses of a and of b differ by 1. After some batches
    another logit makes all losses larger, by `height`."""
    session = still(text, batches, {"by": first_bias(1.0, 8)}, vocabulary=LETTERS[:8], seq_length=1)
    larger = math.log((math.e + 7) * math.exp(height) - math.e - 6)
    set_weights(session, by=[1.0, 0.0, larger, *[0.0] * 5])
    session.step("batch", 8)
    return session


@pytest.mark.parametrize(("times", "found"), [(4.05, True), (3.95, False)])
def test_a_loss_jumps_by_more_than_the_noise_of_the_batches_before(times, found):
    session = jumping(cycle(40, "ab"), 24, times / math.sqrt(2))  # the standard deviation of numbers that differ by 1
    assert bool(titles(session, "loss-jumps")) == found


def test_the_noise_is_that_of_the_last_64_batches_before():
    """In all batches before, it would be 0.33, so that the loss would have to jump by 1.3."""
    assert titles(jumping("ab" * 9 + "a" * 80, 80, 1.2), "loss-jumps")


def test_a_rate_that_makes_the_loss_rise_late_is_tried_from_shortly_before_it_on():
    """A logit is so small that it raises the loss only after 350 batches; the first 300 lose the same with any rate."""
    session = rising(1e-14, 0.09, 400)
    (found,) = [each for each in session.findings() if each.name == "rate-too-large"]
    losses = [losing(1e-14 * 1.09**k, 8, 1 / 8) for k in range(500)]
    begins = next(k for k in range(400) if losses[k] > 1.2 * losses[0] + 0.1)
    place = session.state.timeline.position(found.tick).number
    assert abs(place - begins) <= 8
    assert found.title == f"the learning rate is too large: from {batch_in_words(*divmod(place, 16))} on the loss rises"
    assert found.since == place - 16
    smaller = [losing(1e-14 * 1.09**found.since * 1.009**k, 8, 1 / 8) for k in range(100)]
    count = max(400, place + 20) - found.since
    of_count = max(8, count // 5)
    ends = rounded(np.mean(smaller[count - of_count : count])), rounded(np.mean(losses[: found.since + count][-of_count:]))
    begin = batch_in_words(*divmod(found.since, 16))
    words = f"tried on a copy: with --learning-rate 0.009 {count} batches from {begin} on end at {ends[0]}, not {ends[1]}"
    assert words in [each.words for each in found.evidence]
    as_it_is, tried, *_ = session.tried_options(found)
    assert as_it_is.since == tried.since == found.since
    assert as_it_is.losses == pytest.approx(losses[found.since : found.since + 100])
    assert tried.losses == pytest.approx(smaller)
    assert not titles(rising(1e-14, 0.009, 400), "rate-too-large")


def test_a_passage_that_is_hard_for_the_weights_of_before_is_no_jump_and_no_large_rate():
    text = "a" * 200 + "b" * 25
    session = still(text, 224, {"by": first_bias(3.0, 8)}, vocabulary=LETTERS[:8], seq_length=1, learning_rate=1e-6)
    losses = session.snapshot().losses
    assert losses[223] > losses[198] + 2
    assert not {"loss-jumps", "rate-too-large"} & {each.name for each in session.findings()}


def test_what_is_said_of_a_jump_is_apart_from_the_accident():
    """A single step at batch 28, which is in the middle of a window, multiplies the logit by 20."""
    session = rising(1.0, 0.0, 27)
    session.learning_rate = 19.0
    session.step("batch")
    session.learning_rate = 0.0
    session.step("batch", 20)
    found = words(session, "loss-jumps")
    then, now = (rounded(losing(bias, 8, 1 / 8)) for bias in (1.0, 20.0))
    assert f"the loss jumps from {then} to {now} at batch 13 of epoch 2: learning rate was changed there" in found
    assert f"the 8 batches from there on lose {now} on average, those before {then}" in found
    assert f"with the weights of batch 5 of epoch 2, they would lose {then}" in found


# The loss at the end


@pytest.mark.parametrize(
    ("loss", "epochs", "batches", "title"),
    [
        (1.06, 20, 25, "single characters"),
        (1.04, 20, 25, "pairs"),
        (1.06, 19, 27, ""),
        (1.06, 20, 24, ""),
        (1.06, 21, 24, "single characters"),
        (1.06, 20.28, 25, "single characters"),  # of the last epoch, 7 batches
    ],
)
def test_a_table_of_characters(loss, epochs, batches, title):
    """Every character is equally frequent, so that the table loses log V; the character before gives the next one away."""
    text = cycle(8 * batches, LETTERS[:8])
    bias = solved(lambda b: losing(b, 8, 1 / 8), loss * math.log(8), 0.0, 9.0)
    session = still(text, round(epochs * batches), {"by": first_bias(bias, 8)}, seq_length=8)
    assert titles(session, "worse-than-a-table") == ([f"the loss has settled above that of a table of {title}"] if title else [])


@pytest.mark.parametrize(("then", "found"), [(0.995, True), (0.985, False)])
def test_a_table_is_better_than_a_loss_that_has_settled(then, found):
    text = cycle(8 * 25, LETTERS[:8])
    session = still(text, 15 * 25, {"by": first_bias(5.0, 8)}, seq_length=8)
    lower = solved(lambda b: losing(b, 8, 1 / 8), then * losing(5.0, 8, 1 / 8), 0.0, 9.0)
    set_weights(session, by=first_bias(lower, 8))
    session.step("batch", 5 * 25)
    assert bool(titles(session, "worse-than-a-table")) == found


def test_a_table_is_compared_with_the_last_epochs():
    """The loss was far above the table for as many epochs before."""
    text = cycle(8 * 25, LETTERS[:8])
    session = still(text, 20 * 25, {"by": first_bias(30.0, 8)}, seq_length=8)
    set_weights(session, by=first_bias(solved(lambda b: losing(b, 8, 1 / 8), 1.06 * math.log(8), 0.0, 9.0), 8))
    session.step("batch", 20 * 25)
    found = words(session, "worse-than-a-table")
    settled = rounded(1.06 * math.log(8))
    assert f"the last 10 epochs lose {settled} on average, those before {settled}" in found
    assert f"a table of single characters loses {rounded(math.log(8))} on this text" in found


def shunned(probability: float, batches: int, *, V: int = 10, length: int | None = None, seq_length: int | None = None) -> Session:
    """The last of V equally frequent characters is predicted with this probability; the others with equal ones."""
    bias = math.log(probability * (V - 1) / (1 - probability))
    text = cycle(length or V, LETTERS[:V] if V <= 10 else LETTERS + "k")
    return still(text, batches, {"by": [0.0] * (V - 1) + [bias]}, seq_length=seq_length or V)


@pytest.mark.parametrize(
    ("session", "found"),
    [
        (lambda: shunned(0.0099, 50), ["“j” is never predicted, although it is frequent"]),
        (lambda: shunned(0.0101, 50), []),
        (lambda: shunned(0.0099, 49), []),
        (lambda: shunned(0.0099, 60, length=600), ["“j” is never predicted, although it is frequent"]),
        (lambda: shunned(0.0099, 59, length=600), []),
        (lambda: shunned(0.0001, 50, V=11), []),
        (lambda: shunned(0.024, 50, V=4), ["“d” is never predicted, although it is frequent"]),
        (lambda: shunned(0.032, 50, V=3), []),
    ],
    ids=["below", "above", "50 batches", "an epoch", "half an epoch", "rare", "32 targets", "24 targets"],
)
def test_a_frequent_character_is_never_predicted(session, found):
    assert titles(session(), "never-predicted") == found


def test_what_is_said_of_an_overfitting_model():
    """The loss on the held-out text falls, and then rises; that of the text falls all the time. A weight that is set at the end of
    a batch is one after it."""
    biases = [1.0, 1.5, 2.0, 4.0, 5.0, 6.0, 6.0]  # of a: at the beginning, and after each batch
    session = still("a" * 49, 1, {"by": first_bias(biases[0], 8)}, vocabulary=LETTERS[:8], seq_length=8)
    for bias in biases[1:-1]:
        set_weights(session, by=first_bias(bias, 8))
        session.step("batch")
    losses = [losing(bias, 8, 2 / 3) for bias in biases[1:]]
    trained = [losing(bias, 8, 1) for bias in biases[:-1]]
    found = words(session, "overfitting", "b" + "a" * 20 + "b" * 10)  # a is two thirds of the characters to be predicted
    assert "go back to batch 2 of epoch 1" in found
    assert f"held out: {rounded(min(losses))} at batch 2 of epoch 1, {rounded(losses[-1])} now" in found
    assert f"training: {rounded(np.mean(trained[:2]))} then, {rounded(np.mean(trained))} now" in found


@pytest.mark.parametrize(("rise", "letters", "found"), [(0.102, "a", True), (0.098, "a", False), (0.5, "abcdefgh", False)])
def test_the_loss_on_a_held_out_text_has_risen(rise, letters, found):
    """The weights grow, which suits a text of a's alone, and no other text."""
    first, held_out = 2.0, "abcdefgh" * 3 + "a"

    def risen(rate: float) -> float:
        return losing(first * (1 + rate) ** 6, 8, 1 / 8) - losing(first * (1 + rate), 8, 1 / 8)

    rate = solved(risen, rise, 0.0, 1.0)
    text = (letters * 60)[:49]
    session = still(text, 6, {"by": first_bias(first, 8)}, learning_rate=rate, vocabulary=LETTERS[:8], seq_length=8)
    assert bool(titles(session, "overfitting", held_out)) == found
    assert not titles(session, "overfitting")
    if found:
        assert "go back to batch 1 of epoch 1" in words(session, "overfitting", held_out)
    if letters == "a":
        assert titles(session, "overfitting", "ab")  # there is one character to be predicted
        assert not titles(session, "overfitting", "b")


# Gradients


def clipped(limit: float, large: int, small: int = 0) -> Session:
    """In a batch of a's alone the gradient is only that of the last bias; where all characters are equally frequent, it is 0.
    `limit` is relative to the norm of the first."""
    norm = math.hypot(1 - 1 / 8, *[1 / 8] * 7)  # of the probabilities minus the targets
    text = "a" + "a" * 8 * large + LETTERS[:8] * small
    clip = {"clip": limit * norm, "optimizer_text": GROWTH}
    return still(text, large + small, {"by": 0.0}, vocabulary=LETTERS[:8], seq_length=8, **clip)


def test_most_gradients_are_clipped():
    found = words(clipped(0.099, 11, 10), "mostly-clipped")
    assert "in 11 of 21 steps the factor is below 0.1" in found
    assert "batch 1 of epoch 1, with the factor 0.099" in found
    assert not titles(clipped(0.101, 11, 10), "mostly-clipped")
    assert not titles(clipped(0.099, 8, 8), "mostly-clipped")
    assert titles(clipped(0.099, 8), "mostly-clipped")
    assert not titles(clipped(0.099, 7), "mostly-clipped")


#: A state whose gradient is FACTOR times as large one timestep earlier.
LINEAR = "reads x\nstate h : H\nparameters Wh bh\nh = FACTOR ⊙ h_prev + x Wh + bh"
#: A second state that does not forget.
REMEMBERING = """reads x
state h : H, c : H
parameters Wc Wh
c = 0.9 ⊙ c_prev + x Wc
h = FACTOR ⊙ h_prev + x Wh + c"""
#: The loss reads the second state through the next timestep only. n timesteps before that its gradient is (n + 1)·FACTORⁿ.
LATER = REMEMBERING.replace("0.9", "FACTOR").replace("Wh + c", "Wh + c_prev")
BACKWARDS = "reads x\nstate h : H backwards\nparameters Wh bh\nh = FACTOR ⊙ h_next + x Wh + bh"


def linear(factor: float, cell: str = LINEAR, seq_length: int = 6, **options) -> Session:
    text = cycle(60, LETTERS[:6])
    cell = cell.replace("FACTOR", f"{factor}")
    return still(text, cell_text=cell, carry="reset", seq_length=seq_length, **options)


@pytest.mark.parametrize(
    ("session", "begins"),
    [
        (lambda: linear(0.0995), 3),  # cubed below a thousandth
        (lambda: linear(0.1005), None),
        (lambda: linear(0.03), 4),
        (lambda: linear(0.0009), 5),
        (lambda: linear(0.0995, hidden_size=3), None),
        (lambda: linear(0.0995, seq_length=4), 1),
        (lambda: linear(0.0995, seq_length=3), None),
        (lambda: linear(0.05, REMEMBERING), None),
        (lambda: linear(0.062, LATER), 3),  # 4·0.062³ < 0.001
        (lambda: linear(0.064, LATER), None),
        (lambda: linear(0.05, BACKWARDS), None),
    ],
)
def test_a_vanishing_gradient(session, begins):
    session = session()
    found = titles(session, "vanishing-gradient")
    assert bool(found) == (begins is not None)
    if begins is not None:
        T = session.config.seq_length
        assert f"| it is below a thousandth from t {begins} back" in words(session, "vanishing-gradient")
        assert f"{T - begins} timestep{'s' * (T - begins > 1)} earlier" in found[0]


@pytest.mark.parametrize(("back", "found"), [(7.9, True), (8.1, False)])
def test_a_gradient_that_returns_has_not_vanished(back, found):
    """Its factor depends on the character: in three timesteps it falls to an eighth of a thousandth, and once it rises again."""
    factors = [1.0, back, 1.0, 0.05, 0.05, 0.05]
    cell = "reads x\nstate h : H\nparameters Wf Wh\nh = (x Wf) ⊙ h_prev + x Wh"
    weights = {"Wf": [[factor] * 4 for factor in factors]}
    session = still(cycle(60, LETTERS[:6]), 1, weights, cell_text=cell, carry="reset", seq_length=6)
    assert bool(titles(session, "vanishing-gradient")) == found


@pytest.mark.parametrize(
    ("session", "times", "begins"),
    [
        (lambda: linear(10.05, seq_length=4), 10.05**3, 3),
        (lambda: linear(9.95, seq_length=4), None, None),
        (lambda: linear(9.95, seq_length=5), 9.95**4, 3),
        (lambda: linear(2.1, seq_length=11), 2.1**10, 7),  # 2.1⁴ is the first above ten
        (lambda: linear(10.05, BACKWARDS, seq_length=4), None, None),
        (lambda: linear(1001.0, seq_length=2), 1001.0, 1),
        (lambda: linear(999.0, seq_length=2), None, None),
    ],
)
def test_an_exploding_gradient(session, times, begins):
    session = session()
    found = titles(session, "exploding-gradient")
    assert bool(found) == (times is not None)
    if times is not None:
        said = float(found[0].split(" times as large")[0].split()[-1].replace(",", ""))
        assert said == pytest.approx(times, rel=1e-2)
        assert f"| it is over ten times as large from t {begins} on" in words(session, "exploding-gradient")


def test_the_gradient_of_a_state_that_only_the_next_timestep_reads_begins_one_timestep_earlier():
    """n timesteps before t 3 it is (n + 1)·31.7ⁿ: over ten times as large from t 2 on."""
    session = linear(31.7, LATER, seq_length=4)
    (of_c,) = [each for each in session.findings() if each.name == "exploding-gradient" and "gradient of c " in each.title]
    facts = [evidence.words for evidence in of_c.evidence]
    assert "it is over ten times as large from t 2 on" in facts
    (norms,) = [each for each in facts if each.startswith("‖∂ loss of t 4 / ∂ c‖ over all rows: ")]
    last, first = (float(each.replace(",", "")) for each in re.search(r": (\S+) at t 3, (\S+) at t 1,", norms).groups())
    assert first / last == pytest.approx(3 * 31.7**2, rel=1e-2)


@pytest.mark.parametrize("B", [1, 3])
def test_the_gradient_that_explodes_is_that_of_the_last_prediction(B):
    session = linear(10.05, seq_length=4, batch_size=B)
    (found,) = [found for found in session.findings() if found.name == "exploding-gradient"]
    y_hat, y = session.value("y_hat", t=3), session.value("y", t=3)
    norm = np.linalg.norm((y_hat - y) / B @ session.parameter("Wy").T)
    at_the_end, at_the_start = rounded(norm), rounded(norm * 10.05**3)
    words = f"‖∂ loss of t 4 / ∂ h‖ over all rows: {at_the_end} at t 4, {at_the_start} at t 1, in batch 1 of epoch 1"
    assert words in [each.words for each in found.evidence]
    passed = session.value("dh_prev", t=3)
    row, unit = np.unravel_index(np.argmax(np.abs(passed)), passed.shape)
    largest = f"dhₜ₋₁[row {row + 1}, unit {unit + 1}] = {rounded(passed[row, unit])}"
    assert f"the largest entry passed on by t 4: {largest}" in [each.words for each in found.evidence]


@pytest.mark.parametrize(
    ("lines", "root"),
    [
        ("h = tanh(x Wh + h_prev + relu(x Wg − 9) + bh)", "dWg, by the line dWg += xᵀ (dh⊙(1 − h⊙h)⊙positive(relu(x Wg − 9)))"),
        ("g = relu(x Wg − 9)\nh = tanh(x Wh + h_prev + g + bh)", "g, by the line g = relu(x Wg − 9)"),
        ("a = x Wg − 9\ng = relu(a)\nh = tanh(x Wh + h_prev + g + bh)", "g, by the line g = relu(a)"),
        ("g = relu(x Wh − 9)\nk = g ⊙ h_prev\nh = tanh(x Wh + h_prev + k ⊙ (x Wg) + bh)", "g, by the line g = relu(x Wh − 9)"),
    ],
)
def test_a_gradient_is_0_in_at_least_two_batches(lines, root):
    cell = f"reads x\nstate h : H\nparameters Wh Wg bh\n{lines}"
    text = cycle(60, LETTERS[:6])
    assert not titles(still(text, 1, seq_length=6, cell_text=cell), "zero-gradient")
    session = still(text, 2, seq_length=6, cell_text=cell)
    assert titles(session, "zero-gradient") == ["the gradient of Wg is exactly 0"]
    found = words(session, "zero-gradient")
    assert "in the last 2 batches that learned" in found
    assert found.endswith(f"the zeros begin with {root}")


def test_what_the_loss_of_the_tutorial_would_be_where_a_probability_is_0():
    """The second of three characters has the probability 0; it is a target once in three."""
    session = still(cycle(6, "abc"), 1, {"by": [0.0, -2000.0, 0.0]}, seq_length=6)
    (found,) = [found for found in session.findings() if found.name == "softmax-underflow"]
    assert (found.title, found.meaning.count("1 · log 0 = −∞")) == ("ŷ is exactly 0 for 6 entries", 1)
    session = still(cycle(6, "abc"), 1, {"by": [0.0, 0.0, -2000.0]}, seq_length=6)
    (found,) = [found for found in session.findings() if found.name == "softmax-underflow"]
    assert found.meaning.count("0 · log 0 = NaN") == 1
    assert "ŷ[row 1, “c”] = 0 at t 1 of batch 1 of epoch 1" in found.evidence[0].words


# Units


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def gates(values: Sequence[float], entries: int = 10, batches: int = 1) -> Session:
    """Return a session of T = 10 with these values of z, of every unit, in the first entries of the ten; in the others z is 0.5."""
    open_ = [[0.0] * len(values)] * (10 - entries)
    table = [[logit(value) for value in values]] * entries + open_
    return still(cycle(90), batches, {"Wz": table, "bz": 0.0}, cell_text=GATED, hidden_size=len(values), seq_length=10)


@pytest.mark.parametrize(
    ("session", "found"),
    [
        (lambda: gates([0.902] * 3 + [0.5]), 3),
        (lambda: gates([0.098] * 3 + [0.5]), 3),
        (lambda: gates([0.902, 0.098, 0.5, 0.902]), 3),
        (lambda: gates([0.898] * 4), 0),
        (lambda: gates([0.102] * 4), 0),
        (lambda: gates([0.902] * 2 + [0.5] * 2), 0),
        (lambda: gates([0.902] * 3), 0),
        (lambda: gates([0.902] * 4, 9), 4),
        (lambda: gates([0.902] * 4, 8), 0),
    ],
)
def test_a_gate_is_saturated_from_the_first_batch_on(session, found):
    session = session()
    expected = [f"z is saturated in {found} of {session.config.hidden_size} units, from the first batch on"] if found else []
    assert titles(session, "saturated-gate") == expected


def test_the_first_batch_has_four_entries_at_least():
    assert not titles(still("abcabcabc", 1, {"bz": 9.0}, seq_length=3, cell_text=GATED), "saturated-gate")
    assert titles(still("abcabcabc", 1, {"bz": 9.0}, seq_length=4, cell_text=GATED), "saturated-gate")


@pytest.mark.parametrize(
    ("gate", "value", "units", "found"),
    [("z", 0.9902, 7, 7), ("z", 0.9898, 7, 0), ("z", 0.0098, 8, 8), ("z", 0.9902, 6, 0), ("tanh", 0.9999, 8, 0)],
)
def test_a_gate_is_saturated_in_the_end(gate, value, units, found):
    cell = GATED if gate == "z" else GATED.replace("σ", "tanh")
    session = still(cycle(90), 1, {"Wz": 0.0, "bz": 0.0}, hidden_size=8, seq_length=10, cell_text=cell)
    bias = logit(value) if gate == "z" else math.atanh(value)
    set_weights(session, bz=[bias] * units + [0.0] * (8 - units))
    session.step("batch", 8)
    assert titles(session, "saturated-gate") == ([f"z is saturated in {found} of 8 units"] if found else [])
    if found:
        low = value < 0.5
        assert f"in the last 8 batches, {100 * low:.0f} %" in words(session, "saturated-gate")


def kept(z: Sequence[float], candidate: float, batches: int = 8) -> Session:
    """Return a session of T = 8 whose units keep these parts of their state and go to the same candidate, from 0 on."""
    weights = {"Wz": 0.0, "bz": [logit(value) for value in z], "bh": math.atanh(candidate)}
    return still(cycle(8 * 8, LETTERS[:8]), batches, weights, hidden_size=len(z), seq_length=8, cell_text=GATED)


def candidate_for(z: float, span: float) -> float:
    """Return the candidate for which a state varies by `span` from the first of 64 timesteps to the last."""
    return span / (z - z**64)


@pytest.mark.parametrize(
    ("z", "candidate", "title"),
    [
        ([0.9902, 0.5, 0.5, 0.5], 0.05, ["unit 1 of h never changes: z keeps the old state"]),
        ([0.9898, 0.5, 0.5, 0.5], 0.05, []),
        ([0.5, 0.9902, 0.9902, 0.5], 0.05, ["unit 2 and unit 3 of h never change: z keeps the old state"]),
        ([0.991, 0.5, 0.5, 0.5], candidate_for(0.991, 0.098), ["unit 1 of h never changes: z keeps the old state"]),
        ([0.991, 0.5, 0.5, 0.5], candidate_for(0.991, 0.102), []),
    ],
)
def test_a_gate_that_never_opens(z, candidate, title):
    session = kept(z, candidate)
    assert titles(session, "gate-never-opens") == title
    values = [session.value("h", t=7)[0, 0]]
    assert values == [pytest.approx(candidate * (1 - z[0] ** 64), abs=1e-9)]


@pytest.mark.parametrize(("rare", "found"), [(2, True), (3, False)])
def test_a_gate_may_open_in_a_hundredth_of_the_entries(rare, found):
    text = ("a" * 99 + "b") * 2 + "a"
    text = text.replace("a", "b", rare - 2)
    session = still(text, 2, {"Wz": [[logit(0.995)] * 4, [0.0] * 4], "bz": 0.0, "bh": 0.0}, seq_length=200, cell_text=GATED)
    assert bool(titles(session, "gate-never-opens")) == found


def test_a_gate_that_is_shut_by_training_alone_or_in_a_short_run_is_not_found():
    assert not titles(kept([0.999] * 4, 0.0, batches=3), "gate-never-opens")
    assert titles(kept([0.999] * 4, 0.0, batches=4), "gate-never-opens")
    session = kept([0.5] * 4, 0.0, batches=1)
    set_weights(session, bz=9.0)
    session.step("batch", 8)
    assert not titles(session, "gate-never-opens")


@pytest.mark.parametrize(
    ("kept", "found"), [("z ⊙ h_prev", True), ("h_prev ⊙ z", True), ("h_prev ⊙ z ⊙ z", False), ("z ⊙ (h_prev + 0)", False)]
)
def test_a_gate_is_what_the_old_state_is_multiplied_by(kept, found):
    cell = GATED.replace("z ⊙ h_prev", kept)
    session = still(cycle(64, LETTERS[:8]), 8, {"Wz": 0.0, "bz": 9.0, "bh": 0.0}, seq_length=8, cell_text=cell)
    assert bool(titles(session, "gate-never-opens")) == found


def varying(spans: Sequence[float], batches: int = 8) -> Session:
    """Return a session on ababab… whose states vary by these spans."""
    weights = [[math.atanh(sign * span / 2) for span in spans] for sign in (1, -1)]
    return still(cycle(80, "ab"), batches, {"Wh": weights}, seq_length=8, hidden_size=len(spans), cell_text=FORGETFUL)


@pytest.mark.parametrize(
    ("spans", "title"),
    [
        ([0.98e-4, 1, 1, 1], ["unit 1 of h is dead"]),
        ([1.02e-4, 1, 1, 1], []),
        ([1, 1, 0, 1, 1], []),  # a fifth
        ([1, 1, 0, 1, 0], ["unit 3 and unit 5 of h are dead"]),
    ],
)
def test_a_dead_unit(spans, title):
    assert titles(varying(spans), "dead-unit") == title
    assert not titles(varying(spans, batches=3), "dead-unit")


@pytest.mark.parametrize(("span", "found"), [(4.9e-4, True), (5.1e-4, False)])
def test_a_dead_unit_of_a_state_without_limits(span, found):
    """A ten-thousandth of its largest magnitude, which is 5, and negative."""
    weights = [[-5 + span / 2, -4, -4, -4], [-5 - span / 2, 1, 1, 1]]
    cell = FORGETFUL.replace("tanh", "")
    session = still(cycle(80, "ab"), 8, {"Wh": weights}, seq_length=8, cell_text=cell)
    assert titles(session, "dead-unit") == ["unit 1 of h is dead"] * found


@pytest.mark.parametrize(("batches", "found"), [(99, False), (100, True)])
def test_in_a_short_run_a_dead_unit_was_always_dead(batches, found):
    session = varying([1, 1, 1, 1], batches=1)
    set_weights(session, Wh=[[0.0, 0.5, 0.5, 0.5], [0.0, -0.5, -0.5, -0.5]])
    session.step("batch", batches - 1)
    assert bool(titles(session, "dead-unit")) == found


def test_a_unit_that_lives_in_the_middle_of_a_run_is_not_dead():
    session = varying([0, 1, 1, 1], batches=60)
    set_weights(session, Wh=[[0.5] * 4, [-0.5] * 4])
    session.step("batch", 2)
    set_weights(session, Wh=[[0.0, 0.5, 0.5, 0.5], [0.0, -0.5, -0.5, -0.5]])
    session.step("batch", 60)
    assert not titles(session, "dead-unit")


# The flow of data


@pytest.mark.parametrize(("always", "length", "ignored"), [("b", 8, 7), ("a", 8, 0), ("b", 1, 0)])
def test_the_choices_that_a_sampler_does_not_feed_back(always, length, ignored):
    """The model always predicts the same character; the last choice is read by nobody in any case."""
    session = still(cycle(16, "abcd"), 1, {"by": [9.0 * (char == always) for char in "abcd"]}, seq_length=8)
    assert session.sample("a", length, sampler="tutorial", temperature=0) == "a" + always * length
    found = [found for found in session.findings() if found.name == "sampler-without-feedback"]
    assert len(found) == (ignored > 0)
    if found:
        evidence = found[0].evidence
        assert evidence[0].words == f"{ignored} of {length - 1} choices were not read next: “a” was read again"
        probability = session.value("y_hat", t=0)[0, 1]
        assert (evidence[-1].number.name, evidence[-1].number.index, evidence[-1].value) == ("y_hat", (0, 1), probability)
        assert (
            f"when the training reads “a”, “b” has the probability ŷ[row 1, “b”] = {rounded(probability)} at t"
            in evidence[-1].words
        )


def test_rows_that_continue_are_told_from_rows_that_do_not():
    """In the layout of the tutorial, batch 2 of two rows begins after both rows of batch 1."""
    two = {"text": cycle(60), "batches": 2, "batch_size": 2, "seq_length": 5, "cell_text": FORGETFUL}
    assert not titles(still(**two), "rows-do-not-continue")
    assert not titles(still(**two, layout="tutorial", carry="reset"), "rows-do-not-continue")
    found = words(still(**two, layout="tutorial"), "rows-do-not-continue")
    assert "row 1 of batch 2 reads “abcde” from character 11 on, with the state after “abcde”, which ends at character 5" in found


@pytest.mark.parametrize(("batches", "found"), [(1, False), (2, True)])
def test_rows_of_an_epoch_of_one_batch_have_nowhere_to_continue(batches, found):
    session = still(cycle(10 * batches), 3, batch_size=2, seq_length=5, layout="tutorial", cell_text=FORGETFUL)
    assert session.config.num_batches == batches
    assert bool(titles(session, "rows-do-not-continue")) == found


@pytest.mark.parametrize(("rate", "same"), [(0.0, True), (0.1, False)])
def test_a_character_that_the_text_does_not_have(rate, same):
    session = still(cycle(9, "abc"), 2, vocabulary="abcd", seq_length=3, learning_rate=rate, cell_text=FORGETFUL)
    (found,) = [found for found in session.findings() if found.name == "character-never-seen"]
    assert (found.title, found.tick) == ("the text has no “d”", session.position.tick)
    assert found.evidence[0].words == "1 of 4 characters of the vocabulary: “d”"
    reads = session.parameter("Wh")[3, 0]
    assert found.evidence[1].value == reads
    assert found.evidence[1].words.endswith(f"reads it, and is {rounded(reads)}" + ", as at the beginning" * same)


@pytest.mark.parametrize(("factor", "found"), [("0", False), ("0.001", True)])
def test_rows_that_influence_each_other(factor, found):
    cell = f"reads x\nstate h : H\nparameters Wh\nh = tanh(x Wh + h_prev + {factor} ⊙ (mean h_prev over rows))"
    session = still(cycle(60), 2, batch_size=3, seq_length=5, cell_text=cell)
    assert bool(titles(session, "rows-know-each-other")) == found


# Units that are the same


ALIKE = "reads x\nstate h : H\nparameters Wh\nh = tanh(x Wh + 0 ⊙ h_prev)"


@pytest.mark.parametrize(
    ("columns", "same"),
    [
        ([0, 1, 2, 1, 3], "unit 2 and unit 4"),
        ([1, 0, 2, 3, 1], "unit 1 and unit 5"),
        ([2, 1, 1, 1, 0], "unit 2, unit 3 and unit 4"),
        ([0, 1, 2, 2, 3], "unit 3 and unit 4"),
        ([0, 1, 2, 3, 4], ""),
    ],
)
def test_which_units_are_identical(columns, same):
    """Each unit reads the characters with weights of its own, or with those of another unit."""
    weights = np.sin(np.outer(np.arange(1, 9), [1.0, 1.7, 2.3, 2.9, 3.1]))[:, columns]
    session = still(cycle(8 * 16, LETTERS[:8]), 4, {"Wh": weights}, cell_text=ALIKE, hidden_size=5, seq_length=8)
    found = [each for each in session.findings() if each.name == "units-are-identical"]
    assert [each.title for each in found] == ([f"{same} of h are identical"] if same else [])
    for each in found:
        first, second = (evidence.number for evidence in each.evidence if evidence.number is not None)
        assert [f"unit {number.index[-1] + 1}" for number in (first, second)] == re.findall(r"unit \d", same)[:2]
        assert session.derive(first).value == session.derive(second).value


@pytest.mark.parametrize("batches", [[3], [1, 1, 1]], ids=["in one step", "in three"])
def test_a_gradient_is_compared_with_that_of_the_first_batch_as_well(batches):
    """It is 0 in the second batch, where all characters are equally frequent, and in the third as large as in the first."""
    session = still("a" * 9 + LETTERS[:8] + "a" * 8, 0, {"by": 0.0}, vocabulary=LETTERS[:8], seq_length=8)
    session.stop_on_nan = True
    for count in batches:
        session.step("batch", count)
        assert not session.notice
    norms = [float(each) for each in session.state.timeline.column("grad_norm", 0, 2)]
    assert norms[0] == pytest.approx(norms[2])
    assert norms[2] > 1000 * norms[1]
    assert "explodes" not in {each.name for each in session.findings()}


#: Its state stays at 1 from the first # on.
LATCH = "reads x\nstate h : H\nparameters Wh\nh = tanh(x Wh + 100 ⊙ relu(h_prev − 0.9))"


@pytest.mark.parametrize(("after", "stands"), [(100, True), (99, False), (0, False)])
def test_from_where_on_the_state_of_a_text_no_longer_moves(after, stands):
    text = cycle(300) + "#" + (cycle(200)[:after] if after else "")
    weights = np.linspace(-0.5, 0.5, 11)[:, None].repeat(4, axis=1)
    weights[sorted(set(text)).index("#")] = 50.0
    session = still(text, 1, {"Wh": weights}, cell_text=LATCH, seq_length=8, vocabulary=sorted(set(text)))
    losses = session.losses(text=text)
    assert (losses.standstill is not None) == stands
    if stands:
        states = np.zeros(4)
        moves = []
        for char in text:
            after_it = np.tanh(weights[sorted(set(text)).index(char)] + 100 * np.maximum(states - 0.9, 0))
            moves.append(np.abs(after_it - states).max())
            states = after_it
        assert text[losses.standstill.at - 1] == "#"
        assert losses.standstill.move == pytest.approx(max(moves[losses.standstill.at :]), abs=1e-12)
        assert losses.standstill.before == pytest.approx(max(moves[1 : losses.standstill.at]))
        words = losses.standstill.sentence("character")
        assert words.startswith(f"from character {text.index('#') + 2} on the state no longer moves: ")
