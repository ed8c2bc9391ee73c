"""Calls of `module.forward(x)`, which run no hooks, are captured once a gradient has shown that there are some."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from tui_gru.capture.calls import Note
from tui_gru.capture.hooks import Capture

IN, H, B, T = 3, 5, 2, 4


class Own(nn.GRU):
    """It inherits its forward."""


@pytest.mark.parametrize("kind", [nn.GRU, Own])
def test_calls_of_forward_are_captured_from_the_step_after_the_first(kind):
    original, steps = nn.GRU.forward, []
    torch.manual_seed(0)
    model = nn.ModuleDict({"gru": kind(IN, H), "other": nn.GRU(IN, H)})
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Capture(model, optimizer, on_step=steps.append) as capture:
        with pytest.warns(UserWarning, match="gru received a gradient, but was not called; if the script calls forward itself"):
            steps_with_forward(model, optimizer, capture)
        twin = pickle.loads(pickle.dumps(copy.deepcopy(model)))
        assert twin["gru"](torch.zeros(T, B, IN))[0].shape == (T, B, H)
    assert nn.GRU.forward is original
    assert ("forward" in vars(Own)) is False
    first, *others = steps
    assert Note.UNSEEN in first.notes
    assert [call.module.name for call in first.calls] == ["other"]
    for step in others:
        assert [(call.module.name, call.timesteps) for call in step.calls] == [("gru", T), ("other", T)]
        assert step.calls[0].dout.any()


def steps_with_forward(model, optimizer, capture):
    for _ in range(3):
        optimizer.zero_grad()
        x = torch.randn(T, B, IN)
        (model["gru"].forward(x)[0] + model["other"](x)[0]).square().mean().backward()
        optimizer.step()
        capture.step()


def test_a_module_that_is_called_as_usual_is_captured_once():
    torch.manual_seed(0)
    model, steps = nn.ModuleDict({"gru": nn.GRU(IN, H)}), []
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    capture = Capture(model, optimizer, on_step=steps.append)

    def train(call):
        optimizer.zero_grad()
        call(torch.randn(T, B, IN))[0].square().mean().backward()
        optimizer.step()
        capture.step()

    with pytest.warns(UserWarning, match="gru received a gradient, but was not called"):
        train(model["gru"].forward)
    for _ in range(2):
        train(model["gru"])
    capture.close()
    assert [len(step.calls) for step in steps] == [0, 1, 1]
    assert np.isfinite(steps[2].calls[0].dout).all()
