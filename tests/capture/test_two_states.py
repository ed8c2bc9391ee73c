"""Cells with two states, of which one reads the new value of the other: their gradients are those of autograd."""

import numpy as np
import pytest
import torch
from torch import nn

import tui_gru
from tests.capture.handwritten import IN, H, parameter
from tui_gru.imported.module import forget

T, B, OUT = 5, 3, 2


class TwoStates(nn.Module):
    def __init__(self):
        super().__init__()
        self.W, self.U, self.V, self.K = parameter(IN, H), parameter(H, H), parameter(H, H), parameter(H, H)


class SecondReadsFirst(TwoStates):
    """Two layers in one module."""

    def forward(self, x, h, c):
        h = torch.tanh(x @ self.W + h @ self.U)
        return h, torch.tanh(h @ self.V + c @ self.K)


class FirstReadsSecond(TwoStates):
    def forward(self, x, h, c):
        c = torch.tanh(x @ self.W + c @ self.U)
        return torch.tanh(c @ self.V + h @ self.K), c


class EachReadsTheOther(TwoStates):
    """The first reads the old second state, the second the new first one."""

    def forward(self, x, h, c):
        h = torch.tanh(x @ self.W + h @ self.U + c @ self.V)
        return h, 0.5 * c + 0.5 * torch.tanh(h @ self.K)


class Neither(TwoStates):
    def forward(self, x, h, c):
        return torch.tanh(x @ self.W + c @ self.U + h @ self.V), torch.tanh(h @ self.K + x @ self.W)


READ = {
    "the first": lambda h, c: h,
    "the second": lambda h, c: c,
    "both": lambda h, c: h + c,
}


@pytest.mark.parametrize("between", [False, True], ids=["straight", "with dropout between"])
@pytest.mark.parametrize("read", READ)
@pytest.mark.parametrize("cell", [SecondReadsFirst, FirstReadsSecond, EachReadsTheOther, Neither])
def test_the_derived_gradient_of_a_cell_of_two_states_is_that_of_autograd(cell, read, between):
    torch.manual_seed(1)
    model = nn.ModuleDict({"cell": cell(), "head": nn.Linear(H, OUT)}).double()
    tui_gru.debug(model, screen=False, cell="cell")
    h, c, outputs = torch.zeros(B, H).double(), torch.zeros(B, H).double(), []
    for x in torch.randn(T, B, IN).double():
        h, c = model["cell"](x, h, c)
        outputs.append(model["head"](READ[read](h, c)))
        if between:
            h, c = 0.9 * h, nn.functional.dropout(c, 0.1)
    torch.stack(outputs).square().mean().backward()
    session = tui_gru.debug(model, screen=False, cell="cell")
    forget(model)
    session.seek(session.end)
    for name in session.parameter_names:
        derived, recorded = session.gradient(name), session.recorded_gradient(name)
        if recorded is None:  # the loss does not read this state
            assert not derived.any(), name
            continue
        # Sums of products over T · B rows and H units, forward and back through T timesteps.
        bound = np.finfo(np.float64).eps * (T * B + 4 * H) * 2 * T * np.abs(recorded).max()
        assert np.abs(derived - recorded).max() <= bound, name
    assert "p.grad is the derived gradient" in session.remarks


class FirstWithoutWeights(TwoStates):
    """No weight has computed the first state in the first timestep, which begins with zeros."""

    def forward(self, x, h, c):
        return torch.tanh(h + torch.relu(h * c) + c), torch.tanh(x @ self.W + c @ self.U + h @ self.V)


def each_step(folder, between=lambda h, c: (h, c), cell=FirstWithoutWeights):
    """Return the sessions of a step and of its recording, of a loop that calls `between` between two timesteps."""
    torch.manual_seed(2)
    model = nn.ModuleDict({"cell": cell(), "head": nn.Linear(H, OUT)}).double()
    recorder = tui_gru.record(folder / "run.gru", model, every=1, cell="cell")
    tui_gru.debug(model, screen=False, cell="cell")
    h, c, outputs = torch.zeros(B, H).double(), torch.zeros(B, H).double(), []
    for x in torch.randn(T, B, IN).double():
        h, c = model["cell"](x, *between(h, c))
        outputs.append(model["head"](h))
    loss = torch.stack(outputs).square().mean()
    loss.backward()
    recorder.step(loss)
    recorder.close()
    session = tui_gru.debug(model, screen=False, cell="cell")
    forget(model)
    return session, tui_gru.Session.open(recorder.folder)


def agrees(session):
    session.seek(session.end)
    pairs = {name: (session.gradient(name), session.recorded_gradient(name)) for name in session.parameter_names}
    largest = max(np.abs(recorded).max() for _, recorded in pairs.values() if recorded is not None)
    bound = np.finfo(np.float64).eps * (T * B + 4 * H) * 2 * T * largest
    for name, (derived, recorded) in pairs.items():
        assert np.abs(derived - (0 if recorded is None else recorded)).max() <= bound, name
    assert "p.grad is the derived gradient" in session.remarks
    return session.remarks


def test_a_state_that_no_weight_has_computed_yet_is_not_taken_for_a_detached_one(tmp_path):
    for session in each_step(tmp_path):
        assert session.program.config.sizes["T"] == T
        assert "detached the state" not in agrees(session)
        assert "also reads" not in session.remarks
        assert "hook" not in session.remarks


@pytest.mark.parametrize("state", ["h", "c"])
def test_one_state_that_is_detached_alone_is_said_and_the_other_goes_on(tmp_path, state):
    def between(h, c):
        return (h.detach(), c) if state == "h" else (h, c.detach())

    for session in each_step(tmp_path, between, EachReadsTheOther):
        remarks = agrees(session)
        assert f"the script detached {state} alone" in remarks
        assert "also reads" not in remarks
        assert "keep is 0" not in remarks
