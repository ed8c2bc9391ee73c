"""Modules that loop over all timesteps in one call are captured as one sequence, whatever they take and return."""

import random
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import tui_gru
from tests.capture.handwritten import IN, H, parameter
from tests.capture.test_borders import capture
from tests.capture.test_handwritten import EXACT, MGU, NAMES, PEEPING, B, Gated, Peeping, T
from tests.imported.recomputed import compare_gradients, compare_outputs
from tests.rounding import of_call
from tui_gru.imported.recompute import recompute, sequences


class Scratch(nn.Module):
    """Nine parameters; a list of states, and the last one."""

    def __init__(self):
        super().__init__()
        for gate in "zrh":
            setattr(self, f"W_x{gate}", parameter(IN, H))
            setattr(self, f"W_h{gate}", parameter(H, H))
            setattr(self, f"b_{gate}", parameter(H))

    def next(self, x, h):
        z = torch.sigmoid(x @ self.W_xz + h @ self.W_hz + self.b_z)
        r = torch.sigmoid(x @ self.W_xr + h @ self.W_hr + self.b_r)
        return z * h + (1 - z) * torch.tanh(x @ self.W_xh + (r * h) @ self.W_hh + self.b_h)

    def forward(self, inputs, state=None):
        h = torch.zeros(inputs.shape[1], H, device=inputs.device) if state is None else state
        return [h := self.next(x, h) for x in inputs], h


class Stacked(Scratch):
    def forward(self, inputs, state=None):
        states, last = super().forward(inputs, state)
        return torch.stack(states), last


class OnlyOutput(Scratch):
    def forward(self, inputs):
        return torch.stack(super().forward(inputs.transpose(0, 1))[0], dim=1)


class LastOfOutput(Scratch):
    def forward(self, inputs, hidden=None):
        output = torch.stack(super().forward(inputs, None if hidden is None else hidden[0])[0])
        return output, output[-1:]


class LastCopied(Scratch):
    def forward(self, inputs):
        states, last = super().forward(inputs)
        return torch.cat([state.unsqueeze(0) for state in states]), last.clone()


class AllInputsAtOnce(nn.Module):
    """The products with x of all timesteps are one, with a bias; in the loop there is another."""

    def __init__(self, batch_first=False, steps=None):
        super().__init__()
        self.batch_first, self.steps = batch_first, steps
        self.x2h, self.h2h, self.b = nn.Linear(IN, 3 * H), nn.Linear(H, 3 * H, bias=False), parameter(3 * H)

    def forward(self, x):
        i, axis, output = self.x2h(x), int(self.batch_first), []
        h = x.new_zeros(x.shape[1 - axis], H)
        for t in range(self.steps or x.shape[axis]):
            i_r, i_z, i_n = i.select(axis, t).chunk(3, 1)
            h_r, h_z, h_n = (self.h2h(h) + self.b).chunk(3, 1)
            r, z = torch.sigmoid(i_r + h_r), torch.sigmoid(i_z + h_z)
            n = torch.tanh(i_n + r * h_n)
            h = n + z * (h - n)
            output.append(h)
        return torch.stack(output, axis), h


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.i2h = nn.Linear(IN + H, H)

    def forward(self, x, h=None):
        h = torch.zeros(1, x.size(0), H) if h is None else h
        output = []
        for t in range(x.size(1)):
            h = torch.tanh(self.i2h(torch.cat((x[:, t], h[0]), 1)))[None]
            output.append(h[0])
        return torch.stack(output, 1), h


class Long(nn.Module):
    """An LSTM with three parameters, batch first."""

    def __init__(self):
        super().__init__()
        self.W, self.U, self.bias = parameter(IN, 4 * H), parameter(H, 4 * H), parameter(4 * H)

    def forward(self, x, init_states=None):
        h, c = (torch.zeros(len(x), H), torch.zeros(len(x), H)) if init_states is None else init_states
        output = []
        for t in range(x.size(1)):
            gates = x[:, t, :] @ self.W + h @ self.U + self.bias
            i, f, g, o = (torch.sigmoid(gates[:, :H]), torch.sigmoid(gates[:, H : 2 * H]), torch.tanh(gates[:, 2 * H : 3 * H]),
                          torch.sigmoid(gates[:, 3 * H :]))  # fmt: skip
            c = f * c + i * g
            h = o * torch.tanh(c)
            output.append(h.unsqueeze(0))
        return torch.cat(output).transpose(0, 1).contiguous(), (h, c)


