"""One module in one loop is one sequence with all its timesteps, however the loop is written; which call goes on from which is what
the graph of autograd shows."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import dropout as drop

import tui_gru
from tests.imported.recomputed import compare_gradients
from tests.rounding import of_step
from tui_gru.capture.hooks import Capture
from tui_gru.capture.pending import PendingCall
from tui_gru.equations.page import SCRIPT
from tui_gru.equations.syntax import with_word
from tui_gru.imported.module import forget
from tui_gru.imported.recompute import recompute, sequences

B, IN, H, T = 3, 4, 6, 32
WAYS = {}


def way(function):
    WAYS[function.__name__] = function
    return function


class Parts(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.cell, self.lstm = nn.GRU(IN, H), nn.GRUCell(IN, H), nn.LSTMCell(IN, H)
        self.two_layers, self.batch_first = nn.LSTM(IN, H, 2), nn.GRU(IN, H, batch_first=True)
        self.norm, self.mix, self.euler, self.other = nn.LayerNorm(H), nn.Linear(2 * H, H), nn.Linear(H, H), nn.GRUCell(H, H)


@way
def at_once(m, x):
    return m.gru(x)[0]


@way
def cell(m, x, between=lambda h, t: h):
    h, outputs = torch.zeros(B, H, dtype=x.dtype), []
    for t in range(T):
        h = m.cell(x[t], between(h, t))
        outputs.append(h)
    return torch.stack(outputs)


@way
def one_timestep_a_call(m, x):
    h, outputs = None, []
    for t in range(T):
        y, h = m.gru(x[t : t + 1], h)
        outputs.append(y)
    return torch.cat(outputs)


@way
def from_the_output(m, x):
    """The output of the last timestep in place of the last state."""
    h, outputs = torch.zeros(1, B, H, dtype=x.dtype), []
    for t in range(T):
        y, _ = m.batch_first(x[t][:, None], h)
        h = y[:, -1].unsqueeze(0)
        outputs.append(y[:, 0])
    return torch.stack(outputs)


@way
def chunks(m, x, between=lambda h, t: h):
    h, outputs = torch.zeros(1, B, H, dtype=x.dtype), []
    for begin, end in ((0, 5), (5, 6), (6, 20), (20, 32)):
        y, h = m.gru(x[begin:end], between(h, begin))
        outputs.append(y)
    return torch.cat(outputs)


@way
def chunks_of_two_layers(m, x):
    state, outputs = None, []
    for chunk in x.split(8):
        y, state = m.two_layers(chunk, state)
        outputs.append(y)
    return torch.cat(outputs)


@way
def dropout(m, x):
    return cell(m, x, lambda h, t: drop(h, 0.2))


@way
def zoneout_of_two_states(m, x):
    h = c = torch.zeros(B, H, dtype=x.dtype)
    outputs = []
    for t in range(T):
        new_h, new_c = m.lstm(x[t], (h, c))
        kept_h, kept_c = ((torch.rand(B, H) < 0.1).to(x.dtype) for _ in range(2))
        h, c = kept_h * h + (1 - kept_h) * new_h, kept_c * c + (1 - kept_c) * new_c
        outputs.append(h)
    return torch.stack(outputs)


@way
def layer_norm(m, x):
    return cell(m, x, lambda h, t: m.norm(h))


@way
def euler_steps(m, x):
    def between(h, t):
        for _ in range(5):
            h = h + 0.1 * torch.tanh(m.euler(h))
        return h

    return cell(m, x, between)


@way
def attention(m, x):
    encoded = m.gru(x)[0]
    h, outputs = torch.zeros(B, H, dtype=x.dtype), []
    for t in range(T):
        weights = torch.softmax((encoded * h).sum(-1), 0)[..., None]
        h = torch.tanh(m.mix(torch.cat([m.cell(x[t], h), (weights * encoded).sum(0)], -1)))
        outputs.append(h)
    return torch.stack(outputs)


@way
def masks_of_rows(m, x):
    h, outputs = torch.zeros(B, H, dtype=x.dtype), []
    lengths = torch.tensor([32, 20, 5])
    for t in range(T):
        live = (t < lengths).to(x.dtype)[:, None]
        h = live * m.cell(x[t], h) + (1 - live) * h
        outputs.append(h)
    return torch.stack(outputs)


@way
def detached_in_parts(m, x):
    return cell(m, x, lambda h, t: h.detach() if t % 8 == 0 else h)


@way
def detached_copies(m, x):
    return cell(m, x, lambda h, t: h.detach().clone() if t % 8 == 0 else h)


@way
def chunks_with_dropout(m, x):
    return chunks(m, x, lambda h, t: drop(h, 0.1))


@way
def stacked_cells(m, x):
    h, k, outputs = torch.zeros(B, H, dtype=x.dtype), torch.zeros(B, H, dtype=x.dtype), []
    for t in range(T):
        h = m.cell(x[t], h)
        k = drop(m.other(h, k), 0.1)
        outputs.append(k)
    return torch.stack(outputs)


@way
def a_context_by_the_side(m, x):
    h = context = torch.zeros(B, H, dtype=x.dtype)
    outputs = []
    for t in range(T):
        h = m.cell(x[t], h + 0.1 * context)
        context = torch.tanh(m.mix(torch.cat([context, h], -1)))
        outputs.append(h)
    return torch.stack(outputs)


def captured(script, dtype=torch.float64):
    """Return the calls of a step, and the step."""
    torch.manual_seed(0)
    model, steps = Parts().to(dtype), []
    with Capture(model, on_step=steps.append) as capture:
        script(model, torch.randn(T, B, IN, dtype=dtype)).square().mean().backward()
        capture.step()
    return sequences(steps[0]), steps[0]


@pytest.mark.parametrize("name", WAYS)
def test_a_loop_is_one_sequence_and_its_gradients_are_those_of_autograd(name):
    calls, step = captured(WAYS[name])
    for call in calls:
        assert (call.timesteps, call.rows) == (T, B)
    assert len({call.module.name for call in calls}) == len(calls)
    detached = {t for call in calls for t in call.detached or ()}
    assert detached == ({8, 16, 24} if "detached" in name else set())
    compared = compare_gradients(replace(step, calls=calls))
    assert compared.cause == "equal"
    assert compared.error < of_step(replace(step, calls=calls))


def two_branches(m, x):
    h, outputs = torch.zeros(B, H, dtype=x.dtype), []
    for t in range(4):
        h = m.cell(x[t], h)
    one = other = h
    for t in range(4, 8):
        one, other = m.cell(x[t], one), m.cell(x[t + 4], other)
        outputs += [one, other]
    return torch.stack(outputs)


def tree(m, x):
    states = [m.cell(x[t], torch.zeros(B, H, dtype=x.dtype)) for t in range(4)]
    while len(states) > 1:
        states = [m.cell(x[9], one + other) for one, other in zip(states[::2], states[1::2], strict=True)]
    return states[0]


@pytest.mark.parametrize(("script", "timesteps"), [(two_branches, [8, 4]), (tree, [1] * 7)])
def test_branches_and_trees_are_not_one_sequence(script, timesteps):
    assert [call.timesteps for call in captured(script)[0]] == timesteps


def test_what_comes_back_through_the_script_is_what_autograd_hands_on():
    """The loss reads the outputs themselves, so their gradients without the rest are known."""
    (call,), _ = captured(WAYS["euler_steps"])
    torch.manual_seed(0)
    model, x = Parts().double(), torch.randn(T, B, IN, dtype=torch.float64)
    outputs = WAYS["euler_steps"](model, x)
    direct = (2 / outputs.numel()) * outputs.detach().numpy()
    bound = 64 * np.finfo(np.float64).eps * np.abs(direct).max()
    np.testing.assert_allclose(call.dout, direct, rtol=0, atol=bound)
    record = recompute(call)
    page = record.compiled.model.page
    np.testing.assert_array_equal(record.array(f"d{with_word('h', SCRIPT)}"), call.script[:, 0])
    np.testing.assert_array_equal(record.array(f"d{page.before('h')}")[1:], call.script[1:, 0])  # keep is 0 there


@pytest.mark.parametrize("between", [lambda h, t: drop(h, 0.02), lambda h, t: h], ids=["dropout", "straight"])
def test_a_gradient_that_explodes_is_found_through_what_the_script_computes(between):
    torch.manual_seed(0)
    units = 24
    model = nn.ModuleDict({"cell": nn.GRUCell(IN, units)})
    with torch.no_grad():  # z near 0, and large weights of the candidate
        model["cell"].weight_hh[2 * units :].normal_(0, 2.2)
        model["cell"].bias_hh[units : 2 * units] = -4
        model["cell"].weight_ih[2 * units :].mul_(0.05)
    tui_gru.debug(model, screen=False)
    h = torch.zeros(B, units)
    for x in torch.randn(T, B, IN):
        h = model["cell"](x, between(h, 0))
    h.square().sum().backward()
    session = tui_gru.debug(model, screen=False)
    forget(model)
    session.seek(session.end)
    assert "exploding-gradient" in [finding.name for finding in session.findings()]


def test_it_is_read_back_from_a_recording(tmp_path):
    torch.manual_seed(0)
    model = Parts()
    recorder = tui_gru.record(tmp_path / "run.gru", model, every=1)
    WAYS["chunks_with_dropout"](model, torch.randn(T, B, IN)).square().mean().backward()
    recorder.step()
    recorder.close()
    session = tui_gru.Session.open(recorder.folder)
    session.seek(session.end)
    assert session.program.config.sizes["T"] == T
    assert "4 calls that go on from each other, of 5, 1, 14 … timesteps" in session.remarks
    assert "p.grad is the derived gradient" in session.remarks
    assert "detached" not in session.remarks


def steps_of(script, kind=nn.GRU, after=lambda number, x: None):
    """Return three captured steps of a loop, and the model. The first is copied call by call, which shows that it need not be."""
    torch.manual_seed(0)
    model, steps = nn.ModuleDict({"rnn": kind(IN, H)}), []
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    capture = Capture(model, optimizer, on_step=steps.append, may_repeat=True)
    for number in range(3):
        optimizer.zero_grad()
        x = torch.randn(T, B, IN)
        script(model["rnn"], x).backward()
        after(number, x)
        optimizer.step()
        capture.step()
    return steps, (model, capture)


def loop(rnn, x):
    state, total = None, 0
    for t in range(T):
        if isinstance(rnn, nn.RNNCellBase):
            state = rnn(x[t], state) if state is not None else rnn(x[t])
            out = state[0] if isinstance(state, tuple) else state
        else:
            out, state = rnn(x[t : t + 1], state)
        total = total + out.square().mean()
    return total


@pytest.mark.parametrize("kind", [nn.GRU, nn.GRUCell, nn.LSTM, nn.LSTMCell, lambda i, h: nn.GRU(i, h, 2)])
def test_references_give_the_numbers_of_copies(kind, monkeypatch):
    by_reference, _alive = steps_of(loop, kind)
    monkeypatch.setattr(PendingCall, "can_be_longer", False)
    by_copy, _also_alive = steps_of(loop, kind)
    for copied, referred in zip(by_copy, by_reference, strict=True):
        (one,), (other,) = copied.calls, referred.calls
        for name in ("x", "h0", "out", "hn", "states", "flows", "dout", "dhn"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        assert (one.chunks, one.cut, one.detached, one.notes) == (other.chunks, other.cut, other.detached, other.notes)
        for exact in (False, True):
            again, again_referred = copied.made_again(exact), referred.made_again(exact)
            for name, value in again.items():
                np.testing.assert_array_equal(value, again_referred[name], err_msg=name)


def test_a_second_branch_from_a_state_within_a_loop_is_a_sequence_of_its_own():
    def branches(rnn, x):
        h, middle = None, None
        for t in range(8):
            _, h = rnn(x[t : t + 1], h)
            middle = h if t == 3 else middle
        other = middle
        for t in range(2):
            _, other = rnn(x[t : t + 1], other)
        return (h + other).square().mean()

    for step in steps_of(branches)[0]:
        assert [call.timesteps for call in step.calls] == [8, 2]


def test_an_input_that_is_changed_in_place_is_copied_from_the_next_step_on():
    def write(number, x):
        if number:
            x[5] = 0

    (first, second, third), _ = steps_of(loop, after=write)
    assert ["changed later" in step.calls[0].notes for step in (first, second, third)] == [False, True, False]
    assert third.calls[0].x[5].any()


def test_a_loop_goes_on_by_references_and_then_through_dropout():
    def script(rnn, x):
        state, total = None, 0
        for t in range(T):
            out, state = rnn(x[t : t + 1], drop(state, 0.3) if t == 20 else state)
            total = total + out.square().mean()
        return total

    for step in steps_of(script)[0]:
        (call,) = sequences(step)
        assert (call.timesteps, call.detached) == (T, ())
        assert [t for t in range(T) if not call.keep[t].all()] == [20]
        assert call.script[20].any()
        assert compare_gradients(replace(step, calls=(call,))).cause == "equal"
