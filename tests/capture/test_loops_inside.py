"""Modules whose loops do not return their states, or that have layers or directions, are captured by their operations."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tests.capture.handwritten import IN, H, debugged_and_recorded, parameter, two_steps
from tests.capture.test_borders import capture
from tests.imported.recomputed import compare_gradients, compare_outputs
from tests.rounding import of_call
from tui_gru.capture import cells
from tui_gru.imported.module import forget
from tui_gru.imported.recompute import recompute, sequences

T, B, OUT = 5, 3, 2


class LastLogits(nn.Module):
    """A plain RNN, as in a course: it returns what its head makes of the last state."""

    def __init__(self):
        super().__init__()
        self.W_hx, self.W_hh, self.b_h = parameter(IN, H), parameter(H, H), parameter(H)
        self.head = nn.Linear(H, OUT)

    def begin(self, x):
        return torch.zeros(len(x), H, dtype=x.dtype)

    def forward(self, x):
        h = self.begin(x)
        for t in range(x.shape[1]):
            h = self.next(x[:, t], h, t)
        return self.head(h)

    def next(self, x, h, t):
        return torch.tanh(x @ self.W_hx + h @ self.W_hh + self.b_h)


class LastLogitsRNN(LastLogits):
    pass


class FixedLengthRNN(LastLogitsRNN):
    def forward(self, x):
        h = self.begin(x)
        for t in range(T):
            h = self.next(x[:, t], h, t)
        return self.head(h)


class LearnedBeginRNN(LastLogitsRNN):
    def __init__(self):
        super().__init__()
        self.first = parameter(1, H)

    def begin(self, x):
        return self.first.expand(len(x), H)


class UnsqueezedRNN(LastLogitsRNN):
    """Its state is (1, rows, units)."""

    def begin(self, x):
        return x.new_zeros(1, len(x), H)

    def next(self, x, h, t):
        return super().next(x, h[0], t)[None]


class NormedRNN(LastLogitsRNN):
    """No plain RNN."""

    def next(self, x, h, t):
        return functional.layer_norm(torch.relu(x @ self.W_hx + h @ self.W_hh + self.b_h) + 0.2 * h, (H,))


class Listed(nn.Module):
    """A GRU whose logits of all timesteps are the result, with dropout before and after."""

    def __init__(self):
        super().__init__()
        self.W_z, self.W_r, self.W_h = (nn.Linear(IN + H, H) for _ in range(3))
        self.fc, self.drop = nn.Linear(H, OUT), nn.Dropout(0.3)

    def forward(self, x, h=None):
        x, outs = self.drop(x), []
        h = x.new_zeros(len(x), H) if h is None else h
        for t in range(x.shape[1]):
            both = torch.cat([x[:, t], h], 1)
            z, r = torch.sigmoid(self.W_z(both)), torch.sigmoid(self.W_r(both))
            h = (1 - z) * h + z * torch.tanh(self.W_h(torch.cat([x[:, t], r * h], 1)))
            outs.append(self.fc(self.drop(h)))
        return torch.stack(outs, 1)


class NoMemory(nn.Module):
    """An LSTM that returns its outputs, but not c."""

    def __init__(self):
        super().__init__()
        self.W, self.U, self.b = parameter(IN, 4 * H), parameter(H, 4 * H), parameter(4 * H)

    def forward(self, x):
        h, outs = x.new_zeros(len(x), H), []
        c = h
        for t in range(x.shape[1]):
            i, f, g, o = (x[:, t] @ self.W + h @ self.U + self.b).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            outs.append(h)
        return torch.stack(outs, 1)


class ListedWithoutMemory(NoMemory):
    """Returns a list."""

    def forward(self, x):
        return super().forward(x).unbind(1)


class CharacterRNN(nn.Module):
    """Has its embedding inside, and is called with whole numbers."""

    def __init__(self):
        super().__init__()
        self.embedding, self.fc = nn.Embedding(7, IN), nn.Linear(H, 7)
        self.x2h, self.h2h = nn.Linear(IN, H), nn.Linear(H, H)

    def forward(self, characters):
        x, outs = self.embedding(characters), []
        h = x.new_zeros(len(x), H)
        for one in x.unbind(1):
            h = torch.tanh(self.x2h(one) + self.h2h(h))
            outs.append(self.fc(h))
        return torch.stack(outs, 1)


class LayersInTime(nn.Module):
    """Two layers of an LSTM, timestep by timestep, with dropout between them."""

    def __init__(self):
        super().__init__()
        self.x2h = nn.ModuleList([nn.Linear(size, 4 * H) for size in (IN, H)])
        self.h2h, self.drop = nn.ModuleList([nn.Linear(H, 4 * H) for _ in range(2)]), nn.Dropout(0.2)

    def forward(self, x):
        h, c, outs = [x.new_zeros(len(x), H)] * 2, [x.new_zeros(len(x), H)] * 2, []
        for t in range(x.shape[1]):
            below = x[:, t]
            for k in range(2):
                i, f, g, o = (self.x2h[k](below) + self.h2h[k](h[k])).chunk(4, 1)
                c[k] = f.sigmoid() * c[k] + i.sigmoid() * g.tanh()
                h[k] = o.sigmoid() * c[k].tanh()
                below = self.drop(h[k])
            outs.append(below)
        return torch.stack(outs, 1)


class LayerByLayer(nn.Module):
    """Two layers of a GRU with torch's names, one after the other, time first."""

    def __init__(self):
        super().__init__()
        for layer, size in enumerate((IN, H)):
            for name, shape in (
                ("weight_ih", (3 * H, size)),
                ("weight_hh", (3 * H, H)),
                ("bias_ih", (3 * H,)),
                ("bias_hh", (3 * H,)),
            ):
                setattr(self, f"{name}_l{layer}", parameter(*shape))

    def forward(self, x, hx=None):
        hx, last = x.new_zeros(2, x.shape[1], H) if hx is None else hx, []
        for layer in range(2):
            w, u, b, b_h = (getattr(self, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
            h, outs = hx[layer], []
            for one in functional.linear(x, w, b):
                (i_r, i_z, i_n), (h_r, h_z, h_n) = one.chunk(3, 1), functional.linear(h, u, b_h).chunk(3, 1)
                r, z = torch.sigmoid(i_r + h_r), torch.sigmoid(i_z + h_z)
                h = (1 - z) * torch.tanh(i_n + r * h_n) + z * h
                outs.append(h)
            x = torch.stack(outs)
            last.append(h)
        return x, torch.stack(last)


class BothWaysRNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.forth, self.back = (nn.ModuleList([nn.Linear(IN, H), nn.Linear(H, H)]) for _ in range(2))

    def forward(self, x):
        sides = []
        for (x2h, h2h), times in ((self.forth, range(x.shape[1])), (self.back, reversed(range(x.shape[1])))):
            h, outs = x.new_zeros(len(x), H), {}
            for t in times:
                h = outs[t] = torch.tanh(x2h(x[:, t]) + h2h(h))
            sides.append(torch.stack([outs[t] for t in sorted(outs)], 1))
        return torch.cat(sides, -1)


#: What makes each, the family of its cells, and the names of the captured modules.
MODULES = {
    "the last logits": (LastLogitsRNN, "RNN", ["rnn"]),
    "a number of timesteps of its own": (FixedLengthRNN, "RNN", ["rnn"]),
    "a learned first state": (LearnedBeginRNN, "RNN", ["rnn"]),
    "states of three dimensions": (UnsqueezedRNN, "RNN", ["rnn"]),
    "equations of its own": (NormedRNN, "", ["rnn"]),
    "all logits": (Listed, "GRU", ["rnn"]),
    "no memory": (NoMemory, "LSTM", ["rnn"]),
    "a list without a memory": (ListedWithoutMemory, "LSTM", ["rnn"]),
    "an embedding inside": (CharacterRNN, "RNN", ["rnn"]),
    "layers in each timestep": (LayersInTime, "LSTM", ["rnn_l0", "rnn_l1"]),
    "layer by layer": (LayerByLayer, "GRU", ["rnn_l0", "rnn_l1"]),
    "two directions": (BothWaysRNN, "RNN", ["rnn_l0", "rnn_l0_reverse"]),
}


def x_for(rnn, dtype, timesteps=T, rows=B):
    if isinstance(rnn, CharacterRNN):
        return torch.randint(7, (rows, timesteps))
    return torch.randn((timesteps, rows, IN) if isinstance(rnn, LayerByLayer) else (rows, timesteps, IN), dtype=dtype)


def loss_of(out):
    return sum((each + 1).square().sum() for each in (out if isinstance(out, tuple) else (out,)))


def trained(make, dtype, captured):
    """Train two steps. Returns the steps, and what was learned, as bytes."""
    torch.manual_seed(3)
    model = nn.ModuleDict({"rnn": make()}).to(dtype)
    options = {"head": None} if captured else {}
    return two_steps(model, lambda model: loss_of(model["rnn"](x_for(model["rnn"], dtype))), 0.01, **options)


def check(step, names, family, timesteps=T):
    calls = sequences(step)
    assert [(call.module.name, call.module.family, call.timesteps) for call in calls] == [
        (name, family, timesteps) for name in names
    ]
    for call in calls:
        assert compare_outputs(call, recompute(call))[0].error < of_call(call)
        compared = compare_gradients(replace(step, calls=(call,)))
        assert (compared.cause, compared.error < of_call(call)) == ("equal", True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(("make", "family", "names"), MODULES.values(), ids=MODULES)
def test_outputs_and_gradients_are_those_of_the_script(make, family, names, dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps, learned = trained(make, dtype, captured=True)
    assert learned == trained(make, dtype, captured=False)[1]
    for step in steps:
        check(step, names, family)


@pytest.mark.parametrize("make", [LastLogitsRNN, LayersInTime, LayerByLayer, CharacterRNN])
def test_calls_with_other_numbers_of_timesteps_and_rows_and_of_another_mode(make):
    torch.manual_seed(3)
    model = nn.ModuleDict({"rnn": make()})
    _, family, names = next(each for each in MODULES.values() if each[0] is make)
    steps, running = capture(model)
    for timesteps, rows in ((1, 4), (7, 2), (4, 4), (2, 1)):
        model.train(timesteps != 7)
        loss_of(model["rnn"](x_for(model["rnn"], torch.float32, timesteps, rows))).backward()
        running.step()
        model.zero_grad()
    running.close()
    for step, timesteps in zip(steps, (1, 7, 4, 2), strict=True):
        check(step, names, family, timesteps)


def test_states_that_are_given_in_later_calls_alone():
    torch.manual_seed(3)
    model, state = nn.ModuleDict({"rnn": LayerByLayer()}), None
    steps, running = capture(model)
    for _ in range(3):
        out, state = model["rnn"](x_for(model["rnn"], torch.float32), *([] if state is None else [state.detach()]))
        loss_of((out, state)).backward()
        running.step()
        model.zero_grad()
    running.close()
    for step in steps:
        check(step, ["rnn_l0", "rnn_l1"], "GRU")
    assert [call.h0_given for step in steps for call in sequences(step)] == [False] * 2 + [True] * 4


def test_a_checkpointed_call_and_one_that_raises():
    torch.manual_seed(3)
    model = nn.ModuleDict({"rnn": NoMemory()})
    steps, running = capture(model)
    with pytest.raises(RuntimeError, match="shapes"):
        model["rnn"](torch.randn(B, T, IN + 1))
    checkpoint(model["rnn"], x_for(model["rnn"], torch.float32), use_reentrant=False).square().sum().backward()
    running.step()
    running.close()
    check(steps[0], ["rnn"], "LSTM")


def test_a_call_in_code_of_compile_is_refused_with_the_cure():
    model = nn.ModuleDict({"rnn": NoMemory()})
    steps, running = capture(model)
    compiled = torch.compile(model["rnn"], backend="eager")
    with pytest.warns(UserWarning, match="within torch.compile the states of a loop are not seen: debug it without"):
        one_step(compiled, x_for(model["rnn"], torch.float32), running)
    running.close()
    assert not steps[0].calls


def one_step(rnn, x, running):
    loss_of(rnn(x)).backward()
    running.step()


def test_a_class_without_the_name_of_an_rnn_is_named():
    torch.manual_seed(3)
    model = nn.ModuleDict({"rnn": LastLogits()})
    for cell, names in ((None, []), ("rnn", ["rnn"])):
        steps, running = capture(model, cell=cell)
        with nullcontext() if cell else pytest.warns(UserWarning, match="is no GRU or LSTM; name it with cell="):
            one_step(model["rnn"], x_for(model["rnn"], torch.float32), running)
        running.close()
        check(steps[0], names, "RNN")


class DetachedRNN(LastLogitsRNN):
    def next(self, x, h, t):
        return super().next(x, h.detach(), t)


class CutRNN(LastLogitsRNN):
    def next(self, x, h, t):
        return super().next(x, h.detach() if t == 2 else h, t)


class HalfDetachedRNN(LastLogitsRNN):
    def next(self, x, h, t):
        new = super().next(x, h, t)
        z = torch.sigmoid(new).detach()
        return z * h + (1 - z) * new


class StraightThroughRNN(LastLogitsRNN):
    def next(self, x, h, t):
        new = super().next(x, h, t) + 0.1 * h
        return new + (new.sign() - new).detach()


class ChangedGradientRNN(LastLogitsRNN):
    def next(self, x, h, t):
        h = super().next(x, h, t)
        if h.requires_grad:
            h.register_hook(lambda gradient: gradient.clamp(-0.01, 0.01))
        return h


class FadingRNN(LastLogitsRNN):
    def next(self, x, h, t):
        return super().next(x, h, t) / (1 + t)


class FirstOtherRNN(LastLogitsRNN):
    def next(self, x, h, t):
        return super().next(x, h, t) if t else torch.tanh(x @ self.W_hx)


class DroppedRNN(LastLogitsRNN):
    def next(self, x, h, t):
        return functional.dropout(super().next(x, h, t), 0.5)


class TwoInputsRNN(LastLogitsRNN):
    def next(self, x, h, t):
        return super().next(x, h, t) * x.sum(1, keepdim=True).sign()


class TiedRNN(LastLogitsRNN):
    """Its head has the matrix of x."""

    def forward(self, x):
        h = self.begin(x)
        for t in range(x.shape[1]):
            h = self.next(x[:, t], h, t)
        return h @ self.W_hx.t()


class TiedBiasRNN(LastLogitsRNN):
    def forward(self, x):
        return super().forward(x) + self.b_h[:OUT] + self.b_h.sum()


class TiedLayersRNN(LastLogitsRNN):
    """Both layers have one matrix for their states."""

    def __init__(self):
        super().__init__()
        self.between = parameter(H, H)

    def forward(self, x):
        h = other = self.begin(x)
        for t in range(x.shape[1]):
            h = self.next(x[:, t], h, t)
            other = torch.tanh(h @ self.between + other @ self.W_hh)
        return other


class EachTimestepRNN(LastLogitsRNN):
    def __init__(self):
        super().__init__()
        self.each = parameter(9, H)

    def next(self, x, h, t):
        return super().next(x, h, t) + self.each[t]


DERIVATIVE = "its backward pass is not the derivative of what it computes"
REFUSED = {
    DetachedRNN: DERIVATIVE,
    CutRNN: "no matrix multiplies a state once in each timestep|its timesteps are not alike",
    HalfDetachedRNN: DERIVATIVE,
    StraightThroughRNN: "the loss does not depend on h_prev",
    ChangedGradientRNN: DERIVATIVE,
    FadingRNN: "its timestep 3 is off by",
    FirstOtherRNN: "its timesteps are not alike",
    DroppedRNN: "it draws random numbers",
    TwoInputsRNN: "a timestep reads 2 tensors besides its states, not x alone",
    TiedRNN: "it uses W_hx outside of this loop as well",
    TiedBiasRNN: "it uses b_h outside of this loop as well",
    TiedLayersRNN: "no matrix multiplies a state once in each timestep",
    EachTimestepRNN: "its timestep 3 is off by",
}


class FixedSizeRNN(EachTimestepRNN):
    """Has the shape of its input in its code, so that no copy of other sizes can be called."""

    def forward(self, x):
        return super().forward(x + torch.zeros(B, T, IN)) + self.W_hh.sum()


def test_a_refusal_does_not_show_the_error_of_its_own_trial():
    """It looks like an error of the script."""
    model = nn.ModuleDict({"rnn": FixedSizeRNN()})
    _, running = capture(model)
    with pytest.warns(UserWarning, match="it takes only the sizes that the script gives") as warned:
        one_step(model["rnn"], x_for(model["rnn"], torch.float32), running)
    running.close()
    assert not any("must match" in str(each.message) or "shapes" in str(each.message) for each in warned)


@pytest.mark.parametrize("make", REFUSED)
def test_what_cannot_be_told_apart_or_is_no_derivative_is_refused(make):
    torch.manual_seed(3)
    model = nn.ModuleDict({"rnn": make()})
    steps, running = capture(model)
    with pytest.warns(UserWarning, match=rf"as a loop of a cell it cannot be read either: .*({REFUSED[make]})"):
        one_step(model["rnn"], x_for(model["rnn"], torch.float32), running)
    running.close()
    assert not steps[0].calls


def test_a_refusal_names_a_version_that_shows_more(monkeypatch):
    monkeypatch.setattr(cells, "shows_indexing", lambda: False)
    _, running = capture(model := nn.ModuleDict({"rnn": CutRNN()}))
    with pytest.warns(UserWarning, match="; a newer PyTorch also shows what is taken by an index;"):
        one_step(model["rnn"], x_for(model["rnn"], torch.float32), running)
    running.close()


@pytest.mark.parametrize("make", [LastLogitsRNN, NormedRNN, LayersInTime])
def test_it_is_debugged_and_recorded(make, tmp_path):
    torch.manual_seed(3)
    model = make()
    session, opened = debugged_and_recorded(model, (B, T, IN), tmp_path)
    assert "p.grad is the derived gradient" in session.notice
    session.step("batch")
    assert session.check().agrees
    assert opened.check().agrees
    for name in session.parameter_names if make is not LayersInTime else ():  # of which one opens the upper layer, one the lower
        assert np.array_equal(session.gradient(name), opened.gradient(name))
    forget(model)