class Listed(Long):
    """Time first; the states are a list, and the argument for the first ones has capital letters."""

    def forward(self, inputs, H_C=None):
        h, c = (torch.zeros(inputs.shape[1], H), torch.zeros(inputs.shape[1], H)) if H_C is None else H_C
        outputs = []
        for x in inputs:
            i, f, g, o = (x @ self.W + h @ self.U + self.bias).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            outputs.append(h)
        return outputs, (h, c)


#: What makes each, the family, whether batch first, and the number of states that it takes.
MODULES = {
    "a list": (Scratch, "GRU", False, 1),
    "stacked": (Stacked, "GRU", False, 1),
    "only the output": (OnlyOutput, "GRU", True, 0),
    "the last of the output": (LastOfOutput, "GRU", False, 1),
    "a copy of the last": (LastCopied, "GRU", False, 0),
    "all x at once": (AllInputsAtOnce, "GRU", False, 0),
    "all x at once, batch first": (lambda: AllInputsAtOnce(batch_first=True), "GRU", True, 0),
    "its own number of timesteps": (lambda: AllInputsAtOnce(steps=T), "GRU", False, 0),
    "a plain RNN": (Plain, "RNN", True, 1),
    "an LSTM": (Long, "LSTM", True, 2),
    "an LSTM with a list": (Listed, "LSTM", False, 2),
}


def start(make, shaped):
    """Return the states that a module is given: of the shapes of those that it returns."""
    return tuple(0.3 * torch.randn(each.shape) for each in shaped) if len(shaped) > 1 else 0.3 * torch.randn(shaped[0].shape)


def flat(output):
    """Return all tensors of an output."""
    if isinstance(output, torch.Tensor):
        return [output]
    return [tensor for each in output for tensor in flat(each)]


