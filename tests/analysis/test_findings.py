"""Findings: each appears in a model that has the problem, not in one that almost has it, and never in healthy runs."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.analysis import ported_models as ported
from tests.analysis import test_causes as of_facts
from tests.analysis import test_findings_of_scripts as of_scripts
from tests.analysis.test_finding_limits import GATED, cycle, still
from tests.capture.runs import recorded
from tests.capture.scripts import SCRIPTS, dropout_of_everything
from tests.debugger.models import parametrize
from tests.session.acting import pack_record
from tests.soak.healthy import block, random_options, random_text
from tests.soak.mistakes import healthy, trained
from tui_gru import Session, TuiGruError
from tui_gru.analysis.examined import Finding, RunFacts
from tui_gru.analysis.findings import TABLE, Harm, by_cause, find_problems
from tui_gru.analysis.losses import baselines
from tui_gru.analysis.trials import UNDO, changes, loss_after, undo_of
from tui_gru.debugger.position import batch_in_words
from tui_gru.engine.numbers import rounded
from tui_gru.imported.recordings import open_recording
from tui_gru.session.answers import PlainResults
from tui_gru.session.opening import on_recording

TEXT = "the cat sat on the mat; the rat ran to the hat. " * 8
LEARNED = {"text": TEXT, "hidden_size": 8, "batch_size": 4, "seq_length": 8}
#: No unit of it can change, because its gate is nearly 1 for every input.
SHUT_CELL = """\
reads x
state h : H
parameters Wz Wh Uh bh

z = σ(x Wz + 9)
h = z ⊙ h_prev + (1 − z) ⊙ tanh(x Wh + h_prev Uh + bh)
"""
#: A relu that is always 0, and so are its gradients.
OFF_CELL = """\
reads x
state h : H
parameters Wh Uh bh

h = relu(ah: x Wh + h_prev Uh + bh − 9)
"""
RELU_CELL = OFF_CELL.replace(" − 9", "")
FORGETFUL_CELL = """\
reads x
state h : H
parameters Wh Uh bh

h = tanh(x Wh + 0.01 ⊙ (h_prev Uh) + bh)
"""
GROWING_CELL = """\
reads x
state h : H
parameters Wh Uh bh

h = 3 ⊙ h_prev + tanh(x Wh + h_prev Uh + bh)
"""
MIXING_CELL = """\
reads x
state h : H
parameters Wh Uh bh

shared = mean h_prev over the rows
h = tanh(x Wh + h_prev Uh + shared + bh)
"""
#: Its state does not depend on the input.
DEAF_CELL = """\
reads x
state h : H
parameters Wh Uh bh

h = tanh(0 ⊙ (x Wh + h_prev Uh) + bh)
"""
#: Its candidate is nearly 0.
SMALL_CELL = """\
reads x
state h : H
parameters Wf Uf bf Wh Uh bh

