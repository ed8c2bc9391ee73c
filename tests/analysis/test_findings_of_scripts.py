"""Mistakes in training scripts: `!` on the recording names the cause, as soon as it is open, and nothing in scripts that nearly
have them."""

from __future__ import annotations

import re

import pytest
import torch
from torch.nn.functional import cross_entropy

import tui_gru
from tests.analysis import planted_scripts as planted
from tests.analysis.planted_scripts import LENGTHS, Carried, Model, trained
from tests.capture.runs import trained as recorded
from tests.soak.scripts import SCRIPTS
from tui_gru import Session
from tui_gru.analysis.examined import in_pytorch
from tui_gru.analysis.trials import Cure
from tui_gru.imported.module import forget
from tui_gru.imported.recordings import open_recording

#: The finding that names the cause, and the script.
MISTAKES = {
    "an error": ("script-ended", lambda: planted.ending(lambda: trained(loss=planted.failing_from(12)))),
    "zero_grad is missing": ("gradient-not-cleared", lambda: trained(clear=False)),
    "an optimizer without the module": ("not-in-optimizer", lambda: trained(learning=planted.without_biases_of_rnn)),
    "a frozen module": ("frozen", lambda: trained(model=planted.frozen(True))),
    "a clip after the update": ("clipped-too-late", lambda: trained(after_update=planted.clip)),
    "batch_first is missing": ("one-row-learns", lambda: trained(planted.of_a_row)),
    "the last output of the wrong axis": (
        "one-row-learns",
        lambda: trained(planted.of_a_row, model=Model(batch_first=True), timesteps=planted.B),
    ),
    "the last output of packed rows": (
        "last-output-is-padding",
        lambda: trained(planted.padded(lambda out, lengths: out[-1]), lengths=LENGTHS),
    ),
    "the last output of both directions": (
        "last-output-of-both-directions",
        lambda: trained(model=Model(bidirectional=True)),
    ),
    "padding in the loss": (
        "padding-moves-the-state",
        lambda: trained(planted.everywhere, lengths=LENGTHS, loss=planted.of_all_timesteps(False)),
    ),
    "padding of zeros in the loss": (
        "padding-moves-the-state",
        lambda: trained(planted.everywhere, model=Model(0), lengths=LENGTHS, loss=planted.of_all_timesteps(False)),
    ),
    "a state that is never renewed": ("state-is-stale", lambda: trained(Carried(lambda n: n == 0))),
    "a state that is sometimes renewed": ("state-is-stale", lambda: trained(Carried(lambda n: n % 3 == 0))),
    "a state detached at every timestep": ("detached-at-every-timestep", lambda: trained(planted.in_a_loop(lambda t: True))),
    "a gradient that explodes": (
        "exploding-gradient",
        lambda: trained(model=planted.with_gain(3), timesteps=40, rate=1e-4),
    ),
    "a rate that is too large": ("not-finite", lambda: trained(rate=30.0, optimizer=planted.sgd, loss=planted.of_squares)),
    "evaluation mode": ("evaluating", lambda: trained(model=Model(num_layers=2, dropout=0.5).eval())),
    "an optimizer that maximizes": ("maximize", lambda: trained(rate=0.3, optimizer=planted.maximizing, steps=60)),
    "backward of the negative loss": ("negated", lambda: trained(rate=0.3, optimizer=planted.sgd, negated=True, steps=60)),
    "a clip that leaves nothing": (
        "mostly-clipped",
        lambda: trained(rate=0.3, optimizer=planted.sgd, before_update=planted.clip_to(1e-4)),
    ),
    "sigmoid twice": ("sigmoid-twice", lambda: trained(rate=1e-3, optimizer=planted.sgd, loss=planted.sigmoid_twice)),
    "weights rounded to bfloat16": (
        "weights-are-rounded",
        lambda: trained(model=planted.rounded(Model()), rate=1e-4, after_update=planted.rounded),
    ),
    "rows that are too long": (
        "vanishing-gradient",
        lambda: trained(model=Model(), timesteps=150, steps=60, rate=3e-3),
    ),
    "a rate that moves nothing": ("steps-are-tiny", lambda: trained(rate=1e-6, optimizer=planted.sgd)),
    "softmax twice": ("softmax-twice", lambda: trained(loss=planted.softmax_before, steps=60)),
    "softmax twice, with the head": (
        "softmax-twice",
        lambda: trained(planted.everywhere, loss=planted.softmax_of_all, with_head=True),
    ),
    "softmax twice, with the head, from the first step on": (
        "softmax-twice",
        lambda: trained(planted.everywhere, loss=planted.softmax_of_all, with_head=True, steps=60, every=20, rate=1e-2),
    ),
    "softmax twice, with a head that reads the last timestep": (
        "softmax-twice",
        lambda: trained(loss=planted.softmax_before, with_head=True, steps=60, every=20, rate=1e-2),
    ),
    "NaN from the loss": ("not-finite", lambda: trained(loss=planted.undefined_from(6, "gradient"))),
    "NaN in the loss alone": ("loss-not-finite", lambda: trained(loss=planted.undefined_from(6, "loss"))),
}
#: Scripts that nearly have a mistake.
HEALTHY = {
    "plain": lambda: trained(),
    "gradients of two steps added": lambda: trained(update_every=2),
    "recorded every third step": lambda: trained(update_every=2, every=3),
    "a part of the weights is frozen": lambda: trained(model=planted.frozen(False)),
    "a clip before the update": lambda: trained(before_update=planted.clip),
    "the last output of each packed row": lambda: trained(
        planted.padded(lambda out, lengths: out[lengths - 1, torch.arange(planted.B)]), lengths=LENGTHS
    ),
    "packed rows of one length": lambda: trained(planted.padded(lambda out, lengths: out[-1])),
    "padding that is masked": lambda: trained(planted.everywhere, lengths=LENGTHS, loss=planted.of_all_timesteps(True)),
    "a state that is carried on": lambda: trained(Carried(lambda n: True)),
    "two states in turn": lambda: trained(Carried(lambda n: True, streams=2)),
    "a fixed first state": lambda: trained(Carried(lambda n: False)),
    "a state detached every fourth timestep": lambda: trained(planted.in_a_loop(lambda t: t % 4 == 0)),
    "a gradient that hardly grows": lambda: trained(model=planted.with_gain(1), timesteps=40),
    "a large rate": lambda: trained(rate=1e-2, timesteps=3, steps=80),
    "a small rate": lambda: trained(rate=3e-4, steps=20),
    "once, with the head": lambda: trained(planted.everywhere, loss=planted.of_all_timesteps(False), with_head=True, rate=1e-2),
    "once, with a head that reads the last timestep": lambda: trained(with_head=True, rate=1e-2),
    "a trained model": lambda: trained(model=planted.already_trained(), steps=60),
}