#: What a script reads of an output.
READS = {
    "output": lambda output: flat(output[0] if isinstance(output, tuple) else output),
    "last states": lambda output: flat(output[1]) if isinstance(output, tuple) else [output[:, -1]],
    "all": flat,
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("name", MODULES)
def test_a_loop_is_one_sequence_with_the_gradients_of_the_script(name, read):
    make, family, batch_first, takes = MODULES[name]
    torch.manual_seed(2)
    model = nn.Sequential(make())
    steps, running = capture(model)
    x = torch.randn(B, T, IN) if batch_first else torch.randn(T, B, IN)
    states = random.getstate(), torch.get_rng_state()
    for _ in range(2):
        output = model[0](x)
        sum((each * torch.arange(1.0, 1 + each.numel()).reshape(each.shape)).sin().sum() for each in READS[read](output)).backward()
        running.step()
        model.zero_grad()
    if takes:
        last = flat(output[1])
        output = model[0](x, start(make, last))
        sum(each.pow(2).sum() for each in READS[read](output)).backward()
        running.step()
    running.close()
    assert (random.getstate(), torch.equal(torch.get_rng_state(), states[1])) == (states[0], not takes)
    assert len(steps) == (3 if takes else 2)
    for step in steps:
        whole = replace(step, calls=sequences(step))
        (call,) = whole.calls
        assert (call.module.family, call.x.shape, call.out.shape) == (family, (T, B, IN), (T, B, H))
        assert max(each.error for each in compare_outputs(call, recompute(call))) <= of_call(call)
        compared = compare_gradients(whole)
        assert (compared.cause, compared.error <= EXACT) == ("equal", True)
        assert not step.notes


@pytest.mark.parametrize(
    ("name", "weight"), [("a list", "Uz"), ("stacked", "Uz"), ("an LSTM", "Uf"), ("an LSTM with a list", "Uf")]
)
def test_a_recording_of_a_loop(tmp_path, name, weight):
    make, _, batch_first, _ = MODULES[name]
    torch.manual_seed(2)
    model = nn.Sequential(make())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with tui_gru.record(tmp_path / "run.gru", model, optimizer, every=1) as recorder:
        for _ in range(3):
            optimizer.zero_grad()
            output = flat(model[0](torch.randn(B, T, IN) if batch_first else torch.randn(T, B, IN)))
            loss = sum(each.pow(2).mean() for each in output)
            loss.backward()
            optimizer.step()
            recorder.step(loss)
    s = tui_gru.Session.open(tmp_path / "run.gru")
    assert s.steps == (0, 1, 2)
    s.seek(s.end)
    assert s.expected.agrees
    np.testing.assert_allclose(s.gradient(weight), s.recorded_gradient(weight), rtol=1e-5, atol=1e-7)


class GatedLoop(Gated):
    def forward(self, x, h=None):
        h, step = x.new_zeros(x.shape[1], H) if h is None else h, super().forward
        return [h := step(one, h) for one in x], h


class PeepingLoop(Peeping):
    def forward(self, x):
        states, step = (x.new_zeros(len(x), H),) * 2, super().forward
        output = [(states := step(one, states))[0] for one in x.unbind(1)]
        return torch.stack(output, 1), states


@pytest.mark.parametrize(("make", "page", "names"), [(GatedLoop, MGU, {}), (PeepingLoop, PEEPING, NAMES)])
@pytest.mark.parametrize("read", READS)
def test_a_loop_with_the_equations_that_are_given(tmp_path, make, page, names, read):
    torch.manual_seed(4)
    (tmp_path / "mine.cell").write_text(page, encoding="utf-8")
    model = nn.Sequential(make())
    steps, running = capture(model, cell=(tmp_path / "mine.cell", names))
    x = torch.randn(T, B, IN) if make is GatedLoop else torch.randn(B, T, IN)
    sum(each.square().sum() for each in READS[read](model[0](x))).backward()
    running.step()
    running.close()
    whole = replace(steps[0], calls=sequences(steps[0]))
    (call,) = whole.calls
    assert (call.module.equations.name, call.timesteps) == ("mine.cell", T)
    assert max(each.error for each in compare_outputs(call, recompute(call))) < of_call(call)
    compared = compare_gradients(whole)
    assert (compared.cause, compared.error < of_call(call)) == ("equal", True)


def test_the_state_of_one_call_begins_the_next():
    model = nn.Sequential(Stacked())
    steps, running = capture(model)
    x, h = torch.randn(T, B, IN), None
    for _ in range(2):
        output, h = model[0](x, h)
        output.pow(2).sum().backward()
        h = h.detach()
    running.step()
    running.close()
    (both,) = sequences(steps[0])
    assert both.timesteps == 2 * T
    assert not both.keep[T].any()
    np.testing.assert_array_equal(both.out[T - 1], both.states_set[T, 0])
    assert compare_gradients(replace(steps[0], calls=(both,))).cause == "equal"


def test_a_first_call_with_one_timestep_shows_how_it_computes():
    model = nn.Sequential(Stacked())
    steps, running = capture(model, without_gradient=1)
    with torch.no_grad():
        model[0](torch.randn(1, B, IN))
    model[0](torch.randn(T, B, IN))[0].sum().backward()
    running.step()
    running.close()
    assert [call.timesteps for call in steps[0].calls if call.learned] == [T]


class Squared(Stacked):
    def next(self, x, h):
        return super().next(x, h) ** 2


class Doubled(Stacked):
    """It adds what it draws, which its formulas do not say."""

    def next(self, x, h):
        return nn.functional.dropout(super().next(x, h), 0.5)


class OneByOne(nn.Module):
    """It takes one timestep, with an axis for it."""

    def __init__(self):
        super().__init__()
        self.x2h, self.h2h = nn.Linear(IN, H), nn.Linear(H, H)

    def forward(self, x, h):
        return torch.tanh(self.x2h(x.view(x.shape[1], IN)) + self.h2h(h[0]))[None]


def test_a_module_of_one_timestep_on_three_axes_is_refused_with_the_cure():
    model = nn.Sequential(OneByOne())
    _, running = capture(model)
    model[0](torch.randn(1, 5, IN), torch.zeros(1, 5, H)).sum().backward()
    why = r"takes only the sizes that the script gives: .* with 3 timesteps .* raised \w+; move what it does in a timestep into"
    with pytest.warns(UserWarning, match=why):
        running.step()
    running.close()


WHY = {
    Squared: "another function than a GRU, an LSTM or a plain RNN: the nearest, a GRU with",
    Doubled: "another function than a GRU|is off by",
}


@pytest.mark.parametrize("make", WHY)
def test_what_is_no_loop_of_a_cell_is_said_once(make):
    torch.manual_seed(1)
    model = nn.Sequential(make())
    steps, running = capture(model)
    flat(model[0](torch.randn(B, T, IN)))[0].sum().backward()
    with pytest.warns(UserWarning, match=WHY[make]) as said:
        running.step()
    assert len(said) == 1
    running.close()
    assert not steps[0].calls


def test_other_modules_on_sequences_are_left_alone():
    class Beside(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru, self.project = nn.GRU(IN, H), nn.Sequential(nn.Linear(H, H))
            self.attend = nn.MultiheadAttention(H, 1)

        def forward(self, x):
            h, _ = self.gru(x)
            return self.attend(self.project(h), h, h)[0]

    model = Beside()
    steps, running = capture(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(torch.randn(T, B, IN)).sum().backward()
        running.step()
        running.close()
    assert [call.module.name for call in steps[0].calls] == ["gru"]