f = σ(x Wf + h_prev Uf + bf)
g = 0.001 ⊙ tanh(x Wh + (f ⊙ h_prev) Uh + bh)
h = (1 − f) ⊙ h_prev + f ⊙ g
"""
AMPLIFYING_CELL = FORGETFUL_CELL.replace("0.01", "12")
LARGE_RELU_CELL = OFF_CELL.replace("relu(ah: x Wh + h_prev Uh + bh − 9)", "3 ⊙ relu(x Wh + h_prev Uh + bh)")
TABLE_SIZES = {"hidden_size": 4, "batch_size": 1, "seq_length": 8}
SGD = {"optimizer": "sgd", "clip": 0.0}
HELD_OUT = "the rat sat on the rat on the mat; the hat ran to the cat "


def run(batches: int = 40, *, learning: bool = True, edits: dict[str, float] | None = None, **options) -> Session:
    """Return a session after so many batches; `edits` are set in every entry of a parameter at the beginning."""
    session = Session(**options)
    session.learning = learning
    for name, value in (edits or {}).items():
        for index in np.ndindex(session.parameter(name).shape):
            session.edit(name, index, value)
    session.step("batch", batches)
    return session


def own(cell: str, batches: int = 12, **options) -> Session:
    return run(batches, **{**LEARNED, "cell": "mine.cell", "cell_text": cell, **options})


def sampled(sampler: str, primer: str = "Ma", length: int = 10) -> Session:
    session = run(30)
    session.sample(primer, length, sampler=sampler, temperature=0)
    return session


def with_bias(value: float) -> Session:
    """A model that has learned for an epoch, in which the bias of the space was set and hardly changes."""
    session = run(1, **{**LEARNED, "optimizer": "sgd", "learning_rate": 1e-3, "clip": 0.0, "batch_size": 1})
    session.edit("by", (session.config.vocabulary.index(" "),), value)
    session.step("batch", 60)
    return session


def by_heart(epochs: int) -> Session:
    return run(epochs * 2, text=TEXT[:60], hidden_size=32, batch_size=2, seq_length=12)


class Case(NamedTuple):
    shows: Callable[[], Session]
    misses: Callable[[], Session]
    held_out: str = ""


CASES = {
    "not-finite": Case(lambda: run(6, learning_rate=3e38), lambda: run(6, learning_rate=1e3)),
    "sampler-without-feedback": Case(lambda: sampled("tutorial"), lambda: sampled("fed-back")),
    "rows-do-not-continue": Case(lambda: run(2), lambda: run(2, layout="contiguous")),
    "gradient-into-earlier-batches": Case(
        lambda: run(3, carry="notebook"),
        lambda: run(3, carry="notebook", batch_size=6),
    ),
    "rows-know-each-other": Case(lambda: own(MIXING_CELL), lambda: own(MIXING_CELL, batch_size=1)),
    "character-never-seen": Case(
        lambda: run(1, text="abcabcabc", vocabulary="abcd", batch_size=1),
        lambda: run(1, text="abcabcabd", vocabulary="abcd", batch_size=1),
    ),
    "axes-swapped": Case(
        lambda: ported.other_output(lambda gru, x: gru(x.swapaxes(0, 1))[0].swapaxes(0, 1)),
        lambda: ported.reading(),
    ),
    "padding-moves-the-state": Case(
        lambda: ported.other_output(lambda gru, x: gru(x)[0], lengths=ported.LENGTHS),
        lambda: ported.other_output(ported.packed, lengths=ported.LENGTHS),
    ),
    "gates-mixed-up": Case(lambda: ported.reading(order="zrn"), lambda: ported.reading(order="rzn")),
    "reset-mixed-up": Case(lambda: ported.reading(reset="before"), lambda: ported.reading(reset="after")),
    "z-flipped": Case(lambda: ported.reading(z="takes"), lambda: ported.reading(z="keeps")),
    "forget-bias-mixed-up": Case(
        lambda: ported.lstm_on_output(ported.lstm(forget_bias=1), gate="sigmoid"),
        lambda: ported.lstm_on_output(ported.lstm(forget_bias=0), gate="sigmoid"),
    ),
    "biases-counted-twice": Case(
        lambda: ported.biases(ported.copied, ported.summed),
        lambda: ported.biases(ported.copied, ported.copied),
    ),
    "bias-left-out": Case(
        lambda: ported.biases(ported.kept, ported.without_second),
        lambda: ported.biases(ported.without_second, ported.without_second),
    ),
    "biases-merged": Case(
        lambda: ported.biases(ported.summed, ported.kept),
        lambda: ported.biases(ported.summed_in_gates, ported.kept),
    ),
    "output-not-expected": Case(
        lambda: ported.other_output(lambda gru, x: gru(x)[0] + 1e-3),
        lambda: ported.other_output(lambda gru, x: gru(x)[0] + 1e-6),
    ),
    "adam-uncorrected": Case(lambda: ported.recorded(corrected=False), lambda: ported.recorded(corrected=True)),
    "initial-loss": Case(
        lambda: run(1, **{**LEARNED, "init": "tutorial", "hidden_size": 64}),
        lambda: run(1, **{**LEARNED, "init": "tutorial", "hidden_size": 2}),
    ),
    "explodes": Case(
        lambda: with_a_weight_of(1e6),
        lambda: with_a_weight_of(1e3),
    ),
    "rate-too-large": Case(
        lambda: run(60, **LEARNED, **SGD, learning_rate=100.0),
        lambda: run(60, **LEARNED, **SGD, learning_rate=1.0),
    ),
    "rate-too-small": Case(
        lambda: run(40, **LEARNED, **SGD, learning_rate=1e-6),
        lambda: run(40, **LEARNED, **SGD, learning_rate=1e-2),
    ),
    "mostly-clipped": Case(lambda: run(40, **{**LEARNED, **SGD, "clip": 0.01}), lambda: run(40, **LEARNED, clip=0.01)),
    "zero-gradient": Case(lambda: own(OFF_CELL), lambda: own(OFF_CELL.replace("− 9", "+ 1"))),
    "vanishing-gradient": Case(lambda: own(FORGETFUL_CELL), lambda: own(FORGETFUL_CELL.replace("0.01", "0.9"))),
    "exploding-gradient": Case(
        lambda: own(GROWING_CELL, carry="reset"),
        lambda: own(GROWING_CELL.replace("3", "1.1"), carry="reset"),
    ),
    "softmax-underflow": Case(lambda: underflowing(-200.0), lambda: underflowing(-80.0)),
    "gate-never-opens": Case(lambda: own(SHUT_CELL), lambda: own(SHUT_CELL.replace("9", "1"))),
    "dead-unit": Case(lambda: own(OFF_CELL), lambda: own(OFF_CELL.replace("− 9", "+ 1"))),
    "saturated-gate": Case(
        lambda: run(12, **LEARNED, edits={"bz": 9.0}),
        lambda: run(12, **LEARNED, edits={"bz": 1.0}),
    ),
    "never-predicted": Case(lambda: with_bias(-30.0), lambda: with_bias(-1.0)),
    "worse-than-a-table": Case(
        lambda: own(DEAF_CELL, 30 * 47, **TABLE_SIZES),
        lambda: run(30 * 47, **{**LEARNED, **TABLE_SIZES}),
    ),
    "overfitting": Case(lambda: by_heart(150), lambda: by_heart(4), HELD_OUT),
    "target-is-read": Case(
        lambda: run(200, **{**LEARNED, "bidirectional": True}),
        lambda: run(1, **{**LEARNED, "bidirectional": True}),
    ),
    "gradient-ascent": Case(lambda: own_rule("W + η ⊙ dW"), lambda: own_rule("W − η ⊙ dW")),
    "learning-is-off": Case(lambda: without_learning(16), lambda: without_learning(15)),
    "loss-rises": Case(lambda: with_weights(30.0), lambda: with_weights(1.0)),
    "loss-jumps": Case(lambda: with_weights(30.0, 100), lambda: with_weights(1.0, 100)),
    "units-are-identical": Case(lambda: equal_units(0.1), lambda: equal_units(0.1, other=0.101)),
    "state-stays-small": Case(lambda: own(SMALL_CELL, 40), lambda: own(SMALL_CELL.replace("0.001", "0.05"), 40)),
    "recurrent-weights-too-large": Case(lambda: amplified(12), lambda: amplified(4)),
}


def with_a_weight_of(value: float) -> Session:
    """A run in which a weight of the head was set when it had learned."""
    session = run(60, **LEARNED)
    session.edit("Wy", (0, 0), value)
    session.step("batch", 2)
    return session


def on_text(text: str) -> Session:
    return run(8, **{**LEARNED, "text": text, "layout": "tutorial", "carry": "reset"})


def own_rule(line: str) -> Session:
    text = f"symbol learning_rate η\nsetting η = 0.1\nW = {line}"
    return run(12, **{**LEARNED, "optimizer": "mine.update", "optimizer_text": text, "clip": 0.0})


def without_learning(batches: int) -> Session:
    session = run(10, **LEARNED)
    session.learning = False
    session.step("batch", batches)
    return session


def with_weights(value: float, batches: int = 40) -> Session:
    """A run in which a column of the head is set to a value after some batches that have learned."""
    session = run(batches, **{**LEARNED, "optimizer": "sgd", "learning_rate": 1e-3, "clip": 0.0})
    session.stop_on_nan = False
    for unit in range(8):
        session.edit("Wy", (unit, 0), value)
    session.step("batch", 20)
    return session


def equal_units(value: float, other: float | None = None) -> Session:
    """A run whose units have the same weights; with `other`, each unit reads one character a little differently."""
    session = Session(**{**LEARNED, **SGD, "cell": "rnn", "learning_rate": 0.1})
    session.learning = True
    for name in session.parameter_names:
        for index in np.ndindex(session.parameter(name).shape):
            session.edit(name, index, value)
    for unit in range(8 if other is not None else 0):
        session.edit("Wh", (unit, unit), other)
    session.step("batch", 20)
    return session


def amplified(times: float) -> Session:
    """A run whose recurrent weights were multiplied at the beginning."""
    session = Session(**LEARNED)
    session.learning = True
    for name in ("Uz", "Ur", "Uh"):
        for index, value in np.ndenumerate(session.parameter(name)):
            session.edit(name, index, float(times * value))
    session.step("batch", 40)
    return session


@pytest.mark.parametrize("value", [0.0, 1.0, 3.0], ids=["0", "1", "at the limits"])
def test_units_with_equal_weights_are_identical_whatever_their_values_are(value):
    found = equal_units(value).findings()
    assert found[0].name == "units-are-identical"
    assert {each.cause.name for each in found[1:]} == {"units-are-identical"}


def test_a_state_that_begins_near_0_is_found_where_it_has_grown():
    lines = "i = σ(x Wi + h_prev Ui + bi)", "c = c_prev + 0.001 ⊙ i ⊙ tanh(x Wg + h_prev Ug + bg)", "h = tanh(c)"
    session = own("reads x\nstate h : H, c : H\nparameters Wi Ui bi Wg Ug bg\n" + "\n".join(lines), 60, learning_rate=0.03)
    assert np.abs(session.value("h")).max() > 0.005
    (found,) = [each for each in session.findings() if each.name == "state-stays-small"]
    assert found.title.startswith("h begins near 0: its largest entry is ")


def test_a_factor_of_a_cell_counts_and_drawn_weights_do_not():
    assert "recurrent-weights-too-large" in names(own(AMPLIFYING_CELL))
    assert "recurrent-weights-too-large" not in names(run(12, **{**LEARNED, "init": "tutorial", "hidden_size": 32}))


def test_saturated_units_are_not_identical():
    """Two units are near 1 after the same characters, and near −1 after the others. Some of their weights are equal."""
    session = Session(**{**LEARNED, **SGD, "cell": "rnn", "learning_rate": 1e-3})
    session.learning = True
    for unit, size in enumerate((50.0, 70.0)):
        for char in range(session.config.vocab_size):
            session.edit("Wh", (char, unit), (size if char % 2 else -size) if char else -60.0)
        session.edit("Uh", (0, unit), 0.25)
        session.edit("bh", (unit,), 0.0)
    session.step("batch", 20)
    for name in session.parameter_names[:3]:
        assert (session.parameter(name)[..., 0] == session.parameter(name)[..., 1]).any()
    first, second = np.moveaxis(session.units().values, 1, 0)[:2]
    assert (first == second).all()
    assert "units-are-identical" not in names(session)


def underflowing(bias: float) -> Session:
    """A model in which one character has a bias far below the others."""
    session = Session(**LEARNED)
    session.edit("by", (0,), bias)
    session.step("batch", 1)
    return session


def names(session: Session, held_out: str = "") -> set[str]:
    return {found.name for found in session.findings(held_out=held_out)}


def test_a_held_out_text_may_be_kept_with_the_session(tmp_path):
    session = by_heart(150)
    assert "overfitting" not in names(session)
    session.hold_out(HELD_OUT)
    assert "overfitting" in names(session)
    session.save(tmp_path / "s.tui-gru")
    again = Session.open(tmp_path / "s.tui-gru")
    assert again.held_out == HELD_OUT
    assert "overfitting" in names(again)
    with pytest.raises(TuiGruError, match="the text that was held out has 'Q', which is not in the vocabulary"):
        session.hold_out("Q" + HELD_OUT)
    assert session.held_out == HELD_OUT
    with pytest.raises(TuiGruError, match="a run without a text has no held-out text"):
        ported.reading().hold_out(HELD_OUT)


def test_every_row_of_the_table_has_a_case():
    from tests.analysis import test_causes_of_data as of_data  # which imports this module by another one

    in_table = {row.name for row in TABLE}
    scripts = [*of_facts.SCRIPTS.values(), *of_data.SCRIPTS.values()]
    of_scripts_alone = {name for name, *_ in scripts}  # some of which a diagnosis has, and no recording
    of_scripts_alone.add("one-timestep-chunks")  # an observation
    assert in_table == CASES.keys() | {name for name, _ in of_scripts.MISTAKES.values()} | (of_scripts_alone & in_table)


@pytest.mark.parametrize("name", CASES)
def test_it_is_found_where_it_is_and_not_where_it_nearly_is(name):
    case = CASES[name]
    shows = case.shows()
    found = [each for each in shows.findings(held_out=case.held_out) if each.name == name]
    assert found
    assert name not in names(case.misses(), case.held_out)
    for each in found:
        assert all((each.title, each.meaning, each.cure, each.evidence))
        assert each.meaning.endswith(".")
        assert each.tick is not None
        assert any(evidence.number is not None for evidence in each.evidence)
    can_be_followed(shows, found)


def can_be_followed(session, findings):
    """Check that every number in the evidence has an origin with the same value."""
    for each in findings:
        for evidence in each.evidence:
            if evidence.number is not None:
                assert same(session.derive(evidence.number).value, evidence.value)
        assert each.tick is None or session.seek(each.tick).tick == each.tick


def same(one, other):
    return one == other or (math.isnan(one) and math.isnan(other))


@parametrize()
@pytest.mark.parametrize("rate", [None, 3e37])
def test_any_run_can_be_asked_anywhere(model, rate):
    session = Session(**model, **({} if rate is None else {"learning_rate": rate}))
    for learning, batches, timesteps in ((False, 0, 0), (False, 2, 1), (True, 1, 0), (True, 7, 1)):
        session.learning = learning
        session.step("batch", batches)
        session.step("timestep", timesteps)
        here = session.position
        found = session.findings()
        can_be_followed(session, found)
        session.seek(here)
        assert repr(session.findings()) == repr(found)  # NaN is not equal to itself


def test_a_run_that_was_changed_by_hand_can_be_asked():
    session = run(9, **LEARNED)
    session.seek("e1 b3 t2")
    session.edit("Wy", (0, 0), 3e38)
    session.step("batch", 4)
    found = session.findings()
    assert "softmax-underflow" in {each.name for each in found}
    can_be_followed(session, found)


@pytest.mark.parametrize("seed", [1, 2, 4])
def test_nothing_is_found_in_a_healthy_run(seed):
    """`python -m tests.soak.healthy` does more."""
    block(seed)


# Causes, and since when


def test_a_consequence_follows_its_cause():
    session = run(100, **LEARNED, **SGD, learning_rate=100.0)
    found = session.findings()
    first = found[0]
    assert (first.name, first.cause) == ("rate-too-large", None)
    effects = [each for each in found if each.cause is not None]
    assert {"saturated-gate"} <= {each.name for each in effects}
    assert all(each.cause == first for each in effects)
    assert "because of rate-too-large" in repr(effects[0])


def test_no_finding_is_lost_where_rules_follow_from_each_other():
    rules = {row: [Finding(row.name, row.name, "", "", ())] for row in TABLE}
    ordered = list(by_cause(rules))
    assert sorted(each.name for each in ordered) == sorted(row.name for row in TABLE)
    roots = {each.name for each in ordered if each.cause is None}
    assert all(each.cause.name in roots for each in ordered if each.cause is not None)


def test_a_finding_is_first_seen_where_its_rule_first_finds_it():
    session = run(30, **LEARNED)
    session.edit("bz", (0,), 30.0)
    for unit in range(1, 8):
        session.edit("bz", (unit,), 30.0)
    session.step("batch", 60)
    (found,) = [each for each in session.findings() if each.name == "saturated-gate"]
    session.seek(found.first_seen)
    assert "saturated-gate" in names(session)
    session.step("batch", -1)
    assert "saturated-gate" not in names(session)
    assert found.first_seen.number >= 30


def test_findings_of_a_healthy_run_have_no_cause_and_a_place():
    session = run(3, carry="notebook")
    for each in session.findings():
        assert each.cause is None
        assert each.first_seen <= session.position


# Models from elsewhere

MISTAKES = {
    "two at once": (
        lambda: ported.biases(ported.copied, ported.summed, reset="before"),
        {"reset-mixed-up", "biases-counted-twice"},
    ),
    "reset and z": (lambda: ported.reading(reset="before", z="takes"), {"reset-mixed-up", "z-flipped"}),
    "a gate function": (lambda: ported.reading(gate="hard_sigmoid"), {"gates-mixed-up"}),
    "merged by the other program": (lambda: ported.biases(ported.kept, ported.summed), {"biases-merged"}),
    "doubled by the other program": (
        lambda: ported.biases(ported.summed, lambda b, b_h: (2 * (b + b_h), 0 * b_h)),
        {"biases-counted-twice"},
    ),
    "mixed by a reshape": (
        lambda: ported.other_output(lambda gru, x: gru(x.swapaxes(0, 1).reshape(x.shape))[0]),
        {"axes-swapped"},
    ),
    "a stack": (lambda: ported.reading(ported.module(num_layers=2), z="takes"), {"z-flipped"}),
    "both directions": (lambda: ported.reading(ported.module(bidirectional=True), reset="before"), {"reset-mixed-up"}),
    "filled up with zeros": (ported.padded_with_zeros, {"padding-moves-the-state"}),
    "zeros that are inputs": (lambda: ported.padded_with_zeros(within=True), set()),
    "padding that is learned from": (lambda: ported.padded_in_a_script(masked=False), {"padding-moves-the-state"}),
    "one timestep of padding that is learned from": (
        lambda: ported.padded_in_a_script(masked=True, beyond=1),
        {"padding-moves-the-state"},
    ),
    "padding that the loss leaves out": (lambda: ported.padded_in_a_script(masked=True), set()),
    "Adam that has begun before": (lambda: ported.recorded(corrected=False, first=3), set()),
    "an LSTM in another order": (lambda: ported.lstm_on_output(ported.lstm(), order="iofg"), {"gates-mixed-up"}),
    "an LSTM that is right": (lambda: ported.lstm_on_output(ported.lstm()), set()),
    "an LSTM with one of its biases": (lambda: ported.lstm_on_output(ported.lstm(second_bias=0)), {"bias-left-out"}),
    "an LSTM with its second bias twice": (lambda: ported.lstm_on_output(ported.lstm(second_bias=2)), {"output-not-expected"}),
    "an LSTM on swapped axes": (
        lambda: ported.lstm_on_output(lambda x: (ported.lstm()(x.swapaxes(0, 1))[0].swapaxes(0, 1),)),
        {"axes-swapped"},
    ),
    "a relu network": (lambda: ported.relu_network(gate="tanh"), {"gates-mixed-up"}),
    "a relu network that is right": (ported.relu_network, set()),
    "a stack that is right": (lambda: ported.reading(ported.module(num_layers=2, bidirectional=True)), set()),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_of_a_port(name):
    open_, expected = MISTAKES[name]
    session = open_()
    found = session.findings()
    assert {each.name for each in found} == expected
    can_be_followed(session, found)


@pytest.mark.parametrize(("change", "found"), [(1.05e-6, True), (0.95e-6, False)])
def test_padding_that_hardly_changes_a_state(change, found):
    """A state that begins at 0 and goes to 1/2: after the row of two timesteps it changes most, in the five of its padding."""
    gru, left = ported.module(dtype=torch.float64), change / 2.5  # of the candidate in each timestep: (z² − z⁷) / 2 = 2.5 (1 − z)
    with torch.no_grad():
        for parameter in gru.parameters():
            parameter.zero_()
        gru.bias_ih_l0[ported.H : 2 * ported.H] = math.log(1 / left - 1)
        gru.bias_ih_l0[2 * ported.H :] = math.atanh(0.5)
    session = ported.padded_with_zeros(gru=gru)
    assert session.config.dtype == "float64"
    assert ("padding-moves-the-state" in names(session)) == found


GATES = {"z": "update gate z", "r": "reset gate r", "n": "candidate"}


@pytest.mark.parametrize("order", ["zrn", "rnz", "nzr", "nrz", "znr"])
def test_which_gates_are_mixed_up(order):
    """torch stacks r, z and n; whatever is read as another gate is named with what it is."""
    (found,) = ported.reading(order=order).findings()
    moved = {
        f"the {GATES[read]} here is the {GATES[stored]} there" for read, stored in zip(order, "rzn", strict=True) if read != stored
    }
    title, _, said = found.title.partition(": ")
    assert (title, set(said.split(", "))) == ("the gates are in another order", moved)


def without(which: str, of: str) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return a change of the biases that omits those of x W ("ih") or of h U ("hh") of the gates z and r, of the candidate, or of
    all."""
    start, end = {"z and r": (0, 2), "the candidate": (2, 3), "z, r and the candidate": (0, 3)}[of]
    left = torch.ones(3 * ported.H)
    left[start * ported.H : end * ported.H] = 0
    return (lambda b, b_h: (left * b, b_h)) if which == "ih" else (lambda b, b_h: (b, left * b_h))