def causes(session):
    found = session.findings()
    assert session.position.tick == 0  # right after opening
    return [each.name for each in found if each.cause is None]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_cause_of_a_mistake_is_named_first(mistake):
    name, script = MISTAKES[mistake]
    session = Session.open(script())
    assert causes(session)[:1] == [name]


@pytest.mark.parametrize("script", HEALTHY)
def test_scripts_that_nearly_have_a_mistake(script):
    assert causes(Session.open(HEALTHY[script]())) == []


SAMPLE = ("bidirectional_last_states", "packed_rows_masked_loss", "gradient_accumulation_with_a_step_for_each_part", "tied_weights")


@pytest.mark.parametrize("name", SAMPLE)
def test_a_sample_of_healthy_scripts_is_not_blamed(tmp_path, name):
    torch.manual_seed(0)
    SCRIPTS[name](lambda model, optimizer: tui_gru.record(tmp_path / "run.gru", model, optimizer, every=1))
    assert causes(Session.open(tmp_path / "run.gru")) == []


def test_a_finding_is_placed_where_the_recording_shows_it():
    session = Session.open(trained(loss=planted.undefined_from(6, "gradient"), every=3))
    (finding,) = session.findings()
    assert session.steps[finding.first_seen.number] == 6
    assert "the GRU is not the cause" in finding.title


