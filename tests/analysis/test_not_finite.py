"""Seek to the first number that is not finite, with its line, timestep, row and unit: in a recording, a training run, and a model
file."""

import numpy as np
import torch
from torch import nn

import tui_gru
from tests.capture.scripts import loss_of
from tui_gru import Session
from tui_gru.capture.record import record


def test_in_a_recording_it_is_found_in_whichever_step_it_came(tmp_path):
    torch.manual_seed(0)
    gru = nn.GRU(3, 4)
    optimizer = torch.optim.SGD(gru.parameters(), 0.1)
    with record(tmp_path / "run", gru, optimizer, every=1) as recorder:
        for step in range(6):
            optimizer.zero_grad()
            x = torch.randn(5, 2, 3)
            if step == 3:
                x[2, 1, 0] = torch.inf
            out, _ = gru(x)
            loss = loss_of(out.nan_to_num())
            loss.backward()
            gru.zero_grad()
            recorder.step(loss)
    s = Session.open(tmp_path / "run")
    assert s.run_to_not_finite()
    assert s.steps[s.position.batch] == 3
    assert s.notice == "the first number that is not finite is x[row 2, input 1] at t 3"
    assert (s.position.phase, s.position.t) == ("forward", 2)
    assert np.isfinite(s.value("h", t=1)).all()


def test_a_norm_that_overflows_is_no_number_that_is_not_finite():
    """The squares of entries that are finite may not be."""
    s = Session()
    s.learning = True
    s.edit("Wy", (0, 0), 1e25)
    s.step("batch")
    assert s.value("grad_norm") == np.inf
    assert not s.run_to_not_finite()
    words = "every value, gradient and weight is finite, but the norm of the gradient of batch 1 of epoch 1 overflows"
    assert s.notice == words


def test_in_a_training_run_it_is_where_it_came_in():
    s = Session()
    s.learning = True
    s.seek("e2 b2 t1")
    s.step("timestep")
    assert not s.run_to_not_finite()
    assert s.notice == "every number so far is finite"
    place = s.position
    s.learning_rate = 1e300
    s.step("batch", 3)
    assert not np.isfinite(s.loss or np.nan) or not np.isfinite(s.parameter("Wz")).all()
    assert s.run_to_not_finite()
    assert s.position > place
    found, before = s.notice, s.position
    assert found.startswith("the first number that is not finite is ")
    s.step("batch", 2)
    assert s.run_to_not_finite()
    assert (s.notice, s.position) == (found, before)


def test_in_a_model_file(tmp_path):
    weights = nn.GRU(3, 4).state_dict()
    weights["weight_hh_l0"][5, 2] = torch.nan  # z of unit 2
    torch.save(weights, tmp_path / "m.pt")
    s = tui_gru.load(tmp_path / "m.pt")
    s.seek(s.end)
    assert s.run_to_not_finite()
    assert s.notice == "the first number that is not finite is Uz[unit 3, unit 2] when the batch begins"
    assert (s.position.number, s.position.line.target) == (0, "z")
    assert np.isnan(s.value("Uz")[2, 1])


def test_in_a_step_of_a_recording_that_begins_with_it(tmp_path):
    torch.manual_seed(0)
    gru = nn.GRU(3, 4)
    with record(tmp_path / "run", gru, torch.optim.SGD(gru.parameters(), 0.1), every=1) as recorder:
        for step in range(4):
            if step == 2:
                with torch.no_grad():
                    gru.weight_ih_l0[4, 1] = torch.nan
            gru.zero_grad()
            loss = loss_of(gru(torch.randn(5, 2, 3))[0])
            loss.backward()
            recorder.step(loss)
    s = Session.open(tmp_path / "run")
    s.seek(s.end)
    assert s.run_to_not_finite()
    assert s.notice == "the first number that is not finite is Wz[input 2, unit 1] when the batch begins"
    assert (s.position.number, s.position.t) == (2, 0)
    place = s.position
    s.seek(s.end)
    (found,) = [each for each in s.findings() if each.name == "not-finite"]
    assert (found.title, found.tick) == ("Wz is NaN when step 2 begins", place.tick)
    assert found.cure.startswith("look for it in the weights")
    (evidence,) = found.evidence
    assert "Wz[input 2, unit 1] = nan" in evidence.words