@pytest.mark.parametrize("of", ["z and r", "the candidate", "z, r and the candidate"])
@pytest.mark.parametrize(("which", "to"), [("ih", "x W"), ("hh", "hₜ₋₁ U")])
def test_which_bias_is_left_out(which, to, of):
    some, omitted = torch.arange(3 * ported.H) % 4 > 0, without(which, of)  # a unit of each gate has no biases
    stored = lambda b, b_h: (some * b, some * b_h)  # noqa: E731
    (found,) = ported.biases(stored, lambda b, b_h: omitted(*stored(b, b_h))).findings()
    assert found.title == f"the other program omits the bias of {of} that is added to {to}"
    assert found.cure == f"add bias_{which} to the other bias when you convert the weights"


SAID = {
    "a gate function": (
        lambda: ported.reading(gate="hard_sigmoid"),
        "the activation function of the gates is σ(a), not clip(a / 5 + 0.5)",
        "--gate sigmoid",
        "with σ(a)",
    ),
    "reset": (
        lambda: ported.reading(reset="before"),
        "the reset gate is applied after the product with U",
        "--reset after",
        "with reset after",
    ),
    "z": (
        lambda: ported.reading(z="takes"),
        "the update gate has the opposite meaning: z near 1 keeps the old state",
        "--z keeps, or negate all weights and biases of z",
        "with --z keeps",
    ),
    "doubled in the file": (
        lambda: ported.biases(ported.copied, ported.summed),
        "the biases of z, r and the candidate are counted twice",
        "store the bias in bias_ih, and 0 in bias_hh",
        "with one of the two biases",
    ),
    "gates doubled by the other program": (
        lambda: ported.biases(ported.kept, lambda b, b_h: tuple(torch.where(ported.IN_GATES, 2 * each, each) for each in (b, b_h))),
        "the other program adds the biases of z and r twice",
        "add each bias once in the other program, or double the biases here",
        "with twice the biases",
    ),
    "merged in the file": (
        lambda: ported.biases(ported.summed, ported.kept),
        "the two biases of the candidate were merged",
        "keep the two biases apart: tanh(x W + bias_ih + r ⊙ (hₜ₋₁ U + bias_hh))",
        "with two biases that have the same sum",
    ),
    "merged by the other program": (
        lambda: ported.biases(ported.kept, ported.summed),
        "the two biases of the candidate were merged by the other program",
        "keep the two biases apart: tanh(x W + bias_ih + r ⊙ (hₜ₋₁ U + bias_hh))",
        "with the sum in place of the bias of x W",
    ),
    "mixed by the other program": (
        lambda: ported.other_output(lambda gru, x: gru(x.swapaxes(0, 1).reshape(x.shape))[0]),
        "a reshape has mixed the batch and time axes",
        "replace X.reshape by X.transpose(1, 0, 2) in the other program",
        "with the same reshape",
    ),
    "mixed here": (
        lambda: ported.other_output(lambda gru, x: gru(x.reshape(ported.B, ported.T, -1).swapaxes(0, 1))[0]),
        "a reshape has mixed the batch and time axes",
        "replace X.reshape by X.transpose(1, 0, 2) for this input",
        "with the reshape undone",
    ),
}