def test_the_loss_of_all_steps_is_read():
    recording = open_recording(trained(steps=23, every=5))
    assert recording.losses.shape == (23,)
    assert [step.loss for step in recording.steps] == recording.losses[::5].tolist()
    whole = open_recording(trained(steps=23))
    assert recording.losses.tolist() == whole.losses.tolist()


def test_a_captured_batch_of_a_script_is_examined():
    model = Model()
    tui_gru.debug(model, screen=False)
    try:
        read = next(planted.batches(planted.T)).T
        cross_entropy(model.head(model.rnn(model.embed(read))[0][:, -1]), read[:, 0] - 1).backward()
        session = tui_gru.debug(model, screen=False)
    finally:
        forget(model)
    assert causes(session) == ["one-row-learns"]
    session.seek(session.end)
    assert [each.name for each in session.findings() if each.cause is None] == ["one-row-learns"]


def test_a_module_without_any_gradient_is_opened_with_the_reason():
    model = planted.frozen(True)
    model.embed.requires_grad_(False)
    session = Session.open(trained(model=model))
    assert "rnn is frozen: no weight of it had requires_grad in 4 watched steps" in session.notice
    assert causes(session) == ["frozen"]


def test_a_rate_of_0_is_named():
    assert causes(Session.open(trained(rate=0.0)))[:1] == ["rate-is-0"]


def test_a_step_whose_loss_was_not_given_is_not_one_whose_loss_is_nan(tmp_path):
    """As those of a policy that is updated several times before its loss is reported."""
    for name, first, names in (("given.gru", float("nan"), ["loss-not-finite"]), ("not.gru", None, [])):
        recorded(tmp_path / name, [first, None, 1.4, 2.4, 1.2], every=1, on="")
        session = Session.open(tmp_path / name)
        assert [each.name for each in session.findings()] == names


