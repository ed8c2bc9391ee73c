"""Which results of a module are its states: those that it is called again with; and what the others do to the gradients."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import tui_gru
from tests.capture.handwritten import IN, H, parameter
from tui_gru import Session
from tui_gru.imported.module import forget

T, B, OUT = 4, 3, 2


class Weights(nn.Module):
    def __init__(self):
        super().__init__()
        self.W = parameter(IN, H)
        self.U, self.V, self.K, self.R = (parameter(H, H) for _ in range(4))

    def states(self, x, h, c):
        c = torch.tanh(x @ self.W + c @ self.U * h)
        return torch.tanh(c @ self.V + h @ self.R), c


class OutputLast(Weights):
    def forward(self, x, h, c):
        h, c = self.states(x, h, c)
        return h, c, torch.tanh(h @ self.K) + c


class OutputFirst(OutputLast):
    def forward(self, x, h, c):
        h, c, y = super().forward(x, h, c)
        return y, h, c


class Between(OutputLast):
    """The state that is h for one who reads the arguments in their order is returned last."""

    def forward(self, x, h, c):
        h, c, y = super().forward(x, h, c)
        return c, y, h


class SharedWeights(OutputLast):
    """Its output reads x by the weights by which a state reads it."""

    def forward(self, x, h, c):
        h, c = self.states(x, h, c)
        return h, c, h + torch.sigmoid(x @ self.W)


class ThreeStates(OutputLast):
    def forward(self, x, h, c, s):
        c = torch.tanh(c + x @ self.W)
        s = torch.tanh(s + h)
        return torch.tanh(h @ self.U + s @ self.V + c @ self.K), c, s


#: What a call returns as (states, output), by the class.
APART = {
    OutputLast: lambda h, c, y: ((h, c), y),
    OutputFirst: lambda y, h, c: ((h, c), y),
    Between: lambda c, y, h: ((h, c), y),
    SharedWeights: lambda h, c, y: ((h, c), y),
    ThreeStates: lambda h, c, s: ((h, c, s), h),
}


def stepped(tmp_path, cell, *, reads="y", between=lambda state: state):
    """Return the sessions of a step and of its recording, and the weights and gradients; `reads` is what the head reads."""
    torch.manual_seed(3)
    model = nn.ModuleDict({"cell": cell(), "head": nn.Linear(H, OUT)}).double()
    recorder = tui_gru.record(tmp_path / "run.gru", model, every=1, cell="cell")
    tui_gru.debug(model, screen=False, cell="cell")
    states, outputs, values = [torch.zeros(B, H).double()] * (3 if cell is ThreeStates else 2), [], []
    for x in torch.randn(T, B, IN).double():
        states, y = APART[cell](*model["cell"](x, *map(between, states)))
        outputs.append(model["head"](y if reads == "y" else states[0]))
        values.append([state.detach().numpy() for state in states])
    loss = torch.stack(outputs).square().mean()
    loss.backward()
    recorder.step(loss)
    recorder.close()
    session = tui_gru.debug(model, screen=False, cell="cell")
    forget(model)
    return session, recorder.folder, values


BETWEEN = {"straight": lambda state: state, "with dropout": lambda state: nn.functional.dropout(state, 0.2), "by copy": torch.clone}


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("cell", [OutputLast, OutputFirst, Between])
def test_the_states_are_the_results_that_the_next_call_is_given(tmp_path, cell, between):
    session, folder, values = stepped(tmp_path, cell, between=BETWEEN[between])
    for each in (session, Session.open(folder)):
        each.seek(each.end)
        for t in range(T) if between != "with dropout" else ():  # what dropout computes of a state begins another call
            for name, value in zip(each.program.model.page.states, values[t], strict=True):
                # Sums of products of H numbers below 1, through T timesteps.
                assert np.abs(each.value(name, t) - value).max() <= np.finfo(np.float64).eps * 8 * H * T
        assert "p.grad is the derived gradient" in each.remarks


@pytest.mark.parametrize("reads", ["y", "h"])
def test_a_result_that_the_weights_of_the_states_compute_is_said_where_the_loss_reads_it(tmp_path, reads):
    session, folder, _ = stepped(tmp_path, SharedWeights, reads=reads)
    for each in (session, Session.open(folder)):
        each.seek(each.end)
        assert "penalty" not in each.remarks
        assert ("the loss reads that" in each.remarks) == (reads == "y")
        assert ("p.grad is the derived gradient" in each.remarks) == (reads == "h")
        assert all((each.gradient(name) is None) == (reads == "y") for name in each.parameter_names)
        assert not {"gradient-changed", "clipped-after-update"} & {finding.name for finding in each.findings()}


def test_a_cell_that_goes_on_with_three_states_is_not_shown_as_one_with_one_of_them(tmp_path):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        session, _, _ = stepped(tmp_path, ThreeStates)
    assert session is None
    assert any("it goes on with 3 states, and at most two can be shown" in str(each.message) for each in warned)


def test_a_single_call_does_not_show_which_results_are_states():
    torch.manual_seed(3)
    model = OutputLast()
    assert tui_gru.debug(model, screen=False, cell="") is None
    model(torch.randn(B, IN), torch.zeros(B, H), torch.zeros(B, H))[0].sum().backward()
    with pytest.warns(UserWarning, match="which of them are is seen once it is called again with them"):
        assert tui_gru.debug(model, screen=False, cell="") is None
    with pytest.warns(UserWarning, match="which of them are is seen once it is called again with them"):
        forget(model)