@pytest.mark.parametrize("name", SAID)
def test_what_is_said_of_a_mistake(name):
    """The title, the cure, and the number that differs most from that of torch."""
    open_, title, cure, variant = SAID[name]
    session = open_()
    (found,) = session.findings()
    assert (found.title, found.cure) == (title, cure)
    expected = session.config.source.batches[0].expected
    ours = np.array([session.value("h", t=t) for t in range(ported.T)])
    t, row, unit = np.unravel_index(np.argmax(np.abs(ours - expected)), ours.shape)
    number = found.evidence[0].number
    assert (number.name, number.index, number.t) == ("h", (row, unit), t)
    words = f"h[row {row + 1}, unit {unit + 1}] = {rounded(ours[t, row, unit])} at t {t + 1}; "
    assert found.evidence[0].words == words + f"expected: {rounded(float(expected[t, row, unit]))}"
    said, fits = found.evidence[2].words.split(", it differs by ")
    assert said == variant
    assert float(fits) < 1e-5


@pytest.mark.parametrize(
    ("betas", "share", "farther", "found"),
    [
        ((0.9, 0.992), 1.0, 1.0, True),  # 0.1 / √0.008 = 1.118
        ((0.9, 0.9915), 1.0, 1.0, False),  # 1.085, too near 1 to be told from it
        ((0.5, 0.99), 1.0, 1.0, True),
        ((0.9, 0.999), 0.92, 1.1, True),
        ((0.9, 0.999), 0.87, 1.1, False),
        ((0.9, 0.999), 0.5, 1.047, True),
        ((0.9, 0.999), 0.5, 1.053, False),
    ],
)
def test_a_first_step_of_adam_is_too_long(betas, share, farther, found):
    """The step of a share of the weights is as long as it is without bias correction; the others go this many times as far."""
    session = ported.recorded(corrected=False, betas=betas, share=share, farther=farther)
    expected = (1 - betas[0]) / math.sqrt(1 - betas[1])
    titles = [each.title for each in session.findings()]
    assert titles == [f"Adam has no bias correction: its first step is {rounded(expected)} times the learning rate"] * found