def _of_noise(folder, factor):
    """Record losses that go up and down, and a step that ends before its backward pass."""
    model = torch.nn.GRU(3, 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with tui_gru.record(folder, model, optimizer, every=1, on="") as recorder:
        for loss in (1.0, 1.2, 0.9, 1.6, 1.1):
            optimizer.zero_grad()
            model(torch.randn(5, 2, 3))[0].pow(2).mean().backward()
            optimizer.step()
            recorder.step(loss)
        optimizer.zero_grad()
        model(factor * torch.randn(5, 2, 3))
        raise RuntimeError("the data ended")


def test_states_that_take_turns_in_any_order_are_not_stale(tmp_path):
    """Each is that of an earlier step, and is renewed after its own."""
    torch.manual_seed(0)
    model = torch.nn.GRU(3, 4)
    optimizer, states = torch.optim.SGD(model.parameters(), 1e-2), [torch.zeros(1, 2, 4)] * 3
    with tui_gru.record(tmp_path / "run.gru", model, optimizer, every=1) as recorder:
        for stream in (0, 1, 2, 1, 0, 0, 2, 1, 2, 0):
            optimizer.zero_grad()
            out, state = model(torch.randn(5, 2, 3), states[stream])
            loss = out.pow(2).mean()
            loss.backward()
            optimizer.step()
            states[stream] = state.detach()
            recorder.step(loss)
    assert "state-is-stale" not in causes(Session.open(tmp_path / "run.gru"))


def test_what_no_fact_decides_is_an_observation_and_stands_last():
    (only,) = Session.open(trained(rate=1e-6, optimizer=planted.sgd)).findings()
    assert (only.name, only.is_observation) == ("steps-are-tiny", True)


@pytest.mark.parametrize("factor", [1.0, float("nan")])
def test_a_step_without_a_gradient_is_not_one_whose_gradient_is_nan(tmp_path, factor):
    """A high loss just before the end is noise, and an input that is NaN is not the learning rate's fault."""
    with pytest.raises(RuntimeError):
        _of_noise(tmp_path / "run.gru", factor)
    found = [each.name for each in Session.open(tmp_path / "run.gru").findings()]
    assert found[0] == "script-ended"
    assert found[1:] == ([] if factor == 1 else ["not-finite"])


def test_the_last_output_of_padded_rows_is_no_loss_without_a_mask():
    """It was meant as the output at the end of each row; the state has moved on from there."""
    (found,) = Session.open(trained(lengths=LENGTHS)).findings()
    assert (found.name, found.title) == ("padding-moves-the-state", "padding changes the state")


def test_states_that_became_nan_are_not_stale(tmp_path):
    """They are equal as bytes, whichever step they are of."""
    model = torch.nn.RNN(3, 4, nonlinearity="relu")
    optimizer, h = torch.optim.SGD(model.parameters(), 1e-2), torch.zeros(1, 2, 4)
    with tui_gru.record(tmp_path / "run.gru", model, optimizer, every=5, last=2) as recorder:
        for number in range(30):
            optimizer.zero_grad()
            out, h = model(torch.randn(5, 2, 3), h.detach())
            loss = (out * (torch.nan if number == 6 else 1)).pow(2).mean()
            loss.backward()
            optimizer.step()
            recorder.step(loss)
    session = Session.open(tmp_path / "run.gru")
    names = [each.name for each in session.findings()]
    assert names[0] == "not-finite"
    assert "state-is-stale" not in names
    session.stop_on_nan = True
    assert session.continue_()
    assert session.steps[session.position.number] == 6


def test_a_state_that_saturates_is_not_stale(tmp_path):
    """It is the same after every step, so that it says nothing of where the step began."""
    model = torch.nn.RNN(3, 4)
    torch.nn.init.constant_(model.bias_ih_l0, 50.0)
    optimizer, h = torch.optim.SGD(model.parameters(), 1e-2), torch.zeros(1, 2, 4)
    with tui_gru.record(tmp_path / "run.gru", model, optimizer, every=4, last=3, on="step == 9") as recorder:
        for _ in range(20):
            optimizer.zero_grad()
            out, h = model(torch.randn(5, 2, 3), h.detach())
            loss = (out - 2).pow(2).mean()
            loss.backward()
            optimizer.step()
            recorder.step(loss)
    assert "state-is-stale" not in [each.name for each in Session.open(tmp_path / "run.gru").findings()]


def test_padding_that_the_loss_omits_still_comes_before_the_rows_of_the_backward_direction():
    """What the forward direction computes there is read by nothing."""
    model = Model(bidirectional=True)
    session = Session.open(trained(planted.everywhere, model=model, lengths=LENGTHS, loss=planted.of_all_timesteps(True)))
    (found,) = session.findings()
    number = found.evidence[1].number
    session.seek(number.tick)
    assert (found.name, number.name) == ("padding-moves-the-state", "h_l0_reverse")
    assert found.is_observation  # the loss reads nothing behind the end of a row
    assert (number.t, found.evidence[1].value) == (LENGTHS[number.index[0]], session.value(number.name, t=number.t)[number.index])
    assert "with which the backward direction comes to the row, is not 0" in found.evidence[1].words


def test_cures_of_a_script_are_written_in_the_words_of_pytorch():
    """The options of this program cure nothing in a script."""
    model = Model()
    with torch.no_grad():
        model.rnn.weight_hh_l0 *= 30
        model.rnn.bias_ih_l0 *= 100
    session = Session.open(trained(model=model, rate=1e-3, timesteps=40))
    findings = session.findings()
    assert findings
    words = "\n".join(" ".join((each.cure, each.meaning, *(evidence.words for evidence in each.evidence))) for each in findings)
    assert not re.search(r"(^|[\s(])--[a-z]", words), words


def test_options_that_are_cures_have_words_in_pytorch():
    assert in_pytorch(Cure("clip", 1.0)) == "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0) before optimizer.step()"
    assert in_pytorch(Cure("cell", "lstm")) == "nn.LSTM in the place of the module"
    assert in_pytorch(Cure("carry", "reset")) == ""