def test_nan_in_the_inputs_of_a_model_file_is_found_where_it_is_read():
    x = ported.inputs()
    x[2, 1, 0] = torch.nan
    session = ported.opened(ported.module(), ported.module()(ported.inputs())[0], x=x)
    (found,) = [each for each in session.findings() if each.name == "not-finite"]
    assert (found.title, found.cure) == ("x is NaN in batch 1 of epoch 1", "look for it in the data that the model reads")
    assert found.evidence[0].words == "the first number that is not finite: x[row 2, input 1] at t 3 = nan"
    session.run_to_not_finite()
    assert found.tick == session.position.tick


@pytest.mark.parametrize(
    "convention", [("before", "keeps", "sigmoid"), ("after", "takes", "hard_sigmoid"), ("before", "takes", "sigmoid")]
)
def test_a_model_is_right_in_its_own_convention_and_what_differs_is_found_in_another(convention):
    reset, z, gate = convention
    own = ported.reading(reset=reset, z=z, gate=gate)
    y = torch.tensor(np.array([own.value("h", t=t) for t in range(ported.T)]))
    assert ported.opened(ported.module(), y, reset=reset, z=z, gate=gate).findings() == ()
    there = {each.cure for each in ported.opened(ported.module(), y, reset="after", z="keeps").findings()}
    cures = {f"--reset {reset}", f"--z {z}, or negate all weights and biases of z", f"--gate {gate}"}
    assert there == {cure for cure in cures if not {"after", "keeps,", "sigmoid"} & set(cure.split())}


@pytest.mark.parametrize("script", [each for each in SCRIPTS if each is not dropout_of_everything], ids=lambda each: each.__name__)
def test_nothing_is_found_in_a_recording_of_a_healthy_script(script):
    folder, _ = recorded(script)
    for module in open_recording(folder).modules:
        session = on_recording(folder, module.name)
        assert session.findings() == ()
    while session.position != session.end:
        session.step("batch")
        assert session.findings() == ()


# What has gone again


def test_what_has_gone_again_was_seen_when_it_says():
    session = run(25, **{**LEARNED, "learning_rate": 1.0})
    session.learning_rate = 0.01
    session.step("batch", 275)
    now, gone = {each.name for each in session.findings()}, session.gone()
    assert [each.name for each in gone] == ["rate-too-large"]
    assert session.found.gone == gone
    timeline = session.state.timeline

    def seen(batch: int) -> set[str]:
        return {each.name for each in find_problems(timeline, timeline.moment(timeline.end_of(batch)))}

    for each in gone:
        first, last = each.first_seen.number, each.last_seen.number
        assert each.name not in now
        assert each.name in seen(last)
        assert each.name not in seen(last + 1)
        assert all(each.name in seen(batch) for batch in range(first + 20, last, 15))
    (data,) = [PlainResults(session.program).plain(each) for each in gone]
    assert data["last_seen"]["batch"] == gone[0].last_seen.batch + 1


def test_nothing_has_gone_from_a_healthy_run_and_what_is_there_has_not_gone():
    session = run(200, **LEARNED)
    assert session.gone() == session.found == ()
    broken = run(60, **{**LEARNED, **SGD, "learning_rate": 100.0})
    names = {each.name for each in broken.findings()}
    assert "rate-too-large" in names
    assert not names & {each.name for each in broken.gone()}
    assert all(each.last_seen is None for each in broken.found)
    assert run(0).gone() == run(1).gone() == ()


def test_a_rate_that_harms_only_what_was_learned_before_is_tried_from_its_change_on():
    """From the first batch on, the rate of 0.3 learns the text as well as a smaller one."""
    options = {"hidden_size": 32, "cell": "lstm", "batch_size": 8, "seq_length": 16, "seed": 5, "dtype": "float64"}
    session = run(300, text=random_text(random.Random(2), 4000), **options)
    session.learning_rate = 0.3
    session.step("batch", 100)
    (found,) = session.findings()
    assert found.name == "rate-too-large"
    (tried,) = [each.words for each in found.evidence if "tried on a copy: with" in each.words]
    begin, end, without = re.fullmatch(
        r"tried on a copy: with --learning-rate 0.03 100 batches from (.*) on end at (.*), not (.*)", tried
    ).groups()
    assert begin == batch_in_words(*divmod(300, session.config.num_batches))
    copy = run(300, text=session.config.text, **options)
    copy.learning_rate = 0.03
    copy.step("batch", 100)
    for run_of, said in ((copy, end), (session, without)):
        assert float(said) == pytest.approx(run_of.snapshot().losses[-20:].mean(), rel=0.01)
    near = run(300, text=session.config.text, **options)
    near.learning_rate = 0.02
    near.step("batch", 100)
    assert near.findings() == ()


def test_probabilities_of_exactly_0_after_a_jump_of_the_loss_follow_from_it():
    session = run(100, **LEARNED)
    for unit in range(4):
        session.edit("Wy", (unit, unit), 400.0)
    session.step("batch", 40)
    causes = {each.name: each.cause.name if each.cause else None for each in session.findings()}
    assert causes["loss-jumps"] is None
    assert causes["softmax-underflow"] == "loss-jumps"


def test_gates_that_are_shut_in_a_model_that_predicts_well_are_no_finding():
    """In long healthy runs, nearly all reset gates of a large GRU close, and the loss is as low as before."""

    def with_shut(gate: str, value: float) -> Session:
        session = run(200, **LEARNED)
        for unit in range(8):
            session.edit(gate, (unit,), value)
        session.step("batch", 300)
        return session

    session = with_shut("br", -20.0)
    assert all(session.value("r", t=t).max() < 0.01 for t in range(8))
    assert session.loss < baselines(TEXT, session.config.vocab_size).bigram
    assert session.findings() == ()
    assert "saturated-gate" in {each.name for each in with_shut("bz", 20.0).findings()}


def test_numbers_that_are_not_finite_because_the_state_grows_follow_from_that():
    session = Session(text=random_text(random.Random(5), 900), cell="relu.cell", cell_text=RELU_CELL, hidden_size=8, seq_length=32)
    session.learning, session.stop_on_nan = True, False
    for i in range(8):
        for j in range(8):
            session.edit("Uh", (i, j), 1.6 * (i == j))
    session.step("batch", 40)
    found = session.findings()
    assert not np.isfinite(session.loss)
    assert found[0].name == "exploding-gradient"
    assert {each.cause.name for each in found[1:]} == {"exploding-gradient"}
    assert "not-finite" in {each.name for each in found}


def test_a_gradient_that_vanishes_while_only_pairs_of_characters_are_learned_is_not_seen_as_gone():
    options = random_options(700194) | {"cell": "minimal-rnn", "optimizer": "adam", "learning_rate": 0.01}
    session = run(150, **options)
    timeline = session.state.timeline
    assert "vanishing-gradient" in {each.name for each in find_problems(timeline, timeline.moment(timeline.end_of(54)))}
    assert session.findings() == session.gone() == ()


def test_a_first_loss_of_few_targets_is_high_by_chance():
    text = "".join(chr(ord("a") + i * 7 % 26) for i in range(400))
    session = run(1, text=text, hidden_size=1, batch_size=1, seq_length=2, seed=92, cell="rnn")
    assert session.loss > np.log(26) + 1.2
    assert session.findings() == ()


def spoiled(seed: int = 0) -> Session:
    """A model that has learned, in which some weights were set to large values."""
    session = run(60, **LEARNED, seed=seed)
    for unit in range(4):
        session.edit("Wy", (unit, unit), 60.0)
    session.step("batch", 20)
    return session


def with_rate(value: float, batches: int = 100) -> Session:
    session = run(batches, **LEARNED)
    session.learning_rate = value
    session.step("batch", 60)
    return session


def stopped() -> Session:
    session = run(60, **LEARNED)
    session.learning = False
    session.step("batch", 20)
    return session


def with_shut_gates() -> Session:
    return run(60, **LEARNED, edits={"bz": 9.0, "br": -9.0})


FIRST_CURES = {
    "weights that were edited": (spoiled, "take 4 changes back at epoch"),
    "gates that were edited": (with_shut_gates, "take 16 changes back at epoch 1, batch 1"),
    "a rate that was raised": (lambda: with_rate(1.0), "put learning_rate back to 0.01 at epoch"),
    "a rate that was set to 0": (lambda: with_rate(0.0), "put learning_rate back to 0.01 at epoch"),
    "learning that was turned off": (stopped, "turn learning on again at epoch"),
    "a state that grows": (lambda: own(GROWING_CELL, 40, carry="reset"), "look at mine.cell: the line h with 1 in the place of 3"),
    "a relu that is off": (lambda: own(OFF_CELL, 60), "look at mine.cell: the line h with 0 in the place of 9"),
    "a candidate that is small": (lambda: own(SMALL_CELL, 60), "look at mine.cell: the line g with 1 in the place of 0.001"),
    "a relu with a factor": (
        lambda: trained(healthy(random.Random(500), cell="mine.cell", cell_text=LARGE_RELU_CELL), 200),
        "look at mine.cell: the line h with 1 in the place of 3",
    ),
    "a factor of the state": (lambda: own(AMPLIFYING_CELL, 60), "look at mine.cell: the line h with 1 in the place of 12"),
    "recurrent weights that were edited": (lambda: amplified(12), "take 192 changes back at epoch 1, batch 1"),
    "a state that forgets": (lambda: own(FORGETFUL_CELL, 60), "look at mine.cell: the line h with 1 in the place of 0.01"),
}


@pytest.mark.parametrize(("begin", "words"), FIRST_CURES.values(), ids=FIRST_CURES)
def test_the_cure_that_removes_the_cause_is_offered_first_and_lowers_the_loss(begin, words):
    session = begin()
    first = session.findings()[0]
    assert first.cause is None
    assert first.cure.startswith(words)
    assert first.cures[0].name == ("cell_text" if session.config.cell_text else UNDO)
    assert first.evidence[-1].words.startswith(f"tried on a copy: {first.cures[0].typed}; ")
    as_it_is, tried, *_ = session.tried_options(first)
    assert tried.cure == first.cures[0]
    assert tried.loss < as_it_is.loss


def test_changes_that_are_not_the_cause_are_not_taken_back():
    small = run(30, **LEARNED, **SGD, learning_rate=100.0)
    small.edit("Wy", (0, 0), 0.1)
    small.step("batch", 60)
    (found, *_) = small.findings()
    assert found.name == "rate-too-large"
    assert all(cure.name != UNDO for cure in found.cures)
    before = run(60, **{**LEARNED, "optimizer": "sgd", "clip": 0.01, "learning_rate": 0.3})
    before.edit("Wy", (0, 0), 60.0)
    before.step("batch", 20)
    (found,) = [each for each in before.findings() if each.name == "mostly-clipped"]
    assert all(cure.name != UNDO for cure in found.cures)


def edited(value: float, batches: int = 8) -> Session:
    """A model that has learned, in which biases of the candidate were set, which raises the loss for a while."""
    session = run(80, **LEARNED)
    for unit in range(4):
        session.edit("bh", (unit,), value)
    session.step("batch", batches)
    return session


def test_a_loss_that_rises_less_is_a_jump_where_a_number_was_edited():
    session = edited(1.0)
    (found,) = session.findings()
    assert found.name == "loss-jumps"
    losses = session.snapshot().losses
    assert found.title.startswith(f"the loss jumps from {rounded(losses[72:80].mean())} to {rounded(losses[80:88].mean())} at ")
    assert found.title.endswith(": bh was changed there")
    assert losses[80:88].mean() < 1.5 * losses[72:80].mean() + 0.5  # it is no jump elsewhere
    assert found.cures[0].name == UNDO
    assert edited(0.3).findings() == ()
    assert edited(1.0, 80).findings() == ()  # what was lost has been learned again


@pytest.mark.parametrize("name", [rule.name for rule in TABLE if rule.shown is not None])
def test_what_the_losses_show_is_known_without_a_replay(name):
    (rule,) = [rule for rule in TABLE if rule.name == name and rule.shown is not None]
    known = set()

    def refuse(number, record):
        raise AssertionError("a batch is replayed")

    for begin in (CASES[name].shows, CASES[name].misses):
        session = begin()
        timeline = session.state.timeline
        count = timeline.completed(session.position)
        for batches in sorted({1, count // 2, count - 1, count} - {0}):
            facts = RunFacts.after(timeline, batches, monitor=refuse)
            assert rule.shown is not None
            shown = rule.shown(facts)
            assert "recent" not in vars(facts)
            assert shown == bool(list(rule.find(RunFacts.after(timeline, batches))))
            known.add(shown)
    assert known == {True, False}


def test_a_replay_begins_with_a_batch_that_is_known():
    session = run(60, **LEARNED)
    timeline = session.state.timeline
    known = {batch: timeline.record(batch).copy() for batch in (40, 43)}
    for segment in timeline.segments:
        segment.checkpoints.thin(64)

    def replayed(batch: int) -> list[int]:
        seen = []
        found = timeline.record(batch, lambda number, record: bool(seen.append(number)))
        assert pack_record(found) == pack_record(known[batch])
        timeline.memory.records.clear()
        return seen

    timeline.memory.records.clear()
    assert replayed(43) == list(range(44))
    timeline.remember(40, known[40])
    assert replayed(43) == [41, 42, 43]


def test_the_moment_after_a_batch_is_not_replayed_again(monkeypatch):
    timeline = run(60, **LEARNED).state.timeline
    moment = timeline.moment(timeline.end_of(39))
    facts = RunFacts.after(timeline, 40)
    assert facts.recent[-1][0] == 39
    monkeypatch.delattr(type(timeline), "moment")
    assert facts.moment.position == moment.position
    assert facts.moment.record is facts.recent[-1][1]
    assert pack_record(facts.moment.record) == pack_record(moment.record)


# What stops a run, and the order of findings

RATES_THAT_EXPLODE = {
    "of the tutorial, in two steps": ({"learning_rate": 1e4}, 2),
    "of the tutorial, at once": ({"learning_rate": 1e8}, 1),
    "of the tutorial, so that numbers are infinite": ({"learning_rate": 1e30}, 5),
    "of Adam, on a text": ({**LEARNED, "hidden_size": 64, "learning_rate": 300.0}, 1),
}


@pytest.mark.parametrize(("options", "steps"), RATES_THAT_EXPLODE.values(), ids=RATES_THAT_EXPLODE)
@pytest.mark.parametrize("stops", [True, False])
def test_what_stops_a_run_is_the_first_finding(options, steps, stops):
    session = Session(**options)
    session.learning, session.stop_on_nan = True, stops
    for _ in range(steps):
        session.step("epoch")
        if stops and steps == 1:
            assert session.notice.startswith("stopped here: ")
    first, *others = session.findings()
    assert (first.name, first.cause) == ("rate-too-large", None)
    assert first.first_seen.number <= 2
    assert first.is_tried
    assert f"--learning-rate {first.cures[0].value:g}" == first.cure
    (tried,) = [each.words for each in first.evidence if each.words.startswith("tried on a copy: ")]
    assert tried.startswith(f"tried on a copy: with {first.cure} the first ")
    copy = Session(**{**options, "learning_rate": first.cures[0].value})
    copy.learning = True
    count, loss, without = re.search(r"the first (\d+) batches end at (\S+), not (\S+)$", tried).groups()
    copy.step("batch", int(count))
    assert loss == rounded(loss_after(copy.snapshot().losses[:]))
    assert float(without.replace(",", "")) > 100 * float(loss)
    assert all(each.cause == first for each in others if each.name not in ("rows-do-not-continue",))
    assert sum("norm" in each.words and "learning rate" in each.words for each in first.evidence) == 1
    session.stop_on_nan = False  # on the way to what is found after the stop
    can_be_followed(session, [first, *others])


def test_a_run_that_stops_at_a_loss_that_is_not_finite_says_so_before_the_batch_is_complete():
    session = run(3, **LEARNED)
    session.edit("Wy", (0, 0), 3e38)
    session.edit("Wy", (1, 0), 3e38)
    session.stop_on_nan = True
    session.step("batch", 2)
    assert session.notice.startswith("stopped here: ")
    assert session.position.phase == "loss"
    found = {each.name: each for each in session.findings()}
    assert not math.isfinite(session.loss)
    assert {"explodes", "not-finite"} & found.keys()
    assert next(iter(found.values())).first_seen <= session.position
    session.step("op", -2)
    assert all(each.tick is None or each.tick <= session.position.tick for each in session.findings())


def test_a_growth_from_which_the_loss_has_come_back_has_gone():
    session = run(40, **LEARNED)
    session.edit("by", (0,), 5000.0)
    session.step("batch", 1)
    session.edit("by", (0,), 0.0)
    assert "explodes" in names(session)
    session.step("batch", 20)
    assert "explodes" not in names(session)


def test_findings_stand_by_harm_and_consequences_behind_their_cause():
    rules = {row.name: row for row in reversed(TABLE)}
    shown = {rules[name]: [Finding(name, name, "", "", ())] for name in CASES if name in rules}
    ordered = list(by_cause(shown))
    roots = [each for each in ordered if each.cause is None]
    harms = [min(rules[each.name].harm for each in ordered if root in (each, each.cause)) for root in roots]
    assert harms == sorted(harms)
    layout, rate = rules["rows-do-not-continue"], rules["rate-too-large"]
    found = {row: [Finding(row.name, row.name, "", "", ())] for row in (layout, rate)}
    assert [each.name for each in by_cause(found)] == ["rate-too-large", "rows-do-not-continue"]
    assert Harm.STOPS < Harm.NOT_FINITE < Harm.DIVERGES < Harm.COSTS < Harm.REMARK
    assert [row.name for row in TABLE if row.harm is Harm.STOPS] == ["script-ended", "explodes"]


def test_a_weight_that_was_set_is_not_said_to_have_grown_by_an_update():
    session = run(40, **LEARNED)
    session.stop_on_nan = False
    session.edit("Wy", (0, 0), 3e38)
    session.step("batch", 4)
    first, *_ = session.findings()
    assert first.name == "not-finite"
    assert first.cures[0].name == UNDO
    assert "the cause is the update" not in repr([each.evidence for each in session.findings()])


def test_a_jump_that_is_back_has_gone_wherever_it_was():
    session = edited(2.0, 8)
    (found,) = session.findings()
    session.step("batch", 400)
    assert session.findings() == ()
    (gone,) = [each for each in session.gone() if each.name == "loss-jumps"]
    assert gone.title == found.title
    assert 80 <= gone.first_seen.number <= 88
    assert gone.last_seen.number < 200


def test_a_cure_says_which_changes_it_takes_back():
    session = with_rate(1.0)
    timeline = session.state.timeline
    assert undo_of(timeline, next(changes(timeline, session.position.tick))).typed.startswith("put learning_rate back to 0.01")
    session = run(60, **LEARNED)
    session.learning_rate = 1.0
    session.edit("bh", (2,), 3.0)
    session.step("batch", 20)
    timeline = session.state.timeline
    words = undo_of(timeline, next(changes(timeline, session.position.tick))).typed
    assert words.startswith("take 2 changes back at epoch")
    assert words.endswith(": of learning_rate, bh")


def test_findings_are_those_of_a_branch_and_a_course_ends_at_the_position():
    session = run(20, **LEARNED, carry="notebook")
    found = session.findings()
    assert session.found == found != ()
    session.seek(session.state.timeline.end_of(9))
    assert session.found == found
    batches, _ = session.history("loss")
    assert batches[-1] == 9
    batches, _ = session.history("loss", at=[3, 15, 25])
    assert batches.tolist() == [3, 15]
    session.edit("Wy", (0, 0), 1.0)
    assert session.branch != "main"
    assert session.found == ()
    session.switch("main")
    assert session.found == found


def test_a_number_that_is_not_finite_later_in_a_batch_is_not_known_before():
    session = own_rule("W − η ⊙ ((dW ⊙ 1e38) ⊙ 1e38)")
    at_loss, end = session.program.loss_tick, session.state.timeline.end_of(0)
    assert session.seek(end).tick == end
    (found,) = [each for each in session.findings() if each.name == "not-finite"]
    assert found.tick > at_loss
    session.seek(at_loss)
    assert "not-finite" not in names(session)


def test_a_passage_that_cannot_be_predicted_is_not_the_fault_of_the_rate():
    chance = random.Random(0)
    hard = "".join(chance.choice("abcdefghijklmnopqrstuvwxyz .") for _ in range(600))
    text = ("the cat sat on the mat. " * 80)[:900] + hard + "the cat sat on the mat. " * 40
    session = run(61, text=text, hidden_size=16, batch_size=1, seq_length=16, seed=1)
    assert session.loss > 2 + session.snapshot().losses[54]
    for _ in range(2):
        assert not {"rate-too-large", "loss-jumps"} & names(session)
        session.step("batch", 9)


def test_a_cure_that_was_not_tried_says_so_and_a_gate_is_offered_only_one_that_helps():
    (rows, *_) = run(2).findings()
    assert rows.name == "rows-do-not-continue"
    assert (rows.cure_label, rows.cure) == ("cure, not tried", "--layout contiguous, or --carry reset")
    assert "<p>Cure, not tried: <code>--layout contiguous</code>" in rows._repr_html_()
    large = run(60, **LEARNED, **SGD, learning_rate=100.0).findings()[0]
    assert large.cure_label == ("cure" if large.is_tried else "cure, not tried")
    session = still(cycle(200), 40, {"Wz": 20.0, "bz": 0.0}, cell_text=GATED, seq_length=4, hidden_size=4)
    (gate,) = [each for each in session.findings() if each.name == "saturated-gate"]
    assert gate.cause is None
    assert gate.cures == ()
    assert (gate.cure_label, gate.cure[:46]) == ("cure", "no option that was tried lowers the loss; look")
    assert session.tried_options(gate)[1:] == ()


@pytest.mark.parametrize(("rate", "is_far"), [(2e-5, True), (1e-4, False)])
def test_a_usual_step_is_named_only_where_the_step_is_far_from_it(rate, is_far):
    session = trained(healthy(random.Random(0), optimizer="adam", learning_rate=rate, clip=0.0, hidden_size=8), 300)
    (found,) = [each for each in session.findings() if each.name == "rate-too-small"]
    ratio = float(re.search(r"a step changes the weights by (\S+) of", found.title)[1])
    assert (ratio < 1e-4) == is_far
    assert ("about 1e-3 is usual" in found.evidence[0].words) == is_far
    assert found.cure_label == "cure"
